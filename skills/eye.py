"""The convolutional net by which a policy sees pictures: some numbers within -1 and 1 instead of thousands of pixels.

After the image variant of SPiRL (Pertsch, Lee, Lim, "Accelerating Reinforcement Learning with Learned Skill Priors",
CoRL 2020): two stacked pictures of 32 x 32 pixels, strided convolutions that begin with 8 channels, 32 features.
Departures: no BatchNorm (see `network`), and a tanh behind the last layer, so that the features have limits.
`adapt/eye.py` computes the same in numpy.

Axes: B batch (any number of leading axes), F frames.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import SpecError
from ..robots.spec import ImageSpec
from .config import SkillConfig
from .network import make_linear

KERNEL, STRIDE, PADDING = 4, 2, 1
"""Of every convolution: each halves height and width."""


def stack_frames(pictures: Tensor, steps: Tensor, frames: int) -> Tensor:
    """Stacks of the pictures at some steps and the `frames` - 1 before each, the newest last, along the channels.

    Args:
        pictures: (B, F - 1 + H, height, width, channels), of which the first F - 1 are before step 0; B is one axis.
        steps: (B, D), each 0 .. H - 1.
        frames: F.

    Returns:
        (B, D, height, width, F channels).
    """
    rows = torch.arange(len(steps), device=steps.device).unsqueeze(1)
    return torch.cat([pictures[rows, steps + frame] for frame in range(frames)], dim=-1)


def make_convolution(inputs: int, outputs: int, generator: torch.Generator) -> nn.Conv2d:
    """A convolution with torch's default initialisation, U(-1/sqrt(n), 1/sqrt(n)) for n inputs of a number."""
    layer = nn.Conv2d(inputs, outputs, KERNEL, STRIDE, PADDING, device="meta").to_empty(device="cpu")
    bound = 1.0 / math.sqrt(inputs * KERNEL**2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer


class Eye(nn.Module):
    """Convolutions with ReLU behind each, one linear layer, tanh."""

    def __init__(self, image: ImageSpec, config: SkillConfig, generator: torch.Generator) -> None:
        """Make the layers.

        Args:
            image: Of one picture.
            config: Channels, features and frames.
            generator: Source of the initial weights, on the CPU.

        Raises:
            SpecError: The pictures are too small for so many convolutions.
        """
        super().__init__()
        channels = (config.image_frames * image.channels, *config.image_channels)
        self.convolutions = nn.ModuleList(make_convolution(*pair, generator) for pair in pairwise(channels))
        side = 2 ** len(config.image_channels)
        if min(image.height, image.width) < side:
            most = int(math.log2(min(image.height, image.width)))
            raise SpecError(
                f"skill.image-channels: expected at most {most} convolutions for pictures of {image.height} x "
                f"{image.width} pixels, got {len(config.image_channels)}; take fewer"
            )
        inputs = (image.height // side) * (image.width // side) * channels[-1]
        self.head = make_linear(inputs, config.image_features, generator)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (..., image_features) of stacks (..., height, width, F channels) as `stack_frames` makes them."""
        value = pictures.reshape(-1, *pictures.shape[-3:]).movedim(-1, 1).to(self.head.weight.dtype) / 127.5 - 1.0
        for layer in self.convolutions:
            value = layer(value).relu_()
        features: Tensor = torch.tanh(self.head(value.flatten(1)).float())
        return features.reshape(*pictures.shape[:-3], -1)
