"""The plain multilayer perceptron from which all our nets are built.

Departure: SPiRL's predictors (Pertsch, Lee, Lim, "Accelerating Reinforcement Learning with Learned Skill Priors", CoRL
2020) are LeakyReLU layers with BatchNorm. Ours are ReLU layers without normalisation and read inputs that were
normalised once, by statistics of the data. A plain MLP has no train and eval mode that could be confused, and a numpy
runtime computes it with one matrix product and one maximum per layer.

Axes: B batch (any number of leading axes), I inputs, U outputs.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import ConfigError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh_}


def make_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's default initialisation, U(-1/sqrt(I), 1/sqrt(I)), drawn from the given generator.

    Args:
        inputs: I, > 0.
        outputs: U, > 0.
        generator: Source of the initial weights, on the CPU.
    """
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    bound = 1.0 / math.sqrt(inputs)
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.uniform_(-bound, bound, generator=generator)
    return layer


class MLP(nn.Module):
    """Linear layers with an activation between them and none after the last.

    The state dict has the names `layers.{i}.weight` (U, I) and `layers.{i}.bias` (U,).
    """

    def __init__(self, sizes: Sequence[int], activation: str = "relu", *, generator: torch.Generator) -> None:
        """Make the layers.

        Args:
            sizes: Widths from input to output, at least two, each > 0.
            activation: A name in `ACTIVATIONS`.
            generator: Source of the initial weights, on the CPU.

        Raises:
            ConfigError: For fewer than two sizes, a size below 1 or an unknown activation.
        """
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ConfigError(f"MLP sizes: expected at least two widths >= 1, got {list(sizes)}; correct the sizes")
        if activation not in ACTIVATIONS:
            known = ", ".join(sorted(ACTIVATIONS))
            raise ConfigError(f"MLP activation: expected one of {known}, got {activation!r}; choose a known name")
        self.activation = activation
        self.layers = nn.ModuleList(make_linear(inputs, outputs, generator) for inputs, outputs in pairwise(sizes))

    def forward(self, value: Tensor) -> Tensor:
        """Outputs (..., U) of inputs (..., I)."""
        activate = ACTIVATIONS[self.activation]
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            value = layer(value)
            if index < last:
                value = activate(value)
        return value
