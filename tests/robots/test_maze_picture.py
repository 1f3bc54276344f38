"""The picture of the maze: numbers by hand, and the same walls as MuJoCo's own camera sees."""

import os

import numpy as np
import pytest
from numpy.typing import NDArray

from supple.robots.maze import BODY_OFFSET, make_maze_model
from supple.robots.maze_layout import make_layout
from supple.robots.maze_picture import PIXELS, VIEW, MazeCamera

EDGE = 0.25
"""MuJoCo samples one point of a pixel: an edge may look a quarter of a pixel away from where it is."""


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


@pytest.fixture(scope="module")
def renderer():  # type: ignore[no-untyped-def]
    os.environ.setdefault("MUJOCO_GL", "egl")
    mujoco = pytest.importorskip("mujoco")
    model = make_maze_model(make_layout(20, 0))
    model.vis.global_.orthographic, model.vis.global_.fovy = 1, VIEW  # the height of what it shows, cells
    model.vis.quality.offsamples = 0
    try:
        made = mujoco.Renderer(model, PIXELS, PIXELS)
    except Exception as error:  # noqa: BLE001 - each back end has errors of its own
        pytest.skip(f"nothing here draws: {error}")
    yield mujoco, model, made
    made.close()


def draw_by_mujoco(renderer, position: NDArray[np.float64]) -> NDArray[np.bool_]:  # type: ignore[no-untyped-def]
    """Where MuJoCo's camera above the particle sees the top of a wall."""
    mujoco, model, made = renderer
    data = mujoco.MjData(model)
    data.qpos[:] = position
    mujoco.mj_forward(model, data)
    camera = mujoco.MjvCamera()
    camera.distance, camera.azimuth, camera.elevation = 5.0, 90.0, -90.0
    camera.lookat[:] = (*(position + BODY_OFFSET), 0.0)
    made.enable_segmentation_rendering()
    made.update_scene(data, camera)
    geom = made.render()[..., 0]
    walls = [i for i in range(model.ngeom) if model.geom(i).name.startswith("wall")]
    return np.isin(geom, walls)


def test_shows_the_walls_that_mujocos_camera_sees(renderer) -> None:  # type: ignore[no-untyped-def]
    rng, camera = np.random.default_rng(0), MazeCamera(make_layout(20, 0))
    cells = np.argwhere(~make_layout(20, 0))
    wrong = seen = 0
    for position in cells[rng.integers(len(cells), size=40)] + rng.uniform(-0.6, 0.2, (40, 2)):
        drawn = draw_by_mujoco(renderer, position)
        share = camera.draw(position[None])[0, ..., 0] / 255.0
        # the particle, which is drawn by MuJoCo alone, is no wall in either
        wrong += np.count_nonzero((share > 0.5) != drawn)
        seen += drawn.size
        off = np.abs(share - drawn) > 0.5 + EDGE
        assert not off.any(), f"{np.argwhere(off)[:4].tolist()} at {position}"
    assert wrong / seen < 0.001
