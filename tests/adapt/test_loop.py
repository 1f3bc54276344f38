"""The adaptation loop on points in a plane: budgets, records, and going on exactly after any round."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.adapt.config import AdaptConfig
from supple.adapt.loop import Adapter, Record
from supple.errors import ConfigError, RunError
from supple.meta.simpl.agent import SimplAgent
from supple.meta.simpl.config import FinetuneConfig, SimplConfig
from supple.meta.space import SkillSpace
from supple.meta.testing import PointBatch
from supple.robots.task import Task
from supple.skills.checkpoint import load_checkpoint, save_checkpoint
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

STEPS, HORIZON = 7, 3
TASKS = (Task("here", (0.0, 0.0)), Task("near", (0.0, 2.0)), Task("never", (500.0, 0.0)))
"""Reached at once, now and then, and not at all."""
FINETUNE = FinetuneConfig(batch=8, min_transitions=4, reuse_rate=8.0, pool_episodes=16)


def make_agent() -> SimplAgent:
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    model = SkillModel(2, 2, SkillConfig(skill_horizon=HORIZON, skill_dim=3, **width))
    model.normaliser.fit(torch.randn((50, 2), generator=torch.Generator().manual_seed(1)) * 2.0 + 1.0)
    config = SimplConfig(embedding_dim=2, hidden=(8, 8), encoder_hidden=8)
    return SimplAgent(SkillSpace(model), 2, config, seed=0).requires_grad_(False)


AGENT = make_agent()


def make_adapter(seed: int = 0, rows: int = 3, tasks: tuple[Task, ...] = TASKS, **changes: Any) -> Adapter:
    values = {"episodes": 7, "exploration_episodes": 3, "context": 16, "candidates": 8, "finetune": FINETUNE}
    robot = PointBatch(rows, episode_steps=STEPS, radius=1.5)
    return Adapter(AGENT, 0.02, robot, tasks, AdaptConfig(**(values | changes)), seed=seed)


def snapshot(adapter: Adapter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, facts = adapter.state()
    return {name: value.clone() for name, value in tensors.items()}, facts


def assert_same(one: Adapter, other: Adapter) -> None:
    (tensors, facts), (others, other_facts) = one.state(), other.state()
    assert tensors.keys() == others.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []
    assert facts == other_facts


VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "published": {"search": "blind", "keep_searching": False, "learn_from_exploration": False},
    "spirl": {"method": "spirl"},
    "sac": {"method": "sac"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_goes_on_exactly_after_any_round(variant: str, tmp_path: Path) -> None:
    whole = make_adapter(**VARIANTS[variant])
    states, records = [snapshot(whole)], []
    for round_records in whole.run():
        records.append(round_records)
        states.append(snapshot(whole))
    assert len(records) == 7
    for rounds, (tensors, facts) in enumerate(states):
        save_checkpoint(tmp_path / "state", tensors, facts)
        again = make_adapter(**VARIANTS[variant])
        again.load_state(*load_checkpoint(tmp_path / "state"))
        assert list(again.run()) == records[rounds:]
        assert_same(whole, again)


def test_the_same_seed_gives_the_same_records_and_another_does_not() -> None:
    one, other, third = (list(make_adapter(seed=seed).run()) for seed in (0, 0, 1))
    assert one == other != third


def by_task(rounds: list[list[Record]], index: int) -> list[Record]:
    return [records[index] for records in rounds]


def test_records_by_task() -> None:
    adapter = make_adapter()
    rounds = list(adapter.run())
    for index, task in enumerate(TASKS):
        records = by_task(rounds, index)
        assert [record["episode"] for record in records] == [1, 2, 3, 4, 5, 6, 7]
        assert {(record["task"], tuple(record["goal"])) for record in records} == {(task.name, task.goal)}
        assert all(record["success"] == (record["return"] > 0.0) for record in records)
        assert all((record["steps"] < STEPS) <= record["success"] for record in records)
    here, never = by_task(rounds, 0), by_task(rounds, 2)
    assert [record["stage"] for record in here] == ["explore"] * 3 + ["finetune"] * 4
    assert all(record["success"] and record["steps"] == 1 for record in here)
    # after k episodes of one transition: 8 uses in batches of 8 are one update each, from 4 transitions on
    assert [record["updates"] for record in here] == [0, 0, 0, 1, 1, 1, 1]
    # what was never rewarded goes on searching
    assert [record["stage"] for record in never] == ["explore"] * 7
    assert [(record["success"], record["steps"], record["updates"]) for record in never] == [(False, STEPS, 0)] * 7


def test_a_search_that_goes_on_is_wider() -> None:
    one, other = make_adapter(wider=1.0), make_adapter(wider=3.0)
    for _ in range(3):
        assert one.round() == other.round()
    one.round(), other.round()  # the fourth searches where nothing was, the fifth at random
    one.rewarded = other.rewarded = np.array([True, True, False])
    drawn, scaled = one._exploration(), other._exploration()
    torch.testing.assert_close(scaled[2], 3.0 * drawn[2])
    torch.testing.assert_close(scaled[:2], drawn[:2])  # what was rewarded is not searched for
    with pytest.raises(ConfigError, match=r"AdaptConfig\.wider: expected a number above 0 to .*, got 0"):
        AdaptConfig(wider=0.0)


def test_without_searching_on_every_task_is_finetuned() -> None:
    rounds = list(make_adapter(keep_searching=False).run())
    for index in range(3):
        assert [record["stage"] for record in by_task(rounds, index)] == ["explore"] * 3 + ["finetune"] * 4
    # episodes of 3 transitions: 8 uses of them in batches of 8
    assert [record["updates"] for record in by_task(rounds, 2)] == [0, 0, 0, 3, 3, 3, 3]


@pytest.mark.parametrize("method", ["spirl", "sac"])
def test_baselines_learn_from_the_first_episode(method: str) -> None:
    adapter = make_adapter(method=method)
    rounds = list(adapter.run())
    assert {record["stage"] for records in rounds for record in records} == {"finetune"}
    assert adapter.space.horizon == (HORIZON if method == "spirl" else 1)
    tuner = adapter.finetuners[2]
    assert tuner is not None
    assert tuner.embedding.shape == (0,)
    decisions = -(-STEPS // adapter.space.horizon)
    assert tuner.pool.num_transitions().tolist() == [7 * decisions]


def test_raw_actions_see_the_scale_of_the_skills() -> None:
    space = make_adapter(method="sac").space
    observation = torch.randn((5, 2), generator=torch.Generator().manual_seed(0)) * 3.0
    torch.testing.assert_close(space.normalise(observation), AGENT.space.normalise(observation))


@pytest.mark.parametrize("learn", [True, False])
def test_each_task_learns_from_its_own_episodes(learn: bool) -> None:
    adapter = make_adapter(keep_searching=False, learn_from_exploration=learn)
    rounds = list(adapter.run())
    for index, tuner in enumerate(adapter.finetuners):
        assert tuner is not None
        learned = by_task(rounds, index)[0 if learn else 3 :]
        assert tuner.pool.num_transitions().tolist() == [sum(-(-r["steps"] // HORIZON) for r in learned)]
        assert tuner.pool.tensors["reward"].sum().item() == sum(record["return"] for record in learned)


def test_the_meta_trained_policy_is_where_finetuning_starts() -> None:
    adapter = make_adapter()
    for _ in range(3):
        adapter.round()
    tuner = adapter.finetuners[0]
    assert tuner is not None
    for name, value in AGENT.policy.state_dict().items():
        assert torch.equal(tuner.policy.state_dict()[name], value)
    assert torch.nn.functional.softplus(tuner.multiplier).item() == pytest.approx(0.02, rel=1e-3)


def test_directed_search_avoids_what_was_visited_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make_adapter(candidates=64)
    adapter.round()
    # as if every visited state were promised to those whose first component is positive
    monkeypatch.setattr(AGENT, "predict_reward", lambda embedding, observation: 20.0 * embedding[..., 0])
    adapter.rewarded = np.array([False, True, False])
    chosen = torch.stack([adapter._unsearched()[:, 0] for _ in range(8)])
    assert (chosen[:, [0, 2]] < 0.0).all()
    assert (chosen[:, 1] > 0.0).any()  # a task that was rewarded is not searched for


def test_directed_search_remembers_all_episodes() -> None:
    adapter = make_adapter(episodes=30, visited=2)
    first: list[Tensor] = []
    for _ in range(7):
        adapter.round()
        first.append(adapter.visited)
    assert [states.shape for states in first] == [(3, 2 * count, 2) for count in range(1, 8)]
    assert len(adapter.explored) == 3
    for states in first:
        assert torch.equal(adapter.visited[:, : states.shape[1]], states)
    # the last state of an episode is among them
    last = adapter.explored[-1]
    end = last.observation[torch.arange(3), last.length]
    assert torch.equal(adapter.visited[:, -2], end)


def test_directed_search_judges_by_every_visited_state(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make_adapter(candidates=64)
    adapter.round()
    special = torch.tensor([3.0, 4.0])
    adapter.visited = torch.zeros((3, 14, 2))
    adapter.visited[2, 13] = special

    def predict(embedding: Tensor, state: Tensor) -> Tensor:
        promised = (state == AGENT.space.normalise(special)).all(-1)
        return torch.where(promised, 20.0 * embedding[..., 0], torch.tensor(-20.0))

    monkeypatch.setattr(AGENT, "predict_reward", predict)
    for at_once in (3, 14):
        monkeypatch.setattr("supple.adapt.loop.AT_ONCE", at_once)
        assert all(adapter._unsearched()[2, 0] < 0.0 for _ in range(5))
        assert any(adapter._unsearched()[0, 0] > 0.0 for _ in range(9))


@pytest.mark.parametrize("visited", [2, 14])
def test_all_visited_states_weigh_as_much_as_the_evidence(visited: int, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make_adapter(candidates=64, evidence=2.0)
    adapter.round()
    adapter.visited = torch.zeros((3, visited, 2))
    # log sigmoid(-x) = -1 at x = log(e - 1), for a positive first component; 0 for a negative one
    unlikely = float(np.log(np.e - 1.0))
    monkeypatch.setattr(
        AGENT, "predict_reward", lambda embedding, state: torch.where(embedding[..., 0] > 0.0, unlikely, -50.0)
    )
    adapter.rewarded = np.array([False, True, True])
    share = np.mean([float(adapter._unsearched()[0, 0] > 0.0) for _ in range(600)])
    # as many candidates of either sign: e^-2 / (1 + e^-2) = .12, where each state for itself would give e^-14
    assert 0.07 < share < 0.18


def test_a_blind_search_remembers_nothing() -> None:
    adapter = make_adapter(search="blind")
    adapter.round()
    assert adapter.visited.shape == (3, 0, 2)


def test_a_rewarded_task_follows_its_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make_adapter()
    adapter.round()
    adapter.rewarded = np.array([True, False, False])
    monkeypatch.setattr(adapter, "_unsearched", lambda: torch.full((3, 2), 7.0))
    embedding = adapter._exploration()
    assert torch.equal(embedding[1:], torch.full((2, 2), 7.0))
    assert embedding[0].abs().max() < 6.0
    adapter.episode = 2  # every second search is blind
    assert (adapter._exploration()[1:] != 7.0).all()
    blind = make_adapter(search="blind")
    blind.round()
    monkeypatch.setattr(blind, "infer", None)  # a blind search asks nobody
    assert blind._exploration().shape == (3, 2)


@pytest.mark.parametrize("method", ["simpl", "spirl"])
def test_evaluating_disturbs_nothing(method: str) -> None:
    plain, evaluated = make_adapter(method=method), make_adapter(method=method)
    results = [evaluated.evaluate(2, greedy=True)]
    records = []
    for round_records in evaluated.run():
        records.append(round_records)
        results.append(evaluated.evaluate(2, greedy=False))
        evaluated.evaluate(2, greedy=True)
    assert records == list(plain.run())
    assert_same(plain, evaluated)
    for success in results:
        assert success.shape == (3, 2)
        assert success[0].tolist() == [1.0, 1.0]
        assert success[2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("rows", [3, 4, 12])
def test_evaluations_are_repeatable_in_any_number_of_rows(rows: int) -> None:
    adapter = make_adapter(rows=rows)
    for _ in range(4):
        adapter.round()
    success = adapter.evaluate(4, greedy=False)
    assert np.array_equal(success, adapter.evaluate(4, greedy=False))
    assert success[[0, 2]].tolist() == [[1.0] * 4, [0.0] * 4]


def test_one_row_of_a_real_robot_is_enough() -> None:
    records = list(make_adapter(rows=1, tasks=TASKS[:1]).run())
    assert [len(round_records) for round_records in records] == [1] * 7


def test_a_state_of_other_tasks_or_with_missing_parts_is_refused() -> None:
    adapter = make_adapter()
    for _ in range(4):
        adapter.round()
    tensors, facts = snapshot(adapter)
    with pytest.raises(RunError, match="expected this run's tasks"):
        make_adapter(tasks=TASKS[::-1]).load_state(tensors, facts)
    for name in (
        "generator",
        "visited",
        "explored.1.reward",
        "finetune.0.pool.length",
        "finetune.0.module.policy.layers.0.bias",
    ):
        with pytest.raises(RunError, match="expected a whole state"):
            make_adapter().load_state({key: value for key, value in tensors.items() if key != name}, facts)
    for name in ("episode", "rng", "rewarded"):
        with pytest.raises(RunError, match="expected a whole state"):
            make_adapter().load_state(tensors, {key: value for key, value in facts.items() if key != name})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"exploration_episodes": 0},
            r"exploration_episodes: expected a whole number from 1 to .*, got 0",
        ),
        ({"episodes": 5, "exploration_episodes": 6}, "1 <= exploration_episodes <= episodes, got 6 and 5"),
        ({"exploration_episodes": 20, "context": 19}, r"AdaptConfig\.context: .* \(20\), got 19"),
        ({"candidates": 0}, r"AdaptConfig\.candidates: expected a whole number from 1 to .*, got 0"),
        ({"visited": 0}, r"AdaptConfig\.visited: expected a whole number from 1 to .*, got 0"),
        ({"evidence": -1.0}, r"AdaptConfig\.evidence: expected a number from 0 to .*, got -1"),
    ],
)
def test_impossible_budgets_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptConfig(**changes)
