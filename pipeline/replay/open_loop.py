"""Open loop: what the policy would have commanded on the logged observations, against what was commanded.

Departure over h steps: the log is cut into windows of h steps. In each, the policy acts on the logged observations, see
`forced.py`, and its departure is the mean over the window of (its command - the logged command), for each action axis.
At h = 1 that is the usual action error. Over H and 10 H steps, differences that cancel each other vanish, such as noise
or an early start, and what is left would lead the robot elsewhere. What a horizon means for each policy:

    flat         the policy chooses a command at each step; its memory, where it has one, saw the log up to that step
    skills       a skill is chosen every H steps and decoded on the logged observations; windows begin with a skill
    recurrent    as flat; where it reads its last command, it is told the logged one

The nearest of K: of K draws of a stochastic policy, the one whose departure is smallest in a window, on the scale on
which the limits of the robot are -1 and 1. A policy with several ways to do a task may be far from the log by its mean.

A step that the log keeps with `valid` = 0 is shown to the agent, as to the robot, and is compared with nothing. Neither
is a window with such a step in it.

All of it says how alike policy and log are, not how good the policy is. Imitation error is a weak sign of success.

Axes: T steps, A action, K samples, W windows, D decisions, Z latent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...adapt.action_limits import ActionLimits
from ...adapt.spaces import RowSpace
from ...datasets.episode import Episode
from ...robots.limits import RobotLimits, find_scale
from ...robots.robot import Float
from ...robots.spec import RobotSpec
from ..settings.replay import OpenLoopConfig
from .dry_limits import NONE, count_clamps, find_clamps, list_clamps
from .forced import LEAST_PROBABILITY, Forced, force
from .latency import record_latency
from .section import Replay

PART = "open_loop"
SALT = 1
WORST = 5
"""Clamps of each episode that are kept with their step."""
Record = Mapping[str, Any]


def find_horizons(replay: Replay, config: OpenLoopConfig) -> tuple[int, int, int]:
    """1, H and 10 H steps."""
    horizon = replay.bundle.contract.space.horizon
    horizon = config.horizon if horizon == 1 else horizon
    return (1, horizon, 10 * horizon) if horizon > 1 else (1, 10, 100)


def find_half(spec: RobotSpec) -> NDArray[np.float64]:
    """Half of the range of each action axis, (A,); 1 where it is infinite."""
    half = (spec.action.high.astype(np.float64) - spec.action.low.astype(np.float64)) / 2.0
    return np.where(np.isfinite(half), half, 1.0)


def read_reward(replay: Replay, episode: Episode) -> Float | None:
    """The rewards of an episode as logged, (T,); None where the log has none."""
    name = find_reward(replay)
    return None if name is None else np.asarray(episode.arrays[name], np.float32).reshape(episode.length)


def find_reward(replay: Replay) -> str | None:
    """The name of the log's reward; None where there is none."""
    features = replay.store.schema.features
    return next((one.name for one in features if one.role == "reward" and one.shape in ((), (1,))), None)


def play_log(replay: Replay, config: OpenLoopConfig, limits: RobotLimits | None) -> list[dict[str, Any]]:
    """The record of every episode with a valid step, see `compare`.

    Raises:
        StoreError: No step of the log is valid, or a chunk is damaged.
        Interrupted: See `Replay.map_episodes`.
    """
    actions = None if limits is None else ActionLimits.of(replay.spec, limits)

    def compute(number: int, episode: Episode) -> dict[str, Any]:
        forced = force_episode(replay, config.samples, number, episode, timed=True)
        return compare(replay, config, number, episode, forced, limits, actions)

    starts = replay.store.find_stretches().start
    numbers = np.unique(np.searchsorted(replay.store.episodes.start, starts, "right") - 1)
    return replay.map_episodes(PART, compute, only=numbers.tolist())


def force_episode(replay: Replay, samples: int, number: int, episode: Episode, *, timed: bool = False) -> Forced:
    """Shows an episode to the agent; the same number gives the same draws. See `force` for `timed`."""
    observation, action = (np.asarray(episode.arrays[name], np.float32) for name in ("observation", "action"))
    rng = replay.make_rng(SALT, number)
    return force(replay, observation, action, read_reward(replay, episode), rng, samples, timed=timed)


def compare(
    replay: Replay,
    config: OpenLoopConfig,
    number: int,
    episode: Episode,
    forced: Forced,
    limits: RobotLimits | None,
    actions: ActionLimits | None,
) -> dict[str, Any]:
    """What is kept of one episode, as JSON; steps with a command that is not finite are counted and left out."""
    spec, logged = replay.spec, np.asarray(episode.arrays["action"], np.float64)
    valid = replay.store.load_valid(number)
    good = np.all(np.isfinite(forced.action), axis=1)
    wanted = np.where(good[:, None], forced.action, logged).astype(np.float64)
    half, period = find_half(spec), spec.control_period
    samples = forced.samples.astype(np.float64)
    samples = samples if np.isfinite(samples).all() else samples[:0]
    record: dict[str, Any] = {
        "number": number,
        "steps": episode.length,
        "faults": int((~good).sum()),
        "horizons": {
            str(steps): found
            for steps in find_horizons(replay, config)
            if (found := compute_departures(wanted, samples, logged, half, steps, valid)) is not None
        },
        "cosine": compute_cosine(wanted[valid] / half, logged[valid] / half),
        "nll": compute_nll(replay, forced, logged, valid),
        "change": {
            "policy": compute_change(wanted, period, valid),
            "log": compute_change(logged, period, valid),
        },
        "latency": record_latency(forced.seconds, find_arrival(replay, episode), period),
        "logged": {
            "steps": int(valid.sum()),
            "sum": logged[valid].sum(axis=0).tolist(),
            "square": np.square(logged[valid]).sum(axis=0).tolist(),
        },
        "choices": compare_choices(replay, config, wanted, samples, logged, valid) if spec.choices else None,
    }
    if limits is not None and actions is not None:
        record["limits"] = record_limits(episode, wanted, limits, actions)
    return record


def compare_choices(
    replay: Replay,
    config: OpenLoopConfig,
    wanted: NDArray[np.float64],
    samples: NDArray[np.float64],
    logged: NDArray[np.float64],
    valid: NDArray[np.bool_],
) -> dict[str, Any]:
    """What is kept of one episode of a robot that chooses among C named actions.

    Args:
        replay: Has the robot.
        config: Has the horizon.
        wanted: Choices of the policy, the likeliest ones, (T, 1).
        samples: With its randomness, (K, T, 1).
        logged: Choices of the log, (T, 1).
        valid: Which steps count, (T,).

    Returns:
        `counts`: steps by logged and by wanted choice, (C, C); `windows`: see `compare_shares`, by horizon; `hits`:
        share of the steps in which one of K draws is the logged choice; `change`: changes of the choice per second.
    """
    count, period = len(replay.spec.choices), replay.spec.control_period
    mine, theirs = (choices[:, 0].astype(np.int64) for choices in (wanted, logged))
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (theirs[valid], mine[valid]), 1)
    eye, pairs = np.eye(count), valid[1:] & valid[:-1]
    apart = {steps: cut_windows(eye[mine] - eye[theirs], steps, valid) for steps in find_horizons(replay, config)}
    windows = {
        str(steps): {"windows": len(cut), "distance": compare_shares(cut)} for steps, cut in apart.items() if len(cut)
    }
    changes = {
        who: float((np.diff(choices)[pairs] != 0).mean() / period) if pairs.any() else 0.0
        for who, choices in (("policy", mine), ("log", theirs))
    }
    hits = float((samples[..., 0] == logged[:, 0]).any(axis=0)[valid].mean()) if len(samples) else None
    return {"counts": table.tolist(), "windows": windows, "hits": hits, "change": changes}


def compare_shares(apart: NDArray[np.float64]) -> float:
    """Mean over windows of h steps of half the sum over choices of |their share of the one - of the other|.

    It is 0 where both chose the same equally often, in whatever order, and 1 where they share no choice. At 1 step it
    is the share of the steps in which they differ.

    Args:
        apart: The one less the other, both one-hot, (W, h, C).
    """
    return float(0.5 * np.abs(apart.mean(axis=1)).sum(axis=-1).mean())


def cut_windows(values: NDArray[np.float64], steps: int, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Windows of h steps one after the other, all of whose steps are valid: (..., T, A) -> (..., W, h, A)."""
    count = len(valid) // steps
    whole = valid[: count * steps].reshape(count, steps).all(axis=1)
    cut = values[..., : count * steps, :]
    return cut.reshape(*cut.shape[:-2], count, steps, cut.shape[-1])[..., whole, :, :]


def compute_departures(
    wanted: NDArray[np.float64],
    samples: NDArray[np.float64],
    logged: NDArray[np.float64],
    half: NDArray[np.float64],
    steps: int,
    valid: NDArray[np.bool_],
) -> dict[str, Any] | None:
    """Departures over windows of so many steps; None for an episode without one.

    Args:
        wanted: Commands of the policy, (T, A).
        samples: With its randomness, (K, T, A).
        logged: Commands of the log, (T, A).
        half: Half of each axis's range, (A,).
        steps: h.
        valid: Which steps count, (T,).

    Returns:
        The number of windows, and for each axis the mean over windows of the squared and of the absolute departure,
        and of the squared one of the nearest sample where there are samples.
    """

    def depart(commands: NDArray[np.float64]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = cut_windows(commands - logged, steps, valid).mean(axis=-2)
        return mean

    one = depart(wanted)
    if not len(one):
        return None
    found = {
        "windows": len(one),
        "square": np.square(one).mean(axis=0).tolist(),
        "absolute": np.abs(one).mean(axis=0).tolist(),
    }
    if len(samples):
        every = depart(samples)
        nearest = np.square(every / half).sum(axis=-1).argmin(axis=0)
        found["nearest"] = np.square(every[nearest, np.arange(len(one))]).mean(axis=0).tolist()
    return found


def compute_cosine(wanted: NDArray[np.float64], logged: NDArray[np.float64]) -> float | None:
    """Mean over steps of the cosine between two commands, (T, A) each; None where one of them is always 0."""
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(logged, axis=1)
    moving = norms > 1e-12
    return float(((wanted * logged).sum(axis=1)[moving] / norms[moving]).mean()) if moving.any() else None


def compute_nll(replay: Replay, forced: Forced, logged: NDArray[np.float64], valid: NDArray[np.bool_]) -> float | None:
    """Mean over valid steps of -log pi(logged command), nats, on the scale on which the limits are -1 and 1.

    For a robot that chooses among named actions, of their probability; one below `LEAST_PROBABILITY` counts as that.
    None where the policy has no density over commands: with skills, and where it draws nothing.
    """
    space = replay.bundle.contract.space
    if forced.probability is not None:
        chosen = forced.probability[np.arange(len(logged)), logged[:, 0].astype(np.int64)][valid]
        return float(-np.log(np.maximum(chosen, LEAST_PROBABILITY)).mean())
    if space.name not in ("unit", "raw") or not (forced.scale > 0.0).all() or not np.isfinite(forced.loc).all():
        return None
    latent = RowSpace(space, replay.spec, replay.bundle.weights).invert(logged.astype(np.float32))
    assert latent is not None, "unit and raw actions can be inverted"
    surprise = gaussian_nll(latent, forced.loc, forced.scale)[valid]
    change = np.log(find_half(replay.spec)).sum() if space.name == "raw" else 0.0
    return float(surprise.mean() - change)


def gaussian_nll(value: NDArray[np.floating], loc: Float, scale: Float) -> NDArray[np.float64]:
    """-log N(value; loc, scale^2) in nats, summed over the last axis."""
    spread = scale.astype(np.float64)
    distance = (value.astype(np.float64) - loc.astype(np.float64)) / spread
    total: NDArray[np.float64] = (0.5 * distance**2 + np.log(spread) + 0.5 * math.log(2.0 * math.pi)).sum(axis=-1)
    return total


def compute_change(commands: NDArray[np.float64], period: float, valid: NDArray[np.bool_]) -> list[float]:
    """Mean square of the change of each axis per second, (T, A) -> (A,), between valid steps; 0 without neighbours."""
    pairs = valid[1:] & valid[:-1]
    if not pairs.any():
        return [0.0] * commands.shape[1]
    return [float(value) for value in np.square(np.diff(commands, axis=0)[pairs] / period).mean(axis=0)]


def find_arrival(replay: Replay, episode: Episode) -> NDArray[np.float64]:
    """When each observation arrived, seconds of the log: by its stamps where it has them, else one per period."""
    stamps = episode.arrays.get("time")
    units = {feature.name: feature.units for feature in replay.store.schema.features}
    if stamps is not None and stamps.ndim == 1 and units["time"] == ("ns",):
        came: NDArray[np.float64] = np.maximum.accumulate((stamps - stamps[0]).astype(np.float64) * 1e-9)
        return came
    return np.arange(episode.length, dtype=np.float64) * replay.spec.control_period


def record_limits(
    episode: Episode, wanted: NDArray[np.float64], limits: RobotLimits, actions: ActionLimits
) -> dict[str, Any]:
    """What the limits would have done to the policy's commands and to the logged ones, and observations beyond."""
    observation = np.asarray(episode.arrays["observation"], np.float32)
    resting = limits.spec.compute_resting(observation[:1])[0]
    mine = find_clamps(actions, resting, wanted)
    theirs = find_clamps(actions, resting, np.asarray(episode.arrays["action"], np.float64))
    names = limits.spec.observation.names
    beyond = {
        name: int(
            ((observation[:, names.index(name)] < bound.low) | (observation[:, names.index(name)] > bound.high)).sum()
        )
        for name, bound in limits.observation.items()
    }
    return {
        "policy": count_clamps(mine, limits),
        "log": count_clamps(theirs, limits),
        "steps": {
            "policy": int((mine.kind != NONE).any(axis=1).sum()),
            "log": int((theirs.kind != NONE).any(axis=1).sum()),
        },
        "largest": list_clamps(mine, limits, wanted.astype(np.float32), WORST),
        "beyond": {name: count for name, count in beyond.items() if count},
    }


def to_physical(spec: RobotSpec) -> list[tuple[str, str, float]]:
    """Name, base unit and factor of each action axis: an axis in `100 N` counts in N."""
    found = []
    for axis in spec.action.axes:
        factor = find_scale(axis)
        found.append((axis.name, axis.unit if factor == 1.0 else axis.unit.partition(" ")[2], abs(factor)))
    return found


def collect(records: Sequence[Record], horizon: int, name: str, axis: int) -> list[float]:
    """One number of each episode that is long enough for a horizon."""
    parts = [record["horizons"][str(horizon)] for record in records if str(horizon) in record["horizons"]]
    return [part[name][axis] for part in parts if name in part]


def compute_spreads(records: Sequence[Record]) -> NDArray[np.float64]:
    """Standard deviation of each logged action axis over all steps, (A,): the error of who commands the mean."""
    steps = float(sum(record["logged"]["steps"] for record in records))
    total = np.sum([record["logged"]["sum"] for record in records], axis=0) / steps
    square = np.sum([record["logged"]["square"] for record in records], axis=0) / steps
    spread: NDArray[np.float64] = np.sqrt(np.maximum(square - np.square(total), 0.0))
    return spread
