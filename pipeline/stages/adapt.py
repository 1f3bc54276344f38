"""Stage `adapt`: a bundle's policy adapts to tasks that it never saw.

Writes `records.jsonl` (one record per task and episode, and per evaluation), `success.json` (means with intervals
before, after inference and after fine-tuning) and `adapted.safetensors` (the policies and embeddings that came out).
Every command passes the safety limits; what they did is in `audit.jsonl`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from ...adapt.audit import AuditLog
from ...adapt.bundle import Bundle, load_bundle, require_robot
from ...adapt.bundle_folder import find_bundle
from ...adapt.config import AdaptConfig, require_reward_head
from ...adapt.loop import Adapter
from ...adapt.policy import make_agent, simpl_config_of
from ...adapt.safety import SafetyLimits
from ...errors import BundleError
from ...robots.family import RobotFamily, make_robots
from ...robots.maze_family import Maze
from ...robots.robot import RobotBatch
from ...robots.task import Task
from ...skills.checkpoint import load_checkpoint, save_checkpoint
from ..folder import AUDIT_NAME, write_record
from ..intervals import compute_interval
from ..metrics import is_wall_clock, load_metrics
from ..progress import ProgressView
from ..robots import Record, RobotChoice, find_recorded, require_tasks
from ..settings.adapt import AdaptStageConfig
from ..stage import Stage, Work

RECORDS_NAME = "records.jsonl"
SUCCESS_NAME = "success.json"
ADAPTED_NAME = "adapted.safetensors"
MOST_ROWS = 400
"""Robots that are evaluated side by side."""


def find_robot_of(bundle: Bundle, given: RobotChoice | None, *, accept_change: bool = False) -> RobotChoice:
    """The robot that the bundle was made for; see `find_recorded` for arguments and errors."""
    provenance = bundle.contract.provenance
    record = provenance.get("robot") or _record_of_maze(provenance.get("maze"))
    return find_recorded(record, given, "bundle.json provenance.robot", accept_change=accept_change)


def _record_of_maze(maze: Any) -> Record | None:
    """The record of a maze from a bundle that was exported when there was no other robot."""
    known = isinstance(maze, Mapping) and set(maze) == {"layout_size", "layout_seed", "episode_steps"}
    return {"family": "maze", "config": {**asdict(Maze()), **maze}} if known else None


def find_test_tasks(bundle: Bundle) -> tuple[Task, ...]:
    """The test tasks that the bundle was meta-trained beside.

    Raises:
        BundleError: the bundle names none.
    """
    try:
        records = bundle.contract.provenance["tasks"]["test"]
        return tuple(Task(record["name"], tuple(record["goal"])) for record in records)
    except (KeyError, TypeError) as error:
        raise BundleError("bundle.json provenance.tasks: expected test tasks, got none; pass --tasks") from error


def make_adapt(path: Path, tasks: Sequence[Task], robot: RobotChoice, config: AdaptStageConfig, seed: int) -> Stage:
    """The stage.

    Args:
        path: A bundle, or a folder of `export` or `run`.
        tasks: To adapt to.
        robot: To adapt on.
        config: Of the loop.
        seed: Of exploration, sampling and resets.

    Raises:
        BundleError: the bundle is damaged, or is for another robot.
        ConfigError: the search is directed, but the bundle's reward head was not trained.
        SpecError: a goal is not within the robot's goal space.
        SourceError: a goal is none of the robot's tasks.
    """
    path = find_bundle(path)  # a run folder around it may change while this stage is at work
    bundle = load_bundle(path)
    require_robot(bundle, robot.family.spec())
    require_reward_head(simpl_config_of(bundle.contract), config.loop)
    require_tasks(robot, tasks, "adapt")
    return Stage(
        name="adapt",
        config={"robot": robot.record, "adapt": config, "tasks": list(tasks)},
        inputs={"bundle": path},
        seed=seed,
        module="pipeline/stages/adapt.py",
        libraries=("numpy", "torch", "safetensors", "mujoco"),
        body=partial(adapt, config, robot.family, tuple(tasks)),
    )


def adapt(config: AdaptStageConfig, family: RobotFamily, tasks: tuple[Task, ...], work: Work) -> None:
    """Runs the loop to its last episode, then writes records, success and policies."""
    torch.set_num_threads(work.machine.threads)
    device = torch.device(work.machine.device)
    bundle = load_bundle(work.inputs["bundle"])
    checkpoint = work.restore(save_checkpoint, load_checkpoint)
    rows = max(len(tasks), min(len(tasks) * config.evaluations, MOST_ROWS))
    alpha = float(bundle.contract.adaptation.get("alpha", config.loop.finetune.multiplier))
    agent = make_agent(bundle, device)
    with limit_simulator(make_robots(family, rows, work.machine.threads), work.folder / AUDIT_NAME) as robot:
        adapter = Adapter(agent, alpha, robot, tasks, config.loop, seed=work.seed, device=device)
        if checkpoint is not None:
            adapter.load_state(checkpoint.tensors, checkpoint.facts)
            announce(work.view, load_metrics(work.metrics.path))
        work.consume(
            run_rounds(adapter, config, work.view, evaluate_first=checkpoint is None),
            total=config.loop.episodes,
            unit="episode",
            start=adapter.episode,
            state=adapter.state,
        )
    work.metrics.sync()
    records = [strip(record) for record in load_metrics(work.metrics.path)]
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    (work.folder / RECORDS_NAME).write_text(text, encoding="utf-8")
    write_record(work.folder / SUCCESS_NAME, {"success": compute_success(records, config)})
    save_checkpoint(work.folder / ADAPTED_NAME, compute_policies(adapter), {"tasks": [asdict(task) for task in tasks]})


@contextmanager
def limit_simulator(simulator: RobotBatch, path: Path) -> Iterator[SafetyLimits]:
    """A simulated robot behind its safety limits, with the audit log at `path`; both are closed at the end.

    A stop that an earlier run of the stage has left is ended: a simulator starts anew, there is nothing to inspect. For
    a real robot a person does that.

    Raises:
        RobotFault: the log cannot be written, or is damaged.
    """
    with closing(AuditLog(path)) as audit, closing(SafetyLimits(simulator, audit)) as robot:
        if robot.stop_reason is not None:
            robot.rearm(f"simulator started anew {uuid4()}")
        yield robot


def compute_policies(adapter: Adapter) -> dict[str, torch.Tensor]:
    """The tensors of each task's own policy, named `<task index>.<name>`; a task that was never rewarded has none."""
    return {
        f"{index}.{name}": value.detach().cpu()
        for index, tuner in enumerate(adapter.finetuners)
        if tuner is not None
        for name, value in tuner.state_dict().items()
    }


def strip(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what a clock decided and without `step`, which `episode` repeats."""
    return {name: value for name, value in record.items() if name != "step" and not is_wall_clock(name)}


def announce(view: ProgressView, records: Sequence[dict[str, Any]]) -> None:
    """Tells a machine that reads along; a person sees the progress line instead."""
    for record in records:
        facts = strip(record)
        view.record(facts.pop("kind"), facts, "")


def run_rounds(
    adapter: Adapter, config: AdaptStageConfig, view: ProgressView, *, evaluate_first: bool
) -> Iterator[list[dict[str, Any]]]:
    """The loop's records, each round followed by its evaluation where one is due."""
    if evaluate_first and config.is_due(0):
        first = evaluate(adapter, config)
        announce(view, first)
        yield first
    for records in adapter.run():
        episode = adapter.episode
        done = [{"kind": "episode", **record, "step": episode} for record in records]
        if config.is_due(episode):
            done += evaluate(adapter, config)
        announce(view, done)
        yield done


def name_stage(loop: AdaptConfig, episode: int) -> str:
    """What the policies are after this episode; a key of `summary.MEANINGS`."""
    if episode == 0:
        return "before"
    if loop.method == "simpl" and episode <= loop.exploration_episodes:
        return "inferred" if episode == loop.exploration_episodes else "explore"
    return "adapted" if episode == loop.episodes else "finetune"


def evaluate(adapter: Adapter, config: AdaptStageConfig) -> list[dict[str, Any]]:
    """One record per task: success of the policies as they stand, stochastic and greedy."""
    episode = adapter.episode
    stochastic = adapter.evaluate(config.evaluations, greedy=False).mean(axis=1)
    greedy = adapter.evaluate(config.evaluations, greedy=True).mean(axis=1)
    return [
        {
            "kind": "evaluation",
            "stage": name_stage(config.loop, episode),
            "episode": episode,
            "task": task.name,
            "goal": list(task.goal),
            "success_stochastic": float(stochastic[index]),
            "success_greedy": float(greedy[index]),
            "n": config.evaluations,
            "step": episode,
        }
        for index, task in enumerate(adapter.tasks)
    ]


def compute_success(records: Sequence[dict[str, Any]], config: AdaptStageConfig) -> list[dict[str, Any]]:
    """Mean success over tasks with its 95 % interval, one flat record per evaluation and metric."""
    results = []
    found = [record for record in records if record["kind"] == "evaluation"]
    for episode in sorted({record["episode"] for record in found}):
        here = [record for record in found if record["episode"] == episode]
        for metric in ("success_stochastic", "success_greedy"):
            interval = compute_interval([record[metric] for record in here])
            n = sum(record["n"] for record in here)
            results.append(
                {"method": here[0]["stage"], "metric": metric, "at": {"episode": episode}, **interval._asdict(), "n": n}
            )
    return results
