"""The settings of a benchmark cell, and its first stage: meta-training on its train tasks.

`bench-train` writes `learner.safetensors`, the whole state of the learner after its last iteration. Its code version is
that of this file, of the robot and of the one learner, so that a change of one learner leaves the rest valid.

A cell may read what the chain made: trained skills (`skill` and `raw` actions), and play data (`FromPlay`). These are
inputs of its stages, by digest; where they lie is no part of a cell.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from supple.errors import ConfigError
from supple.meta.adaptive import MetaLearner
from supple.meta.config import EvaluationConfig
from supple.pipeline.action_spaces import LEARNED, Space, load_skills, make_space
from supple.pipeline.folder import write_record
from supple.pipeline.learners import FromPlay, LearnerSettings, choose_learner
from supple.pipeline.robots import choose_builtin
from supple.pipeline.run_files import LEARNER_NAME
from supple.pipeline.stage import Stage, Work
from supple.pipeline.stages.meta_train import FACTS_NAME, describe_tasks
from supple.robots.family import RobotFamily
from supple.robots.robot import Float
from supple.robots.task import goals_of
from supple.skills.checkpoint import load_checkpoint, save_checkpoint

from .rows import make_rows

MODULE = "benchmarks/meta/cell_train.py"
Role = Literal["play", "skills"]
"""What a cell may read: an `ingest` folder or a store, and an `extract` folder."""
Inputs = Mapping[Role, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """All that decides the numbers of a cell."""

    robot: RobotFamily
    train_robot: RobotFamily | None = None
    """Trains on the train tasks of `robot` where the reward of `robot` is too sparse for that; None trains on
    `robot`."""
    space: Space
    learner: LearnerSettings
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    evaluation_seed: int = 1000
    """Of resets, noise and exploration in the evaluation; the same for all seeds of the training."""
    libraries: tuple[str, ...] = ()
    """Distributions, beside those of every learner, whose version may change the result; their versions are in the
    key."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """What the cell reads; the evaluation needs the skills alone."""
        skills: tuple[Role, ...] = ("skills",) if self.space in LEARNED else ()
        return (*skills, "play") if isinstance(self.learner, FromPlay) else skills


def name_random(space: Space) -> str:
    """What records call random choices: in spaces that were learned from data they are other policies."""
    return f"random-{space}" if space in LEARNED else "random"


def require_inputs(cell: str, config: BenchConfig, inputs: Inputs) -> None:
    """Checks that all that a cell reads is there and of its robot, before anything is run.

    Raises:
        ConfigError: something is not given.
        RunError: the skills are missing or damaged.
        StoreError: the play data are.
        SpecError: either is of another robot.
    """
    for role in config.roles:
        if role not in inputs:
            made_by = "extract" if role == "skills" else "ingest"
            raise ConfigError(
                f"benchmarks.meta {cell}: expected --{role} FOLDER, got none; pass the folder that supple {made_by} "
                "wrote"
            )
    if not config.roles:
        return
    spec = config.robot.spec()
    if "skills" in config.roles:
        load_skills(inputs["skills"], spec)
    if isinstance(config.learner, FromPlay):
        config.learner.require_play(inputs["play"], spec)


def make_train(config: BenchConfig, seed: int, inputs: Inputs | None = None) -> Stage:
    """The stage that meta-trains; `inputs` has what `BenchConfig.roles` names, where the stage is to be run."""
    given = choose_inputs(inputs, config.roles)
    return make_stage("bench-train", config, {}, given, seed, partial(train, config))


def choose_inputs(inputs: Inputs | None, roles: Sequence[Role]) -> dict[str, Path]:
    """Those of the given inputs that have these roles."""
    return {role: inputs[role] for role in roles if role in inputs} if inputs else {}


def make_stage(
    name: str,
    config: BenchConfig,
    settings: dict[str, Any],
    inputs: dict[str, Path],
    seed: int,
    body: Callable[[Work], None],
    module: str = MODULE,
) -> Stage:
    """A stage of a cell, whose key holds robot, space, learner and `settings`."""
    return Stage(
        name=name,
        config={
            "robot": choose_builtin(config.robot).record,
            "space": config.space,
            **({} if config.train_robot is None else {"train robot": choose_builtin(config.train_robot).record}),
            "learner": choose_learner(config.learner).record,
            **settings,
        },
        inputs=inputs,
        seed=seed,
        module=(module, *choose_learner(config.learner).row.modules),
        libraries=("numpy", "torch", "safetensors", *config.libraries),
        body=body,
    )


def train(config: BenchConfig, work: Work) -> None:
    """Meta-trains to the last iteration and writes the learner's state."""
    torch.set_num_threads(work.machine.threads)
    checkpoint = work.restore(save_checkpoint, load_checkpoint)
    learner = make_learner(config, goals_of(config.robot.tasks().train), work)
    start = 0
    if checkpoint is None and isinstance(config.learner, FromPlay):
        work.view.note(config.learner.start(learner, work.inputs["play"]))
    if checkpoint is not None:
        learner.load_state(checkpoint.tensors, checkpoint.facts)
        start = int(checkpoint.facts.get("iteration", 0))
    total = config.learner.iterations
    work.consume(learner.train(), total=total, unit="iteration", start=start, state=learner.state)
    tensors, facts = learner.state()
    save_checkpoint(work.folder / LEARNER_NAME, tensors, facts)
    record = {"robot": config.robot.spec().to_json(), "tasks": describe_tasks(config.robot.tasks())}
    write_record(work.folder / FACTS_NAME, record)
    learner.robot.close()


def make_learner(config: BenchConfig, goals: Float, work: Work) -> MetaLearner:
    """The learner before its first iteration, on train goals of shape (N, G)."""
    robot = make_rows(config.train_robot or config.robot, config.learner.rows(len(goals)))
    space = make_space(config.space, robot.spec, work.inputs.get("skills"), work.machine.device)
    return config.learner.make_learner(space, robot, goals, seed=work.seed, device=work.machine.device)
