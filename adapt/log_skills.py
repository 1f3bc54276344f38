"""The skills of logs for an agent that chooses no skills: it commands what their decoder says in each state.

A learner over raw or unit actions knows no skills. The logs bring theirs along: the scale of observations, the decoder,
and how many steps a skill lasts. The learner takes in each command as an action of its own.

Axes: O observation, Z latent, A action.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from ..robots.spec import RobotSpec
from .bundle_folder import check_tensors
from .spaces import RowSpace, SpaceSettings, split_prefix

PREFIX = "skills."
"""What begins so among the arrays of logs belongs to their skills."""
_HORIZON = f"{PREFIX}horizon"


def pack_skills(settings: SpaceSettings, weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Skills as logs hold them, of the settings and weights of a skill space; its prior stays behind."""
    kept = {name: value for name, value in weights.items() if not name.startswith("space.prior.")}
    return {_HORIZON: np.array([settings.horizon], np.int32), **{f"{PREFIX}{k}": v for k, v in kept.items()}}


def drop_skills(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Logs for an agent that chooses skills itself."""
    return {name: value for name, value in arrays.items() if not name.startswith(PREFIX)}


def read_skills(arrays: Mapping[str, NDArray[Any]], robot: RobotSpec, where: str) -> RowSpace:
    """What `pack_skills` gave.

    Args:
        arrays: Of the logs.
        robot: That they are for.
        where: Begins the error.

    Raises:
        BundleError: A part is missing, or belongs to another robot or to other skills.
    """
    horizon, weights = arrays.get(_HORIZON), split_prefix(arrays, f"{PREFIX}space.")
    if horizon is None or horizon.shape != (1,) or horizon.dtype != np.int32 or horizon[0] < 1:
        raise BundleError(
            f"{where}: expected the skills of the logs, which an agent over actions needs, got none; map the logs again"
        )
    weights = {f"space.{name}": value for name, value in weights.items()}
    dim, latent = len(robot.observation.axes), arrays["skill"].shape[1]
    widths: list[int] = []
    while (bias := weights.get(f"space.decoder.layers.{len(widths)}.bias")) is not None:
        widths.append(bias.size)
    sizes = (dim + latent, *widths[:-1], len(robot.action.axes))
    settings = SpaceSettings(name="skill", horizon=int(horizon[0]), latent_dim=latent, decoder=sizes)
    check_tensors(weights, settings.weight_shapes(dim), where, "map the logs again")
    if not (weights["space.std"] > 0).all():
        raise BundleError(f"{where}: expected space.std > 0, got {weights['space.std'].min()}; map the logs again")
    return RowSpace(settings, robot, weights)
