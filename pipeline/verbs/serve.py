"""The verb `serve`: a bundle's agent over a websocket."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from ...adapt.guard_config import GuardConfig
from ...bounds import Range, Seed
from ...errors import BundleError, ConfigError
from ...plain_files import read_plain_file
from ...robots.spec import ArraySpec
from ..cli_common import AboutRobot, Common, Options, Runner
from ..interrupt import catch_signals

if TYPE_CHECKING:
    from ...adapt.background_learner import BackgroundLearner
    from ...adapt.bundle import Bundle
    from ...adapt.session import Pay

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
    self_test: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Ask for one episode as a client would, and end."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Serves until a signal.

        Raises:
            ConfigError: The address is none, or taken, or the token cannot be read.
        """
        from ...adapt.bundle import load_bundle
        from ...adapt.bundle_folder import find_bundle
        from ...adapt.remote.server import PolicyServer, serve_policy
        from ...adapt.session import AgentSession

        if not self.host.strip():  # a socket would listen at all addresses of this machine
            raise ConfigError("--host: expected an address, got none; leave it out for this machine alone")
        folder = find_bundle(self.bundle)
        bundle = load_bundle(folder)
        token = secrets.token_urlsafe(32) if self.token_file is None else read_token(self.token_file)
        robot = bundle.contract.robot
        facts: dict[str, Any] = {
            "bundle": bundle.digest,
            "kind": bundle.contract.kind,
            "control_period": robot.control_period,
            "episode_steps": robot.episode_steps,
            "observation": [[axis.name, axis.unit] for axis in robot.observation.axes],
            "action": [[axis.name, axis.unit] for axis in robot.action.axes],
        }
        with ExitStack() as stack:
            learner, pay = None, None
            if self.learn and not bundle.task and (bundle.kind.hosted or self.guard == "on"):
                learner = stack.enter_context(
                    open_learner(folder, bundle, self.guards, self.seed, guarded=self.guard == "on", greedy=self.greedy)
                )
                pay = self.open_pay(bundle, stack) if self.guard == "on" else None
                facts["knows_rewards"] = pay is not None
            session = AgentSession(bundle, seed=self.seed, greedy=self.greedy, learner=learner, pay=pay)
            adapts = learner is not None or not bundle.kind.hosted
            policy = PolicyServer(session, facts, adapts=adapts, learner=learner)
            try:
                server = serve_policy(policy, self.host, 0 if self.self_test else self.port, token)
            except OSError as error:
                where = f"{self.host}:{self.port}"
                raise ConfigError(
                    f"{where}: expected a free address of this machine, got '{error}'; pass another --host or --port"
                ) from error
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

    def open_pay(self, bundle: Bundle, stack: ExitStack) -> Pay | None:
        """The rewards of the robot's family; None where nobody named it, or where it is a real one.

        Raises:
            BundleError: The robot that --robot names is not the bundle's.
        """
        from ...robots.family import Hardware
        from ..stages.adapt import find_robot_of

        try:
            family = find_robot_of(bundle, self.choice).family
        except BundleError:
            if self.choice is not None:
                raise
            return None
        if isinstance(family, Hardware):
            return None
        return stack.enter_context(closing(family.make(1))).compute_reward


@contextmanager
def open_learner(
    folder: Path, bundle: Bundle, guards: GuardConfig, seed: int, *, guarded: bool, greedy: bool = False
) -> Iterator[BackgroundLearner]:
    """A learner beside; where it takes steps of gradients, a child takes them. It ends with the context.

    Args:
        folder: Of the bundle.
        bundle: The same, loaded.
        guards: Limits of its updates.
        seed: Of what the learner draws.
        guarded: Guard them. Without, only the longest time of an update counts.
        greedy: Extra episodes are played by the mean of a policy, as all others are.
    """
    from ...adapt.background_learner import BackgroundLearner
    from ...adapt.guards import guard_agent
    from ...adapt.log_agent import lead
    from ...adapt.runtime_agent import Noise, RandomNoise, RuntimeAgent

    rng, guide = np.random.default_rng([seed, 1]), bundle.make_guide()

    def make_copy(noise: Noise) -> RuntimeAgent:
        if greedy and isinstance(noise, RandomNoise):
            noise.quiet = True
        return bundle.make_agent(noise)

    with ExitStack() as stack:
        fast = True
        if bundle.kind.hosted:
            from ...adapt.host.hosts import HOSTS, make_hosted
            from ...adapt.updates import BesideAgent, UpdateChild

            fast = not HOSTS[bundle.contract.kind].while_observing
            child = stack.enter_context(closing(UpdateChild(folder, bundle, guards.update_seconds)))

        def make_agent(learner: BackgroundLearner) -> RuntimeAgent:
            agent: RuntimeAgent
            if bundle.kind.hosted:
                hosted, verbs = make_hosted(bundle, RandomNoise(rng)), ("adapt",) if fast else ("observe",)
                agent = BesideAgent(hosted, child, rng, learner.go_on, verbs=verbs)
            else:
                agent = bundle.make_agent(RandomNoise(rng))
            if guarded:
                agent = learner.guards = guard_agent(
                    *(agent, bundle, guards),
                    play=learner.play,
                    read_signals=learner.take_signals,
                    hold=learner.hold,
                    make_agent=make_copy,
                    seed=seed,
                )
            return agent if guide is None else lead(agent, guide)

        learner = BackgroundLearner(make_agent, off_policy=bundle.kind.off_policy, observes_fast=fast)
        yield stack.enter_context(closing(learner))


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
