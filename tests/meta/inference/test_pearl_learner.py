"""PEARL's training: what serves as context, what SAC learns from, where gradients go, and a goal that is found."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from supple.errors import ConfigError, TrainingFault
from supple.meta.baselines.config import SacConfig, TaskSacConfig
from supple.meta.baselines.sac import sac_critic_loss, sac_policy_loss
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.evaluation import evaluate_agent
from supple.meta.inference.config import PearlConfig
from supple.meta.inference.pearl import encoder_kl
from supple.meta.inference.pearl_finetune import FineTunedPearlAgent
from supple.meta.inference.pearl_learner import PearlLearner
from supple.meta.space import ChoiceSpace, SkillSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.robots.bandits import BernoulliBanditBatch
from supple.robots.navigation import SEMICIRCLE, SPARSE_SEMICIRCLE, NavigationBatch, draw_navigation_goals
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

CPU = torch.device("cpu")
GOALS = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]], np.float32)
SMALL: dict[str, Any] = {
    "sac": SacConfig(hidden=(8,), batch=6),
    "embedding_dim": 3,
    "encoder_hidden": (8,),
    "iterations": 4,
    "tasks": 2,
    "rollouts": 2,
    "updates": 2,
    "batch_tasks": 3,
    "context": 5,
    "replay": 120,
}


def make_points(seed: int = 0, **changes: Any) -> PearlLearner:
    """Episodes that end early in some rows: goals are 2 m away and points move by up to 1 m."""
    robot = PointBatch(12, episode_steps=5)
    return PearlLearner(UnitSpace(robot.spec), robot, GOALS, PearlConfig(**{**SMALL, **changes}), seed=seed)


def make_sparse(**changes: Any) -> PearlLearner:
    """The sparse semicircle, with the dense one's reward for SAC."""
    robot, dense = NavigationBatch(SPARSE_SEMICIRCLE, 12), NavigationBatch(SEMICIRCLE, 1)
    goals = draw_navigation_goals(SPARSE_SEMICIRCLE, 4, np.random.default_rng(0))
    return PearlLearner(
        UnitSpace(robot.spec),
        robot,
        goals,
        PearlConfig(**{**SMALL, **changes}),
        shaped_reward=lambda observation, tasks: dense.compute_reward(observation, tasks)[0],
    )


def make_skills() -> SkillSpace:
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


class TestPearlOnPoints(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> PearlLearner:
        return make_points(seed, next_observation=True, posterior_in_context=True)


class TestPearlThatStaysCloseToItsFirstPolicy(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> PearlLearner:
        learner = make_points(seed, anchored=True)
        learner.start_from({name: value.detach() + 0.1 for name, value in learner.sac.policy.named_parameters()})
        return learner


class TestPearlOnABandit(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> PearlLearner:
        robot = BernoulliBanditBatch(12, arms=2, episode_steps=4)
        arms = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
        return PearlLearner(ChoiceSpace(robot.spec), robot, arms, PearlConfig(**SMALL), seed=seed)


class TestPearlOnSkills(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 0

    def make_learner(self, seed: int) -> PearlLearner:
        return PearlLearner(make_skills(), PointBatch(12), GOALS, PearlConfig(**SMALL), seed=seed)


class FineTuningLearner(PearlLearner):
    """Gives agents that fine-tune."""

    def agent(self, **options: Any) -> FineTunedPearlAgent:  # type: ignore[override]
        config = TaskSacConfig(sac=self.config.sac, updates=2, replay=60)
        return self.fine_tuned_agent(config, inference_episodes=2, **options)


class TestFineTunedPearl(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 2

    def make_learner(self, seed: int) -> PearlLearner:
        robot = PointBatch(12, episode_steps=5)
        return FineTuningLearner(UnitSpace(robot.spec), robot, GOALS, PearlConfig(**SMALL), seed=seed)


def test_the_first_iteration_visits_all_tasks_and_later_ones_as_many_as_told() -> None:
    learner = make_sparse(prior_episodes=2, posterior_episodes=1)
    learner._collect()
    # 2 rows x 3 episodes x 20 steps in the replay buffer of each task, 2 x 2 x 20 in its context buffer
    assert learner.replay.count().tolist() == [120] * 4
    assert learner.contexts.count().tolist() == [80] * 4
    assert learner.environment_steps == 4 * 120
    learner.iteration = 1
    learner._collect()
    assert learner.environment_steps == 6 * 120


def test_contexts_are_the_latest_visits_episodes_with_z_from_the_prior() -> None:
    for kept, expected in ((False, 2), (True, 3)):
        learner = make_sparse(posterior_in_context=kept, replay=500)
        learner._collect()
        learner.iteration = 1
        before = learner.contexts.state()["data"].clone()
        learner._collect()
        # two of the tasks were visited again; whatever was there before is gone
        assert learner.contexts.count().tolist() == [expected * 40] * 4
        after = learner.contexts.state()["data"]
        changed = [not torch.equal(before[task], after[task]) for task in range(4)]
        assert sum(changed) == 2
        assert sorted(learner.replay.count().tolist()) == [120, 120, 240, 240]
        for task in range(4):
            if changed[task]:
                old = {tuple(row) for row in before[task].tolist()}
                assert not old & {tuple(row) for row in after[task].tolist()}


def test_contexts_are_the_first_rounds_of_a_visit() -> None:
    for kept, rounds in ((False, 2), (True, 3)):
        learner = make_sparse(posterior_in_context=kept, replay=500)
        learner._collect()
        context, replay = (buffer.state()["data"] for buffer in (learner.contexts, learner.replay))
        # each round brings 2 rows x 20 steps of a task, in the same order; the reward (column 4) is shaped for SAC
        same = [0, 1, 2, 3, 6, 7]
        assert torch.equal(context[:, : 40 * rounds, same], replay[:, : 40 * rounds, same])


def test_a_visit_that_ends_early_leaves_nothing_of_the_visit_before() -> None:
    learner = make_points(posterior_in_context=True, tasks=4, replay=400)
    learner._collect()
    before = learner.replay.count()
    learner.iteration = 1
    learner._collect()
    visit = learner.replay.count() - before
    assert learner.contexts.count().tolist() == visit.tolist()
    assert bool((visit < learner.contexts.capacity).any())


def test_an_update_is_algorithm_1() -> None:
    """Against the update written out: z from the context buffer, one for each task; SAC from the replay buffer."""
    learner, reference = (make_sparse(kl_weight=0.3) for _ in range(2))
    for each in (learner, reference):
        each._collect()
    for _ in range(2):
        learner.update()
        config, sac, source = reference.config, reference.sac, reference.generator
        task = torch.randint(4, (config.batch_tasks,), generator=source)
        posterior = reference.networks.infer(reference.contexts.sample(task, config.context, source))
        batch = reference.replay.sample(task, config.sac.batch, source)
        noise = torch.randn((config.batch_tasks, config.embedding_dim), generator=source)
        z = (posterior.loc + posterior.scale * noise)[:, None, :].repeat(1, config.sac.batch, 1)
        # sum over tasks of KL(N(m, s^2) || N(0, 1))
        squares = posterior.loc**2 + posterior.scale**2 - 1.0 - 2.0 * posterior.scale.log()
        loss = sac_critic_loss(sac, batch, z, source, config.sac) + 0.3 * 0.5 * squares.sum()
        encoder, critic = list(reference.networks.encoder.parameters()), list(sac.critic.parameters())
        for parameter, gradient in zip(
            [*critic, *encoder], torch.autograd.grad(loss, [*critic, *encoder], retain_graph=True), strict=True
        ):
            parameter.grad = gradient
        reference.optimisers["critic"].step()
        with torch.no_grad():
            for target, new in zip(sac.target.parameters(), critic, strict=True):
                target.copy_(target + config.sac.target_rate * (new - target))
        loss, _ = sac_policy_loss(sac, batch.observation, z.detach(), source, config.sac)
        policy = list(sac.policy.parameters())
        for parameter, gradient in zip(policy, torch.autograd.grad(loss, policy), strict=True):
            parameter.grad = gradient
        reference.optimisers["policy"].step()
    tensors, expected = learner.state()[0], reference.state()[0]
    for name, value in tensors.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("anchored", [True, False])
def test_an_anchored_policy_is_pulled_to_the_one_that_it_began_with(anchored: bool) -> None:
    sac = SacConfig(hidden=(8,), batch=6, discount=0.0, temperature=100.0, learning_rate=0.01)
    learner = make_points(anchored=anchored, sac=sac)
    clone = {name: value.detach() + 0.1 for name, value in learner.sac.policy.named_parameters()}
    learner.start_from(clone)
    learner._collect()
    first = learner.update()["policy_kl"]
    for _ in range(300):
        last = learner.update()["policy_kl"]
    # the only thing that counts at this temperature is the KL: to the clone, which is there already, or to N(0, I)
    apart = [float((clone[name] - value).abs().max()) for name, value in learner.sac.policy.state_dict().items()]
    if anchored:
        assert float(first) == pytest.approx(0.0, abs=1e-6)
        assert max(apart) < 0.05
    else:
        assert float(last) < 0.1 * float(first)
        assert max(apart) > 0.1


def test_targets_of_an_anchored_policy_lose_the_kl_to_the_clone() -> None:
    learner, other = (make_points(anchored=anchored) for anchored in (True, False))
    for each in (learner, other):
        each._collect()
    with torch.no_grad():
        for parameter in learner._anchor.parameters():  # type: ignore[union-attr]
            parameter.add_(0.3)
    losses = [float(each.update()["loss_critic"]) for each in (learner, other)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_contexts_have_the_robots_reward_and_sac_the_shaped_one() -> None:
    learner = make_sparse(prior_episodes=2, posterior_episodes=0)
    learner._collect()
    task = torch.arange(4)
    source = torch.Generator().manual_seed(0)
    for buffer, variant in ((learner.replay, SEMICIRCLE), (learner.contexts, SPARSE_SEMICIRCLE)):
        steps = buffer.sample(task, 50, source)
        rewards, _ = NavigationBatch(variant, 1).compute_reward(steps.next_observation.numpy(), learner.goals)
        expected = torch.from_numpy(rewards)[torch.arange(4), :, torch.arange(4)]
        torch.testing.assert_close(steps.reward, expected)
    assert bool((learner.replay.sample(task, 50, source).reward < 0).all())


def test_a_shaped_reward_is_summed_over_the_steps_of_a_skill_and_stops_with_the_episode() -> None:
    robot = PointBatch(12, episode_steps=7)
    learner = PearlLearner(
        make_skills(),
        robot,
        GOALS,
        PearlConfig(**{**SMALL, "prior_episodes": 1, "posterior_episodes": 0}),
        shaped_reward=lambda observation, tasks: np.ones((*observation.shape[:-1], len(tasks)), np.float32),
    )
    learner._collect()
    steps = learner.replay.sample(torch.arange(4), 50, torch.Generator().manual_seed(0))
    # skills last 5 steps: an episode of 7 has decisions of 5 and 2, fewer steps where a goal was reached
    assert bool((steps.reward[steps.terminated == 0] >= 2).all())
    assert {5.0, 2.0} <= set(steps.reward.flatten().tolist()) <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_the_encoder_learns_from_the_critics_and_the_kl_alone() -> None:
    learner = make_points()
    learner._collect()
    encoder = list(learner.networks.encoder.parameters())
    task = torch.arange(3)
    posterior = learner.networks.infer(learner.contexts.sample(task, 5, learner.generator))
    embedding = posterior.sample(learner.generator)[:, None].expand(-1, 6, -1)
    batch = learner.replay.sample(task, 6, learner.generator)
    config = learner.config.sac

    loss, _ = sac_policy_loss(learner.sac, batch.observation, embedding, learner.generator, config)
    assert torch.autograd.grad(loss, encoder, allow_unused=True, retain_graph=True) == (None,) * len(encoder)
    for loss in (
        sac_critic_loss(learner.sac, batch, embedding, learner.generator, config),
        encoder_kl(posterior),
    ):
        gradients = torch.autograd.grad(loss, encoder, retain_graph=True)
        assert all(bool(gradient.any()) for gradient in gradients)


def test_an_update_moves_each_part_by_its_own_loss() -> None:
    learner = make_points(kl_weight=0.0)
    learner._collect()

    def weights() -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in learner.state()[0].items() if not name.startswith("adam")}

    before = weights()
    learner.update()
    after = weights()
    for part in ("sac.policy", "sac.critic", "encoder"):
        assert all(not torch.equal(before[n], after[n]) for n in before if n.startswith(part)), part
    rate = learner.config.sac.target_rate
    for name in before:
        if name.startswith("sac.target"):
            source = after[name.replace("target", "critic")]
            torch.testing.assert_close(after[name], before[name] + rate * (source - before[name]))


def test_the_learning_rate_falls_to_zero_where_it_is_annealed() -> None:
    for anneal, expected in ((True, [0.4, 0.3, 0.2, 0.1]), (False, [0.4] * 4)):
        learner = make_points(anneal=anneal, updates=1, sac=SacConfig(hidden=(8,), batch=6, learning_rate=0.4))
        rates = [[o.param_groups[0]["lr"] for o in learner.optimisers.values()] for _ in learner.train()]
        assert [pair[0] for pair in rates] == pytest.approx(expected)
        assert all(pair[0] == pair[1] for pair in rates)


def test_an_iteration_takes_as_many_steps_as_told() -> None:
    learner = make_points(updates=3)
    next(learner.train())
    for optimiser in learner.optimisers.values():
        assert {int(kept["step"]) for kept in optimiser.state.values()} == {3}


def test_the_kl_draws_the_posterior_to_the_prior() -> None:
    divergences = []
    for weight in (0.0, 10.0):
        learner = make_points(kl_weight=weight, sac=SacConfig(hidden=(8,), batch=6, learning_rate=0.01))
        learner._collect()
        for _ in range(60):
            metrics = learner.update()
        divergences.append(float(metrics["embedding_kl"]))
    assert divergences[1] < 0.5 * divergences[0]


def test_it_finds_the_arm_that_its_rewards_tell_of() -> None:
    # who does not know the arm gets 8 x (.9 + .1) / 2 = 4 of 8 pulls, who does 7.2
    robot = BernoulliBanditBatch(40, arms=2, episode_steps=8)
    arms = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    config = PearlConfig(
        sac=SacConfig(hidden=(16,), batch=16, learning_rate=0.01, discount=0.0, temperature=0.05),
        embedding_dim=2,
        encoder_hidden=(16,),
        iterations=4,
        tasks=2,
        rollouts=8,
        updates=60,
        batch_tasks=8,
        context=8,
    )
    learner = PearlLearner(ChoiceSpace(robot.spec), robot, arms, config)
    for _ in learner.train():
        pass
    found = evaluate_agent(
        learner.agent(prior_episodes=1, greedy=True),
        robot,
        learner.space,
        arms,
        EvaluationConfig(trial=Trial(episodes=4), trials=20),
        np.random.default_rng(1),
        device=CPU,
    ).per_episode()[:, 0]
    assert float(found[:, 0].mean()) < 5.0
    assert float(found[:, -1].mean()) > 6.2


def test_too_few_rows_too_small_a_buffer_and_numbers_that_are_none_are_refused() -> None:
    robot = PointBatch(3, episode_steps=5)
    with pytest.raises(ConfigError, match=r"PEARL: expected 4 robot rows .* got 3 rows and PearlConfig.replay 120"):
        PearlLearner(UnitSpace(robot.spec), robot, GOALS, PearlConfig(**SMALL))
    with pytest.raises(ConfigError, match=r"visit of 30 transitions, got 12 rows and PearlConfig.replay 29"):
        make_points(replay=29)
    learner = make_points()
    with torch.no_grad():
        learner.sac.critic.biases[-1].fill_(float("nan"))
    with pytest.raises(TrainingFault, match=r"PEARL iteration 0: expected a finite loss_critic, got nan"):
        next(learner.train())
