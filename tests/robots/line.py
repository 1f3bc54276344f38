"""Two joints whose velocity is what they are told, with a hand, and logs of them in which something is wrong."""

from dataclasses import dataclass, replace

import numpy as np

from supple.robots.array_robots import ArrayRobots
from supple.robots.family import SetsState, Subdivides
from supple.robots.log_replay import LoggedEpisode
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.robots.task import Task, TaskSet

PERIOD = 0.05
NAMES = ("one", "two")


def make_spec(period=PERIOD):
    position = [Axis(name, "rad", -3.0, 3.0) for name in NAMES]
    velocity = [Axis(f"{name}_v", "rad/s", -np.inf, np.inf) for name in NAMES]
    places = [Axis(f"hand_{axis}", "m", -np.inf, np.inf) for axis in "xy"]
    return RobotSpec(
        name="line",
        observation=ArraySpec("observation", (*position, *velocity, *places)),
        action=ArraySpec("action", tuple(Axis(name, "rad/s", -2.0, 2.0) for name in NAMES)),
        goal=ArraySpec("goal", (Axis("goal", "rad", -3.0, 3.0),)),
        control_period=period,
        episode_steps=1000,
    )


class LineRobots(ArrayRobots):
    """Two joints whose velocity is the command, and a hand at (2 q1, q1 + q2)."""

    def __init__(self, spec, rows):
        super().__init__(spec, rows)
        self.position = np.zeros((rows, 2))
        self.velocity = np.zeros((rows, 2))

    def observe(self, index):
        q = self.position[index]
        hand = np.stack([2.0 * q[:, 0], q[:, 0] + q[:, 1]], axis=1)
        return np.concatenate([q, self.velocity[index], hand], axis=1).astype(np.float32)

    def put(self, rows, observation):
        self.position[rows], self.velocity[rows] = observation[:, :2], observation[:, 2:4]
        self._elapsed[rows] = 0
        return self.observe(rows)

    def _begin(self, index, goals, rng):
        self.position[index], self.velocity[index] = 0.0, 0.0
        return self.observe(index)

    def _advance(self, rows, index, action, elapsed):
        self.velocity[index] = action
        self.position[index] += self.spec.control_period * action
        seen = self.observe(index)
        return seen, np.zeros(len(rows), np.float32), np.zeros(len(rows), np.bool_)


@dataclass(frozen=True)
class Line(SetsState, Subdivides):
    period: float = PERIOD
    name = "line"
    place_axes = NAMES
    physics_steps = 10

    def spec(self):
        return make_spec(self.period)

    def make(self, rows, threads=1):
        return LineRobots(self.spec(), rows)

    def tasks(self):
        return TaskSet("none", (Task("a", (0.0,)),), (Task("b", (1.0,)),))

    def set_state(self, robot, rows, observation):
        return robot.put(rows, observation)

    def subdivide(self, parts):
        return replace(self, period=self.period / parts)


def record(seed, *, source=(0, 1), gain=(1.0, 1.0), bias=(0.0, 0.0), delay=0.0, steps=300, noise=1e-3):
    """An episode of the line whose commands go another way."""
    rng = np.random.default_rng(seed)
    command = np.clip(np.repeat(rng.normal(0.0, 0.7, (steps // 3 + 1, 2)), 3, axis=0)[:steps], -1.5, 1.5)
    fine = 50  # parts of a period, each 1 ms
    told = np.array(bias) + np.array(gain) * command[:, list(source)]
    ticks = (np.arange(steps * fine) - round(delay / 1e-3)) // fine
    applied = told[np.maximum(ticks, 0)]
    position = np.concatenate([np.zeros((1, 2)), np.cumsum(applied, axis=0) * PERIOD / fine])[::fine][:steps]
    velocity = np.concatenate([np.zeros((1, 2)), applied])[::fine][:steps]
    hand = np.stack([2.0 * position[:, 0], position[:, 0] + position[:, 1]], axis=1)
    seen = np.concatenate([position, velocity, hand], axis=1)
    seen = seen + noise * rng.standard_normal(seen.shape)
    return LoggedEpisode(seen.astype(np.float32), command.astype(np.float32))
