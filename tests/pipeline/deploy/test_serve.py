"""`supple serve`: a client gets what the agent chooses, within limits; no message whatever brings the server down."""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from supple.adapt.bundle import Bundle
from supple.adapt.remote.client import PolicyClient, PolicyError
from supple.adapt.remote.messages import MOST_BYTES, VERBS, Request, read_request
from supple.adapt.remote.server import MOST_CLIENTS, MOST_SNAPSHOTS, PolicyServer, serve_policy
from supple.adapt.session import AgentSession
from supple.errors import RobotFault, SpecError
from supple.pipeline.cli import main

Make = Callable[..., Bundle]
TOKEN = "a token of sixteen or more"


class Served:
    """A server in a thread."""

    def __init__(self, bundle: Bundle, *, adapts: bool = True) -> None:
        self.session = AgentSession(bundle, seed=5)
        self.policy = PolicyServer(self.session, {"kind": bundle.contract.kind}, adapts=adapts)
        self._server = serve_policy(self.policy, "127.0.0.1", 0, TOKEN)
        self.port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def client(self, token: str = TOKEN) -> PolicyClient:
        return PolicyClient(self.url, token, timeout=20.0)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, bundle_of: Make) -> Bundle:
    return bundle_of(tmp_path_factory.mktemp("serve") / "bundle", "recurrent-updater", "skill")


@pytest.fixture
def served(bundle: Bundle) -> Iterator[Served]:
    one = Served(bundle)
    try:
        yield one
    finally:
        one.close()


def play(policy: Any, rng: np.random.Generator, steps: int = 6) -> list[list[float]]:
    """An episode of a client or of a session; the actions."""
    policy.reset()
    actions = []
    for _ in range(steps):
        told = policy.act(rng.uniform(-0.9, 0.9, 4))
        actions.append(told["action"] if isinstance(told, dict) else told.tolist())
        policy.observe(float(rng.standard_normal()))
    policy.end_episode(rng.uniform(-0.9, 0.9, 4), terminated=True)
    return actions


def test_a_client_gets_exactly_what_a_session_in_the_same_process_does(bundle: Bundle, served: Served) -> None:
    with served.client() as client:
        found, wanted = [], []
        for policy, actions in ((client, found), (AgentSession(bundle, seed=5), wanted)):
            rng = np.random.default_rng(0)
            actions.append(play(policy, rng))
            policy.adapt()
            actions.append(play(policy, rng))
        assert found == wanted
        assert client.health()["adaptations"] == 1


def test_a_snapshot_is_rolled_back_to(served: Served) -> None:
    with served.client() as client:
        play(client, np.random.default_rng(0))
        first = client.snapshot()["snapshot"]
        before = served.session.state()
        client.adapt()
        after = served.session.state()
        assert any(not np.array_equal(value, after[name]) for name, value in before.items() if name in after)
        assert client.rollback(first)["adaptations"] == 0
        again = served.session.state()
        assert before.keys() == again.keys()
        for name, value in before.items():
            np.testing.assert_array_equal(value, again[name])
        for _ in range(MOST_SNAPSHOTS):
            client.snapshot()
        with pytest.raises(PolicyError, match="rollback: expected one of the snapshots"):
            client.rollback(first)


def test_actions_keep_limits_and_rate_limits_whatever_is_observed(served: Served) -> None:
    spec = served.session.contract.robot
    change = np.array([axis.rate_limit for axis in spec.action.axes], np.float64) * spec.control_period
    rng, told, refused = np.random.default_rng(1), 0, list[str]()
    with served.client() as client:
        for scale in (1.0, 1e3, 1e9, 1e30):
            client.reset(task=True)
            last: Any = None
            for _ in range(20):
                seen = rng.standard_normal(4) * scale
                seen[0] = np.clip(seen[0], -0.9, 0.9) if last is None else seen[0]
                try:
                    action = np.array(client.act(seen)["action"])
                except PolicyError as error:
                    refused.append(str(error))
                    break
                told += 1
                assert (action >= spec.action.inner_low).all()
                assert (action <= spec.action.inner_high).all()
                assert last is None or (np.abs(action - last) <= change).all()
                last = action
    assert told > 40
    assert all("expected a finite command" in said for said in refused)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_numbers_that_are_none_are_refused(value: float, served: Served) -> None:
    with served.client() as client:
        client.reset()
        with pytest.raises(PolicyError, match="SpecError: request: expected numbers as observation of act"):
            client.act([0.0, value, 0.0, 0.0])
        client.act(np.zeros(4))
        with pytest.raises(PolicyError, match="expected a number as reward of observe"):
            client.observe(value)
        with pytest.raises(PolicyError, match="with 4 axes"):
            client.act(np.zeros(5))


def test_rewards_whose_sum_is_not_finite_are_refused_and_nothing_is_learned_of_them(served: Served) -> None:
    with served.client() as client:
        client.reset()
        for step in range(6):  # of two decisions
            client.act(np.zeros(4))
            if step == 0:
                client.observe(2.5e38)
        with pytest.raises(PolicyError, match=r"a finite sum of those of the episode, got 2\.5e\+38"):
            client.observe(2.5e38)
        client.observe(-2.5e38)
        assert np.isfinite(client.end_episode(np.zeros(4), terminated=False)["return"])
        assert all(np.isfinite(value).all() for value in served.session.state().values() if value.dtype.kind == "f")


@pytest.mark.parametrize(("kind", "space"), [("rl2", "raw"), ("varibad", "raw"), ("pearl", "unit"), ("simpl", "skill")])
def test_a_wild_number_is_no_end_of_what_an_agent_knows(tmp_path: Path, bundle_of: Make, kind: str, space: str) -> None:
    """A finite number of a sensor that is far too large. Before, memory and belief were NaN until the next task."""
    session, good, wild = AgentSession(bundle_of(tmp_path / "bundle", kind, space)), np.zeros(4), np.full(4, 3e38)
    session.reset(task=True)

    def play(last: Any, reward: float = 1.0) -> bool:
        for _ in range(5):
            assert np.isfinite(session.act(good)).all()
            session.observe(reward)
        learned = bool(session.end_episode(last, terminated=False)["learned"])
        assert all(np.isfinite(value).all() for value in session.state().values() if value.dtype.kind == "f")
        session.reset()
        return learned

    assert play(good)
    session.act(good)
    with pytest.raises(RobotFault, match="expected a finite command"):
        session.act(wild)
    session.reset()
    assert play(good)
    play(wild)  # whether it can be learned from depends on what the agent does with it
    assert play(good)
    play(good, 5e37)
    assert play(good)


@pytest.mark.parametrize("goal", [[1e9], [-0.1], [1.0, 2.0], [[1.0], [2.0]]])
def test_a_goal_that_is_none_of_the_robot_is_refused(bundle: Bundle, goal: Any) -> None:
    session = AgentSession(bundle)
    with pytest.raises(SpecError, match="goal"):
        session.reset(task=True, goal=goal)
    session.reset(task=True, goal=[20.0])  # the end of its axis


def test_calls_out_of_order_are_refused_and_the_server_goes_on(served: Served) -> None:
    with served.client() as client:
        for call in (
            lambda: client.act(np.zeros(4)),
            lambda: client.observe(0.0),
            lambda: client.end_episode(np.zeros(4), terminated=False),
            client.adapt,
            client.snapshot,
            lambda: client.rollback(1),
        ):
            with pytest.raises(PolicyError, match="expected"):
                call()
        client.reset()
        with pytest.raises(PolicyError, match="expected to be between two episodes of a task, got one under way"):
            client.adapt()
        for _ in range(24):
            client.act(np.zeros(4))
        with pytest.raises(PolicyError, match="expected at most 24 steps in an episode"):
            client.act(np.zeros(4))
        assert client.health()["faults"] == 0


def test_a_client_without_the_token_is_refused(served: Served) -> None:
    for token in ("", "another token of sixteen", TOKEN[:-1], TOKEN + "x"):
        with pytest.raises(PolicyError, match="takes the token, got 'server rejected WebSocket connection: HTTP 401'"):
            served.client(token)
    assert served.policy.counts["requests"] == 0
    with pytest.raises(SpecError, match="token: expected at least 16 characters, got 5"):
        serve_policy(served.policy, "127.0.0.1", 0, "short")


def test_one_client_has_the_robot_and_others_may_look(served: Served) -> None:
    with served.client() as first, served.client() as second:
        first.reset()
        with pytest.raises(PolicyError, match="expected a free robot"):
            second.reset()
        assert second.health()["running"] is True
        first.close()
        for _ in range(200):
            if not second.health()["running"]:
                break
        second.reset()
        assert second.health()["episodes"] == 0  # nothing was learned of the episode that was left
    clients = [served.client() for _ in range(MOST_CLIENTS)]
    for client in clients:
        client.health()  # it is counted by the thread that answers
    with pytest.raises(PolicyError, match="expected an answer"):
        served.client().health()
    for client in clients:
        client.close()


def test_a_learner_by_gradients_says_that_it_needs_a_host(tmp_path: Path, bundle_of: Make) -> None:
    one = Served(bundle_of(tmp_path / "maml", "maml", "unit"), adapts=False)
    with one.client() as client:
        play(client, np.random.default_rng(0))
        with pytest.raises(PolicyError, match="start it with --learn"):
            client.adapt()
    one.close()


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary()
ANY = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))
FIELDS = sorted({"id", "verb", *(name for fields in VERBS.values() for name in fields)})
LIKE_REQUESTS = st.dictionaries(st.sampled_from(FIELDS), ANY | st.sampled_from(sorted(VERBS)), max_size=6)


@given(st.binary(max_size=200) | (ANY | LIKE_REQUESTS).map(msgpack.packb) | st.text(max_size=50))
def test_a_message_is_a_request_or_refused(content: bytes | str) -> None:
    try:
        request, said = read_request(content), ""
    except SpecError as error:
        request, said = None, str(error)
    assert said.startswith("request: expected ") or request is not None
    assert request is None or request.fields.keys() == VERBS[request.verb].keys()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (msgpack.packb({"id": 1, "verb": "health"}) + b"\xc0", "extra data"),
        (b"\x83\xa2id\x01\xa2id\x02\xa4verb\xa6health", "a key twice"),
        (b"\x83\xa2id\x01\x01\x02\xa4verb\xa6health", "not allowed for map key"),
        (msgpack.packb({"id": 1, "verb": "act", "observation": msgpack.ExtType(4, b"numpy")}), "extension|ext"),
        (msgpack.packb({"id": 1, "verb": "act", "observation": msgpack.Timestamp(1)}), "request: expected"),
        (b"\x91" * 3000, "request: expected"),
        (msgpack.packb({"id": 1, "verb": "act", "observation": [True]}), "numbers as observation"),
        (msgpack.packb({"id": 1, "verb": "act", "observation": [[1.0]]}), "numbers as observation"),
        (msgpack.packb({"id": 1, "verb": "act", "observation": "1.0"}), "numbers as observation"),
        (msgpack.packb({"id": True, "verb": "health"}), "an id of 0 or more"),
        (msgpack.packb({"id": 1, "verb": "act"}), "numbers as observation of act'?, got 'nothing'"),
        (msgpack.packb({"id": 1, "verb": "health", "code": 1}), "only the fields id and verb of health, got 'code'"),
        (msgpack.packb({"id": 1, "verb": "reset", "task": 1}), "true or false as task of reset"),
        (b"\xdd\xff\xff\xff\xff", "request: expected"),
        (b"\x00" * (MOST_BYTES + 1), f"at most {MOST_BYTES} bytes"),
    ],
)
def test_what_is_no_request_is_refused_by_name(content: bytes, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        read_request(content)


def test_a_request_is_read_with_its_usual_values() -> None:
    request = read_request(msgpack.packb({"id": 7, "verb": "reset", "task": True}))
    assert request == Request(7, "reset", {"task": True, "explore": True, "goal": None})


def mangle(rng: np.random.Generator) -> bytes:
    """A request that is cut, flipped, repeated or made of noise."""
    verb = str(rng.choice(sorted(VERBS)))
    content = bytearray(msgpack.packb({"id": 1, "verb": verb, "observation": [0.0] * 4, "reward": 1.0, "x": {}}))
    kind = int(rng.integers(5))
    if kind == 0:
        return rng.bytes(int(rng.integers(0, 100)))
    if kind == 1:
        return bytes(content[: int(rng.integers(len(content)))])
    if kind == 2:
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    if kind == 3:
        return bytes(content) * int(rng.integers(2, 40))
    return bytes(content)


def test_malformed_packets_are_answered_and_the_next_client_is_served(served: Served) -> None:
    rng = np.random.default_rng(0)
    with connect(served.url, additional_headers={"Authorization": f"Bearer {TOKEN}"}, compression=None) as raw:
        for _ in range(500):
            raw.send(mangle(rng))
            answer = msgpack.unpackb(raw.recv(timeout=20))
            assert answer["ok"] in (True, False)
        raw.send("text")
        assert msgpack.unpackb(raw.recv(timeout=20))["error"] == "SpecError"
        raw.send(b"\0" * (MOST_BYTES + 1))
        with pytest.raises(ConnectionClosed, match="message too big"):
            raw.recv(timeout=20)
    for junk in (b"", b"\0\xff" * 50, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + struct.pack(">H", 500)):
        with socket.create_connection(("127.0.0.1", served.port), timeout=5) as plain, contextlib.suppress(OSError):
            plain.sendall(junk)
            plain.shutdown(socket.SHUT_WR)
            plain.recv(1000)
    with served.client() as client:
        play(client, rng)
        assert client.health()["faults"] == 0


def test_an_agent_that_fails_is_an_answer_and_ends_the_episode(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with served.client() as client:
        client.reset()
        monkeypatch.setattr(served.session, "act", lambda observation, picture: 1 / 0)
        with pytest.raises(PolicyError, match="RobotFault: ZeroDivisionError"):
            client.act(np.zeros(4))
        monkeypatch.undo()
        with pytest.raises(PolicyError, match="expected an episode, got none"):
            client.act(np.zeros(4))
        client.reset()
        client.act(np.zeros(4))
        assert client.health()["faults"] == 1


def test_the_verb_serves_a_test_of_its_own(tmp_path: Path, bundle_of: Make, capsys: pytest.CaptureFixture[str]) -> None:
    bundle_of(tmp_path / "bundle", "varibad", "unit")
    token = tmp_path / "token"
    token.write_text(TOKEN.replace(" ", "-") + "\n")
    command = ["serve", str(tmp_path / "bundle"), "--self-test", "--json", "--token-file", str(token)]
    assert main(command) == 2
    assert "expected a file that only its owner can read" in capsys.readouterr().err
    token.chmod(0o600)
    assert main(command) == 0
    events = {(record := json.loads(line))["event"]: record for line in capsys.readouterr().out.splitlines()}
    assert events["self-test"]["episodes"] == 1
    assert events["served"] == {"event": "served", "requests": 9, "refused": 0, "faults": 0}
    assert "token" not in events["serving"]


@pytest.mark.parametrize(("host", "said"), [("", "an address, got none"), (" ", "an address"), ("a.invalid", "--host")])
def test_an_address_that_is_none_is_refused(
    tmp_path: Path, bundle_of: Make, capsys: pytest.CaptureFixture[str], host: str, said: str
) -> None:
    """An empty one, such as of a variable that is not set, would listen at all addresses of the machine."""
    bundle_of(tmp_path / "bundle", "varibad", "unit")
    assert main(["serve", str(tmp_path / "bundle"), "--self-test", "--host", host]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "space"), [("recurrent-updater", "skill"), ("varibad", "unit"), ("pearl", "skill")])
def test_a_learner_without_gradients_is_guarded_too(
    tmp_path: Path, bundle_of: Make, capsys: pytest.CaptureFixture[str], kind: str, space: str
) -> None:
    bundle_of(tmp_path / "bundle", kind, space)
    for more in ([], ["--greedy"], ["--guard", "off"]):
        assert main(["serve", str(tmp_path / "bundle"), "--self-test", "--json", "--learn", *more]) == 0
        events = {(record := json.loads(line))["event"]: record for line in capsys.readouterr().out.splitlines()}
        health = events["self-test"]
        assert health["episodes"] == 1
        assert ("guards" in health) == (more != ["--guard", "off"])
        assert health.get("guards", {}).get("episodes", 1) == 1


def test_the_client_is_one_file_that_needs_nothing_of_ours(served: Served, tmp_path: Path) -> None:
    home = Path(__file__).parents[3] / "adapt" / "remote" / "client.py"
    (tmp_path / "client.py").write_text(home.read_text())
    code = (
        "import sys; sys.modules['supple'] = sys.modules['torch'] = sys.modules['numpy'] = None\n"
        "sys.path.insert(0, sys.argv[1]); from client import PolicyClient\n"
        "with PolicyClient(sys.argv[2], sys.argv[3], timeout=20.0) as client:\n"
        "    client.reset(); print(len(client.act([0.1, 0.2, 0.3, 0.4])['action']))\n"
    )
    command = [sys.executable, "-I", "-c", code, str(tmp_path), served.url, TOKEN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("2", 0), done.stderr
