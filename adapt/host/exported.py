"""What an exporter gives: a learner as a bundle holds it, and its agent for the golden trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.space import ActionSpace
from .torch_rows import ReadState


class Exported(NamedTuple):
    """What is particular to a learner."""

    kind: str
    """A name in `kinds.KINDS`."""
    learner: dict[str, Any]
    """Facts of the kind."""
    weights: Mapping[str, Tensor]
    """Of the learner, by the names of the kind."""
    agent: AdaptiveAgent
    """An agent whose rows each learn for themselves, on the CPU."""
    space: ActionSpace
    """What it chooses, on the CPU."""
    read_state: ReadState
    """Gives the state of `agent` by the names of the numpy agent."""
    generator: torch.Generator | None = None
    """Draws of `agent` from other generators are a host's; None: the runtime makes them all."""
