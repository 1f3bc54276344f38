"""When a training reached its gates, and the records that say so; IQM and normalised scores."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.meta.cells import CELLS, Cell, Gate
from benchmarks.meta.gate_progress import WINDOW, Reached, find_reached, name_metric
from benchmarks.results.collect_meta import gate_rows, summary_rows

MAML, RL2 = CELLS["demo-maml"], CELLS["demo-rl2"]


def with_gates(cell: Cell, *gates: Gate) -> Cell:
    return replace(cell, gates=gates)


def rising(count: int, **slopes: float) -> list[dict[str, Any]]:
    """Metrics whose values are 0, slope, 2 slope, ..."""
    clock = [{"environment_steps": 100 * (i + 1), "wall_s": 0.5 * (i + 1)} for i in range(count)]
    return [{**one, **{name: slope * i for name, slope in slopes.items()}} for i, one in enumerate(clock)]


def test_the_metric_at_a_gates_place() -> None:
    assert name_metric(Gate(1.0, 2), MAML) == "return_2"
    assert name_metric(Gate(1.0, 1), RL2) == "return_first"
    assert name_metric(Gate(1.0, 2), RL2) == "return_last"  # of two episodes
    assert name_metric(Gate(1.0, 3), RL2) == ""
    assert name_metric(Gate(1.0, None, "return_trial"), RL2) == "return_trial"


def test_a_gate_is_reached_by_the_mean_of_ten_iterations() -> None:
    assert WINDOW == 10
    # the mean of iterations 0 .. 9 is 4.5, of 1 .. 10 it is 5.5: reached at the 11th, after 1100 steps and 5.5 s
    cell = with_gates(MAML, Gate(5.0, 1))
    assert find_reached(cell, rising(20, return_1=1.0)) == Reached(1100.0, 5.5)
    assert find_reached(with_gates(MAML, Gate(4.4, 1)), rising(20, return_1=1.0)) == Reached(1000.0, 5.0)
    assert find_reached(with_gates(MAML, Gate(0.0, 1)), rising(10, return_1=0.0)) == Reached(1000.0, 5.0)  # at it
    assert find_reached(cell, []) is None  # no training
    assert find_reached(cell, rising(10, return_1=1.0)) is None
    assert find_reached(cell, rising(9, return_1=10.0)) is None  # shorter than the window


def test_all_gates_have_to_hold_together() -> None:
    metrics = rising(30, return_1=1.0, return_2=0.5)
    cell = with_gates(MAML, Gate(5.0, 1), Gate(5.0, 2))
    # 0.5 (i - 4.5) >= 5 at i = 14.5, which is the 16th iteration
    assert find_reached(cell, metrics) == Reached(1600.0, 8.0)
    falling = [{**record, "return_2": -record["return_2"]} for record in metrics]
    assert find_reached(cell, falling) is None
    # places that the training does not run are left out, and without any there is nothing to reach
    assert find_reached(with_gates(MAML, Gate(5.0, 1), Gate(9.0, 3)), metrics) == Reached(1100.0, 5.5)
    assert find_reached(with_gates(MAML, Gate(9.0, 3)), metrics) is None
    assert find_reached(with_gates(MAML), metrics) is None


def test_records_count_the_seeds_that_reached_their_gates() -> None:
    steps, wall = gate_rows([Reached(1000.0, 5.0), None, Reached(3000.0, 7.0)], "maml")
    assert (steps["metric"], steps["mean"], steps["n"], steps["at"]) == ("environment_steps_to_gate", 2000.0, 2, {})
    assert (wall["metric"], wall["mean"]) == ("wall_s_to_gate", 6.0)
    assert gate_rows([None, None], "maml") == []


def test_summaries_by_hand() -> None:
    agent = {"axis": "gradient_step", "places": [0, 1], "return": [[0.0, 8.0], [1.0, 4.0], [2.0, 6.0], [9.0, 2.0]]}
    random = {"return": [[0.0, 4.0], [1.0, 3.0]]}  # mean 2
    rows = summary_rows([{"agent": agent, "random": random, "oracle": 6.0}], "maml")
    found = [(row["metric"], row["at"]["gradient_step"], row["mean"]) for row in rows]
    # the middle half of 0, 1, 2, 9 and of 2, 4, 6, 8; means 3 and 5 on the scale from 2 to 6
    assert found == [
        ("return_iqm", 0, 1.5),
        ("return_iqm", 1, 5.0),
        ("return_normalised", 0, 0.25),
        ("return_normalised", 1, 0.75),
    ]


@pytest.mark.parametrize("oracle", [None, 2.0, 1.0])
def test_without_an_oracle_above_random_choices_there_is_no_scale(oracle: float | None) -> None:
    agent = {"axis": "gradient_step", "places": [0], "return": [[0.0], [1.0]]}
    rows = summary_rows([{"agent": agent, "random": {"return": [[2.0]]}, "oracle": oracle}], "maml")
    assert {row["metric"] for row in rows} == {"return_iqm"}
