"""MLSH by hand: macro rewards, whose sample is whose, uniform choices, and when groups learn what."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError
from supple.meta.hierarchy.config import MlshConfig, PpoPasses
from supple.meta.hierarchy.mlsh import explore, first_ages, macro_lengths, macro_rewards, split_by_sub_policy


def test_macro_rewards_are_plain_sums_and_the_last_may_be_short() -> None:
    reward = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [0.5, 0.0, 0.0, 0.0, 0.0]])
    # 1 + 2, 3 + 4, 5 alone; nothing is discounted
    assert macro_rewards(reward, 2).tolist() == [[3.0, 7.0, 5.0], [0.5, 0.0, 0.0]]
    assert macro_rewards(reward, 1).tolist() == reward.tolist()
    assert macro_rewards(reward, 5).tolist() == [[15.0], [0.5]]
    assert macro_rewards(reward, 9).tolist() == [[15.0], [0.5]]
    assert macro_lengths(torch.tensor([1, 2, 3, 4, 5]), 2).tolist() == [1, 1, 2, 2, 3]


@given(rows=st.integers(1, 4), steps=st.integers(1, 12), hold=st.integers(1, 13))
@settings(deadline=None, max_examples=60)
def test_macro_rewards_lose_nothing(rows: int, steps: int, hold: int) -> None:
    reward = torch.arange(rows * steps, dtype=torch.float32).view(rows, steps)
    found = macro_rewards(reward, hold)
    assert found.shape == (rows, int(macro_lengths(torch.tensor(steps), hold)))
    assert found.sum(1).tolist() == reward.sum(1).tolist()


def test_samples_by_sub_policy_by_hand() -> None:
    index, valid = split_by_sub_policy(torch.tensor([2, 0, 2, 2, 0]), 4)
    # 0 acted at 1 and 4, 2 at 0, 2 and 3, the others never
    assert index[0, :2].tolist() == [1, 4]
    assert index[2].tolist() == [0, 2, 3]
    assert valid.tolist() == [[True, True, False], [False] * 3, [True] * 3, [False] * 3]


@given(active=st.lists(st.integers(0, 3), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_every_sample_is_of_exactly_the_sub_policy_that_acted(active: list[int]) -> None:
    acted = torch.tensor(active)
    index, valid = split_by_sub_policy(acted, 4)
    assert sorted(index[valid].tolist()) == list(range(len(active)))
    of = torch.arange(4)[:, None].expand_as(index)
    assert torch.equal(acted[index[valid]], of[valid])


def test_a_share_of_the_choices_is_uniform_and_the_rest_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    choice = torch.full((4000,), 2.0)
    found = explore(choice, 0.1, 4, generator)
    # 0.1 x 3/4 of them become something else, each of the three as often; 4000 x 0.025 = 100, deviation 9.9
    others = [int((found == other).sum()) for other in (0, 1, 3)]
    assert all(60 < count < 140 for count in others)
    assert torch.equal(explore(choice, 0.0, 4, generator), choice)
    assert len(explore(choice, 1.0, 4, generator).unique()) == 4


def test_joint_updates_of_the_groups_are_spread_over_the_iterations() -> None:
    config = MlshConfig(groups=6, warmup=2, joint=1)
    assert first_ages(config) == [0, 0, -1, -1, -2, -2]
    # age a at iteration i is a + i until 3, then 0 again: joint at age 2
    ages, joint = first_ages(config), []
    for _ in range(8):
        ages = [0 if age == config.period else age for age in ages]
        joint.append([group for group, age in enumerate(ages) if age >= config.warmup])
        ages = [age + 1 for age in ages]
    assert joint == [[], [], [0, 1], [2, 3], [4, 5], [0, 1], [2, 3], [4, 5]]


@given(groups=st.integers(1, 30), warmup=st.integers(0, 12), joint=st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_every_iteration_has_as_many_joint_groups_up_to_one_per_phase(groups: int, warmup: int, joint: int) -> None:
    config = MlshConfig(groups=groups, warmup=warmup, joint=joint)
    phases = [-age % config.period for age in first_ages(config)]
    per_phase = [phases.count(phase) for phase in range(config.period)]
    assert max(per_phase) - min(per_phase) <= 1


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sub_policies": 0}, "sub_policies: expected a whole number from 1 to .*, got 0"),
        ({"hold": 0}, "hold: expected a whole number from 1 to .*, got 0"),
        ({"joint": 0}, "joint: expected a whole number from 1 to .*, got 0"),
        ({"warmup": -1}, "warmup: expected a whole number from 0 to .*, got -1"),
        ({"discount": 1.1}, "discount: expected a number from 0 to 1, got 1.1"),
        ({"trace": float("nan")}, "trace: expected a number from 0 to 1, got nan"),
        ({"random_choice": -0.1}, "random_choice: expected a number from 0 to 1, got -0.1"),
    ],
)
def test_values_that_cannot_train_are_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=f"MlshConfig.{match}"):
        MlshConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"clip": 0.0}, "clip: expected a number above 0 to .*, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number above 0 to .*, got nan"),
        ({"entropy_weight": -1.0}, "entropy_weight: expected a number from 0 to .*, got -1.0"),
    ],
)
def test_passes_that_cannot_train_are_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=f"PpoPasses.{match}"):
        PpoPasses(**changes)
