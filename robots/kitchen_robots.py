"""Rows of Franka kitchens on MuJoCo's batch; the task stands in `kitchen.py`, with its sources.

The model and the limits of the arm are files of the Python package gymnasium-robotics, which is asked for when a robot
is made.

Axes: R rows, r rows of this call, T time, N tasks, Q = 30 positions, O observation, A = 9 action, S = 7 subtasks, G = 4
subtasks of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .array_robots import Index
from .kitchen import (
    ANGLES,
    ARM,
    CONTROL_PERIOD,
    EPISODE_STEPS,
    FRAME_SKIP,
    LENGTH,
    MAX_SPEED,
    START,
    Credit,
    compute_paid,
    compute_shown_goal,
    is_complete,
    kitchen_spec,
    pay,
    require_kitchen_goals,
)
from .mujoco_robots import Double, MujocoRobots
from .robot import Bool, Float, PaysAlongPath, Rows, require_rows

MOST_NOISE = 4096
"""Steps after which the noise of the readings comes again."""


def find_assets() -> Path:
    """The folder of the kitchen's files in the package gymnasium-robotics, which is not imported for it.

    Raises:
        ConfigError: The package is not installed.
    """
    found = find_spec("gymnasium_robotics")
    if found is None or found.origin is None:
        raise ConfigError(
            "--robot kitchen: expected the package gymnasium-robotics, whose model files it uses, got none; "
            "pip install 'supple[kitchen]'"
        )
    return Path(found.origin).parent / "envs" / "assets" / "kitchen_franka"


@cache
def load_kitchen_model() -> mujoco.MjModel:
    """The compiled model, one for the process; it is never changed.

    Raises:
        ConfigError: The package is not installed.
    """
    return mujoco.MjModel.from_xml_path(str(find_assets() / "kitchen_assets" / "kitchen_env_model.xml"))


def load_limits() -> tuple[Double, Double]:
    """Of the arm's positions, low and high, shape (2, 9), and amplitudes of the reading's noise, shape (Q,), rad or m.

    Raises:
        ConfigError: The package is not installed.
    """
    root = ElementTree.parse(find_assets() / "franka_assets" / "franka_config.xml").getroot()

    def read(index: int, name: str) -> list[float]:
        node = root.find(f"qpos{index}")
        assert node is not None, "a part of the package"
        return [float(value) for value in node.attrib[name].split()]

    bounds = np.array([read(index, "pos_bound") for index in range(ARM)]).T
    return bounds, np.array([read(index, "pos_noise_amp")[0] for index in range(len(START))])


class KitchenRobots(MujocoRobots, PaysAlongPath):
    """Rows of kitchens that share one model.

    Args:
        rows: Number of kitchens, R.
        threads: Physics threads; the result does not depend on them.
        show_goal: Whether the observation ends with the constant goal of D4RL.
        noise_ratio: Of the readings, in amplitudes of the package; .1 as published.
        credit: "ordered" pays a subtask when all earlier ones of the task were paid or are complete now; "any" pays
            each as soon as it is complete.
        start: Positions at the start, shape (Q,).
        start_jitter: Standard deviation of the angles of the arm at the start, rad; 0 as published.
        episode_steps: Time limit, actions.
        stage: What MuJoCo computes at the end of an action.

    Raises:
        ConfigError: There are no rows or threads, or the package of the model is not installed.
    """

    def __init__(
        self,
        rows: int,
        *,
        threads: int = 1,
        show_goal: bool = True,
        noise_ratio: float = 0.1,
        credit: Credit = "ordered",
        start: Sequence[float] | Double = START,
        start_jitter: float = 0.0,
        episode_steps: int = EPISODE_STEPS,
        stage: mujoco.mjtStage = mujoco.mjtStage.mjSTAGE_NONE,
    ) -> None:
        spec = kitchen_spec(show_goal=show_goal, episode_steps=episode_steps)
        super().__init__(spec, load_kitchen_model(), rows, frame_skip=FRAME_SKIP, threads=threads, stage=stage)
        (self._low, self._high), amplitude = load_limits()
        self._credit, self._first, self._start_jitter = credit, np.array(start), start_jitter
        self._amplitude = noise_ratio * amplitude
        self._shown = compute_shown_goal().astype(np.float32)[: len(START) if show_goal else 0]
        self._noise = np.zeros((rows, min(episode_steps + 1, MOST_NOISE), len(START)), np.float32)
        self._reading = np.zeros((rows, ARM))
        self._paid = np.zeros((rows, LENGTH), np.bool_)

    @property
    def qpos(self) -> Double:
        """Positions without noise, shape (R, Q); a copy."""
        qpos: Double = self._qpos.copy()
        return qpos

    def bind(self, field: str) -> Double:
        """A live array of a field of MuJoCo's data, shape (R, ...), as of the stage that was asked for.

        Other fields than those of the state are filled by the next reset or step.
        """
        array: Double = self._batch.bind(field)
        return array

    def reset_to(self, rows: Rows, observation: Float) -> Float:
        """Starts an episode at rest from observed positions, without a goal and without noise.

        Args:
            rows: Row indices, shape (r,), strictly increasing.
            observation: Shape (r, O).

        Returns:
            The observations now, shape (r, O).

        Raises:
            SpecError: The rows are not increasing or not there, or the observation is not one per row or not finite.
        """
        where = f"{self._spec.name} reset_to"
        rows = require_rows(rows, self.rows, where)
        positions = self._spec.observation.require_rows(observation, len(rows), where)[:, : len(START)]
        index = self._index(rows)
        self._goal[index], self._elapsed[index] = -1.0, 0  # no subtask has this number
        self._noise[index] = 0.0
        return self._start(index, positions.astype(np.float64))

    def _check_goals(self, goals: Float, where: str) -> None:
        require_kitchen_goals(goals, where)

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        noise = rng.uniform(-1.0, 1.0, (len(goals), *self._noise.shape[1:]))
        self._noise[index] = self._amplitude * noise
        qpos = np.tile(self._first, (len(goals), 1))
        if self._start_jitter:
            low, high = load_kitchen_model().jnt_range[:ANGLES].T
            jittered = qpos[:, :ANGLES] + rng.normal(0.0, self._start_jitter, (len(goals), ANGLES))
            qpos[:, :ANGLES] = np.clip(jittered, low, high)
        return self._start(index, qpos)

    def _start(self, index: Index, qpos: Double) -> Float:
        self._paid[index] = False
        self._place(index, qpos, np.zeros((len(qpos), load_kitchen_model().nv)))
        return self._observe(index, self._elapsed[index])

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        ways = MAX_SPEED * action.astype(np.float64) * CONTROL_PERIOD
        self._simulate(rows, index, np.clip(self._reading[index] + ways, self._low, self._high))
        observation = self._observe(index, elapsed + 1)
        complete = np.pad(is_complete(observation), ((0, 0), (0, 1)))  # -1 is never complete
        paid = self._paid[index].copy()
        now = pay(paid, np.take_along_axis(complete, self._goal[index].astype(np.int64), axis=1), self._credit)
        self._paid[index] = now
        reward: Float = (now & ~paid).sum(axis=1, dtype=np.float32)
        terminated: Bool = np.all(now, axis=1)
        return observation, reward, terminated

    def compute_path_reward(self, path: Float, goals: Float) -> tuple[Float, Bool]:
        """See `PaysAlongPath.compute_path_reward`."""
        goals = self._spec.goal.require_rows(goals, len(goals), f"{self._spec.name} compute_path_reward")
        paid = compute_paid(path, goals, self._credit)
        count = paid.sum(axis=-1, dtype=np.float32)
        reward: Float = np.diff(count, axis=1, prepend=np.float32(0.0))
        terminated: Bool = np.all(paid, axis=-1)
        return reward, terminated

    def _observe(self, index: Index, elapsed: Rows) -> Float:
        """Reads the positions with the noise of this step, shape (r, O)."""
        noise = self._noise[np.arange(self.rows)[index], elapsed % self._noise.shape[1]]
        reading = self._qpos[index] + noise
        self._reading[index] = reading[:, :ARM]
        shown = np.broadcast_to(self._shown, (len(reading), len(self._shown)))
        return np.concatenate([reading.astype(np.float32), shown], axis=1)
