"""Rings of transitions: each task's own, in order, without padding; and what an episode looks like in them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.collect import Episodes
from supple.meta.replay import Steps, TaskReplay, steps_of
from supple.meta.space import ChoiceSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.robots.bandits import BernoulliBanditBatch
from supple.skills.gaussian import Gaussian

CPU = torch.device("cpu")


def make_steps(number: Tensor) -> Steps:
    """Transitions (R, K) that all carry their number."""
    one = number.float()
    return Steps(one[..., None], one[..., None] + 0.25, one + 0.5, torch.zeros_like(one), one[..., None] + 1.0)


def stored(replay: TaskReplay, task: int) -> set[float]:
    drawn = replay.sample(torch.tensor([task]), 300, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.reward, drawn.observation[..., 0] + 0.5)
    torch.testing.assert_close(drawn.action[..., 0], drawn.observation[..., 0] + 0.25)
    torch.testing.assert_close(drawn.next_observation, drawn.observation + 1.0)
    return set(drawn.observation.flatten().tolist())


@settings(max_examples=40, deadline=None)
@given(
    rounds=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=2), min_size=1, max_size=6
    )
)
def test_a_ring_holds_the_latest_transitions_of_its_own_task(rounds: list[list[tuple[int, int]]]) -> None:
    # rows of (task, length): no more than 2 x 3 transitions of a task at once, which is the capacity
    replay, expected, number = TaskReplay(3, 6, 1, 1, CPU), {0: [], 1: [], 2: []}, 1
    for rows in rounds:
        numbers = torch.arange(number, number + 3 * len(rows)).view(len(rows), 3)
        number += 3 * len(rows)
        valid = torch.arange(3) < torch.tensor([length for _, length in rows])[:, None]
        replay.add(torch.tensor([task for task, _ in rows]), make_steps(numbers), valid)
        for row, (task, length) in enumerate(rows):
            expected[task] += numbers[row, :length].tolist()
    assert replay.count().tolist() == [min(len(expected[task]), 6) for task in range(3)]
    for task, numbers_of_task in expected.items():
        if numbers_of_task:
            assert stored(replay, task) == set(numbers_of_task[-6:])


def test_a_ring_goes_round_more_than_once() -> None:
    """Eleven transitions in a ring of three: the last three are left."""
    replay = TaskReplay(1, 3, 1, 1, CPU)
    for number in range(1, 12):
        replay.add(torch.tensor([0]), make_steps(torch.tensor([[number]])), torch.ones(1, 1, dtype=torch.bool))
    assert stored(replay, 0) == {9.0, 10.0, 11.0}


def test_a_cleared_task_is_empty_and_the_others_are_not() -> None:
    replay = TaskReplay(2, 4, 1, 1, CPU)
    replay.add(torch.tensor([0, 1]), make_steps(torch.tensor([[1, 2], [3, 4]])), torch.ones(2, 2, dtype=torch.bool))
    replay.clear(torch.tensor([0]))
    assert replay.count().tolist() == [0, 2]
    nothing = replay.sample(torch.tensor([0, 1]), 5, torch.Generator().manual_seed(0))
    assert not nothing.observation[0].any()
    assert set(nothing.observation[1].flatten().tolist()) == {3.0, 4.0}
    replay.add(torch.tensor([0]), make_steps(torch.tensor([[7]])), torch.ones(1, 1, dtype=torch.bool))
    assert stored(replay, 0) == {7.0}


def test_more_at_once_than_a_ring_holds_is_refused() -> None:
    replay = TaskReplay(1, 3, 1, 1, CPU)
    with pytest.raises(ConfigError, match="replay: expected at most 3 transitions of one task at once, got 4"):
        replay.add(torch.tensor([0, 0]), make_steps(torch.ones(2, 2)), torch.ones(2, 2, dtype=torch.bool))


def test_a_buffer_goes_on_where_it_was_saved() -> None:
    one, other = TaskReplay(2, 3, 1, 1, CPU), TaskReplay(2, 3, 1, 1, CPU)
    one.add(torch.tensor([1]), make_steps(torch.tensor([[1, 2]])), torch.ones(1, 2, dtype=torch.bool))
    other.load_state({name: value.clone() for name, value in one.state().items()})
    for replay in (one, other):
        replay.add(torch.tensor([1]), make_steps(torch.tensor([[3, 4]])), torch.ones(1, 2, dtype=torch.bool))
        assert stored(replay, 1) == {2.0, 3.0, 4.0}
    with pytest.raises(KeyError):
        other.load_state({})


def test_transitions_of_episodes_by_hand() -> None:
    # two rows, at most two decisions; the first row ends its task with its first
    loc = torch.tensor([1.0, 2.0, 7.0])[:, None].expand(2, 3, 2)  # each decision has a prior of its own
    prior = Gaussian(loc, torch.full((2, 3, 2), 0.5))
    episodes = Episodes(
        observation=torch.arange(12.0).view(2, 3, 2),
        latent=torch.tensor([[[1.5, 0.0], [9.0, 9.0]], [[1.0, 2.0], [0.0, 0.0]]]),
        prior=prior,
        reward=torch.tensor([[1.0, 0.0], [2.0, 3.0]]),
        length=torch.tensor([1, 2]),
        terminated=torch.tensor([True, False]),
        steps=torch.tensor([1, 2]),
        path=torch.zeros(2, 2, 2),
    )
    steps, valid = steps_of(episodes, UnitSpace(PointBatch(1).spec))
    assert valid.tolist() == [[True, False], [True, True]]
    # u = (z - 1) / .5, then (z - 2) / .5; zero in the padding
    assert steps.action.tolist() == [[[1.0, -2.0], [0.0, 0.0]], [[0.0, 2.0], [-4.0, -4.0]]]
    assert steps.terminated.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert steps.reward.tolist() == [[1.0, 0.0], [2.0, 3.0]]
    assert steps.observation[1].tolist() == [[6.0, 7.0], [8.0, 9.0]]
    assert steps.next_observation[1].tolist() == [[8.0, 9.0], [10.0, 11.0]]


def test_choices_are_stored_as_networks_read_them() -> None:
    nothing = Gaussian(torch.zeros(1, 3, 0), torch.zeros(1, 3, 0))
    episodes = Episodes(
        observation=torch.zeros(1, 3, 1),
        latent=torch.tensor([[[2.0], [0.0]]]),
        prior=nothing,
        reward=torch.zeros(1, 2),
        length=torch.tensor([2]),
        terminated=torch.tensor([False]),
        steps=torch.tensor([2]),
        path=torch.zeros(1, 2, 1),
    )
    steps, _ = steps_of(episodes, ChoiceSpace(BernoulliBanditBatch(1, arms=3, episode_steps=2).spec))
    assert steps.action.tolist() == [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]
