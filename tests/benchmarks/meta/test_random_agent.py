"""Random choices: uniform over names, the prior elsewhere; nothing is learned, and the state is the generator."""

import numpy as np
import pytest
import torch

from benchmarks.meta.random_agent import RandomAgent
from supple.errors import RunError
from supple.meta.collect import Seen
from supple.meta.space import ActionSpace, ChoiceSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.robots.bandits import BernoulliBanditBatch


def make_seen(space: ActionSpace, rows: int) -> Seen:
    observation = torch.zeros(rows, 2)
    return Seen(observation, space.prior_of(observation), np.arange(rows), torch.zeros(rows))


def test_choices_are_uniform() -> None:
    space = ChoiceSpace(BernoulliBanditBatch(1, arms=4).spec)
    chosen = RandomAgent(space).act(make_seen(space, 4000))
    assert chosen.shape == (4000, 1)
    counts = torch.bincount(chosen.long().ravel(), minlength=4)
    assert len(counts) == 4
    # 1000 expected of each; 4 standard deviations are 4 sqrt(4000 x .25 x .75) = 110
    assert int((counts - 1000).abs().max()) < 110


def test_other_spaces_give_their_prior() -> None:
    space = UnitSpace(PointBatch(1).spec)
    seen = make_seen(space, 4000)
    seen = seen._replace(prior=seen.prior._replace(loc=seen.prior.loc + 3.0, scale=seen.prior.scale * 0.5))
    latent = RandomAgent(space).act(seen)
    # 4 standard errors of the mean: 4 x .5 / sqrt(4000) = .032
    assert latent.mean(0).tolist() == pytest.approx([3.0, 3.0], abs=0.032)
    assert latent.std(0).tolist() == pytest.approx([0.5, 0.5], abs=0.03)


def test_a_state_goes_on_exactly() -> None:
    space = UnitSpace(PointBatch(1).spec)
    seen = make_seen(space, 3)
    agent, other = RandomAgent(space, rollouts=3, seed=1), RandomAgent(space, seed=2)
    first = agent.act(seen)
    other.load_state(*agent.state())
    assert torch.equal(agent.act(seen), other.act(seen))
    assert not torch.equal(agent.act(seen), first)
    assert agent.rollouts == 3
    with pytest.raises(RunError, match="random agent: expected a whole state, got 'generator'"):
        agent.load_state({}, {})
