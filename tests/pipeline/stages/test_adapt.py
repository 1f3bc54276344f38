"""Stage `adapt` moves robots only through the safety limits, and its audit log is evidence, not a result."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.bundle import load_bundle, write_bundle
from supple.adapt.config import AdaptConfig
from supple.errors import ConfigError, RobotFault, RunError
from supple.meta.testing import PointBatch
from supple.pipeline.folder import AUDIT_NAME, compute_outputs, verify_stage
from supple.pipeline.keys import load_record
from supple.pipeline.progress import PlainProgress
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.stage import Machine, Work, run_stage
from supple.pipeline.stages.adapt import find_robot_of, find_test_tasks, limit_simulator, make_adapt
from supple.pipeline.testing import WalkConfig, make_stage

ROW = np.zeros(1, np.int64)
GOAL = np.zeros((1, 2), np.float32)


def load_events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_body(folder: Path, body: Callable[[Work], None]) -> None:
    stage = replace(make_stage(folder, WalkConfig()), body=body)
    run_stage(stage, Machine(tensorboard=False), PlainProgress(sys.stderr, sys.stdout, 1e9))


def test_the_robots_of_a_run_went_through_the_limits(tiny_run: Path) -> None:
    events = load_events(tiny_run / "adapt" / AUDIT_NAME)
    assert events[0]["event"] == "open"
    assert {event["event"] for event in events} <= {"open", "clamps"}
    assert AUDIT_NAME not in load_record(tiny_run / "adapt")["outputs"]
    assert verify_stage(tiny_run / "adapt") > 0


def test_a_command_beyond_the_limits_does_not_reach_the_robot(tmp_path: Path) -> None:
    simulator, bare = PointBatch(1, episode_steps=5), PointBatch(1, episode_steps=5)
    bare.reset(ROW, GOAL, np.random.default_rng(0))
    with limit_simulator(simulator, tmp_path / AUDIT_NAME) as robot:
        robot.reset(ROW, GOAL, np.random.default_rng(0))
        observation = robot.step(ROW, np.array([[9.0, -9.0]], np.float32)).observation
    limit = bare.step(ROW, np.array([bare.spec.action.high * [1, -1]], np.float32)).observation
    np.testing.assert_array_equal(observation, limit)
    assert [event["event"] for event in load_events(tmp_path / AUDIT_NAME)] == ["open", "clamps"]


def test_a_stop_of_an_earlier_run_is_ended_for_a_simulator_and_stays_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / AUDIT_NAME

    def run_into_a_fault() -> None:
        with limit_simulator(PointBatch(1), path) as robot:
            robot.reset(ROW, GOAL, np.random.default_rng(0))
            robot.step(ROW, np.array([[np.nan, 0.0]], np.float32))

    for _ in range(2):
        with pytest.raises(RobotFault, match="expected a finite command"):
            run_into_a_fault()
    assert [event["event"] for event in load_events(path)] == ["open", "stop", "open", "rearm", "stop"]


def test_a_fault_leaves_its_audit_log_and_the_next_start_adds_to_it(tmp_path: Path) -> None:
    folder, starts = tmp_path / "walk", []

    def body(work: Work) -> None:
        work.start_afresh()
        (work.folder / "left.txt").write_text("")
        with (work.folder / AUDIT_NAME).open("a") as log:
            log.write("{}\n")
        starts.append(sorted(path.name for path in work.folder.iterdir()))
        if len(starts) == 1:
            raise RobotFault("something does not move as it should")

    with pytest.raises(RobotFault, match="does not move"):
        run_body(folder, body)
    assert (tmp_path / "walk.partial" / AUDIT_NAME).read_text() == "{}\n"
    run_body(folder, body)
    assert (folder / AUDIT_NAME).read_text() == "{}\n{}\n"
    assert list(compute_outputs(folder)) == ["left.txt"]


def test_another_refusal_leaves_nothing(tmp_path: Path) -> None:
    def body(work: Work) -> None:
        raise RunError("not this way")

    with pytest.raises(RunError, match="not this way"):
        run_body(tmp_path / "walk", body)
    assert not (tmp_path / "walk.partial").exists()


def test_a_directed_search_with_an_untrained_reward_head_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    trained = load_bundle(tiny_run / "export" / "bundle")
    contract = trained.contract.to_json()
    contract["adaptation"] = {**contract["adaptation"], "simpl": {**contract["adaptation"]["simpl"]}}
    contract["adaptation"]["simpl"]["reward_prediction"] = 0.0
    write_bundle(tmp_path / "bundle", contract=contract, weights=trained.weights, golden=trained.golden)
    tasks, robot = find_test_tasks(trained), find_robot_of(trained, None)
    directed, blind = (AdaptStageConfig(loop=AdaptConfig(search=search)) for search in ("directed", "blind"))
    with pytest.raises(ConfigError, match="--search blind"):
        make_adapt(tmp_path / "bundle", tasks, robot, directed, 0)
    make_adapt(tmp_path / "bundle", tasks, robot, blind, 0)
    make_adapt(tiny_run, tasks, robot, directed, 0)


def test_what_decides_a_result_is_the_bundle_not_the_run_folder_around_it(tiny_run: Path) -> None:
    bundle = load_bundle(tiny_run / "export" / "bundle")
    tasks, robot = find_test_tasks(bundle), find_robot_of(bundle, None)
    given = (tiny_run, tiny_run / "export", tiny_run / "export" / "bundle")
    read = [make_adapt(path, tasks, robot, AdaptStageConfig(), 0).inputs for path in given]
    assert read == [{"bundle": tiny_run / "export" / "bundle"}] * 3
