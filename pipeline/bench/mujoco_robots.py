"""MuJoCo robots and their task sets in the meta-RL benchmark, see `robots.py`, and learners on them.

No oracle is known for any of the robots. The learners are those of other cells; this file, with what it imports, is the
code version of these cells, so that a change of a robot counts.
"""

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...robots.ant import ANT_GOAL, Ant, AntBatch, make_ant_tasks
from ...robots.arm import ARM_TARGET, Arm, ArmBatch, make_arm_tasks
from ...robots.cheetah import (
    CHEETAH_VELOCITY,
    DIRECTIONS,
    Cheetah,
    CheetahBatch,
    make_cheetah_velocity_tasks,
)
from ...robots.robot import Float, RobotBatch
from .maml import MamlChoice
from .pearl import PearlChoice
from .ppo import PpoChoice
from .rl2 import Rl2Choice
from .robots import Split, split_of

MODULE = "pipeline/bench/mujoco_robots.py"
MOST_THREADS, ROWS_PER_THREAD = 8, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MujocoMaml(MamlChoice):
    """MAML on one of these robots."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MujocoPearl(PearlChoice):
    """PEARL on one of these robots."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MujocoPpo(PpoChoice):
    """PPO on one of these robots."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MujocoRl2(Rl2Choice):
    """RL2 on one of these robots."""

    module: ClassVar[str] = MODULE


def _threads(rows: int) -> int:
    """Physics threads, on which results do not depend: few rows are stepped faster than a second thread wakes up."""
    return max(1, min(len(os.sched_getaffinity(0)), MOST_THREADS, rows // ROWS_PER_THREAD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheetahs:
    """HalfCheetah. Velocities are held out; of the two directions none can be, so that they measure adaptation only."""

    variant: Cheetah = CHEETAH_VELOCITY
    num_train: int = 100
    """Velocities to train on (Rakelly et al.); directions are repeated up to this number."""
    num_test: int = 30
    """Velocities to test on (Rakelly et al.)."""
    task_seed: int = 0

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return self.variant.name.replace("_", "-")

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return CheetahBatch(self.variant, rows, threads=_threads(rows))

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        if self.variant.reward == "direction":
            return Split(f"{self.name}-both", np.tile(DIRECTIONS, (-(-self.num_train // 2), 1)), DIRECTIONS.copy())
        return split_of(make_cheetah_velocity_tasks(self.variant, self.num_train, self.num_test, self.task_seed))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ants:
    """Ant."""

    variant: Ant = ANT_GOAL
    num_train: int = 150
    """As Rakelly et al. for goals."""
    num_test: int = 30
    """As Rakelly et al. for goals."""
    task_seed: int = 0

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return self.variant.name.replace("_", "-")

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return AntBatch(self.variant, rows, threads=_threads(rows))

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        return split_of(make_ant_tasks(self.variant, self.num_train, self.num_test, self.task_seed))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The reaching arm."""

    variant: Arm = ARM_TARGET
    num_train: int = 1000
    num_test: int = 40
    task_seed: int = 0

    @property
    def name(self) -> str:
        """See `BenchRobot.name`."""
        return self.variant.name.replace("_", "-")

    def make_robot(self, rows: int) -> RobotBatch:
        """See `BenchRobot.make_robot`."""
        return ArmBatch(self.variant, rows, threads=_threads(rows))

    def make_split(self) -> Split:
        """See `BenchRobot.make_split`."""
        return split_of(make_arm_tasks(self.variant, self.num_train, self.num_test, self.task_seed))

    def oracle(self, goals: Float) -> float | None:
        """See `BenchRobot.oracle`."""
        return None
