"""A person commands instead of the policy: by a keyboard behind a pseudo-terminal, and by messages on a socket."""

import json
import os
import pty
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.poison import NearPoints, make_bundle
from supple.adapt.audit import AuditLog
from supple.adapt.bundle import Bundle
from supple.adapt.host.hosts import make_hosted
from supple.adapt.loop import Adapter, run_episode
from supple.adapt.runtime_agent import RandomNoise, RuntimeAgent
from supple.adapt.safety import SafetyLimits
from supple.adapt.spaces import RowSpace, SpaceSettings
from supple.adapt.takeover import (
    KeyboardOperator,
    SocketOperator,
    TakenOver,
    Terminal,
    find_latent,
    relabel,
    require_keys,
)
from supple.adapt.task_monitor import Judgement, ScriptMonitor
from supple.adapt.watch import CommandTap, Operator, Watch
from supple.errors import ConfigError, RobotFault
from supple.robots.limits import RobotLimits
from supple.robots.robot import StepRows
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec
from supple.robots.task import Task

TASK = (Task("corner", (4.0, 3.0)),)
GOALS = np.array([TASK[0].goal], np.float32)
ROW = np.arange(1)


class Keys:
    """A pseudo-terminal, and the person at its other end."""

    def __init__(self) -> None:
        self.person, source = pty.openpty()
        self.terminal = Terminal(source)
        self.now = 0.0
        self.told: list[str] = []

    def press(self, keys: str) -> None:
        os.write(self.person, keys.encode())

    def operator(self, **options: Any) -> KeyboardOperator:
        return KeyboardOperator(self.terminal, self.told.append, clock=lambda: self.now, **options)


@pytest.fixture
def keys() -> Iterator[Keys]:
    made = Keys()
    yield made
    made.terminal.close()
    os.close(made.person)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "spirl")


class ScriptedAt(Operator):
    """Presses keys before the steps in which they are due; for a person who looks at the robot."""

    def __init__(self, keys: Keys, operator: KeyboardOperator, script: dict[int, str]) -> None:
        self._keys, self._operator, self._script = keys, operator, script
        self._step = 0

    def begin(self, spec: RobotSpec) -> None:
        self._step = 0
        self._operator.begin(spec)

    def command(self, requested: Any, observation: Any) -> Any:
        self._keys.press(self._script.get(self._step, ""))
        self._step += 1
        self._keys.now += 0.11
        return self._operator.command(requested, observation)


def watched(folder: Path, operator: Operator | None = None, **options: Any) -> tuple[Watch, AuditLog]:
    robot, log = CommandTap(NearPoints(1)), AuditLog(folder / "audit.jsonl", simulator=True)
    return Watch(SafetyLimits(robot, log), robot, operator=operator, **options), log


def test_a_person_takes_over_and_hands_back(keys: Keys, tmp_path: Path) -> None:
    script = {2: " q", 5: "s", 8: " "}
    watch, log = watched(tmp_path, ScriptedAt(keys, keys.operator(gain=1.0), script))
    start = watch.reset(ROW, GOALS, np.random.default_rng(0))
    places = [start[0]]
    for _ in range(10):
        places.append(watch.step(ROW, np.zeros((1, 2), np.float32)).observation[0])
    moves = np.diff(places, axis=0)
    # q for 3 steps of 0.1 s: it counts as pressed for less than 0.3 s; then s, in the other axis
    np.testing.assert_allclose(moves[:, 0], [0, 0, 1, 1, 1, 0, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(moves[:, 1], [0, 0, 0, 0, 0, -1, -1, -1, 0, 0], atol=1e-6)
    over = watch.find_taken_over()
    assert over is not None
    assert over.taken.tolist() == [False] * 2 + [True] * 6 + [False] * 2
    np.testing.assert_allclose(over.command[:, 0], moves[:, 0], atol=1e-6)
    np.testing.assert_allclose(over.observation, np.array(places[:-1]))
    assert keys.told == ["You command the robot.", "The policy commands the robot."]
    assert watch.take_signals().taken_over == 6
    log.close()


def test_what_a_person_commands_passes_the_limits(keys: Keys, tmp_path: Path) -> None:
    watch, log = watched(tmp_path, ScriptedAt(keys, keys.operator(gain=50.0), {0: " q"}))
    start = watch.reset(ROW, GOALS, np.random.default_rng(0))
    observation = watch.step(ROW, np.zeros((1, 2), np.float32)).observation
    assert observation[0, 0] - start[0, 0] == pytest.approx(1.0)
    log.close()


@pytest.mark.parametrize("limited", [False, True])
def test_keys_move_a_place_as_far_as_the_limits_that_hold_let_it(keys: Keys, limited: bool) -> None:
    """At half of the velocity: 1 rad/s of the contract for .1 s is .05 rad, .2 rad/s of a file .01 rad."""
    spec = RobotSpec(
        "arm",
        ArraySpec("observation", (Axis("joint", "deg", -3.0, 3.0),)),
        ArraySpec("action", (Axis("target", "deg", -2.0, 2.0, 1.0, "joint"),)),
        ArraySpec("goal", (Axis("joint", "deg", -3.0, 3.0),)),
        0.1,
        100,
    )
    limits = RobotLimits.of(spec)
    table = {"target": {"velocity": 0.2, "position": [-1.0, 0.015]}}
    operator = keys.operator(limits=limits.override_by({"action": table}, "file") if limited else None)
    operator.begin(spec)
    keys.press(" q")
    requested, seen = np.zeros(1, np.float32), np.zeros(1, np.float32)
    told = [operator.command(requested, seen) for _ in range(2)]
    np.testing.assert_allclose(np.ravel(told), [0.01, 0.015] if limited else [0.05, 0.1], atol=1e-6)  # type: ignore[arg-type]


def test_a_new_episode_begins_with_the_policy(keys: Keys, tmp_path: Path) -> None:
    watch, log = watched(tmp_path, ScriptedAt(keys, keys.operator(), {0: " "}))
    watch.reset(ROW, GOALS, np.random.default_rng(0))
    watch.step(ROW, np.zeros((1, 2), np.float32))
    assert watch.find_taken_over() is not None
    watch.reset(ROW, GOALS, np.random.default_rng(0))
    assert watch.find_taken_over() is None
    log.close()


def test_a_person_judges_and_prepares(keys: Keys, tmp_path: Path) -> None:
    asked: list[str] = []

    def idle() -> None:
        """The robot is kept where it is; then the person answers."""
        asked.append(keys.told[-1])
        if len(asked) == 2:
            keys.press("\n")

    person = keys.operator(judges=True, prompts=True, idle=idle)
    watch, log = watched(tmp_path, monitor=person)
    keys.press("\n\n")  # before anybody asked: no answer
    watch.reset(ROW, GOALS, np.random.default_rng(0))
    assert len(asked) >= 2
    assert keys.told == ["Put the robot and the task in their place for the goal (4, 3), then press Enter."]
    person.begin(watch.spec)
    nothing = watch.step(ROW, np.ones((1, 2), np.float32))
    assert (nothing.reward[0], nothing.terminated[0]) == (0.0, False)
    keys.press("+")
    solved = watch.step(ROW, np.ones((1, 2), np.float32))
    assert solved.success is not None
    assert (solved.reward[0], solved.terminated[0], solved.success[0]) == (1.0, True, True)
    log.close()


def test_no_terminal_is_refused() -> None:
    source, _ = os.pipe()
    with pytest.raises(ConfigError, match="expected a terminal"):
        Terminal(source)


def test_the_terminal_is_left_as_it_was() -> None:
    import termios

    _, source = pty.openpty()
    before = termios.tcgetattr(source)
    terminal = Terminal(source)
    assert termios.tcgetattr(source) != before
    terminal.close()
    assert termios.tcgetattr(source) == before


@pytest.fixture
def source(tmp_path: Path) -> Iterator[tuple[SocketOperator, socket.socket, list[float]]]:
    now = [0.0]
    operator = SocketOperator(tmp_path / "operator", clock=lambda: now[0])
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.connect(str(tmp_path / "operator"))
    operator.begin(NearPoints(1).spec)
    yield operator, client, now
    client.close()
    operator.close()
    assert not (tmp_path / "operator").exists()


def ask(operator: SocketOperator) -> list[float] | None:
    command = operator.command(np.zeros(2, np.float32), np.zeros(2, np.float32))
    return None if command is None else command.tolist()


def test_messages_take_over_and_hand_back(source: Any) -> None:
    operator, client, now = source
    assert ask(operator) is None
    client.send(json.dumps({"take": True, "command": [0.5, -0.25]}).encode())
    assert ask(operator) == [0.5, -0.25]
    now[0] = 0.5  # silence: it stays as it is, and the policy does not come back by itself
    assert ask(operator) == [0.0, 0.0]
    client.send(b'{"take": false}')
    assert ask(operator) is None
    assert operator.ignored == 0


def test_a_socket_that_another_process_listens_to_is_not_taken_away(source: Any, tmp_path: Path) -> None:
    operator, client, _ = source
    with pytest.raises(ConfigError, match="expected one that nobody listens to, got one of another process"):
        SocketOperator(tmp_path / "operator")
    client.send(json.dumps({"take": True, "command": [0.5, -0.25]}).encode())
    assert ask(operator) == [0.5, -0.25]
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(str(tmp_path / "left"))
    left.close()  # as a kill leaves it
    SocketOperator(tmp_path / "left").close()


BAD = [
    b"",
    b"[",
    b"{}",
    b'{"take": 1}',
    b'{"take": true}',
    b'{"take": true, "command": [1]}',
    b'{"take": true, "command": [1, NaN]}',
    b'{"take": true, "command": [1, 1e400]}',
    b'{"take": true, "command": [1, "a"]}',
    b'{"take": true, "command": {"a": 1}}',
    b'{"take": true, "command": ["1", 0]}',
    b'{"take": true, "command": [true, 0]}',
    b'{"take": true, "command": "12"}',
    b"[" * 4000,
    b"\xff\xfe",
    b'{"take": true, "command": [' + b"1," * 2500 + b"1]}",
]


@pytest.mark.parametrize("message", BAD)
def test_malformed_messages_change_nothing(source: Any, message: bytes) -> None:
    operator, client, _ = source
    client.send(message)
    assert ask(operator) is None
    assert operator.ignored == 1


def test_random_bytes_change_nothing(source: Any) -> None:
    operator, client, _ = source
    rng = np.random.default_rng(0)
    for _ in range(300):
        client.send(rng.bytes(int(rng.integers(1, 200))))
        assert ask(operator) is None
    assert operator.ignored == 300


def make_adapter(bundle: Bundle, watch: Watch, *, off_policy: bool) -> Adapter:
    rng = np.random.default_rng(0)
    agent: RuntimeAgent = make_hosted(bundle, RandomNoise(rng))
    budget = bundle.contract.budget
    return Adapter(agent, watch, TASK, budget, 20, rng, off_policy=off_policy)


def test_what_a_person_did_is_learned_from_off_policy(keys: Keys, tmp_path: Path, bundle: Bundle) -> None:
    watch, log = watched(tmp_path, ScriptedAt(keys, keys.operator(gain=1.0), {1: " q"}))
    adapter = make_adapter(bundle, watch, off_policy=True)
    adapter.play()
    played = adapter._played
    assert played is not None
    np.testing.assert_allclose(played.latent[0, 1], [1.0, 0.0])  # the raw space's latent is the command itself
    (record,) = adapter.learn()
    assert record["learned"] is True
    assert record["taken_over"] == record["steps"] - 1
    assert adapter.episode == 1
    log.close()


def test_an_episode_with_a_person_is_forgotten_on_policy(keys: Keys, tmp_path: Path, bundle: Bundle) -> None:
    watch, log = watched(tmp_path, ScriptedAt(keys, keys.operator(), {1: " q"}))
    adapter = make_adapter(bundle, watch, off_policy=False)
    before = adapter.agent.state()
    adapter.play()
    arrays, facts = adapter.state()
    again = make_adapter(bundle, watch, off_policy=False)
    again.load_state({name: value.copy() for name, value in arrays.items()}, facts)
    for one in (adapter, again):
        (record,) = one.learn()
        assert record["learned"] is False
        assert one.episode == 0
        after = one.agent.state()
        assert all(np.array_equal(before[name], after[name]) for name in before)
    log.close()


def test_a_skill_that_does_what_a_person_did_is_found() -> None:
    """The decoder is linear in the latent, so that the best latent is known."""
    plane = tuple(Axis(name, "m", -10.0, 10.0) for name in ("x", "y"))
    robot = RobotSpec(
        name="linear",
        observation=ArraySpec("observation", plane),
        action=ArraySpec("action", tuple(Axis(name, "m", -10.0, 10.0) for name in ("u", "v"))),
        goal=ArraySpec("goal", plane),
        control_period=0.1,
        episode_steps=10,
    )
    settings = SpaceSettings(name="skill", horizon=3, latent_dim=2, prior=(2, 4), decoder=(4, 2))
    matrix = np.array([[2.0, 1.0], [0.0, 1.0]], np.float32)
    weights = {
        "space.mean": np.zeros(2, np.float32),
        "space.std": np.ones(2, np.float32),
        "space.prior.layers.0.weight": np.zeros((4, 2), np.float32),
        "space.prior.layers.0.bias": np.zeros(4, np.float32),
        "space.decoder.layers.0.weight": np.concatenate([np.eye(2, dtype=np.float32), matrix], axis=1),
        "space.decoder.layers.0.bias": np.zeros(2, np.float32),
    }
    space, wanted = RowSpace(settings, robot, weights), np.array([0.7, -0.4], np.float32)
    observation = np.array([[0.0, 0.0], [0.5, 0.1], [-0.2, 0.3]], np.float32)
    command = observation + wanted @ matrix.T
    np.testing.assert_allclose(find_latent(space, observation, command), wanted, atol=0.02)


def test_only_decisions_that_a_person_changed_are_relabelled(bundle: Bundle) -> None:
    agent = bundle.make_agent(RandomNoise(np.random.default_rng(0)))
    agent.begin_task(1)
    played = run_episode(NearPoints(1), agent, GOALS, np.random.default_rng(0))
    steps = int(played.steps[0])
    taken = np.arange(steps) == 2
    command = np.full((steps, 2), 0.5, np.float32)
    found = relabel(agent.space, played, TakenOver(taken, np.zeros((steps, 2), np.float32), command))
    changed = (found.latent != played.latent).any(axis=2)[0]
    assert changed.tolist() == [index == 2 for index in range(len(changed))]


def judge(step: StepRows, judgement: Any) -> StepRows:
    monitor = ScriptMonitor(lambda observation, goal: judgement)
    monitor.begin(GOALS[0])
    return monitor.judge(step)


def test_a_script_tells_reward_and_success() -> None:
    step = StepRows(np.zeros((1, 2), np.float32), np.zeros(1, np.float32), np.array([False]), np.array([True]))
    told = judge(step, Judgement(2.0, success=True, ended=True))
    assert told.success is not None
    assert (told.reward[0], told.success[0], told.terminated[0], told.truncated[0]) == (2.0, True, True, False)
    told = judge(step, Judgement(np.array([1]), np.array(True), np.bool_(False)))  # type: ignore[arg-type]
    assert (told.reward.tolist(), told.success, told.truncated) == ([1.0], np.array([True]), np.array([True]))
    assert told.reward.dtype == np.float32


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "got AttributeError"),
        ((1.0, True, False), "got AttributeError"),
        (Judgement(float("nan")), "expected a finite reward, got nan"),
        (Judgement(1e300), r"expected a finite reward, got 1e\+300"),  # infinite for whoever learns from it
        (Judgement("1.0"), "TypeError str 1.0 as reward"),  # type: ignore[arg-type]
        (Judgement(0.0, float("nan")), "TypeError float nan as success"),  # type: ignore[arg-type]
        (Judgement(0.0, "False"), "TypeError str False as success"),  # type: ignore[arg-type]
        (Judgement(0.0, None), "TypeError NoneType None as success"),  # type: ignore[arg-type]
        (Judgement(0.0, False, "no"), "TypeError str no as ended"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_judgement_is_a_fault_and_no_success(wrong: Any, message: str) -> None:
    step = StepRows(np.zeros((1, 2), np.float32), np.zeros(1, np.float32), np.array([False]), np.array([True]))
    with pytest.raises(RobotFault, match=message):
        judge(step, wrong)


GOAL_SPEC = ArraySpec("goal", (Axis("goal", "rad", -1.0, 1.0),))


def place_spec(axes: int, rate: float | None = None) -> RobotSpec:
    seen = tuple(Axis(f"q{index}", "rad", -1.0, 1.0) for index in range(axes))
    told = tuple(Axis(f"t{index}", "rad", -1.0, 1.0, rate, f"q{index}") for index in range(axes))
    return RobotSpec("arm", ArraySpec("observation", seen), ArraySpec("action", told), GOAL_SPEC, 0.1, 50)


def test_a_source_that_falls_silent_does_not_let_an_arm_creep(source: Any) -> None:
    operator, client, now = source
    operator.begin(place_spec(1))
    client.send(b'{"take": true, "command": [0.5]}')
    requested = np.zeros(1, np.float32)

    def ask_at(time: float, seen: float) -> float:
        now[0] = time
        return float(operator.command(requested, np.array([seen], np.float32))[0])

    assert ask_at(0.0, 0.4) == 0.5
    assert ask_at(0.3, 0.4) == pytest.approx(0.4)
    assert [ask_at(0.4 + 0.1 * step, 0.4 - 0.05 * step) for step in range(3)] == pytest.approx([0.4, 0.4, 0.4])
    client.send(b'{"take": true, "command": [0.2]}')
    assert ask_at(0.7, 0.3) == pytest.approx(0.2)
    assert ask_at(1.0, 0.2) == pytest.approx(0.2)  # another silence, another place


def test_a_place_without_a_rate_limit_in_the_contract_is_moved_by_keys_too(keys: Keys) -> None:
    operator = keys.operator()
    operator.begin(place_spec(1))
    zero = np.zeros(1, np.float32)
    keys.press(" q")
    assert operator.command(zero, zero) == pytest.approx(0.1)  # half of the range of 2 rad in a second, 0.1 s


def test_a_robot_of_more_axes_than_keys_or_of_choices_is_not_commanded_by_keys() -> None:
    require_keys(place_spec(9))
    with pytest.raises(ConfigError, match="expected at most 9 action axes, two keys for each, got 10; command it with"):
        require_keys(place_spec(10))
    one = place_spec(1)
    choosing = RobotSpec("grid", one.observation, make_choice_spec(("up", "down")), GOAL_SPEC, 0.1, 50, ("up", "down"))
    with pytest.raises(ConfigError, match=r"got choices \['up', 'down'\]"):
        require_keys(choosing)


def test_a_script_that_counts_is_told_when_an_episode_begins() -> None:
    class Twice:
        """Pays at the second step of an episode."""

        def begin(self, goal: Any) -> None:
            self.left = int(goal[0])

        def __call__(self, observation: Any, goal: Any) -> Judgement:
            self.left -= 1
            return Judgement(float(self.left == 0), success=self.left == 0)

    monitor = ScriptMonitor(Twice())
    step = StepRows(np.zeros((1, 2), np.float32), np.zeros(1, np.float32), np.array([False]), np.array([False]))
    for _ in range(2):
        monitor.begin(np.array([2.0], np.float32))
        assert [float(monitor.judge(step).reward[0]) for _ in range(3)] == [0.0, 1.0, 0.0]
    with pytest.raises(RobotFault, match="expected a begin that completes, got ValueError"):
        monitor.begin(np.array([np.nan], np.float32))


def test_a_terminal_that_has_gone_is_a_fault_and_no_silence() -> None:
    """Before, a hang-up was read as no key: nobody could take over any more, and a prompt waited for ever."""
    person, source = pty.openpty()
    terminal = Terminal(source)
    operator = KeyboardOperator(terminal, lambda text: None, prompts=True)
    operator.begin(NearPoints(1).spec)
    os.close(person)
    for call in (terminal.read, lambda: operator.begin(GOALS[0]), lambda: ask_keys(operator)):
        with pytest.raises(RobotFault, match="operator: expected a terminal with a person at it, got "):
            call()
    terminal.close()
    os.close(source)


def ask_keys(operator: KeyboardOperator) -> object:
    return operator.command(np.zeros(2, np.float32), np.zeros(2, np.float32))


def test_keys_come_singly_again_after_a_shell_has_set_the_terminal_back(keys: Keys) -> None:
    import termios

    usual = termios.tcgetattr(keys.terminal._source)
    usual[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(keys.terminal._source, termios.TCSANOW, usual)  # as after Ctrl-Z and fg
    keys.terminal.read()
    keys.press("q")
    assert keys.terminal.read(1.0) == "q"


def test_a_command_in_the_background_reads_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    _, source = pty.openpty()
    monkeypatch.setattr(os, "tcgetpgrp", lambda handle: os.getpgrp() + 1)
    with pytest.raises(ConfigError, match="a command in the foreground, whose keys it reads, got one in the backgr"):
        Terminal(source)


def test_a_source_that_sends_without_end_does_not_keep_the_robot_waiting(source: Any) -> None:
    operator, _, _ = source

    class Endless:
        def recv(self, most: int) -> bytes:
            return b'{"take": true, "command": [0.5, 0.0]}'

        def close(self) -> None: ...

    kept, operator._socket = operator._socket, Endless()
    assert ask(operator) == [0.5, 0.0]
    operator._socket = kept


@pytest.mark.parametrize(
    ("path", "said"), [("", "expected a path, got none"), ("x" * 200, "got AF_UNIX path too long")]
)
def test_a_place_that_is_none_is_refused(path: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SocketOperator(path)
