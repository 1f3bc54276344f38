import dataclasses
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supple.adapt.audit import AuditLog, look_at_log
from supple.errors import ConfigError, RobotFault, RunError, SpecError
from supple.pipeline.evidence import AUDIT_NAME, KEY_NAME, LATCH_NAME, find_evidence
from supple.pipeline.folder import verify_stage
from supple.pipeline.interrupt import Interrupted, StopRequest, catch_signals
from supple.pipeline.keys import load_record
from supple.pipeline.metrics import load_metrics
from supple.pipeline.progress import PlainProgress
from supple.pipeline.stage import Machine, Stage, Work, compute_fields, run_stage
from supple.pipeline.testing import WalkConfig, make_stage, run_toy

TOY = [sys.executable, "-m", "supple.pipeline.testing"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def digests(folder: Path) -> tuple[Any, ...]:
    record = load_record(folder)
    return record["key"], record["outputs"], record["output_digest"], record["metrics_digest"]


def test_made_then_skipped(tmp_path: Path) -> None:
    first = run_toy(tmp_path / "walk", WalkConfig(steps=5))
    again = run_toy(tmp_path / "walk", WalkConfig(steps=5))
    assert (first.status, again.status) == ("made", "skipped")
    assert first[1:2] + first[3:] == again[1:2] + again[3:]
    assert {path.name for path in (tmp_path / "walk").iterdir()} - {".seal.json"} == {
        "end.txt",
        "metrics.jsonl",
        "stage.json",
    }
    assert [record["step"] for record in load_metrics(tmp_path / "walk" / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert not (tmp_path / "walk.partial").exists()


def test_record_holds_config_inputs_seed_and_versions(tmp_path: Path) -> None:
    first = run_toy(tmp_path / "a", WalkConfig(steps=3, widths=(7,)), seed=4)
    run_toy(tmp_path / "b", WalkConfig(steps=3), source=tmp_path / "a")
    fields = load_record(tmp_path / "a")["fields"]
    assert fields["config"] == {"steps": 3, "scale": 1.0, "widths": [7], "label": "walk", "pause": 0.0}
    assert fields["seed"] == 4
    assert set(fields["versions"]) == {"python", "numpy"}
    assert load_record(tmp_path / "b")["inputs"]["source"]["digest"] == first.output_digest


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": WalkConfig(steps=4)}, "config.steps = 4, got 5"),
        ({"config": WalkConfig(steps=5, widths=(9,))}, r"config.widths = \[9\], got \[2, 3\]"),
        ({"seed": 3}, "seed = 3, got 0"),
    ],
)
def test_another_key_in_the_same_place_is_refused(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    run_toy(tmp_path / "walk", WalkConfig(steps=5))
    before = digests(tmp_path / "walk")
    with pytest.raises(RunError, match=f"{named} from an earlier run; pass another --out, or remove"):
        run_toy(tmp_path / "walk", **{"config": WalkConfig(steps=5), **change})
    assert digests(tmp_path / "walk") == before


def test_work_under_another_key_is_refused_and_kept(tmp_path: Path) -> None:
    interrupt_at(tmp_path / "walk", WalkConfig(steps=9), 4)
    with pytest.raises(RunError, match=r"walk.partial: expected config.steps = 8, got 9"):
        run_toy(tmp_path / "walk", WalkConfig(steps=8))
    assert run_toy(tmp_path / "walk", WalkConfig(steps=9)).status == "resumed"


def test_a_folder_that_is_no_stage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "thesis.txt").write_text("three years")
    with pytest.raises(RunError, match=r"walk: expected nothing there or an output of this stage, got a folder"):
        run_toy(tmp_path / "walk", WalkConfig(steps=5))
    assert (tmp_path / "walk" / "thesis.txt").read_text() == "three years"


# Which stages of a -> b -> c, each reading the one before, must run again after a change in one of them.
EXPECTED = {"a": {"a", "b", "c"}, "b": {"b", "c"}, "c": {"c"}}
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "steps": st.integers(1, 30).filter(lambda value: value != 6),
    "scale": st.floats(0.125, 8).filter(lambda value: value != 1.0),
    "seed": st.integers(1, 2**40),
}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stage=st.sampled_from("abc"), data=st.data())
def test_exactly_the_stages_downstream_of_a_change_run_again(
    tmp_path_factory: pytest.TempPathFactory, stage: str, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(CHANGES)))
    value = data.draw(CHANGES[name])
    root = tmp_path_factory.mktemp("chain")
    run_chain(root / "old", {})
    changed = run_chain(root / "new", {stage: {name: value}}, reuse=root / "old")
    assert {name for name, status in changed.items() if status == "made"} == EXPECTED[stage]
    assert {name for name, status in changed.items() if status == "reused"} == set("abc") - EXPECTED[stage]
    shutil.rmtree(root)


def run_chain(folder: Path, changes: dict[str, dict[str, Any]], reuse: Path | None = None) -> dict[str, str]:
    statuses = {}
    inputs: dict[str, Path] = {}
    for name in "abc":
        change = dict(changes.get(name, {}))
        seed = change.pop("seed", 0)
        stage = make_stage(folder / name, WalkConfig(**{"steps": 6, **change}), seed=seed, name=name, **inputs)
        others = [reuse / name] if reuse else []
        view = PlainProgress(sys.stderr, sys.stdout, 1e9)
        statuses[name] = run_stage(stage, Machine(tensorboard=False), view, reuse=others).status
        inputs = {"source": folder / name}
    return statuses


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([field.name for field in dataclasses.fields(WalkConfig)]), st.integers(2, 2**30))
def test_each_config_field_changes_the_key(name: str, number: int) -> None:
    values: dict[str, Any] = {
        "steps": number + 1000,
        "scale": number / 2 + 1,
        "widths": (number,),
        "label": str(number),
    }
    values["pause"] = float(number)
    old = make_stage(Path("x"), WalkConfig())
    new = make_stage(Path("y"), dataclasses.replace(WalkConfig(), **{name: values[name]}))
    assert compute_fields(old, Machine()) != compute_fields(new, Machine())
    assert compute_fields(old, Machine()) != compute_fields(old, Machine(device="cuda"))
    assert compute_fields(old, Machine()) == compute_fields(old, Machine(threads=2, checkpoint_period=1.0))


def interrupt_at(folder: Path, config: WalkConfig, step: int) -> None:
    stop = StopRequest()

    class Stopper(PlainProgress):
        def update(self, now: float, metrics: Any) -> None:
            if now == step:
                stop.receive(signal.SIGINT, None)

    machine = Machine(checkpoint_period=1e9, tensorboard=False)
    with pytest.raises(Interrupted) as caught:
        run_stage(make_stage(folder, config), machine, Stopper(sys.stderr, sys.stdout), stop)
    assert caught.value.exit_code == 130


def test_the_first_signal_is_answered_at_once_with_when_it_stops(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(tmp_path / "short", WalkConfig(steps=3), 1)
    assert (
        "supple: SIGINT: walk stops when its first step is done, and is saved; a second signal"
        in capfd.readouterr().err
    )
    clock = itertools.count(0.0, 45.0)
    monkeypatch.setattr("supple.pipeline.stage.monotonic", lambda: next(clock))
    interrupt_at(tmp_path / "long", WalkConfig(steps=3), 2)
    assert re.search(r"when this step is done, each of which takes about [1-9]:\d\d, and is", capfd.readouterr().err)


def test_interrupted_finishes_its_step_saves_and_goes_on(tmp_path: Path) -> None:
    config = WalkConfig(steps=10)
    run_toy(tmp_path / "whole", config)
    interrupt_at(tmp_path / "walk", config, 4)
    assert not (tmp_path / "walk").exists()
    assert run_toy(tmp_path / "walk", config).status == "resumed"
    assert digests(tmp_path / "walk") == digests(tmp_path / "whole")
    assert [record["step"] for record in load_metrics(tmp_path / "walk" / "metrics.jsonl")] == [*range(1, 11)]


def test_metrics_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    config = WalkConfig(steps=10)
    run_toy(tmp_path / "whole", config)
    interrupt_at(tmp_path / "walk", config, 4)
    with (tmp_path / "walk.partial" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "position": 1e9}\n{"step": 6, "posi')
    run_toy(tmp_path / "walk", config)
    assert digests(tmp_path / "walk") == digests(tmp_path / "whole")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = WalkConfig(steps=10)
    run_toy(tmp_path / "whole", config)
    interrupt_at(tmp_path / "walk", config, 4)
    folder = tmp_path / "walk.partial" / "checkpoint"
    newest = sorted(folder.iterdir())[-1]
    shutil.copy(newest, newest.with_name("checkpoint-000000000099.safetensors"))
    (folder / "checkpoint-000000000099.safetensors").write_bytes(newest.read_bytes()[:50])
    assert run_toy(tmp_path / "walk", config).status == "resumed"
    assert "checkpoint-000000000099.safetensors: damaged checkpoint left out" in capsys.readouterr().err
    assert digests(tmp_path / "walk") == digests(tmp_path / "whole")


def test_only_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    interrupt_at(tmp_path / "walk", WalkConfig(steps=10), 4)
    for path in (tmp_path / "walk.partial" / "checkpoint").iterdir():
        path.write_bytes(b"{")
    with pytest.raises(RunError, match="expected a checkpoint that loads, got 1 damaged"):
        run_toy(tmp_path / "walk", WalkConfig(steps=10))


def test_left_overs_of_a_killed_run_do_not_become_artefacts(tmp_path: Path) -> None:
    config = WalkConfig(steps=10)
    run_toy(tmp_path / "whole", config)
    interrupt_at(tmp_path / "walk", config, 4)
    for name in ("stage.json.tmp", ".end.txt.77.tmp"):
        (tmp_path / "walk.partial" / name).write_text("half")
    run_toy(tmp_path / "walk", config)
    assert digests(tmp_path / "walk") == digests(tmp_path / "whole")


def test_killed_at_random_times_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    steps, pause, kills = 1500, 0.001, 8
    run_toy(tmp_path / "whole", WalkConfig(steps=steps, pause=pause), period=1.0)
    rng = random.Random(0)
    command = [*TOY, str(tmp_path / "walk"), str(steps), str(pause)]
    checkpoints = tmp_path / "walk.partial" / "checkpoint"

    def newest() -> str:
        return max((path.name for path in checkpoints.glob("*.safetensors")), default="")

    for _ in range(kills):
        before = newest()
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 60  # a walk that hangs is killed without a checkpoint, and has not gone on
        while newest() == before and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.002)
        assert newest() != before
        time.sleep(rng.uniform(0.0, 0.03))  # of the 1.5 seconds that the walk takes
        process.kill()
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, timeout=60)
    assert digests(tmp_path / "walk") == digests(tmp_path / "whole")
    assert verify_stage(tmp_path / "walk") == 1


def test_two_processes_with_one_key_make_one_artefact(tmp_path: Path) -> None:
    command = [*TOY, str(tmp_path / "walk"), "60", "0.005"]

    def run(_: int) -> str:
        return subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout.strip()

    with ThreadPoolExecutor(3) as pool:
        statuses = sorted(pool.map(run, range(3)))
    assert statuses == ["made", "skipped", "skipped"]
    assert len(load_metrics(tmp_path / "walk" / "metrics.jsonl")) == 60


@pytest.mark.parametrize("crash", ["before rename", "while clearing checkpoints"])
def test_killed_while_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: str) -> None:
    run_toy(tmp_path / "whole", WalkConfig(steps=5))
    site = "os.rename" if crash == "before rename" else "shutil.rmtree"

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    (tmp_path / "walk.partial").mkdir()
    fields = compute_fields(make_stage(tmp_path / "walk", WalkConfig(steps=5)), Machine())
    (tmp_path / "walk.partial" / "key.json").write_text(json.dumps(fields))
    with monkeypatch.context() as patch:
        patch.setattr(site, die)
        with pytest.raises(KeyboardInterrupt):
            run_toy(tmp_path / "walk", WalkConfig(steps=5))
    assert not (tmp_path / "walk").exists()
    assert run_toy(tmp_path / "walk", WalkConfig(steps=5)).status == "resumed"
    assert digests(tmp_path / "walk") == digests(tmp_path / "whole")


def test_verify_names_a_changed_a_missing_and_an_added_file(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    run_toy(folder, WalkConfig(steps=5))
    assert verify_stage(folder) == 1
    text = (folder / "end.txt").read_text()
    (folder / "end.txt").write_text(text + " ")
    with pytest.raises(RunError, match=r"end\.txt: expected sha256 .*; remove"):
        verify_stage(folder)
    (folder / "end.txt").unlink()
    with pytest.raises(RunError, match=r"end\.txt: expected sha256 .* got nothing"):
        verify_stage(folder)
    (folder / "end.txt").write_text(text)
    (folder / "more.txt").write_text("x")
    with pytest.raises(RunError, match=r"more\.txt: expected sha256 nothing"):
        verify_stage(folder)
    (folder / "more.txt").unlink()
    metrics = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(metrics.replace('"step": 5', '"step": 6'))
    with pytest.raises(RunError, match="expected the recorded metrics"):
        verify_stage(folder)


def test_other_code_is_refused_unless_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = WalkConfig(steps=10)
    with monkeypatch.context() as patch:
        patch.setattr("supple.pipeline.stage.compute_code_digest", lambda module: "0" * 64)
        run_toy(tmp_path / "whole", config)
        interrupt_at(tmp_path / "walk", config, 4)
    view = PlainProgress(sys.stderr, sys.stdout, 1e9)
    statuses = []
    for name in ("walk", "whole"):
        with pytest.raises(RunError, match=r"expected code = \w{12}\.\.\., got 0{12}\.\.\. from an earlier run"):
            run_toy(tmp_path / name, config)
        accepting = Machine(tensorboard=False, accept_code_change=True)
        statuses.append(run_stage(make_stage(tmp_path / name, config), accepting, view).status)
        with pytest.raises(RunError, match=r"config\.steps"):
            run_stage(make_stage(tmp_path / name, WalkConfig(steps=11)), accepting, view)
    assert statuses == ["resumed", "skipped"]
    assert (tmp_path / "walk" / "end.txt").read_text() == (tmp_path / "whole" / "end.txt").read_text()
    assert load_record(tmp_path / "walk")["fields"]["code"] == "0" * 64


def test_reuse_takes_over_only_the_same_key(tmp_path: Path) -> None:
    run_toy(tmp_path / "a", WalkConfig(steps=5))
    view = PlainProgress(sys.stderr, sys.stdout, 1e9)
    same = make_stage(tmp_path / "b", WalkConfig(steps=5))
    other = make_stage(tmp_path / "c", WalkConfig(steps=6))
    machine = Machine(tensorboard=False)
    assert run_stage(same, machine, view, reuse=[tmp_path / "a"]).status == "reused"
    said: list[str] = []
    view.note = said.append  # type: ignore[method-assign]
    assert run_stage(other, machine, view, reuse=[tmp_path / "nothing", tmp_path / "a"]).status == "made"
    told = [line for line in said if "taken over" in line]
    assert told == [
        f"walk: {tmp_path / 'nothing'}: not taken over: no finished stage is there",
        f"walk: {tmp_path / 'a'}: not taken over: config.steps = 5 there, 6 here",
    ]
    assert run_stage(other, machine, view, reuse=[tmp_path / "a"]).status == "skipped"
    assert sum("taken over" in line for line in said) == 2  # it is there
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert verify_stage(tmp_path / "b") == 1


def test_a_body_that_changes_the_working_directory_writes_where_it_was_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver may: before, metrics, checkpoints and the latch of a robot were then looked for elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run_toy(Path("first"), WalkConfig(steps=3))
    made = make_stage(Path("walk"), WalkConfig(steps=3), before=Path("first"))

    def body(work: Any) -> None:
        os.chdir(tmp_path / "elsewhere")
        made.body(work)

    view = PlainProgress(sys.stderr, sys.stdout)
    assert run_stage(dataclasses.replace(made, body=body), Machine(), view).status == "made"
    assert Path.cwd() == tmp_path
    assert (Path("walk") / "before.txt").read_text() == (Path("first") / "end.txt").read_text()
    assert not list(Path("elsewhere").iterdir())


def test_a_terminal_that_goes_away_is_a_request_unless_it_was_told_not_to_be() -> None:
    begun = signal.getsignal(signal.SIGHUP)
    try:
        for handler, asked in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGHUP, handler)
            with catch_signals(StopRequest()) as request:
                os.kill(os.getpid(), signal.SIGHUP)
                assert bool(request) == asked
            assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, begun)


def test_a_ctrl_backslash_stops_a_robot_too_and_not_the_process_alone() -> None:
    begun, request = signal.getsignal(signal.SIGQUIT), StopRequest()
    with pytest.raises(KeyboardInterrupt), request.at_once():
        os.kill(os.getpid(), signal.SIGQUIT)
    assert request.signal == signal.SIGQUIT
    assert signal.getsignal(signal.SIGQUIT) == begun


def move(folder: Path, reason: str | None, simulator: bool = False) -> None:
    """A session of a robot, as a stage leaves it."""
    log = AuditLog(folder / AUDIT_NAME, simulator=simulator)
    if reason is not None:
        log.stop(reason)
    log.close()


def make_robot_stage(
    folder: Path, error: Exception | None, reason: str | None, steps: int = 1, **session: Any
) -> Stage:
    """A stage in which a robot moves, and then something goes wrong."""

    def body(work: Work) -> None:
        work.start_afresh()
        if not session:
            work.begin_moving()
        move(work.folder, reason, **session)
        if error is not None:
            raise error

    return dataclasses.replace(make_stage(folder, WalkConfig(steps=steps)), body=body)


def run(stage: Stage) -> None:
    run_stage(stage, Machine(tensorboard=False), PlainProgress(sys.stderr, sys.stdout, 1e9))


@pytest.mark.parametrize(
    "error", [SpecError("nan"), ConfigError("a typo"), RunError("x"), RobotFault("x"), OSError("x")]
)
@pytest.mark.parametrize("reason", [None, "fire"])
def test_no_error_takes_the_audit_log_of_a_real_robot_away(
    tmp_path: Path, error: Exception, reason: str | None
) -> None:
    partial = tmp_path / "walk.partial"
    with pytest.raises(type(error)):
        run(make_robot_stage(tmp_path / "walk", error, reason))
    assert look_at_log(partial / AUDIT_NAME) == (True, reason)
    (partial / "left").write_text("over")
    with pytest.raises(type(error)):
        run(make_robot_stage(tmp_path / "walk", error, None))
    assert not (partial / "left").exists()
    assert look_at_log(partial / AUDIT_NAME) == (True, reason)


def test_the_audit_log_of_a_simulator_goes_with_its_work(tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        run(make_robot_stage(tmp_path / "walk", SpecError("nan"), "fire", simulator=True))
    assert not (tmp_path / "walk.partial").exists()


def test_a_work_folder_without_its_key_keeps_the_audit_log_of_a_real_robot(tmp_path: Path) -> None:
    partial = tmp_path / "walk.partial"
    with pytest.raises(SpecError):
        run(make_robot_stage(tmp_path / "walk", SpecError("nan"), "fire"))
    (partial / KEY_NAME).unlink()
    (partial / "left").write_text("over")
    with pytest.raises(SpecError):
        run(make_robot_stage(tmp_path / "walk", SpecError("nan"), None, steps=7))
    assert look_at_log(partial / AUDIT_NAME) == (True, "fire")
    assert not (partial / "left").exists()


def test_a_log_that_was_taken_away_is_a_stop_that_no_error_ends(tmp_path: Path) -> None:
    partial = tmp_path / "walk.partial"
    with pytest.raises(SpecError):
        run(make_robot_stage(tmp_path / "walk", SpecError("nan"), "fire"))
    for name in (AUDIT_NAME, LATCH_NAME):
        (partial / name).unlink()

    def body(work: Work) -> None:
        raise ConfigError("a typo")

    stage = dataclasses.replace(make_stage(tmp_path / "walk", WalkConfig(steps=1)), body=body)
    with pytest.raises(ConfigError):
        run(stage)
    assert find_evidence(partial) == (True, "the audit log is missing, although an earlier session had one")
    with pytest.raises(RobotFault, match="got one stopped by 'the audit log is missing"):
        run(make_robot_stage(tmp_path / "walk", None, None, steps=7))


def test_other_options_do_not_lead_around_the_stop_of_a_real_robot(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    with pytest.raises(SpecError):
        run(make_robot_stage(folder, SpecError("nan"), "fire"))
    with pytest.raises(RobotFault, match=r"expected an armed robot, got one stopped by 'fire'.*supple rearm") as caught:
        run(make_robot_stage(folder, None, None, steps=7))
    assert "config.steps = 1 as before" in str(caught.value)
    assert "remove" not in str(caught.value)
    log = AuditLog(tmp_path / "walk.partial" / AUDIT_NAME)
    log.rearm(log.issue_codes(1)[0])
    log.close()
    with pytest.raises(RunError, match=r"expected config\.steps = 7, got 1 .*keep this audit log of a real robot"):
        run(make_robot_stage(folder, None, None, steps=7))
    run(make_robot_stage(folder, None, None))
    with pytest.raises(RunError, match=r"expected config\.steps = 7, got 1 .*keep this audit log of a real robot"):
        run(make_robot_stage(folder, None, None, steps=7))
    (folder / "stage.json").write_text("{}")
    with pytest.raises(RunError, match=r"keep .*walk, which has the audit log of a real robot, and pass another --out"):
        run(make_robot_stage(folder, None, None))


def test_work_knows_that_a_real_robot_was_opened_for_it(tmp_path: Path) -> None:
    known: list[bool] = []

    def body(work: Work) -> None:
        known.append(work.begin_moving())
        raise KeyboardInterrupt

    stage = dataclasses.replace(make_stage(tmp_path / "walk", WalkConfig()), body=body)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(stage)
    assert known == [False, True]
