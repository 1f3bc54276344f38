"""The losses of skill extraction, as pure functions.

Pertsch, Lee, Lim, "Accelerating Reinforcement Learning with Learned Skill Priors", CoRL 2020 (SPiRL), section 3.2: an
evidence lower bound whose reconstruction and KL terms are means over their dimensions (the published code's scaling:
beta of a sum-reduced bound is beta * H * A / Z), and a prior that is fitted to sampled skills.

Axes: B batch, H skill horizon, O observation, A action, Z skill.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .eye import stack_frames
from .gaussian import Gaussian, kl_per_dim, log_prob, standard_like
from .model import SkillModel

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class SkillLosses(NamedTuple):
    """The terms of one batch, scalars, before weighting."""

    reconstruction: Tensor
    """Closed-loop reconstruction of scaled actions, nats per action dimension."""
    open_reconstruction: Tensor
    """Open-loop reconstruction of scaled actions, nats per action dimension."""
    kl: Tensor
    """KL(q || N(0, I)), nats per skill dimension."""
    prior: Tensor
    """Negative log likelihood of a skill under the prior, nats per skill."""


def reconstruction_loss(predicted: Tensor, action: Tensor) -> Tensor:
    """-log N(action; predicted, 1), the mean over all axes of (B, H, A): batch, time, action; term 1 of the bound."""
    return 0.5 * (predicted - action).square().mean() + HALF_LOG_TWO_PI


def kl_loss(posterior: Gaussian) -> Tensor:
    """KL(q || N(0, I)), the mean over batch and skill dimensions of (B, Z); term 2 of the bound, before beta."""
    return kl_per_dim(posterior, standard_like(posterior)).mean()


def prior_loss(prior: Gaussian, skill: Tensor) -> Tensor:
    """E_q[-log p(z | s_0)], the sum over skill dimensions and mean over the batch of (B, Z).

    This is KL(q || p) up to the entropy of q, which the prior cannot change. The skill is detached: the prior follows
    the encoder and never bends it.
    """
    return -log_prob(prior, skill.detach()).mean()


def draw_steps(window: Tensor, steps: Tensor) -> Tensor:
    """The steps (B, D) of windows (B, H, X), as (B, D, X)."""
    rows = torch.arange(window.shape[0], device=window.device).unsqueeze(1)
    return window[rows, steps]


def compute_losses(
    model: SkillModel,
    observation: Tensor,
    action: Tensor,
    generator: torch.Generator,
    decoded_steps: int,
    pictures: Tensor | None = None,
) -> SkillLosses:
    """All terms for one batch of windows, with one sampled skill per window.

    Departure: the published method trains one decoder. We train the open-loop one beside the closed-loop one on a
    detached skill, so that it reads the skill space and does not shape it. The closed-loop decoder may see only
    `decoded_steps` steps of every window, drawn anew with replacement: the same loss in expectation, at less cost.

    Args:
        model: The model.
        observation: Windows (B, H, O), raw.
        action: Windows (B, H, A), raw; the reconstruction terms are on the scale of `model.action_scale`.
        generator: Source of the sampled skills and steps, on the model's device.
        decoded_steps: D; H or more means every step once.
        pictures: Of a robot with a camera, (B, F - 1 + H, height, width, channels), uint8: F - 1 before the window,
            then those of its steps. Only those of the first step and of decoded steps are looked at.
    """
    posterior = model.encode(observation, action)
    skill = posterior.sample(generator)
    first = observation[:, 0]
    action = model.action_scale(action)
    seen, target = observation, action
    batch, horizon = action.shape[:2]
    steps = None
    if decoded_steps < horizon:
        steps = torch.randint(horizon, (batch, decoded_steps), generator=generator, device=action.device)
        seen, target = draw_steps(observation, steps), draw_steps(action, steps)
    if pictures is not None:
        if steps is None:
            steps = torch.arange(horizon, device=action.device).expand(batch, -1)
        # the first step and the decoded ones in one pass
        looked = torch.cat((torch.zeros_like(steps[:, :1]), steps), dim=1)
        both = torch.cat((first.unsqueeze(1), seen), dim=1)
        both = model.see(both, stack_frames(pictures, looked, model.config.image_frames))
        first, seen = both[:, 0], both[:, 1:]
    repeated = skill.unsqueeze(1).expand(-1, target.shape[1], -1)
    return SkillLosses(
        reconstruction=reconstruction_loss(model.decode_scaled(seen, repeated), target),
        open_reconstruction=reconstruction_loss(model.decode_open_scaled(skill.detach(), first), action),
        kl=kl_loss(posterior),
        prior=prior_loss(model.prior_of(first), skill),
    )


def total_loss(losses: SkillLosses, kl_weight: float) -> Tensor:
    """The loss: reconstruction + beta KL + prior (+ the open-loop decoder's own reconstruction), a scalar."""
    return losses.reconstruction + losses.open_reconstruction + kl_weight * losses.kl + losses.prior
