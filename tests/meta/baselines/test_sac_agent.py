"""SAC from scratch in each task: learning a known optimum, tasks that do not touch, and what is refused."""

import copy
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from supple.errors import ConfigError
from supple.meta.baselines.config import SacConfig, TaskSacConfig
from supple.meta.baselines.sac import sac_critic_loss, sac_policy_loss
from supple.meta.baselines.sac_agent import SacAgent
from supple.meta.baselines.sac_learner import SacLearner
from supple.meta.collect import collect
from supple.meta.config import EvaluationConfig
from supple.meta.evaluation import evaluate_agent
from supple.meta.space import ChoiceSpace, SkillSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.robots.bandits import BernoulliBanditBatch
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

CPU = torch.device("cpu")
GOALS = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]], np.float32)
SMALL = TaskSacConfig(sac=SacConfig(hidden=(8,), batch=4), updates=2, replay=60, rollouts=2)
ARMS = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]], np.float32)


def make_points(seed: int = 0, **options: Any) -> SacLearner:
    robot = PointBatch(12, episode_steps=5)
    return SacLearner(UnitSpace(robot.spec), robot, GOALS, SMALL, **{"tasks": 2, "iterations": 4, **options}, seed=seed)


class TestSacOnPoints(MetaLearnerContract):
    def make_learner(self, seed: int) -> SacLearner:
        return make_points(seed)


class TestSacOnSkills(MetaLearnerContract):
    def make_learner(self, seed: int) -> SacLearner:
        width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
        model = SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width))
        return SacLearner(SkillSpace(model), PointBatch(12), GOALS, SMALL, tasks=2, iterations=4, seed=seed)


class TestSacOnABandit(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 2

    def make_learner(self, seed: int) -> SacLearner:
        robot = BernoulliBanditBatch(12, arms=2, episode_steps=4)
        return SacLearner(ChoiceSpace(robot.spec), robot, ARMS, SMALL, tasks=2, iterations=4, seed=seed)


def test_it_learns_which_arm_pays() -> None:
    # uniform choices get 8 x .5 = 4 of 8 pulls; the better arm .9 x 8 = 7.2, and .8 x 8 = 6.4 in the third task
    robot = BernoulliBanditBatch(24, arms=2, episode_steps=8)
    config = TaskSacConfig(
        sac=SacConfig(hidden=(16,), batch=32, learning_rate=0.01, discount=0.0, temperature=0.05), updates=40
    )
    space = ChoiceSpace(robot.spec)
    found = evaluate_agent(
        SacAgent(space, robot.spec.observation.shape[0], config),
        robot,
        space,
        ARMS,
        EvaluationConfig(adapt_steps=5, trials=8),
        np.random.default_rng(0),
        device=CPU,
    ).per_round()
    assert float(found[:, 0].mean()) < 5.0
    assert float(found[:, -1].mean()) > 6.0


def test_a_point_learns_to_reach_its_goal() -> None:
    robot = PointBatch(24, episode_steps=6)
    config = TaskSacConfig(
        sac=SacConfig(hidden=(32, 32), batch=32, learning_rate=3e-3, temperature=0.02, target_rate=0.05),
        updates=100,
        rollouts=8,
    )
    space = UnitSpace(robot.spec)
    found = evaluate_agent(
        SacAgent(space, 2, config),
        robot,
        space,
        GOALS,
        EvaluationConfig(adapt_steps=6),
        np.random.default_rng(0),
        device=CPU,
    ).per_round()
    assert float(found[:, -1].mean()) > float(found[:, 0].mean()) + 0.3


def test_tasks_side_by_side_do_not_touch() -> None:
    robot = PointBatch(6, episode_steps=5)
    space = UnitSpace(robot.spec)
    config = TaskSacConfig(sac=SacConfig(hidden=(8,), batch=4), updates=5, rollouts=2)

    def learn(goals: Any) -> dict[str, torch.Tensor]:
        agent = SacAgent(space, 2, config)
        agent.begin_task(6)
        rows = np.repeat(goals, 2, axis=0)
        agent.observe(collect(robot, space, agent.act, rows, np.random.default_rng(0), device=CPU))
        agent.adapt()
        return agent.state()[0]

    one = learn(GOALS)
    other = learn(np.array([[2.0, 0.0], [-2.0, 0.0], [0.05, 0.0]], np.float32))  # the last goal is where they start
    weights = [name for name in one if name.startswith("sac.networks.policy")]
    assert weights
    for name in weights:
        assert torch.equal(one[name][:2], other[name][:2]), name
    assert any(not torch.equal(one[name][2], other[name][2]) for name in weights)


def test_a_task_gets_the_gradient_that_it_would_have_alone() -> None:
    robot = PointBatch(4, episode_steps=5)
    space = UnitSpace(robot.spec)
    agent = SacAgent(space, 2, TaskSacConfig(sac=SacConfig(hidden=(8,), batch=4)))
    agent.begin_task(4)
    agent.observe(collect(robot, space, agent.act, np.resize(GOALS, (4, 2)), np.random.default_rng(0), device=CPU))
    sac = agent._begun
    batch = sac.replay.sample(torch.arange(4), 4, torch.Generator().manual_seed(1))
    value = sac.networks.value(sac.networks.critic, batch.observation, torch.zeros(4, 4, 0), batch.action)
    alone = torch.autograd.grad(value[:, 1].square().mean(), sac._critic, retain_graph=True)
    sac._step("critic", value.square().mean(), sac._critic)
    for parameter, expected in zip(sac._critic, alone, strict=True):
        assert parameter.grad is not None
        # critics stand first, tasks second: the second task has the sets 1 and 4 + 1
        torch.testing.assert_close(parameter.grad[[1, 5]], expected[[1, 5]])


def test_an_update_moves_critics_then_targets_then_policies() -> None:
    robot = PointBatch(4, episode_steps=5)
    space = UnitSpace(robot.spec)
    config = SacConfig(hidden=(8,), batch=4, learning_rate=0.01, target_rate=0.25, discount=0.5, temperature=0.3)
    agent = SacAgent(space, 2, TaskSacConfig(sac=config))
    agent.begin_task(4)
    agent.observe(collect(robot, space, agent.act, np.resize(GOALS, (4, 2)), np.random.default_rng(0), device=CPU))
    sac = agent._begun
    with torch.no_grad():  # targets that stand elsewhere than the critics
        for parameter in sac.networks.target.parameters():
            parameter.mul_(0.5)
    twin, generator = copy.deepcopy(sac.networks), torch.Generator()
    generator.set_state(agent.generator.get_state())
    metrics = sac.update()
    assert sac.state()[1] == {"updates": 1}

    policy, critic = list(twin.policy.parameters()), list(twin.critic.parameters())
    batch = sac.replay.sample(torch.arange(4), 4, generator)
    nothing = torch.zeros(4, 4, 0)

    def step(loss: torch.Tensor, parameters: list[Any]) -> None:
        for parameter, gradient in zip(parameters, torch.autograd.grad(4 * loss, parameters), strict=True):
            parameter.grad = gradient
        torch.optim.Adam(parameters, lr=0.01, fused=True).step()

    loss_critic = sac_critic_loss(twin, batch, nothing, generator, config)
    step(loss_critic, critic)
    with torch.no_grad():
        for old, new in zip(twin.target.parameters(), critic, strict=True):
            old.copy_(0.75 * old + 0.25 * new)
    loss_policy, divergence = sac_policy_loss(twin, batch.observation, nothing, generator, config)
    step(loss_policy, policy)

    for name, expected in twin.state_dict().items():
        torch.testing.assert_close(sac.networks.state_dict()[name], expected, msg=name)
    assert torch.equal(agent.generator.get_state(), generator.get_state())
    found = {"loss_critic": loss_critic, "loss_policy": loss_policy, "policy_kl": divergence}
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(
        {name: value.item() for name, value in found.items()}
    )


def test_nothing_is_learned_from_nothing() -> None:
    agent = make_points().agent()
    agent.begin_task(4)
    before = agent.state()[0]
    agent.adapt()
    after = agent.state()[0]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_rows_that_do_not_fit_and_settings_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="SAC agent: expected a multiple of rollouts = 2 rows, got 3"):
        make_points().agent().begin_task(3)
    with pytest.raises(ConfigError, match=r"TaskSacConfig.updates: expected a whole number from 1 to .*, got 0"):
        TaskSacConfig(updates=0)
    with pytest.raises(
        ConfigError, match=r"SAC: expected at least 1 .* 1 to 3 tasks with 8 robot rows, got .*; set --learner.t"
    ):
        make_points(tasks=4)
    for wrong in ({"tasks": 0}, {"iterations": 0}):
        with pytest.raises(ConfigError, match="SAC: expected at least 1 iteration on 1 to 3 tasks"):
            make_points(**wrong)
    robot = PointBatch(6, episode_steps=5)  # as many rows as needed, and no more
    assert SacLearner(UnitSpace(robot.spec), robot, GOALS, SMALL, tasks=3, iterations=1).iterations == 1
    with pytest.raises(ConfigError, match="with 6 robot rows, got 1 iterations on 3 tasks with 5 rows"):
        SacLearner(UnitSpace(robot.spec), PointBatch(5), GOALS, SMALL, tasks=3, iterations=1)
