"""What pictures of the maze cost: drawn in numpy, taken by MuJoCo's camera, and seen by the convolutional net.

Prints a JSON list of records (schema: `benchmarks/results/records.py`). `low` and `high` bound the middle 95 % of the
rounds. Use one thread:

    OMP_NUM_THREADS=1 MUJOCO_GL=egl python benchmarks/bench_images.py

With `--figure FILE` it draws the maze, what numpy draws and what MuJoCo takes at some places instead.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from recording import print_records

from supple.adapt.eye import compute_features
from supple.adapt.host.spaces import export_eye
from supple.robots.image_maze import ImageMaze
from supple.robots.maze import BODY_OFFSET, make_maze_model
from supple.robots.maze_picture import CENTRE, PIXELS, VIEW, MazeCamera
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

COMMAND = "OMP_NUM_THREADS=1 MUJOCO_GL=egl python benchmarks/bench_images.py"
ROUNDS = 9
SECONDS = 0.03
"""Of processor time, that a round takes at least."""
ROWS = (1, 20)


def measure(work: Callable[[], object], frames: int) -> dict[str, float | int]:
    """Frames per second of processor time, so that other processes of the machine do not count."""
    work()
    rates = []
    for _ in range(ROUNDS):
        done, began = 0, time.process_time()
        while (taken := time.process_time() - began) < SECONDS:
            work()
            done += frames
        rates.append(done / taken)
    low, high = np.quantile(rates, (0.025, 0.975))
    return {"mean": round(float(np.mean(rates)), 1), "low": round(float(low), 1), "high": round(float(high), 1)}


def make_mujoco_camera(family: ImageMaze, place: tuple[float, float]) -> Callable[[], NDArray[np.uint8]]:
    """Takes pictures of the same view, in colour."""
    model = make_maze_model(family.layout())
    model.vis.global_.orthographic, model.vis.global_.fovy = 1, VIEW
    model.vis.quality.offsamples = 0
    data, camera = mujoco.MjData(model), mujoco.MjvCamera()
    renderer = mujoco.Renderer(model, PIXELS, PIXELS)
    data.qpos[:] = place
    mujoco.mj_forward(model, data)
    camera.distance, camera.azimuth, camera.elevation = 5.0, 90.0, -90.0
    camera.lookat[:] = (*(data.qpos + BODY_OFFSET), 0.0)

    def take() -> NDArray[np.uint8]:
        renderer.update_scene(data, camera)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = 0
        picture: NDArray[np.uint8] = renderer.render()
        return picture

    return take


def measure_all() -> Iterator[dict[str, Any]]:
    """All records, without the fields that they share."""
    family = ImageMaze()
    drawing = MazeCamera(family.layout())
    eye = export_eye(SkillModel(4, 2, SkillConfig(), family.spec()), 0)
    assert eye is not None
    position = np.random.default_rng(0).uniform(1.0, 40.0, (max(ROWS), 2))
    pictures = drawing.draw(position).repeat(2, axis=-1)
    for rows in ROWS:
        place = {"metric": "frames_per_s", "at": {"rows": rows}, "n": ROUNDS}
        yield {"method": "maze-drawn", **place, **measure(lambda rows=rows: drawing.draw(position[:rows]), rows)}  # type: ignore[misc]
        seeing = lambda rows=rows: compute_features(eye.weights, pictures[:rows])  # noqa: E731
        yield {"method": "seen-by-numpy", **place, **measure(seeing, rows)}  # type: ignore[arg-type]
    taken = measure(make_mujoco_camera(family, family.start), 1)
    yield {"method": "maze-mujoco-egl", "metric": "frames_per_s", "at": {"rows": 1}, "n": ROUNDS, **taken}


def draw_figure(path: Path) -> None:
    """The maze of the tasks from above, and three places in it by both cameras."""
    family = ImageMaze()
    layout, places = family.layout(), ((9.8, 23.8), (17.1, 6.9), (30.9, 33.2))
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    parts = figure.subplot_mosaic(
        [["maze", *(f"drawn{i}" for i in range(3))], ["maze", *(f"taken{i}" for i in range(3))]]
    )
    low, high = CENTRE - 0.5, len(layout) + CENTRE - 0.5
    parts["maze"].imshow(layout.T, cmap="gray", origin="lower", extent=(low, high, low, high))
    parts["maze"].set_title("the maze of the tasks", fontsize=9)
    for index, (x, y) in enumerate(places):
        parts["maze"].add_patch(
            Rectangle((x - VIEW / 2, y - VIEW / 2), VIEW, VIEW, fill=False, color=f"C{index}", lw=2)
        )
        drawn = MazeCamera(layout).draw(np.array([(x, y)]))[0, ..., 0]
        taken = make_mujoco_camera(family, (x, y))()
        for name, picture in ((f"drawn{index}", drawn), (f"taken{index}", taken)):
            parts[name].imshow(picture, cmap="gray", vmin=0, vmax=255)
            parts[name].set(xticks=(), yticks=())
            for spine in parts[name].spines.values():
                spine.set(color=f"C{index}", linewidth=2)
    parts["drawn1"].set_title("as numpy draws it", fontsize=9)
    parts["taken1"].set_title("as MuJoCo's camera takes it", fontsize=9)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--figure"]:
        draw_figure(Path(sys.argv[2]))
        raise SystemExit
    began = time.perf_counter()
    print_records("image-rendering", COMMAND, began, list(measure_all()))
