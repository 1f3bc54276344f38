"""Built-in families: one contract for all, and the tasks that they have always had, by digest."""

import hashlib
from typing import Any

import numpy as np
import pytest

from supple.robots.ant import ANT_DIRECTION, Ants
from supple.robots.arm import ARM_BOTH, ARM_DYNAMICS, Arms
from supple.robots.bandits import BernoulliBandits
from supple.robots.cheetah import CHEETAH_DIRECTION, CHEETAH_VELOCITY_3, CHEETAH_VELOCITY_10MS, Cheetahs
from supple.robots.families import FAMILIES
from supple.robots.family import Draws, RobotFamily, TellsSuccess, make_robots
from supple.robots.gridnavi import GridNavi
from supple.robots.kitchen_family import Kitchen
from supple.robots.krazy_world import KrazyWorld
from supple.robots.maze_family import Maze
from supple.robots.movement_bandits import MovementBandits
from supple.robots.navigation import POINT_ROBOT, SPARSE_SEMICIRCLE, PointNavigation
from supple.robots.random_mazes import RANDOM_MAZE_PRESETS, RandomMazes
from supple.robots.tabular import TabularMdps
from supple.robots.task import goals_of

FEW: dict[str, dict[str, int]] = {
    "bernoulli-bandits": {"num_train": 20, "num_test": 7},
    "tabular-mdps": {"num_train": 5},
}
OTHERS: tuple[RobotFamily, ...] = (
    Cheetahs(variant=CHEETAH_VELOCITY_3),
    Cheetahs(variant=CHEETAH_DIRECTION),
    Ants(variant=ANT_DIRECTION),
    Arms(variant=ARM_DYNAMICS, num_train=50),
    Arms(variant=ARM_BOTH, num_train=50),
    PointNavigation(variant=POINT_ROBOT),
    PointNavigation(variant=SPARSE_SEMICIRCLE, num_train=100),
)
ALL: list[RobotFamily] = [*(type(FAMILIES[name])(**FEW.get(name, {})) for name in FAMILIES), *OTHERS]


@pytest.mark.parametrize("family", ALL, ids=lambda family: family.name)
def test_a_family_keeps_its_contract(family: RobotFamily) -> None:
    tasks, spec = family.tasks(), family.spec()
    assert tasks == family.tasks()
    robot = make_robots(family, len(tasks.test))
    assert robot.spec == spec
    goals = goals_of(tasks.test)
    rows = np.arange(len(goals))
    observation = robot.reset(rows, goals, np.random.default_rng(0))
    assert observation.shape == (len(goals), *spec.observation.shape)
    spec.goal.require_within(goals_of(tasks.train), family.name)
    still = np.zeros((len(goals), *spec.action.shape), np.float32)
    assert (robot.step(rows, still).success is None) == (not isinstance(family, TellsSuccess))
    robot.close()


@pytest.mark.parametrize("family", [family for family in ALL if isinstance(family, Draws)], ids=lambda f: f.name)
def test_a_scene_is_a_plane_of_the_robots_own_axes_and_holds_all_goals(family: Any) -> None:
    spec, scene = family.spec(), family.scene()
    assert set(scene.axes) <= {axis.name for axis in spec.observation.axes}
    shown = [[axis.name for axis in spec.goal.axes].index(name) for name in scene.goal_axes]
    for column, (low, high) in zip(goals_of(family.tasks().test)[:, shown].T, scene.limits, strict=True):
        assert low < column.min() <= column.max() < high


def test_families_have_names_of_their_own() -> None:
    names = [family.name for family in ALL]
    assert len(set(names)) == len(names)


DIGESTS = [
    (BernoulliBandits(pulls=10, arms=5), "bernoulli-bandit-5-100000-4096-0", "7a2fd451b336539b"),
    (TabularMdps(num_train=50), "tabular-10-5-50-512-0", "b64933b6ab561352"),
    (PointNavigation(), "navigation_2d-2000-40-0", "a641b1fe1ee789bf"),
    (PointNavigation(variant=POINT_ROBOT, num_train=100), "point_robot-100-40-0", "c7d611d6c7566767"),
    (
        PointNavigation(variant=SPARSE_SEMICIRCLE, num_train=100, num_test=100),
        "sparse_semicircle-100-100-0",
        "c26ab7f645794a1f",
    ),
    (GridNavi(), "gridnavi-all-21", "5552495344b19d19"),
    (MovementBandits(num_train=5), "movement-bandits-both", "83eff8a655153f61"),
    (KrazyWorld(num_train=4096), "krazy-world-4096-64", "4c3022275dfa0990"),
    (RandomMazes(num_train=4096), "random-mazes-4096-64", "4c3022275dfa0990"),
    (Cheetahs(), "cheetah_velocity-100-30-0", "c6a56238bc446650"),
    (Cheetahs(variant=CHEETAH_VELOCITY_10MS, num_test=40), "cheetah_velocity_10ms-100-40-0", "8008667466571e15"),
    (Cheetahs(variant=CHEETAH_DIRECTION, num_train=7), "cheetah-direction-both", "77ac7cd8eef1ee73"),
    (Ants(), "ant_goal-150-30-0", "3d9a3e3ea1b879ee"),
    (Ants(variant=ANT_DIRECTION), "ant_direction-150-30-0", "91da33ec80ffdbac"),
    (Arms(), "arm_target-1000-40-0", "f5f096efae38317f"),
    (Arms(variant=ARM_DYNAMICS), "arm_dynamics-1000-40-0", "6ca739c12223ac31"),
    (Arms(variant=ARM_BOTH, num_train=50), "arm_both-50-40-0", "4ceb888662a65074"),
    (Kitchen(), "kitchen", "9d9eea0bd6e27c49"),
    (Maze(), "flat-40", "16725e1697077aea"),
    (Maze(layout_size=10, layout_seed=1, num_train_tasks=3, num_test_tasks=2), "random-3-2-0", "1e603e0907ac5584"),
]
"""Tasks by name, and sha256 of their goals as they were when records were made of them."""


@pytest.mark.parametrize(
    ("family", "name", "digest"), DIGESTS, ids=[f"{family.name}-{name}" for family, name, _ in DIGESTS]
)
def test_tasks_are_what_they_were(family: RobotFamily, name: str, digest: str) -> None:
    tasks = family.tasks()
    assert tasks.name == name
    held = hashlib.sha256(goals_of(tasks.train).tobytes() + b"|" + goals_of(tasks.test).tobytes())
    assert held.hexdigest()[:16] == digest


def test_only_three_families_train_and_test_on_the_same_tasks() -> None:
    repeated = {family.name for family in ALL if not family.tasks().held_out}
    assert repeated == {"gridnavi", "movement-bandits", "cheetah-direction"}
    directions = Cheetahs(variant=CHEETAH_DIRECTION, num_train=7).tasks()
    assert [task.goal for task in directions.test] == [(1.0,), (-1.0,)]
    assert [task.goal for task in directions.train] == [(1.0,), (-1.0,)] * 4


def test_gridnavi_is_solved_in_the_goal_cell_alone() -> None:
    robot = make_robots(GridNavi(), 2)
    rows, up = np.arange(2), np.array([[1.0], [1.0]], np.float32)
    robot.reset(rows, np.array([[0.0, 2.0], [2.0, 0.0]], np.float32), np.random.default_rng(0))
    assert [robot.step(rows, up).success.tolist() for _ in range(3)] == [  # type: ignore[union-attr]
        [False, False],
        [True, False],
        [False, False],
    ]


def test_a_random_maze_is_solved_at_its_goal() -> None:
    # maze 100 of 7 x 7 cells: up twice, then right four times
    robot = make_robots(RandomMazes(maze=RANDOM_MAZE_PRESETS["7"]), 1)
    row = np.arange(1)
    robot.reset(row, np.array([[100.0]], np.float32), np.random.default_rng(0))
    steps = [robot.step(row, np.array([[move]], np.float32)) for move in (0, 0, 3, 3, 3, 3)]
    assert [bool(step.success) for step in steps] == [False] * 5 + [True]
    assert steps[-1].terminated.all()
