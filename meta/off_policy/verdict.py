"""Whether an off-policy estimate may be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ...bounds import Bounded, Positive, Share

Level = Literal["trust", "caution", "do not use"]
"""From good to bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRule(Bounded):
    """Thresholds of `judge`; the measured rates of error on each side stand in `docs/replay-measured.md`."""

    good_size: Positive = 25.0
    """Effective episodes from which on importance weights say enough."""
    least_size: Positive = 3.0
    """Effective episodes below which they say nothing."""
    good_support: Share = 0.93
    """Share of the policy's decisions that are within the data, from which on a model of the return is not asked about
    what nobody saw; logged decisions of other episodes have 0.95."""
    least_support: Share = 0.7
    """Share below which the model's answer is invented."""
    largest_drift: Positive = 0.1
    """Change of the model's value in its last iterations, spreads of the logged returns."""
    largest_disagreement: Positive = 3.0
    """Between the model and the doubly robust estimate, in standard errors of their difference."""


class Diagnostics(NamedTuple):
    """What a verdict rests on."""

    effective_size: float | None
    """Episodes, see `compute_effective_size`; None where there are no densities."""
    support: float
    """See `Support.share`."""
    diverged: bool
    """Fitted Q evaluation diverged."""
    drift: float
    """See `FittedQ.drift`."""
    disagreement: float | None
    """|fitted Q - doubly robust| / standard error of their difference; None without one of them."""


class Verdict(NamedTuple):
    """A level and why."""

    level: Level
    reasons: Sequence[tuple[Level, str]]
    """Each check's own level and a sentence with its number and threshold; the verdict is the worst of all."""


def judge(found: Diagnostics, rule: VerdictRule) -> Verdict:
    """The verdict about an estimate: the worst level of these checks.

    Effective episodes: `trust` from 25 on; `do not use` below 3; `caution` between, and where there are no densities.
    Support of the policy's decisions in the log: `trust` from 0.93 on, `do not use` below 0.7, `caution` between.
    Fitted Q evaluation: `do not use` where it diverged, `caution` where its value still moved by more than 0.1 spreads
    of the logged returns.
    Agreement of fitted Q evaluation and the doubly robust estimate: `caution` where they differ by more than 3 standard
    errors.
    """
    reasons: list[tuple[Level, str]] = []
    size = found.effective_size
    if size is None:
        reasons.append(
            (
                "caution",
                "The policy or the behaviour has no density, so that no estimate checks the model of the return.",
            )
        )
    else:
        level: Level = "trust" if size >= rule.good_size else "caution" if size >= rule.least_size else "do not use"
        limits = f"{rule.good_size:g} are asked for, below {rule.least_size:g} the weights say nothing"
        reasons.append((level, f"The log is worth {size:.1f} episodes of the policy itself; {limits}."))
    good, least = rule.good_support, rule.least_support
    level = "trust" if found.support >= good else "caution" if found.support >= least else "do not use"
    reasons.append(
        (
            level,
            f"{found.support:.0%} of what the policy would do is within the data; {good:.0%} are asked for, below "
            f"{least:.0%} the estimate is invented.",
        )
    )
    if found.diverged:
        reasons.append(("do not use", "Fitted Q evaluation diverged: its values exceed all that the rewards allow."))
    elif found.drift > rule.largest_drift:
        reasons.append(
            (
                "caution",
                f"The value of fitted Q evaluation still moved by {found.drift:.2f} spreads of the logged returns; at "
                f"most {rule.largest_drift:g} is asked for.",
            )
        )
    if found.disagreement is not None and found.disagreement > rule.largest_disagreement:
        reasons.append(
            (
                "caution",
                f"Fitted Q evaluation and the doubly robust estimate differ by {found.disagreement:.1f} standard "
                f"errors; at most {rule.largest_disagreement:g} are asked for.",
            )
        )
    order: tuple[Level, ...] = ("trust", "caution", "do not use")
    return Verdict(max((level for level, _ in reasons), key=order.index), reasons)
