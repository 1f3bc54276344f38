"""Rows of robots that are stepped in several processes, each its own rows: here, and by workers (`Executor.hold`).

Policy, decoder and random numbers stay in the process of the learner, and what comes out is the same bit for bit as
with all rows in that process: what a row does never depends on which rows go with it (`RobotBatch`). Two things take
some care.

- All rows of a reset draw from one stream. Each process therefore holds all rows, resets as many as are asked for from
  the same state of the generator, and steps its own alone. The state after it has to be the same for all of them, and
  is that of the learner's generator from then on.
- A worker that died is replaced. The new one is told again what was told the old one since the last reset of each of
  its rows, so that they are where they were.

Axes: R rows, r rows of this call, W processes with this one, O observation, A action, N tasks, G goal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, RunError, SpecError
from ..robots.family import Hardware, RobotFamily, make_robots
from ..robots.robot import Float, RobotBatch, Rows, StepRows, WrappedRobots, require_rows
from .executors import ATTEMPTS, Executor, Held, LocalExecutor, WorkerDied

MakeRobots = Callable[[int], RobotBatch]
"""Makes so many rows; it can be pickled."""
Scalar = TypeVar("Scalar", bound=np.generic)


def share_robots(family: RobotFamily, rows: int, threads: int, executor: Executor | None) -> RobotBatch:
    """Rows of robots of a family, stepped where the executor says; see `make_robots`.

    Args:
        family: Of the robots.
        rows: R.
        threads: Physics threads of each process.
        executor: None, or one of this process, steps them here.

    Raises:
        ConfigError: See `RobotFamily.make`; or real robots are to be stepped elsewhere, or the family cannot be sent
            there.
    """
    if executor is None or isinstance(executor, LocalExecutor):
        return make_robots(family, rows, threads)
    if isinstance(family, Hardware):
        raise ConfigError(
            f"--executor: expected local for a real robot, got another with '{family.name}'; leave --executor out"
        )
    return ShardedRobots(partial(make_robots, family, threads=threads), rows, executor)


class _Reset(NamedTuple):
    rows: Rows
    goals: Float
    rng: np.random.Generator
    """As it was before; nothing is drawn from it."""
    own: Rows
    """Places of the worker's own rows among `rows`."""

    def do(self, robots: WrappedRobots) -> tuple[Float, Mapping[str, Any]]:
        """Observations of its own rows, and the state of the generator afterwards."""
        rng = deepcopy(self.rng)
        return robots.reset(self.rows, self.goals, rng)[self.own], rng.bit_generator.state


class _Step(NamedTuple):
    rows: Rows
    """Of the worker's own."""
    action: Float

    def do(self, robots: WrappedRobots) -> StepRows:
        return robots.step(self.rows, self.action)

    def only(self, rows: Rows) -> _Step:
        """The step of some of its rows."""
        chosen = np.isin(self.rows, rows)
        return _Step(self.rows[chosen], self.action[chosen])


class _Ask(NamedTuple):
    method: Callable[..., Any]
    """A function of robots, which can be pickled."""
    arguments: tuple[Any, ...] = ()
    moves: bool = False
    """Whether the robots are no longer as they were."""

    def do(self, robots: WrappedRobots) -> Any:
        return self.method(robots, *self.arguments)


_Call = _Reset | _Step | _Ask


def _read_sent(robots: WrappedRobots, rows: Rows) -> Float:
    return robots.sent[rows]


def _make_share(job: tuple[MakeRobots, int]) -> Callable[[_Call], Any]:
    """Makes the robots of a process; see `Executor.hold`."""
    make, rows = job
    return partial(_do, WrappedRobots(make(rows)))


def _do(robots: WrappedRobots, call: _Call) -> Any:
    return call.do(robots)


class _Shard:
    """A process with the rows that it steps, and all that has to be told again to one that takes its place.

    The first call is that of the making of the robots, which is under way from the start.
    """

    def __init__(self, hold: Callable[[], Held[_Call, Any]], own: Rows, name: str) -> None:
        self.own = own
        self._hold, self._name = hold, name
        self._told: list[tuple[_Call, Rows]] = []
        """Calls, each with those of its rows that were not reset since."""
        self._call: _Call | None = None
        self._made = False
        self._held = hold()

    def start(self, call: _Call) -> None:
        """Begins a call."""
        self._call = call
        self._held.start(call)

    def finish(self) -> Any:
        """The result of the call, of another worker where one has died.

        Raises:
            RunError: each worker died.
        """
        died: WorkerDied | None = None
        for _ in range(ATTEMPTS):
            try:
                answer = self._held.finish() if died is None else self._begin_again()
            except WorkerDied as error:
                died = error
                continue
            self._made = True
            if self._call is not None:
                self._remember(self._call)
            return answer
        raise RunError(
            f"{self._name}: expected a worker that steps the robots, got {ATTEMPTS} that died ({died}); see whether "
            "memory ran out, and lower --workers"
        ) from died

    def close(self) -> None:
        """Closes the robots, if they were made, and lets go of the worker."""
        if self._made:
            with suppress(WorkerDied):
                self._held.start(_Ask(WrappedRobots.close))
                self._held.finish()
        self._held.close()

    def _begin_again(self) -> Any:
        """Brings another worker to where the last one was, then repeats the call."""
        self._held.close()
        self._held = self._hold()
        answer = self._held.finish()
        told = [call.only(rows) if isinstance(call, _Step) else call for call, rows in self._told]
        for call in told if self._call is None else [*told, self._call]:
            self._held.start(call)
            answer = self._held.finish()
        return answer

    def _remember(self, call: _Call) -> None:
        if isinstance(call, _Step):
            self._told.append((call, call.rows))
        elif isinstance(call, _Reset):
            begun = call.rows[call.own]
            left = [] if len(begun) == len(self.own) else [(one, np.setdiff1d(rows, begun)) for one, rows in self._told]
            self._told = [(one, rows) for one, rows in left if len(rows)]
            self._told.append((call, begun))
        elif call.moves:
            self._told.append((call, self.own))


class ShardedRobots(WrappedRobots):
    """Rows of robots that workers step; see `RobotBatch` for the contract.

    What is pure is answered here. Each process makes all rows, which takes memory, and resets them, which takes time.
    A message goes to each worker and back at every step: rows whose physics is fast are better stepped in one process.

    Args:
        make: Makes rows, here and in the workers.
        rows: R.
        executor: Has the workers, of which this process is the first. Each steps every W-th row, so that the first few
            are shared out as well.

    Raises:
        ConfigError: See `RobotFamily.make` and `Executor.hold`.
        RunError: Workers die of making the robots.
    """

    def __init__(self, make: MakeRobots, rows: int, executor: Executor) -> None:
        super().__init__(make(rows))
        self._lock = threading.Lock()
        count = min(executor.workers, rows)
        here = partial(LocalExecutor(executor.stop).hold, _make_share, (lambda _: self._robot, rows))
        hold = partial(executor.hold, _make_share, (make, rows))
        self._shards: list[_Shard] = []
        try:
            for first in range(count):
                own = np.arange(first, rows, count)
                self._shards.append(_Shard(hold if first else here, own, self.spec.name))
            self._finish(self._shards)
        except BaseException:
            self.close()
            raise

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`.

        Raises:
            SpecError: As there, or the processes have drawn other random numbers than each other.
            RunError: Workers die of it.
        """
        where = f"{self.spec.name} reset"
        rows = require_rows(rows, self.rows, where).copy()
        goals = self.spec.goal.require_rows(self.spec.goal.require_within(goals, where), len(rows), where).copy()
        before, places = deepcopy(rng), self._place(rows)
        answers = self._ask({shard: _Reset(rows, goals, before, own) for shard, own in places.items()})
        states = [state for _, state in answers]
        if any(repr(state) != repr(states[0]) for state in states):
            raise SpecError(
                f"{where}: expected robots that draw the same random numbers in each process, got others; draw from "
                "the generator of the call alone, or use --executor local"
            )
        rng.bit_generator.state = states[0]
        return _join(places.values(), [observation for observation, _ in answers])

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`.

        Raises:
            SpecError: As there.
            RunError: Workers die of it.
        """
        where = f"{self.spec.name} step"
        rows = require_rows(rows, self.rows, where)
        action = self.spec.action.require_rows(action, len(rows), where)
        if self.spec.choices:  # no row moves where one is refused
            self.spec.require_choices(action, len(rows), where)
        places = self._place(rows)
        parts: list[StepRows] = self._ask({shard: _Step(rows[own], action[own]) for shard, own in places.items()})
        told = [part.success for part in parts if part.success is not None]
        success = [np.zeros(len(part.reward), np.bool_) if part.success is None else part.success for part in parts]
        return StepRows(
            _join(places.values(), [part.observation for part in parts]),
            _join(places.values(), [part.reward for part in parts]),
            _join(places.values(), [part.terminated for part in parts]),
            _join(places.values(), [part.truncated for part in parts]),
            _join(places.values(), success) if told else None,
        )

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`."""
        rows = require_rows(rows, self.rows, f"{self.spec.name} take_images")
        places = self._place(rows)
        return _join(
            places.values(),
            self._ask({shard: _Ask(WrappedRobots.take_images, (rows[own],)) for shard, own in places.items()}),
        )

    def stop(self, reason: str) -> None:
        """See `Stops.stop`; nothing, where the robots cannot be told."""
        self._ask(dict.fromkeys(self._shards, _Ask(WrappedRobots.stop, (reason,), moves=True)))

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`: of the oldest; 0 where the robots do not know."""
        return float(max(self._ask(dict.fromkeys(self._shards, _Ask(WrappedRobots.observation_age)))))

    def hold(self) -> None:
        """See `Holds.hold`; nothing, where the robots cannot be told."""
        self._ask(dict.fromkeys(self._shards, _Ask(WrappedRobots.hold, moves=True)))

    @property
    def sent(self) -> Float:
        """See `TellsSent.sent`, (R, A)."""
        places = self._place(np.arange(self.rows))
        return _join(places.values(), self._ask({shard: _Ask(_read_sent, (shard.own,)) for shard in places}))

    def close(self) -> None:
        """See `RobotBatch.close`."""
        shards, self._shards = self._shards, []
        for shard in shards:
            shard.close()

    def _place(self, rows: Rows) -> dict[_Shard, Rows]:
        """Where the rows of each process stand among `rows`; of no rows, those of this one."""
        owner = rows % len(self._shards)
        places = {shard: np.flatnonzero(owner == index) for index, shard in enumerate(self._shards)}
        return {shard: own for shard, own in places.items() if len(own)} or {self._shards[0]: owner}

    def _ask(self, calls: Mapping[_Shard, _Call]) -> list[Any]:
        """The answers of processes that do their calls side by side."""
        with self._lock:
            for shard in reversed(list(calls)):  # this process is the first, and at once at work
                shard.start(calls[shard])
            return self._finish(calls)

    @staticmethod
    def _finish(shards: Iterable[_Shard]) -> list[Any]:
        """All answers; only then an error of one of them, so that none is left waiting."""
        answers, errors = [], []
        for shard in shards:
            try:
                answers.append(shard.finish())
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]
        return answers


def _join(places: Iterable[Rows], parts: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    """A new array with the rows of all parts, each in its place."""
    joined = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for place, part in zip(places, parts, strict=True):
        joined[place] = part
    return joined
