"""SiMPL in a new task: it searches until a task is known, infers it, and learns it from there."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError, RunError
from supple.meta.collect import Episodes, Seen, collect
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.evaluation import evaluate_agent
from supple.meta.simpl import adaptive_agent
from supple.meta.simpl.adaptive_agent import SimplAdaptiveAgent
from supple.meta.simpl.agent import SimplAgent
from supple.meta.simpl.config import FinetuneConfig, SimplConfig
from supple.meta.simpl.context import context_of
from supple.meta.simpl.deployment import DeploymentConfig
from supple.meta.space import SkillSpace
from supple.meta.testing import PointBatch
from supple.robots.robot import StepRows
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

CPU = torch.device("cpu")
STEPS, HORIZON = 7, 3
GOALS = np.array([[0.0, 2.0], [500.0, 0.0], [1.5, 1.0]], np.float32)
"""The second is never reached."""
FINETUNE = FinetuneConfig(batch=8, min_transitions=4, reuse_rate=8.0, pool_episodes=16)


class ShiftedPoints(PointBatch):
    """Points that are paid a * reward + b in each step."""

    def __init__(self, rows: int, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__(rows, episode_steps=STEPS, radius=1.5)
        self._scale, self._shift = scale, shift

    def step(self, rows: Any, action: Any) -> StepRows:
        step = super().step(rows, action)
        return step._replace(reward=np.float32(self._scale) * step.reward + np.float32(self._shift))


class DensePoints(PointBatch):
    """Points that are paid minus their distance to the goal."""

    def step(self, rows: Any, action: Any) -> StepRows:
        step = super().step(rows, action)
        distance = np.linalg.norm(step.observation - self._goal[rows], axis=-1)
        return step._replace(reward=-distance.astype(np.float32))


def make_networks() -> SimplAgent:
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    model = SkillModel(2, 2, SkillConfig(skill_horizon=HORIZON, skill_dim=3, **width))
    model.normaliser.fit(torch.randn((50, 2), generator=torch.Generator().manual_seed(1)) * 2.0 + 1.0)
    config = SimplConfig(embedding_dim=2, hidden=(8, 8), encoder_hidden=8)
    return SimplAgent(SkillSpace(model), 2, config, torch.Generator().manual_seed(0))


NETWORKS = make_networks()


def make_agent(seed: int = 0, greedy: bool = False, **changes: Any) -> SimplAdaptiveAgent:
    values = {"exploration_episodes": 3, "context": 16, "candidates": 8, "finetune": FINETUNE}
    config = DeploymentConfig(**(values | changes))
    return SimplAdaptiveAgent(NETWORKS, config, multiplier=0.02, greedy=greedy, seed=seed)


def play(agent: SimplAdaptiveAgent, seed: int = 0, robot: PointBatch | None = None) -> Episodes:
    """One episode in each row, observed."""
    agent.begin_episode()
    robot = ShiftedPoints(3) if robot is None else robot
    rng = np.random.default_rng(seed)
    episodes = collect(robot, NETWORKS.space, agent.act, GOALS[: robot.rows], rng, device=CPU)
    agent.observe(episodes)
    return episodes


def begin(rounds: int = 0, robot: PointBatch | None = None, **changes: Any) -> SimplAdaptiveAgent:
    """An agent after so many rounds."""
    agent = make_agent(**changes)
    agent.begin_task(3 if robot is None else robot.rows)
    for seed in range(rounds):
        play(agent, seed, robot)
    return agent


def set_known(agent: SimplAdaptiveAgent, known: list[bool]) -> None:
    agent._reward_range = torch.tensor([(0.0, float(flag)) for flag in known])


def snapshot(agent: SimplAdaptiveAgent) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, facts = agent.state()
    return {name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(facts))


def tuned(agent: SimplAdaptiveAgent) -> list[bool]:
    return [tuner is not None for tuner in agent.tuners]


# What makes a task known


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.0, -1.0), (1.0, 5.0), (10.0, -3.0)])
def test_a_task_is_known_once_its_rewards_differ_whatever_their_scale(scale: float, shift: float) -> None:
    sparse, shifted = begin(3), begin(3, ShiftedPoints(3, scale, shift))
    assert sparse.known.tolist() == shifted.known.tolist() == [True, False, True]
    assert tuned(sparse) == tuned(shifted) == [True, False, True]


def test_with_dense_negative_rewards_every_task_is_known_after_the_first_episode() -> None:
    robot = DensePoints(3, episode_steps=STEPS, radius=1.5)
    agent = begin(1, robot)
    assert agent.known.tolist() == [True] * 3
    for seed in (1, 2):
        assert tuned(agent) == [False] * 3
        play(agent, seed, robot)
    assert tuned(agent) == [True] * 3  # the search ends with the exploration episodes


def test_a_cost_of_time_that_is_cut_by_the_limit_tells_nothing() -> None:
    # decisions of 3, 3 and 1 steps pay -3, -3 and -1: sums differ where no reward does
    agent = begin(3, ShiftedPoints(3, 1.0, -1.0))
    assert not agent.known[1]
    episodes = agent._explored[-1]
    assert len(set(episodes.reward[1].tolist())) > 1


def test_without_searching_on_every_task_is_learned() -> None:
    assert tuned(begin(2, keep_searching=False)) == [False] * 3
    assert tuned(begin(3, keep_searching=False)) == [True] * 3


def test_a_task_that_becomes_known_late_is_inferred_then() -> None:
    agent = begin(4)
    assert not agent.known[1]
    set_known(agent, [True, True, True])
    before = agent.embedding.clone()
    play(agent, 9)
    assert tuned(agent) == [True] * 3
    assert torch.equal(agent.embedding[[0, 2]], before[[0, 2]])


# Search


def test_every_exploring_episode_has_another_embedding_and_an_inferred_one_stays() -> None:
    agent = begin(2)
    first = agent.embedding.clone()
    play(agent, 2)
    inferred = agent.embedding.clone()
    play(agent, 3)
    changed = (agent.embedding != inferred).any(1).tolist()
    assert changed == [False, True, False]
    assert not torch.equal(first, inferred)
    agent.begin_task(3)
    assert not agent.embedding.any()
    assert not agent.known.any()


def test_the_inferred_embedding_is_the_mean_of_the_posterior_of_what_was_seen() -> None:
    agent = begin(search="blind")
    rounds = [play(agent, seed) for seed in range(2)]
    generator = torch.Generator()
    agent.begin_episode()
    episodes = collect(ShiftedPoints(3), NETWORKS.space, agent.act, GOALS, np.random.default_rng(2), device=CPU)
    generator.set_state(agent.generator.get_state())
    agent.observe(episodes)
    expected = NETWORKS.encode(context_of([*rounds, episodes], 16, generator)).loc
    assert torch.equal(agent.embedding[[0, 2]], expected[[0, 2]])
    assert not torch.equal(agent.embedding[1], expected[1])


def test_a_search_that_goes_on_is_wider() -> None:
    one, other = begin(4, wider=1.0), begin(4, wider=3.0)
    for agent in (one, other):
        agent._tuners.begin_task(3)
        set_known(agent, [True, True, False])
    drawn, scaled = one._draw_embedding(), other._draw_embedding()
    torch.testing.assert_close(scaled[2], 3.0 * drawn[2])
    torch.testing.assert_close(scaled[:2], drawn[:2])  # what is known is not searched for


def test_directed_search_avoids_what_was_visited_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = begin(1, candidates=64)
    # as if every visited state were promised to those whose first component is positive
    monkeypatch.setattr(agent._agent, "predict_reward", lambda embedding, observation: 20.0 * embedding[..., 0])
    set_known(agent, [False, True, False])
    chosen = torch.stack([agent._draw_unsearched()[:, 0] for _ in range(8)])
    assert (chosen[:, [0, 2]] < 0.0).all()
    assert (chosen[:, 1] > 0.0).any()  # a task that is known is not searched for


def test_directed_search_remembers_all_episodes() -> None:
    agent = begin(visited=2)
    before: list[Tensor] = []
    for seed in range(7):
        play(agent, seed)
        before.append(agent._visited)
    assert [states.shape for states in before] == [(3, 2 * count, 2) for count in range(1, 8)]
    assert len(agent._explored) == 3
    assert [episodes.path.shape[1] for episodes in agent._explored] == [0] * 3  # paths are not kept
    for states in before:
        assert torch.equal(agent._visited[:, : states.shape[1]], states)
    # the last state of an episode is among them
    last = agent._explored[-1]
    assert torch.equal(agent._visited[:, -2], last.observation[torch.arange(3), last.length])


def test_directed_search_judges_by_every_visited_state(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = begin(1, candidates=64)
    special = torch.tensor([3.0, 4.0])
    agent._visited = torch.zeros((3, 14, 2))
    agent._visited[2, 13] = special
    set_known(agent, [False] * 3)

    def predict(embedding: Tensor, state: Tensor) -> Tensor:
        promised = (state == NETWORKS.space.normalise(special)).all(-1)
        return torch.where(promised, 20.0 * embedding[..., 0], torch.tensor(-20.0))

    monkeypatch.setattr(agent._agent, "predict_reward", predict)
    for at_once in (3, 14):
        monkeypatch.setattr(adaptive_agent, "AT_ONCE", at_once)
        assert all(agent._draw_unsearched()[2, 0] < 0.0 for _ in range(5))
        assert any(agent._draw_unsearched()[0, 0] > 0.0 for _ in range(9))


@pytest.mark.parametrize("visited", [2, 14])
def test_all_visited_states_weigh_as_much_as_the_evidence(visited: int, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = begin(1, candidates=64, evidence=2.0)
    agent._visited = torch.zeros((3, visited, 2))
    # log sigmoid(-x) = -1 at x = log(e - 1), for a positive first component; 0 for a negative one
    unlikely = float(np.log(np.e - 1.0))
    monkeypatch.setattr(
        agent._agent, "predict_reward", lambda embedding, state: torch.where(embedding[..., 0] > 0.0, unlikely, -50.0)
    )
    set_known(agent, [False, True, True])
    share = np.mean([float(agent._draw_unsearched()[0, 0] > 0.0) for _ in range(600)])
    # as many candidates of either sign: e^-2 / (1 + e^-2) = .12, where each state for itself would give e^-14
    assert 0.07 < share < 0.18


def test_a_blind_search_remembers_nothing_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = begin(1, search="blind")
    assert agent._visited.shape == (3, 0, 2)
    monkeypatch.setattr(agent, "_infer", None)
    assert agent._draw_embedding().shape == (3, 2)


def test_a_known_task_follows_its_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = begin(1)
    set_known(agent, [True, False, False])
    monkeypatch.setattr(agent, "_draw_unsearched", lambda: torch.full((3, 2), 7.0))
    embedding = agent._draw_embedding()
    assert torch.equal(embedding[1:], torch.full((2, 2), 7.0))
    assert embedding[0].abs().max() < 6.0
    agent._episodes = 2  # every second search is at random
    assert (agent._draw_embedding()[1:] != 7.0).all()


# Learning


def test_a_task_is_learned_by_critics_of_the_meta_trained_kind() -> None:
    config = SimplConfig(embedding_dim=2, hidden=(8, 8), encoder_hidden=8, critic_norm=True)
    networks = SimplAgent(NETWORKS.space, 2, config, torch.Generator().manual_seed(0))
    assert networks.critic.norm
    assert networks.target_critic.norm
    values = DeploymentConfig(exploration_episodes=1, context=16, candidates=8, finetune=FINETUNE)
    agent = SimplAdaptiveAgent(networks, values, multiplier=0.02)
    agent.begin_task(3)
    set_known(agent, [True, True, True])
    play(agent)
    (one, *_) = agent.tuners
    assert one is not None
    assert one.critic.norm
    assert one.target_critic.norm


def test_learning_starts_from_what_was_meta_trained() -> None:
    tuner = begin(3).tuners[0]
    assert tuner is not None
    for name, value in NETWORKS.policy.state_dict().items():
        assert torch.equal(tuner.policy.state_dict()[name], value)
    assert torch.nn.functional.softplus(tuner.multiplier).item() == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize("learn", [True, False])
def test_each_task_learns_from_its_own_episodes(learn: bool) -> None:
    agent = begin(keep_searching=False, learn_from_exploration=learn)
    rounds = [play(agent, seed) for seed in range(7)]
    for row, tuner in enumerate(agent.tuners):
        assert tuner is not None
        learned = rounds[0 if learn else 3 :]
        assert tuner.pool.num_transitions().tolist() == [sum(int(episodes.length[row]) for episodes in learned)]
        returns = sum(float(episodes.reward[row].sum()) for episodes in learned)
        assert tuner.pool.tensors["reward"].sum().item() == returns


def test_learning_changes_the_policies_from_the_next_episode_on_and_each_by_itself() -> None:
    changes = {"finetune": FinetuneConfig(batch=8, min_transitions=4, reuse_rate=8.0, critic_updates_first=0)}
    agent = begin(3, keep_searching=False, **changes)
    before = [tuner.policy.layers[0].weight.clone() for tuner in agent.tuners if tuner is not None]
    play(agent, 3)
    after = [tuner.policy.layers[0].weight for tuner in agent.tuners if tuner is not None]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert not torch.equal(after[0], after[1])


def test_rows_act_by_their_own_policy_and_others_by_the_embedding() -> None:
    agent = begin(1, greedy=True)
    agent.begin_episode()
    agent._tuners.begin(0, agent.embedding[0], 3)
    tuner = agent.tuners[0]
    assert tuner is not None
    with torch.no_grad():
        tuner.policy.layers[-1].bias[:3] += 5.0  # type: ignore[index, union-attr, operator]
    observation = torch.zeros(3, 2)
    seen = collect_seen(observation)
    latent = agent.act(seen)
    normalised = NETWORKS.space.normalise(observation)
    plain = NETWORKS.policy_at(normalised, agent.embedding, seen.prior).loc
    torch.testing.assert_close(latent, plain + torch.tensor([[5.0], [0.0], [0.0]]))
    others = agent.act(collect_seen(observation[1:], np.array([1, 2])))
    torch.testing.assert_close(others, plain[1:])


def collect_seen(observation: Tensor, rows: Any = None) -> Any:
    rows = np.arange(len(observation)) if rows is None else rows
    return Seen(observation, NETWORKS.space.prior_of(observation), rows, torch.zeros(len(observation)))


# State


VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "published": {"search": "blind", "keep_searching": False, "learn_from_exploration": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rounds", [0, 2, 5])
def test_it_goes_on_exactly_where_it_was_saved(variant: str, rounds: int) -> None:
    agent = begin(rounds, **VARIANTS[variant])
    saved = snapshot(agent)
    expected = [play(agent, seed).latent for seed in (20, 21)]
    again = make_agent(seed=9, **VARIANTS[variant])
    again.load_state(*saved)
    assert all(torch.equal(play(again, 20 + at).latent, latent) for at, latent in enumerate(expected))
    tensors, others = agent.state()[0], again.state()[0]
    assert tensors.keys() == others.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []


def test_a_state_without_one_of_its_parts_is_refused() -> None:
    tensors, facts = snapshot(begin(5))
    for name in tensors:
        with pytest.raises(RunError, match="expected a whole state"):
            make_agent().load_state({key: value for key, value in tensors.items() if key != name}, facts)
    for name in facts:
        with pytest.raises(RunError, match="expected a whole state"):
            make_agent().load_state(tensors, {key: value for key, value in facts.items() if key != name})


def test_it_is_evaluated_like_any_other_agent() -> None:
    config = EvaluationConfig(trial=Trial(episodes=4), trials=2)
    rng = np.random.default_rng(0)
    found = evaluate_agent(make_agent(), ShiftedPoints(6), NETWORKS.space, GOALS, config, rng, device=CPU)
    assert found.returns.shape == (3, 2, 1, 4, 1)
    assert np.isfinite(found.returns).all()
    assert found.returns[1].max() == 0.0


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exploration_episodes": 0}, r"exploration_episodes: expected .*, got 0"),
        ({"exploration_episodes": 20, "context": 19}, r"DeploymentConfig\.context: .* \(20\), got 19"),
        ({"candidates": 0}, r"DeploymentConfig\.candidates: expected .*, got 0"),
        ({"visited": 0}, r"DeploymentConfig\.visited: expected .*, got 0"),
        ({"evidence": -1.0}, r"DeploymentConfig\.evidence: expected .*, got -1"),
        ({"wider": 0.0}, r"DeploymentConfig\.wider: expected .*, got 0"),
        ({"search": "deep"}, r"DeploymentConfig\.search: expected .*blind.*, got 'deep'"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DeploymentConfig(**changes)


def test_a_directed_search_needs_a_reward_head() -> None:
    untrained, trained = SimplConfig(reward_prediction=0.0), SimplConfig(reward_prediction=1e-3)
    with pytest.raises(ConfigError, match=r"expected 'blind' .* reward_prediction = 0, got 'directed'"):
        DeploymentConfig(search="directed").require_reward_head(untrained)
    DeploymentConfig(search="blind").require_reward_head(untrained)
    DeploymentConfig(search="directed").require_reward_head(trained)
