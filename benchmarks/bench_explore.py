"""How much of an unseen maze the stage `explore` comes to know, beside the skill prior alone.

`cells` is the share of the cells at most 30 moves from the start, among which goals are drawn, that were passed after a
number of episodes of 2000 steps. Prints a JSON list of records (schema: `benchmarks/results/records.py`):

    python benchmarks/bench_explore.py runs/image-maze/extract
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import print_records

from supple.adapt.eye import open_eyes
from supple.adapt.host.spaces import export_eye
from supple.meta.collect import collect
from supple.meta.space import SkillSpace
from supple.pipeline.intervals import compute_interval
from supple.pipeline.settings.explore import ExploreConfig
from supple.pipeline.stages.explore import Explorer, RecordedRobots
from supple.robots.family import make_robots
from supple.robots.image_maze import ImageMaze
from supple.robots.maze_layout import geodesic_distance
from supple.robots.maze_picture import CENTRE
from supple.skills.checkpoint import load_skill_model

AT = (20, 40, 100, 200)
ROWS = 20
SEEDS = (0, 1, 2)


def explore(folder: Path, seed: int, *, returns: bool) -> list[float]:
    """Share of the cells that were passed after each number of episodes of `AT`."""
    model, family = load_skill_model(folder), ImageMaze()
    recorded = RecordedRobots(make_robots(family, ROWS))
    robot, space = open_eyes(recorded, export_eye(model, 0)), SkillSpace(model)
    explorer = Explorer(space, ExploreConfig(enabled=True), seed)
    distance = geodesic_distance(family.layout(), family.start)
    near = (distance >= 0) & (distance <= family.most_moves)
    passed = np.zeros(near.shape, np.bool_)
    nowhere = np.full((ROWS, 2), -1.0, np.float32)  # in the border, so that no episode ends
    rng, device, shares = np.random.default_rng(seed), torch.device("cpu"), []
    for done in range(ROWS, AT[-1] + 1, ROWS):
        explorer.begin_episodes(ROWS)
        collect(robot, space, explorer.choose, nowhere, rng, device=device, stop_at_goal=False)
        episodes = list(recorded.take_episodes(ROWS))
        for episode in episodes:
            cell = np.rint(episode.observation[0, :, :2] - CENTRE).astype(np.int64)
            passed[cell[:, 0], cell[:, 1]] = True
        if returns:
            explorer.learn(episodes)
        if done in AT:
            shares.append(float(passed[near].mean()))
    robot.close()
    return shares


def measure(folder: Path) -> Iterator[dict[str, Any]]:
    """Records, without what all share."""
    for method, returns in (("explore", True), ("prior", False)):
        found = np.array([explore(folder, seed, returns=returns) for seed in SEEDS])
        for episode, values in zip(AT, found.T, strict=True):
            share = compute_interval([float(value) for value in values], shares=True)
            yield {
                "method": method,
                "metric": "cells",
                "at": {"episode": episode},
                **share._asdict(),
                "n": len(SEEDS),
                "seeds": list(SEEDS),
            }


if __name__ == "__main__":
    torch.set_num_threads(1)
    began = time.perf_counter()
    records = [record for folder in sys.argv[1:] for record in measure(Path(folder))]
    print_records("image-maze-40-explore", "python benchmarks/bench_explore.py RUN/extract", began, records)
