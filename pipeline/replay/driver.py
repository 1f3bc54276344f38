"""The stage `replay` of one bundle: every part in turn, its sections on disk, and the predictions as MCAP.

    sections/<name>.json     what each part found
    predictions/<policy>/    MCAP logs
    checkpoint/              results of single episodes, until the stage is published

A part whose sections are there is not done again; within a part, an episode is not. So a replay that was killed goes
on, and ends with the same sections; but for the times of `latency`, which are measured anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ...adapt.bundle import Bundle, load_bundle
from ...datasets.store import EpisodeStore, open_store
from ...errors import ConfigError, SpecError
from ...robots.family import RobotFamily
from ...robots.hardware_family import HardwareFamily
from ...robots.limits import RobotLimits
from ...robots.spec import RobotSpec
from ...robots.task import Task
from ..robots import RobotChoice
from ..settings.off_policy import OffPolicyConfig
from ..settings.replay import OpenLoopConfig, PartName, RehearsalConfig, SimulatorConfig
from ..stage import Stage, Work
from .logs import see_store
from .novelty import learn_known, measure_novelty
from .open_loop import play_log
from .predictions import FOLDER, name_topic, write_predictions
from .rehearsal import load_reference, rehearse
from .saved import SECTIONS, save_section
from .section import Ground, Replay, Section
from .sections import make_known, make_latency, make_limits, make_open_loop, make_skills, skip
from .simulator import replay_in_simulator
from .skills import load_encoder, measure_skills

if TYPE_CHECKING:
    from ...skills.model import SkillModel

NAME = "replay"
KEPT = "checkpoint"
"""A stage folder's own name for what survives a kill and is not published."""
Part = Callable[[Replay], Sequence[Section]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of one bundle."""

    label: str
    bundle: Path
    robot: RobotChoice | None = None
    training: Path | None = None
    """An episode store."""
    skills: Path | None = None
    """A folder of `extract`."""
    limits: Path | None = None
    """TOML file, see `robots/limits.py`."""
    records: Path | None = None
    """`records.jsonl` of adaptations of the bundle to other tasks."""
    named_records: bool = False
    """Somebody named them: if they are of no use, that is an error."""
    parts: tuple[PartName, ...] = get_args(PartName)
    open_loop: OpenLoopConfig = field(default_factory=OpenLoopConfig)
    off_policy: OffPolicyConfig = field(default_factory=OffPolicyConfig)
    simulator: SimulatorConfig = field(default_factory=SimulatorConfig)
    rehearsal: RehearsalConfig = field(default_factory=RehearsalConfig)
    seed: int = 0


def make_replay(question: Question, log: Path, tasks: tuple[Task, ...] = ()) -> Stage:
    """The stage.

    Args:
        question: What is asked of the bundle.
        log: An episode store.
        tasks: Of its episodes where somebody said: one for all, or one for each.
    """
    inputs = {"bundle": question.bundle, "log": log}
    more = {
        "training": question.training,
        "skills": question.skills,
        "limits": question.limits,
        "records": question.records,
    }
    return Stage(
        name=NAME,
        config={
            "label": question.label,
            "robot": None if question.robot is None else question.robot.record,
            "tasks": list(tasks),
            **{name: getattr(question, name) for name in ("parts", *get_args(PartName))},
        },
        inputs=inputs | {role: path for role, path in more.items() if path is not None},
        seed=question.seed,
        module="pipeline/replay/driver.py",
        libraries=("numpy", "torch", "zarr", "mcap", "mujoco", "matplotlib"),
        body=partial(replay_bundle, question, tasks),
    )


def check_question(question: Question, bundle: Bundle) -> None:
    """Refuses at once what a part would refuse after a long time.

    Raises:
        StoreError: The training data are no store, or damaged.
        SpecError: They are of another robot.
        RunError: The skills are none, or damaged.
        ConfigError: They are not the bundle's, or the file of limits is wrong, or the records do not tell success.
    """
    spec = bundle.contract.own_robot
    if question.training is not None:
        spec.require_source(open_store(question.training).schema.robot, f"--training {question.training}")
    if question.skills is not None and bundle.contract.space.name == "skill":
        load_encoder(bundle, question.skills)
    if question.limits is not None:
        find_limits(question, spec, None if question.robot is None else question.robot.family)
    if question.records is not None and question.named_records:
        load_reference(question.records, question.rehearsal.success_return)


def replay_bundle(question: Question, tasks: tuple[Task, ...], work: Work) -> None:
    """Does every part that is not done yet."""
    bundle, folder = load_bundle(work.inputs["bundle"]), work.folder / KEPT
    folder.mkdir(exist_ok=True)
    store = see_store(open_store(work.inputs["log"]), bundle, folder)
    replay = Replay(
        label=question.label,
        bundle=bundle,
        store=store,
        spec=bundle.contract.robot,
        family=None if question.robot is None else question.robot.family,
        tasks=tasks,
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
    if question.open_loop.predictions and "open_loop" in question.parts:
        predict(replay, question, work.folder / FOLDER / name_topic(question.label))


def list_parts(question: Question) -> list[tuple[tuple[str, ...], Part]]:
    """Names of the sections of each part, in the order of the page, and the part."""
    parts: list[tuple[PartName, tuple[str, ...], Part]] = [
        ("open_loop", ("open_loop", "limits", "latency"), partial(do_open_loop, question)),
        ("open_loop", ("known_states",), partial(do_known_states, question)),
        ("open_loop", ("skills",), partial(do_skills, question)),
        ("simulator", ("simulator",), partial(do_simulator, question)),
        ("rehearsal", ("rehearsal",), partial(do_rehearsal, question)),
        ("off_policy", ("off_policy",), partial(do_off_policy, question)),
    ]
    return [(names, part) for name, names, part in parts if name in question.parts or name == "off_policy"]


ORDER = ("off_policy", "rehearsal", "simulator", "known_states", "open_loop", "skills", "limits", "latency")
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

    training = find_training(question, replay)
    known = learn_known(replay, question.open_loop, training)
    if not known.says_something:
        ground = judge_unknown(None, "")
        return [skip("known_states", "Known states", ground.sentence, [ground])]
    same = training is not None and training.digest == replay.store.digest
    return [make_known(replay, known, measure_novelty(replay, known), same)]


def find_training(question: Question, replay: Replay) -> EpisodeStore | None:
    """What the policy or its skills were learned from, as the policy sees it."""
    return None if question.training is None else see_store(open_store(question.training), replay.bundle, replay.folder)


def do_skills(question: Question, replay: Replay) -> list[Section]:
    """How the skills fit the log."""
    if replay.bundle.contract.space.name != "skill":
        return [skip("skills", "Skills", "The policy chooses commands, not skills.")]
    if question.skills is not None:
        import torch

        torch.set_num_threads(replay.threads)
    encoder = None if question.skills is None else load_encoder(replay.bundle, question.skills)
    records = measure_skills(replay, question.open_loop, encoder)
    return [make_skills(replay, records, encoded=encoder is not None)]


def do_simulator(question: Question, replay: Replay) -> list[Section]:
    """Logged commands through the simulator."""
    return [replay_in_simulator(replay, question.simulator)]


def do_rehearsal(question: Question, replay: Replay) -> list[Section]:
    """What the bundle would infer from the first episodes; records that nobody named may be of no use."""
    import torch

    torch.set_num_threads(replay.threads)
    encoder = find_encoder(question, replay)
    try:
        return [rehearse(replay, question.rehearsal, question.records, question.off_policy, encoder)]
    except ConfigError as error:
        if question.named_records:
            raise
        section = rehearse(replay, question.rehearsal, None, question.off_policy, encoder)
        return [replace(section, warnings=[*section.warnings, f"Records beside the bundle are of no use: {error}."])]


def do_off_policy(question: Question, replay: Replay) -> list[Section]:
    """The return that the policy would have had; without it nothing says how good the policy is."""
    if "off_policy" not in question.parts:
        reason = "Nobody asked what the policy would earn (--parts)."
        return [skip("off_policy", "Off-policy evaluation", reason, [Ground("caution", reason)])]
    import torch

    from .off_policy import evaluate_off_policy

    torch.set_num_threads(replay.threads)
    return [evaluate_off_policy(replay, question.off_policy, find_encoder(question, replay))]


def find_encoder(question: Question, replay: Replay) -> SkillModel | None:
    """The skill model of a bundle over skills; None where nobody named it."""
    over_skills = replay.bundle.contract.space.name == "skill"
    return load_encoder(replay.bundle, question.skills) if question.skills and over_skills else None


def predict(replay: Replay, question: Question, folder: Path) -> None:
    """Writes the predictions of the first episodes; says so where the extra that writes bags is not installed."""
    if find_spec("mcap") is None or find_spec("rosbags") is None:
        replay.view.note("replay: predictions are not written without pip install 'supple[ros]'")
        return
    known = learn_known(replay, question.open_loop, find_training(question, replay))
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
