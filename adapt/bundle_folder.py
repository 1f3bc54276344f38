"""The files of a policy bundle: a folder that is written whole or not at all, and read only as it was written.

    bundle.json            the contract
    weights.safetensors    every weight, float32
    golden.safetensors     recorded inputs and outputs, recomputed at every load
    logs.safetensors       logs of the robot, encoded as skills; only in bundles that take them along
    novelty.safetensors    a model of the robot's nominal motion; only where it was exported with nominal episodes
    README.md              a card for people
    MANIFEST.sha256        digest of every other file; `sha256sum -c MANIFEST.sha256` checks it too

Nothing here knows what the files mean: `bundle.py` does.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from ..errors import BundleError
from ..plain_files import read_plain_file
from ..strict_json import parse_json

CONTRACT, WEIGHTS, GOLDEN, CARD = "bundle.json", "weights.safetensors", "golden.safetensors", "README.md"
MANIFEST = "MANIFEST.sha256"
LOGS, NOVELTY = "logs.safetensors", "novelty.safetensors"
FILES = (CARD, CONTRACT, GOLDEN, WEIGHTS)
OPTIONAL = (LOGS, NOVELTY)
DAMAGED = "the bundle is damaged: copy or export it again"

Loaded = TypeVar("Loaded")


def write_files(target: Path, contents: Mapping[str, bytes], load: Callable[[Path], Loaded]) -> Loaded:
    """Writes the files and their manifest, loads what was written, and publishes it by rename.

    A kill at any time leaves no bundle.

    Args:
        target: The directory to make; it must not exist.
        contents: Every file of `FILES` by name, and of `OPTIONAL` those that there are.
        load: Reads and verifies the written folder; what it raises leaves nothing behind.

    Returns:
        What `load` gave.

    Raises:
        BundleError: The path exists, another process writes it, or the disk refused.
    """
    whole = {**contents, MANIFEST: make_manifest(contents)}
    try:
        with _partial_folder(target) as partial:
            for name, content in whole.items():
                with open(partial / name, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            loaded = load(partial)
            _fsync_folder(partial)
            os.rename(partial, target)
            _fsync_folder(target.parent)
    except OSError as error:
        raise BundleError(
            f"{target}: expected to write a bundle, got '{error}'; free space or choose another folder"
        ) from error
    return loaded


def find_bundle(path: Path) -> Path:
    """The bundle itself, or the one in an `export` folder or run folder."""
    for candidate in (path / "bundle", path / "export" / "bundle"):
        if candidate.is_dir() and not (path / CONTRACT).exists():
            return candidate
    return path


def read_files(path: str | os.PathLike[str]) -> tuple[dict[str, bytes], str]:
    """The files of a bundle, each as its manifest says, and the digest of the manifest.

    Args:
        path: The bundle's directory, or a folder of `export` or `run` that holds it.

    Raises:
        BundleError: A file is missing, is no plain file, is one too many, or has other bytes.
    """
    folder = find_bundle(Path(path))
    try:
        entries = {entry.name: entry.is_file(follow_symlinks=False) for entry in os.scandir(folder)}
        if not entries.keys() & {CONTRACT, MANIFEST}:
            raise BundleError(f"{folder}: expected a bundle, got a folder without {CONTRACT}; make one: supple export")
        for name in (*FILES, MANIFEST):
            if not entries.get(name, False):
                raise damage(folder, f"a regular file '{name}'", "none")
        if extra := sorted(set(entries) - {*FILES, *OPTIONAL, MANIFEST}):
            raise damage(folder, "only the files of a bundle", f"'{extra[0]}'")
        if odd := sorted(name for name in OPTIONAL if entries.get(name) is False):
            raise damage(folder, f"a regular file '{odd[0]}'", "none")
        names = [name for name in (*FILES, *OPTIONAL) if name in entries]
        contents = {name: read_plain_file(folder / name, BundleError, DAMAGED) for name in names}
        listed = read_plain_file(folder / MANIFEST, BundleError, DAMAGED)
    except OSError as error:
        raise BundleError(f"{folder}: expected a bundle, got '{error}'; give the path of an exported bundle") from error
    actual = make_manifest(contents)
    if listed != actual:
        for name, line in zip(sorted(contents), actual.splitlines(), strict=True):
            if line not in listed.splitlines():
                raise damage(folder / name, "the sha256 that the manifest lists", line[:16].decode() + "...")
        raise damage(folder / MANIFEST, f"one line for each of {sorted(contents)}", "other bytes")
    return contents, digest_of(contents)


def digest_of(contents: Mapping[str, bytes]) -> str:
    """The bundle's digest: sha256 of the manifest, hexadecimal."""
    return hashlib.sha256(make_manifest(contents)).hexdigest()


def make_manifest(contents: Mapping[str, bytes]) -> bytes:
    """The manifest of these files, in the format of sha256sum."""
    lines = (f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents))
    return "".join(lines).encode()


def parse_contract(content: bytes, where: Path) -> dict[str, Any]:
    """The JSON object of `bundle.json`.

    Raises:
        BundleError: It is none, or not strict.
    """
    return parse_json(content, dict, where, BundleError, DAMAGED)


def parse_tensors(content: bytes, where: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, read-only."""
    try:
        arrays: dict[str, NDArray[Any]] = load_safetensors(content)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damage(where, "a safetensors file", f"'{error}'") from error
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def tensor_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A safetensors file; the same arrays give the same bytes."""
    content: bytes = save_safetensors({name: np.asarray(array, order="C") for name, array in arrays.items()})
    return content


def json_bytes(data: Mapping[str, Any]) -> bytes:
    """The text of `bundle.json`.

    Raises:
        BundleError: A value is none of JSON.
    """
    try:
        return (json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    except (ValueError, TypeError) as error:
        raise BundleError(
            f"bundle.json: expected JSON values, got '{error}'; keep adaptation and provenance to finite numbers, "
            "strings, lists and objects"
        ) from error


@contextmanager
def _partial_folder(target: Path) -> Iterator[Path]:
    """A locked, empty `<target>.partial`; what an earlier, killed writer left there is removed, and so is a failure."""
    partial = target.with_name(target.name + ".partial")
    if os.path.lexists(target):
        raise BundleError(
            f"{target}: expected a path that does not exist, got an existing one; remove it or choose another name"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.mkdir(exist_ok=True)
    descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            owned = os.path.samestat(os.stat(partial), os.fstat(descriptor))
        except (BlockingIOError, FileNotFoundError):
            owned = False
        if not owned:
            raise BundleError(f"{target}: expected to be the only writer, got another process; wait until it has ended")
        for entry in os.scandir(partial):
            os.unlink(entry.path)
        try:
            yield partial
        finally:
            if os.path.lexists(partial):
                shutil.rmtree(partial)
    finally:
        os.close(descriptor)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage(where: Path, expected: str, got: str) -> BundleError:
    """The error that says what is wrong with a bundle's files."""
    return BundleError(f"{where}: expected {expected}, got {got}; {DAMAGED}")


def check_tensors(
    tensors: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], where: str, remedy: str
) -> None:
    """Checks that `tensors` are exactly those of `shapes`, float32 and finite.

    Args:
        tensors: Arrays by name.
        shapes: The expected shape of each, by name.
        where: File or caller, for the message.
        remedy: What to do about it, for the message.

    Raises:
        BundleError: Names the first array that is missing, unknown, of another shape or dtype, or not finite.
    """
    if missing := sorted(set(shapes) - set(tensors)):
        raise BundleError(f"{where}: expected tensor '{missing[0]}' {shapes[missing[0]]}, got none; {remedy}")
    if unknown := sorted(set(tensors) - set(shapes)):
        raise BundleError(f"{where}: expected only tensors that bundle.json declares, got '{unknown[0]}'; {remedy}")
    for name, shape in shapes.items():
        array = tensors[name]
        if array.shape != shape or array.dtype != np.float32:
            raise BundleError(
                f"{where}: expected '{name}' of shape {shape} and dtype float32, "
                f"got {array.shape} {array.dtype}; {remedy}"
            )
        if not np.isfinite(array).all():
            raise BundleError(f"{where}: expected finite '{name}', got {array[~np.isfinite(array)][0]}; {remedy}")
