"""Stage `adapt`: the agent of a bundle meets tasks that it never saw, whatever its learner.

Writes `records.jsonl` (one record per task and episode, and per evaluation), `success.json` (means with intervals of
the evaluations, along adaptation), `returns.json` (mean returns of the episodes themselves), `adapted.safetensors` (all
that the agent knows of the tasks in the end) and, where the adapted policy of a task is a plain one, a bundle of each
in `policies/`. The numpy runtime acts; where the learner adapts by gradients, torch takes the steps between episodes.
Every command passes the safety limits; what they did is in `audit.jsonl`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...adapt.agent_runtime import RandomNoise
from ...adapt.audit import AuditLog
from ...adapt.learner_bundle import LearnerBundle, load_learner_bundle, require_learner_robot
from ...adapt.learner_contract import Budget
from ...adapt.learners.host import make_hosted
from ...adapt.learners.plain_policy import PLAIN_POLICIES, write_plain_policy
from ...adapt.rows.loop import LearnerAdapter
from ...adapt.safety import SafetyLimits
from ...bounds import Bounded, Count, CountFromZero
from ...errors import ConfigError
from ...robots.family import Hardware, RobotFamily, make_robots
from ...robots.robot import RobotBatch
from ...robots.task import Task
from ...skills.checkpoint import load_checkpoint, save_checkpoint
from ..folder import AUDIT_NAME, write_record
from ..intervals import compute_interval
from ..metrics import is_wall_clock, load_metrics
from ..progress import ProgressView
from ..robots import RobotChoice, find_recorded, require_tasks
from ..stage import Stage, Work
from .export import NAME as BUNDLE_NAME

RECORDS_NAME = "records.jsonl"
SUCCESS_NAME = "success.json"
RETURNS_NAME = "returns.json"
ADAPTED_NAME = "adapted.safetensors"
POLICIES = "policies"
MOST_ROWS = 400
"""Robots that are evaluated side by side."""
OWN_TASKS = 10
"""Default number of test tasks."""
EVALUATIONS = 20
"""Default number of extra episodes for each evaluation of a simulated robot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptStageConfig(Bounded):
    """How long the agent has in each task, and how it is evaluated on the way."""

    episodes: Count | None = None
    """Episodes per task in all, exploration included; without it, as many as the bundle says. Between two rounds of the
    bundle's budget there is one step of adaptation, where the learner has any."""
    evaluations: CountFromZero | None = None
    """Extra episodes per task for each evaluation, 0 for none; without it, 20 on a simulated robot and 0 on a real one.
    They are played by a copy of the agent and change nothing."""
    evaluate_at: tuple[Count, ...] = (40, 60, 100, 300)
    """Episodes after which policies are evaluated, beside 0, the end of exploration and the last."""
    settings: tuple[str, ...] = ()
    """Settings of the learner in place of those that it was exported with, as NAME=VALUE: `search=blind`,
    `finetune.batch=128`; `supple info BUNDLE` lists them."""


def find_bundle(path: Path) -> Path:
    """The bundle itself, or the one in an `export` folder or run folder."""
    for candidate in (path / BUNDLE_NAME, path / "export" / BUNDLE_NAME):
        if candidate.is_dir():
            return candidate
    return path


def find_robot_of(bundle: LearnerBundle, given: RobotChoice | None, *, accept_change: bool = False) -> RobotChoice:
    """The robot that the bundle was made for; see `find_recorded` for arguments and errors."""
    return find_recorded(bundle.contract.simulator, given, "bundle.json simulator", accept_change=accept_change)


def find_test_tasks(bundle: LearnerBundle, robot: RobotChoice, count: int | None = None) -> tuple[Task, ...]:
    """The first test tasks that the bundle was meta-trained beside, or the robot's own where it names none.

    Raises:
        ConfigError: More are asked for than there are.
    """
    listed = bundle.contract.provenance.get("tasks")
    test = robot.family.tasks().test
    if isinstance(listed, Mapping) and isinstance(listed.get("test"), list) and listed["test"]:
        test = tuple(Task(str(record["name"]), tuple(record["goal"])) for record in listed["test"])
    if count is not None and count > len(test):
        raise ConfigError(
            f"--num-tasks: expected 1 to {len(test)}, the test tasks of the bundle's robot, got {count}; "
            "pass --tasks for others"
        )
    return test[: OWN_TASKS if count is None else count]


def read_settings(bundle: LearnerBundle, texts: Sequence[str]) -> LearnerBundle:
    """The bundle with settings given as NAME=VALUE; values are JSON, or plain text.

    Raises:
        ConfigError: A text is none of that form.
        BundleError: There is no such setting, or it has another type.
    """
    changed: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        *outer, last = name.split(".")
        if not (equals and last):
            raise ConfigError(f"--settings: expected NAME=VALUE, got {text!r:.80}; see supple info BUNDLE")
        try:
            found = json.loads(value)
        except ValueError:
            found = value
        place: dict[str, Any] = changed
        known: Any = bundle.contract.learner
        for part in outer:
            known = known.get(part, {}) if isinstance(known, Mapping) else {}
            place = place.setdefault(part, dict(known) if isinstance(known, Mapping) else {})
        place[last] = found
    return bundle.with_settings(changed) if changed else bundle


def make_adapt(path: Path, tasks: Sequence[Task], robot: RobotChoice, config: AdaptStageConfig, seed: int) -> Stage:
    """The stage.

    Args:
        path: A bundle, or a folder of `export` or `run`.
        tasks: To adapt to.
        robot: To adapt on.
        config: How long, and how it is evaluated.
        seed: Of exploration, sampling and resets.

    Raises:
        BundleError: the bundle is damaged, or is for another robot.
        SpecError: a goal is not within the robot's goal space.
        SourceError: a goal is none of the robot's tasks.
        ConfigError: a setting is none of the learner's, or a real robot is asked for several tasks or for evaluations.
    """
    path = find_bundle(path)  # a run folder around it may change while this stage is at work
    bundle = read_settings(load_learner_bundle(path), config.settings)
    require_learner_robot(bundle.contract, robot.family.spec())
    require_tasks(robot, tasks, "adapt")
    if isinstance(robot.family, Hardware) and (len(tasks) != 1 or config.evaluations):
        raise ConfigError(
            f"adapt on '{robot.reference}': expected one task and no evaluations on a real robot, got {len(tasks)} "
            f"and {config.evaluations or 0}; pass --num-tasks 1, or --tasks with one goal, and --evaluations 0"
        )
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
    """Plays all episodes, then writes records, success, returns and what was learned."""
    torch.set_num_threads(work.machine.threads)
    bundle = read_settings(load_learner_bundle(work.inputs["bundle"]), config.settings)
    budget = bundle.contract.budget
    episodes = budget.total if config.episodes is None else config.episodes
    evaluations = (
        (0 if isinstance(family, Hardware) else EVALUATIONS) if config.evaluations is None else config.evaluations
    )
    rows = max(len(tasks), min(len(tasks) * evaluations, MOST_ROWS))
    due = {0, episodes, budget.exploration_episodes, *config.evaluate_at} if evaluations else set()
    checkpoint = work.restore(save_checkpoint, load_checkpoint)
    robots = make_robots(family, rows, work.machine.threads)
    with limit_robots(robots, work.folder / AUDIT_NAME, rearm=not isinstance(family, Hardware)) as robot:
        rng = np.random.default_rng(work.seed)
        agent = make_hosted(bundle, RandomNoise(rng), device=work.machine.device)
        adapter = LearnerAdapter(agent, robot, tasks, budget, episodes, rng, make_fork=bundle.make_agent)
        if checkpoint is not None:
            adapter.load_state({k: v.numpy() for k, v in checkpoint.tensors.items()}, dict(checkpoint.facts))
            announce(work.view, load_metrics(work.metrics.path))
        work.consume(
            run_rounds(adapter, due, evaluations, work, first=checkpoint is None),
            total=episodes,
            unit="episode",
            start=adapter.episode,
            state=lambda: to_checkpoint(adapter),
        )
    work.metrics.sync()
    records = [strip(record) for record in load_metrics(work.metrics.path)]
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    (work.folder / RECORDS_NAME).write_text(text, encoding="utf-8")
    write_record(work.folder / SUCCESS_NAME, {"success": compute_success(records)})
    write_record(work.folder / RETURNS_NAME, compute_returns(records, bundle))
    facts: dict[str, object] = {"kind": bundle.contract.kind, "tasks": [asdict(task) for task in tasks]}
    save_checkpoint(work.folder / ADAPTED_NAME, to_tensors(agent.state()), facts)
    write_policies(bundle, agent, tasks, work.folder / POLICIES)


@contextmanager
def limit_robots(robots: RobotBatch, path: Path, *, rearm: bool) -> Iterator[SafetyLimits]:
    """Robots behind their safety limits, with the audit log at `path`; both are closed at the end.

    Args:
        robots: Simulated, or one real robot.
        path: The audit log.
        rearm: End a stop that an earlier run of the stage has left: a simulator starts anew, and there is nothing to
            inspect. For a real robot a person does that.

    Raises:
        RobotFault: the log cannot be written, or is damaged.
    """
    with closing(AuditLog(path)) as audit, closing(SafetyLimits(robots, audit)) as robot:
        if rearm and robot.stop_reason is not None:
            robot.rearm(f"simulator started anew {uuid4()}")
        yield robot


def strip(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what a clock decided and without `step`, which `episode` repeats."""
    return {name: value for name, value in record.items() if name != "step" and not is_wall_clock(name)}


def announce(view: ProgressView, records: Sequence[dict[str, Any]]) -> None:
    """Tells a machine that reads along; a person sees the progress line instead."""
    for record in records:
        facts = strip(record)
        view.record(facts.pop("kind"), facts, "")


def run_rounds(
    adapter: LearnerAdapter, due: set[int], evaluations: int, work: Work, *, first: bool
) -> Iterator[list[dict[str, Any]]]:
    """The adapter's records, each round followed by its evaluation where one is due."""
    if first and 0 in due:
        found = evaluate(adapter, evaluations, work.seed)
        announce(work.view, found)
        yield found
    for records in adapter.run():
        done = [{"kind": "episode", **record, "step": adapter.episode} for record in records]
        if adapter.episode in due:
            done += evaluate(adapter, evaluations, work.seed)
        announce(work.view, done)
        yield done


def name_stage(budget: Budget, episode: int, episodes: int) -> str:
    """What the policies are after this episode; a key of `summary.MEANINGS`."""
    if episode == 0:
        return "before"
    explored = 0 if budget.adapt_steps else budget.exploration_episodes
    if explored > 0 and episode <= explored:
        return "inferred" if episode == explored else "explore"
    return "adapted" if episode == episodes else "finetune"


def evaluate(adapter: LearnerAdapter, evaluations: int, seed: int) -> list[dict[str, Any]]:
    """One record per task: success, where it is told, and return of the policies as they are, stochastic and greedy."""
    episode = adapter.episode
    found = {name: adapter.evaluate(evaluations, seed, greedy=name == "greedy") for name in ("stochastic", "greedy")}
    records = []
    for index, task in enumerate(adapter.tasks):
        numbers: dict[str, float] = {}
        for name, played in found.items():
            if played.success is not None:
                numbers[f"success_{name}"] = float(played.success[index].mean())
        numbers |= {f"return_{name}": float(played.returns[index].mean()) for name, played in found.items()}
        stage = name_stage(adapter.budget, episode, adapter.episodes)
        record = {"kind": "evaluation", "stage": stage, "episode": episode, "task": task.name, "goal": list(task.goal)}
        records.append({**record, **numbers, "n": evaluations, "step": episode})
    return records


METRICS = ("success_stochastic", "success_greedy", "return_stochastic", "return_greedy")
"""Of an evaluation; success where the robot tells it."""


def compute_success(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over tasks with their 95 % intervals, one flat record per evaluation and metric."""
    results = []
    found = [record for record in records if record["kind"] == "evaluation"]
    for episode in sorted({record["episode"] for record in found}):
        here = [record for record in found if record["episode"] == episode]
        for metric in (name for name in METRICS if name in here[0]):
            interval = compute_interval([record[metric] for record in here])
            n = sum(record["n"] for record in here)
            results.append(
                {"method": here[0]["stage"], "metric": metric, "at": {"episode": episode}, **interval._asdict(), "n": n}
            )
    return results


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
    counting = [
        record for record in records if record["kind"] == "episode" and (record["stage"] == "play" or axis == "episode")
    ]
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
