"""Which numbers of a bag are the axes of a known robot: told by their names and units, and never by their order.

Joints of a `JointState` are named: `elbow` is its position where the axis has a unit of place, and `elbow_v` its
velocity where the axis has a unit of speed. Members of a pose, twist or wrench have fixed units: `x` is the axis `x` or
`hand_x` in metres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from ...robots.spec import ArraySpec, Axis
from .mapping import Signal

_JOINT_UNITS = {
    "position": ("rad", "m"),
    "positions": ("rad", "m"),
    "velocity": ("rad/s", "m/s"),
    "effort": ("N m", "N"),
}
"""Units that a field of named joints may have, by the last word of its path."""


class _Source(NamedTuple):
    """One number of a message."""

    signal: int
    """Place of its signal in the draft."""
    element: str
    """Its name in the message."""
    name: str
    """The name that the draft gave it."""
    unit: str
    """"" where the message does not fix it."""


def name_axes(signals: Sequence[Signal], array: ArraySpec, questions: list[str]) -> list[Signal]:
    """The drafted signals with the names, units and order of a robot's axes; axes without a source become a question.

    Args:
        signals: Drafted from the bag alone, all for one feature.
        array: Observation or action of the robot.
        questions: What the bag leaves open; extended.

    Returns:
        The signals as they were where no axis of the robot has a source.
    """
    sources = [
        _Source(place, element, name, unit)
        for place, signal in enumerate(signals)
        for element, name, unit in zip(signal.elements or signal.axes, signal.axes, signal.units, strict=True)
    ]
    chosen: list[tuple[Axis, _Source]] = []
    missing = []
    for axis in array.axes:
        found = _find_sources(axis, sources, signals)
        if len(found) == 1:
            chosen.append((axis, found[0]))
        else:
            many = f" (one of {', '.join(source.name for source in found)})" if found else ""
            missing.append(f"{axis.name} in {axis.unit or 'no unit'}{many}")
    if missing:
        known = ", ".join(f"{signals[one.signal].topic} {signals[one.signal].field} {one.element}" for one in sources)
        questions.append(
            f"expected one source of each {array.name} axis of the robot, got no single one for {'; '.join(missing)} "
            f"among {known[:600]}; give its topic, field and element in --mapping"
        )
    return [*_join(chosen, signals)] if chosen else list(signals)


def _find_sources(axis: Axis, sources: Sequence[_Source], signals: Sequence[Signal]) -> list[_Source]:
    """The sources of the longest name that fits the axis; more than one where the bag is ambiguous."""
    found = [one for one in sources if _fits(axis, one, signals[one.signal].field)]
    longest = max((len(one.element) for one in found), default=0)
    return [one for one in found if len(one.element) == longest]


def _fits(axis: Axis, source: _Source, field: str) -> bool:
    units = _JOINT_UNITS.get(field.rpartition(".")[2])
    if units is not None and not source.unit:
        return axis.unit in units and (axis.name == source.element or axis.name.startswith(f"{source.element}_"))
    return axis.unit == source.unit and (axis.name == source.name or axis.name.endswith(f"_{source.name}"))


def _join(chosen: Sequence[tuple[Axis, _Source]], signals: Sequence[Signal]) -> Iterator[Signal]:
    """Neighbouring axes of one signal, as one signal."""
    for place, group in groupby(chosen, lambda pair: pair[1].signal):
        pairs = list(group)
        axes = tuple(axis.name for axis, _ in pairs)
        elements = tuple(source.element for _, source in pairs)
        yield replace(
            signals[place],
            axes=axes,
            elements=elements if elements != axes else (),
            units=tuple(axis.unit for axis, _ in pairs),
        )
