"""What the arrays of a data set mean: names, units, roles, control period and robot, as JSON with a version.

A schema is data: it lies in the episode store, counts in its digest, and is all that a reader of the store may assume.
Legend: T time steps of one episode, dim number of axes of one feature.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..errors import SpecError
from ..robots.spec import ImageSpec, RobotSpec

SCHEMA_VERSION = 2
"""Of a store without pictures. Raised when the meaning of a field changes; a store of an unknown version is refused,
never guessed at."""
IMAGE_VERSION = 3
"""Of a store with pictures, which programs of version 2 cannot read; it differs in nothing else."""
NAMED_ROBOT_VERSION = 1
"""In this version `robot` was a name, which says nothing of limits; such a store opens, its robot is unknown."""

Role = Literal["observation", "action", "reward", "state", "goal", "image", "other"]
_ROLES: tuple[str, ...] = get_args(Role)
_DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
IMAGE = "image"
"""Name of the feature with the pictures that a robot's spec speaks of."""
VALID = "valid"
"""Name of the feature with the store's own mark of each step: 0 where a log keeps a step that was not measured in all
its parts. An array that a source calls so gets another name, see `side_arrays.name_side`."""
IMAGE_AXES = ("height", "width", "channel")
"""Axes of a feature with the role `image`."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One array per step: `(T,)` when `shape` is `()`, `(T, dim)` when it is `(dim,)`.

    With the role `image` it is uint8, the shape is (height, width, channels), and the axes are these three.

    Raises:
        SpecError: the name, dtype, shape, role, axes or units do not fit together.
    """

    name: str
    """Lower-case identifier; the array's name in the store."""
    dtype: str = "float32"
    """numpy name of the element type."""
    shape: tuple[int, ...]
    """Shape of one step."""
    units: tuple[str, ...]
    """SI unit of each axis ("m", "rad/s"; "" where there is none or it is unknown)."""
    role: Role
    """What the feature is to a policy."""
    axes: tuple[str, ...]
    """Name of each axis, in order."""

    def __post_init__(self) -> None:
        where = f"feature {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise SpecError(f"{where}: expected a name of a-z, 0-9 and _, got {self.name!r}; rename it")
        if self.dtype not in _DTYPES:
            raise SpecError(f"{where}: expected dtype of {', '.join(_DTYPES)}, got {self.dtype!r}; convert the data")
        if self.role == "image":
            self._check_image(where)
            return
        if len(self.shape) > 1 or any(size < 1 for size in self.shape):
            raise SpecError(f"{where}: expected shape () or (dim,), got {self.shape}; flatten the data")
        if self.role not in _ROLES:
            raise SpecError(f"{where}: expected role of {', '.join(_ROLES)}, got {self.role!r}; correct the role")
        width = self.shape[0] if self.shape else 1
        for label, names in (("axes", self.axes), ("units", self.units)):
            if len(names) != width:
                raise SpecError(f"{where}: expected {width} {label}, got {len(names)}; give one per axis")
        if len(set(self.axes)) != width:
            raise SpecError(f"{where}: expected distinct axes, got {self.axes}; rename the repeated one")

    def _check_image(self, where: str) -> None:
        if self.dtype != "uint8" or len(self.shape) != 3:
            raise SpecError(
                f"{where}: expected pictures as uint8 of shape (height, width, channels), got {self.dtype} "
                f"{self.shape}; convert them to bytes"
            )
        ImageSpec(*self.shape)
        if self.axes != IMAGE_AXES or self.units != ("",) * 3:
            raise SpecError(
                f"{where}: expected the axes {', '.join(IMAGE_AXES)} without units, got {self.axes} and {self.units}; "
                "make the feature with make_image_feature"
            )


def make_image_feature(name: str, shape: tuple[int, ...]) -> Feature:
    """The feature of pictures of shape (height, width, channels).

    Raises:
        SpecError: the shape is none of pictures.
    """
    return Feature(name=name, dtype="uint8", shape=shape, units=("",) * 3, role="image", axes=IMAGE_AXES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The features of every step, the clock they were taken on and the robot they came from.

    Raises:
        SpecError: no feature, two of the same name, a control period that is not a positive number, or a robot whose
            axes, units or control period are others.
    """

    features: tuple[Feature, ...]
    """In the order in which they are stored."""
    control_period: float | None = None
    """Seconds between two steps; None when the source does not say."""
    robot: RobotSpec | None = None
    """Of the robot that the data are from; `observation` and `action` then lie within its limits. None where nobody
    said."""

    def __post_init__(self) -> None:
        names = self.names
        if not names or len(set(names)) != len(names):
            raise SpecError(f"schema: expected at least one feature and distinct names, got {names}; correct the list")
        period = self.control_period
        if period is not None and not (math.isfinite(period) and period > 0):
            raise SpecError(f"schema: expected control_period > 0, got {period} s; give the robot's period")
        if self.robot is not None:
            self._check_robot(self.robot)

    def _check_robot(self, robot: RobotSpec) -> None:
        where = f"schema of robot '{robot.name}'"
        if self.control_period != robot.control_period:
            raise SpecError(
                f"{where}: expected control_period {robot.control_period} s, got {self.control_period} s; "
                "give the robot's period"
            )
        for name, array in (("observation", robot.observation), ("action", robot.action)):
            feature = self.feature(name)
            expected = [(axis.name, axis.unit) for axis in array.axes]
            got = list(zip(feature.axes, feature.units, strict=True))
            if got != expected:
                raise SpecError(f"{where}: expected {name} axes and units {expected}, got {got}; name the axes so")
        if robot.image is not None:
            names = self.names
            if IMAGE not in names:
                raise SpecError(
                    f"{where}: expected the pictures of its camera in the feature {IMAGE}, got {', '.join(names)}; "
                    "do not leave the pictures out (--only, --skip), or name a robot without a camera"
                )
            feature = self.feature(IMAGE)
            if feature.role != "image" or feature.shape != robot.image.shape:
                raise SpecError(
                    f"{where}: expected pictures of shape {robot.image.shape}, got {feature.role} of shape "
                    f"{feature.shape}; use the pictures of that robot"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in stored order."""
        return tuple(feature.name for feature in self.features)

    @property
    def version(self) -> int:
        """With which `to_json` writes it."""
        return IMAGE_VERSION if any(feature.role == "image" for feature in self.features) else SCHEMA_VERSION

    def feature(self, name: str) -> Feature:
        """The feature of that name.

        Raises:
            SpecError: there is none; the message lists the known names.
        """
        for feature in self.features:
            if feature.name == name:
                return feature
        raise SpecError(f"schema: expected a feature of {', '.join(self.names)}, got {name!r}; choose one of these")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the schema version."""
        return {
            "schema_version": self.version,
            "robot": None if self.robot is None else self.robot.to_json(),
            "control_period": self.control_period,
            "features": [
                {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(feature).items()}
                for feature in self.features
            ],
        }

    @classmethod
    def from_json(cls, value: object, where: str = "schema") -> Schema:
        """Reads what `to_json` wrote.

        Raises:
            SpecError: another schema version, an unknown or missing field, or a field of the wrong type.
        """
        fields = _fields(value, ("schema_version", "robot", "control_period", "features"), where)
        version, period, robot, features = (
            fields[name] for name in ("schema_version", "control_period", "robot", "features")
        )
        if type(version) is not int or version not in (NAMED_ROBOT_VERSION, SCHEMA_VERSION, IMAGE_VERSION):
            newer = type(version) is int and version > IMAGE_VERSION
            raise SpecError(
                f"{where}: expected schema_version {NAMED_ROBOT_VERSION}, {SCHEMA_VERSION} or {IMAGE_VERSION}, got "
                f"{version!r:.40}; "
                + ("install the version of supple that wrote it" if newer else "ingest the source again")
            )
        known: type = str if version == NAMED_ROBOT_VERSION else dict
        if not (period is None or type(period) in (int, float)) or not (robot is None or isinstance(robot, known)):
            raise SpecError(f"{where}: expected a number and a robot, got {period!r} s and {robot!r}; ingest again")
        if not isinstance(features, list):
            raise SpecError(f"{where}: expected a list of features, got {type(features).__name__}; ingest again")
        try:
            seconds = None if period is None else float(period)
        except OverflowError as error:
            raise SpecError(f"{where}: expected a control_period in seconds, got {error}; ingest again") from error
        schema = cls(
            features=tuple(_feature(item, where) for item in features),
            control_period=seconds,
            robot=RobotSpec.from_json(robot) if isinstance(robot, dict) else None,
        )
        if (version == IMAGE_VERSION) != (schema.version == IMAGE_VERSION):
            raise SpecError(
                f"{where}: expected schema_version {schema.version} for these features, got {version}; "
                "ingest the source again"
            )
        return schema


def _feature(value: object, where: str) -> Feature:
    fields = _fields(value, ("name", "dtype", "shape", "units", "role", "axes"), where)
    lists: dict[str, type] = {"shape": int, "units": str, "axes": str}
    for key, item in fields.items():
        if key in lists:
            good = isinstance(item, list) and all(type(entry) is lists[key] for entry in item)
        else:
            good = isinstance(item, str)
        if not good:
            raise SpecError(f"{where}: expected feature field {key} of its type, got {item!r}; ingest again")
    return Feature(
        name=fields["name"],
        dtype=fields["dtype"],
        shape=tuple(fields["shape"]),
        units=tuple(fields["units"]),
        role=fields["role"],
        axes=tuple(fields["axes"]),
    )


def _fields(value: object, names: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or set(value) != set(names):
        got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise SpecError(f"{where}: expected the fields {', '.join(names)}, got {got}; ingest the source again")
    return {str(key): item for key, item in value.items()}
