"""What the card of an episode store is drawn from: two passes over the store, in memory that does not grow with it.

Axes: N steps, E episodes, O observation, A action, B bins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets.checks import AxisRange, SourceChecks
from ...datasets.episode import Episode, SourceSpec
from ...datasets.parts import Part, list_parts
from ...datasets.store import EpisodeStore
from ...datasets.store_source import read_episodes

Floats = NDArray[np.float64]
BINS = 40
"""Of a histogram, and of each side of a plane."""
MOST_AXES = 24
"""Of a feature, that are drawn."""
MOST_PLANES = 6
MOST_SAMPLES = 200_000
"""Steps that a projection is computed from."""
_EDGE = 1e-6
"""Share of the range of an axis that counts as its limit, as in the record of a bag's quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """How often each region of two axes was visited."""

    x: str
    x_unit: str
    y: str
    y_unit: str
    counts: Floats
    """(B, B), rows along y."""
    x_edges: Floats
    y_edges: Floats
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Numbers of a store; axes beyond `MOST_AXES` are left out of all arrays."""

    ranges: dict[str, list[AxisRange]]
    """By feature: `observation` and `action`."""
    findings: tuple[str, ...]
    histograms: dict[str, list[tuple[Floats, Floats]]]
    """By feature: counts and edges of each axis."""
    motion: Floats
    """Standard deviation of each observation axis within an episode, over that in all data, (O, E)."""
    at_low: Floats | None
    """Share of the steps of an episode with an action at its lower limit, (A, E); None where limits are unknown."""
    at_high: Floats | None
    planes: list[Plane]
    quality: dict[str, list[dict[str, float] | None]]
    """By topic, the record of each episode; empty for data that are from no bag."""
    example: int
    """Episode of median length."""
    parts: list[Part]


def survey_store(store: EpisodeStore) -> Survey:
    """Reads the store twice.

    Raises:
        StoreError: a chunk is damaged, or the provenance is.
    """
    parts = list_parts(store)
    spec = SourceSpec(
        schema=store.schema, episodes=len(store.episodes.start), rows=store.rows, provenance=store.provenance
    )
    checks, motion, low, high = SourceChecks(spec), [], [], []
    robot = store.schema.robot
    for episode in checks.passing(read_episodes(store)):
        motion.append(_columns(episode, "observation").std(0))
        if robot is not None:
            action, limits = _columns(episode, "action"), robot.action
            width = np.where(np.isfinite(limits.high - limits.low), limits.high - limits.low, 1.0)[:MOST_AXES]
            low.append((action <= limits.low[:MOST_AXES] + _EDGE * width).mean(0))
            high.append((action >= limits.high[:MOST_AXES] - _EDGE * width).mean(0))
    ranges = {name: [one for one in checks.ranges() if one.feature == name] for name in ("observation", "action")}
    ranges = {name: found[:MOST_AXES] for name, found in ranges.items()}
    std = np.array([one.std for one in ranges["observation"]])
    length = store.episodes.length
    return Survey(
        ranges=ranges,
        findings=checks.findings(),
        histograms={name: _count(store, name, found) for name, found in ranges.items()},
        motion=(np.array(motion) / np.where(std > 0, std, np.inf)).T,
        at_low=np.array(low).T if low else None,
        at_high=np.array(high).T if high else None,
        planes=[*_find_planes(store, ranges["observation"])],
        quality=_find_quality(parts),
        example=int(np.argsort(length, kind="stable")[(len(length) - 1) // 2]),
        parts=parts,
    )


def _columns(episode: Episode, name: str) -> Floats:
    array = episode.arrays[name]
    return array.reshape(len(array), -1)[:, :MOST_AXES].astype(np.float64)


def _count(store: EpisodeStore, name: str, ranges: list[AxisRange]) -> list[tuple[Floats, Floats]]:
    """A histogram of each axis."""
    edges = [_edges(one) for one in ranges]
    counts = np.zeros((len(ranges), BINS))
    for block in store.blocks(name):
        for axis, column in enumerate(block.reshape(len(block), -1)[:, : len(ranges)].T):
            counts[axis] += np.histogram(column, edges[axis])[0]
    return list(zip(counts, edges, strict=True))


def _edges(one: AxisRange) -> Floats:
    """From the lowest to the highest value, and a little more, since the ends are rounded."""
    margin = max(1e-6 * abs(one.high), 1e-6 * abs(one.low), 1e-3 * (one.high - one.low), 1e-9)
    return np.linspace(one.low - margin, one.high + margin, BINS + 1)


def _find_planes(store: EpisodeStore, ranges: list[AxisRange]) -> Iterator[Plane]:
    """The two directions in which the data vary most, then pairs of neighbouring axes with one unit."""
    moving = [place for place, one in enumerate(ranges) if not one.constant]
    if len(moving) < 2:
        return
    step = -(-store.rows // MOST_SAMPLES)
    rows: Any = np.concatenate(
        [block.reshape(len(block), -1)[::step, : len(ranges)] for block in store.blocks("observation")]
    ).astype(np.float64)
    if len(moving) > 2:
        scaled = (rows - [one.mean for one in ranges])[:, moving] / [ranges[place].std for place in moving]
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        along = (
            scaled
            @ vectors[:, [-1, -2]]
            * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(len(values))])[[-1, -2]]
        )
        share = values[-2:].sum() / max(values.sum(), 1e-12)
        yield _make_plane(
            along,
            ("first component", "", "second component", ""),
            f"Principal components of the observation, with {100 * share:.0f} % of its variance",
        )
    taken: set[int] = set()
    planes = 0
    for first, second in pairwise(moving):
        same = ranges[first].unit == ranges[second].unit and not {first, second} & taken
        if same and planes < MOST_PLANES - 1:
            taken |= {first, second}
            planes += 1
            x, y = ranges[first], ranges[second]
            yield _make_plane(rows[:, [first, second]], (x.axis, x.unit, y.axis, y.unit), "")


def _make_plane(points: Floats, names: tuple[str, str, str, str], title: str) -> Plane:
    counts, x_edges, y_edges = np.histogram2d(points[:, 0], points[:, 1], BINS)
    x, x_unit, y, y_unit = names
    return Plane(x=x, x_unit=x_unit, y=y, y_unit=y_unit, counts=counts.T, x_edges=x_edges, y_edges=y_edges, title=title)


def _find_quality(parts: list[Part]) -> dict[str, list[dict[str, float] | None]]:
    """The records of bags, episode by episode; None where a part has none."""
    found: list[dict[str, Any]] = []
    for part in parts:
        records = part.source.get("quality")
        for number in part.episodes:
            whole = isinstance(records, list) and number < len(records) and isinstance(records[number], dict)
            topics = records[number].get("topics") if whole else None  # type: ignore[index]
            found.append(topics if isinstance(topics, dict) else {})
    names = dict.fromkeys(name for record in found for name in record)
    kept = list(names)[:MOST_AXES]
    return {name: [record.get(name) for record in found] for name in kept}
