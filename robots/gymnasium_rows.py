"""Rows of Gymnasium environments with a task each, in this process or in others.

Other processes are Gymnasium's own `AsyncVectorEnv`: one sub-environment there holds the environments of some rows. It
says for each row whether it runs, since a vector environment always steps all of its own. The results are the same to
the bit, wherever an environment runs.

Axes: R rows, r rows of this call, F observation as Gymnasium flattens it, A action, G goal.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.spaces.utils import flatdim, flatten
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from numpy.typing import NDArray

from ..errors import FOREIGN, RobotFault, SpecError, SuppleError, describe_foreign
from .robot import Bool, Float, Rows, read_number, read_truth

Env: TypeAlias = gymnasium.Env[Any, Any]
MakeEnv = Callable[[Float], Env]
"""An environment of the task with these parameters, shape (G,)."""
SetTask = Callable[[Env, Float], None]
"""Gives an environment another task before its next reset."""
ReadSuccess = Callable[[dict[str, Any]], bool]
"""Whether the task is solved, from the `info` of a step."""
_END_WAIT = 0.2
"""Seconds in which the exit code of a process is known after its pipe is closed."""


class Kind(NamedTuple):
    """What environments of one kind have in common."""

    name: str
    """For messages."""
    make: MakeEnv
    set_task: SetTask | None
    """None where a new task needs a new environment."""
    read_success: ReadSuccess | None
    """None where `info` does not tell."""
    observation: Space[Any]
    action: Space[Any]


class EnvSteps(NamedTuple):
    """What one step of some rows gave."""

    observation: Float
    """Shape (r, F)."""
    reward: Float
    """Shape (r,)."""
    terminated: Bool
    """Shape (r,)."""
    truncated: Bool
    """Shape (r,)."""
    success: Bool
    """Shape (r,); False where `info` does not tell."""


class EnvRows(Protocol):
    """Environments of R rows."""

    def begin(self, rows: Rows, goals: Float, seeds: Rows) -> Float:
        """Starts an episode in each of `rows`.

        Args:
            rows: Shape (r,).
            goals: Shape (r, G).
            seeds: Of the environments, shape (r,).

        Returns:
            Observations, shape (r, F).

        Raises:
            SpecError: The spaces of a task's environment are others.
            RobotFault: An observation is not finite, or the environment raises an error.
        """
        ...

    def advance(self, rows: Rows, action: NDArray[Any]) -> EnvSteps:
        """Steps each of `rows` by an action, shape (r, A), or by a choice, shape (r,).

        Raises:
            RobotFault: An observation or a reward is not finite, or the environment raises an error.
        """
        ...

    def close(self) -> None:
        """Closes all environments; they can begin again."""
        ...


class LocalRows:
    """Environments in this process, stepped one after the other; see `EnvRows`.

    A row keeps its environment while its task stays the same, and gets a new one with each new task, or has its own set
    to it.

    Args:
        kind: Of the environments.
        rows: R.
        first: Number of the first row, for messages.
    """

    def __init__(self, kind: Kind, rows: int, first: int = 0) -> None:
        self._kind, self._first, self._width = kind, first, flatdim(kind.observation)
        self._envs: list[Env | None] = [None] * rows
        self._tasks: list[Float | None] = [None] * rows

    def begin(self, rows: Rows, goals: Float, seeds: Rows) -> Float:
        """See `EnvRows.begin`."""
        seen = np.empty((len(rows), self._width), np.float32)
        for place, (row, goal, seed) in enumerate(zip(rows.tolist(), goals, seeds.tolist(), strict=True)):
            try:
                observation, _ = self._env_of(row, goal).reset(seed=seed)
                seen[place] = self._flatten(observation, row)
            except SuppleError:
                raise
            except FOREIGN as error:  # an environment of a user fails in ways of its own
                raise RobotFault(
                    f"{self._kind.name} reset: expected reset(seed=...) to give an observation of "
                    f"{self._kind.observation} and an info, got {describe_foreign(error)} in row {self._first + row}; "
                    "repair the environment"
                ) from error
        return seen

    def advance(self, rows: Rows, action: NDArray[Any]) -> EnvSteps:
        """See `EnvRows.advance`."""
        count, read = len(rows), self._kind.read_success
        seen = np.empty((count, self._width), np.float32)
        reward = np.empty(count, np.float32)
        terminated, truncated, success = (np.zeros(count, np.bool_) for _ in range(3))
        for place, (row, taken) in enumerate(zip(rows.tolist(), action, strict=True)):
            env = self._envs[row]
            assert env is not None, "a row that runs has an environment"
            try:
                observation, gained, ended, late, info = env.step(self._to_env(taken))
                seen[place] = self._flatten(observation, row)
                read_number(gained, "reward", "fiub")
                reward[place] = gained
                terminated[place], truncated[place] = read_truth(ended, "terminated"), read_truth(late, "truncated")
                success[place] = read is not None and read(info)
            except SuppleError:
                raise
            except FOREIGN as error:  # as in `begin`
                raise RobotFault(
                    f"{self._kind.name} step: expected an observation of {self._kind.observation}, a reward, "
                    f"terminated, truncated and an info, got {describe_foreign(error)} in row {self._first + row}; "
                    "repair the environment"
                ) from error
            if not np.isfinite(reward[place]):
                raise RobotFault(
                    f"{self._kind.name} step: expected a finite reward, got {reward[place]} in row "
                    f"{self._first + row}; repair the environment"
                )
        return EnvSteps(seen, reward, terminated, truncated, success)

    def close(self) -> None:
        """See `EnvRows.close`."""
        for env in self._envs:
            if env is not None:
                env.close()
        self._envs = [None] * len(self._envs)
        self._tasks = [None] * len(self._tasks)

    def env(self, row: int) -> Env | None:
        """The environment of a row; None before its first episode."""
        return self._envs[row]

    def _env_of(self, row: int, goal: Float) -> Env:
        """The row's environment, made anew or set to its task where that is another."""
        env, task, kind = self._envs[row], self._tasks[row], self._kind
        if env is not None and task is not None and np.array_equal(task, goal):
            return env
        self._tasks[row] = None
        if env is not None and kind.set_task is not None:
            kind.set_task(env, goal.copy())
            self._tasks[row] = goal.copy()
            return env
        if env is not None:
            env.close()
        self._envs[row] = None
        env = kind.make(goal.copy())
        got, known = (env.observation_space, env.action_space), (kind.observation, kind.action)
        if got != known:
            raise SpecError(
                f"{kind.name} reset: expected the spaces {known} of the example, got {got} for the task "
                f"{goal.tolist()}; make environments of one shape"
            )
        self._envs[row], self._tasks[row] = env, goal.copy()
        return env

    def _to_env(self, action: NDArray[Any]) -> Any:
        """An action as the environment takes it."""
        space = self._kind.action
        if isinstance(space, Discrete):
            return space.start + int(action)
        assert isinstance(space, Box), "other actions were refused"
        shaped = action.reshape(space.shape)
        return (np.rint(shaped) if space.dtype.kind in "iu" else shaped).astype(space.dtype)

    def _flatten(self, observation: Any, row: int) -> Float:
        """Shape (F,)."""
        flat = np.asarray(flatten(self._kind.observation, observation), np.float32)
        if flat.shape != (self._width,):  # numpy would spread a single number over all
            raise RobotFault(
                f"{self._kind.name}: expected an observation of {self._width} numbers as in {self._kind.observation}, "
                f"got {flat.size} in row {self._first + row}; repair the environment"
            )
        if not np.isfinite(flat).all():
            raise RobotFault(
                f"{self._kind.name}: expected a finite observation, got {flat[~np.isfinite(flat)][0]} in row "
                f"{self._first + row}; repair the environment"
            )
        return flat


class ProcessRows:
    """Environments in processes of their own; see `EnvRows`.

    The processes are forked, so that environments of a user's file need not be found again by name.

    Args:
        kind: Of the environments.
        rows: R.
        processes: How many; each has the same number of rows, so some of the last may have none to run.
        goal_axes: G.
        action_axes: A.
    """

    def __init__(self, kind: Kind, rows: int, processes: int, goal_axes: int, action_axes: int) -> None:
        self._name = kind.name
        self._share = -(-rows // processes)
        self._shape = (-(-rows // self._share), self._share)
        self._goal_axes, self._action_axes = goal_axes, action_axes
        makers = [
            partial(_Share, kind, self._share, place * self._share, goal_axes, action_axes)
            for place in range(self._shape[0])
        ]
        self._open: Callable[[], AsyncVectorEnv] = partial(
            AsyncVectorEnv, makers, context="fork", autoreset_mode=AutoresetMode.DISABLED
        )
        self._vector: AsyncVectorEnv | None = None

    def begin(self, rows: Rows, goals: Float, seeds: Rows) -> Float:
        """See `EnvRows.begin`."""
        orders = self._fill(rows, np.column_stack([seeds, goals]), 1 + self._goal_axes)
        vector = self._vector = self._vector or self._open()
        # a reset may leave no sub-environment out, since the vector environment keeps what it gave last
        observation, info = self._ask("reset", vector, lambda: vector.reset(options={"orders": orders}))
        return self._read(observation, info, rows).observation

    def advance(self, rows: Rows, action: NDArray[Any]) -> EnvSteps:
        """See `EnvRows.advance`."""
        assert self._vector is not None, "a row that runs has an environment"
        orders = self._fill(rows, action.reshape(len(rows), -1), self._action_axes)
        vector = self._vector
        observation, _, _, _, info = self._ask("step", vector, lambda: vector.step(orders.reshape(self._shape[0], -1)))
        return self._read(observation, info, rows)

    def close(self) -> None:
        """See `EnvRows.close`."""
        vector, self._vector = self._vector, None
        if vector is None:
            return
        try:
            vector.close()
        except (EOFError, OSError):  # one of them has ended
            _end(vector)

    def _ask(self, call: str, vector: AsyncVectorEnv, ask: Callable[[], Any]) -> Any:
        """The answer of all processes.

        Raises:
            RobotFault: One of them ended. The others are ended too, and begin again with the next reset.
        """
        try:
            return ask()
        except (EOFError, OSError) as error:
            self._vector = None
            place, code = _end(vector)
            first = place * self._share
            ended = f"{code}" if code is None or code >= 0 else f"the signal {signal.Signals(-code).name}"
            raise RobotFault(
                f"{self._name} {call}: expected processes that run environments, got the end of process {place} with "
                f"rows {first} .. {first + self._share - 1} by exit code {ended}; run with processes 0 to see why"
            ) from error

    def _fill(self, rows: Rows, values: NDArray[Any], width: int) -> NDArray[np.float64]:
        """For each row of each process, whether it is meant and its values, (processes, share, 1 + width)."""
        orders = np.zeros((self._shape[0] * self._share, 1 + width))
        orders[rows, 0] = 1.0
        orders[rows, 1:] = values
        return orders.reshape(*self._shape, -1)

    def _read(self, observation: Any, info: dict[str, Any], rows: Rows) -> EnvSteps:
        for message, kind in zip(info.get("fault", ()), info.get("fault_kind", ()), strict=True):
            if message:
                raise _make_error(kind, message)
        flat = np.asarray(observation).reshape(self._shape[0] * self._share, -1)[rows]
        reward, terminated, truncated, success = flat[:, -4:].T
        return EnvSteps(
            flat[:, :-4].astype(np.float32),
            reward.astype(np.float32),
            terminated.astype(np.bool_),
            truncated.astype(np.bool_),
            success.astype(np.bool_),
        )


class _Share(gymnasium.Env[NDArray[np.float64], NDArray[np.float64]]):
    """The rows of one process as one environment, whose actions and observations are tables with a line per row."""

    def __init__(self, kind: Kind, rows: int, first: int, goal_axes: int, action_axes: int) -> None:
        self._rows = LocalRows(kind, rows, first)
        self._first, self._shape = first, (rows, 1 + action_axes)
        self._discrete = isinstance(kind.action, Discrete)
        self._table = np.zeros((rows, flatdim(kind.observation) + 4))
        self.observation_space = Box(-np.inf, np.inf, self._table.shape, np.float64)
        self.action_space = Box(-np.inf, np.inf, (rows * (1 + action_axes),), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Begins the rows that are meant; `options["orders"]` says for all processes which, and their tasks."""
        assert options is not None, "orders come with every reset"
        orders = options["orders"][self._first // len(self._table)]
        rows = np.flatnonzero(orders[:, 0])
        goals, seeds = orders[rows, 2:].astype(np.float32), orders[rows, 1].astype(np.int64)
        try:
            self._table[rows, :-4] = self._rows.begin(rows, goals, seeds)
        except SuppleError as error:
            return self._table, _fault(error)
        return self._table, {}

    def step(self, action: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Steps the rows that are meant."""
        orders = action.reshape(self._shape)
        rows = np.flatnonzero(orders[:, 0])
        taken = orders[rows, 1].astype(np.int64) if self._discrete else orders[rows, 1:].astype(np.float32)
        try:
            steps = self._rows.advance(rows, taken)
        except SuppleError as error:
            return self._table, 0.0, False, False, _fault(error)
        self._table[rows] = np.column_stack(steps)
        return self._table, 0.0, False, False, {}

    def close(self) -> None:
        """Closes the environments."""
        self._rows.close()


def _fault(error: SuppleError) -> dict[str, str]:
    """An error as `info`, which comes through to the caller as it is."""
    return {"fault_kind": f"{type(error).__module__} {type(error).__qualname__}", "fault": str(error)}


def _make_error(kind: str, message: str) -> SuppleError:
    """The error of `_fault`; of a class that only the other process knows, a `RobotFault`."""
    kinds: list[type[SuppleError]] = [SuppleError]
    for known in kinds:
        kinds += known.__subclasses__()
    names = {f"{known.__module__} {known.__qualname__}": known for known in kinds}
    found = names.get(kind, RobotFault)
    error = found.__new__(found)  # its own arguments are not known here
    error.args = (message,)
    return error


def _end(vector: AsyncVectorEnv) -> tuple[int, int | None]:
    """Ends all processes of a vector environment of which one has ended: its place, and its exit code."""
    codes: list[int | None] = []
    for process in vector.processes:
        process.join(_END_WAIT if all(code is None for code in codes) else 0.0)
        codes.append(process.exitcode)
    for process in vector.processes:
        process.terminate()
        process.join()
    for pipe in vector.parent_pipes:
        pipe.close()
    vector.closed = True  # else it would say so again when it is forgotten
    place = next((place for place, code in enumerate(codes) if code is not None), 0)
    return place, codes[place]
