"""PPO on tasks side by side: Adam, norms and losses by hand, tasks apart, and what an improvement improves."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.baselines.config import PpoConfig, PpoSteps
from supple.meta.baselines.ppo import Moments, adam_step, clip_gradient, improve, surrogate_loss, take
from supple.meta.distribution import Categorical, detach, entropy, log_prob, sample
from supple.meta.policy import MlpPolicy, Params, for_tasks
from supple.meta.task_batch import TaskBatch

POLICY = MlpPolicy(inputs=1, outputs=3, discrete=True, hidden=(4,), activation="tanh")


def make_params(tasks: int, seed: int = 0) -> Params:
    """Other parameters in each task."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.1 * torch.randn((tasks, *value.shape), generator=generator)
        for name, value in POLICY.init(generator).items()
    }


def make_samples(params: Params, good: Tensor, episodes: int = 6, seed: int = 0) -> TaskBatch:
    """One pull per episode; the advantage is 1 for the good arm of each task, (N,), and -1 for others."""
    generator = torch.Generator().manual_seed(seed)
    tasks = len(good)
    observation = torch.ones(tasks, episodes, 1, 1)
    old = detach(POLICY(params, observation))
    choice = sample(old, generator)
    reward = (choice[..., 0] == good[:, None, None]).float()
    return TaskBatch(
        observation=observation,
        choice=choice,
        reward=reward,
        advantage=2.0 * reward - 1.0,
        valid=torch.ones(tasks, episodes, 1, dtype=torch.bool),
        old=old,
        old_log_prob=log_prob(old, choice),
        objective=reward.mean((1, 2)),
    )


def chances(params: Params, good: Tensor) -> Tensor:
    """Probability of the good arm in each task, (N,)."""
    found = POLICY(params, torch.ones(len(good), 1, 1))
    assert isinstance(found, Categorical)
    return found.logits.softmax(-1)[:, 0].gather(1, good[:, None].long())[:, 0]


def rows_of(params: Params, task: int) -> Params:
    return {name: value[task : task + 1].clone() for name, value in params.items()}


def test_adam_is_torchs_adam() -> None:
    params = make_params(2)
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    optimiser = torch.optim.Adam(list(leaves.values()), lr=0.03)
    moments = Moments.zeros(params)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        gradient = {name: torch.randn(value.shape, generator=generator) for name, value in params.items()}
        for name, leaf in leaves.items():
            leaf.grad = gradient[name].clone()
        optimiser.step()
        params, moments = adam_step(params, gradient, moments, 0.03)
    assert moments.steps == 4
    for name, leaf in leaves.items():
        torch.testing.assert_close(params[name], leaf.detach())


def test_the_first_step_of_adam_has_the_size_of_the_rate() -> None:
    # both moments corrected are g and g^2, so that the step is rate * sign g
    params, moments = {"w": torch.tensor([[1.0, 2.0]])}, Moments.zeros({"w": torch.zeros(1, 2)})
    moved, _ = adam_step(params, {"w": torch.tensor([[4.0, -0.5]])}, moments, 0.1)
    torch.testing.assert_close(moved["w"], torch.tensor([[0.9, 2.1]]))


def test_the_norm_is_that_of_each_task_over_all_its_parameters() -> None:
    # task 0 has norm 5 and is scaled to 1; task 1 has norm 0.5 and stays
    gradient = {"a": torch.tensor([[3.0, 0.0], [0.3, 0.0]]), "b": torch.tensor([[[4.0]], [[0.4]]])}
    clipped = clip_gradient(gradient, 1.0)
    torch.testing.assert_close(clipped["a"], torch.tensor([[0.6, 0.0], [0.3, 0.0]]))
    torch.testing.assert_close(clipped["b"], torch.tensor([[[0.8]], [[0.4]]]))


@given(tasks=st.permutations(range(3)), episodes=st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_taking_samples_keeps_them_together(tasks: list[int], episodes: list[int]) -> None:
    batch = make_samples(make_params(3), torch.tensor([0.0, 1.0, 2.0]))
    batch = batch._replace(objective=torch.arange(3.0))
    found = take(take(batch, torch.tensor(tasks), 0), torch.tensor(episodes), 1)
    assert found.objective.tolist() == [float(task) for task in tasks]
    for name in ("observation", "choice", "reward", "advantage", "valid", "old_log_prob"):
        assert torch.equal(getattr(found, name), getattr(batch, name)[tasks][:, episodes])
    assert torch.equal(found.old[0], batch.old[0][tasks][:, episodes])


def test_the_loss_of_what_sampled_is_minus_the_mean_advantage_less_the_entropy() -> None:
    params, good = make_params(2), torch.tensor([0.0, 2.0])
    batch = make_samples(params, good)
    loss, kl = surrogate_loss(POLICY, params, batch, PpoSteps(entropy_weight=0.5))
    expected = -batch.advantage.mean((1, 2)) - 0.5 * entropy(POLICY(params, batch.observation)).mean((1, 2))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(kl, torch.zeros(2), atol=1e-6, rtol=0.0)


def test_an_improvement_makes_the_good_arm_of_each_task_more_likely() -> None:
    params, good = make_params(3), torch.tensor([0.0, 1.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    moments, steps = Moments.zeros(params), PpoSteps(learning_rate=0.03, epochs=4, minibatches=2)
    seen = [chances(params, good)]
    for round_index in range(8):
        batch = make_samples(params, good, episodes=40, seed=round_index)
        params, moments, metrics = improve(POLICY, params, moments, batch, steps, generator)
        assert metrics["kl"] > 0.0
        seen.append(chances(params, good))
    assert moments.steps == 8 * 4 * 2
    assert all(not value.requires_grad for value in params.values())
    assert bool((seen[-1] > 0.9).all())
    assert all(bool((later > before - 0.05).all()) for before, later in pairwise(seen))


def test_learning_tasks_at_once_is_learning_each_alone() -> None:
    params, good = make_params(2), torch.tensor([0.0, 2.0])
    batch = make_samples(params, good)
    steps = PpoSteps(epochs=2, minibatches=2, learning_rate=0.1, max_gradient_norm=0.2)
    together, moments, _ = improve(
        POLICY, params, Moments.zeros(params), batch, steps, torch.Generator().manual_seed(3)
    )
    for task in range(2):
        own = rows_of(params, task)
        part = take(batch, torch.tensor([task]), 0)
        alone, kept, _ = improve(POLICY, own, Moments.zeros(own), part, steps, torch.Generator().manual_seed(3))
        for name, value in alone.items():
            torch.testing.assert_close(together[name][task], value[0])
            torch.testing.assert_close(moments.second[name][task], kept.second[name][0])


def test_every_episode_is_in_one_minibatch_of_an_epoch_and_few_make_fewer_minibatches() -> None:
    params = for_tasks({name: value[0] for name, value in make_params(1).items()}, 1)
    batch = make_samples(params, torch.tensor([1.0]), episodes=3)
    _, moments, _ = improve(
        POLICY,
        params,
        Moments.zeros(params),
        batch,
        PpoSteps(epochs=1, minibatches=4),
        torch.Generator().manual_seed(0),
    )
    assert moments.steps == 3


def test_the_share_scales_the_step() -> None:
    params = make_params(1)
    batch = make_samples(params, torch.tensor([1.0]))
    steps = PpoSteps(epochs=1, minibatches=1, learning_rate=0.1)
    whole, half = (
        improve(POLICY, params, Moments.zeros(params), batch, steps, torch.Generator().manual_seed(0), share=share)[0]
        for share in (1.0, 0.5)
    )
    for name, value in params.items():
        torch.testing.assert_close(half[name] - value, 0.5 * (whole[name] - value), rtol=1e-3, atol=1e-6)


def test_moments_are_saved_by_name_and_a_missing_one_is_an_error() -> None:
    params = make_params(2)
    _, moments = adam_step(params, params, Moments.zeros(params), 0.1)
    tensors = moments.tensors()
    again = Moments.load(tensors, params, 1)
    assert all(torch.equal(again.first[name], moments.first[name]) for name in params)
    assert all(torch.equal(again.second[name], moments.second[name]) for name in params)
    del tensors["moments.second.layers.0.bias"]
    with pytest.raises(KeyError, match=r"moments\.second\.layers\.0\.bias"):
        Moments.load(tensors, params, 1)


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("clip", 0.0), ("trace", -0.1), ("entropy_weight", -1.0), ("minibatches", 0)]
)
def test_steps_that_cannot_improve_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"PpoSteps\.{field}: expected .* got {value}"):
        PpoSteps(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [("iterations", -1, "-1"), ("tasks", 0, "0"), ("hidden", (4, 0), "0"), ("activation", "sine", "'sine'")],
)
def test_a_training_that_cannot_be_is_refused(field: str, value: Any, shown: str) -> None:
    with pytest.raises(ConfigError, match=rf"PpoConfig\.{field}(\[1\])?: expected .* got {shown};"):
        PpoConfig(**{field: value})


def test_the_reported_metrics_are_means_over_all_steps() -> None:
    params = make_params(1)
    batch = make_samples(params, torch.tensor([1.0]))
    steps = PpoSteps(epochs=1, minibatches=1)
    _, _, metrics = improve(POLICY, params, Moments.zeros(params), batch, steps, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(metrics["loss"], -float(batch.advantage.mean()), atol=1e-6)
    np.testing.assert_allclose(metrics["kl"], 0.0, atol=1e-6)
