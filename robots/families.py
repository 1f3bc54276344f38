"""The built-in robot families by name: `--robot NAME`. A user's own family needs no entry here, see `load_family`."""

from __future__ import annotations

from .family import RobotFamily
from .maze_family import Maze

FAMILIES: dict[str, RobotFamily] = {
    "maze": Maze(),
}
"""Each with the settings that it has unless the command line says otherwise."""
