"""The built-in robot families by name: `--robot NAME`. A user's own family needs no entry here, see `find_robot`."""

from __future__ import annotations

from .ant import Ants
from .arm import Arms
from .bandits import BernoulliBandits
from .cheetah import Cheetahs
from .family import RobotFamily
from .gridnavi import GridNavi
from .krazy_world import KrazyWorld
from .maze_family import Maze
from .movement_bandits import MovementBandits
from .navigation import PointNavigation
from .random_mazes import RandomMazes
from .tabular import TabularMdps

FAMILIES: dict[str, RobotFamily] = {
    "maze": Maze(),
    "ants": Ants(),
    "arms": Arms(),
    "bernoulli-bandits": BernoulliBandits(),
    "cheetahs": Cheetahs(),
    "gridnavi": GridNavi(),
    "krazy-world": KrazyWorld(),
    "movement-bandits": MovementBandits(),
    "point-navigation": PointNavigation(),
    "random-mazes": RandomMazes(),
    "tabular-mdps": TabularMdps(),
}
"""Each with the settings that it has unless the command line says otherwise."""
