"""Which exporter belongs to which learner of the benchmark: a plain dict, one line for each."""

from collections.abc import Callable
from typing import Any

from ..adapt.export_maml import export_maml
from ..adapt.export_rl2 import export_rl2
from ..adapt.exported import Exported
from ..errors import BundleError
from .bench_maml import MamlChoice
from .bench_rl2 import Rl2Choice
from .stage_bench_meta import LearnerChoice

EXPORTERS: dict[type[Any], Callable[[Any, Any], Exported]] = {
    MamlChoice: lambda learner, choice: export_maml(learner, later_scale=choice.later_scale),
    Rl2Choice: lambda learner, choice: export_rl2(learner, greedy=choice.greedy),
}
"""From the class of the choice: a function of the learner, on the CPU, and the choice."""


def find_exporter(choice: LearnerChoice) -> Callable[[Any, Any], Exported]:
    """The exporter of a learner.

    Raises:
        BundleError: There is none.
    """
    exporter = EXPORTERS.get(type(choice))
    if exporter is None:
        known = ", ".join(sorted(kind.__name__ for kind in EXPORTERS))
        raise BundleError(
            f"export: expected a learner of {known}, got {type(choice).__name__}; no bundle holds it, so evaluate it "
            "with supple bench-meta"
        )
    return exporter
