"""Contexts of few episodes, with data that names itself."""

import pytest
import torch

from supple.meta.collect import Episodes
from supple.meta.simpl.context import context_of
from supple.skills.gaussian import Gaussian

K = 4


def make_round(index: int, lengths: list[int], ended: list[bool]) -> Episodes:
    """Task n's episode of this round holds 1000 n + 100 round + decision everywhere."""
    at = (1000.0 * torch.arange(len(lengths))[:, None] + 100.0 * index + torch.arange(K + 1))[..., None]
    empty = torch.zeros(0)
    length = torch.tensor(lengths)
    return Episodes(at, at[:, :-1], Gaussian(at, at), at[:, :-1, 0], length, torch.tensor(ended), length, empty)


ROUNDS = [
    make_round(1, [4, 2], [False, True]),
    make_round(2, [1, 3], [True, False]),
    make_round(3, [3, 3], [True, True]),
]


@pytest.mark.parametrize("seed", range(5))
def test_every_episodes_end_and_only_its_own_transitions(seed: int) -> None:
    context = context_of(ROUNDS, 9, torch.Generator().manual_seed(seed))
    number = context.observation[..., 0]
    assert number[:, :3].tolist() == [[103, 200, 302], [1101, 1202, 1302]]
    # position i is of episode i mod 3
    assert ((number % 1000) // 100).tolist() == [[1, 2, 3] * 3] * 2
    assert (number // 1000).tolist() == [[0] * 9, [1] * 9]
    assert torch.equal(context.latent[..., 0], number)
    assert torch.equal(context.reward, number)
    assert torch.equal(context.next_observation[..., 0], number + 1)
    ends = torch.tensor([200, 302, 1101, 1302])
    assert torch.equal(context.terminated, torch.isin(number, ends).float())


def test_other_transitions_are_uniform() -> None:
    context = context_of(ROUNDS[:1], 4001, torch.Generator().manual_seed(0))
    counts = context.observation[0, 1:, 0].unique(return_counts=True)[1]
    assert ((counts - 1000.0).square() / 1000.0).sum() < 16.3  # chi-square, 3 degrees of freedom, one in a thousand
