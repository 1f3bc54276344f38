"""Tasks and task sets: what a robot is asked for, with train and test tasks disjoint unless a set says otherwise."""

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

_NAME = "name"
"""Column with the names of tasks."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task: a goal in the units of the robot's goal spec."""

    name: str
    goal: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Train and test tasks of one robot.

    Raises:
        SpecError: A split is empty, a goal is not finite, goals differ in length; or the test tasks are held out, and
            a goal stands twice, or a test goal is also a train goal.
    """

    name: str
    train: tuple[Task, ...]
    test: tuple[Task, ...]
    held_out: bool = True
    """False where a publication trains and tests on the same tasks, which measures adaptation alone."""

    def __post_init__(self) -> None:
        for split, tasks in (("train", self.train), ("test", self.test)):
            if not tasks:
                raise SpecError(f"task set '{self.name}': expected at least one {split} task, got none; add goals")
        width = len(self.train[0].goal)
        for task in (*self.train, *self.test):
            if len(task.goal) != width or not all(map(math.isfinite, task.goal)):
                raise SpecError(
                    f"task set '{self.name}': expected {width} finite numbers per goal, got {task.goal} for "
                    f"'{task.name}'; correct the goal"
                )
        if self.held_out:
            self._require_distinct()

    def _require_distinct(self) -> None:
        seen: dict[tuple[float, ...], Task] = {}
        tasks = (*self.train, *self.test)
        for task, goal in zip(tasks, map(tuple, goals_of(tasks).tolist()), strict=True):  # as robots get them
            first = seen.setdefault(goal, task)
            if first is not task:
                same = "" if first.goal == task.goal else f", which is {first.goal} in float32,"
                raise SpecError(
                    f"task set '{self.name}': expected distinct goals, got {task.goal}{same} for both '{first.name}' "
                    f"and '{task.name}'; train and test tasks must be disjoint"
                )


def goals_of(tasks: Sequence[Task]) -> NDArray[np.float32]:
    """Goals as one array, shape (N, G); infinite where float32 has no such number."""
    with np.errstate(over="ignore"):
        return np.array([task.goal for task in tasks], np.float32)


def load_tasks_csv(path: str | os.PathLike[str], axis_names: Sequence[str]) -> tuple[Task, ...]:
    """Reads tasks from a CSV file with one column per goal axis and an optional `name` column.

    Another column is refused: it may be a part of the goal that the robot does not know. One without a name and without
    values, as spreadsheets leave it, is none. A goal may stand twice, under two names; a name is `task<index>` where
    the file has none.

    Args:
        path: The file, with a header line.
        axis_names: Names of the goal axes, in the robot's order.

    Raises:
        SourceError: The file is missing or not text, a column is missing, unknown or stands twice, a line has too many
            or too few values, a value is not a finite number, a name stands twice, or there are no rows.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"{path}: expected a CSV file of tasks, got nothing there; check the path")
    try:
        reader = csv.reader(path.read_text(encoding="utf-8-sig").split("\n"), skipinitialspace=True, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if "".join(cells).strip()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: expected CSV text in UTF-8, got {error}; save it as CSV") from error
    header = lines[0][1] if lines else []
    if any(header.count(name) != 1 for name in axis_names):
        raise SourceError(
            f"{path}: expected columns {list(axis_names)}, got {header}; add the header line '{','.join(axis_names)}'"
        )
    _require_columns(header, [cells for _, cells in lines[1:]], [*axis_names, _NAME], f"{path}:{lines[0][0]}")
    tasks: list[Task] = []
    lines_of: dict[str, int] = {}
    for number, cells in lines[1:]:
        if len(cells) != len(header):  # a decimal comma would otherwise be read as another goal
            raise SourceError(
                f"{path}:{number}: expected {len(header)} values, got {len(cells)} {cells}; correct the line"
            )
        row = dict(zip(header, cells, strict=True))
        name = row.get(_NAME) or f"task{len(tasks)}"
        if lines_of.setdefault(name, number) != number:  # results are told by name
            made = "" if row.get(_NAME) else ", for a line without a name"
            raise SourceError(
                f"{path}:{number}: expected another name than in line {lines_of[name]}, got '{name}'{made}; give each "
                "task a name of its own"
            )
        tasks.append(Task(name, _parse_goal(row, axis_names, f"{path}:{number}")))
    if not tasks:
        raise SourceError(f"{path}: expected at least one task below the header, got none; add a line per goal")
    return tuple(tasks)


def _require_columns(header: Sequence[str], rows: Sequence[Sequence[str]], known: Sequence[str], where: str) -> None:
    for column, name in enumerate(header):
        unused = not name and not any(cells[column] for cells in rows if len(cells) > column)
        if header.index(name) < column and not unused:
            raise SourceError(f"{where}: expected each column once, got '{name}' in column {column + 1}, too; drop it")
        if name not in known and not unused:
            raise SourceError(
                f"{where}: expected the columns {', '.join(known)}, got '{name}' in column {column + 1}; drop it, or "
                "choose the robot whose goals have it"
            )


def _parse_goal(row: dict[str, str], axis_names: Sequence[str], where: str) -> tuple[float, ...]:
    texts = [row[name] for name in axis_names]
    try:
        goal = tuple(float(text) for text in texts)
    except ValueError:
        goal = (math.nan,)
    if any("_" in text for text in texts) or not all(math.isfinite(value) for value in goal):
        raise SourceError(f"{where}: expected finite numbers in {list(axis_names)}, got {texts}; correct the line")
    return goal


def save_tasks_csv(path: str | os.PathLike[str], tasks: Sequence[Task], axis_names: Sequence[str]) -> None:
    """Writes the file that `load_tasks_csv` reads; names keep neither line breaks nor spaces at their ends."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_NAME, *axis_names])
        writer.writerows([" ".join(task.name.split()), *(repr(float(value)) for value in task.goal)] for task in tasks)
