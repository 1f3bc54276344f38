import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.datasets.store import open_store
from supple.pipeline.report.measure import find_results
from supple.pipeline.report.page import find_records, make_tiles
from supple.pipeline.report.run_folder import RunView, StageView, load_run
from supple.pipeline.report.tables import (
    describe_work,
    explain_errors,
    format_seconds,
    make_axes_table,
    make_cost_rows,
    make_data_facts,
    make_data_table,
    make_error_table,
    make_result_table,
    make_skill_facts,
)
from supple.robots.maze_family import Maze

ERRORS = {
    "reconstruction_rmse/lift": 0.25,
    "open_reconstruction_rmse/lift": 0.5,
    "rollout_closed": 0.01,
    "rollout_open": 0.02,
    "active_dims": 7.0,
    "skill_dims": 10.0,
}


def test_seconds() -> None:
    assert [format_seconds(value) for value in (0.31, 42.4, 600, 9000)] == ["0.3 s", "42 s", "10 min", "2 h 30 min"]


def test_every_axis_has_its_unit_and_limits() -> None:
    table = make_axes_table(Maze().spec())
    assert list(table.groups) == ["Observation", "Action", "Goal"]
    assert table.groups["Action"][0] == ("force_x", "100 N", "-1", "1", "none")
    assert table.groups["Observation"][2][2:4] == ("none", "none")  # a velocity has no limits
    assert all(len(row) == len(table.head) for rows in table.groups.values() for row in rows)


def test_the_range_of_the_data_is_that_of_its_arrays(tiny_run: Path) -> None:
    store = open_store(tiny_run / "ingest" / "store")
    table = make_data_table(store)
    action = store.load("action")
    for place, row in enumerate(table.groups["Action"]):
        low, mean, high = (float(text) for text in row[2:])
        expected = action[:, place].min(), action[:, place].mean(), action[:, place].max()
        assert (low, mean, high) == pytest.approx(expected, rel=6e-3, abs=1e-6)  # three digits
    facts = dict(make_data_facts(store))
    assert facts == {"low-level steps": "6000", "episodes": "12 of 500 steps", "time on the robot": "60 s"}


def test_errors_have_the_unit_of_their_axis() -> None:
    table = make_error_table(ERRORS, {"lift": "rad/s"})
    assert table is not None
    assert table.groups[""] == [("lift", "rad/s", "0.25", "0.5")]
    unknown = make_error_table(ERRORS, {})
    assert unknown is not None
    assert unknown.groups[""][0][1] == "unknown"
    assert make_error_table({"kl": 1.0}, {}) is None
    assert dict(make_skill_facts(ERRORS, "m"))["the same, open-loop decoder"] == "0.02 m"
    assert dict(make_skill_facts(ERRORS, ""))["skill axes in use"] == "7 of 10"


def test_a_worse_closed_loop_is_explained_and_a_better_one_is_not() -> None:
    assert explain_errors(ERRORS) == ""
    assert explain_errors({}) == ""
    actions = explain_errors({**ERRORS, "reconstruction_rmse/lift": 0.75})
    assert "sees only the current state" in actions
    assert "In the simulator" not in actions
    ends = explain_errors({**ERRORS, "rollout_closed": 0.03})
    assert "ends farther from the recorded end" in ends
    assert "current state" not in ends


def test_tiles_show_what_a_learner_without_inference_came_to(tmp_path: Path) -> None:
    """SPiRL and its kin learn from the first episode on: before and after, and nothing between."""
    at = {"at": {"episode": 0}, "metric": "success_stochastic", "low": 0.0, "high": 1.0, "n": 4}
    records = [
        {**at, "method": method, "mean": mean, "at": {"episode": episode}}
        for episode, (method, mean) in enumerate((("before", 0.1), ("learning", 0.4), ("learned", 0.9)))
    ]
    run = RunView(folder=tmp_path, stages={}, preset="")
    assert [tile.value for tile in make_tiles(run, find_results(records), 1.0)][:-1] == ["0.10", "0.90"]


def test_the_return_stands_beside_success_where_it_says_more() -> None:
    at = {"at": {"episode": 0}, "method": "before", "low": 0.0, "high": 1.0, "n": 4}
    success = {**at, "metric": "success_stochastic", "mean": 0.25}
    table = make_result_table(find_results([success, {**at, "metric": "return_stochastic", "mean": 2.5}]))
    assert [name.lstrip(">") for name in table.head][-3:] == ["greedy", "return", "n"]
    assert table.groups[""][0][-2:] == ("2.5", "4")
    same = make_result_table(find_results([success, {**at, "metric": "return_stochastic", "mean": 0.25}]))
    assert ">return" not in same.head


def test_results_are_fractions_and_costs_name_steps_and_episodes(tiny_run: Path) -> None:
    run = load_run(tiny_run)
    table = make_result_table(find_results(find_records(run)))
    assert [name.lstrip(">") for name in table.head] == ["policy", "episode", "success", "95 % interval", "greedy", "n"]
    assert [row[0] for row in table.groups[""]] == ["before adaptation", "after inference", "after fine-tuning"]
    assert table.swatches == ("before", "inferred", "adapted")
    rows = {row.name: row for row in make_cost_rows(run, 2.0, 0.01)}
    assert rows["generate"].work == "6 k low-level steps, 12 episodes, 60 s on the robot"
    assert rows["ingest"].work == "6 k low-level steps read"
    assert rows["extract"].work == "40 updates"
    assert re.fullmatch(r"\d+ states, \d+ places", rows["map-logs"].work)
    # 5 epochs of 2 episodes on each of 3 tasks, and 6 episodes on each of 2
    assert "30 episodes" in rows["meta-train"].work
    assert "12 episodes" in rows["adapt"].work
    assert list(rows) == ["generate", "ingest", "extract", "meta-train", "map-logs", "export", "adapt"]
    assert np.isclose(sum(row.share for row in rows.values()) * 2.0, sum(stage.wall_s for stage in run.stages.values()))
    assert all(row.state == "finished" for row in rows.values())


@pytest.mark.parametrize(
    ("metrics", "work"),
    [
        ({"step": 400, "environment_steps": 800_000}, "800 k low-level steps, 400 episodes, 2 h 13 min on the robot"),
        ({"step": 400}, "400 episodes"),  # of an older version
    ],
)
def test_what_was_explored_is_part_of_the_cost(metrics: dict[str, Any], work: str, tmp_path: Path) -> None:
    stage = StageView(name="explore", folder=tmp_path, finished=True, fields={}, metrics=[metrics])
    assert describe_work(stage, 0.01) == work


def test_a_map_of_events_tells_them(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"states": 30000, "events": 7, "phases": 4}')
    assert describe_work(StageView(name="map-logs", folder=tmp_path, finished=True, fields={}), None) == (
        "30 k states, 7 events"
    )
