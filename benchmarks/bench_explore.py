"""How much of an unseen maze the stage `explore` comes to know, beside the skill prior alone.

Each argument is a method and a folder of `explore`, one for each seed. With as many rows as episodes there is no map to
return by, and the skill prior explores alone. `near` is the share of cells at most 30 moves from the start, among which
goals are drawn, that was passed, and `often` the share that one of 100 episodes passes or more. `cells` is the share of
all cells that can be reached. Prints a JSON list of records (schema: `benchmarks/results/records.py`):

    supple explore runs/image-maze/extract --robot image-maze --rows 400 --out runs/prior
    python benchmarks/bench_explore.py explore=runs/image-maze/explore prior=runs/prior
"""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from recording import print_records

from supple.pipeline.intervals import compute_interval
from supple.pipeline.keys import load_record
from supple.pipeline.stages.generate import NAME
from supple.robots.image_maze import ImageMaze
from supple.robots.maze_layout import geodesic_distance
from supple.robots.maze_picture import CENTRE

AT = (20, 100, 200, 400)
OFTEN = 0.01
"""Least share of the episodes that pass a cell that is passed often."""


def count_passes(folder: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Of each cell the number of episodes that passed it, after each number of episodes of `AT`."""
    with h5py.File(folder / NAME) as file:
        place = np.rint(file["observations"][:, :2] - CENTRE).astype(np.int64)
        ends = np.flatnonzero(file["timeouts"][:]) + 1
    passes = np.zeros(shape, np.int64)
    for number, episode in enumerate(np.split(place, ends[:-1]), start=1):
        x, y = np.unique(episode, axis=0).T
        passes[x, y] += 1
        if number in AT:
            yield passes.copy()


def measure(method: str, folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Records of one method, without what all share."""
    family = ImageMaze()
    distance = geodesic_distance(family.layout(), family.start)
    near, reachable = (distance >= 0) & (distance <= family.most_moves), distance >= 0
    found = [list(count_passes(folder, near.shape)) for folder in folders]
    seeds = [int(load_record(folder)["fields"]["seed"]) for folder in folders]
    for episodes, counts in zip(AT, zip(*found, strict=True), strict=True):
        for metric, where, least in (
            ("near", near, 1),
            ("often", near, OFTEN * episodes),
            ("cells", reachable, 1),
        ):
            shares = [float((passes[where] >= least).mean()) for passes in counts]
            interval = compute_interval(shares, shares=True)
            facts = {"at": {"episode": episodes}, "n": len(shares), "seeds": seeds, "tasks": family.tasks().name}
            yield {"method": method, "metric": metric, **facts, **interval._asdict()}


if __name__ == "__main__":
    began = time.perf_counter()
    given: dict[str, list[Path]] = {}
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        given.setdefault(name, []).append(Path(path))
    records = [record for name, paths in given.items() for record in measure(name, paths)]
    command = "python benchmarks/bench_explore.py" + "".join(f" {name}=RUN/explore" for name in given)
    print_records("image-maze-40-explore", command, began, records)
