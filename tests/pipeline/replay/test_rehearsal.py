"""The section of the rehearsal: what it says, and when it says that it cannot."""

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.agents.kinds import KINDS
from supple.adapt.bundle import Bundle
from supple.adapt.contract import Budget, BundleContract
from supple.adapt.spaces import SpaceSettings
from supple.datasets import Episode
from supple.errors import ConfigError, RunError
from supple.meta.off_policy.config import BehaviourConfig, FittedQConfig
from supple.pipeline.replay.rehearsal import (
    calibrate_after,
    find_records,
    leave_out,
    load_reference,
    predict_after,
    rank_sections,
    read_success,
    rehearse,
)
from supple.pipeline.replay.rewards import find_rewards
from supple.pipeline.replay.section import Replay
from supple.pipeline.settings.off_policy import OffPolicyConfig
from supple.pipeline.settings.replay import RehearsalConfig
from supple.robots.task import Task
from tests.pipeline.deploy.conftest import SETTINGS, make_weights

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


SMALL = OffPolicyConfig(
    discount=0.9,
    bootstraps=2,
    folds=2,
    draws=2,
    fitted_q=FittedQConfig(hidden=(8,), iterations=4, updates=5),
    behaviour=BehaviourConfig(hidden=(8,), updates=30),
)


def make_pearl() -> Bundle:
    contract = BundleContract(
        kind="pearl",
        robot=SPEC,
        space=SpaceSettings(name="unit", latent_dim=2),
        learner=KINDS["pearl"].shorten(SETTINGS["pearl"]),
        budget=Budget(episodes=2),
        provenance={},
    )
    return Bundle(contract, make_weights(contract), {}, "0" * 64)


def test_what_a_learner_would_earn_with_what_it_knows(log: Replay) -> None:
    learner, config = replace(log, bundle=make_pearl()), RehearsalConfig(shown=(0, 2), rest=2)
    section = rehearse(learner, config, None, SMALL)
    first, last = (one["return"] for one in section.data["inference"])
    # of the later episodes 2 to 5 the last three are paid 1 at their end, which is left out: nobody knows where it led
    assert first["episodes"] == last["episodes"] == 4
    assert first["log"]["value"] == last["log"]["value"] == 0.0
    assert first["support"] != last["support"]  # it is another policy
    assert "With what it knows after 2 episodes it would earn" in section.findings[0]
    assert section.tables[-1].table.groups[""][-1][0] == "the later log itself"
    assert any("Its critics, which judge whole futures" in warning for warning in section.warnings)
    json.dumps(section.data, allow_nan=False)
    # the same again from what was kept
    assert rehearse(learner, config, None, SMALL).data == section.data
    few = rehearse(replace(learner, folder=log.folder / "few"), replace(config, shown=(0, 3)), None, SMALL)
    assert [one["return"] for one in few.data["inference"]] == [None, None]
    assert any("An estimated return needs 4" in warning for warning in few.warnings)
    without = replace(config, returns=False)
    left_out = rehearse(replace(learner, folder=log.folder / "without"), without, None, SMALL)
    assert not any("estimated return" in warning for warning in left_out.warnings)


def test_a_log_whose_robot_does_not_tell_success_asks_for_it(log: Replay) -> None:
    """-1 in the log of `supple adapt` is no failure."""
    reader, _ = find_rewards(log, "log")
    assert reader is not None

    class Told(type(log)):  # type: ignore[misc]
        def has(self, feature: str) -> bool:
            return feature == "success"

        def read_episodes(self) -> Iterator[tuple[int, Episode]]:
            for number, episode in super().read_episodes():
                success = np.full(episode.length, -1.0 if number == 0 else 1.0, np.float32)
                yield number, replace(episode, arrays={**episode.arrays, "success": success})

    told = Told(**{field.name: getattr(log, field.name) for field in fields(log)})
    assert read_success(told, RehearsalConfig(), reader) is None
    found = read_success(told, RehearsalConfig(success_return=0.5), reader)
    assert found is not None
    assert found[0].tolist() == [False, True, True, True, True, True]


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


@pytest.mark.parametrize(
    "changed",
    [
        {"return": "abc"},
        {"return": None},
        {"return": True},
        {"goal": 3},
        {"goal": None},
        {"goal": [[1.0]]},
        {"task": ["t"]},
        {"success": "yes"},
    ],
)
def test_a_record_of_another_type_is_one_line(tmp_path: Path, changed: dict[str, Any]) -> None:
    record = {"kind": "episode", "task": "t", "goal": [1.0], "return": 0.5, "success": True}
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps({**record, **changed}) + "\n")
    with pytest.raises(RunError, match=r"records.jsonl: expected records of episodes with task, goal, return and succ"):
        load_reference(path)


def test_records_of_another_robot_are_refused(log: Replay, tmp_path: Path) -> None:
    path = write_records(tmp_path / "records.jsonl", 4)
    text = path.read_text()
    path.write_text(text.replace('"goal": [', '"goal": [0.5, '))
    learner = replace(log, bundle=make_pearl())
    with pytest.raises(ConfigError, match=r"expected goals of 1 axes, those of 'slider', got 2"):
        rehearse(learner, RehearsalConfig(shown=(), success_return=1.0), path, SMALL)
    path.write_text(text.replace('"goal": [0.0]', '"goal": [0.5, 1.0]'))
    with pytest.raises(RunError, match=r"goals with the same number of axes, got \[1, 2\]"):
        load_reference(path)


def test_what_is_shown_may_begin_behind_where_the_task_was_reached(log: Replay, tmp_path: Path) -> None:
    """The log reaches its task at episode 4, and only numbers behind that are asked for."""
    path = write_records(tmp_path / "records.jsonl", 26)
    learner = replace(log, bundle=make_pearl())
    section = rehearse(learner, RehearsalConfig(shown=(6, 9), success_return=1.0), path, SMALL)
    assert section.data["reached"] == 4
    assert section.data["episodes_needed"][0]["shown"] == 0
    assert any("those to be shown are the first 6, 9 (--rehearsal.shown)" in warning for warning in section.warnings)


def test_a_log_of_several_tasks_says_so(log: Replay) -> None:
    tasks = tuple(Task(f"t{number}", (float(number % 2),)) for number in range(6))
    section = rehearse(replace(log, bundle=make_pearl(), tasks=tasks), RehearsalConfig(shown=()), None, SMALL)
    assert any("The log has 2 different goals" in warning for warning in section.warnings)


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
