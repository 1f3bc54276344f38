"""GridNavi: an unknown goal cell in a small grid, the task on which Bayes-optimal search can be told from guessing.

Source: Zintgraf et al., "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning", ICLR 2020, section
5.1, with the details of the authors' code: 5 x 5 cells, start in the corner (0, 0), five actions, 15 steps, reward 1 in
the goal cell and -0.1 elsewhere at each step, no end at the goal. The goal is uniform over the 21 cells that are not
the start or one of its three neighbours (0, 1), (1, 0), (1, 1).

The observation is the position; neither it nor anything else tells the goal, only the reward does. A belief over the
goal is therefore uniform over the candidates not yet visited, until one of them pays.

Axes: R rows, r rows of this call, N tasks, O = G = 2 [x, y] in cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .array_robots import ArrayRobots, Index, require_whole
from .family import ONLY_TASKS, Draws, Scene, TellsSuccess
from .robot import Bool, Float, Rows
from .spec import ArraySpec, Axis, RobotSpec, make_choice_spec
from .task import TaskSet
from .task_draws import repeat_tasks, split_tasks

CELLS = 5
EPISODE_STEPS = 15
GOAL_REWARD = 1.0
STEP_REWARD = -0.1
CHOICES = ("stay", "up", "right", "down", "left")
MOVES = np.array([(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)], np.float32)
"""Change of x and y by each choice, cells."""
CANDIDATES: tuple[tuple[int, int], ...] = tuple((x, y) for x in range(CELLS) for y in range(CELLS) if max(x, y) > 1)
"""The cells that may hold the goal."""


def gridnavi_spec(episode_steps: int = EPISODE_STEPS) -> RobotSpec:
    """The contract of GridNavi."""
    position = tuple(Axis(name, "cell", 0.0, CELLS - 1.0) for name in ("x", "y"))
    return RobotSpec(
        name="gridnavi",
        observation=ArraySpec("observation", position),
        action=make_choice_spec(CHOICES),
        goal=ArraySpec("goal", position),
        control_period=1.0,
        episode_steps=episode_steps,
        choices=CHOICES,
    )


@final
class GridNaviBatch(ArrayRobots):
    """Rows of agents in the grid; any cell can be a goal, `CANDIDATES` are the tasks.

    Args:
        rows: Number of agents, R.
        episode_steps: Time limit.

    Raises:
        ConfigError: There are no rows.
        SpecError: There are no steps.
    """

    def __init__(self, rows: int, *, episode_steps: int = EPISODE_STEPS) -> None:
        super().__init__(gridnavi_spec(episode_steps), rows)
        self._position = np.zeros((rows, 2), np.float32)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`: 1 in the goal cell, -0.1 elsewhere; nothing ends an episode."""
        reward = _reward(np.asarray(observation)[..., None, :], np.asarray(goals))
        return reward, np.zeros(reward.shape, np.bool_)

    def _check_goals(self, goals: Float, where: str) -> None:
        require_whole(goals, "goal cells", where)

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        self._position[index] = 0.0
        return np.zeros((len(goals), 2), np.float32)

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        position = self._position[index] + MOVES[action]
        np.maximum(position, 0.0, out=position)
        np.minimum(position, CELLS - 1.0, out=position)
        self._position[index] = position
        return position, _reward(position, self._goal[index]), np.zeros(len(rows), np.bool_)


def _reward(position: Float, goal: Float) -> Float:
    """Reward of positions, shape (..., 2), for goals that are broadcast against them."""
    reached = (position[..., 0] == goal[..., 0]) & (position[..., 1] == goal[..., 1])
    return np.where(reached, np.float32(GOAL_REWARD), np.float32(STEP_REWARD))


def draw_gridnavi_goals(count: int, rng: np.random.Generator) -> Float:
    """Goals uniform over `CANDIDATES`, with replacement, shape (count, 2)."""
    return np.array(CANDIDATES, np.float32)[rng.integers(len(CANDIDATES), size=count)]


def make_gridnavi_tasks(num_train: int, num_test: int, seed: int) -> TaskSet:
    """Divides the 21 candidates; see `split_tasks`.

    The paper trains and tests on all 21, from which `draw_gridnavi_goals` draws.
    """
    return split_tasks("gridnavi", np.array(CANDIDATES, np.float32), num_train, num_test, seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridNavi(TellsSuccess, Draws):
    """GridNavi as published, trained and tested on all 21 goal cells: it measures search, no held-out task."""

    num_train: int = field(default=2100, metadata=ONLY_TASKS)
    """Draws, with replacement, from which tasks are taken."""
    task_seed: int = field(default=0, metadata=ONLY_TASKS)

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return "gridnavi"

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return gridnavi_spec()

    def make(self, rows: int, threads: int = 1) -> GridNaviBatch:
        """See `RobotFamily.make`; there is no physics, so that threads do not count."""
        return GridNaviBatch(rows)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`."""
        train = draw_gridnavi_goals(self.num_train, np.random.default_rng(self.task_seed))
        return repeat_tasks("gridnavi-all-21", train, np.array(CANDIDATES, np.float32))

    def compute_success(self, observation: Float, reward: Float, goals: Float) -> Bool:
        """See `TellsSuccess.compute_success`: the step led into the goal cell, or stayed there."""
        success: Bool = (observation == goals).all(axis=-1)
        return success

    def scene(self) -> Scene:
        """See `Draws.scene`: the grid; the middles of its cells are whole numbers."""
        ends = (-0.5, CELLS - 0.5)
        return Scene(axes=("x", "y"), goal_axes=("x", "y"), unit="cell", limits=(ends, ends), start=(0.0, 0.0))
