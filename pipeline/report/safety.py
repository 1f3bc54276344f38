"""What the safety limits did while a stage moved robots, from its audit log; see `adapt/audit.py` for its records."""

from pathlib import Path
from typing import NamedTuple

from ...errors import RobotFault
from ...robots.spec import Axis, RobotSpec
from ...strict_json import parse_json
from ..evidence import AUDIT_NAME


class AxisLimits(NamedTuple):
    """The limits of one action axis, and how often they held a command back."""

    axis: Axis
    clamped: int
    """Commands that were not sent as requested."""
    largest: float
    """Largest |requested - sent|, in the unit of the axis."""


class Stop(NamedTuple):
    """A latched stop."""

    reason: str
    ended: bool
    """Whether it was ended since, by a re-arm."""


class Safety(NamedTuple):
    """What one audit log says."""

    limits: list[AxisLimits]
    commands: int
    """Commands, one for each row and step, in the parts of the run in which one was clamped."""
    stops: list[Stop]


def load_safety(folder: Path, spec: RobotSpec) -> Safety | None:
    """Reads the log in a stage folder, also while the stage is at work; None where there is none.

    A line that is no record is left out: whoever opens the log to move a robot refuses it, not a page about it.
    """
    path = folder / AUDIT_NAME
    if not path.is_file():
        return None
    commands, clamped, largest = 0, dict.fromkeys(spec.action.names, 0), dict.fromkeys(spec.action.names, 0.0)
    stops: list[Stop] = []
    for line in path.read_bytes().splitlines():
        try:
            record = parse_json(line, dict, path, RobotFault, "keep it as evidence")
            event = record["event"]
            if event == "clamps":
                commands += int(record["commands"])
                for name, found in record["axes"].items():
                    clamped[name] += int(found["clamped"])
                    largest[name] = max(largest[name], float(found["largest"]))
            elif event == "stop":
                stops.append(Stop(str(record["reason"]), ended=False))
            elif event in ("rearm", "anew"):
                stops = [stop._replace(ended=True) for stop in stops]
        except (RobotFault, ValueError, KeyError, TypeError, AttributeError):
            continue
    limits = [AxisLimits(axis, clamped[axis.name], largest[axis.name]) for axis in spec.action.axes]
    return Safety(limits, commands, stops)
