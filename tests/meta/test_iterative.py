"""The frame of learners: what is counted, what tasks are drawn, and means of metrics."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.meta.adaptive import AdaptiveAgent
from supple.meta.collect import Seen
from supple.meta.config import Trial
from supple.meta.iterative import IterativeLearner, mean_metrics, running_means
from supple.meta.space import UnitSpace
from supple.meta.testing import PointBatch

GOALS = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]], np.float32)


class Config:
    iterations = 4


class Still(IterativeLearner[Any, None]):
    """Stands where it is."""

    name = "still"

    def _build(self, source: torch.Generator) -> None:
        self.lefts: list[float] = []

    def _collect(self) -> tuple[None, dict[str, float]]:
        return None, {"return": 0.0}

    def _learn(self, batch: None) -> dict[str, float]:
        self.lefts.append(self.left)
        return {}

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None: ...

    def agent(self) -> AdaptiveAgent:
        raise NotImplementedError

    # it is its own actor

    def begin_task(self, rows: int) -> None: ...

    def begin_episode(self) -> None: ...

    def act(self, seen: Seen) -> Tensor:
        return torch.zeros(len(seen.rows), 2)

    def observe(self, episodes: Any) -> None: ...


def make_learner() -> Still:
    robot = PointBatch(4, episode_steps=5)
    return Still(UnitSpace(robot.spec), robot, GOALS, Config())


def test_the_share_that_is_left_is_that_before_the_update() -> None:
    learner = make_learner()
    assert [record["step"] for record in learner.train()] == [1.0, 2.0, 3.0, 4.0]
    assert learner.lefts == [1.0, 0.75, 0.5, 0.25]
    assert learner.left == 0.0


def test_every_low_level_step_is_counted() -> None:
    learner = make_learner()
    learner.play(learner.act, GOALS[:2])
    assert learner.environment_steps == 10
    learner.play_trials(learner, GOALS, Trial(episodes=2))
    assert learner.environment_steps == 40


def test_tasks_are_drawn_without_replacement_where_there_are_enough() -> None:
    learner = make_learner()
    for _ in range(10):
        assert sorted(learner.draw_tasks(3)) == [0, 1, 2]
    assert set(learner.draw_tasks(4)) <= {0, 1, 2}
    assert sorted(learner.shuffle(5).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("means", [mean_metrics, running_means])
def test_a_mean_is_over_the_updates_that_gave_the_metric(means: Any) -> None:
    updates = [{"a": torch.tensor(1.0)}, {"a": torch.tensor(4.0), "b": torch.tensor(5.0)}, {"a": torch.tensor(1.0)}]
    assert means(updates) == {"a": 2.0, "b": 5.0}
    assert means([]) == {}
