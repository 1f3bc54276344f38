"""Settings of the stage `ingest`."""

from dataclasses import dataclass

from ...bounds import Share
from ...datasets.compression import Compression
from ...datasets.episode import ReadOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig(ReadOptions):
    """How a source is read, and how it is stored."""

    compression: Compression = "none"
    """Of the store's chunks."""
    clip_actions: bool = False
    """Put recorded actions beyond the robot's limits onto them, however many, for logs of commands that the robot
    clipped itself."""
    clip_share: Share = 0.001
    """Share of the steps up to which that is done without `clip_actions`, and said; a source with more is refused."""
