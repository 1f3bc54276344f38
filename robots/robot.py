"""The robot protocols: rows of robots that are stepped together, and a single robot as a batch of one row.

After `dm_env` (Muldal et al., dm_env: A Python interface for reinforcement learning environments, 2019): one small
file, with the contract shipped as tests in `testing.py`.

Axes: R rows, r rows of this call, O observation, A action, N tasks, G goal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import RobotFault, SpecError, make_text
from .limits import RobotLimits
from .spec import RobotSpec

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Rows = NDArray[np.int64]


class StepRows(NamedTuple):
    """What one control step of some rows gave."""

    observation: Float
    """Shape (r, O)."""
    reward: Float
    """Shape (r,)."""
    terminated: Bool
    """Shape (r,): the task ended; do not bootstrap."""
    truncated: Bool
    """Shape (r,): the time limit was reached; bootstrap."""
    success: Bool | None = None
    """Shape (r,): the task is solved now; None where nobody tells (`family.TellsSuccess`)."""


class RobotBatch(Protocol):
    """Rows of robots of one kind.

    The caller says which rows are reset or stepped; the others stay where they are, and what a row does never depends
    on which rows go with it. A row that ended is reset before it is stepped again; only a simulator may be run on past
    its goal, up to the time limit, and then each step reports for itself. Arrays that are returned are the caller's to
    keep.
    """

    @property
    def spec(self) -> RobotSpec:
        """The contract of every row."""
        ...

    @property
    def rows(self) -> int:
        """Number of rows, R."""
        ...

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """Starts an episode in each of `rows`.

        Args:
            rows: Row indices, shape (r,), strictly increasing.
            goals: One goal per row, shape (r, G), within the limits of the goal spec.
            rng: Source of the reset noise; the same state gives the same start.

        Returns:
            Observations, shape (r, O).

        Raises:
            SpecError: The rows are not increasing or not there, or the goals have the wrong shape, are not finite or
                lie outside the limits.
        """
        ...

    def step(self, rows: Rows, action: Float) -> StepRows:
        """Applies one action, clipped to the limits, for one control period in each of `rows`.

        Args:
            rows: Row indices, shape (r,), strictly increasing.
            action: Shape (r, A); an index that is none of `RobotSpec.choices` is refused, not clipped.

        Raises:
            SpecError: The rows are not increasing or not there, or the action has the wrong shape or is not finite; no
                row has moved then.
        """
        ...

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """Reward and termination that N tasks would give for reaching some observations; pure.

        Args:
            observation: Shape (..., O).
            goals: Shape (N, G).

        Returns:
            Reward, shape (..., N), and terminated, shape (..., N).

        Raises:
            UntoldReward: The observation does not tell the reward.
        """
        ...

    def close(self) -> None:
        """Releases the robot."""
        ...


class Step(NamedTuple):
    """What one control step of a single robot gave."""

    observation: Float
    """Shape (O,)."""
    reward: float
    terminated: bool
    truncated: bool
    success: bool | None = None
    """The task is solved now; None where nobody tells."""


class Robot(Protocol):
    """One robot, simulated or real."""

    @property
    def spec(self) -> RobotSpec:
        """The contract."""
        ...

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """Starts an episode with this goal, shape (G,); returns the observation, shape (O,).

        Raises:
            SpecError: The goal has the wrong shape, is not finite or lies outside the limits.
        """
        ...

    def step(self, action: Float) -> Step:
        """Applies one action, shape (A,), for one control period; see `RobotBatch.step`.

        Raises:
            SpecError: The action has the wrong shape or is not finite.
        """
        ...

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        ...

    def close(self) -> None:
        """Releases the robot."""
        ...


class Stops(ABC):
    """A robot that can be told to stop at once: it holds its place, or its drives are cut."""

    @abstractmethod
    def stop(self, reason: str) -> None:
        """Stops all that moves; may be called from any thread, at any time and more than once.

        Args:
            reason: Why, for people.
        """


class Wraps(ABC):
    """A robot around another one, which it asks for all that it cannot do itself; see `can`."""

    @property
    @abstractmethod
    def inner(self) -> object:
        """The one inside."""


def can(robot: object, ability: type) -> bool:
    """Whether a robot has an optional ability, such as `Stops`, and so has all that it is wrapped around.

    A wrapper has the methods of every ability. Where the one inside lacks it, they do nothing: whoever counts on them
    asks here first.
    """
    while isinstance(robot, ability) and isinstance(robot, Wraps):
        robot = robot.inner
    return isinstance(robot, ability)


class TellsAge(ABC):
    """A robot that knows when its newest observation was measured."""

    @abstractmethod
    def observation_age(self) -> float:
        """Seconds since the newest observation was measured, by a monotonic clock."""


class Sees(ABC):
    """Robots with a camera, whose spec has an `image`."""

    @abstractmethod
    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """Pictures of `rows` as they are now, shape (r, height, width, channels); nothing moves because of it.

        Raises:
            SpecError: The robots have no camera.
        """


class PaysAlongPath(ABC):
    """Robots whose reward depends on what was done before in the episode, and follows from the whole path."""

    @abstractmethod
    def compute_path_reward(self, path: Float, goals: Float) -> tuple[Float, Bool]:
        """Reward and termination that N tasks would give along whole episodes; pure.

        Args:
            path: Observations after each step from the first on, shape (R, T, O).
            goals: Shape (N, G).

        Returns:
            Reward, shape (R, T, N), and terminated, shape (R, T, N). A step counts on from those before it, and what
            comes after it does not matter.
        """


def compute_path_reward(robot: RobotBatch, path: Float, goals: Float) -> tuple[Float, Bool]:
    """What N tasks would give along whole episodes, of any robots; see `PaysAlongPath.compute_path_reward`.

    Raises:
        UntoldReward: Neither paths nor observations tell it.
        SpecError: The robots gave anything but finite rewards and ends of the right shape.
    """
    compute = robot.compute_path_reward if isinstance(robot, PaysAlongPath) else robot.compute_reward
    return _require_paid(robot.spec.name, path, goals, *compute(path, goals))


def compute_state_reward(robot: RobotBatch, observation: Float, goals: Float) -> tuple[Float, Bool]:
    """What N tasks would give for reaching some observations, of any robots; see `RobotBatch.compute_reward`.

    Raises:
        UntoldReward: Observations do not tell it.
        SpecError: The robots gave anything but finite rewards and ends of the right shape.
    """
    return _require_paid(robot.spec.name, observation, goals, *robot.compute_reward(observation, goals))


def _require_paid(name: str, observation: Float, goals: Float, reward: Float, terminated: Bool) -> tuple[Float, Bool]:
    """Rewards and ends as a user's robots gave them; numpy would spread other shapes over all tasks."""
    shape = (*observation.shape[:-1], len(goals))
    if np.shape(reward) != shape or np.shape(terminated) != shape:
        raise SpecError(
            f"{name} compute_reward: expected rewards and ends of shape {shape} for observations {observation.shape} "
            f"and goals {goals.shape}, got {np.shape(reward)} and {np.shape(terminated)}; correct it"
        )
    if not np.isfinite(reward).all():
        raise SpecError(
            f"{name} compute_reward: expected finite rewards, got {np.asarray(reward)[~np.isfinite(reward)][0]}; "
            "correct it"
        )
    return reward, terminated


class Observes(ABC):
    """A robot that can be read without a command."""

    @abstractmethod
    def read(self) -> Float:
        """The newest observation, shape (O,). Nothing moves because of it."""


class Holds(ABC):
    """A robot that can be told to stay where it is, without a stop: between episodes, and while a person is asked."""

    @abstractmethod
    def hold(self) -> None:
        """The robot stays as it is until the next command. Telling it again changes nothing: it does not creep.

        Raises:
            RobotFault: It cannot be told.
        """


class TakesLimits(ABC):
    """A robot that commands itself, such as on its way home, within limits that it is given."""

    @abstractmethod
    def take_limits(self, limits: RobotLimits) -> bool:
        """Takes the limits of all that it commands by itself from now on; nothing moves because of it.

        Returns:
            Whether it keeps to them in all that; False where code of somebody else brings it home.

        Raises:
            ConfigError: It cannot keep to them, such as where its home is outside.
        """


class TellsSent(ABC):
    """A robot that says what it was really sent: its driver may have limits of its own, or another type of numbers."""

    @property
    @abstractmethod
    def sent(self) -> Float:
        """The last command as it was sent: shape (A,) of a robot, (R, A) of rows; NaN where nobody knows."""


ROUNDING = np.float32(1e-5)
"""Change of a command, as a share of 1 + |command|, that other units or another type of numbers may give."""


def find_sent(robot: RobotBatch, rows: Rows, told: Float) -> Float:
    """What some rows were really sent in the step that they were told a command in.

    Args:
        robot: What was told it.
        rows: Shape (r,).
        told: Shape (r, A).

    Returns:
        A new array of shape (r, A): as told, but for rows whose robot says otherwise, by more than rounding.
    """
    if not isinstance(robot, TellsSent):
        return np.array(told, np.float32)
    sent = np.asarray(robot.sent)[rows]
    silent = np.isnan(sent).all(axis=1, keepdims=True)
    rounded = (np.abs(sent - told) <= ROUNDING * (1.0 + np.abs(told))).all(axis=1, keepdims=True)
    found: Float = np.where(silent | rounded, told, sent).astype(np.float32)
    return found


def freeze(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers for a function of a user: one that works in place would change what the robot measured."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def read_truth(value: object, name: str) -> bool:
    """One truth value of any library, or 0 or 1; bool() would take NaN, and any text, for true.

    Raises:
        TypeError: It is another.
    """
    one = np.asarray(value)
    if one.size != 1 or one.dtype.kind not in "biuf" or one.item() not in (0, 1):
        raise TypeError(f"{type(value).__name__} {make_text(value)[:60]} as {name}, no truth value")
    return bool(one.item())


def read_number(value: object, name: str, kinds: str = "fiu") -> float:
    """One number of any library; float() would take it from a text, too.

    Args:
        value: What somebody gave as a number.
        name: What it is, for the message.
        kinds: Of `numpy.dtype.kind` that count as numbers.

    Raises:
        TypeError: It is none.
    """
    one = np.asarray(value)
    if one.size != 1 or one.dtype.kind not in kinds:
        raise TypeError(f"{type(value).__name__} {make_text(value)[:60]} as {name}, no number")
    return float(one.item())


def require_told(success: object, rows: int, where: str) -> Bool:
    """What a user's function says of success, one truth value for each row; numpy would take None for False.

    Raises:
        SpecError: It says something else.
    """
    told = np.asarray(success)
    if told.shape != (rows,) or told.dtype != np.bool_:
        got = f"{told.dtype} {told.shape}" if told.shape else repr(success)[:40]
        raise SpecError(f"{where}: expected {rows} truth values of success, got {got}; return one for each row")
    return told


def require_rows(rows: Rows, total: int, where: str) -> Rows:
    """Returns `rows` as int64 if they are strictly increasing and among the `total` rows.

    Raises:
        SpecError: They are not.
    """
    array = np.asarray(rows, np.int64)
    # plain integer comparisons: this runs before every control step
    if array.ndim != 1 or (len(array) and (array[0] < 0 or array[-1] >= total or (array[1:] <= array[:-1]).any())):
        raise SpecError(f"{where}: expected strictly increasing rows below {total}, got {array.tolist()}; sort them")
    return array


class FirstRow:
    """The first row of a batch seen as a single robot."""

    def __init__(self, batch: RobotBatch) -> None:
        self._batch = batch
        self._row = np.zeros(1, np.int64)

    @property
    def spec(self) -> RobotSpec:
        """The contract."""
        return self._batch.spec

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """See `Robot.reset`."""
        observation: Float = self._batch.reset(self._row, np.asarray(goal)[None], rng)[0]
        return observation

    def step(self, action: Float) -> Step:
        """See `Robot.step`."""
        step = self._batch.step(self._row, np.asarray(action)[None])
        success = None if step.success is None else bool(step.success[0])
        return Step(
            step.observation[0], float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]), success
        )

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        return self._batch.compute_reward(observation, goals)

    def close(self) -> None:
        """See `Robot.close`."""
        self._batch.close()


def take_images(robot: object, rows: Rows, name: str) -> NDArray[np.uint8]:
    """Pictures of some rows of any robots; see `Sees.take_images`."""
    if not isinstance(robot, Sees):
        raise SpecError(f"robot '{name}': expected one with a camera, got one without; use a robot that takes pictures")
    return robot.take_images(rows)


class RobotRow(Wraps, Stops, TellsAge, Holds, TakesLimits, TellsSent, Sees):
    """A single robot, e.g. a real one, seen as a batch of one row, so that one rollout loop runs everything."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._tells_success = False  # until the robot does

    @property
    def inner(self) -> object:
        """See `Wraps.inner`."""
        return self._robot

    @property
    def spec(self) -> RobotSpec:
        """The contract."""
        return self._robot.spec

    @property
    def rows(self) -> int:
        """One."""
        return 1

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        rows = require_rows(rows, 1, "robot reset")
        goals = self.spec.goal.require_rows(goals, len(rows), "robot reset")
        observation = [self._read(self._robot.reset(goal, rng), "reset") for goal in goals]
        return np.array(observation, np.float32).reshape(len(rows), *self.spec.observation.shape)

    def _read(self, observation: Float, what: str) -> Float:
        """The observation as the driver gave it, if it has the axes of the contract.

        Numpy would make numbers of texts, and a row of any array with as many numbers, such as a transposed one.

        Raises:
            RobotFault: It has others, or is none.
        """
        if np.ma.is_masked(observation):
            raise RobotFault(
                f"{self.spec.name} {what}: expected {self.spec.observation.shape[0]} measured numbers, got a masked "
                "one, which nobody has measured; correct the driver"
            )
        seen = np.asarray(observation)
        if seen.shape != self.spec.observation.shape or seen.dtype.kind not in "fiu":
            raise RobotFault(
                f"{self.spec.name} {what}: expected an observation of {self.spec.observation.shape[0]} numbers, got "
                f"{seen.dtype} of shape {seen.shape}; correct the driver"
            )
        return seen

    def _tell(self, flag: object, name: str) -> bool:
        """True or false, as the driver said.

        Raises:
            RobotFault: It said something else; numpy would take any text for true.
        """
        if not isinstance(flag, bool | np.bool_):
            raise RobotFault(
                f"{self.spec.name} step: expected true or false for {name}, got {flag!r:.40}; correct the driver"
            )
        return bool(flag)

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        rows = require_rows(rows, 1, "robot step")
        action = self.spec.action.require_rows(action, len(rows), "robot step")
        steps = [self._robot.step(one) for one in action]
        self._tells_success |= any(step.success is not None for step in steps)
        seen = [self._read(step.observation, "step") for step in steps]
        flags = [[self._tell(getattr(step, name), name) for step in steps] for name in ("terminated", "truncated")]
        success = [False if step.success is None else self._tell(step.success, "success") for step in steps]
        reward = [np.asarray(step.reward) for step in steps]
        for one in reward:
            if one.shape or one.dtype.kind not in "fiu":
                raise RobotFault(
                    f"{self.spec.name} step: expected a number as reward, got {one!r:.40}; correct the driver"
                )
        with np.errstate(over="ignore"):  # what is not finite is found by whoever learns from it
            paid = np.array(reward, np.float32)
            observation = np.array(seen, np.float32).reshape(len(rows), *self.spec.observation.shape)
        return StepRows(
            observation,
            paid,
            np.array(flags[0], np.bool_),
            np.array(flags[1], np.bool_),
            np.array(success, np.bool_) if self._tells_success else None,
        )

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        return self._robot.compute_reward(observation, goals)

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`; the robot's own takes the row 0."""
        return take_images(self._robot, rows, self.spec.name)

    def stop(self, reason: str) -> None:
        """See `Stops.stop`; nothing, where the robot cannot be told."""
        if isinstance(self._robot, Stops):
            self._robot.stop(reason)

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`; 0 where the robot does not know."""
        return self._robot.observation_age() if isinstance(self._robot, TellsAge) else 0.0

    def hold(self) -> None:
        """See `Holds.hold`; nothing, where the robot cannot be told."""
        if isinstance(self._robot, Holds):
            self._robot.hold()

    def take_limits(self, limits: RobotLimits) -> bool:
        """See `TakesLimits.take_limits`; False, where nobody takes them."""
        return isinstance(self._robot, TakesLimits) and self._robot.take_limits(limits)

    @property
    def sent(self) -> Float:
        """See `TellsSent.sent`, (1, A)."""
        if isinstance(self._robot, TellsSent):
            return np.asarray(self._robot.sent)[None]
        return np.full((1, *self.spec.action.shape), np.nan, np.float32)

    def close(self) -> None:
        """See `RobotBatch.close`."""
        self._robot.close()


class WrappedRobots(Wraps, Stops, TellsAge, PaysAlongPath, Holds, TakesLimits, TellsSent, Sees):
    """A `RobotBatch` that does all as the one inside, but for what a subclass does otherwise.

    It can be told to stop and to hold, and be asked for the age of its observations and for what was really sent,
    whatever is inside: a wrapper that hid one of these from the safety limits would leave a robot that nobody stops. It
    is asked for rewards along paths in the same way. Whether anybody hears it says `can`.
    """

    def __init__(self, robot: RobotBatch) -> None:
        self._robot = robot

    @property
    def inner(self) -> object:
        """See `Wraps.inner`."""
        return self._robot

    @property
    def spec(self) -> RobotSpec:
        """See `RobotBatch.spec`."""
        return self._robot.spec

    @property
    def rows(self) -> int:
        """See `RobotBatch.rows`."""
        return self._robot.rows

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        return self._robot.reset(rows, goals, rng)

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        return self._robot.step(rows, action)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        return self._robot.compute_reward(observation, goals)

    def compute_path_reward(self, path: Float, goals: Float) -> tuple[Float, Bool]:
        """See `PaysAlongPath.compute_path_reward`; of any robots."""
        return compute_path_reward(self._robot, path, goals)

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`; of robots with a camera."""
        return take_images(self._robot, rows, self.spec.name)

    def stop(self, reason: str) -> None:
        """See `Stops.stop`; nothing, where the robots cannot be told."""
        if isinstance(self._robot, Stops):
            self._robot.stop(reason)

    def observation_age(self) -> float:
        """See `TellsAge.observation_age`; 0 where the robots do not know."""
        return self._robot.observation_age() if isinstance(self._robot, TellsAge) else 0.0

    def hold(self) -> None:
        """See `Holds.hold`; nothing, where the robots cannot be told."""
        if isinstance(self._robot, Holds):
            self._robot.hold()

    def take_limits(self, limits: RobotLimits) -> bool:
        """See `TakesLimits.take_limits`; False, where nobody takes them."""
        return isinstance(self._robot, TakesLimits) and self._robot.take_limits(limits)

    @property
    def sent(self) -> Float:
        """See `TellsSent.sent`, (R, A)."""
        if isinstance(self._robot, TellsSent):
            return self._robot.sent
        return np.full((self.rows, *self.spec.action.shape), np.nan, np.float32)

    def close(self) -> None:
        """See `RobotBatch.close`."""
        self._robot.close()
