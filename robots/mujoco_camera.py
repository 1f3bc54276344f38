"""Pictures of MuJoCo robots, drawn in software where there is no graphics card.

`MUJOCO_GL` chooses how: `egl` or `osmesa` without a screen, `glfw` with one; `disable` draws nothing. It is read when
MuJoCo is imported. Shadows, reflections and smooth edges are switched off: they take nine tenths of the time where a
processor draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

SHADOW_SIZE = 256


class View(NamedTuple):
    """From where a camera looks, MuJoCo's free camera."""

    center: tuple[float, float, float]
    """What it looks at, m."""
    distance: float
    """From there, m."""
    azimuth: float
    """Of its view about z, degrees; 90 looks along y."""
    elevation: float
    """Of its view, degrees; -90 looks down."""


class Mark(NamedTuple):
    """A sphere that is drawn and is no part of the physics, such as a goal."""

    place: tuple[float, float, float]
    """m."""
    radius: float
    """m."""
    color: tuple[float, float, float, float]
    """Red, green, blue and opacity, 0 to 1."""


def make_goal_mark(place: NDArray[np.float64], radius: float) -> Mark:
    """A green sphere that one can look through; place of shape (3,) and radius in m."""
    x, y, z = place.tolist()
    return Mark((x, y, z), radius, (0.1, 0.6, 0.2, 0.4))


def open_model_camera(
    model: mujoco.MjModel,
    find_qpos: Callable[[int], NDArray[np.float64]],
    height: int,
    width: int,
    marks: Sequence[Mark] = (),
) -> MujocoCamera:
    """A camera that looks from where the model says: at its `statistic`'s center, in the direction of `visual/global`.

    Args:
        model: The compiled model.
        find_qpos: See `MujocoCamera`.
        height: Of a picture, pixels.
        width: Of a picture, pixels.
        marks: See `MujocoCamera`.

    Raises:
        ConfigError: This computer cannot draw.
    """
    x, y, z = model.stat.center.tolist()
    look = model.vis.global_
    view = View((x, y, z), 1.5 * float(model.stat.extent), float(look.azimuth), float(look.elevation))
    return MujocoCamera(model, find_qpos, view, height, width, marks)


class MujocoCamera:
    """A camera of robots of one model; see `family.Camera`.

    Args:
        model: The compiled model, which is not changed.
        find_qpos: Positions of a row now, shape (nq,).
        view: From where.
        height: Of a picture, pixels.
        width: Of a picture, pixels.
        marks: What is drawn beside the model.
        grow: Geoms that are drawn larger than they are, by name, and by what factor.

    Raises:
        ConfigError: This computer cannot draw.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        find_qpos: Callable[[int], NDArray[np.float64]],
        view: View,
        height: int,
        width: int,
        marks: Sequence[Mark] = (),
        grow: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        # a model of its own, so that the settings of pictures do not reach the physics
        self._model, self._find_qpos, self._marks = copy(model), find_qpos, marks
        for name, factor in grow.items():
            self._model.geom(name).size *= factor
        self._model.vis.quality.offsamples = 0
        self._model.vis.quality.shadowsize = SHADOW_SIZE
        self._model.vis.global_.offheight = max(height, self._model.vis.global_.offheight)
        self._model.vis.global_.offwidth = max(width, self._model.vis.global_.offwidth)
        self._data = mujoco.MjData(self._model)
        self._view = mujoco.MjvCamera()
        self._view.lookat[:] = view.center
        self._view.distance, self._view.azimuth, self._view.elevation = view.distance, view.azimuth, view.elevation
        try:
            self._renderer = mujoco.Renderer(self._model, height, width)
        except Exception as error:  # each back end has errors of its own, down to AttributeError
            raise ConfigError(
                f"camera: expected a computer that can draw, got {type(error).__name__}; set MUJOCO_GL=egl (packages "
                "libegl1 libegl-mesa0 libgl1-mesa-dri) or MUJOCO_GL=osmesa (package libosmesa6)"
            ) from error

    def take(self, row: int) -> NDArray[np.uint8]:
        """See `family.Camera.take`."""
        self._data.qpos[:] = self._find_qpos(row)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, self._view)
        scene = self._renderer.scene
        for mark in self._marks:
            size, turn = np.full(3, mark.radius), np.eye(3).ravel()
            color = np.array(mark.color, np.float32)
            geom = scene.geoms[scene.ngeom]
            mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_SPHERE, size, np.array(mark.place), turn, color)
            scene.ngeom += 1
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            scene.flags[flag] = 0
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def close(self) -> None:
        """See `family.Camera.close`."""
        self._renderer.close()
