"""Settings of the stage `adapt`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...adapt.guard_config import GuardConfig
from ...bounds import Bounded, Count, CountFromZero
from ...robots.family import Hardware, OneRow, RobotFamily

EVALUATIONS = 20
"""Default number of extra episodes for each evaluation of a simulated robot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptStageConfig(Bounded):
    """How long the agent has in each task, and how it is evaluated on the way."""

    episodes: Count | None = None
    """Episodes per task in all; without it, as many as the bundle's budget has. Between two rounds of the budget there
    is one step of adaptation, where the learner has such steps."""
    evaluations: CountFromZero | None = None
    """Extra episodes per task for each evaluation, 0 for none; without it, 20 on a simulated robot and 0 on a real one.
    They are played by a copy of the agent and change nothing."""
    evaluate_at: tuple[CountFromZero, ...] = (40, 60, 100, 300)
    """Episodes after which policies are evaluated, beside 0, the end of exploration and the last."""
    settings: tuple[str, ...] = ()
    """Settings of the learner in place of the bundle's, as name=value with a JSON value, e.g. search="blind" or
    finetune.batch=128; `supple info BUNDLE` lists them."""
    logs: Literal["on", "drive", "off"] = "on"
    """What the logs in the bundle are for, where it has any: to search for the reward and to drive to it; only to drive
    to a reward that the learner has found; or nothing, so that the learner alone acts."""
    updates: Literal["auto", "beside", "here"] = "auto"
    """Where steps of gradients are taken: in a process beside the one that controls the robot, which holds it
    meanwhile, or in the same one; auto does it beside for a real robot. The result is the same bit for bit."""
    guard: Literal["auto", "on", "off"] = "auto"
    """Guard every update of the policy; auto guards a real robot, and no simulated one."""
    guards: GuardConfig = field(default_factory=GuardConfig)
    """Their limits."""

    def is_guarded(self, family: RobotFamily) -> bool:
        """Whether updates on these robots are guarded."""
        return isinstance(family, Hardware) if self.guard == "auto" else self.guard == "on"

    def learns_beside(self, family: RobotFamily) -> bool:
        """Whether a process beside this one learns."""
        return isinstance(family, Hardware) if self.updates == "auto" else self.updates == "beside"

    def count_evaluations(self, family: RobotFamily) -> int:
        """Extra episodes per task for each evaluation on these robots."""
        usual = 0 if isinstance(family, OneRow) else EVALUATIONS
        return usual if self.evaluations is None else self.evaluations


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching(Bounded):
    """Who looks on, and who may step in; no part of what is adapted."""

    log: bool = False
    """Write every observation, command, clamp, fault and intervention to log/ in the folder; needs supple[ros]."""
    live: bool = False
    """Show the adaptation on one screen while it runs."""
    operator: str = "none"
    """Who may take over from the policy: keyboard, or socket:PATH for a gamepad, a leader arm or a topic."""
    monitor: str = "robot"
    """Who tells reward and success: robot, keyboard (+ solved, - failed), or FILE.py:NAME for a function of yours."""
    novelty: Path | None = None
    """A model of the robot's motion in nominal episodes, see supple.adapt.novelty: it scores unknown states. Without
    it, that of the bundle, if it has one."""
    prompt: bool = False
    """Wait for Enter before each episode, so that a person can put the robot and the task in their place."""

    @property
    def any(self) -> bool:
        """Whether anything of it is asked for."""
        return self != Watching()
