"""Which exporter belongs to which learner of the benchmark: a plain dict, one line for each."""

from collections.abc import Callable
from typing import Any

from ...adapt.learners.export_maesn import export_maesn
from ...adapt.learners.export_maml import export_maml
from ...adapt.learners.export_mlsh import export_mlsh
from ...adapt.learners.export_pearl import export_pearl
from ...adapt.learners.export_ppo import export_ppo
from ...adapt.learners.export_recurrent_updater import export_recurrent_updater
from ...adapt.learners.export_rl2 import export_rl2
from ...adapt.learners.export_sac import export_pearl_ft, export_sac
from ...adapt.learners.export_varibad import export_varibad
from ...adapt.learners.exported import Exported
from ...adapt.learners.kinds import KINDS
from ...errors import BundleError
from .cell_stages import LearnerChoice
from .distral import DistralChoice
from .maesn import MaesnChoice
from .maml import MamlChoice
from .mlsh import MlshChoice
from .pearl import PearlChoice, SacChoice
from .ppo import PpoChoice
from .recurrent_updater import RecurrentUpdaterChoice
from .rl2 import Rl2Choice
from .varibad import VaribadChoice


def _export_pearl(learner: Any, choice: PearlChoice) -> Exported:
    if choice.fine_tuning is None:
        return export_pearl(learner, prior_episodes=choice.prior_episodes, greedy=choice.greedy)
    return export_pearl_ft(
        learner,
        choice.fine_tuning,
        inference_episodes=choice.inference_episodes,
        prior_episodes=choice.prior_episodes,
        greedy=choice.greedy,
    )


EXPORTERS: dict[type[Any], Callable[[Any, Any], Exported]] = {
    DistralChoice: lambda learner, choice: export_ppo(learner),
    MaesnChoice: lambda learner, choice: export_maesn(learner, later_scale=choice.later_scale),
    MamlChoice: lambda learner, choice: export_maml(learner, later_scale=choice.later_scale),
    MlshChoice: lambda learner, choice: export_mlsh(learner, random_choice=choice.random_choice),
    PearlChoice: _export_pearl,
    PpoChoice: lambda learner, choice: export_ppo(learner),
    RecurrentUpdaterChoice: lambda learner, choice: export_recurrent_updater(learner),
    Rl2Choice: lambda learner, choice: export_rl2(learner, greedy=choice.greedy),
    SacChoice: lambda learner, choice: export_sac(learner),
    VaribadChoice: lambda learner, choice: export_varibad(learner, greedy=choice.greedy),
}
"""From the class of the choice, or one that it inherits from: a function of the learner, on the CPU, and the choice."""


def find_exporter(choice: LearnerChoice) -> Callable[[Any, Any], Exported]:
    """The exporter of a learner.

    Raises:
        BundleError: There is none.
    """
    exporter = next((EXPORTERS[kind] for kind in type(choice).__mro__ if kind in EXPORTERS), None)
    if exporter is None:
        known = ", ".join(sorted(KINDS.keys() - {"policy"}))  # what a task came to is no learner
        raise BundleError(
            f"export: expected a learner of one of the kinds {known}, got '{choice.method}'; no bundle holds it, so "
            "evaluate it with supple bench-meta"
        )
    return exporter
