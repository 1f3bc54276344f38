"""Which events logs hold, by what the train tasks pay for along them.

Each train task is asked about every logged episode. Two rewards that different tasks pay at one moment are paid for one
thing: moments are nodes of a graph, joined where one (task, phase) pays in both, and its connected components are
events. A component whose states change alike is the same event that no two tasks happened to share. For each event a
linear discriminant (Fisher, 1936) tells states after it from states before it, so that it is known also where nobody
paid for it.

Axes: T steps, E episodes, N train tasks, O observation, Z latent, C events, P phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..adapt.log_events import MOST_EVENTS, MOST_PHASES, PREFIX
from ..adapt.networks import Array
from ..skills.log_transitions import encode_log
from ..skills.model import SkillModel

Whole = NDArray[np.int64]

LEAST_MOMENTS = 5
"""Of an event."""
AROUND = 5
"""Steps before and after a moment between which a state is said to change."""
ALIKE = 0.8
"""Least cosine of the changes of one event."""
LASTING = 3
"""Steps in a row at which a detector has to agree, before an event counts as having happened in a log."""
KEPT = 0.999
"""Share of the decoder's squared sensitivity that the axes of the distance keep."""
SAMPLED = 2000
"""States in which the decoder is asked for its sensitivity."""
NEVER = 2**31
"""Beyond the last step of an episode."""
DOUBT = 0.5
"""Train tasks that every event counts as paid by in every phase, so that nothing is ruled out."""


class Moments(NamedTuple):
    """Where train tasks paid: each array has one entry for each (moment, task)."""

    episode: Whole
    step: Whole
    task: Whole
    phase: Whole
    """Events that the task had paid for before in the episode."""


class Events(NamedTuple):
    """What `find_events` found."""

    detector: Array
    """(C, O + 1): an event has happened where the first O times the state exceed the last."""
    prior: Array
    """Share of the train tasks that pay each event in each phase, (P, C)."""
    unit: float
    """What an event pays."""


def find_moments(rewards: Sequence[Array]) -> tuple[Moments, float] | None:
    """Moments at which one event was paid, and what one pays; None where the tasks do not pay for events.

    Tasks that pay for events pay the same for each, and pay two at least in some episode, but no more than
    `MOST_PHASES`, and seldom in two steps one after the other. Amounts alone do not tell events from a place that logs
    pass fast: `stages.map_logs.ask_events` asks beforehand whether states alone tell what is paid.

    Args:
        rewards: Of each step of an episode in each task, 0 where the task has ended, each (T, N).
    """
    amounts = np.unique(np.concatenate([np.unique(reward) for reward in rewards]))
    amounts = amounts[amounts != 0.0]
    if not len(amounts) or amounts[0] <= 0.0:
        return None
    unit = float(amounts[0])
    most = max(float(np.rint(reward.sum(axis=0).max() / unit)) for reward in rewards)
    if not 2 <= most <= MOST_PHASES or not np.allclose(amounts / unit, np.rint(amounts / unit), atol=1e-4):
        return None
    pays = [reward > 0.0 for reward in rewards]
    if 2 * sum((one[1:] & one[:-1]).sum() for one in pays) > sum(one.sum() for one in pays):
        return None
    found = []
    for episode, reward in enumerate(rewards):
        paid = np.rint(reward / unit)
        step, task = np.nonzero(paid == 1.0)
        phase = (paid.cumsum(axis=0) - paid)[step, task].astype(np.int64)
        found.append(np.stack([np.full(len(step), episode), step, task, phase]))
    return Moments(*np.concatenate(found, axis=1)), unit


def find_events(state: Array, start: Whole, length: Whole, rewards: Sequence[Array]) -> Events | None:
    """The events of logged episodes; None where there are none, or one alone.

    Args:
        state: On the networks' scale, of all steps, (T, O).
        start: First step of each episode, (E,).
        length: Steps of each.
        rewards: See `find_moments`.
    """
    found = find_moments(rewards)
    if found is None:
        return None
    moments, unit = found
    inside = (moments.step >= AROUND) & (moments.step < length[moments.episode] - AROUND)
    moments = Moments(*(part[inside] for part in moments))
    most = int(length.max())
    moment, where = np.unique(moments.episode * most + moments.step, return_inverse=True)
    place = moments.task * (MOST_PHASES + 1) + moments.phase
    count = len(moment)
    links = coo_array((np.ones(len(where)), (where, count + place)), shape=(count + place.max(initial=0) + 1,) * 2)
    label = connected_components(links, directed=False)[1][:count]
    at = np.stack([moment // most, moment % most], axis=1)
    groups = [at[label == one] for one in np.unique(label)]
    groups = _merge_alike([group for group in groups if len(group) >= LEAST_MOMENTS], state, start)
    if not 2 <= len(groups) <= MOST_EVENTS:
        return None
    detector = np.stack([_fit_detector(group, state, start, length) for group in groups])
    event_of = {tuple(one): event for event, group in enumerate(groups) for one in group.tolist()}
    event = np.array([event_of.get(tuple(one), -1) for one in at.tolist()])[where]
    phases = int(moments.phase.max()) + 1
    # each (task, phase) pays for one event: that of most of its moments
    votes = np.zeros((rewards[0].shape[1], phases, len(groups)))
    np.add.at(votes, (moments.task[event >= 0], moments.phase[event >= 0], event[event >= 0]), 1.0)
    pays = (votes == votes.max(axis=2, keepdims=True)) & (votes > 0.0)
    counts = pays.sum(axis=0) + DOUBT
    prior = counts / counts.sum(axis=1, keepdims=True)
    return Events(detector.astype(np.float32), prior.astype(np.float32), unit)


def _merge_alike(groups: list[Whole], state: Array, start: Whole) -> list[Whole]:
    """Joins groups of moments, (q, 2) each, around which the state changes alike, largest first."""
    merged: list[Whole] = []
    for group in sorted(groups, key=len, reverse=True):
        change = _compute_change(group, state, start)
        likeness = [_cosine(change, _compute_change(other, state, start)) for other in merged]
        if likeness and max(likeness) > ALIKE:
            best = int(np.argmax(likeness))
            merged[best] = np.concatenate([merged[best], group])
        else:
            merged.append(group)
    return merged


def _compute_change(group: Whole, state: Array, start: Whole) -> Array:
    """Mean state after moments less that before them, (O,)."""
    at = (start[group[:, 0]] + group[:, 1])[:, None]
    around = np.arange(1, AROUND + 1)
    change: Array = state[at + around - 1].mean(axis=(0, 1)) - state[at - around].mean(axis=(0, 1))
    return change


def _cosine(one: Array, other: Array) -> float:
    return float(one @ other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12)


def _fit_detector(group: Whole, state: Array, start: Whole, length: Whole) -> Array:
    """Fisher's discriminant between what came before the first moment of an episode and what came after, (O + 1,)."""
    first: dict[int, int] = {}
    for episode, step in group.tolist():
        first[episode] = min(step, first.get(episode, step))
    after = np.concatenate([state[start[e] + step : start[e] + length[e]] for e, step in first.items()])
    before = np.concatenate([state[start[e] : start[e] + step] for e, step in first.items()])
    means = [part.mean(axis=0, dtype=np.float64) for part in (before, after)]
    spread = [np.atleast_2d(np.cov(part.T.astype(np.float64))) * len(part) for part in (before, after)]
    within = (spread[0] + spread[1]) / (len(before) + len(after)) + 1e-4 * np.eye(state.shape[1])
    weight = np.linalg.solve(within, means[1] - means[0])
    return np.append(weight, weight @ (means[0] + means[1]) / 2.0)


def find_first(events: Events, state: Array, start: Whole, length: Whole) -> Whole:
    """The step of its episode from which on each event had happened; `length` where it did not, (E, C)."""
    first = np.empty((len(start), len(events.detector)), np.int64)
    for episode, (begin, steps) in enumerate(zip(start, length, strict=True)):
        seen = state[begin : begin + steps] @ events.detector[:, :-1].T > events.detector[:, -1]
        lasting = seen.copy()
        for ahead in range(1, LASTING):
            lasting[:-ahead] &= seen[ahead:]
        first[episode] = np.where(lasting.any(axis=0), lasting.argmax(axis=0), steps)
    return first


def compute_decoder_axes(model: SkillModel, observation: Array, skill: Array) -> Array:
    """(D, O) on the networks' scale: |axes (s - s')| is how much the decoder's scaled commands differ, to first order.

    The Jacobian J of the commands gives the metric E[J^T J] over states and skills; its largest axes are kept.
    """
    std = model.normaliser.std
    seen = torch.from_numpy(observation).requires_grad_()
    action = model.decode_scaled(seen, torch.from_numpy(skill))
    metric = torch.zeros((observation.shape[1],) * 2)
    for axis in range(action.shape[1]):
        jacobian = torch.autograd.grad(action[:, axis].sum(), seen, retain_graph=True)[0] * std
        metric += jacobian.T @ jacobian / len(seen)
    values, vectors = np.linalg.eigh(metric.numpy().astype(np.float64))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    kept = int(np.searchsorted(values.cumsum(), KEPT * values.sum())) + 1
    axes: Array = (vectors[:, :kept] * np.sqrt(values[:kept])).T.astype(np.float32)
    return axes


def map_events(
    model: SkillModel,
    observation: Array,
    action: Array,
    start: Whole,
    length: Whole,
    rewards: Sequence[Array],
    *,
    pace: int,
    seed: int,
) -> dict[str, NDArray[Any]] | None:
    """What an `EventGuide` is made of; None where the train tasks do not pay for events.

    Args:
        model: The skills, on the CPU.
        observation: Of all steps, (T, O).
        action: Taken in them, (T, A).
        start: First step of each episode, ascending from 0 without gaps, (E,).
        length: Steps of each.
        rewards: See `find_moments`.
        pace: Logged states for each skill.
        seed: Of the states in which the decoder is asked.
    """
    state = model.normaliser(torch.from_numpy(observation)).numpy()
    events = find_events(state, start, length, rewards)
    if events is None:
        return None
    first = find_first(events, state, start, length)
    log = encode_log(model, observation, action, start, length, pace)
    horizon = model.config.skill_horizon
    long = np.flatnonzero(length > horizon)
    rows = np.diff(np.append(log.start, len(log.state)))
    episode = np.repeat(long, rows)
    step = horizon // pace * (np.arange(len(episode)) - np.repeat(log.start, rows))
    first, ends = first[episode], length[episode]
    coming = np.where((first > step[:, None]) & (first < ends[:, None]), first, NEVER)
    left = coming.min(axis=1) - step
    kept = np.flatnonzero((coming.min(axis=1) < NEVER) & (step + horizon < ends))
    sample = np.random.default_rng(seed).permutation(kept)[:SAMPLED]
    axes = compute_decoder_axes(model, log.state[sample], log.skill[sample])
    part = {
        "point": (model.normaliser(torch.from_numpy(log.state[kept])).numpy() @ axes.T).astype(np.float16),
        "skill": log.skill[kept].astype(np.float16),
        "next": coming[kept].argmin(axis=1).astype(np.int16),
        "left": np.minimum(-(-left[kept] // horizon), np.iinfo(np.int16).max).astype(np.int16),
        "axes": axes,
        "detector": events.detector,
        "prior": events.prior,
        "unit": np.array([events.unit], np.float32),
    }
    if len(np.unique(part["next"])) < len(events.detector):
        return None
    return {f"{PREFIX}{name}": value for name, value in part.items()}
