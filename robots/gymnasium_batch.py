"""A family of Gymnasium environments as rows of robots: one environment per row, made from the parameters of a task.

    def make_env(goal):
        return gymnasium.make("Pendulum-v1", g=float(goal[0]))

    gravity = ArraySpec("goal", (Axis("gravity", "m/s^2", 5.0, 15.0),))
    robots = GymnasiumBatch(make_env, gravity, rows=8, example=[10.0])

The interface is Gymnasium's (Towers et al., "Gymnasium: A Standard Interface for Reinforcement Learning Environments",
2024); `gymnasium_view.py` is the other direction. The spec is derived from the spaces: observations are flattened as
Gymnasium flattens them (a discrete one becomes one-hot), actions are a box or choices. Rows are stepped one after the
other.

An episode draws the seed of its environment at reset, so that environments that draw from Gymnasium's `np_random` keep
the contract of `RobotBatch`; one that draws from a global generator does not.

Axes: R rows, r rows of this call, O observation, A action, G goal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, final

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.spaces.utils import flatten, flatten_space
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError, RobotFault, SpecError
from .array_robots import ArrayRobots, Index
from .robot import Bool, Float, Rows, StepRows, require_rows
from .spec import ArraySpec, Axis, RobotSpec, make_choice_spec

Env: TypeAlias = gymnasium.Env[Any, Any]
MakeEnv = Callable[[Float], Env]
"""An environment of the task with these parameters, shape (G,)."""
SetTask = Callable[[Env, Float], None]
"""Gives an environment another task before its next reset."""

_SEEDS = 2**31
"""Seeds of episodes are drawn below this."""


def env_spec(
    env: Env, goal: ArraySpec, *, name: str | None = None, episode_steps: int | None = None, control_period: float = 1.0
) -> RobotSpec:
    """The contract of the robots of such environments.

    Args:
        env: One of them.
        goal: The parameters of a task.
        name: Of the family; None takes the environment's id.
        episode_steps: Time limit; None takes the one that Gymnasium registered.
        control_period: Time between two actions, seconds; Gymnasium does not know it.

    Raises:
        ConfigError: The actions are neither a box nor discrete, the observations cannot be flattened to numbers, or no
            time limit is known.
    """
    known = env.spec
    title = name or (known.id if known else type(env.unwrapped).__name__)
    limit = episode_steps or (known.max_episode_steps if known else None)
    if limit is None:
        raise ConfigError(f"{title} episode_steps: expected a time limit, got none registered; pass episode_steps")
    flat = flatten_space(env.observation_space) if env.observation_space.is_np_flattenable else None
    if not isinstance(flat, Box):
        raise ConfigError(
            f"{title}: expected observations that flatten to numbers, got {env.observation_space}; wrap the environment"
        )
    actions = env.action_space
    choices: tuple[str, ...] = ()
    if isinstance(actions, Discrete):
        choices = tuple(f"choice{int(actions.start) + index}" for index in range(int(actions.n)))
        action = make_choice_spec(choices)
    elif isinstance(actions, Box):
        action = ArraySpec("action", _box_axes("action", actions))
    else:
        raise ConfigError(f"{title}: expected actions in a Box or Discrete space, got {actions}; wrap the environment")
    observation = ArraySpec("observation", _box_axes("observation", flat))
    return RobotSpec(title, observation, action, goal, control_period, limit, choices)


def _box_axes(name: str, box: Box[Any]) -> tuple[Axis, ...]:
    """One axis per component; a component whose limits are equal (as where a goal is blanked out) gets none."""
    axes = []
    for index, limits in enumerate(zip(box.low.ravel().tolist(), box.high.ravel().tolist(), strict=True)):
        low, high = limits if limits[0] < limits[1] else (-math.inf, math.inf)
        axes.append(Axis(f"{name}{index}", "1", low, high))
    return tuple(axes)


@final
class GymnasiumBatch(ArrayRobots):
    """Rows of environments.

    A row keeps its environment while its task stays the same, and gets a new one with each new task, or has its own set
    to it where `set_task` is given.

    Args:
        make_env: Makes the environment of a task. Its spaces are the same for all tasks.
        goal: The parameters of a task.
        rows: Number of environments, R.
        example: Some task, shape (G,); its environment tells the spaces.
        set_task: For environments that take long to make; `reset` must then leave nothing of the task before.
        name: See `env_spec`.
        episode_steps: See `env_spec`; environments that end earlier by themselves do so.
        control_period: See `env_spec`.

    Raises:
        ConfigError: There are no rows, or as `env_spec`.
        SpecError: The example is no task.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        goal: ArraySpec,
        rows: int,
        *,
        example: ArrayLike,
        set_task: SetTask | None = None,
        name: str | None = None,
        episode_steps: int | None = None,
        control_period: float = 1.0,
    ) -> None:
        self._make_env, self._set_task = make_env, set_task
        first = make_env(goal.require_one(example, "example task"))
        spec = env_spec(first, goal, name=name, episode_steps=episode_steps, control_period=control_period)
        self._observation_space: Space[Any] = first.observation_space
        self._action_space: Space[Any] = first.action_space
        first.close()
        super().__init__(spec, rows)
        self._envs: list[Env | None] = [None] * rows
        self._made_for = np.full((rows, *goal.shape), np.nan, np.float32)
        self._over = np.ones(rows, np.bool_)
        self._truncated = np.zeros(rows, np.bool_)

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`.

        Raises:
            SpecError: As `RobotBatch.step`, or an episode is over.
            RobotFault: An environment gave an observation or a reward that is not finite.
        """
        where = f"{self._spec.name} step"
        rows = require_rows(rows, self.rows, where)
        if self._over[rows].any():
            over = rows[self._over[rows]][0]
            raise SpecError(f"{where}: expected a running episode, got row {over} after its end; reset the row first")
        step = super().step(rows, action)
        truncated = (step.truncated | self._truncated[rows]) & ~step.terminated
        self._over[rows] = step.terminated | truncated
        return step._replace(truncated=truncated)

    def close(self) -> None:
        """See `RobotBatch.close`."""
        for env in self._envs:
            if env is not None:
                env.close()
        self._envs = [None] * self.rows
        self._made_for[:] = np.nan
        self._over[:] = True

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        rows = np.arange(self.rows)[index]
        seeds = rng.integers(_SEEDS, size=len(rows))
        seen = np.empty((len(rows), *self._spec.observation.shape), np.float32)
        for place, (row, goal, seed) in enumerate(zip(rows.tolist(), goals, seeds.tolist(), strict=True)):
            self._over[row] = True
            observation, _ = self._env_of(row, goal).reset(seed=seed)
            seen[place] = self._flatten(observation, row)
            self._over[row] = False
        return seen

    def _env_of(self, row: int, goal: Float) -> Env:
        """The row's environment, made anew or set to its task where that is another.

        Raises:
            SpecError: Its spaces are not those of the example.
        """
        env = self._envs[row]
        if env is not None and np.array_equal(self._made_for[row], goal):
            return env
        if env is not None and self._set_task is not None:
            self._made_for[row] = np.nan
            self._set_task(env, goal.copy())
            self._made_for[row] = goal
            return env
        if env is not None:
            env.close()
        self._envs[row] = None
        env = self._make_env(goal.copy())
        got, known = (env.observation_space, env.action_space), (self._observation_space, self._action_space)
        if got != known:
            raise SpecError(
                f"{self._spec.name} reset: expected the spaces {known} of the example, got {got} for the task "
                f"{goal.tolist()}; make environments of one shape"
            )
        self._envs[row], self._made_for[row] = env, goal
        return env

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        seen = np.empty((len(rows), *self._spec.observation.shape), np.float32)
        reward, terminated = np.empty(len(rows), np.float32), np.zeros(len(rows), np.bool_)
        for place, (row, taken) in enumerate(zip(rows.tolist(), action, strict=True)):
            env = self._envs[row]
            assert env is not None, "a row that runs has an environment"
            observation, gained, terminated[place], self._truncated[row], _ = env.step(self._to_env(taken))
            seen[place] = self._flatten(observation, row)
            reward[place] = gained
        if not np.isfinite(reward).all():
            wrong = ~np.isfinite(reward)
            raise RobotFault(
                f"{self._spec.name} step: expected a finite reward, got {reward[wrong][0]} in row {rows[wrong][0]}; "
                "repair the environment"
            )
        return seen, reward, terminated

    def _to_env(self, action: NDArray[Any]) -> Any:
        """An action as the environment takes it."""
        if isinstance(self._action_space, Discrete):
            return self._action_space.start + int(action)
        assert isinstance(self._action_space, Box), "other actions were refused"
        return action.reshape(self._action_space.shape).astype(self._action_space.dtype)

    def _flatten(self, observation: Any, row: int) -> Float:
        """Shape (O,).

        Raises:
            RobotFault: It is not finite.
        """
        flat = np.asarray(flatten(self._observation_space, observation), np.float32)
        if not np.isfinite(flat).all():
            raise RobotFault(
                f"{self._spec.name}: expected a finite observation, got {flat[~np.isfinite(flat)][0]} in row {row}; "
                "repair the environment"
            )
        return flat
