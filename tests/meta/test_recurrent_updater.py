"""The recurrent updater as functions: what is read, what is emitted, and where gradients flow."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.collect import Episodes
from supple.meta.distribution import detach, log_prob
from supple.meta.policy import MlpPolicy, Params, for_tasks
from supple.meta.recurrent_updater import (
    Read,
    RecurrentUpdaterConfig,
    evaluate,
    explore_loss,
    later_objective,
    take_tasks,
)
from supple.meta.space import ChoiceSpace, UnitSpace
from supple.meta.task_batch import TaskBatch
from supple.meta.testing import PointBatch
from supple.meta.updater_network import Memory, RecurrentUpdater, Support, make_support
from supple.robots.bandits import BernoulliBanditBatch
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


def read(phi: Params, support: Support) -> Memory:
    return UPDATER.read(phi, support, UPDATER.begin(phi, len(support.valid)))


def make_episodes(rows: int, decisions: int, offset: float) -> Episodes:
    """Everything tells its place: observation and latent 100 row + decision + offset, reward its tenth."""
    place = 100.0 * torch.arange(rows)[:, None] + torch.arange(decisions + 1) + offset
    length = torch.full((rows,), decisions)
    length[0] -= 1
    return Episodes(
        observation=place[..., None].expand(-1, -1, 2).clone(),
        latent=place[:, :-1, None].expand(-1, -1, 2).clone(),
        prior=Gaussian(torch.ones(rows, decisions + 1, 2), torch.full((rows, decisions + 1, 2), 2.0)),
        reward=place[:, :-1] / 10.0,
        length=length,
        terminated=torch.tensor([True] + [False] * (rows - 1)),
        steps=length,
        path=torch.zeros(rows, decisions, 2),
    )


# What is read


def test_a_transition_is_read_whole_and_padding_is_zero() -> None:
    space = UnitSpace(PointBatch(1).spec)
    support = make_support([make_episodes(2, 3, 0.0), make_episodes(2, 3, 7.0)], space, 2)
    assert support.transition.shape == (2, 2, 3, 8)
    # task 0 has row 0 of both rounds, which ended after 2 decisions; u = (latent - 1) / 2
    np.testing.assert_allclose(support.transition[0, 0, 0], [0, 0, -0.5, -0.5, 0, 1, 1, 0])
    np.testing.assert_allclose(support.transition[0, 0, 1], [1, 1, 0, 0, 0.1, 2, 2, 1])
    np.testing.assert_allclose(support.transition[0, 1, 1], [8, 8, 3.5, 3.5, 0.8, 9, 9, 1])
    assert not support.transition[0, :, 2].any()
    assert support.valid[0].tolist() == [[True, True, False]] * 2
    # row 1 ran to the time limit, which is no termination
    np.testing.assert_allclose(support.transition[1, 0, 2], [102, 102, 50.5, 50.5, 10.2, 103, 103, 0])


def test_choices_are_read_one_hot() -> None:
    space = ChoiceSpace(BernoulliBanditBatch(1, arms=3, episode_steps=2).spec)
    episodes = make_episodes(1, 2, 0.0)
    dim = 1
    episodes = episodes._replace(
        observation=torch.zeros(1, 3, dim),
        latent=torch.tensor([[[2.0], [0.0]]]),
        length=torch.tensor([2]),
        prior=Gaussian(torch.zeros(1, 3, 0), torch.zeros(1, 3, 0)),
    )
    support = make_support([episodes], space, 1)
    assert support.transition[0, 0, :, dim : dim + 3].tolist() == [[0, 0, 1], [1, 0, 0]]


def test_an_episode_is_the_mean_of_its_transitions_whatever_stands_in_the_padding() -> None:
    _, phi = draw()
    support = make_read()
    found = UPDATER.embed(phi, support)
    assert found.shape == (2, 3, 5)
    alone = Support(support.transition[:1, 1:2, :3], support.valid[:1, 1:2, :3])
    torch.testing.assert_close(UPDATER.embed(phi, alone)[0, 0], found[0, 1])
    each = [UPDATER.embed(phi, Support(alone.transition[:, :, t, None], alone.valid[:, :, t, None])) for t in range(3)]
    torch.testing.assert_close(torch.stack(each).mean(0)[0, 0], found[0, 1])
    padded = support.transition.clone()
    padded[:, 1, -1] = 9.0
    torch.testing.assert_close(UPDATER.embed(phi, Support(padded, support.valid)), found)


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


# What is emitted


def test_the_cell_is_torchs_gru_cell() -> None:
    _, phi = draw()
    cell = torch.nn.GRUCell(5 + 3 + 1, 4, dtype=torch.float64)
    names = {"weight_ih": "gru.input.weight", "bias_ih": "gru.input.bias"}
    names |= {"weight_hh": "gru.hidden.weight", "bias_hh": "gru.hidden.bias"}
    cell.load_state_dict({own: phi[name] for own, name in names.items()})
    source = torch.Generator().manual_seed(1)
    value, hidden, coefficient = (torch.randn(2, size, generator=source, dtype=torch.float64) for size in (5, 4, 4))
    after = UPDATER.step(phi, value, Memory(hidden, coefficient))
    torch.testing.assert_close(after.hidden, cell(torch.cat((value, coefficient), 1), hidden))
    expected = coefficient[:, :3] + after.hidden @ phi["head.weight"].T + phi["head.bias"]
    torch.testing.assert_close(after.coefficient, torch.cat((expected, torch.ones(2, 1)), 1))


def test_with_a_zero_head_nothing_that_is_read_changes_the_parameters() -> None:
    source = torch.Generator().manual_seed(0)
    first = POLICY.init(source)
    phi = UPDATER.init(first, source)
    support = make_read()
    emitted = UPDATER.emit(phi, first, read(phi, Support(support.transition.float(), support.valid)))
    for name, value in first.items():
        assert torch.equal(emitted[name], value.expand(2, *value.shape))


def test_parameters_move_along_the_basis_and_the_common_row_counts_once() -> None:
    first, phi = draw()
    phi["head.weight"] = torch.zeros_like(phi["head.weight"])
    phi["head.bias"] = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)
    support = make_read(episodes=3)
    before = UPDATER.emit(phi, first, UPDATER.begin(phi, 2))
    after = UPDATER.emit(phi, first, read(phi, support))
    # three episodes: z = 3 (1, 0, -2), and the common coefficient is 1
    change = 3.0 * phi["basis"][0] - 6.0 * phi["basis"][2] + phi["basis"][3]
    place = 0
    for name, value in first.items():
        assert torch.equal(before[name], value.expand(2, *value.shape))
        expected = value + change[place : place + value.numel()].view_as(value)
        torch.testing.assert_close(after[name], expected.expand(2, *value.shape))
        place += value.numel()
    assert place == phi["basis"].shape[1]


def test_tasks_do_not_touch_each_other_and_reading_can_be_interrupted() -> None:
    first, phi = draw()
    support = make_read()
    whole = read(phi, support)
    alone = read(phi, Support(support.transition[1:], support.valid[1:]))
    torch.testing.assert_close(alone.coefficient[0], whole.coefficient[1])
    begun = read(phi, Support(support.transition[:, :1], support.valid[:, :1]))
    ended = UPDATER.read(phi, Support(support.transition[:, 1:], support.valid[:, 1:]), begun)
    torch.testing.assert_close(ended.coefficient, whole.coefficient)
    torch.testing.assert_close(ended.hidden, whole.hidden)
    assert not torch.equal(whole.coefficient[0], whole.coefficient[1])
    emitted = UPDATER.emit(phi, first, whole)
    assert not torch.equal(emitted["layers.0.weight"][0], emitted["layers.0.weight"][1])


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
