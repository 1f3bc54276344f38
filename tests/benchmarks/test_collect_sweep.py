"""Presets of figure 6 differ in their tasks alone; sweeps are collected, some beside the published curves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.results.collect_sweep import BENCHMARKS, main
from benchmarks.results.records import load_records
from benchmarks.task_distributions import MAZE, PRESETS
from supple.pipeline.learners import SimplSettings, SpirlSettings
from supple.pipeline.verbs.run import find_preset

from .results.test_collect_results import write_run

FILE = Path(__file__).parents[2] / "benchmarks" / "task_distributions.py"


def test_presets_differ_in_tasks_and_learner_alone() -> None:
    first = PRESETS["tasks-40"]
    for preset in PRESETS.values():
        assert replace(preset, robot=first.robot, learner=first.learner) == first
        assert replace(preset.robot, task_set="auto") == MAZE.robot
    assert isinstance(first.learner, SimplSettings)
    assert first.learner.config.epochs * 4 == MAZE.learner.config.epochs  # type: ignore[attr-defined]
    assert not first.map.enabled


def test_each_preset_is_collected_once() -> None:
    ours = [benchmark.methods for benchmark in BENCHMARKS.values() if benchmark.file == FILE.name]
    methods = {name: method for one in ours for name, method in one.items()}
    assert methods.keys() == PRESETS.keys()
    kinds = {"simpl": SimplSettings, "spirl": SpirlSettings}
    assert all(type(PRESETS[name].learner) is kinds[method] for name, method in methods.items())


def test_all_presets_have_the_built_in_maze_so_that_skills_can_be_taken_over() -> None:
    choices = [find_preset(f"{FILE}:{name}").robot for name in PRESETS]
    assert {choice.reference for choice in choices} == {"maze"}
    assert all(choice.record_without_tasks == choices[0].record_without_tasks for choice in choices)


def test_a_sweep_becomes_records_beside_those_of_figure_6(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, out = tmp_path / "sweep", tmp_path / "task-distributions.json"
    for seed in (0, 1):
        write_run(sweep / f"tasks-40-seed{seed}", seed)
    write_run(sweep / "top-to-bottom-seed0", 0, tasks="narrow-bottom")
    (sweep / "tasks-10-seed0").mkdir()
    assert main([str(sweep), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "maze-train-tasks tasks-40: 2 finished runs" in said
    assert "maze-train-tasks tasks-10: 0 finished runs" in said
    load_records(out)
    rows = json.loads(out.read_text())
    found = {(r["benchmark"], r["method"], r["tasks"]) for r in rows}
    assert found == {
        ("maze-train-tasks", "simpl", "flat-40"),
        ("maze-train-tasks", "spirl-published", "flat-40"),
        ("maze-train-tasks", "simpl-fig6a-published", "flat-40"),
        ("maze-alignment", "simpl", "narrow-bottom"),
        ("maze-alignment", "simpl-published", "narrow-bottom"),
        ("maze-alignment", "spirl-published", "narrow-bottom"),
    }
    (ours,) = (
        r for r in rows if (r["method"], r["tasks"], r["metric"], r["at"])
        == ("simpl", "flat-40", "success_stochastic", {"episode": 20})
    )  # fmt: skip
    assert (ours["mean"], ours["seeds"], ours["n"]) == (pytest.approx(0.35), [0, 1], 4)  # .2, .4, .3, .5
    assert ours["command"] == "supple sweep benchmarks/task_distributions.py:tasks-40 --seeds 0 1"
    assert {"episode"} == {axis for row in rows for axis in row["at"]}
    assert main([str(tmp_path / "nothing"), "--out", str(tmp_path)]) == 2
    assert "expected a finished run of task_distributions.py, ablations.py, got none" in capsys.readouterr().err


def test_a_sweep_of_ablations_has_a_method_for_each_preset(tmp_path: Path) -> None:
    for preset in ("half", "no-relabelling"):
        write_run(tmp_path / f"{preset}-seed0", 0)
    assert main([str(tmp_path), "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "ablations.json").read_text())
    assert {row["method"] for row in rows} == {"half", "no-relabelling"}
    assert {row["benchmark"] for row in rows} == {"maze-ablations"}
    assert not (tmp_path / "task-distributions.json").exists()
