"""`supple deploy` writes a folder that stands alone: bundle, runtime without torch, models, controller, facts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from supple.adapt.bundle import Bundle, load_bundle, write_bundle
from supple.pipeline.cli import main
from supple.pipeline.deploy import folder as deploy_folder

Make = Callable[..., Bundle]
WITHOUT = """
import runpy, sys
for name in ("torch", "mujoco", "onnx", "onnxruntime", "scipy", "rich", "tyro", "websockets", "msgpack"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = ["--seconds", "0.5", "--greedy"]
runpy.run_path(sys.path[0] + "/loop.py", run_name="__main__")
print(sys.modules["supple"].__file__)
"""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, bundle_of: Make) -> tuple[Path, Bundle]:
    place = tmp_path_factory.mktemp("deploy")
    bundle = bundle_of(place / "bundle", "varibad", "skill")
    assert main(["deploy", str(place / "bundle"), "--out", str(place / "out")]) == 0
    return place / "out", bundle


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (
            "sys.modules['numpy'] = None",
            "loop.py: expected the library numpy, got none; run pip install -r requirements",
        ),
        (
            "open(sys.argv[2] + '/bundle/weights.safetensors', 'ab').write(b'x')",
            "expected the sha256 that the manifest",
        ),
    ],
)
def test_what_is_missing_or_damaged_is_one_line(
    deployed: tuple[Path, Bundle], tmp_path: Path, before: str, said: str
) -> None:
    shutil.copytree(deployed[0], tmp_path / "out")
    place = str(tmp_path / "out")
    code = (
        f"import runpy, sys; {before}; sys.argv[1:] = []; runpy.run_path({place!r} + '/loop.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {place!r}); {code}", "-", place]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


STOPPED = """
import runpy, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what ends with &
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup, which the loop respects
sys.path.insert(0, sys.argv[1])
made = runpy.run_path(sys.argv[1] + "/loop.py")
place, space = Path(sys.argv[2]), made["main"].__globals__

class Robot(space["Robot"]):
    def send(self, action):
        (place / "moving").touch()

    def stop(self):
        (place / "stopping").touch()
        time.sleep(0.3)
        (place / "stopped").touch()

space["Robot"] = Robot
sys.argv[1:] = ["--seconds", "60"]
made["main"]()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_the_loop_stops_the_robot_first(
    deployed: tuple[Path, Bundle], tmp_path: Path, number: signal.Signals
) -> None:
    """Before, only a Ctrl-C in the foreground did; a second one must not cut the stop short."""

    def wait_for(name: str) -> None:
        while not (tmp_path / name).exists():
            assert loop.poll() is None
            time.sleep(0.01)

    with subprocess.Popen([sys.executable, "-c", STOPPED, str(deployed[0]), str(tmp_path)]) as loop:
        wait_for("moving")
        loop.send_signal(number)
        wait_for("stopping")
        loop.send_signal(number)
        assert loop.wait(60) == 128 + number
    assert (tmp_path / "stopped").exists()


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "ten"])
def test_a_time_that_is_none_is_refused(deployed: tuple[Path, Bundle], seconds: str) -> None:
    command = [sys.executable, str(deployed[0] / "loop.py"), "--seconds", seconds]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"argument --seconds: invalid seconds value: '{seconds}'")


def test_the_folder_holds_what_its_manifest_lists(deployed: tuple[Path, Bundle]) -> None:
    out, bundle = deployed
    done = subprocess.run(["sha256sum", "--quiet", "-c", "MANIFEST.sha256"], cwd=out, check=False)
    assert done.returncode == 0
    listed = {line.split("  ")[1] for line in (out / "MANIFEST.sha256").read_text().splitlines()}
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == listed | {"MANIFEST.sha256"}
    assert not any("/host/" in name or name.startswith(("supple/meta", "supple/pipeline")) for name in found)
    assert load_bundle(out / "bundle").digest == bundle.digest
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".out")] == []


def test_the_interface_says_order_units_rate_and_parity(deployed: tuple[Path, Bundle]) -> None:
    out, bundle = deployed
    interface = json.loads((out / "interface.json").read_text())
    assert interface["bundle"] == bundle.digest
    assert interface["control_period"] == 0.01
    assert [(axis["name"], axis["unit"]) for axis in interface["action"]] == [("target1", "rad"), ("torque2", "N m")]
    for name, graph in interface["graphs"].items():
        model = onnx.load(out / "onnx" / f"{name}.onnx")
        given = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.input}
        assert given == {tensor: facts["shape"] for tensor, facts in graph["inputs"].items()}
        assert [value.name for value in model.graph.output] == list(graph["outputs"])
        assert {entry.key: entry.value for entry in model.metadata_props}["bundle"] == bundle.digest
    assert interface["graphs"]["policy"]["inputs"]["memory"]["is"] == "the output memory.next of the run before"
    for runtime, found in interface["parity"].items():
        assert isinstance(found, dict) or (runtime, found) == ("cpp", deploy_folder.NOT_COMPARED)
    text = (out / "README.md").read_text()
    for line in ("| action | 0 | target1 | rad | -1 | 1 | 5 |", "acts at 100 Hz", "Run `policy` every 4 control steps"):
        assert line in text


def test_the_loop_runs_without_anything_but_numpy_and_safetensors(deployed: tuple[Path, Bundle]) -> None:
    command = [sys.executable, "-I", "-c", WITHOUT, str(deployed[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report, home = done.stdout.splitlines()
    assert json.loads(report)["periods"] == 50
    assert home == str(deployed[0] / "supple" / "__init__.py")


def test_a_bundle_with_logs_is_deployed_whole_and_the_loop_is_led_by_them(tmp_path: Path, bundle_of: Make) -> None:
    bare = bundle_of(tmp_path / "bare", "spirl", "skill")
    dim, latent = bare.contract.observation_dim, bare.contract.space.latent_dim
    logs = {
        "event.point": np.zeros((2, 1), np.float16),
        "event.skill": np.zeros((2, latent), np.float16),
        "event.next": np.arange(2, dtype=np.int16),
        "event.left": np.ones(2, np.int16),
        "event.axes": np.ones((1, dim), np.float32),
        "event.detector": np.tile(np.append(np.zeros(dim), 1.0), (2, 1)).astype(np.float32),
        "event.prior": np.full((1, 2), 0.5, np.float32),
        "event.unit": np.ones(1, np.float32),
    }
    parts = {"contract": bare.contract, "weights": bare.weights, "golden": bare.golden}
    bundle = write_bundle(tmp_path / "bundle", **parts, logs=logs)
    assert main(["deploy", str(tmp_path / "bundle"), "--out", str(tmp_path / "out")]) == 0
    assert load_bundle(tmp_path / "out" / "bundle").digest == bundle.digest
    command = [sys.executable, "-I", "-c", WITHOUT, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_runtime_loads_about_as_fast_as_numpy(deployed: tuple[Path, Bundle]) -> None:
    """The bound of 100 ms is for an idle machine, where numpy takes about that; a busy one slows both."""
    code = (
        "import time; began = time.process_time(); import numpy, safetensors.numpy; print(time.process_time() - began)"
    )
    numpy_ms = [
        1e3 * float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert deploy_folder.measure_import(deployed[0]) < 1.5 * min(numpy_ms)


def test_a_place_that_is_taken_is_left_alone(
    deployed: tuple[Path, Bundle], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert main(["deploy", str(deployed[0] / "bundle"), "--out", str(out)]) == 2
    assert "out: expected a path that does not exist, got an existing one" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_a_bundle_that_no_runtime_plays_makes_no_folder(
    deployed: tuple[Path, Bundle], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = deploy_folder.OnnxPath.run

    def skew(self: Any, name: str, inputs: Any) -> Any:
        return {key: value * np.float32(1.001) for key, value in run(self, name, inputs).items()}

    monkeypatch.setattr(deploy_folder.OnnxPath, "run", skew)
    assert main(["deploy", str(deployed[0] / "bundle"), "--out", str(tmp_path / "out"), "--json"]) == 2
    said = capsys.readouterr()
    assert "this runtime computes otherwise: do not deploy it" in said.err
    assert json.loads(said.out)["type"] == "BundleError"
    assert list(tmp_path.iterdir()) == []


def test_nothing_reports_to_the_maker_of_a_library(tmp_path: Path, deployed: tuple[Path, Bundle]) -> None:
    """ONNX Runtime writes an identifier of the machine to the user's home when it reports."""
    code = (
        "import sys; from pathlib import Path; from supple.pipeline.deploy.onnx_graph import make_session; "
        "make_session(Path(sys.argv[1]).read_bytes()); import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    environment.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-c", code, str(deployed[0] / "onnx" / "policy.onnx")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("1", "")
    assert not list(tmp_path.rglob("*"))
