"""Tasks that are boards: the goal vector holds the number that a board is drawn from.

Stadie, Yang, Houthooft, Chen, Duan, Wu, Abbeel, Sutskever, "Some Considerations on Learning to Explore via
Meta-Reinforcement Learning", 2018 (arXiv 1803.01118), Appendix C, train on 32 boards and test on 64 others, each with a
seed of its own. Here the seeds are 0 .. 31 and 100 .. 163; a public re-implementation also tests on 100 .. 163.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count, islice
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .array_robots import require_whole
from .robot import Float
from .spec import ArraySpec, Axis
from .task import Task, TaskSet

MAX_ID = 2**24 - 1
"""Largest board id; float32 holds every whole number up to it."""
FIRST_TEST_ID = 100
"""The test boards start here and the train boards leave them out."""
BOARD_ID = ArraySpec("goal", (Axis("board", "1", 0.0, float(MAX_ID)),))
"""The goal of a robot whose tasks are boards."""

BoardT = TypeVar("BoardT", bound=NamedTuple)


def make_board_tasks(name: str, num_train: int, num_test: int) -> TaskSet:
    """Boards 0, 1, ... to train on and boards 100, 101, ... to test on; the first never take a number of the second.

    Raises:
        SpecError: A split is empty.
    """
    test = range(FIRST_TEST_ID, FIRST_TEST_ID + num_test)
    train = islice((number for number in count() if number not in test), num_train)
    return TaskSet(f"{name}-{num_train}-{num_test}", _board_tasks(train), _board_tasks(test))


def _board_tasks(numbers: Iterable[int]) -> tuple[Task, ...]:
    return tuple(Task(f"board_{number}", (float(number),)) for number in numbers)


class BoardBank(Generic[BoardT]):
    """Boards side by side, so that one array operation looks up each row's own; drawn when first asked for, and kept.

    Args:
        draw: Makes the board of an id: a named tuple of arrays whose shapes and types are the same for all ids.
        first: Some id to learn the shapes from.
    """

    def __init__(self, draw: Callable[[int], BoardT], first: int) -> None:
        self._draw = draw
        board = draw(first)
        self._slot = {first: 0}
        self.arrays = self._map(lambda array: np.asarray(array)[None].copy(), board)
        """The fields of all boards, each with a leading axis of boards; replaced when the bank grows."""

    def slots(self, goals: Float, where: str) -> NDArray[np.int64]:
        """Where boards stand along the leading axis of `arrays`, shape (r,).

        Args:
            goals: Board ids within the limits of `BOARD_ID`, shape (r, 1).
            where: Who asks, for the message.

        Raises:
            SpecError: A goal is not a whole number.
            ConfigError: A board cannot be drawn.
        """
        ids = require_whole(goals[:, 0], "board ids", where).tolist()
        known = self._slot
        return np.array([known[one] if one in known else self._add(one) for one in ids], np.int64)

    def _add(self, board_id: int) -> int:
        board, slot = self._draw(board_id), len(self._slot)
        if slot == len(self.arrays[0]):
            self.arrays = self._map(lambda array: np.concatenate([array, np.zeros_like(array)]), self.arrays)
        for array, value in zip(self.arrays, board, strict=True):
            array[slot] = value
        self._slot[board_id] = slot
        return slot

    @staticmethod
    def _map(change: Callable[[Any], NDArray[Any]], board: BoardT) -> BoardT:
        return board._make(change(array) for array in board)
