"""Drawing from policies in numpy, number for number as `meta/distribution.py` does from the same noise.

Axes: ... any leading axes, Z latent, C choices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from .networks import Array, Gaussian, scale_from_log
from .runtime_agent import Noise
from .spaces import RowSpace


class HearsLogits(ABC):
    """Noise that is told between which choices it decides, so that their probabilities are known."""

    @abstractmethod
    def hear(self, logits: Array) -> None:
        """The logits of the next choice, shape (..., C)."""


class HearsGaussians(ABC):
    """Noise that is told which Gaussian it was drawn for, so that the density of the choice is known."""

    @abstractmethod
    def hear_gaussian(self, gaussian: Gaussian, drawn: Array) -> None:
        """What was just drawn, and from which Gaussian, each (..., Z)."""


def draw(space: RowSpace, output: Array, noise: Noise, *, greedy: bool) -> Array:
    """The choice u, (..., Z), of a policy head's output: logits (..., C), or mean and log scale (..., 2 Z)."""
    if space.choices:
        return draw_choice(output, noise, greedy=greedy)
    loc, log_scale = np.split(output, 2, axis=-1)
    return draw_gaussian(Gaussian(loc, scale_from_log(log_scale)), noise, greedy=greedy)


def draw_choice(logits: Array, noise: Noise, *, greedy: bool) -> Array:
    """An index, (..., 1): of the smallest of exponential clocks with rates exp(logit), or of the largest logit."""
    if not greedy:
        if isinstance(noise, HearsLogits):
            noise.hear(logits)
        clock = -np.log1p(-noise.uniform(logits.shape))
        with np.errstate(divide="ignore"):  # a clock of zero goes off at once
            logits = logits - np.log(clock)
    index: Array = logits.argmax(axis=-1)[..., None].astype(np.float32)
    return index


def draw_gaussian(gaussian: Gaussian, noise: Noise, *, greedy: bool) -> Array:
    """Loc + scale * noise, or loc, (..., Z)."""
    if greedy:
        return gaussian.loc
    drawn: Array = gaussian.loc + gaussian.scale * noise.normal(gaussian.loc.shape)
    if isinstance(noise, HearsGaussians):
        noise.hear_gaussian(gaussian, drawn)
    return drawn
