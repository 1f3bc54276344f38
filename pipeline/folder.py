"""Published stage folders: lock, record, digests of the artefacts, publishing by rename, taking over by links."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep, time_ns
from typing import Any

from .. import strict_json
from ..errors import RunError
from ..plain_files import list_plain_files, sync, write_durably
from .evidence import EVIDENCE, KEY_NAME, advise_again, find_evidence
from .interrupt import Interrupted, StopRequest
from .keys import (
    RECORD_NAME,
    compute_canonical,
    compute_digest,
    compute_file_digest,
    compute_record_digest,
    find_first_difference,
    load_record,
)
from .metrics import METRICS_NAME, compute_metrics_digest

PARTIAL = ".partial"
LOCK_PERIOD = 0.1
"""Time between two attempts to get a lock, seconds."""
SETTLED_NS = 20_000_000
"""The clock of a file system ticks more often than this."""
SEAL_NAME = ".seal.json"
"""In a stage folder: size, times and inode of every file when its digest was last checked. It may be torn or lost."""
BESIDE = frozenset({"tensorboard", *EVIDENCE})
"""Top-level names in a stage folder whose files depend on a clock: they are recorded, but are no part of the result."""
UNFINISHED = frozenset({KEY_NAME, "checkpoint"})
"""Top-level names in a work folder alone."""
NOT_ARTEFACTS = frozenset({RECORD_NAME, SEAL_NAME, METRICS_NAME}) | BESIDE | UNFINISHED
"""Top-level names in a stage folder that are not artefacts; metrics have a digest of their own."""


def name_partial(folder: Path) -> Path:
    """The work folder of a stage folder."""
    return folder.with_name(folder.name + PARTIAL)


@contextmanager
def lock_folder(folder: Path, tell: Callable[[str], None], stop: StopRequest) -> Iterator[None]:
    """Only one process works on `folder` at a time; the lock dies with its process.

    Raises:
        RunError: nothing can be written there.
        Interrupted: a signal asked to stop while another process was at work.
    """
    path = folder.parent / f".{folder.name}.lock"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path, folder, tell, stop)
    except OSError as error:
        raise RunError(f"{folder}: expected a place to write to, got '{error.strerror}'; pass another --out") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path, folder: Path, tell: Callable[[str], None], stop: StopRequest) -> int:
    """A locked handle of the file that is at `path` now; its last owner may have removed the one we waited for."""
    told = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        os.close(handle)
        if not told:
            tell(f"{folder}: another process works on it; waiting")
            told = True
        sleep(LOCK_PERIOD)
        if stop:
            raise Interrupted(folder.name, 0, stop.signal or 2)


def refuse_place(folder: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuses a place to write to where it would change what is published, under way, or read.

    Raises:
        RunError: it is in a stage folder, is or is in a work folder, or is or is in an input.
    """
    place = Path(os.path.realpath(folder))  # `resolve` fails where links go in a circle
    for parent in (place, *place.parents):
        if parent != place and is_published(parent):
            raise RunError(f"{folder}: expected a place of its own, got one in the stage {parent}; pass another --out")
        if parent.suffix == PARTIAL and (parent == place or (parent / KEY_NAME).is_file()):
            raise RunError(f"{folder}: expected a place of its own, got the work folder {parent}; pass another --out")
    for path in inputs:
        if place.is_relative_to(os.path.realpath(path)):
            raise RunError(f"{folder}: expected a place beside the input, got one in {path}; pass another --out")


def is_published(folder: Path) -> bool:
    """Whether this is a published stage folder, whole or not."""
    return os.path.lexists(folder / RECORD_NAME) and folder.suffix != PARTIAL


def refuse_other_key(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], remedy: str) -> None:
    """Raises RunError where the folder holds the result of other fields, naming the first that differs."""
    difference = find_first_difference(found, wanted)
    if difference is not None:
        name, old, new = difference
        raise RunError(f"{folder}: expected {name} = {shorten(new)}, got {shorten(old)} from an earlier run; {remedy}")


def shorten(value: Any) -> str:
    """A value for an error line: long digests are cut."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:12]}..." if len(text) == 64 and set(text) <= set("0123456789abcdef") else text[:80]


def find_published(folder: Path, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a published folder with these fields; None where nothing is published.

    Raises:
        RunError: something else is there, or a file of it has changed since.
    """
    if not os.path.lexists(folder):
        return None
    if not os.path.lexists(folder / RECORD_NAME):
        got = "a folder without stage.json" if folder.is_dir() else "a file"
        raise RunError(f"{folder}: expected nothing there or an output of this stage, got {got}; pass another --out")
    kept = find_evidence(folder) is not None
    remedy = f"pass another --out{'; keep this audit log of a real robot' if kept else f', or remove {folder}'}"
    refuse_other_key(folder, load_record(folder)["fields"], fields, remedy)
    return require_published(folder)


def copy_published(source: Path, folder: Path, key: str) -> bool:
    """Publishes `folder` as hard links to the files of `source` (copies, across file systems) where the key agrees.

    Raises:
        RunError: the source has that key, but a file of it has changed since it was published.
    """
    if not is_published(source) or load_record(source)["key"] != key or name_partial(folder).exists():
        return False
    require_published(source)
    linked = folder.with_name(folder.name + ".linked")
    shutil.rmtree(linked, ignore_errors=True)
    shutil.copytree(source, linked, copy_function=link_or_copy, ignore=shutil.ignore_patterns(SEAL_NAME))
    verify_stage(linked)
    publish(linked, folder)
    return True


def describe_unfit(source: Path, folder: Path, fields: Mapping[str, Any]) -> str:
    """Why `copy_published` did not publish `folder`, of these fields, from the files of `source`."""
    if not is_published(source):
        return f"{source}: not taken over: no finished stage is there"
    difference = find_first_difference(load_record(source)["fields"], fields)
    if difference is None:
        return f"{source}: not taken over: the work in {name_partial(folder)} goes on"
    name, old, new = difference
    return f"{source}: not taken over: {name} = {shorten(old)} there, {shorten(new)} here"


def link_or_copy(source: str, target: str) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


def list_artefacts(folder: Path) -> list[str]:
    """Names of the artefact files of a stage folder, sorted.

    Raises:
        RunError: there is a link or a special file in the folder.
    """
    return sorted(name for name in list_plain_files(folder, RunError) if name.split("/")[0] not in NOT_ARTEFACTS)


def compute_outputs(folder: Path) -> dict[str, str]:
    """sha256 of each artefact file, by its path in the folder."""
    return {name: compute_file_digest(folder / name) for name in list_artefacts(folder)}


def compute_beside(folder: Path) -> dict[str, str]:
    """sha256 of each file of `BESIDE`, by its path in the folder.

    Raises:
        RunError: there is a link or a special file in the folder.
    """
    names = sorted(name for name in list_plain_files(folder, RunError) if name.split("/")[0] in BESIDE)
    return {name: compute_file_digest(folder / name) for name in names}


def compute_path_digest(path: Path) -> str:
    """The digest of an input: of a file its sha256, of a stage folder its output digest, of another folder its tree.

    Raises:
        RunError: nothing is there, or it is or is in a stage folder of which a file has changed since.
    """
    parents = (path, *Path(os.path.realpath(path)).parents)
    for parent in parents:
        if parent.suffix == PARTIAL and (parent / KEY_NAME).is_file():
            raise RunError(f"{path}: expected the result of a stage, got unfinished work; finish {parent.stem} first")
    around = next((parent for parent in parents if is_published(parent)), None)
    record = None if around is None else require_published(around)
    if record is not None and around == path:
        return str(record["output_digest"])
    if path.is_file():
        return compute_file_digest(path)
    if not path.is_dir():
        raise RunError(f"{path}: expected an input file or folder, got nothing there; check the path")
    names = sorted(list_plain_files(path, RunError))
    with ThreadPoolExecutor(min(len(names), os.cpu_count() or 1) or 1) as pool:  # a digest is computed without the GIL
        digests = list(pool.map(compute_file_digest, [path / name for name in names]))
    return compute_digest(dict(zip(names, digests, strict=True)))


def load_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file of a run.

    Raises:
        RunError: it is missing, or is something else.
    """
    return strict_json.load_json(path, dict, RunError, "run its stage again")


def write_record(path: Path, record: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Writes JSON so that a reader sees all of it or none, whoever else writes it."""
    write_durably(path, json.dumps(record, indent=1, allow_nan=False).encode())


def publish(partial: Path, folder: Path) -> None:
    """Forces the folder's files to disk, then renames it; a reader sees the whole folder or none."""
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    try:
        os.rename(partial, folder)
    except OSError as error:
        again = advise_again(folder, "run again")
        raise RunError(f"{folder}: expected no such folder, got {error.strerror}; {again}") from error
    sync(folder.parent)


def require_published(folder: Path) -> dict[str, Any]:
    """The record of a stage folder whose files are those that were published.

    Files whose size, times of change and inode are those of the last check are taken as unchanged: every write moves a
    file's ctime, which no program can set. On any doubt all files are read again.

    Raises:
        RunError: see `verify_stage`.
    """
    record = load_record(folder)
    marks = compute_marks(folder)
    seal = {"record": compute_record_digest(record), "files": marks}
    if _load_seal(folder) != seal:
        # a file that changed within the present tick of the clock could change again without a trace
        settled = all(changed <= time_ns() - SETTLED_NS for _, _, changed, _ in marks.values())
        verify_stage(folder)
        if settled and compute_marks(folder) == marks:
            with suppress(OSError):  # a folder that cannot be written is checked in full each time
                (folder / SEAL_NAME).write_bytes(compute_canonical(seal))
    return record


def compute_marks(folder: Path) -> dict[str, list[int]]:
    """Size, mtime, ctime and inode of the files of a stage folder that have a digest."""
    unmarked = {RECORD_NAME, SEAL_NAME, *UNFINISHED}
    names = sorted(name for name in list_plain_files(folder, RunError) if name.split("/")[0] not in unmarked)
    found = [os.stat(folder / name, follow_symlinks=False) for name in names]
    marks = [[one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino] for one in found]
    return dict(zip(names, marks, strict=True))


def _load_seal(folder: Path) -> object:
    try:
        return load_json(folder / SEAL_NAME)
    except RunError:
        return None


def verify_stage(folder: Path) -> int:
    """Checks every artefact of a published stage folder against stage.json; returns the number of files.

    Raises:
        RunError: a file is missing, changed or was not there when the stage was published.
    """
    record = load_record(folder)
    outputs, remedy = compute_outputs(folder), advise_again(folder)
    if folder.suffix != PARTIAL:
        for name in sorted(UNFINISHED):
            if os.path.lexists(folder / name):
                raise RunError(f"{folder / name}: expected nothing, got what only a work folder has; {remedy}")
    # before there was `beside`, nobody knew the digests of these files
    beside = {} if "beside" not in record else compute_beside(folder)
    for recorded, found in ((record["outputs"], outputs), (record.get("beside", {}), beside)):
        for name in [*recorded, *found]:
            if recorded.get(name) != found.get(name):
                old, new = (shorten(digests.get(name, "nothing")) for digests in (recorded, found))
                raise RunError(f"{folder / name}: expected sha256 {old}, got {new}; {remedy}")
    metrics = folder / METRICS_NAME
    digest = compute_metrics_digest(metrics) if metrics.is_file() else None
    if digest != record.get("metrics_digest"):
        got = "changed ones" if digest else "none"
        raise RunError(f"{metrics}: expected the recorded metrics, got {got}; {remedy}")
    return len(outputs)
