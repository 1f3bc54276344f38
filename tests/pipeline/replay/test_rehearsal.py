"""The section of the rehearsal: what it says, and when it says that it cannot."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supple.errors import ConfigError, RunError
from supple.pipeline.replay.rehearsal import (
    calibrate_after,
    find_records,
    leave_out,
    load_reference,
    predict_after,
    rank_sections,
    rehearse,
)
from supple.pipeline.replay.section import Replay
from supple.pipeline.settings.replay import RehearsalConfig
from supple.robots.task import Task

from .conftest import SPEC, make_bundle

Make = Callable[..., Replay]


def write_records(path: Path, tasks: int, *, success: bool = True) -> Path:
    """Task k is reached at episode 1 + k % 5, and the others before fail."""
    rows = []
    for episode in range(1, 11):
        for task in range(tasks):
            good = episode >= 1 + task % 5
            rows.append(
                {
                    "kind": "episode",
                    "task": f"t{task}",
                    "goal": [float(task)],
                    "episode": episode,
                    "return": float(good),
                    **({"success": good} if success else {}),
                }
            )
        rows.append({"kind": "evaluation", "task": "t0"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_learner():
    """The policy of the conftest as a learner that adapts to nothing: PPO, without a step."""
    bundle = make_bundle()
    contract = replace(bundle.contract, kind="spirl")
    return replace(bundle, contract=contract)


@pytest.fixture
def log(replay_of: Make) -> Replay:
    rng = np.random.default_rng(0)
    episodes = []
    for number in range(6):
        reward = np.zeros(20, np.float32)
        reward[-1] = float(number >= 3)
        episodes.append((rng.normal(0.0, 1.0, (20, 2)), rng.uniform(-1.0, 1.0, (20, 2)), reward))
    return replay_of(episodes)


def test_records_become_a_reference(tmp_path: Path) -> None:
    path = write_records(tmp_path / "records.jsonl", 25)
    reference = load_reference(tmp_path)
    assert reference.success.shape == (25, 10)
    assert reference.goals[3] == (3.0,)
    assert find_records(tmp_path) == path
    left = leave_out(reference, [(3.0,)])
    assert len(left.goals) == 24
    assert (3.0,) not in left.goals
    assert left.success.shape == (24, 10)
    with pytest.raises(ConfigError, match="records that tell success"):
        load_reference(write_records(tmp_path / "other.jsonl", 3, success=False))
    assert load_reference(tmp_path / "other.jsonl", 1.0).success.sum() == load_reference(path).success[:3].sum()
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(RunError, match="expected records of episodes"):
        load_reference(tmp_path / "none.jsonl")


def test_what_was_seen_tells_how_many_more(tmp_path: Path) -> None:
    reference = load_reference(write_records(tmp_path / "records.jsonl", 40))
    success = np.array([False, False, True, True, True])
    told = predict_after(reference, calibrate_after(reference, 3, 3), success, success.astype(float), 3, 3)
    # those that failed twice and then succeeded are reached at episode 3, all of them
    assert told.median == 3
    assert told.high <= 5
    before = predict_after(reference, calibrate_after(reference, 0, 3), success, success.astype(float), 0, 3)
    assert before.high - before.low > told.high - told.low


def test_a_policy_of_one_task_is_not_rehearsed(log: Replay) -> None:
    section = rehearse(log, RehearsalConfig())
    assert "nothing left to infer" in section.skipped


def test_a_log_without_rewards_is_not_rehearsed(replay_of: Make) -> None:
    replay = replay_of([(np.zeros((5, 2)), np.zeros((5, 2)), None)])
    section = rehearse(replace(replay, bundle=make_learner()), RehearsalConfig())
    assert "no rewards" in section.skipped


def test_the_section_of_a_learner(log: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from supple.pipeline.replay import rehearsal

    scores = [
        {"shown": 0, "belief": 1.0, "command_nll": 2.0, "reward_nll": None, "distance": 0.7},
        {"shown": 2, "belief": 0.4, "command_nll": 1.5, "reward_nll": None, "distance": 0.0},
    ]
    monkeypatch.setattr(rehearsal, "infer", lambda *given: scores)
    config = RehearsalConfig(shown=(0, 2, 5), success_return=1.0)
    learner = replace(log, bundle=make_learner(), tasks=(Task("t3", (3.0,)),))
    reference = write_records(tmp_path / "records.jsonl", 26)
    section = rehearse(learner, config, reference)
    # the log fails three times and then succeeds: reached at 4, by the log itself
    assert section.data["reached"] == 4
    assert "reached at episode 4" in section.findings[0]
    assert section.grounds[0].level == "trust"
    assert [one["shown"] for one in section.data["episodes_needed"]] == [0, 2, 5]
    assert len(section.data["reference"]["goals"]) == 25  # without the log's own task
    assert "narrows from a spread of 1.00 to 0.40" in " ".join(section.findings)
    json.dumps(section.data, allow_nan=False)
    assert all("is reached" not in finding for finding in section.findings[1:])
    other = rehearse(learner, replace(config, own=False), reference)
    assert other.data["reached"] is None
    assert [one["shown"] for one in other.data["episodes_needed"]] == [0]
    assert "within 10 episodes with probability 1.00" in other.findings[0]
    ranking = rank_sections({"a": section, "b": other}, np.random.default_rng(0))
    assert ranking is not None
    assert len(ranking.table.groups[""]) == 2
    assert rank_sections({"a": section}, np.random.default_rng(0)) is None
    lonely = rehearse(learner, config)
    assert any("No records of adaptation" in warning for warning in lonely.warnings)
    blind = rehearse(replace(learner, tasks=()), replace(config, success_return=None), reference)
    assert any("tells which episodes succeeded" in warning for warning in blind.warnings)
    assert SPEC.goal.names == ("x",)
