"""A served session that is written down goes on in another process as if nothing had happened, bit for bit."""

import copy
import errno
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest
import torch

from benchmarks.poison import NearPoints, play_served
from benchmarks.poison import make_bundle as make_spirl
from supple.adapt.background_learner import BackgroundLearner
from supple.adapt.bundle import Bundle
from supple.adapt.guard_config import GuardConfig
from supple.adapt.guards import guard_agent
from supple.adapt.host.hosts import make_hosted
from supple.adapt.remote.client import PolicyClient, PolicyError
from supple.adapt.remote.server import PolicyServer, State, read_known
from supple.adapt.runtime_agent import RandomNoise, RuntimeAgent
from supple.adapt.session import AgentSession
from supple.errors import RunError

CLOCK = {"uptime_s", "ms", "requests", "resumed", "kept_episodes"}
"""What `health` says of the process, and not of the session."""
GUARDS = GuardConfig(baseline=3, window=3, canary_kl=0.0, canary_speed=0.5)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_spirl(tmp_path_factory.mktemp("bundle") / "spirl")


class Kept(NamedTuple):
    """What a keeper was given, as it would come back from a disk."""

    arrays: State
    facts: dict[str, Any]
    snapshots: dict[str, State]


class Memory:
    """Keeps all that it is given, in order."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.records: list[dict[str, Any]] = []
        self.full = False
        self.slow = 0.0
        self.robot: Any = None  # state of the robot's noise between the last two episodes
        self.robots: list[Any] = []  # the same when each was kept

    def keep(
        self, arrays: State, facts: Mapping[str, Any], copies: Mapping[str, State], records: Sequence[dict[str, Any]]
    ) -> None:
        time.sleep(self.slow)
        self.records.extend(records)
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        told = json.loads(json.dumps(facts, allow_nan=False))
        self.kept.append(Kept(copy.deepcopy(arrays), told, copy.deepcopy(dict(copies))))
        self.robots.append(copy.deepcopy(self.robot))


class Direct(PolicyClient):
    """A client in the same process, without a socket."""

    def __init__(self, policy: PolicyServer) -> None:
        self.policy, self._adapt_timeout, self._sent = policy, 60.0, 0
        self.before: Callable[[str], None] = lambda verb: None

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        self.before(verb)
        content = self.policy.answer(msgpack.packb({"id": 1, "verb": verb, **fields}), self)
        data: dict[str, Any] = msgpack.unpackb(content)
        if data["ok"] is not True:
            raise PolicyError(f"{verb}: {data['error']}: {data['message']}")
        return data


class Cell:
    """A client, its robot, and the learner behind the server."""

    def __init__(self, policy: PolicyServer, learner: BackgroundLearner, memory: Memory) -> None:
        self.client, self.learner, self.memory = Direct(policy), learner, memory
        self.robot, self.rng = NearPoints(1), np.random.default_rng(7)
        self.actions: list[list[float]] = []
        self.client.before = self._remember

    def _remember(self, verb: str) -> None:
        if verb in ("reset", "end_episode"):
            self.memory.robot = self.rng.bit_generator.state

    def play(self, **reset: Any) -> None:
        play_served(self.client, self.robot, self.rng, **reset)
        self.wait()

    def wait(self) -> None:
        """Until all is learned and written, so that the robot stands still meanwhile."""
        kept = self.memory.kept
        while self.client.health()["learning"] or (not self.memory.full and self._count(kept[-1]) != self._count(None)):
            time.sleep(0.001)

    def _count(self, kept: Kept | None) -> tuple[int, int]:
        facts = self.learner.whole_state()[1] if kept is None else kept.facts["learner"]
        return facts["done"], facts["plays"]

    def play_to(self, episodes: int) -> None:
        """Until so many episodes have counted, and the guards ask for no other."""
        while (health := self.client.health())["episodes"] < episodes or health["extra"]:
            self.play()

    @property
    def state(self) -> State:
        return self.learner.state()


@contextmanager
def open_cell(
    bundle: Bundle, memory: Memory, *, guards: GuardConfig | None = GUARDS, kept: Kept | None = None
) -> Iterator[Cell]:
    """As `supple serve --learn --out` makes it, with the child's work done here."""
    rng = np.random.default_rng(0)

    def make_agent(learner: BackgroundLearner) -> RuntimeAgent:
        agent: RuntimeAgent = make_hosted(bundle, RandomNoise(rng))
        if guards is None:
            return agent
        told = {"play": learner.play, "read_signals": learner.take_signals, "hold": learner.hold}
        agent = learner.guards = guard_agent(agent, bundle, guards, **told, seed=0)
        return agent

    learner = BackgroundLearner(make_agent, rng, off_policy=bundle.kind.off_policy, observes_fast=False)
    with closing(learner):
        session = AgentSession(bundle, seed=0, learner=learner, pay=NearPoints(1).compute_reward)
        policy = PolicyServer(session, {}, learner=learner, keeper=memory)
        if kept is not None:
            policy.load_whole_state(*copy.deepcopy(kept))
        yield Cell(policy, learner, memory)


def require_same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("guards", [GUARDS, None], ids=["guarded", "unguarded"])
def test_whatever_was_kept_last_the_session_goes_on_bit_for_bit(bundle: Bundle, guards: GuardConfig | None) -> None:
    """Baseline and canary episodes included: those that were played are not asked for again."""
    episodes, whole = 7, Memory()
    with open_cell(bundle, whole, guards=guards) as cell:
        cell.play_to(episodes)
        wanted, seconds = cell.state, len(whole.records)
        health = cell.client.health()
    assert seconds > 0
    moments = [kept.facts["learner"] for kept in whole.kept]
    assert guards is None or {0, 1, 2} <= {facts["plays"] for facts in moments}
    assert any(facts["updates"] for facts in moments)
    for kept, robot in zip(whole.kept, whole.robots, strict=True):
        again = Memory()
        with open_cell(bundle, again, guards=guards, kept=kept) as cell:
            cell.rng.bit_generator.state = robot
            cell.client.policy.keep_learned()
            cell.wait()
            assert cell.client.health()["resumed"] == kept.facts["session"]["episodes"]
            cell.play_to(episodes)
            require_same(cell.state, wanted)
            found = cell.client.health()
            assert {name: found[name] for name in health.keys() - CLOCK} == {
                name: health[name] for name in health.keys() - CLOCK
            }
