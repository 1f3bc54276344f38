"""Distributions against torch's own, and draws against their probabilities."""

import math

import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, Normal, kl_divergence

from supple.meta.distribution import Categorical, Distribution, detach, entropy, kl, log_prob, mode, sample
from supple.skills.gaussian import Gaussian


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussians() -> tuple[Gaussian, Gaussian]:
    draw = torch.randn((4, 5, 3), generator=generator())
    return Gaussian(draw[0], draw[1].exp()), Gaussian(draw[2], draw[3].exp())


def choices() -> tuple[Categorical, Categorical]:
    draw = torch.randn((2, 5, 4), generator=generator())
    return Categorical(draw[0]), Categorical(draw[1])


def torch_of(distribution: Distribution) -> Independent | TorchCategorical:
    if isinstance(distribution, Gaussian):
        return Independent(Normal(distribution.loc, distribution.scale), 1)
    return TorchCategorical(logits=distribution.logits)


@pytest.mark.parametrize("pair", [gaussians(), choices()], ids=["gaussian", "choices"])
def test_equals_torchs_own(pair: tuple[Distribution, Distribution]) -> None:
    p, q = pair
    value = sample(p, generator())
    plain = value if isinstance(p, Gaussian) else value.squeeze(-1)
    torch.testing.assert_close(log_prob(q, value), torch_of(q).log_prob(plain))
    torch.testing.assert_close(entropy(p), torch_of(p).entropy())
    torch.testing.assert_close(kl(p, q), kl_divergence(torch_of(p), torch_of(q)))


def test_choices_are_drawn_by_their_probability() -> None:
    p = Categorical(torch.tensor([0.1, 0.6, 0.3]).log().expand(20_000, 3))
    drawn = sample(p, generator())
    assert drawn.shape == (20_000, 1)
    frequency = torch.bincount(drawn.long().squeeze(-1), minlength=3) / 20_000
    assert frequency.tolist() == pytest.approx([0.1, 0.6, 0.3], abs=4.0 * math.sqrt(0.25 / 20_000))
    assert mode(p).unique().tolist() == [1.0]


def test_a_draw_is_not_differentiable_and_detach_cuts() -> None:
    logits = torch.zeros(3, requires_grad=True)
    assert not sample(Categorical(logits), generator()).requires_grad
    loc = torch.zeros(2, requires_grad=True)
    assert not sample(Gaussian(loc, torch.ones(2)), generator()).requires_grad
    cut = detach(Gaussian(loc, loc.exp()))
    assert isinstance(cut, Gaussian)
    assert not cut.scale.requires_grad
    assert mode(cut).tolist() == [0.0, 0.0]
