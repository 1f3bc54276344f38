"""A policy bundle on disk: a directory that is written whole or not at all, and verified before it is used.

    bundle.json            the contract (`contract.py`)
    weights.safetensors    every weight, float32
    golden.safetensors     recorded inputs and outputs, recomputed at every load
    README.md              a card for people
    MANIFEST.sha256        digest of every other file; `sha256sum -c MANIFEST.sha256` checks it too

A bundle holds data only: JSON and safetensors, no pickle and no code. Its digest is that of the manifest.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from ..errors import BundleError, SpecError
from ..robots.spec import RobotSpec
from .contract import BundleContract, Weights
from .golden import check_golden, compute_golden_outputs, make_golden_inputs, require_golden

CONTRACT, WEIGHTS, GOLDEN, CARD = "bundle.json", "weights.safetensors", "golden.safetensors", "README.md"
MANIFEST = "MANIFEST.sha256"
_FILES = (CARD, CONTRACT, GOLDEN, WEIGHTS)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. Its arrays are read-only."""

    contract: BundleContract
    """What the bundle promises."""
    weights: Weights
    """Every weight by name."""
    golden: Weights
    """Recorded inputs `in.*` and outputs `out.*`."""
    digest: str
    """sha256 of the manifest, hexadecimal: equal digests, equal bundles."""


def write_bundle(
    path: str | os.PathLike[str],
    *,
    contract: Mapping[str, Any],
    weights: Mapping[str, NDArray[Any]],
    golden: Mapping[str, NDArray[Any]] | None = None,
) -> Bundle:
    """Writes a bundle, verifies what was written, and publishes it by rename; a kill at any time leaves no bundle.

    Args:
        path: The directory to make; it must not exist.
        contract: The content of `bundle.json`, see `BundleContract.to_json`.
        weights: Every weight by name, float32, see `BundleContract.weight_shapes`.
        golden: Inputs and outputs recorded by the framework that trained the weights, see `golden.golden_shapes`;
            None records them with this numpy runtime, which then only guards against later change.

    Returns:
        The bundle as it was read back.

    Raises:
        BundleError: The path exists, another process writes it, the contract or an array does not fit, the golden pairs
            cannot be reproduced, or the disk refused.
    """
    target = Path(path)
    checked = BundleContract.from_json(contract)
    checked.check_weights(weights, "weights")
    if golden is None:
        inputs = make_golden_inputs(checked, weights, np.random.default_rng(0))
        with np.errstate(all="ignore"):
            golden = inputs | compute_golden_outputs(checked, weights, inputs)
    contents = {
        CONTRACT: _json_bytes(checked.to_json()),
        CARD: _card(checked).encode(),
        GOLDEN: _tensor_bytes(golden),
        WEIGHTS: _tensor_bytes(weights),
    }
    _verify(contents, hashlib.sha256(_manifest(contents)).hexdigest(), target)
    contents[MANIFEST] = _manifest(contents)
    try:
        with _partial_folder(target) as partial:
            for name, content in contents.items():
                with open(partial / name, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            bundle = load_bundle(partial)
            _fsync_folder(partial)
            os.rename(partial, target)
            _fsync_folder(target.parent)
    except OSError as error:
        raise BundleError(
            f"{target}: expected to write a bundle, got '{error}'; free space or choose another folder"
        ) from error
    return bundle


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Reads a bundle and verifies it: files, digests, schema, shapes, finiteness, golden pairs.

    Args:
        path: The bundle's directory.

    Raises:
        BundleError: Names what is wrong and what to do.
    """
    folder = Path(path)
    try:
        entries = {entry.name: entry.is_file(follow_symlinks=False) for entry in os.scandir(folder)}
        for name in (*_FILES, MANIFEST):
            if not entries.get(name, False):
                raise _damage(folder, f"a regular file '{name}'", "none")
        if extra := sorted(set(entries) - {*_FILES, MANIFEST}):
            raise _damage(folder, "only the files of a bundle", f"'{extra[0]}'")
        contents = {name: (folder / name).read_bytes() for name in _FILES}
        listed = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder}: expected a bundle, got '{error}'; give the path of an exported bundle") from error
    actual = _manifest(contents)
    if listed != actual:
        for name, line in zip(_FILES, actual.splitlines(), strict=True):
            if line not in listed.splitlines():
                raise _damage(folder / name, "the sha256 that the manifest lists", line[:16].decode() + "...")
        raise _damage(folder / MANIFEST, f"one line for each of {list(_FILES)}", "other bytes")
    return _verify(contents, hashlib.sha256(listed).hexdigest(), folder)


def require_robot(bundle: Bundle, spec: RobotSpec) -> None:
    """Checks that a robot is the one that the bundle was made for (its name may differ).

    Args:
        bundle: The bundle.
        spec: The robot's own spec.

    Raises:
        BundleError: Names the first field in which they differ.
    """
    try:
        bundle.contract.robot.require_match(spec, f"bundle for robot '{bundle.contract.robot.name}'")
    except SpecError as error:
        raise BundleError(str(error)) from error


def _verify(contents: Mapping[str, bytes], digest: str, where: Path) -> Bundle:
    """The bundle of these file contents, with everything but the manifest checked."""
    contract = BundleContract.from_json(_parse_json(contents[CONTRACT], where / CONTRACT))
    weights = _parse_tensors(contents[WEIGHTS], where / WEIGHTS)
    contract.check_weights(weights, str(where / WEIGHTS))
    golden = _parse_tensors(contents[GOLDEN], where / GOLDEN)
    check_golden(contract, golden, str(where / GOLDEN))
    with np.errstate(all="ignore"):
        outputs = compute_golden_outputs(contract, weights, golden)
    require_golden(golden, outputs, str(where / WEIGHTS))
    return Bundle(contract, weights, golden, digest)


def _parse_json(content: bytes, where: Path) -> Any:
    """The JSON value of `content`; duplicate keys and non-finite numbers are refused."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in items}) < len(items):
            raise ValueError("an object with a key given twice")
        return dict(items)

    def constant(name: str) -> float:
        raise ValueError(f"the number {name}")

    try:
        return json.loads(content.decode(), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise _damage(where, "strict JSON", f"'{error}'") from error


def _parse_tensors(content: bytes, where: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, read-only."""
    try:
        arrays: dict[str, NDArray[Any]] = load_safetensors(content)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damage(where, "a safetensors file", f"'{error}'") from error
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _tensor_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A safetensors file; the same arrays give the same bytes."""
    content: bytes = save_safetensors({name: np.asarray(array, order="C") for name, array in arrays.items()})
    return content


def _json_bytes(data: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    except (ValueError, TypeError) as error:
        raise BundleError(
            f"bundle.json: expected JSON values, got '{error}'; keep adaptation and provenance to finite numbers, "
            "strings, lists and objects"
        ) from error


def _manifest(contents: Mapping[str, bytes]) -> bytes:
    """The manifest of these files, in the format of sha256sum."""
    return "".join(f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in _FILES).encode()


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


def _damage(where: Path, expected: str, got: str) -> BundleError:
    return BundleError(f"{where}: expected {expected}, got {got}; the bundle is damaged: copy or export it again")


def _card(contract: BundleContract) -> str:
    """A card for people: what the bundle is, for which robot, and how to use it."""
    robot = contract.robot
    over = "skills" if contract.action_space == "skill" else "raw actions"
    lines = [f"# Policy for {robot.name}", "", f"Meta-trained over {over}; adapts to a new task in a few episodes.", ""]
    lines += ["| | axis | unit | low | high | largest change per second |", "|---|---|---|---|---|---|"]
    for spec in (robot.observation, robot.action, robot.goal):
        for axis in spec.axes:
            rate = "" if axis.rate_limit is None else f"{axis.rate_limit:g}"
            lines.append(f"| {spec.name} | {axis.name} | {axis.unit} | {axis.low:g} | {axis.high:g} | {rate} |")
    lines += [
        "",
        f"One action every {robot.control_period:g} s; one skill lasts {contract.skill_horizon} actions "
        f"(skill dim {contract.skill_dim}, task-embedding dim {contract.embedding_dim}).",
        "",
        "Load it with `supple.adapt.bundle.load_bundle`, act with `supple.adapt.runtime.NumpyPolicy`, adapt it with "
        "`supple adapt`. `sha256sum -c MANIFEST.sha256` checks the files.",
        "",
        "Where it comes from:",
        "",
    ]
    lines += [f"- {key}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(contract.provenance.items())]
    return "\n".join(lines) + "\n"
