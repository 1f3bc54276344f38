"""Films of episodes: pictures of a simulated robot with the task and the return written over them.

The film shows what the robot does. Its left column has the policy, the time, the skill under way, the return and, where
the task has parts (`family.HasParts`), which of them are paid.

Axes: T steps, O observation.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..adapt.eye import open_eyes
from ..adapt.runtime_agent import RandomNoise
from ..errors import ConfigError, SourceError
from ..plain_files import write_durably
from ..robots.family import Camera, Films, HasParts, Parts, RobotFamily, SuccessRows, TellsSuccess, make_simulator
from ..robots.robot import Float, RobotBatch, Rows, StepRows, WrappedRobots
from ..robots.task import Task

if TYPE_CHECKING:
    from .report.trips import Adapted, Evaluated

Picture = NDArray[np.uint8]
"""Shape (height, width, 3), RGB."""
CODECS: dict[str, tuple[str, str, dict[str, str]] | None] = {
    ".webm": ("libvpx-vp9", "yuv420p", {"crf": "34", "b": "0", "cpu-used": "4"}),
    ".mp4": ("libx264", "yuv420p", {"crf": "26"}),
    ".gif": None,
}
"""Of each kind of film: encoder, colours and options. A GIF is no stream, see `encode_gif`."""
GIF_COLOURS = 256
"""Of a GIF. All its pictures share them, and no pixels are dithered: what stands still costs nothing then."""
HEIGHT, WIDTH = 360, 480
"""Of the picture of the robot, pixels."""
COLUMN = 160
"""Width of the text beside it, pixels."""
REST = 1.0
"""Seconds of the robot for which the last picture of an episode stands still."""
INK, FAINT, PAPER, PAID = (20, 20, 20), (150, 150, 150), (250, 250, 248), (20, 120, 60)


class Shot(NamedTuple):
    """One moment of an episode."""

    picture: Picture
    observation: Float
    """Shape (O,)."""
    total: float
    """Return so far."""


class FilmedRow(WrappedRobots):
    """A robot of one row that is filmed, one list of shots per episode; see `RobotBatch` for the contract."""

    def __init__(self, robot: RobotBatch, camera: Camera, every: int) -> None:
        """Wraps the robot.

        Args:
            robot: Of one row.
            camera: Looks at it.
            every: A picture after so many steps; the start and the end always have one.
        """
        super().__init__(robot)
        self._camera, self._every = camera, every
        self.episodes: list[list[Shot]] = []
        """One list for each reset."""
        self._steps = 0

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        observation = super().reset(rows, goals, rng)
        self.episodes.append([Shot(self._camera.take(0), observation[0].copy(), 0.0)])
        self._steps = 0
        return observation

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        step = super().step(rows, action)
        self._steps += 1
        shots = self.episodes[-1]
        due = self._steps % self._every == 0 or bool(step.terminated[0] | step.truncated[0])
        picture = self._camera.take(0) if due else shots[-1].picture
        shots.append(Shot(picture, step.observation[0].copy(), shots[-1].total + float(step.reward[0])))
        return step


def film_task(
    evaluated: Evaluated,
    family: RobotFamily,
    task: Task,
    adapted: Adapted | None,
    policies: Sequence[str],
    *,
    seed: int,
    every: int,
) -> list[Picture]:
    """The frames of one episode for each of some policies, one after the other.

    Args:
        evaluated: Of any learner.
        family: Its robots.
        task: What is to be done.
        adapted: To this task alone; None before adaptation.
        policies: Of `before`, `inferred`, `adapted` and `known`; those that there are.
        seed: Of the resets and of what the policies draw.
        every: Control steps from frame to frame.

    Raises:
        ConfigError: The robots cannot be looked at, this computer cannot draw, or there is none of the policies.
    """
    from .report.measure import MEANINGS
    from .report.trips import compute_trips

    if not isinstance(family, Films):
        raise ConfigError(f"video: expected a robot that can be looked at, got '{family.name}'; let it inherit Films")
    goal, bundle = np.array(task.goal, np.float32), evaluated.bundle
    robot = make_simulator(family, 1)
    camera = family.open_camera(robot, goal, HEIGHT, WIDTH)
    filmed = FilmedRow(SuccessRows(robot, family) if isinstance(family, TellsSuccess) else robot, camera, every)
    try:
        (found,) = compute_trips(evaluated, open_eyes(filmed, bundle.eye), [task], adapted, episodes=1, seed=seed)
    finally:
        camera.close()
    shots = dict(zip(found.trips, filmed.episodes, strict=False))
    chosen = [name for name in policies if name in shots]
    if not chosen:
        raise ConfigError(f"--policies: expected some of {', '.join(shots)}, got {', '.join(policies)}; name others")
    period = family.spec().control_period
    horizon = bundle.make_agent(RandomNoise(np.random.default_rng(seed))).space.horizon
    frames: list[Picture] = []
    for name in chosen:
        path = np.stack([shot.observation for shot in shots[name]])
        parts = family.compute_parts(path, goal) if isinstance(family, HasParts) else None
        moments = sorted({*range(0, len(path), every), len(path) - 1})
        for moment in moments:
            shot = shots[name][moment]
            lines = [(MEANINGS[name], INK), (f"task {task.name}", INK), ("", INK)]
            lines += [(f"{moment * period:5.1f} s", INK), (f"skill {max(moment - 1, 0) // horizon + 1}", INK)]
            lines += [(f"return {shot.total:g}", INK), ("", INK), *list_parts(parts, moment)]
            frames.append(write_beside(shot.picture, lines))
        frames += [frames[-1]] * round(REST / (period * every))
    return frames


def list_parts(parts: Parts | None, moment: int) -> list[tuple[str, tuple[int, int, int]]]:
    """A line for each part of the task: whether it is paid, complete but not paid yet, or open."""
    if parts is None:
        return []
    lines = []
    for index, name in enumerate(parts.names):
        paid, complete = parts.credited[moment, index], parts.away[moment, index] < parts.radius
        mark, color = ("+", PAID) if paid else ("o", INK) if complete else ("-", FAINT)
        lines.append((f"{mark} {name}", color))
    return lines


def write_beside(picture: Picture, lines: Sequence[tuple[str, tuple[int, int, int]]]) -> Picture:
    """The picture with lines of text to its left."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[:2]
    page = Image.new("RGB", (COLUMN + width, height), PAPER)
    page.paste(Image.fromarray(picture), (COLUMN, 0))
    draw, font, y = ImageDraw.Draw(page), ImageFont.load_default(size=15), 12
    for text, color in lines:
        for row in textwrap.wrap(text, 19) or [""]:
            draw.text((10, y), row, fill=color, font=font)
            y += 20
    return np.asarray(page)


def save_film(path: Path, frames: Sequence[Picture], rate: float) -> None:
    """Writes a film; the kind follows from the end of the name.

    Args:
        path: `.webm`, `.mp4` or `.gif`; an older file is replaced.
        frames: All of one even height and width.
        rate: Frames per second.

    Raises:
        ConfigError: The name ends otherwise, or the package that writes films is missing.
    """
    require_kind(path)
    codec = CODECS[path.suffix]
    if codec is None:
        write_durably(path, encode_gif(frames, rate))
        return
    import av

    written, (encoder, colours, options) = io.BytesIO(), codec
    with av.open(written, "w", format=path.suffix[1:]) as container:
        stream = container.add_stream(encoder, rate=Fraction(rate).limit_denominator(1000), options=options)
        assert isinstance(stream, av.VideoStream), "a codec of CODECS"
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = colours
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    write_durably(path, written.getvalue())


def encode_gif(frames: Sequence[Picture], rate: float) -> bytes:
    """The film as a GIF; a picture lasts a whole number of hundredths of a second, and all are in time on the whole."""
    from PIL import Image

    some = np.concatenate(frames[:: max(1, len(frames) // 8)]).reshape(-1, 3)
    colours = np.unique(some & 0xF8, axis=0)  # each once: a small thing keeps its colour beside a large background
    palette = Image.fromarray(colours[None]).quantize(GIF_COLOURS)
    pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    ends = np.round(100.0 / rate * np.arange(1, len(frames) + 1)).astype(int)
    durations = [10 * int(each) for each in np.diff(ends, prepend=0)]
    written = io.BytesIO()
    pictures[0].save(written, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return written.getvalue()


def require_kind(path: Path) -> None:
    """Refuses a film that nobody here can write, before it is played.

    Raises:
        ConfigError: The name ends otherwise, or the package that writes films is missing.
    """
    if path.suffix not in CODECS:
        raise ConfigError(f"--out: expected a name that ends in {', '.join(CODECS)}, got '{path.name}'; rename it")
    if find_spec("av") is None:
        raise ConfigError("video: expected the package av, got none installed; run pip install 'supple[video]'")


def choose_task(tasks: Sequence[Task], name: str | None) -> int:
    """The index of a task by its name; the first without one.

    Raises:
        SourceError: There is no task of this name.
    """
    names = [task.name for task in tasks]
    if name is None:
        return 0
    if name not in names:
        raise SourceError(f"--task: expected one of {', '.join(names)}, got {name!r}; choose one")
    return names.index(name)
