"""What `bundle.json` says of a policy that is a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import BundleError
from .networks import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda value: np.maximum(value, np.float32(0.0)),
    "tanh": np.tanh,
}

SCALES = ("parameter", "output", "residual")
"""`log_scale`, which is the same everywhere; or the second half of the network's output (SAC); or a correction of the
space's prior: the first half shifts its mean, the second its scale before the softplus (SiMPL, SPiRL)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
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
