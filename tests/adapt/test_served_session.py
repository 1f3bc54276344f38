"""A served session that is written down goes on in another process as if nothing had happened, bit for bit."""

import copy
import errno
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest

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
from supple.errors import RunError, SpecError

CLOCK = {"uptime_s", "ms", "requests", "resumed", "kept_episodes", "guards"}
"""What `health` says of the process, and not of the session; guards do not tell of an episode before they were made."""
GUARDS = GuardConfig(baseline=3, window=3, canary_kl=0.0, canary_speed=0.5)


pytestmark = pytest.mark.usefixtures("one_thread")


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
    episodes, whole = 4, Memory()
    with open_cell(bundle, whole, guards=guards) as cell:
        cell.play_to(episodes)
        wanted, seconds = cell.state, len(whole.records)
        health = cell.client.health()
    assert seconds > 0
    moments = [kept.facts["learner"] for kept in whole.kept]
    assert guards is None or {0, 1, 2} <= {facts["plays"] for facts in moments}
    assert any(facts["updates"] for facts in moments)
    for kept, robot in list(zip(whole.kept, whole.robots, strict=True))[::2]:
        again = Memory()
        with open_cell(bundle, again, guards=guards, kept=kept) as cell:
            cell.rng.bit_generator.state = robot
            cell.client.policy.keep_learned()
            cell.wait()
            assert cell.client.health()["resumed"] == kept.facts["session"]["episodes"]
            cell.play_to(episodes)
            require_same(cell.state, wanted)
            found = cell.client.health()
            assert found.get("guards", {}).items() <= health.get("guards", {}).items()
            assert {name: found[name] for name in health.keys() - CLOCK} == {
                name: health[name] for name in health.keys() - CLOCK
            }


def test_what_the_guards_hold_and_have_spent_stays_so(bundle: Bundle) -> None:
    """A restart gives no budget back, and lets no policy act that was stopped."""
    memory = Memory()
    spent = replace(GUARDS, canary=False, max_episodes=5)
    with open_cell(bundle, memory, guards=spent) as cell:
        cell.play_to(4)
        first = cell.client.snapshot()["snapshot"]
        cell.play_to(5)
        assert cell.client.rollback(first)["episodes"] == 4
        assert cell.learner.guards is not None
        assert cell.client.health()["guards"]["learns"] is False
        cell.learner.held = "as if the prior policy did worse"
        cell.client.snapshot()
    with open_cell(bundle, Memory(), guards=spent, kept=memory.kept[-1]) as cell:
        assert cell.client.health()["guards"]["learns"] is False
        with pytest.raises(PolicyError, match="as if the prior policy did worse"):
            cell.client.reset()
        cell.client.reset(task=True)
        assert cell.client.health()["guards"]["learns"] is True


def test_a_snapshot_of_before_the_restart_is_rolled_back_to(bundle: Bundle) -> None:
    memory = Memory()
    with open_cell(bundle, memory, guards=None) as cell:
        cell.play_to(1)
        number, wanted = cell.client.snapshot()["snapshot"], cell.state
        cell.play_to(3)
        assert not np.array_equal(cell.state["params.layers.0.bias"], wanted["params.layers.0.bias"])
    with open_cell(bundle, Memory(), guards=None, kept=memory.kept[-1]) as cell:
        assert cell.client.health()["snapshots"] == [number]
        assert cell.client.rollback(number)["episodes"] == 1
        require_same(cell.state, wanted)
        assert cell.client.snapshot()["snapshot"] == number + 1


def test_an_episode_under_way_is_lost_and_the_ones_before_are_not(bundle: Bundle) -> None:
    """It draws random numbers, which the session that goes on draws again: here by the action of the same state."""
    memory = Memory()
    with open_cell(bundle, memory, guards=None) as cell:
        cell.play_to(1)
        cell.client.reset()
        wanted = [cell.client.act([0.1 * step, 0.2])["action"] for step in range(3)]
    with open_cell(bundle, Memory(), guards=None, kept=memory.kept[-1]) as cell:
        health = cell.client.health()
        assert (health["running"], health["episodes"], health["resumed"]) == (False, 1, 1)
        with pytest.raises(PolicyError, match="act: expected an episode, got none"):
            cell.client.act([0.0, 0.0])
        cell.client.reset()
        assert [cell.client.act([0.1 * step, 0.2])["action"] for step in range(3)] == wanted


def test_a_full_disk_stops_nobody_and_the_next_episode_tries_again(bundle: Bundle) -> None:
    memory = Memory()
    with open_cell(bundle, memory, guards=None) as cell:
        cell.play_to(1)
        count, memory.full = len(memory.kept), True
        cell.play()
        told = cell.client.health()
        assert (told["kept_episodes"], told["episodes"], told["faults"]) == (1, 2, 0)
        assert "No space left on device" in told["keep_failure"]
        assert cell.client.snapshot()["kept"] is False
        assert len(memory.kept) == count
        memory.full = False
        cell.play()
        told = cell.client.health()
        assert (told["kept_episodes"], told["keep_failure"]) == (3, "")
        assert [record["episode"] for record in memory.records if record["kind"] == "episode"] == [1, 2, 3]


def test_a_learner_that_is_faster_than_who_has_the_session_writes_no_half_of_an_episode(bundle: Bundle) -> None:
    """An update has ended while the session has not said yet that its episode has."""
    memory = Memory()
    with open_cell(bundle, memory, guards=None) as cell:
        cell.play()
        count = len(memory.kept)
        cell.client.reset()
        cell.client.act([0.0, 0.0])
        cell.client.policy._session.end_episode([0.0, 0.0], terminated=False)
        while cell.client.health()["learning"]:
            time.sleep(0.002)
        cell.client.policy.keep_learned()
        assert len(memory.kept) == count
        cell.play()
        assert memory.kept[-1].facts["session"]["episodes"] == 3


def test_what_the_learner_draws_goes_on_where_it_was(bundle: Bundle) -> None:
    memory = Memory()
    with open_cell(bundle, memory, guards=None) as cell:
        cell.client.reset()
        cell.learner._rng.random(5)
        cell.play()
        wanted = cell.learner._rng.random(3)
    with open_cell(bundle, Memory(), guards=None, kept=memory.kept[-1]) as cell:
        np.testing.assert_array_equal(cell.learner._rng.random(3), wanted)


def test_an_update_that_the_end_of_the_process_cuts_off_is_still_kept(bundle: Bundle) -> None:
    memory = Memory()
    with open_cell(bundle, memory) as cell:
        while not cell.client.health()["extra"]:
            cell.play()
        cell.play()  # one of those that the update wants
        count = len(memory.kept)
    assert len(memory.kept) == count
    facts = memory.kept[-1].facts["learner"]
    assert ([update["verb"] for update in facts["updates"]], facts["plays"]) == (["observe"], 1)


def test_tasks_that_ended_are_handed_over_once(bundle: Bundle) -> None:
    memory = Memory()
    with open_cell(bundle, memory, guards=None) as cell:
        cell.play_to(2)
        known = read_known(memory.kept[-1].arrays)
        cell.client.reset(task=True)
        assert (memory.kept[-1].facts["tasks"], memory.kept[-1].facts["session"]["episodes"]) == (2, 0)
        require_same(memory.kept[-1].snapshots["task-1"], known)
        cell.client.reset(task=True)  # no episode: there is nothing to know
        cell.play()
    assert sum("task-" in name for kept in memory.kept for name in kept.snapshots) == 1
    with open_cell(bundle, Memory(), guards=None, kept=memory.kept[-1]) as cell:
        assert cell.client.health()["tasks"] == 3


def test_a_slow_disk_and_a_learner_that_ends_meanwhile_block_nobody(bundle: Bundle) -> None:
    memory = Memory()
    memory.slow = 0.05
    with open_cell(bundle, memory, guards=None) as cell:
        for _ in range(3):
            play_served(cell.client, cell.robot, cell.rng)
            threads = [threading.Thread(target=cell.client.policy.keep_learned) for _ in range(3)]
            for thread in threads:
                thread.start()
            cell.client.reset(task=True)
            for thread in threads:
                thread.join()
        cell.wait()
    done = [(kept.facts["tasks"], kept.facts["session"]["episodes"]) for kept in memory.kept]
    assert done == sorted(done)


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept.facts.pop("learner"),
        lambda kept: kept.facts["session"].pop("rng"),
        lambda kept: kept.facts["learner"].update(plays=3),
        lambda kept: kept.arrays.pop("learner.agent.params.layers.0.bias"),
        lambda kept: kept.arrays.update({"session.params.layers.0.bias": np.zeros((1, 3), np.float32)}),
        lambda kept: kept.facts["session"].update(goal=[1.0, 2.0, 3.0]),
        lambda kept: kept.facts.update(snapshots=[[1, 0, 0, False]]),
    ],
)
def test_what_is_no_session_is_refused(bundle: Bundle, damage: Callable[[Kept], object]) -> None:
    memory = Memory()
    with open_cell(bundle, memory, guards=None) as cell:
        cell.play()
    kept = memory.kept[-1]
    damage(kept)
    with pytest.raises((RunError, SpecError), match="expected"), open_cell(bundle, Memory(), guards=None, kept=kept):
        pass


def test_the_newest_policy_is_judged_before_the_end_where_the_client_asks_for_it(bundle: Bundle) -> None:
    with open_cell(bundle, Memory(), guards=replace(GUARDS, canary=False)) as cell:
        cell.play_to(4)
        assert cell.learner.whole_state()[1]["unjudged"] is True
        extra = cell.client.health()["guards"]["extra"]
        cell.client.finish()
        while cell.client.health()["extra"]:
            cell.play()
        told = cell.client.health()["guards"]
        assert told["extra"] - extra == GUARDS.baseline
        assert (told["unjudged"], cell.learner.whole_state()[1]["unjudged"]) == (0, False)


ODD: tuple[Any, ...] = (1e30, 3e38, float("nan"), 1e-320, 2**63, None, "x", True, [1.0])
VERBS = (*("act", "observe") * 8, *("end_episode", "reset") * 3, "adapt", "finish", "snapshot", "rollback")


def make_request(rng: random.Random, snapshots: Sequence[int]) -> dict[str, Any]:
    def number() -> Any:
        return rng.choice(ODD) if rng.random() < 0.03 else rng.uniform(-1.0, 1.0)

    verb = rng.choice(VERBS)
    fields: dict[str, dict[str, Any]] = {
        "act": {"observation": [number(), number()]},
        "observe": {"reward": number()},
        "end_episode": {"observation": [number(), number()], "terminated": rng.random() < 0.5},
        "reset": {"task": rng.random() < 0.1, "goal": rng.choice([None, [4.0, 3.0], [number(), number()]])},
        "rollback": {"snapshot": rng.choice([*snapshots, 99])},
    }
    return {"id": 1, "verb": verb, **fields.get(verb, {})}


@pytest.mark.parametrize("guards", [GUARDS, replace(GUARDS, canary=False, max_rollbacks=0), None])
def test_clients_that_do_anything_in_any_order_and_restarts(bundle: Bundle, guards: GuardConfig | None) -> None:
    """No request is a fault, no update hangs, and each restart has what was kept."""
    rng, kept, answered = random.Random(1), None, 0
    for _ in range(3):
        memory = Memory()
        with open_cell(bundle, memory, guards=guards, kept=kept) as cell:
            policy, clients = cell.client.policy, [Direct(cell.client.policy) for _ in range(2)]
            health = cell.client.health()
            if kept is not None:
                assert health["episodes"] == health["resumed"] == kept.facts["session"]["episodes"]
                assert health["snapshots"] == [number for number, *_ in kept.facts["snapshots"]]
            for _ in range(120):
                if rng.random() < 0.03:
                    policy.leave(clients[0])
                    clients.reverse()
                memory.full = rng.random() < 0.05
                request = make_request(rng, cell.client.health()["snapshots"])
                answer = msgpack.unpackb(policy.answer(msgpack.packb(request), clients[rng.random() < 0.05]))
                answered += answer["ok"]
                assert answer["ok"] or answer["error"] in ("SpecError", "RunError", "RobotFault"), answer
                assert policy.counts["faults"] == 0, answer
            while (health := cell.client.health())["learning"]:
                time.sleep(0.002)
            assert health["faults"] == 0
        kept = memory.kept[-1] if memory.kept else kept
    assert kept is not None
    assert answered > 60
