"""Whether a rehearsal tells how many episodes a robot will need: predicted against real, in the maze of the demo.

    supple run demo --seed 0 --out runs/demo
    python benchmarks/bench_rehearsal.py runs/demo --keep runs/rehearsal > docs/results/rehearsal.json

Every cell of the maze that no train task has is a task: half of them are the reference that the predictor knows, as the
records of an adaptation in simulation; the other half are held out, and only their first n episodes are shown. The
draw of the halves is repeated. What was played is kept in a folder, and a run that was killed goes on there.
"""

import dataclasses
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import tyro

from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.bundle_folder import find_bundle
from supple.adapt.host.hosts import make_hosted
from supple.adapt.loop import Adapter
from supple.adapt.runtime_agent import RandomNoise
from supple.pipeline.stages.adapt import find_robot_of
from supple.robots.family import make_robots
from supple.robots.maze_family import Maze
from supple.robots.maze_layout import geodesic_distance, start_cell
from supple.robots.maze_tasks import random_tasks
from supple.robots.robot import Float, RobotBatch, Rows, StepRows, WrappedRobots
from supple.robots.task import Task

EPISODES = 60
LOGGED = 10
"""First episodes of each task whose steps are kept."""
LEAST_MOVES = 2
"""From the start to a goal, as the family's own tasks have it."""
CHUNK = 9
"""Tasks side by side."""


class Recorder(WrappedRobots):
    """Keeps what each row saw, was told and was paid."""

    def __init__(self, robot: RobotBatch) -> None:
        super().__init__(robot)
        self.begin()

    def begin(self) -> None:
        """Forgets the last episode."""
        steps, spec = self.spec.episode_steps, self.spec
        self.observation = np.zeros((self.rows, steps + 1, *spec.observation.shape), np.float32)
        self.action = np.zeros((self.rows, steps, *spec.action.shape), np.float32)
        self.reward = np.zeros((self.rows, steps), np.float32)
        self.length = np.zeros(self.rows, np.int64)

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        self.begin()
        self.observation[rows, 0] = now = super().reset(rows, goals, rng)
        return now

    def step(self, rows: Rows, action: Float) -> StepRows:
        at = self.length[rows]
        step = super().step(rows, action)
        self.action[rows, at], self.reward[rows, at] = action, step.reward
        self.observation[rows, at + 1] = step.observation
        self.length[rows] += 1
        return step


def find_cells(family: Maze) -> tuple[Task, ...]:
    """All tasks that are no train tasks, in a random order."""
    train, layout = {task.goal for task in family.tasks().train}, family.layout()
    count = int((geodesic_distance(layout, start_cell(layout)) >= LEAST_MOVES).sum())
    cells = random_tasks(layout, 1, count - 1, 0, min_moves=LEAST_MOVES)
    return tuple(task for task in (*cells.train, *cells.test) if task.goal not in train)


def play_tasks(bundle: Bundle, family: Maze, tasks: tuple[Task, ...], seed: int, path: Path) -> None:
    """Adapts to some tasks and keeps returns and successes of all episodes, and the steps of the first ones."""
    if path.exists():
        return
    torch.manual_seed(seed)
    if "seed" in bundle.contract.learner:
        bundle = bundle.with_settings({"seed": seed})
    robot, rng = Recorder(make_robots(family, len(tasks))), np.random.default_rng(seed)
    agent = make_hosted(bundle, RandomNoise(rng), device=torch.device("cpu"))
    adapter = Adapter(
        *(agent, robot, tasks, bundle.contract.budget, EPISODES, rng),
        make_fork=bundle.make_agent,
        off_policy=bundle.kind.off_policy,
    )
    found: dict[str, list[np.ndarray]] = {"returns": [], "success": []}
    logged: dict[str, list[np.ndarray]] = {"observation": [], "action": [], "reward": [], "length": []}
    for episode in range(EPISODES):
        adapter.play()
        if episode < LOGGED:
            for name, values in logged.items():
                values.append(getattr(robot, name).copy())
        records = adapter.learn()
        found["returns"].append(np.array([record["return"] for record in records]))
        found["success"].append(np.array([record["success"] for record in records]))
    robot.close()
    arrays = {name: np.stack(values, axis=1) for name, values in (found | logged).items()}
    part = path.with_name(f".{path.name}.part.npz")
    np.savez_compressed(part, goal=np.array([task.goal for task in tasks]), **arrays)
    os.replace(part, path)


def play_all(run: Path, keep: Path, seeds: int, part: int, parts: int) -> None:
    """All cells, in pieces that are kept; a part of the pieces where several processes share them."""
    bundle = load_bundle(find_bundle(run))
    family = find_robot_of(bundle, None).family
    assert isinstance(family, Maze), "a bundle of the demo"
    cells = find_cells(family)
    keep.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for start in range(part * CHUNK, len(cells), parts * CHUNK):
            began = time.perf_counter()
            play_tasks(bundle, family, cells[start : start + CHUNK], seed, keep / f"{seed}-{start:03}.npz")
            print(
                f"seed {seed}: {min(start + CHUNK, len(cells))} of {len(cells)} tasks, "
                f"{time.perf_counter() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )


@dataclasses.dataclass(frozen=True)
class Options:
    """Arguments."""

    run: tyro.conf.Positional[Path]
    """Folder of `supple run demo`."""
    keep: Path = Path("runs/rehearsal")
    """Folder for what was played."""
    seeds: int = 1
    """Adaptations of each task."""
    part: int = 0
    """Which part of the pieces this process plays."""
    parts: int = 1
    """Processes that share them."""


if __name__ == "__main__":
    options = tyro.cli(Options)
    torch.set_num_threads(1)
    play_all(options.run, options.keep, options.seeds, options.part, options.parts)
