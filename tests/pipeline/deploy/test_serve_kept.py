"""`supple serve --out`: a server that was killed goes on from the last episode, and becomes a bundle in the end."""

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.remote.client import PolicyClient
from supple.adapt.remote.server import PolicyServer
from supple.errors import RunError
from supple.pipeline.cli import main
from supple.pipeline.folder import name_partial
from supple.pipeline.interrupt import StopRequest
from supple.pipeline.keys import load_record
from supple.pipeline.progress import make_progress
from supple.pipeline.stage import Machine, Stage, Work
from supple.pipeline.stages.serve import Serving, SessionFolder, open_policy
from supple.pipeline.testing_kills import COMPARED, Child

Make = Callable[..., Bundle]
TOKEN = "a-token-of-sixteen-or-more"
EPISODES = 7


class Lab:
    """A bundle, a token, and servers that are processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bundle, self.token = folder, folder / "bundle", folder / "token"
        self.token.write_text(TOKEN)
        self.token.chmod(0o600)

    def command(self, out: str, *more: str) -> list[str]:
        options = ["--learn", "--token-file", str(self.token), "--port", "0", "--json", "--guards.baseline", "3"]
        return ["serve", str(self.bundle), "--out", str(self.folder / out), *options, *more]

    @contextmanager
    def serve(self, out: str, number: int, expected: int) -> Iterator[PolicyClient]:
        """A server that gets this signal in the end, and its client."""
        log = self.folder / f"{out}.log"
        begin = log.stat().st_size if log.is_file() else 0
        child = Child(self.command(out), name_partial(self.folder / out), log)
        try:
            while '"event": "serving"' not in (told := log.read_text()[begin:] if log.is_file() else ""):
                assert os.waitpid(child.process, os.WNOHANG)[0] == 0, told
                time.sleep(0.01)
            line = next(line for line in told.splitlines() if '"event": "serving"' in line)
            with PolicyClient(json.loads(line)["url"], TOKEN, timeout=60.0) as client:
                yield client
        finally:
            os.kill(child.process, number)
            assert child.finish() == expected


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, bundle_of: Make) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    bundle_of(lab.bundle, "recurrent-updater", "skill")
    return lab


def play(client: PolicyClient, plays: int, *, steps: int = 6, end: bool = True) -> None:
    """The episode that is the `plays`-th, extra ones counted, and a step of adaptation behind it."""
    rng = np.random.default_rng(plays)
    client.reset()
    for _ in range(steps):
        client.act(rng.uniform(-0.9, 0.9, 4).tolist())
        client.observe(float(rng.standard_normal()))
    if end:
        told = client.end_episode(rng.uniform(-0.9, 0.9, 4).tolist(), terminated=True, success=bool(plays % 2))
        assert told["kept"] is True


def play_on(client: PolicyClient, plays: int, episodes: int) -> int:
    """Up to so many episodes that count; how many were played in all."""
    while (health := client.health())["extra"] or health["episodes"] < episodes:
        play(client, plays)
        plays += 1
        if not client.health()["extra"]:
            client.adapt()
    return plays


def test_a_server_that_is_killed_again_and_again_gives_what_one_gives_that_was_not(lab: Lab, capsys: Any) -> None:
    with lab.serve("whole", signal.SIGTERM, 128 + signal.SIGTERM) as client:
        assert client.health()["resumed"] is None
        plays = play_on(client, 0, EPISODES)
    found = 0
    for episodes in (1, 2, 4, EPISODES):
        with lab.serve("killed", signal.SIGKILL, -signal.SIGKILL) as client:
            assert client.health()["resumed"] == (None if episodes == 1 else {2: 1, 4: 2, EPISODES: 4}[episodes])
            found = play_on(client, found, episodes)
            play(client, found, steps=3, end=False)  # which is lost
    assert found == plays
    for out in ("whole", "killed"):
        assert main(lab.command(out, "--finish")) == 0
    whole, killed = (load_record(lab.folder / out) for out in ("whole", "killed"))
    assert {name: whole[name] for name in COMPARED} == {name: killed[name] for name in COMPARED}
    assert "policies/0/weights.safetensors" in whole["outputs"]
    records = [json.loads(line) for line in (lab.folder / "killed" / "records.jsonl").read_text().splitlines()]
    assert [record["episode"] for record in records if record["kind"] == "episode"] == [*range(1, EPISODES + 1)]
    provenance = load_bundle(lab.folder / "killed" / "policies" / "0").contract.provenance
    assert provenance["adapted_from"] == load_bundle(lab.bundle).digest
    capsys.readouterr()


def test_a_session_of_other_settings_or_that_has_ended_is_refused(lab: Lab, capsys: Any) -> None:
    with lab.serve("session", signal.SIGINT, 128 + signal.SIGINT) as client:
        play(client, 0)
    work = name_partial(lab.folder / "session")
    for option, value, said in (
        ("--seed", "1", "expected seed = 1, got 0"),
        ("--guards.window", "7", "expected config.guards.window = 7, got 5"),
        ("--guard", "off", "expected config.guard = off, got on"),
    ):
        assert main(lab.command("session", option, value)) == 2
        assert said in capsys.readouterr().err
    shutil.copytree(work, name_partial(lab.folder / "damaged"))
    for path in (name_partial(lab.folder / "damaged") / "checkpoint").glob("checkpoint-*"):
        path.write_bytes(path.read_bytes()[:-1])
    assert main(lab.command("damaged", "--finish")) == 2
    assert "expected a checkpoint that loads" in capsys.readouterr().err

    assert main(lab.command("session", "--finish")) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["policies"] == [
        str(lab.folder / "session" / "policies" / "0")
    ]
    assert main(lab.command("session", "--finish")) == 0  # again
    assert main(lab.command("session")) == 2
    assert "expected a session that goes on, got one that was finished" in capsys.readouterr().err
    assert main(["serve", str(lab.folder / "session" / "policies" / "0"), "--self-test", "--json"]) == 0
    capsys.readouterr()

    assert main(lab.command("nothing", "--finish")) == 2
    assert "expected a session with an episode to finish, got none" in capsys.readouterr().err
    assert not list(lab.folder.glob("nothing*"))
    assert main(["serve", str(lab.bundle), "--finish"]) == 2
    assert "--finish: expected the folder of a session, got no --out" in capsys.readouterr().err


def test_a_self_test_leaves_a_session_alone(lab: Lab, capsys: Any) -> None:
    assert main(lab.command("tested", "--self-test")) == 0
    assert not list(lab.folder.glob("tested*"))
    capsys.readouterr()


@pytest.mark.parametrize(("kind", "space"), [("recurrent-updater", "skill"), ("varibad", "unit"), ("pearl", "skill")])
def test_a_session_without_a_learner_goes_on_with_the_same_actions(
    tmp_path: Path, bundle_of: Make, kind: str, space: str
) -> None:
    """It learns while it acts, or keeps what it saw: the third episode depends on the two before."""
    bundle_of(tmp_path / "bundle", kind, space)
    found: dict[str, list[Any]] = {}
    for name in ("whole", "again", "fresh"):
        with open_folder(tmp_path / name.replace("again", "whole")) as folder:
            session = folder.restore()
            with open_policy(Serving(), tmp_path / "bundle", 3, folder) as policy:
                if session is not None:
                    policy.load_whole_state(*session)
                client = Direct(policy)
                if name == "whole":
                    play(client, 0)
                    client.ask("adapt")
                    play(client, 1)
                rng = np.random.default_rng(9)
                client.reset()
                found[name] = [client.act(rng.uniform(-0.9, 0.9, 4))["action"] for _ in range(6)]
                assert client.health()["episodes"] == (0 if name == "fresh" else 2)
    assert found["again"] == found["whole"] != found["fresh"]


class Direct(PolicyClient):
    """A client in the same process, without a socket."""

    def __init__(self, policy: PolicyServer) -> None:
        self._policy = policy

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        data: dict[str, Any] = msgpack.unpackb(
            self._policy.answer(msgpack.packb({"id": 1, "verb": verb, **fields}), self)
        )
        assert data["ok"], data
        return data


@contextmanager
def open_folder(folder: Path) -> Iterator[SessionFolder]:
    folder.mkdir(exist_ok=True)
    stage = Stage(name="serve", folder=folder, config={}, seed=0, module="", libraries=(), body=print)
    work = Work(stage, Machine(tensorboard=False), folder, make_progress("json"), StopRequest())
    with closing(work):
        yield SessionFolder(work)


def test_a_disk_that_is_full_for_a_while_costs_no_record_and_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_folder(tmp_path) as folder:

        def keep(number: int) -> None:
            copies = {f"snapshot-{number}": {"b": np.full(2, number)}, "task-1": {"c": np.ones(1)}}
            facts = {"snapshots": [[number, 1, 0, False]], "tasks": 2, "session": {"episodes": number}}
            folder.keep({"session.a": np.arange(3.0)}, facts, copies, [{"kind": "episode", "episode": number}])

        assert folder.restore() is None
        keep(1)
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", refuse)
            for number in (2, 3):
                with pytest.raises(RunError, match="No space left"):
                    keep(number)
        assert capsys.readouterr().out.count("nothing is kept any more, and the robot goes on") == 1
        keep(4)
        assert "all is kept again" in capsys.readouterr().out
    copies = sorted(path.name for path in (tmp_path / "checkpoint").glob("[st]*"))
    assert copies == ["snapshot-4.safetensors", "task-1.safetensors"]
    with open_folder(tmp_path) as folder:
        session = folder.restore()
        assert session is not None
        assert session.facts["session"] == {"episodes": 4}
        assert session.snapshots["snapshot-4"]["b"].tolist() == [4, 4]
        assert {task: sorted(state) for task, state in folder.load_tasks(session).items()} == {1: ["c"], 2: ["a"]}
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["episode"] for line in lines] == [1, 2, 3, 4]


def test_a_snapshot_of_after_the_checkpoint_does_not_stand_for_a_later_one(tmp_path: Path) -> None:
    """A kill between the two files: the session that goes on gives the same number to another snapshot."""
    arrays, facts = {"session.a": np.zeros(1)}, {"tasks": 1, "session": {"episodes": 1}}
    with open_folder(tmp_path) as folder:
        folder.restore()
        folder.keep(arrays, {**facts, "snapshots": []}, {}, [])
    checkpoint = next((tmp_path / "checkpoint").glob("checkpoint-*"))
    shutil.copy(checkpoint, tmp_path / "checkpoint" / "snapshot-1.safetensors")
    with open_folder(tmp_path) as folder:
        folder.restore()
        folder.keep(arrays, {**facts, "snapshots": [[1, 1, 0, False]]}, {"snapshot-1": {"b": np.ones(1)}}, [])
    with open_folder(tmp_path) as folder:
        session = folder.restore()
        assert session is not None
        assert session.snapshots == {"snapshot-1": {"b": np.ones(1)}}


def test_a_snapshot_that_is_damaged_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"tasks": 1, "session": {"episodes": 1}, "snapshots": [[1, 1, 0, False], [2, 1, 0, True]]}
    with open_folder(tmp_path) as folder:
        folder.restore()
        folder.keep({"session.a": np.zeros(1)}, facts, {f"snapshot-{one}": {"b": np.ones(1)} for one in (1, 2)}, [])
    path = tmp_path / "checkpoint" / "snapshot-1.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with open_folder(tmp_path) as folder:
        session = folder.restore()
    assert session is not None
    assert (list(session.snapshots), session.facts["snapshots"]) == (["snapshot-2"], [[2, 1, 0, True]])
    assert "snapshot 1 is left out" in capsys.readouterr().out
