"""The variational objective of variBAD by hand: sums over all beliefs and the whole trial, KL to the last belief."""

from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from supple.errors import ConfigError
from supple.meta.inference.config import VaeConfig, VaribadConfig
from supple.meta.inference.varibad import (
    belief_valid,
    elbo,
    posterior_kl,
    reward_log_prob,
    state_log_prob,
    sum_reconstruction,
)
from supple.skills.gaussian import Gaussian


def make_posterior(trials: int = 3, beliefs: int = 5, latent: int = 4) -> Gaussian:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(2, trials, beliefs, latent, generator=generator, dtype=torch.float64)
    return Gaussian(draw[0], (0.5 * draw[1]).exp())


def test_the_divergence_is_to_the_last_belief_and_first_to_the_standard_normal() -> None:
    posterior = make_posterior()
    found = posterior_kl(posterior)
    for place in range(5):
        now = distributions.Normal(posterior.loc[:, place], posterior.scale[:, place])
        zero = torch.zeros_like(now.loc)
        before = distributions.Normal(zero, zero + 1.0)
        if place:
            before = distributions.Normal(posterior.loc[:, place - 1], posterior.scale[:, place - 1])
        expected = distributions.kl_divergence(now, before).sum(-1)
        torch.testing.assert_close(found[:, place], expected)
    assert bool((found > 0).all())


def test_a_belief_that_does_not_move_costs_nothing_after_the_first() -> None:
    still = Gaussian(torch.full((1, 4, 1), 2.0), torch.ones(1, 4, 1))
    # KL(N(2, 1) || N(0, 1)) = 2^2 / 2
    assert posterior_kl(still).tolist() == [[2.0, 0.0, 0.0, 0.0]]


def test_the_divergence_moves_the_belief_before_it_as_well() -> None:
    loc = torch.tensor([[[1.0], [3.0]]], requires_grad=True)
    posterior_kl(Gaussian(loc, torch.ones_like(loc)))[0, 1].backward()
    # KL(N(3, 1) || N(1, 1)) = (3 - 1)^2 / 2: -2 for the one before, 2 for this one
    assert loc.grad is not None
    assert loc.grad.flatten().tolist() == [-2.0, 2.0]


def test_every_belief_is_asked_for_the_whole_trial_past_and_future() -> None:
    # belief t (3 of them) on decision i (2 of them): 10 t + i; all of 0, 1, 10, 11, 20, 21 count: 63
    log_prob = torch.tensor([[[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]]], requires_grad=True)
    valid = torch.ones(1, 2, dtype=torch.bool)
    total = sum_reconstruction(log_prob, belief_valid(valid), valid)
    assert total.tolist() == [63.0]
    total.sum().backward()
    assert log_prob.grad is not None
    assert bool((log_prob.grad == 1.0).all())


def test_padding_counts_neither_as_a_belief_nor_as_a_decision() -> None:
    # the second trial has one decision of two: beliefs 0 and 1 predict decision 0 only: 0 + 10
    log_prob = torch.tensor([[[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]]]).expand(2, -1, -1).clone()
    log_prob[1, 2] = float("nan")
    log_prob[1, :, 1] = float("nan")
    valid = torch.tensor([[True, True], [True, False]])
    believed = belief_valid(valid)
    assert believed.tolist() == [[True, True, True], [True, True, False]]
    assert sum_reconstruction(log_prob, believed, valid).tolist() == [63.0, 10.0]


def test_the_bound_is_a_sum_over_beliefs_less_the_weighted_divergences() -> None:
    posterior = Gaussian(torch.tensor([[[2.0], [2.0], [6.0]]]), torch.ones(1, 3, 1))
    # divergences 2, 0 and (6 - 2)^2 / 2 = 8
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    assert elbo(torch.tensor([-5.0]), posterior, everywhere, 0.5).tolist() == [-10.0]
    short = torch.tensor([[True, True, False]])
    assert elbo(torch.tensor([-5.0]), posterior, short, 0.5).tolist() == [-6.0]


def test_a_longer_trial_has_a_larger_bound_in_size() -> None:
    """Sums, not means: T decisions with log probability -1 each under T + 1 beliefs are -(T + 1) T."""
    for decisions in (1, 4, 9):
        log_prob = -torch.ones(2, decisions + 1, decisions)
        valid = torch.ones(2, decisions, dtype=torch.bool)
        total = sum_reconstruction(log_prob, belief_valid(valid), valid)
        assert total.tolist() == [-float((decisions + 1) * decisions)] * 2


@pytest.mark.parametrize("reward", [-0.1, 0.0, 0.5, 1.0])
def test_bernoulli_rewards_are_events_above_nought(reward: float) -> None:
    logit = torch.tensor([-2.0, 0.3], dtype=torch.float64)
    value = torch.tensor(reward, dtype=torch.float64)
    event = torch.full_like(logit, float(reward > 0.0))
    expected = distributions.Bernoulli(logits=logit).log_prob(event)
    torch.testing.assert_close(reward_log_prob(logit, value, "bernoulli"), expected)


def test_gaussian_predictions_are_the_density_of_unit_variance_but_for_its_constant() -> None:
    prediction = torch.tensor([0.5, -1.0, 3.0], dtype=torch.float64)
    reward = torch.tensor(1.0, dtype=torch.float64)

    def density(mean: Tensor, value: Tensor) -> Tensor:
        return distributions.Normal(mean, torch.ones_like(mean)).log_prob(value)

    constant = density(torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(reward_log_prob(prediction, reward, "gaussian"), density(prediction, reward) - constant)
    state = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    expected = (density(prediction, state) - constant).sum()
    torch.testing.assert_close(state_log_prob(prediction, state), expected)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"latent": 0}, "VaeConfig.latent: expected a whole number from 1 to .*, got 0"),
        ({"kl_weight": -0.1}, "VaeConfig.kl_weight: expected a number from 0 to .*, got -0.1"),
        ({"elbo_terms": 0}, "VaeConfig.elbo_terms: expected a whole number from 1 to .*, got 0"),
        ({"decoder": "table"}, "VaeConfig.decoder: expected one of cells, state, got 'table'"),
        ({"decoder_hidden": ()}, "VaeConfig.decoder_hidden: expected 1 to 64 values, got 0"),
        ({"reward_model": "poisson"}, "VaeConfig.reward_model: expected one of bernoulli, gaussian, got 'poisson'"),
        ({"reward_of": "past"}, "VaeConfig.reward_of: expected one of next, transition, got 'past'"),
    ],
)
def test_a_model_that_cannot_train_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        VaeConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"trials": 0}, "trials: expected a whole number from 1 to .*, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number above 0 to .*, got nan"),
        ({"discount": 1.1}, "discount: expected a number from 0 to 1, got 1.1"),
        ({"entropy_weight": -1.0}, "entropy_weight: expected a number from 0 to .*, got -1.0"),
        ({"policy_hidden": (8, 0)}, r"policy_hidden\[1\]: expected a whole number from 1 to 16384, got 0"),
    ],
)
def test_a_policy_that_cannot_train_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=f"VaribadConfig.{match}"):
        VaribadConfig(**changes)
