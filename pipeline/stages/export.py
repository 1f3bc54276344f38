"""Stage `export`: the policy bundle of a meta-trained learner, `bundle/`; a bundle of version 1 is written anew.

What was trained is read from the record of its stage. The robot's contract is enough: none of a user's code runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...adapt.agents.kinds import KINDS
from ...adapt.bundle import Bundle, load_bundle
from ...adapt.bundle_folder import LOGS, parse_tensors
from ...adapt.contract import Budget, BundleContract
from ...adapt.eye import see_spec
from ...adapt.log_agent import compute_stride
from ...adapt.log_events import holds_events
from ...adapt.log_map import read_pace
from ...adapt.log_skills import drop_skills
from ...datasets.store import find_store, open_store
from ...errors import BundleError, RunError, SpecError
from ...meta.config import EvaluationConfig
from ...plain_config import read_config
from ...robots.spec import RobotSpec
from ...robots.unplugged import UnpluggedRobots
from ..action_spaces import Space, make_space
from ..folder import compute_path_digest, load_json
from ..keys import PACKAGE_ROOT, RECORD_NAME, load_record
from ..learners import LearnerChoice, LearnerSettings, read_learner
from ..nominal import learn_motion
from ..run_files import LEARNER_NAME, RUN_NAME
from ..settings.export import ExportConfig
from ..stage import Stage, Work
from .meta_train import FACTS_NAME

NAME = "bundle"
MODULES = (
    "pipeline/stages/export.py",
    *sorted(file.relative_to(PACKAGE_ROOT).as_posix() for file in (PACKAGE_ROOT / "adapt" / "host").glob("*.py")),
)
"""All exporters are part of the code version, as a learner of a user's own may use any. An export takes a second, and
one that gives the same bundle as before changes nothing behind it."""
TRAININGS = ("meta-train", "train")
"""Folders of a training, inside that of a run or of a seed."""
EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A learner that was meta-trained."""

    folder: Path
    """The stage folder of the training."""
    learner: LearnerChoice
    spec: RobotSpec
    """Of the robot."""
    robot: Mapping[str, Any]
    """Its record, see `RobotChoice.record`."""
    tasks: Mapping[str, Any]
    """See `meta_train.describe_tasks`."""
    space: Space
    evaluation: EvaluationConfig
    """How it was judged; where it was not, as its settings say."""
    seed: int
    source: Mapping[str, str]
    """What it was trained for, and the commit that it was trained with, where the folder around it says so."""
    skills: Path | None
    """Folder of the skills that it was trained with."""


def find_training(path: Path) -> Path:
    """The stage folder of a training: the folder itself, or the one in the folder of a run or of a seed.

    Raises:
        RunError: There is none.
    """
    for folder in (path, *(path / name for name in TRAININGS)):
        if (folder / LEARNER_NAME).is_file() and (folder / RECORD_NAME).is_file():
            return folder
    raise RunError(
        f"{path}: expected a folder of meta-train, or one that holds it, got "
        f"{'neither' if path.exists() else 'nothing there'}; check the path"
    )


def load_trained(path: Path, given: LearnerChoice | None = None, *, settings: bool = False) -> Trained:
    """What was trained in a folder.

    Args:
        path: See `find_training`.
        given: A user's own learner.
        settings: Whether `given` also has the settings for new tasks; without it they are those of the training.

    Raises:
        RunError: The records do not say what was trained, or the skills are gone.
        BundleError: The learner is a user's, and nobody named it.
    """
    folder = find_training(path)
    record, facts = load_record(folder), load_json(folder / FACTS_NAME)
    config, where = record["fields"]["config"], str(folder / RECORD_NAME)
    learner = read_learner(facts.get("learner", config.get("learner")), given, f"{where} learner")
    if settings and given is not None and given.training_record == learner.training_record:
        learner = given
    run = load_json(folder.parent / RUN_NAME) if (folder.parent / RUN_NAME).is_file() else {}
    try:
        return Trained(
            folder=folder,
            learner=learner,
            spec=RobotSpec.from_json(facts["robot"]),
            robot=dict(config["robot"]),
            tasks=dict(facts["tasks"]),
            space=cast(Space, read_config(Space, config["space"], f"{where} space")),
            evaluation=load_evaluation(folder.parent / EVALUATE) or learner.settings.evaluation,
            seed=int(record["fields"]["seed"]),
            source={name: str(run[name]) for name in ("cell", "commit") if name in run},
            skills=find_skills(folder, record),
        )
    except (KeyError, TypeError, BundleError, SpecError) as error:
        raise RunError(f"{where}: expected what was trained, got {error}; train it again") from error


def load_evaluation(folder: Path) -> EvaluationConfig | None:
    """How a learner was judged in a stage folder; None where it was not."""
    if not (folder / RECORD_NAME).is_file():
        return None
    config = load_record(folder)["fields"]["config"]
    found: EvaluationConfig = read_config(EvaluationConfig, config.get("evaluation"), f"{folder} evaluation")
    return found


def find_skills(folder: Path, record: Mapping[str, Any]) -> Path | None:
    """The skills that a training used: in its folder, or where it says that they lie; None where it used none.

    Raises:
        RunError: they are not there any more, or are others.
    """
    used = record["inputs"].get("skills")
    if used is None or (folder / "skill.json").is_file():
        return None if used is None else folder
    path = Path(used["path"])
    if not path.exists() or compute_path_digest(path) != used["digest"]:
        raise RunError(
            f"{folder}: expected the skills that it was trained with at {path}, got none or others; put them back"
        )
    return path


def make_budget(evaluation: EvaluationConfig, rollouts: int) -> Budget:
    """How the learner was judged, with its side by side episodes one after the other as on one robot."""
    trial = evaluation.trial
    return Budget(
        episodes=trial.episodes * rollouts,
        exploration_episodes=trial.exploration_episodes * rollouts,
        adapt_steps=evaluation.adapt_steps,
    )


def make_paper_bundle(settings: LearnerSettings, made: Any, spec: RobotSpec) -> Bundle:
    """What a bundle of such a learner will promise, before there is one; it cannot act."""
    from ...adapt.host.spaces import export_space

    exported = settings.export(made)
    contract = BundleContract(
        kind=exported.kind,
        robot=spec,
        space=export_space(exported.space)[0],
        learner=exported.learner,
        budget=make_budget(settings.evaluation, settings.rollouts),
        provenance={},
    )
    return Bundle(contract, weights={}, golden={}, digest="")


def make_export(
    path: Path,
    config: ExportConfig,
    given: LearnerChoice | None = None,
    *,
    settings: bool = False,
    logs: Path | None = None,
    nominal: Path | None = None,
) -> Stage:
    """The stage; it draws nothing at random but the inputs of the golden trial.

    Args:
        path: See `find_training`.
        config: Seed of the golden trial.
        given: A user's own learner.
        settings: See `load_trained`.
        logs: A folder of `map-logs`: its logs come along in the bundle.
        nominal: A store of nominal episodes, or a folder that holds one: a model of motion comes along.

    Raises:
        RunError: See `load_trained`; or there are no logs.
        BundleError: See `load_trained`.
        StoreError: There is no store.
        SpecError: Its episodes are of another robot.
    """
    trained = load_trained(path, given, settings=settings)
    if logs is not None and not (logs / LOGS).is_file():
        raise RunError(f"{logs}: expected a folder of map-logs, got none of {LOGS}; check the path")
    if nominal is not None:
        trained.spec.require_source(open_store(nominal).schema.robot, f"--nominal {nominal}")
    outside = trained.skills is not None and trained.skills != trained.folder
    return Stage(
        name="export",
        config={
            "export": config,
            "source": trained.source,
            "robot": trained.robot,
            "learner": trained.learner.record,
            "evaluation": trained.evaluation,
        },
        inputs={
            "train": trained.folder,
            **({"skills": trained.skills} if outside and trained.skills else {}),
            **({} if logs is None else {"logs": logs}),
            **({} if nominal is None else {"nominal": find_store(nominal)}),
        },
        seed=config.golden_seed,
        module=(*MODULES, *trained.learner.row.modules),
        libraries=("numpy", "torch", "safetensors"),
        body=partial(export, trained, config.false_alarms),
    )


def export(trained: Trained, false_alarms: float, work: Work) -> None:
    """Writes the bundle with a golden trial of the trained agent; numpy, and the host, must play it alike."""
    from ...adapt.host.export import write_exported
    from ...adapt.host.spaces import export_eye
    from ...skills.checkpoint import load_checkpoint, load_skill_model

    work.start_afresh()
    learner, spec = trained.learner, trained.spec
    goals = np.zeros((trained.tasks["num_train"], *spec.goal.shape), np.float32)  # their number is all that counts now
    space, eye = make_space(trained.space, spec, trained.skills), None
    if spec.image is not None:
        eye = None if trained.skills is None else export_eye(load_skill_model(trained.skills), work.seed)
        # a policy without an eye needs no camera, whatever robot it was trained on
        spec = replace(spec, image=None) if eye is None else see_spec(spec, eye.settings.features)
    robot = UnpluggedRobots(spec, learner.settings.rows(len(goals)))
    made = learner.settings.make_learner(space, robot, goals, seed=trained.seed, device="cpu")
    tensors, facts = load_checkpoint(trained.folder / LEARNER_NAME)
    load: Any = made
    load.load_kept(tensors) if learner.row.keep else load.load_state(tensors, facts)
    provenance: dict[str, Any] = {
        **trained.source,
        "method": learner.settings.method,
        "learner": learner.record,
        "seed": trained.seed,
        "train": compute_path_digest(trained.folder),
        "tasks": trained.tasks,
    }
    exported, logs = learner.settings.export(made), work.inputs.get("logs")
    if logs is not None and not KINDS[exported.kind].off_policy:
        work.view.note(f"export: {exported.kind} cannot learn from episodes that logs led; they do not come along")
        logs = None
    if logs is not None and trained.space == "choice":
        work.view.note("export: skills of logs command no named choices; they do not come along")
        logs = None
    found = None if logs is None else parse_tensors((logs / LOGS).read_bytes(), logs / LOGS)
    if found is not None and trained.space != "skill" and holds_events(found):
        work.view.note("export: a map of events leads an agent over skills alone; it does not come along")
        found = None
    if found is not None and trained.space != "skill" and read_pace(found) > 1:
        work.view.note(
            f"export: logged skills are {compute_stride(found):.2g} times as long as what is rewarded; they lead an "
            "agent over skills alone, and do not come along"
        )
        found = None
    if found is not None and trained.space == "skill":
        found = drop_skills(found)
    nominal = work.inputs.get("nominal")
    novelty = None if nominal is None else learn_motion(open_store(nominal), spec, false_alarms)
    if nominal is not None:
        provenance["nominal"] = {"store": open_store(nominal).digest, "false_alarms": false_alarms}
    write_exported(
        work.folder / NAME,
        exported,
        spec,
        make_budget(trained.evaluation, learner.settings.rollouts),
        simulator=trained.robot,
        provenance=provenance,
        seed=work.seed,
        logs=found,
        eye=eye,
        novelty=novelty,
    )


def make_conversion(bundle: Path, config: ExportConfig) -> Stage:
    """The stage for a bundle of version 1, which is written as it would be today.

    Raises:
        BundleError: There is no whole bundle of version 1.
    """
    load_bundle(bundle).require_version_1(str(bundle))
    return Stage(
        name="export",
        config={"export": config},
        inputs={"bundle": bundle},
        seed=config.golden_seed,
        module=MODULES,
        libraries=("numpy", "torch", "safetensors"),
        body=partial(convert, config),
    )


def convert(config: ExportConfig, work: Work) -> None:
    """Writes the bundle anew."""
    from ...adapt.host.export import write_exported
    from ...adapt.host.simpl import export_again

    work.start_afresh()
    bundle = load_bundle(work.inputs["bundle"])
    write_exported(
        work.folder / NAME,
        export_again(bundle),
        bundle.contract.robot,
        bundle.contract.budget,
        simulator=bundle.contract.simulator,
        provenance={**bundle.contract.provenance, "converted_from": bundle.digest},
        seed=config.golden_seed,
    )
