"""Densities of logged choices: of the policy, and of the behaviour that made the log, where it did not record its own.

The behaviour is cloned: a Gaussian whose mean and scale are a network of the observation, or a softmax over choices.
The density of an episode comes from the fit that did not see it (cross-fitting over episodes), since a fit gives the
choices that it was fitted to a density that is too high, and so the policy a weight that is too low.

A command that lies on a limit of the robot was cut there: it counts with the probability of everything beyond the limit
(a censored Gaussian; Tobin, "Estimation of Relationships for Limited Dependent Variables", Econometrica 1958).

Sources: Hanna, Niekum, Stone, "Importance Sampling Policy Evaluation with an Estimated Behavior Policy", ICML 2019.

Axes: N decisions, E episodes, F folds, O observation, Z choice, C number of choices.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...skills.gaussian import Gaussian
from ..simpl.networks import StackedMLP
from .config import BehaviourConfig
from .decisions import Floats

EDGE = 1e-4
"""A command counts as cut off by a limit within this share of the range between the limits."""
LEAST_SCALE = 1e-2
"""Smallest standard deviation of a cloned Gaussian, on the scale of the log's own standard deviation."""


class Limits(NamedTuple):
    """Where choices are cut off; infinite where they are not."""

    low: Floats
    """Shape (Z,)."""
    high: Floats
    """Shape (Z,)."""

    @classmethod
    def none(cls, width: int) -> Limits:
        """No limits on so many axes."""
        return cls(np.full(width, -np.inf), np.full(width, np.inf))


class Behaviour(NamedTuple):
    """What the log did, by the fits that did not see it."""

    log_prob: Floats
    """Log density of each logged choice, shape (N,)."""
    loc: Floats
    """Mean of the Gaussian in each observation, shape (N, Z); empty for choices."""
    scale: Floats
    """Its standard deviation, shape (N, Z); empty for choices."""


def draw_folds(episodes: int, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A fold for each episode, 0 to min(folds, E) - 1, of sizes that differ by one at most; shape (E,)."""
    return rng.permutation(np.arange(episodes) % min(folds, episodes))


def censored_log_prob(loc: Tensor, scale: Tensor, choice: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Log density of a Gaussian that is cut to limits, nats, summed over axes.

    log N(a; loc, scale^2) within them, log Phi((low - loc) / scale) at the lower one, log Phi((loc - high) / scale) at
    the upper one.

    Args:
        loc: Before it is cut, shape (..., Z).
        scale: Shape (..., Z), > 0.
        choice: As logged, shape (..., Z).
        low: Shape (Z,), may be infinite.
        high: Shape (Z,), may be infinite.
    """
    edge = torch.where(torch.isfinite(high - low), EDGE * (high - low), torch.zeros_like(low))
    below, above = choice <= low + edge, choice >= high - edge
    inside = -0.5 * ((choice - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2.0 * math.pi)
    # an infinite limit must not reach the gradient
    finite_low, finite_high = torch.nan_to_num(low, neginf=0.0), torch.nan_to_num(high, posinf=0.0)
    at_low = torch.special.log_ndtr((finite_low - loc) / scale)
    at_high = torch.special.log_ndtr((loc - finite_high) / scale)
    return torch.where(below, at_low, torch.where(above, at_high, inside)).sum(-1)


def clone_behaviour(
    observation: NDArray[np.float32],
    choice: NDArray[np.float32],
    fold: NDArray[np.int64],
    config: BehaviourConfig,
    generator: torch.Generator,
    *,
    choices: int = 0,
    limits: Limits | None = None,
) -> Behaviour:
    """Log b(a | s) of each logged choice, by the network that was fitted to the episodes of the other folds.

    Args:
        observation: On the scale that networks see, shape (N, O).
        choice: Shape (N, Z); an index in its one axis where there are `choices`.
        fold: Of the episode of each decision, shape (N,).
        config: See `BehaviourConfig`.
        generator: Draws weights and batches, on the CPU.
        choices: C; 0 for a Gaussian.
        limits: Where choices were cut off.
    """
    count, width = int(fold.max()) + 1, choice.shape[1]
    low, high = (torch.from_numpy(end).float() for end in (limits or Limits.none(width)))
    inputs, told, folds = torch.from_numpy(observation), torch.from_numpy(choice), torch.from_numpy(fold)
    mean, std = told.mean(0), told.std(0, correction=0).clamp(min=1e-6)
    networks = StackedMLP(count, (observation.shape[1], *config.hidden, choices or 2 * width), generator)

    def gaussian_of(output: Tensor) -> Gaussian:
        shift, log_scale = output.chunk(2, -1)
        scale = std * (LEAST_SCALE + functional.softplus(log_scale + math.log(math.e - 1.0)))
        return Gaussian(mean + std * shift, scale)

    def log_prob(output: Tensor, index: Tensor) -> Tensor:
        """(F, b) of outputs (F, b, .) for the decisions of these indices."""
        if choices:
            return functional.log_softmax(output, -1).gather(-1, told[index].long().expand(len(output), -1, 1))[..., 0]
        return censored_log_prob(*gaussian_of(output), told[index], low, high)

    optimiser = torch.optim.Adam(networks.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1.0 - step / config.updates))
    own = torch.arange(count)[:, None]
    for _ in range(config.updates):
        index = torch.randint(len(inputs), (min(config.batch, len(inputs)),), generator=generator)
        seen = folds[index] != own if count > 1 else torch.ones(1, len(index), dtype=torch.bool)
        loss = -(log_prob(networks(inputs[index].expand(count, -1, -1)), index) * seen).mean(1).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    parts = []
    with torch.no_grad():
        for index in torch.split(torch.arange(len(inputs)), 2**14):
            # of each decision the network that left its fold out
            output = networks(inputs[index].expand(count, -1, -1))[folds[index], torch.arange(len(index))]
            gaussian = Gaussian(torch.zeros(len(index), 0), torch.zeros(len(index), 0))
            if not choices:
                gaussian = gaussian_of(output)
            parts.append((log_prob(output[None], index)[0], *gaussian))
    return Behaviour(*(torch.cat(part).double().numpy() for part in zip(*parts, strict=True)))
