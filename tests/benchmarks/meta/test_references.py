"""Reference policies of cells: which robots have some, what they earn on the test tasks, and their records."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.meta.__main__ import main as bench_meta
from benchmarks.meta.cell_train import BenchConfig
from benchmarks.meta.cells import CELLS
from benchmarks.meta.references import find_players, has_references, load_references, make_references
from benchmarks.results.collect_meta import REFERENCES, collect, load_policies, load_seeds
from benchmarks.results.records import load_records
from supple.errors import RunError
from supple.meta.config import EvaluationConfig, Trial
from supple.pipeline.progress import make_progress
from supple.pipeline.stage import Machine, run_stage
from supple.robots.bandits import BernoulliBandits
from supple.robots.gridnavi import GridNavi
from supple.robots.krazy_world import KrazyWorld
from supple.robots.tabular import TabularMdps
from supple.robots.task import Task, TaskSet, goals_of


def play(folder: Path, robot: Any, **evaluation: Any) -> dict[str, Any]:
    config = replace(CELLS["demo-rl2"].config, robot=robot, evaluation=EvaluationConfig(**evaluation))
    run_stage(replace(make_references(config), folder=folder), Machine(), make_progress("json"))
    return dict(load_references(folder))


def test_bandits_are_played_by_what_their_length_allows() -> None:
    assert list(find_players(BernoulliBandits(pulls=10, arms=2))) == [
        "thompson",
        "optimistic-thompson",
        "ucb1",
        "greedy",
        "gittins",
        "bayes-optimal",
    ]
    assert list(find_players(BernoulliBandits(pulls=100, arms=2)))[-1] == "gittins"
    assert list(find_players(BernoulliBandits(pulls=500, arms=2)))[-1] == "greedy"
    assert find_players(KrazyWorld()) == {}
    assert list(find_players(CELLS["rl2-krazy-5x5-4096"].config.robot)) == ["planner", "look-first-planner"]


def test_only_protocols_that_the_policies_follow_have_references() -> None:
    found = {name for name, cell in CELLS.items() if has_references(cell.config)}
    assert {"demo-rl2", "rl2-bandit-10-5", "rl2-tabular-10", "rl2-gridnavi", "e-rl2-krazy-5x5-4096"} <= found
    assert not {"demo-maml", "rl2-arm-target", "maml-krazy-5x5-4096", "maml-2d-navigation"} & found
    bandit = CELLS["rl2-bandit-10-5"].config
    for other in (EvaluationConfig(adapt_steps=1), EvaluationConfig(trial=Trial(episodes=2))):
        assert not has_references(replace(bandit, evaluation=other))


def test_bandit_policies_stand_in_their_order(tmp_path: Path) -> None:
    policies = play(tmp_path / "out", BernoulliBandits(pulls=10, arms=3, num_train=2, num_test=2000))
    means = {name: np.mean(scores["return"]) for name, scores in policies.items()}
    assert np.shape(policies["gittins"]["return"]) == (2000, 1)
    assert means["bayes-optimal"] > means["greedy"] > means["thompson"] > 5.0
    assert abs(means["bayes-optimal"] - means["gittins"]) < 0.05


def test_trials_of_a_task_stand_beside_each_other(tmp_path: Path) -> None:
    # the mean over trials of a task whose rewards are all 2 and of one whose rewards are all -1, in ten steps
    class Two(TabularMdps):
        def tasks(self) -> TaskSet:
            tasks = super().tasks()
            pays = zip(tasks.test[:2], (20.0, -10.0), strict=True)
            return replace(tasks, test=tuple(Task(task.name, (*task.goal[:-50], *[pay] * 50)) for task, pay in pays))

    policies = play(tmp_path / "out", Two(num_train=2), trial=Trial(episodes=3, exploration_episodes=1), trials=4)
    assert list(policies) == ["psrl", "opsrl", "ucrl2", "beb", "greedy", "beb-every-step"]
    for scores in policies.values():
        # noise of a sum of ten rewards, mean of four trials: standard deviation 1.6
        np.testing.assert_allclose(scores["return"], [[200.0] * 3, [-100.0] * 3], atol=8.0)
        np.testing.assert_allclose(scores["return_trial"], np.array(scores["return"])[:, 1:].sum(axis=1))
        assert (scores["axis"], scores["places"]) == ("episode_index", [1, 2, 3])


def test_planners_play_each_board_once_and_stand_beside_all_its_trials(tmp_path: Path) -> None:
    robot = replace(CELLS["rl2-krazy-5x5-4096"].config.robot, num_test=6)  # type: ignore[type-var]
    policies = play(tmp_path / "out", robot, trial=Trial(episodes=4, exploration_episodes=3), trials=2)
    for scores in policies.values():
        returns = np.array(scores["return"])
        assert returns.shape == (6, 4)
        assert returns.max() == 3.0
        assert (returns == returns.round()).all()
        np.testing.assert_allclose(scores["return_trial"], returns[:, 3])
    # the second board pays more to the agent that looks first, which lives longer there
    first = {name: np.array(scores["return"])[:, 0] for name, scores in policies.items()}
    assert (first["planner"][1], first["look-first-planner"][1]) == (1.0, 3.0)


def test_boards_in_any_order_keep_their_own_returns() -> None:
    robot = cast(KrazyWorld, CELLS["rl2-krazy-5x5-4096"].config.robot)
    boards = goals_of(robot.tasks().test[:4])
    play_planner = find_players(robot)["planner"]
    rng = np.random.default_rng(0)
    returns = play_planner(robot.make(4), boards, 3, rng)
    order = [2, 0, 3, 1, 2]
    assert (returns[[0, 1]] != returns[[2, 3]]).any()
    np.testing.assert_array_equal(play_planner(robot.make(5), boards[order], 3, rng), returns[order])


def test_a_cell_brings_its_references_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert bench_meta(["demo-rl2", "--out", str(out)]) == 0
    table = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert "posterior-sampling-reference" in table
    cell = CELLS["demo-rl2"]
    assert load_references(out / "demo-rl2" / REFERENCES) == load_policies(out, "demo-rl2", cell) != {}
    records = load_records(out / "demo-rl2" / "records.json")
    found = [record for record in records if record.method == "posterior-sampling-reference"]
    assert [(r.metric, r.place) for r in found] == [("return", 1), ("return", 2), ("return_trial", "")]
    # two trials in each of the 21 tasks, 0.5 and 2.3 in the long run, standard deviation 5 or so
    assert found[0].mean == pytest.approx(0.5, abs=2.5)
    assert found[0].n == 21
    assert all(record.low is not None for record in found)
    # the same policies for a cell that is evaluated otherwise are none of its own
    changed = replace(cell, config=replace(cell.config, evaluation=EvaluationConfig(trial=Trial(episodes=3))))
    with pytest.raises(RunError, match="references: expected references of the cell as it is now, got those of"):
        load_policies(out, "demo-rl2", changed)
    # a cell without them is collected all the same
    assert load_policies(tmp_path, "demo-rl2", cell) == {}
    methods = {row["method"] for row in collect("demo-rl2", cell, load_seeds(out, "demo-rl2", cell))}
    assert methods == {"rl2", "random", "oracle-exact"}


def test_a_finished_stage_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config: BenchConfig = CELLS["demo-rl2"].config
    stage = replace(make_references(config), folder=tmp_path / "out")
    statuses = [run_stage(stage, Machine(), make_progress("json")).status for _ in range(2)]
    assert statuses == ["made", "skipped"]
    scores = json.loads((tmp_path / "out" / "references.json").read_text())
    assert scores["tasks"] == GridNavi().tasks().name
