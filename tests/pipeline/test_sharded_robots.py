"""Robots that workers step keep the contract of `RobotBatch`, and do what they do in one process, bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Container, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from dm_control import suite
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, RobotFault, RunError, SpecError
from supple.pipeline.executors import ATTEMPTS, Held, LocalExecutor, ProcessExecutor, WorkerDied
from supple.pipeline.interrupt import StopRequest
from supple.pipeline.sharded_robots import ShardedRobots, share_robots
from supple.robots.arm import ARM_TARGET, ArmBatch
from supple.robots.bandits import BernoulliBanditBatch
from supple.robots.dm_control_family import DmControlFamily
from supple.robots.family import Hardware, RobotFamily, make_robots
from supple.robots.gridnavi import GridNavi
from supple.robots.gymnasium_family import GymnasiumFamily
from supple.robots.image_maze import ImageMaze
from supple.robots.kitchen_family import Kitchen
from supple.robots.maze import MazeBatch
from supple.robots.maze_family import Maze
from supple.robots.maze_layout import make_layout
from supple.robots.robot import (
    FirstRow,
    Float,
    RobotBatch,
    RobotRow,
    Rows,
    StepRows,
    WrappedRobots,
    compute_path_reward,
    take_images,
)
from supple.robots.spec import Axis
from supple.robots.task import goals_of
from supple.robots.testing import RobotContract
from tests.pipeline.poor_robots import make_deadly, make_failing, set_size

MAZE = make_layout(20, 0)


PENDULUM = GymnasiumFamily(
    name="pendulum", environment="Pendulum-v1", goal=(Axis("g", "m/s^2", 0.0, 20.0),), control_period=0.05
)


class Shares(LocalExecutor):
    """Workers in turn in this process."""

    def __init__(self, workers: int) -> None:
        super().__init__(StopRequest())
        self.workers = workers


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessExecutor]:
    with closing(ProcessExecutor(2, StopRequest())) as executor:
        yield executor


# The contract


class ShardedContract(RobotContract):
    workers: ClassVar[int] = 3
    """Which five rows do not divide by."""

    def make_rows(self, rows: int, episode_steps: int) -> RobotBatch:
        raise NotImplementedError

    def make_batch(self, rows: int, episode_steps: int) -> RobotBatch:
        return ShardedRobots(partial(self.make_rows, episode_steps=episode_steps), rows, Shares(self.workers))


class TestMazeContract(ShardedContract):
    near_goal = (10.0, 10.0)
    far_goal = (3.0, 4.0)

    def make_rows(self, rows: int, episode_steps: int) -> RobotBatch:
        return MazeBatch(MAZE, rows, episode_steps=episode_steps)


class TestOneRobotContract(TestMazeContract):
    max_rows = 1

    def make_rows(self, rows: int, episode_steps: int) -> RobotBatch:
        return RobotRow(FirstRow(super().make_rows(rows, episode_steps)))


class TestSeesContract(ShardedContract):
    near_goal = (5.0, 5.0)
    far_goal = (1.0, 1.0)

    def make_rows(self, rows: int, episode_steps: int) -> RobotBatch:
        return ImageMaze(layout_size=10, layout_seed=1, play_size=8, episode_steps=episode_steps).make(rows)


class TestArmContract(ShardedContract):
    near_goal = (0.5, 0.0, 0.4)
    far_goal = (-0.3, 0.5, 0.6)
    ends_at_goal = False

    def make_rows(self, rows: int, episode_steps: int) -> RobotBatch:
        return ArmBatch(ARM_TARGET, rows, episode_steps=episode_steps, threads=2)


class TestChoicesContract(ShardedContract):
    """Luck at every step."""

    near_goal = (0.9, 0.1, 0.5)
    far_goal = (0.1, 0.9, 0.4)
    ends_at_goal = False
    rewards_observation = False

    def make_rows(self, rows: int, episode_steps: int) -> RobotBatch:
        return BernoulliBanditBatch(rows, arms=3, episode_steps=episode_steps)


class TestGymnasiumContractInProcesses(RobotContract):
    near_goal = (10.0,)
    far_goal = (2.0,)
    ends_at_goal = False
    rewards_observation = False

    @pytest.fixture(autouse=True)
    def use(self, processes: ProcessExecutor) -> Iterator[None]:
        self.executor, self.opened = processes, list[RobotBatch]()
        yield
        for robots in self.opened:
            robots.close()

    def make_batch(self, rows: int, episode_steps: int) -> RobotBatch:
        self.opened.append(share_robots(replace(PENDULUM, episode_steps=episode_steps), rows, 1, self.executor))
        return self.opened[-1]


# Bit for bit as in one process


KINDS: dict[str, RobotFamily] = {
    "maze": Maze(layout_size=10, layout_seed=1, episode_steps=30),
    "pictures": ImageMaze(layout_size=10, layout_seed=1, play_size=8, episode_steps=30),
    "pays along the path": Kitchen(episode_steps=30),
    "Gymnasium": replace(PENDULUM, episode_steps=30),
    "dm_control": DmControlFamily(
        name="reacher",
        environment=partial(suite.load, "reacher", "easy"),
        goal=(Axis("size", "m", 0.01, 0.1),),
        set_task=set_size,
        success=1.0,
        episode_steps=30,
    ),
    "choices": GridNavi(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_robots_is_the_same_in_processes(kind: str, processes: ProcessExecutor) -> None:
    family = KINDS[kind]
    alone, shared = make_robots(family, 3), share_robots(family, 3, 1, processes)
    one, two = np.random.default_rng(0), np.random.default_rng(0)
    goals = np.resize(goals_of(family.tasks().train), (3, *alone.spec.goal.shape))
    path = []
    for rows in ([0, 1, 2], [1], [0, 2]):
        assert np.array_equal(
            alone.reset(np.array(rows), goals[rows], one), shared.reset(np.array(rows), goals[rows], two)
        )
        assert one.bit_generator.state == two.bit_generator.state
        for stepped in ([0, 1, 2], [1, 2], [0]) if len(rows) == 3 else (rows, rows):
            action = draw_action(alone, len(stepped), one)
            two.bit_generator.state = one.bit_generator.state
            expected, got = alone.step(np.array(stepped), action), shared.step(np.array(stepped), action)
            require_equal(expected, got)
            path.append(expected.observation[:1])
            if alone.spec.image is not None:
                assert np.array_equal(
                    take_images(alone, np.array(stepped), kind), take_images(shared, np.array(stepped), kind)
                )
    episodes = np.stack(path, axis=1)
    if kind not in ("Gymnasium", "dm_control"):  # whose rewards are those of step alone
        for expected_part, part in zip(
            compute_path_reward(alone, episodes, goals), compute_path_reward(shared, episodes, goals), strict=True
        ):
            assert np.array_equal(expected_part, part)
    alone.close()
    shared.close()


def draw_action(robots: RobotBatch, rows: int, rng: np.random.Generator) -> Float:
    spec = robots.spec
    if spec.choices:
        return rng.integers(len(spec.choices), size=(rows, 1)).astype(np.float32)
    return rng.uniform(spec.action.low, spec.action.high, (rows, *spec.action.shape)).astype(np.float32)


def require_equal(expected: StepRows, got: StepRows) -> None:
    for one, two in zip(expected, got, strict=True):
        assert one is two is None or (one is not None and two is not None and np.array_equal(one, two))
        assert one is None or (two is not None and one.dtype == two.dtype)


# Workers that die


class Mortals(Shares):
    """Its workers die at those of the calls that `deaths` names, with what they hold."""

    def __init__(self, workers: int, deaths: Container[int] = ()) -> None:
        super().__init__(workers)
        self.deaths, self.calls, self.held = deaths, 0, 0

    def hold(self, make: Callable[[Any], Callable[[Any], Any]], job: Any) -> Held[Any, Any]:
        self.held += 1
        return Mortal(self, super().hold(make, job))


class Mortal(Held[Any, Any]):
    def __init__(self, executor: Mortals, inner: Held[Any, Any]) -> None:
        self.executor, self.inner = executor, inner

    def start(self, argument: Any) -> None:
        self.inner.start(argument)

    def finish(self) -> Any:
        self.executor.calls += 1
        if self.executor.calls in self.executor.deaths:
            raise WorkerDied("SIGKILL")
        return self.inner.finish()

    def close(self) -> None:
        self.inner.close()


class Strict(WrappedRobots):
    """Refuses to step what was never reset, as an environment does that is not there yet."""

    def __init__(self, rows: int) -> None:
        super().__init__(BernoulliBanditBatch(rows, arms=2, episode_steps=100))
        self.begun = np.zeros(rows, np.bool_)

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        self.begun[rows] = True
        return super().reset(rows, goals, rng)

    def step(self, rows: Rows, action: Float) -> StepRows:
        assert self.begun[rows].all()
        return super().step(rows, action)


ROWS = st.sets(st.integers(0, 5)).map(lambda rows: np.array(sorted(rows), np.int64))


def call(name: str, *rows: int) -> tuple[str, Rows]:
    return name, np.array(rows, np.int64)


@settings(max_examples=80, deadline=None)
@example(  # the first reset counts no longer when the worker dies, and so neither does the step of that row
    workers=2,
    calls=[call("reset", 1), call("reset", 3), call("step", 1, 3), call("reset", 1), *[call("step", 1, 3)] * 8],
    gaps=[6],
)
@example(  # the first reset counts for two of three rows
    workers=2,
    calls=[call("reset", 1, 3, 5), call("step", 1, 3, 5), call("reset", 1), *[call("step", 1, 3)] * 8],
    gaps=[5],
)
@given(
    workers=st.sampled_from([1, 2, 2, 2, 3, 6, 7]),
    calls=st.lists(st.tuples(st.sampled_from(["reset", "step", "step", "step"]), ROWS), min_size=4, max_size=14),
    gaps=st.lists(st.integers(1, 12), min_size=1, max_size=6),
)
def test_any_calls_are_the_same_although_workers_die(
    workers: int, calls: list[tuple[str, Rows]], gaps: list[int]
) -> None:
    deaths = np.cumsum(
        [gap + 20 * (number % 2) for number, gap in enumerate(gaps)]
    ).tolist()  # two for one call at most
    alone, executor = Strict(6), Mortals(workers, deaths)
    shared = ShardedRobots(Strict, 6, executor)
    rng = np.random.default_rng(0)
    started: set[int] = set()
    for name, rows in calls:
        if name == "reset":
            goals = rng.uniform(size=(len(rows), 2)).astype(np.float32)
            twin = deepcopy(rng)
            assert np.array_equal(alone.reset(rows, goals, twin), shared.reset(rows, goals, rng))
            assert rng.bit_generator.state == twin.bit_generator.state
            started |= set(rows.tolist())
        else:
            rows = np.array([row for row in rows.tolist() if row in started], np.int64)
            action = rng.integers(2, size=(len(rows), 1)).astype(np.float32)
            sent = action.copy()
            require_equal(alone.step(rows, action), shared.step(rows, sent))
            sent[:] = -1.0  # the caller's to use again
    assert executor.held == len(shared._shards) - 1 + len([death for death in deaths if death <= executor.calls])


def test_what_is_told_again_does_not_grow_from_episode_to_episode() -> None:
    make = partial(BernoulliBanditBatch, arms=2, episode_steps=3)
    robots, rng = ShardedRobots(make, 4, Shares(2)), np.random.default_rng(0)
    goals, still = np.full((4, 2), 0.5, np.float32), np.zeros((4, 1), np.float32)
    sizes = []
    for _ in range(4):
        for row in range(4):  # rows that are reset one by one
            robots.reset(np.array([row]), goals[:1], rng)
        for _ in range(3):
            robots.step(np.arange(4), still)
        sizes.append([len(shard._told) for shard in robots._shards])
    assert sizes == [[5, 5]] * 4  # two resets and three steps each


def test_a_worker_killed_in_an_episode_changes_nothing(processes: ProcessExecutor) -> None:
    family = KINDS["maze"]
    alone, shared = make_robots(family, 3), share_robots(family, 3, 1, processes)
    goals, rows = np.array(goals_of(family.tasks().train)[:3]), np.arange(3)
    one, two = np.random.default_rng(0), np.random.default_rng(0)
    assert np.array_equal(alone.reset(rows, goals, one), shared.reset(rows, goals, two))
    for step in range(20):
        if step in (7, 8, 15):
            os.kill(find_workers(processes)[0], signal.SIGKILL)
        action = draw_action(alone, 3, one)
        require_equal(alone.step(rows, action), shared.step(rows, action))
    shared.close()


def find_workers(executor: ProcessExecutor) -> list[int]:
    return [int(worker.process.pid) for worker in executor._holding]


def test_robots_that_kill_each_worker_are_given_up(processes: ProcessExecutor) -> None:
    robots = ShardedRobots(make_deadly, 2, processes)
    robots.reset(np.arange(2), np.full((2, 2), 0.5, np.float32), np.random.default_rng(0))
    still = np.zeros((2, 1), np.float32)
    for _ in range(2):
        robots.step(np.arange(2), still)
    with pytest.raises(
        RunError, match=rf"bandit.*: expected a worker that steps .* got {ATTEMPTS} that died \(SIGKILL\)"
    ):
        robots.step(np.arange(2), still)
    robots.close()
    assert find_workers(processes) == []


# Errors


def test_errors_are_those_of_one_process(processes: ProcessExecutor) -> None:
    with pytest.raises(ConfigError, match="arm rows: expected at most 4, got 5; ask for fewer"):
        ShardedRobots(make_failing, 5, processes)
    robots = ShardedRobots(make_failing, 2, processes)
    robots.reset(np.arange(2), np.full((2, 4), 0.5, np.float32), np.random.default_rng(0))
    for choice, kind, text in (
        (1, RobotFault, "arm: expected a finite observation, got nan; look at it"),
        (2, SpecError, "arm: expected less, got 7; lower it"),
        (3, ZeroDivisionError, "by nothing"),
    ):
        with pytest.raises(kind) as error:
            robots.step(np.arange(2), np.full((2, 1), choice, np.float32))
        assert (str(error.value), type(error.value)) == (text, kind)
        assert "in step" in error.value.__notes__[0]
    assert robots.step(np.arange(2), np.zeros((2, 1), np.float32)).reward.shape == (2,)
    robots.close()


def test_robots_that_cannot_be_sent_are_refused(processes: ProcessExecutor) -> None:
    with pytest.raises(ConfigError, match="--executor: expected settings that can be sent to another process, got '"):
        ShardedRobots(lambda rows: BernoulliBanditBatch(rows, arms=2), 2, processes)
    assert find_workers(processes) == []


def test_real_robots_are_not_shared(processes: ProcessExecutor) -> None:
    class Real(Hardware):
        name = "real arm"

    with pytest.raises(ConfigError, match="--executor: expected local for a real robot, got another with 'real arm'"):
        share_robots(Real(), 1, 1, processes)  # type: ignore[arg-type]


class Unruly(WrappedRobots):
    """Draws as often as it was made before: a thing of the process, not of the call."""

    made = 0

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        Unruly.made += 1
        rng.random(Unruly.made)
        return super().reset(rows, goals, rng)


def test_robots_that_draw_otherwise_in_another_process_are_refused() -> None:
    robots = ShardedRobots(lambda rows: Unruly(BernoulliBanditBatch(rows, arms=2)), 2, Shares(2))
    with pytest.raises(SpecError, match="reset: expected robots that draw the same random numbers in each process"):
        robots.reset(np.arange(2), np.full((2, 2), 0.5, np.float32), np.random.default_rng(0))


# What some robots can do beside


class Able(WrappedRobots):
    told: ClassVar[list[str]] = []

    def stop(self, reason: str) -> None:
        self.told.append(f"stop {reason}")

    def hold(self) -> None:
        self.told.append("hold")

    def observation_age(self) -> float:
        return 0.5

    @property
    def sent(self) -> Float:
        return np.arange(self.rows, dtype=np.float32)[:, None]


def test_abilities_are_those_of_the_robots() -> None:
    robots = ShardedRobots(lambda rows: Able(BernoulliBanditBatch(rows, arms=2)), 5, Shares(2))
    robots.stop("test")
    robots.hold()
    assert Able.told == ["stop test"] * 2 + ["hold"] * 2
    assert robots.observation_age() == 0.5
    assert robots.sent[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    plain = ShardedRobots(partial(BernoulliBanditBatch, arms=2), 5, Shares(2))
    plain.stop("test")
    plain.hold()
    assert plain.observation_age() == 0.0
    assert np.isnan(plain.sent).all()
    with pytest.raises(SpecError, match="expected one with a camera"):
        plain.take_images(np.arange(1))
