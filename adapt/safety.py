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

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RobotFault, SpecError, SuppleError, make_text
from ..robots.limits import TRACKING, RobotLimits
from ..robots.robot import (
    ROUNDING,
    Bool,
    Float,
    Holds,
    RobotBatch,
    Rows,
    Sees,
    StepRows,
    Stops,
    TakesLimits,
    TellsAge,
    can,
    find_sent,
    freeze,
    take_images,
)
from ..robots.spec import RobotSpec
from .action_limits import ActionHistory, ActionLimits, seal
from .audit import AuditLog
from .watchdog import Watchdog

REARM = "inspect the robot, then re-arm it with a code of the operator (supple rearm)"
USUAL_AGE = 0.1
"""Seconds from which on an observation is stale where nothing else says so."""


class Measured:
    """What observations have to keep to: ranges, half-spaces, and places that follow what was commanded."""

    def __init__(self, limits: RobotLimits) -> None:
        spec = limits.spec
        names, count = spec.observation.names, len(spec.observation.axes)
        ends = np.array([limits.observation.get(name, (-np.inf, np.inf))[:2] for name in names])
        self.names = names
        self.half_spaces = limits.half_spaces
        self.low, self.high = seal(ends[:, 0]), seal(ends[:, 1])
        normals = np.zeros((len(limits.half_spaces), count))
        for row, space in enumerate(limits.half_spaces):
            normals[row, [names.index(name) for name in space.axes]] = space.normal
        self.normals = seal(normals).reshape(normals.shape)
        self.offsets = seal(np.array([space.offset for space in limits.half_spaces]))
        pairs = zip(spec.find_commanded(), limits.action, strict=True)
        tracked = [(axis, name, found[TRACKING].high) for axis, (name, found) in enumerate(pairs) if TRACKING in found]
        self.actions = np.array([axis for axis, _, _ in tracked], np.int64)
        self.followers = np.array([names.index(str(name)) for _, name, _ in tracked], np.int64)
        self.largest = seal(np.array([most for _, _, most in tracked]))
        self.bounded = bool(limits.observation or limits.half_spaces)

    def require_within(self, rows: Rows, seen: Float) -> None:
        """Refuses a place out of bounds.

        Raises:
            RobotFault: Naming the row and the axis.
        """
        if not self.bounded:
            return
        outside = (seen < self.low) | (seen > self.high)
        if outside.any():
            row, axis = (int(i) for i in np.argwhere(outside)[0])
            raise refuse(
                f"expected '{self.names[axis]}' of row {rows[row]} within [{self.low[axis]:g}, {self.high[axis]:g}], "
                f"got {seen[row, axis]:g}",
                "move the robot back by hand",
            )
        with np.errstate(over="ignore", invalid="ignore"):  # what cannot be computed is beyond
            beyond = ~(seen @ self.normals.T >= self.offsets)
        if beyond.any():
            row, which = (int(i) for i in np.argwhere(beyond)[0])
            space = self.half_spaces[which]
            raise refuse(
                f"expected row {rows[row]} where {space.normal} . {space.axes} >= {space.offset:g}, got "
                f"{float(seen[row] @ self.normals[which]):g}",
                "move the robot back by hand",
            )

    def require_following(self, rows: Rows, seen: Float, sent: Float) -> None:
        """Refuses a robot that is far from where it was sent.

        Raises:
            RobotFault: Naming the row and the axis.
        """
        if not len(self.actions):
            return
        error = np.abs(seen[:, self.followers].astype(np.float64) - sent[:, self.actions])
        if (error > self.largest).any():
            row, which = (int(i) for i in np.argwhere(error > self.largest)[0])
            raise refuse(
                f"expected '{self.names[self.followers[which]]}' of row {rows[row]} at most {self.largest[which]:g} "
                f"from its command, got a tracking error of {error[row, which]:g}",
                "look for what holds the robot",
            )


@dataclass(slots=True)
class ClampCounts:
    """Commands that were not sent as requested, counted by action axis since the last `take`."""

    names: tuple[str, ...]
    """Names of the action axes."""
    clamped: NDArray[np.int64]
    """Clamped commands, shape (A,)."""
    largest: NDArray[np.float64]
    """Largest |requested - sent|, shape (A,), in the unit of the axis."""
    changed: NDArray[np.int64]
    """Commands that the driver sent otherwise than it was told, shape (A,)."""
    largest_change: NDArray[np.float64]
    """Largest |told - really sent|, shape (A,), in the unit of the axis."""
    commands: int = 0
    """Commands in all: one for each row and step."""
    late: int = 0
    """Steps of which the command came late, so that the robot was told to hold."""

    @staticmethod
    def of(spec: RobotSpec) -> ClampCounts:
        """Nothing counted yet."""
        axes, names = len(spec.action.axes), tuple(spec.action.names)
        return ClampCounts(names, np.zeros(axes, np.int64), np.zeros(axes), np.zeros(axes, np.int64), np.zeros(axes))

    def add(self, requested: NDArray[np.float64], sent: Float, clamped: Bool) -> None:
        """Counts one step of r rows, each argument of shape (r, A)."""
        self.commands += len(requested)
        if clamped.any():
            self.clamped += clamped.sum(axis=0)
            excess = np.where(clamped, np.abs(requested - sent), 0.0)
            np.maximum(self.largest, excess.max(axis=0), out=self.largest)

    def add_changes(self, told: Float, sent: Float) -> None:
        """Counts what a driver sent otherwise than it was told, each argument of shape (r, A)."""
        self.changed += (sent != told).sum(axis=0)
        np.maximum(self.largest_change, np.abs(sent.astype(np.float64) - told).max(axis=0), out=self.largest_change)

    def any(self) -> bool:
        """Whether a command was clamped, changed by the driver, or late."""
        return bool(self.clamped.any()) or bool(self.changed.any()) or self.late > 0

    def take(self) -> dict[str, Any]:
        """The counts as JSON, by axis where there are any; counting starts again at zero."""
        found = zip(self.names, self.clamped.tolist(), self.largest.tolist(), strict=True)
        axes = {name: {"clamped": count, "largest": largest} for name, count, largest in found if count}
        facts = {"commands": self.commands, "axes": axes}
        facts |= {"late": self.late} if self.late else {}
        changes = zip(self.names, self.changed.tolist(), self.largest_change.tolist(), strict=True)
        changed = {name: {"changed": count, "largest": largest} for name, count, largest in changes if count}
        facts |= {"driver": changed} if changed else {}
        self.clamped[:], self.largest[:], self.commands, self.late = 0, 0.0, 0, 0
        self.changed[:], self.largest_change[:] = 0, 0.0
        return facts


class SafetyLimits(Stops, Holds, Sees):
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
        limits: RobotLimits | None = None,
        observation_age: Callable[[], float] | None = None,
        max_observation_age: float | None = None,
        max_frozen_steps: int | None = None,
        on_stop: Callable[[str], None] | None = None,
        watchdog: Watchdog | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Copies the limits; they cannot be changed afterwards.

        Args:
            robot: The robots.
            audit: Where clamps, faults and stops are recorded; a stop that is still latched there holds.
            limits: Of this robot, for tighter ones than those of its contract and for further ones; None for those
                alone.
            observation_age: Seconds since the newest observation was measured, from the driver; None for that of a
                robot that `TellsAge`, or no check for another one.
            max_observation_age: Age in seconds from which on an observation is stale; None for that of the limits, or
                else 0.1 s.
            max_frozen_steps: How many steps in a row an observation may repeat bit for bit; None for any number, since
                a simulated robot at rest does repeat itself; that of the limits holds too.
            on_stop: Called with the reason at every stop, perhaps more than once: hold or cut the drives here. None for
                that of a robot that `Stops`. One that is none is told to hold, if it `Holds`.
            watchdog: A second process, which stops the robot where no command follows within its timeout while a row is
                in the middle of an episode, and at once at a stop that the driver was not told.
            clock: Monotonic time, seconds.

        Raises:
            SpecError: An action axis has no limits, or limits that float32 cannot resolve; or the limits are those of
                another contract.
            ConfigError: The home of the robot is outside of them.
        """
        self._robot = robot
        self._spec = robot.spec
        self._rows = robot.rows
        limits = RobotLimits.of(self._spec) if limits is None else limits
        limits.spec.require_match(self._spec, "safety limits")
        self._limits, self._measured, self._loop = ActionLimits.of(self._spec, limits), Measured(limits), limits.loop
        self.keeps_home = isinstance(robot, TakesLimits) and robot.take_limits(limits)
        """Whether the limits of commands hold for what the driver commands by itself, too, such as on the way home."""
        self._audit = audit
        if observation_age is None and isinstance(robot, TellsAge) and can(robot, TellsAge):
            observation_age = robot.observation_age
        if on_stop is None and isinstance(robot, Stops) and can(robot, Stops):
            on_stop = robot.stop
        self._observation_age = observation_age
        ages = [age for age in (max_observation_age, self._loop.max_age) if age is not None]
        self._max_observation_age = min(ages, default=USUAL_AGE)
        frozen = [steps for steps in (max_frozen_steps, self._loop.frozen_steps) if steps is not None]
        self._max_frozen_steps = min(frozen, default=None)
        self._on_stop = on_stop
        self._watchdog = watchdog
        self._clock = clock
        self._history = self._limits.start(np.zeros((self._rows, *self._spec.action.shape), np.float32))
        self._measured_at, self._commanded_at, self._late_steps = -np.inf, np.nan, 0
        self._clamped_steps = np.zeros(self._rows, np.int64)
        self._observation = np.full((self._rows, *self._spec.observation.shape), np.nan, np.float32)
        self._frozen_steps = np.zeros(self._rows, np.int64)
        self._clamps = ClampCounts.of(self._spec)
        self._ready = np.zeros(self._rows, np.bool_)
        self._moving = np.zeros(self._rows, np.bool_)
        self._touched = False  # nothing was sent yet

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
            self._audit.require_there()
            self._record_clamps()
            self._ready[index], self._moving[index] = False, False
            self._tell_watchdog()
            self._observation[index], self._frozen_steps[index], self._clamped_steps[index] = np.nan, 0, 0
            self._commanded_at, self._late_steps = np.nan, 0
            self._touched = True
            result = self._robot.reset(_copy_read_only(index), _copy_read_only(goals), rng)
            observation = self._check_observation(index, result)
            self._history.put(index, self._limits.start(self._spec.compute_resting(observation)))
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
                raise refuse(f"expected rows that were reset, got row {row}", "reset every row after a stop")
            requested = self._check_action(index, action)
            history = self._history.take(index)
            before = history.commands[:, 0].copy()
            requested = self._hold_if_late(requested, history)
            sent, clamped = self._limits.apply(requested, history)
            self._require_reachable(index, sent)
            self._history.put(index, history)
            self._count_clamps(index, requested, sent, clamped)
            self._moving[index] = True
            self._tell_watchdog()
            step = self._check_step(index, self._robot.step(_copy_read_only(index), _copy_read_only(sent)))
            sent = self._find_sent(index, before, sent, step.observation)
            self._measured.require_following(index, step.observation, sent)
            self._moving[index] = ~(step.terminated | step.truncated)
            self._tell_watchdog()
            return step
        raise AssertionError("the guard raises what it catches")

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`; nothing is stopped by it, for nothing moves by it.

        Raises:
            RobotFault: It raised what is no error of ours, or gave anything but two arrays of shape (..., N).
        """
        try:
            reward, terminated = self._robot.compute_reward(freeze(observation), freeze(goals))
            shape, kind = (*np.shape(observation)[:-1], len(goals)), np.asarray(reward).dtype
            if {np.shape(reward), np.shape(terminated)} != {shape} or kind.kind not in "fiu":
                raise RobotFault(
                    f"safety limits: expected rewards of shape {shape} of compute_reward, got {kind} of shape "
                    f"{np.shape(reward)}, and ends of shape {np.shape(terminated)}; correct the driver"
                )
            return reward, terminated
        except (SuppleError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise RobotFault(
                f"safety limits: expected a compute_reward that completes, got {type(error).__name__} "
                f"{make_text(error)}; correct the driver"
            ) from error

    def hold(self) -> None:
        """See `Holds.hold`; every row must be reset before it moves again. May be told again and again meanwhile.

        The second process hears that the robot rests, and is asked whether it is still there. A robot that was never
        moved by this session is left alone.

        Raises:
            RobotFault: The robot is stopped, or cannot be told to hold; the stop is latched.
        """
        with self._guard("hold"):
            if self._touched and isinstance(self._robot, Holds) and can(self._robot, Holds):
                if self._watchdog is not None:  # a driver may hang in here, too
                    self._watchdog.beat()
                self._robot.hold()
            self._ready[:], self._moving[:] = False, False
            self._tell_watchdog()

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`; pictures are no command, and pass."""
        return take_images(self._robot, rows, self._spec.name)

    def stop(self, reason: str) -> None:
        """Stops all rows until `rearm`; may be called from another thread.

        Args:
            reason: Why, for people.

        Raises:
            RobotFault: `on_stop` failed, or the reason could not be written down. The stop holds all the same.
        """
        if problems := self._latch(reason):
            raise RobotFault(f"stop: expected no problem, got '{'; '.join(problems)}'; it holds all the same: {REARM}")

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

        Raises:
            RobotFault: The robot cannot be closed, or the log cannot be written.
        """
        try:
            if self._moving.any() and self.stop_reason is None:
                self.stop("the session was closed in the middle of an episode")
            self._record_clamps()
        finally:
            self._close_robot()

    def _close_robot(self) -> None:
        """Closes the robot; one that cannot be closed is stopped, since nobody knows what it does."""
        try:
            self._robot.close()
        except BaseException as error:
            typed = isinstance(error, SuppleError)
            reason = make_text(error) if typed else f"{type(error).__name__} {make_text(error)}".rstrip()
            reason = f"the robot's close did not complete: {reason}"
            fault = RobotFault(f"safety limits: {reason}; stopped: {REARM}")
            for problem in self._latch(reason):
                (error if typed else fault).add_note(problem)
            if typed or isinstance(error, KeyboardInterrupt):
                raise
            raise fault from error

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        """Latches a stop if the block raises anything at all, and gives what it raised a type."""
        self._require_armed(what)
        try:
            yield
        except BaseException as error:
            reason = make_text(error)
            hung = isinstance(error, KeyboardInterrupt) and self._watchdog is not None and self._watchdog.fired
            if hung:  # nobody pressed Ctrl-C: the second process did
                reason = f"the robot's {what} did not complete: {hung}"
            elif not isinstance(error, SuppleError):
                reason = f"the robot's {what} did not complete: {type(error).__name__} {reason}".rstrip()
            problems = self._latch(reason)
            try:
                self._record_clamps()
            except RobotFault as problem:
                problems.append(str(problem))
            for note in problems:
                error.add_note(note)
            if hung:
                raise refuse(f"expected a {what} that completes, got a driver that hangs: {hung}", "") from error
            if isinstance(error, SuppleError | KeyboardInterrupt):
                raise
            # SystemExit too: a driver does not end this process as if all were well. And a context manager takes an
            # error of ours that comes from a StopIteration for the StopIteration itself
            cause = None if isinstance(error, StopIteration) else error
            raise refuse(f"expected a {what} that completes, got {type(error).__name__}: {reason}", "") from cause
        self._require_armed(what)  # another thread may have stopped it meanwhile

    def _latch(self, reason: object) -> list[str]:
        """Stops in memory, then the robot, then on the disk; what of it failed."""
        text, problems, told = make_text(reason), list[str](), list[str]()
        self._audit.latch(text)
        self._ready[:], self._moving[:] = False, False
        try:
            self._tell_stop(text, told, problems)
        finally:
            try:
                self._audit.stop(text, told=told, **({"problems": list(problems)} if problems else {}))
            except RobotFault as error:
                problems.append(str(error))
        return problems

    def _tell_stop(self, reason: str, told: list[str], problems: list[str]) -> None:
        """Has the robot stopped: by its driver, and by the second process unless the driver was told.

        A driver that cannot be told to stop is told to hold the robot, where it can: that is sooner than a connection
        of another process, and all there is without one.

        Args:
            reason: Why.
            told: Gets who was told.
            problems: Gets what failed.
        """
        try:
            if self._on_stop is not None:
                self._on_stop(reason)
                told.append("driver")
        except Exception as error:  # noqa: BLE001 - a driver that cannot stop must not keep the stop from the disk
            problems.append(
                f"the robot could not be told to stop: {type(error).__name__} {make_text(error)}; cut its power"
            )
        finally:  # a Ctrl-C in a driver that is told to stop does not keep it from the second process
            self._tell_second_process(reason, told, problems)
        stopped = self._watchdog is not None and self._watchdog.fired is not None
        if self._on_stop is None and self._touched and not stopped:
            self._hold_instead(told, problems)

    def _tell_second_process(self, reason: str, told: list[str], problems: list[str]) -> None:
        """A robot that was told to stop rests, as far as the second process is concerned; any other one it stops."""
        if self._watchdog is None:
            return
        if told:
            with suppress(RobotFault):  # it has stopped the robot, or has gone
                self._watchdog.rest()
            return
        try:
            self._watchdog.stop(reason)
            told.append("second process")
        except RobotFault as error:
            problems.append(f"the second process could not be told to stop the robot: {error}")

    def _hold_instead(self, told: list[str], problems: list[str]) -> None:
        if not (isinstance(self._robot, Holds) and can(self._robot, Holds)):
            return
        try:
            self._robot.hold()
            told.append("driver, to hold")
        except Exception as error:  # noqa: BLE001 - as above
            remedy = "the second process stops it" if "second process" in told else "cut its power"
            problems.append(f"the robot could not be told to hold: {type(error).__name__} {make_text(error)}; {remedy}")

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
            raise refuse(
                f"expected commands of shape {shape}, got {array.shape} {array.dtype}", "check the policy's action axes"
            )
        with np.errstate(over="ignore"):  # a longer float may become infinite here
            requested = array.astype(np.float64)
        if not np.isfinite(requested).all():
            row, axis = (int(i) for i in np.argwhere(~np.isfinite(requested))[0])
            raise refuse(
                f"expected a finite command, got {requested[row, axis]} in axis '{self._spec.action.names[axis]}' of "
                f"row {rows[row]}",
                "check the policy",
            )
        if self._spec.choices:
            self._spec.require_choices(requested, len(rows), "safety limits")
        return requested

    def _hold_if_late(self, requested: NDArray[np.float64], history: ActionHistory) -> NDArray[np.float64]:
        """What is requested; the last command again where this one comes late: it is an answer to an old observation.

        Raises:
            RobotFault: Too many were late in a row, or the clock goes backwards.
        """
        if self._loop.late_after is None:
            return requested
        now, before = self._clock(), self._commanded_at
        self._commanded_at = now
        if not np.isfinite(now) or now < before:
            raise refuse(f"expected a clock that goes on, got {now} s after {before} s", "check the clock")
        if not now - before > self._loop.late_after:
            self._late_steps = 0
            return requested
        self._late_steps += 1
        self._clamps.late += 1
        if self._late_steps > (self._loop.late_steps or 0):
            raise refuse(
                f"expected a command within {self._loop.late_after} s, got {self._late_steps} late ones in a row, the "
                f"last after {now - before:.3g} s",
                "free the computer, or slow the loop down",
            )
        return history.commands[:, 0].astype(np.float64)

    def _count_clamps(self, rows: Rows, requested: NDArray[np.float64], sent: Float, clamped: Bool) -> None:
        self._clamps.add(requested, sent, clamped)
        most = self._loop.clamped_steps
        if most is None:
            return
        self._clamped_steps[rows] += clamped.any(axis=1)
        if (self._clamped_steps[rows] > most).any():
            raise refuse(
                f"expected at most {most} clipped commands in an episode, got more in row "
                f"{rows[np.argmax(self._clamped_steps[rows])]}",
                "check the policy",
            )

    def _find_sent(self, rows: Rows, before: Float, told: Float, observation: Float) -> Float:
        """What was really sent, (r, A): rate limits of the next command and the tracking error count from it.

        A driver may do less than it is told, as one does that keeps commands near the measured place. It may not do
        anything else: what it sends lies within the limits, and between the command, the one before and rest.

        Args:
            rows: Shape (r,).
            before: The commands before, (r, A).
            told: What the driver was told, (r, A).
            observation: Newest, (r, O).

        Raises:
            RobotFault: The driver sent something else.
        """
        sent = find_sent(self._robot, rows, told)
        changed = (sent != told).any(axis=1)
        if not changed.any():
            return sent
        ways = np.stack([before, told, self._spec.compute_resting(observation)])
        slack = ROUNDING * (1.0 + np.abs(told))
        low = np.maximum(ways.min(axis=0) - slack, self._limits.low)
        high = np.minimum(ways.max(axis=0) + slack, self._limits.high)
        wrong = ~((sent >= low) & (sent <= high)) & changed[:, None]
        if wrong.any():
            row, axis = (int(i) for i in np.argwhere(wrong)[0])
            raise refuse(
                f"expected a driver that sends {told[row, axis]:g} in axis '{self._spec.action.names[axis]}' of row "
                f"{rows[row]}, as it is told, or less, got {sent[row, axis]:g} sent after {before[row, axis]:g}",
                "check the driver",
            )
        self._clamps.add_changes(told[changed], sent[changed])
        # where it goes on from there is nobody's plan: the next command is limited as that of a robot at rest there
        self._history.put(rows[changed], self._limits.start(sent[changed]))
        return sent

    def _require_reachable(self, rows: Rows, sent: Float) -> None:
        if not np.isfinite(sent).all():
            row, axis = (int(i) for i in np.argwhere(np.isnan(sent))[0])
            name = self._spec.action.names[axis]
            raise refuse(
                f"expected row {rows[row]} to start within one step of the limits "
                f"[{self._limits.low[axis]:g}, {self._limits.high[axis]:g}] of axis '{name}', got "
                f"{self._history.commands[rows[row], 0, axis]:g} {self._spec.action.axes[axis].unit}",
                "move the robot there by hand",
            )

    def _check_step(self, rows: Rows, step: StepRows) -> StepRows:
        """What a robot gave, as arrays that only the caller has."""
        if not isinstance(step, StepRows):
            raise refuse(f"expected a StepRows of the driver's step, got {type(step).__name__}", "correct the driver")
        observation = self._check_observation(rows, step.observation)
        reward = _own(step.reward, rows.shape, "fiu", "rewards").astype(np.float32, copy=False)
        if not np.isfinite(reward).all():
            raise refuse(f"expected {len(rows)} finite rewards, got {reward}", "check the task monitor")
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
            raise refuse(
                f"expected a finite observation, got {seen[row, axis]} in axis "
                f"'{self._spec.observation.names[axis]}' of row {rows[row]}",
                "check the sensor",
            )
        self._measured.require_within(rows, seen)
        if self._observation_age is not None:
            earliest = self._clock()
            age = self._observation_age()
            latest = self._clock()
            known = isinstance(age, int | float | np.floating) and not isinstance(age, bool)
            if not (known and 0.0 <= age <= self._max_observation_age):
                raise refuse(
                    f"expected an observation at most {self._max_observation_age} s old, got one of {age} s",
                    "check the sensor, its clock and the network",
                )
            if latest - age < self._measured_at:
                raise refuse(
                    "expected observations in the order of their measurement, got one "
                    f"{self._measured_at - latest + age:.3g} s older than the one before",
                    "check the sensor, its clock and the network",
                )
            self._measured_at = earliest - age
        if self._max_frozen_steps is not None:
            same = (seen == self._observation[rows]).all(axis=1)
            self._frozen_steps[rows] = np.where(same, self._frozen_steps[rows] + 1, 0)
            if (self._frozen_steps[rows] > self._max_frozen_steps).any():
                row = int(rows[np.argmax(self._frozen_steps[rows])])
                raise refuse(
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


def refuse(what: str, remedy: str) -> RobotFault:
    """The fault that stops the robot: what was expected and got, and what to do before it is armed again."""
    return RobotFault(f"safety limits: {what}; stopped: {remedy + ', then ' if remedy else ''}{REARM}")


def _own(value: object, shape: tuple[int, ...], kinds: str, name: str) -> NDArray[Any]:
    """A copy of an array of the driver, if it has this shape and one of these kinds of numbers."""
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind not in kinds:
        got = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise refuse(f"expected {name} of shape {shape}, got {got}", "check the driver")
    return np.array(value)  # also of a subclass, such as a masked array


def _copy_read_only(value: NDArray[Any]) -> NDArray[Any]:
    """What a robot is given: a copy, so that whatever it does with it changes nothing here."""
    copy = np.array(value)
    copy.flags.writeable = False
    return copy
