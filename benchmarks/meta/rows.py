"""Rows of robots for a cell, on as many physics threads as pay."""

import os

from supple.robots.family import RobotFamily
from supple.robots.robot import RobotBatch

MOST_THREADS, ROWS_PER_THREAD = 8, 64


def make_rows(robot: RobotFamily, rows: int) -> RobotBatch:
    """Robots side by side; on their threads results do not depend."""
    # few rows are stepped faster than a second thread wakes up
    return robot.make(rows, max(1, min(len(os.sched_getaffinity(0)), MOST_THREADS, rows // ROWS_PER_THREAD)))
