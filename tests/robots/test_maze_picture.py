"""The picture of the maze: numbers by hand, and the same walls as MuJoCo's own rays and its own camera meet."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from supple.robots.maze import BODY_OFFSET, make_maze_model
from supple.robots.maze_layout import make_layout
from supple.robots.maze_picture import PIXELS, VIEW, MazeCamera

EDGE = 0.25
"""MuJoCo samples one point of a pixel: an edge may look a quarter of a pixel away from where it is."""
LAYOUT = make_layout(20, 0)


def test_hand_worked_picture() -> None:
    layout = np.zeros((9, 9), np.bool_)
    layout[6, 5] = True  # one cell of wall, from x = 5.3 to 6.3 and y = 4.3 to 5.3
    picture = MazeCamera(layout).draw(np.array([[4.8, 4.8]]))[0, ..., 0]
    # the view goes from 2.8 to 6.8 along both axes, 8 pixels a cell: the wall is in columns 20 .. 27, and in rows
    # (6.8 - 5.3) 8 = 12 .. 19 from above
    expected = np.zeros((PIXELS, PIXELS), np.uint8)
    expected[12:20, 20:28] = 255
    np.testing.assert_array_equal(picture, expected)


def test_part_of_a_pixel_is_grey() -> None:
    layout = np.zeros((9, 9), np.bool_)
    layout[6, :] = True
    picture = MazeCamera(layout).draw(np.array([[4.8 + 0.25 / 8.0, 4.8]]))[0, ..., 0]
    # a quarter of a pixel to the right: the wall begins a quarter of a pixel further left
    np.testing.assert_array_equal(picture[PIXELS // 2, 18:30], [0, 64, *[255] * 7, 191, 0, 0])


def test_outside_the_layout_is_floor() -> None:
    layout = np.ones((9, 9), np.bool_)
    picture = MazeCamera(layout).draw(np.array([[-0.7, 4.8]]))[0, ..., 0]  # on the outer edge of the first cell
    np.testing.assert_array_equal(picture[0], [0] * 16 + [255] * 16)


def test_rows_do_not_depend_on_each_other() -> None:
    camera = MazeCamera(make_layout(12, 3))
    position = np.random.default_rng(0).uniform(0.5, 12.5, (7, 2))
    together = camera.draw(position)
    for row, picture in enumerate(together):
        np.testing.assert_array_equal(camera.draw(position[row : row + 1])[0], picture)


def draw_places(count: int) -> NDArray[np.float64]:
    rng, cells = np.random.default_rng(0), np.argwhere(~LAYOUT)
    return cells[rng.integers(len(cells), size=count)] + rng.uniform(-0.6, 0.2, (count, 2))


def find_walls(model: mujoco.MjModel) -> list[int]:
    return [index for index in range(model.ngeom) if model.geom(index).name.startswith("wall")]


def test_shows_the_walls_that_rays_from_above_meet() -> None:
    model = make_maze_model(LAYOUT)
    data, walls, found = mujoco.MjData(model), find_walls(make_maze_model(LAYOUT)), np.zeros(1, np.int32)
    camera, step = MazeCamera(LAYOUT), VIEW / PIXELS
    mujoco.mj_forward(model, data)
    for x, y in draw_places(4):
        share = camera.draw(np.array([[x, y]]))[0, ..., 0] / 255.0
        for row, column in np.random.default_rng(1).integers(PIXELS, size=(200, 2)):
            # the middle of a pixel; rows go from large y to small y
            at = x + (column + 0.5) * step - VIEW / 2, y + VIEW / 2 - (row + 0.5) * step
            above = np.array([at[0] + BODY_OFFSET, at[1] + BODY_OFFSET, 5.0])
            mujoco.mj_ray(model, data, above, np.array([0.0, 0.0, -1.0]), None, 1, -1, found)
            met = found[0] in walls
            if share[row, column] in (0.0, 1.0):
                assert met == (share[row, column] == 1.0)


def compare_with_camera() -> None:
    """Prints the share of pixels on which numpy and MuJoCo's camera differ, and how far from an edge one of them is."""
    model = make_maze_model(LAYOUT)
    model.vis.global_.orthographic, model.vis.global_.fovy = 1, VIEW  # the height of what it shows, cells
    model.vis.quality.offsamples = 0
    renderer, data, view = mujoco.Renderer(model, PIXELS, PIXELS), mujoco.MjData(model), mujoco.MjvCamera()
    renderer.enable_segmentation_rendering()
    view.distance, view.azimuth, view.elevation = 5.0, 90.0, -90.0
    wrong, farthest, count = 0, 0.0, 40
    for position in draw_places(count):
        data.qpos[:] = position
        mujoco.mj_forward(model, data)
        view.lookat[:] = (*(position + BODY_OFFSET), 0.0)
        renderer.update_scene(data, view)
        taken = np.isin(renderer.render()[..., 0], find_walls(model))
        share = MazeCamera(LAYOUT).draw(position[None])[0, ..., 0] / 255.0
        # the particle, which MuJoCo alone draws, is no wall in either
        wrong += int(np.count_nonzero((share > 0.5) != taken))
        farthest = max(farthest, float(np.abs(share - taken).max()))
    renderer.close()
    print(json.dumps({"wrong": wrong / (count * PIXELS**2), "farthest": farthest}))


def test_shows_the_walls_that_mujocos_camera_sees() -> None:
    """In a process of its own, since this one may be told to draw nothing when MuJoCo is loaded."""
    program = f"import runpy; runpy.run_path({str(Path(__file__))!r})['compare_with_camera']()"
    environment = os.environ | {"MUJOCO_GL": "egl"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "gl" in done.stderr.lower():
        pytest.skip(f"nothing here draws: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    assert found["wrong"] < 0.001
    assert found["farthest"] < 0.5 + EDGE
