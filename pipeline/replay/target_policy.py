"""What the policy of a bundle would choose in logged states: mean and scale, probabilities, or draws alone.

Axes: N states, M draws, O observation, A action, Z latent, C choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...adapt.policies import compute_rows
from ...adapt.runtime_agent import SeenRows
from ...adapt.spaces import RowSpace
from ...robots.robot import Float
from .forced import ConstantNoise, Forced
from .section import Replay

MIXED = 16
"""Draws of a skill in each state by which the actions of a policy over skills are described."""
LEAST = 0.02
"""Smallest standard deviation of these actions, on the scale on which the limits are -1 and 1."""
AT_ONCE = 4096


class Chosen(NamedTuple):
    """The policy in N states."""

    drawn: Float
    """Shape (N, M, Z): what it chooses; all choices where there are finitely many and their probabilities are known."""
    weight: Float
    """Of each, shape (N, M); they sum to 1."""
    loc: Float | None = None
    """Mean, shape (N, Z); None where it is no Gaussian."""
    scale: Float | None = None
    """Standard deviation, shape (N, Z)."""

    complete: bool = False
    """`drawn` are all choices, with their probabilities."""

    @property
    def has_density(self) -> bool:
        """Whether importance weights can be computed."""
        return self.complete or self.loc is not None


def is_plain(replay: Replay) -> bool:
    """Whether the policy acts by the observation alone, and not by what it saw before."""
    return replay.bundle.kind.policy is not None


def choose(replay: Replay, observation: Float, draws: int, rng: np.random.Generator) -> Chosen:
    """A policy that acts by the observation alone, in raw observations (N, O)."""
    parts = [_choose(replay, part, draws, rng) for part in np.array_split(observation, -(-len(observation) // AT_ONCE))]
    return join(parts)


def join(parts: Sequence[Chosen]) -> Chosen:
    """Several sets of states as one; it has a density if all have."""

    def whole(arrays: Sequence[Float | None]) -> Float | None:
        return (
            None if any(array is None for array in arrays) else np.concatenate([np.asarray(array) for array in arrays])
        )

    drawn, weight = (np.concatenate([part[field] for part in parts]) for field in (0, 1))
    loc, scale = whole([part.loc for part in parts]), whole([part.scale for part in parts])
    return Chosen(drawn, weight, loc, scale, all(part.complete for part in parts))


def _choose(replay: Replay, observation: Float, draws: int, rng: np.random.Generator) -> Chosen:
    bundle, rows = replay.bundle, len(observation)
    noise = ConstantNoise()
    agent = bundle.make_agent(noise)
    agent.begin_task(rows)
    agent.begin_episode(explore=False)
    if agent.space.choices:
        settings = bundle.kind.read_policy(bundle.contract)
        assert settings is not None, "a plain policy has settings"
        params: Mapping[str, Float] = agent.params  # type: ignore[attr-defined]  # those of `Kind.policy` have some
        logits = compute_rows(params, settings, agent.space.normalise(observation)).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return every_choice(odds / odds.sum(axis=1, keepdims=True))
    seen = SeenRows(observation, np.arange(rows), np.zeros(rows, np.float32))
    with np.errstate(over="ignore", invalid="ignore"):
        loc = agent.act(seen)
        noise.value = 1.0
        scale = agent.act(seen) - loc
    return gaussian_draws(loc, scale, draws, rng)


def every_choice(probability: np.ndarray) -> Chosen:
    """All of C choices with their probabilities, (N, C)."""
    count = probability.shape[1]
    drawn = np.broadcast_to(np.arange(count, dtype=np.float32)[None, :, None], (*probability.shape, 1))
    return Chosen(drawn, probability.astype(np.float32), complete=True)


def gaussian_draws(loc: Float, scale: Float, draws: int, rng: np.random.Generator) -> Chosen:
    """M draws of a Gaussian, each (N, Z); without a scale it has no density, and draws are its mean."""
    noise = rng.standard_normal((len(loc), draws, loc.shape[1])).astype(np.float32)
    drawn = loc[:, None] + scale[:, None] * noise
    weight = np.full((len(loc), draws), 1.0 / draws, np.float32)
    spread = bool((scale > 0.0).all()) and bool(np.isfinite(loc).all())
    return Chosen(drawn, weight, loc if spread else None, scale if spread else None)


def from_forced(forced: Forced, draws: int, rng: np.random.Generator, space: RowSpace) -> Chosen:
    """A policy that remembers, which was shown a whole episode: each decision has its own past, (D, ...).

    Of a policy that always takes the likeliest of named actions only this one is known.
    """
    if not space.choices:
        return gaussian_draws(forced.loc, forced.scale, draws, rng)
    if forced.probability is not None:
        return every_choice(forced.probability)
    drawn = forced.samples.swapaxes(0, 1)
    return Chosen(drawn, np.full(drawn.shape[:2], 1.0 / drawn.shape[1], np.float32))


def act_at_once(replay: Replay, chosen: Chosen, observation: Float, draws: int, rng: np.random.Generator) -> Chosen:
    """Actions of a policy over skills that would choose a new skill at every step, as Gaussians, (N, A).

    They are on the scale of `to_scale`.

    Departure: on the robot a skill lasts for H steps, so that its actions hang together. At the raw level no estimator
    can see that.
    """
    assert chosen.loc is not None, "a policy over skills is a Gaussian"
    assert chosen.scale is not None, "a policy over skills is a Gaussian"
    space = RowSpace(replay.bundle.contract.space, replay.spec, replay.bundle.weights)
    total: np.ndarray = np.zeros((len(observation), replay.spec.action.shape[0]))
    square, kept = np.zeros_like(total), []
    for index in range(MIXED):
        noise = rng.standard_normal(chosen.loc.shape).astype(np.float32)
        action = to_scale(replay, space.hold(chosen.loc + chosen.scale * noise)(observation)).astype(np.float64)
        total, square = total + action, square + action**2
        if index < draws:
            kept.append(action.astype(np.float32))
    loc = total / MIXED
    scale = np.sqrt(np.maximum(square / MIXED - loc**2, LEAST**2))
    drawn = np.stack(kept, axis=1)
    weight = np.full(drawn.shape[:2], 1.0 / len(kept), np.float32)
    return Chosen(drawn, weight, loc.astype(np.float32), scale.astype(np.float32))


def to_scale(replay: Replay, action: Float) -> Float:
    """Commands on the scale on which the robot's limits are -1 and 1; an axis without limits stays as it is."""
    low, high = replay.spec.action.low.astype(np.float64), replay.spec.action.high.astype(np.float64)
    finite = np.isfinite(low) & np.isfinite(high)
    middle = np.where(finite, (low + high) / 2.0, 0.0)
    half = np.where(finite, (high - low) / 2.0, 1.0)
    scaled: Float = ((action - middle) / half).astype(np.float32)
    return scaled
