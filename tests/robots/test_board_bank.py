from typing import NamedTuple

import numpy as np
import pytest

from supple.errors import SpecError
from supple.robots.board_bank import BOARD_ID, MAX_ID, BoardBank, make_board_tasks


class Square(NamedTuple):
    root: np.ndarray
    square: np.ndarray


def make_bank() -> tuple[BoardBank[Square], list[int]]:
    drawn: list[int] = []

    def draw(one: int) -> Square:
        drawn.append(one)
        return Square(np.array(one), np.array([one * one, -one]))

    return BoardBank(draw, 7), drawn


def as_goals(*ids: float) -> np.ndarray:
    return np.array(ids, np.float32)[:, None]


def test_a_board_is_drawn_once_and_found_again() -> None:
    bank, drawn = make_bank()
    for ids in ((3, 7, 3), (1, 2, 3, 4, 5), (9, 1), (7,)):
        slots = bank.slots(as_goals(*ids), "here")
        assert bank.arrays.root[slots].tolist() == list(ids)
        assert bank.arrays.square[slots].tolist() == [[one * one, -one] for one in ids]
    assert drawn == [7, 3, 1, 2, 4, 5, 9]


def test_no_goals_are_no_slots() -> None:
    bank, drawn = make_bank()
    assert bank.slots(np.zeros((0, 1), np.float32), "here").shape == (0,)
    assert drawn == [7]


def test_a_part_of_a_board_is_refused() -> None:
    bank, drawn = make_bank()
    with pytest.raises(SpecError, match=r"^here: expected board ids as whole numbers, got 2.5;"):
        bank.slots(as_goals(1, 2.5), "here")
    assert drawn == [7]


def test_every_id_is_a_float32() -> None:
    assert np.float32(MAX_ID) == MAX_ID
    assert np.float32(MAX_ID) - np.float32(MAX_ID - 1) == 1.0
    assert BOARD_ID.high[0] == MAX_ID


def test_published_numbers_of_tasks() -> None:
    tasks = make_board_tasks("boards", 32, 64)
    assert tasks.name == "boards-32-64"
    assert [task.goal for task in tasks.train] == [(float(one),) for one in range(32)]
    assert [task.goal for task in tasks.test] == [(float(one),) for one in range(100, 164)]
    assert tasks.test[-1].name == "board_163"


def test_many_train_boards_leave_the_test_boards_out() -> None:
    tasks = make_board_tasks("boards", 200, 10)
    train = [int(task.goal[0]) for task in tasks.train]
    assert train == [*range(100), *range(110, 210)]


@pytest.mark.parametrize(("train", "test", "split"), [(0, 1, "train"), (1, 0, "test")])
def test_an_empty_split_is_refused(train: int, test: int, split: str) -> None:
    with pytest.raises(SpecError, match=f"at least one {split} task"):
        make_board_tasks("boards", train, test)
