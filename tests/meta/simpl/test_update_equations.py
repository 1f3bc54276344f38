"""One update of SiMPL, and one of fine-tuning, against the equations written out task by task.

The losses have tests of their own; here it counts what is put into them. The reference draws the same numbers in the
same order, and then shares nothing with the update but the networks, the pool and the residual policy. Every weight of
a loss has another value, and the prior depends on the observation, so that nothing can stand in the place of another.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from supple.meta.collect import Episodes
from supple.meta.simpl.config import FinetuneConfig, SimplConfig
from supple.meta.simpl.finetune import Finetuner
from supple.meta.simpl.learner import SimplLearner
from supple.meta.simpl.networks import residual_policy
from supple.meta.simpl.pool import Transitions
from supple.meta.space import SkillSpace
from supple.meta.testing import PointBatch
from supple.skills.config import SkillConfig
from supple.skills.gaussian import Gaussian
from supple.skills.model import SkillModel

from .test_learner import GOALS, SMALL

TARGETS = {
    "embedding_kl_prior": 0.1,
    "embedding_kl_posterior": 3.0,
    "policy_kl_prior": 0.002,
    "policy_kl_posterior": 40.0,
}


def make_space(robot: PointBatch) -> SkillSpace:
    """Skills whose prior differs from place to place."""
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    model = SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width))
    model.normaliser.std.fill_(2.0)
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter.mul_(3.0)
    return SkillSpace(model)


def make_learner(only_increase: bool) -> SimplLearner:
    robot = PointBatch(8)
    weights: dict[str, Any] = {name: (0.2, target) for name, target in TARGETS.items()}
    config = SimplConfig(
        **{
            **SMALL,
            "prior_tasks": 2,
            "policy_every": 1,
            "only_increase": only_increase,
            "discount": 0.7,
            "bfloat16": False,
            "kl_clip": 0.5,
            **weights,
        }
    )
    learner = SimplLearner(make_space(robot), robot, GOALS, config, seed=3)
    with torch.no_grad():
        learner.multipliers["policy_prior"].parameter.fill_(-1.0)
        learner.multipliers["policy_posterior"].parameter.fill_(0.5)
        learner.multipliers["embedding_prior"].parameter.fill_(-0.5)
        learner.multipliers["embedding_posterior"].parameter.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    learner._collect()
    return learner


def weight(parameter: Tensor) -> Tensor:
    """lambda = softplus(parameter)."""
    return (1.0 + parameter.exp()).log()


def divergence(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p || q), summed over the last axis."""
    found: Tensor = kl_divergence(Normal(p.loc, p.scale), Normal(q.loc, q.scale)).sum(-1)
    return found


def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def task_of(batch: Transitions, index: int) -> Transitions:
    """The transitions of one task."""
    return Transitions(
        *(Gaussian(v.loc[index], v.scale[index]) if isinstance(v, Gaussian) else v[index] for v in batch)
    )


def step(learner: Any, name: str, loss: Tensor, parameters: list[Tensor]) -> None:
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
        if name == "multiplier" and learner.config.only_increase and gradient is not None:
            parameter.grad = gradient.minimum(torch.zeros(()))
    learner.optimisers[name].step()


def critic_at(critic: Any, observation: Tensor, latent: Tensor, embedding: Tensor) -> Tensor:
    """Q_j, (2, B)."""
    inputs = torch.cat([observation, latent, embedding], dim=1)
    value: Tensor = critic(torch.stack([inputs, inputs]))[..., 0]
    return value


def reference_update(learner: SimplLearner) -> None:
    """Algorithm 1 of Nam et al. 2022 on one batch, a task at a time."""
    config, agent, generator, pool = learner.config, learner.networks, learner.generator, learner.pool
    few, count = config.prior_tasks, config.prior_tasks + config.posterior_tasks
    task = torch.randint(learner.num_tasks, (count,), generator=generator)
    batch = pool.sample(task, config.batch, config.success_batch, generator)
    short = agent.encode(pool.sample_context(task[:few], config.prior_context, None, generator))
    episodes = torch.randint(1, config.context_episodes + 1, (count - few,), generator=generator)
    long = agent.encode(pool.sample_context(task[few:], config.posterior_context, episodes, generator))
    q = Gaussian(torch.cat([short.loc, long.loc]), torch.cat([short.scale, long.scale]))
    noise = draw((count, config.batch, agent.embedding_dim), generator)
    next_noise = draw((count, config.batch, agent.space.latent_dim), generator)
    noise_of_policy = draw((count, config.batch, agent.space.latent_dim), generator)
    multipliers = {name: module.parameter for name, module in learner.multipliers.items()}
    kinds = ["prior"] * few + ["posterior"] * (count - few)

    errors, regularisers, rewards, embeddings = [], [], [], []
    for m in range(count):
        of, kind = task_of(batch, m), kinds[m]
        s, following = agent.space.normalise(of.observation), agent.space.normalise(of.next_observation)
        e = q.loc[m] + q.scale[m] * noise[m]  # one for each transition, the same at s and s'
        embeddings.append(e.detach())
        with torch.no_grad():
            policy = residual_policy(agent.policy(torch.cat([following, e], dim=1)), of.next_prior)
            z = policy.loc + policy.scale * next_noise[m]
            least = critic_at(agent.target_critic, following, z, e).min(dim=0).values
            penalty = weight(multipliers[f"policy_{kind}"]) * divergence(policy, of.next_prior).clamp(max=0.5)
            y = of.reward + 0.7 * (1.0 - of.terminated) * (least - penalty)
        errors.append((critic_at(agent.critic, s, of.latent, e) - y) ** 2)
        standard = Gaussian(torch.zeros_like(q.loc[m]), torch.ones_like(q.scale[m]))
        multiplier = multipliers["embedding_prior"] if kind == "prior" else multipliers["embedding_posterior"][task[m]]
        regularisers.append(weight(multiplier).detach() * divergence(Gaussian(q.loc[m], q.scale[m]), standard))
        logit = agent.encoder["reward"](torch.cat([e, following], dim=1))[:, 0]
        low, high = learner.pool.tensors["reward_range"]
        rewards.append(functional.binary_cross_entropy_with_logits(logit, (of.reward - low) / (high - low)))
    loss = torch.stack(errors).mean() + torch.stack(regularisers).mean()
    loss = loss + config.reward_prediction * torch.stack(rewards).mean()
    critics, encoder = list(agent.critic.parameters()), list(agent.encoder.parameters())
    step(learner, "critic", loss, [*critics, *encoder])
    with torch.no_grad():
        for target, source in zip(agent.target_critic.parameters(), critics, strict=True):
            target.copy_(target + config.target_rate * (source - target))

    losses, raises = [], []
    for m in range(count):
        of, kind = task_of(batch, m), kinds[m]
        s = agent.space.normalise(of.observation)
        policy = residual_policy(agent.policy(torch.cat([s, embeddings[m]], dim=1)), of.prior)
        z = policy.loc + policy.scale * noise_of_policy[m]
        least = critic_at(agent.critic, s, z, embeddings[m]).min(dim=0).values
        held = divergence(policy, of.prior)
        losses.append(weight(multipliers[f"policy_{kind}"]).detach() * held - least)
        lengths = few if kind == "prior" else count - few
        own = weight(multipliers[f"policy_{kind}"]) * (TARGETS[f"policy_kl_{kind}"] - held.detach().mean())
        spread = divergence(Gaussian(q.loc[m], q.scale[m]), standard).detach()
        multiplier = multipliers["embedding_prior"] if kind == "prior" else multipliers["embedding_posterior"][task[m]]
        own = own + weight(multiplier) * (TARGETS[f"embedding_kl_{kind}"] - spread)
        raises.append(own / lengths)
    step(learner, "policy", torch.stack(losses).mean(), list(agent.policy.parameters()))
    step(learner, "multiplier", torch.stack(raises).sum(), list(learner.multipliers.parameters()))


@pytest.mark.parametrize("only_increase", [False, True])
def test_an_update_of_simpl_is_the_papers(only_increase: bool) -> None:
    learner, reference = make_learner(only_increase), make_learner(only_increase)
    for _ in range(2):
        learner.update()
        reference_update(reference)
    for (name, value), expected in zip(
        learner.networks.state_dict().items(), reference.networks.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")
    for (name, value), expected in zip(
        learner.multipliers.state_dict().items(), reference.multipliers.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")


def make_tuner() -> Finetuner:
    robot = PointBatch(1)
    config = FinetuneConfig(
        batch=16,
        min_transitions=4,
        pool_episodes=64,
        discount=0.7,
        kl_clip=0.5,
        kl_target=0.3,
        multiplier=0.4,
        bfloat16=False,
    )
    tuner = Finetuner(make_space(robot), 2, 2, torch.tensor([0.5, -1.0]), (16, 16), config, 5)
    source = torch.Generator().manual_seed(2)
    rows = 32
    observation = 3.0 * torch.randn((rows, 3, 2), generator=source)
    prior = tuner.space.prior_of(observation)
    length = torch.randint(1, 3, (rows,), generator=source)
    tuner.add(
        Episodes(
            observation,
            torch.randn((rows, 2, 3), generator=source),
            prior,
            torch.randn((rows, 2), generator=source),
            length,
            torch.rand(rows, generator=source) < 0.5,
            5 * length,
            torch.zeros(rows, 10, 2),
        )
    )
    return tuner


def reference_finetuning(tuner: Finetuner) -> None:
    """Eq. 4-6 of Pertsch et al. 2020 on one batch, with the embedding that is held."""
    config, generator = tuner.config, tuner.generator
    of = task_of(tuner.pool.sample(torch.zeros(1, dtype=torch.int64), config.batch, 0, generator), 0)
    e = tuner.embedding.repeat(config.batch, 1)
    s, following = tuner.space.normalise(of.observation), tuner.space.normalise(of.next_observation)
    with torch.no_grad():
        policy = residual_policy(tuner.policy(torch.cat([following, e], dim=1)), of.next_prior)
        z = policy.loc + policy.scale * draw((config.batch, 3), generator)
        least = critic_at(tuner.target_critic, following, z, e).min(dim=0).values
        penalty = weight(tuner.multiplier) * divergence(policy, of.next_prior).clamp(max=0.5)
        y = of.reward + 0.7 * (1.0 - of.terminated) * (least - penalty)
    step(tuner, "critic", ((critic_at(tuner.critic, s, of.latent, e) - y) ** 2).mean(), list(tuner.critic.parameters()))
    with torch.no_grad():
        for target, source in zip(tuner.target_critic.parameters(), tuner.critic.parameters(), strict=True):
            target.copy_(target + config.target_rate * (source - target))
    policy = residual_policy(tuner.policy(torch.cat([s, e], dim=1)), of.prior)
    z = policy.loc + policy.scale * draw((config.batch, 3), generator)
    held, alpha = divergence(policy, of.prior), weight(tuner.multiplier)
    least = critic_at(tuner.critic, s, z, e).min(dim=0).values
    step(tuner, "policy", (alpha.detach() * held - least).mean(), list(tuner.policy.parameters()))
    step(tuner, "multiplier", alpha * (0.3 - held.detach().mean()), [tuner.multiplier])


def test_an_update_of_fine_tuning_is_the_papers() -> None:
    tuner, reference = make_tuner(), make_tuner()
    for _ in range(2):
        tuner.update()
        reference_finetuning(reference)
    for (name, value), expected in zip(tuner.state_dict().items(), reference.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")
