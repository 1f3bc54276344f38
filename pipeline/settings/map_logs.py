"""Settings of the stage `map-logs`."""

from dataclasses import dataclass
from typing import Annotated

from ...bounds import Bounded, Count, Range


@dataclass(frozen=True, slots=True, kw_only=True)
class MapConfig(Bounded):
    """Whether and how the logs come along in the bundle, so that the agent finds its way by them."""

    enabled: bool = False
    """Encode the logs and put their map into the bundle; nothing where the policy takes named choices, or where the
    learner cannot learn from episodes that another led (all but SAC's kin)."""
    places: Annotated[int, Range(1, 4096)] = 1000
    """At most so many places. Memory and time grow with its square: 1000 need 10 MB, 4096 need 150 MB."""
    lean: Annotated[float, Range(0.01, 1.0)] | None = None
    """Share that is left of a distance along directions that rewards do not depend on. Without it, as the logs need: 1,
    .3 or .1, see docs/learners/logs.md."""
    most_states: Count = 120_000
    """At most so many logged states, one skill apart or closer; of longer logs whole episodes are drawn. A state needs
    2 bytes for each observation axis and each skill dimension."""
