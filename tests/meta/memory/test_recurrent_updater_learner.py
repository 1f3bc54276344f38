"""The learner of the recurrent updater and its agent: exact resume, what the artefact is, a task with an optimum."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supple.errors import ConfigError, TrainingFault
from supple.meta.collect import collect
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.evaluation import evaluate_agent
from supple.meta.memory.config import RecurrentUpdaterConfig
from supple.meta.memory.recurrent_updater import later_objective
from supple.meta.memory.recurrent_updater_learner import RecurrentUpdaterLearner
from supple.meta.policy import RowActor
from supple.meta.recurrent import FIRST_POLICY
from supple.meta.space import ActionSpace, ChoiceSpace, RawSpace, SkillSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.robots.bandits import BernoulliBanditBatch
from supple.robots.robot import RobotBatch
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel
from tests.meta.sampled_advantages import check_advantages

CPU = torch.device("cpu")
POINT_GOALS = np.array([[1.2, 0], [-1.2, 0], [0, 1.2], [0, -1.2]], np.float32)
ARM_GOALS = np.eye(3, dtype=np.float32)
"""Bandits whose one good arm always pays and whose others never do."""
SMALL: dict[str, Any] = {"hidden": (8,), "embedding": 6, "memory": 5, "rank": 3, "iterations": 4}
SMALL |= {"tasks": 4, "support": 3, "query": 2, "epochs": 2, "minibatch": 2}


def make_space(robot: RobotBatch, kind: str) -> ActionSpace:
    if kind == "choice":
        return ChoiceSpace(robot.spec)
    if kind == "unit":
        return UnitSpace(robot.spec)
    if kind == "raw":
        return RawSpace(robot.spec, torch.zeros(2), torch.ones(2))
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


def make_learner(kind: str = "unit", seed: int = 0, rows: int = 16, **changes: Any) -> RecurrentUpdaterLearner:
    robot: RobotBatch = PointBatch(rows, episode_steps=6)
    goals: NDArray[np.float32] = POINT_GOALS
    if kind == "choice":
        robot, goals = BernoulliBanditBatch(rows, arms=3, episode_steps=2), ARM_GOALS
    config = RecurrentUpdaterConfig(**{**SMALL, **changes})
    return RecurrentUpdaterLearner(make_space(robot, kind), robot, goals, config, seed=seed)


class TestOnPoints(MetaLearnerContract):
    adapt_steps: ClassVar[int] = 2

    def make_learner(self, seed: int) -> RecurrentUpdaterLearner:
        return make_learner("unit", seed, rounds=2)


class TestOnArmsWithExploration(MetaLearnerContract):
    def make_learner(self, seed: int) -> RecurrentUpdaterLearner:
        return make_learner("choice", seed, exploration=0.1)


class TestOnSkills(MetaLearnerContract):
    def make_learner(self, seed: int) -> RecurrentUpdaterLearner:
        return make_learner("skill", seed)


def play(learner: RecurrentUpdaterLearner, choose: Any, goals: NDArray[np.float32], seed: int = 3) -> Any:
    return collect(learner.robot, learner.space, choose, goals, np.random.default_rng(seed), device=CPU)


@pytest.mark.parametrize("kind", ["unit", "raw", "choice", "skill"])
def test_the_artefact_is_a_plain_parameter_vector(kind: str) -> None:
    """Parameters alone act as the agent does, without what the recurrent network knows."""
    learner = make_learner(kind)
    list(learner.train())
    agent = learner.agent(rollouts=2, seed=5)
    agent.begin_task(4)
    goals = np.repeat(learner.goals[:2], 2, axis=0)
    agent.observe(play(learner, agent.act, goals))
    agent.adapt()
    params = {name: value.clone() for name, value in agent.params.items()}
    generator = torch.Generator().manual_seed(0)
    generator.set_state(agent.generator.get_state())
    plain = RowActor(learner.policy, params, learner.space, 2, generator)
    expected = play(learner, agent.act, goals)
    found = play(learner, plain, goals)
    assert torch.equal(found.latent, expected.latent)
    assert torch.equal(found.reward, expected.reward)


def test_before_any_episode_an_agent_is_the_first_policy_and_adapting_to_nothing_keeps_it() -> None:
    learner = make_learner()
    next(learner.train())
    agent = learner.agent()
    agent.begin_task(2)
    agent.adapt()
    for name, value in learner.first.items():
        assert torch.equal(agent.params[name], value.expand(2, *value.shape))


def test_reading_in_two_rounds_is_reading_in_one() -> None:
    learner = make_learner()
    next(learner.train())
    twice, once = learner.agent(), learner.agent()
    twice.begin_task(2)
    rounds = [play(learner, twice.act, POINT_GOALS[:2], seed) for seed in (0, 1)]
    for agent in (twice, once):
        agent.begin_task(2)
    for episodes in rounds:
        twice.observe(episodes)
        twice.adapt()
        once.observe(episodes)
    once.adapt()
    for name, value in once.params.items():
        torch.testing.assert_close(twice.params[name], value)


def test_the_first_policy_is_learned_only_where_its_samples_are_scored() -> None:
    for exploration, moved in ((0.0, False), (1.0, True)):
        learner = make_learner(exploration=exploration)
        before = {name: value.detach().clone() for name, value in learner.first.items()}
        next(learner.train())
        assert all(value.requires_grad == moved for value in learner.first.values())
        assert all(torch.equal(before[name], value) != moved for name, value in learner.first.items())
        assert learner.phi["head.weight"].abs().max() > 0


def test_each_round_reads_the_episodes_of_its_policy_and_the_last_is_judged() -> None:
    learner = make_learner(tasks=2, support=3, query=2, rounds=2)
    list(learner.train())
    (reads, query), _ = learner._collect()
    assert [read.support.valid.shape for read in reads] == [(2, 3, 6)] * 2
    assert query.valid.shape == (2, 2, 6)
    memory = learner.updater.begin(learner.phi, 2)
    params = learner.updater.emit(learner.phi, learner.first, memory)
    for index, samples in enumerate((*(read.samples for read in reads), query)):
        # the scale of the policy that sampled
        expected = params["log_scale"].detach().exp()
        torch.testing.assert_close(samples.old.scale[:, 0, 0], expected)  # type: ignore[union-attr]
        if index < 2:
            # what is read is what was sampled
            valid = reads[index].support.valid
            assert torch.equal(valid, samples.valid)
            seen = reads[index].support.transition[valid]
            torch.testing.assert_close(seen[:, :4], torch.cat((samples.observation, samples.choice), -1)[valid])
            memory = learner.updater.read(learner.phi, reads[index].support, memory)
            params = learner.updater.emit(learner.phi, learner.first, memory)
    assert torch.equal(reads[1].later, later_objective([query]))
    assert torch.equal(reads[0].later, later_objective([reads[1].samples, query]))


def test_samples_have_advantages_of_the_configured_discount_and_trace() -> None:
    (reads, query), _ = make_learner(rounds=2, discount=0.5, trace=0.9)._collect()
    for batch in (*(read.samples for read in reads), query):
        check_advantages(batch, 0.5, 0.9)


def test_the_first_policy_hardly_depends_on_what_it_sees() -> None:
    learner = make_learner()
    drawn = learner.policy.init(torch.Generator().manual_seed(0))
    for name, value in drawn.items():
        assert torch.equal(learner.first[name], FIRST_POLICY * value if name == "layers.1.weight" else value), name


def test_every_epoch_goes_once_through_all_minibatches() -> None:
    learner = make_learner(tasks=4, minibatch=2, epochs=3)
    next(learner.train())
    assert {int(kept["step"]) for kept in learner.optimisers["meta"].state.values()} == {3 * 2}


def test_the_learning_rate_falls_to_zero() -> None:
    learner = make_learner(learning_rate=4e-3)
    rates = [learner.optimisers["meta"].param_groups[0]["lr"] for _ in learner.train()]
    assert rates == pytest.approx([4e-3, 3e-3, 2e-3, 1e-3])


def test_a_gradient_is_cut_to_its_largest_norm() -> None:
    """Adam divides by the size of gradients plus 1e-8: of some that are cut to 1e-14 nothing is left."""
    for norm in (1e-14, 1.0):
        learner = make_learner(max_gradient_norm=norm, learning_rate=1e-2)
        before = [value.detach().clone() for value in learner.phi.values()]
        next(learner.train())
        step = max(
            float((new.detach() - old).abs().max()) for new, old in zip(learner.phi.values(), before, strict=True)
        )
        assert step < 1e-6 if norm < 1.0 else step > 1e-3


def test_one_arm_is_found_in_a_few_episodes() -> None:
    """Two pulls; after four random episodes the good arm is nearly always known: 2 is the best return, 2/3 chance."""
    changes: dict[str, Any] = {"iterations": 60, "tasks": 12, "support": 4, "query": 4, "minibatch": 6}
    changes |= {"hidden": (4,), "embedding": 16, "memory": 16, "rank": 4, "learning_rate": 1e-2}
    learner = make_learner("choice", rows=400, **changes)
    records = list(learner.train())
    assert records[0]["return_1"] < 1.0
    agent = learner.agent(rollouts=4)
    goals = ARM_GOALS.repeat(30, axis=0)
    config = EvaluationConfig(trial=Trial(), adapt_steps=1)
    rng = np.random.default_rng(0)
    found = evaluate_agent(agent, learner.robot, learner.space, goals, config, rng, device=CPU).per_round().mean(0)
    assert 0.5 < found[0] < 0.85
    assert found[1] > 1.6


def test_too_few_rows_and_rows_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected 12 robot rows .* got 11"):
        make_learner(rows=11)
    with pytest.raises(ConfigError, match="multiple of rollouts = 3 rows, got 4"):
        make_learner().agent(rollouts=3).begin_task(4)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    learner = make_learner()
    with torch.no_grad():
        learner.phi["basis"].fill_(float("nan"))
    with pytest.raises(TrainingFault, match="iteration 0: expected a finite"):
        next(learner.train())
