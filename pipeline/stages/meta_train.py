"""Stage `meta-train`: any learner on the train tasks of any robot, over skills or actions.

Writes `learner.safetensors` (what export needs of the learner's state), `meta.json` (what it was trained for) and,
where the policy's actions or its observations come from skills, the skill model again, so that this folder alone is
enough to export.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...adapt.eye import open_eyes, see_spec
from ...errors import ConfigError, SpecError
from ...robots.family import OneRow
from ...robots.robot import RobotBatch
from ...robots.spec import RobotSpec
from ...robots.task import TaskSet, goals_of
from ...robots.unplugged import UnpluggedRobots
from ...skills.config import SkillConfig, load_skill_facts
from ..action_spaces import LEARNED, make_learned_space, make_space
from ..executors import Executor
from ..folder import write_record
from ..keys import compute_digest
from ..learners import FromPlay, LearnerChoice
from ..robots import RobotChoice
from ..run_files import LEARNER_NAME
from ..settings.meta_train import MetaTrainConfig
from ..sharded_robots import share_robots
from ..stage import Stage, Work

MODULE = "pipeline/stages/meta_train.py"
FACTS_NAME = "meta.json"
MOST_TASKS = 1000
"""Tasks of a split that are listed; bandits have a hundred thousand."""
UNITS = {"simpl": "epoch"}
"""What an iteration of a learner is called, where it has another name."""


def make_meta_train(
    skills: Path | None,
    config: MetaTrainConfig,
    learner: LearnerChoice,
    robot: RobotChoice,
    tasks: TaskSet,
    seed: int,
    *,
    play: Path | None = None,
    executor: Executor | None = None,
) -> Stage:
    """The stage.

    Args:
        skills: A folder of `extract`; `skill` and `raw` actions need it.
        config: What the policy chooses in.
        learner: What is meta-trained.
        robot: To train on.
        tasks: Its train tasks, and the test tasks that the bundle names.
        seed: Of all that is random.
        play: A folder of `ingest` or a store, for a learner that starts from play data.
        executor: Where the robots are stepped; None is in this process. The result is the same.

    Raises:
        RunError: there is no whole skill model at `skills`.
        StoreError: there is no whole store at `play`.
        SpecError: the skills or the data are of another robot.
        ConfigError: skills or play data are needed and not given; or the robot is a real one, or a log.
    """
    spec, inputs = robot.spec, {}
    require_simulated(robot, learner)
    if config.action_space in LEARNED:
        if skills is None:
            raise ConfigError(
                f"meta-train: expected the folder of a skill model for {config.action_space} actions, got none; pass "
                "what extract wrote, or --action-space unit"
            )
        spec.require_source(load_skill_facts(skills).robot, str(skills))
        inputs["skills"] = skills
    if isinstance(learner.settings, FromPlay):
        if play is None:
            raise ConfigError(
                f"meta-train: expected --play FOLDER for {learner.reference}, which starts from play data, got none; "
                "pass what ingest wrote"
            )
        require_blind(learner, spec)
        learner.settings.require_play(play, spec)
        inputs["play"] = play
    return Stage(
        name="meta-train",
        config={
            "robot": robot.record,
            "space": config.action_space,
            "learner": learner.training_record,
            "tasks": {**describe_tasks(tasks), "digest": compute_tasks_digest(tasks)},
        },
        inputs=inputs,
        seed=seed,
        module=(MODULE, *learner.row.modules),
        libraries=("numpy", "torch", "safetensors", "mujoco"),
        body=partial(meta_train, config, learner, robot, tasks, executor),
    )


def require_simulated(robot: RobotChoice, learner: LearnerChoice) -> None:
    """Refuses to train on a real robot, which no safety limits would hold here, and on a log, which obeys nothing.

    Raises:
        ConfigError: It is one, and the learner has something to train.
    """
    if isinstance(robot.family, OneRow) and learner.settings.iterations:
        raise ConfigError(
            f"meta-train: expected a simulated robot, got '{robot.reference}'; train on a simulator of it and adapt "
            "on the robot, or take --learner spirl, which is not meta-trained"
        )


def require_blind(learner: LearnerChoice, spec: RobotSpec) -> None:
    """Refuses a robot that sees for a learner that clones play data.

    Raises:
        SpecError: It has a camera.
    """
    if spec.image is not None:
        raise SpecError(
            f"meta-train: expected a robot without a camera for {learner.reference}, which clones play data, got "
            f"'{spec.name}'; choose another learner, or a robot without pictures"
        )


def make_paper_learner(
    skill: SkillConfig, config: MetaTrainConfig, learner: LearnerChoice, robot: RobotChoice, tasks: int
) -> tuple[Any, RobotSpec]:
    """The learner before its training, and the robot as it sees it: on paper, before there are play data and skills.

    Args:
        skill: Of the skills that there will be.
        config: What the policy chooses in.
        learner: What will be meta-trained.
        robot: To train on; none is made.
        tasks: Number of train tasks.

    Raises:
        ConfigError: The learner does not fit the robot or its tasks.
        SpecError: The robot has no such actions, or no such axes.
    """
    from ...skills.model import SkillModel

    require_simulated(robot, learner)
    spec = robot.spec
    if isinstance(learner.settings, FromPlay):
        require_blind(learner, spec)
    model = SkillModel(*spec.observation.shape, *spec.action.shape, skill, spec)
    if config.action_space in LEARNED:
        spec = spec if spec.image is None else see_spec(spec, skill.image_features)
        space = make_learned_space(config.action_space, spec, model)
    else:
        space = make_space(config.action_space, spec)
    robots, goals = UnpluggedRobots(spec, learner.settings.rows(tasks)), np.zeros((tasks, *spec.goal.shape), np.float32)
    return learner.settings.make_learner(space, robots, goals, seed=0, device="cpu"), spec


def meta_train(
    config: MetaTrainConfig,
    learner: LearnerChoice,
    choice: RobotChoice,
    tasks: TaskSet,
    executor: Executor | None,
    work: Work,
) -> None:
    """Trains to the last iteration, then writes learner, facts and skill model."""
    import torch

    from ...adapt.host.spaces import export_eye
    from ...skills.checkpoint import load_checkpoint, load_skill_model, save_checkpoint, save_skill_model

    torch.set_num_threads(work.machine.threads)
    checkpoint = work.restore(save_checkpoint, load_checkpoint)
    settings, goals, skills = learner.settings, goals_of(tasks.train), work.inputs.get("skills")
    spec, rows = choice.spec, settings.rows(len(goals))
    robot: RobotBatch = UnpluggedRobots(spec, rows)
    if settings.iterations:
        robot = share_robots(choice.family, rows, work.machine.threads, executor)
    space = make_space(config.action_space, spec, skills, work.machine.device)
    if spec.image is not None and skills is not None:
        robot = open_eyes(robot, export_eye(load_skill_model(skills), seed=0))
    elif spec.image is not None:
        work.view.note(
            f"meta-train: the policy sees no pictures of robot '{spec.name}': skills see them, and the action space "
            f"{config.action_space} has no skills"
        )
    trained = settings.make_learner(space, robot, goals, seed=work.seed, device=work.machine.device)
    start = 0
    if checkpoint is not None:
        trained.load_state(checkpoint.tensors, checkpoint.facts)
        start = int(checkpoint.facts["iteration"])
    elif isinstance(settings, FromPlay):
        work.view.note(settings.start(trained, work.inputs["play"]))
    unit = UNITS.get(settings.method, "iteration")
    work.consume(trained.train(), total=settings.iterations, unit=unit, start=start, state=trained.state)
    tensors, facts = trained.state()
    kept = {name: value for name, value in tensors.items() if name.startswith(learner.row.keep or ("",))}
    save_checkpoint(work.folder / LEARNER_NAME, kept, {} if learner.row.keep else facts)
    if skills is not None:
        save_skill_model(work.folder, load_skill_model(skills))
    record = {
        "robot": spec.to_json(),
        "tasks": describe_tasks(tasks),
        "learner": learner.record,
        "iterations": facts["iteration"],
        "environment_steps": facts["environment_steps"],
    }
    write_record(work.folder / FACTS_NAME, record)
    robot.close()


def compute_tasks_digest(tasks: TaskSet) -> str:
    """Names and goals of every task, in order."""
    return compute_digest([[[task.name, *task.goal] for task in split] for split in (tasks.train, tasks.test)])


def describe_tasks(tasks: TaskSet) -> dict[str, Any]:
    """What later stages and the bundle are told of the tasks: their numbers, and the first of each split."""
    return {
        "name": tasks.name,
        "num_train": len(tasks.train),
        "num_test": len(tasks.test),
        "train": [asdict(task) for task in tasks.train[:MOST_TASKS]],
        "test": [asdict(task) for task in tasks.test[:MOST_TASKS]],
    }
