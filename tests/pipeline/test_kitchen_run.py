"""`supple run kitchen`, tiny: from a recording of the published layout to adapted policies."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from supple.errors import RunError
from supple.pipeline.cli import main
from supple.pipeline.summary import load_success
from supple.pipeline.testing_kills import TINY
from supple.robots.kitchen import SUBTASKS
from supple.robots.kitchen_family import Kitchen
from supple.strict_json import load_json

pytest.importorskip("gymnasium_robotics")
LEARNING = (*TINY[TINY.index("--extract.skill.num-updates") :], "--learner.config.posterior-context", "30")
HEAD = "name,subtask_1,subtask_2,subtask_3,subtask_4\n"


def record_motion(path: Path) -> Path:
    """Twelve episodes of 40 steps of a trembling arm, in flat arrays, of which only `terminals` ends one.

    That is the layout of `kitchen-mixed-v0`. Objects come to their goals by themselves: microwave and kettle, or kettle
    and microwave, after 10 and 20 steps; then the bottom burner after 30.
    """
    robot, rows, rng = Kitchen().make(12), np.arange(12), np.random.default_rng(0)
    seen = robot.reset(rows, np.array([[5, 6, 0, 2]] * 12, np.float32), rng)
    observation, action = [], []
    for _ in range(40):
        action.append(rng.uniform(-0.5, 0.5, (12, 9)).astype(np.float32))
        observation.append(seen)
        seen = robot.step(rows, action[-1]).observation
    shown = np.stack(observation, 1)
    for row in rows:
        for step, subtask in ((10, 5 + row % 2), (20, 6 - row % 2), (30, 0)):
            shown[row, step:, list(SUBTASKS[subtask].columns)] = np.array(SUBTASKS[subtask].goal)[:, None]
    with h5py.File(path, "w") as file:
        file["observations"] = shown.reshape(-1, 60)
        file["actions"] = np.stack(action, 1).reshape(-1, 9)
        file["rewards"] = np.zeros(480, np.float32)
        file["terminals"] = np.arange(480) % 40 == 39
    return path


def test_the_chain_in_the_kitchen(tmp_path: Path) -> None:
    train, test, out = tmp_path / "train.csv", tmp_path / "test.csv", tmp_path / "run"
    train.write_text(HEAD + "5603,5,6,0,3\n6501,6,5,0,1\n")
    test.write_text(HEAD + "5021,5,0,2,1\n")
    options = ("--robot.episode-steps", "20", "--tasks", str(train), "--test-tasks", str(test))
    log = record_motion(tmp_path / "kitchen.hdf5")
    assert main(["run", "kitchen", "--from-log", str(log), "--out", str(out), "--no-report", *options, *LEARNING]) == 0
    facts = load_json(out / "meta-train" / "meta.json", dict, RunError, "run again")
    # five epochs of two tasks, an exploring episode to the end and one with the inferred embedding each
    assert facts["environment_steps"] == 5 * 4 * 20
    # what the two tasks pay for along the log: microwave, kettle and bottom burner
    assert load_json(out / "map-logs" / "map.json", dict, RunError, "run again")["events"] == 3
    assert load_file(out / "adapt" / "adapted.safetensors")["log.paid"].shape == (1, 3, 3)
    found = {(one["metric"], one["at"]["episode"]) for one in load_success(out / "adapt")}
    assert {("return_stochastic", 0), ("return_greedy", 2), ("success_greedy", 6)} <= found
