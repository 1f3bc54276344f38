"""The contract that every robot adapter must keep, as tests: inherit `AdapterContract` and say how one is connected.

    class TestMyDriver(AdapterContract):
        goal = (0.3, 0.0)

        def connect(self):
            return MyDriver("192.0.2.7")

A robot in real time should have a short control period, since each test takes some of them.
"""

# ruff: noqa: D102 (the name of each test says what it checks)
from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest

from ..errors import RobotFault, SpecError
from .adapter import RobotAdapter
from .robot import Float, RobotRow, Stops, TellsAge


class AdapterContract(ABC):
    """What every `RobotAdapter` must do; subclass it in a test module."""

    goal: ClassVar[tuple[float, ...]]
    """A goal that no episode of 20 steps reaches."""
    episode_steps: ClassVar[int]
    """Time limit of an episode of the adapters under test."""
    moves: ClassVar[bool] = True
    """False for a robot that is never moved, such as a recorded one."""
    freed_by_reset: ClassVar[bool] = True
    """False where a person has to free a stopped robot first; see `free`."""
    drift: ClassVar[float] = 1e-3
    """Largest change of an observation, in its unit, while the robot holds or nothing is commanded: noise and settling
    count. Infinite where a robot that holds coasts on, as one that is commanded forces does."""

    @abstractmethod
    def connect(self) -> RobotAdapter:
        """A connected adapter, each time of a robot that is not stopped."""

    def free(self, robot: RobotAdapter) -> None:  # noqa: B027 - most robots need nobody
        """What a person does after a stop; nothing where `reset` is enough."""

    @contextmanager
    def open(self) -> Iterator[RobotAdapter]:
        """A connected adapter, closed at the end."""
        with closing(self.connect()) as robot:
            yield robot

    def start(self, robot: RobotAdapter) -> Float:
        """The first observation of an episode."""
        return robot.reset(np.array(self.goal, np.float32), np.random.default_rng(0))

    def near(self, robot: RobotAdapter, observation: Float) -> Float:
        """A command some way from where the robot is, within its limits."""
        action, resting = robot.spec.action, robot.spec.compute_resting(observation)
        reach = np.where(np.isfinite(action.inner_high - action.inner_low), action.inner_high - action.inner_low, 1.0)
        if robot.spec.choices:
            return np.zeros(1, np.float32)
        return np.clip(resting + 0.05 * reach, action.inner_low, action.inner_high).astype(np.float32)

    def wait(self, robot: RobotAdapter, seconds: float) -> None:
        """Lets time pass for a robot that has a clock of its own."""
        if not robot.lock_step:
            time.sleep(seconds)

    def require_rest(self, robot: RobotAdapter) -> Float:
        """The place where a robot comes to rest, and stays; a busy machine may take some time for its clock."""
        deadline = time.monotonic() + 20.0
        seen = [robot.read()]
        while len(seen) < 5 and time.monotonic() < deadline:
            self.wait(robot, 0.03)
            now = robot.read()
            seen = [*seen, now] if np.abs(now - seen[0]).max() <= self.drift else [now]
        assert len(seen) == 5, "the robot does not come to rest"
        return seen[-1]

    # Connect and read

    def test_a_connected_robot_can_be_read_before_any_command_and_does_not_move(self) -> None:
        with self.open() as robot:
            first = robot.read()
            assert first.shape == robot.spec.observation.shape
            assert first.dtype == np.float32
            assert np.isfinite(first).all()
            assert np.isnan(robot.sent).all()
            self.wait(robot, 0.05)
            assert np.abs(robot.read() - first).max() <= self.drift

    def test_it_has_what_the_safety_limits_ask_for(self) -> None:
        with self.open() as robot:
            assert isinstance(robot, Stops)
            assert isinstance(robot, TellsAge)
            assert RobotRow(robot).spec is robot.spec
            assert robot.spec.episode_steps == self.episode_steps

    def test_what_is_returned_is_the_callers_to_keep(self) -> None:
        with self.open() as robot:
            seen = [self.start(robot)]
            command = self.near(robot, seen[0])
            seen += [robot.step(command).observation, robot.read(), robot.sent]
            copies = [array.copy() for array in seen]
            given = command.copy()
            for array in seen:
                array += 1.0
            robot.step(command)
            assert np.array_equal(command, given)
            assert all(np.array_equal(array, copy + 1.0) for array, copy in zip(seen, copies, strict=True))
            assert np.isfinite(robot.read()).all()

    # Command -> what was really sent

    def test_a_command_within_the_limits_is_sent_as_it_is(self) -> None:
        with self.open() as robot:
            command = self.near(robot, self.start(robot))
            robot.step(command)
            np.testing.assert_allclose(robot.sent, command, rtol=1e-6, atol=1e-6)

    def test_a_command_beyond_the_limits_is_sent_as_the_nearest_one_within(self) -> None:
        with self.open() as robot:
            if robot.spec.choices:
                return
            self.start(robot)
            robot.step(np.full(robot.spec.action.shape, 3e38, np.float32))
            np.testing.assert_array_equal(robot.sent, robot.spec.action.inner_high)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_command_that_is_not_finite_is_refused_and_not_sent(self, bad: float) -> None:
        with self.open() as robot:
            command = self.near(robot, self.start(robot))
            robot.step(command)
            before = robot.sent
            wrong = command.copy()
            wrong[-1] = bad
            with pytest.raises(SpecError, match="finite action"):
                robot.step(wrong)
            np.testing.assert_array_equal(robot.sent, before)

    def test_what_is_no_command_is_refused_and_not_sent(self) -> None:
        with self.open() as robot:
            command, before = self.near(robot, self.start(robot)), robot.sent  # on the way home, or nothing yet
            wrong: list[Any] = [command[:-1], np.concatenate([command, command]), command[None], "stop", None]
            for one in wrong:
                with pytest.raises(SpecError):
                    robot.step(one)
            np.testing.assert_array_equal(robot.sent, before)

    # Hold, stop, home

    def test_a_held_robot_stays(self) -> None:
        with self.open() as robot:
            seen = self.start(robot)
            for _ in range(5):
                seen = robot.step(self.near(robot, seen)).observation
            robot.hold()
            self.require_rest(robot)

    def test_a_hold_that_is_told_again_does_not_creep(self) -> None:
        """A loop tells it again and again while an agent learns: each time where the first one found the robot."""
        with self.open() as robot:
            seen = self.start(robot)
            for _ in range(3):
                seen = robot.step(self.near(robot, seen)).observation
            robot.hold()
            sent = robot.sent
            for _ in range(10):  # it brakes, and settles
                robot.hold()
                self.wait(robot, robot.spec.control_period)
            before = self.require_rest(robot)
            for _ in range(10):
                robot.hold()
                self.wait(robot, robot.spec.control_period)
            np.testing.assert_array_equal(robot.sent, sent)
            # a robot with a hold of its own goes back to where it was told to stay, and no further
            assert np.abs(self.require_rest(robot) - before).max() <= 10.0 * self.drift

    def test_a_stopped_robot_stays_and_is_commanded_no_more(self) -> None:
        with self.open() as robot:
            seen = self.start(robot)
            for _ in range(5):
                seen = robot.step(self.near(robot, seen)).observation
            threads = [threading.Thread(target=robot.stop, args=(f"test {index}",)) for index in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10.0)
            robot.stop("and again")
            with pytest.raises(RobotFault, match="stopped"):
                robot.step(self.near(robot, seen))
            before = self.require_rest(robot)
            with pytest.raises(RobotFault, match="stopped"):
                robot.step(self.near(robot, before))
            if not self.freed_by_reset:
                with pytest.raises(RobotFault, match="stopped"):
                    self.start(robot)
            self.free(robot)
            seen = self.start(robot)
            robot.step(self.near(robot, seen))

    def test_home_is_a_start_and_no_episode_is_needed_for_it(self) -> None:
        with self.open() as robot:
            first = robot.home()
            seen = self.start(robot)
            for _ in range(10):
                seen = robot.step(self.near(robot, seen)).observation
            again = robot.home()
            seen = again
            for _ in range(10):
                seen = robot.step(self.near(robot, seen)).observation
            begun = self.start(robot)  # an episode begins at home
            assert again.shape == begun.shape == first.shape
            if self.moves and math.isfinite(self.drift):
                commanded = [name for name in robot.spec.find_commanded() if name is not None]
                axes = [robot.spec.observation.names.index(name) for name in commanded]
                spread = np.abs(robot.spec.observation.high - robot.spec.observation.low)[axes]
                near = 0.1 * np.where(np.isfinite(spread), spread, 10.0)
                assert (np.abs(again - first)[axes] <= near).all()
                assert (np.abs(begun - first)[axes] <= near).all()

    # Clock, reset, close

    def test_the_clock_goes_on_with_the_steps(self) -> None:
        with self.open() as robot:
            seen = self.start(robot)
            began = robot.now()
            for _ in range(5):
                seen = robot.step(self.near(robot, seen)).observation
            passed = robot.now() - began
            if robot.lock_step:
                assert passed == pytest.approx(5.0 * robot.spec.control_period)
            else:
                assert passed >= 4.0 * robot.spec.control_period
            assert robot.now() >= began + passed

    def test_an_observation_is_young_and_its_age_is_no_guess_of_the_future(self) -> None:
        with self.open() as robot:
            self.start(robot)
            age = robot.observation_age()
            assert 0.0 <= age < 30.0
            if robot.lock_step:
                assert age == 0.0

    def test_a_reset_starts_an_episode_that_ends_at_the_time_limit(self) -> None:
        with self.open() as robot:
            for _ in range(2):
                seen = self.start(robot)
                ends = []
                for _ in range(self.episode_steps):
                    step = robot.step(self.near(robot, seen))
                    seen = step.observation
                    ends.append((step.terminated, step.truncated))
                assert ends[:-1] == [(False, False)] * (self.episode_steps - 1)
                assert ends[-1] == (False, True)

    def test_a_goal_that_is_none_is_refused(self) -> None:
        with self.open() as robot:
            wrong = np.array(self.goal, np.float32)
            wrong[-1] = np.nan
            with pytest.raises(SpecError, match="finite goal"):
                robot.reset(wrong, np.random.default_rng(0))

    def test_a_closed_robot_is_commanded_and_read_no_more(self) -> None:
        robot = self.connect()
        seen = self.start(robot)
        robot.close()
        robot.close()
        for call in (lambda: robot.step(self.near(robot, seen)), robot.read, robot.home):
            with pytest.raises(RobotFault, match="closed"):
                call()
