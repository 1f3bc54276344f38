"""Losses of RL2 by hand: what counts, what is terminal, what is clipped."""

from typing import Any

import pytest
import torch

from supple.errors import ConfigError
from supple.meta.config import Trial
from supple.meta.memory.config import Rl2Config
from supple.meta.memory.rl2 import (
    discount_at,
    objective_reward,
    ppo_loss,
    trial_advantage,
    uncounted_episodes,
    valid_mean,
    value_loss,
)
from supple.meta.trial import TrialBatch


def make_batch(reward: list[float], episode: list[int]) -> TrialBatch:
    rewards, episodes = torch.tensor([reward]), torch.tensor([episode])
    shape = (1, len(reward), 1)
    flags = torch.zeros(1, len(reward), dtype=torch.bool)
    zeros = torch.zeros(shape)
    return TrialBatch(zeros, zeros, rewards, zeros, flags, flags, flags, episodes, ~flags)


def test_rewards_of_exploration_episodes_do_not_count() -> None:
    batch = make_batch([1, 2, 3, 4, 5], [0, 0, 1, 1, 2])
    assert objective_reward(batch, 0).tolist() == [[1, 2, 3, 4, 5]]
    assert objective_reward(batch, 1).tolist() == [[0, 0, 3, 4, 5]]
    assert objective_reward(batch, 2).tolist() == [[0, 0, 0, 0, 5]]


def test_exploration_episodes_count_until_their_part_of_the_training_is_over() -> None:
    trial = Trial(episodes=5, exploration_episodes=3)
    config = Rl2Config(trial=trial, exploration_from=0.4)
    assert [uncounted_episodes(config, progress) for progress in (0.0, 0.39, 0.4, 1.0)] == [0, 0, 3, 3]
    assert uncounted_episodes(Rl2Config(trial=trial), 0.0) == 3


def test_exploration_rewards_change_the_inputs_only_and_no_return() -> None:
    one, other = make_batch([1, 2, 3, 4], [0, 0, 1, 1]), make_batch([-9, 7, 3, 4], [0, 0, 1, 1])
    value = torch.tensor([[0.3, -0.2, 0.5, 0.1]])
    results = [trial_advantage(objective_reward(b, 1), value, b.valid, 0.9, 0.8) for b in (one, other)]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(one.reward, other.reward)


def test_advantages_run_on_across_episodes_and_end_with_the_trial() -> None:
    # two episodes of two decisions; discount 1/2, trace 1/2; rewards 1, 2, 3, 4; values 8, 4, 2, 6
    reward, value = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[8.0, 4.0, 2.0, 6.0]])
    # deltas: 1 + 4/2 - 8 = -5, 2 + 2/2 - 4 = -1 (bootstraps from the next episode), 3 + 6/2 - 2 = 4, 4 - 6 = -2
    # backwards with factor 1/4: -2, 4 - 2/4 = 3.5, -1 + 3.5/4 = -0.125, -5 - 0.125/4 = -5.03125
    advantage, target = trial_advantage(reward, value, torch.ones(1, 4, dtype=torch.bool), 0.5, 0.5)
    assert advantage.tolist() == [[-5.03125, -0.125, 3.5, -2.0]]
    assert target.tolist() == [[2.96875, 3.875, 5.5, 4.0]]


def test_padding_ends_the_trial_whatever_stands_in_it() -> None:
    valid = torch.tensor([[True, True, False]])
    reward, value = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[8.0, 4.0, 1e6]])
    # deltas: 1 + 4/2 - 8 = -5 and 2 - 4 = -2; -5 - 2/4
    advantage, _ = trial_advantage(reward, value, valid, 0.5, 0.5)
    assert advantage[0, :2].tolist() == [-5.5, -2.0]


def test_with_trace_one_and_no_discount_the_target_is_the_sum_of_what_follows() -> None:
    reward = torch.tensor([[1.0, 2.0, 3.0]])
    _, target = trial_advantage(reward, torch.randn(1, 3), torch.ones(1, 3, dtype=torch.bool), 1.0, 1.0)
    torch.testing.assert_close(target, torch.tensor([[6.0, 5.0, 3.0]]))


def test_clipped_ratios_by_hand() -> None:
    ratio = torch.tensor([[1.1, 1.5, 0.5, 1.5, 0.5]], dtype=torch.float64)
    old = torch.tensor([[-0.3, -1.0, -2.0, -0.1, -3.0]], dtype=torch.float64)
    advantage = torch.tensor([[2.0, 2.0, 2.0, -2.0, -2.0]], dtype=torch.float64)
    log_prob = (ratio.log() + old).requires_grad_()
    valid = torch.ones(1, 5, dtype=torch.bool)
    loss = ppo_loss(log_prob, old, advantage, valid, 0.2)
    # min(rho A, clip A): 2.2, 2.4 (clipped), 1.0, -3.0, -1.6 (clipped): mean 0.2, negated
    assert loss.item() == pytest.approx(-0.2)
    loss.backward()
    # -rho A / 5 where not clipped, nothing where it is
    assert log_prob.grad is not None
    torch.testing.assert_close(log_prob.grad, torch.tensor([[-0.44, 0, -0.2, 0.6, 0]], dtype=torch.float64))


def test_padding_counts_nowhere() -> None:
    valid = torch.tensor([[True, True, False]])
    nothing = torch.tensor([[1.0, 3.0, float("nan")]])
    assert valid_mean(nothing, valid).item() == 2.0
    assert value_loss(nothing, torch.tensor([[0.0, 0.0, 5.0]]), valid).item() == 5.0  # (1 + 9) / 2
    assert ppo_loss(nothing, nothing, torch.tensor([[1.0, 3.0, 9.0]]), valid, 0.2).item() == -2.0


def test_the_horizon_grows_by_one_factor_and_then_stays() -> None:
    config = Rl2Config(first_discount=0.0, discount=0.99, discount_growth=0.5)
    horizons = [1.0 / (1.0 - discount_at(config, progress)) for progress in (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)]
    assert horizons == pytest.approx([1.0, 100**0.25, 10.0, 100.0, 100.0, 100.0])
    assert [discount_at(Rl2Config(discount=0.9), progress) for progress in (0.0, 0.5, 1.0)] == [0.9] * 3
    # from a horizon of 2 to one of 128, by the same factor twice: 2, 16, 128
    config = Rl2Config(first_discount=0.5, discount=1.0 - 1.0 / 128.0, discount_growth=0.5)
    horizons = [1.0 / (1.0 - discount_at(config, progress)) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert horizons == pytest.approx([2.0, 16.0, 128.0, 128.0])
    # 1 - .8 ** .5 * .6 ** .5, half of the way from .2 to .4
    short = Rl2Config(first_discount=0.2, discount=0.4, discount_growth=1.0)
    assert discount_at(short, 0.5) == pytest.approx(1.0 - 0.48**0.5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"trials": 0}, "trials: expected a whole number from 1 to .*, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number above 0 to .*, got nan"),
        ({"discount": 1.1}, "discount: expected a number from 0 to 1, got 1.1"),
        ({"trace": -0.1}, "trace: expected a number from 0 to 1, got -0.1"),
        ({"exploration_from": 1.5}, "exploration_from: expected a number from 0 to 1, got 1.5"),
        ({"entropy_weight": -1.0}, "entropy_weight: expected a number from 0 to .*, got -1.0"),
        ({"update": "trpo"}, "separate_value: expected True for update 'trpo', got False"),
        ({"update": "sgd"}, "update: expected one of ppo, trpo, got 'sgd'"),
        ({"discount_growth": 0.0}, "discount_growth: expected a number above 0 to .*, got 0.0"),
        ({"discount_growth": 1.5}, "discount_growth: expected a number above 0 to 1, got 1.5"),
        ({"first_discount": -0.5}, "first_discount: expected a number from 0 to 1, got -0.5"),
        ({"first_discount": 0.995}, "first_discount: expected 0 <= .*, got 0.995 and 0.99"),
        ({"first_discount": 0.5, "discount": 1.0}, "first_discount: expected 0 <= .*, got 0.5 and 1.0"),
    ],
)
def test_values_that_cannot_train_are_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=f"Rl2Config.{match}"):
        Rl2Config(trial=Trial(episodes=2), **changes)
