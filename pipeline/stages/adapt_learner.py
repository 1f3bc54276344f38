"""Stage `adapt` for learners that are not SiMPL: a bundle's agent meets tasks that it never saw.

Writes `records.jsonl` (one record per task and episode), `returns.json` (mean returns with intervals along the episodes
or the steps of adaptation), `adapted.safetensors` (all that the agent knows of the tasks in the end) and, where what a
task comes to is a plain policy, a bundle of each in `policies/`. The numpy runtime acts; where the learner adapts by
gradients, torch takes the steps between episodes. Every command passes the safety limits; what they did is in
`audit.jsonl`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...adapt.agent_runtime import RandomNoise
from ...adapt.bundle_folder import find_bundle
from ...adapt.learner_bundle import LearnerBundle, load_learner_bundle, require_learner_robot
from ...adapt.learners.host import make_hosted
from ...adapt.learners.plain_policy import PLAIN_POLICIES, write_plain_policy
from ...adapt.rows.loop import LearnerAdapter
from ...bounds import Bounded, Count
from ...errors import ConfigError
from ...robots.family import RobotFamily
from ...robots.task import Task, goals_of
from ...skills.checkpoint import load_checkpoint, save_checkpoint
from ..folder import AUDIT_NAME, write_record
from ..intervals import compute_interval
from ..metrics import load_metrics
from ..progress import ProgressView
from ..robots import find_recorded
from ..stage import Stage, Work
from .adapt import ADAPTED_NAME, RECORDS_NAME, announce, limit_simulator, strip

RETURNS_NAME = "returns.json"
POLICIES = "policies"
OWN_TASKS = 10
"""So many test tasks of the robot family are adapted to, where nobody says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptLearnerConfig(Bounded):
    """How long the agent has in each task."""

    episodes: Count | None = None
    """Episodes per task in all; without it, as many as it was judged by. Between two rounds of the bundle's budget
    there is one step of adaptation."""


def find_simulator(bundle: LearnerBundle) -> RobotFamily:
    """The family that stands in for the bundle's robot.

    Raises:
        BundleError: The bundle names none that is built in.
    """
    return find_recorded(bundle.contract.simulator, None, "bundle.json simulator").family


def find_own_tasks(robot: RobotFamily, count: int | None) -> tuple[Task, ...]:
    """The first test tasks of the bundle's robot family; without a count at most `OWN_TASKS`.

    Raises:
        ConfigError: none is asked for, or more than there are.
    """
    test = robot.tasks().test
    if count is not None and not 1 <= count <= len(test):
        raise ConfigError(
            f"--num-tasks: expected 1 to {len(test)}, the test tasks of the bundle's robot, got {count}; "
            "pass --tasks for others"
        )
    return test[: OWN_TASKS if count is None else count]


def make_adapt_learner(path: Path, tasks: Sequence[Task], config: AdaptLearnerConfig, seed: int) -> Stage:
    """The stage.

    Raises:
        BundleError: the bundle is damaged, of an unknown kind, or names no simulator that can be made.
        SpecError: a goal is not within the robot's goal space, or is none of its tasks.
    """
    path = find_bundle(path)
    bundle = load_learner_bundle(path)
    robot = find_simulator(bundle).make(len(tasks))
    require_learner_robot(bundle.contract, robot.spec)
    for task in tasks:
        robot.spec.goal.require_within([task.goal], f"task '{task.name}'")
    # a family may refuse more than the limits do
    robot.reset(np.arange(len(tasks)), goals_of(tasks), np.random.default_rng(seed))
    robot.close()
    return Stage(
        name="adapt",
        config={"adapt": config, "tasks": list(tasks)},
        inputs={"bundle": path},
        seed=seed,
        module="pipeline/stages/adapt_learner.py",
        libraries=("numpy", "torch", "safetensors", "mujoco"),
        body=partial(adapt_learner, config, tuple(tasks)),
    )


def adapt_learner(config: AdaptLearnerConfig, tasks: tuple[Task, ...], work: Work) -> None:
    """Plays all episodes, then writes records, returns and what was learned."""
    torch.set_num_threads(work.machine.threads)
    bundle = load_learner_bundle(work.inputs["bundle"])
    budget = bundle.contract.budget
    episodes = budget.total if config.episodes is None else config.episodes
    simulator = find_simulator(bundle).make(len(tasks), work.machine.threads)
    checkpoint = work.restore(save_checkpoint, load_checkpoint)
    with limit_simulator(simulator, work.folder / AUDIT_NAME) as robot:
        rng = np.random.default_rng(work.seed)
        agent = make_hosted(bundle, RandomNoise(rng))
        adapter = LearnerAdapter(agent, robot, tasks, budget, episodes, rng)
        if checkpoint is not None:
            adapter.load_state({k: v.numpy() for k, v in checkpoint.tensors.items()}, dict(checkpoint.facts))
            announce(work.view, load_metrics(work.metrics.path))
        work.consume(
            run_rounds(adapter, work.view),
            total=episodes,
            unit="episode",
            start=adapter.episode,
            state=lambda: to_checkpoint(adapter),
        )
    work.metrics.sync()
    records = [strip(record) for record in load_metrics(work.metrics.path)]
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    (work.folder / RECORDS_NAME).write_text(text, encoding="utf-8")
    write_record(work.folder / RETURNS_NAME, compute_returns(records, bundle))
    facts: dict[str, object] = {"kind": bundle.contract.kind, "tasks": [asdict(task) for task in tasks]}
    save_checkpoint(work.folder / ADAPTED_NAME, to_tensors(agent.state()), facts)
    write_policies(bundle, agent, tasks, work.folder / POLICIES)


def run_rounds(adapter: LearnerAdapter, view: ProgressView) -> Iterator[list[dict[str, Any]]]:
    """The adapter's records, as the stage logs them."""
    for records in adapter.run():
        done = [{"kind": "episode", **record, "step": adapter.episode} for record in records]
        announce(view, done)
        yield done


def to_tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    """The same numbers as tensors of their own.

    Numpy gives an empty array strides that a checkpoint cannot be written with, so that the layout is torch's own.
    """
    given = {name: torch.tensor(value) for name, value in arrays.items()}
    return {name: torch.empty(value.shape, dtype=value.dtype).copy_(value) for name, value in given.items()}


def to_checkpoint(adapter: LearnerAdapter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The adapter's state as a checkpoint keeps it."""
    arrays, facts = adapter.state()
    return to_tensors(arrays), facts


def write_policies(bundle: LearnerBundle, agent: Any, tasks: Sequence[Task], folder: Path) -> None:
    """A bundle of each task's own policy, `<index of the task>/`, where the kind gives plain policies."""
    if bundle.contract.kind not in PLAIN_POLICIES:
        return
    folder.mkdir()
    for index, task in enumerate(tasks):
        params = {name: value[index] for name, value in agent.params.items()}
        facts = {"adapted_from": bundle.digest, "task": task.name, "goal": list(task.goal)}
        write_plain_policy(folder / str(index), bundle, params, facts)


def compute_returns(records: Sequence[dict[str, Any]], bundle: LearnerBundle) -> list[dict[str, Any]]:
    """Mean return over tasks with its 95 % interval, one flat record per step of adaptation, or per episode.

    Exploration episodes do not count for a step of adaptation.
    """
    axis = "adaptations" if bundle.contract.budget.adapt_steps else "episode"
    counting = [record for record in records if record["stage"] == "play" or axis == "episode"]
    results = []
    for place in sorted({record[axis] for record in counting}):
        here = [record for record in counting if record[axis] == place]
        by_task: dict[tuple[float, ...], list[float]] = {}
        for record in here:
            by_task.setdefault((record["task"], *record["goal"]), []).append(record["return"])
        interval = compute_interval([float(np.mean(values)) for values in by_task.values()])
        results.append(
            {
                "method": bundle.contract.kind,
                "metric": "return",
                "at": {axis: place},
                **interval._asdict(),
                "n": len(here),
            }
        )
    return results
