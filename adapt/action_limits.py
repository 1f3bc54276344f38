"""The nearest command that the limits of a robot allow: value, change, acceleration and jerk, exactly in float32.

Limits conflict where a robot moves fast towards the end of its range: the value alone would allow a jump onto the end,
and the acceleration alone a step beyond it. So a command is allowed only if the robot could brake after it within all
limits. Then the next step has a command that is allowed, too: to brake.

Changes are counted per control period: with commands c_t, the change u_t = c_t - c_(t-1), the acceleration
a_t = u_t - u_(t-1), and the jerk a_t - a_(t-1). Without a jerk limit the largest change from which the robot still
stops in time has a closed form, see `ActionLimits._reach`. With one, a plan to a stop is kept for each axis. A command
is taken if a new plan can be found that begins with it; else one between it and the old plan, or the old plan's next.

Axes: R rows, r rows of this call, A action, C candidates, N lengths of a plan, T steps of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from ..robots.limits import RobotLimits, require_finite
from ..robots.robot import Bool, Float, Rows
from ..robots.spec import RobotSpec, round_up

Double = NDArray[np.float64]
HISTORY = 3
"""Commands that the next one depends on."""
LENGTHS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
"""Control periods of each half of a plan; a speed from which no such plan stops is not reached."""
PLAN_STEPS = 2 * int(LENGTHS[-1])
SHARES = np.array([1.0, 0.75, 0.5, 0.25, 0.125, 0.03125])
"""Candidates between the old plan (0) and the nearest command that all but the plan allow (1)."""
SLACK = 2.0**-48
"""Of the largest command: what float64 may be wrong by, in all."""


@dataclass(frozen=True, slots=True)
class ActionLimits:
    """What a robot may be told, copied from its limits into memory that nothing can write to. Each of shape (A,)."""

    low: Double
    """Smallest float32 command within the limits."""
    high: Double
    """Largest float32 command within the limits."""
    change: Double
    """Largest change of the command per control period; inf where the axis has no such limit, as below."""
    acceleration: Double
    """Largest change of the change."""
    jerk: Double
    """Largest change of that."""
    grain: Double
    """Distance of two float32 commands, the largest within the limits."""
    braking: Double
    """The acceleration less two grains, of which rounding may use up one; not infinite."""
    shaping: Double
    """The acceleration with which requests are approached: half of it where there is a jerk limit."""
    jerked: Rows
    """Indices of the axes with a jerk limit."""
    rated: bool
    """Whether any axis has a limit of its change."""
    accelerated: bool
    """Whether any axis has a limit of its acceleration."""

    @staticmethod
    def of(spec: RobotSpec, limits: RobotLimits | None = None) -> ActionLimits:
        """The limits of a robot; those of its contract where none are given.

        Raises:
            SpecError: An action axis has no finite limits, no float32 number between them, or an acceleration or jerk
                limit that is below the resolution of float32: such a robot is not moved.
        """
        limits = RobotLimits.of(spec) if limits is None else limits
        require_finite(limits)
        count = len(spec.action.axes)
        ends = np.array([one[chain[0]][:2] for one, chain in zip(limits.action, limits.chains, strict=True)])
        rates = np.full((HISTORY, count), np.inf)
        for index, (bounds, chain) in enumerate(zip(limits.action, limits.chains, strict=True)):
            for order, name in enumerate(chain[1:]):
                if name in bounds:
                    rates[order, index] = bounds[name].high * spec.control_period ** (order + 1)
        low, high = round_up(ends[:, 0]).astype(np.float64), -round_up(-ends[:, 1]).astype(np.float64)
        scale = np.maximum(np.abs(low), np.abs(high))
        grain = np.spacing(scale.astype(np.float32)).astype(np.float64)
        for axis, least, most, (change, acceleration, jerk), step in zip(
            spec.action.axes, low, high, rates.T, grain, strict=True
        ):
            if not least < most:
                raise SpecError(
                    f"safety limits: expected finite low < high for action axis '{axis.name}', got "
                    f"[{least}, {most}] {axis.unit}; give the axis limits in the robot's spec"
                )
            if change <= SLACK * max(-least, most) or acceleration < 8 * step or jerk < 16 * step:
                raise SpecError(
                    f"safety limits: expected limits of action axis '{axis.name}' that float32 commands can resolve, "
                    f"got {change:.3g} (first change), {acceleration:.3g} (second) and {jerk:.3g} (third) {axis.unit} "
                    f"per control period where commands are {step:.3g} apart; raise them, or lengthen the control "
                    "period"
                )
        rates = np.where(np.isfinite(rates), np.maximum(rates - SLACK * scale, 0.0), np.inf)
        braking = np.minimum(rates[1] - 2.0 * grain, 1e300)
        return ActionLimits(
            seal(low),
            seal(high),
            seal(rates[0]),
            seal(rates[1]),
            seal(rates[2]),
            seal(grain),
            seal(braking),
            seal(np.where(np.isfinite(rates[2]), 0.5 * np.minimum(braking, np.sqrt(rates[0] * rates[2])), braking)),
            seal(np.flatnonzero(np.isfinite(rates[2]))),
            bool(np.isfinite(rates).any()),
            bool(np.isfinite(rates[1:]).any()),
        )

    def start(self, resting: Float) -> ActionHistory:
        """What the first command of an episode depends on: the robot rests at the measured place.

        Args:
            resting: See `RobotSpec.compute_resting`, shape (r, A).
        """
        commands = np.repeat(resting[:, None], HISTORY, axis=1)
        plan = np.repeat(resting[:, self.jerked, None], PLAN_STEPS if len(self.jerked) else 0, axis=2)
        return ActionHistory(commands, plan, resting.astype(np.float64))

    def apply(self, requested: Double, history: ActionHistory) -> tuple[Float, Bool]:
        """The nearest command that the limits allow; it becomes part of the history.

        Args:
            requested: Finite, shape (r, A).
            history: Of the same rows.

        Returns:
            The command, float32, shape (r, A); and where it is not what was requested, shape (r, A). NaN where there is
            no such command, since the measured start is further outside the limits than one step.
        """
        # minimum and maximum: np.clip takes three times as long on so few numbers
        if not self.rated:
            allowed = np.minimum(np.maximum(requested, self.low), self.high)
            history.commands[:, 0] = allowed
            return allowed.astype(np.float32), allowed != requested
        last = history.commands[:, 0].astype(np.float64)
        least, most = self._find_ends(last, history)
        aim = self._aim(requested, last, history) if self.accelerated else requested
        allowed = np.minimum(np.maximum(aim, least), most)
        sent = allowed.astype(np.float32)
        if ((sent < least) | (sent > most) | (least > most)).any():
            # rounding may overshoot by half a unit in the last place, which a step back undoes; or there is no command
            inside = np.where(sent > most, np.float32(-np.inf), np.float32(np.inf))
            back = np.where((sent < least) | (sent > most), np.nextafter(sent, inside), sent)
            sent = np.where((back >= least) & (back <= most), back, np.float32(np.nan))
        if len(self.jerked):
            self._follow_plans(sent, history)
            allowed = np.where(sent == allowed.astype(np.float32), allowed, sent)
        if self.accelerated:
            history.commands[:, 1:] = history.commands[:, :-1].copy()
        history.commands[:, 0] = sent
        return sent, allowed != requested

    def _find_ends(self, last: Double, history: ActionHistory) -> tuple[Double, Double]:
        """Ends of the commands from which the robot can brake, apart from plans; shape (r, A) each."""
        if not self.accelerated:
            return np.maximum(last - self.change, self.low), np.minimum(last + self.change, self.high)
        before = history.commands[:, 1].astype(np.float64)
        moved = last - before
        up = np.minimum(np.minimum(moved + self.acceleration, self.change), self._reach(self.high - last, self.braking))
        down = np.minimum(
            np.minimum(self.acceleration - moved, self.change), self._reach(last - self.low, self.braking)
        )
        least, most = np.maximum(last - down, self.low), np.minimum(last + up, self.high)
        if len(self.jerked):  # the plan alone keeps these within their range
            axes = self.jerked
            bent = moved - (before - history.commands[:, 2])
            limits = (self.acceleration[axes], self.change[axes], self.jerk[axes])
            lean, speed, moved_here = bent[:, axes], moved[:, axes], last[:, axes]
            top = np.minimum(np.minimum(speed + limits[0], limits[1]), speed + lean + limits[2])
            bottom = np.maximum(np.maximum(speed - limits[0], -limits[1]), speed + lean - limits[2])
            most[:, axes] = np.minimum(moved_here + top, self.high[axes])
            least[:, axes] = np.maximum(moved_here + bottom, self.low[axes])
        return least, most

    def _aim(self, requested: Double, last: Double, history: ActionHistory) -> Double:
        """The command from which the robot can still brake to the speed of the request where it meets the request.

        Without it a request that does not move would be overshot again and again.
        """
        requested = np.minimum(np.maximum(requested, self.low), self.high)
        speed = np.minimum(np.maximum(requested - history.requested, -self.change), self.change)
        history.requested[:] = requested
        behind = requested - last - speed
        reach = self._reach(np.abs(behind), self.shaping)
        aim = last + speed + np.copysign(reach, behind)
        aim = np.minimum(
            np.maximum(aim, np.minimum(last, requested)), np.maximum(last, requested)
        )  # never away from it
        return np.where(reach < np.abs(behind), aim, requested)

    def _reach(self, room: Double, braking: Double) -> Double:
        """The largest change u with u + (u - b) + (u - 2b) + ... <= room, all terms > 0, where braking takes b a step.

        With m terms it is room / m + b (m - 1) / 2, and the right m is the smallest with b m (m + 1) / 2 >= room.

        Args:
            room: From the last command to the end of the range, shape (r, A). Where it is negative, the change has to
                lead back at once.
            braking: b, shape (A,).
        """
        steps = np.maximum(np.ceil(0.5 * np.sqrt(1.0 + 8.0 * np.maximum(room, 0.0) / braking) - 0.5), 1.0)
        reach: Double = room / steps + 0.5 * braking * (steps - 1.0)
        return reach

    def _follow_plans(self, sent: Float, history: ActionHistory) -> None:
        """Replaces commands of the axes with a jerk limit by the nearest ones from which there is a plan to a stop."""
        axes = self.jerked
        old = history.plan[:, :, 0]
        wanted = np.where(np.isnan(sent[:, axes]), old, sent[:, axes])
        shares = SHARES[:, None, None]
        candidates = (old + shares * (wanted.astype(np.float64) - old)).astype(np.float32)
        plans, good = self._plan(candidates, history.commands[:, :, axes].astype(np.float64))
        first = np.argmax(good, axis=0)  # the nearest to what is wanted
        rows, columns = np.indices(first.shape)
        found = good[first, rows, columns]
        shifted = np.concatenate([history.plan[:, :, 1:], history.plan[:, :, -1:]], axis=2)
        command = np.where(found, candidates[first, rows, columns], old)
        outside = (old < self.low[axes]) | (old > self.high[axes])  # only of a start: there is no plan back
        sent[:, axes] = np.where(outside, np.float32(np.nan), command)
        history.plan[:] = np.where(found[:, :, None], plans[first, rows, columns], shifted)

    def _plan(self, candidates: Float, commands: Double) -> tuple[Float, Bool]:
        """Plans to a stop after each candidate, and whether candidate and plan keep all limits.

        A plan has two halves of n steps, each with one jerk: -(u + a (3 n - 1) / 2) / n^2, and -a / n minus that. They
        lead to u = a = 0, and the shortest of the `LENGTHS` is taken that keeps to jerk and acceleration.

        Args:
            candidates: Shape (C, r, J).
            commands: The last ones, newest first, shape (r, 3, J).

        Returns:
            Plans, shape (C, r, J, T), and shape (C, r, J).
        """
        axes = self.jerked
        last, before, oldest = commands[:, 0], commands[:, 1], commands[:, 2]
        place = candidates.astype(np.float64)
        change = place - last
        bend = change - (last - before)
        jump = bend - ((last - before) - (before - oldest))
        good = (np.abs(jump) <= self.jerk[axes]) & (np.abs(bend) <= self.acceleration[axes])
        good &= (np.abs(change) <= self.change[axes]) & (place >= self.low[axes]) & (place <= self.high[axes])
        # a plan is rounded to float32: eight halves of a grain in its jerk, four in its acceleration, two in its change
        grain = self.grain[axes]
        jerk, acceleration = self.jerk[axes] - 4.5 * grain, self.acceleration[axes] - 2.5 * grain
        half = LENGTHS.astype(np.float64)
        first = -(change[..., None] + bend[..., None] * (3.0 * half - 1.0) / 2.0) / half**2
        second = -bend[..., None] / half - first
        fits = np.maximum(np.abs(first), np.abs(second)) <= jerk[:, None]
        fits &= np.abs(bend[..., None] + half * first) <= acceleration[:, None]
        shortest = np.argmax(fits, axis=-1)[..., None]
        good &= fits.any(axis=-1)
        steps = np.arange(PLAN_STEPS)
        length = LENGTHS[shortest]
        jerks = np.where(steps < length, np.take_along_axis(first, shortest, -1), 0.0)
        jerks = np.where((steps >= length) & (steps < 2 * length), np.take_along_axis(second, shortest, -1), jerks)
        changes = np.cumsum(bend[..., None] + np.cumsum(jerks, axis=-1), axis=-1) + change[..., None]
        changes = np.where(steps < 2 * length, changes, 0.0)
        places = np.cumsum(changes, axis=-1) + place[..., None]
        good &= (np.abs(changes) <= (self.change[axes] - 1.5 * grain)[:, None]).all(axis=-1)
        good &= (places >= (self.low[axes] + grain)[:, None]).all(axis=-1)
        good &= (places <= (self.high[axes] - grain)[:, None]).all(axis=-1)
        return places.astype(np.float32), good


@dataclass(slots=True)
class ActionHistory:
    """What the next command of some rows depends on."""

    commands: Float
    """The last ones, newest first, shape (r, 3, A)."""
    plan: Float
    """Commands that lead to a stop, for the J axes with a jerk limit, shape (r, J, T)."""
    requested: Double
    """The last request, shape (r, A)."""

    def take(self, rows: Rows) -> ActionHistory:
        """A copy of some rows."""
        return ActionHistory(self.commands[rows], self.plan[rows], self.requested[rows])

    def put(self, rows: Rows, history: ActionHistory) -> None:
        """Writes some rows back."""
        self.commands[rows], self.plan[rows], self.requested[rows] = history.commands, history.plan, history.requested


def seal(array: NDArray[Any]) -> NDArray[Any]:
    """A copy in immutable memory: unlike a flag, this cannot be undone."""
    return np.frombuffer(array.tobytes(), array.dtype)


def slow_down(limits: RobotLimits, asked: Float, previous: Float, speed: float) -> Float:
    """Commands for a slower robot, shape (r, A).

    A command of a place may move by `speed` times what its velocity limit allows in one period; without one it goes
    that share of the way. Any other one, such as a speed or a torque, is scaled. Named choices cannot be slowed down.

    Args:
        limits: That hold for the robot.
        asked: Shape (r, A).
        previous: The last commands, shape (r, A).
        speed: In (0, 1].
    """
    if limits.spec.choices:
        return asked
    share, period = np.float32(speed), limits.spec.control_period
    slow = asked * share
    for index, (bounds, commanded) in enumerate(zip(limits.action, limits.spec.find_commanded(), strict=True)):
        if commanded is None:  # it rests at 0
            continue
        last, way = previous[:, index], asked[:, index] - previous[:, index]
        if "velocity" in bounds:
            most = np.float32(speed * bounds["velocity"].high * period)
            slow[:, index] = np.clip(asked[:, index], last - most, last + most)
        else:
            slow[:, index] = last + share * way
    return slow
