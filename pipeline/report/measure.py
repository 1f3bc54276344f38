"""How episodes are judged: by success where the robot's family tells it, else by their return. Fractions everywhere."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import summary
from .trips import Trip

MEANINGS = {**summary.MEANINGS, "known": "after adaptation"}
"""What a policy is at a stage of adaptation; `known` is one that knows its task and has no parameters of its own."""
Measure = Literal["success", "return"]


class ResultRow(NamedTuple):
    """What the policies gave at one place of adaptation, over all test tasks."""

    method: str
    """A key of `summary.MEANINGS`, or the name of a learner."""
    axis: str
    """What `at` counts, such as `episode`."""
    at: int
    mean: float
    low: float
    high: float
    """Ends of the 95 % interval over tasks."""
    greedy: float | None
    """Mean of the policies without their own randomness; None where it was not measured."""
    n: int
    """Episodes."""
    returned: float | None
    """Mean return of the same episodes; None where it is what was measured, or where nobody told it."""

    @property
    def meaning(self) -> str:
        """What the policies were then, for people."""
        return MEANINGS.get(self.method, self.method)


class Results(NamedTuple):
    """The evaluations of a run, in the order of adaptation."""

    measure: Measure
    rows: list[ResultRow]

    @property
    def unit(self) -> str:
        """What the places of the rows count, for people."""
        return self.rows[0].axis.replace("_", " ").removesuffix("s") if self.rows else "episode"


def find_results(records: Iterable[Mapping[str, Any]]) -> Results:
    """From records of a summary: of success, or of returns where there is no success among them."""
    numbered = [record for record in records if isinstance(record.get("at"), Mapping) and record["at"]]
    known: Iterable[Measure] = ("success", "return")
    for measure in known:
        found = [record for record in numbered if record.get("metric") in (measure, f"{measure}_stochastic")]
        if found:
            break
    greedy, returned = (
        {_place(record): record["mean"] for record in numbered if record.get("metric") == metric}
        for metric in (f"{measure}_greedy", "return_stochastic" if measure == "success" else "")
    )
    rows = []
    for record in found:
        mean, low, high = (float(record[name]) for name in ("mean", "low", "high"))
        place = _place(record)
        method, n, others = str(record["method"]), int(record["n"]), (greedy.get(place), returned.get(place))
        rows.append(ResultRow(method, *place, mean, low, high, others[0], n, others[1]))
    return Results(measure, sorted(rows, key=lambda row: row.at))


def _place(record: Mapping[str, Any]) -> tuple[str, int]:
    axis, at = next(iter(record["at"].items()))
    return str(axis), int(at)


def find_measure(records: Iterable[Mapping[str, Any]]) -> Measure:
    """Of episode records: success if they tell it."""
    return "success" if any(record.get("success") is not None for record in records) else "return"


def format_value(value: float, measure: Measure) -> str:
    """A fraction of successes with two digits, or a return with three significant ones."""
    return f"{value:.2f}" if measure == "success" else format_number(value)


def format_number(value: float) -> str:
    """Three significant digits, without an exponent where it can be: `0.0123`, `1230`, `1.5 M`."""
    if not math.isfinite(value):
        return "none"
    if abs(value) < 1000:
        return f"{value + 0.0:.3g}"
    if abs(value) >= 1e12:
        return f"{value:.2g}"
    return f"{value:.0f}" if abs(value) < 1e5 else format_count(value)


def format_count(value: float, _: object = None) -> str:
    """`1500000` as `1.5 M`."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def name_axis(measure: Measure) -> str:
    """The label of an axis of a figure."""
    return "success (fraction of episodes)" if measure == "success" else "return of an episode"


def caption_trips(stage: str, trips: Sequence[Trip]) -> str:
    """`After inference: 3 of 5 episodes succeeded`, or their mean return."""
    meaning = MEANINGS.get(stage, stage).capitalize()
    if all(trip.success is None for trip in trips):
        return f"{meaning}: mean return {format_number(float(np.mean([trip.total for trip in trips])))}"
    return f"{meaning}: {sum(bool(trip.success) for trip in trips)} of {len(trips)} episodes succeeded"
