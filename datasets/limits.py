"""Checks recorded steps against the limits of the robot that they are said to be from.

Actions may exceed their limits by rounding alone. Observations may exceed them by `OBSERVATION_MARGIN`, since sensors
are noisy and contacts are soft; a wrong unit, axis or robot is further off than that.

Axes: T time steps of one episode, O observation, A action.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from ..errors import SourceError
from ..robots.spec import ArraySpec, RobotSpec
from .disk_arrays import BLOCK_ROWS, copy_array
from .episode import Episode

Array = npt.NDArray[np.float64]
OBSERVATION_MARGIN = 0.1
"""Share of an axis' range by which an observation may lie outside."""
ACTION_MARGIN = 1e-6
"""Share of an axis' range by which an action may lie outside: rounding to float32."""


class LimitCheck:
    """Passes on the episodes of one source that lie within a robot's limits; `check` takes them in order."""

    def __init__(
        self, robot: RobotSpec, where: str, *, clip_actions: bool = False, clip_share: float = 0.0, rows: int = 0
    ) -> None:
        """Starts at the first row.

        Args:
            robot: That the episodes are said to be from.
            where: The source, for messages.
            clip_actions: Whether actions outside their limits are put onto them, however many: for logs of commands
                that the robot clipped itself. An index of a choice is never clipped.
            clip_share: Share of the steps up to which that is done without `clip_actions`, for `checking`.
            rows: Steps of the source, that the share is of.
        """
        self._robot, self._where = robot, where
        self._rows = rows
        self._most = math.inf if clip_actions else int(clip_share * rows)
        self._clip = clip_actions and not robot.choices
        self._first: SourceError | None = None
        self._observation_bounds = _widen(robot.observation, OBSERVATION_MARGIN)
        self._action_bounds = _widen(robot.action, ACTION_MARGIN)
        self._row = self._episode = 0
        self.clipped = 0
        """Steps so far whose action was clipped."""

    def checking(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The episodes of `counting`; counts all actions outside before it refuses a source with too many.

        Raises:
            SourceError: As `check`, or more actions than the share are outside; names the first one.
        """
        waiting = self.counting(episodes)
        for episode in waiting:
            yield episode
            if self.excess is not None:
                for _ in waiting:
                    pass
                raise self.excess

    def counting(self, episodes: Iterable[Episode]) -> Iterator[Episode]:
        """The episodes of `check`, with clipped actions however many; `excess` says if they are too many.

        Raises:
            SourceError: As `check`.
        """
        self._clip = not self._robot.choices
        yield from map(self.check, episodes)

    @property
    def excess(self) -> SourceError | None:
        """Why the source is refused where more actions than the share were outside so far; names the first one."""
        if self.clipped <= self._most:
            return None
        return SourceError(
            f"{self._first}; {self.clipped} of {self._rows} steps have such an action, and without --clip-actions at "
            f"most {self._most} may"
        )

    def check(self, episode: Episode) -> Episode:
        """The episode, with clipped actions where that was asked for.

        Raises:
            SourceError: Naming axis, value, unit, row and episode of the first value outside its limits, or of the
                first action that is not the index of a choice.
        """
        clipped: npt.NDArray[np.floating] | None = None
        begin = 0
        for block in episode.blocks(BLOCK_ROWS):
            observation, action = block["observation"], block["action"]
            end = begin + len(action)
            self._require(self._robot.observation, observation, _outside(observation, self._observation_bounds))
            outside = _outside(action, self._action_bounds)
            if self._robot.choices:
                outside |= action != np.floor(action)
            if self._clip and outside.any():
                self.clipped += int(outside.any(1).sum())
                self._first = self._first or self._explain(self._robot.action, action, outside)
                clipped = copy_array(episode.arrays["action"]) if clipped is None else clipped
                clipped[begin:end] = np.clip(action, self._robot.action.low, self._robot.action.high)
            else:
                self._require(self._robot.action, action, outside)
            begin = end
            self._row += len(action)
        if clipped is not None:
            episode = Episode(dict(episode.arrays) | {"action": clipped}, episode.terminated, episode.truncated)
        self._episode += 1
        return episode

    def _require(self, array: ArraySpec, values: npt.NDArray[np.floating], outside: npt.NDArray[np.bool_]) -> None:
        if outside.any():
            raise self._explain(array, values, outside)

    def _explain(
        self, array: ArraySpec, values: npt.NDArray[np.floating], outside: npt.NDArray[np.bool_]
    ) -> SourceError:
        """The error for the first value that is outside."""
        row, column = (int(index) for index in np.argwhere(outside)[0])
        axis = array.axes[column]
        kind = "whole and " if self._robot.choices and array is self._robot.action else ""
        clip = "" if array is self._robot.observation or self._robot.choices else ", or pass --clip-actions"
        return SourceError(
            f"{self._where}: expected {array.name} axis '{axis.name}' {kind}within {axis.low:g} .. {axis.high:g} "
            f"(unit: {axis.unit}), got {values[row, column]:g} in row {self._row + row} (episode {self._episode}); "
            f"choose the robot that it was recorded on, or convert the values to its units{clip}"
        )


def _widen(array: ArraySpec, share: float) -> tuple[Array, Array]:
    """Limits with a margin of this share of the range; of the limit itself where there is only one."""
    low, high = (np.array([getattr(axis, end) for axis in array.axes], np.float64) for end in ("low", "high"))
    ends = np.stack([low, high])
    one = np.abs(np.where(np.isfinite(ends), ends, 0.0)).max(0)
    size = np.where(np.isfinite(ends).all(0), high - low, np.where(one > 0.0, one, 1.0))
    return low - share * size, high + share * size


def _outside(values: npt.NDArray[np.floating], bounds: tuple[Array, Array]) -> npt.NDArray[np.bool_]:
    outside: npt.NDArray[np.bool_] = (values < bounds[0]) | (values > bounds[1])
    return outside
