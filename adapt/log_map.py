"""A map of logs: places that the robot has been in, how many skills lie between them, and which skill led where.

A log holds states one skill apart and the skill between each two. States are clustered into places; a skill that led
from one place to another joins them, and a breadth-first search over these edges counts the skills between any two
places. Whoever wants to be somewhere looks at the logged skills that began nearest to the present state, and carries
out the one from which the fewest skills are left. There is no network: what was logged is the model. Eysenbach,
Salakhutdinov, Levine, "Search on the Replay Buffer", NeurIPS 2019, plan so over a learned distance; here the skills
give the distance.

Two states are as far apart as the changes of one skill say: an axis counts in units of its standard deviation over one
skill. What changes little in a skill (a place) then separates states more than what changes much (a speed). Logs cannot
hold every pose of an arm with many joints. Where they are that thin, what rewards do not depend on separates states
less: a hand can be at a place in many poses, and whoever waits for the same pose goes nowhere.

Axes: N logged states, E episodes, M places, O observation, Z latent, r rows, C candidates, L skills looked ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, SpecError
from .networks import Array

Indices = NDArray[np.int64]
Counts = NDArray[np.uint8]

DISCOUNT = np.float32(0.95)
"""Per skill on the way."""
FAR = 4.0
"""Largest squared distance from the nearest place, over the largest of a logged state, at which logs are followed."""
UNREACHED = 255
"""Skills between two places where the logs know of no way."""
MOST_PLACES = 4096
"""Tables of places take 9 bytes for each pair: 150 MB. A bundle must not make a robot's computer take more."""
SAMPLED = 20_000
"""States that places are chosen among."""
PER_PLACE = 64
"""Logged skills of each place that are looked at."""
NEAR_PLACES, NEAR_SKILLS = 4, 32
"""Logged skills that a choice is made of: so many that began nearest, of so many nearest places."""
LOOK_AHEAD = 8
"""Skills of its episode that a candidate is followed for, L."""
OFFSET_COST = 0.05
"""Skills that a candidate costs more per squared distance between its first state and the present one."""
STALL_COST = 1.0
"""Skills that a candidate costs more for each earlier decision of the episode in the place that it leads to."""
THIN = 0.6
"""Skills between a logged state and the nearest one of another episode, the median, above which logs are thin."""
LEANING = (1.0, 0.3, 0.1)
"""Of a distance, what is left along directions that rewards do not depend on: the first that leaves no thin logs."""
GAPS = 100
"""States whose nearest one of another episode is looked for."""
SHARE_OF_STATES = 1e-4
"""Least variance of a change over that of the states: noise on an axis that rests separates nothing."""


def compute_metric(state: Array, following: Array) -> Array:
    """(O, O) matrix A: |A (s - s')| is the distance of two states in standard deviations of the change in one skill.

    Args:
        state: Where skills began, (N, O).
        following: Where they ended, (N, O).

    Raises:
        SpecError: There is one skill alone, which has no deviation.
    """
    if len(state) < 2:
        raise SpecError(f"map of logs: expected two skills at least, got {len(state)}; bring longer logs")
    change = np.cov((following - state).T.astype(np.float64)).reshape(state.shape[1], -1)
    spread = np.cov(state.T.astype(np.float64)).reshape(change.shape)
    # of an axis that never moves there is only the distance between two numbers of float32
    resolution = np.finfo(np.float32).eps ** 2 * np.mean(state.astype(np.float64) ** 2, axis=0)
    noise = np.maximum(SHARE_OF_STATES * np.diag(spread), resolution) + np.finfo(np.float32).tiny
    values, vectors = np.linalg.eigh(change + np.diag(noise))
    # rounding can make the smallest values negative
    values = np.maximum(values, len(values) * np.finfo(np.float64).eps * values[-1])
    metric: Array = (vectors / np.sqrt(values)).T.astype(np.float32)
    return metric


def lean_on(
    axes: Array,
    metric: Array,
    state: Array,
    start: Indices,
    pace: int,
    seed: int,
    leaning: Sequence[float] = LEANING,
) -> Array:
    """The metric, (O, O), in which directions that rewards do not depend on count as little as the logs need.

    Args:
        axes: That rewards depend on, (D, O).
        metric: See `compute_metric`.
        state: (N, O).
        start: First row of each episode, (E,).
        pace: Rows that a skill lasts.
        seed: Of the states that are looked at.
        leaning: Shares of those directions, of which the first that leaves no thin logs is taken, or the last.
    """
    _, size, directions = np.linalg.svd(axes.astype(np.float64), full_matrices=False)
    rewarded = directions[size > np.finfo(np.float32).eps * size.max(initial=0.0)]
    onto = rewarded.T @ rewarded
    chosen = np.random.default_rng(seed).permutation(find_begins(len(state), start, pace))[:GAPS]
    leant = metric
    for left in leaning:
        leant = (metric @ (left * np.eye(len(onto)) + (1.0 - left) * onto)).astype(np.float32)
        if measure_gap(state @ leant.T, start, pace, chosen) <= THIN:
            break
    return leant


def measure_gap(point: Array, start: Indices, pace: int, chosen: Indices) -> float:
    """Median distance of some rows (C,) to the nearest of another episode, in mean lengths of one skill."""
    episode = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(point))))
    begins = find_begins(len(point), start, pace)
    skill = np.linalg.norm(point[begins + pace] - point[begins], axis=1).mean()
    gaps = [np.linalg.norm(point - point[row], axis=1)[episode != episode[row]].min() for row in chosen]
    return float(np.median(gaps) / max(skill, np.finfo(np.float32).tiny))


def choose_places(point: Array, most: int, rng: np.random.Generator) -> Array:
    """At most so many of the points (N, D), each the farthest from those chosen before; shape (M, D).

    Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science 38, 1985.
    """
    point = point[rng.permutation(len(point))[:SAMPLED]]
    distance = np.full(len(point), np.inf, np.float32)
    chosen = []
    at = 0
    for _ in range(min(most, len(point))):
        chosen.append(at)
        distance = np.minimum(distance, ((point - point[at]) ** 2).sum(axis=1))
        at = int(distance.argmax())
        if distance[at] == 0.0:
            break
    places: Array = point[chosen]
    return places


def find_nearest(point: Array, place: Array, count: int = 1) -> tuple[Indices, Array]:
    """The nearest places of each point, the nearest first, and their squared distances; both (r, count)."""
    size = (place**2).sum(axis=1)
    index = np.empty((len(point), count), np.int64)
    found = np.empty((len(point), count), np.float32)
    for begin in range(0, len(point), 4096):
        part = point[begin : begin + 4096]
        squared = size - 2.0 * (part @ place.T)  # |x|^2 is the same for all places
        if count == 1:  # a sixth of the time
            near = squared.argmin(axis=1)[:, None]
        elif count < len(place):
            near = np.argpartition(squared, count - 1, axis=1)[:, :count]
        else:
            near = np.broadcast_to(np.arange(len(place)), squared.shape)
        order = np.take_along_axis(near, np.take_along_axis(squared, near, 1).argsort(axis=1), 1)[:, :count]
        index[begin : begin + 4096] = order
        found[begin : begin + 4096] = np.take_along_axis(squared, order, 1) + (part**2).sum(axis=1)[:, None]
    return index, np.maximum(found, 0.0)


def count_skills(begin: Indices, end: Indices, places: int) -> Counts:
    """Least number of skills from each place to each, (M, M), by breadth-first search over the edges begin -> end.

    Sets of places are rows of bits, so that one level of all M searches is one pass over the edges.
    """
    edges = np.unique(begin * places + end)
    source, target = edges // places, edges % places
    having, first = np.unique(source, return_index=True)
    reached = np.zeros((places, -(-places // 64)), np.uint64)
    everyone = np.arange(places)
    reached[everyone, everyone // 64] = np.uint64(1) << (everyone % 64).astype(np.uint64)
    skills = np.full((places, places), UNREACHED, np.uint8)
    np.fill_diagonal(skills, 0)
    for level in range(1, UNREACHED):
        grown = reached.copy()
        if len(having):
            grown[having] |= np.bitwise_or.reduceat(reached[target], first, axis=0)
        fresh = grown & ~reached
        if not fresh.any():
            break
        bits = np.unpackbits(fresh.view(np.uint8), axis=1, bitorder="little")[:, :places]
        skills[bits.astype(np.bool_)] = level
        reached = grown
    return skills


def count_ways(begin: Indices, end: Indices, passes: NDArray[np.bool_]) -> Counts:
    """Least number of skills from each place until one passes a region, (M, G); `UNREACHED` where there is no way.

    Args:
        begin: Place where each logged skill began, (B,).
        end: Where it ended, (B,).
        passes: Whether a skill that began in a place passes a region, (M, G).
    """
    leads = np.zeros((len(passes), len(passes)), np.float32)
    leads[begin, end] = 1.0
    ways = np.where(passes, np.uint8(1), np.uint8(UNREACHED))
    reached = passes.astype(np.float32)
    for level in range(2, UNREACHED):
        grown = (reached + leads @ reached > 0).astype(np.float32)
        fresh = (grown > 0) & (ways == UNREACHED)
        if not fresh.any():
            break
        ways[fresh] = level
        reached = grown
    return ways


def find_begins(count: int, start: Indices, pace: int = 1) -> Indices:
    """Rows of `count` that have a row so many further on in their episode: where logged skills began."""
    ends = np.append(start[1:], count)
    return np.flatnonzero(np.arange(count) + pace < np.repeat(ends, np.diff(np.append(start, count))))


def map_log(
    state: Array,
    skill: Array,
    start: Indices,
    places: int,
    seed: int = 0,
    pace: int = 1,
    axes: Array | None = None,
    lean: float | None = None,
) -> dict[str, NDArray[Any]]:
    """What `LogMap` is made of, as a bundle holds it; with a pace above 1, what a `PathGuide` is made of.

    Args:
        state: On the networks' scale, `pace` of them for each skill, (N, O).
        skill: That led to the state `pace` rows on; where there is none in the episode, it counts for nothing, (N, Z).
        start: First row of each episode, ascending from 0, (E,).
        places: At most so many.
        seed: Of the states that places are chosen among.
        pace: Rows that a skill lasts.
        axes: Along which rewards change, (D, O); None where nobody knows.
        lean: See `lean_on`; None is as the logs need.
    """
    begins = find_begins(len(state), start, pace)
    metric = compute_metric(state[begins], state[begins + pace])
    if axes is not None and len(start) > 1:
        metric = lean_on(axes, metric, state, start, pace, seed, LEANING if lean is None else (lean,))
    point = state @ metric.T
    place = choose_places(point[begins], places, np.random.default_rng(seed))  # so each has a skill that began there
    return {
        "state": state.astype(np.float16),
        "skill": skill.astype(np.float16),
        "start": start.astype(np.int32),
        "metric": metric,
        "place": place,
        "place_of": find_nearest(point, place)[0][:, 0].astype(np.int16),
        **({"pace": np.array([pace], np.int32)} if pace > 1 else {}),
    }


def read_pace(arrays: Mapping[str, NDArray[Any]]) -> int:
    """Rows that a skill of a map lasts.

    Raises:
        BundleError: It is no whole number from 1 on.
    """
    pace = arrays.get("pace", np.ones(1, np.int32))
    if pace.shape != (1,) or pace.dtype != np.int32 or pace[0] < 1:
        raise BundleError(f"map of logs: expected 'pace' of one positive integer, got {pace}; map the logs again")
    return int(pace[0])


class LogMap:
    """See the module's docstring."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes what `map_log` gave; a second for a million logged steps.

        Raises:
            BundleError: An array is missing or does not fit the others.
        """
        require_map(arrays)
        if (pace := read_pace(arrays)) != 1:
            raise BundleError(f"map of logs: expected one state for each skill, got {pace}; take a PathGuide")
        state = arrays["state"].astype(np.float32)
        self.skill: Array = arrays["skill"].astype(np.float32)
        """Every logged skill, (N, Z)."""
        self._metric: Array = arrays["metric"]
        self._place: Array = arrays["place"]
        self._point = state @ self._metric.T
        place_of = arrays["place_of"].astype(np.int64)
        count, places = len(state), len(self._place)
        last = np.zeros(count, np.bool_)
        last[np.append(arrays["start"][1:], count) - 1] = True
        begins = np.flatnonzero(~last)
        self._following = np.full((count, LOOK_AHEAD), -1, np.int64)
        row, within = np.arange(count), ~last
        for ahead in range(LOOK_AHEAD):
            self._following[within, ahead] = place_of[row[within] + ahead + 1]
            within = within & ~last[np.minimum(row + ahead + 1, count - 1)]
        self.skills: Counts = count_skills(place_of[begins], place_of[begins + 1], places)
        """From each place to each, (M, M); `UNREACHED` where there is no way."""
        share = np.maximum(np.bincount(place_of, minlength=places), 1)[:, None]
        mean = np.stack([np.bincount(place_of, axis, places) for axis in state.T], axis=1) / share
        self.state: Array = mean.astype(np.float32)
        """Mean state of each place, (M, O)."""
        self._candidate = _gather_candidates(begins, place_of[begins], places)
        offset = ((self._point - self._place[place_of]) ** 2).sum(axis=1)
        self.reach = float(offset.max())
        """Largest squared distance of a logged state from its place."""

    @property
    def places(self) -> int:
        """M."""
        return len(self._place)

    def locate(self, state: Array) -> tuple[Indices, Array]:
        """The nearest places of states (r, O), the nearest first, (r, `NEAR_PLACES`), and the squared distances."""
        return find_nearest(state @ self._metric.T, self._place, min(NEAR_PLACES, self.places))

    def choose(self, state: Array, near: Indices, target: Indices, stayed: Array) -> Array:
        """The skills that lead to places, (r, Z).

        The cost of a candidate is the least number of skills to the target from where its episode went on, plus what
        its first state differs from the present one, plus what a robot that goes round in circles should not repeat.

        Args:
            state: Of each row, (r, O).
            near: Its nearest places, see `locate`.
            target: Where to go, (r,).
            stayed: Earlier decisions of this episode in each place, (r, M).
        """
        point = state @ self._metric.T
        candidate = self._candidate[near].reshape(len(state), -1)
        offset = ((self._point[candidate] - point[:, None]) ** 2).sum(axis=-1)
        offset[candidate < 0] = np.inf
        nearest = np.argpartition(offset, min(NEAR_SKILLS, offset.shape[1]) - 1, axis=1)[:, :NEAR_SKILLS]
        candidate = np.take_along_axis(candidate, nearest, axis=1)
        offset = np.take_along_axis(offset, nearest, axis=1)
        following = self._following[candidate]  # (r, C, L)
        left = self.skills[following, target[:, None, None]].astype(np.float32) + np.arange(LOOK_AHEAD)
        cost = np.where(following < 0, np.inf, left).min(axis=-1) + OFFSET_COST * offset
        cost += STALL_COST * np.take_along_axis(stayed, following[..., 0], axis=1)
        best = np.take_along_axis(candidate, cost.argmin(axis=1)[:, None], axis=1)[:, 0]
        chosen: Array = self.skill[best]
        return chosen


def _gather_candidates(begins: Indices, place: Indices, places: int) -> Indices:
    """Logged skills that began in each place, (M, `PER_PLACE`), spread evenly over those there are; -1 is none."""
    order = np.argsort(place, kind="stable")
    first = np.searchsorted(place[order], np.arange(places))
    count = np.bincount(place, minlength=places)
    candidate = np.full((places, PER_PLACE), -1, np.int64)
    for index in range(places):
        here = begins[order[first[index] : first[index] + count[index]]]
        kept = here[np.linspace(0, len(here) - 1, min(len(here), PER_PLACE)).astype(np.int64)]
        candidate[index, : len(kept)] = kept
    return candidate


def require_map(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Checks that arrays fit each other and are finite.

    Raises:
        BundleError: Names the first that does not.
    """
    names = {"state": 2, "skill": 2, "start": 1, "metric": 2, "place": 2, "place_of": 1}
    if missing := [name for name, axes in names.items() if name not in arrays or arrays[name].ndim != axes]:
        raise BundleError(f"map of logs: expected '{missing[0]}', got none; map the logs again")
    count, dim = arrays["state"].shape
    places, start = len(arrays["place"]), arrays["start"]
    fits = {
        "skill": arrays["skill"].shape[0] == count,
        "metric": arrays["metric"].shape == (dim, dim),
        "place": arrays["place"].shape[1] == dim and 0 < places <= MOST_PLACES,
        "start": len(start) > 0 and start[0] == 0 and bool((np.diff(start) > 0).all()) and int(start[-1]) < count,
        "place_of": arrays["place_of"].shape == (count,)
        and 0 <= int(arrays["place_of"].min()) <= int(arrays["place_of"].max()) < places,
    }
    for name, good in fits.items():
        if not good or not np.isfinite(arrays[name]).all():
            raise BundleError(
                f"map of logs: expected '{name}' that fits {count} states of {dim} axes, got {arrays[name].dtype} "
                f"{arrays[name].shape}; map the logs again"
            )
    pace = read_pace(arrays)
    if pace > 1 and not len(find_begins(count, start.astype(np.int64), pace)):
        raise BundleError(f"map of logs: expected a skill of {pace} states at least, got none; map the logs again")
