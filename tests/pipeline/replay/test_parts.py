"""Kept results, intervals, latency, novelty, verdict, comparison: each by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.datasets import Episode
from supple.errors import ConfigError, RunError, SourceError
from supple.pipeline.interrupt import Interrupted
from supple.pipeline.nominal import to_motion
from supple.pipeline.replay import rehearsal, verdict
from supple.pipeline.replay.compare import compare_bundles, describe_order
from supple.pipeline.replay.kept import Kept
from supple.pipeline.replay.latency import compute_responses, count_bins, find_percentile, merge_bins
from supple.pipeline.replay.logs import read_logs
from supple.pipeline.replay.novelty import FAR, learn_known, measure_novelty
from supple.pipeline.replay.over_episodes import Spread, compute_spread
from supple.pipeline.replay.predictions import name_topic
from supple.pipeline.replay.saved import load_section, save_section
from supple.pipeline.replay.section import Ground, Replay, Section, TitledTable
from supple.pipeline.replay.skills import cross_entropy
from supple.pipeline.replay.verdict import decide, judge_clamps, judge_faults, judge_latency, judge_unknown
from supple.pipeline.report.tables import Table
from supple.pipeline.settings.ingest import IngestConfig
from supple.pipeline.settings.replay import OpenLoopConfig

from .conftest import SPEC, make_bundle

Make = Callable[..., Replay]


@pytest.mark.parametrize("lost", [1, 3, 20])
def test_a_line_that_was_cut_off_is_made_again(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "part" / "results.jsonl"
    kept = Kept(path)
    assert kept.read_or_make("0", lambda: {"a": 0.1}) == {"a": 0.1}
    kept.read_or_make("1", lambda: {"a": [1, None]})
    kept.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    kept = Kept(path)
    assert "0" in kept
    assert "1" not in kept
    assert kept.read_or_make("0", lambda: {"a": "another"}) == {"a": 0.1}
    kept.read_or_make("1", lambda: {"a": [1, None]})
    kept.close()
    assert path.read_bytes() == whole


def test_a_changed_line_and_all_behind_it_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    kept = Kept(path)
    for name in "abc":
        kept.read_or_make(name, lambda: {"value": 1})
    kept.close()
    content = bytearray(path.read_bytes())
    content[content.index(b'"b"') + 1] ^= 1
    path.write_bytes(content)
    kept = Kept(path)
    assert [name in kept for name in "abc"] == [True, False, False]
    kept.close()


def test_a_result_has_to_be_finite(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "x.jsonl")
    with pytest.raises(ConfigError, match=r"result 'bad'.*finite"):
        kept.read_or_make("bad", lambda: {"value": float("nan")})
    kept.close()


def test_a_full_disk_is_one_line_and_half_a_line_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    kept = Kept(path)
    kept.read_or_make("a", lambda: {"value": 1})
    whole, file = path.stat().st_size, kept._file

    class Full:
        name = str(path)

        def write(self, line: bytes) -> int | None:
            return file.write(line[:5])

    kept._file = Full()  # type: ignore[assignment]
    with pytest.raises(RunError, match=r"x.jsonl: expected space for a result of .* bytes, got 5; free some"):
        kept.read_or_make("b", lambda: {"value": 2})
    file.close()
    assert path.stat().st_size == whole + 5
    again = Kept(path)
    assert ("a" in again, "b" in again, path.stat().st_size) == (True, False, whole)
    again.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_disk_without_any_space_is_one_line(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "x.jsonl")
    kept._file.close()
    kept._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 it is closed below
    with pytest.raises(RunError, match="/dev/full: expected space for a result, got No space left on device"):
        kept.read_or_make("a", lambda: {"value": 1})
    kept.close()


def test_a_store_with_numbers_beyond_the_robot_is_refused(replay_of: Make, tmp_path: Path) -> None:
    """As `ingest` refuses them; vx is within -2 .. 2."""
    runner: Any = None  # a store runs no stage
    good = replay_of([(np.zeros((3, 2)), np.full((3, 2), 0.5), None)]).store
    assert read_logs([good.path], SPEC, IngestConfig(), tmp_path, runner).digest == good.digest
    bad = replay_of([(np.zeros((3, 2)), np.full((3, 2), 3.0), None)]).store
    with pytest.raises(SourceError, match=r"expected action axis 'vx' within -2 .. 2 \(unit: m/s\), got 3 in row 0"):
        read_logs([bad.path], SPEC, IngestConfig(), tmp_path, runner)


def test_a_replay_that_is_stopped_goes_on_at_the_next_episode(replay_of: Make) -> None:
    episodes = [(np.full((3, 2), number), np.zeros((3, 2)), None) for number in range(3)]
    replay, seen = replay_of(episodes), []

    def compute(number: int, episode: Episode) -> dict[str, float]:
        seen.append(number)
        if number == 1 and len(seen) == 2:
            replay.stop.signal = 15
        return {"x": float(episode.arrays["observation"][0, 0])}

    with pytest.raises(Interrupted):
        replay.map_episodes("part", compute)
    replay.stop.signal = None
    assert replay.map_episodes("part", compute) == [{"x": 0.0}, {"x": 1.0}, {"x": 2.0}]
    assert seen == [0, 1, 2]


def test_intervals_are_over_episodes() -> None:
    spread = compute_spread([1.0, 2.0, 3.0])
    assert spread is not None
    # mean 2, standard error 1 / sqrt 3, t of 2 degrees of freedom 4.303
    assert spread.mean == 2.0
    assert spread.high == pytest.approx(2.0 + 4.3027 / 3**0.5, abs=1e-3)
    root = compute_spread([4.0, 4.0], root=True)
    assert root == Spread(2.0, 2.0, 2.0, 2)
    assert compute_spread([5.0]) == Spread(5.0, None, None, 1)
    assert compute_spread([]) is None
    many = compute_spread(np.arange(2000.0).tolist())
    assert many is not None
    assert (many.mean, many.n) == (999.5, 2000)
    assert Spread(1.0, None, None, 1).show(2.0) == "2"
    assert Spread(1.0, 0.5, 1.5, 3).show() == "1 (0.5 to 1.5)"


def test_a_slow_step_delays_those_behind_it() -> None:
    """A command period of .1 s: the second step takes .25 s, so that the third begins .15 s late."""
    responses = compute_responses(np.array([0.05, 0.25, 0.05, 0.05]), np.arange(4) * 0.1)
    np.testing.assert_allclose(responses, [0.05, 0.25, 0.2, 0.15])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=60), st.sampled_from([50.0, 99.0, 99.9]))
def test_percentiles_of_bins_are_those_of_the_values_within_two_percent(values: list[float], percentile: float) -> None:
    half = len(values) // 2
    bins = merge_bins([count_bins(np.array(part)) for part in (values[:half], values[half:]) if part])
    exact = sorted(values)[max(0, int(np.ceil(percentile / 100 * len(values) - 1e-9)) - 1)]
    assert exact * 0.999 <= find_percentile(bins, percentile) <= exact * 1.021


def test_without_training_data_a_far_observation_is_unknown(replay_of: Make) -> None:
    bundle = make_bundle("raw")
    observation = np.zeros((10, 2))
    observation[7] = [0.0, 2.0 * FAR]
    replay = replay_of([(observation, np.zeros((10, 2)), None)], bundle)
    known = learn_known(replay, OpenLoopConfig(), None)
    (record,) = measure_novelty(replay, known)
    assert (record["unknown"], record["alarm"], record["step"], record["axis"]) == (0.1, True, 7, 1)
    assert record["largest"] == [2.0]
    assert not learn_known(replay_of([(observation, observation, None)]), OpenLoopConfig(), None).says_something


def test_other_motion_than_in_the_training_is_unknown(replay_of: Make) -> None:
    rng = np.random.default_rng(0)

    def drive(gain: float) -> tuple[object, object, object]:
        action = rng.normal(size=(60, 2)).clip(-1, 1)
        moved = np.cumsum(gain * 0.1 * action, axis=0) + 0.01 * rng.normal(size=(60, 2))
        return np.concatenate([np.zeros((1, 2)), moved[:-1]]), action, None

    still = np.zeros((1, 2)), np.zeros((1, 2)), None  # an episode that ended with its first row tells no motion
    training = replay_of([one for _ in range(40) for one in (drive(1.0), still)]).store
    same, other = replay_of([drive(1.0) for _ in range(12)]), replay_of([drive(-1.0) for _ in range(12)])
    known = learn_known(same, OpenLoopConfig(alpha=0.2), training)
    assert known.model is not None
    assert known.alpha == 0.2
    alarms = [sum(record["alarm"] for record in measure_novelty(one, known)) for one in (same, other)]
    assert alarms[0] <= 6
    assert alarms[1] == 12


def test_a_command_leads_from_its_observation_to_the_next() -> None:
    steps = np.arange(4, dtype=np.float32)[:, None]
    motion = to_motion(Episode({"observation": steps, "action": 10.0 * steps}, False, True))
    np.testing.assert_array_equal(motion.observation, steps)
    np.testing.assert_array_equal(motion.command, [[0.0], [10.0], [20.0]])


def test_the_cross_entropy_of_a_gaussian_with_itself_is_its_entropy() -> None:
    loc, scale = np.zeros((1, 1)), np.full((1, 1), 2.0)
    expected = 0.5 * np.log(2 * np.pi * np.e * 4.0)
    assert cross_entropy(loc, scale, loc.astype(np.float32), scale.astype(np.float32)) == pytest.approx(expected)


def spread(mean: float, low: float, high: float) -> Spread:
    return Spread(mean, low, high, 9)


def test_the_verdict_is_the_worst_ground_and_a_short_log_alone_does_not_forbid() -> None:
    assert judge_unknown(spread(0.05, 0.0, 0.9), "By x").level == "trust"
    assert judge_unknown(spread(0.6, 0.4, 0.8), "By x").level == "caution"
    assert judge_unknown(spread(0.6, 0.51, 0.7), "By x").level == "do not use"
    assert judge_unknown(None, "").level == "caution"
    assert judge_clamps(spread(0.7, 0.6, 0.8), spread(0.1, 0.0, 0.2)).level == "do not use"
    assert judge_clamps(spread(0.7, 0.6, 0.8), spread(0.7, 0.6, 0.8)).level == "caution", "the log was clamped as often"
    assert judge_latency(spread(0.9, 0.8, 1.0)).level == "caution", "the robot's computer may be another"
    assert judge_faults(0, 9) == []
    good = Section(name="a", title="A", findings=[], grounds=[Ground("trust", "fine")])
    bad = Section(name="b", title="B", findings=[], grounds=judge_faults(1, 9))
    found = decide([good, bad])
    assert found.level == "do not use"
    assert [ground.level for ground in found.grounds] == ["do not use", "trust"]
    assert decide([]).level == "caution"


def test_the_better_verdict_comes_first_and_then_the_smaller_error() -> None:
    def one(level: str, error: float | None) -> tuple[str, object, list[Section]]:
        section = Section(name="open_loop", title="", findings=[], data={"error_share": error})
        return (
            f"{level} {error}",
            decide([Section(name="x", title="", findings=[], grounds=[Ground(level, "")])]),
            [section],
        )  # type: ignore[arg-type]

    given = [one("caution", 0.1), one("trust", None), one("trust", 0.9), one("trust", 0.5)]
    found = [each.label for each in compare_bundles(given)]  # type: ignore[arg-type]
    assert found == ["trust 0.5", "trust 0.9", "trust None", "caution 0.1"]


def test_a_larger_return_that_may_be_believed_comes_before_a_smaller_error() -> None:
    def one(label: str, value: float, verdict: str, error: float) -> tuple[str, Any, list[Section]]:
        level = {"verdict": verdict, "headline": "FQE", "estimates": {"FQE": {"value": value}}}
        sections = [
            Section(name="off_policy", title="", findings=[], data={"main": "raw", "levels": {"raw": level}}),
            Section(name="open_loop", title="", findings=[], data={"error_share": error}),
        ]
        return label, decide(sections), sections

    good, better = one("good", 1.0, "caution", 0.1), one("better", 2.0, "trust", 0.9)
    assert [each.label for each in compare_bundles([good, better])] == ["better", "good"]
    assert "larger estimated return" in describe_order([good, better])
    unknown = one("unknown", 9.0, "do not use", 0.5)
    assert [each.label for each in compare_bundles([better, unknown, good])] == ["good", "unknown", "better"]


def test_a_section_comes_back_as_it_was(tmp_path: Path) -> None:
    section = Section(
        name="open_loop",
        title="Open <loop>",
        findings=["one"],
        tables=[TitledTable("t", Table(("a", ">b"), {"": [("x", "1")]}))],
        data={"value": 0.1, "none": None},
        grounds=[Ground("caution", "why")],
        warnings=["w"],
    )
    save_section(tmp_path / "sections", section)
    found = load_section(tmp_path / "sections" / "open_loop.json")
    for name in ("name", "title", "findings", "data", "grounds", "warnings", "skipped", "tables"):
        assert getattr(found, name) == getattr(section, name), name


@pytest.mark.parametrize(
    ("label", "topic"), [("demo", "demo"), ("0", "policy_0"), ("My-Arm v2", "my_arm_v2"), ("", "policy_")]
)
def test_topics_are_names_that_ros_takes(label: str, topic: str) -> None:
    assert name_topic(label) == topic


def test_the_page_of_the_documentation_has_the_thresholds() -> None:
    page = (Path(__file__).parents[3] / "docs" / "replay.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    for row, thresholds in (
        ("known states", (verdict.UNKNOWN_CAUTION, verdict.UNKNOWN_STOP)),
        ("safety limits", (verdict.CLAMPED_CAUTION, verdict.CLAMPED_STOP)),
        ("latency", (verdict.MISSED_CAUTION,)),
    ):
        for threshold in thresholds:
            assert f" {100 * threshold:g} %" in rows[row]
    assert f" {rehearsal.TRUSTED:g} or more" in rows["rehearsal"]
    assert f" below {rehearsal.DOUBTED:g} " in rows["rehearsal"]
