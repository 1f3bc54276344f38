"""The learner and its agent on arms, points and skills: exact resume, adaptation, learning with a known optimum."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supple.errors import ConfigError, TrainingFault
from supple.meta.adaptive import AdaptiveAgent
from supple.meta.collect import collect
from supple.meta.config import TrustRegion
from supple.meta.distribution import detach
from supple.meta.gradient import maml_learner
from supple.meta.gradient.config import MamlConfig
from supple.meta.gradient.inner import UpdateRule, inner_step
from supple.meta.gradient.learned_rule import LearnedRule
from supple.meta.gradient.maml import evaluate_curvature
from supple.meta.gradient.maml_agent import MamlAgent
from supple.meta.gradient.maml_learner import MamlLearner
from supple.meta.policy import for_tasks
from supple.meta.space import ActionSpace, ChoiceSpace, SkillSpace, UnitSpace
from supple.meta.state import named_part
from supple.meta.task_batch import make_task_batch
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.robots.robot import RobotBatch, StepRows
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel
from tests.meta.sampled_advantages import check_advantages
from tests.meta.watched_curvature import watch_curvature

CPU = torch.device("cpu")
POINT_GOALS = np.array([[1.2, 0], [-1.2, 0], [0, 1.2], [0, -1.2]], np.float32)
ARM_GOALS = np.arange(3, dtype=np.float32)[:, None]


class Arms:
    """Three arms, one of which pays 1; which one is the task. Two pulls per episode; nothing is seen."""

    def __init__(self, rows: int) -> None:
        self.spec = RobotSpec(
            name="arms",
            observation=ArraySpec("observation", (Axis("nothing", "1", -1.0, 1.0),)),
            action=ArraySpec("action", (Axis("action", "1", 0.0, 2.0),)),
            goal=ArraySpec("goal", (Axis("arm", "1", 0.0, 2.0),)),
            control_period=1.0,
            episode_steps=2,
            choices=("a", "b", "c"),
        )
        self.rows = rows
        self._goal, self._elapsed = np.zeros(rows, np.float32), np.zeros(rows, np.int64)

    def reset(self, rows: NDArray[np.int64], goals: NDArray[np.float32], rng: np.random.Generator) -> Any:
        self._goal[rows], self._elapsed[rows] = goals[:, 0], 0
        return np.zeros((len(rows), 1), np.float32)

    def step(self, rows: NDArray[np.int64], action: NDArray[np.float32]) -> StepRows:
        self._elapsed[rows] += 1
        paid = (action[:, 0] == self._goal[rows]).astype(np.float32)
        return StepRows(
            np.zeros((len(rows), 1), np.float32), paid, np.zeros(len(rows), np.bool_), self._elapsed[rows] >= 2
        )

    def compute_reward(self, observation: Any, goals: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None: ...


def make_space(robot: RobotBatch, kind: str) -> ActionSpace:
    if kind == "choice":
        return ChoiceSpace(robot.spec)
    if kind == "unit":
        return UnitSpace(robot.spec)
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


def make_learner(kind: str = "unit", seed: int = 0, update: UpdateRule | None = None, **changes: Any) -> MamlLearner:
    robot: RobotBatch = Arms(32) if kind == "choice" else PointBatch(32, episode_steps=6)
    goals = ARM_GOALS if kind == "choice" else POINT_GOALS
    config = {"hidden": (8,), "iterations": 4, "tasks": 2, "episodes": 4, "inner_steps": 1, "activation": "tanh"}
    return MamlLearner(
        make_space(robot, kind), robot, goals, MamlConfig(**{**config, **changes}), update=update, seed=seed
    )


def without_clocks(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("wall_")}


class TestMamlOnArms(MetaLearnerContract):
    def make_learner(self, seed: int) -> MamlLearner:
        return make_learner("choice", seed)


class TestEMamlOnPoints(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 2

    def make_learner(self, seed: int) -> MamlLearner:
        return make_learner("unit", seed, exploration=1.0, outer="ppo", step_sizes="parameter", inner_steps=2)


class TestLearnedRuleOnSkills(MetaLearnerContract):
    def make_learner(self, seed: int) -> MamlLearner:
        return make_learner("skill", seed, update=LearnedRule(hidden=3), outer="reinforce", correction="lvc")


VARIANTS: dict[str, dict[str, Any]] = {
    "first order": {"first_order": True, "step_sizes": "tensor", "normalise_advantage": False},
    "first-order curvature": {"curvature": "first-order", "curvature_tasks": 2, "correction": "dice"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_is_exact(variant: str) -> None:
    whole, first = make_learner(inner_steps=2, **VARIANTS[variant]), make_learner(inner_steps=2, **VARIANTS[variant])
    expected = [without_clocks(metrics) for metrics in whole.train()]
    running = first.train()
    found = [without_clocks(next(running)) for _ in range(2)]
    tensors, facts = first.state()
    tensors = {name: value.clone() for name, value in tensors.items()}
    second = make_learner(seed=7, inner_steps=2, **VARIANTS[variant])
    second.load_state(tensors, facts)
    found += [without_clocks(metrics) for metrics in second.train()]
    assert found == expected
    (one, one_facts), (two, two_facts) = whole.state(), second.state()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one_facts == two_facts
    assert [metrics["step"] for metrics in found] == [1.0, 2.0, 3.0, 4.0]
    assert {"return_0", "return_1", "return_2", "environment_steps", "kl"} <= found[0].keys()


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({}, False),  # that of the KL which the step keeps to
        ({"curvature_tasks": 1}, True),
        ({"curvature": "first-order"}, True),
        ({"curvature": "first-order", "curvature_tasks": 1}, True),
    ],
)
def test_a_trust_region_step_is_given_the_curvature_that_was_asked_for(
    changes: dict[str, Any], own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner(**changes)
    given = watch_curvature(monkeypatch, maml_learner, learner.config.trust_region)
    batches, _ = learner._collect()
    *supports, query = batches
    with torch.no_grad():
        learner.meta["policy.layers.0.bias"] += 0.3  # away from the samples, where the KL of all tasks is 0
    moved = {name: value.detach().clone().requires_grad_() for name, value in learner.meta.items()}
    expected = evaluate_curvature(learner.policy, learner.update_rule, moved, supports, query, learner.config)
    learner._learn(batches)
    assert [curvature is not None for curvature in given] == [own]
    if own:
        torch.testing.assert_close(given[0](moved), expected)


@pytest.mark.parametrize(("outer", "steps"), [("ppo", 3), ("reinforce", 1)])
def test_samples_serve_several_steps_of_ppo_and_one_of_reinforce(outer: str, steps: int) -> None:
    learner = make_learner(outer=outer, outer_steps=3)
    next(learner.train())
    assert {int(kept["step"]) for kept in learner.optimisers["meta"].state.values()} == {steps}


@pytest.mark.parametrize("normalise", [True, False])
def test_each_round_of_samples_is_of_the_policies_after_all_steps_before(normalise: bool) -> None:
    learner = make_learner(inner_steps=2, step_size=0.5, discount=0.5, trace=0.9, normalise_advantage=normalise)
    batches, metrics = learner._collect()
    params, rule = for_tasks(named_part(learner.meta, "policy."), 2), named_part(learner.meta, "rule.")
    for step, batch in enumerate(batches):
        check_advantages(batch, 0.5, 0.9, normalise=normalise)
        torch.testing.assert_close(batch.old, detach(learner.policy(params, batch.observation)))
        assert metrics[f"return_{step}"] == pytest.approx(float(batch.returns().mean()))
        params = inner_step(learner.policy, learner.update_rule, rule, params, batch)
    assert len(batches) == 3
    assert not torch.equal(params["layers.0.weight"][0], params["layers.0.weight"][1])


def test_a_meta_update_changes_the_parameters_within_the_trust_region() -> None:
    learner = make_learner()
    before = {name: value.detach().clone() for name, value in learner.meta.items()}
    metrics = next(learner.train())
    assert 0.0 < metrics["kl"] <= 0.01
    assert metrics["loss_after"] < metrics["loss_before"]
    assert any(not torch.equal(value, before[name]) for name, value in learner.meta.items())
    # two tasks, four episodes, two rounds of at most 6 steps
    assert 2 * 4 * 2 <= metrics["environment_steps"] <= 2 * 4 * 2 * 6


LEARNING: dict[str, dict[str, Any]] = {
    "trpo": {"correction": "lvc", "trust_region": TrustRegion(max_kl=0.05), "iterations": 12},
    "ppo": {"outer": "ppo", "learning_rate": 0.02, "outer_steps": 3, "iterations": 25},
    "reinforce": {"outer": "reinforce", "learning_rate": 0.05, "iterations": 28},
    "e-maml": {"outer": "reinforce", "learning_rate": 0.05, "iterations": 28, "exploration": 0.1},
}


@pytest.mark.parametrize("variant", LEARNING)
def test_it_learns_to_find_the_arm_that_pays(variant: str) -> None:
    """At first no arm is better: a third of the two pulls is paid. After one inner step the best policy gets 2."""
    known = {"inner_steps": 1, "tasks": 3, "episodes": 10, "step_size": 1.0, "step_sizes": "tensor", "discount": 1.0}
    history = list(make_learner("choice", **{**known, **LEARNING[variant]}).train())
    assert history[0]["return_0"] == pytest.approx(2 / 3, abs=0.3)
    assert history[0]["return_1"] < 1.5
    assert np.mean([metrics["return_1"] for metrics in history[-5:]]) > 1.8
    # what it has before the step is no better than before training
    assert np.mean([metrics["return_0"] for metrics in history[-5:]]) < 1.2


def run(agent: MamlAgent, learner: MamlLearner, goals: NDArray[np.float32], seed: int = 0) -> Any:
    agent.begin_episode()
    rng = np.random.default_rng(seed)
    return collect(learner.robot, learner.space, agent.act, goals, rng, device=CPU)


@pytest.mark.parametrize("kind", ["choice", "unit", "skill"])
def test_the_agent_adapts_by_the_inner_step_of_the_learner(kind: str) -> None:
    learner = make_learner(kind)
    agent: MamlAgent = learner.agent(rollouts=4, later_scale=0.5)
    protocol: AdaptiveAgent = agent
    assert protocol.rollouts == 4
    goals = np.repeat(learner.goals[:2], 4, axis=0)
    agent.begin_task(8)
    params = for_tasks(named_part(learner.meta, "policy."), 2)
    for scale in (1.0, 0.5, 0.25):
        rounds = [run(agent, learner, goals, seed) for seed in range(2)]
        for episodes in rounds:
            agent.observe(episodes)
        agent.adapt()
        batch = make_task_batch(rounds, learner.policy, params, learner.space, discount=0.99, trace=1.0, normalise=True)
        assert batch.valid.shape[:2] == (2, 8)
        with torch.no_grad():
            params = inner_step(learner.policy, learner.update_rule, {}, params, batch, scale=scale)
        for name, value in params.items():
            torch.testing.assert_close(agent.params[name], value)
        assert not torch.equal(agent.params["layers.1.bias"][0], agent.params["layers.1.bias"][1])
    agent.adapt()  # nothing was observed since
    assert all(torch.equal(agent.params[name], value) for name, value in params.items())
    agent.begin_task(8)
    assert torch.equal(agent.params["layers.0.weight"][1], learner.meta["policy.layers.0.weight"])


def test_the_agent_keeps_the_parameters_of_its_time() -> None:
    learner = make_learner()
    agent = learner.agent(greedy=True)
    agent.begin_task(4)
    before = run(agent, learner, POINT_GOALS).latent
    next(learner.train())
    agent.begin_task(4)
    assert torch.equal(run(agent, learner, POINT_GOALS).latent, before)
    assert all(value.grad is None for value in learner.meta.values())


def test_rows_that_fit_no_task_are_refused() -> None:
    learner = make_learner()
    with pytest.raises(ConfigError, match="multiple of rollouts = 4 rows, got 6"):
        learner.agent(rollouts=4).begin_task(6)
    with pytest.raises(ConfigError, match=r"expected 36 robot rows.*got 32"):
        make_learner(tasks=9)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    learner = make_learner(outer="reinforce")
    with torch.no_grad():
        learner.meta["policy.layers.0.weight"].fill_(torch.nan)
    with pytest.raises((TrainingFault, ValueError), match=r"nan|finite"):
        next(learner.train())
