"""A robot family from any dm_env environment, such as those of dm_control: how a task enters, and where it is drawn.

    def set_task(environment, goal):
        environment.task.target = goal

    REACHER = DmControlFamily(
        name="reacher",
        environment=make_reacher,
        goal=(Axis("x", "m", -0.2, 0.2), Axis("y", "m", -0.2, 0.2)),
        set_task=set_task,
        hide=("to_target",),
        episode_steps=100,
    )

The interface is that of Muldal et al., "dm_env: A Python interface for reinforcement learning environments", 2019, the
library Tunyasuvunakool et al., "dm_control: Software and tasks for continuous control", Software Impacts 6, 2020;
`dm_view.py` is the other direction. A task is a few numbers, uniform in a box. They are hidden: what the environment
shows of them has to be named in `hide`.

A time step is the end of the task where it is the last and its discount is 0; with another discount the time is over.

Axes: G goal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias, final

import dm_env
import gymnasium
import numpy as np
from dm_env import specs
from gymnasium.spaces import Box, Dict, Discrete, Space

from ..errors import FOREIGN, ConfigError, RobotFault, describe_error, describe_foreign
from .env_camera import Physics
from .env_family import EnvFamily
from .gymnasium_rows import Env, SetTask
from .robot import Float

MakeDm: TypeAlias = Callable[..., dm_env.Environment]
"""Makes an environment from keyword arguments."""
SetDmTask: TypeAlias = Callable[[dm_env.Environment, Float], None]
"""Gives an environment another task before its next reset, from the parameters, shape (G,)."""
SetSeed: TypeAlias = Callable[[dm_env.Environment, int], None]
"""Seeds all that is random in an environment before its next reset."""


@final
@dataclass(frozen=True, kw_only=True)
class DmControlFamily(EnvFamily):
    """Environments of dm_env; for all further fields and errors see `EnvFamily`."""

    environment: MakeDm
    """What makes an environment: a class or a function, such as `functools.partial(suite.load, "reacher", "easy")`."""
    set_task: SetDmTask | None = None
    """Gives an environment another task before its next reset, from the parameters, shape (G,); None makes another
    environment with the parameters as keyword arguments, which takes longer."""
    set_seed: SetSeed | None = None
    """Seeds an environment before its next reset; None knows how for the environments of dm_control."""

    def make_env(self, goal: Float) -> Env:
        """See `EnvFamily.make_env`."""
        arguments = dict(self.arguments)
        if self.set_task is None:
            arguments |= {axis.name: value for axis, value in zip(self.goal, goal.tolist(), strict=True)}
        try:
            environment = self.environment(**arguments)
        except FOREIGN as error:  # an environment of a user's file fails in ways of its own
            missing = ", or pip install 'supple[dm-control]'" if isinstance(error, ImportError) else ""
            raise ConfigError(
                f"{self.name} environment: expected one that is made with {sorted(arguments)}, got "
                f"{describe_foreign(error)}; correct environment, arguments or goal"
                f"{missing}"
            ) from error
        if not isinstance(environment, dm_env.Environment):
            raise ConfigError(
                f"{self.name} environment: expected one of dm_env, got {type(environment).__name__}; inherit "
                "dm_env.Environment"
            )
        self.give_task(self.set_task, environment, goal)
        return DmEnv(environment, self.set_seed or find_seed(environment, self.name), self.name)

    def task_setter(self) -> SetTask | None:
        """See `EnvFamily.task_setter`."""
        if self.set_task is None:
            return None
        set_task = self.set_task
        return lambda env, goal: set_task(_as_dm(env), goal)

    def find_period(self, env: Env) -> float:
        """See `EnvFamily.find_period`: that of dm_control's environments, 1 for others."""
        environment = _as_dm(env)
        return float(environment.control_timestep()) if is_dm_control(environment) else 1.0

    def find_physics(self, env: Env) -> Physics | None:
        """See `EnvFamily.find_physics`: that of dm_control's environments."""
        environment = _as_dm(env)
        if not is_dm_control(environment):
            return None
        return Physics(environment.physics.model.ptr, environment.physics.data.ptr)

    @property
    def sources(self) -> tuple[object, ...]:
        """See `EnvFamily.sources`."""
        return (self.environment,)

    def libraries(self) -> tuple[str, ...]:
        """See `BuiltFrom.libraries`."""
        return ("dm-env", "dm-control", "mujoco", *self.packages)


class DmEnv(gymnasium.Env[Any, Any]):
    """An environment of dm_env with the interface of Gymnasium.

    Args:
        environment: It is closed with the view.
        set_seed: Seeds it before a reset.
        name: For messages.

    Raises:
        ConfigError: An observation or the action is of a kind that Gymnasium has no space for.
    """

    def __init__(self, environment: dm_env.Environment, set_seed: SetSeed, name: str) -> None:
        self.environment, self._set_seed, self._name = environment, set_seed, name
        self._faults: tuple[type[Exception], ...] = ()
        if is_dm_control(environment):
            from dm_control.rl.control import PhysicsError

            self._faults = (PhysicsError,)
        seen, action = environment.observation_spec(), environment.action_spec()
        self.observation_space: Space[Any]
        if isinstance(seen, Mapping):
            self.observation_space = Dict({key: _make_space(spec, f"{name} {key}") for key, spec in seen.items()})
        else:
            self.observation_space = _make_space(seen, f"{name} observation")
        self.action_space = _make_space(action, f"{name} action")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        if seed is not None:
            self._set_seed(self.environment, seed)
        return self.environment.reset().observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One time step.

        Raises:
            RobotFault: The physics diverged.
        """
        try:
            step = self.environment.step(action)
        except self._faults as error:
            raise RobotFault(
                f"{self._name} step: expected finite physics, got {describe_error(error)}; reset the row, and "
                "lower the limits of the action if it happens again"
            ) from error
        terminated = bool(step.last() and step.discount == 0.0)
        reward = 0.0 if step.reward is None else float(step.reward)
        return step.observation, reward, terminated, bool(step.last()) and not terminated, {}

    def close(self) -> None:
        """Closes the environment."""
        self.environment.close()


def is_dm_control(environment: dm_env.Environment) -> bool:
    """Whether this is an environment of dm_control, which need not be installed for others."""
    if find_spec("dm_control") is None:
        return False
    from dm_control import composer
    from dm_control.rl import control

    return isinstance(environment, control.Environment | composer.Environment)


def find_seed(environment: dm_env.Environment, where: str) -> SetSeed:
    """How to seed an environment of dm_control.

    Raises:
        ConfigError: It is another, or its task has no random state.
    """
    if is_dm_control(environment):
        from dm_control import composer
        from dm_control.suite import base

        if isinstance(environment, composer.Environment):
            return lambda env, seed: env.random_state.seed(seed)
        if isinstance(environment.task, base.Task):
            return lambda env, seed: env.task.random.seed(seed)
    raise ConfigError(f"{where} set_seed: expected a way to seed {type(environment).__name__}, got none; pass set_seed")


def _make_space(spec: specs.Array, where: str) -> Space[Any]:
    if isinstance(spec, specs.DiscreteArray):
        return Discrete(int(spec.num_values))
    if not isinstance(spec, specs.Array) or np.dtype(spec.dtype).kind not in "biuf":
        raise ConfigError(f"{where}: expected an array of numbers, got {spec}; wrap the environment")
    low, high = (spec.minimum, spec.maximum) if isinstance(spec, specs.BoundedArray) else (-np.inf, np.inf)
    low, high = (np.broadcast_to(end, spec.shape).astype(np.float64) for end in (low, high))
    return Box(low, high, dtype=np.float64)


def _as_dm(env: Env) -> dm_env.Environment:
    assert isinstance(env, DmEnv), "made by this family"
    return env.environment
