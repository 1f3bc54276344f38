"""The action spaces of `meta/space.py` in numpy: what an agent's latent means to the robot.

    choice   the index of one of the robot's named actions
    unit     actions on a scale on which the robot's limits are -1 and 1
    raw      actions in the robot's units
    skill    a skill, which a decoder turns into actions for `horizon` steps; the prior is the skill prior

Axes: r rows, O observation, A action, Z latent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..bounds import Count, Layers, Width
from ..robots.spec import RobotSpec
from .networks import Array, Gaussian, Shapes, Weights, compute_mlp, mlp_shapes, scale_from_log
from .settings import refuse

_WHERE = "bundle.json space"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSettings:
    """What `bundle.json` says of the action space.

    Raises:
        BundleError: The sizes are not those of such a space.
    """

    name: Literal["choice", "unit", "raw", "skill"]
    """What is chosen."""
    horizon: Count = 1
    """Low-level steps that one latent lasts, H."""
    latent_dim: Width = 1
    """Z; 1 for choices, the action dim for unit and raw."""
    prior: Layers = ()
    """Layer sizes of the skill prior, O -> ... -> 2 Z; skills only."""
    decoder: Layers = ()
    """Layer sizes of the decoder, O + Z -> ... -> A; skills only."""

    def __post_init__(self) -> None:
        if self.name != "skill" and (self.horizon != 1 or self.prior or self.decoder):
            raise refuse(f"{_WHERE}.horizon, prior, decoder", "1 and no networks without skills", self.horizon)

    def require_robot(self, robot: RobotSpec) -> None:
        """Checks the sizes against the robot's.

        Raises:
            BundleError: They do not fit.
        """
        observation, action = len(robot.observation.axes), len(robot.action.axes)
        if self.name == "choice" and not robot.choices:
            got = f"choice for robot '{robot.name}', which has none"
            raise refuse(f"{_WHERE}.name", "a robot with named choices", got)
        if self.name == "unit" and not (np.isfinite(robot.action.low) & np.isfinite(robot.action.high)).all():
            raise refuse(f"{_WHERE}.name", "finite limits on every action axis for unit actions", robot.name)
        if self.name != "skill":
            wanted = 1 if self.name == "choice" else action
            if self.latent_dim != wanted:
                raise refuse(f"{_WHERE}.latent_dim", f"{wanted}", self.latent_dim)
            return
        ends = {
            "prior": (observation, 2 * self.latent_dim),
            "decoder": (observation + self.latent_dim, action),
        }
        for name, (first, last) in ends.items():
            sizes = getattr(self, name)
            if len(sizes) < 2 or (sizes[0], sizes[-1]) != (first, last):
                raise refuse(f"{_WHERE}.{name}", f"{first} inputs and {last} outputs", list(sizes))

    def weight_shapes(self, observation_dim: int) -> Shapes:
        """Shape of every weight of the space, by name; all begin with `space.`."""
        shapes: Shapes = {}
        if self.name in ("raw", "skill"):
            shapes |= {"space.mean": (observation_dim,), "space.std": (observation_dim,)}
        for name in ("prior", "decoder"):
            shapes |= mlp_shapes(f"space.{name}", getattr(self, name))
        return shapes


class RowSpace:
    """One of the spaces, for rows of robots side by side."""

    def __init__(self, settings: SpaceSettings, robot: RobotSpec, weights: Weights) -> None:
        """Takes what it needs of the bundle's weights, `space.*`."""
        self._settings, self._weights = settings, weights
        self.latent_dim = settings.latent_dim
        """Z."""
        self.horizon = settings.horizon
        """Low-level steps per decision, H."""
        self.choices = len(robot.choices) if settings.name == "choice" else 0
        """Number of choices; 0 where the latent is none."""
        self._low, self._high = robot.action.low.copy(), robot.action.high.copy()
        if settings.name == "unit":
            self._middle, self._half = (self._low + self._high) / 2.0, (self._high - self._low) / 2.0

    @property
    def width(self) -> int:
        """Numbers by which a network reads a choice: one per choice, or Z."""
        return self.choices or self.latent_dim

    def normalise(self, observation: Array) -> Array:
        """Observations (..., O) on the scale that networks see."""
        if "space.mean" not in self._weights:
            return observation
        scaled: Array = (observation - self._weights["space.mean"]) / self._weights["space.std"]
        return scaled

    def prior_of(self, observation: Array) -> Gaussian:
        """The prior over latents in these observations (..., O), each (..., Z); choices have none."""
        if self._settings.name == "skill":
            output = compute_mlp(self._weights, "space.prior", self.normalise(observation))
            loc, log_scale = np.split(output, 2, axis=-1)
            return Gaussian(loc, scale_from_log(log_scale))
        shape = (*observation.shape[:-1], 0 if self.choices else self.latent_dim)
        return Gaussian(np.zeros(shape, np.float32), np.ones(shape, np.float32))

    def to_latent(self, choice: Array, observation: Array) -> Array:
        """The latent of u, a choice's own index or in units of the prior, both (..., Z)."""
        if self._settings.name != "skill":
            return choice
        prior = self.prior_of(observation)
        latent: Array = prior.loc + prior.scale * choice
        return latent

    def to_choice(self, latent: Array, observation: Array) -> Array:
        """U of a latent, the inverse of `to_latent`, both (..., Z)."""
        if self._settings.name != "skill":
            return latent
        prior = self.prior_of(observation)
        choice: Array = (latent - prior.loc) / prior.scale
        return choice

    def encode(self, choice: Array) -> Array:
        """U as a network reads it, (..., Z) -> (..., width): one-hot, or as it is."""
        if not self.choices:
            return choice
        return np.eye(self.choices, dtype=np.float32)[choice[..., 0].astype(np.int64)]

    def invert(self, command: Array) -> Array | None:
        """The latent (..., Z) that commands this (..., A) wherever the robot is; None for skills."""
        if self._settings.name == "skill":
            return None
        if self._settings.name == "unit":
            unit: Array = ((command - self._middle) / self._half).astype(np.float32)
            return unit
        return command

    def ask(self, latent: Array) -> tuple[Array, float]:
        """The command that a latent asks for, before limits, in the robot's units, and the log of their volume.

        The density of the command is that of the latent, less the log. A skill is no command, and stays as it is.
        """
        if self._settings.name != "unit":
            return latent, 0.0
        return self._middle + latent * self._half, float(np.log(self._half.astype(np.float64)).sum())

    def hold(self, latent: Array) -> Callable[[Array], Array]:
        """The low-level controller of latents (r, Z): observation (r, O) -> action (r, A), within the limits."""
        if self._settings.name == "skill":

            def control(observation: Array) -> Array:
                inputs = np.concatenate([self.normalise(observation), latent], axis=-1)
                return np.clip(compute_mlp(self._weights, "space.decoder", inputs), self._low, self._high)

            return control
        action = self.ask(latent)[0]
        if not self.choices:
            action = np.clip(action, self._low, self._high)
        return lambda observation: action


def split_prefix(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
