"""Off-policy evaluation of a bundle from a log: rewards, what the policy would choose, ratios, the section."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from supple.adapt.agents.kinds import KINDS
from supple.adapt.audit import AuditLog
from supple.adapt.bundle import Bundle
from supple.adapt.contract import Budget, BundleContract
from supple.adapt.densities import DensityNoise
from supple.adapt.loop import run_episode
from supple.adapt.safety import SafetyLimits
from supple.adapt.spaces import RowSpace, SpaceSettings
from supple.adapt.watch import CommandTap, Watch
from supple.datasets import Episode, Feature, Schema, open_store, write_store
from supple.datasets.store import EpisodeStore, find_store
from supple.errors import UntoldReward
from supple.meta.off_policy.config import BehaviourConfig, FittedQConfig
from supple.pipeline.cell_log import CellLog
from supple.pipeline.cli import main
from supple.pipeline.replay.levels import compute_ratios, find_recorded, read_level
from supple.pipeline.replay.off_policy import evaluate_off_policy, make_ground
from supple.pipeline.replay.open_loop import gaussian_nll
from supple.pipeline.replay.rehearsal import read_rewarded
from supple.pipeline.replay.rewards import find_rewards
from supple.pipeline.replay.section import Replay
from supple.pipeline.replay.target_policy import choose
from supple.pipeline.settings.off_policy import OffPolicyConfig
from supple.robots.robot import PaysAlongPath, StepRows
from supple.robots.task import Task
from tests.pipeline.deploy.conftest import SETTINGS, make_weights
from tests.pipeline.replay.conftest import SPEC, make_bundle  # type: ignore[import-not-found]

Make = Callable[..., Replay]
SMALL = OffPolicyConfig(
    discount=0.9,
    bootstraps=2,
    folds=2,
    draws=2,
    fitted_q=FittedQConfig(hidden=(8,), iterations=4, updates=5),
    behaviour=BehaviourConfig(hidden=(8,), updates=30),
)


def make_episodes(count: int, steps: int, seed: int = 0) -> list[tuple[Any, Any, Any]]:
    """Of the bundle's own policy: latents o + 0.5 noise, doubled in vx."""
    rng = np.random.default_rng(seed)
    episodes = []
    for _ in range(count):
        observation = rng.uniform(-0.3, 0.3, (steps, 2))
        latent = np.clip(observation + 0.5 * rng.standard_normal((steps, 2)), -0.95, 0.95)
        episodes.append((observation, latent * [2.0, 1.0], observation[:, 0]))
    return episodes


def test_a_log_of_the_policy_itself(replay_of: Make) -> None:
    episodes = make_episodes(8, 6)
    replay = replay_of(episodes)
    section = evaluate_off_policy(replay, SMALL, None)
    assert not section.skipped
    found = section.data["levels"]["raw"]
    # the last step of an episode that was cut off has no end: 5 of 6 count
    returns = [float((0.9 ** np.arange(5) * episode[2][:5]).sum()) for episode in episodes]
    assert found["estimates"]["log"]["value"] == pytest.approx(np.mean(returns), abs=1e-6)
    assert (found["episodes"], found["decisions"], found["terminated"]) == (8, 40, 0)
    assert set(found["estimates"]) == {"log", "FQE", "IS", "WIS", "PDIS", "WPDIS", "DR", "WDR"}
    assert "estimated by a cloned Gaussian" in section.findings[2]
    json.dumps(section.data, allow_nan=False)
    assert len(section.grounds) == 1
    assert section.figures
    # what was kept is read back: the same numbers without a fit
    assert evaluate_off_policy(replay, SMALL, None).data == section.data


def test_an_episode_counts_up_to_its_first_step_that_is_not_valid(replay_of: Make) -> None:
    marks = [[1, 1, 1, 1, 0, 1], [0, 1, 1, 1, 1, 1], [1] * 6]
    episodes = make_episodes(3, 6)
    reader, _ = find_rewards(replay_of(episodes, valid=marks), "log")
    assert reader is not None
    assert reader.origin.endswith("2 steps of the log have valid = 0: an episode counts up to its first one.")
    replay = replay_of(episodes, valid=marks)
    found = [reader.read(number, replay.store.episode(number)) for number in range(3)]
    # where the last step of four led was not measured: three count
    assert [None if one is None else one.rows for one in found] == [3, None, 5]
    first = found[0]
    assert first is not None
    np.testing.assert_array_equal(first.observation, np.asarray(episodes[0][0][:4], np.float32))
    assert not first.terminated
    # a learner is shown the reward of the last step, too
    shown = [read_rewarded(replay, reader, number, replay.store.episode(number)) for number in range(3)]
    assert [None if one is None else one.rows for one in shown] == [4, None, 6]
    assert [None if one is None else len(one.reward) for one in shown] == [4, None, 6]


def test_without_rewards_it_says_how_to_give_them(replay_of: Make) -> None:
    section = evaluate_off_policy(replay_of([(o, a, None) for o, a, _ in make_episodes(4, 5)]), SMALL, None)
    assert "--tasks" in section.skipped
    assert [ground.level for ground in section.grounds] == ["caution"]
    few = evaluate_off_policy(replay_of(make_episodes(3, 5)), SMALL, None)
    assert "Fewer than 4 episodes" in few.skipped


class Places:
    """A family whose tasks are places x: the reward is 1 within 0.1, and the task ends there."""

    spec = SimpleNamespace(name="places")

    def make(self, rows: int, threads: int = 1) -> Places:
        return self

    def compute_reward(self, observation: np.ndarray, goals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        near = np.abs(observation[..., :1] - goals[:, 0]) < 0.1
        return near.astype(np.float32), near


def test_a_reward_function_pays_for_where_a_step_leads_and_ends_the_episode(replay_of: Make) -> None:
    places = np.array([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [2.0, 0.0]])
    replay = replace(
        replay_of([(places, places * 0.1, None)]),
        family=Places(),  # type: ignore[arg-type]
        tasks=(Task("one", (1.0,)),),
    )
    reader, _ = find_rewards(replay, "auto")
    assert reader is not None
    found = reader.read(0, replay.store.episode(0))
    assert found is not None
    assert found.reward.tolist() == [0.0, 1.0]
    assert found.terminated
    assert found.observation[:, 0].tolist() == [0.0, 0.5, 1.0]
    away, _ = find_rewards(replace(replay, tasks=(Task("far", (9.0,)),)), "tasks")
    assert away is not None
    rest = away.read(0, replay.store.episode(0))
    assert rest is not None
    assert (rest.rows, rest.terminated) == (3, False)
    assert find_rewards(replace(replay, family=None), "tasks")[0] is None
    assert "the log has none" in find_rewards(replay, "log")[1]


class Pairs(Places, PaysAlongPath):
    """A task x is to be at x, and then at 0, which pays and ends it; no state tells whether x was there before."""

    def compute_path_reward(self, path: np.ndarray, goals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = np.logical_or.accumulate(np.abs(path[..., :1] - goals[:, 0]) < 0.1, axis=1)
        back = there & (np.abs(path[..., :1]) < 0.1)
        return back.astype(np.float32), back

    def compute_reward(self, observation: np.ndarray, goals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise UntoldReward("pairs compute_reward: expected a robot whose observation tells its reward, got another")


class Riddles(Pairs):
    def compute_path_reward(self, path: np.ndarray, goals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.compute_reward(path, goals)


def test_rewards_that_the_path_tells_are_those_of_the_whole_episode(replay_of: Make) -> None:
    places = np.array([[0.5, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    replay = replace(replay_of([(places, places * 0.1, None)]), family=Pairs(), tasks=(Task("one", (1.0,)),))  # type: ignore[arg-type]
    reader, _ = find_rewards(replay, "auto")
    assert reader is not None
    found = reader.read(0, replay.store.episode(0))
    assert found is not None
    assert found.reward.tolist() == [0.0, 0.0, 1.0]  # not for being at 0 in the first step
    none, reason = find_rewards(replace(replay, family=Riddles()), "tasks")  # type: ignore[arg-type]
    assert none is None
    assert "does not tell rewards of logged states (pairs compute_reward: expected" in reason


def test_the_policy_in_logged_states(replay_of: Make) -> None:
    replay = replay_of(make_episodes(1, 4))
    observation = np.array([[0.2, -0.1], [0.0, 0.3]], np.float32)
    chosen = choose(replay, observation, 3, np.random.default_rng(0))
    assert chosen.loc == pytest.approx(observation)
    assert chosen.scale == pytest.approx(np.full((2, 2), 0.5), abs=1e-6)
    assert chosen.drawn.shape == (2, 3, 2)
    assert chosen.weight.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert chosen.has_density


@pytest.mark.parametrize("space", ["unit", "raw"])
def test_recorded_densities_are_those_of_commands_in_the_units_of_the_robot(
    replay_of: Make, tmp_path: Path, space: str
) -> None:
    # the policy's own density: in unit space u ~ N(o, 0.5), vx = 2 u and vy = u; in raw space commands ~ N(o, 0.5)
    rng, episodes = np.random.default_rng(0), []
    factor = np.array([2.0, 1.0]) if space == "unit" else np.ones(2)
    for _ in range(4):
        observation = rng.uniform(-0.2, 0.2, (5, 2)).astype(np.float32)
        latent = np.clip(observation + 0.5 * rng.standard_normal((5, 2)), -0.9, 0.9).astype(np.float32)
        density = -0.5 * ((latent - observation) / 0.5) ** 2 - np.log(0.5 * factor) - 0.5 * np.log(2.0 * np.pi)
        arrays = {"observation": observation, "action": (latent * factor).astype(np.float32)}
        arrays |= {"reward": observation[:, 0], "action_log_probs": density.sum(axis=1).astype(np.float32)}
        episodes.append(Episode(arrays, True, False))
    replay = replay_of(make_episodes(4, 5), make_bundle(space))
    features = (
        *replay.store.schema.features,
        Feature(name="action_log_probs", shape=(), units=("",), role="other", axes=("action_log_probs",)),
    )
    schema = Schema(features=features, control_period=0.1, robot=SPEC)
    replay = replace(replay, store=write_store(tmp_path / "recorded", episodes, schema, {}))
    reader, _ = find_rewards(replay, "log")
    assert reader is not None
    log = read_level(replay, SMALL, reader, "raw", None)
    assert log is not None
    assert log.decisions.length.tolist() == [5, 5, 5, 5]  # terminated: the last step counts
    ratios = compute_ratios(replay, SMALL, log, np.array([0, 1, 0, 1]), torch.Generator())
    assert ratios.log_ratio == pytest.approx(np.zeros((4, 5)), abs=1e-4)
    assert "recorded" in ratios.origin


class Slider:
    """The robot of the policy: it slides by 0.1 s of its command, and starts where many commands are beyond limits."""

    spec, rows = SPEC, 1

    def __init__(self) -> None:
        self.place, self.count = np.zeros((1, 2), np.float32), 0

    def compute_reward(self, observation: Any, goals: Any) -> Any:
        paid = np.repeat(observation[..., :1], len(goals), axis=-1)
        return paid, np.zeros(paid.shape, np.bool_)

    def close(self) -> None: ...

    def reset(self, rows: Any, goals: Any, rng: np.random.Generator) -> Any:
        self.place[rows] = rng.uniform(-1.5, 1.5, (len(rows), 2))
        return self.place[rows]

    def step(self, rows: Any, action: Any) -> StepRows:
        self.place[rows] += 0.1 * action
        self.count += 1
        reward, ends = self.place[rows][:, 0], np.full(len(rows), self.count % 5 == 0)
        return StepRows(self.place[rows], reward, np.zeros_like(ends), ends)


def record_own_log(folder: Path, bundle: Bundle, episodes: int) -> EpisodeStore:
    """What the loop of `supple adapt --log` writes while the policy acts, as a store."""
    robot, rng = CommandTap(Slider()), np.random.default_rng(0)
    agent = bundle.make_agent(DensityNoise(rng))
    folder.mkdir()
    log = AuditLog(folder / "audit.jsonl", simulator=True)
    with CellLog(folder / "log", SPEC, {}, simulated=True, skill_dim=0) as cell:
        watch = Watch(SafetyLimits(robot, log), robot, sink=cell)
        agent.begin_task(1)
        for _ in range(episodes):
            agent.begin_episode()
            run_episode(watch, agent, np.zeros((1, 1), np.float32), rng)
    log.close()
    assert main(["ingest", str(cell.path), "--out", str(folder / "store")]) == 0
    return open_store(find_store(folder / "store"))


@pytest.mark.parametrize("space", ["unit", "raw"])
def test_a_policy_replayed_on_its_own_log_has_weights_of_one_whatever_the_limits_cut(
    replay_of: Make, tmp_path: Path, space: str
) -> None:
    bundle = make_bundle(space)
    replay = replay_of(make_episodes(1, 2), bundle)
    replay = replace(replay, store=record_own_log(tmp_path / "cell", bundle, 8))
    reader, _ = find_rewards(replay, "log")
    assert reader is not None
    log = read_level(replay, SMALL, reader, "raw", None)
    assert log is not None
    assert log.asked is not None
    beyond = np.abs(log.asked) > 1.0
    assert 0.1 < beyond[log.decisions.valid].mean() < 0.9
    assert np.abs(log.choice).max() == 1.0  # values are of what the limits leave
    folds, generator = np.arange(8) % 2, torch.Generator()
    ratios = compute_ratios(replay, SMALL, log, folds, generator)
    assert ratios.log_ratio == pytest.approx(np.zeros(log.decisions.valid.shape), abs=2e-4)
    assert "recorded: the density of each command that was chosen, before limits" in ratios.origin
    found = evaluate_off_policy(replay, SMALL, None).data["levels"]["raw"]
    assert found["weights"]["effective_size"] == pytest.approx(8.0, abs=1e-3)
    # another policy u' = u + 0.1: log N(u; o + 0.1, 0.5) - log N(u; o, 0.5) = (0.2 (u - o) - 0.01) / 0.5 on each axis
    moved = replace(bundle, weights={**bundle.weights, "policy.layers.0.bias": np.full(2, 0.1, np.float32)})
    log = read_level(replace(replay, bundle=moved), SMALL, reader, "raw", None)
    assert log is not None
    assert log.asked is not None
    ratios = compute_ratios(replace(replay, bundle=moved), SMALL, log, folds, generator)
    assert ratios.log_ratio is not None
    valid = log.decisions.valid
    latent = log.asked[valid] if space == "unit" else log.asked[valid] * [2.0, 1.0]
    wanted = ((0.2 * (latent - log.observation[:, :-1][valid]) - 0.01) / 0.5).sum(axis=1)
    assert ratios.log_ratio[valid] == pytest.approx(wanted, abs=1e-3)


def test_recorded_skills_are_taken_as_they_are(replay_of: Make, tmp_path: Path) -> None:
    """A log of the policy itself, with each skill and its density: every ratio is 1, whatever the commands were."""
    contract = BundleContract(
        kind="spirl",
        robot=SPEC,
        space=SpaceSettings(name="skill", horizon=4, latent_dim=3, prior=(2, 16, 6), decoder=(5, 16, 16, 2)),
        learner=KINDS["spirl"].shorten(SETTINGS["spirl"]),
        budget=Budget(episodes=2),
        provenance={},
    )
    replay = replay_of(make_episodes(4, 8), Bundle(contract, make_weights(contract), {}, "0" * 64))
    rng, episodes, skills = np.random.default_rng(0), [], []
    for number in range(4):
        arrays = dict(replay.store.episode(number).arrays)
        chosen = choose(replay, np.asarray(arrays["observation"])[[0, 4]], 1, rng)
        assert chosen.loc is not None
        assert chosen.scale is not None
        skill = chosen.drawn[:, 0]
        density = -gaussian_nll(skill, chosen.loc, chosen.scale)
        arrays |= {"skill": np.repeat(skill, 4, axis=0), "skill_log_prob": np.repeat(density, 4).astype(np.float32)}
        episodes.append(Episode(arrays, True, False))
        skills.append(skill)
    axes = ("z0", "z1", "z2")
    features = (
        *replay.store.schema.features,
        Feature(name="skill", shape=(3,), units=("",) * 3, role="other", axes=axes),
        Feature(name="skill_log_prob", shape=(), units=("",), role="other", axes=("skill_log_prob",)),
    )
    schema = Schema(features=features, control_period=0.1, robot=SPEC)
    replay = replace(replay, store=write_store(tmp_path / "skills", episodes, schema, {}))
    reader, _ = find_rewards(replay, "log")
    assert reader is not None
    log = read_level(replay, SMALL, reader, "skill", None)
    assert log is not None
    np.testing.assert_array_equal(log.choice, np.stack(skills))
    assert not log.spread.any()
    ratios = compute_ratios(replay, SMALL, log, np.array([0, 1, 0, 1]), torch.Generator())
    assert ratios.log_ratio == pytest.approx(np.zeros((4, 2)), abs=1e-4)
    assert "recorded: the density of each skill" in ratios.origin
    known = Feature(name="skill_known", shape=(), units=("",), role="other", axes=("skill_known",))
    schema = replace(schema, features=(*features, known))
    for unknown in (False, True):  # one decision whose density nobody knows makes those of the whole log useless
        flags = np.ones((4, 8), np.float32)
        flags[2, 5] = float(not unknown)
        flagged = [
            Episode({**one.arrays, "skill_known": flag}, True, False) for one, flag in zip(episodes, flags, strict=True)
        ]
        store = write_store(tmp_path / f"known-{unknown}", flagged, schema, {})
        space = RowSpace(contract.space, SPEC, replay.bundle.weights)
        found = find_recorded(replace(replay, store=store), space, "skill")
        assert found == (None if unknown else "skill")


@pytest.mark.parametrize(
    ("verdict", "best", "level"),
    [
        ("trust", (2.0, 1.5, 2.5), "trust"),
        ("trust", (0.0, -0.5, 0.4), "do not use"),
        ("caution", (9.0, 8.0, 10.0), "caution"),
    ],
)
def test_the_ground_about_the_policy(verdict: str, best: tuple[float, float, float], level: str) -> None:
    names = ("value", "low", "high")
    record = {
        "verdict": verdict,
        "headline": "WDR",
        "reasons": [["trust", "Good."], [verdict, "Because."]],
        "estimates": {
            "log": dict(zip(names, (1.0, 0.8, 1.2), strict=True)),
            "WDR": dict(zip(names, best, strict=True)),
        },
    }
    ground = make_ground(record)
    assert ground.level == level
    assert ("Because." in ground.sentence) == (verdict != "trust")
