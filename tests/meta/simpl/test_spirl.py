"""Learning from scratch over skills or raw actions: a learner like the others, without meta-training."""

from typing import Any

import numpy as np
import pytest
import torch

from supple.errors import ConfigError
from supple.meta.simpl.config import FinetuneConfig, SpirlConfig
from supple.meta.simpl.spirl import SpirlLearner
from supple.meta.space import RawSpace, SkillSpace
from supple.meta.testing import PointBatch
from supple.meta.testing_learners import MetaLearnerContract
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

GOALS = np.array([[2, 0], [-2, 0], [0, 2], [0, -2]], np.float32)
FINETUNE = FinetuneConfig(batch=8, min_transitions=4, reuse_rate=8.0, pool_episodes=16)


def make_learner(space: str = "raw", seed: int = 0, rows: int = 4, **changes: Any) -> SpirlLearner:
    robot = PointBatch(rows)
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    skills = SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))
    chosen = RawSpace(robot.spec, torch.zeros(2), torch.full((2,), 4.0)) if space == "raw" else skills
    config = SpirlConfig(**{"hidden": (8, 8), "finetune": FINETUNE, "tasks": 3, "iterations": 4, **changes})
    return SpirlLearner(chosen, robot, GOALS, config, seed=seed)


class TestSpirlLearner(MetaLearnerContract):
    """Over skills."""

    adapt_steps = 0

    def make_learner(self, seed: int) -> SpirlLearner:
        return make_learner("skill", seed)


def test_there_is_nothing_to_train_unless_tasks_are_rehearsed() -> None:
    assert list(make_learner(iterations=0).train()) == []
    assert SpirlConfig().iterations == 0


def test_the_return_of_a_rehearsal_is_the_mean_over_its_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner()
    play = learner.play

    def pay(*arguments: Any) -> Any:
        episodes = play(*arguments)
        return episodes._replace(reward=torch.ones_like(episodes.reward))

    monkeypatch.setattr(learner, "play", pay)
    # three episodes of twelve decisions that pay 1 each
    assert learner._collect()[1] == {"return": 12.0}


@pytest.mark.parametrize(("space", "decisions"), [("raw", 12), ("skill", 3)])
def test_every_task_has_networks_of_its_own_from_the_first_episode(space: str, decisions: int) -> None:
    learner = make_learner(space)
    agent = learner.agent()
    agent.begin_task(2)
    one, other = agent.tuners
    assert one is not None
    assert other is not None
    assert one.embedding.shape == (0,)
    assert one.pool.tensors["latent"].shape[1] == decisions
    assert not torch.equal(one.policy.layers[0].weight, other.policy.layers[0].weight)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"SpirlConfig\.hidden: expected .*, got 0"):
        SpirlConfig(hidden=())
    with pytest.raises(ConfigError, match=r"SpirlConfig\.iterations: expected .*, got -1"):
        SpirlConfig(iterations=-1)
    with pytest.raises(ConfigError, match="SPiRL: expected 3 robot rows for rehearsed tasks, got 2"):
        make_learner(rows=2)
