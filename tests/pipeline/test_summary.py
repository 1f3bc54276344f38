import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.adapt.contract import Budget
from supple.errors import RunError
from supple.pipeline.intervals import compute_interval
from supple.pipeline.stages.adapt import compute_success, name_stage
from supple.pipeline.summary import MEANINGS, RunFacts, find_commit, load_success, make_summary, make_table


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_an_interval_holds_its_mean_and_stays_within_its_bounds(values: list[float]) -> None:
    interval = compute_interval(values, shares=True)
    assert interval.mean == pytest.approx(np.mean(values))
    assert 0.0 <= interval.low <= interval.mean + 1e-9
    assert interval.mean - 1e-9 <= interval.high <= 1.0
    assert compute_interval(values, shares=True) == interval


def test_an_interval_is_as_wide_as_theory_says() -> None:
    # 100 tasks, half of them solved: the standard error is .05, so 95 % lie within .5 +- .098
    interval = compute_interval([0.0, 1.0] * 50)
    assert interval.low == pytest.approx(0.402, abs=0.011)
    assert interval.high == pytest.approx(0.598, abs=0.011)


def evaluation(episode: int, stage: str, task: str, stochastic: float) -> dict[str, object]:
    goal = [float(ord(task[0]))]  # a digit behind the name is no other goal
    record = {"kind": "evaluation", "stage": stage, "episode": episode, "task": task, "goal": goal}
    return record | {"success_stochastic": stochastic, "success_greedy": 1.0, "n": 5}


def test_success_is_a_mean_over_tasks() -> None:
    records = [
        {"kind": "episode", "episode": 1, "task": "a"},
        evaluation(20, "inferred", "a", 0.2),
        evaluation(20, "inferred", "b", 0.6),
        evaluation(0, "before", "a", 0.0),
        evaluation(0, "before", "b", 0.0),
    ]
    success = compute_success(records)
    shown = [(r["method"], r["metric"], r["at"]["episode"], r["n"]) for r in success]
    assert shown[0] == ("before", "success_stochastic", 0, 10)
    assert shown[2:] == [("inferred", "success_stochastic", 20, 10), ("inferred", "success_greedy", 20, 10)]
    assert success[2]["mean"] == pytest.approx(0.4)
    table = make_table(success).splitlines()
    assert len(table) == 3
    assert table[2].split()[:5] == ["after", "inference", "20", "0.40", "0.01"]  # two tasks tell little


def test_the_return_stands_beside_success_where_it_says_more() -> None:
    """Of a kitchen, where a task may be done in part; in a maze both are the same number."""
    one = evaluation(0, "before", "a", 0.2)
    table = make_table(compute_success([one | {"return_stochastic": 2.4, "return_greedy": 3.0}])).splitlines()
    assert table[0].split()[-3:] == ["greedy", "return", "n"]
    assert table[1].split()[-3:] == ["1.00", "2.40", "5"]
    same = make_table(compute_success([one | {"return_stochastic": 0.2, "return_greedy": 1.0}]))
    assert "return" not in same


def test_a_goal_that_stands_twice_is_one_task() -> None:
    """Under one name or two; four rows of two goals say as much of other goals as two rows."""
    rows = [("a", 0.2), ("a", 0.4), ("b", 0.8), ("b2", 0.6)]
    stochastic, _ = compute_success([evaluation(0, "before", task, share) for task, share in rows])
    once = compute_interval([0.3, 0.7], shares=True)
    assert (stochastic["mean"], stochastic["low"], stochastic["high"]) == pytest.approx(once)
    assert stochastic["n"] == 20


@dataclass
class Place:
    """How far an adaptation has come."""

    episode: int
    episodes: int
    budget: Budget


@pytest.mark.parametrize(
    ("budget", "names"),
    [
        (Budget(episodes=40, exploration_episodes=20), ["before", "explore", "inferred", "finetune", "adapted"]),
        (Budget(episodes=40), ["before", "learning", "learning", "learning", "learned"]),
        (Budget(episodes=20, adapt_steps=1), ["before", "learning", "learning", "learning", "learned"]),
    ],
)
def test_stages_are_named_by_what_the_policy_has_seen(budget: Budget, names: list[str]) -> None:
    places = [Place(episode, 40, budget) for episode in (0, 19, 20, 21, 40)]
    assert [name_stage(place) for place in places] == names  # type: ignore[arg-type]
    assert set(names) <= MEANINGS.keys()


def test_summary_records_have_the_columns_of_results() -> None:
    facts = RunFacts(benchmark="maze", seed=3, tasks="flat-40", command="supple run maze", wall_s=12.34)
    success = compute_success([evaluation(0, "before", "a", 0.25)])
    (record, _) = make_summary(success, facts)
    wanted = {"benchmark", "method", "metric", "at", "mean", "low", "high", "n", "seeds", "tasks", "command", "commit"}
    assert set(record) == wanted | {"wall_s", "machine"}
    assert (record["mean"], record["seeds"], record["wall_s"]) == (0.25, [3], 12.3)


def test_missing_success_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"success\.json: expected a JSON file"):
        load_success(tmp_path)


def test_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert find_commit(tmp_path) == "unknown"
    git("init")
    assert find_commit(tmp_path) == "unknown"
    (tmp_path / "inside").mkdir()
    git("commit", "--allow-empty", "-m", "first")
    assert find_commit(tmp_path) == git("rev-parse", "HEAD")[:10]
    assert find_commit(tmp_path / "inside") == "unknown"  # a package that lies in somebody's repository
    git("worktree", "add", "--detach", str(tmp_path / "tree"))
    assert find_commit(tmp_path / "tree") == git("rev-parse", "HEAD")[:10]
    monkeypatch.setenv("PATH", "")
    assert find_commit(tmp_path) == "unknown"
