"""Stage `map-logs`: the logs, encoded as skills, and what the rewards of the train tasks have in common.

Writes `logs.safetensors`, which `export` puts into the bundle (see `adapt/log_map.py` and `adapt/reward_shape.py`), and
`map.json` (its size, and how well it is connected).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...adapt.bundle_folder import LOGS, tensor_bytes
from ...adapt.log_agent import LONGEST_STRIDE, compute_stride
from ...adapt.log_map import UNREACHED, count_skills, find_begins, map_log, read_pace
from ...adapt.log_skills import pack_skills
from ...adapt.reward_shape import RewardShape, fit_reward_shape, make_default_shape
from ...datasets.store import find_store, open_store
from ...errors import SpecError, UntoldReward
from ...plain_files import write_durably
from ...robots.family import Hardware, make_robots
from ...robots.robot import PaysAlongPath, RobotBatch, compute_path_reward, compute_state_reward
from ...robots.task import TaskSet, goals_of
from ...robots.unplugged import UnpluggedRobots
from ...skills.config import load_skill_facts
from ..folder import write_record
from ..log_events import find_moments, map_events
from ..robots import RobotChoice
from ..settings.map_logs import MapConfig
from ..stage import Stage, Work
from .meta_train import compute_tasks_digest

REPORT_NAME = "map.json"
REWARDED_STATES = 20_000
"""Logged states whose rewards are worked out."""
MOST_TASKS = 64
"""Train tasks that are asked for them."""
FAR_OFF = 10.0
"""Standard deviations from the mean of what the skills were learned from: logs of another place, robot or unit."""


def make_map_logs(store: Path, skills: Path, config: MapConfig, robot: RobotChoice, tasks: TaskSet, seed: int) -> Stage:
    """The stage.

    Args:
        store: An episode store, or a folder of `ingest`.
        skills: A folder of `extract`.
        config: Size of the map.
        robot: That the logs are from; it tells the rewards of the train tasks.
        tasks: Its tasks; nothing is asked of the test tasks.
        seed: Of the episodes and states that are drawn.

    Raises:
        StoreError: There is no whole store at `store`.
        RunError: There is no whole skill model at `skills`.
        SpecError: The logs or the skills are of another robot.
    """
    spec = robot.spec
    # a map holds no pictures: its skills see those of the robot that is led
    replace(spec, image=None).require_source(open_store(find_store(store)).schema.robot, str(store))
    spec.require_source(load_skill_facts(skills).robot, str(skills))
    return Stage(
        name="map-logs",
        config={"map": config, "robot": robot.record, "tasks": compute_tasks_digest(tasks)},
        inputs={"store": store, "skills": skills},
        seed=seed,
        module="pipeline/stages/map_logs.py",
        libraries=("numpy", "torch", "safetensors", "zarr"),
        body=partial(map_logs, config, robot, tasks),
    )


def draw_episodes(length: NDArray[np.int64], most: int, every: int, seed: int) -> NDArray[np.int64]:
    """Sorted numbers of all episodes, or of so many random ones that they hold at most `most` states, but one.

    Args:
        length: Of each episode, steps, shape (E,).
        most: States.
        every: Steps from state to state.
        seed: Of the order in which episodes are drawn.
    """
    states = (length - 1) // every + 1
    order = np.random.default_rng(seed).permutation(len(states))
    kept = int(np.searchsorted(np.cumsum(states[order]), most, side="right"))
    return np.sort(order[: max(kept, 1)])


def require_skills(where: Path, length: NDArray[np.int64], horizon: int) -> None:
    """Refuses logs that hold too few skills for a map.

    Args:
        where: The store.
        length: Steps of the episodes that were drawn, (E,).
        horizon: Steps of a skill.

    Raises:
        SpecError: They hold fewer than two.
    """
    skills = int(((length - 1) // horizon).sum())
    if skills < 2:
        raise SpecError(
            f"{where}: expected logs of at least two skills of {horizon} steps, each with the state behind it, got "
            f"{skills} in {len(length)} episodes of at most {length.max(initial=0)} steps; bring longer logs"
        )


def look_for_other_logs(scaled: NDArray[np.float32], axes: Sequence[str], work: Work) -> None:
    """Tells a person where most of the logs are far from what the skills were learned from.

    Args:
        scaled: States of the logs on the networks' scale, (N, O).
        axes: Names of the axes, O.
        work: Of the stage.

    Raises:
        SpecError: Some are so far that a bundle has no number for them.
    """
    away = np.abs(scaled)
    if (beyond := away.max(axis=0)).max() > np.finfo(np.float16).max:
        axis = axes[int(beyond.argmax())]
        raise SpecError(
            f"{work.stage.inputs['store']}: expected logs like those that the skills were learned from, got '{axis}' "
            f"{beyond.max():.2g} standard deviations from its mean there; look for another unit or a broken sensor, or "
            "extract the skills from these logs"
        )
    far = away > FAR_OFF
    if (share := float(far.any(axis=1).mean())) > 0.5:
        work.view.note(
            f"map-logs: {share:.0%} of the logged states are more than {FAR_OFF:g} standard deviations from those that "
            f"the skills were learned from, most of all in '{axes[int(far.sum(axis=0).argmax())]}'; skills of such "
            "logs lead nowhere: look for another unit or another robot, or extract the skills from these logs"
        )


def map_logs(config: MapConfig, choice: RobotChoice, tasks: TaskSet, work: Work) -> None:
    """Encodes, clusters, and asks the train tasks for the rewards of logged states."""
    import torch

    from ...adapt.host.spaces import export_space, to_arrays
    from ...meta.space import SkillSpace
    from ...skills.checkpoint import load_skill_model
    from ...skills.log_transitions import encode_log

    work.start_afresh()
    torch.set_num_threads(work.machine.threads)
    store, model = open_store(find_store(work.inputs["store"])), load_skill_model(work.inputs["skills"])
    observation, action, found = store.load("observation"), store.load("action"), store.find_stretches()
    goals = goals_of(tasks.train)
    known = observation[store.load_valid()]
    few = known[:: -(-len(known) // REWARDED_STATES)]
    ends = np.stack([known.min(axis=0), known.max(axis=0)])
    scaled = [model.normalise_state(torch.from_numpy(part)).numpy() for part in (few, ends)]
    look_for_other_logs(np.concatenate(scaled), store.schema.feature("observation").axes, work)
    robot: RobotBatch = UnpluggedRobots(choice.spec, 1)
    if not isinstance(choice.family, Hardware):
        robot = make_robots(choice.family, 1, work.machine.threads)
    tells = tells_reward(robot, known[:1], goals[:1])

    def draw(pace: int) -> tuple[dict[str, NDArray[Any]], bool]:
        """The map with so many states for each skill, and whether the train tasks told the shape of rewards."""
        work.stop_if_asked()
        horizon = model.config.skill_horizon
        episodes = draw_episodes(found.length, config.most_states, horizon // pace, work.seed)
        require_skills(work.stage.inputs["store"], found.length[episodes], horizon)
        log = encode_log(model, observation, action, found.start[episodes], found.length[episodes], pace)
        scaled = model.normalise_state(torch.from_numpy(log.state)).numpy()
        rng = np.random.default_rng(work.seed)
        asked = rng.permutation(len(scaled))[:REWARDED_STATES]
        some = goals[rng.permutation(len(goals))[:MOST_TASKS]]
        reward = ask_at(robot, log.state[asked], some)
        work.stop_if_asked()
        shape = fit_reward_shape(scaled[asked], reward, work.stop_if_asked)
        axes = None if shape is None else shape.axes
        arrays = map_log(scaled, log.skill, log.start, config.places, work.seed, pace, axes, config.lean)
        return arrays | (shape or make_default_shape(arrays["metric"])).to_arrays(), shape is not None

    def draw_events() -> dict[str, NDArray[Any]] | None:
        """A map of events; None where the train tasks pay for none, which a few episodes tell."""
        horizon = model.config.skill_horizon
        pace = 2 if horizon % 2 == 0 else horizon
        some = goals[np.random.default_rng(work.seed).permutation(len(goals))[:MOST_TASKS]]
        rewards: list[NDArray[np.float32]] = []
        for most in (REWARDED_STATES * pace // horizon, config.most_states):
            episodes = draw_episodes(found.length, most, horizon // pace, work.seed)
            length = found.length[episodes]
            require_skills(work.stage.inputs["store"], length, horizon)
            start = np.cumsum(length) - length
            steps = np.repeat(found.start[episodes] - start, length) + np.arange(length.sum())
            seen = observation[steps]
            asked = ask_events(robot, np.split(seen, start[1:]), some, work.stop_if_asked)
            if asked is None:
                return None
            rewards = asked
        if model.eye is not None:
            raise SpecError(
                f"map-logs: expected tasks that pay for a place, for a robot with a camera, got tasks that pay for one "
                f"event after another for '{choice.spec.name}'; leave the logs out"
            )
        return map_events(model, seen, action[steps], start, length, rewards, pace=pace, seed=work.seed)

    if (events := draw_events()) is not None:
        robot.close()
        write_events(events, work)
        return
    arrays, told = draw(1)
    if told and compute_stride(arrays) > LONGEST_STRIDE:
        arrays, told = draw(model.config.skill_horizon)
        work.view.note(
            f"map-logs: a skill is {compute_stride(arrays):.2g} times as long as the radius of a rewarded region; the "
            "states that it passes come along, too"
        )
    robot.close()
    settings, weights = export_space(SkillSpace(model))
    # an agent over skills has them itself, and `export` drops these
    write_durably(work.folder / LOGS, tensor_bytes(arrays | pack_skills(settings, to_arrays(weights))))
    report = describe(arrays, len(tensor_bytes(arrays)), told=told)
    write_record(work.folder / REPORT_NAME, report)
    work.view.record(
        "map",
        report,
        f"map-logs: {report['states']} states, {report['places']} places, {report['axes']} axes that tell tasks apart, "
        f"{report['bytes'] / 1e6:.1f} MB",
    )
    if not told:
        reason = explain_untold(robot, tells=tells)
        work.view.note(f"map-logs: {reason}: a visit excludes what is one skill away")


def explain_untold(robot: RobotBatch, *, tells: bool) -> str:
    """Why rewards say nothing about the places of logs; `tells` is of `tells_reward`."""
    if tells:
        return "no train task rewards enough of the logged states"
    if isinstance(robot, PaysAlongPath):
        return "train tasks pay for too few events along the logs (bring more logs, or train tasks that they fulfil)"
    if isinstance(robot, UnpluggedRobots):
        return "a real robot, which is not connected here, tells no reward"
    return "the robot tells no reward of a state"


def tells_reward(robot: RobotBatch, state: NDArray[np.float32], goals: NDArray[np.float32]) -> bool:
    """Whether robots say what tasks would pay for being in states."""
    try:
        compute_state_reward(robot, state, goals)
    except UntoldReward:
        return False
    return True


def ask_at(robot: RobotBatch, state: NDArray[np.float32], goals: NDArray[np.float32]) -> NDArray[np.float32]:
    """What tasks would pay for being in states, (S, N); nothing, where states do not tell it, but paths."""
    if not tells_reward(robot, state[:1], goals):
        return np.zeros((len(state), len(goals)), np.float32)
    return np.asarray(compute_state_reward(robot, state, goals)[0], np.float32)


def ask_along(robot: RobotBatch, path: NDArray[np.float32], goals: NDArray[np.float32]) -> NDArray[np.float32]:
    """What tasks would pay along an episode, (T, N), nothing after they ended; `path` is (T, O), `goals` (N, G).

    Nothing, where paths do not tell it either: rewards that are known only to the environment.
    """
    try:
        reward, terminated = compute_path_reward(robot, path[None], goals)
    except UntoldReward:
        return np.zeros((len(path), len(goals)), np.float32)
    return np.where(mark_ended(terminated[0]), np.float32(0.0), reward[0]).astype(np.float32)


def ask_events(
    robot: RobotBatch, paths: Sequence[NDArray[np.float32]], goals: NDArray[np.float32], stop: Callable[[], None]
) -> list[NDArray[np.float32]] | None:
    """What tasks would pay along episodes, see `ask_along`; None where they do not pay for events.

    Where states alone tell what is paid, tasks pay for being somewhere, however fast the logs pass it and however often
    they come back. An event is paid once: what it pays depends on what was paid before.

    Args:
        robot: One row.
        paths: Of the episodes, (T, O) each.
        goals: Of the tasks, (N, G).
        stop: Called for each episode; it may raise.
    """
    rewards = []
    for path in paths:
        stop()
        rewards.append(ask_along(robot, path, goals))
    if find_moments(rewards) is None:
        return None
    for path, paid in zip(paths, rewards, strict=True):
        stop()
        if not is_paid_by_state(robot, path, paid, goals):
            return rewards
    return None


def is_paid_by_state(
    robot: RobotBatch, path: NDArray[np.float32], paid: NDArray[np.float32], goals: NDArray[np.float32]
) -> bool:
    """Whether states alone tell what tasks paid along an episode until they ended; `paid` is of `ask_along`."""
    try:
        reward, terminated = compute_state_reward(robot, path, goals)
    except UntoldReward:
        return False
    return bool(np.allclose(np.where(mark_ended(terminated), 0.0, reward), paid, rtol=1e-4, atol=1e-6))


def mark_ended(terminated: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Steps behind the end of each task, (T, N); `terminated` is of single steps, (T, N)."""
    over = np.logical_or.accumulate(terminated, axis=0)
    return np.concatenate([np.zeros_like(over[:1]), over[:-1]])


def write_events(events: dict[str, NDArray[Any]], work: Work) -> None:
    """Writes a map of events and what it holds."""
    data = tensor_bytes(events)
    write_durably(work.folder / LOGS, data)
    report = {
        "states": len(events["event.next"]),
        "events": len(events["event.detector"]),
        "phases": len(events["event.prior"]),
        "axes": len(events["event.axes"]),
        "bytes": len(data),
    }
    write_record(work.folder / REPORT_NAME, report)
    work.view.record(
        "map",
        report,
        f"map-logs: {report['events']} events that train tasks pay for one after another, {report['states']} states, "
        f"{report['bytes'] / 1e6:.1f} MB",
    )


def describe(arrays: dict[str, NDArray[Any]], size: int, *, told: bool) -> dict[str, float]:
    """What a map holds, as JSON."""
    shape, pace, start = RewardShape.from_arrays(arrays), read_pace(arrays), arrays["start"].astype(np.int64)
    begins = find_begins(len(arrays["state"]), start, pace)
    place_of = arrays["place_of"].astype(np.int64)
    skills = count_skills(place_of[begins], place_of[begins + pace], len(arrays["place"]))
    joined = skills < UNREACHED
    return {
        "states": len(arrays["state"]),
        "states_of_skill": pace,
        "places": len(arrays["place"]),
        "bytes": size,
        "axes": len(shape.axes),
        "joined": float(joined.mean()),
        "most_skills": int(skills[joined].max()),
        "rewards_told": float(told),
        "stride": compute_stride(arrays),
    }
