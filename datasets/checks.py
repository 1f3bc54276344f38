"""Looks at every step of a source on its way into a store: ranges, dead axes and cameras, ends that motion contradicts.

Nothing is refused here and no value changed; what a person should know is said in one line each. Limits of a robot are
the business of `limits`.
Legend: T rows of one episode, N rows of the source, dim number of axes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .disk_arrays import blocks_of, release
from .episode import Episode, SourceSpec
from .keyed import NEXT
from .schema import Feature

SMALLEST_SPREAD = 1e-4
"""Standard deviation, as a share of the axis' largest value, below which an axis counts as constant."""
JUMP = 10.0
"""Times the step that 95 of 100 steps stay below: what is longer, in a quarter of the axes that move, is a jump."""
_USUAL = 0.95
CONTINUED = 0.9
"""Share of ends behind which the next episode goes on, from which that is said."""
_FEWEST_ENDS = 3
_SAME = 1e-5
"""Relative difference that two writings of one observation may have."""
_BLOCK_ROWS = 16_384
_WIDE = 512
"""Axes beyond this number are not looked at one by one."""
_BINS = 512
_SHOWN = 3
MOST_NOISE = 8
"""Difference between the brightest and the darkest pixel of a picture, of 255, up to which it counts as one colour."""
_FEWEST_PICTURES = 10
"""Of an episode, from which it is said that they are all the same."""
_PICTURE_BYTES = 2**20
"""Of pictures that are looked at together; the first ones mostly say that there is nothing to say."""
_MOST_CANDIDATES = 1000


@dataclass(frozen=True, slots=True)
class AxisRange:
    """What one axis of one feature did."""

    feature: str
    axis: str
    unit: str
    low: float
    high: float
    mean: float
    std: float

    @property
    def constant(self) -> bool:
        """Whether it hardly moves, in relation to its own values."""
        return self.std <= SMALLEST_SPREAD * max(abs(self.low), abs(self.high))


class _Piece(NamedTuple):
    """Rows of one episode."""

    arrays: Mapping[str, npt.NDArray[Any]]
    begins: bool
    """Whether they are its first ones."""


class _Spread:
    """Range, mean and spread of the axes of one feature, over blocks (Chan et al. 1979)."""

    def __init__(self, feature: Feature) -> None:
        self.feature = feature
        self.rows = 0

    def add(self, values: npt.NDArray[Any]) -> None:
        block = values.reshape(len(values), -1)[:, :_WIDE].astype(np.float64)
        rows, mean = len(block), block.mean(0)
        square = ((block - mean) ** 2).sum(0)
        low, high = block.min(0), block.max(0)
        if not self.rows:
            self._low, self._high, self._mean, self._square = low, high, mean, square
        else:
            change, total = mean - self._mean, self.rows + rows
            self._square += square + change**2 * self.rows * rows / total
            self._mean = self._mean + change * rows / total
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self.rows += rows

    def ranges(self) -> list[AxisRange]:
        if not self.rows:
            return []
        std = np.sqrt(self._square / self.rows)
        return [
            AxisRange(
                self.feature.name, axis, unit, *(float(one[i]) for one in (self._low, self._high, self._mean, std))
            )
            for i, (axis, unit) in enumerate(zip(self.feature.axes[:_WIDE], self.feature.units, strict=False))
        ]


class _Steps:
    """How far the observation moves in a step, by axis, as histograms of log2 with eight bins per octave."""

    def __init__(self, dim: int) -> None:
        self._counts = np.zeros((dim, _BINS), np.int64)

    def add(self, steps: npt.NDArray[np.float64]) -> None:
        with np.errstate(divide="ignore"):
            bins = np.clip(np.log2(steps) * 8 + _BINS / 2, 0, _BINS - 1)
        for axis, row in enumerate(np.nan_to_num(bins, neginf=0.0).astype(np.int64).T):
            self._counts[axis] += np.bincount(row, minlength=_BINS)

    def usual(self) -> npt.NDArray[np.float64]:
        """The step that 95 of 100 steps that moved stay below, shape (dim,); inf for an axis that never moved."""
        moved = self._counts.copy()
        moved[:, 0] = 0
        total = moved.sum(1)
        place = (np.cumsum(moved, 1) >= _USUAL * total[:, None]).argmax(1)
        return np.where(total > 0, 2.0 ** ((place + 1 - _BINS / 2) / 8), np.inf)


class _Pictures:
    """What a camera shows: whether in some episodes it is one colour, or one and the same picture."""

    def __init__(self, feature: Feature) -> None:
        self.name = feature.name
        self._rows = max(1, _PICTURE_BYTES // math.prod(feature.shape))
        self._episodes = 0
        self._plain: list[int] = []
        self._still: list[int] = []

    def add(self, pictures: npt.NDArray[np.uint8], moves: bool) -> None:
        """One episode, (T, height, width, channels), in which the robot moves or not."""
        plain = still = True
        for block in blocks_of(len(pictures), self._rows):
            part = pictures[block]
            plain = plain and bool((np.ptp(part, axis=(1, 2)) <= MOST_NOISE).all())
            still = still and bool((part == pictures[0]).all())
            release(pictures)
            if not plain and not still:
                break
        if plain:
            self._plain.append(self._episodes)
        elif still and moves and len(pictures) >= _FEWEST_PICTURES:
            self._still.append(self._episodes)
        self._episodes += 1

    def findings(self) -> list[str]:
        said = (
            (self._plain, "each picture is of one colour, as of a covered lens or a camera that sends nothing"),
            (self._still, "the picture never changes while the observation does, as of a camera that hangs"),
        )
        return [
            f"{self.name}: in {len(numbers)} of {self._episodes} episodes, the first one number {numbers[0]}, {what}"
            for numbers, what in said
            if numbers
        ]


class SourceChecks:
    """Passes episodes on as they are, and remembers what they are like.

    Args:
        source: What the reader says of them.
    """

    def __init__(self, source: SourceSpec) -> None:
        schema = source.schema
        self._spreads = [_Spread(feature) for feature in schema.features if feature.role != "image"]
        self._pictures = {one.name: _Pictures(one) for one in schema.features if one.role == "image"}
        self._width = min(_WIDE, len(schema.feature("observation").axes))
        self._steps = _Steps(self._width)
        self._has_next = NEXT in schema.names and schema.feature(NEXT).shape == schema.feature("observation").shape
        self._pending: list[_Piece] = []
        self._pending_rows = self._rows = 0
        self._episode = -1
        self._candidates: list[tuple[float, int, int]] = []
        self._wrong_next: list[tuple[int, int]] = []
        self._wrong_next_count = self._continued = self._ends = 0
        self._tail: npt.NDArray[np.float64] | None = None
        """Last observation so far, (1, width)."""
        self._next_tail: npt.NDArray[np.float64] | None = None
        self.lengths: list[int] = []
        """T of each episode so far."""
        self.terminated = 0
        """Episodes that reached their end."""
        self.truncated = 0
        """Episodes that were cut off."""

    def passing(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The same episodes; `findings` and `ranges` hold for those that have passed when this is exhausted."""
        for episode in episodes:
            yield episode
            self.lengths.append(episode.length)
            self.terminated += episode.terminated
            self.truncated += episode.truncated
            for name, pictures in self._pictures.items():
                observation = episode.arrays["observation"]
                pictures.add(episode.arrays[name], bool((observation[0] != observation[-1]).any()))
            for number, arrays in enumerate(episode.blocks(_BLOCK_ROWS)):
                kept = {name: array for name, array in arrays.items() if name not in self._pictures}  # they are large
                self._pending.append(_Piece(kept, number == 0))
                self._pending_rows += len(arrays["observation"])
                if self._pending_rows >= _BLOCK_ROWS:
                    self._look()
        if self._pending:
            self._look()

    def ranges(self) -> list[AxisRange]:
        """Of each axis of each feature; of a very wide one the first 512."""
        return [one for spread in self._spreads for one in spread.ranges()]

    def findings(self) -> tuple[str, ...]:
        """What a person should know, one line each."""
        found = []
        jumps = self._find_jumps()
        if jumps:
            found.append(
                f"the observation jumps {len(jumps)} times within an episode, at least {JUMP:g} times as far as 95 "
                f"of 100 "
                f"steps: at {_list_places(jumps)}; an end of an episode is probably not marked there"
            )
        if self._wrong_next_count:
            found.append(
                f"{NEXT} is not the observation of the next row in {self._wrong_next_count} rows: at "
                f"{_list_places(self._wrong_next)}; an end of an episode is not marked there, or the rows are shuffled"
            )
        if self._ends >= _FEWEST_ENDS and self._continued >= CONTINUED * self._ends:
            found.append(
                f"behind {self._continued} of {self._ends} ends of episodes the motion goes on in the next episode: "
                f"the "
                "robot was not reset there"
            )
        for pictures in self._pictures.values():
            found += pictures.findings()
        for name in dict.fromkeys(spread.feature.name for spread in self._spreads):
            constant = [one for one in self.ranges() if one.feature == name and one.constant]
            if constant and name in ("observation", "action"):
                shown = ", ".join(
                    f"{one.axis} ({one.low:g} .. {one.high:g} {one.unit})".replace(" )", ")") for one in constant[:8]
                )
                found.append(f"{name}: {len(constant)} axes hardly move: {shown}{', ...' * (len(constant) > 8)}")
        return tuple(found)

    def _look(self) -> None:
        pieces, self._pending, self._pending_rows = self._pending, [], 0
        for spread in self._spreads:
            spread.add(np.concatenate([piece.arrays[spread.feature.name] for piece in pieces]))
        lengths = np.array([len(piece.arrays["observation"]) for piece in pieces])
        begins = np.zeros(int(lengths.sum()), np.bool_)
        begins[np.cumsum(lengths) - lengths] = [piece.begins for piece in pieces]
        number = self._episode + np.cumsum(begins)
        observation = self._flatten(pieces, "observation")
        # a step leads to each row but the very first one
        before = observation[:1] if self._tail is None else self._tail
        steps = np.abs(np.diff(observation, axis=0, prepend=before))
        led = np.ones(len(steps), np.bool_)
        led[0] = self._tail is not None
        within = ~begins & led
        self._steps.add(steps[within])
        usual = self._steps.usual()
        for row in np.flatnonzero(within & (steps > usual * (JUMP / 2)).any(1)):
            ratio = _measure(steps[row], usual)
            if ratio > JUMP:
                heapq.heappush(self._candidates, (ratio, self._rows + int(row), int(number[row])))
                if len(self._candidates) > _MOST_CANDIDATES:
                    heapq.heappop(self._candidates)
        self._count_continued(steps[begins & led], usual)
        if self._has_next:
            self._compare_next(self._flatten(pieces, NEXT), observation, number, within)
        self._rows += len(observation)
        self._episode = int(number[-1])
        self._tail = observation[-1:]

    def _flatten(self, pieces: Sequence[_Piece], name: str) -> npt.NDArray[np.float64]:
        """A feature of all pieces, one vector per row."""
        joined = np.concatenate([piece.arrays[name] for piece in pieces])
        return joined.reshape(len(joined), -1)[:, : self._width].astype(np.float64)

    def _count_continued(self, across: npt.NDArray[np.float64], usual: npt.NDArray[np.float64]) -> None:
        """Ends behind which the first observation is within a usual step of the last one, and not the same.

        Of axes that never moved within an episode no step is usual: where episodes are one step long, nothing is known.
        """
        self._ends += len(across)
        moved = (across > 0.0) & np.isfinite(usual)
        self._continued += int(((across <= usual).all(1) & moved.any(1)).sum())

    def _compare_next(
        self, following: npt.NDArray[np.float64], observation: npt.NDArray[np.float64], number: Any, within: Any
    ) -> None:
        before = following[:1] if self._next_tail is None else self._next_tail
        said = np.concatenate((before, following[:-1]))
        apart = np.abs(said - observation) > _SAME * np.maximum(np.abs(observation), 1e-3)
        rows = np.flatnonzero(apart.any(1) & within)
        self._wrong_next_count += len(rows)
        for row in rows[: _SHOWN - len(self._wrong_next)]:
            self._wrong_next.append((self._rows + int(row) - 1, int(number[row])))
        self._next_tail = following[-1:]

    def _find_jumps(self) -> list[tuple[int, int]]:
        """Row and episode of each jump; each was measured with the usual steps up to there."""
        return sorted((row, episode) for _, row, episode in self._candidates)


def _measure(step: npt.NDArray[np.float64], usual: npt.NDArray[np.float64]) -> float:
    """By how much a step exceeds the usual ones, in at least a quarter of the axes that ever move."""
    moving = np.isfinite(usual)
    return float(np.quantile(step[moving] / usual[moving], 0.75, method="lower")) if moving.any() else 0.0


def _list_places(places: Sequence[tuple[int, int]]) -> str:
    shown = ", ".join(f"row {row} (episode {episode})" for row, episode in places[:_SHOWN])
    return f"{shown}{', ...' * (len(places) > _SHOWN)}"
