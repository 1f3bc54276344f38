import numpy as np
import pytest

from supple.pipeline.report.measure import caption_trips, find_measure, find_results, format_count, format_value
from supple.pipeline.report.trips import Trip

PATH = np.zeros((2, 3), np.float32)


def make_record(metric: str, method: str, episode: int, mean: float) -> dict[str, object]:
    return {
        "metric": metric,
        "method": method,
        "at": {"episode": episode},
        "mean": mean,
        "low": 0.0,
        "high": 1.0,
        "n": 8,
    }


def test_results_are_of_success_where_there_is_any() -> None:
    records = [
        make_record("success_greedy", "adapted", 30, 0.9),
        make_record("success_stochastic", "adapted", 30, 0.8),
        make_record("success_stochastic", "before", 0, 0.25),
        make_record("return", "before", 0, 12.0),
        {"metric": "wall_s", "mean": 3.0},
    ]
    results = find_results(records)
    assert results.measure == "success"
    assert results.unit == "episode"
    assert [(row.meaning, row.at, row.mean, row.greedy) for row in results.rows] == [
        ("before adaptation", 0, 0.25, None),
        ("after fine-tuning", 30, 0.8, 0.9),
    ]


def test_results_without_success_are_returns_at_their_own_places() -> None:
    record = {**make_record("return", "rl2", 0, -12.5), "at": {"adaptations": 2}}
    results = find_results([record])
    assert results.measure == "return"
    assert results.unit == "adaptation"
    assert [(row.meaning, row.axis, row.at) for row in results.rows] == [("rl2", "adaptations", 2)]
    assert find_results([]).rows == []


def test_success_is_a_matter_of_who_tells_and_not_of_the_reward() -> None:
    assert find_measure([{"success": False, "return": 9.0}]) == "success"
    assert find_measure([{"return": 9.0}, {"success": None, "return": 1.0}]) == "return"
    told = [Trip(PATH, 0.0, True), Trip(PATH, 50.0, False)]
    assert caption_trips("inferred", told) == "After inference: 1 of 2 episodes succeeded"
    untold = [Trip(PATH, -2.0, None), Trip(PATH, -4.0, None)]
    assert caption_trips("before", untold) == "Before adaptation: mean return -3"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (0.01234, "0.0123"), (-1234.5, "-1234"), (2.5e6, "2.5 M"), (float("inf"), "none")],
)
def test_returns_have_no_exponents(value: float, text: str) -> None:
    assert format_value(value, "return") == text


def test_success_is_a_fraction_with_two_digits() -> None:
    assert [format_value(value, "success") for value in (0.0, 0.256, 1.0)] == ["0.00", "0.26", "1.00"]


def test_counts() -> None:
    assert [format_count(value) for value in (0, 950, 1500, 2.5e6, 3e9)] == ["0", "950", "1.5 k", "2.5 M", "3 G"]
