"""Guards in `supple serve --learn`: the client plays what they ask for, and a bad update leaves no worse policy."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.poison import EPISODES, NearPoints, open_served, play_served, serve_poisoned
from benchmarks.poison import make_bundle as make_spirl
from supple.adapt.background_learner import BackgroundLearner, Update
from supple.adapt.bundle import Bundle
from supple.adapt.guard_config import GuardConfig
from supple.adapt.policy_change import take_learned
from supple.adapt.remote.client import PolicyClient, PolicyError
from supple.adapt.remote.server import PolicyServer, serve_policy
from supple.adapt.session import AgentSession
from supple.adapt.updates import UpdateFault
from supple.pipeline.stages.serve import open_learner

TOKEN = "a-token-of-sixteen-or-more"
CONFIG = GuardConfig(canary=False)
FAST = replace(CONFIG, baseline=3, window=3)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_spirl(tmp_path_factory.mktemp("bundle") / "spirl")


class Cell:
    """A client, its robot and the learner behind the server."""

    def __init__(self, client: PolicyClient, learner: BackgroundLearner) -> None:
        self.client, self.learner = client, learner
        self.robot, self.rng = NearPoints(1), np.random.default_rng(7)

    def play(self, **reset: Any) -> None:
        play_served(self.client, self.robot, self.rng, **reset)

    def play_to_update(self, most: int = EPISODES) -> None:
        """Until the guards have let an update through, with all that they ask for."""
        for _ in range(most):
            self.play()
            if self.guards["updates"] and not self.client.health()["extra"]:
                return
        raise AssertionError("nothing was learned")

    @property
    def guards(self) -> dict[str, Any]:
        told: dict[str, Any] = self.client.health()["guards"]
        return told

    @property
    def events(self) -> list[str]:
        return [event["event"] for event in self.client.health()["events"]]

    @property
    def policy(self) -> dict[str, Any]:
        return take_learned(self.learner.state())


@pytest.fixture
def cell(bundle: Bundle, request: pytest.FixtureRequest) -> Iterator[Cell]:
    with open_served(bundle, 0, guards=getattr(request, "param", FAST)) as (client, learner):
        yield Cell(client, learner)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())


def wait(cell: Cell) -> dict[str, Any]:
    while (health := cell.client.health())["learning"]:
        time.sleep(0.005)
    return health


@pytest.mark.parametrize(("poison", "episodes"), [("nan", 8), ("inverted", 12), ("constant", 9)])
def test_poisoned_rewards_over_the_socket_leave_a_policy_that_is_no_worse(
    bundle: Bundle, poison: Any, episodes: int
) -> None:
    found = serve_poisoned(bundle, poison, 0, guards=FAST, episodes=episodes)
    assert found.drop <= 0.0
    assert found.final == found.prior  # nothing was told, so nothing was learned


def test_the_poison_works_without_guards(bundle: Bundle) -> None:
    assert serve_poisoned(bundle, "inverted", 1, guards=None, episodes=16).drop > 0.0


def test_the_prior_policy_is_measured_before_another_one_acts(cell: Cell) -> None:
    cell.play(task=True)
    first = cell.policy
    while not cell.client.health()["extra"]:
        cell.play()
    played = cell.guards["episodes"]
    told = cell.client.reset()
    assert (told["extra"], told["speed"]) == (True, 1.0)
    with pytest.raises(PolicyError, match=r"reset: RunError|expected to be between"):
        cell.client.snapshot()
    extra = 0
    while cell.client.health()["extra"]:
        cell.play()
        extra += 1
        assert cell.client.health()["episodes"] == played
    assert played + extra == FAST.baseline
    assert wait(cell)["guards"]["extra"] == extra
    assert cell.guards["updates"] == 1
    assert cell.events == ["baseline", *["limited"] * (len(cell.events) - 1)]
    assert not same(cell.policy, first)


def test_a_client_that_leaves_in_an_extra_episode_is_asked_for_it_again(bundle: Bundle) -> None:
    with open_served(bundle, 0, guards=FAST) as (client, learner):
        cell = Cell(client, learner)
        while not client.health()["extra"]:
            cell.play()
        url, token = f"ws://127.0.0.1:{client._connection.socket.getpeername()[1]}", "a-token-of-a-benchmark"
        client.reset()
        client.act([0.0, 0.0])
        with pytest.raises(PolicyError, match=r"adapt: .*between two episodes"):
            client.adapt()
        client.close()
        with PolicyClient(url, token, timeout=60.0) as second:
            for _ in range(2000):
                if not second.health()["running"]:
                    break
            health = second.health()
            assert (health["extra"], health["guards"]["extra"]) == (True, 1)
            with pytest.raises(PolicyError, match="expected no extra episode to be asked for, got one; play it first"):
                second.snapshot()
            cell.client = second
            while second.health()["extra"]:
                cell.play()
            assert wait(cell)["guards"]["extra"] == 1
            assert cell.guards["updates"] == 1


def test_a_new_task_and_a_rollback_end_the_wait_for_an_extra_episode(cell: Cell) -> None:
    cell.play(task=True)
    number, first = cell.client.snapshot()["snapshot"], cell.policy
    while not cell.client.health()["extra"]:
        cell.play()
    assert cell.client.rollback(number)["guards"]["learns"] is True
    assert not cell.client.health()["extra"]
    assert same(cell.policy, first)
    while not cell.client.health()["extra"]:
        cell.play()
    cell.play(task=True)
    health = cell.client.health()
    assert (health["extra"], health["learning"], health["episodes"], health["guards"]["extra"]) == (False, False, 1, 0)


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(replace(FAST, max_updates=1), id="updates"),
        pytest.param(replace(FAST, max_episodes=5), id="episodes"),
        pytest.param(replace(FAST, max_robot_seconds=5.0), id="seconds"),
    ],
    indirect=True,
)
def test_a_budget_that_is_used_up_ends_learning_and_not_acting(cell: Cell) -> None:
    while cell.client.health().get("guards", {}).get("learns", True):
        cell.play()
        wait(cell)
    while cell.client.health()["extra"]:
        cell.play()
    before, updates = cell.policy, wait(cell)["guards"]["updates"]
    number = cell.client.snapshot()["snapshot"]
    for _ in range(3):
        cell.play()
    assert same(cell.policy, before)
    assert cell.guards["updates"] == updates
    assert cell.client.rollback(number)["guards"]["learns"] is False  # what is spent stays spent
    cell.play(task=True)
    assert cell.guards["learns"] is True


def test_each_episode_has_a_snapshot_of_before(cell: Cell) -> None:
    cell.play_to_update()
    wait(cell)
    before = cell.policy
    cell.client.reset()
    cell.client.act([0.0, 0.0])
    cell.client.observe(0.3)
    told = cell.client.end_episode([0.5, 0.5], terminated=False)
    assert told["snapshot"] in cell.client.health()["snapshots"]
    while cell.client.health()["extra"]:
        cell.play()
    wait(cell)
    assert not same(cell.policy, before)
    assert cell.client.rollback(told["snapshot"])["guards"]["updates"] == 2
    assert same(cell.policy, before)


@pytest.mark.parametrize("cell", [replace(FAST, max_rollbacks=1)], indirect=True)
def test_a_child_that_dies_counts_as_a_rollback_and_then_the_prior_policy_acts(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell.play(task=True)
    prior = cell.policy
    cell.play_to_update()
    wait(cell)
    learned = cell.policy
    assert not same(learned, prior)
    assert cell.learner.guards is not None

    for error, expected in ((UpdateFault("update: got its end by signal 9"), learned), (MemoryError("no room"), prior)):

        def die(episodes: Any, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(cell.learner.guards._acting, "observe", die)
        with pytest.raises(PolicyError, match=str(error).split(":")[0]):
            cell.play()
        assert same(cell.policy, expected)
    assert cell.events[-3:] == ["failed", "failed", "prior"]
    assert (cell.guards["rollbacks"], cell.guards["fallen"], cell.guards["learns"]) == (2, 1, False)
    cell.play()  # it acts on, and nothing fails
    assert same(cell.policy, prior)


def test_a_world_in_which_the_prior_policy_does_worse_holds_the_robot(cell: Cell) -> None:
    cell.play_to_update()
    wait(cell)
    guards = cell.learner.guards
    assert guards is not None
    guards._fall_back("as if it had failed too often")

    class Broken(NearPoints):
        def _pay(self, observation: Any, goals: Any) -> Any:
            return super()._pay(observation, goals) - np.float32(3.0)

    cell.robot = Broken(1)

    def go_on() -> None:
        for _ in range(10):
            cell.play()

    with pytest.raises(PolicyError, match=r"the robot is held|expected a policy that does as it did, got none"):
        go_on()
    with pytest.raises(PolicyError, match=r"reset: RobotFault: reset: .* does worse than it did.*begin a new task"):
        cell.client.reset()
    assert "does worse than it did" in cell.guards["held"]
    cell.client.reset(task=True)
    assert cell.guards["held"] == ""


@pytest.mark.parametrize("cell", [GuardConfig(baseline=3, window=3, canary_kl=0.0, canary_speed=0.25)], indirect=True)
def test_a_canary_is_an_episode_at_low_speed(cell: Cell) -> None:
    """The commands of the points are speeds of at most 1: at a quarter of the speed of at most 1/4."""
    while not cell.guards["updates"] if "guards" in cell.client.health() else True:
        cell.play()
    told = cell.client.reset()
    assert (told["extra"], told["speed"]) == (True, 0.25)
    actions = [cell.client.act([0.1 * step, 0.0])["action"] for step in range(12)]
    assert 0.0 < np.abs(actions).max() <= 0.25
    cell.play()
    assert wait(cell)["events"][-1]["event"] in ("canary", "rollback")


def test_an_episode_with_a_request_that_could_not_be_read_is_not_learned_from(cell: Cell) -> None:
    cell.client.reset()
    cell.client.act([0.0, 0.0])
    with pytest.raises(PolicyError, match="a number as reward"):
        cell.client.observe(float("nan"))
    told = cell.client.end_episode([0.0, 0.0], terminated=False)
    assert told["learned"] is False
    assert cell.guards["episodes"] == 0
    cell.play()
    assert cell.guards["episodes"] == 1


def test_an_episode_of_an_older_policy_says_nothing_of_the_new_one(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    cell.play_to_update()
    wait(cell)
    assert cell.learner.guards is not None
    judged: list[int] = []
    judge = cell.learner.guards._judge
    monkeypatch.setattr(cell.learner.guards, "_judge", lambda outcome: judged.append(1) or judge(outcome))
    cell.client.reset()
    cell.client.act([0.0, 0.0])
    cell.learner._submit(Update("adapt"))  # as if an update had begun meanwhile
    assert cell.client.end_episode([0.0, 0.0], terminated=False)["learned"] is True
    wait(cell)
    assert judged == []
    cell.play()
    assert judged == [1]


def test_a_real_child_that_is_killed_counts_and_the_next_one_learns(tmp_path: Path) -> None:
    """As `supple serve --learn` is started, with gradient steps in a process beside."""
    bundle = make_spirl(tmp_path / "spirl")
    with open_learner(tmp_path / "spirl", bundle, FAST, 0, guarded=True) as learner:
        session = AgentSession(bundle, learner=learner)
        server = serve_policy(PolicyServer(session, {}, learner=learner), "127.0.0.1", 0, TOKEN)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            with PolicyClient(url, TOKEN, timeout=60.0) as client:
                cell = Cell(client, learner)
                cell.play_to_update()
                learned, updates = cell.policy, cell.guards["updates"]
                child = learner.guards._acting._child  # type: ignore[union-attr]
                os.kill(child.pid, signal.SIGKILL)
                with pytest.raises(PolicyError, match="got its end by signal 9"):
                    cell.play()
                assert same(cell.policy, learned)
                told = cell.client.snapshot()["guards"]
                assert (told["rollbacks"], told["updates"], told["learns"]) == (1, updates, True)
                cell.play()
                assert cell.guards["updates"] == updates + 1
        finally:
            server.shutdown()
            thread.join()
