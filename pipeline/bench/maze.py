"""Learners in the maze of SiMPL in the meta-RL benchmark.

The learners are those of other cells; this file, with what it imports, is the code version of these cells, so that a
change of the maze counts.
"""

from dataclasses import dataclass
from typing import ClassVar

from ...robots import maze_family as maze_family
from .cloning import BcMamlChoice, BcPearlChoice
from .maml import MamlChoice
from .pearl import PearlChoice
from .rl2 import Rl2Choice

MODULE = "pipeline/bench/maze.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class MazePearl(PearlChoice):
    """PEARL in the maze."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MazeRl2(Rl2Choice):
    """RL2 in the maze."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MazeMaml(MamlChoice):
    """MAML in the maze."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MazeBcPearl(BcPearlChoice):
    """BC+PEARL in the maze."""

    module: ClassVar[str] = MODULE


@dataclass(frozen=True, slots=True, kw_only=True)
class MazeBcMaml(BcMamlChoice):
    """BC+MAML in the maze."""

    module: ClassVar[str] = MODULE
