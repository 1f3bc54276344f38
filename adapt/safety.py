"""Limits between any policy and any robot: commands are checked, clipped and rate-limited, and a stop is latched.

`SafetyLimits` wraps a `RobotBatch` and is one, so whatever acts on it cannot tell. It is a software layer: it does not
replace an emergency stop that cuts the power.

Faults and stops are in the audit log at once. Clamped commands are counted, and the counts are written when rows are
reset, at a fault and at the end: a policy that explores is clamped at every other step, and thousands of such records
would hide the few that matter.

Axes: R rows, r rows of this call, O observation, A action, N tasks, G goal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RobotFault, SpecError
from ..robots.robot import Bool, Float, RobotBatch, Rows, StepRows
from ..robots.spec import RobotSpec
from .audit import AuditLog


@dataclass(frozen=True, slots=True)
class ActionLimits:
    """What a robot may be told, copied from its spec into memory that nothing can write to."""

    low: NDArray[np.float64]
    """Smallest command per axis, shape (A,)."""
    high: NDArray[np.float64]
    """Largest command per axis, shape (A,)."""
    max_change: NDArray[np.float64]
    """Largest change of the command per control period, shape (A,); inf where the axis has no rate limit."""

    rated: bool
    """Whether any axis has a rate limit."""

    @staticmethod
    def of(spec: RobotSpec) -> ActionLimits:
        """The limits of a robot.

        Raises:
            SpecError: An action axis has no finite limits, or a rate limit that is not > 0: such a robot is not moved.
        """
        for axis in spec.action.axes:
            if not (np.isfinite(axis.low) and np.isfinite(axis.high) and axis.low < axis.high):
                raise SpecError(
                    f"safety limits: expected finite low < high for action axis '{axis.name}', got "
                    f"[{axis.low}, {axis.high}] {axis.unit}; give the axis limits in the robot's spec"
                )
            if axis.rate_limit is not None and not axis.rate_limit > 0:
                raise SpecError(
                    f"safety limits: expected a rate limit > 0 for action axis '{axis.name}', got {axis.rate_limit} "
                    f"{axis.unit}/s; correct it in the robot's spec"
                )
        rates = np.array([np.inf if axis.rate_limit is None else axis.rate_limit for axis in spec.action.axes])
        low, high = _sealed(spec.action.low), _sealed(spec.action.high)
        return ActionLimits(low, high, _sealed(rates * spec.control_period), bool(np.isfinite(rates).any()))

    def rest(self) -> Float:
        """The command nearest to zero, shape (A,): what counts as the previous command after a reset."""
        rest: Float = np.clip(0.0, self.low, self.high).astype(np.float32)
        return rest

    def apply(self, requested: NDArray[np.float64], previous: Float) -> tuple[Float, Bool]:
        """The nearest command that the limits allow.

        Args:
            requested: Finite, shape (r, A).
            previous: The last command of each row, within the limits, shape (r, A).

        Returns:
            The command, float32, shape (r, A): within [low, high] and within max_change of the previous one, exactly;
            and where it is not what was requested, shape (r, A).
        """
        # minimum and maximum: np.clip takes three times as long on so few numbers
        allowed = np.minimum(np.maximum(requested, self.low), self.high)
        if not self.rated:
            return allowed.astype(np.float32), allowed != requested
        last = previous.astype(np.float64)
        allowed = np.minimum(np.maximum(allowed, last - self.max_change), last + self.max_change)
        sent = allowed.astype(np.float32)
        # Rounding to float32 may overshoot the rate limit by half a unit in the last place; one step back undoes it.
        overshoot = np.abs(sent.astype(np.float64) - last) > self.max_change
        sent = np.where(overshoot, np.nextafter(sent, previous), sent)
        return sent, allowed != requested


@dataclass(slots=True)
class ClampCounts:
    """Commands that were not sent as requested, counted by action axis since the last `take`."""

    names: tuple[str, ...]
    """Names of the action axes."""
    clamped: NDArray[np.int64]
    """Clamped commands, shape (A,)."""
    largest: NDArray[np.float64]
    """Largest |requested - sent|, shape (A,), in the unit of the axis."""
    commands: int = 0
    """Commands in all: one for each row and step."""

    @staticmethod
    def of(spec: RobotSpec) -> ClampCounts:
        """Nothing counted yet."""
        axes = len(spec.action.axes)
        return ClampCounts(tuple(spec.action.names), np.zeros(axes, np.int64), np.zeros(axes))

    def add(self, requested: NDArray[np.float64], sent: Float, clamped: Bool) -> None:
        """Counts one step of r rows, each argument of shape (r, A)."""
        self.commands += len(requested)
        if clamped.any():
            self.clamped += clamped.sum(axis=0)
            excess = np.where(clamped, np.abs(requested - sent), 0.0)
            np.maximum(self.largest, excess.max(axis=0), out=self.largest)

    def any(self) -> bool:
        """Whether a command was clamped."""
        return bool(self.clamped.any())

    def take(self) -> dict[str, Any]:
        """The counts as JSON, by axis where there are any; counting starts again at zero."""
        found = zip(self.names, self.clamped.tolist(), self.largest.tolist(), strict=True)
        axes = {name: {"clamped": count, "largest": largest} for name, count, largest in found if count}
        facts = {"commands": self.commands, "axes": axes}
        self.clamped[:], self.largest[:], self.commands = 0, 0.0, 0
        return facts


class SafetyLimits:
    """A `RobotBatch` whose commands are finite, within limits and rate limits, or not sent at all.

    A fault stops all rows: a command or observation that is not finite or has the wrong shape, a stale or frozen
    observation, a step that raised. The stop is latched, across restarts too, until `rearm`; then rows must be reset.
    """

    def __init__(
        self,
        robot: RobotBatch,
        audit: AuditLog,
        *,
        observation_age: Callable[[], float] | None = None,
        max_observation_age: float = 0.1,
        max_frozen_steps: int | None = None,
        on_stop: Callable[[str], None] | None = None,
    ) -> None:
        """Takes the limits from the robot's spec; they cannot be changed afterwards.

        Args:
            robot: The robots.
            audit: Where clamps, faults and stops are recorded; a stop that is still latched there holds.
            observation_age: Seconds since the newest observation was measured, from the driver; None for a simulator.
            max_observation_age: Age in seconds from which on an observation is stale.
            max_frozen_steps: How many steps in a row an observation may repeat bit for bit; None for any number, since
                a simulated robot at rest does repeat itself.
            on_stop: Called with the reason at every stop, perhaps more than once: hold or cut the drives here.

        Raises:
            SpecError: The robot's spec has an action axis without limits.
        """
        self._robot = robot
        self._spec = robot.spec
        self._rows = robot.rows
        self._limits = ActionLimits.of(robot.spec)
        self._audit = audit
        self._observation_age = observation_age
        self._max_observation_age = max_observation_age
        self._max_frozen_steps = max_frozen_steps
        self._on_stop = on_stop
        self._sent = np.tile(self._limits.rest(), (self._rows, 1))
        self._observation = np.full((self._rows, *self._spec.observation.shape), np.nan, np.float32)
        self._frozen_steps = np.zeros(self._rows, np.int64)
        self._clamps = ClampCounts.of(robot.spec)
        self._ready = np.zeros(self._rows, np.bool_)

    @property
    def spec(self) -> RobotSpec:
        """The contract of every row."""
        return self._spec

    @property
    def rows(self) -> int:
        """Number of rows, R."""
        return self._rows

    @property
    def stop_reason(self) -> str | None:
        """Why the robot is stopped; None while it is armed."""
        return self._audit.stop_reason

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`.

        Raises:
            RobotFault: The robot is stopped, or the first observation is faulty.
        """
        self._require_armed("reset")
        index = self._check_rows(rows)
        self._record_clamps()
        with self._stop_unless_completed("reset"):
            observation = self._robot.reset(index, goals, rng)
        self._ready[index] = False
        self._sent[index] = self._limits.rest()
        self._observation[index] = np.nan
        self._frozen_steps[index] = 0
        self._check_observation(index, observation)
        self._ready[index] = True
        return observation

    def step(self, rows: Rows, action: Float) -> StepRows:
        """Sends the nearest allowed command to each of `rows`; see `RobotBatch.step`.

        Raises:
            RobotFault: The robot is stopped, a row was not reset since the start or the last stop, or a command or
                observation is faulty.
        """
        self._require_armed("step")
        index = self._check_rows(rows)
        if not self._ready[index].all():
            raise RobotFault(
                f"step: expected rows that were reset, got row {index[~self._ready[index]][0]}; "
                "reset every row after the start and after a stop"
            )
        requested = self._check_action(index, action)
        sent, clamped = self._limits.apply(requested, self._sent[index])
        self._clamps.add(requested, sent, clamped)
        with self._stop_unless_completed("step"):
            step = self._robot.step(index, sent)
        self._sent[index] = sent
        self._check_observation(index, step.observation)
        if step.reward.shape != index.shape or not np.isfinite(step.reward).all():
            raise self._fault(f"expected {len(index)} finite rewards, got {step.reward}", "check the task monitor")
        return step

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        return self._robot.compute_reward(observation, goals)

    def stop(self, reason: str) -> None:
        """Stops all rows until `rearm`; may be called from another thread.

        Args:
            reason: Why, for people.
        """
        try:
            self._audit.stop(reason)
        finally:
            self._ready[:] = False
            if self._on_stop is not None:
                self._on_stop(reason)

    def rearm(self, token: str) -> None:
        """Ends a stop; every row must be reset before it moves.

        Args:
            token: A string that was never used before with this audit log; a person makes it up.

        Raises:
            RobotFault: The token is empty or used, or nothing is stopped.
        """
        self._audit.rearm(token)
        self._ready[:] = False

    def close(self) -> None:
        """Releases the robot; the audit log stays open, and so does a latched stop."""
        try:
            self._record_clamps()
        finally:
            self._robot.close()

    def _require_armed(self, where: str) -> None:
        if self._audit.stop_reason is not None:
            raise RobotFault(
                f"{where}: expected an armed robot, got one stopped by '{self._audit.stop_reason}'; "
                "inspect it, then call rearm with a new token"
            )

    def _check_rows(self, rows: Rows) -> Rows:
        index = np.asarray(rows)
        good = index.ndim == 1 and index.dtype.kind in "iu"
        if good and len(index):
            ordered = index
            # rows that increase, as a `RobotBatch` asks for, need no sorting; this runs before every control step
            if (index[1:] <= index[:-1]).any():
                ordered = np.unique(index)
            good = len(ordered) == len(index) and bool(ordered[0] >= 0 and ordered[-1] < self._rows)
        if not good:
            raise SpecError(f"rows: expected different row indices below {self._rows}, got {index}; pass each row once")
        return index.astype(np.int64, copy=False)

    def _check_action(self, rows: Rows, action: Float) -> NDArray[np.float64]:
        """The requested commands as float64, so that a value too large for float32 is clipped and not infinite."""
        array = np.asarray(action)
        shape = (len(rows), *self._spec.action.shape)
        if array.shape != shape or array.dtype.kind not in "fiu":
            raise self._fault(
                f"expected commands of shape {shape}, got {array.shape} {array.dtype}", "check the policy's action axes"
            )
        requested = array.astype(np.float64)
        if not np.isfinite(requested).all():
            row, axis = (int(i) for i in np.argwhere(~np.isfinite(requested))[0])
            raise self._fault(
                f"expected a finite command, got {requested[row, axis]} in axis '{self._spec.action.names[axis]}' of "
                f"row {rows[row]}",
                "check the policy",
            )
        return requested

    def _check_observation(self, rows: Rows, observation: Float) -> None:
        shape = (len(rows), *self._spec.observation.shape)
        if observation.shape != shape:
            raise self._fault(f"expected observations of shape {shape}, got {observation.shape}", "check the driver")
        if not np.isfinite(observation).all():
            row, axis = (int(i) for i in np.argwhere(~np.isfinite(observation))[0])
            raise self._fault(
                f"expected a finite observation, got {observation[row, axis]} in axis "
                f"'{self._spec.observation.names[axis]}' of row {rows[row]}",
                "check the sensor",
            )
        if self._observation_age is not None:
            age = self._observation_age()
            if not age <= self._max_observation_age:
                raise self._fault(
                    f"expected an observation at most {self._max_observation_age} s old, got one of {age} s",
                    "check the sensor and the network",
                )
        if self._max_frozen_steps is not None:
            same = (observation == self._observation[rows]).all(axis=1)
            self._frozen_steps[rows] = np.where(same, self._frozen_steps[rows] + 1, 0)
            if (self._frozen_steps[rows] > self._max_frozen_steps).any():
                row = int(rows[np.argmax(self._frozen_steps[rows])])
                raise self._fault(
                    f"expected a new observation within {self._max_frozen_steps} steps, got the same one "
                    f"{self._frozen_steps[row]} times in row {row}",
                    "check the sensor",
                )
            self._observation[rows] = observation

    def _record_clamps(self) -> None:
        """Writes what was clamped since the last such record, if anything was."""
        if self._clamps.any():
            self._audit.append("clamps", **self._clamps.take())

    def _fault(self, what: str, remedy: str) -> RobotFault:
        """Latches a stop; the error to raise."""
        self.stop(what)
        self._record_clamps()
        return RobotFault(f"safety limits: {what}; stopped: {remedy}, then call rearm with a new token")

    @contextmanager
    def _stop_unless_completed(self, what: str) -> Iterator[None]:
        """Latches a stop if the block raises anything at all: the robot's state is then unknown."""
        completed = False
        try:
            yield
            completed = True
        finally:
            if not completed:
                self.stop(f"the robot's {what} did not complete")
                self._record_clamps()


def _sealed(array: NDArray[np.floating]) -> NDArray[np.float64]:
    """A float64 copy in immutable memory: unlike a flag, this cannot be undone."""
    return np.frombuffer(array.astype(np.float64).tobytes(), np.float64)
