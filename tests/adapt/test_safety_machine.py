"""The whole layer in any order of events: no command beyond the limits, and no fault that is not latched."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.errors import RobotFault, SuppleError
from supple.robots.limits import RobotLimits
from supple.robots.robot import Bool, Float, Rows, StepRows
from supple.robots.spec import ArraySpec, Axis, RobotSpec

PLACE, FORCE = Axis("target", "rad", -1.0, 1.0, 0.7, "q"), Axis("force", "N", -0.1, 2.0)
SPEC = RobotSpec(
    "both",
    ArraySpec("observation", (Axis("q", "rad", -2.0, 2.0), Axis("t", "s", 0.0, 1e6))),
    ArraySpec("action", (PLACE, FORCE)),
    ArraySpec("goal", (Axis("q", "rad", -2.0, 2.0),)),
    0.1,
    50,
)
LIMITS = RobotLimits.of(SPEC).override_by(
    {
        "action": {"target": {"acceleration": 3.0, "tracking_error": 0.5}, "force": {"effort_rate": 5.0}},
        "observation": {"q": [-1.5, 1.5]},
        "loop": {"late_after": 0.25, "late_steps": 1, "frozen_steps": 1},
    },
    "test",
)
ROWS, GOALS = np.arange(2), np.zeros((2, 1), np.float32)
FAULTS: dict[str, Callable[[StepRows], Any]] = {
    "nothing": lambda _: None,
    "not finite": lambda step: step._replace(observation=step.observation * np.float32(np.nan)),
    "of another shape": lambda step: step._replace(observation=step.observation[:1]),
    "of objects": lambda step: step._replace(observation=step.observation.astype(object)),
    "reward infinite": lambda step: step._replace(reward=step.reward + np.float32(np.inf)),
    "held": lambda step: step._replace(observation=step.observation + np.array([0.6, 0.0], np.float32)),
    "beyond": lambda step: step._replace(observation=step.observation * np.float32(0) + np.float32(1.6)),
    "raises": lambda step: step.missing,  # type: ignore[attr-defined]
}


class Joints:
    """Two joints that go where they are told, and judge each command as it arrives."""

    spec, rows = SPEC, 2

    def __init__(self) -> None:
        self.place, self.time, self.violations, self.moved = np.zeros(2, np.float32), 0.0, 0, 0
        self.commands = np.zeros((2, 3, 2))
        self.fault: Callable[[StepRows], Any] = lambda step: step
        self.frozen, self.seen = False, np.zeros((2, 2), np.float32)

    def see(self, rows: Rows) -> Float:
        if not self.frozen:
            self.seen[rows] = np.stack([self.place[rows], np.full(len(rows), self.time, np.float32)], axis=1)
        return self.seen[rows]

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        self.time += 1.0
        self.frozen = False
        self.place[rows] = rng.uniform(-1.0, 1.0, len(rows)).astype(np.float32)
        self.commands[rows] = np.stack([self.place[rows], np.zeros(len(rows))], axis=1)[:, None]
        return self.see(rows)

    def step(self, rows: Rows, action: Float) -> StepRows:
        self.time += 1.0
        self.moved += 1
        self.commands[rows] = np.concatenate([action[:, None].astype(np.float64), self.commands[rows, :2]], axis=1)
        last, before, oldest = self.commands[rows].swapaxes(0, 1)
        change, bend = last - before, (last - before) - (before - oldest)
        good = (last >= [-1.0, -0.1]) & (last <= [1.0, 2.0]) & (np.abs(change) <= np.array([0.7, 5.0]) * 0.1)
        self.violations += int((~good).sum() + (np.abs(bend[:, 0]) > 3.0 * 0.1**2).sum())
        self.place[rows] = action[:, 0]
        action.flags.writeable = True
        action[:] = 9.0
        flags = np.zeros(len(rows), np.bool_)
        return self.fault(StepRows(self.see(rows), np.zeros(len(rows), np.float32), flags, flags))

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Machine(RuleBasedStateMachine):
    """What may happen to a robot, by its driver, its policy, its clock, its operator and its disk."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.robot, self.told, self.age = Joints(), 0, 0.0
        self.now, self.weights = 0.0, 1.0
        self.stopped = False
        self.ready = np.zeros(2, np.bool_)
        self.open()
        self.codes = self.log.issue_codes(60)
        self.reset(None, 0)

    def open(self) -> None:
        self.log = AuditLog(self.folder / "audit.jsonl")
        self.safe = SafetyLimits(
            self.robot,
            self.log,
            observation_age=lambda: self.age,
            limits=LIMITS,
            on_stop=self.hear,
            clock=lambda: self.now,
        )
        self.ready[:] = False
        self.commanded, self.late, self.repeats = np.nan, 0, np.zeros(2, np.int64)

    def hear(self, reason: str) -> None:
        self.told += 1

    def is_fresh(self) -> bool:
        """Whether what is measured now is young enough, and no older than what was measured before."""
        return 0.0 <= self.age <= 0.1 and self.now - self.age >= self.safe._measured_at

    def expect(self, act: Callable[[], Any], fine: bool) -> None:
        """Whether it works where it may; else a typed error, and a stop of which the drives were told."""
        moved, told, was = self.robot.moved, self.told, self.stopped
        if fine and not was:
            act()
            return
        with pytest.raises(SuppleError):
            act()
        self.stopped = True
        self.ready[:] = False
        assert self.robot.moved <= moved + 1
        assert self.told == told + (not was)
        if was:
            assert self.robot.moved == moved

    def send(self, action: NDArray[Any]) -> None:
        """A step of both rows; whether it works follows from the clock, the driver and the numbers."""
        self.now += 0.1
        fine = bool(np.isfinite(action).all() and self.ready.all() and self.is_fresh())
        if fine and not self.stopped:
            self.late = self.late + 1 if self.now - self.commanded > 0.25 else 0
            self.repeats = self.repeats + 1 if self.robot.frozen else np.zeros(2, np.int64)
            fine = self.late <= 1 and bool((self.repeats <= 1).all()) and not self.now < self.commanded
            self.commanded = self.now
        before = self.robot.commands[:, :2].copy()
        self.expect(lambda: self.safe.step(ROWS, action), fine)
        if fine and not self.stopped and self.late:  # it held: no faster than before
            change, was = self.robot.commands[:, 0, 0] - before[:, 0, 0], before[:, 0, 0] - before[:, 1, 0]
            assert (np.abs(change) <= np.abs(was) + 1e-6).all()

    @precondition(lambda self: not self.stopped)
    @rule(row=st.sampled_from([None, 0, 1]), seed=st.integers(0, 99))
    def begin_episode(self, row: int | None, seed: int) -> None:
        self.reset(row, seed)

    def reset(self, row: int | None, seed: int) -> None:
        rows = ROWS if row is None else ROWS[row : row + 1]
        self.now += 0.1
        self.expect(lambda: self.safe.reset(rows, GOALS[rows], np.random.default_rng(seed)), self.is_fresh())
        if not self.stopped:
            self.ready[rows] = True
            self.commanded, self.late = np.nan, 0
            self.repeats[rows] = 0  # the other row goes on counting

    @precondition(lambda self: not self.stopped)
    @rule(place=st.floats() | st.floats(-2.0, 2.0), force=st.floats(width=32), single=st.booleans())
    def step(self, place: float, force: float, single: bool) -> None:
        action = np.array([[place, force]] * 2, np.float64)
        if single:
            with np.errstate(over="ignore"):
                action = action.astype(np.float32)
        self.send(action)

    @precondition(lambda self: not self.stopped)
    @rule(weights=st.sampled_from([1.0, -3.0, 1e30, -1e30, 1e30, -1e30, np.nan, np.inf]))
    def swap_weights(self, weights: float) -> None:
        """Another policy, perhaps a broken one, until it has stopped the robot."""
        self.weights = weights

    @precondition(lambda self: not self.stopped)
    @rule(steps=st.integers(1, 12))
    def act(self, steps: int) -> None:
        for _ in range(steps):
            self.send(np.array([[self.weights * place, self.weights] for place in (1.0, 0.1)]))
        if self.stopped:
            self.weights = 1.0

    @precondition(lambda self: not self.stopped)
    @rule(kind=st.sampled_from(sorted(FAULTS)))
    def fail(self, kind: str) -> None:
        self.now += 0.1
        self.robot.fault = FAULTS[kind]
        self.expect(lambda: self.safe.step(ROWS, np.zeros((2, 2))), False)
        self.robot.fault = lambda step: step

    @precondition(lambda self: not self.stopped)
    @rule(steps=st.integers(1, 3))
    def freeze(self, steps: int) -> None:
        """The sensor repeats itself for some steps."""
        self.robot.frozen = True
        for _ in range(steps):
            self.send(np.ones((2, 2)))
        self.robot.frozen = False

    @precondition(lambda self: not self.stopped)
    @rule(seconds=st.lists(st.sampled_from([0.05, 0.3, 5.0, -0.5]), min_size=1, max_size=3))
    def delay(self, seconds: list[float]) -> None:
        """Late commands, or a clock that goes backwards."""
        for one in seconds:
            self.now += one
            self.send(np.array([[9.0, 9.0], [-9.0, 0.0]]))

    @precondition(lambda self: not self.stopped)
    @rule(age=st.sampled_from([0.0, 0.05, 0.1, 0.2, -0.1, np.nan]))
    def grow_old(self, age: float) -> None:
        """Observations of this age, until they have stopped the robot."""
        self.age = age
        self.send(np.zeros((2, 2)))
        self.age = 0.0 if self.stopped else self.age

    @precondition(lambda self: not self.stopped)
    @rule()
    def stop(self) -> None:
        self.safe.stop("operator")
        self.stopped = True
        self.ready[:] = False

    @precondition(lambda self: self.stopped)
    @rule(row=st.sampled_from([None, 0, 1]))
    def try_to_move(self, row: int | None) -> None:
        self.reset(row, 0)
        self.send(np.zeros((2, 2)))

    @precondition(lambda self: self.stopped)
    @rule(seed=st.integers(0, 99))
    def rearm(self, seed: int) -> None:
        with pytest.raises(RobotFault):
            self.safe.rearm("a program's guess")
        self.safe.rearm(self.codes.pop())
        self.stopped, self.age = False, 0.0
        self.now = max(self.now, self.safe._measured_at + 0.2)
        self.reset(None, seed)

    @rule(kind=st.sampled_from(["close", "kill", "flip"]), where=st.floats(0.0, 1.0, exclude_max=True))
    def restart(self, kind: str, where: float) -> None:
        if kind == "kill":
            os.close(self.log._file)
            self.stopped = True
        else:
            moving = bool(self.safe._moving.any())
            self.safe.close()
            self.log.close()
            self.stopped |= moving
        if kind == "flip":
            content = bytearray((self.folder / "audit.jsonl").read_bytes())
            content[int(where * len(content))] ^= 4
            (self.folder / "audit.jsonl").write_bytes(content)
            self.stopped = True
        self.open()
        if kind == "flip":
            self.codes += self.log.issue_codes(60)
        if not self.stopped:
            self.reset(None, 0)

    @invariant()
    def nothing_got_through(self) -> None:
        if hasattr(self, "safe"):
            assert self.robot.violations == 0
            assert (self.safe.stop_reason is not None) == self.stopped

    def teardown(self) -> None:
        self.log.close()
        shutil.rmtree(self.folder)


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=int(os.environ.get("SAFETY_EXAMPLES", "500")), stateful_step_count=50, deadline=None
)
