"""The verbs that look and change nothing: `verify` and `info`."""

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import tyro
from packaging.requirements import Requirement

from ...errors import ConfigError, RunError, SuppleError
from ..cli_common import Common, Options, Runner
from ..evidence import advise_again
from ..folder import compute_path_digest, verify_stage
from ..keys import PACKAGE_ROOT, compute_code_digest, compute_versions, load_record
from .data import RECOVERED

STAGES = (
    "generate",
    "ingest",
    "extract",
    "explore",
    "ingest-explored",
    "meta-train",
    "map-logs",
    "export",
    "adapt",
    "train",
    "evaluate",
)
"""In the order of the chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Arguments of `supple verify`."""

    path: tyro.conf.Positional[Path]
    """An episode store, a policy bundle, a stage folder or a run folder."""
    deep: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Of stores, also read every step: limits of the robot, ends of episodes against the motion, clock, provenance,
    and the sources where they are still there. The exit code is 3 where something looks wrong."""
    sources: tuple[Path, ...] = ()
    """With --deep: files and folders that the store was made of, to be compared with their digests."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Reads every byte; the first damage is an error that names the file."""
        if self.sources and not self.deep:
            raise ConfigError("--sources: expected --deep with it, got none; add --deep")
        for kind, path, facts in verify(self.path, deep=self.deep, sources=self.sources):
            doubts = facts.get("doubts", [])
            if doubts:
                runner.exit_code = RECOVERED
            for line in (*doubts, *facts.get("notes", [])):
                runner.view.note(f"verify: {line}")
            text = f"{path}: {kind} is whole, " + ", ".join(
                f"{value} {name}" for name, value in facts.items() if not isinstance(value, list)
            )
            text += f"; unchanged sources: {', '.join(facts['sources'])}" if facts.get("sources") else ""
            runner.view.record("verified", {"kind": kind, "path": str(path), **facts}, text)


def verify(
    path: Path, *, deep: bool = False, sources: Sequence[Path] = ()
) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Checks what is at `path` and yields (kind, path, facts) for each whole thing found.

    Args:
        path: A store, bundle, stage folder or run folder.
        deep: Whether every step of a store is looked at, beside every byte.
        sources: Of the stores; that of an `ingest` folder is known.

    Raises:
        SuppleError: damage, or nothing of Supple's at `path`.
    """
    if (path / "stage.json").is_file():
        yield "stage", path, {"files": verify_stage(path)}
        for inner in ("store", "bundle"):
            if (path / inner).is_dir():
                yield from verify(path / inner, deep=deep, sources=(*sources, *find_inputs(path)))
    elif (path / "bundle.json").is_file():
        from ...adapt.bundle import load_bundle

        bundle = load_bundle(path)
        yield "bundle", path, {"tensors": len(bundle.weights), "digest": bundle.digest}
    elif stages := [path / name for name in STAGES if (path / name / "stage.json").is_file()]:
        for stage in stages:
            yield from verify(stage, deep=deep, sources=sources)
        verify_chain(stages)
        yield "run", path, {"stages": len(stages)}
    elif is_store(path) and deep:
        from ...datasets.deep_verify import verify_deeply

        found = verify_deeply(path, sources)
        counts = {"files": found.store.files, "episodes": found.store.episodes, "rows": found.store.rows}
        said = {"sources": list(found.sources), "doubts": list(found.doubts), "notes": list(found.notes)}
        yield "store", path, {**counts, "parts": found.parts, "digest": found.store.digest, **said}
    elif is_store(path):
        from ...datasets.verify import verify_store

        report = verify_store(path)
        facts = {"files": report.files, "episodes": report.episodes, "rows": report.rows}
        yield "store", path, {**facts, "digest": report.digest}
    else:
        raise refuse_path(path)


def find_inputs(stage: Path) -> list[Path]:
    """The source of an `ingest` folder, as its record has it."""
    from ..stages.ingest import find_source

    source = load_record(stage)["inputs"].get("source")
    return [] if source is None else [find_source(Path(source["path"]))]


def is_store(path: Path) -> bool:
    """Whether `path` has a file that only an episode store has, whole or not."""
    return any((path / name).is_file() for name in ("zarr.json", "MANIFEST.json", "manifest.json"))


def refuse_path(path: Path) -> RunError:
    """The error for a path that holds nothing of Supple's."""
    return RunError(
        f"{path}: expected a store, a bundle, a stage folder or a run folder, got "
        f"{'none of these' if path.exists() else 'nothing there'}; check the path"
    )


def verify_chain(stages: list[Path]) -> None:
    """Checks that each stage was made from the stages before it as they are now.

    What it was made from is known by the name of its folder, as a run may be moved. The source of `ingest` may have the
    name of its own stage, or of a later one: another run's.

    Raises:
        RunError: an input has changed since.
    """
    digests = {stage.name: compute_path_digest(stage) for stage in stages}
    for stage in stages:
        for role, given in load_record(stage)["inputs"].items():
            name = Path(given["path"]).name
            before = name in digests and STAGES.index(name) < STAGES.index(stage.name)
            if before and digests[name] != given["digest"]:
                raise RunError(
                    f"{stage}: expected its {role} to be {name} with digest {digests[name][:12]}, got one made from "
                    f"{given['digest'][:12]}; {advise_again(stage, 'run again')}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Arguments of `supple info`."""

    path: tyro.conf.Positional[Path | None] = None
    """A store, bundle, stage folder or run folder to describe; without it, this installation."""
    self_test: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also load torch, step the maze and multiply matrices; takes some seconds. Without a path only."""
    html: Path | None = None
    """File to write the card of a store to: joint plots, histograms, heat maps of rates and quality, coverage."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Prints the facts, one per line, or writes the card."""
        if self.html is not None:
            self.make_card(self.html, runner)
            return
        facts = compute_environment() if self.path is None else describe(self.path)
        if self.path is None and self.self_test:
            facts |= compute_torch_facts() | {"self-test": run_self_test()}
        width = max(map(len, facts))
        text = "\n".join(f"{name:<{width}}  {format_fact(value)}" for name, value in facts.items())
        runner.view.record("info", facts, text)

    def make_card(self, out: Path, runner: Runner) -> None:
        """Writes the card of the store.

        Raises:
            ConfigError: no path was given.
        """
        if self.path is None:
            raise ConfigError("--html: expected a store with it, got none; name the store")
        from ..report.card import make_card

        made = make_card(self.path, out)
        runner.view.record("card", {"path": str(made)}, f"{made}: axes, episodes, quality, coverage and provenance")


def format_fact(value: Any) -> str:
    """Text as it is, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def describe(path: Path) -> dict[str, Any]:
    """What a store, bundle, stage folder or run folder says about itself; nothing is verified.

    Raises:
        SuppleError: it is none of these.
    """
    if (path / "stage.json").is_file():
        record = load_record(path)
        fields = record["fields"]
        module = record.get("module", f"pipeline/stages/{record['stage'].replace('-', '_')}.py")
        modules = (module,) if isinstance(module, str) else tuple(module)
        return {
            "kind": f"stage {record['stage']}",
            "key": record["key"],
            "seed": fields["seed"],
            "device": fields["device"],
            "config": fields["config"],
            "inputs": record["inputs"],
            "files": len(record["outputs"]),
            "output digest": record["output_digest"],
            "versions": fields["versions"],
            # a module that has moved since is other code
            "same code": all((PACKAGE_ROOT / one).is_file() for one in modules)
            and fields["code"] == compute_code_digest(modules),
            "made": record["clock"],
        }
    if (path / "bundle.json").is_file():
        return describe_bundle(path)
    if stages := [path / name for name in STAGES if (path / name / "stage.json").is_file()]:
        return {"kind": "run", **{stage.name: f"made in {load_record(stage)['clock']['wall_s']} s" for stage in stages}}
    if not is_store(path):
        raise refuse_path(path)
    from ...datasets.store import open_store

    store = open_store(path)
    return {
        "kind": "episode store",
        "digest": store.digest,
        "episodes": len(store.episodes.start),
        "rows": store.rows,
        "schema": store.schema.to_json(),
        "provenance": dict(store.provenance),
    }


def describe_bundle(path: Path) -> dict[str, Any]:
    """What a bundle says about itself; see `load_bundle` for errors."""
    from ...adapt.bundle import load_bundle

    bundle = load_bundle(path)
    data = bundle.contract.to_json()
    del data["schema_version"], data["robot"], data["kind"]
    return {
        "kind": f"{bundle.contract.kind} bundle",
        "digest": bundle.digest,
        "robot": bundle.contract.robot.name,
        **({} if bundle.contract.robot.image is None else {"pictures": asdict(bundle.contract.robot.image)}),
        "adapts": bundle.kind.summary,
        **data,
        "weights": sum(int(array.size) for array in bundle.weights.values()),
        "logs": describe_logs(bundle.logs),
    }


def describe_logs(arrays: Mapping[str, Any]) -> str:
    """How the logs in a bundle lead its agent."""
    from ...adapt.log_events import PREFIX, holds_events
    from ...adapt.log_map import read_pace

    if not arrays:
        return "none"
    if holds_events(arrays):
        return f"{len(arrays[f'{PREFIX}next'])} states, by {len(arrays[f'{PREFIX}detector'])} events"
    kind = "places" if read_pace(arrays) == 1 else "paths"
    return f"{len(arrays['state'])} states, by {kind}"


def compute_environment() -> dict[str, Any]:
    """Versions and pins: what a bug report needs, without loading any of it."""
    from ... import __version__

    return {
        "supple": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu cores": os.cpu_count(),
        "requirements": "met" if not (wrong := find_wrong_requirements()) else "; ".join(wrong),
        **compute_versions(("torch", "mujoco", "numpy", "zarr", "h5py", "safetensors")),
    }


def compute_torch_facts() -> dict[str, Any]:
    """What torch sees of this machine."""
    import torch

    return {
        "torch device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch threads": torch.get_num_threads(),
    }


def find_wrong_requirements() -> list[str]:
    """Requirements of the installed package that the environment does not meet, as `mujoco==3.17.0, got 4.0.0`."""
    wrong = []
    for line in metadata.requires("supple") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found == "none" or not requirement.specifier.contains(re.sub(r"\+.*", "", found)):
            wrong.append(f"{requirement.name}{requirement.specifier}, got {found}")
    return wrong


def run_self_test() -> str:
    """Steps the published maze and runs a network; "passed", or what went wrong."""
    import numpy as np
    import torch

    from ...robots.maze_family import Maze

    robot = Maze().make(2)
    rows = np.arange(2)
    try:
        robot.reset(rows, np.full((2, 2), 5.0, np.float32), np.random.default_rng(0))
        for _ in range(20):
            observation = robot.step(rows, np.ones((2, 2), np.float32)).observation
    except SuppleError as error:
        return str(error)
    finally:
        robot.close()
    moved = float(np.abs(observation[:, :2] - 10.0).max())
    product = torch.ones(8, 8) @ torch.ones(8, 8)
    if not 0.1 < moved < 1.0:
        return f"the maze robot moved {moved} cells in 20 steps"
    return "passed" if bool((product == 8).all()) else "torch multiplies wrongly"
