"""Stage `meta-train`: SiMPL on the train tasks of a robot.

Writes `agent.safetensors` (policy, critics, task encoder, multipliers), `meta.json` (what it was trained for and how)
and the skill model again, so that this folder alone is enough to export.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...errors import RunError
from ...meta.simpl.agent import SimplAgent
from ...meta.simpl.config import SimplConfig
from ...meta.simpl.learner import SimplLearner
from ...meta.space import ActionSpace, RawSpace, SkillSpace
from ...robots.family import make_robots
from ...robots.spec import RobotSpec
from ...robots.task import TaskSet, goals_of
from ...skills.checkpoint import load_checkpoint, load_skill_model, save_checkpoint, save_skill_model
from ...skills.model import SkillModel
from ..folder import load_json, write_record
from ..robots import RobotChoice
from ..settings.meta_train import MetaTrainConfig
from ..stage import Stage, Work

AGENT_NAME = "agent.safetensors"
FACTS_NAME = "meta.json"


def make_meta_train(skills: Path, config: MetaTrainConfig, robot: RobotChoice, tasks: TaskSet, seed: int) -> Stage:
    """The stage.

    Args:
        skills: A folder of `extract`.
        config: What is meta-trained.
        robot: To train on.
        tasks: Its train tasks, and the test tasks that the bundle names.
        seed: Of all that is random.

    Raises:
        RunError: there is no whole skill model at `skills`.
        SpecError: the skills are for another robot, or for one that nobody named.
    """
    robot.family.spec().require_source(load_skill_model(skills).robot, str(skills))
    return Stage(
        name="meta-train",
        config={"robot": robot.record, "meta_train": config, "tasks": tasks},
        inputs={"skills": skills},
        seed=seed,
        module="pipeline/stages/meta_train.py",
        libraries=("numpy", "torch", "safetensors", "mujoco"),
        body=partial(meta_train, config, robot, tasks),
    )


def make_space(name: str, model: SkillModel, spec: RobotSpec, device: str) -> ActionSpace:
    """The space that the policy chooses in; observations are scaled by the skill model's normaliser either way."""
    if name == "raw":
        return RawSpace(spec, model.normaliser.mean.to(device), model.normaliser.std.to(device))
    return SkillSpace(model.to(device))


def meta_train(config: MetaTrainConfig, choice: RobotChoice, tasks: TaskSet, work: Work) -> None:
    """Trains to the last epoch, then writes agent, facts and skill model."""
    torch.set_num_threads(work.machine.threads)
    model = load_skill_model(work.inputs["skills"])
    checkpoint = work.restore(save_checkpoint, load_checkpoint)
    rows = max(config.simpl.episodes_per_task) * len(tasks.train)
    robot = make_robots(choice.family, rows, work.machine.threads)
    space = make_space(config.action_space, model, robot.spec, work.machine.device)
    goals = goals_of(tasks.train)
    learner = SimplLearner(space, robot, goals, config.simpl, seed=work.seed, device=work.machine.device)
    if checkpoint is not None:
        learner.load_state(checkpoint.tensors, checkpoint.facts)
    work.consume(learner.train(), total=config.simpl.epochs, unit="epoch", start=learner.epoch, state=learner.state)
    tensors = {f"agent.{name}": value for name, value in learner.networks.state_dict().items()}
    tensors |= {f"multiplier.{name}": value for name, value in learner.multipliers.state_dict().items()}
    save_checkpoint(work.folder / AGENT_NAME, tensors, {"epochs": learner.epoch, "updates": learner.updates})
    save_skill_model(work.folder, model.cpu())
    facts = {
        "action_space": config.action_space,
        "simpl": asdict(config.simpl),
        "robot": robot.spec.to_json(),
        "family": choice.record,
        "tasks": asdict(tasks),
        "alpha": learner.multiplier,
        "low_level_steps": learner.environment_steps,
    }
    write_record(work.folder / FACTS_NAME, facts)
    robot.close()


def load_agent(folder: Path) -> tuple[SimplAgent, SkillModel, dict[str, Any]]:
    """What `meta_train` wrote, on the CPU: agent, skill model and facts.

    Raises:
        RunError: a file is missing or damaged.
    """
    path = folder / FACTS_NAME
    model = load_skill_model(folder)
    tensors, _ = load_checkpoint(folder / AGENT_NAME)
    try:
        facts = load_json(path)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in facts["simpl"].items()
        }
        config = SimplConfig(**values)
        spec = RobotSpec.from_json(facts["robot"])
        spec.require_source(model.robot, str(folder))
        space = make_space(facts["action_space"], model, spec, "cpu")
        agent = SimplAgent(space, model.observation_dim, config, 0)
        prefix = "agent."
        agent.load_state_dict(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        )
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise RunError(f"{path}: expected a meta-trained agent, got {reason}; run meta-train again") from error
    return agent.requires_grad_(False), model, dict(facts)
