"""Published stage folders: lock, record, digests of the artefacts, publishing by rename, taking over by links."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import RunError
from .keys import compute_canonical, compute_digest, compute_file_digest, find_first_difference, load_record
from .metrics import compute_metrics_digest

AUDIT_NAME = "audit.jsonl"
"""What the safety limits did while a stage moved robots. It is evidence: no restart clears it, a fault leaves it."""

NOT_ARTEFACTS = frozenset({"stage.json", "key.json", "metrics.jsonl", "tensorboard", "checkpoint", AUDIT_NAME})
"""Top-level names in a stage folder that are not artefacts; metrics have a digest of their own. The audit log has none:
its times are those of a clock, and a restart adds to it."""


def name_partial(folder: Path) -> Path:
    """The work folder of a stage folder."""
    return folder.with_name(folder.name + ".partial")


@contextmanager
def lock_folder(folder: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Only one process works on `folder` at a time; the lock dies with its process.

    Raises:
        RunError: nothing can be written there.
    """
    path = folder.parent / f".{folder.name}.lock"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path, lambda: tell(f"{folder}: another process works on it; waiting"))
    except OSError as error:
        raise RunError(f"{folder}: expected a place to write to, got '{error.strerror}'; pass another --out") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path, tell: Callable[[], None]) -> int:
    """A locked handle of the file that is at `path` now; its last owner may have removed the one we waited for."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell()
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


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
        RunError: something else is there.
    """
    if not folder.exists():
        return None
    record = load_record(folder)
    remedy = f"pass another --out, or remove {folder}"
    refuse_other_key(folder, record["fields"], fields, remedy)
    return record


def copy_published(source: Path, folder: Path, key: str) -> bool:
    """Publishes `folder` as hard links to the files of `source` (copies, across file systems) where the key agrees."""
    if not (source / "stage.json").is_file() or load_record(source)["key"] != key:
        return False
    if name_partial(folder).exists():
        return False
    linked = folder.with_name(folder.name + ".linked")
    shutil.rmtree(linked, ignore_errors=True)
    shutil.copytree(source, linked, copy_function=link_or_copy)
    publish(linked, folder)
    return True


def link_or_copy(source: str, target: str) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


def compute_outputs(folder: Path) -> dict[str, str]:
    """sha256 of each artefact file, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder) for path in files]
    return {name.as_posix(): compute_file_digest(folder / name) for name in names if name.parts[0] not in NOT_ARTEFACTS}


def load_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        RunError: it is missing, or is something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: expected a JSON file, got {type(error).__name__}; run its stage again") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(value).__name__}; run its stage again")
    return value


def write_record(path: Path, record: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Writes JSON so that a reader sees all of it or none."""
    compute_canonical(record)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def publish(partial: Path, folder: Path) -> None:
    """Forces the folder's files to disk, then renames it; a reader sees the whole folder or none."""
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    try:
        os.rename(partial, folder)
    except OSError as error:
        raise RunError(f"{folder}: expected no such folder, got {error.strerror}; remove it and run again") from error
    sync(folder.parent)


def sync(path: Path) -> None:
    """Forces a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify_stage(folder: Path) -> int:
    """Checks every artefact of a published stage folder against stage.json; returns the number of files.

    Raises:
        RunError: a file is missing, changed or was not there when the stage was published.
    """
    record = load_record(folder)
    outputs = compute_outputs(folder)
    difference = find_first_difference(record["outputs"], outputs)
    if difference is not None:
        name, recorded, found = difference
        for path in [*record["outputs"], *outputs]:
            if record["outputs"].get(path) != outputs.get(path):
                name, recorded, found = path, record["outputs"].get(path), outputs.get(path)
                break
        raise RunError(
            f"{folder / name}: expected sha256 {shorten(recorded or 'nothing')}, got {shorten(found or 'nothing')}; "
            f"remove {folder} and run the stage again"
        )
    if compute_digest(record["fields"]) != record["key"] or compute_digest(outputs) != record["output_digest"]:
        raise RunError(f"{folder}/stage.json: expected the key of its own fields, got an edited record; run it again")
    metrics = folder / "metrics.jsonl"
    if record.get("metrics_digest") and compute_metrics_digest(metrics) != record["metrics_digest"]:
        raise RunError(f"{metrics}: expected the recorded metrics, got changed ones; remove {folder} and run again")
    return len(outputs)
