"""Play data of any robot: coloured noise as commands, within the limits of the robot.

The noise has the power spectrum 1/f^beta, made in the frequency domain after Timmer and Koenig, "On generating power
law noise", Astronomy and Astrophysics 300, 1995. Eberhard et al., "Pink Noise Is All You Need: Colored Noise
Exploration in Deep Reinforcement Learning", ICLR 2023, show that it explores better than white noise. The exponent and
the amplitude are drawn for each episode, so that the data holds slow and fast, small and large motion. Robots that
choose among named actions hold a random choice for a random time.

Random commands hardly ever bring a hand to the corners of its room, or an object to another place. So a robot may bring
a `Script` along, which knows how to get to a waypoint: its play goes from one random waypoint to the next.

Axes: R rows, r rows of this call, T time, O observation, A action, G goal, W waypoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ..bounds import Count, NonNegative, Range, Share, require_bounds
from ..errors import ConfigError
from .family import PlayChunk
from .robot import Float, RobotBatch
from .spec import RobotSpec

Double = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseConfig:
    """Random commands of play data.

    Raises:
        ConfigError: A range is not ordered or a field is out of its range.
    """

    exponent: tuple[NonNegative, NonNegative] = (1.0, 2.0)
    """Range of beta, drawn for each episode: 0 is white, 1 pink, 2 red noise."""
    amplitude: tuple[NonNegative, NonNegative] = (0.3, 1.0)
    """Range of the standard deviation, in halves of an axis's limits, drawn for each episode."""
    longest_period: Annotated[int, Range(2, 10**6)] = 100
    """Steps: slower motion than this is not amplified further, so that a long episode does not stay at one side."""
    hold: Count = 10
    """Most steps for which a choice is held, where the robot has choices."""

    def __post_init__(self) -> None:
        require_bounds(self)
        for name in ("exponent", "amplitude"):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"NoiseConfig.{name}: expected low <= high, got {(low, high)}; swap them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Play from waypoint to waypoint: random places of a hand, of an object, or poses, which are no tasks.

    Raises:
        ConfigError: A range is not ordered or a field is out of its range.
    """

    steer: Callable[[Float, Float], Float]
    """Commands (r, A) that bring the robot on its way, from observations (r, O) and waypoints (r, W); they are clipped
    to the limits. Called in every step, so that it may depend on where the robot is and on nothing else."""
    low: tuple[float, ...]
    """Lower corner of the box that waypoints are drawn from, W."""
    high: tuple[float, ...]
    """Upper corner."""
    steps: tuple[Count, Count] = (10, 40)
    """Range of the steps until the next waypoint, drawn for each."""
    command_noise: Share = 0.1
    """Coloured noise on each command, in those of `NoiseConfig`."""

    def __post_init__(self) -> None:
        require_bounds(self)
        box = zip(self.low, self.high, strict=False)
        if not self.low or len(self.low) != len(self.high) or not all(a < b for a, b in box):
            raise ConfigError(
                f"Script.low, high: expected low < high on each axis, got {self.low} and {self.high}; correct the box"
            )
        if self.steps[0] > self.steps[1]:
            raise ConfigError(f"Script.steps: expected low <= high, got {self.steps}; swap them")


def draw_coloured_noise(
    exponent: Double, steps: int, axes: int, longest_period: int, rng: np.random.Generator
) -> Double:
    """Noise with the power spectrum 1/f^beta, mean 0 and variance 1 in expectation.

    Args:
        exponent: beta of each row, shape (R,).
        steps: T.
        axes: A.
        longest_period: Steps; the spectrum is flat below its frequency.
        rng: Source of the noise.

    Returns:
        Shape (R, T, A).
    """
    length = max(2 * steps, 2 * longest_period)  # twice, since the noise is periodic
    frequency = np.maximum(np.fft.rfftfreq(length), 1.0 / longest_period)
    scale = frequency ** (-exponent[:, None] / 2.0)
    scale[:, 0] = 0.0
    weight = np.full(scale.shape[1], 2.0)
    weight[-1] = 1.0  # the length is even: the highest frequency stands once, and is real
    scale /= np.sqrt((weight * scale**2).sum(axis=1, keepdims=True))
    shape = (len(exponent), scale.shape[1], axes)
    phasor = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    phasor[:, -1] = np.sqrt(2.0) * phasor[:, -1].real
    noise: Double = np.fft.irfft(phasor / np.sqrt(2.0) * scale[..., None], n=length, axis=1)[:, :steps] * length
    return noise


def draw_commands(spec: RobotSpec, rows: int, steps: int, config: NoiseConfig, rng: np.random.Generator) -> Float:
    """Commands of one episode for each row, shape (R, T, A), within the limits of the robot."""
    if spec.choices:
        held = rng.integers(1, config.hold + 1, (rows, steps))
        drawn = rng.integers(len(spec.choices), size=(rows, steps))
        # the i-th choice is held for held[i] steps, one after the other
        place = np.stack([np.repeat(np.arange(steps), row)[:steps] for row in held])
        return np.take_along_axis(drawn, place, axis=1)[..., None].astype(np.float32)
    low, high = spec.action.low.astype(np.float64), spec.action.high.astype(np.float64)
    if not (np.isfinite(low) & np.isfinite(high)).all():
        axis = spec.action.axes[int(np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))[0])]
        raise ConfigError(
            f"{spec.name} play: expected limits of each action axis, got {axis.low} .. {axis.high} {axis.unit} for "
            f"'{axis.name}'; give the axis limits, or bring play data of your own"
        )
    exponent = rng.uniform(*config.exponent, rows)
    amplitude = rng.uniform(*config.amplitude, rows)
    noise = draw_coloured_noise(exponent, steps, len(low), config.longest_period, rng)
    command = 0.5 * (low + high) + 0.5 * (high - low) * amplitude[:, None, None] * noise
    return np.clip(command.astype(np.float32), spec.action.low, spec.action.high)


def play_noise(
    robots: RobotBatch, goals: Float, config: NoiseConfig, seed: int, script: Script | None = None
) -> Iterator[PlayChunk]:
    """Yields episodes of random commands without end; the rows of a round in which all last equally long come together.

    Args:
        robots: Closed when the iterator is.
        goals: Tasks of which each episode draws one, shape (N, G), for robots whose motion depends on the task.
        config: Of the commands.
        seed: Seed of tasks, starts, waypoints and commands.
        script: Commands the way from waypoint to waypoint, with a share of the noise on it; None commands noise alone.

    Raises:
        ConfigError: An action axis has no limits, or the script commands another number of axes.
    """
    rng, spec, rows = np.random.default_rng(seed), robots.spec, robots.rows
    everyone = np.arange(rows)
    try:
        while True:
            commands = draw_commands(spec, rows, spec.episode_steps, config, rng)
            middle = 0.5 * (spec.action.low + spec.action.high)
            observation = np.empty((rows, spec.episode_steps, *spec.observation.shape), np.float32)
            reward = np.zeros((rows, spec.episode_steps), np.float32)
            length = np.zeros(rows, np.int64)
            waypoint = np.zeros((rows, 0 if script is None else len(script.low)), np.float32)
            due = np.zeros(rows, np.int64)
            now = robots.reset(everyone, goals[rng.integers(len(goals), size=rows)], rng)
            running = everyone
            while len(running):
                at = int(length[running[0]])  # all that still run have come equally far
                if script is not None:
                    late = running[due[running] <= at]
                    waypoint[late] = rng.uniform(script.low, script.high, (len(late), len(script.low)))
                    due[late] = at + rng.integers(script.steps[0], script.steps[1] + 1, len(late))
                    steered = np.asarray(script.steer(now, waypoint[running]), np.float32)
                    if steered.shape != (len(running), *spec.action.shape):
                        raise ConfigError(
                            f"{spec.name} play: expected commands {(len(running), *spec.action.shape)} of the script, "
                            f"got {steered.shape}; return one row for each observation"
                        )
                    command = steered + script.command_noise * (commands[running, at] - middle)
                    commands[running, at] = np.clip(command, spec.action.low, spec.action.high)
                observation[running, at] = now
                step = robots.step(running, commands[running, at])
                reward[running, at] = step.reward
                length[running] += 1
                on = ~(step.terminated | step.truncated)
                running, now = running[on], step.observation[on]
            for steps in np.unique(length):
                same = length == steps
                yield PlayChunk(observation[same, :steps], commands[same, :steps], reward[same, :steps], {})
    finally:
        robots.close()
