from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from supple.adapt.bundle import load_bundle
from supple.adapt.log_agent import lead
from supple.adapt.runtime_agent import HOST, KEPT, PARAMS
from supple.errors import RunError
from supple.pipeline.report import trips
from supple.pipeline.report.run_folder import load_run
from supple.pipeline.report.scenes import UNKNOWN, draw_trips
from supple.pipeline.report.trips import Adapted, Evaluated, Recorder, compute_trips, load_adapted, load_evaluated
from supple.robots.family import SuccessRows
from supple.robots.maze import MazeBatch
from supple.robots.maze_family import Maze
from supple.robots.task import Task
from supple.skills.checkpoint import save_checkpoint

TASKS = (Task("near", (2.0, 2.0)), Task("far", (5.0, 1.0)))


def make_open_maze(rows: int) -> MazeBatch:
    """A room of 5 cells whose start is the goal of the task `near`."""
    layout = np.ones((7, 7), np.bool_)
    layout[1:6, 1:6] = False
    return MazeBatch(layout, rows, episode_steps=20)


def test_trips_of_a_policy_that_was_not_tuned_yet_are_those_of_inference(adapted_run: Path) -> None:
    bundle = Evaluated(load_bundle(adapted_run / "export" / "bundle"), "off")
    found = load_adapted(adapted_run / "adapt" / "adapted.safetensors")
    # what logs knew after inference is not kept
    adapted = Adapted(found.tasks, {name: value for name, value in found.state.items() if not name.startswith("log.")})
    assert len(adapted.tasks) == 2
    assert adapted.known.tolist() == [True, False]
    robot = SuccessRows(make_open_maze(6), Maze())
    near, far = compute_trips(bundle, robot, TASKS, adapted, episodes=3, seed=1)
    assert list(near.trips) == ["before", "inferred", "adapted"]
    assert list(far.trips) == ["before"]
    assert [group.note for group in draw_trips([near, far], Maze(), None, adapted=True)] == ["", UNKNOWN]
    assert all(trip.success and len(trip.path) == 2 for trip in near.trips["before"])  # it starts at the goal
    assert all(not trip.success and len(trip.path) == 21 for trip in far.trips["before"])
    far, near = compute_trips(bundle, robot, TASKS[::-1], adapted, episodes=3, seed=1)
    for one, other in zip(far.trips["inferred"], far.trips["adapted"], strict=True):
        assert one.path == pytest.approx(other.path, abs=1e-4)
    assert not (far.trips["inferred"][0].path == far.trips["before"][0].path).all()
    again = compute_trips(bundle, robot, TASKS[::-1], adapted, episodes=3, seed=1)
    assert (again[0].trips["adapted"][2].path == far.trips["adapted"][2].path).all()


def test_before_adaptation_there_are_trips_of_every_task(adapted_run: Path) -> None:
    bundle = Evaluated(load_bundle(adapted_run / "export" / "bundle"), "off")
    found = compute_trips(bundle, make_open_maze(6), TASKS, None, episodes=3, seed=0)
    assert [list(task.trips) for task in found] == [["before"], ["before"]]
    assert [trip.success for trip in found[0].trips["before"]] == [None] * 3  # nobody tells
    assert [trip.total for trip in found[0].trips["before"]] == [1.0] * 3


@pytest.mark.parametrize("logs", ["on", "drive", "off"])
def test_the_agents_of_trips_are_those_that_adapt_evaluates(
    adapted_run: Path, logs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs lead before adaptation, and in tasks that the learner itself does not know yet; settings are changed."""
    run, led = load_run(adapted_run), []
    export, adapt = run.stages["export"], run.stages["adapt"]
    config = {"adapt": {**adapt.config["adapt"], "logs": logs, "settings": ["finetune.batch=9"]}}
    evaluated = load_evaluated(export, replace(adapt, fields={**adapt.fields, "config": config}))
    assert evaluated.bundle.contract.learner["finetune"]["batch"] == 9
    monkeypatch.setattr(trips, "lead", lambda agent, guide: led.append(guide.searches) or lead(agent, guide))
    adapted = load_adapted(adapt.folder / "adapted.safetensors")
    assert any(name.startswith("log.") for name in adapted.state)
    if logs == "off":
        adapted = Adapted(adapted.tasks, {n: value for n, value in adapted.state.items() if not n.startswith("log.")})
    for state in (None, adapted):
        led.clear()
        found = compute_trips(evaluated, make_open_maze(6), TASKS, state, episodes=3, seed=1)
        names = [list(task.trips) for task in found]
        if logs == "off":
            assert not led
            assert names == ([["before"]] * 2 if state is None else [["before", "inferred", "adapted"], ["before"]])
        else:
            assert led == [logs == "on"] * (1 if state is None else 2)
            assert names == [["before"] if state is None else ["before", "adapted"]] * 2


def test_without_adaptation_a_run_shows_what_it_would_do(adapted_run: Path) -> None:
    found = load_evaluated(load_run(adapted_run).stages["export"], None)
    assert found.logs == "on"
    assert found.make_guide(None) is not None
    # an older version did not take them along
    assert found.make_guide(Adapted(TASKS, {"embedding": np.zeros((2, 1), np.float32)})) is None


def test_an_agent_without_policies_of_its_own_knows_its_tasks() -> None:
    belief = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    adapted = Adapted((*TASKS, Task("third", (1.0, 1.0))), {"belief": belief, f"{HOST}generator": np.zeros(9)})
    assert not adapted.has_policies
    assert adapted.known.tolist() == [True] * 3
    state = adapted.repeat(2, 3, policies=True)
    assert list(state) == ["belief"]
    assert state["belief"][:, 0].tolist() == [0.0, 0.0, 0.0, 2.0, 2.0, 2.0]


def test_policies_can_be_left_out() -> None:
    own = f"{KEPT}{PARAMS}layers.0.bias"
    state = {"embedding": np.ones((3, 1)), f"{KEPT}tuned": np.array([True, False, True]), own: np.ones((3, 4))}
    adapted = Adapted((*TASKS, Task("third", (1.0, 1.0))), state)
    assert adapted.has_policies
    whole, without = (adapted.repeat(2, 2, policies=policies) for policies in (True, False))
    assert whole[own].shape == (2, 4)  # one for each task, not for each row
    assert whole[f"{KEPT}tuned"].tolist() == [True, True, False, False]
    assert own not in without
    assert not without[f"{KEPT}tuned"].any()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapted.safetensors"
    save_checkpoint(path, {"embedding": torch.zeros(1)}, {"tasks": [{"name": "a"}]})
    with pytest.raises(RunError, match=r"adapted.safetensors: expected adapted tasks, got 'goal'; run adapt again"):
        load_adapted(path)


def test_a_recorder_keeps_each_row_up_to_its_end() -> None:
    """Row 1 starts at its goal and ends at once; row 0 is stepped on alone."""
    goals = np.array([[5.0, 1.0], [2.0, 2.0]], np.float32)
    for robot, told in ((SuccessRows(make_open_maze(3), Maze()), (False, True)), (make_open_maze(3), (None, None))):
        recorder, rng = Recorder(robot), np.random.default_rng(0)
        recorder.reset(np.arange(2), goals + 1.0, rng)
        recorder.step(np.arange(2), np.zeros((2, 2), np.float32))
        recorder.reset(np.arange(2), goals, rng)  # what was before counts no more
        step = recorder.step(np.arange(2), np.zeros((2, 2), np.float32))
        assert step.terminated.tolist() == [False, True]
        recorder.step(np.array([0]), np.ones((1, 2), np.float32))
        first, second = recorder.trips(2)
        assert [len(first.path), len(second.path)] == [3, 2]
        assert [first.total, second.total] == [0.0, 1.0]
        assert (first.success, second.success) == told
        assert first.path[2, 0] > first.path[1, 0]


def test_a_recorder_is_the_robot_that_it_wraps() -> None:
    robot = Maze(layout_size=8).make(3)
    recorder = Recorder(robot)
    assert (recorder.rows, recorder.spec) == (3, robot.spec)
    places, goals = np.zeros((1, 4), np.float32), np.zeros((1, 2), np.float32)
    assert recorder.compute_reward(places, goals)[0] == robot.compute_reward(places, goals)[0] == 1.0
