"""Stage `export` for learners of the benchmark: `bundle/`, of a seed that `supple bench-meta` has trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...adapt.learner_contract import Budget
from ...adapt.learners.exported import write_exported
from ...errors import RunError
from ...robots.task import goals_of
from ...skills.checkpoint import load_checkpoint
from ..bench.cell_stages import LEARNER_NAME, BenchConfig, make_space
from ..bench.cells import CELLS
from ..bench.learner_exports import find_exporter
from ..folder import compute_path_digest, load_json
from ..keys import compute_plain, find_first_difference, load_record
from ..robots import choose_builtin
from ..run_files import RUN_NAME
from ..stage import Stage, Work
from .export import NAME, ExportConfig

TRAIN = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A seed of a cell that was trained."""

    folder: Path
    """The stage folder of the training."""
    cell: str
    seed: int
    commit: str
    config: BenchConfig
    skills: Path | None
    """Folder of the skills that it was trained with."""


def find_seed_folder(path: Path) -> Path | None:
    """The folder of a seed of `bench-meta`, from itself or its `train` folder; None where `path` is something else."""
    for folder in (path, path.parent):
        if (folder / RUN_NAME).is_file() and (folder / TRAIN / LEARNER_NAME).is_file():
            return folder
    return None


def load_trained(folder: Path) -> Trained:
    """What was trained in a seed's folder.

    Raises:
        RunError: the cell is not known, or its settings have changed since.
    """
    run = load_json(folder / RUN_NAME)
    name = run.get("cell")
    if name not in CELLS:
        raise RunError(f"{folder / RUN_NAME}: expected a known cell, got {name!r}; see supple bench-meta --list")
    config = CELLS[name].config
    wanted = {"robot": config.robot, "space": config.space, "learner": config.learner}
    record = load_record(folder / TRAIN)
    found = record["fields"]["config"]
    difference = find_first_difference(
        {key: found.get(key) for key in wanted}, compute_plain(wanted, f"bench-meta {name}")
    )
    if difference is not None:
        field, old, new = difference
        raise RunError(
            f"{folder / TRAIN}: expected {field} = {new} as the cell {name} has it now, got {old}; run bench-meta again"
        )
    return Trained(
        folder=folder / TRAIN,
        cell=name,
        seed=int(run.get("seed", 0)),
        commit=str(run.get("commit", "unknown")),
        config=config,
        skills=find_skills(folder / TRAIN, record),
    )


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


def make_budget(config: BenchConfig) -> Budget:
    """How the learner was evaluated, with its side by side episodes one after the other as on one robot."""
    trial, rollouts = config.evaluation.trial, config.learner.rollouts
    return Budget(
        episodes=trial.episodes * rollouts,
        exploration_episodes=trial.exploration_episodes * rollouts,
        adapt_steps=config.evaluation.adapt_steps,
    )


def make_export_learner(folder: Path, export: ExportConfig) -> Stage:
    """The stage; it draws nothing at random but the inputs of the golden trial.

    Args:
        folder: of a seed, see `find_seed_folder`.
        export: seed of the golden trial.

    Raises:
        RunError: see `load_trained`.
        BundleError: no bundle can hold the learner or name the robot.
    """
    trained = load_trained(folder)
    find_exporter(trained.config.learner)
    settings = {
        "export": export,
        "cell": trained.cell,
        "simulator": choose_builtin(trained.config.robot).record,
        "learner": trained.config.learner,
        "evaluation": trained.config.evaluation,
    }
    return Stage(
        name="export",
        config=settings,
        inputs={"train": trained.folder, **({} if trained.skills is None else {"skills": trained.skills})},
        seed=export.golden_seed,
        module="pipeline/stages/export_learner.py",
        libraries=("numpy", "torch", "safetensors"),
        body=partial(export_learner, trained),
    )


def export_learner(trained: Trained, work: Work) -> None:
    """Writes the bundle with a golden trial of the trained agent; numpy, and the host, must play it alike."""
    work.start_afresh()
    config = trained.config
    robot = config.robot.make(config.learner.rows)
    space = make_space(config.space, robot.spec, trained.skills)
    made = config.learner.make(space, robot, goals_of(config.robot.tasks().train), seed=trained.seed, device="cpu")
    tensors, facts = load_checkpoint(trained.folder / LEARNER_NAME)
    made.learner.load_state(tensors, facts)
    provenance: dict[str, Any] = {
        "cell": trained.cell,
        "method": config.learner.method,
        "seed": trained.seed,
        "commit": trained.commit,
        "train": compute_path_digest(trained.folder),
    }
    write_exported(
        work.folder / NAME,
        find_exporter(config.learner)(made.learner, config.learner),
        robot.spec,
        make_budget(config),
        simulator=choose_builtin(config.robot).record,
        provenance=provenance,
        seed=work.seed,
    )
    robot.close()
