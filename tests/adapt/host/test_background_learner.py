"""A session acts while a child learns: by the policy before, until an episode begins after the update."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from supple.adapt.background_learner import MOST_WAITING, BackgroundLearner
from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.contract import Budget
from supple.adapt.guard_config import GuardConfig
from supple.adapt.host.export import write_exported
from supple.adapt.host.hosts import make_hosted
from supple.adapt.remote.client import PolicyClient, PolicyError
from supple.adapt.remote.server import PolicyServer, serve_policy
from supple.adapt.runtime_agent import RandomNoise, RuntimeAgent
from supple.adapt.session import AgentSession
from supple.adapt.updates import UpdateFault
from supple.errors import RunError
from supple.pipeline.stages.serve import open_learner

from .test_hosts import ROBOT, ppo, sac

SEEN = np.zeros(2, np.float32)
TOKEN = "a-token-of-sixteen-or-more"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of an on-policy and of an off-policy learner."""
    folder = tmp_path_factory.mktemp("bundles")
    for make in (ppo, sac):
        budget = Budget(episodes=1, adapt_steps=5)
        write_exported(folder / make.__name__, make(), ROBOT.spec, budget, simulator=None, provenance={})
    return folder


class Gate:
    """In place of a child: takes a step here, once somebody lets it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.steps = 0

    def wrap(self, agent: Any, idle: Callable[[], None]) -> RuntimeAgent:
        step = agent.adapt

        def adapt() -> None:
            while not self.open.wait(0.01):
                idle()
            self.steps += 1
            step()

        agent.adapt = adapt
        return agent  # type: ignore[no-any-return]


class Gated(NamedTuple):
    """A session whose steps of adaptation wait at a gate."""

    session: AgentSession
    learner: BackgroundLearner
    gate: Gate


def open_gated(bundle: Bundle) -> Gated:
    gate, rng = Gate(), np.random.default_rng(0)
    learner = BackgroundLearner(
        lambda learner: gate.wrap(make_hosted(bundle, RandomNoise(rng)), learner.go_on),
        rng,
        off_policy=bundle.kind.off_policy,
        observes_fast=True,
    )
    return Gated(AgentSession(bundle, seed=3, learner=learner), learner, gate)


@pytest.fixture
def gated(folder: Path, request: pytest.FixtureRequest) -> Iterator[Gated]:
    found = open_gated(load_bundle(folder / request.param))
    with closing(found.learner):
        yield found


def play(policy: Any, reward: float = 1.0) -> dict[str, Any]:
    policy.reset()
    for step in range(5):
        policy.act(SEEN)
        policy.observe(reward * step)
    told: dict[str, Any] = policy.end_episode(SEEN, terminated=False)
    return told


def wait(session: AgentSession) -> None:
    for _ in range(6000):
        if not session.learning:
            return
        time.sleep(0.01)
    raise AssertionError("an update did not end")


def acting(session: AgentSession) -> dict[str, Any]:
    return {name: value.copy() for name, value in session._agent.state().items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("gated", ["sac"], indirect=True)
def test_what_is_said_to_be_learned_is_kept_already(gated: Gated) -> None:
    """Whoever writes down what was learned is called while `learning` is true, and finds no update that is left."""
    session, learner, gate = gated
    seen: list[tuple[bool, int, int]] = []

    def keep() -> None:
        facts = learner.whole_state()[1]
        seen.append((learner.learning, len(facts["updates"]), facts["done"]))

    learner.on_learned = keep
    gate.open.set()
    play(session)
    session.adapt()
    wait(session)
    assert [one[:2] for one in seen] == [(True, 0), (True, 0)]
    assert [one[2] for one in seen] == [learner.given - 1, learner.given]


@pytest.mark.parametrize("gated", ["ppo", "sac"], indirect=True)
def test_nobody_waits_for_an_update_and_the_next_episode_after_it_has_the_new_policy(gated: Gated) -> None:
    session, learner, gate = gated
    for episode in range(3):
        assert play(session, episode)["learned"] is True
    first = acting(session)
    session.adapt()
    assert session.learning
    with pytest.raises(RunError, match="adapt: expected no update under way"):
        session.adapt()
    with pytest.raises(RunError, match="snapshot: expected no update under way"):
        session.state()
    session.reset()
    session.act(SEEN)
    gate.open.set()
    wait(session)
    assert session.adaptations == 1
    session.act(SEEN)
    assert same(acting(session), first)  # in the middle of an episode nothing changes
    session.reset()
    assert not same(acting(session), first)
    assert learner.counts["failed_updates"] == 0


@pytest.mark.parametrize(("gated", "learned"), [("ppo", False), ("sac", True)], indirect=["gated"])
def test_an_episode_of_the_policy_before_is_for_off_policy_learners(gated: Gated, learned: bool) -> None:
    session, learner, gate = gated
    play(session)
    session.adapt()
    told = [play(session)["learned"] for _ in range(MOST_WAITING + 1)]
    assert told == [learned] * (MOST_WAITING - 1) + [False, False]  # the step of adaptation waits, too
    gate.open.set()
    wait(session)
    assert learner.counts["updates"] == (1 + MOST_WAITING if learned else 2)
    assert play(session)["learned"] is True  # it began with the new policy


@pytest.mark.parametrize("gated", ["ppo"], indirect=True)
def test_what_is_learned_beside_is_what_is_learned_here(gated: Gated, folder: Path) -> None:
    session, _, gate = gated
    gate.open.set()
    bundle = load_bundle(folder / "ppo")
    here = AgentSession(bundle, seed=3)
    here._agent = make_hosted(bundle, here._noise)
    for _ in range(2):
        for policy in (session, here):
            play(policy)
            policy.adapt()
            wait(policy)
    session.reset()
    for name, value in acting(session).items():
        np.testing.assert_array_equal(value, here._agent.state()[name], err_msg=name)


@pytest.mark.parametrize("gated", ["sac"], indirect=True)
def test_a_new_task_and_a_snapshot_end_an_update(gated: Gated) -> None:
    session, learner, gate = gated
    play(session)
    before = session.state()
    session.adapt()
    session.load_state(before)  # the gate is shut: this would wait for ever
    assert not session.learning
    session.reset()
    play(session)
    session.adapt()
    session.reset(task=True)
    assert not session.learning
    assert (session.adaptations, gate.steps) == (0, 0)
    assert learner.counts["failed_updates"] == 0
    gate.open.set()
    play(session)
    session.adapt()
    wait(session)
    assert (session.adaptations, gate.steps) == (1, 1)


@pytest.mark.parametrize("gated", ["sac"], indirect=True)
def test_an_update_that_fails_leaves_the_policy(gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    session, learner, gate = gated
    gate.open.set()
    play(session)
    session.reset()
    first = acting(session)
    session.abandon()

    def fail(error: BaseException) -> None:
        raise error

    wrong = (UpdateFault("update: expected a child, got its end"), ValueError("a\0b"), MemoryError(), SystemExit(0))
    for error in wrong:
        with monkeypatch.context() as patched:
            patched.setattr(learner._agent, "adapt", partial(fail, error))
            session.adapt()
            wait(session)
        session.reset()
        assert same(acting(session), first)
        session.abandon()
    assert learner.counts["failed_updates"] == 4
    assert session.adaptations == 0
    session.adapt()
    wait(session)
    assert session.adaptations == 1


def test_a_child_that_is_killed_hangs_or_is_cancelled_is_seen_by_the_client(folder: Path) -> None:
    """Through the websocket and a real child; it is stopped, so that the test decides when it answers."""
    bundle = load_bundle(folder / "sac")
    with open_learner(folder / "sac", bundle, GuardConfig(), 0, guarded=False) as learner:
        session = AgentSession(bundle, seed=3, learner=learner)
        policy = PolicyServer(session, {}, learner=learner)
        child = learner._agent._child  # type: ignore[attr-defined]
        server = serve_policy(policy, "127.0.0.1", 0, TOKEN)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        try:
            with PolicyClient(url, TOKEN, timeout=20.0) as client:
                play(client)
                assert client.adapt()["adaptations"] == 1
                first = session.state()
                os.kill(child.pid, signal.SIGSTOP)
                assert client.adapt(wait=False)["learning"] is True
                client.reset()
                client.act(SEEN)
                assert client.health()["learning"] is True
                client.end_episode(SEEN, terminated=False, wait=False)
                os.kill(child.pid, signal.SIGKILL)
                wait(session)
                health = client.health()
                assert health["failed_updates"] == 1
                assert "got its end by signal 9" in health["last_failure"]
                assert health["adaptations"] == 1
                params = [name for name in first if name.startswith("params.")]
                assert all(np.array_equal(session.state()[name], first[name]) for name in params)
                number = client.snapshot()["snapshot"]
                client.adapt()  # another child
                os.kill(child.pid, signal.SIGSTOP)
                client.adapt(wait=False)
                assert client.rollback(number)["adaptations"] == 1
                child._seconds = 0.2
                with pytest.raises(PolicyError, match=r"adapt: the policy is as it was: .*within 0\.2 s"):
                    client.adapt()  # a child does not start so fast
        finally:
            server.shutdown()
            thread.join()
