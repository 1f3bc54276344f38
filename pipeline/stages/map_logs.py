"""Stage `map-logs`: the logs, encoded as skills, and what the rewards of the train tasks have in common.

Writes `logs.safetensors`, which `export` puts into the bundle (see `adapt/log_map.py` and `adapt/reward_shape.py`), and
`map.json` (its size, and how well it is connected).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...adapt.bundle_folder import LOGS, tensor_bytes
from ...adapt.log_agent import LONGEST_STRIDE, compute_stride
from ...adapt.log_map import UNREACHED, LogMap, map_log
from ...adapt.log_skills import pack_skills
from ...adapt.reward_shape import RewardShape, fit_reward_shape, make_default_shape
from ...datasets.store import EpisodeStore, find_store, open_store
from ...robots.family import make_robots
from ...robots.task import TaskSet, goals_of
from ...skills.config import load_skill_facts
from ..folder import write_record
from ..robots import RobotChoice
from ..settings.map_logs import MapConfig
from ..stage import Stage, Work
from .meta_train import compute_tasks_digest

REPORT_NAME = "map.json"
REWARDED_STATES = 20_000
"""Logged states whose rewards are worked out."""
MOST_TASKS = 64
"""Train tasks that are asked for them."""


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
    spec = robot.family.spec()
    spec.require_source(open_store(find_store(store)).schema.robot, str(store))
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


def draw_episodes(store: EpisodeStore, most: int, horizon: int, seed: int) -> NDArray[np.int64]:
    """Sorted numbers of all episodes, or of so many random ones that they hold at most `most` states, but one."""
    states = (store.episodes.length - 1) // horizon + 1
    order = np.random.default_rng(seed).permutation(len(states))
    kept = int(np.searchsorted(np.cumsum(states[order]), most, side="right"))
    return np.sort(order[: max(kept, 1)])


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
    episodes = draw_episodes(store, config.most_states, model.config.skill_horizon, work.seed)
    found = store.episodes
    log = encode_log(
        model, store.load("observation"), store.load("action"), found.start[episodes], found.length[episodes]
    )
    scaled = model.normaliser(torch.from_numpy(log.state)).numpy()
    arrays = map_log(scaled, log.skill, log.start, config.places, work.seed)
    rng = np.random.default_rng(work.seed)
    asked = rng.permutation(len(scaled))[:REWARDED_STATES]
    goals = goals_of(tasks.train)
    goals = goals[rng.permutation(len(goals))[:MOST_TASKS]]
    robot = make_robots(choice.family, 1, work.machine.threads)
    reward = np.asarray(robot.compute_reward(log.state[asked], goals)[0], np.float32)
    robot.close()
    shape = fit_reward_shape(scaled[asked], reward)
    told = shape is not None
    arrays |= (shape or make_default_shape(arrays["metric"])).to_arrays()
    settings, weights = export_space(SkillSpace(model))
    # an agent over skills has them itself, and `export` drops these
    (work.folder / LOGS).write_bytes(tensor_bytes(arrays | pack_skills(settings, to_arrays(weights))))
    report = describe(arrays, len(tensor_bytes(arrays)), told=told)
    write_record(work.folder / REPORT_NAME, report)
    work.view.record(
        "map",
        report,
        f"map-logs: {report['states']} states, {report['places']} places, {report['axes']} axes that tell tasks apart, "
        f"{report['bytes'] / 1e6:.1f} MB",
    )
    if report["stride"] > LONGEST_STRIDE:
        work.view.note(
            f"map-logs: a skill is {report['stride']:.2g} times as long as the radius of a rewarded region; the logs "
            "cannot aim, and stay out of the bundle: extract shorter skills (--skill.skill-horizon)"
        )
    if not told:
        work.view.note(
            "map-logs: no train task rewards enough of the logged states: a visit excludes what is one skill away"
        )


def describe(arrays: dict[str, NDArray[Any]], size: int, *, told: bool) -> dict[str, float]:
    """What a map holds, as JSON."""
    log, shape = LogMap(arrays), RewardShape.from_arrays(arrays)
    joined = log.skills < UNREACHED
    return {
        "states": len(log.skill),
        "places": log.places,
        "bytes": size,
        "axes": len(shape.axes),
        "joined": float(joined.mean()),
        "most_skills": int(log.skills[joined].max()),
        "rewards_told": float(told),
        "stride": compute_stride(arrays),
    }
