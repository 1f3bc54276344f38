"""Pictures of environments of other libraries that simulate with MuJoCo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from .mujoco_camera import Mark, MujocoCamera, open_model_camera


class Physics(NamedTuple):
    """What an environment simulates."""

    model: mujoco.MjModel
    data: mujoco.MjData


class EnvCamera:
    """A camera of rows of environments; see `family.Camera`.

    The model is copied when the first picture is taken, so that a target stands where the first episode put it, and
    again where the environment has made another one.

    Args:
        find_physics: Of a row now.
        height: Of a picture, pixels.
        width: Of a picture, pixels.
        marks: See `MujocoCamera`.
    """

    def __init__(
        self, find_physics: Callable[[int], Physics], height: int, width: int, marks: Sequence[Mark] = ()
    ) -> None:
        self._find_physics, self._size, self._marks = find_physics, (height, width), marks
        self._model: mujoco.MjModel | None = None
        self._camera: MujocoCamera | None = None

    def take(self, row: int) -> NDArray[np.uint8]:
        """See `family.Camera.take`.

        Raises:
            ConfigError: This computer cannot draw, or the environment is none of MuJoCo's.
        """
        model = self._find_physics(row).model
        if self._camera is None or model is not self._model:
            self.close()
            self._model = model
            self._camera = open_model_camera(
                model, lambda row: np.array(self._find_physics(row).data.qpos), *self._size, self._marks
            )
        return self._camera.take(row)

    def close(self) -> None:
        """See `family.Camera.close`."""
        if self._camera is not None:
            self._camera.close()
        self._camera = None
