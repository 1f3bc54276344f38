"""Robots of the benchmark as JSON, so that a bundle can name the simulator that stands in for its robot.

A record is {"family": a name in `FAMILIES`, "config": the fields of that dataclass}.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ...errors import BundleError, ConfigError
from ..keys import compute_plain
from .maze import PointMazes
from .mujoco_robots import Ants, Arms, Cheetahs
from .robots import (
    BenchRobot,
    BernoulliBandits,
    GridNavi,
    KrazyWorld,
    MovementBandits,
    PointNavigation,
    RandomMazes,
    TabularMdps,
)

FAMILIES: dict[str, type[Any]] = {
    "ants": Ants,
    "arms": Arms,
    "bernoulli-bandits": BernoulliBandits,
    "cheetahs": Cheetahs,
    "gridnavi": GridNavi,
    "krazy-world": KrazyWorld,
    "movement-bandits": MovementBandits,
    "point-mazes": PointMazes,
    "point-navigation": PointNavigation,
    "random-mazes": RandomMazes,
    "tabular-mdps": TabularMdps,
}
"""Families that a bundle can name."""


def make_robot_record(robot: BenchRobot) -> dict[str, Any]:
    """The record of a robot.

    Raises:
        BundleError: Its family is not known.
    """
    for family, kind in FAMILIES.items():
        if type(robot) is kind:
            return {"family": family, "config": compute_plain(robot, family)}
    raise BundleError(
        f"export: expected a robot of {', '.join(FAMILIES)}, got {type(robot).__name__}; add its family to FAMILIES"
    )


def load_robot_record(record: Mapping[str, Any] | None) -> BenchRobot:
    """The robot of a record.

    Raises:
        BundleError: There is none, its family is not known, or its fields are not those of the family.
    """
    where = "bundle.json simulator"
    if record is None:
        raise BundleError(
            f"{where}: expected the simulator that stands in for the robot, got none; run the bundle on its robot with "
            "supple.adapt.rows.loop"
        )
    family = record.get("family")
    kind = FAMILIES.get(family) if isinstance(family, str) else None
    if kind is None or set(record) != {"family", "config"}:
        raise BundleError(f"{where}: expected a family of {', '.join(FAMILIES)}, got {family!r}; export again")
    robot: BenchRobot = _read(kind, record["config"], f"{where}.config")
    return robot


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` as an object of type `kind`: a dataclass, a tuple, a literal, or a number, text or nothing."""
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        kinds = (inner[0],) * len(value) if inner[1:] == (Ellipsis,) else inner
        if len(kinds) == len(value):
            return tuple(
                _read(one, item, f"{where}[{i}]") for i, (one, item) in enumerate(zip(kinds, value, strict=True))
            )
    if origin is Literal and value in inner:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        (kind,) = (one for one in inner if one is not NoneType)
        return _read(kind, value, where)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise BundleError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}; export again")


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    names = {item.name for item in fields(kind)}
    if not isinstance(value, Mapping) or set(value) != names:
        found = sorted(value) if isinstance(value, Mapping) else value
        raise BundleError(f"{where}: expected the fields {sorted(names)}, got {found}; export again")
    hints = get_type_hints(kind)
    try:
        return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in names})
    except ConfigError as error:
        raise BundleError(f"{where}: {error}") from error
