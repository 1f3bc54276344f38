"""Samples of tasks: order of rows, advantages by hand, padding, rounds."""

from typing import Any

import pytest
import torch
from torch import Tensor

from supple.meta.advantage import compute_features, fit_linear_baseline
from supple.meta.collect import Episodes
from supple.meta.distribution import log_prob
from supple.meta.policy import MlpPolicy, Params
from supple.meta.space import UnitSpace
from supple.meta.task_batch import TaskBatch, make_task_batch
from supple.meta.testing import PointBatch
from supple.skills.gaussian import Gaussian
from tests.meta.double_sum import sum_advantages

POLICY = MlpPolicy(inputs=2, outputs=2, discrete=False, hidden=(3,), activation="tanh")
SPACE = UnitSpace(PointBatch(1).spec)


def make_params(tasks: int) -> Params:
    each = [POLICY.init(torch.Generator().manual_seed(seed)) for seed in range(tasks)]
    return {name: torch.stack([params[name] for params in each]) for name in each[0]}


def make_episodes(rows: int, length: list[int], shift: float = 0.0, decisions: int = 4) -> Episodes:
    """Numbers that say where they come from: observation and latent x hold 100 row + step (+ shift)."""
    steps = torch.arange(decisions + 1, dtype=torch.float32)
    mark = 100.0 * torch.arange(rows)[:, None] + steps + shift
    count = torch.tensor(length)
    valid = steps[:-1] < count[:, None]
    observation = torch.stack((mark, -mark), dim=-1)
    prior = Gaussian(torch.full((rows, decisions + 1, 2), 0.5), torch.full((rows, decisions + 1, 2), 2.0))
    latent = torch.stack((mark, mark.sin()), dim=-1)[:, :-1]
    return Episodes(
        observation=observation,
        latent=torch.where(valid[..., None], latent, torch.full_like(latent, torch.nan)),
        prior=prior,
        reward=torch.where(valid, mark[:, :-1].cos(), torch.zeros(())),
        length=count,
        terminated=torch.zeros(rows, dtype=torch.bool),
        steps=count,
        path=torch.zeros(rows, decisions, 2),
    )


def make_batch(rounds: list[Episodes], tasks: int, **changes: Any) -> TaskBatch:
    options: dict[str, Any] = {"discount": 0.5, "trace": 1.0, "normalise": False, **changes}
    return make_task_batch(rounds, POLICY, make_params(tasks), SPACE, **options)


def test_rows_are_task_major_and_rounds_are_further_episodes() -> None:
    lengths = [4, 2, 3, 1]
    first, second = make_episodes(4, lengths), make_episodes(4, lengths[::-1], 0.25)
    batch = make_batch([first, second], 2)
    assert batch.observation.shape == (2, 4, 4, 2)
    # task 1: rows 2 and 3 of the first round, then of the second
    assert batch.observation[1, :, 1, 0].tolist() == [201.0, 301.0, 201.25, 301.25]
    assert batch.valid.sum(-1).tolist() == [[4, 2, 1, 3], [3, 1, 2, 4]]
    # u = (z - 1/2) / 2, and zeros where there is nothing
    assert batch.choice[1, 2, :, 0].tolist() == [(200.25 - 0.5) / 2, (201.25 - 0.5) / 2, 0.0, 0.0]
    assert bool(batch.old_log_prob.isfinite().all())


def test_the_sampling_policy_is_that_of_each_task() -> None:
    batch = make_batch([make_episodes(4, [4, 4, 4, 4])], 2)
    params = make_params(2)
    for task in range(2):
        own = POLICY({name: value[task] for name, value in params.items()}, batch.observation[task])
        torch.testing.assert_close(log_prob(own, batch.choice[task]), batch.old_log_prob[task])
    assert not any(value.requires_grad for value in batch.old)


def unfitted(monkeypatch: pytest.MonkeyPatch, slope: float) -> None:
    """A baseline of slope x (t / 100 of the features), whatever the data."""

    def fit(features: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        coefficients = torch.zeros(len(features), features.shape[-1])
        coefficients[:, 4] = slope
        return coefficients

    monkeypatch.setattr("supple.meta.task_batch.fit_linear_baseline", fit)


def test_advantages_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewards 1, 2, 4 with gamma = lambda = 1/2 and V(t) = t: nothing is bootstrapped after the last.

    delta = 1 + 1/2 - 0 = 3/2, 2 + 2/2 - 1 = 2, 4 - 2 = 2; A = 2, then 2 + 2/4, then 3/2 + 5/8.
    """
    unfitted(monkeypatch, 100.0)
    episodes = make_episodes(1, [3])._replace(reward=torch.tensor([[1.0, 2.0, 4.0, 0.0]]))
    batch = make_batch([episodes], 1, trace=0.5)
    assert batch.advantage[0, 0].tolist() == pytest.approx([2.125, 2.5, 2.0, 0.0])
    # G_0 = 1 + 2/2 + 4/4 over four decisions that there may be; the return is not discounted
    assert batch.objective.tolist() == pytest.approx([0.75])
    assert batch.returns().tolist() == [[7.0]]


def test_the_baseline_is_fitted_per_task() -> None:
    """Returns that only depend on time within a task leave no advantage, though the tasks differ."""
    episodes = make_episodes(4, [4] * 4)
    reward = torch.tensor([1.0, 1.0, -9.0, -9.0])[:, None].expand(4, 4)
    still = torch.zeros_like(episodes.observation)
    batch = make_batch([episodes._replace(reward=reward, observation=still)], 2, discount=1.0)
    # the ridge leaves some: of returns of 1 .. 4 and -9 .. -36
    assert batch.advantage[0].abs().max() < 0.02
    assert batch.advantage[1].abs().max() < 0.15
    assert batch.objective.tolist() == [1.0, -9.0]


def test_the_baseline_knows_nothing_of_the_padding_and_discount_and_trace_are_not_the_same() -> None:
    """Against a baseline that is fitted to the valid steps alone, where padding is half of all."""
    episodes = make_episodes(6, [4, 1, 2, 1, 3, 1])
    # small observations, so that the ridge does not decide; what stands in the padding would draw the fit to itself
    observation = torch.randn(6, 5, 2, generator=torch.Generator().manual_seed(0))
    reward = torch.where(episodes.reward == 0, 0.0, 5.0 + episodes.reward)
    batch = make_batch([episodes._replace(observation=observation, reward=reward)], 2, discount=0.9, trace=0.4)
    step = torch.arange(4).expand(3, 4)
    for task in range(2):
        rows, valid = slice(3 * task, 3 * task + 3), batch.valid[task]
        seen = SPACE.normalise(observation[rows, :-1])
        features, target = compute_features(seen, step), torch.zeros(3, 4)
        for row, length in enumerate(valid.sum(1).tolist()):
            for t in range(length):
                target[row, t] = sum(0.9 ** (later - t) * reward[rows][row, later] for later in range(t, length))
        kept = torch.ones(1, int(valid.sum()), dtype=torch.bool)
        (coefficients,) = fit_linear_baseline(features[valid][None], target[valid][None], kept)
        value = (features @ coefficients) * valid
        expected = sum_advantages(reward[rows], value, valid, 0.9, 0.4)
        torch.testing.assert_close(batch.advantage[task], expected, atol=1e-3, rtol=1e-3)


def test_normalising_is_per_task_and_leaves_padding_at_zero() -> None:
    batch = make_batch([make_episodes(4, [4, 2, 3, 1])], 2, normalise=True)
    for task in range(2):
        values = batch.advantage[task][batch.valid[task]]
        assert float(values.mean()) == pytest.approx(0.0, abs=1e-5)
        assert float(values.std(correction=0)) == pytest.approx(1.0, abs=1e-4)
    assert not batch.advantage[~batch.valid].any()
