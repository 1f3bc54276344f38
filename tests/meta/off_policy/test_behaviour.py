"""Densities of logged choices and ratios of skills."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from supple.meta.off_policy.behaviour import Limits, censored_log_prob, clone_behaviour, draw_folds
from supple.meta.off_policy.config import BehaviourConfig
from supple.meta.off_policy.skill_level import compute_skill_log_ratio, correct_posterior
from supple.skills.gaussian import Gaussian, log_prob

SHORT = BehaviourConfig(hidden=(16,), updates=400, batch=256, learning_rate=1e-2)


def test_a_censored_gaussian_by_hand() -> None:
    low, high = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, torch.inf])
    loc, scale = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 2.0])

    def of(first: float, second: float) -> float:
        return float(censored_log_prob(loc, scale, torch.tensor([first, second]), low, high))

    inside = -0.5 * 0.25 - np.log(2.0) - 0.5 * np.log(2.0 * np.pi)  # 1 of N(0, 2)
    assert of(1.0, 1.0) == pytest.approx(np.log(0.158655) + inside, abs=1e-4)  # Phi(-1)
    assert of(-1.0, 1.0) == pytest.approx(np.log(0.158655) + inside, abs=1e-4)
    assert of(0.5, 1.0) == pytest.approx(-0.125 - 0.918939 + inside, abs=1e-4)
    assert of(0.5, 5.0) < of(0.5, 1.0)  # an infinite limit cuts nothing
    # a ten-thousandth of the range before a limit is at it, also where the limit is 0
    low, high = torch.tensor([0.0, -torch.inf]), torch.tensor([2.0, 0.0])
    assert of(1e-4, -1.0) == pytest.approx(np.log(0.5) + inside, abs=1e-4)
    assert of(1e-3, -1.0) == pytest.approx(-0.918939 + inside, abs=1e-4)


def test_folds_are_of_even_sizes() -> None:
    folds = draw_folds(11, 5, np.random.default_rng(0))
    assert sorted(np.bincount(folds)) == [2, 2, 2, 2, 3]
    assert draw_folds(3, 5, np.random.default_rng(0)).max() == 2


def test_a_clone_finds_the_density_of_its_log() -> None:
    rng = np.random.default_rng(0)
    observation = rng.uniform(-1.0, 1.0, (4000, 1)).astype(np.float32)
    noise = rng.standard_normal((4000, 1)).astype(np.float32)
    choice = np.clip(observation + 0.5 * noise, -1.0, 1.0)
    fold = np.arange(4000) % 4
    found = clone_behaviour(
        observation,
        choice,
        fold,
        SHORT,
        torch.Generator().manual_seed(0),
        limits=Limits(np.array([-1.0]), np.array([1.0])),
    )
    true = censored_log_prob(
        *(torch.from_numpy(part) for part in (observation, np.full_like(choice, 0.5), choice)),
        torch.tensor([-1.0]),
        torch.tensor([1.0]),
    ).numpy()
    assert np.abs(found.log_prob - true).mean() < 0.1
    assert found.scale == pytest.approx(np.full((4000, 1), 0.5), abs=0.2)


def test_a_clone_of_choices() -> None:
    rng = np.random.default_rng(0)
    state = rng.integers(2, size=3000)
    choice = (rng.random(3000) < np.array([0.2, 0.9])[state]).astype(np.float32)[:, None]
    one_hot = np.eye(2, dtype=np.float32)[state]
    found = clone_behaviour(one_hot, choice, np.arange(3000) % 3, SHORT, torch.Generator().manual_seed(0), choices=2)
    for s, share in ((0, 0.2), (1, 0.9)):
        chosen = (state == s) & (choice[:, 0] == 1.0)
        assert np.exp(found.log_prob[chosen]) == pytest.approx(np.full(chosen.sum(), share), abs=0.06)


def test_an_episode_is_scored_by_the_fit_that_did_not_see_it() -> None:
    # each fold chooses what the other never does
    observation = np.zeros((200, 1), np.float32)
    fold = np.arange(200) % 2
    choice = (2.0 * fold - 1.0).astype(np.float32)[:, None]
    clone = clone_behaviour(observation, choice, fold, SHORT, torch.Generator().manual_seed(0))
    assert (clone.loc[:, 0] * choice[:, 0] < -0.5).all()
    alone = clone_behaviour(observation, choice, np.zeros(200, np.int64), SHORT, torch.Generator().manual_seed(0))
    assert alone.log_prob.mean() > clone.log_prob.mean() + 10.0


def make_gaussian(rng: np.random.Generator, low: float, high: float) -> Gaussian:
    loc, scale = rng.standard_normal((3, 4)), rng.uniform(low, high, (3, 4))
    return Gaussian(torch.from_numpy(loc), torch.from_numpy(scale))


def test_the_ratio_of_skills_is_the_mean_over_the_posterior() -> None:
    rng = np.random.default_rng(0)
    policy, behaviour, posterior = (make_gaussian(rng, *ends) for ends in ((0.3, 0.8), (1.0, 1.5), (0.2, 0.4)))
    drawn = posterior.loc + posterior.scale * torch.from_numpy(rng.standard_normal((400_000, 3, 4)))
    ratio = (log_prob(policy, drawn) - log_prob(behaviour, drawn)).exp().mean(0).log()
    assert compute_skill_log_ratio(policy, behaviour, posterior).numpy() == pytest.approx(ratio.numpy(), abs=0.05)


def test_a_skill_that_is_known_has_the_plain_ratio_and_equal_policies_have_one() -> None:
    rng = np.random.default_rng(0)
    policy, behaviour = make_gaussian(rng, 0.5, 1.0), make_gaussian(rng, 0.5, 1.0)
    known = Gaussian(policy.loc * 0.3, torch.full((3, 4), 1e-4, dtype=torch.float64))
    plain = log_prob(policy, known.loc) - log_prob(behaviour, known.loc)
    assert compute_skill_log_ratio(policy, behaviour, known).numpy() == pytest.approx(plain.numpy(), abs=1e-4)
    wide = make_gaussian(rng, 0.5, 1.0)
    assert compute_skill_log_ratio(policy, policy, wide).numpy() == pytest.approx(np.zeros(3), abs=1e-9)


def test_a_posterior_is_corrected_for_another_behaviour_than_the_prior() -> None:
    # the likelihood of the window alone: precision 4 - 1 = 3 at mean 4/3
    # under b = N(2, 1): precision 4, mean (4 + 2) / 4
    one = torch.ones(1)
    found = correct_posterior(Gaussian(one, 0.5 * one), Gaussian(0.0 * one, one), Gaussian(2.0 * one, one))
    assert float(found.loc) == pytest.approx(1.5)
    assert float(found.scale) == pytest.approx(0.5)
    same = correct_posterior(Gaussian(one, 0.5 * one), Gaussian(0.0 * one, one), Gaussian(0.0 * one, one))
    assert (float(same.loc), float(same.scale)) == pytest.approx((1.0, 0.5))
