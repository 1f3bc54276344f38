"""Steps of a control loop, by hand: which are whole, and where episodes are cut."""

import numpy as np

from supple.datasets.bags.control_steps import cut_steps, find_whole

# reset at 0; commands at 1, 3, 5; steps end at 2, 4, 6
STEP, COMMAND, SEEN = np.array([2, 4, 6]), np.array([1, 3, 5]), np.array([0, 2, 4, 6])


def test_a_step_is_whole_with_all_its_parts() -> None:
    assert find_whole(STEP, [SEEN, SEEN], [COMMAND], [STEP]).tolist() == [True, True, True]
    # a command at the time of its observation, as in a simulation
    assert find_whole(STEP, [SEEN], [SEEN[:3]], [STEP]).all()


def test_what_is_missing_is_said_of_its_step_alone() -> None:
    # the second step has no command, no reward, and one topic of observations where it led
    assert find_whole(STEP, [SEEN], [COMMAND[[0, 2]]], [STEP]).tolist() == [True, False, True]
    assert find_whole(STEP, [SEEN], [COMMAND], [STEP[[0, 2]]]).tolist() == [True, False, True]
    # the third step would begin where one topic is older than the other
    assert find_whole(STEP, [SEEN, SEEN[[0, 1, 3]]], [COMMAND], [STEP]).tolist() == [True, False, False]
    assert find_whole(STEP, [np.zeros(0, np.int64)], [COMMAND], [STEP]).tolist() == [False] * 3


def cut(
    index: list[int], *, ended: int = -1, cut_off: int = -1, broken: int = -1
) -> list[tuple[list[int], bool, bool]]:
    count = np.arange(len(index))
    flags = (count == ended, count == cut_off)
    found = cut_steps(count != broken, np.array(index, np.float64), *flags)
    return [(one.rows.tolist(), one.terminated, one.truncated) for one in found]


def test_episodes_are_runs_of_steps_that_follow_each_other() -> None:
    assert cut([0, 1, 2]) == [([0, 1, 2], False, True)]
    assert cut([0, 1, 0, 1], ended=1) == [([0, 1], True, False), ([2, 3], False, True)]
    assert cut([0, 1, 0, 1], cut_off=1) == [([0, 1], False, True), ([2, 3], False, True)]
    # a new episode without the end of the one before; and a step that a damaged log lost
    assert cut([0, 1, 0]) == [([0, 1], False, True), ([2], False, True)]
    assert cut([0, 1, 3, 4]) == [([0, 1], False, True), ([2, 3], False, True)]
    assert cut([0, 1, 2, 3], broken=1) == [([0], False, True), ([2, 3], False, True)]
    assert cut([]) == []
