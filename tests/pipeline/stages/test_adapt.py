"""Stage `adapt` moves robots only through the safety limits, and its audit log is evidence, not a result."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.bundle import load_bundle
from supple.datasets.store import find_store, open_store
from supple.errors import BundleError, ConfigError, RobotFault, RunError
from supple.meta.testing import PointBatch
from supple.pipeline.cli import main
from supple.pipeline.evidence import AUDIT_NAME, LATCH_NAME
from supple.pipeline.folder import compute_outputs, require_published, verify_stage
from supple.pipeline.keys import load_record
from supple.pipeline.progress import PlainProgress
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.stage import Machine, Work, run_stage
from supple.pipeline.stages.adapt import change_settings, find_idle_drive, find_robot_of, find_test_tasks, make_adapt
from supple.pipeline.stages.robot_cell import limit_robots
from supple.pipeline.testing import WalkConfig, make_stage
from supple.pipeline.verbs.look import verify

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
    assert {event["event"] for event in events} <= {"open", "clamps", "close"}
    assert AUDIT_NAME not in load_record(tiny_run / "adapt")["outputs"]
    assert verify_stage(tiny_run / "adapt") > 0


def test_a_command_beyond_the_limits_does_not_reach_the_robot(tmp_path: Path) -> None:
    simulator, bare = PointBatch(1, episode_steps=5), PointBatch(1, episode_steps=5)
    bare.reset(ROW, GOAL, np.random.default_rng(0))
    with limit_robots(simulator, tmp_path / AUDIT_NAME, simulator=True) as robot:
        robot.reset(ROW, GOAL, np.random.default_rng(0))
        observation = robot.step(ROW, np.array([[9.0, -9.0]], np.float32)).observation
    limit = bare.step(ROW, np.array([bare.spec.action.high * [1, -1]], np.float32)).observation
    np.testing.assert_array_equal(observation, limit)
    assert [event["event"] for event in load_events(tmp_path / AUDIT_NAME)] == ["open", "stop", "clamps", "close"]


def test_a_stop_of_an_earlier_run_is_ended_for_a_simulator_and_stays_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / AUDIT_NAME

    def run_into_a_fault() -> None:
        with limit_robots(PointBatch(1), path, simulator=True) as robot:
            robot.reset(ROW, GOAL, np.random.default_rng(0))
            robot.step(ROW, np.array([[np.nan, 0.0]], np.float32))

    for _ in range(2):
        with pytest.raises(RobotFault, match="expected a finite command"):
            run_into_a_fault()
    assert [event["event"] for event in load_events(path)] == [
        *("open", "stop", "close"),
        *("open", "anew", "stop", "close"),
    ]


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


def link_elsewhere(path: Path) -> None:
    path.rename(path.with_name("moved"))
    shutil.move(path.with_name("moved"), path.parents[1] / "moved")
    path.symlink_to(path.parents[1] / "moved")


TAMPERED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "log edited": (
        lambda at: (at / AUDIT_NAME).write_text((at / AUDIT_NAME).read_text().replace("1", "2", 1)),
        AUDIT_NAME,
    ),
    "log removed": (lambda at: (at / AUDIT_NAME).unlink(), AUDIT_NAME),
    "log linked": (lambda at: link_elsewhere(at / AUDIT_NAME), AUDIT_NAME),
    "latch edited": (lambda at: (at / LATCH_NAME).write_text("{}"), LATCH_NAME),
    "artefact linked": (lambda at: link_elsewhere(at / "records.jsonl"), "records.jsonl"),
    "pipe added": (lambda at: os.mkfifo(at / "pipe"), "pipe"),
    "pipe below": (lambda at: os.mkfifo(at / "policies" / "pipe"), "policies/pipe"),
    "plots added": (
        lambda at: [(at / "tensorboard").mkdir(exist_ok=True), (at / "tensorboard" / "x").touch()],
        "tensorboard/x",
    ),
    "checkpoint added": (lambda at: (at / "checkpoint").mkdir(), "checkpoint"),
    "key added": (lambda at: (at / "key.json").write_text("{}"), "key.json"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_a_stage_in_which_robots_moved_is_refused_once_anything_of_it_is_another(
    tiny_run: Path, tmp_path: Path, kind: str
) -> None:
    folder = Path(shutil.copytree(tiny_run / "adapt", tmp_path / "adapt"))
    assert verify_stage(folder) > 0
    change, named = TAMPERED[kind]
    change(folder)
    with pytest.raises(RunError, match=re.escape(f"{folder / named}: expected")):
        list(verify(folder))
    with pytest.raises(RunError, match=re.escape(f"{folder / named}: expected")):
        require_published(folder)


def test_another_refusal_leaves_nothing(tmp_path: Path) -> None:
    def body(work: Work) -> None:
        raise RunError("not this way")

    with pytest.raises(RunError, match="not this way"):
        run_body(tmp_path / "walk", body)
    assert not (tmp_path / "walk.partial").exists()


def test_settings_of_the_learner_may_be_changed(tiny_run: Path) -> None:
    bundle = load_bundle(tiny_run / "export" / "bundle")
    changed = change_settings(bundle, ("search=blind", "finetune.batch=4", "finetune.learning_rate=0.5", "wider=3"))
    learner = changed.contract.learner
    assert (learner["search"], learner["wider"]) == ("blind", 3)
    assert learner["finetune"] == {**bundle.contract.learner["finetune"], "batch": 4, "learning_rate": 0.5}
    assert change_settings(bundle, ()) is bundle
    for wrong, message in (
        ("speed=3", "settings: expected some of .*, got 'speed'"),
        ("finetune.speed=3", "expected a setting of simpl, got 'finetune.speed'"),
        ("candidates=many", "^--settings candidates: expected an integer, got 'many'; correct it"),
        ("candidates=1000000000000", "^--settings candidates: expected an integer of at most 4294967295, got 10"),
        ("candidates=0", "^--settings candidates: expected a whole number from 1 to"),
        (
            "finetune.batch=0",
            r"^--settings finetune\.batch: expected a whole number from 1 to 1048576, got 0; correct it",
        ),
        ("finetune.discount=1.0", r"^--settings finetune\.discount: expected"),
        ("evidence=-1", "^--settings evidence: expected"),
        ("wider=0", "^--settings wider: expected"),
        ("wider=1e308", "^--settings wider: expected"),
    ):
        with pytest.raises(BundleError, match=message):
            change_settings(bundle, (wrong,))
    with pytest.raises(ConfigError, match="expected name=value, got 'search'"):
        change_settings(bundle, ("search",))


def test_logs_that_only_drive_are_told_where_that_changes_nothing(tiny_run: Path) -> None:
    assert find_idle_drive(load_bundle(tiny_run / "export" / "bundle").logs) is None
    assert find_idle_drive({}) == "there are no logs in the bundle"
    events = {"event.next": np.zeros(1, np.int16)}
    assert find_idle_drive(events) == "the logs lead by events, which are searched for one after another"


def test_an_adaptation_leaves_results_and_a_policy_for_each_task(tiny_run: Path) -> None:
    folder = tiny_run / "adapt"
    success = json.loads((folder / "success.json").read_text())["success"]
    metrics = {"success_stochastic", "success_greedy", "return_stochastic", "return_greedy"}
    assert {record["metric"] for record in success} == metrics
    assert [record["method"] for record in success if record["metric"] == "return_greedy"][::2] == ["before", "adapted"]
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    played = [record for record in records if record["kind"] == "episode"]
    assert {record["stage"] for record in played} == {"explore", "play"}
    policies = [load_bundle(folder / "policies" / str(index)) for index in range(2)]
    assert {policy.contract.kind for policy in policies} == {"policy"}
    assert not np.array_equal(*(policy.weights["policy.layers.0.bias"] for policy in policies))


def test_what_decides_a_result_is_the_bundle_not_the_run_folder_around_it(tiny_run: Path) -> None:
    bundle = load_bundle(tiny_run / "export" / "bundle")
    robot = find_robot_of(bundle, None)
    tasks = find_test_tasks(bundle, robot.family)
    given = (tiny_run, tiny_run / "export", tiny_run / "export" / "bundle")
    read = [make_adapt(path, tasks, robot, AdaptStageConfig(), 0).inputs for path in given]
    assert read == [{"bundle": tiny_run / "export" / "bundle"}] * 3


def test_guards_and_the_log_are_there_where_they_are_asked_for(tiny_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("mcap")
    bundle, out = tiny_run / "export" / "bundle", tmp_path / "guarded"
    options = ("--guard", "on", "--log", "--num-tasks", "1", "--episodes", "4", "--evaluations", "0", "--json")
    assert main(["adapt", str(bundle), "--out", str(out), *options]) == 0
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    guarded = [record for record in records if record["kind"] == "guarded"]
    assert [record["episode"] for record in guarded] == [1, 2, 3, 4]
    assert guarded[-1]["robot_seconds"] > 0.0
    assert verify_stage(out) > 0
    assert "log" not in {name.split("/")[0] for name in load_record(out)["outputs"]}
    log, again = out / "log" / "0001.mcap", tmp_path / "again"
    assert log.stat().st_size > 1000
    assert main(["ingest", str(log), "--out", str(again)]) == 0
    store = open_store(find_store(again))
    played = [record for record in records if record["kind"] == "episode"]
    paid = [float(store.episode(number).arrays["reward"].sum()) for number in range(len(store.episodes.length))]
    assert store.episodes.length[: len(played)].tolist() == [record["steps"] for record in played]
    assert paid == pytest.approx([record["return"] for record in played])
    episode = store.episode(0)
    space = load_bundle(bundle).contract.space
    assert episode.arrays["skill"].shape == (episode.length, space.latent_dim)
    changed = np.flatnonzero((np.diff(episode.arrays["skill"], axis=0) != 0.0).any(axis=1)) + 1
    assert changed.size
    assert not (changed % space.horizon).any()
    assert set(np.unique(episode.arrays["skill_known"])) <= {0.0, 1.0}
    plain = [json.loads(line) for line in (tiny_run / "adapt" / "records.jsonl").read_text().splitlines()]
    assert not [record for record in plain if record["kind"].startswith("guard")]
