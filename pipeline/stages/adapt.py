"""Stage `adapt`: a bundle's agent meets tasks that it never saw.

Writes `records.jsonl` (one record per task and episode, and per evaluation), `success.json` (means of evaluations
before, during and after adaptation, with intervals), `returns.json` (mean returns along the episodes, or the steps of
adaptation), `skills.json` (which skills changed, see `adapt/skill_change.py`), `adapted.safetensors` (all that the
agent knows of the tasks in the end) and a bundle of each task's policy in `policies/<index of the task>/`. The numpy
runtime acts; where the learner learns by gradients, torch does that between episodes, for a real robot in a process of
its own. Every command passes the safety limits; what they did is in `audit.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...adapt.bundle import Bundle, load_bundle, require_robot
from ...adapt.bundle_folder import find_bundle
from ...adapt.densities import DensityNoise
from ...adapt.eye import open_eyes
from ...adapt.guards import GuardedAgent, Play, guard_agent
from ...adapt.log_agent import lead
from ...adapt.log_events import holds_events
from ...adapt.loop import Adapter, run_episode
from ...adapt.policy_change import take_learned
from ...adapt.runtime_agent import HOST, Noise, RandomNoise, RuntimeAgent
from ...adapt.skill_change import describe_change
from ...adapt.updates import BesideAgent, UpdateChild
from ...adapt.watch import Alarm, Watch
from ...errors import BundleError, ConfigError
from ...plain_files import write_durably
from ...robots.family import Hardware, OneRow, RobotFamily
from ...robots.maze_family import Maze
from ...robots.robot import Float, Holds, RobotBatch
from ...robots.task import Task, goals_of
from ...strict_json import parse_json
from ..adapt_view import AdaptView
from ..folder import write_record
from ..intervals import compute_interval
from ..metrics import is_wall_clock, load_metrics
from ..progress import ProgressView
from ..robots import Record, RobotChoice, find_recorded, require_tasks
from ..settings.adapt import AdaptStageConfig, Watching
from ..settings.motion import MotionConfig
from ..stage import Stage, Work
from .robot_cell import open_robots

if TYPE_CHECKING:
    from torch import Tensor

RECORDS_NAME = "records.jsonl"
SUCCESS_NAME = "success.json"
RETURNS_NAME = "returns.json"
SKILLS_NAME = "skills.json"
ADAPTED_NAME = "adapted.safetensors"
POLICIES = "policies"
OWN_TASKS = 10
"""Default number of the robot family's test tasks, where the bundle names none."""
MOST_ROWS = 400
"""Robots that are evaluated side by side."""


def find_robot_of(bundle: Bundle, given: RobotChoice | None, *, accept_change: bool = False) -> RobotChoice:
    """The robot that the bundle was made for; see `find_recorded` for arguments and errors."""
    provenance = bundle.contract.provenance
    record = bundle.contract.simulator or _record_of_maze(provenance.get("maze"))
    return find_recorded(record, given, "bundle.json simulator", accept_change=accept_change)


def _record_of_maze(maze: Any) -> Record | None:
    """The record of a maze from a bundle that was exported when there was no other robot."""
    known = isinstance(maze, Mapping) and set(maze) == {"layout_size", "layout_seed", "episode_steps"}
    return {"family": "maze", "config": {**asdict(Maze()), **maze}} if known else None


def find_test_tasks(bundle: Bundle, family: RobotFamily, count: int | None = None) -> tuple[Task, ...]:
    """The test tasks that the bundle was meta-trained beside, or else the first ones of its robot family.

    Raises:
        ConfigError: None is asked for, or more than there are.
        BundleError: The bundle's tasks are damaged.
    """
    named = bundle.contract.provenance.get("tasks")
    try:
        test = tuple(Task(task["name"], tuple(task["goal"])) for task in named["test"]) if named else ()
    except (KeyError, TypeError) as error:
        raise BundleError("bundle.json provenance.tasks: expected test tasks, got none; pass --tasks") from error
    usual = len(test) or OWN_TASKS
    test = test or family.tasks().test
    if count is not None and not 1 <= count <= len(test):
        raise ConfigError(
            f"--num-tasks: expected 1 to {len(test)}, the test tasks of the bundle's robot, got {count}; "
            "pass --tasks for others"
        )
    return test[: usual if count is None else count]


def change_settings(bundle: Bundle, given: Sequence[str]) -> Bundle:
    """The bundle with other settings of its learner; see `AdaptStageConfig.settings`.

    Raises:
        BundleError: One is none of the learner's, or has another type.
        ConfigError: One is not written as name=value.
    """
    changed: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        outer, dot, inner = name.partition(".")
        try:
            (read,) = parse_json(f"[{value}]", list, f"--settings {name}", ConfigError, "correct it")
        except ValueError:
            read = value  # a word needs no quotes
        if not equals or not name:
            raise ConfigError(f"--settings: expected name=value, got {text!r}; see supple info for the names")
        if not dot:
            changed[name] = read
            continue
        before = changed.get(outer, bundle.contract.learner.get(outer))
        if not isinstance(before, Mapping) or inner not in before:
            raise BundleError(f"--settings: expected a setting of {bundle.contract.kind}, got '{name}'; correct it")
        changed[outer] = {**before, inner: read}
    try:
        return bundle.with_settings(changed) if changed else bundle
    except BundleError as error:  # the bundle is whole: what is wrong is what was given
        text = str(error).replace("bundle.json learner", "--settings", 1).replace("--settings.", "--settings ", 1)
        raise BundleError(text.replace("; export the bundle again", "; correct it")) from error


def make_adapt(
    path: Path,
    tasks: Sequence[Task],
    robot: RobotChoice,
    config: AdaptStageConfig,
    seed: int,
    motion: MotionConfig | None = None,
    watching: Watching | None = None,
) -> Stage:
    """The stage.

    Args:
        path: A bundle, or a folder of `export` or `run`.
        tasks: To adapt to.
        robot: To adapt on.
        config: Of the loop.
        seed: Of exploration, sampling and resets.
        motion: Whether and how fast the robot moves.
        watching: Who looks on, and who may step in.

    Raises:
        BundleError: The bundle is damaged, is for another robot, or has no such settings.
        ConfigError: A setting is not written as name=value, or a real robot is asked for several tasks or evaluations.
        SpecError: A goal is not within the robot's goal space.
        SourceError: A goal is none of the robot's tasks.
    """
    watching = watching or Watching()
    steps_in = watching.operator != "none" or watching.monitor != "robot" or watching.prompt
    if steps_in and len(tasks) != 1:
        raise ConfigError(
            f"adapt --operator, --monitor, --prompt: expected one task, in which a person or a script can step in, got "
            f"{len(tasks)}; pass --num-tasks 1, or --tasks with one goal"
        )
    path = find_bundle(path)  # a run folder around it may change while this stage is at work
    bundle = change_settings(load_bundle(path), config.settings)
    require_robot(bundle.contract, robot.spec)
    require_tasks(robot, tasks, "adapt")
    kind = "a real robot" if isinstance(robot.family, Hardware) else "a log"
    if isinstance(robot.family, OneRow) and (len(tasks) != 1 or config.evaluations):
        raise ConfigError(
            f"adapt on '{robot.reference}': expected one task and no evaluations on {kind}, got {len(tasks)} "
            f"and {config.evaluations or 0}; pass --num-tasks 1, or --tasks with one goal, and --evaluations 0"
        )
    motion = motion or MotionConfig()
    limits = motion.find_limits(robot.family)
    motion.require_guarded(robot.family)
    moved = motion != MotionConfig() or isinstance(robot.family, Hardware)
    return Stage(
        name="adapt",
        config={
            **({"dry": motion.is_dry(robot.family), "limits": limits.to_json()} if moved else {}),
            "robot": robot.record,
            "learner": {
                "kind": bundle.contract.kind,
                "exploration_episodes": bundle.contract.budget.exploration_episodes,
            },
            "adapt": config,
            "tasks": list(tasks),
        },
        inputs={"bundle": path},
        seed=seed,
        module=("pipeline/stages/adapt.py", "adapt/host/update_child.py"),
        libraries=("numpy", "torch", "safetensors", "mujoco"),
        body=partial(adapt, config, robot.family, tuple(tasks), motion, watching),
    )


def adapt(
    config: AdaptStageConfig,
    family: RobotFamily,
    tasks: tuple[Task, ...],
    motion: MotionConfig,
    watching: Watching,
    work: Work,
) -> None:
    """Plays all episodes, then writes records, results and policies."""
    import torch

    from ...adapt.host.hosts import make_hosted
    from ...adapt.host.plain_policy import write_task_policy
    from ...skills.checkpoint import load_checkpoint, save_checkpoint

    torch.set_num_threads(work.machine.threads)
    bundle = change_settings(load_bundle(work.inputs["bundle"]), config.settings)
    if "seed" in bundle.contract.learner:
        bundle = bundle.with_settings({"seed": work.seed})
    budget = bundle.contract.budget
    episodes = budget.total if config.episodes is None else config.episodes
    checkpoint = work.restore(save_checkpoint, load_checkpoint)
    evaluations = config.count_evaluations(family)
    due = {0, episodes, budget.exploration_episodes, *config.evaluate_at} if evaluations else set()
    idle = [str(at) for at in config.evaluate_at if at > episodes or not evaluations]
    if idle and config.evaluate_at != AdaptStageConfig().evaluate_at:
        work.view.note(
            f"adapt: no evaluation at {', '.join(idle)} of --evaluate-at: there are {episodes} episodes, and "
            f"{evaluations} extra ones for each evaluation"
        )
    rows = max(len(tasks), min(len(tasks) * evaluations, MOST_ROWS))
    guarded = config.is_guarded(family)
    if guarded:
        work.machine = replace(work.machine, checkpoint_period=0.0)  # a snapshot of each episode
    space = bundle.contract.space
    with (
        ExitStack() as stack,
        open_robots(
            *(family, motion, watching, rows, work),
            guarded=guarded,
            nominal=bundle.novelty,
            skill_dim=space.latent_dim if space.name == "skill" else 0,
        ) as (robot, watch),
    ):
        rng = np.random.default_rng(work.seed)
        robot = open_eyes(robot, bundle.eye)
        agent = make_hosted(bundle, DensityNoise(rng), device=work.machine.device)
        if bundle.kind.hosted and not bundle.task and config.learns_beside(family):
            child = UpdateChild(
                *(work.inputs["bundle"], bundle, config.guards.update_seconds),
                device=work.machine.device,
                threads=work.machine.threads,
            )
            stack.callback(child.close)
            agent = BesideAgent(agent, child, rng, robot.hold if isinstance(robot, Holds) else lambda: None)
        guards = None
        if watch is not None and guarded:
            agent = guards = guard_agent(
                *(agent, bundle, config.guards),
                play=partial(play_extra, watch, robot, goals_of(tasks)),
                read_signals=watch.take_signals,
                hold=watch.stop,
                seed=work.seed,
            )
        if config.logs == "drive" and (reason := find_idle_drive(bundle.logs)):
            work.view.note(f"adapt: {reason}; --logs drive changes nothing")
        guide = None if config.logs == "off" else bundle.make_guide(searches=config.logs == "on")
        if guide is not None:
            # guards change what the learner updates; logs do not change, and lead until the guards fall back
            agent = lead(agent, guide, lambda: guards is None or not guards.fallen)

        def make_fork(noise: Noise) -> RuntimeAgent:
            copy = bundle.make_agent(noise)
            return copy if guide is None else lead(copy, guide)

        adapter = Adapter(
            *(agent, robot, tasks, budget, episodes, rng),
            make_fork=make_fork,
            off_policy=bundle.kind.off_policy,
        )
        first = agent.state()
        if checkpoint is not None:
            adapter.load_state({k: v.numpy() for k, v in checkpoint.tensors.items()}, dict(checkpoint.facts))
            announce(work.view, load_metrics(work.metrics.path))
        work.consume(
            run_rounds(adapter, due, evaluations, work, guards, watch, evaluate_first=checkpoint is None),
            total=episodes,
            unit="episode",
            start=adapter.episode,
            state=lambda: to_checkpoint(adapter),
        )
    work.metrics.sync()
    records = [strip(record) for record in load_metrics(work.metrics.path)]
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    write_durably(work.folder / RECORDS_NAME, text.encode())
    write_record(work.folder / SUCCESS_NAME, {"success": compute_success(records)})
    write_record(work.folder / RETURNS_NAME, compute_returns(records, bundle))
    facts: dict[str, object] = {"kind": bundle.contract.kind, "tasks": [asdict(task) for task in tasks]}
    known = {name: value for name, value in agent.state().items() if not name.startswith(HOST)}
    save_checkpoint(work.folder / ADAPTED_NAME, to_tensors(known), facts)
    if adapter.states.size:
        names = [task.name for task in tasks]
        changed = describe_change(make_fork, first, agent.state(), adapter.states, robot.spec, names)
        write_record(work.folder / SKILLS_NAME, changed)
    (work.folder / POLICIES).mkdir()
    final = adapter.fork(RandomNoise(np.random.default_rng(work.seed)))
    for index, task in enumerate(tasks):
        source = {"adapted_from": bundle.digest, "task": task.name, "goal": list(task.goal)}
        write_task_policy(work.folder / POLICIES / str(index), bundle, final, index, source)


def find_idle_drive(logs: Mapping[str, NDArray[Any]]) -> str | None:
    """Why `--logs drive` is the same as another value for these logs of a bundle; None where it is not."""
    if not logs:
        return "there are no logs in the bundle"
    return "the logs lead by events, which are searched for one after another" if holds_events(logs) else None


def play_extra(
    watch: Watch, robot: RobotBatch, goals: Float, copy: RuntimeAgent, speed: float, rng: np.random.Generator
) -> Play:
    """An extra episode of these robots, which `watch` looks on; see `guards.PlayEpisode`."""
    watch.speed = speed
    try:
        return Play(run_episode(robot, copy, goals, rng), watch.take_signals())
    finally:
        watch.speed = 1.0


def strip(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what a clock decided and without `step`, which `episode` repeats."""
    return {name: value for name, value in record.items() if name != "step" and not is_wall_clock(name)}


def announce(view: ProgressView, records: Sequence[dict[str, Any]]) -> None:
    """Tells a machine that reads along; a person sees the progress line instead."""
    for record in records:
        facts = strip(record)
        view.record(facts.pop("kind"), facts, "")


def run_rounds(
    adapter: Adapter,
    due: set[int],
    evaluations: int,
    work: Work,
    guards: GuardedAgent | None = None,
    watch: Watch | None = None,
    *,
    evaluate_first: bool,
) -> Iterator[list[dict[str, Any]]]:
    """The loop's records, each round followed by its evaluation where one is due."""

    def evaluate_here() -> list[dict[str, Any]]:
        if watch is None:
            return evaluate(adapter, evaluations, work.seed)
        watch.evaluating = True
        try:
            return evaluate(adapter, evaluations, work.seed)
        finally:
            watch.evaluating = False
            watch.take_signals()  # they are none of the adaptation

    if evaluate_first and 0 in due:
        first = evaluate_here()
        announce(work.view, first)
        yield first
    while adapter.episode < adapter.episodes and not (guards is not None and guards.exhausted):
        adapter.play()
        # extra episodes, and the rows of evaluations, have alarms of their own
        found = {} if watch is None else watch.alarms
        alarms = [found[row] for row in range(len(adapter.tasks)) if row in found]
        if guards is not None:
            guards.keep_signals()
            work.save(lambda: to_checkpoint(adapter))  # else a kill while it learns costs an episode of a real robot
        done = [
            {"kind": "episode" if record.get("learned", True) else "helped", **record, "step": adapter.episode}
            for record in adapter.learn()
        ]
        if guards is not None:
            if adapter.episode == adapter.episodes or guards.exhausted:
                guards.finish()
            done += take_guard_records(guards, adapter.episode)
        done += tell_alarms(alarms, adapter, work.view)
        if watch is not None:
            show_watched(adapter, watch, work.view, done, guarded=guards is not None)
        if adapter.episode in due and done[0]["kind"] == "episode":
            done += evaluate_here()
        announce(work.view, done)
        yield done


def show_watched(
    adapter: Adapter, watch: Watch, view: ProgressView, records: Sequence[dict[str, Any]], *, guarded: bool
) -> None:
    """Tells the log and the screen what the last episode was like."""
    if not guarded:
        watch.take_signals()
    digest = hashlib.sha256()
    for name, value in sorted(take_learned(adapter.agent.state()).items()):
        digest.update(name.encode() + value.tobytes())
    for record in records:
        watch.tell("record", record=strip(record))
    watch.tell("policies", episode=adapter.episode, sha256=digest.hexdigest())
    if isinstance(view, AdaptView):
        seconds = records[0]["steps"] * watch.spec.control_period
        view.show(watch.last, watch.latencies, seconds)
    watch.latencies.clear()


def tell_alarms(alarms: Sequence[Alarm], adapter: Adapter, view: ProgressView) -> list[dict[str, Any]]:
    """Records of the rows whose motion was unknown in the last episode; a person is told the first one."""
    if alarms:
        _, step, score, threshold = alarms[0]
        view.note(
            f"episode {adapter.episode}: unknown motion in {len(alarms)} of {len(adapter.tasks)} rows, first in step "
            f"{step} (score {score:.3g} above {threshold:.3g}); look for a load, a delay or a wrong joint"
        )
    at = {"episode": adapter.episode, "step": adapter.episode}
    return [
        {
            "kind": "alarm",
            "task": adapter.tasks[alarm.row].name,
            "control_step": alarm.step,
            "score": min(alarm.score, 1e30),
            "threshold": alarm.threshold,
            **at,
        }
        for alarm in alarms
    ]


def take_guard_records(guards: GuardedAgent, episode: int) -> list[dict[str, Any]]:
    """How the last episode and update were, and what the guards did since the last call."""
    at = {"episode": episode, "step": episode}
    events = [{"kind": "guard", **event, **at} for event in guards.events]
    guards.events.clear()
    return [{"kind": "guarded", **guards.describe(), **at}, *events]


def name_stage(adapter: Adapter) -> str:
    """What the policies are after this episode; a key of `summary.MEANINGS`."""
    episode, exploring = adapter.episode, adapter.budget.exploration_episodes
    if episode == 0:
        return "before"
    if adapter.budget.adapt_steps or not exploring:  # it learns from the first episode on, in the same way
        return "learned" if episode == adapter.episodes else "learning"
    if episode <= exploring:
        return "inferred" if episode == exploring else "explore"
    return "adapted" if episode == adapter.episodes else "finetune"


def evaluate(adapter: Adapter, evaluations: int, seed: int) -> list[dict[str, Any]]:
    """One record per task: the policies as they stand, stochastic and greedy."""
    found = {name: adapter.evaluate(evaluations, seed, greedy=name == "greedy") for name in ("stochastic", "greedy")}
    return [
        {
            "kind": "evaluation",
            "stage": name_stage(adapter),
            "episode": adapter.episode,
            "task": task.name,
            "goal": list(task.goal),
            **{f"return_{name}": float(one.returns[index].mean()) for name, one in found.items()},
            **{
                f"success_{name}": float(one.success[index].mean())
                for name, one in found.items()
                if one.success is not None
            },
            "n": evaluations,
            "step": adapter.episode,
        }
        for index, task in enumerate(adapter.tasks)
    ]


def to_tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    """The same numbers as tensors of their own.

    Numpy gives an empty array strides that a checkpoint cannot be written with, so that the layout is torch's own.
    """
    import torch

    given = {name: torch.tensor(value) for name, value in arrays.items()}
    return {name: torch.empty(value.shape, dtype=value.dtype).copy_(value) for name, value in given.items()}


def to_checkpoint(adapter: Adapter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The adapter's state as a checkpoint keeps it."""
    arrays, facts = adapter.state()
    return to_tensors(arrays), facts


def identify_task(record: Mapping[str, Any]) -> tuple[float, ...]:
    """The goal of a record: a file of tasks may name one goal twice, and two rows of one task are no two tasks."""
    return tuple(record["goal"])


def compute_task_means(records: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """The mean of a metric in each task of some records."""
    by_task: dict[tuple[float, ...], list[float]] = {}
    for record in records:
        by_task.setdefault(identify_task(record), []).append(record[metric])
    return [float(np.mean(values)) for values in by_task.values()]


def compute_success(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over tasks with their 95 % intervals, one flat record per evaluation and metric."""
    results = []
    found = [record for record in records if record["kind"] == "evaluation"]
    for episode in sorted({record["episode"] for record in found}):
        here = [record for record in found if record["episode"] == episode]
        for metric in ("success_stochastic", "success_greedy", "return_stochastic", "return_greedy"):
            if metric not in here[0]:
                continue
            interval = compute_interval(compute_task_means(here, metric), shares=metric.startswith("success"))
            n = sum(record["n"] for record in here)
            results.append(
                {"method": here[0]["stage"], "metric": metric, "at": {"episode": episode}, **interval._asdict(), "n": n}
            )
    return results


def compute_returns(records: Sequence[dict[str, Any]], bundle: Bundle) -> list[dict[str, Any]]:
    """Mean return over tasks with its 95 % interval, one flat record per step of adaptation, or per episode.

    Exploration episodes do not count for a step of adaptation.
    """
    axis = "adaptations" if bundle.contract.budget.adapt_steps else "episode"
    played = [record for record in records if record["kind"] == "episode"]
    counting = [record for record in played if record["stage"] == "play" or axis == "episode"]
    results = []
    for place in sorted({record[axis] for record in counting}):
        here = [record for record in counting if record[axis] == place]
        interval = compute_interval(compute_task_means(here, "return"))
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
