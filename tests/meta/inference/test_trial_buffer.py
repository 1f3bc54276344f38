"""The ring of trials: the newest stay, padding is padding, and what was saved is drawn again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supple.meta.inference.trial_buffer import TrialBuffer
from supple.meta.inference.varibad_networks import Transitions

CPU = torch.device("cpu")


def make_trials(first: int, count: int, decisions: int = 2) -> Transitions:
    """Trial k has k in all its fields."""
    number = torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(count, decisions)
    wide = number[..., None]
    valid = torch.ones(count, decisions, dtype=torch.bool)
    return Transitions(wide.expand(-1, -1, 2), wide, number, wide.expand(-1, -1, 2), valid)


def make_buffer(trials: int) -> TrialBuffer:
    return TrialBuffer(trials, 3, 2, 1, CPU)


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_the_newest_trials_are_kept_whatever_came_before(capacity: int, sizes: list[int]) -> None:
    buffer, total = make_buffer(capacity), 0
    for size in sizes:
        buffer.add(make_trials(total, size))
        total += size
        assert len(buffer) == min(total, capacity)
    kept = buffer.state()[0]
    expected = set(range(max(0, total - capacity), total))
    for name in ("observation", "choice", "reward", "next_observation"):
        assert set(kept[name][:, 0].flatten().int().tolist()) == expected, name
    assert kept["valid"][:, :2].all()
    assert not kept["valid"][:, 2].any()
    assert not kept["reward"][:, 2].any()


def test_draws_are_whole_trials_of_all_that_are_kept() -> None:
    buffer = make_buffer(4)
    buffer.add(make_trials(1, 4))
    drawn = buffer.sample(200, torch.Generator().manual_seed(0))
    assert set(drawn.reward[:, 0].int().tolist()) == {1, 2, 3, 4}
    assert torch.equal(drawn.reward, drawn.observation[..., 0])
    assert torch.equal(drawn.reward, drawn.choice[..., 0])


def test_a_longer_trial_than_the_one_before_leaves_nothing_of_it() -> None:
    buffer = make_buffer(1)
    buffer.add(make_trials(1, 1, decisions=3))
    buffer.add(make_trials(2, 1, decisions=1))
    kept = buffer.state()[0]
    assert kept["reward"].tolist() == [[2.0, 0.0, 0.0]]
    assert kept["valid"].tolist() == [[True, False, False]]


@pytest.mark.parametrize("filled", [2, 7])
def test_a_saved_ring_goes_on_where_it_was(filled: int) -> None:
    one, other = make_buffer(4), make_buffer(4)
    one.add(make_trials(0, filled))
    other.load_state(*one.state())
    for buffer in (one, other):
        buffer.add(make_trials(100, 1))
    assert len(one) == len(other)
    generators = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(1))
    for mine, theirs in zip(one.sample(9, generators[0]), other.sample(9, generators[1]), strict=True):
        assert torch.equal(mine, theirs)
