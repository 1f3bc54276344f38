"""Checkpoints of one stage: the newest two, each written whole or not at all; the newest valid one is used.

A checkpoint holds what the learner's `state()` returned and where metrics.jsonl ended. How tensors become bytes is the
caller's choice (`save`, `load`), so that this module needs no torch.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import RunError, SuppleError
from .evidence import advise_again

Save = Callable[[Path, Any, dict[str, Any]], object]
"""(path, tensors, JSON facts) -> one file, published by rename."""
Load = Callable[[Path], tuple[Any, dict[str, Any]]]
"""path -> (tensors, JSON facts); raises a SuppleError where the file is damaged."""

KEPT = 2
_NAME = re.compile(r"checkpoint-(\d{12})\.safetensors")


class Checkpoint(NamedTuple):
    """The state from which a stage goes on."""

    tensors: Any
    facts: dict[str, Any]
    """What the learner's `state()` gave beside the tensors."""
    metrics_bytes: int
    """Length of metrics.jsonl when the checkpoint was written."""
    wall_s: float
    """Wall-clock time spent until then, seconds."""


class CheckpointFolder:
    """The checkpoint/ folder inside a stage's work folder."""

    def __init__(self, folder: Path, save: Save, load: Load) -> None:
        self.folder = folder
        self._save = save
        self._load = load
        self.warnings: list[str] = []

    def _find(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        found = [(match, path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return sorted((int(match.group(1)), path) for match, path in found)

    def save(self, tensors: Any, facts: Mapping[str, Any], metrics_bytes: int, wall_s: float) -> Path:
        """Writes the next checkpoint and drops all but the newest two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = self._find()
        path = self.folder / f"checkpoint-{(found[-1][0] + 1 if found else 0):012d}.safetensors"
        stage = {"metrics_bytes": metrics_bytes, "wall_s": wall_s}
        self._save(path, tensors, {"learner": dict(facts), "stage": stage})
        for _, old in found[: max(0, len(found) + 1 - KEPT)]:
            old.unlink()
        return path

    def load_newest(self) -> Checkpoint | None:
        """The newest checkpoint that loads; damaged ones are named in `warnings`. None where there is none at all.

        Raises:
            RunError: there are checkpoints, and none of them loads.
        """
        found = self._find()
        for _, path in reversed(found):
            try:
                tensors, facts = self._load(path)
                stage = facts["stage"]
                return Checkpoint(tensors, dict(facts["learner"]), int(stage["metrics_bytes"]), float(stage["wall_s"]))
            except (SuppleError, KeyError, TypeError) as error:
                self.warnings.append(f"{path}: damaged checkpoint left out ({error})")
                path.unlink()
        if found:
            raise RunError(
                f"{self.folder}: expected a checkpoint that loads, got {len(found)} damaged; "
                f"{advise_again(self.folder.parent, 'start this stage again')}"
            )
        return None
