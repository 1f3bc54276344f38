"""The recurrent updater, PPO and Distral as cells: they run from the command line, and one that is not trained does."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.meta.__main__ import main as bench_meta
from benchmarks.meta.cells import CELLS
from benchmarks.meta.gate_progress import find_reached
from benchmarks.meta.navigation_cells import NAVIGATION_CELLS
from benchmarks.results.collect_meta import load_seeds, make_curve
from benchmarks.results.records import load_records
from supple.meta.baselines.config import PpoConfig
from supple.pipeline.learners import PpoSettings

DEMOS = ("demo-recurrent-updater", "demo-ppo", "demo-distral")


@pytest.mark.parametrize("name", DEMOS)
def test_a_cell_runs_from_the_command_line(name: str, tmp_path: Path) -> None:
    assert bench_meta([name, "--out", str(tmp_path)]) == 0
    records = load_records(tmp_path / name / "records.json")
    ours = [r for r in records if (r.method, r.metric) == (CELLS[name].config.learner.method, "return")]
    assert [record.place for record in ours] == [0, 1]
    (run,) = load_seeds(tmp_path, name, CELLS[name])
    assert len(run.curve) == 4


def test_a_learner_that_is_not_trained_is_evaluated_and_costs_no_environment_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = NAVIGATION_CELLS["demo-ppo"]
    choice = PpoSettings(method="ppo-scratch", config=PpoConfig(hidden=(8,), iterations=0, tasks=2), rollouts=2)
    monkeypatch.setitem(CELLS, "demo-scratch", replace(cell, config=replace(cell.config, learner=choice)))
    assert bench_meta(["demo-scratch", "--out", str(tmp_path)]) == 0
    (run,) = load_seeds(tmp_path, "demo-scratch", CELLS["demo-scratch"])
    assert (run.curve, run.environment_steps, run.reached) == ([], 0.0, None)
    assert len(run.scores["agent"]["return"][0]) == 2


def test_without_a_training_there_is_no_curve_and_no_gate_that_it_reached() -> None:
    assert make_curve([]) == []
    assert find_reached(CELLS["recurrent-updater-2d-navigation"], []) is None


def test_cells_ask_for_what_their_learner_was_trained_for() -> None:
    updater = CELLS["recurrent-updater-2d-navigation"]
    choice = updater.config.learner
    assert choice.rollouts == choice.config.support == 20  # type: ignore[attr-defined]
    assert updater.config.evaluation.adapt_steps == choice.config.rounds  # type: ignore[attr-defined]
    assert [(gate.at_least, gate.place) for gate in updater.gates] == [(-12.0, 1)]
    assert CELLS["ppo-scratch-2d-navigation"].config.learner.iterations == 0
