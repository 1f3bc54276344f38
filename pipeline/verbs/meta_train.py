"""The verb `meta-train`, whose options depend on the learner."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ...bounds import Seed
from ..cli_common import FLAT, Common, Options, Runner
from ..executors import RobotExecutorConfig, make_executor
from ..learner_option import AboutLearner
from ..robots import find_tasks
from ..run_files import find_stage
from ..settings.meta_train import MetaTrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaTrain(AboutLearner):
    """Arguments of `supple meta-train`."""

    usual_robot = "maze"

    skills: tyro.conf.Positional[Path | None] = None
    """A folder of `extract`; --action-space unit and choice need none."""
    play: Path | None = None
    """A folder of `ingest` or a store, for learners that start from play data."""
    out: Path | None = None
    """Folder to make; without it, runs/meta-train-<key>."""
    seed: Seed = 0
    """Seed of weights, exploration, sampling and resets."""
    tasks: Path | None = None
    """CSV file of train goals, a column for each goal axis and perhaps name; without it, the robot's own."""
    test_tasks: Path | None = None
    """CSV file of test goals, which the bundle then names; without it, the robot's own."""
    meta_train: Annotated[MetaTrainConfig, tyro.conf.arg(name="")] = field(default_factory=MetaTrainConfig)
    where: Annotated[RobotExecutorConfig, FLAT] = field(default_factory=RobotExecutorConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the learner."""
        from ..stages.meta_train import make_meta_train

        robot = self.require_choice()
        tasks = find_tasks(robot, self.tasks, self.test_tasks)
        learner = self.require_learner()
        skills = None if self.skills is None else find_stage(self.skills, "extract")
        with closing(make_executor(self.where, runner.stop)) as executor:
            stage = make_meta_train(
                skills, self.meta_train, learner, robot, tasks, self.seed, play=self.play, executor=executor
            )
            runner.run(stage, self.out)
