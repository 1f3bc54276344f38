"""Settings of the stage `export`."""

from dataclasses import dataclass
from typing import Annotated

from ...bounds import Bounded, Range, Seed


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig(Bounded):
    """How the bundle is written."""

    golden_seed: Seed = 0
    """Seed of the recorded inputs."""
    false_alarms: Annotated[float, Range(0.0, 0.5, above=True)] = 0.01
    """Share of new nominal episodes in which the alarm of unknown motion may be given; with --nominal."""
