"""The contract of a policy bundle: which robot it is for, which networks it holds, and the shape of every weight.

Axes: O observation dim, A action dim, Z skill dim, E task-embedding dim. The weights, all float32:

    normaliser.mean, normaliser.std (O,)
    prior.layers.{i}.weight (out, in), .bias (out,)     O -> ... -> 2Z: loc, log_scale      skill space only
    decoder.layers.{i}.weight, .bias                    O + Z -> ... -> A                   skill space only
    policy.layers.{i}.weight, .bias                     O + E -> ... -> 2Z: residuals on the prior
    critic.layers.{i}.weight (2, out, in), .bias (2, out)   O + Z + E -> ... -> 1, two critics
    encoder.*                                           as declared; see `encoder.py` for what numpy can compute
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, SpecError
from ..robots.spec import RobotSpec

SCHEMA_VERSION = 1
"""Version of `bundle.json`; a reader refuses every other one."""

CRITICS = 2
"""Number of critics, the leading dimension of `critic.*`."""

Weights = Mapping[str, NDArray[np.float32]]
"""Weights by name."""

_NETWORKS = {"skill": ("prior", "decoder", "policy", "critic"), "raw": ("policy", "critic")}


@dataclass(frozen=True, kw_only=True)
class BundleContract:
    """Everything that `bundle.json` says. Immutable; `from_json` checks it whole.

    Raises:
        BundleError: A field is out of range, or a network does not fit the robot.
    """

    robot: RobotSpec
    """The robot that the policy was trained for."""
    action_space: str
    """`skill`: a decoder turns skills into actions. `raw`: the policy's Gaussian is over actions; Z = A, H = 1."""
    skill_horizon: int
    """Low-level steps that one skill lasts, H; 1 for raw."""
    skill_dim: int
    """Z; the action dim for raw."""
    embedding_dim: int
    """E, dimension of the task embedding; > 0."""
    networks: Mapping[str, tuple[int, ...]]
    """Layer sizes by network name, input first; ReLU between layers, none after the last."""
    encoder: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of the task encoder's tensors by name, each name beginning with `encoder.`."""
    prior_scale: float | None = None
    """Raw spaces only: standard deviation of the fixed zero-mean prior; > 0."""
    min_scale: float = 0.001
    """Floor added to the standard deviation of the policy and of the task embedding; > 0."""
    adaptation: Mapping[str, Any] = field(default_factory=dict)
    """Configuration of the adaptation loop, free JSON."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Digests of the inputs, seed, versions; free JSON."""

    def __post_init__(self) -> None:
        """Checks every field against the others."""
        if self.action_space not in _NETWORKS:
            raise _refusal("action_space", f"one of {sorted(_NETWORKS)}", self.action_space)
        for name in ("skill_horizon", "skill_dim", "embedding_dim"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise _refusal(name, "an integer > 0", getattr(self, name))
        if not _is_positive(self.min_scale):
            raise _refusal("min_scale", "a number > 0", self.min_scale)
        if self.action_space == "raw":
            if (self.skill_horizon, self.skill_dim) != (1, self.action_dim):
                raise _refusal(
                    "skill_horizon, skill_dim",
                    f"(1, {self.action_dim}) for raw actions",
                    (self.skill_horizon, self.skill_dim),
                )
            if not _is_positive(self.prior_scale):
                raise _refusal("prior_scale", "a number > 0 for raw actions", self.prior_scale)
        elif self.prior_scale is not None:
            raise _refusal("prior_scale", "none for skills, which have a prior network", self.prior_scale)
        self._check_networks()

    def _check_networks(self) -> None:
        """Checks the ends of every network, and the encoder's names and shapes."""
        expected = _NETWORKS[self.action_space]
        if set(self.networks) != set(expected):
            raise _refusal("networks", f"exactly {sorted(expected)}", sorted(self.networks))
        inputs = {
            "prior": (self.observation_dim, 2 * self.skill_dim),
            "decoder": (self.observation_dim + self.skill_dim, self.action_dim),
            "policy": (self.observation_dim + self.embedding_dim, 2 * self.skill_dim),
            "critic": (self.observation_dim + self.skill_dim + self.embedding_dim, 1),
        }
        for name, sizes in self.networks.items():
            if len(sizes) < 2 or any(type(size) is not int or size < 1 for size in sizes):
                raise _refusal(f"networks.{name}.sizes", "two or more integers > 0", list(sizes))
            if (sizes[0], sizes[-1]) != inputs[name]:
                raise _refusal(
                    f"networks.{name}.sizes",
                    f"{inputs[name][0]} inputs and {inputs[name][1]} outputs",
                    (sizes[0], sizes[-1]),
                )
        for name, shape in self.encoder.items():
            if not name.startswith("encoder.") or any(type(size) is not int or size < 0 for size in shape):
                raise _refusal("encoder", "names that begin with 'encoder.' and shapes of integers", f"{name}: {shape}")

    @property
    def observation_dim(self) -> int:
        """O."""
        return len(self.robot.observation.axes)

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self.robot.action.axes)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight that the bundle holds, by name."""
        shapes: dict[str, tuple[int, ...]] = {
            "normaliser.mean": (self.observation_dim,),
            "normaliser.std": (self.observation_dim,),
        }
        for name, sizes in self.networks.items():
            lead = (CRITICS,) if name == "critic" else ()
            for index, (width_in, width_out) in enumerate(pairwise(sizes)):
                shapes[f"{name}.layers.{index}.weight"] = (*lead, width_out, width_in)
                shapes[f"{name}.layers.{index}.bias"] = (*lead, width_out)
        return shapes | dict(self.encoder)

    def check_weights(self, weights: Mapping[str, NDArray[Any]], where: str) -> None:
        """Checks names, shapes, dtype and finiteness of all weights.

        Args:
            weights: Weights by name.
            where: Who hands them over, for the message.

        Raises:
            BundleError: A weight is missing, unknown, of another shape or dtype, or not finite.
        """
        shapes = self.weight_shapes()
        check_tensors(weights, shapes, where, "export the bundle again")
        if not (weights["normaliser.std"] > 0).all():
            axis = self.robot.observation.names[int(np.argmin(weights["normaliser.std"]))]
            raise BundleError(
                f"{where}: expected normaliser.std > 0, got {weights['normaliser.std'].min()} for axis '{axis}'; "
                "give constant axes a standard deviation of 1 and export again"
            )

    def to_json(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        data: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "kind": "simpl",
            "robot": self.robot.to_json(),
            "action_space": self.action_space,
            "skill_horizon": self.skill_horizon,
            "skill_dim": self.skill_dim,
            "embedding_dim": self.embedding_dim,
            "min_scale": self.min_scale,
            "networks": {name: {"sizes": list(s), "activation": "relu"} for name, s in self.networks.items()},
            "encoder": {name: list(shape) for name, shape in self.encoder.items()},
            "adaptation": dict(self.adaptation),
            "provenance": dict(self.provenance),
        }
        if self.prior_scale is not None:
            data["prior_scale"] = self.prior_scale
        return data

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> BundleContract:
        """The contract that `to_json` wrote.

        Raises:
            BundleError: The schema version or kind is another, a field is missing, unknown or of the wrong type, or
                the fields do not fit each other.
        """
        if not isinstance(data, Mapping):
            raise _refusal("content", "an object", type(data).__name__)
        if data.get("schema_version") != SCHEMA_VERSION:
            raise BundleError(
                f"bundle.json schema_version: expected {SCHEMA_VERSION}, got {data.get('schema_version')!r}; "
                "export the bundle with this version of supple, or load it with the version that wrote it"
            )
        if data.get("kind") != "simpl":
            raise _refusal("kind", "'simpl'", data.get("kind"))
        known = {item.name for item in fields(BundleContract)} | {"schema_version", "kind"}
        if unknown := sorted(set(data) - known):
            raise _refusal("keys", f"only {sorted(known)}", f"unknown {unknown}")
        if missing := sorted(known - {"prior_scale"} - set(data)):
            raise _refusal("keys", f"all of {sorted(known - {'prior_scale'})}", f"none for {missing}")
        for name in ("robot", "networks", "encoder", "adaptation", "provenance"):
            if not isinstance(data[name], Mapping):
                raise _refusal(name, "an object", type(data[name]).__name__)
        return BundleContract(
            robot=_robot_from(data["robot"]),
            action_space=data["action_space"],
            skill_horizon=data["skill_horizon"],
            skill_dim=data["skill_dim"],
            embedding_dim=data["embedding_dim"],
            min_scale=data["min_scale"],
            prior_scale=data.get("prior_scale"),
            networks={name: _sizes_from(name, network) for name, network in data["networks"].items()},
            encoder={name: _shape_from(f"encoder.{name}", shape) for name, shape in data["encoder"].items()},
            adaptation=data["adaptation"],
            provenance=data["provenance"],
        )


def check_tensors(
    tensors: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], where: str, remedy: str
) -> None:
    """Checks that `tensors` are exactly those of `shapes`, float32 and finite.

    Args:
        tensors: Arrays by name.
        shapes: The expected shape of each, by name.
        where: File or caller, for the message.
        remedy: What to do about it, for the message.

    Raises:
        BundleError: Names the first array that is missing, unknown, of another shape or dtype, or not finite.
    """
    if missing := sorted(set(shapes) - set(tensors)):
        raise BundleError(f"{where}: expected tensor '{missing[0]}' {shapes[missing[0]]}, got none; {remedy}")
    if unknown := sorted(set(tensors) - set(shapes)):
        raise BundleError(f"{where}: expected only tensors that bundle.json declares, got '{unknown[0]}'; {remedy}")
    for name, shape in shapes.items():
        array = tensors[name]
        if array.shape != shape or array.dtype != np.float32:
            raise BundleError(
                f"{where}: expected '{name}' of shape {shape} and dtype float32, "
                f"got {array.shape} {array.dtype}; {remedy}"
            )
        if not np.isfinite(array).all():
            raise BundleError(f"{where}: expected finite '{name}', got {array[~np.isfinite(array)][0]}; {remedy}")


def _robot_from(data: Mapping[str, Any]) -> RobotSpec:
    try:
        robot = RobotSpec.from_json(dict(data))
    except SpecError as error:
        raise BundleError(f"bundle.json robot: {error}") from error
    if robot.to_json() != data:
        raise _refusal("robot", f"the fields {sorted(robot.to_json())} as RobotSpec writes them", sorted(data))
    return robot


def _sizes_from(name: str, data: object) -> tuple[int, ...]:
    if not isinstance(data, Mapping) or set(data) != {"sizes", "activation"}:
        raise _refusal(f"networks.{name}", "an object with sizes and activation", data)
    if data["activation"] != "relu":
        raise _refusal(f"networks.{name}.activation", "'relu'", data["activation"])
    return _shape_from(f"networks.{name}.sizes", data["sizes"])


def _shape_from(name: str, data: object) -> tuple[int, ...]:
    if not isinstance(data, list | tuple):
        raise _refusal(name, "a list of integers", data)
    return tuple(data)


def _is_positive(value: object) -> bool:
    """Whether `value` is a finite number > 0 (a bool is not a number here)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _refusal(name: str, expected: str, got: object) -> BundleError:
    return BundleError(f"bundle.json {name}: expected {expected}, got {got!r}; export the bundle again")
