"""What the best policy that knows the task returns, where that is exact: no learner can beat it."""

import numpy as np

from supple.robots.bandits import BernoulliBandits
from supple.robots.family import RobotFamily
from supple.robots.gridnavi import GridNavi
from supple.robots.krazy_world import KrazyWorld
from supple.robots.maze import EPISODE_STEPS
from supple.robots.maze_family import Maze
from supple.robots.movement_bandits import FIELD, MovementBandits
from supple.robots.navigation import PointNavigation
from supple.robots.random_mazes import RandomMazes
from supple.robots.robot import Float
from supple.robots.tabular import TabularMdps, unpack_tables

from ..policies.oracles import (
    gridnavi_known_goal_return,
    movement_bandit_optimal_returns,
    navigation_optimal_returns,
    solve_tabular,
)


def compute_oracle(robot: RobotFamily, goals: Float) -> float | None:
    """Mean return of an episode of the best policy that knows the goals, shape (N, G); None where it is not known."""
    match robot:
        case BernoulliBandits():  # always the best arm
            return float(robot.pulls * goals.max(axis=1).mean(dtype=np.float64))
        case TabularMdps():  # backward induction from the first state
            value, _ = solve_tabular(unpack_tables(goals), robot.spec().episode_steps)
            return float(value[:, 0].mean())
        case PointNavigation() if robot.variant.start_extent == 0.0:  # straight to the goal, from the origin
            return float(navigation_optimal_returns(robot.variant, np.zeros_like(goals), goals).mean())
        case GridNavi():  # the shortest way to the goal
            return float(gridnavi_known_goal_return(goals).mean())
        case MovementBandits():
            return _movement_bandits()
        case KrazyWorld() if robot.episode_steps >= robot.board.max_tour:
            return float(robot.board.num_goals)  # boards are drawn until they can be solved in `max_tour` steps
        case RandomMazes():  # the shortest way to the goal, 1 + 1/H - d/H for d of H steps
            batch = robot.make(1)
            return float(1.0 + (1.0 - batch.shortest_steps(goals).mean()) / batch.spec.episode_steps)
        case Maze() if robot.published and robot.episode_steps >= EPISODE_STEPS:
            return 1.0  # a planner is known to reach every goal in time
    return None


def _movement_bandits() -> float:
    """The nearest place that pays; points are the middles of 100 x 100 cells."""
    middle = (np.arange(100, dtype=np.float32) + 0.5) * np.float32(FIELD / 100.0)
    # column by column: the oracle tries every place for every point
    columns = [np.stack((np.full_like(middle, x), middle), axis=1) for x in middle]
    return float(np.mean([movement_bandit_optimal_returns(points).mean() for points in columns]))
