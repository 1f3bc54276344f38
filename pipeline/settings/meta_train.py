"""Settings of the stage `meta-train`."""

from dataclasses import dataclass, field

from ...bounds import Bounded
from ..action_spaces import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaTrainConfig(Bounded):
    """What the policy chooses in."""

    action_space: Space = field(default="skill")
    """`skill`: skills of the skill model. `raw`: actions in the robot's units, with observations on the scale of the
    skills' data. `unit`: actions on a scale on which the robot's limits are -1 and 1, without skills. `choice`: named
    actions, for robots that have them."""
