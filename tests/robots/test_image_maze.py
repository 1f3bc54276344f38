"""The maze that is seen: a robot by its contract, play data from mazes that change, tasks in one that does not."""

import dataclasses
from itertools import islice

import numpy as np
import pytest

from supple.errors import ConfigError, SpecError
from supple.robots.family import make_robots
from supple.robots.image_maze import ImageMaze, ImageMazeBatch
from supple.robots.maze_family import Maze
from supple.robots.maze_layout import geodesic_distance
from supple.robots.maze_picture import IMAGE
from supple.robots.planner import PlannerConfig
from supple.robots.robot import take_images
from supple.robots.testing import RobotContract

SMALL = ImageMaze(
    layout_size=10,
    layout_seed=1,
    play_size=8,
    num_train_tasks=4,
    num_test_tasks=3,
    planner=PlannerConfig(episode_steps=60),
)


class TestImageMazeContract(RobotContract):
    near_goal = (5.0, 5.0)
    far_goal = (1.0, 1.0)

    def make_batch(self, rows: int, episode_steps: int) -> ImageMazeBatch:
        return dataclasses.replace(SMALL, episode_steps=episode_steps).make(rows)


def test_the_published_maze_and_its_start() -> None:
    family = ImageMaze()
    assert family.layout().shape == (42, 42)
    assert family.start == (10, 24)
    assert not family.layout()[10, 24]
    distance = geodesic_distance(family.layout(), family.start)
    tasks = family.tasks()
    assert (len(tasks.train), len(tasks.test)) == (10, 10)
    for task in (*tasks.train, *tasks.test):
        assert 2 <= distance[int(task.goal[0]), int(task.goal[1])] <= 30
    assert not {task.goal for task in tasks.train} & {task.goal for task in tasks.test}


def test_tasks_farther_than_the_maze_is_deep_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected at most"):
        dataclasses.replace(SMALL, most_moves=2, num_train_tasks=40).tasks()


def test_each_episode_of_play_is_in_a_maze_of_its_own() -> None:
    chunks = list(islice(SMALL.play(4, seed=3), 3))
    for chunk in chunks:
        assert chunk.image is not None
        assert chunk.image.shape == (1, 60, *IMAGE.shape)
        assert chunk.image.dtype == np.uint8
        # pictures show the walls around the place where the observation is, which is never inside one
        assert (chunk.image[0, :, 16, 16, 0] < 255).all()
    # at the same place two mazes look differently: some wall is elsewhere
    assert len({chunk.image.tobytes() for chunk in chunks if chunk.image is not None}) == 3
    again = next(SMALL.play(1, seed=3))
    np.testing.assert_array_equal(again.observation, chunks[0].observation)
    np.testing.assert_array_equal(again.image, chunks[0].image)


def test_blind_play_is_the_same_without_pictures() -> None:
    seen = next(SMALL.play(1, seed=3))
    blind = dataclasses.replace(SMALL, images=False)
    chunk = next(blind.play(1, seed=3))
    assert chunk.image is None
    np.testing.assert_array_equal(chunk.observation, seen.observation)
    assert blind.spec() == dataclasses.replace(SMALL.spec(), image=None)


def test_one_spec_holds_for_the_mazes_of_the_data_and_of_the_tasks() -> None:
    small, large = SMALL.spec(), dataclasses.replace(SMALL, layout_size=8, play_size=10).spec()
    assert small.observation == large.observation
    small.require_source(large, "data")
    with pytest.raises(SpecError, match="expected pictures of 32 x 32 pixels x 1 channels, got no pictures"):
        small.require_source(dataclasses.replace(large, image=None), "data")
    dataclasses.replace(small, image=None).require_source(large, "data")  # who needs no pictures may have some


def test_pictures_are_of_the_asked_rows_and_move_with_them() -> None:
    robots = make_robots(SMALL, 3)
    rows = np.arange(3)
    robots.reset(rows, np.ones((3, 2), np.float32), np.random.default_rng(0))
    before = take_images(robots, rows, "maze")
    np.testing.assert_array_equal(take_images(robots, np.array([1]), "maze"), before[1:2])
    for _ in range(20):
        robots.step(np.array([1]), np.array([[1.0, 1.0]], np.float32))
    after = take_images(robots, rows, "maze")
    assert (after[1] != before[1]).any()
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])


def test_robots_without_a_camera_take_no_pictures() -> None:
    robots = make_robots(Maze(layout_size=10, layout_seed=1), 1)
    with pytest.raises(SpecError, match="expected one with a camera, got one without"):
        take_images(robots, np.arange(1), "point-maze")
