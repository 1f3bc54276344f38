"""A robot family from any Gymnasium environment: how a task enters it, and where tasks are drawn.

    PENDULUM = GymnasiumFamily(
        name="pendulum",
        environment="Pendulum-v1",
        goal=(Axis("g", "m/s^2", 5.0, 15.0),),
        control_period=0.05,
    )

The interface is Gymnasium's (Towers et al., "Gymnasium: A Standard Interface for Reinforcement Learning Environments",
2024). A task is a few numbers, uniform in a box. They are keyword arguments of the environment, or a call sets them.
They are hidden: what the environment shows of them has to be named in `hide`. All that is random in an environment must
come from its `np_random`.

Axes: G goal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, final

import gymnasium
from gymnasium.spaces import Space

from ..errors import FOREIGN, ConfigError, describe_foreign
from .env_camera import Physics
from .env_family import EnvFamily
from .gymnasium_rows import Env, SetTask
from .robot import Float

MakeOne: TypeAlias = Callable[..., Env]
"""Makes an environment from keyword arguments."""


@final
@dataclass(frozen=True, kw_only=True)
class GymnasiumFamily(EnvFamily):
    """Environments of Gymnasium; for all further fields and errors see `EnvFamily`."""

    environment: str | MakeOne
    """An id that Gymnasium knows, or what makes an environment: a class or a function."""
    set_task: SetTask | None = None
    """Gives an environment another task before its next reset, from the parameters, shape (G,); None makes another
    environment with the parameters as keyword arguments, which takes longer."""

    def make_env(self, goal: Float) -> Env:
        """See `EnvFamily.make_env`."""
        arguments = dict(self.arguments)
        if self.set_task is None:
            arguments |= {axis.name: value for axis, value in zip(self.goal, goal.tolist(), strict=True)}
        try:
            if isinstance(self.environment, str):
                env: Env = gymnasium.make(self.environment, max_episode_steps=self.episode_steps, **arguments)
            else:
                env = self.environment(**arguments)
        except FOREIGN as error:  # a user's environment fails in ways of its own, such as a renderer without graphics
            raise ConfigError(
                f"{self.name} environment: expected one that is made with {sorted(arguments)}, got "
                f"{describe_foreign(error)}; correct environment, arguments or goal"
            ) from error
        given = type(env).__name__
        if not isinstance(env, gymnasium.Env) or not all(
            isinstance(getattr(env, name, None), Space) for name in ("observation_space", "action_space")
        ):
            raise ConfigError(
                f"{self.name} environment: expected one of Gymnasium with an observation_space and an action_space, "
                f"got {given}; inherit gymnasium.Env and set both"
            )
        self.give_task(self.set_task, env, goal)
        return env

    def task_setter(self) -> SetTask | None:
        """See `EnvFamily.task_setter`."""
        return self.set_task

    def find_period(self, env: Env) -> float:
        """See `EnvFamily.find_period`: that of Gymnasium's MuJoCo environments, 1 for others."""
        if "gymnasium.envs.mujoco" not in sys.modules:  # it needs libraries that other environments do not
            return 1.0
        from gymnasium.envs.mujoco import MujocoEnv

        return float(env.unwrapped.dt) if isinstance(env.unwrapped, MujocoEnv) else 1.0

    def find_physics(self, env: Env) -> Physics | None:
        """See `EnvFamily.find_physics`: that of Gymnasium's MuJoCo environments."""
        if "gymnasium.envs.mujoco" not in sys.modules:
            return None
        from gymnasium.envs.mujoco import MujocoEnv

        inner = env.unwrapped
        return Physics(inner.model, inner.data) if isinstance(inner, MujocoEnv) else None

    @property
    def sources(self) -> tuple[object, ...]:
        """See `EnvFamily.sources`."""
        return (self.environment,)

    def find_files(self, env: Env) -> tuple[Path, ...]:
        """See `EnvFamily.find_files`: the model of Gymnasium's MuJoCo environments."""
        model = getattr(env.unwrapped, "fullpath", None)  # of `MujocoEnv`, and of those of older versions
        return (Path(model).resolve(),) if isinstance(model, str) and Path(model).is_file() else ()

    def libraries(self) -> tuple[str, ...]:
        """See `BuiltFrom.libraries`."""
        return ("gymnasium", "mujoco", *self.packages)
