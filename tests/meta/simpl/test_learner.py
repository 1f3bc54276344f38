"""The learner on points in a plane: exact resume, what gradients reach, and learning with a known optimum."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError, RunError, TrainingFault
from supple.meta.simpl.adaptive_agent import SimplAdaptiveAgent
from supple.meta.simpl.config import FinetuneConfig, SimplConfig
from supple.meta.simpl.deployment import DeploymentConfig
from supple.meta.simpl.learner import Multiplier, SimplLearner
from supple.meta.space import RawSpace, SkillSpace
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

GOALS = np.array([[4, 0], [-4, 0], [0, 4], [0, -4]], np.float32)
SMALL: dict[str, Any] = {
    "embedding_dim": 2,
    "hidden": (16, 16),
    "encoder_hidden": 16,
    "prior_tasks": 1,
    "posterior_tasks": 3,
    "batch": 8,
    "success_batch": 2,
    "posterior_context": 8,
    "context_episodes": 3,
    "epochs": 4,
    "warmup_epochs": 1,
    "updates_per_epoch": 3,
    "pool_episodes": 24,
}
PUBLISHED: dict[str, Any] = {
    "only_increase": True,
    "policy_every": 1,
    "success_batch": 0,
    "reward_prediction": 0.0,
    "context_episodes": 0,
    "relabel": False,
    "updates_per_epoch": 0,
    "reuse_rate": 2.0,
    "encoder": "set-transformer",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "own-task": {"relabel": False},
    "set-transformer": {"encoder": "set-transformer"},
    "bfloat16": {"bfloat16": True},
    "published": PUBLISHED,
}


def make_space(robot: PointBatch, kind: str) -> RawSpace | SkillSpace:
    if kind == "raw":
        return RawSpace(robot.spec, torch.zeros(2), torch.full((2,), 4.0))
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


def make_learner(space: str = "raw", seed: int = 0, **changes: Any) -> SimplLearner:
    robot = PointBatch(8)
    return SimplLearner(make_space(robot, space), robot, GOALS, SimplConfig(**{**SMALL, **changes}), seed=seed)


def snapshot(learner: SimplLearner) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, facts = learner.state()
    return {name: value.clone() for name, value in tensors.items()}, facts


def without_clocks(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("wall_")}


def assert_same(one: SimplLearner, other: SimplLearner) -> None:
    (tensors, facts), (others, other_facts) = one.state(), other.state()
    assert tensors.keys() == others.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []
    assert facts == other_facts


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("space", ["raw", "skill"])
def test_two_epochs_and_two_after_a_restart_are_four(variant: str, space: str) -> None:
    whole = make_learner(space, **VARIANTS[variant])
    records = whole.train()
    next(records), next(records)
    saved = snapshot(whole)
    rest = [without_clocks(metrics) for metrics in records]

    again = make_learner(space, seed=5, **VARIANTS[variant])
    again.load_state(*saved)
    assert [without_clocks(metrics) for metrics in again.train()] == rest
    assert_same(whole, again)
    assert len(rest) == 2
    assert whole.updates >= 3


def test_the_same_seed_gives_the_same_agent() -> None:
    one, other, third = make_learner(seed=3), make_learner(seed=3), make_learner(seed=4)
    records = [[without_clocks(metrics) for metrics in learner.train()] for learner in (one, other, third)]
    assert records[0] == records[1] != records[2]
    assert_same(one, other)


def test_published_updates_follow_the_transitions() -> None:
    learner = make_learner(warmup_epochs=1, updates_per_epoch=0, reuse_rate=256.0, batch=10, prior_tasks=1)
    assert learner._updates_due(400.0) == 0
    learner.iteration = 1
    # 256 * 400 / (4 tasks * 10 transitions) = 2560, and never none
    assert learner._updates_due(400.0) == 2560
    assert learner._updates_due(0.0) == 1


def test_relabelling_fills_every_task_from_every_episode() -> None:
    ours, published = make_learner(), make_learner(relabel=False)
    for learner in (ours, published):
        learner._collect()
    # eight episodes: two for each task, or eight for each
    assert ((ours.pool.tensors["length"] > 0).sum(0) == 8).all()
    assert ((published.pool.tensors["length"] > 0).sum(0) == 2).all()
    assert ours.pool.tensors["explored"].sum() == published.pool.tensors["explored"].sum() == 4


def test_only_the_first_round_explores_past_its_goal() -> None:
    robot = PointBatch(8, radius=9.0)  # every task ends at its first step
    learner = SimplLearner(make_space(robot, "raw"), robot, GOALS, SimplConfig(**SMALL))
    learner._collect()
    assert learner.environment_steps == 4 * 12 + 4 * 1


def modules(learner: SimplLearner) -> dict[str, dict[str, Tensor]]:
    agent = learner.networks
    parts = {"policy": agent.policy, "critic": agent.critic, "target": agent.target_critic, "encoder": agent.encoder}
    parts |= {"multipliers": learner.multipliers}
    return {
        part: {name: value.clone() for name, value in module.state_dict().items()} for part, module in parts.items()
    }


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {name for name in one if not torch.equal(one[name], other[name])}


def test_the_policys_loss_reaches_neither_critics_nor_encoder() -> None:
    both, without = make_learner(policy_every=2), make_learner(policy_every=2)
    without.updates = 1  # the policy's turn is at even counts
    before = modules(both)
    for learner in (both, without):
        learner._collect()
        learner.update()
    with_policy, no_policy = modules(both), modules(without)
    assert differing(before["policy"], no_policy["policy"]) == set()
    assert differing(before["policy"], with_policy["policy"]) == set(before["policy"])
    for part in ("critic", "target", "encoder"):
        assert differing(with_policy[part], no_policy[part]) == set()
        assert differing(before[part], with_policy[part]) == set(before[part])
    changed = differing(no_policy["multipliers"], with_policy["multipliers"])
    assert changed == {"policy_prior.parameter", "policy_posterior.parameter"}


def test_the_critics_loss_reaches_the_encoder() -> None:
    weights = {"embedding_kl_prior": (1e-12, 1.0), "embedding_kl_posterior": (1e-12, 1.0)}
    learner = make_learner(reward_prediction=0.0, **weights)
    learner._collect()
    learner.update()
    gradients = {name: value.grad for name, value in learner.networks.encoder.named_parameters()}
    assert all(value is None for name, value in gradients.items() if name.startswith("reward."))
    used = [value for name, value in gradients.items() if name.startswith("context.") and value is not None]
    assert used
    assert all(value.abs().max() > 1e-6 for value in used)


def test_targets_follow_the_critics_slowly() -> None:
    learner = make_learner(target_rate=0.25)
    learner._collect()
    before = modules(learner)
    learner.update()
    after = modules(learner)
    for name, value in after["target"].items():
        torch.testing.assert_close(value, 0.75 * before["target"][name] + 0.25 * after["critic"][name])


@pytest.mark.parametrize(("only_increase", "target"), [(True, 1e3), (True, 1e-9), (False, 1e3), (False, 1e-9)])
def test_multipliers_move_towards_their_targets(only_increase: bool, target: float) -> None:
    kinds = ("embedding_kl_prior", "embedding_kl_posterior", "policy_kl_prior", "policy_kl_posterior")
    learner = make_learner(only_increase=only_increase, epochs=3, **{kind: (1e-2, target) for kind in kinds})
    before = modules(learner)["multipliers"]
    list(learner.train())
    for name, value in modules(learner)["multipliers"].items():
        if target < 1.0:
            assert (value >= before[name]).all()
            assert (value > before[name]).any()
        elif only_increase:
            assert torch.equal(value, before[name])
        else:
            assert (value < before[name]).any()


def test_multipliers_start_where_they_should() -> None:
    assert Multiplier(3e-6)().item() == pytest.approx(3e-6, rel=1e-4)
    assert Multiplier(0.03, (4,))().tolist() == pytest.approx([0.03] * 4, rel=1e-4)


def test_a_task_that_was_not_drawn_keeps_its_multiplier() -> None:
    learner = make_learner(prior_tasks=1, posterior_tasks=1)
    learner._collect()
    before = modules(learner)["multipliers"]["embedding_posterior.parameter"]
    learner.update()
    assert (modules(learner)["multipliers"]["embedding_posterior.parameter"] != before).sum() == 1


def test_a_non_finite_loss_stops_training() -> None:
    learner = make_learner(warmup_epochs=0)
    with torch.no_grad():
        learner.networks.critic.biases[-1].fill_(torch.nan)
    with pytest.raises(TrainingFault, match="SiMPL iteration 0: expected a finite loss_critic, got nan"):
        next(learner.train())


def test_parts_of_a_state_and_other_sizes_are_refused() -> None:
    tensors, facts = make_learner().state()
    with pytest.raises(RunError, match="expected a whole state"):
        make_learner().load_state({name: v for name, v in tensors.items() if name != "pool.reward"}, facts)
    with pytest.raises(RunError, match="expected a whole state"):
        make_learner(hidden=(8, 8)).load_state(tensors, facts)
    with pytest.raises(RunError, match="expected a whole state"):
        make_learner(pool_episodes=48).load_state(tensors, facts)


def test_too_few_rows_and_too_small_a_pool_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"4 tasks: expected 12 robot rows .* got 8 rows"):
        make_learner(episodes_per_task=(1, 3))
    with pytest.raises(ConfigError, match="room for a round of 8 episodes, got 8 rows and pool_episodes 7"):
        make_learner(pool_episodes=7)
    assert make_learner(pool_episodes=8).num_tasks == 4


def test_it_learns_to_infer_the_task() -> None:
    """Two goals on either side: who does not know which one is meant succeeds every other time at best."""
    robot = PointBatch(8, episode_steps=10)
    config = SimplConfig(
        embedding_dim=2,
        hidden=(32, 32),
        encoder_hidden=32,
        learning_rate=3e-3,
        multiplier_learning_rate=1e-3,
        policy_every=1,
        discount=0.9,
        prior_tasks=1,
        posterior_tasks=3,
        batch=64,
        success_batch=4,
        posterior_context=16,
        context_episodes=8,
        embedding_kl_prior=(1e-5, 1.0),
        embedding_kl_posterior=(1e-5, 10.0),
        policy_kl_prior=(0.03, 0.5),
        policy_kl_posterior=(0.03, 2.0),
        reward_prediction=1.0,
        epochs=14,
        warmup_epochs=1,
        updates_per_epoch=40,
        episodes_per_task=(4, 4),
        pool_episodes=200,
    )
    space = RawSpace(robot.spec, torch.zeros(2), torch.full((2,), 3.0))
    records = list(SimplLearner(space, robot, 0.75 * GOALS[:2], config).train())
    posterior = [metrics["return_posterior"] for metrics in records]  # 1 where the goal was reached, else 0
    explore = [metrics["return_explore"] for metrics in records]
    assert "success_posterior" not in records[0]  # points do not tell
    assert np.mean(posterior[-3:]) > np.mean(explore[-3:]) + 0.3
    assert np.mean(posterior[-3:]) > 0.7 > 0.4 > np.mean(posterior[:3])


class TestSimplLearner(MetaLearnerContract):
    """SiMPL is a meta-learner like the others; its agents learn while they observe."""

    adapt_steps = 0

    def make_learner(self, seed: int) -> "ShortSimpl":
        robot = PointBatch(8)
        return ShortSimpl(make_space(robot, "raw"), robot, GOALS, SimplConfig(**SMALL), seed=seed)


class ShortSimpl(SimplLearner):
    """With agents that have explored enough after one episode."""

    def agent(self, deployment: DeploymentConfig | None = None, **options: Any) -> SimplAdaptiveAgent:
        tuning = FinetuneConfig(batch=8, min_transitions=4, reuse_rate=8.0, pool_episodes=16, critic_updates_first=0)
        short = DeploymentConfig(exploration_episodes=1, context=8, candidates=4, keep_searching=False, finetune=tuning)
        return super().agent(short if deployment is None else deployment, **options)


def test_an_agent_that_searches_for_rewards_needs_a_trained_reward_head() -> None:
    learner = make_learner(reward_prediction=0.0)
    with pytest.raises(ConfigError, match="expected 'blind'"):
        learner.agent()
    learner.agent(DeploymentConfig(search="blind"))
