"""Settings of the stage `ingest`."""

from dataclasses import dataclass

from ...bounds import Bounded, Count
from ...datasets.compression import Compression


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig(Bounded):
    """How a source is read."""

    episode_steps: Count | None = None
    """Time limit, steps, for files whose `timeouts` are not there or never set; None: only `terminals` end an episode
    there."""
    only: tuple[str, ...] | None = None
    """Side arrays (`infos/<name>`) to carry over; None carries all that can be."""
    skip: tuple[str, ...] = ()
    """Side arrays to leave out."""
    compression: Compression = "none"
    """Of the store's chunks."""
    clip_actions: bool = False
    """Put recorded actions beyond the robot's limits onto them, for logs of commands that the robot clipped itself.
    Without it, such a source is refused."""
