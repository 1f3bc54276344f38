"""`supple run kitchen`, tiny: from a recording of the published layout to adapted policies."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from supple.errors import RunError
from supple.pipeline.cli import main
from supple.pipeline.summary import load_success
from supple.pipeline.testing_kills import TINY
from supple.robots.kitchen_family import Kitchen
from supple.strict_json import load_json

pytest.importorskip("gymnasium_robotics")
LEARNING = (*TINY[TINY.index("--extract.skill.num-updates") :], "--learner.config.posterior-context", "30")
HEAD = "name,subtask_1,subtask_2,subtask_3,subtask_4\n"


def record_motion(path: Path) -> Path:
    """Four episodes of a trembling arm, as in `kitchen-mixed-v0`: flat arrays, and only `terminals` ends an episode."""
    # with much noise, so that objects seem to move and every axis has a scale
    robot, rows, rng = Kitchen(noise_ratio=3.0).make(4), np.arange(4), np.random.default_rng(0)
    seen = robot.reset(rows, np.array([[5, 6, 0, 2]] * 4, np.float32), rng)
    observation, action = [], []
    for _ in range(25):
        action.append(rng.uniform(-0.5, 0.5, (4, 9)).astype(np.float32))
        observation.append(seen)
        seen = robot.step(rows, action[-1]).observation
    with h5py.File(path, "w") as file:
        file["observations"] = np.stack(observation, 1).reshape(-1, 60)
        file["actions"] = np.stack(action, 1).reshape(-1, 9)
        file["rewards"] = np.zeros(100, np.float32)
        file["terminals"] = np.arange(100) % 25 == 24
    return path


def test_the_chain_in_the_kitchen(tmp_path: Path) -> None:
    train, test, out = tmp_path / "train.csv", tmp_path / "test.csv", tmp_path / "run"
    train.write_text(HEAD + "5603,5,6,0,3\n5013,5,0,1,3\n")
    test.write_text(HEAD + "5021,5,0,2,1\n")
    options = ("--robot.episode-steps", "20", "--tasks", str(train), "--test-tasks", str(test))
    log = record_motion(tmp_path / "kitchen.hdf5")
    assert main(["run", "kitchen", "--from-log", str(log), "--out", str(out), "--no-report", *options, *LEARNING]) == 0
    facts = load_json(out / "meta-train" / "meta.json", dict, RunError, "run again")
    # five epochs of two tasks, an exploring episode to the end and one with the inferred embedding each
    assert facts["environment_steps"] == 5 * 4 * 20
    found = {(one["metric"], one["at"]["episode"]) for one in load_success(out / "adapt")}
    assert {("return_stochastic", 0), ("return_greedy", 2), ("success_greedy", 6)} <= found
