"""Reads finished run folders of several seeds: what adapted how well, and what it cost. Nothing in them is changed.

A run folder holds one folder per stage. `adapt` in it is the adaptation of `supple run`; each `adapt-<suffix>` is
another one, made by `supple adapt RUN --out RUN/adapt-<suffix>`, such as a baseline.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supple.errors import RunError
from supple.pipeline.folder import load_json
from supple.pipeline.keys import PACKAGE_ROOT, find_first_difference, load_record
from supple.pipeline.metrics import load_metrics
from supple.pipeline.run_files import RUN_NAME
from supple.pipeline.summary import find_commit

EXPLORE = "explore"
PREPARATION = ("generate", "ingest", "extract", EXPLORE, "meta-train")
"""The stages before there is a policy to adapt. A run from a log has no `generate`, and most explore nothing."""
NEEDED: Mapping[str, Sequence[str]] = {"simpl": PREPARATION, "spirl": PREPARATION[:4], "sac": ()}
"""Which of them each method of adaptation rests on that needs fewer than all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """One finished `adapt` folder."""

    folder: Path
    algorithm: str
    """`simpl`, `spirl`, `sac`, `ppo` or another kind of adaptation."""
    config: Mapping[str, Any]
    """All that decided it except seed and inputs: the config of its stage, device and versions."""
    code: str
    """Digests of the code that made it, and of its robot."""
    command: str
    records: Sequence[Mapping[str, Any]]
    """`records.jsonl`: one record per task and episode, and per task and evaluation."""
    seconds: Sequence[float]
    """Wall-clock time of one fine-tuning episode of one task, for each round that was not evaluated."""
    finished: bool = True

    @property
    def exploration_episodes(self) -> int:
        """Episodes before the task is inferred; 0 for a method that infers nothing."""
        return int(self.config["learner"]["exploration_episodes"])


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """One run folder: a seed."""

    folder: Path
    seed: int
    tasks: str
    """Name of the task set."""
    published: bool
    """Whether it is a robot of the published figures."""
    config: Mapping[str, Any]
    """Config of each stage of the preparation, by its name; without seeds."""
    code: Mapping[str, str]
    """Digests of the code of each of them, and of its robot."""
    wall_s: Mapping[str, float]
    """Wall-clock time of each of them, seconds."""
    commands: Sequence[str]
    commit: str
    machine: str
    low_level_steps: int
    """Robot steps of meta-training."""
    epochs: Sequence[Mapping[str, Any]]
    """Metrics of meta-training, one record per epoch."""
    adaptations: Mapping[str, Adaptation]
    """By suffix; "" is that of the run itself."""


def load_finished(folder: Path, *, unfinished: bool = False) -> FinishedRun:
    """Reads one run folder.

    Args:
        folder: holds one folder per stage.
        unfinished: also takes adaptations that are under way or were cut off, as far as they have come.

    Raises:
        RunError: a stage up to meta-training is not finished, nothing was adapted, or a file is damaged.
    """
    from_log = (folder / RUN_NAME).is_file() and "from_log" in load_json(folder / RUN_NAME)
    made = [name for name in PREPARATION[from_log:] if name != EXPLORE or (folder / name).is_dir()]
    stages = {name: load_record(folder / name) for name in made}
    trained = stages["meta-train"]
    facts = load_json(folder / "meta-train" / "meta.json")
    # in reverse, so that a finished folder takes the place of a work folder of the same name
    found = [path for path in sorted(folder.glob("adapt*"), reverse=True) if _is_adaptation(path, unfinished)]
    adaptations = {path.name.split(".")[0][len("adapt-") :]: load_adaptation(path) for path in found}
    if not adaptations:
        raise RunError(f"{folder}: expected a finished adapt folder, got none; run supple run or supple adapt first")
    try:
        clock = trained["clock"]
        device = "" if trained["fields"]["device"] == "cpu" else f", {trained['fields']['device']}"
        robot = trained["fields"]["config"]["robot"]
        return FinishedRun(
            folder=folder,
            seed=int(trained["fields"]["seed"]),
            tasks=str(trained["fields"]["config"]["tasks"]["name"]),
            published=_is_published(robot),
            config={name: _choices(record) for name, record in stages.items()},
            code={name: _code(record) for name, record in stages.items()},
            wall_s={name: float(record["clock"]["wall_s"]) for name, record in stages.items()},
            commands=_unique(record["clock"].get("command", "") for record in stages.values()),
            commit=_find_run_commit(folder),
            machine=f"{clock['machine']}, {clock['threads']} threads{device}",
            low_level_steps=int(facts["environment_steps"]),
            epochs=load_metrics(folder / "meta-train" / "metrics.jsonl"),
            adaptations=adaptations,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder}: expected whole records of its stages, got {error!r}; run it again") from error


def _is_published(robot: Mapping[str, Any]) -> bool:
    """Whether the paper has figures of this robot: its mazes, and its kitchen."""
    config = robot["config"]
    if robot["family"] == "maze":
        return (config["layout_size"], config["layout_seed"]) == (20, 0)
    if robot["family"] == "image-maze":
        return (config["layout_size"], config["layout_seed"], config["images"]) == (40, 0, True)
    return bool(robot["family"] == "kitchen" and config["credit"] == "ordered" and config["noise_ratio"] == 0.1)


def load_adaptation(folder: Path) -> Adaptation:
    """Reads one adapt folder.

    Raises:
        RunError: a file is missing or damaged.
    """
    finished = (folder / "stage.json").is_file()
    record = load_record(folder) if finished else {"fields": load_json(folder / "key.json"), "clock": {}}
    path = folder / ("records.jsonl" if finished else "metrics.jsonl")
    if not path.is_file():
        raise RunError(f"{path}: expected the records of an adaptation, got none; adapt again")
    try:
        metrics = load_growing(folder / "metrics.jsonl")
        return Adaptation(
            folder=folder,
            algorithm=str(record["fields"]["config"]["learner"]["kind"]),
            config=_choices(record),
            code=_code(record),
            command=str(record["clock"].get("command", "")),
            records=load_metrics(path) if finished else metrics,
            seconds=compute_episode_seconds(metrics),
            finished=finished,
        )
    except (KeyError, TypeError, OSError) as error:
        raise RunError(f"{folder}: expected the record of an adaptation, got {error!r}; adapt again") from error


def compute_episode_seconds(metrics: Sequence[Mapping[str, Any]]) -> list[float]:
    """Wall-clock time of each round without evaluations, divided by the number of tasks that were fine-tuned in it.

    Where other tasks still explored, their share counts as the fine-tuned ones', so it is rather too much.

    Args:
        metrics: `metrics.jsonl` of an adaptation; a round's records are written together, at its end.
    """
    rounds: dict[int, list[Mapping[str, Any]]] = {}
    for record in metrics:
        rounds.setdefault(int(record["episode"]), []).append(record)
    seconds = []
    for episode, here in rounds.items():
        tuned = sum(record["stage"] == "play" for record in here)
        if tuned and episode - 1 in rounds and all(record["kind"] == "episode" for record in here):
            seconds.append((here[-1]["wall_s"] - rounds[episode - 1][-1]["wall_s"]) / tuned)
    return seconds


def require_same(runs: Sequence[FinishedRun]) -> list[str]:
    """Checks that runs differ in nothing but their seed; returns warnings where the code did.

    Raises:
        RunError: two runs have one seed or different configs; the message names the first field that differs.
    """
    first, *others = runs
    warnings = []
    seeds = [run.seed for run in runs]
    for run in others:
        if seeds.count(run.seed) > 1:
            raise RunError(f"{run.folder}: expected a seed of its own, got {run.seed} again; pass each seed once")
        pairs = [(first.config, run.config, run.folder)]
        codes = [(first.code.get(name, ""), run.code.get(name, ""), name) for name in PREPARATION]
        for suffix in first.adaptations.keys() & run.adaptations.keys():
            one, other = first.adaptations[suffix], run.adaptations[suffix]
            pairs.append((_without_budget(one.config), _without_budget(other.config), other.folder))
            if one.config != other.config:
                warnings.append(f"{other.folder}: other episodes or evaluations; only what all seeds have is collected")
            codes.append((one.code, other.code, other.folder.name))
        for old, new, where in pairs:
            difference = find_first_difference(new, old)
            if difference is not None:
                name, got, expected = difference
                raise RunError(
                    f"{where}: expected {name} = {expected!r} as in {first.folder}, got {got!r}; "
                    "pass runs that differ in their seed only"
                )
        changed = sorted(name for old_code, new_code, name in codes if old_code != new_code)
        if changed:
            warnings.append(f"{run.folder}: other code than {first.folder} in {', '.join(changed)}")
    for run in runs:
        for adaptation in run.adaptations.values():
            if not adaptation.finished:
                warnings.append(f"{adaptation.folder}: not finished; only what all seeds have reached is collected")
    for suffix in {suffix for run in runs for suffix in run.adaptations}:
        missing = [str(run.folder) for run in runs if suffix not in run.adaptations]
        if missing:
            warnings.append(f"{_folder_name(suffix)}: not in {', '.join(missing)}; its records have fewer seeds")
    return sorted(warnings)


def _is_adaptation(path: Path, unfinished: bool) -> bool:
    name = path.name.removesuffix(".partial") if unfinished else path.name
    named = name == "adapt" or (name.startswith("adapt-") and "." not in name)
    return named and any((path / file).is_file() for file in ("stage.json", *(["metrics.jsonl"] if unfinished else [])))


def load_growing(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics.jsonl that another process may be writing."""
    whole = path.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def _without_budget(config: Mapping[str, Any]) -> dict[str, Any]:
    """An adaptation's config without its number of episodes and where it was evaluated, which change nothing else."""
    kept = {name: value for name, value in config["adapt"].items() if name not in ("episodes", "evaluate_at")}
    return {**config, "adapt": kept}


def _folder_name(suffix: str) -> str:
    return f"adapt-{suffix}" if suffix else "adapt"


def _code(record: Mapping[str, Any]) -> str:
    fields = record["fields"]
    robot = fields["config"].get("robot") or {}  # of data without a robot it is None
    return f"{fields['code']} {robot.get('digest', '')}"


def _choices(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a person chose for a stage, and the versions that it ran with; no seed is among it, and no code."""
    fields = record["fields"]
    chosen: dict[str, Any] = _without({**fields["config"], "device": fields["device"]}, "seed")
    if isinstance(chosen.get("robot"), Mapping):
        chosen["robot"] = _without(chosen["robot"], "digest")
    return {**chosen, "versions": fields["versions"]}


def _without(value: Any, field: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _without(item, field) for name, item in value.items() if name != field}
    return value


def _unique(texts: Iterable[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]


def _find_run_commit(folder: Path) -> str:
    """The commit that summary.json names; that of the checkout where there is none."""
    path = folder / "summary.json"
    if path.is_file():
        records = json.loads(path.read_bytes())
        if isinstance(records, list) and records:
            return str(records[0]["commit"])
    return find_commit(PACKAGE_ROOT)
