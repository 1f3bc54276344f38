"""How fast the maze robot steps: 80 rows of `MazeBatch` against a Python loop over 80 MjData; and the planner.

Prints a JSON list of records (schema: `benchmarks/results/records.py`). A round times every method one after the other,
so that a busy machine slows all; `low` and `high` bound the middle 95 % of the rounds, a ratio is the median of the
rounds' ratios. All methods apply the same actions, held for 10 steps, clip actions and velocities, and gather float32
observations.

    OMP_NUM_THREADS=1 python benchmarks/bench_robot.py
"""

import time
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from recording import print_records

from supple.robots.maze import MAX_SPEED, MazeBatch, make_maze_model
from supple.robots.maze_layout import make_layout
from supple.robots.planner import PlannerConfig, play

ROWS, STEPS, ROUNDS = 80, 500, 7
PLANNER_ROWS, PLANNER_STEPS = 100, 1_000_000
PEER = "a Python loop of mj_step over 80 MjData, 1 thread"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_robot.py"
Record = dict[str, Any]
LAYOUT = make_layout(20, 0)


def time_of(action: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def make_batch_run(threads: int, actions: NDArray[np.float32]) -> Callable[[], object]:
    """Steps all rows through `actions`, shape (steps, rows, 2)."""
    batch = MazeBatch(LAYOUT, ROWS, threads=threads, terminate_at_goal=False)
    rows, goals = np.arange(ROWS), np.full((ROWS, 2), 1.0, np.float32)
    batch.reset(rows, goals, np.random.default_rng(0))

    def run() -> None:
        for action in actions:
            batch.step(rows, action)

    return run


def make_loop_run(actions: NDArray[np.float32]) -> Callable[[], object]:
    """The same by one mj_step after the other."""
    model = make_maze_model(LAYOUT)
    simulations = [mujoco.MjData(model) for _ in range(ROWS)]
    rng = np.random.default_rng(0)
    for data in simulations:
        data.qpos[:] = 10.0 + rng.uniform(-0.1, 0.1, 2)

    def run() -> None:
        observation = np.empty((ROWS, 4), np.float32)
        for action in np.clip(actions, -1.0, 1.0):
            for row, data in enumerate(simulations):
                data.ctrl[:] = action[row]
                np.clip(data.qvel, -MAX_SPEED, MAX_SPEED, out=data.qvel)
                mujoco.mj_step(model, data)
                observation[row, :2] = data.qpos
                observation[row, 2:] = data.qvel

    return run


def summarise(values: NDArray[np.float64], digits: int) -> Record:
    """Median and the middle 95 % of the rounds."""
    low, middle, high = (round(float(value), digits) for value in np.percentile(values, [2.5, 50, 97.5]))
    return {"mean": middle, "low": low, "high": high, "n": len(values)}


def measure_stepping() -> list[Record]:
    """Low-level steps per second of each method, and the ratios to the plain loop."""
    draws = np.random.default_rng(1).uniform(-1.0, 1.0, (STEPS // 10, ROWS, 2))
    actions = np.repeat(draws, 10, axis=0).astype(np.float32)
    runs = {
        "batch_2_threads": make_batch_run(2, actions),
        "batch_1_thread": make_batch_run(1, actions),
        "python_loop": make_loop_run(actions),
    }
    for run in runs.values():  # the robots spread over the maze
        run()
    times = np.array([[time_of(run) for run in runs.values()] for _ in range(ROUNDS)])
    common = {"at": {"rows": ROWS}, "metric": "steps_per_s"}
    records = [
        common | {"method": name} | summarise(ROWS * STEPS / times[:, side], 0) for side, name in enumerate(runs)
    ]
    for side, name in enumerate(list(runs)[:2]):
        ratio = round(float(np.median(times[:, -1] / times[:, side])), 2)
        records.append(common | {"method": name, "metric": "steps_per_s against a loop", "ratio": ratio, "peer": PEER})
    return records


def measure_planner() -> list[Record]:
    """Seconds for a million steps of play data, tables and all."""
    config = PlannerConfig()
    episodes = PLANNER_STEPS // (PLANNER_ROWS * config.episode_steps)

    def run() -> None:
        chunks = play(LAYOUT, config, rows=PLANNER_ROWS, seed=0, threads=2)
        for _ in range(episodes):
            next(chunks)

    seconds = round(time_of(run), 2)
    return [
        {"method": "planner", "metric": "s_per_million_steps", "at": {"rows": PLANNER_ROWS}, "mean": seconds, "n": 1}
    ]


def main() -> None:
    """Measures everything and prints the records."""
    began = time.perf_counter()
    records = measure_stepping() + measure_planner()
    print_records("robot", COMMAND, began, records)


if __name__ == "__main__":
    main()
