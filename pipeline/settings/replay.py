"""Settings of the stage `replay`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ...bounds import Bounded, Count, CountFromZero, Positive, Range

PartName = Literal["open_loop", "off_policy", "simulator", "rehearsal"]
"""Of the parts of a replay; known states and skills belong to the open loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoopConfig(Bounded):
    """How a policy is compared with the actions of a log."""

    samples: Annotated[int, Range(0, 256)] = 8
    """Draws of a stochastic policy for each decision, of which the nearest to the log counts (min-of-K); 0: none."""
    horizon: Annotated[int, Range(1, 10_000)] = 10
    """H of the errors at 1, H and 10 H steps, for a policy without skills; with skills it is the skill's."""
    predictions: CountFromZero = 20
    """Episodes, the first ones, whose predictions are written beside the log as MCAP; 0: none."""
    alpha: Annotated[float, Range(0.0, 0.5, above=True)] = 0.01
    """Share of episodes like those of the training that may be called unknown."""
    searched: Annotated[int, Range(0, 10_000)] = 20
    """Windows of each episode for which the nearest skill is searched, where the skill encoder is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig(Bounded):
    """How logged commands are replayed in the simulator."""

    episodes: Count = 20
    """Episodes of the log that are replayed, evenly spread over it."""
    restart: Count = 20
    """Steps after which the simulator starts anew from the log."""
    delay_tolerance: Positive | None = None
    """Seconds from command to motion that are no finding; without it, a tenth of the control period."""
    gain_tolerance: Positive = 0.1
    """Share by which a joint may move more or less than commanded."""
    bias_tolerance: Positive = 0.01
    """Offset of a command or a sensor, as a share of its range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalConfig(Bounded):
    """How an adaptation is rehearsed on a log."""

    shown: tuple[CountFromZero, ...] = (0, 1, 2, 5, 10)
    """Numbers of first episodes from which the task is inferred, and the rest is predicted."""
    rest: Count = 5
    """Episodes behind the largest of these numbers that are predicted, the first ones."""
    steady: Count = 3
    """Successful episodes in a row that make a task reached."""
    success_return: float | None = None
    """Return from which on an episode is a success, where neither the log nor the robot's family tells."""
    returns: bool = True
    """Estimate what the learner would earn with what it knows after each of these numbers, from the later episodes."""
    own: bool = True
    """The log is of an adaptation of this very bundle, from its first episode on; else only the records of the
    reference tasks count for the number of episodes, and not what the log shows."""
