from pathlib import Path

import numpy as np
import pytest
import torch

from supple.adapt.bundle import load_bundle
from supple.adapt.policy import make_agent
from supple.errors import RunError
from supple.pipeline.report.trips import Recorder, compute_trips, load_adapted, play_trips
from supple.robots.family import SuccessRows
from supple.robots.maze import MazeBatch
from supple.robots.maze_family import Maze
from supple.robots.robot import Float, RobotBatch
from supple.robots.task import Task
from supple.skills.checkpoint import save_checkpoint


def test_trips_of_a_policy_that_was_not_tuned_yet_are_those_of_inference(adapted_run: Path) -> None:
    agent = make_agent(load_bundle(adapted_run / "export" / "bundle"), torch.device("cpu"))
    tasks, tuners = load_adapted(adapted_run / "adapt" / "adapted.safetensors", agent, 4)
    assert list(tuners) == [0]
    layout = np.ones((7, 7), np.bool_)
    layout[1:6, 1:6] = False
    goals = (Task("near", (2.0, 2.0)), Task("far", (5.0, 1.0)))
    robot = SuccessRows(MazeBatch(layout, 6, episode_steps=20), Maze())
    near, far = compute_trips(agent, robot, goals, tuners, episodes=3, seed=1)
    assert list(near.trips) == ["before", "inferred", "adapted"]
    assert list(far.trips) == ["before"]
    assert all(trip.success and len(trip.path) == 2 for trip in near.trips["before"])  # it starts at the goal
    assert all(not trip.success and len(trip.path) == 21 for trip in far.trips["before"])
    far, near = compute_trips(agent, robot, goals[::-1], tuners, episodes=3, seed=1)
    for one, other in zip(far.trips["inferred"], far.trips["adapted"], strict=True):
        assert (one.path == other.path).all()
    assert not (far.trips["inferred"][0].path == far.trips["before"][0].path).all()
    assert len(tasks) == 2


def test_damaged_policies_are_refused(adapted_run: Path, tmp_path: Path) -> None:
    agent = make_agent(load_bundle(adapted_run / "export" / "bundle"), torch.device("cpu"))
    path = tmp_path / "adapted.safetensors"
    save_checkpoint(path, {"0.embedding": torch.zeros(agent.embedding_dim)}, {"tasks": [{"name": "a", "goal": [1, 2]}]})
    with pytest.raises(RunError, match=r"adapted.safetensors: expected adapted policies, got .*Missing key"):
        load_adapted(path, agent, 4)


def test_a_recorder_keeps_each_row_up_to_its_end() -> None:
    """Row 1 starts at its goal and ends at once; row 0 is stepped on alone."""
    layout = np.ones((7, 7), np.bool_)
    layout[1:6, 1:6] = False
    goals = np.array([[5.0, 1.0], [2.0, 2.0]], np.float32)

    def play(robot: RobotBatch, goals: Float) -> None:
        rng = np.random.default_rng(0)
        robot.reset(np.arange(2), goals + 1.0, rng)
        robot.step(np.arange(2), np.zeros((2, 2), np.float32))
        robot.reset(np.arange(2), goals, rng)  # what was before counts no more
        step = robot.step(np.arange(2), np.zeros((2, 2), np.float32))
        assert step.terminated.tolist() == [False, True]
        robot.step(np.array([0]), np.ones((1, 2), np.float32))

    told = SuccessRows(MazeBatch(layout, 3, episode_steps=20), Maze())
    first, second = play_trips(told, play, goals)
    assert [len(first.path), len(second.path)] == [3, 2]
    assert [(trip.total, trip.success) for trip in (first, second)] == [(0.0, False), (1.0, True)]
    assert first.path[2, 0] > first.path[1, 0]
    untold = play_trips(MazeBatch(layout, 3, episode_steps=20), play, goals)
    assert [(trip.total, trip.success) for trip in untold] == [(0.0, None), (1.0, None)]


def test_a_recorder_is_the_robot_that_it_wraps() -> None:
    robot = Maze(layout_size=8).make(3)
    recorder = Recorder(robot)
    assert (recorder.rows, recorder.spec) == (3, robot.spec)
    places, goals = np.zeros((1, 4), np.float32), np.zeros((1, 2), np.float32)
    assert recorder.compute_reward(places, goals)[0] == robot.compute_reward(places, goals)[0] == 1.0
