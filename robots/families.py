"""The built-in robot families by name: `--robot NAME`. A user's own family needs no entry here, see `find_robot`."""

from __future__ import annotations

from collections.abc import Mapping

from ..lazy import LazyTable
from .family import RobotFamily

FAMILIES: Mapping[str, RobotFamily] = LazyTable(
    __package__,
    {
        "maze": ("maze_family", "Maze"),
        "kitchen": ("kitchen_family", "Kitchen"),
        "ants": ("ant", "Ants"),
        "arms": ("arm", "Arms"),
        "bernoulli-bandits": ("bandits", "BernoulliBandits"),
        "cheetahs": ("cheetah", "Cheetahs"),
        "image-maze": ("image_maze", "ImageMaze"),
        "gridnavi": ("gridnavi", "GridNavi"),
        "krazy-world": ("krazy_world", "KrazyWorld"),
        "movement-bandits": ("movement_bandits", "MovementBandits"),
        "point-navigation": ("navigation", "PointNavigation"),
        "random-mazes": ("random_mazes", "RandomMazes"),
        "tabular-mdps": ("tabular", "TabularMdps"),
    },
)
"""Each with the settings that it has unless the command line says otherwise."""
