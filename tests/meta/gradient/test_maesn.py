"""MAESN's pure functions: closed forms, where gradients go, and what a configuration may not say."""

import math
from statistics import NormalDist
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.distribution import detach, log_prob, sample
from supple.meta.gradient.config import MaesnConfig
from supple.meta.gradient.maesn import (
    LatentBatch,
    TaskLatent,
    adapt,
    episode_advantage,
    evaluate_outer,
    first_episodes,
    gather,
    init_rule,
    init_table,
    latent_gradient,
    latent_kl,
    latent_loss,
    latent_step,
    natural_gradient,
    prior_latent,
)
from supple.meta.policy import ConditionedPolicy, MlpPolicy, Params, for_tasks
from supple.meta.state import named_part
from supple.meta.task_batch import TaskBatch

POLICY = MlpPolicy(inputs=4, outputs=2, discrete=False, hidden=(5,), activation="tanh")
ROWS, TASKS, EPISODES, STEPS = 5, 2, 4, 3
CHOSEN = torch.tensor([3, 1])


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def make_meta() -> Params:
    source = torch.Generator().manual_seed(0)
    meta = {f"policy.{name}": value for name, value in POLICY.init(source, torch.float64).items()}
    meta |= {name: value.double() for name, value in (init_table(ROWS, 2, 1.0, source) | init_rule(0.7, 2)).items()}
    meta["table.log_scale"] = 0.3 * torch.randn(ROWS, 2, generator=source, dtype=torch.float64)
    return {name: value.requires_grad_() for name, value in meta.items()}


def make_batch(meta: Params, latent: TaskLatent, seed: int) -> LatentBatch:
    """Episodes of each task, sampled by the policy at a z of each."""
    source = torch.Generator().manual_seed(seed)
    noise = torch.randn((TASKS, EPISODES, 2), generator=source, dtype=torch.float64)
    z = latent.draw(noise)
    observation = torch.randn((TASKS, EPISODES, STEPS, 2), generator=source, dtype=torch.float64)
    old = detach(ConditionedPolicy(POLICY, z)(for_tasks(named_part(meta, "policy."), TASKS), observation))
    choice = sample(old, source)
    reward = torch.randn((TASKS, EPISODES, STEPS), generator=source, dtype=torch.float64)
    samples = TaskBatch(
        observation=observation,
        choice=choice,
        reward=reward,
        advantage=reward,
        valid=torch.ones(TASKS, EPISODES, STEPS, dtype=torch.bool),
        old=old,
        old_log_prob=log_prob(old, choice),
        objective=reward.sum(-1).mean(1),
    )
    return LatentBatch(samples, noise, z)


def make_samples(meta: Params, inner_steps: int = 1) -> tuple[list[LatentBatch], LatentBatch]:
    with torch.no_grad():
        latent, supports = gather(meta, CHOSEN), []
        for index in range(inner_steps):
            supports.append(make_batch(meta, latent, index))
            latent = latent_step(
                latent, named_part(meta, "rule."), supports[-1].z, episode_advantage(supports[-1].samples)
            )
        return supports, make_batch(meta, latent, 99)


def gradients_of(value: Tensor, meta: Params) -> Params:
    return dict(zip(meta, torch.autograd.grad(value, list(meta.values()), materialize_grads=True), strict=True))


def test_the_gradient_on_a_bandit_is_that_of_the_expected_reward() -> None:
    """One step, reward -(z - 2)^2 for z ~ N(0.5, 0.8^2), so that E[reward] = -((mu - 2)^2 + sigma^2).

    The loss is minus that: its derivative is 2 (mu - 2) = -3 for mu, and 2 sigma^2 = 1.28 for log sigma.
    """
    count = 4000
    noise = double([NormalDist().inv_cdf((index + 0.5) / count) for index in range(count)])[None, :, None]
    latent = TaskLatent(double([[0.5]]), double([[math.log(0.8)]]))
    z = latent.draw(noise)
    assert z.mean().item() == pytest.approx(0.5)
    assert z.std().item() == pytest.approx(0.8, rel=1e-3)
    reward = -(z - 2.0).square().squeeze(-1)
    found = latent_gradient(latent, z, reward - reward.mean())
    assert found.mean.item() == pytest.approx(-3.0, rel=2e-3)
    assert found.log_scale.item() == pytest.approx(1.28, rel=2e-2)
    # so the step goes to 2 and narrows
    after = latent_step(latent, named_part(init_rule(0.1, 1), "rule."), z, reward - reward.mean())
    assert after.mean.item() == pytest.approx(0.5 + 0.1 * 3.0, rel=2e-3)
    assert after.log_scale.item() == pytest.approx(math.log(0.8) - 0.1 * 1.28, rel=2e-2)


@given(st.integers(0, 10_000))
def test_the_gradient_in_closed_form_is_that_of_autograd(seed: int) -> None:
    source = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source, dtype=torch.float64)

    latent = TaskLatent(draw(3, 2).requires_grad_(), (0.5 * draw(3, 2)).requires_grad_())
    z, advantage = draw(3, 5, 2), draw(3, 5)
    loss = latent_loss(latent, z, advantage)
    expected = torch.autograd.grad(loss.sum(), list(latent))
    found = latent_gradient(latent, z, advantage)
    torch.testing.assert_close(found.mean, expected[0])
    torch.testing.assert_close(found.log_scale, expected[1])


def test_a_step_is_scaled_by_the_step_sizes_of_each_axis() -> None:
    """One episode, z = 3 from N(1, 2^2), A = 2: e = 1, so -A e / sigma = -1 for mu, -A (e^2 - 1) = 0 for log sigma.

    On the second axis z = -1 from N(1, 1): e = -2, gradients 4 and -6.
    """
    latent = TaskLatent(double([[1.0, 1.0]]), double([[math.log(2.0), 0.0]]))
    rule = {"log_step.mean": double([0.5, 0.25]).log(), "log_step.log_scale": double([1.0, 0.1]).log()}
    z, advantage = double([[[3.0, -1.0]]]), double([[2.0]])
    after = latent_step(latent, rule, z, advantage)
    torch.testing.assert_close(after.mean, double([[1.5, 0.0]]))
    torch.testing.assert_close(after.log_scale, double([[math.log(2.0), 0.6]]))
    half = latent_step(latent, rule, z, advantage, scale=0.5)
    torch.testing.assert_close(half.mean, double([[1.25, 0.5]]))
    torch.testing.assert_close(half.log_scale, double([[math.log(2.0), 0.3]]))


def test_a_natural_step_does_not_grow_where_sigma_is_small() -> None:
    """As above, times sigma^2 = 4 for the first mu and 1/2 for log sigma: mu moves by .5 * 4 * 1, log sigma by 0."""
    latent = TaskLatent(double([[1.0, 1.0]]), double([[math.log(2.0), 0.0]]))
    rule = {"log_step.mean": double([0.5, 0.25]).log(), "log_step.log_scale": double([1.0, 0.1]).log()}
    after = latent_step(latent, rule, double([[[3.0, -1.0]]]), double([[2.0]]), natural=True)
    torch.testing.assert_close(after.mean, double([[3.0, 0.0]]))
    torch.testing.assert_close(after.log_scale, double([[math.log(2.0), 0.3]]))


def test_the_natural_gradient_is_the_plain_one_times_the_inverse_fisher_information() -> None:
    """The Fisher information by a sum over 4000 quantiles of N(mu, sigma^2): the mean outer product of the score."""
    count = 4000
    noise = double([NormalDist().inv_cdf((index + 0.5) / count) for index in range(count)])
    mean, log_scale = double([0.5]).requires_grad_(), double([math.log(0.3)]).requires_grad_()
    z = (mean + log_scale.exp() * noise).detach()

    def log_density(mean: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:
        return -0.5 * ((z - mean) / log_scale.exp()).square().sum() - log_scale.sum()

    scores = torch.func.vmap(torch.func.grad(log_density, argnums=(0, 1)), in_dims=(None, None, 0))(mean, log_scale, z)
    stacked = torch.cat(scores, dim=1)
    fisher = stacked.T @ stacked / count
    plain = double([[1.7], [-0.4]])
    expected = torch.linalg.solve(fisher, plain)
    found = natural_gradient(TaskLatent(mean[None], log_scale[None]), TaskLatent(plain[0][None], plain[1][None]))
    torch.testing.assert_close(torch.cat((found.mean, found.log_scale)), expected, rtol=5e-3, atol=1e-6)


def test_z_is_the_mean_plus_the_scaled_noise() -> None:
    latent = TaskLatent(double([[1.0, 0.0]]), double([[math.log(2.0), 0.0]]))
    torch.testing.assert_close(latent.draw(double([[[0.5, -1.0], [-1.0, 0.0]]])), double([[[2.0, -1.0], [-1.0, 0.0]]]))


def test_the_kl_to_the_prior() -> None:
    """(1 + 1 - 1) / 2 - 0 = .5 at mu = 1, sigma = 1; (e^2 + 0 - 1) / 2 - 1 = 2.19453 at mu = 0, sigma = e."""
    latent = TaskLatent(double([[1.0, 0.0], [0.0, 0.0]]), double([[0.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(latent_kl(latent), double([0.5 + (math.e**2 - 1.0) / 2.0 - 1.0, 0.0]))
    assert [float(value.abs().max()) for value in prior_latent(2, latent.mean)] == [0.0, 0.0]
    normal = torch.distributions.Normal
    found = latent_kl(TaskLatent(double([[0.3]]), double([[-0.7]])))
    expected = torch.distributions.kl_divergence(
        normal(double([0.3]), double([-0.7]).exp()), normal(double([0.0]), double([1.0]))
    )
    torch.testing.assert_close(found, expected)


def test_an_episode_has_the_standardised_advantage_of_its_first_decision() -> None:
    batch = make_samples(make_meta())[0][0].samples
    first = double([[1.0, 2.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
    advantage = batch.advantage.clone()
    advantage[..., 0] = first
    found = episode_advantage(batch._replace(advantage=advantage))
    # mean 2, variance (1 + 0 + 1 + 0) / 4; equal episodes tell nothing
    torch.testing.assert_close(found, double([[-(2.0**0.5), 0.0, 2.0**0.5, 0.0], [0.0] * 4]))


def test_adapting_is_one_step_per_batch_from_the_tables_rows() -> None:
    meta = make_meta()
    supports, query = make_samples(meta, inner_steps=2)
    latent = adapt(meta, CHOSEN, supports)
    torch.testing.assert_close(latent.draw(query.noise), query.z)
    assert not torch.allclose(latent.mean, meta["table.mean"][CHOSEN])
    torch.testing.assert_close(adapt(meta, CHOSEN, []).mean, meta["table.mean"][CHOSEN])


def test_where_it_was_sampled_the_surrogate_is_the_advantage_and_the_kl_is_zero() -> None:
    meta = make_meta()
    supports, query = make_samples(meta)
    loss, divergence = evaluate_outer(POLICY, meta, CHOSEN, supports, query, MaesnConfig(kl_weight=0.0))
    assert float(loss.detach()) == pytest.approx(-float(query.samples.advantage.mean()))
    assert float(divergence.detach()) == pytest.approx(0.0, abs=1e-12)


def test_what_is_held_at_the_prior_is_the_latent_before_the_step() -> None:
    meta = make_meta()
    supports, query = make_samples(meta)
    with_it, without = (
        evaluate_outer(POLICY, meta, CHOSEN, supports, query, MaesnConfig(kl_weight=weight))[0] for weight in (0.5, 0.0)
    )
    torch.testing.assert_close(with_it - without, 0.5 * latent_kl(gather(meta, CHOSEN)).mean())
    assert not torch.allclose(latent_kl(adapt(meta, CHOSEN, supports)), latent_kl(gather(meta, CHOSEN)), rtol=1e-2)


def test_what_became_of_a_latent_may_be_held_at_the_prior_too() -> None:
    meta = make_meta()
    supports, query = make_samples(meta)
    both, before = (
        evaluate_outer(POLICY, meta, CHOSEN, supports, query, MaesnConfig(kl_weight=0.5, kl_weight_after=after))[0]
        for after in (0.3, 0.0)
    )
    torch.testing.assert_close(both - before, 0.3 * latent_kl(adapt(meta, CHOSEN, supports)).mean())


@pytest.mark.parametrize("natural", [False, True])
def test_loss_and_kl_are_differentiated_through_the_inner_steps_into_everything(natural: bool) -> None:
    """Finite differences along one direction per tensor, away from the sampling parameters."""
    start, config = make_meta(), MaesnConfig(kl_weight=0.3, kl_weight_after=0.2, natural=natural)
    supports, query = make_samples(start, inner_steps=2)
    source = torch.Generator().manual_seed(3)
    towards = {name: torch.randn(value.shape, generator=source, dtype=torch.float64) for name, value in start.items()}
    meta = {name: (value + 0.05 * towards[name]).detach().requires_grad_() for name, value in start.items()}
    for index in range(2):
        gradients = gradients_of(evaluate_outer(POLICY, meta, CHOSEN, supports, query, config)[index], meta)
        for name, direction in towards.items():
            ends = []
            for eps in (1e-6, -1e-6):
                moved = {**meta, name: (meta[name] + eps * direction).detach()}
                ends.append(float(evaluate_outer(POLICY, moved, CHOSEN, supports, query, config)[index].detach()))
            along = float((gradients[name] * direction).sum())
            assert along == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-8), name
            assert abs(along) > 1e-5, name


def test_rows_of_other_tasks_get_no_gradient_and_those_of_these_tasks_do() -> None:
    meta = make_meta()
    supports, query = make_samples(meta)
    gradients = gradients_of(evaluate_outer(POLICY, meta, CHOSEN, supports, query, MaesnConfig(kl_weight=0.1))[0], meta)
    for name in ("table.mean", "table.log_scale"):
        touched = gradients[name].abs().amin(1) > 0.0
        assert touched.tolist() == [False, True, False, True, False]
        assert gradients[name][~touched].abs().max() == 0.0
    assert all(bool((value != 0.0).any()) for value in gradients.values())


def test_no_gradient_flows_into_what_was_drawn() -> None:
    meta = make_meta()
    supports, query = make_samples(meta)
    support = supports[0]
    z, advantage = support.z.clone().requires_grad_(), support.samples.advantage.clone().requires_grad_()
    watched = support._replace(z=z, samples=support.samples._replace(advantage=advantage))
    old_z = query.z.clone().requires_grad_()
    loss, divergence = evaluate_outer(
        POLICY, meta, CHOSEN, [watched], query._replace(z=old_z), MaesnConfig(kl_weight=0.1)
    )
    for value in (loss, divergence):
        found = torch.autograd.grad(value, [z, advantage, old_z], allow_unused=True, retain_graph=True)
        assert found == (None, None, None)
    inner = latent_loss(gather(meta, CHOSEN), z, advantage[..., 0]).sum()
    assert torch.autograd.grad(inner, [z, advantage], allow_unused=True) == (None, None)


def test_the_first_episodes_of_a_batch() -> None:
    query = make_samples(make_meta())[1]
    some = first_episodes(query, 3)
    assert torch.equal(some.z, query.z[:, :3])
    assert torch.equal(some.noise, query.noise[:, :3])
    fields, whole = some.samples._asdict(), query.samples._asdict()
    assert torch.equal(fields.pop("objective"), whole["objective"])
    for name, value in fields.items():
        pairs = zip(value, whole[name], strict=True) if name == "old" else [(value, whole[name])]
        assert all(torch.equal(one, other[:, :3]) for one, other in pairs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 0}, "latent_dim: expected a whole number from 1 to .*, got 0"),
        ({"step_size": -1.0}, r"step_size: expected a number above 0 to .*, got -1\.0"),
        ({"largest_step": 0.5}, r"largest_step.*at least step_size = 1\.0, got 0\.5"),
        ({"inner_steps": -1}, "inner_steps: expected a whole number from 0 to .*, got -1"),
        ({"kl_weight": -0.1}, r"kl_weight: expected a number from 0 to .*, got -0\.1"),
        ({"kl_weight_after": -0.1}, r"kl_weight_after: expected a number from 0 to .*, got -0\.1"),
        ({"trace": 1.5}, r"trace: expected a number from 0 to 1, got 1\.5"),
        ({"activation": "elu"}, "activation: expected one of relu, tanh, got 'elu'"),
        ({"curvature_episodes": 21}, "curvature_episodes.*0 to episodes = 20, got 21"),
    ],
)
def test_configurations_that_cannot_train_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaesnConfig(**change)
