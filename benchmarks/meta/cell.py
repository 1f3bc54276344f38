"""What a cell of the meta-RL results table is: a benchmark with references and gates."""

from dataclasses import dataclass
from typing import NamedTuple

from .cell_train import BenchConfig


class Reference(NamedTuple):
    """What others reached, or what is exact."""

    method: str
    """As in the records; ends in `-published` or `-exact`."""
    values: tuple[float, ...]
    """Along the cell's axis, or one number."""
    source: str
    metric: str = "return"
    """`return`, or `return_trial` for the sum over a trial."""


class Gate(NamedTuple):
    """What a cell has to reach: the mean over seeds and test tasks."""

    at_least: float
    place: int | None = None
    """On the cell's axis; None for a number that stands on no axis."""
    metric: str = "return"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of the table."""

    config: BenchConfig
    minutes: float
    """Expected time of one seed on one core, roughly: a few timed iterations, times their number."""
    gates: tuple[Gate, ...] = ()
    references: tuple[Reference, ...] = ()

    @property
    def benchmark(self) -> str:
        """What records call the robot with its tasks."""
        return f"meta-{self.config.robot.name}"

    @property
    def axis(self) -> str:
        """Along which the test returns stand."""
        return "gradient_step" if self.config.evaluation.adapt_steps else "episode_index"
