"""Stage `ingest`: sources of any format that can be read become an episode store, `store/`.

One source is written straight into the store. Of several, each becomes a store of its own first, a part, which any
process of any machine may make; the parts are then joined in the order of the sources. So the store is the same however
many workers there were, and a run that was cut off finds the parts that are done: a part is named by the digest of its
source, options, code and libraries.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ...datasets.evolve import require_same
from ...datasets.formats import Format, find_format, list_sources
from ...datasets.joining import joining
from ...datasets.parts import describe_repeats, list_parts
from ...datasets.source_ingest import SourceIngest
from ...datasets.store import find_store, open_store
from ...errors import ConfigError, RunError, SourceError, StoreError, make_printable
from ...robots.spec import RobotSpec
from ..executors import Executor
from ..folder import compute_path_digest, load_json, write_record
from ..keys import RECORD_NAME, compute_code_digest, compute_digest, compute_plain, compute_versions
from ..run_files import STORE_NAME
from ..settings.ingest import IngestConfig
from ..stage import Stage, Work
from .generate import NAME as PLAY_NAME

SHOWN = 3
"""Sources that are named where many have the same to say."""


def find_source(path: Path) -> Path:
    """The path itself, or the play data in a `generate` folder, or the store in an `ingest` folder."""
    made = (path / PLAY_NAME).is_file() and (path / RECORD_NAME).is_file()
    return path / PLAY_NAME if made else find_store(path)


def find_sources(paths: Sequence[Path], config: IngestConfig) -> list[Path]:
    """All sources at these paths, in order: what is read one at a time.

    Raises:
        SourceError: there is no source, or none of a format that can be read.
    """
    return [source for path in paths for source in list_sources(find_source(path), config.format)]


def make_ingest(
    paths: Sequence[Path], config: IngestConfig, spec: RobotSpec | None, parts: "Parts | None" = None
) -> Stage:
    """The stage; it draws nothing at random.

    Args:
        paths: Files or folders of a format in `datasets.formats.FORMATS`, folders of these, or of `generate`.
        config: How they are read.
        spec: Of the robot that they were recorded on: gives names, units, limits and the control period, and is checked
            against the files. None takes what the files say.
        parts: Who makes the stores of several sources; nobody is asked for that of one.

    Raises:
        SourceError: there is no source, or none of a format that can be read.
        ConfigError: an option that the format does not take, or a source that stands twice.
    """
    sources = find_sources(paths, config)
    name_sources(sources)
    forms: dict[str, Format] = {}
    for source in sources:
        form = find_format(source, config.format)
        form.read(source, config, spec)
        forms[form.name] = form
    roles = ["source"] if len(paths) == 1 else [f"source {number}" for number in range(1, len(paths) + 1)]
    libraries = dict.fromkeys(library for form in forms.values() for library in form.libraries)
    return Stage(
        name="ingest",
        config={"ingest": config, "robot": None if spec is None else spec.to_json()},
        inputs=dict(zip(roles, paths, strict=True)) | ({} if config.mapping is None else {"mapping": config.mapping}),
        seed=0,
        module=("pipeline/stages/ingest.py", *(form.file for form in forms.values())),
        libraries=("numpy", "zarr", "numcodecs", *libraries),
        body=partial(ingest, sources, config, spec, parts),
    )


class Parts(NamedTuple):
    """Where the parts of several sources are kept until they are joined, and who makes them."""

    folder: Path
    executor: Executor


class PartJob(NamedTuple):
    """One source that shall become a part."""

    source: Path
    folder: Path
    """Where all parts lie."""
    about: Mapping[str, Any]
    """All but the content of the source that decides the part, as JSON values."""
    config: IngestConfig
    spec: RobotSpec | None
    like: object
    """See `Format.find_model`."""


class Part(NamedTuple):
    """A store of one source."""

    store: Path
    notes: list[str]
    reused: bool
    """Whether it was there before."""


def ingest(
    sources: Sequence[Path], config: IngestConfig, spec: RobotSpec | None, parts: Parts | None, work: Work
) -> None:
    """Reads every episode, checks it against the robot's limits and writes the store.

    Raises:
        SourceError: a source cannot be read, or is not like the others; those that can be are kept as parts.
        ConfigError: actions shall be clipped, and nobody says to which limits; or nobody says what a source leaves
            open.
    """
    work.start_afresh()
    out = work.folder / STORE_NAME
    if len(sources) == 1:
        source = SourceIngest(sources[0], config, spec, clip_actions=config.clip_actions, clip_share=config.clip_share)
        consume(work, source.writing(out, config.compression), source.source.rows)
        notes = {"": source.notes()}
    else:
        if parts is None:
            raise ConfigError(f"ingest: expected one source, got {len(sources)}; use supple ingest")
        made = make_parts(sources, config, spec, parts, work)
        stores = {name: open_store(part.store) for name, part in made.items()}
        (first, model), *others = stores.items()
        for name, store in others:
            require_same(model.schema, store.schema, f"{name}, which has to be like {first}")
        consume(work, joining(out, stores, config.compression), sum(store.rows for store in stores.values()))
        notes = {name: part.notes for name, part in made.items()}
        if repeats := describe_repeats([part for store in stores.values() for part in list_parts(store)]):
            work.view.note(f"ingest: {repeats}")
    for note in group_notes(notes):
        work.view.note(f"ingest: {make_printable(note)}")


def consume(work: Work, rows: Iterator[int], total: int) -> None:
    """Writes a store to its end."""
    work.consume(({"step": row} for row in rows), total=total, unit="row")


def make_parts(
    sources: Sequence[Path], config: IngestConfig, spec: RobotSpec | None, parts: Parts, work: Work
) -> dict[str, Part]:
    """A part for each source, by its name; those that are there already are taken.

    Raises:
        ConfigError: an option is wrong for a source, and so probably for all.
        SourceError: some sources cannot be read; all others are there as parts.
    """
    names = name_sources(sources)
    parts.folder.mkdir(parents=True, exist_ok=True)
    like = find_format(sources[0], config.format).find_model(sources[0], config, spec)
    about = {
        "config": compute_plain(work.stage.config, "ingest"),
        "mapping": None if config.mapping is None else compute_path_digest(config.mapping),
        "like": repr(like),  # limits may be infinite, for which JSON has no number
        "code": compute_code_digest(work.stage.module),
        "versions": compute_versions(work.stage.libraries),
    }
    jobs = [
        PartJob(source.absolute(), parts.folder.absolute(), about | {"name": name}, config, spec, like)
        for name, source in zip(names, sources, strict=True)
    ]
    found: dict[int, Part] = {}
    failures: dict[int, str] = {}
    work.view.start("ingest", len(jobs), 0, "file")
    for outcome in parts.executor.run(make_part, jobs):
        if outcome.value is not None:
            found[outcome.number] = outcome.value
        elif outcome.kind == "ConfigError":
            raise ConfigError(outcome.failure)
        else:
            failures[outcome.number] = outcome.failure
            work.view.note(f"ingest: {names[outcome.number]}: {outcome.failure}{outcome.trace}")
        work.view.update(len(found) + len(failures), {})
    if failures:
        first = min(failures)
        raise SourceError(
            f"ingest: expected readable sources, got {len(failures)} of {len(jobs)} that are not, first "
            f"{names[first]}: {failures[first]}; the others are kept: repair them or leave them out, and run it again"
        )
    reused = sum(part.reused for part in found.values())
    if reused:
        work.view.note(f"ingest: {reused} of {len(jobs)} files were done before")
    return {name: found[number] for number, name in enumerate(names)}


def make_part(job: PartJob) -> Part:
    """Makes the store of one source, or finds it; a process that dies on the way leaves nothing that counts.

    Raises:
        SuppleError: see `SourceIngest`.
    """
    key = compute_digest({**job.about, "source": compute_path_digest(job.source)})
    place, record = job.folder / key, job.folder / f"{key}.json"
    with suppress(RunError, StoreError):
        found = load_json(record)
        if open_store(place).digest == found["digest"]:
            return Part(place, list(found["notes"]), reused=True)
    record.unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    config = job.config
    source = SourceIngest(
        job.source, config, job.spec, clip_actions=config.clip_actions, clip_share=config.clip_share, like=job.like
    )
    for _ in source.writing(place, config.compression):
        pass
    write_record(record, {"digest": open_store(place).digest, "notes": source.notes()})
    return Part(place, source.notes(), reused=False)


def name_sources(sources: Sequence[Path]) -> list[str]:
    """A name for each source, for the provenance: of its file, or from the folder that holds all where names repeat.

    Raises:
        ConfigError: a source stands twice.
    """
    real = [os.path.realpath(source) for source in sources]
    for source, path in zip(sources, real, strict=True):
        if real.count(path) > 1:
            raise ConfigError(f"ingest: expected each source once, got {source} twice; leave one out")
    names = [Path(path).name for path in real]
    if len(set(names)) == len(names):
        return names
    return [os.path.relpath(path, os.path.commonpath(real)) for path in real]


def group_notes(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Each note once, behind the sources that it is of where it is not of all."""
    sources: dict[str, list[str]] = {}
    for name, found in notes.items():
        for note in found:
            sources.setdefault(note, []).append(name)
    grouped = []
    for note, names in sources.items():
        some = f"{', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}: "
        grouped.append(note if len(names) == len(notes) else some + note)
    return grouped
