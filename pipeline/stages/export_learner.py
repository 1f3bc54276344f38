"""Stage `export` for learners of `learners.py`: `bundle/`, of a seed that was meta-trained by a benchmark.

What was trained, and how it was judged, is read from the records of its stages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from ...adapt.learner_contract import Budget
from ...adapt.learners.exported import write_exported
from ...errors import BundleError, RunError
from ...meta.evaluation import EvaluationConfig
from ...robots.task import goals_of
from ...skills.checkpoint import load_checkpoint
from ..action_spaces import Space, make_space
from ..folder import compute_path_digest, load_json
from ..keys import RECORD_NAME, load_record
from ..learners import LEARNERS, LearnerSettings, read_learner
from ..plain_config import read_config
from ..robots import RobotChoice, find_recorded
from ..run_files import LEARNER_NAME, RUN_NAME
from ..settings.export import ExportConfig
from ..stage import Stage, Work
from .export import NAME

TRAIN, EVALUATE = "train", "evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A learner that was meta-trained."""

    folder: Path
    """The stage folder of the training."""
    name: str
    """Of the learner's row."""
    learner: LearnerSettings
    robot: RobotChoice
    space: Space
    evaluation: EvaluationConfig
    """How it was judged; where it was not, as its settings say."""
    seed: int
    source: Mapping[str, str]
    """What it was trained for, and the commit that it was trained with."""
    skills: Path | None
    """Folder of the skills that it was trained with."""


def find_seed_folder(path: Path) -> Path | None:
    """The folder of a seed, from itself or its `train` folder; None where `path` is something else."""
    for folder in (path, path.parent):
        if (folder / RUN_NAME).is_file() and (folder / TRAIN / LEARNER_NAME).is_file():
            return folder
    return None


def load_trained(folder: Path) -> Trained:
    """What was trained in a seed's folder.

    Raises:
        RunError: The records do not say what was trained, or the skills are gone.
    """
    run, record = load_json(folder / RUN_NAME), load_record(folder / TRAIN)
    config, where = record["fields"]["config"], str(folder / TRAIN / RECORD_NAME)
    try:
        learner = read_learner(config["learner"]["name"], config["learner"]["settings"], f"{where} learner")
        robot = find_recorded(config["robot"], None, f"{where} robot")
        space = cast(Space, read_config(Space, config["space"], f"{where} space"))
        evaluation = load_evaluation(folder / EVALUATE) or learner.evaluation
    except (KeyError, TypeError, BundleError) as error:
        raise RunError(f"{where}: expected what was trained, got {error}; train it again") from error
    return Trained(
        folder=folder / TRAIN,
        name=str(config["learner"]["name"]),
        learner=learner,
        robot=robot,
        space=space,
        evaluation=evaluation,
        seed=int(run.get("seed", 0)),
        source={name: str(run.get(name, "unknown")) for name in ("cell", "commit")},
        skills=find_skills(folder / TRAIN, record),
    )


def load_evaluation(folder: Path) -> EvaluationConfig | None:
    """How a learner was judged in a stage folder; None where it was not."""
    if not (folder / RECORD_NAME).is_file():
        return None
    config = load_record(folder)["fields"]["config"]
    found: EvaluationConfig = read_config(EvaluationConfig, config.get("evaluation"), f"{folder} evaluation")
    return found


def find_skills(trained: Path, record: Mapping[str, Any]) -> Path | None:
    """The skills that a training used, where it says that they lie; None where it used none.

    Raises:
        RunError: they are not there any more, or are others.
    """
    used = record["inputs"].get("skills")
    if used is None:
        return None
    path = Path(used["path"])
    if not path.exists() or compute_path_digest(path) != used["digest"]:
        raise RunError(
            f"{trained}: expected the skills that it was trained with at {path}, got none or others; put them back"
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


def make_export_learner(folder: Path, export: ExportConfig) -> Stage:
    """The stage; it draws nothing at random but the inputs of the golden trial.

    Args:
        folder: Of a seed, see `find_seed_folder`.
        export: Seed of the golden trial.

    Raises:
        RunError: See `load_trained`.
    """
    trained = load_trained(folder)
    settings = {
        "export": export,
        "source": trained.source,
        "simulator": trained.robot.record,
        "learner": {"name": trained.name, "settings": trained.learner},
        "evaluation": trained.evaluation,
    }
    return Stage(
        name="export",
        config=settings,
        inputs={"train": trained.folder, **({} if trained.skills is None else {"skills": trained.skills})},
        seed=export.golden_seed,
        module=("pipeline/stages/export_learner.py", *LEARNERS[trained.name].modules),
        libraries=("numpy", "torch", "safetensors"),
        body=partial(export_learner, trained),
    )


def export_learner(trained: Trained, work: Work) -> None:
    """Writes the bundle with a golden trial of the trained agent; numpy, and the host, must play it alike."""
    work.start_afresh()
    family, settings = trained.robot.family, trained.learner
    robot = family.make(settings.rows)
    space = make_space(trained.space, robot.spec, trained.skills)
    made = settings.make(space, robot, goals_of(family.tasks().train), seed=trained.seed, device="cpu")
    tensors, facts = load_checkpoint(trained.folder / LEARNER_NAME)
    made.learner.load_state(tensors, facts)
    provenance: dict[str, Any] = {
        **trained.source,
        "method": settings.method,
        "seed": trained.seed,
        "train": compute_path_digest(trained.folder),
    }
    write_exported(
        work.folder / NAME,
        LEARNERS[trained.name].export(made.learner, settings),
        robot.spec,
        make_budget(trained.evaluation, settings.rollouts),
        simulator=trained.robot.record,
        provenance=provenance,
        seed=work.seed,
    )
    robot.close()
