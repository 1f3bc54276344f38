"""Limits between any policy and any robot: commands are checked, clipped and rate-limited, and a stop is latched.

`SafetyLimits` wraps a `RobotBatch` and is one, so whatever acts on it cannot tell. It is a software layer: it does not
replace an emergency stop that cuts the power.

Every command and every observation passes one guard. Whatever goes wrong between a command and the next checked
observation latches the stop and calls `on_stop`: an error of the policy's command, of the driver, of the sensor, of the
disk, and a Ctrl-C too. The layer decides on copies of its own, and hands out copies.

Faults and stops are in the audit log at once. Clamped commands are counted, and the counts are written when rows are
reset, at a fault and at the end: a policy that explores is clamped at every other step, and thousands of such records
would hide the few that matter.

Axes: R rows, r rows of this call, O observation, A action, N tasks, G goal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RobotFault, SpecError, SuppleError
from ..robots.robot import Bool, Float, RobotBatch, Rows, StepRows, Stops, TellsAge
from ..robots.spec import RobotSpec
from .audit import AuditLog, make_text
from .watchdog import Watchdog

REARM = "inspect the robot, then re-arm it with a code of the operator (supple rearm)"


@dataclass(frozen=True, slots=True)
class ActionLimits:
    """What a robot may be told, copied from its spec into memory that nothing can write to."""

    low: NDArray[np.float64]
    """Smallest float32 command within the limits per axis, shape (A,)."""
    high: NDArray[np.float64]
    """Largest float32 command within the limits per axis, shape (A,)."""
    max_change: NDArray[np.float64]
    """Largest change of the command per control period, shape (A,); inf where the axis has no rate limit."""
    rated: bool
    """Whether any axis has a rate limit."""

    @staticmethod
    def of(spec: RobotSpec) -> ActionLimits:
        """The limits of a robot.

        Raises:
            SpecError: An action axis has no finite limits, no float32 number between them, or a rate limit that is not
                > 0: such a robot is not moved.
        """
        low, high = spec.action.inner_low, spec.action.inner_high
        for axis, least, most in zip(spec.action.axes, low, high, strict=True):
            if not (np.isfinite(axis.low) and np.isfinite(axis.high) and least < most):
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
        return ActionLimits(
            _seal(low.astype(np.float64)),
            _seal(high.astype(np.float64)),
            _seal(rates * spec.control_period),
            bool(np.isfinite(rates).any()),
        )

    def apply(self, requested: NDArray[np.float64], previous: Float) -> tuple[Float, Bool]:
        """The nearest command that the limits allow.

        Args:
            requested: Finite, shape (r, A).
            previous: The last command of each row, or `RobotSpec.compute_resting`, shape (r, A).

        Returns:
            The command, float32, shape (r, A): within [low, high] and within max_change of the previous one, exactly;
            and where it is not what was requested, shape (r, A). NaN where there is no such command, since the measured
            start is further outside the limits than one step.
        """
        # minimum and maximum: np.clip takes three times as long on so few numbers
        if not self.rated:
            allowed = np.minimum(np.maximum(requested, self.low), self.high)
            return allowed.astype(np.float32), allowed != requested
        last = previous.astype(np.float64)
        allowed = np.minimum(np.maximum(requested, last - self.max_change), last + self.max_change)
        allowed = np.minimum(np.maximum(allowed, self.low), self.high)
        sent = allowed.astype(np.float32)
        if (np.abs(sent - last) > self.max_change).any():
            # rounding may overshoot by half a unit in the last place, which a step back undoes; or there is no command
            back = np.where(np.abs(sent - last) > self.max_change, np.nextafter(sent, previous), sent)
            good = (np.abs(back - last) <= self.max_change) & (back >= self.low) & (back <= self.high)
            sent = np.where(good, back, np.float32(np.nan))
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


class SafetyLimits(Stops):
    """A `RobotBatch` whose commands are finite, within limits and rate limits, or not sent at all.

    A fault stops all rows: a command or observation that is not finite or has the wrong shape or type, a stale or
    frozen observation, anything that raised, and a session that is closed in the middle of an episode. The stop is
    latched, across restarts too, until `rearm`; then rows must be reset.
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
        watchdog: Watchdog | None = None,
    ) -> None:
        """Takes the limits from the robot's spec; they cannot be changed afterwards.

        Args:
            robot: The robots.
            audit: Where clamps, faults and stops are recorded; a stop that is still latched there holds.
            observation_age: Seconds since the newest observation was measured, from the driver; None for that of a
                robot that `TellsAge`, or no check for another one.
            max_observation_age: Age in seconds from which on an observation is stale.
            max_frozen_steps: How many steps in a row an observation may repeat bit for bit; None for any number, since
                a simulated robot at rest does repeat itself.
            on_stop: Called with the reason at every stop, perhaps more than once: hold or cut the drives here. None for
                that of a robot that `Stops`.
            watchdog: A second process, which stops the robot where no command follows within its timeout while a row is
                in the middle of an episode.

        Raises:
            SpecError: The robot's spec has an action axis without limits.
        """
        self._robot = robot
        self._spec = robot.spec
        self._rows = robot.rows
        self._limits = ActionLimits.of(self._spec)
        self._audit = audit
        if observation_age is None and isinstance(robot, TellsAge):
            observation_age = robot.observation_age
        if on_stop is None and isinstance(robot, Stops):
            on_stop = robot.stop
        self._observation_age = observation_age
        self._max_observation_age = max_observation_age
        self._max_frozen_steps = max_frozen_steps
        self._on_stop = on_stop
        self._watchdog = watchdog
        self._sent = np.zeros((self._rows, *self._spec.action.shape), np.float32)
        self._observation = np.full((self._rows, *self._spec.observation.shape), np.nan, np.float32)
        self._frozen_steps = np.zeros(self._rows, np.int64)
        self._clamps = ClampCounts.of(self._spec)
        self._ready = np.zeros(self._rows, np.bool_)
        self._moving = np.zeros(self._rows, np.bool_)

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
        """See `RobotBatch.reset`. The rate limit starts anew, see `RobotSpec.compute_resting`.

        Raises:
            RobotFault: The robot is stopped, or the first observation is faulty.
            SuppleError: What the robot itself raised; the stop is latched.
        """
        with self._guard("reset"):
            index = self._check_rows(rows)
            self._record_clamps()
            self._ready[index], self._moving[index] = False, False
            self._tell_watchdog()
            self._observation[index], self._frozen_steps[index] = np.nan, 0
            result = self._robot.reset(_copy_read_only(index), _copy_read_only(goals), rng)
            observation = self._check_observation(index, result)
            self._sent[index] = self._spec.compute_resting(observation)
            self._ready[index] = True
            return observation
        raise AssertionError("the guard raises what it catches")

    def step(self, rows: Rows, action: Float) -> StepRows:
        """Sends the nearest allowed command to each of `rows`; see `RobotBatch.step`.

        Raises:
            RobotFault: The robot is stopped, a row was not reset since the start or the last stop, or a command or
                observation is faulty.
            SuppleError: What the robot itself raised; the stop is latched.
        """
        with self._guard("step"):
            index = self._check_rows(rows)
            if not self._ready[index].all():
                row = index[~self._ready[index]][0]
                raise _refuse(f"expected rows that were reset, got row {row}", "reset every row after a stop")
            requested = self._check_action(index, action)
            sent, clamped = self._limits.apply(requested, self._sent[index])
            self._require_reachable(index, sent)
            self._clamps.add(requested, sent, clamped)
            self._sent[index], self._moving[index] = sent, True
            self._tell_watchdog()
            step = self._check_step(index, self._robot.step(_copy_read_only(index), _copy_read_only(sent)))
            self._moving[index] = ~(step.terminated | step.truncated)
            self._tell_watchdog()
            return step
        raise AssertionError("the guard raises what it catches")

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        return self._robot.compute_reward(observation, goals)

    def stop(self, reason: str) -> None:
        """Stops all rows until `rearm`; may be called from another thread.

        Args:
            reason: Why, for people.

        Raises:
            RobotFault: `on_stop` failed, or the reason could not be written down. The stop holds all the same.
        """
        if problems := self._latch(reason):
            raise RobotFault(f"stop: expected no problem, got {'; '.join(problems)}; it holds all the same: {REARM}")

    def rearm(self, code: str) -> None:
        """Ends a stop; every row must be reset before it moves.

        Args:
            code: Of the operator, see `AuditLog.issue_codes`.

        Raises:
            RobotFault: The code is none of the log or was used, or nothing is stopped.
        """
        self._ready[:], self._moving[:] = False, False
        self._audit.rearm(code)

    def close(self) -> None:
        """Releases the robot; the audit log stays open, and so does a latched stop.

        A robot in the middle of an episode is stopped: its policy has gone, and it may still follow the last command.
        """
        try:
            if self._moving.any() and self.stop_reason is None:
                self.stop("the session was closed in the middle of an episode")
            self._record_clamps()
        finally:
            self._robot.close()

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        """Latches a stop if the block raises anything at all, and gives what it raised a type."""
        self._require_armed(what)
        try:
            yield
        except BaseException as error:
            reason = make_text(error)
            if not isinstance(error, SuppleError):
                reason = f"the robot's {what} did not complete: {type(error).__name__} {reason}".rstrip()
            problems = self._latch(reason)
            try:
                self._record_clamps()
            except RobotFault as problem:
                problems.append(str(problem))
            for note in problems:
                error.add_note(note)
            if isinstance(error, SuppleError) or not isinstance(error, Exception):
                raise
            raise _refuse(f"expected a {what} that completes, got {type(error).__name__}: {reason}", "") from error
        self._require_armed(what)  # another thread may have stopped it meanwhile

    def _latch(self, reason: object) -> list[str]:
        """Stops in memory, then by `on_stop`, then on the disk; what of it failed."""
        text, problems = make_text(reason), list[str]()
        self._audit.latch(text)
        self._ready[:], self._moving[:] = False, False
        try:
            if self._on_stop is not None:
                self._on_stop(text)
                if self._watchdog is not None:  # else it stops the robot too, once its timeout is over
                    with suppress(RobotFault):
                        self._watchdog.rest()
        except Exception as error:  # noqa: BLE001 - a driver that cannot stop must not keep the stop from the disk
            problems.append(f"on_stop raised {type(error).__name__}: {make_text(error)}")
        finally:
            try:
                self._audit.stop(text)
            except RobotFault as error:
                problems.append(str(error))
        return problems

    def _tell_watchdog(self) -> None:
        if self._watchdog is not None:
            (self._watchdog.beat if self._moving.any() else self._watchdog.rest)()

    def _require_armed(self, where: str) -> None:
        if self._audit.stop_reason is not None:
            raise RobotFault(
                f"{where}: expected an armed robot, got one stopped by '{self._audit.stop_reason}'; {REARM}"
            )

    def _check_rows(self, rows: Rows) -> Rows:
        index = np.array(rows)
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
        array = np.array(action)
        shape = (len(rows), *self._spec.action.shape)
        if array.shape != shape or array.dtype.kind not in "fiu":
            raise _refuse(
                f"expected commands of shape {shape}, got {array.shape} {array.dtype}", "check the policy's action axes"
            )
        with np.errstate(over="ignore"):  # a longer float may become infinite here
            requested = array.astype(np.float64)
        if not np.isfinite(requested).all():
            row, axis = (int(i) for i in np.argwhere(~np.isfinite(requested))[0])
            raise _refuse(
                f"expected a finite command, got {requested[row, axis]} in axis '{self._spec.action.names[axis]}' of "
                f"row {rows[row]}",
                "check the policy",
            )
        if self._spec.choices:
            self._spec.require_choices(requested, len(rows), "safety limits")
        return requested

    def _require_reachable(self, rows: Rows, sent: Float) -> None:
        if not np.isfinite(sent).all():
            row, axis = (int(i) for i in np.argwhere(np.isnan(sent))[0])
            name = self._spec.action.names[axis]
            raise _refuse(
                f"expected row {rows[row]} to start within one step of the limits "
                f"[{self._limits.low[axis]:g}, {self._limits.high[axis]:g}] of axis '{name}', got "
                f"{self._sent[rows[row], axis]:g} {self._spec.action.axes[axis].unit}",
                "move the robot there by hand",
            )

    def _check_step(self, rows: Rows, step: StepRows) -> StepRows:
        """What a robot gave, as arrays that only the caller has."""
        if not isinstance(step, StepRows):
            raise _refuse(f"expected a StepRows of the driver's step, got {type(step).__name__}", "correct the driver")
        observation = self._check_observation(rows, step.observation)
        reward = _own(step.reward, rows.shape, "fiu", "rewards").astype(np.float32, copy=False)
        if not np.isfinite(reward).all():
            raise _refuse(f"expected {len(rows)} finite rewards, got {reward}", "check the task monitor")
        terminated, truncated = (
            _own(value, rows.shape, "b", name)
            for name, value in (("terminated", step.terminated), ("truncated", step.truncated))
        )
        success = None if step.success is None else _own(step.success, rows.shape, "b", "success")
        return StepRows(observation, reward, terminated, truncated, success)

    def _check_observation(self, rows: Rows, observation: Float) -> Float:
        """An observation as an array that only the caller has."""
        shape = (len(rows), *self._spec.observation.shape)
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused
            seen: Float = _own(observation, shape, "fiu", "observations").astype(np.float32, copy=False)
        if not np.isfinite(seen).all():
            row, axis = (int(i) for i in np.argwhere(~np.isfinite(seen))[0])
            raise _refuse(
                f"expected a finite observation, got {seen[row, axis]} in axis "
                f"'{self._spec.observation.names[axis]}' of row {rows[row]}",
                "check the sensor",
            )
        if self._observation_age is not None:
            age = self._observation_age()
            known = isinstance(age, int | float | np.floating) and not isinstance(age, bool)
            if not (known and 0.0 <= age <= self._max_observation_age):
                raise _refuse(
                    f"expected an observation at most {self._max_observation_age} s old, got one of {age} s",
                    "check the sensor, its clock and the network",
                )
        if self._max_frozen_steps is not None:
            same = (seen == self._observation[rows]).all(axis=1)
            self._frozen_steps[rows] = np.where(same, self._frozen_steps[rows] + 1, 0)
            if (self._frozen_steps[rows] > self._max_frozen_steps).any():
                row = int(rows[np.argmax(self._frozen_steps[rows])])
                raise _refuse(
                    f"expected a new observation within {self._max_frozen_steps} steps, got the same one "
                    f"{self._frozen_steps[row]} times in row {row}",
                    "check the sensor",
                )
            self._observation[rows] = seen
        return seen

    def _record_clamps(self) -> None:
        """Writes what was clamped since the last such record, if anything was."""
        if self._clamps.any():
            self._audit.append("clamps", **self._clamps.take())


def _refuse(what: str, remedy: str) -> RobotFault:
    return RobotFault(f"safety limits: {what}; stopped: {remedy + ', then ' if remedy else ''}{REARM}")


def _own(value: object, shape: tuple[int, ...], kinds: str, name: str) -> NDArray[Any]:
    """A copy of an array of the driver, if it has this shape and one of these kinds of numbers."""
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind not in kinds:
        got = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise _refuse(f"expected {name} of shape {shape}, got {got}", "check the driver")
    return np.array(value)  # also of a subclass, such as a masked array


def _copy_read_only(value: NDArray[Any]) -> NDArray[Any]:
    """What a robot is given: a copy, so that whatever it does with it changes nothing here."""
    copy = np.array(value)
    copy.flags.writeable = False
    return copy


def _seal(array: NDArray[Any]) -> NDArray[Any]:
    """A copy in immutable memory: unlike a flag, this cannot be undone."""
    return np.frombuffer(array.tobytes(), array.dtype)
