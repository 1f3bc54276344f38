"""Stage `extract`: learns the skill model from an episode store.

Writes `skill.safetensors`, `skill.json` and `skill-report.json` (how good the skills are on episodes held out).
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.eye import SeeingRobots, open_eyes
from ...datasets.schema import IMAGE
from ...datasets.store import EpisodeStore, find_store, open_store
from ...datasets.windows import PictureWindows, WindowSampler, split_episodes
from ...errors import SpecError
from ...robots.family import ChecksData, RobotFamily, SetsState, make_simulator
from ...robots.robot import Float, Rows
from ..folder import write_record
from ..progress import format_metrics
from ..robots import RobotChoice
from ..settings.extract import ExtractConfig
from ..stage import Stage, Work

if TYPE_CHECKING:
    from ...skills.model import SkillModel

REPORT_NAME = "skill-report.json"
REPORT_WINDOWS = 4096
"""Windows on which the report is computed."""
SEEN_WINDOWS = 512
"""The same where every step has pictures to look at."""
REPORT_BATCH = 64
"""Windows whose pictures are looked at together."""
PICTURES = "pictures"
"""Folder of the memory map of pictures, while the stage runs."""

REMEDY = (
    "A policy cannot choose among such skills. Lower skill.kl-weight, raise skill.num-updates, or look whether the "
    "actions of the data differ at all where the observations do not"
)


def make_extract(store: Path, config: ExtractConfig, robot: RobotChoice | None, seed: int) -> Stage:
    """The stage.

    Args:
        store: An episode store, or a folder of `ingest`.
        config: The skill model; `seed` is its seed too.
        robot: That the data are from; one whose simulator can be put into the states of the data also shows where
            decoded skills lead. None compares actions alone.
        seed: Of weights, windows and the split.

    Raises:
        StoreError: there is no whole store at `store`.
        SpecError: the data are of another robot, of one that nobody named though `robot` is given, or of a robot that
            chooses among named actions.
    """
    source = open_store(find_store(store)).schema.robot
    if source is not None and source.choices:
        raise SpecError(
            f"{store}: expected a robot with continuous actions, got '{source.name}', which has choices; "
            "train without skills, in the action space choice"
        )
    if robot is not None:
        robot.spec.require_source(source, str(store))
    simulated = robot if robot is not None and isinstance(robot.family, SetsState) else None
    config = replace(config, skill=replace(config.skill, seed=seed))
    return Stage(
        name="extract",
        config={"extract": config, "robot": None if simulated is None else simulated.record_without_tasks},
        inputs={"store": store},
        seed=seed,
        module="pipeline/stages/extract.py",
        libraries=("numpy", "torch", "safetensors", "zarr", "mujoco"),
        body=partial(extract, config, None if robot is None else robot.family),
    )


class HeldOut(NamedTuple):
    """Episodes that training does not see: their first rows and lengths, shape (E,)."""

    start: NDArray[np.int64]
    length: NDArray[np.int64]


def make_samplers(store: EpisodeStore, config: ExtractConfig) -> tuple[WindowSampler, HeldOut]:
    """Windows of the training episodes, and the episodes held out (all of them, where too few are held out).

    Raises:
        SpecError: No episode is as long as a skill.
    """
    start, length, *_ = store.find_stretches()
    horizon = config.skill.skill_horizon
    kept, out = split_episodes(len(store.episodes.start), config.validation_fraction, config.skill.seed)
    episode = np.searchsorted(store.episodes.start, start, "right") - 1
    seen, unseen = np.isin(episode, kept), np.isin(episode, out)
    arrays = store.load("observation"), store.load("action")
    longest = int(length[seen].max(initial=0))
    if longest < horizon:
        raise SpecError(
            f"{store.path}: expected an episode of at least {horizon} steps, one skill, got {longest} at most; bring "
            "longer episodes, or shorten skills with --skill.skill-horizon (--extract.skill.skill-horizon of supple "
            "run)"
        )
    sampler = WindowSampler(*arrays, start[seen], length[seen], horizon)
    if int(length[unseen].max(initial=0)) <= horizon:
        unseen = np.ones(len(start), np.bool_)
    return sampler, HeldOut(start[unseen], length[unseen])


def open_pictures(store: EpisodeStore, cache: Path) -> NDArray[np.uint8] | None:
    """The pictures of a robot with a camera as a memory map, which is written to `cache`; None without."""
    robot = store.schema.robot
    return None if robot is None or robot.image is None else store.memmap(IMAGE, cache)


def add_pictures(
    windows: WindowSampler, pictures: NDArray[np.uint8] | None, store: EpisodeStore, frames: int
) -> WindowSampler | PictureWindows:
    """The windows with their pictures, where there are some."""
    return windows if pictures is None else PictureWindows(windows, pictures, store.find_stretches().start, frames)


def sample_seen(
    model: SkillModel, windows: WindowSampler | PictureWindows, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windows for the report: observations as decoder and prior see them, (B, W, O), and actions (B, W, A)."""
    import torch

    from ...skills.eye import stack_frames

    count = REPORT_WINDOWS if isinstance(windows, WindowSampler) else SEEN_WINDOWS
    observation, action, *pictures = windows.sample(count, np.random.default_rng(seed))
    if not pictures:
        return observation, action
    seen = []
    for begin in range(0, len(observation), REPORT_BATCH):
        part = slice(begin, begin + REPORT_BATCH)
        state = torch.from_numpy(observation[part])
        steps = torch.arange(state.shape[1]).expand(len(state), -1)
        stacks = stack_frames(torch.from_numpy(pictures[0][part]), steps, model.config.image_frames)
        with torch.no_grad():
            seen.append(model.see(state, stacks).numpy())
    return np.concatenate(seen), action


def compute_report(
    model: SkillModel,
    store: EpisodeStore,
    held_out: HeldOut,
    seed: int,
    family: RobotFamily | None,
    threads: int,
    pictures: NDArray[np.uint8] | None = None,
) -> dict[str, float]:
    """Errors on windows held out and, where the family sets states, where decoded skills lead in the simulator.

    Nothing of the simulator where its episodes are shorter than a skill.
    """
    import torch

    from ...adapt.host.spaces import export_eye
    from ...skills.evaluate import evaluate_rollouts, evaluate_windows

    model = model.eval()
    horizon = model.config.skill_horizon
    if int(held_out.length.max()) <= horizon:
        return {}
    windows = WindowSampler(store.load("observation"), store.load("action"), *held_out, horizon + 1)
    observation, action = sample_seen(model, add_pictures(windows, pictures, store, model.config.image_frames), seed)
    parts = torch.from_numpy(observation[:, :horizon]), torch.from_numpy(action[:, :horizon])
    generator = torch.Generator().manual_seed(seed)
    report = evaluate_windows(model, *parts, generator, store.schema.feature("action").axes)
    if family is None or not isinstance(family, SetsState) or family.spec().episode_steps < horizon:
        return report
    few = min(family.shown_windows, len(observation))
    simulator = make_simulator(family, few, threads)
    robot = open_eyes(simulator, export_eye(model, seed=0))
    names = simulator.spec.observation.names

    def set_state(rows: Rows, observation: Float) -> Float:
        now = family.set_state(simulator, rows, observation[:, : len(names)])
        return robot.begin(rows, now) if isinstance(robot, SeeingRobots) else now

    places = [names.index(name) for name in family.place_axes]
    return report | evaluate_rollouts(model, robot, set_state, observation[:few], action[:few], places)


def find_collapse(model: SkillModel, windows: WindowSampler | PictureWindows, seed: int) -> str | None:
    """What shows that the skills of these windows say nothing, or None; the few held out may all be alike."""
    import torch

    from ...skills.evaluate import describe_collapse, evaluate_windows

    observation, action = sample_seen(model, windows, seed)
    parts = torch.from_numpy(observation), torch.from_numpy(action)
    return describe_collapse(evaluate_windows(model, *parts, torch.Generator().manual_seed(seed)))


def extract(config: ExtractConfig, family: RobotFamily | None, work: Work) -> None:
    """Trains to the last update, then writes model and report."""
    import torch

    from ...skills.checkpoint import load_checkpoint, save_checkpoint, save_skill_model
    from ...skills.learner import SkillLearner, train
    from ...skills.model import SkillModel

    torch.set_num_threads(work.machine.threads)
    store = open_store(find_store(work.inputs["store"]))
    checkpoint = work.restore(save_checkpoint, load_checkpoint)
    windows, held_out = make_samplers(store, config)
    valid = store.load_valid()
    if family is not None and isinstance(family, ChecksData):
        family.require_data(store.load("observation")[valid], str(store.path))
    if family is not None and isinstance(family, SetsState):
        make_simulator(family, 1, work.machine.threads).close()  # what cannot be made is refused at once
    pictures = open_pictures(store, work.folder / PICTURES)
    training = add_pictures(windows, pictures, store, config.skill.image_frames)
    widths = [store.schema.feature(name).shape[0] for name in ("observation", "action")]
    robot = store.schema.robot
    model = SkillModel(widths[0], widths[1], config.skill, robot)
    model.fit_scales(*(torch.from_numpy(store.load(name)[valid]) for name in ("observation", "action")))
    learner = SkillLearner(model, config.skill, work.machine.device)
    if checkpoint is not None:
        learner.load_state(checkpoint.tensors, checkpoint.facts)
    work.consume(
        train(learner, training, log_every=config.log_every),
        total=config.skill.num_updates,
        unit="update",
        start=learner.step,
        state=learner.state,
    )
    learner.model.scale_prior(config.skill.prior_temperature)
    save_skill_model(work.folder, learner.model.cpu())
    report = compute_report(learner.model, store, held_out, config.skill.seed, family, work.machine.threads, pictures)
    signs = find_collapse(learner.model, training, config.skill.seed)
    del pictures, training
    shutil.rmtree(work.folder / PICTURES, ignore_errors=True)
    report["collapsed"] = float(signs is not None)
    write_record(work.folder / REPORT_NAME, report)
    work.view.record("skills", report, f"skills: {format_metrics(report, 12)}")
    if signs is not None:
        facts = {"signs": signs, "remedy": REMEDY}
        work.view.record("collapse", facts, f"skills: they have COLLAPSED: {signs}. {REMEDY}.")
