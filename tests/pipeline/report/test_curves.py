from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supple.pipeline.intervals import compute_wilson
from supple.pipeline.report.curves import (
    Z95,
    compute_adaptation,
    find_meta_curves,
    make_adapt_plot,
    make_meta_plot,
    pool_success,
)
from supple.pipeline.report.measure import find_results
from supple.pipeline.report.run_folder import load_run


def test_long_curves_are_pooled() -> None:
    at = np.arange(1.0, 121.0)
    curve = pool_success(at, (at % 2), trials=10)
    assert len(curve.at) == 60
    assert curve.at[0] == 1.5  # epochs 1 and 2
    assert (curve.mean == 0.5).all()
    low, _ = compute_wilson(np.array([0.5]), np.array([20.0]), Z95)  # 2 epochs of 10 episodes
    assert curve.low == pytest.approx(np.full(60, low[0]))


def test_adaptation_curve_averages_tasks_before_episodes() -> None:
    records = [
        {"episode": episode, "task": task, "goal": [float(ord(task))], "success": success}
        for task, successes in (("a", (0, 0, 1, 1)), ("b", (1, 1, 1, 1)))
        for episode, success in enumerate(successes, start=1)
    ]
    curve = compute_adaptation(records, points=2)
    assert curve.at.tolist() == [1.5, 3.5]
    assert curve.mean.tolist() == [0.5, 1.0]
    # two tasks at 0 and 1: the bootstrap of their mean reaches both ends; at 1 and 1 it has no width
    # at first a share of 0 and one of 1: a variance of .25, that of one trial; then both are 1. q = t(.975, 1) = 12.706
    assert curve.low.tolist() == pytest.approx([0.0015, 0.0122], abs=1e-4)
    assert curve.high.tolist() == pytest.approx([0.9985, 1.0], abs=1e-4)


def test_returns_are_averaged_in_the_place_of_success() -> None:
    """Of two tasks with one name, as a file of goals may have them."""
    records = [
        {"episode": 1, "task": "a", "goal": [goal], "return": value} for goal, value in ((1.0, -3.0), (2.0, -1.0))
    ]
    curve = compute_adaptation(records, "return")
    assert curve.mean.tolist() == [-2.0]
    # a standard error of 1, and 12.7062 of them with one degree of freedom
    assert (curve.low[0], curve.high[0]) == pytest.approx((-14.7062, 10.7062), abs=1e-4)


def test_meta_training_shows_success_where_it_was_told_else_returns(tiny_run: Path) -> None:
    stage = load_run(tiny_run).stages["meta-train"]
    assert [curve.metric for curve in find_meta_curves(stage)] == ["success_explore", "success_posterior"]
    assert [curve.trials for curve in find_meta_curves(stage)] == [3, 3]  # an episode of each of 3 tasks
    untold = [{k: v for k, v in record.items() if not k.startswith("success")} for record in stage.metrics]
    plot = make_meta_plot(replace(stage, metrics=untold))
    assert plot is not None
    assert "Return of an episode on the train tasks" in plot.svg
    assert "Wilson" not in plot.caption
    other = [
        {"step": 1, "environment_steps": 10, "return_train": 2.5},
        {"step": 2, "environment_steps": 20, "return_train": 3.0},
    ]
    fields = {"config": {"tasks": stage.config["tasks"], "meta_train": {"learner": "rl2"}}}
    plot = make_meta_plot(replace(stage, metrics=other, fields=fields))
    assert plot is not None
    assert "return train 3." in plot.svg
    assert make_meta_plot(replace(stage, metrics=[])) is None


def test_adaptation_of_a_robot_that_tells_no_success_is_drawn_as_returns(tiny_run: Path) -> None:
    stage = load_run(tiny_run).stages["adapt"]
    assert make_adapt_plot(replace(stage, metrics=[]), find_results([])) is None
    untold = [{k: v for k, v in record.items() if k != "success"} for record in stage.metrics]
    evaluated = {
        "metric": "return",
        "method": "before",
        "at": {"episode": 0},
        "mean": -5.0,
        "low": -6.0,
        "high": -4.0,
        "n": 8,
    }
    plot = make_adapt_plot(replace(stage, metrics=untold), find_results([evaluated]))
    assert plot is not None
    assert "return of an episode" in plot.svg
    assert "success" not in plot.svg
