"""The folder for a robot's computer: bundle, runtime, ONNX and a controller in C++, all compared with the bundle.

    README.md            inputs, outputs, units, order of the axes, rate, how to run each part
    interface.json       the same for programs, and the parity of each runtime
    requirements.txt     numpy and safetensors, in the versions of the machine that made the folder
    bundle/              the bundle; `supple adapt` and `loop.py` read it
    supple/              the modules of the runtime, as they are
    loop.py              a control loop in Python
    onnx/                policy.onnx, decoder.onnx, and end_episode.onnx for a belief
    cpp/                 acting_path.supple, supple_policy.hpp (no library), run.cpp, an example for ros2_control
    MANIFEST.sha256      `sha256sum -c MANIFEST.sha256` checks all files

Nothing in it depends on where it was made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from ... import __version__
from ...adapt.acting_path import NEXT, QUIET, ActingPath, make_acting_path
from ...adapt.bundle import Bundle, load_bundle
from ...adapt.bundle_folder import FILES, MANIFEST, OPTIONAL, find_bundle
from ...adapt.eye import EyeSettings
from ...adapt.graph import Graph
from ...errors import RunError
from ...plain_files import list_plain_files
from ...robots.spec import ImageSpec
from ..folder import refuse_place
from ..keys import PACKAGE_ROOT, compute_file_digest, list_code
from .cpp_path import compile_program, find_compiler, open_cpp
from .graph_file import make_graph_file
from .onnx_graph import OnnxPath, make_onnx
from .parity import measure_parity

RUNTIME = (
    *("adapt/session.py", "adapt/loop.py", "adapt/numpy_policy.py", "adapt/safety.py", "adapt/watchdog.py"),
    *("robots/cadence.py", "adapt/remote/client.py"),
)
"""Modules that are copied, with all that they import of ours."""
PATH_FILE = "acting_path.supple"
IMPORT_TIME = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import numpy, safetensors.numpy
began = time.process_time()
import supple.adapt.session
print(json.dumps([time.process_time() - began, sorted({name.split(".")[0] for name in sys.modules})]))
"""
HEAVY = {"torch", "mujoco", "zarr", "h5py", "scipy"}
NOT_COMPARED = "not compared: no compiler of C++ was found"


def make_folder(source: Path, out: Path) -> dict[str, Any]:
    """Writes the folder, whole or not at all, and returns what `interface.json` says.

    Args:
        source: A bundle, or a folder of `export` or `run` that holds one.
        out: The folder to make; it must not exist.

    Raises:
        BundleError: The bundle is damaged, or a runtime does not act as its agent.
        SpecError: An action axis of the robot has no limits.
        RunError: The place is taken, or cannot be written to.
    """
    place = find_bundle(source)
    bundle = load_bundle(place)
    refuse_place(out, [place])
    if os.path.lexists(out):
        raise RunError(f"{out}: expected a path that does not exist, got an existing one; remove it or pass another")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
            folder = Path(work) / "folder"
            interface = _fill(folder, place, bundle)
            os.rename(folder, out)
    except OSError as error:
        raise RunError(f"{out}: expected to write a folder, got '{error}'; free space or pass another --out") from error
    return interface


def _fill(folder: Path, place: Path, bundle: Bundle) -> dict[str, Any]:
    path = make_acting_path(bundle)
    (folder / "bundle").mkdir(parents=True)
    for name in (*FILES, MANIFEST, *(one for one in OPTIONAL if (place / one).exists())):
        shutil.copyfile(place / name, folder / "bundle" / name)
    template = files(__package__) / "template"
    (folder / "loop.py").write_text((template / "loop.py").read_text())
    names = set(list_code(RUNTIME))
    names |= {f"{parent}/__init__.py".removeprefix("./") for name in names for parent in Path(name).parents}
    for name in sorted(names):
        target = folder / "supple" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE_ROOT / name, target)
    pins = [f"{name}=={metadata.version(name)}" for name in ("numpy", "safetensors")]
    (folder / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins))
    interface = describe_interface(bundle, path)
    interface["parity"] = {
        "onnxruntime": _write_onnx(folder / "onnx", bundle, path),
        "cpp": _write_cpp(folder / "cpp", bundle, path),
    }
    interface["import_ms"] = measure_import(folder)
    (folder / "interface.json").write_text(json.dumps(interface, indent=2, allow_nan=False) + "\n")
    (folder / "README.md").write_text(make_readme(bundle, path, interface))
    names = set(list_plain_files(folder, RunError))
    lines = [f"{compute_file_digest(folder / name)}  {name}\n" for name in sorted(names)]
    (folder / MANIFEST).write_text("".join(lines))
    return interface


def _write_onnx(folder: Path, bundle: Bundle, path: ActingPath) -> dict[str, dict[str, float]]:
    """Writes the models; their parity."""
    robot = bundle.contract.robot
    facts = {
        "bundle": bundle.digest,
        "control_period": repr(robot.control_period),
        "horizon": str(bundle.contract.space.horizon),
        "observation": json.dumps([[axis.name, axis.unit] for axis in robot.observation.axes]),
        "action": json.dumps([[axis.name, axis.unit] for axis in robot.action.axes]),
    }
    models = {graph.name: make_onnx(graph, facts) for graph in path.graphs}
    folder.mkdir()
    for name, content in models.items():
        (folder / f"{name}.onnx").write_bytes(content)
    return measure_parity(bundle, path, OnnxPath(path, models))


def _write_cpp(folder: Path, bundle: Bundle, path: ActingPath) -> dict[str, dict[str, float]] | str:
    """Writes the controller and its file; their parity."""
    folder.mkdir()
    template = files(__package__) / "template" / "cpp"
    for name in ("supple_policy.hpp", "run.cpp", "ros2_controller.cpp"):
        (folder / name).write_text((template / name).read_text())
    (folder / PATH_FILE).write_bytes(make_graph_file(path, bundle.contract, bundle.digest))
    compiler = find_compiler()
    if compiler is None:
        return NOT_COMPARED
    with tempfile.TemporaryDirectory() as work:
        program = Path(work) / "run"
        compile_program(compiler, folder / "run.cpp", program)
        with open_cpp(path, program, folder / PATH_FILE) as cpp:
            return measure_parity(bundle, path, cpp)


def measure_import(folder: Path, repeats: int = 3) -> float:
    """CPU milliseconds, at best, in which the runtime of the folder loads after numpy and safetensors, once compiled.

    Raises:
        RunError: It does not load, or loads what a robot's computer has not.
    """
    found: list[float] = []
    with tempfile.TemporaryDirectory() as compiled:
        for _ in range(repeats + 1):
            command = [sys.executable, "-I", "-X", f"pycache_prefix={compiled}", "-c", IMPORT_TIME, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RunError(f"{folder}: expected a runtime that loads, got '{done.stderr[-300:]}'; report it")
            seconds, modules = json.loads(done.stdout)
            if heavy := HEAVY & set(modules):
                raise RunError(f"{folder}: expected a runtime of numpy alone, got {sorted(heavy)} loaded; report it")
            found.append(1e3 * seconds)
    return round(min(found), 1)


def describe_interface(bundle: Bundle, path: ActingPath) -> dict[str, Any]:
    """What programs have to know: axes, rate, graphs, and what each input is."""
    contract, robot = bundle.contract, bundle.contract.robot
    image, eye = contract.image, contract.eye
    return {
        "format": 1,
        "supple": __version__,
        "bundle": bundle.digest,
        "kind": contract.kind,
        "adapted": bool(bundle.task) or contract.kind == "policy",
        "control_period": robot.control_period,
        "horizon": contract.space.horizon,
        "observation": robot.observation.to_json()["axes"],
        **(
            {}
            if image is None or eye is None
            else {"picture": {"shape": list(image.shape), "frames": eye.frames, "features": eye.features}}
        ),
        "action": robot.action.to_json()["axes"],
        "choices": list(robot.choices),
        "first_reward": path.reward,
        "graphs": {graph.name: _describe_graph(graph, path) for graph in path.graphs},
    }


def _describe_graph(graph: Graph, path: ActingPath) -> dict[str, Any]:
    return {
        "inputs": {name: {"shape": [1, width], **_describe_input(name, path)} for name, width in graph.inputs.items()},
        "outputs": {name: {"shape": [1, graph.widths[value]]} for name, value in graph.outputs.items()},
    }


def _describe_input(name: str, path: ActingPath) -> dict[str, Any]:
    if name in path.noise:
        return {"is": f"{path.noise[name]} noise, new for each latent", "quiet": QUIET[path.noise[name]]}
    if name in path.state:
        scope = "episode" if name in path.forgotten else "task"
        return {
            "is": f"the output {name}{NEXT} of the run before",
            "at first": path.state[name].tolist(),
            "scope": scope,
        }
    if name in path.episode:
        given = path.episode[name]
        said = {"mean": given.mean.tolist(), "scale": given.scale.tolist()}
        return {"is": "mean + scale * normal noise, drawn at the begin of an episode", **said}
    meaning = {
        "observation": "raw, in the order and the units of `observation`",
        "pictures": "the newest pictures, bytes as numbers: row by row, and at each pixel the oldest one first",
        "latent": "the last output of policy",
        "reward": "sum of the rewards since the latent before was chosen, also across episodes",
        "first": "1 at the first latent of an episode, else 0",
    }
    return {"is": meaning[name]}


def _tell_pictures(image: ImageSpec, eye: EyeSettings) -> list[str]:
    height, width, channels = image.shape
    return [
        "",
        "## Pictures",
        "",
        f"The policy sees. Pictures are {height} x {width} pixels of {channels} bytes, row by row, one a control step.",
        f"The last {eye.features} axes of the observation are what `eye` makes of the newest {eye.frames} of them. The",
        "robot measures the others. In Python and in C++ hand over what is measured, and the picture. A program that",
        "runs ONNX keeps the pictures itself. When an episode begins, the first one stands for those before it.",
    ]


def make_readme(bundle: Bundle, path: ActingPath, interface: dict[str, Any]) -> str:
    """The text for people."""
    contract, robot = bundle.contract, bundle.contract.robot
    horizon, rate = contract.space.horizon, 1.0 / robot.control_period
    lines = [
        f"# A {contract.kind} policy for {robot.name}",
        "",
        f"{bundle.kind.summary} This folder acts at {rate:g} Hz: one action every {robot.control_period:g} s.",
        "It needs no torch and no simulator. It is no safety layer: put one between it and the robot.",
        "",
        "## Order of the axes",
        "",
        "| | index | axis | unit | low | high | largest change per second |",
        "|---|---|---|---|---|---|---|",
    ]
    for spec in (robot.observation, robot.action):
        for index, axis in enumerate(spec.axes):
            limit = "" if axis.rate_limit is None else f"{axis.rate_limit:g}"
            row = (spec.name, index, axis.name, axis.unit, f"{axis.low:g}", f"{axis.high:g}", limit)
            lines.append("| " + " | ".join(map(str, row)) + " |")
    if robot.choices:
        lines += ["", f"The action is the index of a choice: {', '.join(robot.choices)}."]
    if contract.image is not None and contract.eye is not None:
        lines += _tell_pictures(contract.image, contract.eye)
    lines += [
        "",
        "## Python",
        "",
        "    python3 -m pip install -r requirements.txt",
        "    python3 loop.py --seconds 10",
        "",
        f"`supple/` beside `loop.py` is the runtime. It loads in {interface['import_ms']:g} ms of CPU time.",
        "`Robot` in `loop.py` is a stand-in: replace its methods by those of your driver.",
        "",
        "## ONNX",
        "",
        f"Run `policy` every {horizon} control steps, and `decoder` at each. Every tensor is float32 of shape (1, n).",
        "",
        "| graph | input or output | n | what it is |",
        "|---|---|---|---|",
    ]
    for name, graph in interface["graphs"].items():
        for side in ("inputs", "outputs"):
            for tensor, facts in graph[side].items():
                lines.append(f"| {name} | {tensor} | {facts['shape'][1]} | {facts.get('is', 'output')} |")
    lines += [
        "",
        "Noise of the `quiet` value of `interface.json` takes the mean of the policy, or its likeliest choice.",
        "The action is within `low` and `high`. The rate limit is yours to keep in a controller that runs ONNX.",
        "",
        "## C++",
        "",
        "    c++ -std=c++17 -O3 -o run cpp/run.cpp",
        f"    ./run cpp/{PATH_FILE} time 10000",
        "",
        "`cpp/supple_policy.hpp` needs C++17 alone. `supple::Policy` keeps limits and rate limits.",
        "`cpp/ros2_controller.cpp` is an example for ros2_control. It was not compiled.",
        "",
        "## Parity",
        "",
        "Largest difference from the numpy runtime of the bundle, in absolute numbers:",
        "",
        "| runtime | inputs | differences |",
        "|---|---|---|",
    ]
    for runtime, found in interface["parity"].items():
        if isinstance(found, str):
            lines.append(f"| {runtime} | {found} | |")
            continue
        for name, differences in found.items():
            told = ", ".join(f"{output} {value:.1e}" for output, value in differences.items())
            lines.append(f"| {runtime} | {name} | {told} |")
    lines += [
        "",
        "## Adaptation",
        "",
        "The ONNX models and the file of the C++ controller are the policy as it stands. After an adaptation, deploy",
        "the bundle of the task, `policies/<task>` of `supple adapt`. The Python runtime adapts here, too, where the",
        "kind needs no gradients: `AgentSession.end_episode` and `AgentSession.adapt`.",
        "",
    ]
    return "\n".join(lines)
