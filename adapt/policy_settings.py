"""What `bundle.json` says of a policy that is a multilayer perceptron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..bounds import Layers
from .networks import Activation

Scale = Literal["parameter", "output", "residual"]
"""`log_scale`, which is the same everywhere; or the second half of the network's output (SAC); or a correction of the
space's prior: the first half shifts its mean, the second its scale before the softplus (SiMPL, SPiRL)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """A multilayer perceptron in `bundle.json`."""

    hidden: Layers
    """Widths of the hidden layers."""
    activation: Activation
    """Between layers."""
    greedy: bool = False
    """Act by the mode."""
    scale: Scale = "parameter"
    """Where a Gaussian's scale comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingSettings:
    """What kinds have in common whose networks are such perceptrons, with a scale that is a parameter."""

    hidden: Layers
    """Widths of the hidden layers."""
    activation: Activation
    """Between layers."""

    @property
    def policy(self) -> PolicySettings:
        """Of the acting policy."""
        return PolicySettings(hidden=self.hidden, activation=self.activation)
