"""Records of the first episodes in a new task, from folders of adapt; with known answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import collect_adaptations
from benchmarks.results.collect_adaptations import find_paid, main, make_rows
from benchmarks.results.records import load_records


def make_records(solved: dict[str, int], success: float) -> list[dict[str, Any]]:
    """Three episodes of each task, solved from the given one on, and an evaluation after each."""
    episodes = [
        {"kind": "episode", "task": task, "episode": k, "success": k >= first}
        for k in (1, 2, 3)
        for task, first in solved.items()
    ]
    shares = {"success_stochastic": success, "success_greedy": 1.0}
    evaluations = [{"kind": "evaluation", "task": t, "episode": k, **shares} for k in (1, 2, 3) for t in solved]
    return episodes + evaluations


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two seeds: one finds a in episode 1 and b in 3, the other b never."""
    made = {"0": make_records({"a": 1, "b": 3}, 0.5), "1": make_records({"a": 2, "b": 9}, 1.0)}
    monkeypatch.setattr(collect_adaptations, "load_adaptation", lambda folder: (int(folder.name), made[folder.name]))
    return [tmp_path / name for name in made]


def test_a_task_is_found_with_its_first_solved_episode() -> None:
    """a from episode 1 on, b from 3."""
    records = make_records({"a": 1, "b": 3}, 0.0)
    assert [find_paid(records, most) for most in (1, 2, 3)] == [[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]


def test_shares_are_means_over_seeds_and_tasks(folders: list[Path]) -> None:
    """Found after 1, 2, 3 episodes: 1, 2 and 3 of the 4; success .75 at each."""
    rows, seeds = make_rows(folders)
    assert seeds == [0, 1]
    found = {row["at"]["few_episodes"]: row["mean"] for row in rows if row["metric"] == "found"}
    assert found == {1: 0.25, 2: 0.5, 3: 0.75}  # nothing is said of episodes that were not played
    success = [row for row in rows if row["metric"] == "success_stochastic"]
    assert [(row["mean"], row["n"]) for row in success] == [(0.75, 4)] * 3
    assert all(row["low"] <= row["mean"] <= row["high"] for row in rows)


def test_records_of_the_same_method_are_replaced_and_others_stay(folders: list[Path], tmp_path: Path) -> None:
    """Twice the same gives the same file; another axis of the method is left alone."""
    out = tmp_path / "maze.json"
    other = {"benchmark": "m", "method": "x", "metric": "y", "at": {"episode": 3}, "mean": 1.0, "tasks": "t"}
    out.write_text(json.dumps([{**other, "command": "c", "commit": "d", "machine": "e"}]))
    given = [
        *map(str, folders),
        "--benchmark",
        "m",
        "--method",
        "x",
        "--tasks",
        "t",
        "--command",
        "c",
        "--out",
        str(out),
    ]
    assert main(given) == 0
    once = out.read_text()
    assert main(given) == 0
    assert out.read_text() == once
    assert load_records(out)[0].axis == "episode"


def test_the_explorer_is_a_method_of_its_own(tmp_path: Path) -> None:
    """It has a found-rate alone, which never falls."""
    out = tmp_path / "maze.json"
    given = ["--benchmark", "m", "--method", "explorer-reference", "--tasks", "t", "--command", "c", "--out", str(out)]
    assert main([*given, "--explorer", "60"]) == 0
    means = [record.mean for record in load_records(out)]
    assert means == sorted(means)  # type: ignore[type-var]
    assert main(given) == 2
