"""The stage `replay` of one bundle: every part in turn, its sections on disk, and the predictions as MCAP.

    sections/<name>.json     what each part found
    predictions/<policy>/    MCAP logs
    checkpoint/              results of single episodes, until the stage is published

A part whose sections are there is not done again; within a part, an episode is not. So a replay that was killed goes
on, and ends with the same sections; but for the times of `latency`, which are measured anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ...adapt.bundle import Bundle, load_bundle
from ...datasets.store import open_store
from ...errors import ConfigError, SpecError
from ...robots.family import RobotFamily
from ...robots.hardware_family import HardwareFamily
from ...robots.limits import RobotLimits
from ...robots.spec import RobotSpec
from ...robots.task import Task
from ..robots import RobotChoice
from ..settings.replay import OpenLoopConfig
from ..stage import Stage, Work
from .novelty import learn_known, measure_novelty
from .open_loop import play_log
from .predictions import FOLDER, name_topic, write_predictions
from .saved import SECTIONS, save_section
from .section import Replay, Section
from .sections import make_known, make_latency, make_limits, make_open_loop, make_skills, skip
from .skills import load_encoder, measure_skills

NAME = "replay"
KEPT = "checkpoint"
"""A stage folder's own name for what survives a kill and is not published."""
Part = Callable[[Replay], Sequence[Section]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of one bundle."""

    label: str
    bundle: Path
    log: Path
    """An episode store."""
    robot: RobotChoice | None = None
    tasks: tuple[Task, ...] = ()
    training: Path | None = None
    """An episode store."""
    skills: Path | None = None
    """A folder of `extract`."""
    limits: Path | None = None
    """TOML file, see `robots/limits.py`."""
    open_loop: OpenLoopConfig
    seed: int = 0


def make_replay(question: Question) -> Stage:
    """The stage."""
    inputs = {"bundle": question.bundle, "log": question.log}
    more = {"training": question.training, "skills": question.skills, "limits": question.limits}
    return Stage(
        name=NAME,
        config={
            "label": question.label,
            "robot": None if question.robot is None else question.robot.record,
            "tasks": list(question.tasks),
            "open_loop": question.open_loop,
        },
        inputs=inputs | {role: path for role, path in more.items() if path is not None},
        seed=question.seed,
        module="pipeline/replay/driver.py",
        libraries=("numpy", "torch", "zarr", "mcap", "mujoco", "matplotlib"),
        body=partial(replay_bundle, question),
    )


def replay_bundle(question: Question, work: Work) -> None:
    """Does every part that is not done yet."""
    bundle, store = load_bundle(work.inputs["bundle"]), open_store(work.inputs["log"])
    folder = work.folder / KEPT
    folder.mkdir(exist_ok=True)
    replay = Replay(
        label=question.label,
        bundle=bundle,
        store=store,
        spec=bundle.contract.robot,
        family=None if question.robot is None else question.robot.family,
        tasks=question.tasks,
        folder=folder,
        view=work.view,
        stop=work.stop,
        seed=work.seed,
        threads=work.machine.threads,
    )
    for names, part in list_parts(question):
        if not all((work.folder / SECTIONS / f"{name}.json").is_file() for name in names):
            for section in part(replay):
                save_section(work.folder / SECTIONS, section)
    if question.open_loop.predictions:
        predict(replay, question, work.folder / FOLDER / name_topic(question.label))


def list_parts(question: Question) -> list[tuple[tuple[str, ...], Part]]:
    """Names of the sections of each part, in the order of the page, and the part."""
    return [
        (("open_loop", "limits", "latency"), partial(do_open_loop, question)),
        (("known_states",), partial(do_known_states, question)),
        (("skills",), partial(do_skills, question)),
    ]


ORDER = ("known_states", "open_loop", "skills", "limits", "latency")
"""Of sections on the page."""


def do_open_loop(question: Question, replay: Replay) -> list[Section]:
    """Action errors, limits and latency, which one pass through the log gives."""
    limits, reason = find_limits(question, replay.spec, replay.family)
    records = play_log(replay, question.open_loop, limits)
    return [
        make_open_loop(replay, question.open_loop, records),
        skip("limits", "Safety limits", reason) if limits is None else make_limits(replay, limits, records),
        make_latency(replay, records),
    ]


def find_limits(question: Question, spec: RobotSpec, family: RobotFamily | None) -> tuple[RobotLimits | None, str]:
    """The limits of the robot; or none, and why.

    Raises:
        ConfigError: The file of limits is wrong.
    """
    from ...adapt.action_limits import ActionLimits

    if spec.choices:
        return None, "The robot chooses among named actions, which no limit changes."
    limits = family.limits() if isinstance(family, HardwareFamily) else RobotLimits.of(spec)
    if question.limits is not None:
        limits = limits.override(question.limits)
    try:
        ActionLimits.of(spec, limits)
    except SpecError as error:
        return None, f"The robot's limits are not complete: {error}."
    return limits, ""


def do_known_states(question: Question, replay: Replay) -> list[Section]:
    """How unknown the logged states are."""
    from .verdict import judge_unknown

    training = None if question.training is None else open_store(question.training)
    known = learn_known(replay, question.open_loop, training)
    if not known.says_something:
        ground = judge_unknown(None, "")
        return [skip("known_states", "Known states", ground.sentence, [ground])]
    same = training is not None and training.digest == replay.store.digest
    return [make_known(replay, known, measure_novelty(replay, known), same)]


def do_skills(question: Question, replay: Replay) -> list[Section]:
    """How the skills fit the log."""
    if replay.bundle.contract.space.name != "skill":
        return [skip("skills", "Skills", "The policy chooses commands, not skills.")]
    if question.skills is not None:
        import torch

        torch.set_num_threads(replay.threads)
    encoder = None if question.skills is None else load_encoder(replay, question.skills)
    records = measure_skills(replay, question.open_loop, encoder)
    return [make_skills(replay, records, encoded=encoder is not None)]


def predict(replay: Replay, question: Question, folder: Path) -> None:
    """Writes the predictions of the first episodes; says so where the extra that writes bags is not installed."""
    if find_spec("mcap") is None or find_spec("rosbags") is None:
        replay.view.note("replay: predictions are not written without pip install 'supple[ros]'")
        return
    training = None if question.training is None else open_store(question.training)
    known = learn_known(replay, question.open_loop, training)
    write_predictions(replay, folder, known, range(min(replay.episodes, question.open_loop.predictions)))


def label_bundles(paths: Sequence[Path], bundles: Sequence[Bundle]) -> list[str]:
    """A name for each bundle: of its folder, or of the run around it, with a number where names repeat.

    Raises:
        ConfigError: A bundle stands twice.
    """
    digests = [bundle.digest for bundle in bundles]
    for path, digest in zip(paths, digests, strict=True):
        if digests.count(digest) > 1:
            raise ConfigError(f"replay: expected each bundle once, got {path} twice; leave one out")
    names = [name_bundle(path) for path in paths]
    return [f"{name}_{index + 1}" if names.count(name) > 1 else name for index, name in enumerate(names)]


def name_bundle(path: Path) -> str:
    """`runs/demo/export/bundle` as demo, `policies/3` as policies_3."""
    parts = [part for part in path.resolve().parts if part not in ("bundle", "export")]
    name = parts[-1] if parts else "policy"
    if name.isdecimal() and len(parts) > 1:
        name = f"{parts[-2]}_{name}"
    return name_topic(name)
