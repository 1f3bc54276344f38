"""Stage `generate`: play data of a simulated robot as a D4RL HDF5 file, `play.hdf5`."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ...datasets.d4rl_writer import IMAGES, write_d4rl
from ...errors import ConfigError, SpecError
from ...robots.family import PlayChunk, Plays
from ...robots.spec import RobotSpec
from ..robots import RobotChoice
from ..settings.generate import GenerateConfig
from ..stage import Stage, Work

NAME = "play.hdf5"


def make_generate(robot: RobotChoice, config: GenerateConfig, seed: int) -> Stage:
    """The stage; it has no inputs.

    Raises:
        ConfigError: the robot makes no play data.
    """
    family = robot.family
    if not isinstance(family, Plays):
        raise ConfigError(
            f"generate: expected a robot that makes play data, got '{robot.reference}'; ingest its own logs, or let "
            "its family inherit Plays"
        )
    return Stage(
        name="generate",
        config={"robot": robot.record_without_tasks, "generate": config},
        seed=seed,
        module="pipeline/stages/generate.py",
        libraries=("numpy", "mujoco", "h5py"),
        body=partial(generate, family, robot.spec, config),
    )


def generate(family: Plays, spec: RobotSpec, config: GenerateConfig, work: Work) -> None:
    """Plays until there are enough steps, then writes the file."""
    work.start_afresh()
    chunks: list[PlayChunk] = []

    def collect() -> Iterator[dict[str, float]]:
        done = 0
        rows = min(config.rows, -(-config.steps // family.play_steps))
        for chunk in family.play(rows, work.seed, work.machine.threads):
            for name in ("observation", "action", "reward"):
                if not (finite := np.isfinite(values := getattr(chunk, name))).all():
                    raise SpecError(
                        f"generate: expected a finite {name} of robot '{spec.name}' in each step of play, got "
                        f"{values[~finite][0]}; correct the robot"
                    )
            chunks.append(chunk)
            done += chunk.reward.size
            yield {"step": min(done, config.steps), "episodes": sum(len(chunk.reward) for chunk in chunks)}
            if done >= config.steps:
                return

    work.consume(collect(), total=config.steps, unit="step")
    write_d4rl(work.folder / NAME, make_arrays(chunks, config.steps), spec, family.play_origin)


def make_arrays(chunks: list[PlayChunk], steps: int) -> Mapping[str, np.ndarray[Any, Any]]:
    """The chunks as D4RL arrays of N = `steps` rows, one episode per robot and chunk after the other.

    Play goes on where a goal is reached, so no row is terminal: episodes end by timeout, as in D4RL's maze2d files.
    """

    def join(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        return np.concatenate([part.reshape(-1, *part.shape[2:]) for part in parts])[:steps]

    ends = np.cumsum([chunk.reward.shape[1] for chunk in chunks for _ in chunk.reward])
    timeouts = np.zeros(ends[-1], np.bool_)
    timeouts[ends - 1] = True
    timeouts = timeouts[:steps]
    timeouts[-1] = True
    infos = {f"infos/{name}": join([chunk.infos[name] for chunk in chunks]) for name in chunks[0].infos}
    return {
        "observations": join([chunk.observation for chunk in chunks]),
        "actions": join([chunk.action for chunk in chunks]),
        "rewards": join([chunk.reward for chunk in chunks]),
        "terminals": np.zeros(len(timeouts), np.bool_),
        "timeouts": timeouts,
        **infos,
        **({} if chunks[0].image is None else {IMAGES: take_images(chunks, steps)}),
    }


def take_images(chunks: list[PlayChunk], steps: int) -> np.ndarray[Any, Any]:
    """The pictures of the first `steps` rows; the chunks lose theirs on the way, so that no picture is held twice."""
    assert chunks[0].image is not None, "the caller looks"
    joined, done = np.empty((steps, *chunks[0].image.shape[2:]), np.uint8), 0
    for place, chunk in enumerate(chunks):
        assert chunk.image is not None, "a robot has a camera or none"
        part = chunk.image.reshape(-1, *chunk.image.shape[2:])[: steps - done]
        joined[done : done + len(part)] = part
        done += len(part)
        chunks[place] = chunk._replace(image=None)
    return joined
