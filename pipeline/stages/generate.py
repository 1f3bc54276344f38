"""Stage `generate`: play data of the maze robot as a D4RL HDF5 file, `play.hdf5`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ...datasets.d4rl_writer import write_d4rl
from ...errors import ConfigError
from ...robots.planner import PlannerConfig, PlayChunk, play
from ..robot_choice import MazeConfig, make_maze_layout
from ..stage import Stage, Work

NAME = "play.hdf5"
REWARD_RADIUS = 0.5
"""D4RL's maze2d pays 1 within this distance of the planner's goal, cells; the chain itself never reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateConfig:
    """How much play data, and how it is made."""

    steps: int = 1_000_000
    """Low-level steps in all."""
    rows: int = 100
    """Robots that wander side by side; part of the recipe, since each has its own goals."""
    planner: PlannerConfig = field(default_factory=PlannerConfig)

    def __post_init__(self) -> None:
        """Refuses empty data.

        Raises:
            ConfigError: names the field.
        """
        for name in ("steps", "rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"generate.{name}: expected at least 1, got {getattr(self, name)}; ask for more")


def make_generate(maze: MazeConfig, config: GenerateConfig, seed: int) -> Stage:
    """The stage; it has no inputs."""
    return Stage(
        name="generate",
        config={"maze": maze, "generate": config},
        seed=seed,
        module="pipeline/stages/generate.py",
        libraries=("numpy", "mujoco", "h5py"),
        body=partial(generate, maze, config),
    )


def generate(maze: MazeConfig, config: GenerateConfig, work: Work) -> None:
    """Plays until there are enough steps, then writes the file."""
    work.start_afresh()
    chunks: list[PlayChunk] = []

    def collect() -> Iterator[dict[str, float]]:
        rows = min(config.rows, -(-config.steps // config.planner.episode_steps))
        layout = make_maze_layout(maze)
        done = 0
        for chunk in play(layout, config.planner, rows=rows, seed=work.seed, threads=work.machine.threads):
            chunks.append(chunk)
            done += chunk.terminal.size
            yield {"step": min(done, config.steps), "goals_reached": int(chunk.terminal.sum())}
            if done >= config.steps:
                return

    work.consume(collect(), total=config.steps, unit="step")
    write_d4rl(work.folder / NAME, make_arrays(chunks, config.steps))


def make_arrays(chunks: list[PlayChunk], steps: int) -> dict[str, np.ndarray]:
    """The chunks as D4RL arrays of N = `steps` rows, one episode per robot and chunk after the other.

    The robot goes on when its planner reaches a goal and picks another, so no row is terminal: episodes end by timeout,
    as in D4RL's maze2d files.
    """

    def join(name: str) -> np.ndarray:
        parts = [getattr(chunk, name) for chunk in chunks]
        return np.concatenate([part.reshape(-1, *part.shape[2:]) for part in parts])[:steps]

    observation, goal = join("observation"), join("goal")
    timeouts = np.zeros(len(observation), np.bool_)
    timeouts[chunks[0].terminal.shape[1] - 1 :: chunks[0].terminal.shape[1]] = True
    timeouts[-1] = True
    reached = np.linalg.norm(observation[:, :2] - goal, axis=1) <= REWARD_RADIUS
    return {
        "observations": observation,
        "actions": join("action"),
        "rewards": reached.astype(np.float32),
        "terminals": np.zeros(len(observation), np.bool_),
        "timeouts": timeouts,
        "infos/qpos": observation[:, :2],
        "infos/qvel": observation[:, 2:],
        "infos/goal": goal,
    }
