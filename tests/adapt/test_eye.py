"""Seeing in numpy: the numbers of torch, frames in their order, and no observation that gives the place away."""

import dataclasses

import numpy as np
import pytest
import torch

from supple.adapt.eye import EyeSettings, SeeingRobots, compute_features, open_eyes, see_spec
from supple.adapt.host.spaces import export_eye
from supple.errors import BundleError, SpecError
from supple.robots.family import make_robots
from supple.robots.image_maze import ImageMaze
from supple.robots.maze_family import Maze
from supple.robots.robot import RobotBatch
from supple.robots.spec import ImageSpec
from supple.skills.config import SkillConfig
from supple.skills.eye import Eye, stack_frames
from supple.skills.model import SkillModel

FAMILY = ImageMaze(layout_size=10, layout_seed=1, play_size=8)
CONFIG = SkillConfig(
    skill_horizon=3,
    skill_dim=2,
    encoder_hidden=(8,),
    decoder_hidden=(8,),
    open_decoder_hidden=(8,),
    prior_hidden=(8,),
    image_channels=(3, 4),
    image_features=5,
    hidden_axes=("x", "y"),
)
MODEL = SkillModel(4, 2, CONFIG, FAMILY.spec())


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 1), (13, 18, 3), (8, 9, 2)])
def test_numpy_sees_what_torch_sees(height: int, width: int, channels: int) -> None:
    image = ImageSpec(height, width, channels)
    eye = Eye(image, CONFIG, torch.Generator().manual_seed(3))
    weights = {f"eye.{name}": value.detach().numpy() for name, value in eye.state_dict().items()}
    settings = EyeSettings(frames=2, channels=(3, 4), features=5)
    assert settings.weight_shapes(image) == {name: value.shape for name, value in weights.items()}
    pictures = np.random.default_rng(0).integers(0, 256, (4, height, width, 2 * channels), np.uint8)
    with torch.no_grad():
        expected = eye(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(compute_features(weights, pictures), expected, atol=1e-6)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3  # it does look


def test_hand_worked_features() -> None:
    """One convolution whose only weight passes on the pixel right of and below each corner of its stride."""
    weight = np.zeros((1, 1, 4, 4), np.float32)
    weight[0, 0, 1, 2] = 1.0
    head = np.zeros((1, 16), np.float32)
    head[0, 6] = 0.5  # row 1, column 2 of the 4 x 4 outputs
    weights = {
        "eye.convolutions.0.weight": weight,
        "eye.convolutions.0.bias": np.zeros(1, np.float32),
        "eye.head.weight": head,
        "eye.head.bias": np.array([0.25], np.float32),
    }
    pictures = np.zeros((1, 8, 8, 1), np.uint8)
    # output (1, 2) begins at row 2 - 1, column 4 - 1: its weight (1, 2) lies on the pixel (2, 5)
    pictures[0, 2, 5, 0] = 255
    np.testing.assert_allclose(compute_features(weights, pictures), np.tanh([[0.75]]), atol=1e-6)
    pictures[0, 2, 5, 0] = 0  # -1 behind the scale, 0 behind ReLU
    np.testing.assert_allclose(compute_features(weights, pictures), np.tanh([[0.25]]), atol=1e-6)


def test_stacks_hold_the_newest_picture_last() -> None:
    pictures = torch.arange(5, dtype=torch.uint8).reshape(1, 5, 1, 1, 1)  # one before the window, four steps
    stacks = stack_frames(pictures, torch.tensor([[0, 3, 1]]), frames=2)
    assert stacks[0, :, 0, 0].tolist() == [[0, 1], [3, 4], [1, 2]]


def make_seeing(rows: int) -> tuple[SeeingRobots, RobotBatch]:
    inner = make_robots(FAMILY, rows)
    eye = export_eye(MODEL, 0)
    assert eye is not None
    return SeeingRobots(inner, eye.settings, eye.weights), inner


def test_robots_that_see_show_their_features_behind_their_own_axes() -> None:
    robots, inner = make_seeing(3)
    rows, goals = np.arange(3), np.ones((3, 2), np.float32)
    assert robots.spec.observation.names == ("x", "y", "vx", "vy", *(f"image_{index}" for index in range(5)))
    first = robots.reset(rows, goals, np.random.default_rng(0))
    shown = [robots.take_images(rows)]
    weights = {name: value for name, value in export_eye(MODEL, 0).weights.items()}  # type: ignore[union-attr]
    np.testing.assert_allclose(first[:, 4:], compute_features(weights, np.tile(shown[0], (1, 1, 1, 2))), atol=1e-6)
    for _ in range(12):
        step = robots.step(rows, np.full((3, 2), 0.8, np.float32))
        shown.append(robots.take_images(rows))
    pair = np.concatenate(shown[-2:], axis=-1)
    assert (pair[..., 0] != pair[..., 1]).any()
    np.testing.assert_allclose(step.observation[:, 4:], compute_features(weights, pair), atol=1e-6)
    robots.spec.observation.require_within(step.observation, "test")
    reward, _ = robots.compute_reward(step.observation, goals)
    np.testing.assert_array_equal(reward, inner.compute_reward(step.observation[:, :4], goals)[0])


def test_a_row_that_is_reset_forgets_its_pictures_and_others_keep_theirs() -> None:
    robots, _ = make_seeing(2)
    rows, goals = np.arange(2), np.ones((2, 2), np.float32)
    begin = robots.reset(rows, goals, np.random.default_rng(0))
    for _ in range(10):
        last = robots.step(rows, np.full((2, 2), 0.9, np.float32)).observation
    again = robots.reset(np.array([0]), goals[:1], np.random.default_rng(0))
    np.testing.assert_allclose(again[0, :2], begin[0, :2], atol=0.2)
    picture = robots.take_images(np.array([0]))
    weights = export_eye(MODEL, 0).weights  # type: ignore[union-attr]
    np.testing.assert_allclose(again[:, 4:], compute_features(weights, np.tile(picture, (1, 1, 1, 2))), atol=1e-6)
    after = robots.step(np.array([1]), np.zeros((1, 2), np.float32)).observation
    assert np.abs(after[0, 4:] - last[1, 4:]).max() < 0.5  # one step further, with the step before behind it


def test_robots_without_a_camera_are_refused() -> None:
    eye = export_eye(MODEL, 0)
    with pytest.raises(SpecError, match="expected one with a camera, got one without"):
        open_eyes(make_robots(Maze(layout_size=10, layout_seed=1), 1), eye)
    blind = make_robots(dataclasses.replace(FAMILY, images=False), 1)
    with pytest.raises(SpecError, match="expected one with a camera, got one without"):
        open_eyes(blind, eye)
    assert open_eyes(blind, None) is blind


def test_pictures_of_another_size_are_refused() -> None:
    robots, inner = make_seeing(1)
    inner._robot._camera.draw = lambda position: np.zeros((1, 16, 16, 1), np.uint8)  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match=r"expected pictures as uint8 of shape \(1, 32, 32, 1\), got uint8 \(1, 16, 16"):
        robots.reset(np.arange(1), np.ones((1, 2), np.float32), np.random.default_rng(0))


def test_settings_that_do_not_fit_the_robot_are_refused() -> None:
    seen = see_spec(FAMILY.spec(), 5)
    EyeSettings(frames=2, channels=(3, 4), features=5).require_robot(seen)
    with pytest.raises(BundleError, match="expected 6 features as last axes"):
        EyeSettings(frames=2, channels=(3, 4), features=6).require_robot(seen)
    with pytest.raises(BundleError, match=r"pictures of .* are large enough for"):
        EyeSettings(frames=2, channels=(2,) * 6, features=5).require_robot(seen)
    with pytest.raises(BundleError, match="expected a robot with a camera"):
        EyeSettings(frames=2, channels=(3,), features=5).require_robot(dataclasses.replace(seen, image=None))
