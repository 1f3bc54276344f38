"""The contract that every meta-learner must keep, as tests: inherit `MetaLearnerContract` and say how one is made.

    class TestMyLearner(MetaLearnerContract):
        def make_learner(self, seed):
            robot = PointBatch(16)
            return MyLearner(UnitSpace(robot.spec), robot, GOALS, MyConfig(iterations=4, ...), seed=seed)

The learner should be as small as it can be: four iterations, each a fraction of a second.
"""

# ruff: noqa: D102 (the name of each test says what it checks)
from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from ..errors import RunError
from .adaptive import AdaptiveAgent, MetaLearner
from .collect import Episodes, collect
from .config import EvaluationConfig, Trial
from .evaluation import evaluate_agent

State = tuple[dict[str, Tensor], dict[str, Any]]
CPU = torch.device("cpu")


def snapshot(source: MetaLearner | AdaptiveAgent) -> State:
    """A state as a checkpoint keeps it: tensors copied, facts through JSON."""
    tensors, facts = source.state()
    facts_read: dict[str, Any] = json.loads(json.dumps(facts))
    return {name: value.detach().clone() for name, value in tensors.items()}, facts_read


def differing(one: State, other: State) -> list[str]:
    """Names of what is not the same in two states, bit for bit."""
    names = one[0].keys() | other[0].keys()
    tensors = [name for name in names if name not in one[0] or name not in other[0]]
    tensors += [name for name in names.difference(tensors) if not torch.equal(one[0][name], other[0][name])]
    keys = one[1].keys() | other[1].keys()
    return sorted(tensors) + sorted(key for key in keys if one[1].get(key) != other[1].get(key))


def without_clocks(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics but the wall times."""
    return {name: value for name, value in metrics.items() if not name.startswith("wall_")}


class MetaLearnerContract(ABC):
    """What every `MetaLearner` must do; subclass it in a test module."""

    adapt_steps: ClassVar[int] = 1
    """Steps of adaptation to test agents with; 0 for none."""
    ignores_observed: ClassVar[bool] = False
    """True for agents without any memory of a task (a policy that never adapts)."""

    @abstractmethod
    def make_learner(self, seed: int) -> MetaLearner:
        """A learner that draws all its randomness from `seed` and runs for four iterations."""

    # Training

    def test_training_reports_progress_returns_and_finite_numbers(self) -> None:
        records = list(self.make_learner(0).train())
        assert [record["step"] for record in records] == [1.0, 2.0, 3.0, 4.0]
        taken = [record["environment_steps"] for record in records]
        assert taken[0] > 0
        assert all(before < after for before, after in itertools.pairwise(taken))
        assert all(any(name.startswith("return") for name in record) for record in records)
        assert all(np.isfinite(value) for record in records for value in record.values())

    def test_the_same_seed_gives_the_same_training(self) -> None:
        one, other = self.make_learner(3), self.make_learner(3)
        assert [without_clocks(record) for record in one.train()] == [without_clocks(r) for r in other.train()]
        assert differing(snapshot(one), snapshot(other)) == []

    def test_another_seed_gives_another_training(self) -> None:
        one, other = self.make_learner(3), self.make_learner(4)
        next(one.train())
        next(other.train())
        assert differing(snapshot(one), snapshot(other))

    def test_training_changes_the_weights_and_leaves_no_gradient_in_the_state(self) -> None:
        learner = self.make_learner(0)
        before = snapshot(learner)
        next(learner.train())
        tensors = learner.state()[0]
        assert not any(value.requires_grad for value in tensors.values())
        assert any(name != "generator" for name in differing(before, snapshot(learner)) if name in before[0])

    def test_training_goes_on_bit_for_bit_where_it_was_saved(self) -> None:
        whole = self.make_learner(0)
        records = whole.train()
        next(records)
        next(records)
        saved = snapshot(whole)
        rest = [without_clocks(record) for record in records]

        again = self.make_learner(5)
        again.load_state(*saved)
        assert differing(snapshot(again), saved) == []
        assert [without_clocks(record) for record in again.train()] == rest
        assert differing(snapshot(again), snapshot(whole)) == []

    def test_a_state_without_one_of_its_parts_is_refused(self) -> None:
        learner = self.make_learner(0)
        next(learner.train())
        tensors, facts = snapshot(learner)
        for name in tensors:
            if name.startswith("adam."):
                continue  # an optimiser that never stepped has no moments
            with pytest.raises(RunError, match="expected a whole state"):
                self.make_learner(0).load_state({k: v for k, v in tensors.items() if k != name}, facts)
        for name in facts:
            if name != "config":
                with pytest.raises(RunError, match="expected a whole state"):
                    self.make_learner(0).load_state(tensors, {k: v for k, v in facts.items() if k != name})

    def test_the_global_generators_are_left_alone(self) -> None:
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
        learner = self.make_learner(0)
        next(learner.train())
        self.evaluate(learner, learner.agent())
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index] # noqa: NPY002

    # Agents

    def rows(self, agent: AdaptiveAgent) -> int:
        """Rows that agents are tested with: three tasks."""
        return 3 * agent.rollouts

    def goals(self, learner: MetaLearner, agent: AdaptiveAgent) -> Any:
        """One goal per row, shape (R, G); rows that adapt together have the same."""
        return np.repeat(np.resize(learner.goals, (3, learner.goals.shape[1])), agent.rollouts, axis=0)

    def play(self, learner: MetaLearner, agent: AdaptiveAgent, seed: int = 0) -> Episodes:
        """One episode in every row, observed."""
        agent.begin_episode()
        rng = np.random.default_rng(seed)
        episodes = collect(learner.robot, learner.space, agent.act, self.goals(learner, agent), rng, device=CPU)
        agent.observe(episodes)
        return episodes

    def learn_task(self, learner: MetaLearner, agent: AdaptiveAgent, seed: int = 0) -> None:
        """A new task: two episodes, then the steps of adaptation with an episode before each."""
        agent.begin_task(self.rows(agent))
        self.play(learner, agent, seed)
        for step in range(self.adapt_steps):
            self.play(learner, agent, seed + 1 + step)
            agent.adapt()

    def evaluate(self, learner: MetaLearner, agent: AdaptiveAgent, seed: int = 0) -> Any:
        """Returns of the evaluation protocol on three tasks."""
        config = EvaluationConfig(trial=Trial(episodes=2), adapt_steps=self.adapt_steps)
        goals = self.goals(learner, agent)[:: agent.rollouts]
        rng = np.random.default_rng(seed)
        return evaluate_agent(agent, learner.robot, learner.space, goals, config, rng, device=CPU).returns

    def test_an_agent_acts_in_all_rows_and_is_evaluated(self) -> None:
        learner = self.make_learner(0)
        agent = learner.agent()
        agent.begin_task(self.rows(agent))
        episodes = self.play(learner, agent)
        assert episodes.latent.shape[::2] == (self.rows(agent), learner.space.latent_dim)
        assert bool((episodes.length > 0).all())
        assert bool(torch.isfinite(episodes.latent).all())
        returns = self.evaluate(learner, agent)
        assert returns.shape == (3, 1, self.adapt_steps + 1, 2, agent.rollouts)
        assert np.isfinite(returns).all()

    def test_a_new_task_forgets_all_of_the_last(self) -> None:
        learner = self.make_learner(0)
        agent, fresh = learner.agent(), learner.agent()
        fresh.begin_task(self.rows(fresh))
        clean = snapshot(fresh)
        self.learn_task(learner, agent)
        if not self.ignores_observed:
            assert [name for name in differing(snapshot(agent), clean) if name != "generator"]
        agent.begin_task(self.rows(agent))
        assert [name for name in differing(snapshot(agent), clean) if name != "generator"] == []

    def test_what_an_agent_learned_of_a_task_is_saved_and_loaded(self) -> None:
        learner = self.make_learner(0)
        agent = learner.agent()
        self.learn_task(learner, agent)
        saved = snapshot(agent)
        expected = [self.play(learner, agent, seed).latent for seed in (8, 9)]
        agent.adapt()
        after = snapshot(agent)

        again = self.make_learner(7).agent()
        again.begin_task(self.rows(again))
        again.load_state(*saved)
        assert differing(snapshot(again), saved) == []
        for seed, latent in zip((8, 9), expected, strict=True):
            assert torch.equal(self.play(learner, again, seed).latent, latent)
        again.adapt()
        assert differing(snapshot(again), after) == []

    def test_an_agents_state_without_one_of_its_tensors_is_refused(self) -> None:
        learner = self.make_learner(0)
        agent = learner.agent()
        self.learn_task(learner, agent)
        tensors, facts = snapshot(agent)
        for name in tensors:
            with pytest.raises(RunError, match="expected a whole state"):
                learner.agent().load_state({k: v for k, v in tensors.items() if k != name}, facts)

    def test_an_agent_stays_as_it_is_when_training_goes_on(self) -> None:
        learner = self.make_learner(0)
        records = learner.train()
        next(records)
        kept = learner.agent()
        expected = self.evaluate(learner, learner.agent())
        next(records)
        assert (self.evaluate(learner, kept) == expected).all()
