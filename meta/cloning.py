"""Behaviour cloning: the first parameters of a policy from play data, to meta-train from there.

Source: Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022, appendix A: BC+MAML and
BC+PEARL, baselines that know the data but have no skills (the data's actions are cloned, `RawSpace`). Here a policy
can also be cloned in skills, whose latents the skill model's encoder gives.

Play data says nothing of tasks. A policy that reads a z beside the observation (PEARL, MAESN) is cloned with z drawn
anew from N(0, I) in every sample: it does what the data do whatever z is, and is free to give z a meaning later.

Axes: B samples, H low-level steps of a decision, O observation, A action, Z latent, C choices, L axes of z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import ConfigError, SpecError, TrainingFault
from ..skills.gaussian import Gaussian
from .config import CloneConfig
from .distribution import Distribution, log_prob
from .space import ActionSpace, ChoiceSpace, SkillSpace, UnitSpace

Params = dict[str, Tensor]
PolicyFunction = Callable[[Params, Tensor], Distribution]
"""From parameters and inputs (B, O + L) to the distribution over choices u; an `MlpPolicy` is one."""


class Cloned(NamedTuple):
    """Where cloning is."""

    params: Params
    """So far; a copy that stays as it is."""
    metrics: dict[str, float]
    """`step`, and `loss`, the mean negative log-likelihood in nats since the last report."""


def play_latents(space: ActionSpace, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """The decisions in a space that windows of play data amount to: observations (B, O) and latents (B, Z).

    Args:
        space: Skills are the means of the skill model's encoder; raw and unit actions and choices are the actions.
        observation: Windows of H = `space.horizon` steps, raw, shape (B, H, O).
        action: In the robot's units, or indices of choices, shape (B, H, A).

    Raises:
        SpecError: The windows are not as long as a decision.
    """
    if observation.shape[1] != space.horizon or action.shape[1] != space.horizon:
        raise SpecError(
            f"play_latents: expected windows of {space.horizon} steps, got {observation.shape[1]} observations and "
            f"{action.shape[1]} actions; cut windows of the space's horizon"
        )
    first = observation[:, 0]
    if isinstance(space, SkillSpace):
        with torch.no_grad():
            return first, space.model.encode(observation, action).loc
    if isinstance(space, UnitSpace):
        return first, space.latent_of(action[:, 0])
    return first, action[:, 0]


def clone_loss(policy: Distribution, choice: Tensor, least_scale: float) -> Tensor:
    """-mean log pi(u | s), nats, a scalar; a Gaussian is taken with a standard deviation of at least `least_scale`."""
    if isinstance(policy, Gaussian):
        policy = Gaussian(policy.loc, policy.scale.clamp(min=least_scale))
    return -log_prob(policy, choice).mean()


def clone(
    policy: PolicyFunction,
    params: Params,
    space: ActionSpace,
    observation: Tensor,
    latent: Tensor,
    config: CloneConfig,
    generator: torch.Generator,
) -> Iterator[Cloned]:
    """Raises the likelihood of the data under the policy; yields where it is every `config.period` updates, and last.

    Nothing that is passed in is changed, `generator` excepted.

    Args:
        policy: What the parameters belong to, see `PolicyFunction`; it chooses u = (latent - mean) / std of the space's
            prior, or a choice.
        params: Where to start, without a task axis.
        space: What the policy chooses in.
        observation: Raw, shape (B, O).
        latent: What the data chose there, shape (B, Z), see `play_latents`.
        config: See `CloneConfig`.
        generator: Draws samples and z; on the device of the parameters.

    Raises:
        SpecError: There is no data, or not as many latents as observations.
        TrainingFault: The loss became non-finite.
    """
    if len(observation) == 0 or len(observation) != len(latent):
        raise SpecError(
            f"clone: expected as many latents as observations and at least one, got {len(latent)} and "
            f"{len(observation)}; pass the decisions of `play_latents`"
        )
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    device = generator.device
    with torch.no_grad():
        inputs, choice = _as_choices(space, observation.to(device), latent.to(device))
    optimiser = torch.optim.Adam(list(leaves.values()), lr=config.learning_rate)
    losses: list[Tensor] = []
    for step in range(1, config.updates + 1):
        rows = torch.randint(len(inputs), (config.batch,), generator=generator, device=device)
        noise = torch.randn((config.batch, config.noise_dim), generator=generator, device=device)
        loss = clone_loss(policy(leaves, torch.cat((inputs[rows], noise), dim=-1)), choice[rows], config.least_scale)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.detach())
        if step % config.period == 0 or step == config.updates:
            mean, losses = float(torch.stack(losses).mean()), []
            if not math.isfinite(mean):
                raise TrainingFault(
                    f"cloning step {step}: expected a finite loss, got {mean}; lower learning_rate or clean the data"
                )
            found = {name: value.detach().clone() for name, value in leaves.items()}
            yield Cloned(found, {"step": float(step), "loss": mean})


def _as_choices(space: ActionSpace, observation: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    """What the policy reads, (B, O), and the choices u of the latents, (B, Z)."""
    inputs = space.normalise(observation)
    if isinstance(space, ChoiceSpace):
        return inputs, latent
    prior = space.prior_of(observation)
    return inputs, (latent - prior.loc) / prior.scale


def module_policy(module: nn.Module, distribution: Callable[[Tensor], Distribution]) -> PolicyFunction:
    """A network and its output's meaning as a function of parameters (those of `module.named_parameters()`)."""

    def policy(params: Params, inputs: Tensor) -> Distribution:
        output: Tensor = functional_call(module, params, (inputs,))
        return distribution(output)

    return policy


def start_from(meta: Params, params: Params, iteration: int) -> None:
    """Copies first parameters into the `policy.*` of the meta-parameters of a learner, in place.

    Raises:
        ConfigError: Its meta-training has begun, or they are not those of this policy.
    """
    if iteration:
        raise ConfigError(
            f"start_from: expected a learner before its first iteration, got one after {iteration}; make a new one"
        )
    expected = {name.removeprefix("policy."): value for name, value in meta.items() if name.startswith("policy.")}
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    given = {name: tuple(value.shape) for name, value in params.items()}
    if given != shapes:
        raise ConfigError(
            f"start_from: expected the policy's parameters {shapes}, got {given}; clone a policy of the same sizes"
        )
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(params[name])
