"""What families of environments of other libraries have in common: tasks from a box, play by noise or a script.

Axes: G goal.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Dict

from ..bounds import Count, Positive, Range, Seed, require_bounds
from ..errors import FOREIGN, ConfigError, SpecError, describe_foreign
from .env_camera import EnvCamera, Physics
from .family import ONLY_TASKS, BuiltFrom, Camera, Films, PlayChunk, Plays
from .gymnasium_batch import ComputeReward, GymnasiumBatch, TellSuccess, require_seen
from .gymnasium_rows import Env, MakeEnv, SetTask
from .mjcf_model import list_mjcf_files
from .mujoco_camera import make_goal_mark
from .play import NoiseConfig, Script, play_noise
from .robot import Float, RobotBatch
from .spec import ArraySpec, Axis, RobotSpec
from .task import TaskSet, goals_of
from .task_draws import draw_tasks

_LOG = logging.getLogger(__name__)

MODEL_SUFFIXES = (".xml", ".mjcf", ".urdf")
"""Of model files, which name further files."""


class _Looked(NamedTuple):
    """What one environment of a family tells."""

    spec: RobotSpec
    files: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class EnvFamily(Plays, Films, BuiltFrom):
    """Environments of one kind, each with the parameters of a task.

    Its robots say success themselves, see `success`.

    Raises:
        ConfigError: A field is one that no family can have. What does not fit the environment is found when the first
            is made: by `spec` and `make`.
    """

    name: str
    """Of the family, for records and folders."""
    goal: tuple[Axis, ...]
    """Parameters of a task with the box that tasks are drawn from; without `set_task`, keyword arguments by name."""
    hide: tuple[str | int, ...] = ()
    """What of the observation is left out: keys where it is a dict, or indices of the flattened observation."""
    observation_axes: tuple[Axis, ...] = ()
    """Names, units and limits of all that is not hidden; empty takes what the environment says."""
    action_axes: tuple[Axis, ...] = ()
    """The same of all of the action that is commanded, where it is a box. Limits may be narrower than the
    environment's, where its largest action is more than a motion of one control period."""
    commanded: tuple[int, ...] | None = None
    """Components of the action that move the robot, as indices, where it is a box; None for all. The others are held at
    0, or at the limit nearest to it, and are no part of the contract."""
    success: TellSuccess | None = None
    """"info": `info["is_success"]` or `info["success"]` says so. "terminated": the end of the task is it. A number: the
    reward is at least this. A call: from observations (r, O), rewards (r,) and goals (r, G). None: nothing tells."""
    reward: ComputeReward | None = None
    """What is paid, and what ends a task, from observations (..., O) and goals (..., G), which broadcast; None takes
    the reward of the environment. With it, learners know what an episode would have paid for another task."""
    goal_radius: Positive | None = None
    """Where the goal is a place x, y, z of the world: distance at which it counts as reached, m. Films show it; nothing
    else reads it. None shows nothing."""
    control_period: Positive | None = None
    """Time between two actions, seconds; None takes that of the environment where it has one, or else 1."""
    episode_steps: Count | None = None
    """Time limit of one episode, actions; None takes that of the environment."""
    processes: Annotated[int, Range(0, 1024)] = 0
    """In how many processes the environments run, by Gymnasium's `AsyncVectorEnv`; 0 is this process."""
    num_train_tasks: Count = field(default=40, metadata=ONLY_TASKS)
    """Train tasks."""
    num_test_tasks: Count = field(default=10, metadata=ONLY_TASKS)
    """Test tasks."""
    task_seed: Seed = field(default=0, metadata=ONLY_TASKS)
    """Seed of the tasks."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """How play data is made: by coloured noise as commands, each episode on one of the train tasks."""
    script: Script | None = None
    """What commands play data in the place of noise alone: the way from one random waypoint to the next, for rooms that
    noise does not get around in, and for objects that it does not move."""
    packages: tuple[str, ...] = ()
    """Further distributions that the environment is built from, whose versions count."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment besides the parameters of the task. Files among them count by content."""
    model_files: tuple[Path, ...] = ()
    """Further files that the environment reads, such as a model that its code names, or folders of such files; their
    content counts. Model files count with all that they include."""

    def __post_init__(self) -> None:
        require_bounds(self)
        if isinstance(self.success, str) and self.success not in ("info", "terminated"):
            raise ConfigError(
                f"{self.name} success: expected 'info', 'terminated', a number or a call, got '{self.success}'; "
                "name one"
            )
        if not self.goal:
            raise ConfigError(f"{self.name} goal: expected at least one axis, got none; name the parameters of a task")
        if self.goal_radius is not None and len(self.goal) != 3:
            raise ConfigError(
                f"{self.name} goal_radius: expected None for a goal that is no place x, y, z, got {self.goal_radius:g} "
                f"with {len(self.goal)} axes; leave it out"
            )
        for axis in self.goal:
            if not (np.isfinite(axis.low) and np.isfinite(axis.high)):
                raise ConfigError(
                    f"{self.name} goal: expected limits, got {axis.low} .. {axis.high} {axis.unit} for '{axis.name}'; "
                    "give the box that tasks are drawn from"
                )

    @abstractmethod
    def make_env(self, goal: Float) -> Env:
        """The environment of one task, from its parameters, shape (G,).

        Raises:
            ConfigError: There is no such environment, or it does not take the parameters.
        """

    @abstractmethod
    def task_setter(self) -> SetTask | None:
        """Gives an environment another task; None where each needs an environment of its own."""

    def give_task(self, set_task: Callable[[Any, Float], None] | None, environment: Any, goal: Float) -> None:
        """Gives a new environment the task, where the user's function does that.

        Raises:
            ConfigError: The function raised.
        """
        if set_task is None:
            return
        try:
            set_task(environment, goal.copy())
        except FOREIGN as error:
            raise ConfigError(
                f"{self.name} set_task: expected a call that gives an environment the task {goal.tolist()}, got "
                f"{describe_foreign(error)}; correct it"
            ) from error

    @abstractmethod
    def find_period(self, env: Env) -> float:
        """Time between two actions, seconds, as the environment has it."""

    @abstractmethod
    def find_physics(self, env: Env) -> Physics | None:
        """The MuJoCo model and its state that an environment simulates; None where it is none of MuJoCo's."""

    def find_files(self, env: Env) -> tuple[Path, ...]:
        """Files that an environment says it was made from."""
        return ()

    def files(self) -> tuple[Path, ...]:
        """See `BuiltFrom.files`: `model_files`, files among the arguments, and those that the environment names.

        Raises:
            ConfigError: One of `model_files` is not there, or there is no such environment.
        """
        for path in self.model_files:
            if not path.exists():
                raise ConfigError(f"{self.name} model_files: expected a file, got nothing at {path}; check the path")
        named = {file for value in (self.model_files, self.arguments, self.sources) for file in _list_files(value)}
        return tuple(sorted({part for file in {*named, *self._looked.files} for part in _list_parts(file)}))

    @property
    def sources(self) -> tuple[object, ...]:
        """What makes an environment; the arguments that a `functools.partial` holds count as all others."""
        return ()

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`.

        Raises:
            ConfigError: The fields do not fit the environment.
        """
        return self._looked.spec

    @cached_property
    def _looked(self) -> _Looked:
        files: tuple[Path, ...] = ()

        def make_env(goal: Float) -> Env:
            nonlocal files
            env = self.make_env(goal)
            files = self.find_files(env)
            self._look_for_goal(env)
            return env

        batch = self._make(1, processes=0, make_env=make_env)
        batch.close()
        return _Looked(batch.spec, files)

    def _look_for_goal(self, env: Env) -> None:
        """Says where a goal environment shows its goal, which is mostly the task."""
        space = env.observation_space
        named = isinstance(space, Dict) and "desired_goal" in space.spaces
        if named and "desired_goal" not in self.hide and not any(isinstance(part, int) for part in self.hide):
            _LOG.warning(
                "%s hide: expected the goal of the environment to be hidden, got 'desired_goal' shown; pass "
                "hide=('desired_goal',), unless the policy is to see its task",
                self.name,
            )

    @cached_property
    def _period(self) -> float:
        if self.control_period is not None:
            return self.control_period
        env = self.make_env(self._middle)
        period = self.find_period(env)
        env.close()
        return period

    @property
    def _middle(self) -> Float:
        goal = ArraySpec("goal", self.goal)
        middle: Float = 0.5 * (goal.low + goal.high)
        return middle

    def make(self, rows: int, threads: int = 1) -> GymnasiumBatch:
        """See `RobotFamily.make`; the number of processes is the family's own.

        Raises:
            ConfigError: There are no rows, or the fields do not fit the environment.
        """
        return self._make(rows, processes=self.processes)

    def _make(self, rows: int, *, processes: int, make_env: MakeEnv | None = None) -> GymnasiumBatch:
        return GymnasiumBatch(
            make_env or self.make_env,
            ArraySpec("goal", self.goal),
            rows,
            example=self._middle,
            set_task=self.task_setter(),
            name=self.name,
            episode_steps=self.episode_steps,
            control_period=self._period,
            hide=self.hide,
            observation_axes=self.observation_axes,
            action_axes=self.action_axes,
            commanded=self.commanded,
            success=self.success,
            reward=self.reward,
            processes=processes,
        )

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`: uniform in the box."""

        def draw(count: int, rng: np.random.Generator) -> Float:
            box = ArraySpec("goal", self.goal)
            return rng.uniform(box.low, box.high, (count, *box.shape)).astype(np.float32)

        return draw_tasks(self.name, draw, self.num_train_tasks, self.num_test_tasks, self.task_seed)

    @property
    def play_steps(self) -> int:
        """See `Plays.play_steps`."""
        return self.spec().episode_steps

    def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
        """See `Plays.play`: coloured noise, or the script with some of it, see `play_noise`.

        Raises:
            RobotFault: An observation is outside of its limits, see `require_seen`.
        """
        robots = self.make(rows, threads)
        return _look_at(play_noise(robots, goals_of(self.tasks().train), self.noise, seed, self.script), robots)

    def open_camera(self, robot: RobotBatch, goal: Float, height: int, width: int) -> Camera:
        """See `Films.open_camera`: from where the model says, its `statistic` and `visual/global`."""
        if not isinstance(robot, GymnasiumBatch):
            raise SpecError(
                f"{self.name} camera: expected robots of this family, got {type(robot).__name__}; make them"
            )
        mark = None if self.goal_radius is None else make_goal_mark(goal.astype(np.float64), self.goal_radius)

        def find_physics(row: int) -> Physics:
            env = robot.env(row)
            physics = None if env is None else self.find_physics(env)
            if physics is None:
                raise ConfigError(
                    f"{self.name} camera: expected an environment of MuJoCo in this process, got "
                    f"{'none here' if env is None else type(env.unwrapped).__name__}; set processes to 0, or film it "
                    "yourself"
                )
            return physics

        return EnvCamera(find_physics, height, width, () if mark is None else (mark,))


def _look_at(chunks: Iterator[PlayChunk], robots: GymnasiumBatch) -> Iterator[PlayChunk]:
    """The chunks, all of whose observations are looked at: they would be refused when they are taken in."""
    try:
        for chunk in chunks:
            for row, seen in enumerate(chunk.observation):
                require_seen(robots.spec, seen, np.full(len(seen), row))
            yield chunk
    finally:
        robots.close()


def _list_files(value: object) -> Iterator[Path]:
    """Files that a value of a setting names, so far as they are there, and the files in folders that are `Path`s."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    elif isinstance(value, partial):
        value = (*value.args, *value.keywords.values())
    if isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _list_files(part)
    elif isinstance(value, str | Path):
        path = Path(value).expanduser() if str(value).startswith("~") else Path(value)
        try:
            if path.is_file():
                yield path.resolve()
            elif isinstance(value, Path) and path.is_dir():
                yield from (file.resolve() for file in path.rglob("*") if file.is_file())
        except (OSError, ValueError):  # a text that can be no path
            return


def _list_parts(file: Path) -> tuple[Path, ...]:
    """The file, and for a model file all others that it is made of."""
    return list_mjcf_files(file) if file.suffix.lower() in MODEL_SUFFIXES else (file,)
