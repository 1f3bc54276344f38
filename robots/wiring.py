"""How the commands of a log reach the joints: order, sign, gain, bias and delay of each, by a simulator of the robot.

Three steps, each of which mends what it finds before the next:

1. Sensors. A position is compared with its velocity, with the limits of its axis, and with the places of sites that the
   same observation holds. The simulator says where the sites are at the logged joints. A joint whose sensor has another
   sign, order, gain or bias puts them elsewhere.
2. Coarse. The *effective command* of each transition is what the simulator has to be told to get from the logged
   observation to the one K steps later: u* = u0 + argmin |F(x, u0) + G du - x'|^2, with G by finite differences. The
   logged commands are regressed on it, for each pair of joint and command and each delay in whole steps; the best
   one-to-one assignment (Kuhn, "The Hungarian method for the assignment problem", 1955) is the order of the joints.
3. Fine. Gauss-Newton on x' - F(x, b + g u(. - d)) gives gain g, bias b and delay d of each joint at once; a delay is
   resolved below a control period, since the simulator is stepped in parts of it. Residuals are weighted by Huber's
   function (Huber, "Robust Estimation of a Location Parameter", 1964), and standard errors are those of a sandwich over
   blocks of neighbouring transitions (White, "A Heteroskedasticity-Consistent Covariance Matrix Estimator", 1980).

Without a second measurement of a joint (step 1) a fault of its sensor cannot be told from one of its command.

Axes: N transitions, K steps, L steps before, P parts of a step, O observation, A action, J joints, C components of a
residual, M parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .log_replay import Double, LoggedEpisode, ReplaySimulator, Transitions, find_transitions
from .robot import Float
from .spec import ArraySpec, RobotSpec

Whole = NDArray[np.int64]
Number = TypeVar("Number", np.int64, np.float64)

HORIZON = 0.05
"""Seconds of a transition, at least one control period: long enough to show a motion beyond the noise."""
MOST_DELAY = 0.25
"""Seconds that are searched."""
TRANSITIONS = 160
"""Most transitions of a fit."""
TRIES = 5
"""Dampings of a step that are tried."""
HUBER = 2.0
"""Robust standard deviations from which on a residual counts less."""
SIMPLER = 0.9
"""A guess with more faults is taken where its cost is less than this share."""
SCANNED = 9
"""Delays within a step around that of the guess from which the best one is refined."""
SWAPPED = 0.5
"""Another order than that of the contract needs less than this share of its residual variance in each joint."""
EXPLAINED = 0.3
"""A change of sensors is taken where it leaves less than this share of the distance of the places."""
LEAST_PLACE = 5e-3
"""... and the distance is more than this, m."""
STILL = 0.02
"""A joint whose standard deviation is a smaller share of its range, or so many rad or m, tells no gain of its sensor:
noise would make it small."""
FAR_OUTSIDE = 4.0
"""A position has another unit where a tenth of it lies so many times outside of its limits."""
WRONG_RATE = 5.0
"""A velocity that is so many times too large or small is one of another unit; fast servos give ratios up to 2."""
UNITS = {180.0 / np.pi: "degrees for radians", np.pi / 180.0: "radians for degrees", 1e3: "mm for m", 1e-3: "m for mm"}
"""Ratios of units that are mistaken for each other."""


class Fit(NamedTuple):
    """Parameters and their standard errors, (M,) each."""

    value: Double
    error: Double


class Sensors(NamedTuple):
    """What the joints really do: position j = gain_j logged[source_j] + bias_j, and the same of the velocity."""

    joints: tuple[str, ...]
    """Names of the positions that have a velocity, J."""
    source: Whole
    """Shape (J,)."""
    gain: Double
    """Shape (J,)."""
    bias: Double
    """Shape (J,), in the unit of the joint."""
    gain_error: Double
    """Standard error, shape (J,); inf where no place tells."""
    bias_error: Double
    """Standard error, shape (J,); inf where no place tells."""
    rate: Double
    """Shape (J,): change of the position per second over the velocity; nan where neither moves."""
    distance: float
    """Median distance of the places of sites from those that follow from the joints, m, after this correction; nan
    where no place is observed."""

    def correct(self, spec: ArraySpec, observation: Float) -> Float:
        """What correct sensors would have logged, (..., O)."""
        position, velocity = pair_axes(spec)
        fixed = observation.astype(np.float64)
        fixed[..., position] = self.gain * observation[..., position[self.source]] + self.bias
        speed = self.wrong_rate()[self.source]
        fixed[..., velocity] = self.gain * (
            np.where(speed == 0.0, 1.0, speed) * observation[..., velocity[self.source]]
        )
        return fixed.astype(np.float32)

    def wrong_rate(self) -> Double:
        """The ratio of each velocity to the change of its position where it is not close to 1, else 0, shape (J,)."""
        known = np.nan_to_num(self.rate, nan=1.0)
        wrong: Double = np.where((known < 0.0) | (np.abs(np.log(np.abs(known))) > np.log(WRONG_RATE)), known, 0.0)
        return wrong


class Wiring(NamedTuple):
    """What the robot really does: command j in force at time t is gain_j u[source_j](t - delay_j) + bias_j."""

    source: Whole
    """Shape (A,)."""
    gain: Double
    """Shape (A,)."""
    bias: Double
    """Shape (A,), in the unit of the action."""
    delay: Double
    """Shape (A,), seconds."""
    gain_error: Double
    """Standard error, shape (A,)."""
    bias_error: Double
    """Standard error, shape (A,)."""
    delay_error: Double
    """Standard error, shape (A,)."""

    def common_delay(self) -> tuple[float, float]:
        """The delay that all joints share, and its standard error, seconds."""
        weight = 1.0 / np.square(np.maximum(self.delay_error, 1e-6))
        if not weight.any():
            return 0.0, np.inf
        return float((weight * self.delay).sum() / weight.sum()), float(weight.sum() ** -0.5)


def mend_commands(spec: RobotSpec, wiring: Wiring, action: Float, parts: int) -> Float:
    """What the robot was really told, by the wiring, shape (T, P, A), within the limits.

    Args:
        spec: Of the robot.
        wiring: As found.
        action: As logged, shape (T, A).
        parts: Of a control period, P.
    """
    command = np.concatenate([action, action[-1:]]).astype(np.float64)[None, :, wiring.source]
    told = late_commands(command, wiring.delay / spec.control_period, 0, len(action), parts)[0]
    mended: Float = np.clip(wiring.bias + wiring.gain * told, spec.action.inner_low, spec.action.inner_high)
    return mended.astype(np.float32)


def pair_axes(spec: ArraySpec) -> tuple[Whole, Whole]:
    """Places of the positions that have a velocity, and of these, (J,) each.

    A velocity is named as its position with `_v` behind it or `v` before it, and has its unit per second.
    """
    names = {axis.name: place for place, axis in enumerate(spec.axes)}
    found = []
    for place, axis in enumerate(spec.axes):
        for name in (f"{axis.name}_v", f"v{axis.name}"):
            if name in names and spec.axes[names[name]].unit == f"{axis.unit}/s":
                found.append((place, names[name]))
                break
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def find_sensors(simulator: ReplaySimulator, episodes: Sequence[LoggedEpisode], most: int = 400) -> Sensors:
    """Step 1 of the module's docstring.

    Args:
        simulator: Of the robot.
        episodes: Of one robot.
        most: Observations that places are compared at.
    """
    spec = simulator.spec.observation
    position, velocity = pair_axes(spec)
    count = len(position)
    source, gain, bias = np.arange(count), np.ones(count), np.zeros(count)
    observed = np.concatenate([one.observation for one in episodes])
    for joint, place in enumerate(position):
        gain[joint] = 1.0 / _find_unit(observed[:, place], spec.axes[place].low, spec.axes[place].high)
    sensors = Sensors(
        tuple(spec.axes[place].name for place in position),
        *(source, gain, bias, np.full(count, np.inf), np.full(count, np.inf)),
        _compare_rates(simulator.spec.control_period, episodes, position, velocity),
        np.nan,
    )
    kept = np.linspace(0, len(observed) - 1, min(most, len(observed))).astype(int)
    sample = observed[kept]
    state = simulator.find_state_axes(sensors.correct(spec, sample[0]))
    places = np.array([not known and axis.unit == "m" for known, axis in zip(state, spec.axes, strict=True)])
    if not count or not places.any():
        return sensors

    def miss(candidate: Sensors) -> Double:
        """Places as logged minus as they follow from the joints, (N, C)."""
        seen = simulator.observe(candidate.correct(spec, sample))
        found: Double = (sample - seen)[:, places].astype(np.float64)
        return found

    def distance(candidate: Sensors) -> float:
        return float(np.median(np.linalg.norm(miss(candidate), axis=1)))

    now = distance(sensors)
    for _ in range(count):
        candidates = [sensors._replace(source=_swap(sensors.source, a, b)) for a in range(count) for b in range(a)]
        flips = -2.0 * np.eye(count) + 1.0
        candidates += [sensors._replace(gain=sensors.gain * flip) for flip in flips]
        scores = [distance(candidate) for candidate in candidates]
        best = int(np.argmin(scores))
        if now < LEAST_PLACE or scores[best] > EXPLAINED * now:
            break
        sensors, now = candidates[best], scores[best]
    moving = sensors.correct(spec, sample)[:, position].std(axis=0) > STILL * _find_spans(spec, position)
    free = np.flatnonzero(moving)

    def with_values(value: Double) -> Sensors:
        gain = sensors.gain.copy()
        gain[free] = value[: len(free)]
        return sensors._replace(gain=gain, bias=value[len(free) :])

    start = np.concatenate([sensors.gain[free], sensors.bias])
    step = np.concatenate([0.02 * np.abs(sensors.gain[free]), np.full(count, 0.01)])
    found = gauss_newton(lambda value: miss(with_values(value)), start, step, kept // 25)
    gain_error = np.full(count, np.inf)
    gain_error[free] = found.error[: len(free)]
    sensors = with_values(found.value)._replace(gain_error=gain_error, bias_error=found.error[len(free) :])
    return sensors._replace(distance=distance(sensors))


def _find_spans(spec: ArraySpec, axes: Whole) -> Double:
    """Ranges of axes, or 1 where they have none."""
    span = (spec.high[axes] - spec.low[axes]).astype(np.float64)
    return np.where(np.isfinite(span), span, 1.0)


def _swap(order: NDArray[Number], a: int, b: int) -> NDArray[Number]:
    swapped = order.copy()
    swapped[[a, b]] = order[[b, a]]
    return swapped


def _find_unit(values: Float, low: float, high: float) -> float:
    """The ratio of units by which logged positions are too large for the limits of their axis; 1 where they fit."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return 1.0
    if np.quantile(np.abs(values), 0.9) < FAR_OUTSIDE * max(abs(low), abs(high)):
        return 1.0  # perhaps another joint, but no other unit
    for ratio in UNITS:
        if ratio > 1.0 and ((values / ratio >= low) & (values / ratio <= high)).mean() > 0.99:
            return float(ratio)
    return 1.0


def _compare_rates(
    period: float, episodes: Sequence[LoggedEpisode], position: Whole, velocity: Whole
) -> NDArray[np.float64]:
    """Change of each position per second over its velocity, by regression; nan where they do not belong together."""
    pairs = [(np.diff(one.observation[:, position], axis=0) / period, one.observation[:, velocity]) for one in episodes]
    change = np.concatenate([first for first, _ in pairs]).astype(np.float64)
    speed = np.concatenate([(second[1:] + second[:-1]) / 2.0 for _, second in pairs]).astype(np.float64)
    both, power = (change * speed).sum(axis=0), np.square(speed).sum(axis=0)
    share = both / np.sqrt(np.maximum(power * np.square(change).sum(axis=0), 1e-30))
    return np.where(np.abs(share) > 0.7, both / np.maximum(power, 1e-30), np.nan)


def gauss_newton(
    residual: Callable[[Double], Double], start: Double, step: Double, block: Whole, *, rounds: int = 10
) -> Fit:
    """Parameters that make residuals small (Marquardt, 1963), with standard errors by a sandwich over blocks.

    Args:
        residual: Of parameters (M,), shape (N, C).
        start: Shape (M,).
        step: Of the differences that stand for derivatives, shape (M,).
        block: Which block each of the N rows is of.
        rounds: Most steps.
    """
    value, now, damping = start.copy(), residual(start), 1e-3
    for _ in range(rounds):
        scale = np.maximum(1.4826 * np.median(np.abs(now), axis=0), 1e-9)
        moved = [(residual(value + move) - now) / size for move, size in zip(np.diag(step), step, strict=True)]
        slope = np.stack(moved)  # (M, N, C)
        weight = np.minimum(1.0, HUBER / np.maximum(np.abs(now) / scale, 1e-9)) / np.square(scale)
        hessian = np.einsum("mnc,nc,knc->mk", slope, weight, slope)
        gradient = np.einsum("mnc,nc->m", slope, weight * now)
        cost, diagonal = _compute_cost(now, scale), np.maximum(np.diag(hessian), 1e-12)
        for _ in range(TRIES):
            move = -np.linalg.solve(hessian + np.diag(damping * diagonal), gradient)
            tried = residual(value + move)
            if _compute_cost(tried, scale) < cost:
                damping = max(damping / 10.0, 1e-6)
                break
            damping *= 10.0
        else:
            break
        value, now = value + move, tried
        if (np.abs(move) < 0.05 * step).all():
            break
    scores = np.einsum("mnc,nc->nm", slope, weight * now)
    sums = np.zeros((int(block.max()) + 1, len(value)))
    np.add.at(sums, block, scores)
    inverse = np.linalg.pinv(hessian, hermitian=True)
    blocks = len(np.unique(block))
    covariance = inverse @ (sums.T @ sums) @ inverse * blocks / max(blocks - 1, 1)
    untold = np.diag(hessian) <= 1e-12 * max(float(np.diag(hessian).max()), 1e-300)
    return Fit(value, np.where(untold, np.inf, np.sqrt(np.maximum(np.diag(covariance), 0.0))))


def _compute_cost(residual: Double, scale: Double) -> float:
    """Huber's function of residuals (N, C), summed."""
    size = np.abs(residual) / scale
    return float(np.where(size <= HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER)).sum())


def compute_effective(simulator: ReplaySimulator, transitions: Transitions, state: NDArray[np.bool_]) -> Double:
    """What the simulator has to be told, held for the K steps, to follow the log, shape (N, A); see the docstring.

    Args:
        simulator: Of the robot.
        transitions: Of the log.
        state: Axes of the observation that count, shape (O,).
    """
    spec, steps = simulator.spec, transitions.steps
    low, high = spec.action.inner_low, spec.action.inner_high
    rest = np.clip(spec.compute_resting(transitions.before), low, high)

    def end(command: Float) -> Double:
        told = np.repeat(command[:, None], steps, axis=1)
        return simulator.predict(transitions.before, told)[:, -1, state].astype(np.float64)

    base = end(rest)
    moves = 0.1 * (high - low)
    inward = np.where(rest > (low + high) / 2.0, -moves, moves)
    slopes = []
    for axis in range(rest.shape[1]):
        moved = rest.copy()
        moved[:, axis] += inward[:, axis]
        slopes.append((end(moved) - base) / inward[:, axis, None])
    slope: Double = np.stack(slopes, axis=2).astype(np.float64)  # (N, C, A)
    change = (transitions.after - transitions.before)[:, state].astype(np.float64)
    scale = np.maximum(change.std(axis=0), 1e-9)
    wanted = ((transitions.after[:, state] - base) / scale).astype(np.float64)
    slope = (slope / scale[:, None]).astype(np.float64)
    normal = slope.transpose(0, 2, 1) @ slope
    ridge = (1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-12) * np.eye(rest.shape[1])
    right = np.einsum("nca,nc->na", slope, wanted)
    effective: Double = rest + np.linalg.solve(normal + ridge, right[..., None]).astype(np.float64)[..., 0]
    return effective.astype(np.float64)


class Guess(NamedTuple):
    """Order, gain, bias and delay by whole steps."""

    source: Whole
    """Shape (A,)."""
    gain: Double
    """Shape (A,)."""
    bias: Double
    """Shape (A,)."""
    lag: float
    """Steps."""

    @property
    def value(self) -> Double:
        """Gain, bias and delay of each, steps, shape (3 A,)."""
        return np.concatenate([self.gain, self.bias, np.full(len(self.gain), self.lag)])


def find_coarse(effective: Double, command: Double, lags: Sequence[int]) -> Guess:
    """The assignment, gain, bias and lag with which logged commands explain effective ones best.

    effective_j(t) = gain_j command[source_j](t - lag) + bias_j + noise

    Args:
        effective: Shape (N, A).
        command: By lag, shape (lags, N, A).
        lags: In steps, increasing.
    """
    centre = np.median(effective, axis=0)
    spread = 1.4826 * np.median(np.abs(effective - centre), axis=0)
    effective = np.clip(effective, centre - 5.0 * spread, centre + 5.0 * spread)
    deviation = effective - effective.mean(axis=0)
    total = np.maximum(np.square(deviation).mean(axis=0), 1e-30)
    told = command - command.mean(axis=1, keepdims=True)
    power = np.square(told).mean(axis=1)  # (lags, A)
    both = np.einsum("nj,lni->lji", deviation, told) / len(effective)
    slope = both / np.maximum(power, 1e-30)[:, None, :]
    left = 1.0 - slope * both / total[:, None]
    unexplained = np.log(np.clip(left, 1e-6, 1.0))  # (lags, j, i)
    kept = unexplained + np.log(SWAPPED) * np.eye(effective.shape[1])
    orders = [linear_sum_assignment(table)[1] for table in kept]
    joints = np.arange(effective.shape[1])
    costs = np.array([unexplained[place, joints, order].sum() for place, order in enumerate(orders)])
    best = int(costs.argmin())
    source = orders[best]
    gain = slope[best, joints, source]
    bias = effective.mean(axis=0) - gain * command[best].mean(axis=0)[source]
    return Guess(source.astype(np.int64), gain, bias, float(lags[best]))


def choose_order(miss: Callable[[Guess], Double], coarse: Guess) -> Guess:
    """The simplest guess that explains the log: joints that obey, with as few swaps and flips of sign as it takes.

    A joint that is told to go beyond its limits stays there and follows nothing, so that a regression is misled. The
    simulator has the same limits: it judges.

    Args:
        miss: Residual of a guess, shape (N, C).
        coarse: What a regression says; taken where it is better.
    """
    count = len(coarse.gain)
    obedient = coarse._replace(source=np.arange(count), gain=np.ones(count), bias=np.zeros(count))
    scale = np.maximum(1.4826 * np.median(np.abs(miss(coarse)), axis=0), 1e-9)
    cost = _compute_cost(miss(obedient), scale)
    flips = 1.0 - 2.0 * np.eye(count)
    for _ in range(count):
        tried = [
            obedient._replace(source=_swap(obedient.source, a, b), gain=_swap(obedient.gain, a, b))
            for a in range(count)
            for b in range(a)
        ]
        tried += [obedient._replace(gain=obedient.gain * flip) for flip in flips]
        costs = [_compute_cost(miss(one), scale) for one in tried]
        best = int(np.argmin(costs))
        if costs[best] > SIMPLER * cost:
            break
        obedient, cost = tried[best], costs[best]
    return coarse if _compute_cost(miss(coarse), scale) < SIMPLER * cost else obedient


def find_wiring(
    simulator: ReplaySimulator, episodes: Sequence[LoggedEpisode], *, most: int = TRANSITIONS
) -> tuple[Wiring, Transitions]:
    """Steps 2 and 3 of the module's docstring, and the transitions that they rest on.

    Args:
        simulator: Of the robot.
        episodes: Of one robot, with correct sensors (`Sensors.correct`).
        most: Transitions, at most.

    Raises:
        RobotFault: The physics diverged.
        SourceError: No episode is long enough.
    """
    period, action = simulator.spec.control_period, simulator.spec.action
    steps, lead = max(1, round(HORIZON / period)), int(np.ceil(MOST_DELAY / period))
    transitions = find_transitions(episodes, steps, lead, most)
    state = simulator.find_state_axes(transitions.before[0])
    command = transitions.command.astype(np.float64)

    def miss(source: Whole, value: Double) -> Double:
        gain, bias, delay = np.split(value, 3)
        told = late_commands(command[..., source], delay, lead, steps, simulator.parts)
        told = np.clip(bias + gain * told, action.inner_low, action.inner_high)
        reached = simulator.predict(transitions.before, told.astype(np.float32))[:, -1]
        missed: Double = (reached - transitions.after)[:, state].astype(np.float64)
        return missed

    lags = range(-1, lead + 1)
    held = np.stack([command[:, lead - lag : lead - lag + steps].mean(axis=1) for lag in lags])
    coarse = find_coarse(compute_effective(simulator, transitions, state), held, lags)
    guess = choose_order(lambda one: miss(one.source, one.value), coarse)
    tried = [guess._replace(lag=guess.lag + shift) for shift in np.linspace(-1.0, 1.0, SCANNED)]
    misses = [miss(one.source, one.value) for one in tried]
    scale = np.maximum(1.4826 * np.median(np.abs(misses), axis=1).min(axis=0), 1e-9)
    guess = tried[int(np.argmin([_compute_cost(one, scale) for one in misses]))]
    count, span = len(coarse.gain), (action.high - action.low).astype(np.float64)
    found = gauss_newton(
        lambda value: miss(guess.source, value),
        guess.value,
        np.concatenate([0.05 * np.maximum(np.abs(guess.gain), 1e-3), 0.01 * span, np.full(count, 0.05)]),
        transitions.block,
    )
    (gain, bias, delay), (gain_error, bias_error, delay_error) = np.split(found.value, 3), np.split(found.error, 3)
    wiring = Wiring(guess.source, gain, bias, delay * period, gain_error, bias_error, delay_error * period)
    return wiring, transitions


def late_commands(command: Double, delay: Double, lead: int, steps: int, parts: int) -> Double:
    """Mean of each command over each part of each step where it comes late, shape (N, K, P, A).

    Exact for commands that are held for a step: the integral of the command over the part, shifted by the delay. What
    came before the first known command is taken to be that one.

    Args:
        command: Shape (N, L + K + 1, A): one per step, from L steps before the first.
        delay: Of each command, steps, shape (A,).
        lead: L.
        steps: K.
        parts: P.
    """
    count = command.shape[1]
    integral = np.concatenate([np.zeros_like(command[:, :1]), np.cumsum(command, axis=1)], axis=1)
    ends = np.arange(steps * parts + 1) / parts + lead
    at = ends[:, None] - delay  # (K P + 1, A)
    inside = np.clip(at, 0.0, count)
    left = np.minimum(np.floor(inside).astype(np.int64), count - 1)
    axes = np.arange(command.shape[2])
    whole = integral[:, left, axes] + (inside - left) * command[:, left, axes]
    # beyond the ends the first and the last command go on
    whole = whole + np.minimum(at, 0.0) * command[:, :1] + np.maximum(at - count, 0.0) * command[:, -1:]
    mean: Double = np.diff(whole, axis=1) * parts
    return mean.reshape(len(command), steps, parts, command.shape[2])
