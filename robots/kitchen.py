"""The Franka kitchen: an arm that opens, turns and moves four things, in an order that is the task.

Sources: Gupta et al., "Relay Policy Learning: Solving Long-Horizon Tasks via Imitation and Reinforcement Learning",
CoRL 2019 (the kitchen); Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", 2020 (the version that
all later work uses); Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022 (environment
`simpl-kitchen-v0`: the ordered reward and the tasks). The model and the limits of the arm are files of the Python
package gymnasium-robotics, which is asked for when a robot is made.

The action is a velocity for each joint. The position servos are sent to the last reading, noise included, plus the way
of one control period. A subtask is complete while its joints are within `RADIUS` of their goal, as observed.

Axes: R rows, r rows of this call, T time limit, Q = 30 positions (9 of the arm, 21 of the objects), O = 60 observation
(positions and the constant goal of D4RL) or 30 (positions), A = 9 action, S = 7 subtasks, G = 4 subtasks of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple
from xml.etree import ElementTree

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, SpecError
from .array_robots import Index, require_whole
from .mujoco_robots import Double, MujocoRobots
from .robot import Bool, Float, Rows, require_rows
from .spec import ArraySpec, Axis, RobotSpec

FRAME_SKIP = 40
CONTROL_PERIOD = 0.08
"""Seconds: 12.5 Hz."""
EPISODE_STEPS = 280
MAX_SPEED = 2.0
"""Of a joint at action 1, rad/s or m/s."""
RADIUS = 0.3
"""Distance of joints from their goal at which a subtask is complete, rad and m alike."""
LENGTH = 4
"""Subtasks of a task, G."""
ARM = 9
"""Joints of the arm and its two fingers; they come first."""
ANGLES = 7
"""Joints of the arm without the fingers."""


class Subtask(NamedTuple):
    """One thing to do: joints and where they shall be."""

    name: str
    columns: tuple[int, ...]
    """Of the positions."""
    goal: tuple[float, ...]
    """rad or m; the kettle's place, m, and quaternion, wxyz."""


SUBTASKS = (
    Subtask("bottom burner", (11, 12), (-0.88, -0.01)),
    Subtask("top burner", (15, 16), (-0.92, -0.01)),
    Subtask("light switch", (17, 18), (-0.69, -0.05)),
    Subtask("slide cabinet", (19,), (0.37,)),
    Subtask("hinge cabinet", (20, 21), (0.0, 1.45)),
    Subtask("microwave", (22,), (-0.75,)),
    Subtask("kettle", (23, 24, 25, 26, 27, 28, 29), (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)),
)
"""In the order of the digits that name tasks."""
_SHOWN = ("microwave", "kettle", "bottom burner", "light switch")
"""What the constant goal in the observation holds, whatever the task is."""
START = (
    0.148388023, -1.76848573, 1.84390296, -2.4768576, 0.260252026, 0.712533105, 1.59515394, 0.0479267505, 0.0371350919,
    -2.6627985e-04, -5.18043486e-05, 3.1287722e-05, -4.51199853e-05, -3.90842156e-06, -4.22629655e-05, 6.28065475e-05,
    4.04984708e-05, 4.62730939e-04, -2.26906415e-04, -4.65501369e-04, -6.44129196e-03, -1.77048263e-03, 1.08009684e-03,
    -0.26939744, 0.350383255, 1.61944683, 1.00618764, 4.0639512e-03, -6.62095997e-03, -2.68278933e-04,
)  # fmt: skip
"""Positions at the start of every episode, rad or m (D4RL)."""
ARM_JOINTS = (*(f"joint{index}" for index in range(1, 8)), "right_finger", "left_finger")
OBJECT_JOINTS = (
    "knob_1", "bottom_right_burner", "knob_2", "bottom_left_burner", "knob_3", "top_right_burner", "knob_4",
    "top_left_burner", "light_switch", "light_joint", "slide_cabinet", "left_hinge_cabinet", "right_hinge_cabinet",
    "microwave", "kettle_x", "kettle_y", "kettle_z", "kettle_qw", "kettle_qx", "kettle_qy", "kettle_qz",
)  # fmt: skip
_LENGTHS = {"right_finger", "left_finger", "slide_cabinet", "kettle_x", "kettle_y", "kettle_z"}
Credit = Literal["ordered", "any"]


def compute_shown_goal() -> Double:
    """The constant goal in the observation, shape (Q,)."""
    goal = np.zeros(len(START))
    for subtask in SUBTASKS:
        if subtask.name in _SHOWN:
            goal[list(subtask.columns)] = subtask.goal
    return goal


def kitchen_spec(*, show_goal: bool = True, episode_steps: int = EPISODE_STEPS) -> RobotSpec:
    """The contract of the kitchen robot."""
    names = (*ARM_JOINTS, *OBJECT_JOINTS)
    units = ["m" if name in _LENGTHS else "1" if name.startswith("kettle_q") else "rad" for name in names]
    axes = [Axis(name, unit, -np.inf, np.inf) for name, unit in zip(names, units, strict=True)]
    goals = [Axis(f"goal_{axis.name}", axis.unit, -np.inf, np.inf) for axis in axes]
    return RobotSpec(
        name="kitchen",
        observation=ArraySpec("observation", (*axes, *goals) if show_goal else tuple(axes)),
        action=ArraySpec(
            "action",
            tuple(
                Axis(f"{name}_speed", f"{MAX_SPEED:g} {unit}/s", -1.0, 1.0)
                for name, unit in zip(ARM_JOINTS, units[:ARM], strict=True)
            ),
        ),
        goal=ArraySpec("goal", tuple(Axis(f"subtask_{place}", "1", 0.0, 6.0) for place in range(1, LENGTH + 1))),
        control_period=CONTROL_PERIOD,
        episode_steps=episode_steps,
    )


def require_kitchen_goals(goals: Float, where: str) -> None:
    """Refuses goals, shape (N, G), that are not distinct subtasks.

    Raises:
        SpecError: They are not.
    """
    whole = np.sort(require_whole(goals, "subtasks", where), axis=1)
    twice = (np.diff(whole, axis=1) == 0).any(axis=1)
    if twice.any():
        raise SpecError(
            f"{where}: expected {LENGTH} distinct subtasks, got {goals[twice][0].astype(int).tolist()}; name each once"
        )


@cache
def _weights() -> tuple[Float, Float]:
    """Goals of all object joints, shape (21,), and which subtask each counts for, shape (21, S)."""
    goals, counts = np.zeros(len(OBJECT_JOINTS), np.float32), np.zeros((len(OBJECT_JOINTS), len(SUBTASKS)), np.float32)
    for index, subtask in enumerate(SUBTASKS):
        columns = np.array(subtask.columns) - ARM
        goals[columns], counts[columns, index] = subtask.goal, 1.0
    return goals, counts


def is_complete(observation: Float) -> Bool:
    """Which subtasks are complete, shape (..., S), as observed, shape (..., O); in float32, so that all agree."""
    goals, counts = _weights()
    away = observation[..., ARM : len(START)].astype(np.float32) - goals
    complete: Bool = (away * away) @ counts < np.float32(RADIUS**2)
    return complete


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


class KitchenRobots(MujocoRobots):
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
        self._noise = np.zeros((rows, episode_steps + 1, len(START)), np.float32)
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
        now: Bool = paid | np.take_along_axis(complete, self._goal[index].astype(np.int64), axis=1)
        if self._credit == "ordered":
            now = np.logical_and.accumulate(now, axis=1)
        self._paid[index] = now
        reward: Float = (now & ~paid).sum(axis=1, dtype=np.float32)
        terminated: Bool = np.all(now, axis=1)
        return observation, reward, terminated

    def _observe(self, index: Index, elapsed: Rows) -> Float:
        """Reads the positions with the noise of this step, shape (r, O)."""
        noise = self._noise[np.arange(self.rows)[index], elapsed]
        reading = self._qpos[index] + noise
        self._reading[index] = reading[:, :ARM]
        shown = np.broadcast_to(self._shown, (len(reading), len(self._shown)))
        return np.concatenate([reading.astype(np.float32), shown], axis=1)
