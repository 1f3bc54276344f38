"""Settings of the stage `meta-train`."""

from dataclasses import dataclass, field
from typing import Literal

from ...meta.simpl.config import SimplConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaTrainConfig:
    """What is meta-trained, and how."""

    action_space: Literal["skill", "raw"] = "skill"
    """`skill` chooses skills of the skill model; `raw` chooses actions, through the same learner."""
    simpl: SimplConfig = field(default_factory=SimplConfig)
