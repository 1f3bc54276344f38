"""How far skills carry into a maze that they were not learned in: the skill prior alone explores it, with no learner.

Each episode begins at the start of the maze of the tasks and chooses every skill from the prior. `cells` is the number
of free cells that it passes in its 2000 steps. `reached` is the share of episodes that pass within the radius of a test
goal, over the goals. Prints a JSON list of records (schema: `benchmarks/results/records.py`):

    python benchmarks/bench_transfer.py image=runs/image-maze/extract blind=runs/blind-maze/extract
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import print_records

from supple.adapt.eye import open_eyes
from supple.adapt.host.spaces import export_eye
from supple.meta.collect import Seen, collect
from supple.meta.space import SkillSpace
from supple.pipeline.intervals import compute_interval
from supple.robots.family import make_robots
from supple.robots.image_maze import ImageMaze
from supple.robots.maze_picture import CENTRE
from supple.robots.task import goals_of
from supple.skills.checkpoint import load_skill_model

EPISODES = 20
SEED = 0


def explore(folder: Path) -> Iterator[dict[str, Any]]:
    """Records of one skill model, without what all share."""
    model = load_skill_model(folder)
    assert model.robot is not None, "skills of the maze know their robot"
    family = replace(ImageMaze(), images=model.robot.image is not None)
    robot = open_eyes(make_robots(family, EPISODES), export_eye(model, 0))
    generator = torch.Generator().manual_seed(SEED)

    def choose(seen: Seen) -> torch.Tensor:
        return seen.prior.sample(generator)

    test = goals_of(family.tasks().test)
    nowhere = np.full((EPISODES, 2), -1.0, np.float32)  # in the border, so that no episode ends
    rng, device = np.random.default_rng(SEED), torch.device("cpu")
    played = collect(robot, SkillSpace(model), choose, nowhere, rng, device=device, stop_at_goal=False)
    path = played.path.numpy()[..., :2]
    cells = [len({tuple(cell) for cell in np.rint(one - CENTRE).astype(int).tolist()}) for one in path]
    reward, _ = robot.compute_reward(played.path.numpy(), test)  # (R, T, N)
    reached = reward.max(axis=1)
    robot.close()
    tasks = {"tasks": family.tasks().name}
    mean_cells = compute_interval([float(count) for count in cells])
    yield {"metric": "cells", **tasks, **mean_cells._asdict(), "n": EPISODES}
    share = compute_interval([float(value) for value in reached.mean(axis=0)], shares=True)
    yield {"metric": "reached", **tasks, **share._asdict(), "n": EPISODES * len(test)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    began = time.perf_counter()
    pairs = [argument.partition("=") for argument in sys.argv[1:]]
    records = [{"method": name, **record} for name, _, folder in pairs for record in explore(Path(folder))]
    command = "python benchmarks/bench_transfer.py" + "".join(f" {name}=RUN/extract" for name, _, _ in pairs)
    print_records("image-maze-40-prior", command, began, records)
