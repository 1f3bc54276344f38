"""Where a clock was set back in the middle of a bag: by hand, by the network's time, or by a reboot.

Behind such a step the same times come a second time. Messages from before and from behind it are never sorted into each
other: the bag falls into stretches, each with times of its own. Messages that overtook each other are no step, since
time jumps forward again behind them.

The clock that was set may be that of the recorder, of the stamps, or both at once as on one computer. Stretches are
only of use where all topics agree: else their times do not belong together behind the step, and the bag is refused.
Legend: n messages of one topic, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from .mapping import NS
from .quality import iterate_steps
from .recording import DISORDER_NS

Times = npt.NDArray[np.int64]
MOST_DISORDER_NS = NS
"""A time that runs back further than this has been set anew, whatever follows."""
MOST_AHEAD_NS = 20_000_000
"""By which stamps may be ahead of the recorder's clock: the clocks of two computers are no closer."""
_LOOK_AHEAD = 4096
"""Messages behind a step among which time may jump forward again."""
_FEW = 16
"""Messages on each side of a step of which the delay is taken."""


class Line(NamedTuple):
    """When the messages of a topic came, each (n,)."""

    time: Times
    """By the topic's clock, ns."""
    log_time: Times
    """By the recorder's, ns."""
    group: Times
    """Numbers that rise with the place in the file, see `recording.Block`."""
    stamped: bool
    """Whether the topic's clock is another than the recorder's."""
    steady: bool = True
    """Whether its stamps say when a message was made; those of a trajectory say when it shall start."""


class Cuts(NamedTuple):
    """Where the messages of each topic fall into stretches."""

    rows: dict[str, list[int]]
    """First message of each stretch but the first one, for each topic."""
    sizes: list[int]
    """By how much the clock was set back between two stretches, ns."""


@dataclass(slots=True)
class _Step:
    """One step of a clock."""

    low: int
    """Place of the last message that is known to be before it; places are compared between topics."""
    high: int
    """Place of the first message behind it."""
    rows: dict[str, int] = field(default_factory=dict)
    """First message behind it, of the topics that show it."""
    size: int = 0
    """ns."""
    log_size: int = 0
    """By how much the recorder's clock was set back, ns; 0 where it goes on."""


def find_steps(time: Times) -> list[int]:
    """Messages before which a clock was set back, by its times (n,), ns."""
    return [
        row
        for start, step in iterate_steps(time)
        for row in (np.flatnonzero(step < -DISORDER_NS) + start + 1).tolist()
        if _is_set_back(time, row)
    ]


def _is_set_back(time: Times, row: int) -> bool:
    """Whether a time that is earlier than the one before it is a step, and no message that another one overtook."""
    before = int(time[row - 1])
    size = before - int(time[row])
    if size > MOST_DISORDER_NS:
        return True
    behind = np.asarray(time[row : row + _LOOK_AHEAD])
    later = np.flatnonzero(behind >= before)
    if len(later):
        jump = int(np.diff(behind[: later[0] + 1]).max(initial=0))
    else:  # the bag ends: the message before may have overtaken those around it
        jump = before - int(time[max(0, row - 2)])
    return 2 * jump < size


def find_cuts(lines: Mapping[str, Line], where: str) -> Cuts:
    """The stretches of a bag, and which messages of each topic are in them.

    Args:
        lines: Of the topics that are used, by name.
        where: The bag, for messages.

    Raises:
        SourceError: a clock was set back that only some of the topics go by, or the file is not in the order in which
            the messages came.
    """
    if all(line.stamped and line.steady and not find_steps(line.time) for line in lines.values()):
        return Cuts({name: [] for name in lines}, [])  # whatever the recorder's clock did
    steps = _find_log_steps(lines, where)
    arrival = _order(lines, steps)
    own = []
    for name, line in lines.items():
        for row in find_steps(line.time) if line.stamped and line.steady else ():
            same = next((step for step in steps if step.rows[name] == row), None)
            if same is None:
                own.append((name, row, arrival[name], line.time))
            else:
                same.size = max(same.size, _measure(line.time, row))
    of_stamps = _join(own)
    for step in of_stamps:
        for name, came in arrival.items():
            step.rows.setdefault(name, int(np.argmax(np.append(came, step.high) >= step.high)))
    steps = sorted((*steps, *of_stamps), key=attrgetter("high"))
    steps = [step for step in steps if _agree(lines, step, where)]
    rows = {name: np.maximum.accumulate([step.rows[name] for step in steps] or [0]).tolist() for name in lines}
    return Cuts({name: found[: len(steps)] for name, found in rows.items()}, [step.size for step in steps])


def _measure(time: Times, row: int) -> int:
    """By how much a message is earlier than the one before it, ns."""
    return int(time[row - 1]) - int(time[row])


def _join(found: Iterable[tuple[str, int, Times, Times]]) -> list[_Step]:
    """Steps that several topics show: name, first message behind it, places in the file and times of each."""
    steps: list[_Step] = []
    for name, row, place, time in sorted(found, key=lambda one: int(one[2][one[1]])):
        low, high = int(place[row - 1]), int(place[row])
        if not steps or low >= steps[-1].high or name in steps[-1].rows:
            steps.append(_Step(low, high))
        step = steps[-1]
        step.low = max(step.low, low)
        step.rows[name] = row
        step.size = max(step.size, _measure(time, row))
    return steps


def _find_log_steps(lines: Mapping[str, Line], where: str) -> list[_Step]:
    """Steps of the recorder's clock.

    Raises:
        SourceError: the messages are not in the order in which they came, and topics show other steps.
    """
    found = {name: find_steps(line.log_time) for name, line in lines.items()}
    steps = _join((name, row, lines[name].group, lines[name].log_time) for name in found for row in found[name])
    for step in steps:
        for name, line in lines.items():
            step.rows.setdefault(name, int(np.searchsorted(line.group, step.high, "left")))
    if steps and not _is_in_order(lines, steps):
        # each topic may have a part of the file of its own: then all show the same steps, from and to the same times
        same = len({len(rows) for rows in found.values()}) == 1
        every = [dict(zip(found, rows, strict=True)) for rows in zip(*found.values(), strict=True)] if same else []
        if not every or not all(_is_one_step(lines, rows) for rows in every):
            raise SourceError(
                f"{where}: expected messages in the order in which they came, as the recorder's clock was set back, "
                "got one topic behind the other; record all topics together, or give all a clock of their own"
            )
        steps = [_Step(0, 0, rows, max(_measure(lines[name].log_time, rows[name]) for name in rows)) for rows in every]
    for step in steps:
        step.log_size = step.size
    return steps


def _is_one_step(lines: Mapping[str, Line], rows: Mapping[str, int]) -> bool:
    """Whether the recorder's clock shows one step before these messages of all topics."""
    sides = ([int(lines[name].log_time[row - at]) for name, row in rows.items()] for at in (0, 1))
    return all(max(times) - min(times) <= DISORDER_NS for times in sides)


def _order(lines: Mapping[str, Line], steps: Sequence[_Step]) -> dict[str, Times]:
    """When messages came, (n,), ns, by a clock that goes on where the recorder's was set back; places steps on it."""
    if not steps:
        return {name: line.log_time for name, line in lines.items()}
    bounds = {name: [0, *(step.rows[name] for step in steps), len(line.time)] for name, line in lines.items()}
    pieces: dict[str, list[Times]] = {name: [] for name in lines}
    end = 0
    for number in range(len(steps) + 1):
        times = {name: np.asarray(lines[name].log_time[slice(*bounds[name][number : number + 2])]) for name in lines}
        first = min((int(time.min()) for time in times.values() if len(time)), default=0)
        if number:
            steps[number - 1].high = end
        for name, time in times.items():
            pieces[name].append(time - first + end)
        end = 1 + max((int(found[-1].max()) for found in pieces.values() if len(found[-1])), default=end)
    return {name: np.concatenate(found) for name, found in pieces.items()}


def _is_in_order(lines: Mapping[str, Line], steps: Sequence[_Step]) -> bool:
    """Whether each stretch has its messages in the order in which they came, and no topic behind the other."""
    for number in range(len(steps) + 1):
        parts = []
        for name, line in lines.items():
            low, high = [0, *(step.rows[name] for step in steps), len(line.time)][number : number + 2]
            parts.append((line.group[low:high], line.log_time[low:high]))
        if not _goes_on(parts):
            return False
    return True


def _goes_on(topics: Sequence[tuple[Times, Times]]) -> bool:
    """Whether time goes on from group to group, whatever their topic."""
    latest: dict[int, int] = {}
    earliest: dict[int, int] = {}
    for group, time in topics:
        starts = np.flatnonzero(np.diff(group, prepend=-1)) if len(group) else np.empty(0, np.intp)
        for number, low, high in zip(
            group[starts].tolist(),
            np.minimum.reduceat(time, starts).tolist() if len(starts) else [],
            np.maximum.reduceat(time, starts).tolist() if len(starts) else [],
            strict=True,
        ):
            earliest[number] = min(low, earliest.get(number, low))
            latest[number] = max(high, latest.get(number, high))
    before = None
    for number in sorted(latest):
        if before is not None and earliest[number] < before - MOST_DISORDER_NS:
            return False
        before = latest[number] if before is None else max(before, latest[number])
    return True


def _agree(lines: Mapping[str, Line], step: _Step, where: str) -> bool:
    """Whether the clocks of all topics were set back there; False where all go on.

    Raises:
        SourceError: some were and others not.
    """
    moved: dict[str, int] = {}
    for name, line in lines.items():
        row = step.rows[name]
        before, behind = slice(max(0, row - _FEW), row), slice(row, row + _FEW)
        if not line.steady or not 0 < row < len(line.time):
            continue
        delays = [np.median(line.time[part] - line.log_time[part]) for part in (before, behind)]
        moved[name] = step.log_size + round(float(delays[0] - delays[1]))
    if not moved:
        return True
    most, least = max(moved, key=moved.__getitem__), min(moved, key=moved.__getitem__)
    if moved[most] - moved[least] > min(DISORDER_NS, step.size // 2):
        sizes = [f"{max(0, moved[name]) / NS:.3g} s" for name in (most, least)]
        raise SourceError(
            f"{where}: expected the clocks of all topics to be set back at once, got that of topic {most} by "
            f"{sizes[0]}, and that of {least} by {sizes[1]}; give both clock = 'log'"
        )
    return 2 * moved[most] > step.size
