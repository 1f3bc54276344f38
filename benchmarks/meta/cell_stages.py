"""The two stages of a benchmark cell: meta-training on its train tasks, and the frozen evaluation on its test tasks.

`bench-train` writes `learner.safetensors`, the whole state of the learner after its last iteration. `bench-evaluate`
writes `returns.safetensors` (every episode of the agent, and of uniform random choices on the same tasks) and
`scores.json` (means of each task), both with what `measures.py` measures. The code version of both stages is that of
this file, of the robot and of the one learner, so that a change of one learner leaves the results of the others valid.

A cell may read what the chain made: trained skills (`skill` and `raw` actions), and play data (`FromPlay`). These are
inputs of its stages, by digest; where they lie is no part of a cell.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supple.errors import ConfigError, RunError
from supple.meta.adaptive import AdaptiveAgent
from supple.meta.evaluation import Evaluation, EvaluationConfig, Scores, evaluate_agent
from supple.meta.random_agent import RandomAgent
from supple.pipeline.action_spaces import LEARNED, Space, load_skills, make_space
from supple.pipeline.folder import load_json, write_record
from supple.pipeline.learners import FromPlay, LearnerSettings, Made, choose_learner
from supple.pipeline.robots import choose_builtin
from supple.pipeline.run_files import LEARNER_NAME
from supple.pipeline.stage import Stage, Work
from supple.pipeline.stages.meta_train import FACTS_NAME, describe_tasks
from supple.robots.family import RobotFamily
from supple.robots.robot import Float
from supple.robots.task import goals_of
from supple.skills.checkpoint import load_checkpoint, save_checkpoint

from .measures import measure, watch
from .oracle import compute_oracle
from .rows import make_rows

MODULE = "benchmarks/meta/cell_stages.py"
RETURNS_NAME = "returns.safetensors"
SCORES_NAME = "scores.json"
VISITS = "visits"
"""Of each agent's tensors in `returns.safetensors`: where it went; see `measures.Measures`."""
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
    given = _choose_inputs(inputs, config.roles)
    return _make_stage("bench-train", config, {}, given, seed, partial(train, config))


def _choose_inputs(inputs: Inputs | None, roles: Sequence[Role]) -> dict[str, Path]:
    return {role: inputs[role] for role in roles if role in inputs} if inputs else {}


def make_evaluate(config: BenchConfig, trained: Path, seed: int, inputs: Inputs | None = None) -> Stage:
    """The stage that evaluates what `make_train` published at `trained`, with the skills that it was given.

    Raises:
        RunError: nothing is published there.
    """
    if not (trained / LEARNER_NAME).is_file():
        raise RunError(f"{trained}: expected a meta-trained learner, got none; run the cell from its begin")
    settings = {"evaluation": config.evaluation, "seed": config.evaluation_seed}
    roles: tuple[Role, ...] = tuple(role for role in config.roles if role == "skills")
    given = {"train": trained, **_choose_inputs(inputs, roles)}
    return _make_stage("bench-evaluate", config, settings, given, seed, partial(evaluate, config))


def _make_stage(
    name: str,
    config: BenchConfig,
    settings: dict[str, Any],
    inputs: dict[str, Path],
    seed: int,
    body: Callable[[Work], None],
) -> Stage:
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
        module=(MODULE, *choose_learner(config.learner).row.modules),
        libraries=("numpy", "torch", "safetensors", *config.libraries),
        body=body,
    )


def train(config: BenchConfig, work: Work) -> None:
    """Meta-trains to the last iteration and writes the learner's state."""
    torch.set_num_threads(work.machine.threads)
    checkpoint = work.restore(save_checkpoint, load_checkpoint)
    made = _make_learner(config, goals_of(config.robot.tasks().train), work)
    start = 0
    if checkpoint is None and isinstance(config.learner, FromPlay):
        work.view.note(config.learner.start(made.learner, work.inputs["play"]))
    if checkpoint is not None:
        made.learner.load_state(checkpoint.tensors, checkpoint.facts)
        start = int(checkpoint.facts.get("iteration", 0))
    total = config.learner.iterations
    work.consume(made.learner.train(), total=total, unit="iteration", start=start, state=made.learner.state)
    tensors, facts = made.learner.state()
    save_checkpoint(work.folder / LEARNER_NAME, tensors, facts)
    record = {"robot": config.robot.spec().to_json(), "tasks": describe_tasks(config.robot.tasks())}
    write_record(work.folder / FACTS_NAME, record)
    made.learner.robot.close()


def _make_learner(config: BenchConfig, goals: Float, work: Work) -> Made:
    robot = make_rows(config.train_robot or config.robot, config.learner.rows(len(goals)))
    space = make_space(config.space, robot.spec, work.inputs.get("skills"), work.machine.device)
    return config.learner.make(space, robot, goals, seed=work.seed, device=work.machine.device)


def evaluate(config: BenchConfig, work: Work) -> None:
    """Runs the trained agent, and uniform random choices, on the test tasks, and writes every episode."""
    torch.set_num_threads(work.machine.threads)
    work.start_afresh()
    tasks = config.robot.tasks()
    test = goals_of(tasks.test)
    made = _make_learner(config, goals_of(tasks.train), work)
    tensors, facts = load_checkpoint(work.inputs["train"] / LEARNER_NAME)
    made.learner.load_state(tensors, facts)
    device = torch.device(work.machine.device)
    rows = len(test) * config.evaluation.trials * config.learner.rollouts
    space = made.learner.space
    seed = config.evaluation_seed
    random = RandomAgent(space, rollouts=config.learner.rollouts, seed=seed, device=device)
    agents: dict[str, AdaptiveAgent] = {"agent": made.make_agent(seed), "random": random}
    episodes: dict[str, Tensor] = {}
    scores: dict[str, Any] = {"tasks": tasks.name, "oracle": compute_oracle(config.robot, test)}
    for name, agent in agents.items():
        robot, rng = watch(config.robot, rows), np.random.default_rng(seed)
        found = evaluate_agent(agent, robot, space, test, config.evaluation, rng, device=device)
        measures = measure(config.robot, robot, found, test)
        robot.close()
        arrays: dict[str, NDArray[Any]] = {
            "returns": found.returns,
            "steps": found.steps,
            "terminated": found.terminated,
            **measures.scores,
            **({} if measures.visits is None else {VISITS: measures.visits}),
        }
        episodes |= {f"{name}.{key}": torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
        scores[name] = make_scores(found, measures.scores)
    save_checkpoint(work.folder / RETURNS_NAME, episodes, {"axes": "task, trial, step, episode, rollout"})
    write_record(work.folder / SCORES_NAME, scores)
    made.learner.robot.close()


def make_scores(found: Evaluation, measures: Mapping[str, Scores]) -> dict[str, Any]:
    """Means of each task, along the axis of the evaluation.

    With steps of adaptation the axis is `gradient_step`, 0 before the first, and the score is the mean return of the
    episodes that count; without, it is `episode_index`, 1 for the first episode of a trial, and the sum over the
    episodes of a trial that count stands beside. Measures (`measures.py`) stand on the same axis.
    """
    steps = found.returns.shape[2] > 1

    def along(evaluation: Evaluation) -> Scores:
        return evaluation.per_round() if steps else evaluation.per_episode()[:, 0]

    table = along(found)
    scores: dict[str, Any] = {
        "axis": "gradient_step" if steps else "episode_index",
        "places": list(range(table.shape[1])) if steps else list(range(1, table.shape[1] + 1)),
        "return": table.tolist(),
    }
    if not steps and table.shape[1] > 1:
        scores["return_trial"] = found.trial_return()[:, 0].tolist()
    scores["measures"] = {name: along(found._replace(returns=values)).tolist() for name, values in measures.items()}
    return scores


def load_scores(folder: Path) -> dict[str, Any]:
    """What `evaluate` wrote in a published folder.

    Raises:
        RunError: the file is missing, damaged or not one of scores.
    """
    scores = load_json(folder / SCORES_NAME)
    missing = sorted({"tasks", "oracle", "agent", "random"} - scores.keys())
    if missing:
        raise RunError(f"{folder / SCORES_NAME}: expected the field {missing[0]}, got none; run its stage again")
    return scores
