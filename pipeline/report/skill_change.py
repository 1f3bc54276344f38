"""Which skills the adaptation changed: the choices of the policies before and after, in the same states.

Axes: N tasks, Z latent.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import RunError
from ...strict_json import load_json
from ..evidence import advise_again
from ..stages.adapt import SKILLS_NAME
from .curves import WIDE, Plot, draw_legend
from .measure import format_number
from .style import ADAPTED, BEFORE, MUTED, figure_style, make_axes, render_svg
from .tables import NUMBER, Table

MOST = 16
"""Axes of the latent, or choices, that are drawn: those that changed most."""
TIMES = ("before", "after")


class SkillChange(NamedTuple):
    """What the report shows."""

    lead: str
    """How far the policies have moved, in a sentence."""
    plot: Plot
    commands: Table
    """What it means for the robot, by action axis."""


def load_skill_change(folder: Path) -> SkillChange | None:
    """Reads what the stage `adapt` left; None where it has not come so far, or is older than that.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / SKILLS_NAME
    if not path.is_file():
        return None
    remedy = advise_again(folder, "adapt again")
    records = load_json(path, list, RunError, remedy)
    try:
        if not records:
            raise ValueError("no task")
        return SkillChange(make_lead(records), make_plot(records), make_command_table(records))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise RunError(f"{path}: expected one record of each task, got {error!r}; {remedy}") from error


def make_lead(records: Sequence[Mapping[str, Any]]) -> str:
    """One sentence or two; distances of narrow policies are so different that only the middle one says something."""
    distances = sorted(float(record["kl"]) for record in records)
    moved = sum(distance > 1e-6 for distance in distances)
    middle = format_number(float(np.median(distances)))
    several = len(distances) > 1
    where = f" in the median task ({format_number(distances[0])} to {format_number(distances[-1])})" if several else ""
    return (
        f"In {moved} of {len(records)} tasks the policy chooses otherwise than before the first episode. It has moved "
        f"by {middle} nats of a decision{where}, in states of the last episode."
    )


def make_plot(records: Sequence[Mapping[str, Any]]) -> Plot:
    """One point for each task, before and after: of the axes of the skill, or of the named choices."""
    named = "choices" in records[0]
    part = "choices" if named else "axes"
    before, after = (np.array([[one[when] for one in record[part]] for record in records]) for when in TIMES)
    moved = np.abs(after - before).mean(axis=0)
    shown = np.sort(np.argsort(-moved, kind="stable")[:MOST])
    labels = [str(one["choice"]) for one in records[0][part]] if named else [f"z{axis}" for axis in range(len(moved))]
    with figure_style():
        figure, axes = make_axes(WIDE[0], 0.3 * len(shown) + 1.2)  # downward, so that a phone shows all names
        places = np.arange(len(shown))
        scatter = 0.05 * (np.arange(len(records)) - (len(records) - 1) / 2) / max(1, len(records) / 2)
        for values, color, label, side in ((before, BEFORE, "before", -0.14), (after, ADAPTED, "after", 0.14)):
            y = places[None] + side + scatter[:, None]
            axes.scatter(values[:, shown], y, s=13, color=color, alpha=0.75, linewidths=0, label=label)
            axes.vlines(values[:, shown].mean(axis=0), places + side - 0.12, places + side + 0.12, color=color)
        if not named:
            axes.axvline(0.0, color=MUTED, linewidth=0.8)
        axes.set_yticks(places, [labels[index] for index in shown])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="share of decisions" if named else "mean choice, prior deviations")
        draw_legend(figure)
        kind = "how often a choice is made" if named else "the mean choice along an axis of the skill"
        some = f" The {MOST} of {len(moved)} that changed most." if len(moved) > MOST else ""
        caption = f"A point is {kind} in one task; a bar is the mean over tasks.{some}"
        return Plot(render_svg(figure, "skill-change", "Choices before and after the adaptation"), caption)


def make_command_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """By action axis: how much the first command of a decision has changed, mean over tasks and largest of all."""
    rows = []
    for index, first in enumerate(records[0]["commands"]):
        found = [record["commands"][index] for record in records]
        mean, largest = np.mean([one["mean"] for one in found]), max(one["largest"] for one in found)
        rows.append((str(first["axis"]), str(first["unit"]) or "none", format_number(mean), format_number(largest)))
    return Table(("axis", "unit", f"{NUMBER}mean change", f"{NUMBER}largest"), {"": rows})
