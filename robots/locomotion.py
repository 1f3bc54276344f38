"""What the locomotion robots of Gymnasium have in common: their models, how they start, and what is observed.

Source: Towers et al., "Gymnasium: A Standard Interface for Reinforcement Learning Environments", 2024.

Axes: R rows, r rows of this call, O observation.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import mujoco
import numpy as np

from .array_robots import Index
from .family import BuiltFrom
from .mujoco_robots import MujocoRobots, action_axes, position_axes, velocity_axes
from .robot import Float
from .spec import ArraySpec, Axis, RobotSpec

RESET_NOISE = 0.1
"""Half width of the uniform positions of a start, scale of its normal velocities."""


def load_gymnasium_model(name: str) -> mujoco.MjModel:
    """Compiles a model of the installed Gymnasium, e.g. `ant`.

    Equal to the bit to what Gymnasium compiles. The total mass is set after compilation, since the attribute that sets
    it in the file is deprecated and warns.

    Args:
        name: File name in Gymnasium's assets, without the ending.
    """
    with as_file(files("gymnasium").joinpath("envs", "mujoco", "assets", f"{name}.xml")) as path:
        spec = mujoco.MjSpec.from_file(str(path))
    total = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1.0
    model = spec.compile()
    if total > 0.0:
        mujoco.mj_setTotalmass(model, total)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def locomotion_spec(
    name: str, model: mujoco.MjModel, goal: tuple[Axis, ...], hidden: int, frame_skip: int, episode_steps: int
) -> RobotSpec:
    """The contract of robots that observe qpos without its first `hidden` components, then qvel."""
    return RobotSpec(
        name=name,
        observation=ArraySpec("observation", (*position_axes(model)[hidden:], *velocity_axes(model))),
        action=ArraySpec("action", action_axes(model)),
        goal=ArraySpec("goal", goal),
        control_period=frame_skip * model.opt.timestep,
        episode_steps=episode_steps,
    )


class LocomotionRobots(MujocoRobots):
    """Rows of robots that start and observe as Gymnasium's do; for arguments and errors see `MujocoRobots`."""

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        """Positions and velocities are drawn as Gymnasium does it for one robot."""
        count, start = len(goals), self._batch.model.qpos0
        qpos = start + rng.uniform(-RESET_NOISE, RESET_NOISE, (count, self._qpos.shape[1]))
        self._place(index, qpos, RESET_NOISE * rng.standard_normal((count, self._qvel.shape[1])))
        return self._observe(index)

    def _observe(self, index: Index) -> Float:
        qpos, qvel = self._qpos[index], self._qvel[index]
        hidden = qpos.shape[1] + qvel.shape[1] - len(self._spec.observation.axes)
        return np.concatenate([qpos[:, hidden:], qvel], axis=1).astype(np.float32)


class FromGymnasium(BuiltFrom):
    """A family whose model file is that of the installed Gymnasium."""

    __slots__ = ()

    def libraries(self) -> tuple[str, ...]:
        """See `BuiltFrom.libraries`."""
        return ("gymnasium", "mujoco")
