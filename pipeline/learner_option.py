"""The option `--learner` of verbs that train or take along a learner; its settings are the options `--learner.*`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import tyro

from .cli_common import AboutRobot, bind_choice, take_option
from .learners import LearnerChoice, LearnerSettings, find_learner

LEARNER_HELP = (
    "--learner NAME chooses the learner: {known}, FILE.py:ROW or PACKAGE.MODULE:ROW of your own; its settings are the "
    "options --learner.* below."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutLearner(AboutRobot):
    """Arguments of a verb that is about a learner and a robot."""

    usual_learner: ClassVar[str] = "simpl"
    """The learner without `--learner`."""
    named_learner: ClassVar[LearnerChoice | None] = None
    """What `--learner` named; set by `bind`."""
    learner: tyro.conf.Suppress[LearnerSettings | None] = None
    """Settings of the learner that `--learner` names."""

    @classmethod
    def bind(cls, arguments: Sequence[str]) -> tuple[type[Any], list[str]]:
        """See `AboutRobot.bind`; the learner is bound too."""
        kind, rest = super(AboutLearner, cls).bind(arguments)
        reference, rest = take_option("--learner", rest)
        choice = find_learner(reference or cls.usual_learner)
        return bind_choice(kind, "learner", choice.settings, named_learner=choice), rest

    def require_learner(self) -> LearnerChoice:
        """The learner with the settings of the command line."""
        assert self.named_learner is not None, "bind gives the usual learner"
        assert self.learner is not None, "bind gives the usual learner"
        return replace(self.named_learner, settings=self.learner)
