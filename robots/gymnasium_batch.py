"""A family of Gymnasium environments as rows of robots: one environment per row, made from the parameters of a task.

    def make_env(goal):
        return gymnasium.make("Pendulum-v1", g=float(goal[0]))

    gravity = ArraySpec("goal", (Axis("gravity", "m/s^2", 5.0, 15.0),))
    robots = GymnasiumBatch(make_env, gravity, rows=8, example=[10.0])

The interface is Gymnasium's (Towers et al., "Gymnasium: A Standard Interface for Reinforcement Learning Environments",
2024); `gymnasium_view.py` is the other direction. The spec is derived from the spaces: observations are flattened as
Gymnasium flattens them (a discrete one becomes one-hot) and may be hidden in part, actions are a box or choices. Rows
are stepped one after the other, or in processes of their own, see `gymnasium_rows.py`.

An episode draws the seed of its environment at reset, so that environments that draw from Gymnasium's `np_random` keep
the contract of `RobotBatch`; one that draws from a global generator does not.

Axes: R rows, r rows of this call, N tasks, F observation as Gymnasium flattens it, O observation that is shown, A
action, G goal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, final

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space, Text
from gymnasium.spaces.utils import flatdim, flatten_space
from numpy.typing import ArrayLike, NDArray

from ..errors import FOREIGN, ConfigError, RobotFault, SpecError, UntoldReward, describe_foreign
from .array_robots import ArrayRobots, Index
from .gymnasium_rows import (
    Env,
    EnvRows,
    Kind,
    LocalRows,
    MakeEnv,
    ProcessRows,
    ReadSuccess,
    SetTask,
)
from .robot import Bool, Float, Rows, StepRows, freeze, read_truth, require_rows, require_told
from .spec import ArraySpec, Axis, RobotSpec, make_choice_spec

ComputeSuccess: TypeAlias = Callable[[Float, Float, Float], Bool]
"""Whether tasks are solved, shape (r,), from observations (r, O), rewards (r,) and goals (r, G)."""
ComputeReward: TypeAlias = Callable[[Float, Float], tuple[Float, Bool]]
"""Reward and whether the task ends, shapes (...), from observations (..., O) and goals (..., G), which broadcast."""
TellSuccess: TypeAlias = Literal["info", "terminated"] | float | ComputeSuccess
"""Success is what `info["is_success"]` or `info["success"]` says, the end of the task, a reward of at least this, or
computed."""

OUTSIDE = 0.1
"""Part of an axis' range by which an observation may lie outside, as data may that are taken in."""
_SEEDS = 2**31
"""Seeds of episodes are drawn below this."""


def env_spec(
    env: Env,
    goal: ArraySpec,
    *,
    name: str | None = None,
    episode_steps: int | None = None,
    control_period: float = 1.0,
    hide: Sequence[str | int] = (),
    observation_axes: Sequence[Axis] = (),
    action_axes: Sequence[Axis] = (),
    commanded: Sequence[int] | None = None,
) -> RobotSpec:
    """The contract of the robots of such environments.

    Args:
        env: One of them.
        goal: The parameters of a task.
        name: Of the family; None takes the environment's id.
        episode_steps: Time limit; None takes the one that Gymnasium registered.
        control_period: Time between two actions, seconds; Gymnasium does not know it.
        hide: See `find_shown`.
        observation_axes: Names, units and limits of all that is shown; none takes the limits of the space, and names
            after its keys.
        action_axes: The same of the action, where it is a box.
        commanded: See `find_commanded`.

    Raises:
        ConfigError: The actions are neither a box nor discrete, the observations cannot be flattened to numbers, no
            time limit is known, or what is hidden, commanded or named does not fit the spaces.
    """
    known = env.spec
    title = name or (known.id if known else type(env.unwrapped).__name__)
    limit = episode_steps or (known.max_episode_steps if known else None)
    if limit is None:
        raise ConfigError(f"{title} episode_steps: expected a time limit, got none registered; pass episode_steps")
    shown = find_shown(env.observation_space, hide, title)
    derived = _space_axes("observation", env.observation_space)
    observation = _named_axes(observation_axes, tuple(derived[index] for index in shown), f"{title} observation_axes")
    actions = env.action_space
    places = find_commanded(actions, commanded, title)
    choices: tuple[str, ...] = ()
    if isinstance(actions, Discrete):
        choices = tuple(f"choice{int(actions.start) + index}" for index in range(int(actions.n)))
        action = make_choice_spec(choices)
    elif isinstance(actions, Box):
        axes = _space_axes("action", actions)
        _require_motion(actions, places, title)
        axes = _named_axes(action_axes, tuple(axes[place] for place in places), f"{title} action_axes")
        action = ArraySpec("action", axes)
    else:
        raise ConfigError(f"{title}: expected actions in a Box or Discrete space, got {actions}; wrap the environment")
    return RobotSpec(title, ArraySpec("observation", observation), action, goal, control_period, limit, choices)


def find_shown(space: Space[Any], hide: Sequence[str | int], where: str) -> NDArray[np.int64]:
    """Indices of the flattened observation that are left, shape (O,).

    Args:
        space: Of the observation.
        hide: What is left out: keys of a `Dict` space, or indices of the flattened observation.
        where: Who asks, for the message.

    Raises:
        ConfigError: The observation cannot be flattened to numbers, something hidden is not in it, or nothing is left.
    """
    flat = _flatten_space(space)
    if flat is None:
        raise ConfigError(f"{where}: expected observations that flatten to numbers, got {space}; wrap the environment")
    if not flat.shape[0]:
        raise ConfigError(
            f"{where}: expected at least one number to observe, got none in {space}; add what is observed"
        )
    pieces: dict[str, list[int]] = {}
    if isinstance(space, Dict):
        ends = np.cumsum([flatdim(part) for part in space.spaces.values()]).tolist()
        pieces = {
            key: list(range(end - flatdim(part), end))
            for (key, part), end in zip(space.spaces.items(), ends, strict=True)
        }
    hidden: set[int] = set()
    for part in hide:
        if isinstance(part, str) and part in pieces:
            hidden |= set(pieces[part])
        elif isinstance(part, int) and 0 <= part < flat.shape[0]:
            hidden.add(part)
        else:
            keys = f"one of {list(pieces)} or " if pieces else ""
            raise ConfigError(
                f"{where} hide: expected {keys}an index below {flat.shape[0]}, got {part!r}; name what the observation "
                "holds"
            )
    if len(hidden) == flat.shape[0]:
        raise ConfigError(f"{where} hide: expected something left to observe, got all of it hidden; hide less")
    return np.array(sorted(set(range(flat.shape[0])) - hidden), np.int64)


def _flatten_space(space: Space[Any]) -> Box | None:
    """The numbers of a space; None where it has none, or another number at another time."""
    if not space.is_np_flattenable or _has_text(space):
        return None
    if not flatdim(space):
        return Box(0.0, 0.0, (0,))
    flat = flatten_space(space)
    return flat if isinstance(flat, Box) else None


def _has_text(space: Space[Any]) -> bool:
    """Whether texts are part of a space; Gymnasium would flatten them to the numbers of their letters."""
    parts = list(space.spaces.values() if isinstance(space, Dict) else getattr(space, "spaces", ()))
    return isinstance(space, Text) or any(map(_has_text, parts))


def find_commanded(space: Space[Any], commanded: Sequence[int] | None, where: str) -> NDArray[np.int64]:
    """Indices of the components of an action that are commanded, shape (A,); all others are held, see `held_action`.

    Args:
        space: Of the action.
        commanded: Indices of the flattened action, where it is a box; None for all.
        where: Who asks, for the message.

    Raises:
        ConfigError: There are no such components, one is named twice, none is left, or the actions are choices.
    """
    count = flatdim(space) if isinstance(space, Box) else 1
    if commanded is None:
        return np.arange(count)
    if not isinstance(space, Box):
        raise ConfigError(f"{where} commanded: expected actions in a Box, got {space}; leave commanded out")
    chosen = list(commanded)
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= place < count for place in chosen):
        raise ConfigError(
            f"{where} commanded: expected distinct indices below {count}, at least one, got {chosen}; name the "
            "components of the action that move the robot"
        )
    return np.array(chosen, np.int64)


def _require_motion(space: Box, commanded: NDArray[np.int64], where: str) -> None:
    """Refuses components of an action that have one value.

    Raises:
        ConfigError: One is commanded.
    """
    flat = flatten_space(space)
    assert isinstance(flat, Box), "a box is flattened to a box"
    still = [place for place in commanded.tolist() if flat.low[place] == flat.high[place]]
    if still:
        moving = tuple(place for place in commanded.tolist() if place not in still)
        remedy = f"pass commanded={moving}, so that the others are held" if moving else "give it components that do"
        raise ConfigError(
            f"{where} commanded: expected components of the action that can move, got {still} with equal limits, as "
            f"{flat.low[still[0]]:g} .. {flat.high[still[0]]:g} of {still[0]}; {remedy}"
        )


def held_action(space: Box) -> Float:
    """What is sent for components that nothing commands, flattened: 0, or the limit that is nearest to it."""
    flat = flatten_space(space)
    assert isinstance(flat, Box), "a box is flattened to a box"
    return np.clip(np.zeros(flat.shape), flat.low, flat.high).astype(np.float32)


def _space_axes(name: str, space: Space[Any]) -> tuple[Axis, ...]:
    """One axis per component, named after the key in a `Dict` space, where a single component has no number.

    A component whose limits are equal (as where a goal is blanked out) gets none.
    """
    if isinstance(space, Dict):
        parts = [(key, _space_axes(key, part)) for key, part in space.spaces.items()]
        return tuple(axis for key, axes in parts for axis in (axes if axes[1:] else [replace(axes[0], name=key)]))
    box = flatten_space(space)
    assert isinstance(box, Box), "other observations were refused"
    axes = []
    for index, limits in enumerate(zip(box.low.tolist(), box.high.tolist(), strict=True)):
        low, high = limits if limits[0] < limits[1] else (-math.inf, math.inf)
        axes.append(Axis(f"{name}{index}", "1", low, high))
    return tuple(axes)


def _named_axes(named: Sequence[Axis], derived: tuple[Axis, ...], where: str) -> tuple[Axis, ...]:
    if named and len(named) != len(derived):
        raise ConfigError(
            f"{where}: expected {len(derived)} axes like {[axis.name for axis in derived]}, got "
            f"{[axis.name for axis in named]}; name each component that is not hidden"
        )
    return tuple(named) or derived


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
        hide: See `find_shown`.
        observation_axes: See `env_spec`.
        action_axes: See `env_spec`.
        success: What tells that a task is solved; None where nothing does.
        reward: What is paid, and what ends a task, instead of the environment's own reward; None takes that. With it,
            `compute_reward` knows what other tasks would have paid, and a row can go on past its goal. Where the
            environment ends an episode by itself, it is over in any case.
        commanded: See `find_commanded`.
        processes: In how many processes the environments run; 0 is this one. The results are the same.

    Raises:
        ConfigError: There are no rows or a negative number of processes, or as `env_spec`.
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
        hide: Sequence[str | int] = (),
        observation_axes: Sequence[Axis] = (),
        action_axes: Sequence[Axis] = (),
        success: TellSuccess | None = None,
        reward: ComputeReward | None = None,
        commanded: Sequence[int] | None = None,
        processes: int = 0,
    ) -> None:
        first = make_env(goal.require_one(example, "example task"))
        try:
            spec = env_spec(
                first,
                goal,
                name=name,
                episode_steps=episode_steps,
                control_period=control_period,
                hide=hide,
                observation_axes=observation_axes,
                action_axes=action_axes,
                commanded=commanded,
            )
            spaces = first.observation_space, first.action_space
        finally:
            first.close()
        super().__init__(spec, rows)
        if processes < 0:
            raise ConfigError(f"{spec.name} processes: expected 0 or more, got {processes}; 0 is this process")
        self._shown = find_shown(spaces[0], hide, spec.name)
        self._commanded = find_commanded(spaces[1], commanded, spec.name)
        self._held = held_action(spaces[1]) if isinstance(spaces[1], Box) else np.zeros(1, np.float32)
        self._tell, self._reward = success, reward
        read = _read_info(spec.name) if success == "info" else None
        kind = Kind(spec.name, make_env, set_task, read, *spaces)
        self._envs: EnvRows = (
            ProcessRows(kind, rows, min(processes, rows), len(goal.axes), len(self._held))
            if processes
            else LocalRows(kind, rows)
        )
        self._looks = spec.episode_steps
        """Steps that are still looked at: what is outside of its limits is mostly so from the start."""
        self._over = np.ones(rows, np.bool_)
        self._ended, self._truncated, self._success = (np.zeros(rows, np.bool_) for _ in range(3))

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`.

        Raises:
            SpecError: As `RobotBatch.step`, or an episode is over.
            RobotFault: An environment gave an observation or a reward that is not finite, or no success in its info.
        """
        where = f"{self._spec.name} step"
        rows = require_rows(rows, self.rows, where)
        if self._over[rows].any():
            over = rows[self._over[rows]][0]
            raise SpecError(f"{where}: expected a running episode, got row {over} after its end; reset the row first")
        step = super().step(rows, action)
        truncated = (step.truncated | self._truncated[rows]) & ~step.terminated
        self._over[rows] = self._ended[rows] | self._truncated[rows]
        success = None if self._tell is None else self._success[rows]
        return step._replace(truncated=truncated, success=success)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`.

        Raises:
            UntoldReward: Nothing says that the reward is a function of the observation.
        """
        if self._reward is None:
            raise UntoldReward(
                f"{self._spec.name} compute_reward: expected a robot whose observation tells its reward, got one whose "
                "reward, as far as anybody said, is not a function of the observation; give its family a reward, a "
                "function of observations and goals, or train without relabelling (--learner.config.no-relabel)"
            )
        seen = np.asarray(observation, np.float32)[..., None, :]
        return self._pay(self._reward, seen, np.asarray(goals, np.float32))

    def _pay(self, compute: ComputeReward, observation: Float, goals: Float) -> tuple[Float, Bool]:
        shape = np.broadcast_shapes(observation.shape[:-1], goals.shape[:-1])
        what = (
            f"a reward and an end, each of shape {shape} for observations {observation.shape} and goals {goals.shape}"
        )
        try:
            reward, terminated = (np.asarray(one) for one in compute(freeze(observation), freeze(goals)))
            if terminated.dtype != np.bool_:  # numpy would take NaN, and any text, for true
                raise TypeError(f"ends of type {terminated.dtype}")
            found, ended = reward.astype(np.float32), terminated.astype(np.bool_)
        except FOREIGN as error:  # a user's function fails in ways of its own
            raise ConfigError(
                f"{self._spec.name} reward: expected {what}, got {describe_foreign(error)}; correct the function"
            ) from error
        if found.shape != shape or ended.shape != shape:
            raise ConfigError(
                f"{self._spec.name} reward: expected {what}, got {found.shape} and {ended.shape}; compute with axis -1 "
                "of both, and leave the others to numpy"
            )
        return found, ended

    def env(self, row: int) -> Env | None:
        """The environment of a row, to be looked at; None before its first episode, and in another process."""
        return self._envs.env(row) if isinstance(self._envs, LocalRows) else None

    def close(self) -> None:
        """See `RobotBatch.close`."""
        self._envs.close()
        self._over[:] = True

    def _look(self, rows: Rows, observation: Float) -> Float:
        """The observations, of which those of the first episode are looked at."""
        if self._looks:
            self._looks -= 1
            require_seen(self._spec, observation, rows)
        return observation

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        rows = np.arange(self.rows)[index]
        seeds = rng.integers(_SEEDS, size=len(rows))
        if not len(rows):
            return np.empty((0, *self._spec.observation.shape), np.float32)
        self._over[rows] = True
        observation = self._envs.begin(rows, goals, seeds)
        self._over[rows] = False
        return self._look(rows, observation[:, self._shown])

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        if not len(rows):
            return np.empty((0, *self._spec.observation.shape), np.float32), np.empty(0, np.float32), self._over[rows]
        if action.ndim > 1:  # choices are one number each
            full = np.tile(self._held, (len(rows), 1))
            full[:, self._commanded] = action
            action = full
        steps = self._envs.advance(rows, action)
        observation, reward, terminated = steps.observation[:, self._shown], steps.reward, steps.terminated
        self._look(rows, observation)
        self._ended[rows], self._truncated[rows] = terminated, steps.truncated
        if self._reward is not None:
            reward, reached = self._pay(self._reward, observation, self._goal[rows])
            terminated = terminated | reached
        if self._tell == "info":
            self._success[rows] = steps.success
        elif self._tell == "terminated":
            self._success[rows] = terminated
        elif callable(self._tell):
            try:
                told = self._tell(freeze(observation), freeze(reward), self._goal[rows])
            except FOREIGN as error:
                raise ConfigError(
                    f"{self._spec.name} success: expected truth values of {rows.shape} from observations, rewards "
                    f"and goals, got {describe_foreign(error)}; correct the function"
                ) from error
            self._success[rows] = require_told(told, len(rows), f"{self._spec.name} success")
        elif self._tell is not None:
            self._success[rows] = reward >= self._tell
        return observation, reward, terminated


def require_seen(spec: RobotSpec, observation: Float, rows: Rows) -> None:
    """Refuses observations, shape (r, O), that are further outside of their limits than `OUTSIDE`.

    Raises:
        RobotFault: Naming the first.
    """
    box = spec.observation
    width = box.high - box.low
    margin = np.where(np.isfinite(width), OUTSIDE * width, 0.0)
    outside = (observation < box.low - margin) | (observation > box.high + margin)
    if outside.any():
        place, column = np.argwhere(outside)[0].tolist()
        axis = box.axes[column]
        raise RobotFault(
            f"{spec.name} observation: expected axis '{axis.name}' within {axis.low:g} .. {axis.high:g}, got "
            f"{observation[place, column]:g} in row {rows[place]}; correct the observation_space of the environment, "
            "or give its true limits in observation_axes"
        )


def _read_info(name: str) -> ReadSuccess:
    def read(info: dict[str, Any]) -> bool:
        for key in ("is_success", "success"):
            if key in info:
                try:
                    return read_truth(info[key], key)
                except TypeError as error:
                    raise RobotFault(
                        f"{name} step: expected true or false as info['{key}'], got {error}; tell success in another "
                        "way"
                    ) from error
        raise RobotFault(
            f"{name} step: expected info['is_success'] or info['success'], got {sorted(info)}; tell success in another "
            "way"
        )

    return read
