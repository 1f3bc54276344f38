"""Tasks and task sets: what a robot is asked for, with train and test tasks disjoint by construction."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError, SpecError


@dataclass(frozen=True, slots=True)
class Task:
    """One task: a goal in the units of the robot's goal spec."""

    name: str
    goal: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Train and test tasks of one robot.

    Raises:
        SpecError: A split is empty, a goal stands twice, or a test goal is also a train goal.
    """

    name: str
    train: tuple[Task, ...]
    test: tuple[Task, ...]

    def __post_init__(self) -> None:
        for split, tasks in (("train", self.train), ("test", self.test)):
            if not tasks:
                raise SpecError(f"task set '{self.name}': expected at least one {split} task, got none; add goals")
        seen: dict[tuple[float, ...], str] = {}
        for task in (*self.train, *self.test):
            if task.goal in seen:
                raise SpecError(
                    f"task set '{self.name}': expected distinct goals, got {task.goal} for both '{seen[task.goal]}' "
                    f"and '{task.name}'; train and test tasks must be disjoint"
                )
            seen[task.goal] = task.name


def goals_of(tasks: Sequence[Task]) -> NDArray[np.float32]:
    """Goals as one array, shape (N, G)."""
    return np.array([task.goal for task in tasks], np.float32)


def load_tasks_csv(path: str | os.PathLike[str], axis_names: Sequence[str]) -> tuple[Task, ...]:
    """Reads tasks from a CSV file with one column per goal axis and an optional `name` column.

    Args:
        path: The file, with a header line.
        axis_names: Names of the goal axes, in the robot's order.

    Raises:
        SourceError: The file is missing, a column is missing, a value is not a finite number, or there are no rows.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"{path}: expected a CSV file of tasks, got nothing there; check the path")
    tasks = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        missing = [name for name in axis_names if name not in (reader.fieldnames or [])]
        if missing:
            raise SourceError(
                f"{path}: expected columns {list(axis_names)}, got {reader.fieldnames}; add the header line "
                f"'{','.join(axis_names)}'"
            )
        for row in reader:
            try:
                goal = tuple(float(row[name]) for name in axis_names)
            except (TypeError, ValueError):
                goal = (math.nan,)
            if not all(math.isfinite(value) for value in goal):
                raise SourceError(
                    f"{path}:{reader.line_num}: expected finite numbers in {list(axis_names)}, "
                    f"got {[row[name] for name in axis_names]}; correct the line"
                )
            tasks.append(Task(row.get("name") or f"task{len(tasks)}", goal))
    if not tasks:
        raise SourceError(f"{path}: expected at least one task below the header, got none; add a line per goal")
    return tuple(tasks)


def save_tasks_csv(path: str | os.PathLike[str], tasks: Sequence[Task], axis_names: Sequence[str]) -> None:
    """Writes the file that `load_tasks_csv` reads."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *axis_names])
        writer.writerows([task.name, *task.goal] for task in tasks)
