"""A simulated robot (MuJoCo, Gymnasium, dm_env) as an adapter: one row of a `RobotBatch`, in lock step or real time."""

from __future__ import annotations

import time

import numpy as np

from ..errors import ConfigError
from .adapter import RobotAdapter, StopLatch
from .cadence import Cadence
from .robot import Bool, Float, RobotBatch, Step
from .spec import RobotSpec

ROW = np.zeros(1, np.int64)


class SimulatedAdapter(RobotAdapter):
    """Time passes in `step` alone, since nothing moves in a simulator between steps.

    In real time a step ends at a deadline of the monotonic clock, as with a robot. `RobotFault` of a stop lasts until
    `reset` or `home`, which start anew.
    """

    def __init__(self, batch: RobotBatch, cadence: Cadence | None = None) -> None:
        """Takes the robot.

        Args:
            batch: One row; it is closed with this one.
            cadence: Deadlines of the steps, for real time; None for lock step.

        Raises:
            ConfigError: There is more or less than one row.
        """
        if batch.rows != 1:
            raise ConfigError(f"{batch.spec.name} rows: expected 1 for an adapter, got {batch.rows}; make one row")
        self._batch, self._cadence = batch, cadence
        self._spec = batch.spec
        self._latch = StopLatch(batch.spec.name)
        self._goal: Float | None = None
        self._rng = np.random.default_rng(0)
        self._steps, self._total = 0, 0
        self._sent = np.full(self._spec.action.shape, np.nan, np.float32)
        self._observation: Float | None = None

    @property
    def spec(self) -> RobotSpec:
        """See `RobotAdapter.spec`."""
        return self._spec

    @property
    def lock_step(self) -> bool:
        """See `RobotAdapter.lock_step`."""
        return self._cadence is None

    def now(self) -> float:
        """See `RobotAdapter.now`: control periods in lock step, and else this machine's monotonic clock."""
        return self._total * self._spec.control_period if self._cadence is None else time.monotonic()

    @property
    def sent(self) -> Float:
        """See `RobotAdapter.sent`."""
        return self._sent.copy()

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `RobotAdapter.reset`; a stop ends here, since there is nothing to inspect."""
        self._latch.require_open("reset")
        self._goal = self._spec.goal.require_one(goal, f"{self._spec.name} reset")
        self._rng = rng
        return self.home()

    def home(self) -> Float:
        """See `RobotAdapter.home`."""
        self._latch.require_open("home")
        goal = self._middle() if self._goal is None else self._goal
        self._observation = self._batch.reset(ROW, goal[None], self._rng)[0]
        self._latch.free()
        self._steps = 0
        if self._cadence is not None:
            self._cadence.start()
        return self._observation.copy()

    def step(self, action: Float) -> Step:
        """See `RobotAdapter.step`."""
        self._latch.require_free("step")
        if self._observation is None:
            self.home()
        command = self._spec.require_command(action, f"{self._spec.name} step")
        self._sent = command.copy()
        taken = self._batch.step(ROW, command[None])
        if self._cadence is not None:
            self._cadence.wait()
        self._steps += 1
        self._total += 1
        self._observation = taken.observation[0]
        return Step(
            self._observation.copy(),
            float(taken.reward[0]),
            bool(taken.terminated[0]),
            bool(taken.truncated[0]),
            None if taken.success is None else bool(taken.success[0]),
        )

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `Robot.compute_reward`."""
        return self._batch.compute_reward(observation, goals)

    def read(self) -> Float:
        """See `Observes.read`."""
        self._latch.require_open("read")
        if self._observation is None:
            return self.home()
        return self._observation.copy()

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`: 0, since nothing has moved since."""
        return 0.0

    def hold(self) -> None:
        """See `RobotAdapter.hold`: nothing moves between steps."""
        self._latch.require_open("hold")

    def stop(self, reason: str) -> None:
        """See `Stops.stop`."""
        self._latch.stop(reason)

    def close(self) -> None:
        """See `RobotAdapter.close`."""
        if self._latch.close():
            self._batch.close()

    def _middle(self) -> Float:
        """A goal, where nobody has given one yet."""
        goal = self._spec.goal
        low, high = (np.where(np.isfinite(ends), ends, 0.0) for ends in (goal.low, goal.high))
        return np.clip((low + high) / 2.0, goal.low, goal.high).astype(np.float32)
