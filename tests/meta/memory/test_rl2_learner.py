"""RL2 acting and training: one stream of inputs, a memory of the whole trial, and a bandit that no fixed arm wins."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError, TrainingFault
from supple.meta.collect import Episodes
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.distribution import Categorical, Distribution, entropy, log_prob, sample
from supple.meta.evaluation import evaluate_agent
from supple.meta.memory import rl2_agent
from supple.meta.memory.config import Rl2Config
from supple.meta.memory.rl2 import objective_reward
from supple.meta.memory.rl2_agent import Rl2Agent
from supple.meta.memory.rl2_learner import Rl2Learner
from supple.meta.recurrent import inputs_of
from supple.meta.space import ChoiceSpace, SkillSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.meta.trial import TrialBatch, join, run_trial
from supple.robots.bandits import BernoulliBanditBatch
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel
from tests.meta.double_sum import sum_advantages

CPU = torch.device("cpu")
GOALS = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]], np.float32)
SMALL: dict[str, Any] = {"iterations": 4, "trials": 12, "minibatch": 5, "epochs": 2, "hidden": 8}
ARMS = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)


def make_arms(rows: int) -> BernoulliBanditBatch:
    return BernoulliBanditBatch(rows, arms=2, episode_steps=8)


def make_bandit(seed: int = 0, **changes: Any) -> Rl2Learner:
    config = Rl2Config(**{**SMALL, "trial": Trial(episodes=2), **changes})
    robot = make_arms(max(config.trials, 12))
    return Rl2Learner(ChoiceSpace(robot.spec), robot, ARMS, config, seed=seed)


def make_points(seed: int = 0, **changes: Any) -> Rl2Learner:
    """Episodes that end early in some rows: goals are 2 m away and points move by up to 1 m."""
    config = Rl2Config(**{**SMALL, "trial": Trial(episodes=3, exploration_episodes=1), **changes})
    robot = PointBatch(12, episode_steps=5)
    return Rl2Learner(UnitSpace(robot.spec), robot, GOALS, config, seed=seed)


class TestRl2OnABandit(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> Rl2Learner:
        return make_bandit(seed)


class TestRl2WithSlotsOnABandit(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> Rl2Learner:
        return make_bandit(seed, slots=3, slot_content=2)


class TestErl2OnPoints(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> Rl2Learner:
        return make_points(seed, separate_value=True)


class TestRl2ByTrustRegions(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> Rl2Learner:
        return make_bandit(seed, separate_value=True, update="trpo")


class TestRl2OnSkills(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> Rl2Learner:
        robot = PointBatch(12)
        width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
        model = SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width))
        config = Rl2Config(**{**SMALL, "trial": Trial(episodes=2)})
        return Rl2Learner(SkillSpace(model), robot, GOALS, config, seed=seed)


class Acted(NamedTuple):
    """Trials, and what the agent drew from at each of its calls."""

    rounds: list[Episodes]
    distributions: list[tuple[Distribution, Tensor]]


def act(learner: Rl2Learner, agent: Rl2Agent, monkeypatch: pytest.MonkeyPatch, episodes: int = 3) -> Acted:
    drawn: list[tuple[Distribution, Tensor]] = []

    def spy(distribution: Distribution, generator: torch.Generator) -> Tensor:
        choice = sample(distribution, generator)
        drawn.append((distribution, log_prob(distribution, choice)))
        return choice

    monkeypatch.setattr(rl2_agent, "sample", spy)
    rng, goals = np.random.default_rng(0), np.tile(learner.goals, (6, 1))[:12]
    rounds = run_trial(learner.robot, learner.space, agent, goals, Trial(episodes=episodes), rng, device=CPU)
    return Acted(rounds, drawn)


@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("make", [make_bandit, make_points])
def test_log_probabilities_over_the_sequence_are_those_of_acting(
    make: Any, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make(hidden=16, slots=slots)
    with torch.no_grad():
        last = [name for name in learner.network.state_dict() if name.startswith("policy_head")][-2]
        learner.network.get_parameter(last).mul_(100.0)  # a policy that depends on what it reads
    acted = act(learner, learner.agent(seed=2), monkeypatch)
    batch = join(acted.rounds)
    prepared = learner.prepare(batch)
    # the calls of acting, put where their rows stood: each call acts in the rows whose episode still runs
    expected = torch.zeros_like(prepared.old_log_prob)
    position = torch.zeros(len(expected), dtype=torch.int64)
    calls = iter(acted.distributions)
    for episodes in acted.rounds:
        for decision in range(int(episodes.length.max())):
            rows = torch.nonzero(episodes.length > decision).squeeze(1)
            expected[rows, position[rows]] = next(calls)[1]
            position[rows] += 1
    assert next(calls, None) is None
    assert position.tolist() == batch.valid.sum(1).tolist()
    valid = batch.valid
    torch.testing.assert_close(prepared.old_log_prob[valid], expected[valid], atol=1e-5, rtol=1e-5)
    if make is make_points:
        assert len(set(position.tolist())) > 1  # rows of different lengths, or the test says nothing of padding


def test_the_memory_lasts_across_episodes_and_not_across_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_bandit(hidden=16)
    with torch.no_grad():
        learner.network.policy_head.weight.mul_(100.0)
    agent = learner.agent()
    assert len(agent.state()[0]["hidden"]) == 0  # there is no task yet
    calls = act(learner, agent, monkeypatch, episodes=2).distributions
    again = act(learner, agent, monkeypatch, episodes=2).distributions

    def logits(call: tuple[Distribution, Tensor]) -> Tensor:
        assert isinstance(call[0], Categorical)
        return call[0].logits

    # a trial begins from nothing: the same first policy in all rows and in the next trial
    assert torch.equal(logits(calls[0]), logits(calls[0])[:1].expand(12, 2))
    assert torch.equal(logits(calls[0]), logits(again[0]))
    # the second episode (call 8) begins from what the first one told: other rows, other policies
    assert len(logits(calls[8]).unique(dim=0)) > 3


def test_the_first_input_of_an_episode_shows_the_last_reward_of_the_one_before() -> None:
    learner = make_bandit()
    seen: list[Tensor] = []

    def read(value: Tensor, hidden: Tensor) -> Any:
        seen.append(value.clone())
        return type(learner.network).step(learner.network, value, hidden)

    agent = Rl2Agent(learner.network, learner.space, torch.Generator().manual_seed(0))
    agent._network.step = read  # type: ignore[method-assign]
    rng = np.random.default_rng(0)
    rounds = run_trial(learner.robot, learner.space, agent, np.tile(ARMS, (6, 1)), Trial(episodes=2), rng, device=CPU)
    # inputs: o, left, right, reward, first
    assert seen[0].tolist() == [[0, 0, 0, 0, 1]] * 12
    assert torch.equal(seen[8][:, 3], rounds[0].reward[:, -1])
    assert torch.equal(seen[8][:, 2], rounds[0].latent[:, -1, 0])
    assert seen[8][:, 4].tolist() == [1] * 12
    assert seen[9][:, 4].tolist() == [0] * 12
    assert 0 < float(rounds[0].reward[:, -1].sum()) < 12


def test_rewards_of_exploration_are_inputs_and_nothing_else() -> None:
    learner = make_points()
    agent = learner.agent()
    goals = np.tile(GOALS, (4, 1))
    rounds = run_trial(
        learner.robot, learner.space, agent, goals, learner.config.trial, np.random.default_rng(0), device=CPU
    )
    batch = join(rounds)
    other = batch._replace(reward=batch.reward + 3.0 * ((batch.episode == 0) & batch.valid))
    assert not torch.equal(learner.prepare(batch).value, learner.prepare(other).value)
    assert torch.equal(objective_reward(batch, 1), objective_reward(other, 1))
    assert float(objective_reward(batch, 0)[batch.episode == 0].sum()) >= 0.0


def collect_batch(learner: Rl2Learner) -> TrialBatch:
    goals, rng = np.resize(learner.goals, (12, learner.goals.shape[1])), np.random.default_rng(0)
    agent = learner.agent()
    return join(run_trial(learner.robot, learner.space, agent, goals, learner.config.trial, rng, device=CPU))


def test_the_scale_of_returns_is_set_by_the_first_iteration_and_then_moves() -> None:
    learner = make_bandit()
    learner._move_scale(torch.tensor([1.0, 3.0]))
    assert (learner.return_mean, learner.return_variance) == (2.0, 1.0)
    learner.iteration = 1
    learner._move_scale(torch.tensor([12.0, 12.0]))
    # a mixture of 0.9 (mean 2, variance 1) and 0.1 (mean 12, variance 0): 3 and 0.9 + 0.9 x 0.1 x 10^2
    assert (learner.return_mean, learner.return_variance) == pytest.approx((3.0, 9.9))


def test_returns_that_are_all_the_same_have_a_scale_that_can_be_divided_by() -> None:
    learner = make_bandit()
    learner._move_scale(torch.tensor([2.0, 2.0]))
    assert (learner.return_mean, learner.return_variance) == (2.0, 1e-6)


@pytest.mark.parametrize("make", [make_bandit, make_points])
def test_advantages_and_targets_are_standardised_without_padding(make: Any) -> None:
    learner = make()
    batch = collect_batch(learner)
    prepared = learner.prepare(batch)
    for value in (prepared.advantage[prepared.valid], prepared.target[prepared.valid]):
        assert float(value.mean()) == pytest.approx(0.0, abs=1e-5)
        assert float(value.square().mean()) == pytest.approx(1.0, abs=1e-4)
    # the last decision bootstraps nothing: its target is its reward, whatever the value function says
    last = torch.nn.functional.pad(prepared.valid[:, 1:], (0, 1)).logical_not() & prepared.valid
    raw = learner.return_mean + learner.return_variance**0.5 * prepared.target
    torch.testing.assert_close(raw[last], batch.reward[last], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [make_bandit, make_points])
def test_advantages_are_those_of_values_in_units_of_the_reward(make: Any) -> None:
    learner = make(discount=0.9, trace=0.4)
    learner.iteration, learner.return_mean, learner.return_variance = 1, 3.0, 4.0
    batch = collect_batch(learner)
    choice = learner.network.code.to_choice(batch.latent, learner.space.prior_of(batch.observation))
    with torch.no_grad():
        _, standardised = learner.network(inputs_of(batch, learner.space, choice), batch.valid)
    value = 3.0 + 2.0 * standardised
    reward = torch.where(batch.episode >= learner.config.trial.exploration_episodes, batch.reward, 0.0)
    advantage = sum_advantages(reward, value, batch.valid, 0.9, 0.4)
    prepared = learner.prepare(batch)
    counted = advantage[batch.valid]
    expected = (counted - counted.mean()) / counted.std(correction=0)
    torch.testing.assert_close(prepared.advantage[batch.valid], expected, atol=1e-4, rtol=1e-4)
    target = learner.return_mean + learner.return_variance**0.5 * prepared.target
    torch.testing.assert_close(target[batch.valid], (advantage + value)[batch.valid], atol=1e-4, rtol=1e-4)


def test_updates_lower_the_value_loss() -> None:
    learner = make_bandit(epochs=1, minibatch=12, learning_rate=0.01)
    data = learner.prepare(collect_batch(learner))
    losses = [learner.update(data)["loss_value"] for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]


def test_every_epoch_goes_once_through_all_minibatches() -> None:
    learner = make_bandit(trials=12, minibatch=5, epochs=2)
    next(learner.train())
    # 12 trials are 3 minibatches of at most 5
    assert {int(kept["step"]) for kept in learner.optimisers["adam"].state.values()} == {2 * 3}


def test_a_value_loss_without_weight_trains_no_value_function() -> None:
    for weight in (0.0, 1.0):
        learner = make_bandit(value_weight=weight)
        before = {name: value.clone() for name, value in learner.network.named_parameters()}
        next(learner.train())
        moved = {name for name, value in learner.network.named_parameters() if not torch.equal(before[name], value)}
        assert any(name.startswith("policy") for name in moved)
        assert any(name.startswith("value") for name in moved) == (weight > 0.0)


def test_a_gradient_is_cut_to_its_largest_norm() -> None:
    """Adam divides by the size of gradients plus 1e-5: of some that are cut to 1e-10 nothing is left."""
    for norm, largest in ((1e-10, 1e-6), (1.0, 1.0)):
        learner = make_bandit(max_gradient_norm=norm, learning_rate=1e-2)
        before = [value.detach().clone() for value in learner.network.parameters()]
        next(learner.train())
        step = max(
            float((new.detach() - old).abs().max())
            for new, old in zip(learner.network.parameters(), before, strict=True)
        )
        assert step < largest
        assert (step > 1e-3) == (norm == 1.0)


def test_the_entropy_is_raised_by_its_weight() -> None:
    learner = make_bandit(epochs=1, minibatch=12, learning_rate=0.01, entropy_weight=100.0)
    with torch.no_grad():
        learner.network.policy_head.bias[0] += 3.0
    data = learner.prepare(collect_batch(learner))
    entropies = [learner.update(data)["entropy"] for _ in range(20)]
    assert entropies[-1] > entropies[0] + 0.05


def test_the_weight_of_the_entropy_falls_to_zero_where_it_is_annealed() -> None:
    entropies = {}
    for anneal in (False, True):
        learner = make_bandit(iterations=4, epochs=1, minibatch=12, entropy_weight=100.0, anneal_entropy=anneal)
        data = learner.prepare(collect_batch(learner))
        learner.iteration = 4  # nothing is left of the weight
        learner.update(data)
        with torch.no_grad():
            policy, _ = learner.network(data.value)
        entropies[anneal] = float(entropy(policy).mean())
    assert entropies[True] < entropies[False]


def test_the_discount_of_an_iteration_grows_with_the_training() -> None:
    learner = make_bandit(iterations=4, first_discount=0.0, discount=0.9, discount_growth=1.0, trace=1.0)
    batch = collect_batch(learner)
    for iteration, discount in ((0, 0.0), (4, 0.9)):
        learner.iteration, learner.return_mean, learner.return_variance = iteration, 0.0, 1e-12  # V is 0
        target = learner.prepare(batch).target * learner.return_variance**0.5 + learner.return_mean
        sums = batch.reward.clone()
        for t in reversed(range(sums.shape[1] - 1)):
            sums[:, t] += discount * sums[:, t + 1]
        torch.testing.assert_close(target, sums, atol=1e-4, rtol=0)


def test_exploration_rewards_count_in_the_first_part_of_the_training_if_asked() -> None:
    learner = make_points(iterations=4, exploration_from=0.5, discount=1.0, trace=1.0)
    batch = collect_batch(learner)
    counting = torch.where(batch.valid, batch.reward, torch.zeros_like(batch.reward))
    for iteration, first in ((1, 0), (2, 1)):
        learner.iteration, learner.return_mean, learner.return_variance = iteration, 0.0, 1e-12  # V is 0
        target = learner.prepare(batch).target * learner.return_variance**0.5 + learner.return_mean
        expected = (counting * (batch.episode >= first)).sum(1)
        torch.testing.assert_close(target[:, 0], expected, atol=1e-4, rtol=0)


def test_the_learning_rate_falls_to_zero_where_it_is_annealed() -> None:
    for anneal, expected in ((True, [0.4, 0.3, 0.2, 0.1]), (False, [0.4] * 4)):
        learner = make_bandit(anneal=anneal, learning_rate=0.4)
        rates = [learner.optimisers["adam"].param_groups[0]["lr"] for _ in learner.train()]
        assert rates == pytest.approx(expected)


def test_a_trust_region_step_goes_through_trials_that_end_early() -> None:
    learner = make_points(update="trpo", separate_value=True)
    data = learner.prepare(collect_batch(learner))
    assert not bool(data.valid.all())
    metrics = learner.update(data)
    assert 0.0 < metrics["kl"] <= learner.config.trust_region.max_kl


def test_a_trust_region_step_moves_all_of_the_policy_and_nothing_else() -> None:
    learner = make_bandit(update="trpo", separate_value=True, slots=3, slot_content=2)
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    learner._update_policy_by_trpo(learner.prepare(collect_batch(learner)))
    moved = {
        name.split(".")[0] for name, value in learner.network.state_dict().items() if (value != before[name]).any()
    }
    assert moved == {"gru", "slots", "policy_head"}


def test_a_greedy_agent_draws_nothing() -> None:
    learner = make_points()
    agent = learner.agent(greedy=True)
    before = agent.state()[0]["generator"]
    agent.begin_task(12)
    agent.begin_episode()
    evaluate_agent(agent, learner.robot, learner.space, GOALS, EvaluationConfig(), np.random.default_rng(0), device=CPU)
    assert torch.equal(agent.state()[0]["generator"], before)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"separate_value": True, "update": "trpo", "iterations": 25},
        {"slots": 4, "slot_content": 8},
        {"slots": 4, "slot_content": 8, "separate_value": True, "update": "trpo", "iterations": 25},
    ],
    ids=["ppo", "trpo", "slots-ppo", "slots-trpo"],
)
def test_it_learns_to_find_the_better_arm(changes: dict[str, Any]) -> None:
    # always the same arm: 8 x (0.9 + 0.1) / 2 = 4; the optimum tries one, then stays or leaves: 0.5 + 7 x 0.9 = 6.8
    # less what wrong first impressions cost
    learner = make_bandit(
        **{
            "trial": Trial(),
            "trials": 128,
            "iterations": 25,
            "minibatch": 32,
            "epochs": 4,
            "hidden": 16,
            "learning_rate": 0.01,
            **changes,
        }
    )
    for _ in learner.train():
        pass
    robot = make_arms(200)
    result = evaluate_agent(
        learner.agent(), robot, learner.space, ARMS, EvaluationConfig(trials=100), np.random.default_rng(1), device=CPU
    )
    assert float(result.trial_return().mean()) > 5.5


def test_too_few_rows_and_numbers_that_are_none_are_refused() -> None:
    robot = make_arms(11)
    with pytest.raises(ConfigError, match=r"RL2: expected 12 robot rows for trials, got 11"):
        Rl2Learner(ChoiceSpace(robot.spec), robot, ARMS, Rl2Config(**SMALL))
    learner = make_bandit()
    with torch.no_grad():
        learner.network.value_head.bias.fill_(float("nan"))
    with pytest.raises(TrainingFault, match=r"RL2 iteration 0: expected a finite loss_value, got nan"):
        next(learner.train())
