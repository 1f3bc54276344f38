"""Scripted play data of the kitchen: which subtasks succeed, which follow each other, how long it takes.

    python -m benchmarks.kitchen_play > kitchen-play.json

They are the records `kitchen-play` of docs/results/kitchen.json, which holds others, too: put them in the place of
those, then `make results`.

It makes what `supple generate --robot kitchen --seed 0` makes, until `--episodes` are complete, and counts also those
that are not.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from supple.robots.kitchen import LENGTH, RADIUS, SUBTASKS
from supple.robots.kitchen_family import Kitchen
from supple.robots.kitchen_play import DemonstrationConfig, Episode, demonstrate, draw_orders, make_demonstrated
from supple.robots.task import goals_of

from .recording import print_records

ROWS = 100
NAMES = [subtask.name for subtask in SUBTASKS]


def main() -> None:
    """Prints the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=600, help="complete ones")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    began, cpu = time.perf_counter(), time.process_time()
    episodes: list[Episode] = []
    while sum(episode.paid == LENGTH for episode in episodes) < options.episodes:
        episodes += make_round(len(episodes) // ROWS, options.threads)
        print(f"{len(episodes)} episodes, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    took = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    command = f"python -m benchmarks.kitchen_play --episodes {options.episodes} --threads {options.threads}"
    print_records("kitchen-play", command, began, describe(episodes, took))


def make_round(number: int, threads: int) -> list[Episode]:
    """One round of demonstrations, complete or not."""
    config = DemonstrationConfig()
    rng = np.random.default_rng(0)
    held_out = goals_of(Kitchen().tasks().test)
    for _ in range(number + 1):
        orders = draw_orders(ROWS, held_out, rng)
    robots = make_demonstrated(config, ROWS, threads=threads)
    return demonstrate(robots, orders, config, [(0, number, row) for row in range(ROWS)])


def describe(episodes: list[Episode], took: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Records of success, length, cost and transitions."""
    complete = [episode for episode in episodes if episode.paid == LENGTH]
    tried, done = Counter[int](), Counter[int]()
    for episode in episodes:
        for subtask, success in find_attempts(episode):
            tried[subtask] += 1
            done[subtask] += success
    for index, name in enumerate(NAMES):
        yield {"method": "scripted", "metric": "success", "at": {"subtask": name}} | share(done[index], tried[index])
    yield {"method": "scripted", "metric": "complete_in_280_steps"} | share(len(complete), len(episodes))
    steps = [episode.chunk.reward.shape[1] for episode in complete]
    values = {"steps_per_complete_episode": float(np.mean(steps)), **took}
    values |= {f"{name}_per_complete_episode": value / len(complete) for name, value in took.items()}
    for metric, value in values.items():
        yield {"method": "scripted", "metric": metric, "mean": round(value, 3), "n": len(complete)}
    orders = [episode.chunk.infos["goal"][0, 0].astype(int).tolist() for episode in complete]
    pairs = Counter((a, b) for order in orders for a, b in pairwise(order))
    firsts = Counter(order[0] for order in orders)
    for target, name in enumerate(NAMES):
        yield {"method": "start", "metric": "transitions", "at": {"to": name}, "mean": firsts[target], "n": len(orders)}
    for source, before in enumerate(NAMES):
        for target, name in enumerate(NAMES):
            count = {"mean": pairs[source, target], "n": len(orders)}
            yield {"method": before, "metric": "transitions", "at": {"to": name}} | count


def find_attempts(episode: Episode) -> Iterator[tuple[int, bool]]:
    """Which subtasks were tried, and whether they were complete in the end; not what the time limit cut off."""
    infos = episode.chunk.infos
    order, doing, qpos = infos["goal"][0, 0].astype(int), infos["doing"][0, :, 0], infos["qpos"][0]
    cut = episode.chunk.reward.shape[1] == Kitchen().episode_steps
    for place, index in enumerate(order.tolist()):
        steps = np.flatnonzero(doing == place)
        if not len(steps):
            continue
        subtask = SUBTASKS[index]
        away = np.linalg.norm(qpos[:, list(subtask.columns)] - np.array(subtask.goal), axis=1)
        success = bool(away[steps[-1]] < RADIUS)
        if success or not (cut and steps[-1] == len(doing) - 1):
            yield index, success


def share(successes: int, trials: int) -> dict[str, Any]:
    """A share with its 95 % interval (Wilson, 1927)."""
    z, part = 1.96, successes / trials
    centre = (part + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(part * (1 - part) / trials + z * z / (4 * trials * trials))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"mean": round(part, 4), "low": round(low, 4), "high": round(high, 4), "n": trials}


if __name__ == "__main__":
    main()
