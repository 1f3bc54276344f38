"""Settings of the stage `export`."""

from dataclasses import dataclass

from ...bounds import Bounded, Seed


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig(Bounded):
    """How the bundle is written."""

    golden_seed: Seed = 0
    """Seed of the recorded inputs."""
