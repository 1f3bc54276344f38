import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.skills.gaussian import Gaussian, kl, kl_per_dim, log_prob, split, standard_like

LOC = st.floats(-3.0, 3.0, width=32)
SCALE = st.floats(0.125, 4.0, width=32)


def gaussian(loc: list[float], scale: list[float]) -> Gaussian:
    return Gaussian(torch.tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))


def test_kl_by_hand() -> None:
    p, q = gaussian([1.0, 0.0], [2.0, 1.0]), gaussian([0.0, 0.0], [1.0, 1.0])
    # log(1/2) + (4 + 1)/2 - 1/2 = 2 - log 2; equal Gaussians: 0
    assert kl_per_dim(p, q).tolist() == pytest.approx([2.0 - math.log(2.0), 0.0])
    assert kl(p, q).item() == pytest.approx(2.0 - math.log(2.0))
    # the other way round: log(2/1) + (1 + 1)/8 - 1/2
    assert kl(q, p).item() == pytest.approx(math.log(2.0) + 0.25 - 0.5)


def test_log_prob_by_hand() -> None:
    # dim 0: 3 is two scales away: -2 - log 1 - log(2 pi)/2; dim 1: at the mean: -log 2 - log(2 pi)/2
    value = log_prob(gaussian([1.0, 5.0], [1.0, 2.0]), torch.tensor([3.0, 5.0], dtype=torch.float64))
    assert value.item() == pytest.approx(-2.0 - math.log(2.0) - math.log(2.0 * math.pi))


@settings(max_examples=50, deadline=None)
@given(LOC, SCALE, LOC, SCALE)
def test_closed_forms_agree_with_torch(loc: float, scale: float, other_loc: float, other_scale: float) -> None:
    p, q = gaussian([loc], [scale]), gaussian([other_loc], [other_scale])
    p_torch, q_torch = torch.distributions.Normal(*p), torch.distributions.Normal(*q)
    expected = torch.distributions.kl_divergence(p_torch, q_torch).item()
    assert kl(p, q).item() == pytest.approx(expected, abs=1e-9)
    assert kl(p, q).item() >= -1e-9
    assert log_prob(p, q.loc).item() == pytest.approx(p_torch.log_prob(q.loc).item(), abs=1e-9)


def test_samples_have_the_moments_and_come_from_the_generator() -> None:
    p = Gaussian(torch.full((20_000, 2), 3.0), torch.full((20_000, 2), 0.5))
    before = torch.get_rng_state()
    first = p.sample(torch.Generator().manual_seed(7))
    assert torch.equal(first, p.sample(torch.Generator().manual_seed(7)))
    assert torch.equal(before, torch.get_rng_state())
    assert first.mean(0).tolist() == pytest.approx([3.0, 3.0], abs=0.02)
    assert first.std(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)


def test_samples_are_differentiable_and_detach_cuts() -> None:
    loc, scale = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    p = Gaussian(loc, scale)
    noise = torch.randn(3, generator=torch.Generator().manual_seed(0))
    p.sample(torch.Generator().manual_seed(0)).sum().backward()
    assert loc.grad is not None
    assert scale.grad is not None
    assert loc.grad.tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(scale.grad, noise)
    assert not p.detach().sample(torch.Generator().manual_seed(0)).requires_grad


def test_split_clamps_the_log_scale() -> None:
    p = split(torch.tensor([[1.0, 2.0, 3.0, -50.0, 0.0, 50.0]]))
    assert p.loc.tolist() == [[1.0, 2.0, 3.0]]
    assert p.scale[0].tolist() == pytest.approx([math.exp(-3.0), 1.0, math.exp(2.0)])


def test_standard_has_no_divergence_from_itself() -> None:
    standard = standard_like(gaussian([4.0], [3.0]))
    assert (standard.loc.item(), standard.scale.item(), kl(standard, standard).item()) == (0.0, 1.0, 0.0)
