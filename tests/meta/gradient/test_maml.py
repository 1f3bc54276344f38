"""The outer objective: what it is made of, where its gradient goes, and what a configuration may not say."""

from typing import Any

import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.distribution import detach, kl, log_prob, sample
from supple.meta.gradient.config import MamlConfig
from supple.meta.gradient.inner import GradientDescent, inner_step
from supple.meta.gradient.maml import adapt, evaluate_curvature, evaluate_outer, exploration_signal, outer_loss
from supple.meta.policy import MlpPolicy, Params, for_tasks
from supple.meta.policy_gradient import ppo_loss, ratio_loss, reinforce_loss
from supple.meta.state import named_part
from supple.meta.task_batch import TaskBatch, first_tasks

POLICY = MlpPolicy(inputs=2, outputs=2, discrete=False, hidden=(4,), activation="tanh")
STEP = GradientDescent(0.3)
TASKS = 3


def meta_parameters() -> Params:
    params = POLICY.init(torch.Generator().manual_seed(0), torch.float64)
    return {f"policy.{name}": value.requires_grad_() for name, value in params.items()}


def make_batch(params: Params, seed: int) -> TaskBatch:
    """Samples of each task by its own parameters (N, ...), all of the same length."""
    source = torch.Generator().manual_seed(seed)
    observation = torch.randn((TASKS, 5, 4, 2), generator=source, dtype=torch.float64)
    old = detach(POLICY(params, observation))
    choice = sample(old, source)
    reward = torch.randn((TASKS, 5, 4), generator=source, dtype=torch.float64)
    return TaskBatch(
        observation=observation,
        choice=choice,
        reward=reward,
        advantage=reward,
        valid=torch.ones(TASKS, 5, 4, dtype=torch.bool),
        old=old,
        old_log_prob=log_prob(old, choice),
        objective=reward.sum(-1).mean(1),
    )


def make_samples(meta: Params, inner_steps: int = 2) -> tuple[list[TaskBatch], TaskBatch]:
    params = for_tasks(named_part(meta, "policy."), TASKS)
    supports = []
    with torch.no_grad():
        for index in range(inner_steps):
            supports.append(make_batch(params, index))
            params = inner_step(POLICY, STEP, {}, params, supports[-1])
        return supports, make_batch(params, 99)


def gradient_of(value: Tensor, meta: Params) -> Tensor:
    return torch.cat(
        [gradient.flatten() for gradient in torch.autograd.grad(value, list(meta.values()), retain_graph=True)]
    )


def test_adapting_is_one_inner_step_per_batch() -> None:
    meta = meta_parameters()
    supports, query = make_samples(meta)
    found = adapt(POLICY, STEP, meta, supports, score=True)
    torch.testing.assert_close(POLICY(found.params, query.observation), query.old)
    # the score of each batch is under the parameters that sampled it
    for batch, total in zip(supports, found.log_prob_sums, strict=True):
        torch.testing.assert_close(total, batch.old_log_prob.sum((1, 2)))
    assert adapt(POLICY, STEP, meta, supports).log_prob_sums == ()


def test_each_outer_loss_is_its_own() -> None:
    meta = meta_parameters()
    _, query = make_samples(meta)
    with torch.no_grad():
        new = POLICY(for_tasks(named_part(meta, "policy."), TASKS), query.observation)
    log_probs = log_prob(new, query.choice)
    expected = {
        "trpo": ratio_loss(log_probs, query.old_log_prob, query.advantage, query.valid),
        "ppo": ppo_loss(log_probs, query.old_log_prob, query.advantage, query.valid, 0.01),
        "reinforce": reinforce_loss(log_probs, query.advantage, query.valid),
    }
    for outer, value in expected.items():
        torch.testing.assert_close(outer_loss(new, query, outer, 0.01), value)  # type: ignore[arg-type]
    assert len({float(value.sum()) for value in expected.values()}) == 3


def test_at_the_samples_all_outer_losses_have_one_gradient_and_the_kl_is_zero() -> None:
    meta = meta_parameters()
    supports, query = make_samples(meta)
    gradients = []
    for outer in ("trpo", "ppo", "reinforce"):
        loss, divergence = evaluate_outer(POLICY, STEP, meta, supports, query, MamlConfig(outer=outer))
        gradients.append(gradient_of(loss, meta))
        assert float(divergence.detach()) == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])


@pytest.mark.parametrize("correction", ["none", "lvc"])
def test_loss_and_kl_are_differentiated_through_the_inner_steps(correction: Any) -> None:
    """Finite differences of both, along a random direction, away from the sampling parameters."""
    meta = meta_parameters()
    supports, query = make_samples(meta)
    config = MamlConfig(correction=correction)
    source = torch.Generator().manual_seed(3)
    towards = {name: torch.randn(value.shape, generator=source, dtype=torch.float64) for name, value in meta.items()}

    def evaluate(shift: float) -> tuple[Params, Tensor, Tensor]:
        moved = {name: (value + shift * towards[name]).detach().requires_grad_() for name, value in meta.items()}
        return moved, *evaluate_outer(POLICY, STEP, moved, supports, query, config)

    here, eps = evaluate(0.05), 1e-5
    direction = torch.cat([value.flatten() for value in towards.values()])
    for index in (1, 2):
        up, down = (float(evaluate(0.05 + shift)[index].detach()) for shift in (eps, -eps))
        along = float(gradient_of(here[index], here[0]) @ direction)
        assert along == pytest.approx((up - down) / (2 * eps), rel=1e-6)
        assert abs(along) > 1e-3


def test_exploration_adds_the_score_of_all_inner_samples_compared_across_tasks() -> None:
    meta = meta_parameters()
    supports, query = make_samples(meta)
    plain = MamlConfig(outer="reinforce", normalise_advantage=False)
    exploring = MamlConfig(outer="reinforce", normalise_advantage=False, exploration=0.5)
    without, with_it = (
        gradient_of(evaluate_outer(POLICY, STEP, meta, supports, query, config)[0], meta)
        for config in (plain, exploring)
    )
    others = (query.objective.sum() - query.objective) / (TASKS - 1)
    params = for_tasks(named_part(meta, "policy."), TASKS)
    total = torch.zeros((), dtype=torch.float64)
    for batch in supports:
        total = (
            total
            + (
                log_prob(POLICY(params, batch.observation), batch.choice).sum((1, 2)) * (query.objective - others)
            ).mean()
        )
        params = inner_step(POLICY, STEP, {}, params, batch)
    torch.testing.assert_close(with_it - without, -0.5 * gradient_of(total, meta))
    assert (with_it - without).abs().max() > 0.1


def test_the_signal_of_exploration_does_not_vanish_with_standardised_advantages() -> None:
    meta = meta_parameters()
    query = make_samples(meta)[1]._replace(objective=torch.tensor([1.0, 2.0, 3.0]))
    # the others' means: 2.5, 2, 1.5
    assert exploration_signal(query, False).tolist() == [-1.5, 0.0, 1.5]
    torch.testing.assert_close(exploration_signal(query, True), torch.tensor([-1.5, 0.0, 1.5]) / 1.5**0.5)


def test_first_order_leaves_the_inner_gradient_out() -> None:
    """One inner step: the first-order gradient is the outer gradient at theta', summed over tasks."""
    meta = meta_parameters()
    supports, query = make_samples(meta, 1)
    config = MamlConfig(first_order=True)
    found = gradient_of(evaluate_outer(POLICY, STEP, meta, supports, query, config)[0], meta)
    with torch.no_grad():
        adapted = adapt(POLICY, STEP, meta, supports).params
    leaves = {name: value.clone().requires_grad_() for name, value in adapted.items()}
    loss = outer_loss(POLICY(leaves, query.observation), query, "trpo", 0.3).mean()
    there = [gradient.sum(0).flatten() for gradient in torch.autograd.grad(loss, list(leaves.values()))]
    torch.testing.assert_close(found, torch.cat(there))
    second = gradient_of(evaluate_outer(POLICY, STEP, meta, supports, query, MamlConfig())[0], meta)
    assert not torch.allclose(found, second, rtol=1e-2)


def test_no_gradient_flows_into_samples_or_step_sizes_that_are_not_learned() -> None:
    meta = meta_parameters()
    supports, query = make_samples(meta, 1)
    mean = query.old[0].clone().requires_grad_()
    watched = query._replace(
        objective=query.objective.clone().requires_grad_(), old=type(query.old)(mean, query.old[1])
    )
    config = MamlConfig(exploration=1.0)
    loss, _ = evaluate_outer(POLICY, STEP, meta, supports, watched, config)
    assert torch.autograd.grad(loss, [watched.objective, mean], allow_unused=True) == (None, None)
    assert STEP.init(named_part(meta, "policy."), torch.Generator()) == {}


def test_curvature_by_both_ways() -> None:
    """With all tasks and in full it is the KL; first order it has the same value and another Hessian."""
    meta = meta_parameters()
    supports, query = make_samples(meta, 1)
    moved = {name: (value + 0.1).detach().requires_grad_() for name, value in meta.items()}
    found = {}
    for curvature in ("full", "first-order"):
        config = MamlConfig(curvature=curvature)
        found[curvature] = evaluate_curvature(POLICY, STEP, moved, supports, query, config)
        expected = evaluate_outer(POLICY, STEP, moved, supports, query, config)[1]
        torch.testing.assert_close(found[curvature], expected)
    one, two = (gradient_of(value, moved) for value in found.values())
    assert not torch.allclose(one, two, rtol=1e-3)
    # which of the two is in full
    torch.testing.assert_close(
        one, gradient_of(evaluate_outer(POLICY, STEP, moved, supports, query, MamlConfig())[1], moved)
    )
    some = evaluate_curvature(POLICY, STEP, moved, supports, query, MamlConfig(curvature_tasks=2))
    both = [first_tasks(batch, 2) for batch in (supports[0], query)]
    new = POLICY(adapt(POLICY, STEP, moved, both[:1]).params, both[1].observation)
    torch.testing.assert_close(some, kl(both[1].old, new).mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": 0}, "episodes: expected a whole number from 1 to .*, got 0"),
        ({"outer": "sgd"}, "outer.*trpo, ppo, reinforce.*got 'sgd'"),
        ({"correction": "DICE"}, "correction.*none, lvc, dice.*got 'DICE'"),
        ({"discount": 1.5}, r"discount: expected a number from 0 to 1, got 1\.5"),
        ({"exploration": -1.0}, r"exploration: expected a number from 0 to .*, got -1\.0"),
        ({"exploration": 1.0, "correction": "lvc"}, "exploration.*correction 'lvc'.*take one"),
        ({"curvature_tasks": 21}, "curvature_tasks.*0 to tasks = 20, got 21"),
    ],
)
def test_configurations_that_cannot_train_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MamlConfig(**change)
