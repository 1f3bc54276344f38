"""A bundle is adapted on a recorded log: the same loop, nothing moves, and the commands are compared."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supple.adapt.bundle import load_bundle
from supple.adapt.bundle_folder import find_bundle
from supple.datasets import write_d4rl
from supple.datasets.log_family import LogFamily
from supple.errors import ConfigError
from supple.pipeline.progress import JsonProgress
from supple.pipeline.robots import RobotChoice
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.stage import Machine, run_stage
from supple.pipeline.stages.adapt import find_robot_of, make_adapt
from supple.robots.family import RobotFamily


def write_log(path: Path, family: RobotFamily, episodes: int) -> Path:
    """Random motion of the simulated robot, an episode and its last observation."""
    robot, rng, row = family.make(1), np.random.default_rng(0), np.zeros(1, np.int64)
    goal = np.array([family.tasks().train[0].goal], np.float32)
    steps = robot.spec.episode_steps
    observations, actions = [], []
    for _ in range(episodes):
        seen = robot.reset(row, goal, rng)
        for step in range(steps + 1):
            action = rng.uniform(robot.spec.action.low, robot.spec.action.high, (1, 2)).astype(np.float32)
            observations.append(seen[0])
            actions.append(action[0])
            if step < steps:
                seen = robot.step(row, action).observation
    robot.close()
    rows = len(observations)
    arrays = {
        "observations": np.array(observations),
        "actions": np.array(actions),
        "rewards": np.zeros(rows),
        "terminals": np.zeros(rows, np.bool_),
        "timeouts": np.arange(1, rows + 1) % (steps + 1) == 0,
    }
    return write_d4rl(path, arrays, robot.spec)


def test_the_loop_runs_on_a_log_and_says_how_far_its_commands_were_from_the_recorded_ones(
    tiny_run: Path, tmp_path: Path
) -> None:
    bundle = find_bundle(tiny_run)
    simulated = find_robot_of(load_bundle(bundle), None).family
    family = LogFamily(robot=simulated, log=write_log(tmp_path / "log.hdf5", simulated, 2))
    choice = RobotChoice("cell.py:LOG", family, Path(__file__))
    tasks, config = family.tasks().test, AdaptStageConfig(episodes=3, evaluate_at=())
    with pytest.raises(ConfigError, match="expected one task and no evaluations on a log, got 2"):
        make_adapt(bundle, tasks[:2], choice, config, 0)
    stage = make_adapt(bundle, tasks[:1], choice, config, 0)
    with (tmp_path / "records.jsonl").open("w") as stream:
        run_stage(replace(stage, folder=tmp_path / "out"), Machine(tensorboard=False), JsonProgress(stream))
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    (replay,) = (record for record in records if record["event"] == "replay")
    played = [record for record in records if record["event"] == "episode"]
    assert replay["episodes"] == len(played) == 3
    assert replay["commands"] == sum(record["steps"] for record in played)
    for away in replay["axes"].values():
        assert 0.0 < away["mean"] <= away["largest"] <= 2.0
