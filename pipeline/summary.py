"""What a run came to: `summary.json` as flat records, and the same as a table."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RunError
from .folder import load_json, write_record
from .keys import PACKAGE_ROOT
from .stages.adapt import SUCCESS_NAME

SUMMARY_NAME = "summary.json"
MEANINGS = {
    "before": "before adaptation",
    "explore": "while exploring",
    "inferred": "after inference",
    "finetune": "while fine-tuning",
    "adapted": "after fine-tuning",
    "learning": "while adapting",
    "learned": "after adaptation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What every record of a run says beside its number."""

    benchmark: str
    seed: int
    tasks: str
    command: str
    wall_s: float
    """All stages together, seconds."""

    def to_json(self) -> dict[str, Any]:
        """The columns of a record."""
        return {
            "benchmark": self.benchmark,
            "seeds": [self.seed],
            "tasks": self.tasks,
            "command": self.command,
            "commit": find_commit(PACKAGE_ROOT),
            "wall_s": round(self.wall_s, 1),
            "machine": f"{os.cpu_count()} cores",
        }


def load_success(folder: Path) -> list[dict[str, Any]]:
    """The success records of an `adapt` folder.

    Raises:
        RunError: they are missing or damaged.
    """
    record = load_json(folder / SUCCESS_NAME)
    if not isinstance(record.get("success"), list):
        raise RunError(f"{folder / SUCCESS_NAME}: expected a list of success records, got none; adapt again")
    return list(record["success"])


def make_summary(success: Sequence[Mapping[str, Any]], facts: RunFacts) -> list[dict[str, Any]]:
    """One flat record per number, in the schema of docs/results."""
    return [{**facts.to_json(), **record} for record in success]


def save_summary(folder: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Writes summary.json; an older one is replaced."""
    path = folder / SUMMARY_NAME
    write_record(path, [dict(record) for record in records])
    return path


def make_table(success: Sequence[Mapping[str, Any]]) -> str:
    """Success by stage, or the return where nobody tells success, with 95 % intervals over tasks.

    The return stands beside success where it says something else, as in a kitchen whose tasks are done in part.
    """
    measure = "success" if any(record["metric"].startswith("success") for record in success) else "return"
    means = {(record["metric"], record["at"]["episode"]): record["mean"] for record in success}
    returned = {at: mean for (metric, at), mean in means.items() if metric == "return_stochastic"}
    beside = any(abs(mean - means.get((f"{measure}_stochastic", at), mean)) > 1e-6 for at, mean in returned.items())
    head = ("", "after episode", measure, "95 % interval", "greedy", *(["return"] if beside else []), "n")
    rows: list[tuple[str, ...]] = [head]
    for record in success:
        if record["metric"] != f"{measure}_stochastic":
            continue
        episode = record["at"]["episode"]
        rows.append(
            (
                MEANINGS[record["method"]],
                str(episode),
                f"{record['mean']:.2f}",
                f"{record['low']:.2f} to {record['high']:.2f}",
                f"{means[f'{measure}_greedy', episode]:.2f}",
                *([f"{returned[episode]:.2f}"] if beside else []),
                str(record["n"]),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def find_commit(root: Path) -> str:
    """The commit that is checked out at `root`, shortened; "unknown" outside a repository."""
    command = ["git", "-C", str(root), "rev-parse", "--show-prefix", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    prefix, _, commit = done.stdout.partition("\n")
    return commit.strip()[:10] if done.returncode == 0 and not prefix else "unknown"
