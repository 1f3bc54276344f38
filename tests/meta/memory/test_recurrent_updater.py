"""The losses of the recurrent updater: hand-worked values, and where gradients flow."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.distribution import detach, log_prob
from supple.meta.memory.config import RecurrentUpdaterConfig
from supple.meta.memory.recurrent_updater import Read, evaluate, explore_loss, later_objective, take_tasks
from supple.meta.memory.updater_network import RecurrentUpdater, Support
from supple.meta.policy import MlpPolicy, Params, for_tasks
from supple.meta.task_batch import TaskBatch
from supple.skills.gaussian import Gaussian

POLICY = MlpPolicy(inputs=2, outputs=2, discrete=False, hidden=(3,), activation="tanh")
UPDATER = RecurrentUpdater(inputs=8, embedding=5, memory=4, rank=3)


def draw(seed: int = 0, *, dtype: torch.dtype = torch.float64) -> tuple[Params, Params]:
    """theta_0, and phi with a head and a common row that are no longer zero."""
    source = torch.Generator().manual_seed(seed)
    first = POLICY.init(source)
    phi = UPDATER.init(first, source)
    for name in ("head.weight", "head.bias", "basis"):
        phi[name] = phi[name] + 0.3 * torch.randn(phi[name].shape, generator=source)
    return ({name: value.to(dtype) for name, value in params.items()} for params in (first, phi))  # type: ignore[return-value]


def make_read(tasks: int = 2, episodes: int = 3, steps: int = 4, seed: int = 0) -> Support:
    """Random episodes; those of odd index are one transition shorter."""
    source = torch.Generator().manual_seed(seed)
    value = torch.randn(tasks, episodes, steps, 8, generator=source, dtype=torch.float64)
    valid = torch.ones(tasks, episodes, steps, dtype=torch.bool)
    valid[:, 1::2, -1] = False
    return Support(value * valid[..., None], valid)


def make_samples(params: Params, seed: int = 0, steps: int = 4) -> TaskBatch:
    """Three episodes of each task, sampled by `params` of each task, with random advantages."""
    source = torch.Generator().manual_seed(seed)
    tasks = len(params["log_scale"])
    shape = (tasks, 3, steps)
    observation = torch.randn(*shape, 2, generator=source, dtype=torch.float64)
    old = detach(POLICY(params, observation))
    assert isinstance(old, Gaussian)
    choice = old.loc + old.scale * torch.randn(*shape, 2, generator=source, dtype=torch.float64)
    valid = torch.ones(shape, dtype=torch.bool)
    valid[:, 0, -1] = False
    return TaskBatch(
        observation=observation,
        choice=choice,
        reward=torch.zeros(shape, dtype=torch.float64),
        advantage=torch.randn(shape, generator=source, dtype=torch.float64),
        valid=valid,
        old=old,
        old_log_prob=log_prob(old, choice),
        objective=torch.arange(tasks, dtype=torch.float64),
    )


@given(order=st.permutations(range(3)), tasks=st.permutations(range(2)))
def test_shuffling_moves_whole_episodes_and_keeps_tasks_together(order: list[int], tasks: list[int]) -> None:
    support = make_read()
    first, _ = draw()
    samples = make_samples(for_tasks(first, 2))
    found = take_tasks(Read(support, samples, torch.tensor([0.0, 1.0])), torch.tensor(tasks), torch.tensor(order))
    for row, task in enumerate(tasks):
        for place, index in enumerate(order):
            assert torch.equal(found.support.transition[row, place], support.transition[task, index])
            assert torch.equal(found.support.valid[row, place], support.valid[task, index])
        assert torch.equal(found.samples.choice[row], samples.choice[task])
        assert found.later[row] == task


# Gradients


def sample_rounds(first: Params, phi: Params, rounds: int) -> tuple[list[Read], TaskBatch]:
    """What f reads and what the policies sampled, as they are; the signal of round r is (2 + r, -1)."""
    params, memory, reads = for_tasks(first, 2), UPDATER.begin(phi, 2), []
    for index in range(rounds):
        support = make_read(seed=index)
        later = torch.tensor([2.0 + index, -1.0], dtype=torch.float64)
        reads.append(Read(support, make_samples(params, seed=10 + index), later))
        memory = UPDATER.read(phi, support, memory)
        params = UPDATER.emit(phi, first, memory)
    return reads, make_samples(params)


def loss_of(phi: Params, first: Params, sampled: tuple[list[Read], TaskBatch], **changes: Any) -> Tensor:
    config = RecurrentUpdaterConfig(clip=10.0, **changes)
    return evaluate(POLICY, UPDATER, first, phi, *sampled, config)[0].sum()


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("name", ["embed.0.weight", "gru.input.weight", "gru.hidden.bias", "head.bias", "basis"])
def test_the_gradient_is_that_of_finite_differences(name: str, rounds: int) -> None:
    first, phi = draw()
    sampled = sample_rounds(first, phi, rounds)
    leaf = phi[name].clone().requires_grad_()
    gradient = torch.autograd.grad(loss_of({**phi, name: leaf}, first, sampled, exploration=0.1), leaf)[0]
    assert gradient.abs().max() > 1e-4
    direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    above, below = (
        loss_of({**phi, name: phi[name] + h * direction}, first, sampled, exploration=0.1) for h in (1e-6, -1e-6)
    )
    torch.testing.assert_close((above - below) / 2e-6, (gradient * direction).sum(), rtol=1e-5, atol=1e-8)


def mean_advantage(samples: TaskBatch) -> Tensor:
    return (samples.advantage * samples.valid).sum((1, 2)) / samples.valid.sum((1, 2))


def test_the_loss_of_what_sampled_is_minus_the_mean_advantage_of_all_emitted_policies() -> None:
    first, phi = draw()
    reads, query = sample_rounds(first, phi, 2)
    loss, kl = evaluate(POLICY, UPDATER, first, phi, reads, query, RecurrentUpdaterConfig())
    # theta_0's own advantages are nobody's objective
    torch.testing.assert_close(loss, -(mean_advantage(reads[1].samples) + mean_advantage(query)) / 2.0)
    np.testing.assert_allclose(kl, 0.0, atol=1e-12)
    loss, _ = evaluate(POLICY, UPDATER, first, phi, reads, query, RecurrentUpdaterConfig(exploration=0.5))
    # of what sampled, the surrogate is the signal, on 11 valid decisions in each round: 11 (2 + 3) and -11 (1 + 1)
    scores = torch.tensor([55.0, -22.0], dtype=torch.float64)
    torch.testing.assert_close(loss, -(mean_advantage(reads[1].samples) + mean_advantage(query)) / 2.0 - 0.5 * scores)


def test_a_ratio_that_overflows_leaves_the_gradient_finite() -> None:
    """Samples far away from where a narrow policy is now: in float32 the ratio would be infinite."""
    first, phi = ({name: value.float() for name, value in params.items()} for params in draw())
    support = Support(make_read().transition.float(), make_read().valid)
    params = UPDATER.emit(phi, first, UPDATER.read(phi, support, UPDATER.begin(phi, 2)))
    query = make_samples({name: value.double() for name, value in params.items()})
    # the old policy found its choices very unlikely, the present one does not
    query = query._replace(old_log_prob=query.old_log_prob - 200.0)
    reads = [Read(support, query, torch.zeros(2))]
    leaf = phi["basis"].clone().requires_grad_()
    single = TaskBatch(
        **{
            name: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
            for name, value in query._asdict().items()
        }
    )
    single = single._replace(old=Gaussian(*(value.float() for value in query.old)))
    loss, _ = evaluate(POLICY, UPDATER, first, {**phi, "basis": leaf}, reads, single, RecurrentUpdaterConfig())
    assert bool(torch.isfinite(torch.autograd.grad(loss.sum(), leaf)[0]).all())


def test_exploration_has_the_gradient_of_the_sum_of_scores() -> None:
    first, _ = draw()
    sampled = make_samples(for_tasks(first, 2))
    signal = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    leaves = {name: value.clone().requires_grad_() for name, value in first.items()}
    log_probs = log_prob(POLICY(for_tasks(leaves, 2), sampled.observation), sampled.choice)
    loss = explore_loss(log_probs, sampled, signal, 0.2).sum()
    found = torch.autograd.grad(loss, [*leaves.values(), signal], allow_unused=True, retain_graph=True)
    assert found[-1] is None
    scores = log_probs * sampled.valid
    expected = torch.autograd.grad(-(2.0 * scores[0].sum() - scores[1].sum()), list(leaves.values()))
    for one, other in zip(found[:-1], expected, strict=True):
        torch.testing.assert_close(one, other)


def test_without_exploration_the_first_samples_are_only_read() -> None:
    """Their log probabilities are no part of the loss, so that theta_0 is learned through what is emitted alone."""
    first, phi = draw()
    reads, query = sample_rounds(first, phi, 1)
    leaves = {name: value.clone().requires_grad_() for name, value in first.items()}
    found = torch.autograd.grad(loss_of(phi, leaves, (reads, query)), list(leaves.values()))
    other = [reads[0]._replace(samples=make_samples(for_tasks(first, 2), seed=77), later=torch.full((2,), 9.0))]
    again = torch.autograd.grad(loss_of(phi, leaves, (other, query)), list(leaves.values()))
    assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True))


def test_the_signal_is_the_later_objective_compared_with_the_other_tasks() -> None:
    first, _ = draw()
    batch = make_samples(for_tasks(first, 2))
    # objectives 0 and 1, and 4 and 0: sums 4 and 1, compared with the other task 3 and -3, standard deviation 3
    other = batch._replace(objective=torch.tensor([4.0, 0.0], dtype=torch.float64))
    np.testing.assert_allclose(later_objective([batch, other]), [1.0, -1.0], atol=1e-6)
    np.testing.assert_allclose(later_objective([batch]), [-1.0, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [("rank", 0), ("tasks", 0), ("discount", 1.5), ("activation", "sine"), ("exploration", -1.0), ("clip", 0.0)],
)
def test_values_that_cannot_train_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"RecurrentUpdaterConfig\.{field}: expected .* got '?{value}"):
        RecurrentUpdaterConfig(**{field: value})
