"""The Franka kitchen: an arm that opens, turns and moves four things, in an order that is the task.

Sources: Gupta et al., "Relay Policy Learning: Solving Long-Horizon Tasks via Imitation and Reinforcement Learning",
CoRL 2019 (the kitchen); Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", 2020 (the version that
all later work uses); Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022 (environment
`simpl-kitchen-v0`: the ordered reward and the tasks). `kitchen_robots.py` has the robots; nothing here needs MuJoCo.

The action is a velocity for each joint. The position servos are sent to the last reading, noise included, plus the way
of one control period. A subtask is complete while its joints are within `RADIUS` of their goal, as observed.

Axes: R rows, r rows of this call, T time limit, Q = 30 positions (9 of the arm, 21 of the objects), O = 60 observation
(positions and the constant goal of D4RL) or 30 (positions), A = 9 action, S = 7 subtasks, G = 4 subtasks of a task.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from .array_robots import require_whole
from .robot import Bool, Float
from .spec import ArraySpec, Axis, RobotSpec

FRAME_SKIP = 40
CONTROL_PERIOD = 0.08
"""Seconds: 12.5 Hz."""
EPISODE_STEPS = 280
MAX_SPEED = 2.0
"""Of a joint at action 1, rad/s or m/s."""
ROUNDING = 1e-3
"""Of the constant goal in data, rad or m."""
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


def compute_shown_goal() -> NDArray[np.float64]:
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


def require_shown_goal(observation: Float, where: str) -> None:
    """Refuses observations of a kitchen, shape (N, 60), that end with another goal than the constant one.

    Raises:
        SpecError: They are of another of D4RL's data sets: a policy would see a goal here that was never in its data.
    """
    axes, goal = kitchen_spec().observation.axes[len(START) :], compute_shown_goal()
    for axis, value, seen in zip(axes, goal.tolist(), observation[:, len(START) :].T, strict=True):
        other = np.flatnonzero(np.abs(seen - value) > ROUNDING)
        if len(other):
            raise SpecError(
                f"{where}: expected '{axis.name}' to be {value:g} {axis.unit} throughout, as in D4RL's kitchen-mixed, "
                f"got {seen[other[0]]:g} in row {other[0]}; take the positions alone, with --robot.observation state "
                "and --observation-keys 'observations[0:30]' (--ingest.observation-keys of supple run)"
            )


@cache
def _weights() -> tuple[Float, Float]:
    """Goals of all object joints, shape (21,), and which subtask each counts for, shape (21, S)."""
    goals, counts = np.zeros(len(OBJECT_JOINTS), np.float32), np.zeros((len(OBJECT_JOINTS), len(SUBTASKS)), np.float32)
    for index, subtask in enumerate(SUBTASKS):
        columns = np.array(subtask.columns) - ARM
        goals[columns], counts[columns, index] = subtask.goal, 1.0
    return goals, counts


def _square_away(observation: Float) -> Float:
    goals, counts = _weights()
    away = observation[..., ARM : len(START)].astype(np.float32) - goals
    square: Float = (away * away) @ counts
    return square


def is_complete(observation: Float) -> Bool:
    """Which subtasks are complete, shape (..., S), as observed, shape (..., O); in float32, so that all agree."""
    complete: Bool = _square_away(observation) < np.float32(RADIUS**2)
    return complete


def compute_away(observation: Float) -> Float:
    """Distance of each subtask's joints from their goal, shape (..., S), rad and m alike, as observed, (..., O)."""
    away: Float = np.sqrt(_square_away(observation))
    return away


def pay(paid: Bool, complete: Bool, credit: Credit) -> Bool:
    """Which subtasks of tasks are paid after a step, shape (..., G).

    Args:
        paid: Before the step, shape (..., G).
        complete: As observed after it, shape (..., G).
        credit: See `KitchenRobots`.
    """
    now: Bool = paid | complete
    return np.logical_and.accumulate(now, axis=-1) if credit == "ordered" else now


def compute_paid(path: Float, goals: Float, credit: Credit) -> Bool:
    """Which subtasks of N tasks are paid along episodes, shape (R, T, N, G).

    Args:
        path: Observations after each step, shape (R, T, O).
        goals: Shape (N, G).
        credit: See `KitchenRobots`.
    """
    paid: Bool = is_complete(path)[..., goals.astype(np.int64)]
    before = np.zeros_like(paid[:, 0])
    for step in range(paid.shape[1]):
        before = pay(before, paid[:, step], credit)
        paid[:, step] = before
    return paid
