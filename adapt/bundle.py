"""A SiMPL policy bundle on disk: a directory that is written whole or not at all, and verified before it is used.

    bundle.json            the contract (`contract.py`)
    weights.safetensors    every weight, float32
    golden.safetensors     recorded inputs and outputs, recomputed at every load
    README.md              a card for people
    MANIFEST.sha256        digest of every other file; `sha256sum -c MANIFEST.sha256` checks it too

A bundle holds data only: JSON and safetensors, no pickle and no code. Its digest is that of the manifest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, SpecError
from ..robots.spec import RobotSpec
from .bundle_folder import (
    CARD,
    CONTRACT,
    GOLDEN,
    WEIGHTS,
    digest_of,
    json_bytes,
    parse_contract,
    parse_tensors,
    read_files,
    tensor_bytes,
    write_files,
)
from .bundle_folder import MANIFEST as MANIFEST
from .contract import BundleContract, Weights
from .golden import check_golden, compute_golden_outputs, make_golden_inputs, require_golden


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
        CONTRACT: json_bytes(checked.to_json()),
        CARD: _card(checked).encode(),
        GOLDEN: tensor_bytes(golden),
        WEIGHTS: tensor_bytes(weights),
    }
    _verify(contents, digest_of(contents), target)
    return write_files(target, contents, load_bundle)


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Reads a bundle and verifies it: files, digests, schema, shapes, finiteness, golden pairs.

    Args:
        path: The bundle's directory.

    Raises:
        BundleError: Names what is wrong and what to do.
    """
    contents, digest = read_files(path)
    return _verify(contents, digest, Path(path))


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
    contract = BundleContract.from_json(parse_contract(contents[CONTRACT], where / CONTRACT))
    weights = parse_tensors(contents[WEIGHTS], where / WEIGHTS)
    contract.check_weights(weights, str(where / WEIGHTS))
    golden = parse_tensors(contents[GOLDEN], where / GOLDEN)
    check_golden(contract, golden, str(where / GOLDEN))
    with np.errstate(all="ignore"):
        outputs = compute_golden_outputs(contract, weights, golden)
    require_golden(golden, outputs, str(where / WEIGHTS))
    return Bundle(contract, weights, golden, digest)


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
