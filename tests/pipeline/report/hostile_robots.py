"""A user's robot whose every name is hostile, as a file that `--robot` and `supple run FILE:PRESET` take.

A point moves towards a hidden place along three axes. It has no plane and tells no success: its pages are time series
and returns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from supple.pipeline.presets import RunConfig
from supple.robots.array_robots import ArrayRobots, Index
from supple.robots.family import PlayChunk, Plays
from supple.robots.robot import Bool, Float, Rows
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.robots.task import Task, TaskSet

SCRIPT = "<script>window.hacked=1</script>"
IMAGE = '"><img src=x onerror=window.hacked=1>'
NAMES = (
    SCRIPT,
    IMAGE,
    r"$\frac{x}$ $",
    "']]></style></title><svg onload=window.hacked=1>",
    "javascript:window.hacked=1",
    "../../x",
    "&lt;b&gt;&amp; {{ 7*7 }} {% raw %}",
    "\u202egnp.exe\u2066",
    "\U0001f600\U0001f469\u200d\U0001f467 \u4f60\u597d",
    "x" * 300,
)
AXES = ("line\nbreak\t" + SCRIPT, "$y_{" + IMAGE, "z" * 200)
UNITS = ("m", "<b>m</b>", "$m$" * 30)


class Points(ArrayRobots):
    """Rows of points; the nearer to the place, the more a step pays."""

    def __init__(self, spec: RobotSpec, rows: int) -> None:
        super().__init__(spec, rows)
        self._place = np.zeros((rows, 3), np.float32)

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        self._place[index] = 0.0
        return self._place[index].copy()

    def _advance(self, rows: Rows, index: Index, action: Float, elapsed: Rows) -> tuple[Float, Float, Bool]:
        self._place[index] = np.clip(self._place[index] + 0.1 * action, -1.0, 1.0)
        place = self._place[index].copy()
        distance = np.linalg.norm(place - self._goal[index], axis=1)
        return place, np.exp(-distance).astype(np.float32), np.zeros(len(rows), np.bool_)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        distance = np.linalg.norm(observation[..., None, :] - goals, axis=-1)
        return np.exp(-distance).astype(np.float32), np.zeros(distance.shape, np.bool_)


@dataclass(frozen=True, kw_only=True)
class Hostile(Plays):
    """The points as a family."""

    label: str = IMAGE
    """A setting that is text."""

    name = f"../{SCRIPT}"
    play_steps = 50

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        places = tuple(Axis(name, unit, -1.0, 1.0) for name, unit in zip(AXES, UNITS, strict=True))
        speeds = tuple(
            Axis(f"v {name}", unit, -1.23456, 1.23456, 123.456) for name, unit in zip(AXES, UNITS, strict=True)
        )
        return RobotSpec(
            name=self.name,
            observation=ArraySpec("observation", places),
            action=ArraySpec("action", speeds),
            goal=ArraySpec("goal", places),
            control_period=0.1,
            episode_steps=30,
        )

    def make(self, rows: int, threads: int = 1) -> Points:
        """See `RobotFamily.make`."""
        return Points(self.spec(), rows)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`: a task for each name."""
        tasks = [Task(name, (0.08 * index, -0.05 * index, 0.5)) for index, name in enumerate(NAMES)]
        return TaskSet(SCRIPT, tuple(tasks[3:]), tuple(tasks[:3]))

    def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
        """See `Plays.play`: every second or so another direction."""
        rng = np.random.default_rng(seed)
        while True:
            robot, everyone = self.make(rows), np.arange(rows)
            now = robot.reset(everyone, np.zeros((rows, 3), np.float32), rng)
            seen, sent = [], []
            for step in range(30):
                if step % 10 == 0:
                    command = rng.uniform(-1.0, 1.0, (rows, 3)).astype(np.float32)
                seen.append(now)
                sent.append(command)
                now = robot.step(everyone, command).observation
            shape = (rows, 30)
            yield PlayChunk(np.stack(seen, axis=1), np.stack(sent, axis=1), np.zeros(shape, np.float32), {})


ROBOT = Hostile()
PRESETS = {IMAGE: RunConfig(robot=ROBOT)}
