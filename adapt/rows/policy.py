"""Multilayer perceptrons as policies in numpy, with parameters of their own for each row; see `meta/policy.py`.

Axes: R rows, r rows still running, O observation, I inputs, U outputs, Z latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import BundleError, RunError
from ..agent_runtime import Noise, SeenRows
from ..contract import Weights
from ..learner_contract import LearnerContract
from ..networks import Array, Gaussian, residual_scale
from .distribution import draw, draw_gaussian
from .space import RowSpace, mlp_shapes

LOG_SCALE_LOW = np.float32(math.log(1e-6))
"""Smallest log standard deviation, as in `meta/policy.py`."""
MIN_SCALE = 1e-3
"""Smallest standard deviation of a residual policy, as in `meta/simpl/networks.py`."""
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda value: np.maximum(value, np.float32(0.0)),
    "tanh": np.tanh,
}

SCALES = ("parameter", "output", "residual")
"""`log_scale`, which is the same everywhere; or the second half of the network's output (SAC); or a correction of the
space's prior: the first half shifts its mean, the second its scale before the softplus (SiMPL, SPiRL)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFacts:
    """A multilayer perceptron in `bundle.json`.

    Raises:
        BundleError: A width is not positive, or the activation or the scale unknown.
    """

    hidden: tuple[int, ...]
    """Widths of the hidden layers."""
    activation: str
    """A name in `ACTIVATIONS`."""
    greedy: bool = False
    """Act by the mode."""
    scale: str = "parameter"
    """Where a Gaussian's scale comes from, a name in `SCALES`."""

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.hidden):
            raise BundleError(
                f"bundle.json learner.hidden: expected positive widths, got {self.hidden}; export the bundle again"
            )
        if self.activation not in ACTIVATIONS:
            raise BundleError(
                f"bundle.json learner.activation: expected {' or '.join(ACTIVATIONS)}, got {self.activation!r}; export "
                "the bundle again"
            )
        if self.scale not in SCALES:
            raise BundleError(
                f"bundle.json learner.scale: expected {' or '.join(SCALES)}, got {self.scale!r}; export the bundle "
                "again"
            )


def policy_shapes(
    contract: LearnerContract, facts: PolicyFacts, inputs: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Shapes of `policy.*`; `inputs` is O unless the policy reads more."""
    discrete = contract.space.name == "choice"
    outputs = len(contract.robot.choices) if discrete else contract.space.latent_dim
    if facts.scale == "residual" and discrete:
        raise BundleError(
            "bundle.json learner.scale: expected parameter or output for choices, got 'residual'; export it"
        )
    if facts.scale != "parameter" and not discrete:
        outputs *= 2
    inputs = contract.observation_dim if inputs is None else inputs
    shapes = mlp_shapes("policy", (inputs, *facts.hidden, outputs))
    return shapes if discrete or facts.scale != "parameter" else {**shapes, "policy.log_scale": (outputs,)}


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


def run_mlp(weights: Weights, name: str, value: Array, activation: str) -> Array:
    """The network `name` on rows, (r, I) -> (r, U), with an activation of `ACTIVATIONS` between its layers."""
    index = 0
    while f"{name}.layers.{index}.weight" in weights:
        if index:
            value = ACTIVATIONS[activation](value)
        value = value @ weights[f"{name}.layers.{index}.weight"].T + weights[f"{name}.layers.{index}.bias"]
        index += 1
    return value


def compute_residual(output: Array, prior: Gaussian) -> Gaussian:
    """The policy of a network's output (..., 2 Z) over latents, as a correction of the prior; see `SCALES`."""
    shift, scale_shift = np.split(output, 2, axis=-1)
    return Gaussian(prior.loc + shift, residual_scale(prior.scale, scale_shift, MIN_SCALE))


def compute_rows(params: Mapping[str, Array], facts: PolicyFacts, observation: Array) -> Array:
    """The output of each row's own network, (R, U): logits or means; the observation is (R, O).

    `params` are (N, ...): N tasks with R / N consecutive rows each.
    """
    tasks = max(len(params["layers.0.bias"]), 1)
    return compute_stack(params, facts, observation.reshape(tasks, -1, observation.shape[-1])).reshape(
        len(observation), -1
    )


def compute_stack(params: Mapping[str, Array], facts: PolicyFacts, value: Array) -> Array:
    """The output of S networks at L inputs each, (S, L, U): logits or means; params (S, ...), inputs (S, L, I)."""
    for index in range(len(facts.hidden) + 1):
        weight, bias = params[f"layers.{index}.weight"], params[f"layers.{index}.bias"]
        value = value @ np.swapaxes(weight, -1, -2) + bias[:, None]
        if index < len(facts.hidden):
            value = ACTIVATIONS[facts.activation](value)
    return value


def choose_rows(
    space: RowSpace, facts: PolicyFacts, params: Mapping[str, Array], inputs: Array, seen: SeenRows, noise: Noise
) -> tuple[Array, Array]:
    """The outputs of all rows, (R, U), and a latent for each running one, (r, Z).

    Args:
        space: What is chosen.
        facts: The network.
        params: Of every row, (R, ...).
        inputs: Of every row, (R, I), see `spread_rows`.
        seen: Which rows still run.
        noise: Drawn for all rows, as the trainer does, so that rows that ended do not change what the others draw; but
            for a correction of the prior only for those that run.
    """
    output = compute_rows(params, facts, inputs)
    if facts.scale == "residual":
        policy = compute_residual(output[seen.rows], space.prior_of(seen.observation))
        return output, draw_gaussian(policy, noise, greedy=facts.greedy)
    if space.choices or facts.scale == "output":
        choice = draw(space, output[:, None], noise, greedy=facts.greedy)
    else:
        scale = np.exp(np.maximum(params["log_scale"], LOG_SCALE_LOW))
        scale = scale.repeat(len(output) // len(scale), axis=0)
        choice = draw_gaussian(Gaussian(output[:, None], scale[:, None]), noise, greedy=facts.greedy)
    return output, space.to_latent(choice[seen.rows, 0], seen.observation)


def spread_rows(space: RowSpace, seen: SeenRows, rows: int) -> Array:
    """Normalised observations of R rows, (R, O); zeros in rows that have ended."""
    table = np.zeros((rows, seen.observation.shape[1]), np.float32)
    table[seen.rows] = space.normalise(seen.observation)
    return table
