"""A bundle is written whole or not at all, and nothing but what was written is ever loaded."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from supple.adapt.bundle import Bundle, load_bundle, require_robot, write_bundle
from supple.adapt.bundle_folder import MANIFEST, read_files
from supple.adapt.contract import BundleContract
from supple.adapt.golden_trial import EPISODES, require_trial
from supple.errors import BundleError
from supple.pipeline.verbs.look import describe_bundle
from supple.robots.spec import ArraySpec, RobotSpec

Weights = dict[str, NDArray[np.float32]]
Write = Callable[[Path, BundleContract, Weights], Bundle]
FILES = ("README.md", "bundle.json", "golden.safetensors", "weights.safetensors", MANIFEST)


def test_round_trip(
    tmp_path: Path, contract: BundleContract, weights_of: Callable[..., Weights], written: Write
) -> None:
    weights = weights_of(contract)
    made = written(tmp_path / "deep" / "bundle", contract, weights)
    bundle = load_bundle(tmp_path / "deep" / "bundle")
    assert bundle.contract.to_json() == contract.to_json()
    assert bundle.digest == made.digest
    assert set(bundle.weights) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(bundle.weights[name], array)
        with pytest.raises(ValueError, match="read-only"):
            bundle.weights[name][...] = 0.0  # type: ignore[index]
    assert sorted(os.listdir(tmp_path / "deep")) == ["bundle"]
    assert sorted(os.listdir(tmp_path / "deep" / "bundle")) == sorted(FILES)


def test_the_same_content_has_the_same_digest(
    tmp_path: Path, skill_contract: BundleContract, weights: Weights, written: Write
) -> None:
    digests = {written(tmp_path / name, skill_contract, weights).digest for name in ("a", "b")}
    digests.add(written(tmp_path / "c", skill_contract, dict(reversed(weights.items()))).digest)
    assert len(digests) == 1
    assert written(tmp_path / "d", replace(skill_contract, provenance={"seed": 1}), weights).digest not in digests


def test_the_manifest_is_in_the_format_of_sha256sum(folder: Path) -> None:
    for line in (folder / MANIFEST).read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert load_bundle(folder).digest == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_any_changed_byte_is_refused(folder: Path, name: str) -> None:
    good = (folder / name).read_bytes()
    rng = np.random.default_rng(0)
    positions = {0, 1, 7, 8, len(good) // 2, len(good) - 2, len(good) - 1, *rng.integers(0, len(good), 40).tolist()}
    if name == MANIFEST:
        positions = set(range(len(good)))
    for position in sorted(positions):
        for change in (1, 128):
            bad = bytearray(good)
            bad[position] ^= change
            (folder / name).write_bytes(bytes(bad))
            with pytest.raises(BundleError, match=r"expected .*, got .*; "):
                load_bundle(folder)
    for bad_length in (b"", good[:-1], good[: len(good) // 2], good + b"\n", b"\n" + good, good + good):
        (folder / name).write_bytes(bad_length)
        with pytest.raises(BundleError):
            load_bundle(folder)
    (folder / name).write_bytes(good)
    load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"regular file '{name}', got none"):
        load_bundle(folder)
    (folder / name).mkdir()
    with pytest.raises(BundleError, match=f"regular file '{name}', got none"):
        load_bundle(folder)


def test_a_link_is_not_a_file_of_the_bundle(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").rename(tmp_path / "README.md")
    (folder / "README.md").symlink_to(tmp_path / "README.md")
    with pytest.raises(BundleError, match=r"regular file 'README\.md'"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["policy.pkl", ".hidden", "weights.safetensors.bak"])
def test_an_extra_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(BundleError, match=f"only the files of a bundle, got '{name}'"):
        load_bundle(folder)


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="absent"):
        load_bundle(tmp_path / "absent")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError, match="file"):
        load_bundle(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"a folder without bundle\.json; make one: supple export"):
        load_bundle(tmp_path / "empty")


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": NaN}', '{"a": 1, "a": 1}', "[" * 10**5])
def test_json_is_strict(folder: Path, sealed: Callable[..., None], content: str) -> None:
    (folder / "bundle.json").write_text(content)
    sealed(folder)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load_bundle(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(
    folder: Path, skill_contract: BundleContract, weights: Weights, sealed: Callable[..., None], value: float
) -> None:
    golden = load_bundle(folder).golden
    for name in weights:
        bad = weights | {name: weights[name].copy()}
        bad[name].flat[-1] = value
        with pytest.raises(BundleError, match=f"finite '{name}', got"):
            write_bundle(folder.with_name("other"), contract=skill_contract, weights=bad, golden=golden)
        sealed(folder, weights=bad)
        with pytest.raises(BundleError, match=f"finite '{name}', got"):
            load_bundle(folder)


def test_names_shapes_and_dtypes_are_exact(folder: Path, weights: Weights, sealed: Callable[..., None]) -> None:
    for name, array in weights.items():
        wrong = {
            "missing": ({key: value for key, value in weights.items() if key != name}, f"'{name}'.*got none"),
            "unknown": (weights | {name + "_": array}, f"got '{name}_'"),
            "float64": (weights | {name: array.astype(np.float64)}, f"'{name}' of shape .* got .* float64"),
            "shape": (weights | {name: array[None]}, f"'{name}' of shape"),
        }
        for tensors, message in wrong.values():
            sealed(folder, weights=tensors)
            with pytest.raises(BundleError, match=message):
                load_bundle(folder)
    sealed(folder, weights=weights)
    load_bundle(folder)


def test_a_standard_deviation_of_zero_is_named(folder: Path, weights: Weights, sealed: Callable[..., None]) -> None:
    weights["space.std"][2] = 0.0
    sealed(folder, weights=weights)
    with pytest.raises(BundleError, match=r"std > 0, got 0\.0"):
        load_bundle(folder)


def test_golden_pairs_catch_weights_that_the_manifest_cannot(
    folder: Path, weights: Weights, sealed: Callable[..., None]
) -> None:
    for name in weights:
        sealed(folder, weights=weights | {name: weights[name] * np.float32(1.001)})
        with pytest.raises(BundleError, match="expected golden 'out"):
            load_bundle(folder)


def test_weights_so_large_that_outputs_overflow_are_refused(
    tmp_path: Path, skill_contract: BundleContract, weights: Weights, written: Write
) -> None:
    huge = {name: array * np.float32(1e30) for name, array in weights.items()}
    with pytest.raises(BundleError, match="golden"):
        written(tmp_path / "bundle", skill_contract, huge)


def test_random_damage_never_escapes_as_another_error(folder: Path, sealed: Callable[..., None]) -> None:
    """Mutants whose manifest was recomputed: loaded equal, or refused; a crash of the parser is neither."""
    rng = np.random.default_rng(1)
    for name in ("bundle.json", "weights.safetensors", "golden.safetensors"):
        good = (folder / name).read_bytes()
        for _ in range(80):
            bad = bytearray(good)
            bad[int(rng.integers(0, min(len(good), 1200)))] = int(rng.integers(0, 256))
            (folder / name).write_bytes(bytes(bad))
            sealed(folder)
            with contextlib.suppress(BundleError):
                load_bundle(folder)
        (folder / name).write_bytes(good)
    sealed(folder)
    load_bundle(folder)


def test_an_existing_path_is_not_overwritten(
    folder: Path, skill_contract: BundleContract, weights: Weights, written: Write
) -> None:
    before = load_bundle(folder).digest
    with pytest.raises(BundleError, match="path that does not exist"):
        written(folder, skill_contract, weights)
    assert load_bundle(folder).digest == before
    assert not folder.with_name("bundle.partial").exists()


def test_one_writer_at_a_time(tmp_path: Path, skill_contract: BundleContract, weights: Weights, written: Write) -> None:
    partial = tmp_path / "bundle.partial"
    partial.mkdir()
    (partial / "junk").write_bytes(b"left by a killed writer")
    descriptor = os.open(partial, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(BundleError, match="only writer"):
        written(tmp_path / "bundle", skill_contract, weights)
    assert os.listdir(partial) == ["junk"]
    os.close(descriptor)
    written(tmp_path / "bundle", skill_contract, weights)
    assert os.listdir(tmp_path) == ["bundle"]


def test_a_disk_that_refuses_leaves_nothing(
    tmp_path: Path, skill_contract: BundleContract, weights: Weights, written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("supple.adapt.bundle_folder.os.rename", refuse)
    with pytest.raises(BundleError, match="No space left on device"):
        written(tmp_path / "bundle", skill_contract, weights)
    assert os.listdir(tmp_path) == []


KILLED_WRITER = """
import json, os, signal, sys
from safetensors.numpy import load_file
from supple.adapt import bundle
from supple.adapt.contract import BundleContract

calls = 0
def killing(function):
    def wrapper(*arguments):
        global calls
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return function(*arguments)
    return wrapper

os.fsync, os.rename = killing(os.fsync), killing(os.rename)
data = BundleContract.from_json(json.load(open(sys.argv[2])))
bundle.write_bundle(sys.argv[4], contract=data, weights=load_file(sys.argv[3]), golden=load_file(sys.argv[5]))
"""


def test_a_kill_at_any_point_leaves_the_whole_bundle_or_none(
    tmp_path: Path, skill_contract: BundleContract, weights: Weights, written: Write
) -> None:
    """Kills before each fsync and rename: 5 files, the folder, the rename, the parent."""
    (tmp_path / "contract.json").write_text(json.dumps(skill_contract.to_json()))
    save_file(weights, tmp_path / "weights.safetensors")
    save_file(dict(written(tmp_path / "first", skill_contract, weights).golden), tmp_path / "golden.safetensors")
    target = tmp_path / "out" / "bundle"
    published = []
    for point in range(9):
        arguments = [str(point), str(tmp_path / "contract.json"), str(tmp_path / "weights.safetensors"), str(target)]
        arguments.append(str(tmp_path / "golden.safetensors"))
        child = subprocess.run([sys.executable, "-c", KILLED_WRITER, *arguments], check=False, capture_output=True)
        assert child.returncode == (-signal.SIGKILL if point < 8 else 0), child.stderr.decode()
        published.append(target.exists())
        if target.exists():
            load_bundle(target)
            shutil.rmtree(target)
    assert published == [False] * 7 + [True] * 2
    written(target, skill_contract, weights)
    assert os.listdir(target.parent) == ["bundle"]


def test_the_robot_must_be_the_one_of_the_bundle(folder: Path, spec: RobotSpec) -> None:
    bundle = load_bundle(folder)
    require_robot(bundle.contract, spec)
    require_robot(bundle.contract, replace(spec, name="another point"))
    x, y = spec.action.axes
    wrong = {
        "fx": replace(spec, action=ArraySpec("action", (replace(x, high=2.0), y))),
        "'fy', 'fx'": replace(spec, action=ArraySpec("action", (y, x))),
        "got 'Nm'": replace(spec, action=ArraySpec("action", (x, replace(y, unit="Nm")))),
        "observation": replace(spec, observation=ArraySpec("observation", spec.observation.axes[:3])),
        "control_period": replace(spec, control_period=0.01),
        "goal": replace(spec, goal=ArraySpec("goal", spec.goal.axes[::-1])),
    }
    for message, other in wrong.items():
        with pytest.raises(BundleError, match=message):
            require_robot(bundle.contract, other)


HOSTILE = (
    *(10**38, -(10**38), 2**63, 2**31, 1e308, 5e-324, -1, 0, 0.5, 1.0, 2.0),
    *(True, False, None, "", "x", [], {}, [[]], {"a": 1}),
)
"""What a faulty disk, a foreign program or a person may have put in place of a value."""


def find_places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for name, item in items for found in find_places(item, (*place, name)))]


@pytest.mark.parametrize("source", ["today", "version_1_skill"])
def test_whatever_stands_in_place_of_a_value_is_read_or_refused(
    folder: Path, tmp_path: Path, sealed: Callable[..., None], source: str
) -> None:
    """150 values of each bundle, chosen at random, through `load_bundle` and `supple info`."""
    if source != "today":
        folder = Path(shutil.copytree(Path(__file__).parent / "data" / source, tmp_path / source))
    text = (folder / "bundle.json").read_text()
    places = [place for place in find_places(json.loads(text)) if "provenance" not in place[1:]]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        data: Any = {"all": json.loads(text)}
        *way, last = ("all", *places[rng.integers(len(places))])
        inner = data
        for name in way:
            inner = inner[name]
        inner[last] = HOSTILE[rng.integers(len(HOSTILE))]
        (folder / "bundle.json").write_text(json.dumps(data["all"]))
        sealed(folder)
        try:
            describe_bundle(folder)
        except BundleError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("version", [True, 1.0, 2.0, "2", None, 10**38])
def test_a_version_is_a_whole_number(folder: Path, sealed: Callable[..., None], version: object) -> None:
    data = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(data | {"schema_version": version}))
    sealed(folder)
    with pytest.raises(BundleError, match="schema_version: expected 1 or 2 or 3, got"):
        load_bundle(folder)


def test_commands_of_a_policy_that_ran_away_are_compared_on_the_scale_of_its_latents() -> None:
    """Latents of 50 are five times the ordinary ones: 1e-4 becomes 5e-4 for what is computed from them."""
    shape = (EPISODES, 2, 3, 2)
    record = {"out.latent": np.full(shape, 50.0), "out.action": np.zeros(shape)}
    for away, latents, good in ((4e-4, 50.0, True), (6e-4, 50.0, False), (2e-4, 10.0, False), (0.9e-4, 10.0, True)):
        record["out.latent"] = np.full(shape, latents)
        outputs = {"out.latent": record["out.latent"], "out.action": np.full(shape, away)}
        with nullcontext() if good else pytest.raises(BundleError, match=r"expected golden 'out\.action'"):
            require_trial(record, outputs, "here")


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "MANIFEST.sha256"])
def test_a_file_of_a_bundle_that_no_memory_holds_is_refused_by_name(folder: Path, name: str) -> None:
    os.truncate(folder / name, 1 << 40)  # a sparse file
    with pytest.raises(BundleError, match=rf"{re.escape(name)}: expected at most 1073741824 bytes, got 1099511627776"):
        read_files(folder)
