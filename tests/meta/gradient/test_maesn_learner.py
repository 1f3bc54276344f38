"""The learner and its agent on arms, points and skills: the contract, adaptation without autograd, a known optimum."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supple.errors import ConfigError, TrainingFault
from supple.meta.adaptive import AdaptiveAgent
from supple.meta.collect import collect
from supple.meta.config import EvaluationConfig, TrustRegion
from supple.meta.evaluation import evaluate_agent
from supple.meta.gradient import maesn_learner
from supple.meta.gradient.config import MaesnConfig
from supple.meta.gradient.maesn import (
    TaskLatent,
    episode_advantage,
    evaluate_outer,
    first_episodes,
    gather,
    latent_loss,
    latent_step,
)
from supple.meta.gradient.maesn_agent import MaesnAgent
from supple.meta.gradient.maesn_learner import MaesnLearner
from supple.meta.policy import ConditionedPolicy, for_tasks
from supple.meta.space import ActionSpace, ChoiceSpace, SkillSpace, UnitSpace
from supple.meta.state import named_part
from supple.meta.task_batch import make_task_batch
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.robots.bandits import BernoulliBanditBatch
from supple.robots.robot import RobotBatch
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel
from tests.meta.sampled_advantages import check_advantages
from tests.meta.watched_curvature import watch_curvature

CPU = torch.device("cpu")
POINT_GOALS = np.array([[1.2, 0], [-1.2, 0], [0, 1.2], [0, -1.2]], np.float32)
ARMS = np.eye(3, dtype=np.float32)
"""One arm pays always, the others never."""


def make_space(robot: RobotBatch, kind: str) -> ActionSpace:
    if kind == "choice":
        return ChoiceSpace(robot.spec)
    if kind == "unit":
        return UnitSpace(robot.spec)
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


def make_learner(kind: str = "unit", seed: int = 0, rows: int = 32, **changes: Any) -> MaesnLearner:
    robot: RobotBatch = PointBatch(rows, episode_steps=6)
    if kind == "choice":
        robot = BernoulliBanditBatch(rows, arms=3, episode_steps=2)
    config = {"hidden": (8,), "iterations": 4, "tasks": 2, "episodes": 4, "activation": "tanh"}
    goals = ARMS if kind == "choice" else POINT_GOALS
    return MaesnLearner(make_space(robot, kind), robot, goals, MaesnConfig(**{**config, **changes}), seed=seed)


class TestMaesnOnArms(MetaLearnerContract):
    def make_learner(self, seed: int) -> MaesnLearner:
        return make_learner("choice", seed)


class TestMaesnOnPoints(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 2

    def make_learner(self, seed: int) -> MaesnLearner:
        return make_learner("unit", seed, inner_steps=2, curvature_episodes=2, latent_dim=3)


class TestMaesnOnSkills(MetaLearnerContract):
    def make_learner(self, seed: int) -> MaesnLearner:
        return make_learner("skill", seed)


class TestWithoutFastAdaptation(MetaLearnerContract):
    def make_learner(self, seed: int) -> MaesnLearner:
        return make_learner("unit", seed, inner_steps=0)


def test_a_meta_update_stays_in_the_trust_region_and_leaves_the_rows_of_other_tasks() -> None:
    learner = make_learner()
    before = {name: value.detach().clone() for name, value in learner.meta.items()}
    collected, _ = learner._collect()
    metrics = learner._learn(collected)
    assert 0.0 < metrics["kl"] <= 0.01
    assert metrics["loss_after"] < metrics["loss_before"]
    others = sorted(set(range(4)) - set(collected.chosen.tolist()))
    assert len(others) == 2
    for name, value in learner.meta.items():
        assert not torch.equal(value, before[name])
        if name.startswith("table."):
            assert torch.equal(value[others], before[name][others])
    for name in ("mean", "log_scale"):
        assert metrics[f"step_{name}"] == pytest.approx(
            float(learner.meta[f"rule.log_step.{name}"].detach().exp().mean())
        )


@pytest.mark.parametrize("natural", [True, False])
def test_each_round_of_episodes_is_of_the_latents_after_all_steps_before(natural: bool) -> None:
    learner = make_learner(inner_steps=2, step_size=0.3, discount=0.5, trace=0.9, natural=natural)
    with torch.no_grad():  # elsewhere both kinds of steps would be nearly the same
        learner.meta["table.log_scale"].fill_(-0.7)
    collected, metrics = learner._collect()
    rule, latent = named_part(learner.meta, "rule."), gather(learner.meta, collected.chosen)
    batches = [*collected.supports, collected.query]
    for step, batch in enumerate(batches):
        check_advantages(batch.samples, 0.5, 0.9)
        torch.testing.assert_close(batch.z, latent.draw(batch.noise))
        assert metrics[f"return_{step}"] == pytest.approx(float(batch.samples.returns().mean()))
        latent = latent_step(latent, rule, batch.z, episode_advantage(batch.samples), natural=natural)
    assert len(batches) == 3


@pytest.mark.parametrize("episodes", [0, 3])
def test_the_curvature_of_a_trust_region_is_that_of_the_first_episodes(
    episodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner(curvature_episodes=episodes)
    given = watch_curvature(monkeypatch, maesn_learner, learner.config.trust_region)
    collected, _ = learner._collect()
    with torch.no_grad():
        learner.meta["policy.layers.0.bias"] += 0.3  # away from the samples, where the KL of all episodes is 0
    moved = {name: value.detach().clone().requires_grad_() for name, value in learner.meta.items()}
    some = first_episodes(collected.query, 3)
    expected = evaluate_outer(learner.policy, moved, collected.chosen, collected.supports, some, learner.config)[1]
    learner._learn(collected)
    assert [curvature is not None for curvature in given] == [episodes > 0]
    if episodes:
        torch.testing.assert_close(given[0](moved), expected)


def test_step_sizes_are_kept_below_the_largest() -> None:
    for largest, expected in ((None, 3.0), (1.5, 1.5)):
        learner = make_learner(largest_step=largest)
        with torch.no_grad():
            for name in ("mean", "log_scale"):
                learner.meta[f"rule.log_step.{name}"].fill_(float(np.log(3.0)))
        metrics = next(learner.train())
        assert metrics["step_mean"] == pytest.approx(expected, rel=0.2)
        assert metrics["step_log_scale"] == pytest.approx(expected, rel=0.2)
        assert largest is None or metrics["step_mean"] <= largest * 1.0001


def test_first_rows_have_the_spread_that_was_asked_for() -> None:
    one, other = (make_learner(table_scale=scale).meta["table.mean"].detach() for scale in (1.0, 0.0))
    assert bool((one != 0.0).all())
    assert float(other.abs().max()) == 0.0


def test_without_inner_steps_the_step_sizes_are_not_learned_and_agents_adapt_with_them() -> None:
    learner = make_learner(inner_steps=0, step_size=0.4)
    metrics = next(learner.train())
    assert "return_0" in metrics
    assert "return_1" not in metrics
    assert metrics["step_mean"] == pytest.approx(0.4)
    agent = learner.agent(rollouts=4)
    agent.begin_task(4)
    play(agent, learner, POINT_GOALS[:1].repeat(4, axis=0))
    agent.adapt()
    assert bool((agent.latent.mean != 0.0).any())


def play(agent: MaesnAgent, learner: MaesnLearner, goals: NDArray[np.float32], seed: int = 0) -> Any:
    agent.begin_episode()
    episodes = collect(learner.robot, learner.space, agent.act, goals, np.random.default_rng(seed), device=CPU)
    agent.observe(episodes)
    return episodes


@pytest.mark.parametrize("kind", ["choice", "unit", "skill"])
def test_the_agent_adapts_as_autograd_would_and_halves_its_later_steps(kind: str) -> None:
    learner = make_learner(kind, step_size=0.3)
    agent = learner.agent(rollouts=4, seed=3)
    protocol: AdaptiveAgent = agent
    assert protocol.rollouts == 4
    goals = np.repeat(learner.goals[:2], 4, axis=0)
    agent.begin_task(8)
    source = torch.Generator().manual_seed(3)
    latent = TaskLatent(torch.zeros(2, 2), torch.zeros(2, 2))
    # two whole steps, then half and a quarter
    for scale in (1.0, 1.0, 0.5, 0.25):
        rounds, drawn = [], []
        for seed in range(2):
            before = agent.generator.get_state()
            rounds.append(play(agent, learner, goals, seed))
            source.set_state(before)
            drawn.append(latent.draw(torch.randn(2, 4, 2, generator=source)))
        z = torch.cat(drawn, dim=1)
        params = for_tasks(named_part(learner.meta, "policy."), 2)
        batch = make_task_batch(
            rounds,
            ConditionedPolicy(learner.policy, z),
            params,
            learner.space,
            discount=0.99,
            trace=1.0,
            normalise=True,
        )
        leaves = TaskLatent(*(value.clone().requires_grad_() for value in latent))
        loss = latent_loss(leaves, z, episode_advantage(batch)).sum()
        gradient = torch.autograd.grad(loss, list(leaves))
        with torch.inference_mode():  # nothing that needs autograd works here
            agent.adapt()
        latent = TaskLatent(*(value - scale * 0.3 * step for value, step in zip(latent, gradient, strict=True)))
        torch.testing.assert_close(agent.latent.mean, latent.mean)
        torch.testing.assert_close(agent.latent.log_scale, latent.log_scale)
        assert not torch.equal(latent.mean[0], latent.mean[1])
    agent.adapt()  # nothing was observed since
    torch.testing.assert_close(agent.latent.mean, latent.mean)
    agent.begin_task(8)
    assert [float(value.abs().max()) for value in agent.latent] == [0.0, 0.0]


def test_z_is_drawn_once_per_episode_and_tells_rows_apart() -> None:
    learner = make_learner()
    agent, other = (learner.agent(rollouts=4, greedy=greedy) for greedy in (False, True))
    seen = []
    for one in (agent, other):
        one.begin_task(4)
        one.begin_episode()
        seen.append(one.state()[0]["z"])
        play(one, learner, POINT_GOALS[:1].repeat(4, axis=0))
        z = one.state()[0]["seen_z.0"]
        assert torch.equal(z, one.state()[0]["z"])
    assert len({tuple(row) for row in seen[0][0].tolist()}) == 4
    assert float(seen[1].abs().max()) == 0.0  # greedy: the mean


def test_it_learns_to_find_the_arm_that_pays_from_the_prior() -> None:
    """Two pulls, one of three arms pays: 2/3 without knowing which, 2 at best. Agents start from N(0, I)."""
    learner = make_learner(
        "choice",
        rows=96,
        tasks=3,
        episodes=16,
        iterations=40,
        discount=1.0,
        hidden=(16,),
        kl_weight=0.01,
        trust_region=TrustRegion(max_kl=0.05),
    )
    history = list(learner.train())
    assert history[0]["return_1"] < 1.2
    assert np.mean([metrics["return_1"] for metrics in history[-5:]]) > 1.7
    config = EvaluationConfig(adapt_steps=3)
    rng = np.random.default_rng(0)
    found = evaluate_agent(
        learner.agent(rollouts=32), learner.robot, learner.space, ARMS, config, rng, device=CPU
    ).per_round()
    assert found[:, 0].mean() == pytest.approx(2 / 3, abs=0.25)
    assert found[:, -1].mean() > 1.7


def test_rows_that_fit_no_task_are_refused() -> None:
    learner = make_learner()
    with pytest.raises(ConfigError, match="multiple of rollouts = 4 rows, got 6"):
        learner.agent(rollouts=4).begin_task(6)
    with pytest.raises(ConfigError, match=r"expected 36 robot rows.*got 32"):
        make_learner(tasks=9)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    learner = make_learner()
    with torch.no_grad():
        learner.meta["policy.layers.0.weight"].fill_(torch.nan)
    with pytest.raises((TrainingFault, ValueError), match=r"nan|finite"):
        next(learner.train())
