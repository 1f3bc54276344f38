"""The second stage of a benchmark cell: the frozen evaluation on its test tasks.

`bench-evaluate` writes `returns.safetensors` (every episode of the agent, and of uniform random choices on the same
tasks) and `scores.json` (means of each task), both with what `measures.py` measures.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supple.errors import RunError
from supple.meta.adaptive import AdaptiveAgent
from supple.meta.evaluation import Evaluation, Scores, evaluate_agent
from supple.pipeline.folder import load_json, write_record
from supple.pipeline.run_files import LEARNER_NAME
from supple.pipeline.stage import Stage, Work
from supple.robots.task import goals_of
from supple.skills.checkpoint import load_checkpoint, save_checkpoint

from .cell_train import BenchConfig, Inputs, Role, choose_inputs, make_learner, make_stage
from .measures import measure, watch
from .oracle import compute_oracle
from .random_agent import RandomAgent

MODULE = "benchmarks/meta/cell_evaluate.py"
RETURNS_NAME = "returns.safetensors"
SCORES_NAME = "scores.json"
VISITS = "visits"
"""Of each agent's tensors in `returns.safetensors`: where it went; see `measures.Measures`."""


def make_evaluate(config: BenchConfig, trained: Path, seed: int, inputs: Inputs | None = None) -> Stage:
    """The stage that evaluates what `make_train` published at `trained`, with the skills that it was given.

    Raises:
        RunError: nothing is published there.
    """
    if not (trained / LEARNER_NAME).is_file():
        raise RunError(f"{trained}: expected a meta-trained learner, got none; run the cell from its begin")
    settings = {"evaluation": config.evaluation, "seed": config.evaluation_seed}
    roles: tuple[Role, ...] = tuple(role for role in config.roles if role == "skills")
    given = {"train": trained, **choose_inputs(inputs, roles)}
    return make_stage("bench-evaluate", config, settings, given, seed, partial(evaluate, config), MODULE)


def evaluate(config: BenchConfig, work: Work) -> None:
    """Runs the trained agent, and uniform random choices, on the test tasks, and writes every episode."""
    torch.set_num_threads(work.machine.threads)
    work.start_afresh()
    tasks = config.robot.tasks()
    test = goals_of(tasks.test)
    learner = make_learner(config, goals_of(tasks.train), work)
    tensors, facts = load_checkpoint(work.inputs["train"] / LEARNER_NAME)
    learner.load_state(tensors, facts)
    device = torch.device(work.machine.device)
    rows = len(test) * config.evaluation.trials * config.learner.rollouts
    space = learner.space
    seed = config.evaluation_seed
    random = RandomAgent(space, rollouts=config.learner.rollouts, seed=seed, device=device)
    agents: dict[str, AdaptiveAgent] = {"agent": config.learner.make_agent(learner, seed), "random": random}
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
    learner.robot.close()


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
