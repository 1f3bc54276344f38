"""The maze robot: a point mass in a random maze, exactly as published, stepped as rows on MuJoCo's batch.

Source: Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022 (environment `simpl-maze-size20-seed0-v0`),
on the maze of Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", 2020. The published
coordinates are kept: the particle's body stands at (1.2, 1.2) and the wall of cell (i, j) at (i + 1, j + 1), so the
centre of cell c is at c - 0.2.

Axes: R rows, r rows of this call, O = 4 observation [x, y, vx, vy], A = 2 action, N tasks, G = 2 goal [x, y].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .maze_layout import Layout, start_cell
from .robot import Bool, Float, Rows, StepRows, require_rows
from .spec import ArraySpec, Axis, RobotSpec

if TYPE_CHECKING:
    import mujoco

BODY_OFFSET = 1.2
"""World position of the particle's body, cells: the robot's x is the world's x minus this."""
WALL_OFFSET = 1.0
"""World position of the wall of cell 0, cells."""
MAX_SPEED = 5.0
"""The velocity is clipped to this before each step, cells / s."""
GOAL_RADIUS = 1.0
"""Distance at which a goal counts as reached, cells."""
RESET_RANGE = 0.1
"""Half width of the uniform start position around the start cell, cells."""
RESET_SPEED = 0.1
"""Standard deviation of the start velocity, cells / s."""
EPISODE_STEPS = 2000
TIMESTEP = 0.01
"""Physics and control period, seconds."""

_POSITION = ArraySpec("position", tuple(Axis(name, "cell", -np.inf, np.inf) for name in ("x", "y")))
_VELOCITY = ArraySpec("velocity", tuple(Axis(name, "cell/s", -np.inf, np.inf) for name in ("vx", "vy")))


def make_maze_model(layout: Layout, *, ground_contact: bool = False) -> mujoco.MjModel:
    """Compiles the maze.

    In the published model the particle also rests on the ground plane. That normal is orthogonal to both joints, so
    leaving the contact out does not change the motion by a bit (tested) and makes stepping faster.

    Args:
        layout: Walls, shape (W, W), border included.
        ground_contact: Keep the contact with the ground, as published.
    """
    import mujoco

    spec = mujoco.MjSpec()
    spec.modelname = "point_maze"
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP
    spec.option.gravity = (0.0, 0.0, 0.0)
    spec.option.iterations = 20
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
    # one body is one island: finding that out takes 5 % of a step and does not change the motion by a bit (tested)
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
    geom = spec.default.geom
    geom.friction = (0.5, 0.1, 0.1)
    geom.density = 1000.0
    geom.margin = 0.002
    geom.condim = 1
    geom.contype = 2
    geom.conaffinity = 1
    spec.default.joint.damping[0] = 1.0
    world = spec.worldbody
    world.add_geom(
        name="ground",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(40.0, 40.0, 0.25),
        pos=(0.0, 0.0, -0.1),
        contype=int(ground_contact),
        conaffinity=0,
        rgba=(0.85, 0.85, 0.85, 1.0),
    )
    body = world.add_body(name="particle", pos=(BODY_OFFSET, BODY_OFFSET, 0.0))
    body.add_geom(
        name="particle", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=(0.1, 0.0, 0.0), contype=1, rgba=(0.1, 0.3, 0.9, 1.0)
    )
    for name, axis in (("ball_x", (1.0, 0.0, 0.0)), ("ball_y", (0.0, 1.0, 0.0))):
        body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.gear[0] = 100.0
        motor.ctrllimited = True
        motor.ctrlrange = (-1.0, 1.0)
    for i, j in np.argwhere(layout):
        world.add_geom(
            name=f"wall_{i}_{j}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=(0.5, 0.5, 0.2),
            pos=(i + WALL_OFFSET, j + WALL_OFFSET, 0.0),
            rgba=(0.7, 0.5, 0.3, 1.0),
        )
    return spec.compile()


def maze_spec(layout: Layout, episode_steps: int = EPISODE_STEPS) -> RobotSpec:
    """The contract of the maze robot in this layout."""
    size = float(max(layout.shape))
    position = [Axis(name, "cell", -1.0, size) for name in ("x", "y")]
    # contacts may push the particle to a little more than MAX_SPEED, so the velocity has no sharp limit
    force = [Axis(name, "100 N", -1.0, 1.0) for name in ("force_x", "force_y")]
    return RobotSpec(
        name="maze",
        observation=ArraySpec("observation", (*position, *_VELOCITY.axes)),
        action=ArraySpec("action", tuple(force)),
        goal=ArraySpec("goal", tuple(position)),
        control_period=TIMESTEP,
        episode_steps=episode_steps,
    )


class MazeBatch:
    """Rows of point masses in one maze; see `RobotBatch` for the contract.

    Args:
        layout: Walls, shape (W, W), from `make_layout`.
        rows: Number of robots, R.
        threads: Physics threads; the result does not depend on them.
        start: Start cell; None takes `start_cell(layout)`.
        episode_steps: Time limit, low-level steps.
        terminate_at_goal: False keeps the episode going after the goal is reached (play data).

    Raises:
        ConfigError: The start is a wall or outside the maze, or there are no rows or threads.
    """

    def __init__(
        self,
        layout: Layout,
        rows: int,
        *,
        threads: int = 1,
        start: tuple[int, int] | None = None,
        episode_steps: int = EPISODE_STEPS,
        terminate_at_goal: bool = True,
    ) -> None:
        if rows < 1:
            raise ConfigError(f"maze rows: expected at least 1, got {rows}; ask for one row per robot")
        if threads < 1:
            raise ConfigError(f"maze threads: expected at least 1, got {threads}; 1 or 2 are enough")
        self.layout = layout
        self.start = start_cell(layout) if start is None else start
        inside = all(0 <= index < side for index, side in zip(self.start, layout.shape, strict=True))
        if not inside or layout[self.start]:
            raise ConfigError(f"maze start: expected a free cell, got {self.start}; choose another start")
        self._spec = maze_spec(layout, episode_steps)
        self._terminate_at_goal = terminate_at_goal
        from mujoco import mjtStage
        from mujoco.batch import Batch

        from .mujoco_timers import stop_timers

        stop_timers()
        self._no_stage = mjtStage.mjSTAGE_NONE
        self._batch = Batch(make_maze_model(layout), rows, threads)
        self._qpos = self._batch.bind("qpos")
        self._qvel = self._batch.bind("qvel")
        self._motion = self._batch.state[:, 1:5]  # after the time stand qpos and qvel, side by side (tested)
        self._ctrl = self._batch.bind("ctrl")
        self._goal = np.zeros((rows, 2), np.float32)
        self._elapsed = np.zeros(rows, np.int64)

    @property
    def spec(self) -> RobotSpec:
        """See `RobotBatch.spec`."""
        return self._spec

    @property
    def rows(self) -> int:
        """See `RobotBatch.rows`."""
        return len(self._elapsed)

    @property
    def qpos(self) -> NDArray[np.float64]:
        """Positions, shape (R, 2), cells; a copy."""
        qpos: NDArray[np.float64] = self._qpos.copy()
        return qpos

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`: start cell + U(-.1, .1), velocity .1 N(0, 1)."""
        self._spec.goal.require_within(goals, "maze reset")
        position = np.asarray(self.start) + rng.uniform(-RESET_RANGE, RESET_RANGE, (len(rows), 2))
        velocity = RESET_SPEED * rng.standard_normal((len(rows), 2))
        return self.reset_to(rows, goals, position, velocity)

    def reset_to(self, rows: Rows, goals: Float, position: NDArray[np.float64], velocity: NDArray[np.float64]) -> Float:
        """Starts an episode from given positions, cells, and velocities, cells / s, both of shape (r, 2).

        Raises:
            SpecError: As `RobotBatch.reset` (goals outside the maze are allowed here), or a position or velocity has
                the wrong shape or is not finite.
        """
        rows = require_rows(rows, self.rows, "maze reset")
        goals = self._spec.goal.require_rows(goals, len(rows), "maze reset")
        _POSITION.require_rows(position, len(rows), "maze reset")
        _VELOCITY.require_rows(velocity, len(rows), "maze reset")
        self._batch.reset(rows, stage=self._no_stage)
        self._qpos[rows] = position
        self._qvel[rows] = velocity
        self._goal[rows] = goals
        self._elapsed[rows] = 0
        return self._observe(rows)

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`: clip the velocity, then one Euler step of 10 ms."""
        rows = require_rows(rows, self.rows, "maze step")
        action = self._spec.action.require_rows(action, len(rows), "maze step")
        if len(rows) == self.rows:
            # np.clip takes three times as long on so few numbers
            np.minimum(np.maximum(action, -1.0), 1.0, out=self._ctrl)
            np.minimum(np.maximum(self._qvel, -MAX_SPEED), MAX_SPEED, out=self._qvel)
            self._batch.step()
        else:
            self._ctrl[rows] = np.clip(action, -1.0, 1.0)
            self._qvel[rows] = np.clip(self._qvel[rows], -MAX_SPEED, MAX_SPEED)
            self._batch.step(rows)
        index: slice | Rows = slice(None) if len(rows) == self.rows else rows  # a slice costs a third of an index
        self._elapsed[index] += 1
        observation = self._observe(index)
        reached = is_within_goal(observation, self._goal[index])
        terminated = reached & self._terminate_at_goal
        truncated = ~terminated & (self._elapsed[index] >= self._spec.episode_steps)
        return StepRows(observation, reached.astype(np.float32), terminated, truncated)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`: 1 within `GOAL_RADIUS` of the goal, where the task ends."""
        reached = is_within_goal(np.asarray(observation)[..., None, :], np.asarray(goals))
        return reached.astype(np.float32), reached & self._terminate_at_goal

    def close(self) -> None:
        """See `RobotBatch.close`."""

    def _observe(self, index: slice | Rows) -> Float:
        observation: Float = self._motion[index].astype(np.float32)
        return observation


def is_within_goal(observation: Float, goal: Float) -> Bool:
    """Whether the distance to the goal is at most `GOAL_RADIUS`; in float32 throughout, so that all callers agree.

    Args:
        observation: Shape (..., 2 or more), x and y first, cells.
        goal: Shape (..., 2), cells; broadcast against the observation's leading dimensions.
    """
    x = observation[..., 0] - goal[..., 0]
    y = observation[..., 1] - goal[..., 1]
    within: Bool = x * x + y * y <= np.float32(GOAL_RADIUS**2)
    return within
