"""Settings of the stage `extract`."""

from dataclasses import dataclass, field
from typing import Annotated

from ...bounds import Bounded, Count, Range
from ...skills.config import SkillConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractConfig(Bounded):
    """The skill model, its training, and what is held out."""

    skill: SkillConfig = field(default_factory=SkillConfig)
    validation_fraction: Annotated[float, Range(0.0, 1.0, below=True)] = 0.02
    """Share of the episodes that is held out for the report, 0 <= fraction < 1."""
    log_every: Count = 200
    """Updates between two records of metrics."""
