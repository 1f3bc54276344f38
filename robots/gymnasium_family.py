"""A robot family from any Gymnasium environment: how a task enters it, and where tasks are drawn.

    PENDULUM = GymnasiumFamily(
        name="pendulum",
        environment="Pendulum-v1",
        goal=(Axis("g", "m/s^2", 5.0, 15.0),),
        control_period=0.05,
    )

The interface is Gymnasium's (Towers et al., "Gymnasium: A Standard Interface for Reinforcement Learning Environments",
2024). A task is a few numbers, uniform in a box. They are keyword arguments of the environment, or a call sets them.
They are hidden: what the environment shows of them has to be named in `hide`.

Axes: R rows, G goal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import gymnasium
import numpy as np

from ..errors import ConfigError
from .family import ONLY_TASKS, BuiltFrom, PlayChunk, Plays
from .gymnasium_batch import ComputeReward, GymnasiumBatch, TellSuccess
from .gymnasium_rows import Env, SetTask
from .play import NoiseConfig, play_noise
from .robot import Float
from .spec import ArraySpec, Axis, RobotSpec
from .task import TaskSet, goals_of
from .task_draws import draw_tasks

MakeOne: TypeAlias = Callable[..., Env]
"""Makes an environment from keyword arguments."""


@dataclass(frozen=True, kw_only=True)
class GymnasiumFamily(Plays, BuiltFrom):
    """Environments of one kind, each with the parameters of a task.

    Its robots say success themselves, see `success`. What is random in an environment must come from its `np_random`.

    Raises:
        ConfigError: A field is one that no family can have. What does not fit the environment is found when the first
            is made: by `spec` and `make`.
    """

    name: str
    """Of the family, for records and folders."""
    environment: str | MakeOne
    """An id that Gymnasium knows, or what makes an environment: a class or a function."""
    goal: tuple[Axis, ...]
    """Parameters of a task with the box that tasks are drawn from; without `set_task`, keyword arguments by name."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments."""
    set_task: SetTask | None = None
    """Gives an environment another task before its next reset, from the parameters, shape (G,); None makes another
    environment with the parameters as keyword arguments, which takes longer."""
    hide: tuple[str | int, ...] = ()
    """What of the observation is left out: keys where it is a `Dict`, or indices of the flattened observation."""
    observation_axes: tuple[Axis, ...] = ()
    """Names, units and limits of all that is not hidden; empty takes what the space says."""
    action_axes: tuple[Axis, ...] = ()
    """The same of the action, where it is a box."""
    success: TellSuccess | None = None
    """"info": `info["is_success"]` or `info["success"]` says so. "terminated": the end of the task is it. A number: the
    reward is at least this. A call: from observations (r, O), rewards (r,) and goals (r, G). None: nothing tells."""
    reward: ComputeReward | None = None
    """Reward and termination from observations (..., O) and goals (N, G), shape (..., N), where they depend on nothing
    else; for learners that ask what an episode would have paid for another task. It has to agree with the
    environment."""
    control_period: float = 1.0
    """Time between two actions, seconds; Gymnasium does not know it."""
    episode_steps: int | None = None
    """Time limit of one episode, actions; None takes the one that Gymnasium registered."""
    processes: int = 0
    """In how many processes the environments run, by Gymnasium's `AsyncVectorEnv`; 0 is this process."""
    num_train_tasks: int = field(default=40, metadata=ONLY_TASKS)
    """Train tasks."""
    num_test_tasks: int = field(default=10, metadata=ONLY_TASKS)
    """Test tasks."""
    task_seed: int = field(default=0, metadata=ONLY_TASKS)
    """Seed of the tasks."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """How play data is made: by coloured noise as commands, each episode on one of the train tasks."""
    packages: tuple[str, ...] = ()
    """Further distributions that the environment is built from; their versions count, as those of Gymnasium and MuJoCo."""

    def __post_init__(self) -> None:
        least = {"num_train_tasks": 1, "num_test_tasks": 1, "task_seed": 0, "processes": 0, "episode_steps": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"{self.name} {name}: expected at least {low}, got {value}; raise it")
        if not 0.0 < self.control_period < np.inf:
            raise ConfigError(
                f"{self.name} control_period: expected a number above 0, got {self.control_period}; raise it"
            )
        if isinstance(self.success, str) and self.success not in ("info", "terminated"):
            raise ConfigError(
                f"{self.name} success: expected 'info', 'terminated', a number or a call, got '{self.success}'; "
                "name one"
            )
        require_box(self.goal, self.name)

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`.

        Raises:
            ConfigError: The fields do not fit the environment.
        """
        return self._spec

    @cached_property
    def _spec(self) -> RobotSpec:
        batch = self._make(1, processes=0)
        batch.close()
        return batch.spec

    def make(self, rows: int, threads: int = 1) -> GymnasiumBatch:
        """See `RobotFamily.make`; the number of processes is the family's own.

        Raises:
            ConfigError: There are no rows, or the fields do not fit the environment.
        """
        return self._make(rows, processes=self.processes)

    def _make(self, rows: int, *, processes: int) -> GymnasiumBatch:
        goal = ArraySpec("goal", self.goal)
        return GymnasiumBatch(
            self.make_one,
            goal,
            rows,
            example=0.5 * (goal.low + goal.high),
            set_task=self.set_task,
            name=self.name,
            episode_steps=self.episode_steps,
            control_period=self.control_period,
            hide=self.hide,
            observation_axes=self.observation_axes,
            action_axes=self.action_axes,
            success=self.success,
            reward=self.reward,
            processes=processes,
        )

    def make_one(self, goal: Float) -> Env:
        """The environment of one task.

        Args:
            goal: Its parameters, shape (G,).

        Raises:
            ConfigError: Gymnasium does not know the id, or the environment does not take the arguments.
        """
        arguments = dict(self.arguments)
        if self.set_task is None:
            arguments |= {axis.name: value for axis, value in zip(self.goal, goal.tolist(), strict=True)}
        try:
            if isinstance(self.environment, str):
                env: Env = gymnasium.make(self.environment, max_episode_steps=self.episode_steps, **arguments)
            else:
                env = self.environment(**arguments)
        except (gymnasium.error.Error, ImportError, TypeError) as error:
            raise ConfigError(
                f"{self.name} environment: expected one that is made with {sorted(arguments)}, got "
                f"{type(error).__name__}: {' '.join(str(error).split())}; correct environment, arguments or goal"
            ) from error
        if self.set_task is not None:
            self.set_task(env, goal.copy())
        return env

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`: uniform in the box."""
        return draw_box_tasks(self.name, self.goal, self.num_train_tasks, self.num_test_tasks, self.task_seed)

    @property
    def play_steps(self) -> int:
        """See `Plays.play_steps`."""
        return self.spec().episode_steps

    def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
        """See `Plays.play`: coloured noise, see `play_noise`."""
        return play_noise(self.make(rows, threads), goals_of(self.tasks().train), self.noise, seed)

    def files(self) -> tuple[()]:
        """See `BuiltFrom.files`: none."""
        return ()

    def libraries(self) -> tuple[str, ...]:
        """See `BuiltFrom.libraries`."""
        return ("gymnasium", "mujoco", *self.packages)


def require_box(goal: tuple[Axis, ...], where: str) -> None:
    """Checks that tasks can be drawn.

    Raises:
        ConfigError: There are no axes, or one has no limits.
    """
    if not goal:
        raise ConfigError(f"{where} goal: expected at least one axis, got none; name the parameters of a task")
    for axis in goal:
        if not (np.isfinite(axis.low) and np.isfinite(axis.high)):
            raise ConfigError(
                f"{where} goal: expected limits, got {axis.low} .. {axis.high} {axis.unit} for '{axis.name}'; give the "
                "box that tasks are drawn from"
            )


def draw_box_tasks(name: str, goal: tuple[Axis, ...], num_train: int, num_test: int, seed: int) -> TaskSet:
    """Tasks uniform in a box; see `draw_tasks`."""
    box = ArraySpec("goal", goal)

    def draw(count: int, rng: np.random.Generator) -> Float:
        return rng.uniform(box.low, box.high, (count, len(goal))).astype(np.float32)

    return draw_tasks(name, draw, num_train, num_test, seed)
