"""What is deployed acts as the bundle's agent: in ONNX Runtime and in C++, of every kind, adapted or not."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.acting_path import BUILDERS, make_acting_path
from supple.adapt.agents.kinds import KINDS
from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.host.plain_policy import write_task_policy
from supple.adapt.runtime_agent import RandomNoise
from supple.adapt.session import AgentSession
from supple.errors import BundleError
from supple.pipeline.deploy.cpp_path import compile_program, find_compiler, open_cpp
from supple.pipeline.deploy.graph_file import make_graph_file, seal
from supple.pipeline.deploy.onnx_graph import OnnxPath, make_onnx
from supple.pipeline.deploy.parity import measure_parity

CPP = Path(__file__).parents[3] / "pipeline" / "deploy" / "template" / "cpp"
CASES = [
    (kind, space)
    for kind in KINDS
    for space in ("choice", "skill", "unit")
    if not (space == "choice" and kind in ("simpl", "spirl"))
]
OK, NO_EPISODE, BAD_OBSERVATION, BAD_ACTION, OUT_OF_REACH = range(5)
"""`supple::Status`."""
Make = Callable[..., Bundle]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The controller in C++, compiled with every warning."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no compiler of C++")
    path = tmp_path_factory.mktemp("cpp") / "run"
    compile_program(compiler, CPP / "run.cpp", path)
    return path


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bundle_of: Make) -> Bundle:
    return bundle_of(tmp_path_factory.mktemp("bundles") / "bundle", *request.param)


def require_parity(bundle: Bundle, found: dict[str, dict[str, float]]) -> None:
    assert found.keys() == {"golden", "random"}
    for largest in found.values():
        assert largest["latent"] <= (0.0 if bundle.contract.space.name == "choice" else 1e-4)
        assert largest["action"] <= 1e-5


def test_every_kind_has_a_builder_or_a_plain_policy(bundle: Bundle) -> None:
    assert bundle.contract.kind in BUILDERS or bundle.kind.policy is not None


def test_onnx_acts_as_the_agent(bundle: Bundle) -> None:
    path = make_acting_path(bundle)
    models = {graph.name: make_onnx(graph, {}) for graph in path.graphs}
    require_parity(bundle, measure_parity(bundle, path, OnnxPath(path, models)))


def test_cpp_acts_as_the_agent(bundle: Bundle, program: Path, tmp_path: Path) -> None:
    path, file = make_acting_path(bundle), tmp_path / "path.supple"
    file.write_bytes(make_graph_file(path, bundle.contract, bundle.digest))
    with open_cpp(path, program, file) as cpp:
        require_parity(bundle, measure_parity(bundle, path, cpp))


class Controller:
    """`supple::Policy` in a child process."""

    def __init__(self, program: Path, file: Path, axes: int) -> None:
        self._axes = axes
        self._process = subprocess.Popen([program, file, "act"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(self, call: int, seen: Any = (), reward: float = 0.0) -> None:
        assert self._process.stdin is not None
        numbers = np.float32([*seen, reward]).tobytes() if call >= 2 else b""
        self._process.stdin.write(np.int32(call).tobytes() + numbers)
        self._process.stdin.flush()

    def act(self, seen: Any, reward: float) -> tuple[int, Any]:
        self.tell(2, seen, reward)
        assert self._process.stdout is not None
        answer = np.frombuffer(self._process.stdout.read(4 * (1 + self._axes)), np.float32)
        return int(answer[0]), answer[1:]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=10) == 0
        self._process.stdout.close()


def make_controller(bundle: Bundle, program: Path, folder: Path) -> Controller:
    file = folder / "path.supple"
    file.write_bytes(make_graph_file(make_acting_path(bundle), bundle.contract, bundle.digest))
    return Controller(program, file, bundle.contract.action_dim)


def test_the_controller_in_cpp_tells_a_robot_what_a_session_does(bundle: Bundle, program: Path, tmp_path: Path) -> None:
    """Three episodes of different lengths: latents are held, memories last, commands keep limits and rate limits."""
    controller, session = make_controller(bundle, program, tmp_path), AgentSession(bundle, greedy=True)
    rng, spec = np.random.default_rng(3), bundle.contract.robot
    session.reset(task=True)
    controller.tell(0)
    changed, last = 0, np.full(bundle.contract.action_dim, np.nan)
    for episode, length in enumerate((9, 24, 5)):
        if episode:
            session.reset()
        controller.tell(1)
        reward = 0.0
        for _ in range(length):
            seen = rng.uniform(-0.9, 0.9, 4).astype(np.float32)
            status, told = controller.act(seen, reward)
            action = session.act(seen)
            assert status == OK
            np.testing.assert_allclose(told, action, rtol=1e-5, atol=1e-5)
            assert (told >= spec.action.inner_low).all()
            assert (told <= spec.action.inner_high).all()
            changed += int((told != last).any())
            last = told
            reward = float(np.float32(rng.standard_normal()))
            session.observe(reward)
        seen = rng.uniform(-0.9, 0.9, 4).astype(np.float32)
        if bundle.contract.kind in ("rl2", "varibad"):  # what others infer from episodes is no part of the path
            session.end_episode(seen, terminated=False)
        controller.tell(3, seen, reward)
    controller.close()
    assert changed > 2  # a choice may be the likeliest one in most places


@pytest.fixture
def one(tmp_path: Path, bundle_of: Make) -> Bundle:
    return bundle_of(tmp_path / "one", "policy", "skill")


def test_the_controller_in_cpp_says_what_is_wrong_and_tells_nothing(one: Bundle, program: Path, tmp_path: Path) -> None:
    controller = make_controller(one, program, tmp_path)
    good = np.zeros(4, np.float32)
    assert controller.act(good, 0.0)[0] == NO_EPISODE
    for value in (np.nan, np.inf, -np.inf):
        for seen, reward in (([0.0, value, 0.0, 0.0], 0.0), (good, value)):
            controller.tell(1)
            assert controller.act(good, 0.0)[0] == OK
            assert controller.act(seen, reward)[0] == BAD_OBSERVATION
            assert controller.act(good, 0.0)[0] == NO_EPISODE  # a robot that was stopped is not commanded on
    controller.tell(1)
    assert controller.act(good, 0.0)[0] == OK
    assert controller.act(np.full(4, 3e38), 0.0)[0] in (BAD_ACTION, OK)
    controller.tell(1)
    assert controller.act([1.5, 0.0, 0.0, 0.0], 0.0)[0] == OUT_OF_REACH  # 1.5 rad is half a radian beyond the limit
    controller.tell(1)
    assert controller.act([1.04, 0.0, 0.0, 0.0], 0.0)[0] == OK  # one step of 0.05 rad leads back
    controller.close()


@pytest.mark.parametrize("kind", ["rl2", "varibad"])
def test_a_wild_number_is_no_end_of_what_a_controller_in_cpp_remembers(
    kind: str, program: Path, tmp_path: Path, bundle_of: Make
) -> None:
    controller = make_controller(bundle_of(tmp_path / "bundle", kind, "unit"), program, tmp_path)
    good, wild = np.zeros(4, np.float32), np.full(4, 3e38, np.float32)
    controller.tell(0)

    def begin_well() -> None:
        controller.tell(1)
        assert controller.act(good, 0.0)[0] == OK

    begin_well()
    assert controller.act(wild, 0.0)[0] in (BAD_ACTION, OK)
    begin_well()
    for _ in range(3):  # the sum of the rewards is infinite
        controller.act(good, 3e38)
    begin_well()
    for seen, reward in ((wild, 0.0), (np.full(4, np.nan), 0.0), (good, np.inf)):
        controller.tell(3, seen, reward)
        begin_well()
    controller.close()


LOCALE = """#include <cstdio>
#include "supple_policy.hpp"
struct German : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\\3"; }
};
int main(int, char** words) {
  std::locale::global(std::locale(std::locale(), new German));
  std::printf("%.3f", supple::Policy(words[1]).period);
}
"""


def test_a_program_of_another_locale_reads_the_file(one: Bundle, tmp_path: Path) -> None:
    """A program with a window takes the locale of its user: numbers in files of ours are read as they are written."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no compiler of C++")
    (tmp_path / "german.cpp").write_text(LOCALE)
    (tmp_path / "path.supple").write_bytes(make_graph_file(make_acting_path(one), one.contract, one.digest))
    (tmp_path / "supple_policy.hpp").write_bytes((CPP / "supple_policy.hpp").read_bytes())
    quickly = [compiler, "-std=c++17", "-O0", "-o", tmp_path / "german", tmp_path / "german.cpp"]
    subprocess.run(quickly, check=True)
    done = subprocess.run([tmp_path / "german", tmp_path / "path.supple"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0.010")


def list_damages(file: bytes) -> Iterator[bytes]:
    """A file cut anywhere or with a flipped bit; and others that somebody made with care."""
    for place in range(0, len(file), max(1, len(file) // 40)):
        yield file[:place]
        yield file[:place] + bytes([file[place] ^ 1]) + file[place + 1 :]
    content = file.partition(b"\n")[2]
    yield seal(content + b"\0")
    text, data = content.split(b"\ndata ")
    head = data.index(b"\n") + 1
    lines = text.split(b"\n")
    for index, line in enumerate(lines):
        if not line.startswith((b"bundle", b"reward", b"noise", b"end")):
            yield seal(b"\n".join([*lines[:index], *lines[index + 1 :]]) + b"\ndata " + data)
        if index % 5 == 0:
            yield seal(b"\n".join([*lines[:index], b"op x " + line, *lines[index + 1 :]]) + b"\ndata " + data)
    yield seal(text + b"\ndata " + data[:head] + np.float32([np.nan]).tobytes() + data[head + 4 :])


def test_a_damaged_file_is_refused_by_the_controller_in_cpp(one: Bundle, program: Path, tmp_path: Path) -> None:
    content = make_graph_file(make_acting_path(one), one.contract, one.digest)
    file, refused = tmp_path / "path.supple", 0
    for damaged in list_damages(content):
        file.write_bytes(damaged)
        done = subprocess.run([program, file, "graphs"], input=b"", capture_output=True, check=False)
        assert done.returncode == 2, damaged[:3000]
        assert done.stderr.startswith(b"acting path: expected ")
        refused += 1
    assert refused > 80


ADAPTING = ("maesn", "pearl", "pearl-ft", "rl2", "simpl", "varibad", "recurrent-updater", "mlsh")


@pytest.mark.parametrize("kind", ADAPTING)
def test_an_adapted_bundle_acts_by_what_it_knows(kind: str, tmp_path: Path, bundle_of: Make) -> None:
    first = bundle_of(tmp_path / "first", kind, "unit")
    session = AgentSession(first, seed=1)
    rng = np.random.default_rng(0)
    for _ in range(3):
        session.reset()
        for _ in range(20):
            session.act(rng.uniform(-0.9, 0.9, 4))
            session.observe(float(rng.standard_normal()))
        session.end_episode(rng.uniform(-0.9, 0.9, 4), terminated=False)
    session.adapt()
    agent = first.make_agent(RandomNoise(rng))
    agent.load_state(session.state())
    adapted = write_task_policy(tmp_path / "adapted", first, agent, 0, {"task": "one"})
    path, before = make_acting_path(load_bundle(tmp_path / "adapted")), make_acting_path(first)
    models = {graph.name: make_onnx(graph, {}) for graph in path.graphs}
    require_parity(adapted, measure_parity(adapted, path, OnnxPath(path, models)))
    files = {make_graph_file(each, first.contract, "") for each in (path, before)}
    assert len(files) == (1 if kind == "mlsh" else 2)  # MLSH learns on a host alone


class Skewed:
    """A runtime that is a little wrong."""

    def __init__(self, inside: Any) -> None:
        self._inside = inside

    def run(self, name: str, inputs: Any) -> Any:
        return {key: value + np.float32(3e-4) for key, value in self._inside.run(name, inputs).items()}


def test_a_runtime_that_computes_otherwise_is_refused(one: Bundle) -> None:
    path = make_acting_path(one)
    models = {graph.name: make_onnx(graph, {}) for graph in path.graphs}
    with pytest.raises(BundleError, match="latent on golden inputs: expected that of the bundle's agent within"):
        measure_parity(one, path, Skewed(OnnxPath(path, models)))


def test_greedy_kinds_take_no_noise(tmp_path: Path, bundle_of: Make) -> None:
    path = make_acting_path(bundle_of(tmp_path / "greedy", "policy", "skill", greedy=True))
    assert path.noise == {}
    assert "noise" not in path.policy.inputs
