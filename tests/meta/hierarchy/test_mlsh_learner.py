"""MLSH training and adapting: what is frozen when, what begins anew with a task, and a task that needs two skills."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError, TrainingFault
from supple.meta.config import EvaluationConfig
from supple.meta.evaluation import evaluate_agent
from supple.meta.hierarchy import mlsh_agent, mlsh_learner
from supple.meta.hierarchy.config import MlshConfig, PpoPasses
from supple.meta.hierarchy.mlsh_actor import HierarchyActor, Played
from supple.meta.hierarchy.mlsh_agent import MlshAgent
from supple.meta.hierarchy.mlsh_learner import MlshLearner
from supple.meta.space import ChoiceSpace, RawSpace, SkillSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.robots.movement_bandits import MovementBanditBatch
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

CPU = torch.device("cpu")
GOALS = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]], np.float32)
SLOTS = np.array([[0.0], [1.0]], np.float32)
FEW = PpoPasses(epochs=2, minibatches=2)
SMALL: dict[str, Any] = {
    "groups": 4,
    "rollouts": 3,
    "hold": 2,
    "warmup": 1,
    "joint": 1,
    "iterations": 4,
    "hidden": (8,),
    "master": FEW,
    "sub_policy": FEW,
}


def make_bandits(seed: int = 0, **changes: Any) -> MlshLearner:
    config = MlshConfig(**{**SMALL, **changes})
    robot = MovementBanditBatch(max(config.groups * config.rollouts, 12), episode_steps=6)
    return MlshLearner(ChoiceSpace(robot.spec), robot, SLOTS, config, seed=seed)


def make_points(seed: int = 0, **changes: Any) -> MlshLearner:
    """Episodes that end early in some rows: goals are 2 m away and points move by up to 1 m."""
    config = MlshConfig(**{**SMALL, "sub_policies": 3, **changes})
    robot = PointBatch(12, episode_steps=5)
    return MlshLearner(UnitSpace(robot.spec), robot, GOALS, config, seed=seed)


class TestMlshOnMovementBandits(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 2

    def make_learner(self, seed: int) -> MlshLearner:
        return make_bandits(seed)


class TestMlshOnPoints(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 2

    def make_learner(self, seed: int) -> MlshLearner:
        return make_points(seed)


class TestMlshOnRawActions(MetaLearnerContract):
    def make_learner(self, seed: int) -> MlshLearner:
        robot = PointBatch(12, episode_steps=5)
        space = RawSpace(robot.spec, torch.zeros(2), torch.ones(2))
        return MlshLearner(space, robot, GOALS, MlshConfig(**SMALL), seed=seed)


class TestMlshOnSkills(MetaLearnerContract):
    def make_learner(self, seed: int) -> MlshLearner:
        robot = PointBatch(12)
        width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
        model = SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width))
        return MlshLearner(SkillSpace(model), robot, GOALS, MlshConfig(**SMALL), seed=seed)


def copy_of(learner: MlshLearner, prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in learner.state()[0].items() if name.startswith(prefix)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_sub_policies_are_frozen_while_every_group_warms_up() -> None:
    learner = make_bandits(warmup=3, groups=2, joint=1)
    assert learner.ages.tolist() == [0, -2]
    before = copy_of(learner, "sub_policies.")
    records = learner.train()
    for _ in range(3):
        metrics = next(records)
        assert not any(name.startswith("sub_policy_") for name in metrics)
    # bit for bit, moments of Adam, step counts and the scale of returns included
    assert same(copy_of(learner, "sub_policies."), before)
    assert not any(value.requires_grad or value.grad is not None for value in learner.sub_policies.params.values())
    assert "sub_policy_loss_policy" in next(records)
    after = copy_of(learner, "sub_policies.")
    assert not torch.equal(
        after["sub_policies.params.policy.layers.0.weight"], before["sub_policies.params.policy.layers.0.weight"]
    )


@pytest.mark.parametrize(
    ("warmup", "joint", "expected"),
    [
        # the groups stand one update apart: each third update of a task is joint, and another group's each time
        (2, 1, [[], [], [0], [1], [2], [0], [1], [2], [0]]),
        # two of three: group 0 begins its second task with the fourth update, group 1 with the fifth
        (1, 2, [[], [0], [0, 1], [1, 2], [0, 2], [0, 1], [1, 2], [0, 2], [0, 1]]),
    ],
)
def test_sub_policies_learn_from_the_groups_past_their_warm_up_only(
    warmup: int, joint: int, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_bandits(warmup=warmup, joint=joint, groups=3, iterations=9)
    seen: list[list[int]] = []
    update = learner.update

    def spy(played: Played, joint: Any) -> dict[str, float]:
        seen.append(joint.tolist())
        return update(played, joint)

    monkeypatch.setattr(learner, "update", spy)
    list(learner.train())
    assert seen == expected


def test_what_warms_up_does_not_touch_the_sub_policies() -> None:
    one, other = make_bandits(), make_bandits()
    played, _ = one._collect()
    other._collect()
    joint = np.array([1, 3])
    rows = torch.arange(12).view(4, 3)[[0, 2]].flatten()
    reward = played.episodes.reward.clone()
    reward[rows] += 5.0
    changed = played._replace(episodes=played.episodes._replace(reward=reward))
    one.update(played, joint)
    other.update(changed, joint)
    assert same(copy_of(one, "sub_policies."), copy_of(other, "sub_policies."))
    assert not same(copy_of(one, "masters."), copy_of(other, "masters."))


def test_a_new_task_begins_with_a_new_master_and_no_moments_and_leaves_the_others() -> None:
    learner = make_bandits(warmup=1, joint=1, groups=2, iterations=6)
    records = learner.train()
    next(records)
    next(records)
    assert learner.ages.tolist() == [2, 1]  # the first group's task is over
    before = {name: value.clone() for name, value in learner.masters.params.items()}
    sub_policies = copy_of(learner, "sub_policies.")
    learner._begin_tasks([0])
    name = "policy.layers.0.weight"
    assert not torch.equal(learner.masters.params[name][0], before[name][0])
    assert torch.equal(learner.masters.params[name][1], before[name][1])
    assert float(learner.masters.first[name][0].abs().sum() + learner.masters.second[name][0].sum()) == 0.0
    assert learner.masters.steps.tolist() == [0.0, 8.0]  # two updates of two passes of two parts
    assert float(learner.masters.first[name][1].abs().sum()) > 0.0
    assert learner.updates.tolist() == [0, 2]
    assert same(copy_of(learner, "sub_policies."), sub_policies)


def test_groups_that_begin_together_draw_tasks_without_replacement() -> None:
    learner = make_bandits(warmup=0, joint=1, groups=4, iterations=5)
    for _ in learner.train():
        assert sorted(learner.task.tolist()) == [0, 0, 1, 1]
    points = make_points(groups=2, warmup=0)
    assert len(set(points.task.tolist())) == 2


def test_one_sub_policy_without_warm_up_is_ppo_on_all_tasks() -> None:
    learner = make_bandits(sub_policies=1, warmup=0, iterations=3)
    records = list(learner.train())
    assert all("sub_policy_loss_policy" in record for record in records)
    assert all(record["master_entropy"] == 0.0 for record in records)
    assert all(record["favourite_share"] == 1.0 for record in records)


def test_each_level_learns_by_its_own_passes_in_training_and_in_a_new_task() -> None:
    # two parts in each pass: three passes of a master, one of a sub-policy
    levels = {"master": PpoPasses(epochs=3, minibatches=2), "sub_policy": PpoPasses(epochs=1, minibatches=2)}
    learner = make_bandits(**levels)
    played, _ = learner._collect()
    learner.update(played, np.arange(4))
    assert learner.state()[0]["masters.steps"].tolist() == [6.0] * 4
    assert learner.state()[0]["sub_policies.steps"].tolist() == [2.0] * 2
    agent = learner.agent(rollouts=3)
    config, rng = EvaluationConfig(adapt_steps=1), np.random.default_rng(0)
    evaluate_agent(agent, learner.robot, learner.space, SLOTS[:1], config, rng, device=CPU)
    assert agent.state()[0]["masters.steps"].tolist() == [6.0]


def test_fresh_and_adapted_groups_are_told_apart() -> None:
    learner = make_bandits()
    learner.updates[:] = [0, 2, 2, 1]
    played, metrics = learner._collect()
    returns = played.episodes.reward.sum(1).view(4, 3).mean(1)
    assert metrics["return"] == pytest.approx(float(returns.mean()))
    assert metrics["return_fresh"] == pytest.approx(float(returns[0]))
    assert metrics["return_adapted"] == pytest.approx(float(returns[1:3].mean()))
    # of 3 episodes of 6 steps, with choices held for 2, the choice that was taken most often
    shares = [max(np.bincount(row)) / 9 for row in played.macro.view(4, 9).tolist()]
    assert metrics["favourite_share"] == pytest.approx((shares[1] + shares[2]) / 2)


def test_each_level_has_its_own_scale_of_returns() -> None:
    learner = make_bandits(discount=0.5)
    played, _ = learner._collect()
    reward = torch.ones_like(played.episodes.reward)
    learner.update(played._replace(episodes=played.episodes._replace(reward=reward)), np.arange(4))
    # every decision pays 1, and a master's choice is held for two of them: it is paid 2 each time
    assert learner.masters.return_mean > learner.sub_policies.return_mean > 0.0


def test_the_share_of_uniform_choices_is_that_which_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    class Watched(HierarchyActor):
        def __init__(self, *networks: Any, random_choice: float = 0.0, greedy: bool = False) -> None:
            asked.append(random_choice)
            super().__init__(*networks, random_choice=random_choice, greedy=greedy)

    monkeypatch.setattr(mlsh_learner, "HierarchyActor", Watched)
    monkeypatch.setattr(mlsh_agent, "HierarchyActor", Watched)
    learner = make_bandits(random_choice=0.25)
    next(learner.train())
    assert asked == [0.25]
    asked.clear()
    learner.agent().begin_task(1)
    assert set(asked) == {0.0}
    asked.clear()
    learner.agent(random_choice=0.5).begin_task(1)
    assert set(asked) == {0.5}


def test_agents_adapt_their_master_and_nothing_else() -> None:
    learner = make_bandits()
    next(learner.train())
    agent = learner.agent(rollouts=3)
    rng = np.random.default_rng(0)
    agent.begin_task(6)
    before = agent.state()[0]
    config = EvaluationConfig(adapt_steps=2)
    evaluate_agent(agent, learner.robot, learner.space, SLOTS, config, rng, device=CPU)
    after = agent.state()[0]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in moved} == {"masters", "generator"}
    assert "masters.params.policy.layers.0.weight" in moved
    # two updates of two passes of two parts, from moments that begin with the task
    assert after["masters.steps"].tolist() == [8.0, 8.0]
    # a robot that fails: nothing observed, nothing changed
    agent._seen = []
    agent.adapt()
    assert torch.equal(agent.state()[0]["masters.steps"], after["masters.steps"])


def test_episodes_of_the_last_task_do_not_teach_the_next_one() -> None:
    learner = make_bandits()
    agent = learner.agent(rollouts=3)
    agent.begin_task(3)
    config = EvaluationConfig()
    rng = np.random.default_rng(0)
    evaluate_agent(agent, learner.robot, learner.space, SLOTS[:1], config, rng, device=CPU)  # observed, not adapted to
    assert agent.state()[1] == {"seen": 1}
    agent.begin_task(3)
    agent.adapt()
    assert agent.state()[0]["masters.steps"].tolist() == [0.0]


def test_masters_of_an_agent_learn_on_the_scale_of_the_training() -> None:
    learner = make_bandits()
    next(learner.train())
    agent = learner.agent(rollouts=3)
    agent.begin_task(3)
    assert (agent.masters.return_mean, agent.masters.return_variance) == (
        learner.masters.return_mean,
        learner.masters.return_variance,
    )
    assert learner.masters.return_variance != 1.0
    # without a training there is no scale
    assert MlshAgent(learner.space, 2, learner.config).return_scale == (0.0, 1.0)


def make_two_ways() -> tuple[PointBatch, np.ndarray[Any, Any]]:
    """Two goals, 6 m right and 6 m left: no one policy reaches both within eight moves of at most 1 m."""
    return PointBatch(160, episode_steps=8), np.array([[6.0, 0.0], [-6.0, 0.0]], np.float32)


def test_masters_find_the_sub_policy_that_their_task_needs() -> None:
    robot, goals = make_two_ways()
    config = MlshConfig(**{**SMALL, "hold": 4, "master": PpoPasses(learning_rate=0.02, epochs=10, minibatches=2)})
    learner = MlshLearner(UnitSpace(robot.spec), robot, goals, config, seed=0)
    learner.sub_policies.params["policy.layers.1.bias"].copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    learner.sub_policies.params["policy.log_scale"].fill_(-3.0)
    agent = learner.agent(rollouts=20)
    found = evaluate_agent(
        agent,
        robot,
        learner.space,
        goals,
        EvaluationConfig(adapt_steps=8),
        np.random.default_rng(0),
        device=CPU,
    ).per_round()
    # by chance both choices of an episode are right in a quarter of them
    assert bool((found[:, 0] < 0.5).all())
    assert bool((found[:, -1] > 0.85).all())


def test_too_few_rows_and_numbers_that_are_none_are_refused() -> None:
    robot = MovementBanditBatch(11)
    with pytest.raises(ConfigError, match=r"MLSH: expected 12 robot rows for groups x rollouts, got 11"):
        MlshLearner(ChoiceSpace(robot.spec), robot, SLOTS, MlshConfig(**SMALL))
    learner = make_bandits()
    learner.masters.params["value.layers.1.bias"].fill_(float("nan"))
    with pytest.raises(TrainingFault, match=r"MLSH iteration 0: expected a finite master_loss_policy, got nan"):
        next(learner.train())
    agent = make_bandits().agent(rollouts=3)
    with pytest.raises(ConfigError, match=r"MLSH agent: expected a multiple of rollouts = 3 rows, got 4"):
        agent.begin_task(4)
