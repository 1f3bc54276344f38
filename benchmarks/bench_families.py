"""How fast the array robots of the meta-RL families step: 256 rows on one core, resets of ended rows included.

Prints a JSON list of records (schema: `benchmarks/results/records.py`): row-steps per second of processor time, over
rounds in which every family takes its turn; `low` and `high` bound the middle 95 % of the rounds. Actions are drawn
before the clock starts.

    OMP_NUM_THREADS=1 python benchmarks/bench_families.py
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recording import print_records

from supple.robots.bandits import BernoulliBanditBatch, GaussianBanditBatch, draw_bernoulli_goals, draw_gaussian_goals
from supple.robots.gridnavi import GridNaviBatch, draw_gridnavi_goals
from supple.robots.krazy_boards import KRAZY_PRESETS
from supple.robots.krazy_world import KrazyBatch
from supple.robots.movement_bandits import MovementBanditBatch, draw_movement_bandit_goals
from supple.robots.navigation import (
    NAVIGATION_2D,
    POINT_ROBOT,
    SPARSE_SEMICIRCLE,
    NavigationBatch,
    draw_navigation_goals,
)
from supple.robots.random_mazes import RandomMazeBatch, RandomMazeConfig
from supple.robots.robot import RobotBatch
from supple.robots.tabular import TabularBatch, draw_tabular_goals

ROWS, STEPS, ROUNDS = 256, 400, 7
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_families.py"
Goals = NDArray[np.float32]


def make_families() -> dict[str, tuple[RobotBatch, Goals]]:
    """Each family with a task per row."""
    rng = np.random.default_rng(0)
    boards = np.arange(ROWS, dtype=np.float32)[:, None]
    families: dict[str, tuple[RobotBatch, Goals]] = {
        "bernoulli bandit": (BernoulliBanditBatch(ROWS, episode_steps=100), draw_bernoulli_goals(ROWS, rng)),
        "gaussian bandit": (GaussianBanditBatch(ROWS, episode_steps=100), draw_gaussian_goals(ROWS, rng)),
        "tabular MDP": (TabularBatch(ROWS), draw_tabular_goals(ROWS, rng)),
        "GridNavi": (GridNaviBatch(ROWS), draw_gridnavi_goals(ROWS, rng)),
        "MovementBandits": (MovementBanditBatch(ROWS), draw_movement_bandit_goals(ROWS, rng)),
        "random maze 11": (RandomMazeBatch(RandomMazeConfig(size=11), ROWS), boards),
        "Krazy World 10x10": (KrazyBatch(KRAZY_PRESETS["10x10"], ROWS), boards),
    }
    for variant in (NAVIGATION_2D, POINT_ROBOT, SPARSE_SEMICIRCLE):
        families[variant.name] = (NavigationBatch(variant, ROWS), draw_navigation_goals(variant, ROWS, rng))
    return families


def make_run(robot: RobotBatch, goals: Goals) -> Callable[[], None]:
    """Steps all rows; those whose episode ends begin another."""
    rng = np.random.default_rng(0)
    rows, spec = np.arange(ROWS), robot.spec
    if spec.choices:
        actions = rng.integers(0, len(spec.choices), (STEPS, ROWS, 1)).astype(np.float32)
    else:
        actions = rng.uniform(spec.action.low, spec.action.high, (STEPS, ROWS, *spec.action.shape)).astype(np.float32)

    def run() -> None:
        robot.reset(rows, goals, rng)
        for action in actions:
            step = robot.step(rows, action)
            ended = step.terminated | step.truncated
            if ended.any():
                robot.reset(rows[ended], goals[ended], rng)

    return run


def main() -> None:
    """Measures everything and prints the records."""
    began = time.perf_counter()
    runs = {name: make_run(*family) for name, family in make_families().items()}
    for run in runs.values():
        run()
    rates = np.zeros((ROUNDS, len(runs)))
    for turn in range(ROUNDS):
        for column, run in enumerate(runs.values()):
            start = time.process_time()
            run()
            rates[turn, column] = ROWS * STEPS / (time.process_time() - start)
    records: list[dict[str, Any]] = []
    for column, name in enumerate(runs):
        low, middle, high = (round(float(value)) for value in np.percentile(rates[:, column], [2.5, 50, 97.5]))
        values = {"mean": middle, "low": low, "high": high, "n": ROUNDS}
        records.append({"method": name, "metric": "row_steps_per_cpu_s", "at": {"rows": ROWS}} | values)
    print_records("families", COMMAND, began, records)


if __name__ == "__main__":
    main()
