"""No command outside of the limits reaches the robot, and a stop stays a stop."""

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from supple.adapt.action_limits import ActionLimits
from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.adapt.watch import CommandTap
from supple.errors import RobotFault, SpecError
from supple.robots.bounded_robot import BoundedRobot, DriverThread, DriverTimes
from supple.robots.limits import RobotLimits
from supple.robots.maze import MazeBatch
from supple.robots.maze_layout import make_layout
from supple.robots.robot import (
    Bool,
    Float,
    Holds,
    RobotBatch,
    RobotRow,
    Rows,
    Step,
    StepRows,
    Stops,
    TellsAge,
    TellsSent,
    WrappedRobots,
    can,
)
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec

ALL = np.arange(3)


class FakeBatch:
    """Rows that integrate their commands and keep them; the next observations can be spoiled."""

    def __init__(self, spec: RobotSpec, rows: int) -> None:
        self.spec, self.rows = spec, rows
        self.commands: list[tuple[Rows, Float]] = []
        self.resets = 0
        self.closed = False
        self.state = np.zeros((rows, 4), np.float32)
        self.spoil: Callable[[Float], Any] = lambda observation: observation
        self.answer: Callable[[StepRows], Any] = lambda step: step
        self.reward, self.truncated = 0.0, False

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        self.resets += 1
        self.state[rows] = 0.0
        return self.spoil(self.state[rows])

    def step(self, rows: Rows, action: Float) -> StepRows:
        self.commands.append((rows.copy(), action.copy()))
        self.state[rows, :2] += action
        ended = np.full(len(rows), self.truncated)
        reward = np.full(len(rows), self.reward, np.float32)
        step = StepRows(self.spoil(self.state[rows]), reward, np.zeros(len(rows), np.bool_), ended)
        return self.answer(step)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        shape = (*observation.shape[:-1], len(goals))
        return np.ones(shape, np.float32), np.zeros(shape, np.bool_)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def fake(rated_spec: RobotSpec) -> FakeBatch:
    """Three rows; axis fx in [-1, 1] N with 0.1 N per step, axis fy in [-0.5, 2] N."""
    return FakeBatch(rated_spec, 3)


@pytest.fixture
def log(log_path: Path) -> AuditLog:
    return AuditLog(log_path)


@pytest.fixture
def safe(fake: FakeBatch, log: AuditLog) -> SafetyLimits:
    limits = SafetyLimits(fake, log)
    limits.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    return limits


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def action(fx: float, fy: float, rows: int = 3) -> Float:
    return np.tile(np.array([fx, fy], np.float32), (rows, 1))


def count_violations(spec: RobotSpec, commands: list[tuple[Rows, Float]], rows: int) -> int:
    """Commands outside of the limits or the rate limit, judged in float64 and one number at a time."""
    ends = zip(spec.action.inner_low.tolist(), spec.action.inner_high.tolist(), strict=True)
    rest = [float(np.float32(min(max(0.0, low), high))) for low, high in ends]
    last = [list(rest) for _ in range(rows)]
    violations = 0
    for index, sent in commands:
        assert sent.dtype == np.float32
        for row, command in zip(index.tolist(), sent.tolist(), strict=True):
            for a, axis in enumerate(spec.action.axes):
                change = np.inf if axis.rate_limit is None else axis.rate_limit * spec.control_period
                within = axis.low <= command[a] <= axis.high
                violations += not (within and abs(command[a] - last[row][a]) <= change)
                last[row][a] = command[a]
    return violations


def test_a_hand_worked_sequence(safe: SafetyLimits, fake: FakeBatch) -> None:
    for requested in ((0.05, 1.0), (1.0, 5.0), (-9.0, -9.0), (0.1, -0.5)):
        safe.step(ALL, action(*requested))
    sent = np.array([command[0] for _, command in fake.commands])
    # fx moves by at most 5 N/s * 0.02 s = 0.1 N per step; fy is only clipped to [-0.5, 2]
    np.testing.assert_allclose(sent, [[0.05, 1.0], [0.15, 2.0], [0.05, -0.5], [0.1, -0.5]], rtol=1e-6)


def test_what_is_within_the_limits_passes_unchanged(spec: RobotSpec, log_path: Path) -> None:
    fake = FakeBatch(spec, 3)
    safe = SafetyLimits(fake, AuditLog(log_path))
    safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    requested = rng.uniform(spec.action.low, spec.action.high, (100, 3, 2)).astype(np.float32)
    for command in requested:
        safe.step(ALL, command)
    np.testing.assert_array_equal(np.array([command for _, command in fake.commands]), requested)
    assert [record["event"] for record in records(log_path)] == ["open"]


def test_a_hundred_thousand_adversarial_commands(rated_spec: RobotSpec, log_path: Path) -> None:
    """100 rows x 1000 steps of huge, tiny, boundary and off-by-one-ulp commands in both precisions; 0 violations."""
    first, second = rated_spec.action.axes
    awkward = (
        replace(first, low=-0.1, high=0.3, rate_limit=1 / 3),
        replace(second, low=0.7, high=1000.1, rate_limit=7.7),
    )
    spec = replace(rated_spec, action=ArraySpec("action", awkward), control_period=0.013)
    fake = FakeBatch(spec, 100)
    safe = SafetyLimits(fake, AuditLog(log_path))
    rng = np.random.default_rng(2)
    safe.reset(np.arange(100), np.zeros((100, 2), np.float32), rng)
    edges = np.array([0.0, -0.0, 1e-45, 1e300, -1e300, 3.4e38, -3.4e38, -0.1, 0.3, 0.7, 1000.1, 1 / 3, 5e-324])
    singles = np.clip(edges, -3.4e38, 3.4e38).astype(np.float32)
    edges = np.concatenate(
        [edges, singles, np.nextafter(singles, np.float32(1)), np.nextafter(singles, np.float32(-1))]
    )
    for step in range(1000):
        rows = np.arange(100) if step % 7 else np.flatnonzero(rng.random(100) < 0.5)
        shape = (len(rows), 2)
        wild = rng.standard_normal(shape) * 10.0 ** rng.integers(-40, 40, shape)
        previous = fake.commands[-1][1] if fake.commands else wild
        near = np.resize(previous, shape) + rng.choice([-1e-3, 0.0, 1e-9], shape)
        choice = rng.integers(0, 4, shape)
        kinds = [wild, rng.choice(edges, shape), near, rng.uniform(-1.0, 2.0, shape)]
        requested = np.choose(choice, kinds)
        if step % 3 == 0:
            requested = np.clip(requested, -3.4e38, 3.4e38).astype(np.float32)
        safe.step(rows, requested)
    assert sum(len(rows) for rows, _ in fake.commands) > 90_000
    assert count_violations(spec, fake.commands, 100) == 0
    safe.close()
    stop, clamps = records(log_path)[-2:]
    assert stop["reason"] == "the session was closed in the middle of an episode"
    assert clamps["commands"] == sum(len(rows) for rows, _ in fake.commands)
    assert sum(axis["clamped"] for axis in clamps["axes"].values()) > 50_000


@given(
    requested=arrays(np.float64, (20, 2), elements=st.floats(allow_nan=False, allow_infinity=False)),
    low=st.floats(-10.0, 0.0),
    width=st.floats(0.01, 10.0),
    rate=st.floats(1e-3, 1e3),
)
@example(requested=np.full((20, 2), -3.0), low=-3.5274824024226534, width=1.0, rate=1.0)  # a rest that float32 rounds
def test_limits_hold_for_any_numbers(requested: NDArray[np.float64], low: float, width: float, rate: float) -> None:
    spec = _spec_with(low, low + width, rate)
    limits = ActionLimits.of(spec)
    history = limits.start(spec.compute_resting(np.zeros((1, 1), np.float32)))
    commands = []
    for row in requested:
        commands.append((np.zeros(1, np.int64), limits.apply(row[None], history)[0]))
    assert count_violations(spec, commands, 1) == 0


def _spec_with(low: float, high: float, rate: float) -> RobotSpec:
    axes = tuple(Axis(name, "N", low, high, rate) for name in ("fx", "fy"))
    one = ArraySpec("observation", (Axis("x", "m", -1.0, 1.0),))
    return RobotSpec("any", one, ArraySpec("action", axes), one, 0.02, 10)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_command_that_is_not_finite_is_never_sent(safe: SafetyLimits, fake: FakeBatch, value: float) -> None:
    bad = action(0.0, 0.0)
    bad[1, 1] = value
    with pytest.raises(RobotFault, match=r"finite command, got .* in axis 'fy' of row 1"):
        safe.step(ALL, bad)
    assert fake.commands == []
    with pytest.raises(RobotFault, match="expected an armed robot"):
        safe.step(ALL, action(0.0, 0.0))
    with pytest.raises(RobotFault, match="expected an armed robot"):
        safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    assert fake.commands == []
    assert fake.resets == 1


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 3)), np.zeros(2), np.zeros((3, 2), np.complex64), np.zeros((3, 2), object)]
)
def test_a_command_of_another_shape_or_kind_is_a_fault(safe: SafetyLimits, fake: FakeBatch, bad: NDArray[Any]) -> None:
    with pytest.raises(RobotFault, match=r"commands of shape \(3, 2\), got"):
        safe.step(ALL, bad)
    assert fake.commands == []
    assert safe.stop_reason is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda observation: observation * np.nan,
        lambda observation: np.where(np.arange(4) == 2, np.inf, observation),
        lambda observation: observation[:, :3],
        lambda observation: observation[:2],
    ],
)
def test_a_faulty_observation_stops(safe: SafetyLimits, fake: FakeBatch, spoil: Callable[[Float], Float]) -> None:
    safe.step(ALL, action(0.0, 0.0))
    fake.spoil = spoil
    with pytest.raises(RobotFault, match="observation"):
        safe.step(ALL, action(0.0, 0.0))
    fake.spoil = lambda observation: observation
    with pytest.raises(RobotFault, match="expected an armed robot"):
        safe.step(ALL, action(0.0, 0.0))
    assert len(fake.commands) == 2


def test_a_faulty_first_observation_and_a_faulty_reward_stop(
    safe: SafetyLimits, fake: FakeBatch, log: AuditLog
) -> None:
    (code,) = log.issue_codes(1)
    fake.reward = np.nan
    with pytest.raises(RobotFault, match="finite rewards"):
        safe.step(ALL, action(0.0, 0.0))
    safe.rearm(code)
    fake.spoil = lambda observation: observation + np.float32(np.nan)
    with pytest.raises(RobotFault, match="finite observation"):
        safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    assert safe.stop_reason is not None


def test_an_old_observation_stops(fake: FakeBatch, log: AuditLog) -> None:
    age: Any = 0.0
    safe = SafetyLimits(fake, log, observation_age=lambda: age, max_observation_age=0.05, clock=count(1.0).__next__)
    codes = log.issue_codes(6)
    safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    age = 0.05
    safe.step(ALL, action(0.0, 0.0))
    for age in (0.051, np.nan, -1e-9, None, "0.01", True):
        with pytest.raises(RobotFault, match=r"at most 0\.05 s old, got one of"):
            safe.step(ALL, action(0.0, 0.0))
        safe.rearm(codes.pop())
        age = 0.0
        safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))


def test_a_frozen_observation_stops(fake: FakeBatch, log_path: Path) -> None:
    safe = SafetyLimits(fake, AuditLog(log_path), max_frozen_steps=3)
    safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    moving = action(0.01, 0.01)
    for _ in range(10):
        safe.step(ALL, moving)
    frozen = moving.copy()
    frozen[2] = 0.0  # the command of row 2 settles at 0 on the next step, so its observation repeats from then on
    for _ in range(3):
        safe.step(ALL, frozen)
    with pytest.raises(RobotFault, match="same one 4 times in row 2"):
        safe.step(ALL, frozen)


def test_a_step_that_raises_stops(safe: SafetyLimits, fake: FakeBatch) -> None:
    def fail(observation: Float) -> Float:
        raise KeyboardInterrupt

    fake.spoil = fail
    with pytest.raises(KeyboardInterrupt):
        safe.step(ALL, action(0.0, 0.0))
    assert safe.stop_reason == "the robot's step did not complete: KeyboardInterrupt"


def test_rearming_needs_a_code_that_was_not_used_and_a_reset(
    safe: SafetyLimits, fake: FakeBatch, log: AuditLog, log_path: Path
) -> None:
    first, second, third = log.issue_codes(3)
    with pytest.raises(RobotFault, match="expected a stopped robot"):
        safe.rearm(first)
    safe.stop("operator")
    with pytest.raises(RobotFault, match="stopped by 'operator'"):
        safe.step(ALL, action(0.0, 0.0))
    for code in ("", "made up by a program", first[:-1], None):
        with pytest.raises(RobotFault, match="expected a code that was issued"):
            safe.rearm(code)  # type: ignore[arg-type]
    safe.rearm(first.upper())
    with pytest.raises(RobotFault, match="rows that were reset, got row 0"):
        safe.step(ALL, action(0.0, 0.0))
    assert "rows that were reset" in str(safe.stop_reason)
    with pytest.raises(RobotFault, match="expected a code that was issued"):
        safe.rearm(first)
    safe.rearm(second)
    safe.reset(np.array([0, 2]), np.zeros((2, 2), np.float32), np.random.default_rng(0))
    safe.step(np.array([0, 2]), action(0.0, 0.0, 2))
    with pytest.raises(RobotFault, match="rows that were reset, got row 1"):
        safe.step(ALL, action(0.0, 0.0))
    assert fake.resets == 2
    events = [record["event"] for record in records(log_path)]
    assert events == ["open", "codes", "stop", "rearm", "stop", "rearm", "stop"]
    assert all(code.replace("-", "") not in log_path.read_text() for code in (first, second, third))


def test_a_stop_outlives_the_process_and_so_do_codes(fake: FakeBatch, log_path: Path) -> None:
    log = AuditLog(log_path)
    alpha, beta = log.issue_codes(2)
    safe = SafetyLimits(fake, log)
    safe.stop("smoke")
    safe.rearm(alpha)
    safe.stop("fire")
    safe.close()
    log.close()
    assert fake.closed
    again = SafetyLimits(fake, AuditLog(log_path))
    assert again.stop_reason == "fire"
    with pytest.raises(RobotFault, match="stopped by 'fire'"):
        again.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    with pytest.raises(RobotFault, match="expected a code"):
        again.rearm(alpha)
    again.rearm(beta)
    again.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    assert [record["sequence"] for record in records(log_path)] == list(range(8))


def test_the_drives_are_cut_at_each_stop(fake: FakeBatch, log_path: Path) -> None:
    reasons: list[str] = []
    safe = SafetyLimits(fake, AuditLog(log_path), on_stop=reasons.append)
    safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    with pytest.raises(RobotFault):
        safe.step(ALL, action(np.nan, 0.0))
    assert len(reasons) == 1
    assert "finite command" in reasons[0]


def test_limits_cannot_be_changed_by_a_policy(safe: SafetyLimits, fake: FakeBatch) -> None:
    limits = ActionLimits.of(fake.spec)
    for array in (limits.low, limits.high, limits.change, limits.acceleration, limits.jerk):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1e9
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.flags.writeable = True
    for name in ("low", "high"):
        array = getattr(fake.spec.action, name)
        if array.flags.writeable:
            array[:] = 1e9 if name == "high" else -1e9
    with pytest.raises(AttributeError):
        safe.spec = fake.spec  # type: ignore[misc]
    mine = action(1e6, -1e6)
    for _ in range(30):
        safe.step(ALL, mine)
    np.testing.assert_array_equal(mine, action(1e6, -1e6))
    assert count_violations(fake.spec, fake.commands, 3) == 0


def test_a_robot_without_limits_is_not_moved(spec: RobotSpec, log_path: Path) -> None:
    endless = tuple(replace(axis, high=np.inf) for axis in spec.action.axes)
    with pytest.raises(SpecError, match="expected finite low < high for action axis 'fx'"):
        SafetyLimits(FakeBatch(replace(spec, action=ArraySpec("action", endless)), 1), AuditLog(log_path))


@pytest.mark.parametrize("rows", [[0, 0], [3], [-1], [[0, 1]], [0.0, 1.0]])
def test_rows_are_checked_before_anything_moves(safe: SafetyLimits, fake: FakeBatch, rows: list[Any]) -> None:
    with pytest.raises(SpecError, match="different row indices below 3"):
        safe.step(np.array(rows), action(0.0, 0.0, 2))
    assert fake.commands == []


def test_clamps_are_counted_from_reset_to_reset(safe: SafetyLimits, fake: FakeBatch, log_path: Path) -> None:
    requested = action(0.0, 0.0)
    requested[1] = [0.5, 9.0]  # fx may change by 0.1, fy ends at 2
    safe.step(ALL, requested)
    safe.step(ALL, action(0.05, 0.0))
    safe.step(ALL[:2], action(-0.75, 0.0, 2))  # from 0.05 to -0.05
    assert [record["event"] for record in records(log_path)] == ["open"]
    reset = [np.zeros((3, 2), np.float32), np.random.default_rng(0)]
    safe.reset(ALL, *reset)
    safe.reset(ALL, *reset)  # nothing happened in between
    clamps = records(log_path)[1]
    # 3 + 3 + 2 commands; fx: row 1 at first, then both rows of the last step, which miss -0.75 by 0.7
    assert (clamps["event"], clamps["commands"]) == ("clamps", 8)
    assert clamps["axes"]["fx"] == {"clamped": 3, "largest": pytest.approx(0.7)}
    assert clamps["axes"]["fy"] == {"clamped": 1, "largest": 7.0}
    fake.truncated = True
    safe.step(ALL, action(0.0, 3.0))
    safe.close()
    last = records(log_path)[2]
    assert (last["commands"], last["axes"]) == (3, {"fy": {"clamped": 3, "largest": 1.0}})
    assert len(records(log_path)) == 3
    times = [record["monotonic"] for record in records(log_path)]
    assert times == sorted(times)


@pytest.mark.parametrize("fault", ["command", "observation", "raise"])
def test_a_fault_is_recorded_at_once_and_then_the_clamps_before_it(
    safe: SafetyLimits, fake: FakeBatch, log_path: Path, fault: str
) -> None:
    def interrupt(observation: Float) -> Float:
        raise KeyboardInterrupt

    safe.step(ALL, action(0.0, 9.0))
    fake.spoil = {"command": fake.spoil, "observation": lambda seen: seen * np.nan, "raise": interrupt}[fault]
    with pytest.raises((RobotFault, KeyboardInterrupt)):
        safe.step(ALL, action(np.nan if fault == "command" else 0.0, 0.0))
    assert [record["event"] for record in records(log_path)] == ["open", "stop", "clamps"]


class Hostile:
    """Whatever is done with it raises, its text included."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("array")

    def __str__(self) -> str:
        raise ZeroDivisionError("text")

    __repr__ = __str__


def unreadable(_: Any) -> Any:
    raise ValueError(Hostile())


ANSWERS: dict[str, Callable[[StepRows], Any]] = {
    "none": lambda _: None,
    "list": list,
    "tuple": tuple,
    "text": lambda _: "fine",
    "raises": unreadable,
    "observation none": lambda step: step._replace(observation=None),
    "observation list": lambda step: step._replace(observation=step.observation.tolist()),
    "observation of objects": lambda step: step._replace(observation=step.observation.astype(object)),
    "observation ragged": lambda step: step._replace(observation=[[0.0], [0.0, 1.0], []]),
    "observation hostile": lambda step: step._replace(observation=Hostile()),
    "observation complex": lambda step: step._replace(observation=step.observation * 1j),
    "observation too large": lambda step: step._replace(observation=step.observation + 1e300),
    "observation masked": lambda step: step._replace(
        observation=np.ma.masked_invalid(np.where(np.arange(4) == 1, np.nan, step.observation))
    ),
    "reward none": lambda step: step._replace(reward=None),
    "reward of one row": lambda step: step._replace(reward=step.reward[:1]),
    "reward of text": lambda step: step._replace(reward=np.array(["1", "2", "3"])),
    "terminated none": lambda step: step._replace(terminated=None),
    "terminated of numbers": lambda step: step._replace(terminated=step.reward),
    "truncated of one row": lambda step: step._replace(truncated=step.truncated[:1]),
    "success of numbers": lambda step: step._replace(success=step.reward),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_whatever_a_driver_answers_a_fault_is_typed_latched_and_cuts_the_drives(
    fake: FakeBatch, log: AuditLog, kind: str
) -> None:
    reasons: list[str] = []
    safe = SafetyLimits(fake, log, on_stop=reasons.append)
    safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    fake.answer = ANSWERS[kind]
    with pytest.raises(RobotFault, match="safety limits: expected"):
        safe.step(ALL, action(0.0, 0.0))
    fake.answer = lambda step: step
    assert safe.stop_reason == reasons[0]
    with pytest.raises(RobotFault, match="expected an armed robot"):
        safe.step(ALL, action(0.0, 0.0))
    assert len(fake.commands) == len(reasons) == 1


@pytest.mark.parametrize(
    "paid", [None, 1.0, (np.zeros(3),), (np.zeros(7), np.zeros(7)), (np.array([["1", "2"]] * 3), np.zeros((3, 2)))]
)
def test_a_reward_function_that_answers_otherwise_is_a_typed_error(fake: FakeBatch, log: AuditLog, paid: Any) -> None:
    safe = SafetyLimits(fake, log)
    fake.compute_reward = lambda observation, goals: paid  # type: ignore[method-assign]
    with pytest.raises(RobotFault, match=r"safety limits: expected .*compute_reward.*; correct the driver"):
        safe.compute_reward(np.zeros((3, 4), np.float32), np.zeros((2, 2), np.float32))
    assert safe.stop_reason is None  # nothing moves by it


def test_a_reward_function_that_works_in_place_is_refused(fake: FakeBatch, log: AuditLog) -> None:
    def spoil(observation: Float, goals: Float) -> Any:
        observation[:] = 0.0

    fake.compute_reward = spoil  # type: ignore[method-assign]
    seen = np.ones((3, 4), np.float32)
    with pytest.raises(RobotFault, match=r"compute_reward that completes, got ValueError .*read-only"):
        SafetyLimits(fake, log).compute_reward(seen, np.zeros((2, 2), np.float32))
    assert (seen == 1.0).all()


def test_a_measurement_that_is_masked_is_none(fake: FakeBatch) -> None:
    """Before, numpy gave the number behind the mask, which nobody has measured."""

    class Masked:
        spec = fake.spec

        def step(self, action: Float) -> Step:
            seen = np.ma.masked_array(np.zeros(4, np.float32), mask=[False, True, False, False])
            return Step(seen, 0.0, terminated=False, truncated=False)

    with pytest.raises(RobotFault, match="step: expected 4 measured numbers, got a masked one"):
        RobotRow(Masked()).step(np.arange(1), np.zeros((1, 2), np.float32))  # type: ignore[arg-type]


COMMANDS: dict[str, Any] = {
    "none": None,
    "text": "forward",
    "ragged": [[0.0], [0.0, 1.0], []],
    "hostile": Hostile(),
    "flags": np.zeros((3, 2), np.bool_),
    "times": np.zeros((3, 2), "datetime64[s]"),
    "records": np.zeros((3, 2), [("a", np.float32)]),
    "too long a float": np.full((3, 2), np.longdouble("1e4000")),
    "a mapping": {"fx": 0.0},
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_whatever_a_policy_commands_a_fault_is_typed_and_latched(
    safe: SafetyLimits, fake: FakeBatch, kind: str
) -> None:
    with pytest.raises(RobotFault, match="safety limits: expected"):
        safe.step(ALL, COMMANDS[kind])
    assert safe.stop_reason is not None
    assert fake.commands == []


def test_whatever_the_rows_are_a_fault_is_latched(safe: SafetyLimits, fake: FakeBatch) -> None:
    with pytest.raises(RobotFault, match="got ZeroDivisionError"):
        safe.step(Hostile(), action(0.0, 0.0))  # type: ignore[arg-type]
    assert "ZeroDivisionError array" in str(safe.stop_reason)
    assert fake.commands == []


def test_a_driver_that_writes_into_what_it_is_given_changes_nothing(fake: FakeBatch, log: AuditLog) -> None:
    class Writing(FakeBatch):
        def step(self, rows: Rows, action: Float) -> StepRows:
            step = super().step(rows, action)
            for array in (rows, action):
                with pytest.raises(ValueError, match="read-only"):
                    array[:] = 9
                array.flags.writeable = True  # a driver that insists
                array[:] = 2
            return step

    robot = Writing(fake.spec, 3)
    safe = SafetyLimits(robot, log)
    safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    for _ in range(5):
        safe.step(ALL, action(1.0, 0.0))
    assert count_violations(fake.spec, robot.commands, 3) == 0
    np.testing.assert_allclose([sent[0, 0] for _, sent in robot.commands], [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-6)


def test_a_policy_that_writes_into_what_it_was_given_changes_nothing(fake: FakeBatch, log: AuditLog) -> None:
    """Without a copy, a policy that wrote into its observation would never look frozen."""
    safe = SafetyLimits(fake, log, max_frozen_steps=2)
    seen = safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    for _ in range(2):
        seen[:] = 7.0
        seen = safe.step(ALL, action(0.0, 0.0)).observation
        assert (seen == 0.0).all()
    seen[:] = 7.0
    with pytest.raises(RobotFault, match="same one 3 times"):
        safe.step(ALL, action(0.0, 0.0))


def make_joint_spec(*, commands: str | None = "q", low: float = -3.0) -> RobotSpec:
    """A joint that is told its angle, within 0.05 rad per step of 0.1 s."""
    seen = ArraySpec("observation", (Axis("v", "rad/s", -9.0, 9.0), Axis("q", "rad", -3.0, 3.0)))
    target = Axis("target", "rad", low, 3.0, 0.5, commands)
    return RobotSpec("joint", seen, ArraySpec("action", (target,)), ArraySpec("goal", seen.axes[1:]), 0.1, 50)


class JointBatch(FakeBatch):
    """Joints that are where they are told to be, each from its own start."""

    def __init__(self, spec: RobotSpec, start: Sequence[float]) -> None:
        super().__init__(spec, len(start))
        self.start, self.follows = np.array(start, np.float32), True

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        return np.stack([np.zeros(len(rows), np.float32), self.start[rows]], axis=1)

    def step(self, rows: Rows, action: Float) -> StepRows:
        self.commands.append((rows.copy(), action.copy()))
        if self.follows:
            self.start[rows] = action[:, 0]
        flags = np.zeros(len(rows), np.bool_)
        return StepRows(
            self.reset(rows, action, np.random.default_rng(0)), np.zeros(len(rows), np.float32), flags, flags
        )


@pytest.mark.parametrize("commands", ["q", None])  # None: it is the only angle with these limits
def test_the_first_command_is_limited_from_the_measured_place(log: AuditLog, commands: str | None) -> None:
    robot = JointBatch(make_joint_spec(commands=commands), (1.0, -2.0, 0.02))
    safe = SafetyLimits(robot, log)
    rng = np.random.default_rng(0)
    safe.reset(ALL, np.zeros((3, 1), np.float32), rng)
    for _ in range(2):
        safe.step(ALL, np.array([[1.0], [2.0], [0.0]], np.float32))
    # 1 rad stays; -2 rad may move by 0.05 rad; 0.02 rad is less than that away from 0
    np.testing.assert_allclose([sent[:, 0] for _, sent in robot.commands], [[1, -1.95, 0], [1, -1.9, 0]], atol=1e-6)
    robot.start[:] = 2.5  # somebody moved the joints between two episodes
    safe.reset(ALL, np.zeros((3, 1), np.float32), rng)
    safe.step(ALL, np.zeros((3, 1), np.float32))
    np.testing.assert_allclose(robot.commands[-1][1], 2.45, atol=1e-6)


def test_a_command_of_no_place_starts_at_rest(log: AuditLog) -> None:
    robot = JointBatch(make_joint_spec(commands=None, low=-1.0), (1.0,))  # other limits: another coordinate
    safe = SafetyLimits(robot, log)
    safe.reset(ALL[:1], np.zeros((1, 1), np.float32), np.random.default_rng(0))
    safe.step(ALL[:1], np.ones((1, 1), np.float32))
    np.testing.assert_allclose(robot.commands[0][1], 0.05, atol=1e-6)


@pytest.mark.parametrize(("start", "sent"), [(-1.04, -1.0), (-0.98, -0.98), (-1.06, None)])
def test_a_start_outside_the_limits_is_left_within_one_step_or_not_at_all(
    log: AuditLog, start: float, sent: float | None
) -> None:
    robot = JointBatch(make_joint_spec(low=-1.0), (start,))
    safe = SafetyLimits(robot, log)
    safe.reset(ALL[:1], np.zeros((1, 1), np.float32), np.random.default_rng(0))
    stay = np.array([[start]], np.float32)
    if sent is None:
        with pytest.raises(
            RobotFault, match=r"start within one step of the limits \[-1, 3\] .*'target', got -1\.06 rad"
        ):
            safe.step(ALL[:1], stay)
        assert robot.commands == []
        return
    safe.step(ALL[:1], stay)
    np.testing.assert_allclose(robot.commands[0][1], sent, atol=1e-6)


@pytest.mark.parametrize("index", [-1.0, 0.5, 2.0, 1e9])
def test_an_index_that_is_no_choice_is_a_fault_and_never_clipped(spec: RobotSpec, log: AuditLog, index: float) -> None:
    safe = SafetyLimits(
        FakeBatch(replace(spec, action=make_choice_spec(("left", "right")), choices=("left", "right")), 1), log
    )
    safe.reset(ALL[:1], np.zeros((1, 2), np.float32), np.random.default_rng(0))
    with pytest.raises(SpecError, match="one of the 2 choices"):
        safe.step(ALL[:1], np.array([[index]]))
    assert "one of the 2 choices" in str(safe.stop_reason)


def test_drives_that_cannot_be_cut_do_not_keep_the_stop_from_the_disk(fake: FakeBatch, log_path: Path) -> None:
    def fail(reason: str) -> None:
        raise OSError("no link to the drives")

    log = AuditLog(log_path)
    safe = SafetyLimits(fake, log, on_stop=fail)
    safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    with pytest.raises(RobotFault, match="finite command") as caught:
        safe.step(ALL, action(np.nan, 0.0))
    failed = "the robot could not be told to stop: OSError no link to the drives; cut its power"
    assert caught.value.__notes__ == [failed]
    assert next(record for record in records(log_path) if record["event"] == "stop")["problems"] == [failed]
    with pytest.raises(RobotFault, match=f"got '{failed}'; it holds all the same"):
        safe.stop("operator")
    safe.close()
    log.close()
    assert "finite command" in str(AuditLog(log_path).stop_reason)


def test_a_stop_from_another_thread_ends_the_step_that_it_meets(safe: SafetyLimits, fake: FakeBatch) -> None:
    def stop_meanwhile(step: StepRows) -> StepRows:
        thread = threading.Thread(target=safe.stop, args=("a person",))
        thread.start()
        thread.join()
        return step

    fake.answer = stop_meanwhile
    with pytest.raises(RobotFault, match="expected an armed robot, got one stopped by 'a person'"):
        safe.step(ALL, action(0.0, 0.0))


@pytest.mark.parametrize("ended", [False, True])
def test_a_session_that_is_closed_in_the_middle_of_an_episode_is_a_stop(
    fake: FakeBatch, log_path: Path, ended: bool
) -> None:
    reasons: list[str] = []
    log = AuditLog(log_path)
    safe = SafetyLimits(fake, log, on_stop=reasons.append)
    safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    fake.truncated = ended
    safe.step(ALL, action(0.0, 0.0))
    safe.close()
    log.close()
    assert len(reasons) == (not ended)
    assert (AuditLog(log_path).stop_reason is None) == ended


def test_a_real_robot_is_told_to_stop_and_asked_for_the_age(spec: RobotSpec, log: AuditLog) -> None:
    class Arm(Stops, TellsAge):
        def __init__(self) -> None:
            self.spec, self.told, self.age = spec, list[str](), 0.0

        def stop(self, reason: str) -> None:
            self.told.append(reason)

        def observation_age(self) -> float:
            return self.age

        def reset(self, goal: Float, rng: np.random.Generator) -> Float:
            return np.zeros(4, np.float32)

        def step(self, action: Float) -> Step:
            return Step(np.zeros(4, np.float32), 0.0, False, False)

        def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
            raise NotImplementedError

        def close(self) -> None:
            pass

    arm = Arm()
    safe = SafetyLimits(RobotRow(arm), log)
    safe.reset(ALL[:1], np.zeros((1, 2), np.float32), np.random.default_rng(0))
    safe.step(ALL[:1], np.zeros((1, 2), np.float32))
    arm.age = 1.0
    with pytest.raises(RobotFault, match=r"at most 0\.1 s old, got one of 1\.0 s"):
        safe.step(ALL[:1], np.zeros((1, 2), np.float32))
    assert len(arm.told) == 1


class Deaf:
    """A driver that cannot be told to stop, and fails in the third step."""

    def __init__(self, spec: RobotSpec) -> None:
        self.spec, self.steps, self.held = spec, 0, 0

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        return np.zeros(4, np.float32)

    def step(self, action: Float) -> Step:
        self.steps += 1
        if self.steps == 3:
            raise OSError("no link")
        return Step(np.zeros(4, np.float32), 0.0, False, False)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        raise NotImplementedError

    def close(self) -> None:
        pass


class DeafHolder(Deaf, Holds):
    """... but to hold."""

    def hold(self) -> None:
        self.held += 1


class NotedWatchdog:
    """In place of the second process."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.fired: str | None = None

    def beat(self) -> None:
        self.heard.append("beat")

    def rest(self) -> None:
        self.heard.append("rest")

    def stop(self, reason: str) -> None:
        self.heard.append("stop")


WRAPPED: dict[str, Callable[[Any], RobotBatch]] = {
    "a row": RobotRow,
    "a driver in a thread of its own": lambda driver: RobotRow(
        BoundedRobot(driver, DriverThread("arm"), DriverTimes())
    ),
    "a wrapper": lambda driver: WrappedRobots(RobotRow(driver)),
    "a tap of a wrapper": lambda driver: CommandTap(WrappedRobots(RobotRow(driver))),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("how", ["step", "nan", "close", "another thread"])
def test_a_driver_that_cannot_be_told_to_stop_is_stopped_by_the_second_process(
    spec: RobotSpec, log_path: Path, wrapped: str, how: str
) -> None:
    driver, dog, log = DeafHolder(spec), NotedWatchdog(), AuditLog(log_path)
    safe = SafetyLimits(WRAPPED[wrapped](driver), log, watchdog=dog)  # type: ignore[arg-type]
    safe.reset(ALL[:1], np.zeros((1, 2), np.float32), np.random.default_rng(0))
    safe.step(ALL[:1], action(0.0, 0.0, 1))
    if how == "step":
        safe.step(ALL[:1], action(0.0, 0.0, 1))
        with pytest.raises(RobotFault, match="no link"):
            safe.step(ALL[:1], action(0.0, 0.0, 1))
    elif how == "nan":
        with pytest.raises(RobotFault, match="finite"):
            safe.step(ALL[:1], action(np.nan, 0.0, 1))
    elif how == "close":
        safe.close()
    else:
        safe.stop("a person")
    assert dog.heard[-2:] == ["beat", "stop"]  # and not "rest", which would take the stop away
    assert driver.held == 1
    stop = next(record for record in records(log_path) if record["event"] == "stop")
    assert stop["told"] == ["second process", "driver, to hold"]
    log.close()


def test_what_nobody_was_told_is_no_rest_and_the_log_says_so(spec: RobotSpec, log_path: Path) -> None:
    safe = SafetyLimits(RobotRow(Deaf(spec)), AuditLog(log_path))
    safe.stop("a person")
    assert next(record for record in records(log_path) if record["event"] == "stop")["told"] == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_driver_that_cannot_stop_leaves_it_to_the_second_process(
    fake: FakeBatch, log_path: Path, fails: bool
) -> None:
    def cut(reason: str) -> None:
        if fails:
            raise OSError("no link to the drives")

    dog = NotedWatchdog()
    safe = SafetyLimits(fake, AuditLog(log_path), on_stop=cut, watchdog=dog)  # type: ignore[arg-type]
    safe.reset(ALL, np.zeros((3, 2), np.float32), np.random.default_rng(0))
    with pytest.raises(RobotFault, match="finite"):
        safe.step(ALL, action(np.nan, 0.0))
    assert dog.heard[-1] == ("stop" if fails else "rest")
    stop = next(record for record in records(log_path) if record["event"] == "stop")
    assert stop["told"] == (["second process"] if fails else ["driver"])


def test_abilities_are_those_of_the_driver_whatever_is_around_it(spec: RobotSpec) -> None:
    for wrap in WRAPPED.values():
        assert can(wrap(DeafHolder(spec)), Holds)
        assert not any(can(wrap(DeafHolder(spec)), ability) for ability in (Stops, TellsAge, TellsSent))
        assert not can(wrap(Deaf(spec)), Holds)


def test_the_maze_runs_the_same_behind_the_limits(log_path: Path) -> None:
    """Same protocol, same bits: whatever acts cannot tell that the limits are there."""
    layout = make_layout(8, 0)
    rows, goals = np.arange(4), np.full((4, 2), 5.0, np.float32)
    requested = np.random.default_rng(1).uniform(-1.5, 1.5, (50, 4, 2)).astype(np.float32)
    runs = []
    for limited in (False, True):
        maze = MazeBatch(layout, 4)
        robot = SafetyLimits(maze, AuditLog(log_path)) if limited else maze
        first = robot.reset(rows, goals, np.random.default_rng(0))
        runs.append([first.copy(), *(np.array(robot.step(rows, command).observation) for command in requested)])
        assert robot.spec == maze.spec
        assert robot.rows == 4
        robot.close()
    np.testing.assert_array_equal(*runs)


def make_arm(limits: dict[str, Any], log: AuditLog, **options: Any) -> tuple[JointBatch, SafetyLimits]:
    """A joint at 1 rad behind these limits, as they stand in a file of the operator."""
    robot = JointBatch(make_joint_spec(), (1.0,))
    safe = SafetyLimits(robot, log, limits=RobotLimits.of(robot.spec).override_by(limits, "test"), **options)
    safe.reset(ALL[:1], np.zeros((1, 1), np.float32), np.random.default_rng(0))
    return robot, safe


def move(safe: SafetyLimits, to: float) -> StepRows:
    return safe.step(ALL[:1], np.array([[to]], np.float32))


def test_a_robot_that_does_not_follow_stops(log: AuditLog) -> None:
    robot, safe = make_arm({"action": {"target": {"tracking_error": 0.12}}}, log)
    robot.follows = False
    move(safe, 2.0)
    move(safe, 2.0)  # .05 rad per step
    with pytest.raises(RobotFault, match=r"expected 'q' of row 0 at most 0\.12 from its command, got a tracking err"):
        move(safe, 2.0)
    assert "look for what holds the robot" in str(safe.stop_reason)


def test_a_place_out_of_its_box_or_half_space_stops(log: AuditLog, tmp_path: Path) -> None:
    _, safe = make_arm({"observation": {"q": [0.0, 1.12]}}, log)
    move(safe, 2.0)
    move(safe, 2.0)
    with pytest.raises(RobotFault, match=r"expected 'q' of row 0 within \[0, 1\.12\], got 1\.15; stopped: move the"):
        move(safe, 2.0)
    space = {"axes": ["q"], "normal": [-2.0], "offset": -2.15}
    _, safe = make_arm({"half_space": [space]}, AuditLog(tmp_path / "other.jsonl"))
    move(safe, 2.0)
    with pytest.raises(RobotFault, match=r"row 0 where \(-2\.0,\) \. \('q',\) >= -2\.15, got -2\.2"):
        move(safe, 2.0)


def test_a_start_out_of_its_box_is_a_fault_of_the_reset(log: AuditLog) -> None:
    with pytest.raises(RobotFault, match="within"):
        make_arm({"observation": {"q": [0.0, 0.9]}}, log)
    assert log.stop_reason is not None


def test_too_many_clipped_commands_stop(log: AuditLog) -> None:
    robot, safe = make_arm({"loop": {"clamped_steps": 2}}, log)
    for to in (1.02, 9.0, 1.06, -9.0):
        move(safe, to)
    sent = len(robot.commands)
    with pytest.raises(RobotFault, match="expected at most 2 clipped commands in an episode, got more in row 0"):
        move(safe, 9.0)
    assert len(robot.commands) == sent
    assert robot.spec.action.names == ("target",)


def test_a_late_command_is_not_followed_and_too_many_stop(log: AuditLog, log_path: Path) -> None:
    now = [0.0]
    _, safe = make_arm({"loop": {"late_after": 0.15, "late_steps": 2}}, log, clock=lambda: now[0])
    places = []
    for wait in (0.1, 0.1, 0.2, 0.3, 0.1, 0.2):
        now[0] += wait
        places.append(move(safe, 9.0).observation[0, 1])
    np.testing.assert_allclose(places, [1.05, 1.1, 1.1, 1.1, 1.15, 1.15], atol=1e-6)
    now[0] += 0.2
    move(safe, 9.0)
    now[0] += 0.2
    with pytest.raises(
        RobotFault, match=r"expected a command within 0\.15 s, got 3 late ones in a row, the last after 0"
    ):
        move(safe, 9.0)
    assert records(log_path)[-1]["late"] == 5


def test_a_clock_that_goes_backwards_stops(log: AuditLog) -> None:
    now = [10.0]
    _, safe = make_arm({"loop": {"late_after": 0.15}}, log, clock=lambda: now[0])
    move(safe, 1.0)
    now[0] = 9.99
    with pytest.raises(RobotFault, match=r"expected a clock that goes on, got 9\.99 s after 10\.0 s"):
        move(safe, 1.0)


def test_an_observation_that_is_older_than_the_one_before_stops(log: AuditLog) -> None:
    now, age = [10.0], [0.0]
    _, safe = make_arm({}, log, clock=lambda: now[0], observation_age=lambda: age[0])
    now[0], age[0] = 10.05, 0.05
    move(safe, 1.0)  # the same measurement again is frozen, not out of order
    now[0], age[0] = 10.06, 0.07
    with pytest.raises(
        RobotFault, match=r"in the order of their measurement, got one 0\.01 s older than the one before"
    ):
        move(safe, 1.0)


def test_limits_of_another_robot_are_refused(fake: FakeBatch, log: AuditLog) -> None:
    with pytest.raises(SpecError, match="safety limits: expected"):
        SafetyLimits(fake, log, limits=RobotLimits.of(make_joint_spec()))


class HonestJoint(JointBatch, TellsSent, Holds):
    """A joint at 1 rad whose driver has a mind of its own, and says what it sends; it measures where it was sent."""

    def __init__(self, alter: Callable[[Float], Float]) -> None:
        super().__init__(make_joint_spec(), (1.0,))
        self.alter, self.last, self.holds = alter, np.full((1, 1), np.nan, np.float32), 0

    @property
    def sent(self) -> Float:
        return self.last

    def step(self, rows: Rows, action: Float) -> StepRows:
        self.last = np.asarray(self.alter(np.array(action)), np.float32)
        return super().step(rows, self.last)

    def hold(self) -> None:
        self.holds += 1


def guard(robot: HonestJoint, log: AuditLog, limits: dict[str, Any] | None = None, **options: Any) -> SafetyLimits:
    safe = SafetyLimits(robot, log, limits=RobotLimits.of(robot.spec).override_by(limits or {}, "test"), **options)
    safe.reset(ALL[:1], np.zeros((1, 1), np.float32), np.random.default_rng(0))
    return safe


def test_the_next_command_is_limited_from_what_was_really_sent(log: AuditLog, log_path: Path) -> None:
    robot = HonestJoint(lambda told: np.minimum(told, 1.02))
    safe = guard(robot, log)
    move(safe, 2.0)  # told 1.05, and sent 1.02
    robot.alter = lambda told: told
    move(safe, 2.0)
    np.testing.assert_allclose(robot.last, [[1.07]], atol=1e-6)  # 0.05 from 1.02, not from 1.05
    safe.reset(ALL[:1], np.zeros((1, 1), np.float32), np.random.default_rng(0))
    counted = next(one for one in records(log_path) if one["event"] == "clamps")
    assert counted["driver"]["target"]["changed"] == 1
    assert counted["driver"]["target"]["largest"] == pytest.approx(0.03, abs=1e-6)


def test_a_robot_is_judged_by_what_it_was_really_sent(log: AuditLog) -> None:
    robot = HonestJoint(lambda told: np.minimum(told, 1.01))
    safe = guard(robot, log, {"action": {"target": {"tracking_error": 0.02}}})
    move(safe, 2.0)  # told 1.05; at 1.01, as it was sent: it follows
    robot.alter, robot.follows = lambda told: told, False
    with pytest.raises(RobotFault, match=r"at most 0\.02 from its command, got a tracking error of 0\.05"):
        move(safe, 2.0)


def test_rounding_of_a_driver_is_no_change_of_a_command(log: AuditLog, log_path: Path) -> None:
    """1.05 rad in degrees and back is another number; bit by bit, nothing must depend on it."""
    robot = HonestJoint(lambda told: told * np.float32(1.0 + 3e-7))
    safe = guard(robot, log)
    for _ in range(4):
        move(safe, 2.0)
    np.testing.assert_allclose(robot.last, [[1.2]], atol=1e-5)
    safe.close()
    assert all("driver" not in one for one in records(log_path))


@pytest.mark.parametrize(
    "sends", [1.5, 0.9, 3.5, np.inf, -np.inf, -3.0], ids=["ahead", "behind", "beyond", "inf", "-inf", "away"]
)
def test_a_driver_that_sends_something_else_stops(log: AuditLog, sends: float) -> None:
    robot = HonestJoint(lambda told: np.full_like(told, sends))
    robot.follows = False  # it is still at 1 rad: nothing between 1 and 1.05 was sent
    safe = guard(robot, log)
    with pytest.raises(
        RobotFault, match=r"expected a driver that sends 1\.05 in axis 'target' of row 0, as it is told"
    ):
        move(safe, 2.0)
    assert safe.stop_reason is not None


def test_what_was_sent_unknown_is_as_told_and_of_another_shape_stops(log: AuditLog) -> None:
    robot = HonestJoint(lambda told: np.full_like(told, np.nan))
    robot.follows = False
    safe = guard(robot, log)
    move(safe, 2.0)  # the driver does not know
    robot.alter = lambda told: told
    move(safe, 2.0)
    np.testing.assert_allclose(robot.last, [[1.1]], atol=1e-6)
    robot.alter = lambda told: np.full((1, 2), 1.0)  # of another shape
    with pytest.raises(RobotFault):
        move(safe, 2.0)


def test_a_hold_reaches_the_robot_and_a_new_episode_comes_after_it(log: AuditLog) -> None:
    robot = HonestJoint(lambda told: told)
    untouched = SafetyLimits(robot, log)
    untouched.hold()
    assert robot.holds == 0  # it was never moved: nothing is sent
    safe = guard(robot, log)
    move(safe, 2.0)
    safe.hold()
    safe.hold()
    assert robot.holds == 2
    assert safe.stop_reason is None
    with pytest.raises(RobotFault, match="expected rows that were reset"):
        move(safe, 2.0)


def test_a_hold_that_does_not_reach_the_robot_stops(log: AuditLog) -> None:
    class Deaf(HonestJoint):
        def hold(self) -> None:
            raise OSError("the cable was pulled")

    told: list[str] = []
    safe = guard(Deaf(lambda command: command), log, on_stop=told.append)
    move(safe, 2.0)
    with pytest.raises(RobotFault, match="hold that completes, got OSError"):
        safe.hold()
    assert len(told) == 1
    with pytest.raises(RobotFault, match="armed"):
        safe.hold()


def test_a_held_session_may_be_closed_without_a_stop(log: AuditLog, log_path: Path) -> None:
    safe = guard(HonestJoint(lambda told: told), log)
    move(safe, 2.0)
    safe.hold()
    safe.close()
    log.close()
    assert AuditLog(log_path).stop_reason is None


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_log_that_is_taken_away_while_the_robot_runs_stops_it(
    safe: SafetyLimits, fake: FakeBatch, tmp_path: Path, log_path: Path, how: str
) -> None:
    """With its folder, too: what is written to a deleted file is on no disk, and a stop would be forgotten."""
    goals, rng = np.zeros((3, 2), np.float32), np.random.default_rng(0)
    safe.step(ALL, action(0.0, 0.0))
    if how == "deleted":
        shutil.rmtree(tmp_path)
    else:
        log_path.rename(tmp_path / "elsewhere")
    if how == "replaced":
        shutil.copy(tmp_path / "elsewhere", log_path)
    told = len(fake.commands)
    with pytest.raises(RobotFault, match=r"audit\.jsonl: expected the audit log where it was, got none"):
        safe.reset(ALL, goals, rng)
    assert safe.stop_reason == "the audit log was deleted or moved"
    with pytest.raises(RobotFault, match="expected an armed robot"):
        safe.step(ALL, action(0.0, 0.0))
    assert len(fake.commands) == told
