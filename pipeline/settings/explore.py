"""Settings of the stage `explore`."""

from dataclasses import dataclass
from typing import Annotated

from ...bounds import Batch, Bounded, Count, Range


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreConfig(Bounded):
    """Whether and for how long skills play where the tasks are, so that there are logs of that place."""

    enabled: bool = False
    """Play, and let these logs come along in the bundle in the place of those that the skills were learned from. They
    are for skills that were learned elsewhere; `--map.enabled` has to be given too."""
    episodes: Count = 400
    """Episodes in all."""
    rows: Batch = 20
    """Robots side by side, each with an episode of its own. After so many episodes the map of the place is made anew;
    part of the recipe."""
    places: Annotated[int, Range(1, 4096)] = 4096
    """Places of that map, at most."""
    stay: Count = 30
    """Skills drawn from the prior at a place that was returned to, before the next place is chosen."""
