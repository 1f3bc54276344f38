"""Seeing in numpy: pictures in, some numbers within -1 and 1 out, as `skills/eye.py` computes them in torch.

A robot with a camera (`robots.robot.Sees`) shows a picture beside its observation. `Sight` keeps the newest pictures of
some robots, and says what the eye makes of them. `SeeingRobots` puts that behind the observation of each step, so that
learners, agents and the loop go on reading one vector; a session (`session.py`) does the same for a robot's program. It
stands outside the safety limits, which check what the robot itself measures.

Axes: R rows, r rows of this call, B batch, F frames, O observation of the robot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bounds import Count, Layers, Width
from ..errors import SpecError
from ..robots.robot import Bool, Float, RobotBatch, Rows, StepRows, WrappedRobots
from ..robots.spec import ArraySpec, Axis, ImageSpec, RobotSpec
from .networks import Array, Shapes, Weights, compute_linear, linear_shapes
from .settings import refuse

KERNEL, STRIDE, PADDING = 4, 2, 1
"""Of every convolution, as in `skills/eye.py`."""
BLOCK = 256
"""Pictures of a log that are seen at once."""
_WHERE = "bundle.json eye"


@dataclass(frozen=True, slots=True, kw_only=True)
class EyeSettings:
    """What `bundle.json` says of the net that sees the pictures."""

    frames: Count
    """Pictures that are seen at once, F: the newest and those before it."""
    channels: Layers
    """Of each convolution."""
    features: Width
    """Numbers that come out, which are the last axes of the observation."""

    def require_robot(self, robot: RobotSpec) -> None:
        """Checks the sizes against the robot's pictures and observation.

        Raises:
            BundleError: They do not fit.
        """
        if robot.image is None:
            raise refuse("bundle.json robot", "a robot with a camera, since there is an eye", f"'{robot.name}' without")
        if not self.channels or min(robot.image.shape[:2]) < 2 ** len(self.channels):
            expected = f"one or more convolutions that pictures of {robot.image.shape} are large enough for"
            raise refuse(f"{_WHERE}.channels", expected, list(self.channels))
        names = robot.observation.names[-self.features :]
        if names != _feature_names(self.features):
            raise refuse(f"{_WHERE}.features", f"{self.features} features as last axes of the observation", list(names))

    def weight_shapes(self, image: ImageSpec) -> Shapes:
        """Shape of every weight, by name; all begin with `eye.`."""
        shapes: Shapes = {}
        for index, (inputs, outputs) in enumerate(pairwise((self.frames * image.channels, *self.channels))):
            shapes[f"eye.convolutions.{index}.weight"] = (outputs, inputs, KERNEL, KERNEL)
            shapes[f"eye.convolutions.{index}.bias"] = (outputs,)
        side = 2 ** len(self.channels)
        inputs = (image.height // side) * (image.width // side) * self.channels[-1]
        return shapes | linear_shapes("eye.head", inputs, self.features)


class BundledEye(NamedTuple):
    """How a policy sees the pictures of its robot."""

    settings: EyeSettings
    """Sizes."""
    weights: Weights
    """`eye.*`."""
    golden: Weights
    """Some pictures and their features, as the trainer's net saw them: `eye.image`, `eye.feature`."""


def _feature_names(count: int) -> tuple[str, ...]:
    return tuple(f"image_{index}" for index in range(count))


def see_spec(spec: RobotSpec, features: int) -> RobotSpec:
    """The spec of a robot whose observation ends with features of its pictures.

    Raises:
        SpecError: It has no camera.
    """
    if spec.image is None:
        raise SpecError(
            f"robot '{spec.name}': expected one with a camera, got one without; use a robot that takes pictures"
        )
    axes = tuple(Axis(name, "1", -1.0, 1.0) for name in _feature_names(features))
    return replace(spec, observation=ArraySpec(spec.observation.name, (*spec.observation.axes, *axes)))


def compute_features(weights: Weights, pictures: NDArray[np.uint8]) -> Array:
    """Features, shape (B, features), of stacks of pictures, shape (B, height, width, F channels), newest last.

    Args:
        weights: `eye.*`.
        pictures: Bytes.
    """
    value: Array = pictures.astype(np.float32)
    value *= np.float32(1.0 / 127.5)
    value -= np.float32(1.0)
    index = 0
    while (name := f"eye.convolutions.{index}") + ".weight" in weights:
        value = _convolve(value, weights[name + ".weight"], weights[name + ".bias"])
        np.maximum(value, np.float32(0.0), out=value)
        index += 1
    flat = value.transpose(0, 3, 1, 2).reshape(len(value), -1)  # as torch has it, which puts channels first
    features: Array = np.tanh(compute_linear(weights, "eye.head", flat))
    return features


def _convolve(value: Array, weight: Array, bias: Array) -> Array:
    """The convolution of (B, h, w, C) with (outputs, C, 4, 4): one product over patches, (B, h / 2, w / 2, outputs)."""
    batch, height, width, channels = value.shape
    padded = np.zeros((batch, height + 2 * PADDING, width + 2 * PADDING, channels), np.float32)
    padded[:, PADDING : PADDING + height, PADDING : PADDING + width] = value
    rows, columns = height // STRIDE, width // STRIDE
    over_batch, over_rows, over_columns, over_channels = padded.strides
    # a row of a patch and its channels lie side by side, so that few long runs are copied
    patches = np.lib.stride_tricks.as_strided(
        padded,
        (batch, rows, columns, KERNEL, KERNEL * channels),
        (over_batch, STRIDE * over_rows, STRIDE * over_columns, over_rows, over_channels),
        writeable=False,
    )
    flat = patches.reshape(batch * rows * columns, -1)
    output: Array = flat @ weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
    output += bias
    return output.reshape(batch, rows, columns, -1)


class Sight:
    """The newest pictures of R robots, and their features.

    The features of a row depend on the other rows of a call by rounding alone: a product of matrices adds in another
    order where there are more of them.
    """

    def __init__(self, rows: int, image: ImageSpec, settings: EyeSettings, weights: Weights) -> None:
        """Before the first picture.

        Args:
            rows: R.
            image: Of the camera.
            settings: Of the eye.
            weights: `eye.*`.
        """
        self._weights, self._channels = weights, image.channels
        self._frames = np.zeros((rows, image.height, image.width, settings.frames * image.channels), np.uint8)

    def begin(self, rows: Rows, pictures: NDArray[np.uint8]) -> Array:
        """Features (r, features) at the start of an episode: the first picture stands for those before it."""
        self._frames[rows] = np.tile(pictures, (1, 1, 1, self._frames.shape[-1] // self._channels))
        return compute_features(self._weights, self._frames[rows])

    def look(self, rows: Rows, pictures: NDArray[np.uint8]) -> Array:
        """Features (r, features) one control step later."""
        self._frames[rows] = np.concatenate([self._frames[rows][..., self._channels :], pictures], axis=-1)
        return compute_features(self._weights, self._frames[rows])


def compute_log_features(eye: BundledEye, pictures: NDArray[np.uint8]) -> Array:
    """Features (T, features) of the pictures of one episode, (T, height, width, channels), as `Sight` sees them."""
    frames, steps = eye.settings.frames, np.arange(len(pictures))
    features = []
    for part in np.array_split(steps, max(1, len(steps) // BLOCK)):
        newest_last = [pictures[np.maximum(part - age, 0)] for age in reversed(range(frames))]
        features.append(compute_features(eye.weights, np.concatenate(newest_last, axis=-1)))
    return np.concatenate(features)


class SeeingRobots(WrappedRobots):
    """Robots with a camera whose observation ends with the features of their newest pictures; see `RobotBatch`."""

    def __init__(self, robot: RobotBatch, settings: EyeSettings, weights: Weights) -> None:
        """Wraps the robots.

        Args:
            robot: With a camera.
            settings: Of the eye.
            weights: `eye.*`.

        Raises:
            SpecError: They have no camera.
        """
        super().__init__(robot)
        spec = robot.spec
        self._seen = see_spec(spec, settings.features)
        assert spec.image is not None, "see_spec refuses robots without pictures"
        self._image, self._own = spec.image, len(spec.observation.axes)
        self._sight = Sight(robot.rows, spec.image, settings, weights)
        self._path: list[Float] = []
        """Features of row 0 since its reset, before each step and behind the last."""

    @property
    def spec(self) -> RobotSpec:
        """See `RobotBatch.spec`; the features are the last axes of the observation."""
        return self._seen

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        return self.begin(rows, super().reset(rows, goals, rng))

    def begin(self, rows: Rows, observation: Float) -> Float:
        """Observations (r, O) with features behind, of rows in which an episode begins, whoever put them there."""
        features = self._sight.begin(rows, self._take(rows))
        if 0 in rows:
            self._path = []
        self._keep(rows, features)
        return np.concatenate([observation, features], axis=-1)

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        step = super().step(rows, action)
        features = self._sight.look(rows, self._take(rows))
        self._keep(rows, features)
        return step._replace(observation=np.concatenate([step.observation, features], axis=-1))

    def see_path(self, observation: Float) -> Float:
        """Own observations (T, O) of row 0 before the first T steps of its episode, with the features of pictures."""
        return np.concatenate([observation, np.stack(self._path[: len(observation)])], axis=-1)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`; rewards do not depend on pictures."""
        return super().compute_reward(np.asarray(observation)[..., : self._own], goals)

    def compute_path_reward(self, path: Float, goals: Float) -> tuple[Float, Bool]:
        """See `PaysAlongPath.compute_path_reward`; rewards do not depend on pictures."""
        return super().compute_path_reward(np.asarray(path)[..., : self._own], goals)

    def _keep(self, rows: Rows, features: Float) -> None:
        self._path += list(features[np.asarray(rows) == 0])

    def _take(self, rows: Rows) -> NDArray[np.uint8]:
        where = f"robot '{self._seen.name}' take_images"
        return self._image.require_rows(self.take_images(rows), len(rows), where)


def open_eyes(robot: RobotBatch, eye: BundledEye | None) -> RobotBatch:
    """The robots as a policy needs them: with features of their pictures, where it has an eye.

    Raises:
        SpecError: It has one, and they have no camera.
    """
    return robot if eye is None else SeeingRobots(robot, eye.settings, eye.weights)
