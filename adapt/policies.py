"""Multilayer perceptrons as policies in numpy, with parameters of their own for each row; see `meta/policy.py`.

Axes: R rows, r rows still running, O observation, I inputs, U outputs, Z latent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from ..errors import RunError
from .contract import BundleContract
from .distribution import draw, draw_gaussian
from .networks import Array, Gaussian, Shapes, compute_mlp, mlp_shapes, residual_scale
from .policy_settings import PolicySettings
from .runtime_agent import Noise, SeenRows
from .settings import refuse
from .spaces import RowSpace

LOG_SCALE_LOW = np.float32(math.log(1e-6))
"""Smallest log standard deviation, as in `meta/policy.py`."""
CRITICS = 2
MIN_SCALE = 1e-3
"""Smallest standard deviation of a residual policy, as in `meta/simpl/networks.py`."""


def policy_shapes(contract: BundleContract, settings: PolicySettings, inputs: int | None = None) -> Shapes:
    """Shapes of `policy.*`; `inputs` is O unless the policy reads more."""
    discrete, own = contract.space.name == "choice", settings.scale == "parameter"
    if settings.scale == "residual" and discrete:
        raise refuse("bundle.json learner.scale", "parameter or output for choices", settings.scale)
    inputs = contract.observation_dim if inputs is None else inputs
    outputs = contract.choice_width if own else contract.policy_width
    shapes = mlp_shapes("policy", (inputs, *settings.hidden, outputs))
    return {**shapes, "policy.log_scale": (outputs,)} if own and not discrete else shapes


def critic_shapes(owner: str, sizes: tuple[int, ...]) -> Shapes:
    """Shapes of critics of these widths, input first, which are stacked in front, as in `StackedMLP`."""
    shapes: Shapes = {}
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        shapes[f"{owner}.weights.{index}"] = (CRITICS, inputs, outputs)
        shapes[f"{owner}.biases.{index}"] = (CRITICS, 1, outputs)
    return shapes


def take_params(params: Mapping[str, Array], like: Mapping[str, Array], rows: int, where: str) -> dict[str, Array]:
    """The parameters of N tasks that R rows act by, R / N consecutive rows each.

    Args:
        params: By name, each (N, ...).
        like: The same of one task, (...).
        rows: R.
        where: Begins the error.

    Raises:
        RunError: One is missing or has another shape.
    """
    found = {name: params[name].shape for name in like if name in params and params[name].ndim}
    tasks = next((shape[0] for shape in found.values()), 0)
    expected = tasks if tasks and rows % tasks == 0 else rows
    for name, value in like.items():
        if found.get(name) != (expected, *value.shape):
            raise RunError(
                f"{where}: expected '{name}' of shape {(expected, *value.shape)}, got {found.get(name)}; adapt again"
            )
    return {name: np.asarray(params[name], np.float32) for name in like}


def compute_residual(output: Array, prior: Gaussian) -> Gaussian:
    """The policy of a network's output (..., 2 Z) over latents, as a correction of the prior; see `SCALES`."""
    shift, scale_shift = np.split(output, 2, axis=-1)
    return Gaussian(prior.loc + shift, residual_scale(prior.scale, scale_shift, MIN_SCALE))


def compute_rows(params: Mapping[str, Array], settings: PolicySettings, observation: Array) -> Array:
    """The output of each row's own network, (R, U): logits or means; the observation is (R, O).

    `params` are (N, ...): N tasks with R / N consecutive rows each.
    """
    tasks = max(len(params["layers.0.bias"]), 1)
    stacked = observation.reshape(tasks, -1, observation.shape[-1])
    return compute_mlp(params, "", stacked, settings.activation).reshape(len(observation), -1)


def choose_rows(
    space: RowSpace, settings: PolicySettings, params: Mapping[str, Array], inputs: Array, seen: SeenRows, noise: Noise
) -> tuple[Array, Array]:
    """The outputs of all rows, (R, U), and a latent for each running one, (r, Z).

    Args:
        space: What is chosen.
        settings: The network.
        params: Of every row, (R, ...).
        inputs: Of every row, (R, I), see `spread_rows`.
        seen: Which rows still run.
        noise: Drawn for all rows, as the trainer does, so that rows that ended do not change what the others draw; but
            for a correction of the prior only for those that run.
    """
    output = compute_rows(params, settings, inputs)
    if settings.scale == "residual":
        policy = compute_residual(output[seen.rows], space.prior_of(seen.observation))
        return output, draw_gaussian(policy, noise, greedy=settings.greedy)
    if space.choices or settings.scale == "output":
        choice = draw(space, output[:, None], noise, greedy=settings.greedy)
    else:
        policy = Gaussian(output[:, None], _scale_of(params, len(output))[:, None])
        choice = draw_gaussian(policy, noise, greedy=settings.greedy)
    return output, space.to_latent(choice[seen.rows, 0], seen.observation)


def _scale_of(params: Mapping[str, Array], rows: int) -> Array:
    scale: Array = np.exp(np.maximum(params["log_scale"], LOG_SCALE_LOW))
    return scale.repeat(rows // len(scale), axis=0)


def spread_rows(space: RowSpace, seen: SeenRows, rows: int) -> Array:
    """Normalised observations of R rows, (R, O); zeros in rows that have ended."""
    table = np.zeros((rows, seen.observation.shape[1]), np.float32)
    table[seen.rows] = space.normalise(seen.observation)
    return table
