"""Updates in a child give what updates here give, and a child that goes wrong changes nothing."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.contract import Budget
from supple.adapt.host.export import write_exported
from supple.adapt.host.hosts import make_hosted
from supple.adapt.host.update_child import answer
from supple.adapt.loop import Adapter
from supple.adapt.runtime_agent import RandomNoise
from supple.adapt.updates import HEAD, BesideAgent, UpdateChild, UpdateFault, pack, unpack
from supple.errors import BundleError, RobotFault
from supple.robots.task import Task

from .test_hosts import GOALS, ROBOT, pearl_ft, ppo

TASKS = tuple(Task(f"task{index}", tuple(goal)) for index, goal in enumerate(GOALS.tolist()))


class Beside(NamedTuple):
    """An adaptation whose updates a child takes."""

    adapter: Adapter
    child: UpdateChild
    held: list[int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of a learner with steps of adaptation, and of one that learns while it observes."""
    folder = tmp_path_factory.mktemp("bundles")
    for make in (ppo, pearl_ft):
        budget = Budget(episodes=1, adapt_steps=5)
        write_exported(folder / make.__name__, make(), ROBOT.spec, budget, simulator=None, provenance={})
    return folder


def make_adapter(bundle: Bundle, wrap: Callable[[Any, np.random.Generator], Any]) -> Adapter:
    rng = np.random.default_rng(1)
    agent = wrap(make_hosted(bundle, RandomNoise(rng)), rng)
    return Adapter(agent, ROBOT, TASKS, Budget(episodes=1, adapt_steps=5), 5, rng)


def make_beside(path: Path, seconds: float = 120.0, idle: Callable[[], None] | None = None) -> Beside:
    bundle, held = load_bundle(path), list[int]()
    child = UpdateChild(path, bundle, seconds)
    hold = idle or (lambda: held.append(child.pid or 0))
    return Beside(make_adapter(bundle, lambda agent, rng: BesideAgent(agent, child, rng, hold)), child, held)


@pytest.fixture
def beside(folder: Path) -> Iterator[Beside]:
    found = make_beside(folder / "ppo")
    yield found
    found.child.close()


def require_same(one: Adapter, other: Adapter) -> None:
    (arrays, facts), (expected, expected_facts) = one.state(), other.state()
    assert facts == expected_facts
    assert arrays.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)


@pytest.mark.parametrize("name", ["ppo", "pearl_ft"])
def test_a_child_learns_what_would_be_learned_here_bit_for_bit(folder: Path, name: str) -> None:
    """Also after one was killed in the middle: nothing of the agent has changed, and another child goes on."""
    here, there = make_adapter(load_bundle(folder / name), lambda agent, rng: agent), make_beside(folder / name)
    adapter, child, held = there
    first = here.agent.state()
    try:
        for _ in range(3):
            assert here.round() == adapter.round()
        pid = child.pid
        assert pid is not None
        assert set(held) == {pid}  # one child, and somebody held the robot meanwhile
        if name == "ppo":
            adapter.play()
            before = adapter.agent.state()
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(UpdateFault, match=r"expected a child that learns, got its end by signal 9"):
                adapter.learn()
            after = adapter.agent.state()
            assert all(np.array_equal(after[name], value) for name, value in before.items())
        for _ in range(2):
            assert here.round() == adapter.round()
        assert (child.pid == pid) == (name != "ppo")
        require_same(adapter, here)
        last = here.agent.state()
        learned = [name for name in last if name.startswith(("params.", "kept.", "host."))]
        assert any(name not in first or not np.array_equal(first[name], last[name]) for name in learned)
    finally:
        child.close()


def test_what_a_service_manager_sends_to_all_processes_ends_no_update(beside: Beside) -> None:
    adapter, child, _ = beside
    adapter.round()
    pid = child.pid
    assert pid is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    adapter.round()
    assert child.pid == pid


def test_a_child_that_hangs_is_ended_at_the_end_of_its_budget(folder: Path) -> None:
    adapter, child, held = make_beside(folder / "ppo", seconds=0.3)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    adapter.play()
    with pytest.raises(UpdateFault, match=r"within 0\.3 s"):
        adapter.learn()
    assert child.pid is None
    assert len(held) >= 2
    child.close()


def test_a_robot_that_cannot_be_held_ends_the_update(folder: Path) -> None:
    def lose() -> None:
        raise RobotFault("robot: expected one that listens, got none; cut its power")

    adapter, child, _ = make_beside(folder / "ppo", idle=lose)
    adapter.play()
    with pytest.raises(RobotFault, match="cut its power"):
        adapter.learn()
    assert child.pid is None


def spoil(state: dict[str, Any], how: str) -> tuple[dict[str, Any], dict[str, Any]]:
    name = next(name for name in sorted(state) if name.startswith("params.") and state[name].ndim > 1)
    facts: dict[str, Any] = {"rng": np.random.default_rng(5).bit_generator.state}
    if how == "not finite":
        state[name] = np.full_like(state[name], np.nan)
    elif how == "of another shape":
        state[name] = state[name][..., :-1].copy()
    elif how == "lacks a part":
        del state[name]
    else:  # a state that can be taken, and random numbers that cannot
        state[name] = state[name] + 1.0
        facts = {} if how == "no random state" else {"rng": {"bit_generator": "PCG64"}}
    return facts, state


@pytest.mark.parametrize("how", ["not finite", "of another shape", "lacks a part", "no random state", "half of one"])
def test_what_is_no_state_of_the_agent_changes_nothing(
    beside: Beside, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    adapter = beside.adapter
    adapter.play()
    before, drawn = adapter.agent.state(), adapter.rng.bit_generator.state

    def answer(verb: str, arrays: dict[str, Any], facts: Any, idle: Any) -> Any:
        state = {name.removeprefix("state."): v.copy() for name, v in arrays.items() if name.startswith("state.")}
        return spoil(state, how)

    monkeypatch.setattr(beside.child, "update", answer)
    with pytest.raises(UpdateFault, match="expected a state of the agent"):
        adapter.learn()
    after = adapter.agent.state()
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    assert adapter.rng.bit_generator.state == drawn


def test_a_child_of_another_bundle_is_told_apart(folder: Path) -> None:
    about = {"bundle": str(folder / "ppo"), "digest": "0" * 64, "learner": {}, "device": "cpu", "threads": 1}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(pack(about, {}))
        with pytest.raises(BundleError, match="expected the bundle that acts, got another one"):
            answer(theirs)


def test_messages_come_whole_or_not_at_all() -> None:
    message = pack({"verb": "adapt"}, {"a": np.arange(3.0), "empty": np.zeros((0, 2), np.float32), "one": np.array(7)})
    found = unpack(message)
    assert found is not None
    assert found[0] == {"verb": "adapt"}
    assert found[1]["a"].tolist() == [0.0, 1.0, 2.0]
    assert found[1]["empty"].shape == (0, 2)
    assert found[1]["one"].shape == ()
    assert unpack(message[:-1]) is None
    assert unpack(message[:3]) is None
    bad = [message + b"x", HEAD.pack(2, 0) + b"[]", HEAD.pack(2, 3) + b"{}abc", HEAD.pack(1 << 31, 0)]
    for wrong in bad:
        with pytest.raises(UpdateFault):
            unpack(wrong)


def test_a_child_whose_robot_process_is_gone_ends_in_the_middle_of_an_update(folder: Path) -> None:
    """Before, it went on to the end of its update, for minutes and for nobody."""
    _, child, _ = make_beside(folder / "ppo")
    assert child._process is not None
    while "update_child" not in Path(f"/proc/{child.pid}/cmdline").read_text():
        time.sleep(0.01)
    child._link.setblocking(True)
    child._link.sendall(child._unsent)  # it loads torch and the bundle now
    child._link.shutdown(socket.SHUT_RDWR)
    child._link.close()
    assert child._process.wait(60.0) == 0
