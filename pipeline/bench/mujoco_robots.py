"""Learners on MuJoCo robots in the meta-RL benchmark.

The learners are those of other cells; this file, with what it imports, is the code version of these cells, so that a
change of a robot counts.
"""

from dataclasses import dataclass
from typing import ClassVar

from ...robots import ant as ant
from ...robots import arm as arm
from ...robots import cheetah as cheetah
from .maml import MamlChoice
from .pearl import PearlChoice
from .ppo import PpoChoice
from .rl2 import Rl2Choice

MODULE = "pipeline/bench/mujoco_robots.py"


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
