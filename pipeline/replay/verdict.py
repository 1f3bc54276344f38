"""The verdict about a policy: trust, caution or do not use; the one place of its rule, which docs/replay.md repeats.

Each part gives grounds, and the verdict is the worst level among them. `do not use` needs the lower end of an interval
beyond its threshold, so that a short log alone cannot give it; `caution` needs the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

from .over_episodes import Spread
from .section import Ground, Level, Section

UNKNOWN_CAUTION, UNKNOWN_STOP = 0.1, 0.5
"""Share of the steps in states that the policy does not know."""
CLAMPED_CAUTION, CLAMPED_STOP = 0.05, 0.5
"""Share of the steps with a command that the safety limits would change."""
MISSED_CAUTION = 0.001
"""Share of the steps whose command is late; the computer of the robot may be another, so that it is caution at most."""
LEVELS: tuple[Level, ...] = get_args(Level)


class Verdict(NamedTuple):
    """The worst level, and all grounds from bad to good."""

    level: Level
    grounds: tuple[Ground, ...]


def decide(sections: Sequence[Section]) -> Verdict:
    """The verdict of all parts; without any ground there is nothing to trust."""
    grounds = [ground for section in sections for ground in section.grounds]
    if not grounds:
        grounds = [Ground("caution", "No part of the replay could say anything about the policy.")]
    ordered = sorted(grounds, key=lambda ground: -LEVELS.index(ground.level))
    return Verdict(ordered[0].level, tuple(ordered))


def judge_share(share: Spread, caution: float, stop: float | None) -> Level:
    """The level of a share of bad steps; `stop` is None where it cannot be worse than caution."""
    if stop is not None and (share.low if share.low is not None else share.mean) > stop:
        return "do not use"
    return "caution" if share.mean > caution else "trust"


def judge_faults(faults: int, steps: int) -> list[Ground]:
    """Of commands that are not finite."""
    if not faults:
        return []
    sentence = f"{faults} of {steps} commands are not finite: the safety limits would stop the robot at the first."
    return [Ground("do not use", sentence)]


def judge_unknown(share: Spread | None, measured: str) -> Ground:
    """Of states that the policy does not know.

    Args:
        share: Of the steps; None where nobody says what the policy knows.
        measured: How, the begin of a sentence.
    """
    if share is None:
        sentence = (
            "Nobody says which states the policy knows: the bundle has no statistics of its training, and the data are "
            "not there (--training)."
        )
        return Ground("caution", sentence)
    level = judge_share(share, UNKNOWN_CAUTION, UNKNOWN_STOP)
    bounds = f"caution above {UNKNOWN_CAUTION:.0%}, do not use above {UNKNOWN_STOP:.0%}"
    return Ground(level, f"{measured}: {show_percent(share)} of the logged steps are unknown to the policy ({bounds}).")


def judge_clamps(policy: Spread, log: Spread) -> Ground:
    """Of commands that the safety limits would change; a log that was clamped as often excuses caution only."""
    level = judge_share(policy, CLAMPED_CAUTION, CLAMPED_STOP)
    if level == "do not use" and log.mean >= policy.mean:
        level = "caution"
    bounds = f"caution above {CLAMPED_CAUTION:.0%}, do not use above {CLAMPED_STOP:.0%}"
    return Ground(
        level,
        f"The safety limits would change the command in {show_percent(policy)} of the steps; of the logged commands in "
        f"{show_percent(log)} ({bounds}).",
    )


def judge_latency(missed: Spread) -> Ground:
    """Of commands that are late."""
    level = judge_share(missed, MISSED_CAUTION, None)
    return Ground(
        level,
        f"On this machine {show_percent(missed)} of the commands are later than one control period (caution above "
        f"{MISSED_CAUTION:.1%}).",
    )


def show_percent(share: Spread) -> str:
    """`3.2 % (2.1 to 4.4 %)`."""
    if share.low is None or share.high is None:
        return f"{100 * share.mean:.3g} %"
    return f"{100 * share.mean:.3g} % ({100 * share.low:.3g} to {100 * share.high:.3g} %)"
