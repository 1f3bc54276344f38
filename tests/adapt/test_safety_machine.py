"""The whole layer in any order of events: no command beyond the limits, and no fault that is not latched."""

import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.errors import RobotFault, SuppleError
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
ROWS, GOALS = np.arange(2), np.zeros((2, 1), np.float32)
FAULTS: dict[str, Callable[[StepRows], Any]] = {
    "nothing": lambda _: None,
    "not finite": lambda step: step._replace(observation=step.observation * np.float32(np.nan)),
    "of another shape": lambda step: step._replace(observation=step.observation[:1]),
    "of objects": lambda step: step._replace(observation=step.observation.astype(object)),
    "reward infinite": lambda step: step._replace(reward=step.reward + np.float32(np.inf)),
    "raises": lambda step: step.missing,  # type: ignore[attr-defined]
}


class Joints:
    """Two joints that go where they are told, and judge each command as it arrives."""

    spec, rows = SPEC, 2

    def __init__(self) -> None:
        self.place, self.time, self.violations, self.moved = np.zeros(2, np.float32), 0.0, 0, 0
        self.last = np.zeros(2)
        self.fault: Callable[[StepRows], Any] = lambda step: step

    def see(self, rows: Rows) -> Float:
        return np.stack([self.place[rows], np.full(len(rows), self.time, np.float32)], axis=1)

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        self.time += 1.0
        self.place[rows] = rng.uniform(-1.0, 1.0, len(rows)).astype(np.float32)
        self.last[rows] = self.place[rows]
        return self.see(rows)

    def step(self, rows: Rows, action: Float) -> StepRows:
        self.time += 1.0
        self.moved += 1
        for row, (target, force) in zip(rows.tolist(), action.astype(np.float64).tolist(), strict=True):
            within = -1.0 <= target <= 1.0 and -0.1 <= force <= 2.0
            self.violations += not (within and abs(target - self.last[row]) <= PLACE.rate_limit * SPEC.control_period)
            self.last[row] = target
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
    """What may happen to a robot, by its driver, its policy, its operator and its disk."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.robot, self.told, self.age = Joints(), 0, 0.0
        self.ticks = count(1.0)
        self.stopped = False
        self.ready = np.zeros(2, np.bool_)
        self.moving = False
        self.open()
        self.codes = self.log.issue_codes(60)

    def open(self) -> None:
        self.log = AuditLog(self.folder / "audit.jsonl")
        self.safe = SafetyLimits(
            self.robot,
            self.log,
            observation_age=lambda: self.age,
            max_frozen_steps=1,
            on_stop=self.hear,
            clock=self.ticks.__next__,
        )
        self.ready[:] = False
        self.moving = False

    def hear(self, reason: str) -> None:
        self.told += 1

    def expect(self, act: Callable[[], Any], fine: bool) -> None:
        """Whether it works where it may; else a typed error, and a stop of which the drives were told."""
        moved, told, was = self.robot.moved, self.told, self.stopped
        if fine and not was:
            act()
            return
        with pytest.raises(SuppleError):
            act()
        self.stopped, self.moving = True, False
        self.ready[:] = False
        assert self.robot.moved <= moved + 1
        assert self.told == told + (not was)
        if was:
            assert self.robot.moved == moved

    @rule(row=st.sampled_from([None, 0, 1]), seed=st.integers(0, 99))
    def reset(self, row: int | None, seed: int) -> None:
        rows = ROWS if row is None else ROWS[row : row + 1]
        fresh = 0.0 <= self.age <= 0.1
        self.expect(lambda: self.safe.reset(rows, GOALS[rows], np.random.default_rng(seed)), fresh)
        if not self.stopped:
            self.ready[rows] = True
            self.moving = False  # only what the next step says counts

    @rule(place=st.floats(), force=st.floats(width=32), single=st.booleans())
    def step(self, place: float, force: float, single: bool) -> None:
        action = np.array([[place, force]] * 2, np.float64)
        if single:
            with np.errstate(over="ignore"):
                action = action.astype(np.float32)
        fine = bool(np.isfinite(action).all() and self.ready.all() and 0.0 <= self.age <= 0.1)
        self.expect(lambda: self.safe.step(ROWS, action), fine)
        self.moving = not self.stopped

    @rule(kind=st.sampled_from(sorted(FAULTS)))
    def fail(self, kind: str) -> None:
        self.robot.fault = FAULTS[kind]
        self.expect(lambda: self.safe.step(ROWS, np.zeros((2, 2))), False)
        self.robot.fault = lambda step: step

    @rule(age=st.sampled_from([0.0, 0.0, 0.05, 0.2, -0.1, np.nan]))
    def grow_old(self, age: float) -> None:
        self.age = age

    @precondition(lambda self: not self.stopped)
    @rule()
    def stop(self) -> None:
        self.safe.stop("operator")
        self.stopped, self.moving = True, False
        self.ready[:] = False

    @precondition(lambda self: self.stopped)
    @rule()
    def rearm(self) -> None:
        with pytest.raises(RobotFault):
            self.safe.rearm("a program's guess")
        self.safe.rearm(self.codes.pop())
        self.stopped, self.age = False, 0.0

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

    @invariant()
    def nothing_got_through(self) -> None:
        if hasattr(self, "safe"):
            assert self.robot.violations == 0
            assert (self.safe.stop_reason is not None) == self.stopped

    def teardown(self) -> None:
        self.log.close()
        shutil.rmtree(self.folder)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
