"""The verb `serve`: a bundle's agent over a websocket."""

from __future__ import annotations

import os
import secrets
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ...adapt.guard_config import GuardConfig
from ...bounds import Range, Seed
from ...errors import ConfigError, RunError
from ...plain_files import read_plain_file
from ..cli_common import AboutRobot, Common, Options, Runner
from ..interrupt import catch_signals

if TYPE_CHECKING:
    from ...adapt.contract import BundleContract
    from ...adapt.remote.server import PolicyServer

LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve(AboutRobot):
    """Arguments of `supple serve`."""

    bundle: tyro.conf.Positional[Path]
    """A policy bundle, or a folder of `export` or `run` that holds one."""
    host: str = "127.0.0.1"
    """Address to listen at. Another than this machine's own sends everything in the clear, the token too."""
    port: Annotated[int, Range(0, 65535)] = 8765
    """0 for any free one."""
    token_file: Path | None = None
    """File with the token that clients must show; without it, a new token is made and printed."""
    seed: Seed = 0
    """Of what the agent draws."""
    greedy: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the mean of the policy instead of a sample."""
    learn: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """It takes steps of gradients, too, in a process beside; needs torch."""
    guard: Literal["on", "off"] = "on"
    """Guard every update that --learn takes, as `supple adapt` does on a real robot."""
    guards: GuardConfig = field(default_factory=GuardConfig)
    """Their limits; the longest time of an update counts without guards, too."""
    out: Path | None = None
    """Folder of a session that outlives this process: each episode and all that was learned are kept there, and the
    same command goes on from there. Without it, nothing is kept."""
    finish: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Serve no more, but end the session of --out, and write a bundle of the policy of each of its tasks."""
    self_test: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Ask for one episode as a client would, and end; nothing of it is kept."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Serves until a signal; or makes bundles of what a session has learned.

        Raises:
            ConfigError: The address is none, or taken, the token cannot be read, or options contradict each other.
            RunError: There is nothing to finish, or the session was finished before.
        """
        from ...adapt.bundle_folder import find_bundle
        from ..stages.adapt import POLICIES
        from ..stages.serve import Serving, make_serve, open_policy

        if not self.host.strip():  # a socket would listen at all addresses of this machine
            raise ConfigError("--host: expected an address, got none; leave it out for this machine alone")
        if self.finish and (self.out is None or self.self_test):
            got = "--self-test" if self.self_test else "no --out"
            raise ConfigError(f"--finish: expected the folder of a session, got {got}; pass --out alone with it")
        token = secrets.token_urlsafe(32) if self.token_file is None else read_token(self.token_file)
        serving = Serving(greedy=self.greedy, learn=self.learn, guard=self.guard, guards=self.guards, robot=self.choice)
        folder = find_bundle(self.bundle)
        if self.out is None or self.self_test:
            with open_policy(serving, folder, self.seed) as policy, catch_signals(runner.stop):
                self.listen(runner, token, policy)
            return
        listen = partial(self.listen, runner, token)
        stage = make_serve(folder, serving, self.seed, listen, finish=self.finish)
        result = runner.run(stage, self.out)
        if result.status == "skipped" and not self.finish:
            raise RunError(
                f"{self.out}: expected a session that goes on, got one that was finished; serve one of its policies/, "
                "or pass another --out"
            )
        policies = sorted(str(path) for path in (result.folder / POLICIES).iterdir())
        runner.view.record("policies", {"policies": policies}, "\n".join(policies))

    def listen(self, runner: Runner, token: str, policy: PolicyServer) -> None:
        """Answers clients until a signal.

        Args:
            runner: Tells of the address, and of the signal.
            token: Of the server.
            policy: Answers.

        Raises:
            ConfigError: See `execute`.
        """
        from ...adapt.remote.server import serve_policy

        try:
            server = serve_policy(policy, self.host, 0 if self.self_test else self.port, token)
        except OSError as error:
            where = f"{self.host}:{self.port}"
            raise ConfigError(
                f"{where}: expected a free address of this machine, got '{error}'; pass another --host or --port"
            ) from error
        robot = policy.contract.robot
        address, port = server.socket.getsockname()[:2]
        url = f"ws://[{address}]:{port}" if ":" in address else f"ws://{address}:{port}"
        told: dict[str, Any] = {"url": url, "bundle": policy.facts["bundle"]}
        text = f"{url}: {policy.contract.kind} policy at {1 / robot.control_period:g} Hz"
        if self.token_file is None and not self.self_test:
            told, text = {**told, "token": token}, f"{text}\ntoken: {token}"
        if self.host not in LOCAL:
            text += "\nwarning: the token and all messages go over the network in the clear"
        runner.view.record("serving", told, text)
        with server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                if self.self_test:
                    health = ask_once(url, token, policy.contract)
                    runner.view.record("self-test", health, "self-test passed")
                while not self.self_test and not runner.stop:
                    thread.join(0.2)
            finally:
                server.shutdown()
                thread.join(5.0)
        runner.view.record("served", policy.counts, f"served {policy.counts['requests']} requests")


def read_token(path: Path) -> str:
    """The token in a file that nobody else may read.

    Raises:
        ConfigError: There is no such file, others can read it, or it holds no token.
    """
    content = read_plain_file(path, ConfigError, "write a token to it", "a file with a token")
    token = content.decode(errors="replace").strip()
    if os.stat(path).st_mode & 0o077:
        raise ConfigError(f"{path}: expected a file that only its owner can read, got another; run chmod 600 {path}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{path}: expected a token of printable ASCII, got another; write another one")
    return token


def ask_once(url: str, token: str, contract: BundleContract) -> dict[str, Any]:
    """An episode of three steps in which nothing moves, as a client asks for it; the server's health after it."""
    from ...adapt.remote.client import PolicyClient
    from ...adapt.session import make_middle

    seen = make_middle(contract.measured).tolist()
    picture = None if contract.image is None else contract.image.make_dark()
    with PolicyClient(url, token, timeout=10.0) as client:
        client.reset(task=True)
        for _ in range(3):
            client.act(seen, picture)
            client.observe(0.0)
        client.end_episode(seen, picture, terminated=False)
        return client.health()
