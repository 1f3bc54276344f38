"""The stage runner: config and inputs go in, a folder published by rename comes out, at most once per key.

    <out>.partial/            work folder; survives a kill
        key.json              what this work is for, and whether a real robot was opened for it
        checkpoint/           the newest two checkpoints
        metrics.jsonl, tensorboard/, artefacts; audit.jsonl and its latch where robots moved
    <out>/                    published: all of it, plus stage.json, minus key.json and checkpoint/

The same key again is skipped or, where the work was cut off, resumed. Another key in the same place is refused. Two
processes with the same folder take turns by a file lock that dies with its process; the second one finds the work done.
Work that fails before its first checkpoint is removed, but for what tells of a real robot; see `evidence.py`.
"""

import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Literal, NamedTuple

from ..bounds import NonNegative, Seed, Threads, require_bounds
from ..errors import RobotFault, RunError, SuppleError
from .checkpoints import Checkpoint, CheckpointFolder, Load, Save
from .evidence import AUDIT_NAME, EVIDENCE, KEY_NAME, MOVED, advise_again, find_evidence
from .folder import (
    compute_beside,
    compute_outputs,
    compute_path_digest,
    copy_published,
    describe_unfit,
    find_published,
    load_json,
    lock_folder,
    name_partial,
    publish,
    refuse_other_key,
    refuse_place,
    shorten,
    verify_stage,
    write_record,
)
from .interrupt import PROMISE, Interrupted, StopRequest
from .keys import (
    RECORD_NAME,
    compute_code_digest,
    compute_digest,
    compute_plain,
    compute_record_digest,
    compute_versions,
    find_first_difference,
    load_record,
)
from .metrics import METRICS_NAME, MetricsLog, compute_means, compute_metrics_digest
from .progress import ProgressView, format_duration

SCHEMA = 2
Status = Literal["made", "resumed", "skipped", "reused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where and how the stage runs; only the device class is part of the key."""

    device: Literal["cpu", "cuda"] = "cpu"
    threads: Threads = 1
    checkpoint_period: NonNegative = 60.0
    """Seconds between two checkpoints; it decides how much a kill costs, never what comes out."""
    tensorboard: bool = True
    command: str = ""
    """The command that resumes this run."""
    accept_code_change: bool = False
    """Whether a folder that differs only in the code version is skipped or resumed as if it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage and all that decides its result."""

    name: str
    folder: Path = Path()
    """Where the result is published."""
    config: Any
    """A frozen dataclass, defaults filled in."""
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Files, folders or stage folders that the stage reads, by role."""
    seed: Seed
    module: str | tuple[str, ...]
    """File of the stage below the package root, and files of what it was given; they and what they import are the code
    version."""
    libraries: Sequence[str]
    """Distributions whose version may change the result."""
    body: Callable[["Work"], None]
    """Writes the artefacts into `work.folder`."""


class StageResult(NamedTuple):
    """What became of a stage."""

    folder: Path
    key: str
    status: Status
    output_digest: str
    wall_s: float


class Work:
    """What a stage's body sees: its folder, seed, inputs, checkpoint, metrics and progress."""

    def __init__(self, stage: Stage, machine: Machine, folder: Path, view: ProgressView, stop: StopRequest) -> None:
        self.stage = stage
        self.machine = machine
        # a driver or a user's file may change the working directory while a robot moves
        self.folder = folder.absolute()
        self.seed = stage.seed
        self.inputs = {role: path.absolute() for role, path in stage.inputs.items()}
        self.view = view
        self.resumed = False
        self._stop = stop
        self._checkpoints: CheckpointFolder | None = None
        self._metrics: MetricsLog | None = None

    def restore(self, save: Save, load: Load) -> Checkpoint | None:
        """Says how checkpoints are written and read, and returns the newest one; without one, clears left-overs.

        Raises:
            RunError: all checkpoints are damaged.
        """
        self._checkpoints = CheckpointFolder(self.folder / "checkpoint", save, load)
        checkpoint = self._checkpoints.load_newest()
        for warning in self._checkpoints.warnings:
            self.view.note(warning)
        kept = ("checkpoint", METRICS_NAME, "tensorboard") if checkpoint else ()
        self._clear(kept)
        if checkpoint is None:
            return None
        self._open_metrics(checkpoint.metrics_bytes, checkpoint.wall_s)
        self.resumed = True
        return checkpoint

    def start_afresh(self) -> None:
        """Removes what an earlier, interrupted run has left; for stages that cannot be resumed halfway."""
        self._clear(())

    def _clear(self, kept: Sequence[str]) -> None:
        clear_folder(self.folder, (KEY_NAME, *kept))

    def begin_moving(self) -> bool:
        """Notes that a real robot is opened for this work; returns whether one was before, so that it has an audit log.

        Raises:
            RunError: What the work is for cannot be read.
        """
        path = self.folder / KEY_NAME
        found = load_json(path)
        if MOVED not in found:
            write_record(path, {**found, MOVED: True})
        return MOVED in found or self.resumed

    def _open_metrics(self, keep_bytes: int, wall_s: float) -> MetricsLog:
        self._metrics = MetricsLog(self.folder, keep_bytes, wall_s, self.machine.tensorboard)
        return self._metrics

    @property
    def stop(self) -> StopRequest:
        """Whether somebody asked to stop; `consume` looks at it, and a body that does not consume has to."""
        return self._stop

    def stop_if_asked(self) -> None:
        """For bodies that do not `consume`: ends the stage here where somebody asked to stop.

        Raises:
            Interrupted: a signal asked to stop.
        """
        if self._stop:
            raise Interrupted(self.stage.name, 0, self._stop.signal or 2)

    @property
    def metrics(self) -> MetricsLog:
        """The log of this stage, opened at first use."""
        return self._metrics or self._open_metrics(0, 0.0)

    def consume(
        self,
        steps: Iterable[Mapping[str, Any] | Sequence[Mapping[str, Any]]],
        *,
        total: float | None,
        unit: str = "step",
        start: float = 0,
        state: Callable[[], tuple[Any, Mapping[str, Any]]] | None = None,
    ) -> None:
        """Runs a generator of metrics to its end: logs, shows, saves checkpoints, stops when asked to.

        Args:
            steps: yields metrics with the key `step`, or a list of them that belong to one step.
            total: the last step, for the time left; None where unknown.
            unit: what a step is, singular.
            start: the step from which a resumed stage goes on.
            state: `learner.state`; without it the stage cannot be resumed and starts again after a kill.

        Raises:
            Interrupted: a signal asked to stop; the checkpoint is saved.
        """
        self.view.start(self.stage.name, total, start, unit)
        saved = begun = monotonic()
        step = start
        log = self.metrics
        then = "is saved" if state is not None else "later begins anew"
        self._stop.promise = f"{self.stage.name} stops when its first {unit} is done, and {then}"
        for metrics in steps:
            records = [log.append(item) for item in ([metrics] if isinstance(metrics, Mapping) else metrics)]
            step = records[-1]["step"]
            self.view.update(step, compute_means(records))
            due = monotonic() - saved >= self.machine.checkpoint_period
            if state is not None and (due or self._stop):
                self.save(state)
                saved = monotonic()
            if self._stop:
                raise Interrupted(self.stage.name, step, self._stop.signal or 2)
            took, begun = monotonic() - begun, monotonic()
            each = f", each of which takes about {format_duration(took)}" if took >= 1.0 else ""
            self._stop.promise = f"{self.stage.name} stops when this {unit} is done{each}, and {then}"
        self._stop.promise = PROMISE

    def save(self, state: Callable[[], tuple[Any, Mapping[str, Any]]]) -> None:
        """Writes a checkpoint now; see `consume` for those that time decides.

        Raises:
            RunError: `restore` was not called.
        """
        if self._checkpoints is None:
            raise RunError(f"{self.stage.name}: expected restore() before a checkpoint, got none; call it in the body")
        tensors, facts = state()
        self._checkpoints.save(tensors, facts, self.metrics.sync(), self.metrics.wall_s)

    def close(self) -> None:
        """Flushes the metrics."""
        if self._metrics is not None:
            self._metrics.close()


def compute_fields(stage: Stage, machine: Machine) -> dict[str, Any]:
    """All that the key depends on, as JSON.

    Raises:
        ConfigError: a value is out of its bounds, or cannot be written.
        RunError: see `compute_path_digest`.
    """
    for part in (stage, machine):
        require_bounds(part)
    return {
        "stage": stage.name,
        "config": compute_plain(stage.config, stage.name),
        "seed": stage.seed,
        "inputs": compute_inputs(stage),
        "device": machine.device,
        "versions": compute_versions(stage.libraries),
        "code": compute_code_digest(stage.module),
    }


def compute_inputs(stage: Stage) -> dict[str, str]:
    """Digest of each input by its role; see `compute_path_digest` for errors."""
    return {role: compute_path_digest(path) for role, path in stage.inputs.items()}


def run_stage(
    stage: Stage, machine: Machine, view: ProgressView, stop: StopRequest | None = None, reuse: Sequence[Path] = ()
) -> StageResult:
    """Makes the stage's folder, unless it is there already.

    Args:
        stage: what to run.
        machine: device, threads, checkpoint period.
        view: who is told.
        stop: set from a signal handler to stop at the next step.
        reuse: published stage folders elsewhere; one with the same key is taken over by hard links.

    Raises:
        RunError: the folder belongs to another key, is damaged, cannot be written or lies where it would change
            something else; or an input is not as it was published.
        Interrupted: a signal asked to stop.
    """
    request = StopRequest() if stop is None else stop
    refuse_place(stage.folder, stage.inputs.values())
    fields = compute_fields(stage, machine)
    if machine.accept_code_change:
        fields = adopt_code([stage.folder, name_partial(stage.folder), *reuse], fields, view)
    key = compute_digest(fields)
    with lock_folder(stage.folder, view.note, request):
        found = find_published(stage.folder, fields)
        if found is None:
            for other in reuse:
                if copy_published(other, stage.folder, key):
                    found = load_record(stage.folder)
                    return finish(stage, found, "reused", view)
            for other in reuse:
                view.note(f"{stage.name}: {describe_unfit(other, stage.folder, fields)}")
            return finish(stage, *make(stage, machine, view, request, fields, key), view)
        return finish(stage, found, "skipped", view)


def finish(stage: Stage, record: Mapping[str, Any], status: Status, view: ProgressView) -> StageResult:
    """Tells the view and returns the result."""
    wall_s = float(record["clock"]["wall_s"])
    view.finish(stage.name, status, str(stage.folder), wall_s)
    return StageResult(stage.folder, str(record["key"]), status, str(record["output_digest"]), wall_s)


@contextmanager
def keep_directory() -> Iterator[None]:
    """The working directory is afterwards what it was, whatever code of a user did with it."""
    here = os.open(".", os.O_PATH)  # which works in a folder that was removed, too
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def make(
    stage: Stage, machine: Machine, view: ProgressView, stop: StopRequest, fields: dict[str, Any], key: str
) -> tuple[dict[str, Any], Status]:
    """Runs the body in the work folder and publishes it."""
    partial = name_partial(stage.folder)
    resumed = open_partial(partial, fields)
    record_path = partial / RECORD_NAME
    if not record_path.is_file():
        work = Work(stage, machine, partial, view, stop)
        started = datetime.now(UTC)
        begin = monotonic()
        try:
            with keep_directory():
                stage.body(work)
            wall_s = work.metrics.wall_s if work.resumed else monotonic() - begin
        except SuppleError as error:
            work.close()
            worked = isinstance(error, RobotFault) or (partial / "checkpoint").is_dir()
            if not worked and find_evidence(partial) is None:  # a stop must not end with whatever else went wrong
                shutil.rmtree(partial)
            raise
        finally:
            work.close()
        clock = {
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_s": round(wall_s, 3),
            "threads": machine.threads,
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "command": machine.command,
        }
        changed = [role for role, digest in compute_inputs(stage).items() if digest != fields["inputs"][role]]
        if changed:
            raise RunError(
                f"{stage.inputs[changed[0]]}: expected no change while {stage.name} reads it, got one; "
                f"{advise_again(partial, 'run again')}"
            )
        write_record(record_path, compute_record(stage, partial, fields, key, clock))
    else:
        verify_stage(partial)
    record = load_record(partial)
    shutil.rmtree(partial / "checkpoint", ignore_errors=True)
    (partial / KEY_NAME).unlink(missing_ok=True)
    publish(partial, stage.folder)
    return record, "resumed" if resumed else "made"


def adopt_code(folders: Sequence[Path], fields: dict[str, Any], view: ProgressView) -> dict[str, Any]:
    """The fields with the code version of the first folder that differs in nothing else."""
    for folder in folders:
        found = load_fields(folder)
        if found is not None and found != fields and {**found, "code": ""} == {**fields, "code": ""}:
            view.note(f"{folder}: taken as it is, although the code has changed since")
            return found
    return fields


def load_fields(folder: Path) -> dict[str, Any] | None:
    """What a published or a work folder is for; None where it does not say."""
    if (folder / RECORD_NAME).is_file():
        return dict(load_record(folder)["fields"])
    if not (folder / KEY_NAME).is_file():
        return None
    return {name: value for name, value in load_json(folder / KEY_NAME).items() if name != MOVED}


def clear_folder(folder: Path, kept: Sequence[str] = ()) -> None:
    """Removes all from a work folder but some top-level names, and what `evidence.py` keeps."""
    for path in folder.iterdir():
        if path.name not in (*EVIDENCE, *kept):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def open_partial(partial: Path, fields: Mapping[str, Any]) -> bool:
    """Creates the work folder, or checks that it is for the same fields; True where it was there.

    Raises:
        RunError: it belongs to other fields.
        RobotFault: ... and its robot is stopped.
    """
    found, evidence = load_fields(partial), find_evidence(partial)
    if found is None:
        if os.path.lexists(partial) and not partial.is_dir():
            raise RunError(f"{partial}: expected a work folder or nothing, got a file; remove it or pass another --out")
        if evidence is None:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_record(partial / KEY_NAME, dict(fields))
            return False
        clear_folder(partial)
        write_record(partial / KEY_NAME, {**fields, MOVED: True})
        return True
    difference = find_first_difference(found, fields)
    if difference is not None and evidence is not None and evidence.stop_reason is not None:
        name, old, _ = difference
        raise RobotFault(
            f"{partial}: expected an armed robot, got one stopped by '{evidence.stop_reason}'; inspect the robot, then "
            f"re-arm it (supple rearm {partial / AUDIT_NAME}), and then pass {name} = {shorten(old)} as before, or "
            "another --out"
        )
    kept = f"or remove {partial} to give up its work" if evidence is None else "and keep this audit log of a real robot"
    refuse_other_key(partial, found, fields, f"pass another --out, {kept}")
    return True


def compute_record(
    stage: Stage, folder: Path, fields: dict[str, Any], key: str, clock: dict[str, Any]
) -> dict[str, Any]:
    """The content of stage.json."""
    outputs = compute_outputs(folder)
    metrics = folder / METRICS_NAME
    inputs = {role: {"path": str(path), "digest": fields["inputs"][role]} for role, path in stage.inputs.items()}
    record = {
        "schema": SCHEMA,
        "stage": stage.name,
        "module": stage.module,
        "key": key,
        "fields": fields,
        "inputs": inputs,
        "outputs": outputs,
        "output_digest": compute_digest(outputs),
        "metrics_digest": compute_metrics_digest(metrics) if metrics.is_file() else None,
        "beside": compute_beside(folder),
        "clock": clock,
    }
    return {**record, "record_digest": compute_record_digest(record)}
