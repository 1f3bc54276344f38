"""A recorded log that answers as a robot, in lock step: it observes what was recorded, and never moves anything.

What a policy commands changes nothing that it sees. So a log shows whether a bundle, its limits and its units fit a
robot's own data, and how far its commands are from those that were recorded; it does not show whether they work.

Axes: T steps of a recorded episode, O observation, A action, G goal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from .adapter import Payment, Reward, RobotAdapter, StopLatch
from .robot import Bool, Float, RobotBatch, Rows, Sees, Step
from .spec import RobotSpec


class Recorded(NamedTuple):
    """One episode of a log."""

    observation: Float
    """Shape (T, O), T > 1."""
    action: Float
    """Shape (T, A): in force from each observation on."""
    picture: NDArray[np.uint8] | None = None
    """Shape (T, height, width, channels), of a robot with a camera."""


class LogRobot(RobotAdapter, Sees):
    """Plays one recorded episode after the other, from the first one on, and again from there."""

    def __init__(self, spec: RobotSpec, episodes: Sequence[Recorded], reward: Reward | RobotBatch) -> None:
        """Takes the episodes.

        Args:
            spec: The contract.
            episodes: Of the log.
            reward: What a task pays, see `Payment`.

        Raises:
            SpecError: There are none, or one is too short, has other axes or pictures, or numbers that are not finite.
        """
        if not episodes:
            raise SpecError(f"{spec.name} log: expected recorded episodes, got none; record some")
        self._episodes = []
        for number, one in enumerate(episodes):
            where = f"{spec.name} log, episode {number}"
            steps = len(one.observation)
            if steps < 2:
                raise SpecError(f"{where}: expected two steps or more, got {steps}; leave it out")
            observation = spec.observation.require_rows(one.observation, steps, where)
            action, picture = spec.action.require_rows(one.action, steps, where), None
            if spec.image is not None:
                if one.picture is None:
                    raise SpecError(f"{where}: expected pictures, since the robot has a camera, got none; name them")
                picture = spec.image.require_rows(one.picture, steps, where)
            self._episodes.append(Recorded(observation, action, picture))
        self._spec, self._payment = spec, Payment(reward)
        self._latch = StopLatch(f"{spec.name} log")
        self._goal = np.zeros(spec.goal.shape, np.float32)
        self._next, self._step, self._total = 0, 0, 0
        self._now = self._episodes[0]
        self._sent = np.full(spec.action.shape, np.nan, np.float32)
        axes = len(spec.action.axes)
        self._commands, self._sum, self._largest = 0, np.zeros(axes), np.zeros(axes)

    @property
    def spec(self) -> RobotSpec:
        """See `RobotAdapter.spec`."""
        return self._spec

    @property
    def lock_step(self) -> bool:
        """See `RobotAdapter.lock_step`."""
        return True

    def now(self) -> float:
        """See `RobotAdapter.now`: steps that were played, in seconds of the log."""
        return self._total * self._spec.control_period

    @property
    def sent(self) -> Float:
        """See `RobotAdapter.sent`: what a robot would have been sent."""
        return self._sent.copy()

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `RobotAdapter.reset`: the next recorded episode begins."""
        self._latch.require_open("reset")
        self._goal = self._spec.goal.require_one(goal, f"{self._spec.name} log reset")
        self._now = self._episodes[self._next % len(self._episodes)]
        self._next += 1
        return self.home()

    def home(self) -> Float:
        """See `RobotAdapter.home`: back to the start of the recorded episode."""
        self._latch.require_open("home")
        self._latch.free()
        self._step = 0
        self._payment.begin()
        return self.read()

    def step(self, action: Float) -> Step:
        """See `RobotAdapter.step`: the command is compared with the recorded one, and the next observation is shown.

        Raises:
            SpecError: See `RobotAdapter.step`; or the recorded episode is over.
            RobotFault: The robot is stopped or closed.
        """
        self._latch.require_free("step")
        command = self._spec.require_command(action, f"{self._spec.name} log step")
        last = len(self._now.observation) - 1
        if self._step >= last:
            raise SpecError(
                f"{self._spec.name} log: expected at most {last} steps in this episode, got one more; reset it"
            )
        self._sent = command
        away = np.abs(command.astype(np.float64) - self._now.action[self._step])
        self._commands += 1
        self._sum += away
        self._largest = np.maximum(self._largest, away)
        self._step += 1
        self._total += 1
        observation = self.read()
        reward, terminated = self._payment.pay(observation, self._goal)
        over = self._step in (last, self._spec.episode_steps)
        return Step(observation, reward, terminated, over and not terminated, success=terminated)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `Robot.compute_reward`."""
        return self._payment.compute(observation, goals)

    def read(self) -> Float:
        """See `Observes.read`."""
        self._latch.require_open("read")
        observation: Float = self._now.observation[self._step].copy()
        return observation

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`: the recorded picture."""
        if self._now.picture is None:
            raise SpecError(f"{self._spec.name} log: expected a robot with a camera, got one without")
        return np.repeat(self._now.picture[self._step][None], len(rows), axis=0)

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`: 0, as in any simulator."""
        return 0.0

    def hold(self) -> None:
        """See `RobotAdapter.hold`: nothing moves."""
        self._latch.require_open("hold")

    def stop(self, reason: str) -> None:
        """See `Stops.stop`."""
        self._latch.stop(reason)

    def close(self) -> None:
        """See `RobotAdapter.close`."""
        self._latch.close()

    def describe(self) -> dict[str, Any]:
        """How far the commands were from the recorded ones, by axis, in its unit: mean and largest distance."""
        count = max(1, self._commands)
        pairs = zip(self._spec.action.names, (self._sum / count).tolist(), self._largest.tolist(), strict=True)
        axes = {name: {"mean": mean, "largest": largest} for name, mean, largest in pairs} if self._commands else {}
        return {"commands": self._commands, "episodes": self._next, "axes": axes}
