"""What a run folder holds, finished or not: its stages with their fields, metrics and timings, and what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import RunError
from ...strict_json import load_json, load_json_lines
from ..folder import require_published
from ..metrics import load_metrics
from ..run_files import RUN_NAME

MAP = "map-logs"
OPTIONAL = ("explore", "ingest-explored", MAP)
STAGES = ("generate", "ingest", "extract", *OPTIONAL[:2], "meta-train", MAP, "export", "adapt")
"""In the order of the chain."""
AGAIN = "remove it and run again"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """One stage of a run, as it stands on disk."""

    name: str
    folder: Path
    finished: bool
    """False while it is under way or was cut off."""
    fields: dict[str, Any]
    """All that its key depends on."""
    record: dict[str, Any] = field(default_factory=dict)
    """stage.json; empty where it is not finished."""
    metrics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def wall_s(self) -> float:
        """Wall-clock time spent so far, seconds."""
        if self.finished:
            return float(self.record["clock"]["wall_s"])
        return float(self.metrics[-1].get("wall_s", 0.0)) if self.metrics else 0.0

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return dict(self.fields["config"])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run folder."""

    folder: Path
    stages: dict[str, StageView]
    """By name, in the order of the chain; only those that have begun."""
    preset: str
    """Empty where the run says none."""
    from_log: bool = False
    """Whether the data are a log of the robot; then nothing is generated."""

    def find(self, name: str) -> StageView | None:
        """A finished stage, or None."""
        stage = self.stages.get(name)
        return stage if stage is not None and stage.finished else None

    @property
    def missing(self) -> list[str]:
        """Stages that are not finished; logs need not come along, nor be made by exploring."""
        expected = [name for name in STAGES[self.from_log :] if name not in OPTIONAL or name in self.stages]
        return [name for name in expected if self.find(name) is None]


def load_run(folder: Path) -> RunView:
    """Reads a run folder; finished stages must be as they were published.

    Raises:
        RunError: it is no run folder, or a record in it is damaged.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: expected a run folder, got nothing there; make one with: supple run demo")
    if (folder / "stage.json").is_file():
        remedy = f"pass the run folder that it is in, such as {folder.parent}"
        raise RunError(f"{folder}: expected a run folder, got the folder of one stage; {remedy}")
    stages = {name: stage for name in STAGES if (stage := load_stage(folder, name)) is not None}
    if not stages:
        raise RunError(
            f"{folder}: expected a run folder with a stage such as {STAGES[0]}/, got none; "
            "pass the folder that `supple run` made"
        )
    run = load_json(folder / RUN_NAME, dict, RunError, AGAIN) if (folder / RUN_NAME).is_file() else {}
    return RunView(
        folder=folder,
        stages=stages,
        preset=str(run.get("preset", "")),
        from_log="from_log" in run,
    )


def load_stage(run: Path, name: str) -> StageView | None:
    """One stage, published or in its work folder; None where it has not begun."""
    folder = run / name
    if folder.is_dir():
        record = require_published(folder)
        path = folder / "metrics.jsonl"
        metrics = load_metrics(path) if path.is_file() else []
        return StageView(
            name=name, folder=folder, finished=True, fields=record["fields"], record=record, metrics=metrics
        )
    partial = run / f"{name}.partial"
    if not (partial / "key.json").is_file():
        return None
    fields = load_json(partial / "key.json", dict, RunError, AGAIN)
    return StageView(
        name=name, folder=partial, finished=False, fields=fields, metrics=load_growing(partial / "metrics.jsonl")
    )


def load_growing(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics.jsonl that another process may be writing."""
    return load_json_lines(path, RunError, AGAIN, growing=True) if path.is_file() else []


def list_digests(stage: StageView) -> dict[str, str]:
    """What identifies a stage's work: key, code, output and inputs, each a sha256."""
    digests = {"key": str(stage.record.get("key", "")), "code": str(stage.fields.get("code", ""))}
    digests["output"] = str(stage.record.get("output_digest", ""))
    inputs: Mapping[str, Any] = stage.fields.get("inputs", {})
    digests |= {f"input {role}": str(digest) for role, digest in inputs.items()}
    return {name: digest for name, digest in digests.items() if digest}
