"""Logs as finished episodes, and SiMPL that learns from them: points in a plane whose logs are written by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from supple.errors import ConfigError, SpecError
from supple.meta.simpl.config import SimplConfig
from supple.meta.simpl.learner import SimplLearner
from supple.meta.simpl.logged import make_logged
from supple.meta.simpl.pool import Transitions
from supple.meta.space import RawSpace, SkillSpace
from supple.meta.testing import PointBatch
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

CPU = torch.device("cpu")
GOALS = np.array([[4, 0], [-4, 0]], np.float32)
SMALL: dict[str, Any] = {
    "embedding_dim": 2,
    "hidden": (16,),
    "encoder_hidden": 16,
    "prior_tasks": 1,
    "posterior_tasks": 2,
    "batch": 8,
    "success_batch": 2,
    "posterior_context": 8,
    "context_episodes": 3,
    "epochs": 4,
    "warmup_epochs": 1,
    "updates_per_epoch": 2,
    "pool_episodes": 12,
    "log_share": 0.5,
}


def make_space() -> SkillSpace:
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    torch.manual_seed(1)
    return SkillSpace(SkillModel(2, 2, SkillConfig(skill_horizon=5, skill_dim=3, **width)))


def make_log(*lengths: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Episode i goes along x from 100 i on, a step of 1 each; its actions are told from one another."""
    x = np.concatenate([100.0 * i + np.arange(length) for i, length in enumerate(lengths)])
    observation = np.stack([x, np.zeros_like(x)], axis=1).astype(np.float32)
    length = np.array(lengths)
    return observation, np.sin(observation), np.cumsum(length) - length, length


def make_learner(seed: int = 0, log: tuple[np.ndarray, ...] | None = None, **changes: Any) -> SimplLearner:
    robot = PointBatch(8)
    learner = SimplLearner(make_space(), robot, GOALS, SimplConfig(**{**SMALL, **changes}), seed=seed)
    learner.take_logs(make_logged(learner.space, robot.spec, *(log or make_log(13, 6)), CPU))
    return learner


def test_an_episode_is_cut_at_the_time_limit_into_paths_of_whole_skills() -> None:
    """Limit 12, skills of 5 steps: 24 steps are states 0, 5, 10 and 10, 15, 20; the rest, 20 to 23, holds no skill."""
    space, spec = make_space(), PointBatch(8).spec
    assert (spec.episode_steps, space.horizon) == (12, 5)
    observation, action, start, length = make_log(24, 5, 8)
    log = make_logged(space, spec, observation, action, start, length, CPU)
    assert log.length.tolist() == [2, 2, 1]
    assert log.steps.tolist() == [10, 10, 5]
    assert log.observation[:, :, 0].tolist() == [[0, 5, 10, 0], [10, 15, 20, 0], [200, 205, 0, 0]]
    assert log.path[1, :, 0].tolist() == [*range(11, 21), 0, 0, 0, 0, 0]
    assert log.path[2, :5, 0].tolist() == [201, 202, 203, 204, 205]
    window = torch.from_numpy(observation[None, 15:20]), torch.from_numpy(action[None, 15:20])
    torch.testing.assert_close(log.latent[1, 1], space.model.encode(*window).loc[0])
    torch.testing.assert_close(log.prior.loc[1, 1], space.prior_of(log.observation[1:2, 1]).loc[0])
    assert not log.latent[2, 1:].any()
    assert not log.terminated.any()
    assert not log.reward.any()


def test_logs_without_skills_are_refused() -> None:
    spec = PointBatch(8).spec
    with pytest.raises(SpecError, match="expected a policy that chooses skills"):
        make_logged(RawSpace(spec, torch.zeros(2), torch.ones(2)), spec, *make_log(13), CPU)
    with pytest.raises(SpecError, match="more than 5 steps, one skill, got 0"):
        make_logged(make_space(), spec, *make_log(5), CPU)


def test_every_train_task_pays_the_logs_and_ends_them() -> None:
    """The way along x comes within 1 of (4, 0) at its third step, within the first skill; it is never near (-4, 0)."""
    learner = make_learner(log=make_log(13))
    assert learner.logs is not None
    kept = learner.logs.tensors
    assert kept["length"].tolist() == [[1, 2]]
    assert kept["terminated"].tolist() == [[True, False]]
    assert kept["reward"][0].sum(0).tolist() == [1.0, 0.0]
    assert kept["final_observation"][0, :, 0].tolist() == [3.0, 10.0]
    assert not kept["explored"].any()
    assert learner.pool.tensors["reward_range"].tolist() == [0.0, 1.0]


def test_half_of_each_batch_is_logged_and_the_same_task_s(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner()
    learner._collect()
    task = torch.tensor([1, 0, 1])
    batch = learner._sample(task)
    assert batch.observation.shape == (3, 8, 2)
    assert batch.prior.loc.shape == batch.next_prior.scale.shape == (3, 8, 3)
    logged = {0.0, 5.0, 100.0}
    assert set(batch.observation[:, 4:, 0].flatten().tolist()) <= logged
    assert not set(batch.observation[:, :4, 0].flatten().tolist()) & (logged - {0.0})
    asked: list[list[int]] = []
    for pool in (learner.pool, learner.logs):
        whole = pool.sample

        def remember(tasks: torch.Tensor, *given: Any, whole: Any = whole) -> Transitions:
            asked.append(tasks.tolist())
            drawn: Transitions = whole(tasks, *given)
            return drawn

        monkeypatch.setattr(pool, "sample", remember)
    learner._sample(task)
    assert asked == [[1, 0, 1]] * 2


def test_a_training_that_is_given_its_logs_again_goes_on_as_if_it_had_never_stopped() -> None:
    whole = make_learner()
    records = whole.train()
    next(records), next(records)
    tensors, facts = whole.state()
    saved = {name: value.clone() for name, value in tensors.items()}, facts
    list(records)

    again = make_learner(seed=7)
    again.load_state(*saved)
    list(again.train())
    ended, other = whole.state()[0], again.state()[0]
    assert [name for name in ended if not torch.equal(ended[name], other[name])] == []


def test_what_the_logs_hold_matters() -> None:
    one, other = make_learner(), make_learner(log=make_log(11, 13))
    for learner in (one, other):
        list(learner.train())
    critic, others = (dict(learner.networks.critic.state_dict()) for learner in (one, other))
    assert any(not torch.equal(critic[name], others[name]) for name in critic)


def test_own_transitions_have_room_for_those_that_solved_the_task() -> None:
    assert SimplConfig(batch=8, log_share=0.5, success_batch=3).logged_batch == 4
    with pytest.raises(ConfigError, match=r"expected fewer than the 4 transitions .* not logged, got 4; lower it"):
        SimplConfig(batch=8, log_share=0.5, success_batch=4)
    with pytest.raises(ConfigError, match="log_share"):
        SimplConfig(log_share=1.0)
