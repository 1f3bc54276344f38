"""Task sets drawn from a distribution over goals, or split off a finite list of goals.

Train and test goals come from two generators spawned from one seed, so that neither depends on how many of the other
are drawn. A goal that was drawn before is drawn again: many draws in float32 meet by chance. `TaskSet` refuses a goal
that stands twice, so that the splits are disjoint or there is no task set. Where a publication trains and tests on the
same few tasks, `repeat_tasks` says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ConfigError
from .robot import Float
from .task import Task, TaskSet

MOST_DRAWS = 50
"""Rounds in which goals that were drawn before are drawn again."""
Draw = Callable[[int, np.random.Generator], Float]
"""Draws a number of goals, shape (count, G)."""


def draw_tasks(name: str, draw: Draw, num_train: int, num_test: int, seed: int) -> TaskSet:
    """Draws tasks from a distribution.

    Args:
        name: Name of the family; the task set's name adds the numbers and the seed.
        draw: The distribution.
        num_train: Train tasks, at least 1.
        num_test: Test tasks, at least 1.
        seed: Seed of both splits.

    Raises:
        SpecError: A split is empty, or there seem to be fewer goals than tasks.
    """
    train, test = (np.random.default_rng(source) for source in np.random.SeedSequence(seed).spawn(2))
    seen: set[tuple[float, ...]] = set()
    test_goals = _draw_distinct(draw, num_test, test, seen)
    return _task_set(name, _draw_distinct(draw, num_train, train, seen), test_goals, seed)


def _draw_distinct(draw: Draw, count: int, rng: np.random.Generator, seen: set[tuple[float, ...]]) -> Float:
    """Goals that are not `seen`, which they are added to; after `MOST_DRAWS` rounds those that are left stand twice."""
    goals = draw(count, rng)
    left = list(range(len(goals)))
    for _ in range(MOST_DRAWS):
        again = []
        for index in left:
            goal = tuple(goals[index].tolist())
            again += [index] if goal in seen else []
            seen.add(goal)
        if not again:
            break
        left, goals[again] = again, draw(len(again), rng)
    return goals


class DrawsTasks(ABC):
    """A family of one variant of a task, after which it is named; its tasks are drawn, see `draw_tasks`."""

    __slots__ = ()
    variant: Any
    """With a `name`."""
    num_train: int
    num_test: int
    task_seed: int

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        name: str = self.variant.name
        return name.replace("_", "-")

    @abstractmethod
    def draw_goals(self, count: int, rng: np.random.Generator) -> Float:
        """Goals of tasks, shape (count, G)."""

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`."""
        return draw_tasks(self.variant.name, self.draw_goals, self.num_train, self.num_test, self.task_seed)


def split_tasks(name: str, goals: Float, num_train: int, num_test: int, seed: int) -> TaskSet:
    """Divides a finite list of distinct goals, shape (N, G); the test goals are the same for any `num_train`.

    Raises:
        ConfigError: There are fewer goals than tasks.
        SpecError: A split is empty.
    """
    if num_train + num_test > len(goals):
        raise ConfigError(
            f"{name} tasks: expected at most {len(goals)} tasks, got {num_train} train + {num_test} test; ask for fewer"
        )
    order = np.random.default_rng(seed).permutation(len(goals))
    return _task_set(name, goals[order[num_test : num_test + num_train]], goals[order[:num_test]], seed)


def repeat_tasks(name: str, train: Float, test: Float) -> TaskSet:
    """Goals, shapes (N, G) and (M, G), that are trained and tested on alike; a train goal may stand more than once.

    Raises:
        SpecError: A split is empty.
    """
    return TaskSet(name, _tasks("train", train), _tasks("test", test), held_out=False)


def _task_set(name: str, train: Float, test: Float, seed: int) -> TaskSet:
    return TaskSet(f"{name}-{len(train)}-{len(test)}-{seed}", _tasks("train", train), _tasks("test", test))


def _tasks(split: str, goals: Float) -> tuple[Task, ...]:
    return tuple(Task(f"{split}{index}", tuple(goal)) for index, goal in enumerate(goals.tolist()))
