"""A bundle takes a model of nominal motion along, calibrated at export, and `adapt` gives alarms by it."""

import json
from pathlib import Path

import numpy as np
import pytest

from supple.adapt.bundle import load_bundle
from supple.datasets.store import open_store
from supple.pipeline.cli import main
from supple.pipeline.nominal import learn_motion, to_motion
from supple.pipeline.stages.adapt import find_robot_of


def test_the_alarm_is_calibrated_at_export(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "export"
    options = ["--nominal", str(tiny_run), "--out", str(out)]
    assert main(["export", str(tiny_run), *options]) == 2
    assert "expected 198 nominal episodes of 60 steps or more for a share of false alarms of 0.01, got 12" in (
        capsys.readouterr().err
    )
    assert main(["export", str(tiny_run), "--false-alarms", "0.4", *options]) == 0
    bundle, store = load_bundle(out / "bundle"), open_store(tiny_run)
    assert bundle.novelty is not None
    assert bundle.contract.provenance["nominal"] == {"store": store.digest, "false_alarms": 0.4}
    again = learn_motion(store, bundle.contract.robot, 0.4)
    np.testing.assert_array_equal(again.threshold, bundle.novelty.threshold)
    held = [to_motion(store.episode(number)) for number in range(1, 12, 2)]
    highest = sorted(
        again.score_episode(one._replace(observation=one.observation[:61], command=one.command[:60])).max()
        for one in held
    )
    assert again.threshold[0] == highest[4]  # ceil(7 * 0.6) = 5 of 6

    short = ["--episodes", "6", "--num-tasks", "2", "--evaluations", "4"]  # of 8 rows, with alarms
    assert main(["adapt", str(out), "--guard", "on", "--out", str(tmp_path / "adapt"), *short]) == 0
    records = [json.loads(line) for line in (tmp_path / "adapt" / "records.jsonl").read_text().splitlines()]
    alarms = [record for record in records if record["kind"] == "alarm"]
    assert all(1 <= record["control_step"] <= 60 and record["score"] > record["threshold"] for record in alarms)
    scores = [record["unknown"] for record in records if record["kind"] == "guarded"]
    assert len(scores) == 6
    robot = find_robot_of(bundle, None).family
    assert {record["task"] for record in alarms} <= {task.name for task in robot.tasks().test}


def test_episodes_of_another_robot_are_no_nominal_ones(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ["export", str(tiny_run), "--nominal", str(tmp_path / "nothing"), "--out", str(tmp_path / "export")]
    assert main(missing) == 2
    assert "expected an episode store" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()
