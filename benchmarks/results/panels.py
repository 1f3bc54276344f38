"""Which curves share a panel.

With few curves there is one panel of all. Where more of ours would hide each other, there are up to three: the methods
on the main task set; the methods that were trained on several task sets; and the variants of a method, such as
`simpl-blind` of `simpl`, beside it. What is published stands beside its owner. No curve is left out.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from .labels import DASHED, PUBLISHED, RANDOM, count_train_tasks, find_owner, name_tasks

MOST_OURS: Final = 4
"""More measured curves than these are not drawn in one panel."""


class Series(NamedTuple):
    """Whose curves: a method as it was trained on one task set."""

    method: str
    tasks: str

    @property
    def owner(self) -> "Series":
        """Whose colour it has."""
        return Series(find_owner(self.method), self.tasks)

    @property
    def ours(self) -> bool:
        """Whether it was learned and measured here."""
        return not self.method.endswith(DASHED) and not self.random

    @property
    def random(self) -> bool:
        """Whether nothing chose its actions."""
        return not self.method.endswith(DASHED) and re.match(rf"{RANDOM}\b", self.method) is not None


class Panel(NamedTuple):
    """Curves that are drawn together."""

    title: str
    """Empty where there is one panel."""
    series: tuple[Series, ...]
    beside: frozenset[Series] = frozenset()
    """Of these, the ones that another panel shows to their end."""


def split_panels(series: Iterable[Series]) -> list[Panel]:
    """Panels of all `series`, each of them with at least one that no panel before has."""
    every = tuple(dict.fromkeys(series))
    ours = [one for one in every if one.ours]
    if len(ours) <= MOST_OURS:
        return [Panel("", every)]
    main = find_main_tasks(ours)
    several = find_several(every)
    variants = {one for one in every if is_variant(one, ours) and one.tasks == main}
    published = {one for one in every if one.method in several and one.method.endswith(PUBLISHED)}
    elsewhere = (published | {one for one in every if one.tasks != main}) - variants
    methods = tuple(one for one in every if one not in variants | elsewhere)
    panels = [Panel(f"Methods, {name_tasks(main)}" if main else "Methods", methods)]
    if elsewhere:
        shown = {one for one in methods if one.ours and one.method in several}
        counted = all(count_train_tasks(one.tasks) is not None for one in every)
        title = "Number of train tasks" if counted else "Task sets"
        panels.append(Panel(title, _by_count(one for one in every if one in shown | elsewhere), frozenset(shown)))
    if variants:
        shown = {one for one in methods if one.ours and any(is_variant(other, [one]) for other in variants)}
        panels.append(Panel("Variants", tuple(one for one in every if one in shown | variants), frozenset(shown)))
    return [panel for panel in panels if panel.series]


def find_main_tasks(ours: Sequence[Series]) -> str:
    """The task set that most methods were trained on, the first of several; "" of none."""
    counts = {one.tasks: sum(other.tasks == one.tasks for other in ours) for one in ours}
    return max(counts, key=lambda tasks: counts[tasks], default="")


def find_several(series: Sequence[Series]) -> set[str]:
    """The methods that stand for more than one task set."""
    return {one.method for one in series if len({other.tasks for other in series if other.method == one.method}) > 1}


def is_variant(one: Series, ours: Sequence[Series]) -> bool:
    """Whether its owner's name continues that of a method of `ours`."""
    return any(one.owner.method.startswith(f"{other.method}-") for other in ours if one.owner != other)


def _by_count(series: Iterable[Series]) -> tuple[Series, ...]:
    """Those with most train tasks first."""
    return tuple(sorted(series, key=lambda one: -(count_train_tasks(one.tasks) or 0)))
