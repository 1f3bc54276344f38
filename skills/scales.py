"""The scales on which the nets see observations and actions, so that the units of the data change nothing.

Both are buffers of the skill model: checkpoints carry them.

Axes: N steps of the data, O observation, A action.
"""

import math

import torch
from torch import Tensor, nn

from ..errors import SpecError
from ..robots.spec import ArraySpec

SMALLEST_SHARE = 1e-6
"""An axis counts as constant when its standard deviation is at most this share of its largest magnitude: the resolution
of float32."""
QUIET_SHARE = 0.05
"""Of the largest standard deviation of observations with the same unit: an axis that varies less is scaled by this
share of it. What varies in the data by its noise alone would else be enlarged to 1, and a network would see hundreds of
it once that part of the robot is moved."""


def compute_spread(values: Tensor, width: int, where: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each axis of (N, width), in float64; the deviation of a constant axis is 0.

    Raises:
        SpecError: If there is no row, the width differs or a value is not finite.
    """
    if values.ndim != 2 or values.shape[0] == 0 or values.shape[1] != width:
        raise SpecError(f"{where}: expected shape (N > 0, {width}), got {tuple(values.shape)}; pass all steps")
    values = values.double()
    std, mean = torch.std_mean(values, dim=0, correction=0)
    if not bool(torch.isfinite(std + mean).all()):
        bad = int(torch.nonzero(~torch.isfinite(std + mean))[0])
        raise SpecError(f"{where}: expected finite values, got others in dimension {bad}; clean the data")
    constant = std <= SMALLEST_SHARE * values.abs().amax(0)
    return mean, torch.where(constant, torch.zeros_like(std), std)


class Normaliser(nn.Module):
    """(observation - mean) / std, where the std of quiet axes is raised; see `QUIET_SHARE`."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        """Start as the identity."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def fit(self, observation: Tensor, axes: ArraySpec | None = None) -> None:
        """Set mean and std to those of the observations (N, O); a constant axis is only centred.

        Args:
            observation: All observations of the data, (N, O).
            axes: Of the robot's observations; None where they are unknown, and no axis is taken for quiet.

        Raises:
            SpecError: If there is no observation, the width differs or a value is not finite.
        """
        mean, std = compute_spread(observation, self.mean.shape[0], "Normaliser.fit")
        if axes is not None:
            units = [axis.unit for axis in axes.axes]
            for unit in set(units):
                same = torch.tensor([unit == other for other in units])
                quiet = same & (std > 0.0)
                std = torch.where(quiet, std.clamp(min=QUIET_SHARE * float(std[same].max())), std)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0.0, std, torch.ones_like(std)))

    def forward(self, observation: Tensor) -> Tensor:
        """Normalised observations (..., O)."""
        normalised: Tensor = (observation - self.mean) / self.std
        return normalised


class ActionScale(nn.Module):
    """(action - offset) / scale, and back.

    The scale of an axis is sqrt(3) standard deviations of the data, the half-range of a uniform distribution that is as
    wide as the data, but at most the half-range of the axis' limits. A robot with limits of -1 and 1 whose data fill
    them has the scale 1 and the offset 0 exactly, and its actions are used as they are.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        """Start as the identity."""
        super().__init__()
        self.register_buffer("offset", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def fit(self, action: Tensor, limits: ArraySpec | None) -> None:
        """Set offset and scale.

        Args:
            action: All actions of the data, (N, A), in the robot's units.
            limits: Of the robot's actions; None where they are unknown.

        Raises:
            SpecError: If there is no action, the width differs or a value is not finite.
        """
        width = self.scale.shape[0]
        mean, std = compute_spread(action, width, "ActionScale.fit")
        spread = math.sqrt(3.0) * std
        ends = [(axis.low, axis.high) for axis in limits.axes] if limits else [(-math.inf, math.inf)] * width
        low, high = torch.tensor(ends, dtype=torch.float64).unbind(-1)
        half = (high - low) / 2.0
        filled = torch.isfinite(half) & ((half <= spread) | (spread == 0.0))
        by_data = torch.where(spread > 0.0, spread, torch.ones_like(spread))
        self.offset.copy_(torch.where(filled, (low + high) / 2.0, mean))
        self.scale.copy_(torch.where(filled, half, by_data))

    def forward(self, action: Tensor) -> Tensor:
        """Scaled actions of actions in the robot's units, both (..., A)."""
        scaled: Tensor = (action - self.offset) / self.scale
        return scaled

    def restore(self, scaled: Tensor) -> Tensor:
        """Actions in the robot's units of scaled actions, both (..., A)."""
        return scaled * self.scale + self.offset
