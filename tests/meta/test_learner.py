"""The learner on points in a plane: exact resume, what gradients reach, and learning with a known optimum."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError, RunError, TrainingFault
from supple.meta.config import SimplConfig
from supple.meta.learner import Multiplier, SimplLearner
from supple.meta.space import RawSpace, SkillSpace
from supple.meta.testing import PointBatch
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
    assert whole.updates > 3
