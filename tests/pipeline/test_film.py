"""Films: what stands beside the robot, what is written, what is refused, and a kitchen that is drawn."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from supple.errors import ConfigError, SourceError
from supple.pipeline.cli import main
from supple.pipeline.film import FAINT, INK, PAID, FilmedRow, choose_task, list_parts, save_film, write_beside
from supple.robots.family import Parts
from supple.robots.maze_family import Maze
from supple.robots.task import Task

av = pytest.importorskip("av")


class Counter:
    """A camera whose pictures are all of the number of the picture."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, row: int) -> np.ndarray:
        assert row == 0
        self.taken += 1
        return np.full((4, 6, 3), self.taken, np.uint8)

    def close(self) -> None:
        pass


def test_a_picture_is_taken_at_the_start_in_between_and_at_the_end() -> None:
    filmed = FilmedRow(Maze(layout_size=8, episode_steps=7).make(1), Counter(), every=3)
    row, goal = np.zeros(1, np.int64), np.array([[1.0, 1.0]], np.float32)
    for _ in range(2):
        filmed.reset(row, goal, np.random.default_rng(0))
        for _ in range(7):
            filmed.step(row, np.zeros((1, 2), np.float32))
    # steps 3, 6 and the last, 7, have pictures of their own
    assert [shot.picture[0, 0, 0] for shot in filmed.episodes[0]] == [1, 1, 1, 2, 2, 2, 3, 4]
    assert [shot.picture[0, 0, 0] for shot in filmed.episodes[1]] == [5, 5, 5, 6, 6, 6, 7, 8]
    assert filmed.episodes[0][-1].observation.shape == (4,)


def test_parts_are_paid_complete_or_open() -> None:
    away = np.array([[1.0, 1.0, 1.0], [0.1, 0.9, 0.1]], np.float32)
    credited = np.array([[False, False, False], [True, False, False]])
    parts = Parts(("door", "knob", "switch"), away, 0.3, credited)
    assert list_parts(parts, 0) == [("- door", FAINT), ("- knob", FAINT), ("- switch", FAINT)]
    assert list_parts(parts, 1) == [("+ door", PAID), ("- knob", FAINT), ("o switch", INK)]
    assert list_parts(None, 0) == []


def test_text_stands_to_the_left_of_the_picture() -> None:
    picture = np.full((90, 120, 3), 77, np.uint8)
    page = write_beside(picture, [("a line", INK)])
    assert page.shape == (90, 280, 3)
    assert (page[:, 160:] == 77).all()
    assert page[:, :160].min() < 60  # ink


@pytest.mark.parametrize("kind", [".webm", ".mp4", ".gif"])
def test_a_film_has_its_frames_and_its_rate(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"film{kind}"
    frames = [np.full((64, 96, 3), value, np.uint8) for value in (0, 90, 180)]
    save_film(path, frames, 12.5)
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        read = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        rate = float(stream.average_rate)
    assert [abs(int(one.mean()) - int(other.mean())) < 25 for one, other in zip(read, frames, strict=True)] == [
        True
    ] * 3
    assert rate == pytest.approx(12.5, rel=0.05)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_gif_keeps_the_colour_of_small_things_and_what_stands_still_is_small(tmp_path: Path) -> None:
    """An encoder that dithers takes 20 times as much, and one that counts pixels makes the ball grey."""
    shades = np.linspace(60, 200, 160 * 240).reshape(160, 240, 1).astype(np.uint8)
    frames = []
    for place in range(20):
        frame = np.repeat(shades, 3, axis=2)
        frame[40:44, 8 * place : 8 * place + 4] = (20, 40, 160)
        frames.append(frame)
    save_film(tmp_path / "one.gif", frames[:1], 10.0)
    save_film(tmp_path / "all.gif", frames, 10.0)
    with av.open(str(tmp_path / "all.gif")) as film:
        read = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(read) == 20
    for one, other in zip(read, frames, strict=True):
        assert np.abs(one.astype(int) - other).max() < 24
    one, all_of_them = ((tmp_path / name).stat().st_size for name in ("one.gif", "all.gif"))
    assert all_of_them < 5 * one


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"--out: expected a name that ends in \.webm, \.mp4, \.gif, got 'film\.avi'"):
        save_film(tmp_path / "film.avi", [], 1.0)
    tasks = (Task("a", (0.0,)), Task("b", (1.0,)))
    assert (choose_task(tasks, None), choose_task(tasks, "b")) == (0, 1)
    with pytest.raises(SourceError, match=r"--task: expected one of a, b, got 'c'"):
        choose_task(tasks, "c")
    assert main(["video", str(tmp_path / "nowhere"), "--out", str(tmp_path / "film.webm")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_without_a_renderer_the_back_ends_are_named(tiny_run: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "supple", "video", str(tiny_run), "--out", str(tmp_path / "film.webm")],
        env=os.environ | {"MUJOCO_GL": "disable"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "camera: expected a computer that can draw" in done.stderr
    assert "MUJOCO_GL=osmesa" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_maze_is_filmed_where_there_is_a_renderer(tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "film.webm"
    command = ["video", str(tiny_run), "--out", str(path), "--every", "20", "--policies", "before", "adapted"]
    done = subprocess.run(
        [sys.executable, "-m", "supple", *command],
        env={key: value for key, value in os.environ.items() if key != "MUJOCO_GL"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "expected a computer that can draw" in done.stderr:
        pytest.skip("no renderer here")
    assert done.returncode == 0, done.stderr
    with av.open(str(path)) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert frames[0].shape == (360, 640, 3)
    right = frames[0][:, 160:].reshape(-1, 3).astype(int)
    assert ((right[:, 1] > right[:, 0] + 30) & (right[:, 1] > right[:, 2] + 30)).sum() > 50  # the goal is green
