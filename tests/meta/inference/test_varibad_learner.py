"""variBAD's training: two updates that never mix, a belief that finds out, and the contract of every learner."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from supple.errors import ConfigError, TrainingFault
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.evaluation import evaluate_agent
from supple.meta.inference.config import VaeConfig, VaribadConfig
from supple.meta.inference.varibad_belief import belief_of_cells
from supple.meta.inference.varibad_learner import VaribadLearner
from supple.meta.inference.varibad_networks import transitions_of
from supple.meta.space import ChoiceSpace, SkillSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract, differing, snapshot
from supple.meta.trial import TrialBatch, join, run_trial
from supple.robots.bandits import BernoulliBanditBatch
from supple.robots.gridnavi import CANDIDATES, GridNaviBatch
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel
from tests.meta.double_sum import sum_advantages

CPU = torch.device("cpu")
POINT_GOALS = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]], np.float32)
GRID_GOALS = np.array(CANDIDATES, np.float32)
SMALL: dict[str, Any] = {"iterations": 4, "trials": 12, "policy_hidden": (8,), "minibatches": 2}
SMALL_VAE: dict[str, Any] = {"latent": 2, "hidden": 8, "embedding": 4, "decoder_hidden": (6,), "batch": 5, "updates": 2}
GRID_VAE: dict[str, Any] = {"decoder": "cells", "reward_model": "bernoulli"}


def make_grid(seed: int = 0, vae: dict[str, Any] | None = None, **changes: Any) -> VaribadLearner:
    model = VaeConfig(**{**SMALL_VAE, **GRID_VAE, "buffer_trials": 20, **(vae or {})})
    config = VaribadConfig(**{**SMALL, "trial": Trial(episodes=2), "vae": model, **changes})
    robot = GridNaviBatch(max(config.trials, 21), episode_steps=6)
    return VaribadLearner(ChoiceSpace(robot.spec), robot, GRID_GOALS, config, seed=seed)


def make_points(seed: int = 0, vae: dict[str, Any] | None = None, **changes: Any) -> VaribadLearner:
    """Episodes that end early in some rows: goals are 2 m away and points move by up to 1 m."""
    model = VaeConfig(**{**SMALL_VAE, "transition_weight": 1.0, "elbo_terms": 4, "decode_terms": 6, **(vae or {})})
    trial = Trial(episodes=3, exploration_episodes=1)
    config = VaribadConfig(**{**SMALL, "trial": trial, "vae": model, **changes})
    robot = PointBatch(12, episode_steps=5)
    return VaribadLearner(UnitSpace(robot.spec), robot, POINT_GOALS, config, seed=seed)


class TestVaribadOnAGrid(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> VaribadLearner:
        return make_grid(seed)


class TestVaribadOnPoints(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> VaribadLearner:
        return make_points(seed)


class TestVaribadOnSkills(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> VaribadLearner:
        robot = PointBatch(12)
        width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
        model = SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width))
        vae = VaeConfig(**SMALL_VAE, reward_of="transition", buffer_trials=16)
        config = VaribadConfig(**{**SMALL, "trial": Trial(episodes=2), "vae": vae})
        return VaribadLearner(SkillSpace(model), robot, POINT_GOALS, config, seed=seed)


def collect_batch(learner: VaribadLearner, seed: int = 0) -> TrialBatch:
    goals, rng = np.resize(learner.goals, (12, learner.goals.shape[1])), np.random.default_rng(seed)
    agent = learner.agent(seed=seed)
    return join(run_trial(learner.robot, learner.space, agent, goals, learner.config.trial, rng, device=CPU))


def fill(learner: VaribadLearner) -> None:
    learner.buffer.add(transitions_of(collect_batch(learner), learner.space))


# What trains what


@pytest.mark.parametrize("make", [make_grid, make_points])
def test_ppo_leaves_encoder_and_decoder_as_they_are_and_gives_them_no_gradient(make: Any) -> None:
    learner = make()
    batch = collect_batch(learner)
    before = snapshot(learner)
    learner.update_policy(learner.prepare(batch, transitions_of(batch, learner.space)))
    changed = [name for name in differing(before, snapshot(learner)) if not name.startswith("adam.")]
    assert {name.split(".")[0] for name in changed} == {"network", "generator"}
    modules = (learner.encoder, learner.decoder)
    assert all(parameter.grad is None for module in modules for parameter in module.parameters())


def test_the_model_leaves_the_policy_as_it_is_and_trains_all_of_itself() -> None:
    learner = make_grid()
    fill(learner)
    before = snapshot(learner)
    learner.update_vae()
    changed = [name for name in differing(before, snapshot(learner)) if not name.startswith("adam.")]
    assert {name.split(".")[0] for name in changed} == {"encoder", "decoder", "generator"}
    assert all(parameter.grad is None for parameter in learner.network.parameters())
    for module in (learner.encoder, learner.decoder):
        assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters())


def test_the_policy_learns_on_the_beliefs_that_it_acted_on() -> None:
    learner = make_grid()
    with torch.no_grad():
        learner.network.policy.layers[-1].weight.mul_(100.0)  # a policy that depends on what it reads
    batch = collect_batch(learner)
    transitions = transitions_of(batch, learner.space)
    data = learner.prepare(batch, transitions)
    belief = learner.encoder(transitions)
    index = 7  # trials have 12 decisions: decision 7 of the first one is row 7
    expected = torch.cat((batch.observation[0, index], belief.mean[0, index], belief.log_variance[0, index]))
    torch.testing.assert_close(data.value[index, :-1], expected)  # no scale yet
    assert data.value[:12, -1].tolist() == [1.0, 0, 0, 0, 0, 0] * 2
    assert torch.equal(data.choice[:12, 0], batch.latent[0, :, 0])


def test_the_first_step_of_ppo_starts_from_the_policy_that_acted() -> None:
    learner = make_points()
    batch = collect_batch(learner)
    data = learner.prepare(batch, transitions_of(batch, learner.space))
    assert len(data.target) == int(batch.valid.sum()) < batch.valid.numel()
    metrics = learner._update_minibatch(data)
    assert float(metrics["kl"]) == pytest.approx(0.0, abs=1e-6)
    assert float(metrics["loss_policy"]) == pytest.approx(0.0, abs=1e-5)  # ratio 1, advantages of mean 0
    assert float(data.advantage.square().mean()) == pytest.approx(1.0, abs=1e-4)
    assert float(data.target.mean()) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("make", [make_grid, make_points])
def test_the_last_decision_of_a_trial_has_its_reward_as_target_and_bootstraps_nothing(make: Any) -> None:
    learner = make()
    with torch.no_grad():
        learner.network.value.layers[-1].bias.fill_(3.0)
    batch = collect_batch(learner)
    data = learner.prepare(batch, transitions_of(batch, learner.space))
    scale = learner.network.return_scale
    target = torch.zeros_like(batch.reward)
    target[batch.valid] = scale.mean + scale.spread * data.target
    last = torch.nn.functional.pad(batch.valid[:, 1:], (0, 1)).logical_not() & batch.valid
    torch.testing.assert_close(target[last], batch.reward[last], atol=1e-4, rtol=1e-4)
    # one before: r + gamma ((1 - lambda) V + lambda r') with V about 3, since the first scale is 0 and 1
    before = torch.nn.functional.pad(last[:, 1:], (0, 1))
    config = learner.config
    counted = batch.reward * (batch.episode >= config.trial.exploration_episodes)
    later = counted.roll(-1, 1)[before]
    expected = counted[before] + config.discount * ((1.0 - config.trace) * 3.0 + config.trace * later)
    torch.testing.assert_close(target[before], expected, atol=0.1, rtol=0.0)


@pytest.mark.parametrize("make", [make_grid, make_points])
def test_advantages_are_those_of_values_in_units_of_the_reward(make: Any) -> None:
    learner = make(discount=0.9, trace=0.4)
    scale = learner.network.return_scale
    scale.update(torch.tensor([[1.0], [5.0]]))  # mean 3, spread 2
    batch = collect_batch(learner)
    transitions = transitions_of(batch, learner.space)
    with torch.no_grad():
        belief = learner.encoder(transitions)
        composed = learner.network.compose(batch.observation, type(belief)(*(part[:, :-1] for part in belief)))
        _, standardised = learner.network(learner.network.inputs(composed, batch.first))
    value = torch.where(batch.valid, 3.0 + 2.0 * standardised, 0.0)
    reward = torch.where(batch.episode >= learner.config.trial.exploration_episodes, batch.reward, 0.0)
    advantage = sum_advantages(reward, value, batch.valid, 0.9, 0.4)[batch.valid]
    data = learner.prepare(batch, transitions)
    expected = (advantage - advantage.mean()) / advantage.std(correction=0)
    torch.testing.assert_close(data.advantage, expected, atol=1e-4, rtol=1e-4)
    target = scale.mean + scale.spread * data.target
    torch.testing.assert_close(target, advantage + value[batch.valid], atol=1e-4, rtol=1e-4)


def test_policy_and_model_take_as_many_steps_as_told() -> None:
    learner = make_grid(epochs=3, minibatches=2, vae={"updates": 5})
    next(learner.train())
    taken = {name: {int(kept["step"]) for kept in one.state.values()} for name, one in learner.optimisers.items()}
    assert taken == {"policy": {3 * 2}, "vae": {5}}


def test_a_value_loss_without_weight_trains_no_value_function() -> None:
    for weight in (0.0, 1.0):
        learner = make_grid(value_weight=weight)
        before = {name: value.clone() for name, value in learner.network.named_parameters()}
        next(learner.train())
        moved = {name for name, value in learner.network.named_parameters() if not torch.equal(before[name], value)}
        assert any(name.startswith("policy") for name in moved)
        assert any(name.startswith("value") for name in moved) == (weight > 0.0)


def test_a_gradient_is_cut_to_its_largest_norm() -> None:
    """Adam divides by the size of gradients plus 1e-5: of some that are cut to 1e-10 nothing is left."""
    for norm in (1e-10, 1.0):
        learner = make_grid(max_gradient_norm=norm, learning_rate=1e-2)
        before = [value.detach().clone() for value in learner.network.parameters()]
        next(learner.train())
        step = max(
            float((new.detach() - old).abs().max())
            for new, old in zip(learner.network.parameters(), before, strict=True)
        )
        assert step < 1e-6 if norm < 1.0 else step > 1e-3


def test_the_policy_sees_inputs_on_the_scale_of_what_it_has_seen() -> None:
    learner = make_points()
    batch = collect_batch(learner)
    transitions = transitions_of(batch, learner.space)
    prepared = learner.prepare(batch, transitions)
    # this batch was seen on the first scale, mean 0 and variance 1; later ones are seen on its own
    belief = learner.encoder(transitions)
    before = type(belief)(*(part[:, :-1] for part in belief))
    composed = learner.network.compose(batch.observation, before)[batch.valid].detach()
    scale = learner.network.input_scale
    torch.testing.assert_close(scale.mean, composed.mean(0))
    torch.testing.assert_close(scale.variance, composed.var(0, correction=0))
    assert len(prepared.value) == int(batch.valid.sum())


def test_updates_lower_the_value_loss_and_raise_the_entropy_by_its_weight() -> None:
    learner = make_grid(epochs=1, minibatches=1, learning_rate=1e-2, entropy_weight=100.0)
    with torch.no_grad():
        learner.network.policy.layers[-1].bias[0] += 3.0
    batch = collect_batch(learner)
    data = learner.prepare(batch, transitions_of(batch, learner.space))
    records = [learner.update_policy(data) for _ in range(20)]
    assert records[-1]["entropy"] > records[0]["entropy"] + 0.1
    assert records[-1]["loss_value"] < records[0]["loss_value"]


def test_rewards_of_exploration_reach_the_belief_and_no_return() -> None:
    learner = make_points()
    batch = collect_batch(learner)
    other = batch._replace(reward=batch.reward + 3.0 * ((batch.episode == 0) & batch.valid))
    one, changed = (learner.encoder(transitions_of(which, learner.space)).mean for which in (batch, other))
    assert not torch.equal(one, changed)
    transitions = transitions_of(batch, learner.space)
    # the same beliefs, other rewards of exploration: the same targets
    targets = [make_points().prepare(which, transitions).target for which in (batch, other)]
    assert torch.equal(*targets)


# The bound


@pytest.mark.parametrize("make", [make_grid, make_points])
def test_some_terms_estimate_the_sum_of_all(make: Any) -> None:
    whole = make(vae={"elbo_terms": None, "decode_terms": None, "kl_weight": 0.0})
    fill(whole)
    trials = whole.buffer.sample(5, torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole.encoder.head.weight[whole.config.vae.latent :] = 0.0
        whole.encoder.head.bias[whole.config.vae.latent :] = -40.0  # beliefs without variance: nothing else is drawn
    some = make(vae={"elbo_terms": 3, "decode_terms": 4, "kl_weight": 0.0})
    some.load_state(*whole.state())
    with torch.no_grad():
        expected = float(whole.vae_loss(trials)[0])
        found = np.array([float(some.vae_loss(trials)[0]) for _ in range(400)])
    assert found.std() > 0.0
    assert abs(found.mean() - expected) < 4.0 * found.std() / 20.0


def test_terms_are_drawn_where_there_are_more_than_asked_for() -> None:
    learner = make_grid()
    places, share = learner._draw(6, 5)
    assert len(set(places.tolist())) == 5
    assert share == 5 / 6
    before = learner.generator.get_state()
    for terms in (6, 7, None):
        assert learner._draw(6, terms) == (slice(None), 1.0)
    assert torch.equal(learner.generator.get_state(), before)


def test_the_divergence_is_summed_over_all_beliefs_whatever_is_drawn() -> None:
    learner, some = make_grid(), make_grid(vae={"elbo_terms": 1})
    fill(learner)
    trials = learner.buffer.sample(5, torch.Generator().manual_seed(1))
    assert torch.equal(learner.vae_loss(trials)[1]["kl_posterior"], some.vae_loss(trials)[1]["kl_posterior"])


def test_updates_of_the_model_raise_the_bound() -> None:
    learner = make_grid(vae={"learning_rate": 1e-2, "batch": 20})
    fill(learner)
    bounds = [learner.update_vae()["elbo"] for _ in range(40)]
    assert np.mean(bounds[-5:]) > 0.6 * np.mean(bounds[:5])  # both negative


@pytest.mark.parametrize("anneal", [True, False])
def test_learning_rates_and_entropy_fall_to_nothing_where_they_are_annealed(anneal: bool) -> None:
    learner = make_grid(iterations=4, anneal=anneal, anneal_entropy=anneal, entropy_weight=0.02)
    rates = []
    weights = [learner.entropy_weight]
    for _ in learner.train():
        rates.append([optimiser.param_groups[0]["lr"] for optimiser in learner.optimisers.values()])
        weights.append(learner.entropy_weight)
    shares = (1.0, 0.75, 0.5, 0.25) if anneal else (1.0,) * 4
    np.testing.assert_allclose(rates, [[7e-4 * share, 1e-3 * share] for share in shares])
    np.testing.assert_allclose(weights[:4], [0.02 * share for share in shares])


# Beliefs of cells


def test_the_belief_of_cells_follows_one_trial() -> None:
    learner = make_grid()
    goals = GRID_GOALS[:3]
    rng = np.random.default_rng(0)
    rounds = run_trial(learner.robot, learner.space, learner.agent(), goals, learner.config.trial, rng, device=CPU)
    tables = [belief_of_cells(learner, rounds, row) for row in range(3)]
    for table in tables:
        assert table.shape == (13, 25)  # before anything, and after each of 12 decisions
        assert ((table > 0.0) & (table < 1.0)).all()
    assert (tables[0][0] == tables[1][0]).all()  # nothing seen yet
    assert not (tables[0][-1] == tables[1][-1]).all()
    assert (belief_of_cells(learner, rounds, 1) == tables[1]).all()
    with torch.no_grad():
        assert learner.decoder.cells is not None
        mean = learner.decoder.cells.table(learner.encoder(transitions_of(join(rounds), learner.space)).mean).sigmoid()
    many = belief_of_cells(learner, rounds, 2, draws=2000)
    np.testing.assert_allclose(many, mean[2].numpy(), atol=0.1)


def test_the_beliefs_of_a_trial_are_one_more_than_its_decisions() -> None:
    learner = make_grid()
    robot = GridNaviBatch(1, episode_steps=5)  # an odd number
    rng = np.random.default_rng(0)
    rounds = run_trial(robot, learner.space, learner.agent(), GRID_GOALS[:1], Trial(), rng, device=CPU)
    assert belief_of_cells(learner, rounds).shape == (1 + 5, 25)


def test_beliefs_of_cells_need_cells() -> None:
    learner = make_points()
    with pytest.raises(ConfigError, match="decoder 'cells' and rewards 'bernoulli', got 'state' and 'gaussian'"):
        belief_of_cells(learner, [])


# Learning


def test_a_bandit_is_found_out_within_a_trial() -> None:
    """Two arms, of which either pays: no fixed arm earns more than half of the pulls."""
    arms = np.array([[0.95, 0.05], [0.05, 0.95]], np.float32)
    robot = BernoulliBanditBatch(64, arms=2, episode_steps=8)
    space = ChoiceSpace(robot.spec)
    sizes: dict[str, Any] = {"latent": 2, "hidden": 16, "embedding": 8}
    vae = VaeConfig(**sizes, reward_of="transition", reward_model="bernoulli", learning_rate=1e-2, updates=5)
    rates: dict[str, Any] = {"clip": 0.2, "learning_rate": 1e-2, "epochs": 4, "minibatches": 2}
    config = VaribadConfig(trial=Trial(episodes=2), trials=64, iterations=30, vae=vae, **rates)
    learner = VaribadLearner(space, robot, arms, config, seed=1)
    for _ in learner.train():
        pass
    evaluation = EvaluationConfig(trial=config.trial, trials=32)
    agent = learner.agent(greedy=True)
    found = evaluate_agent(agent, robot, space, arms, evaluation, np.random.default_rng(0), device=CPU)
    # a fixed arm earns 0.4 or 7.6 of 8; one pull tells which, so that both tasks can earn 6.7 or 7.6 at once, then 7.6
    assert found.per_episode()[:, 0].min() > 6.0


# Refusals


def test_too_few_rows_are_refused() -> None:
    robot = GridNaviBatch(11)
    with pytest.raises(ConfigError, match="expected 12 robot rows for trials, got 11"):
        VaribadLearner(ChoiceSpace(robot.spec), robot, GRID_GOALS, VaribadConfig(trials=12))


def test_numbers_that_are_none_stop_the_training() -> None:
    learner = make_grid()
    with torch.no_grad():
        learner.decoder.cells.net.layers[-1].bias[:] = float("nan")
    with pytest.raises(TrainingFault, match="variBAD iteration 0: expected a finite elbo, got nan"):
        next(learner.train())
