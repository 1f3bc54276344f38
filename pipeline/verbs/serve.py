"""The verb `serve`: a bundle's agent over a websocket."""

import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from ...bounds import Range, Seed
from ...errors import ConfigError
from ...plain_files import read_plain_file
from ...robots.spec import ArraySpec
from ..cli_common import Common, Options, Runner
from ..interrupt import catch_signals

LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
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
    """`adapt` takes steps of gradients, too; needs torch."""
    self_test: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Ask for one episode as a client would, and end."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Serves until a signal."""
        from ...adapt.bundle import load_bundle
        from ...adapt.bundle_folder import find_bundle
        from ...adapt.remote.server import PolicyServer, serve_policy
        from ...adapt.runtime_agent import Noise, RuntimeAgent
        from ...adapt.session import AgentSession

        bundle = load_bundle(find_bundle(self.bundle))
        token = secrets.token_urlsafe(32) if self.token_file is None else read_token(self.token_file)

        def make_agent(noise: Noise) -> RuntimeAgent:
            if not self.learn:
                return bundle.make_agent(noise)
            from ...adapt.host.hosts import make_hosted

            return make_hosted(bundle, noise)

        session = AgentSession(bundle, seed=self.seed, greedy=self.greedy, make_agent=make_agent)
        robot = bundle.contract.robot
        facts = {
            "bundle": bundle.digest,
            "kind": bundle.contract.kind,
            "control_period": robot.control_period,
            "episode_steps": robot.episode_steps,
            "observation": [[axis.name, axis.unit] for axis in robot.observation.axes],
            "action": [[axis.name, axis.unit] for axis in robot.action.axes],
        }
        policy = PolicyServer(session, facts, adapts=self.learn or not bundle.kind.hosted)
        try:
            server = serve_policy(policy, self.host, 0 if self.self_test else self.port, token)
        except OSError as error:
            where = f"{self.host}:{self.port}"
            raise ConfigError(f"{where}: expected a free address, got '{error}'; pass another --port") from error
        address, port = server.socket.getsockname()[:2]
        url = f"ws://[{address}]:{port}" if ":" in address else f"ws://{address}:{port}"
        told: dict[str, Any] = {"url": url, "bundle": bundle.digest}
        text = f"{url}: {bundle.contract.kind} policy at {1 / robot.control_period:g} Hz"
        if self.token_file is None and not self.self_test:
            told, text = {**told, "token": token}, f"{text}\ntoken: {token}"
        if self.host not in LOCAL:
            text += "\nwarning: the token and all messages go over the network in the clear"
        runner.view.record("serving", told, text)
        with server, catch_signals(runner.stop):
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                if self.self_test:
                    health = ask_once(url, token, robot.observation)
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


def ask_once(url: str, token: str, observation: ArraySpec) -> dict[str, Any]:
    """An episode of three steps in which nothing moves, as a client asks for it; the server's health after it."""
    from ...adapt.remote.client import PolicyClient
    from ...adapt.session import make_middle

    seen = make_middle(observation).tolist()
    with PolicyClient(url, token, timeout=10.0) as client:
        client.reset(task=True)
        for _ in range(3):
            client.act(seen)
            client.observe(0.0)
        client.end_episode(seen, terminated=False)
        return client.health()
