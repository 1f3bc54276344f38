"""Whether a rehearsal tells how many episodes a robot will need: predicted against real, in the maze of the demo.

    supple run demo --seed 0 --out runs/demo
    python benchmarks/bench_rehearsal.py runs/demo --keep runs/rehearsal > docs/results/rehearsal.json

Every cell of the maze that no train task has is a task: half of them are the reference that the predictor knows, as the
records of an adaptation in simulation; the other half are held out, and only their first n episodes are shown. The
draw of the halves is repeated. What was played is kept in a folder, and a run that was killed goes on there.

    python benchmarks/bench_rehearsal.py --records runs/validation --name rehearsal-maze

judges the same on recorded adaptations of other runs, which decided nothing in the rule: folders of `supple adapt`, one
for each seed. Nothing is played.
"""

import dataclasses
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
from recording import print_records
from scipy.stats import spearmanr

from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.bundle_folder import find_bundle
from supple.adapt.host.hosts import make_hosted
from supple.adapt.loop import Adapter
from supple.adapt.runtime_agent import RandomNoise
from supple.pipeline.intervals import compute_interval
from supple.pipeline.replay.episodes_needed import find_needed, rank_bundles
from supple.pipeline.replay.rehearsal import Reference, calibrate_after, load_reference, predict_after
from supple.pipeline.stages.adapt import change_settings, find_robot_of
from supple.robots.family import make_robots
from supple.robots.maze_family import Maze
from supple.robots.maze_layout import geodesic_distance, start_cell
from supple.robots.maze_tasks import random_tasks
from supple.robots.robot import Float, RobotBatch, Rows, StepRows, WrappedRobots
from supple.robots.task import Task

COMMAND = "python benchmarks/bench_rehearsal.py"
EPISODES, STEADY = 60, 3
SHOWN = (0, 1, 2, 5, 10)
SPLITS = 40
"""Draws of which tasks are held out."""
BLIND = ('search="blind"', "keep_searching=false", "exploration_episodes=10")
"""Settings of the other learner, which does not direct its search."""
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


def play_all(run: Path, keep: Path, settings: tuple[str, ...], seeds: int, part: int, parts: int) -> None:
    """All cells, in pieces that are kept; a part of the pieces where several processes share them."""
    bundle = change_settings(load_bundle(find_bundle(run)), settings)
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


Goal = tuple[float, ...]


class Played(NamedTuple):
    """What all adaptations of one learner gave: D adaptations, E episodes, L logged ones."""

    goal: np.ndarray
    """Shape (D, 2)."""
    returns: np.ndarray
    """Shape (D, E)."""
    success: np.ndarray
    """Shape (D, E)."""


def load_played(keep: Path) -> Played:
    """Of all seeds."""
    files = [np.load(path) for path in sorted(keep.glob("*.npz"))]
    return Played(*(np.concatenate([file[name] for file in files]) for name in Played._fields))


def split(played: Played, rng: np.random.Generator) -> tuple[Reference, np.ndarray, np.ndarray]:
    """The reference, the episodes that each adaptation needed, and which are held out; whole tasks are drawn."""
    goals = np.unique(played.goal, axis=0)
    known = goals[rng.permutation(len(goals))[: len(goals) // 2]]
    inside = (played.goal[:, None] == known[None]).all(axis=2).any(axis=1)
    told = [tuple(goal) for goal in played.goal[inside].tolist()]
    reference = Reference(
        tuple(map(str, told)), tuple(told), played.returns[inside].astype(np.float64), played.success[inside]
    )
    return reference, find_needed(played.success, STEADY), np.flatnonzero(~inside)


def judge(played: Played, seeds: list[int]) -> list[dict[str, Any]]:
    """Predicted against real number of episodes, after n of them; means over tasks with their 95 % intervals."""
    records: list[dict[str, Any]] = []
    for count in SHOWN:
        covered, error, plain, width, reached = (defaultdict[Goal, list[float]](list) for _ in range(5))
        ranks = []
        for draw in range(SPLITS):
            reference, needed, held = split(played, np.random.default_rng([draw, 1]))
            calibration, before = (calibrate_after(reference, one, STEADY) for one in (count, 0))
            pairs = []
            for index in held.tolist():
                if needed[index] <= count - STEADY + 1:
                    continue  # the log shows it
                told = predict_after(
                    reference, calibration, played.success[index], played.returns[index], count, STEADY
                )
                usual = predict_after(reference, before, played.success[index], played.returns[index], 0, STEADY)
                real, task = int(needed[index]), tuple(played.goal[index].tolist())
                covered[task].append(float(told.low <= real <= told.high))
                error[task].append(abs(told.median - real))
                plain[task].append(abs(max(usual.median, count - STEADY + 2) - real))
                width[task].append(told.high - told.low)
                within = played.success.shape[1]
                reached[task].append((told.reached - float(real <= within)) ** 2)
                mean = float(told.weights @ find_needed(reference.success, STEADY))
                pairs.append((mean, real))
            # every prediction from 0 episodes is the same, and ranks nothing
            if len({mean for mean, _ in pairs}) > 1 and len({real for _, real in pairs}) > 1:
                ranks.append(float(spearmanr(*zip(*pairs, strict=True)).statistic))
        common = {"method": "rehearsal", "at": {"seen": f"{count} episodes seen"}, "n": len(covered), "seeds": seeds}
        metrics = {
            "covered by the 90 % interval": (covered, True),
            "error of the median, episodes": (error, False),
            "error without what was seen, episodes": (plain, False),
            "width of the interval, episodes": (width, False),
            "Brier score of being reached": (reached, False),
        }
        for metric, (values, shares) in metrics.items():
            found = compute_interval([float(np.mean(one)) for one in values.values()], shares=shares)
            records.append({**common, "metric": metric, **found._asdict()})
        if ranks:
            low, high = np.quantile(ranks, [0.025, 0.975]).tolist()
            records.append(
                {**common, "metric": "rank correlation of predicted and real", "mean": float(np.mean(ranks))}
                | {"low": low, "high": high}
            )
    return records


def judge_choice(first: Played, second: Played, seeds: list[int]) -> list[dict[str, Any]]:
    """How often the bundle that the ranking puts first needs fewer episodes on the held-out tasks."""
    right, told = [], []
    for draw in range(SPLITS):
        sides = [split(one, np.random.default_rng([draw, 1])) for one in (first, second)]
        real = [float(needed[held].mean()) for _, needed, held in sides]
        found = {
            label: (
                side[0].goals,
                find_needed(side[0].success, STEADY),
                np.ones(len(side[0].goals)) / len(side[0].goals),
            )
            for label, side in zip(("first", "second"), sides, strict=True)
        }
        best = rank_bundles(found, np.random.default_rng(draw))[0]
        right.append((best.label == "first") == (real[0] < real[1]))
        told.append(best.best)
    # the draws share their tasks, so that they are no independent trials: no interval
    common = {
        "method": "ranking of simpl and blind",
        "at": {"seen": "0 episodes seen"},
        "n": len(first.goal),
        "seeds": seeds,
    }
    return [
        {**common, "metric": "share of draws in which the first one is better", "mean": float(np.mean(right))},
        {**common, "metric": "probability that was told", "mean": float(np.mean(told))},
    ]


def read_records(folders: tuple[Path, ...]) -> Played:
    """What stages of `adapt` recorded, one after the other."""
    found = [load_reference(folder) for folder in folders]
    episodes = min(one.success.shape[1] for one in found)
    return Played(
        np.concatenate([np.array(one.goals) for one in found]),
        np.concatenate([one.returns[:, :episodes] for one in found]),
        np.concatenate([one.success[:, :episodes] for one in found]),
    )


@dataclasses.dataclass(frozen=True)
class Options:
    """Arguments."""

    run: tyro.conf.Positional[Path | None] = None
    """Folder of `supple run demo`."""
    records: tuple[Path, ...] = ()
    """Folders of `supple adapt`, one for each seed, that are judged in the place of the demo."""
    name: str = "rehearsal-records"
    """Of the records' table."""
    tasks: str = "cells without a train task"
    """What the records say that their tasks are."""
    command: str = f"{COMMAND} --records"
    """What the records say that they are made by: the adaptation, and this."""
    keep: Path = Path("runs/rehearsal")
    """Folder for what was played."""
    seeds: int = 2
    """Adaptations of each task by the bundle as it is; the other one has a single adaptation."""
    part: int = 0
    """Which part of the pieces this process plays."""
    parts: int = 1
    """Processes that share them; the last one that ends, called again without this, prints the records."""


def main(options: Options) -> None:
    """Plays what is not there yet, and prints the records."""
    began = time.perf_counter()
    torch.set_num_threads(1)
    if options.records:
        seeds = list(range(len(options.records)))
        records = [{**one, "tasks": options.tasks} for one in judge(read_records(options.records), seeds)]
        print_records(options.name, options.command, began, records)
        return
    assert options.run is not None, "a run or records are named"
    for name, (settings, seeds) in {"simpl": ((), options.seeds), "blind": (BLIND, 1)}.items():
        play_all(options.run, options.keep / name, settings, seeds, options.part, options.parts)
    if options.parts == 1:
        played, blind = (load_played(options.keep / name) for name in ("simpl", "blind"))
        seeds = list(range(options.seeds))
        first = [int((played.goal == goal).all(axis=1).argmax()) for goal in blind.goal]
        once = Played(*(part[first] for part in played))
        records = [*judge(played, seeds), *judge_choice(once, blind, [0])]
        records = [{**one, "tasks": options.tasks} for one in records]
        print_records("rehearsal-demo-maze", f"{COMMAND} {options.run}", began, records)


if __name__ == "__main__":
    main(tyro.cli(Options))
