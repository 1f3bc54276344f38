"""The guide for skills that pass over a rewarded region: what they pass on their way counts, not only where they end.

A map of paths holds the states within skills, too, and a skill that begins at each of them. The candidates for a
decision are the logged skills that began nearest to the present state. One of them is as good as

    p + (1 - p) DISCOUNT max_g hit(g) DISCOUNT ** ways(m, g)

where p is the probability that a state on its path is rewarded, hit(g) that of a reward in the middle of region g, and
ways(m, g) the number of skills from the place m where it ends until one passes g: one step of value iteration over
logged paths. A path is the logged one, moved to where the robot is. It is a prediction, so that its states count for
`PREDICTED` of those that were seen.

Axes: N logged states, B logged skills, M places, G possible middles of the rewarded region, D axes that tell tasks
apart, H rows of a skill, O observation, Z latent, r rows, C candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .log_map import (
    DISCOUNT,
    FAR,
    UNREACHED,
    Indices,
    choose_places,
    count_ways,
    find_begins,
    find_nearest,
    read_pace,
    require_map,
)
from .networks import Array
from .reward_shape import RewardShape
from .runtime_agent import Arrays
from .spaces import RowSpace

MIDDLES = 1000
"""G, at most."""
CANDIDATES = 64
"""C."""
PREDICTED = np.float32(0.5)
"""Share of predicted states on a path that count: the hand of the example arm was off by about a radius."""
AT_ONCE = 64
"""Rows whose distances from all logged skills are worked out together, which bounds the memory."""


class PathGuide:
    """A guide by the paths of logged skills, with the methods of `log_agent.Guide`."""

    def __init__(self, arrays: Arrays, skills: RowSpace | None = None, *, searches: bool = True) -> None:
        """Takes `Bundle.logs`; seconds for 100,000 logged steps.

        Raises:
            BundleError: They do not fit each other.
        """
        require_map(arrays)
        self.searches, self.skills, self.shape = searches, skills, RewardShape.from_arrays(arrays)
        self._pace = read_pace(arrays)
        state = arrays["state"].astype(np.float32)
        self._metric: Array = arrays["metric"]
        self._begins = find_begins(len(state), arrays["start"].astype(np.int64), self._pace)
        self._skill: Array = arrays["skill"].astype(np.float32)[self._begins]
        point = state @ self._metric.T
        self._begin: Array = point[self._begins]
        self._size = (self._begin**2).sum(axis=1)
        place_of = arrays["place_of"].astype(np.int64)
        self._reach = float(((point - arrays["place"][place_of]) ** 2).sum(axis=1).max())
        self._end_place = place_of[self._begins + self._pace]
        self._coordinate = state @ self.shape.axes.T  # (N, D)
        self._middle = choose_places(self._coordinate, MIDDLES, np.random.default_rng(0))
        self._share = self.shape.look_up_points(self._middle, self._middle)
        middle_of = find_nearest(self._coordinate, self._middle)[0][:, 0]
        places = len(arrays["place"])
        passes = np.zeros((places, self.regions), np.bool_)
        for ahead in range(1, self._pace + 1):
            passes[place_of[self._begins], middle_of[self._begins + ahead]] = True
        ways = count_ways(place_of[self._begins], self._end_place, passes)
        self._discount: Array = np.where(ways == UNREACHED, np.float32(0.0), DISCOUNT ** ways.astype(np.float32))
        self._row_of = {latent.tobytes(): row for row, latent in enumerate(self._skill)}

    @property
    def regions(self) -> int:
        """G."""
        return len(self._middle)

    @property
    def places(self) -> int:
        """Places in which decisions are counted: one. A skill that pays nothing changes the belief instead."""
        return 1

    @property
    def latent_dim(self) -> int:
        """Z."""
        return int(self._skill.shape[1])

    def choose(self, state: Array, belief: Array, stayed: Array) -> tuple[Array, NDArray[np.bool_], Indices]:
        """See `log_agent.Guide.choose`; there is one place, and nothing is asked of it."""
        latent = np.empty((len(state), self.latent_dim), np.float32)
        known = np.empty(len(state), np.bool_)
        for first in range(0, len(state), AT_ONCE):
            rows = slice(first, first + AT_ONCE)
            latent[rows], known[rows] = self._choose(state[rows], belief[rows])
        return latent, known, np.zeros(len(state), np.int64)

    def _choose(self, state: Array, belief: Array) -> tuple[Array, NDArray[np.bool_]]:
        point = state @ self._metric.T
        squared = self._size - 2.0 * (point @ self._begin.T)  # |x|^2 is the same for all
        count = min(CANDIDATES, squared.shape[1])
        candidate = np.argpartition(squared, count - 1, axis=1)[:, :count]
        nearest = np.take_along_axis(squared, candidate, 1).min(axis=1) + (point**2).sum(axis=1)
        hit = belief @ self._share.T  # (r, G)
        chosen = np.empty(len(state), np.int64)
        for row, some in enumerate(candidate):
            path = self._predict(np.broadcast_to(state[row], (count, state.shape[1])), some)
            share = self.shape.look_up_points(path.reshape(-1, path.shape[-1]), self._middle)
            pays = PREDICTED * (share.reshape(count, self._pace, -1).max(axis=1) @ belief[row])
            later = (self._discount[self._end_place[some]] * hit[row]).max(axis=1)
            chosen[row] = some[(pays + (1.0 - pays) * DISCOUNT * later).argmax()]
        return self._skill[chosen], nearest <= FAR * self._reach

    def _predict(self, begin: Array, row: Indices, end: Array | None = None) -> Array:
        """Coordinates on the way from states (r, O) by logged skills (r,), (r, H, D); moved to where they ended."""
        first = self._begins[row]
        logged = self._coordinate[first[:, None] + np.arange(1, self._pace + 1)]
        done = (np.arange(1, self._pace + 1, dtype=np.float32) / self._pace)[:, None]
        moved: Array = logged + (1.0 - done) * (begin @ self.shape.axes.T - self._coordinate[first])[:, None]
        if end is not None:
            moved += done * (end @ self.shape.axes.T - self._coordinate[first + self._pace])[:, None]
        return moved

    def see(self, begin: Array, latent: Array, end: Array, whole: NDArray[np.bool_]) -> Array:
        """See `log_agent.Guide.see`: where a logged skill led, also what lies on its way, by `PREDICTED`."""
        share = self.shape.look_up_points(end @ self.shape.axes.T, self._middle)
        row = np.array([self._row_of.get(one.tobytes(), -1) for one in latent.astype(np.float32)], np.int64)
        for index in np.flatnonzero((row >= 0) & whole):
            path = self._predict(begin[index, None], row[index, None], end[index, None])[0]
            passed = self.shape.look_up_points(path, self._middle).max(axis=0)
            share[index] = np.maximum(share[index], PREDICTED * passed)
        return share
