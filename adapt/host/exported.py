"""What an exporter gives: a learner as a bundle holds it, and its agent for the golden trial.

Settings of a bundle and configs of the trainer call the same things the same: they are made of each other by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ...errors import BundleError, ConfigError
from ...meta.adaptive import AdaptiveAgent
from ...meta.space import ActionSpace
from .torch_rows import ReadState

Config = TypeVar("Config")


class Exported(NamedTuple):
    """What is particular to a learner."""

    kind: str
    """A name in `kinds.KINDS`."""
    learner: dict[str, Any]
    """Settings of the kind, see `write_settings`."""
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


def write_settings(kind: type[Any], *sources: Any, **own: Any) -> dict[str, Any]:
    """The settings of a kind for `bundle.json`.

    Args:
        kind: The dataclass of the settings.
        sources: Dataclasses of the trainer that have fields of the same names; the later ones win.
        own: The other fields.
    """
    known = {name: value for source in sources for name, value in asdict(source).items()} | own
    return {field.name: known[field.name] for field in fields(kind)}


def make_config(kind: type[Config], settings: Any, **own: Any) -> Config:
    """A config of the trainer.

    Args:
        kind: The dataclass of the config.
        settings: Those of a bundle, which have fields of the same names.
        own: Other fields.

    Raises:
        BundleError: The config refuses a value.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    known = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name in names}
    try:
        return kind(**{**known, **own})
    except ConfigError as error:
        raise BundleError(f"bundle.json learner: {error}") from error


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with `prefix` before their names."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}
