"""The shape of rewards: which axes tell tasks apart, and how large the rewarded region is; with known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.adapt.reward_shape import BINS, RewardShape, fit_falling_share, fit_reward_shape, make_default_shape
from supple.errors import BundleError


def make_rewards(radius: float = 1.0, low: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """States in a square of 20 x 20 with a speed beside; 12 tasks pay 1 within a radius of their place."""
    rng = np.random.default_rng(0)
    state = np.concatenate([rng.uniform(0.0, 20.0, (20_000, 2)), 3.0 * rng.standard_normal((20_000, 1))], axis=1)
    goal = rng.uniform(2.0, 18.0, (12, 2))
    near = np.linalg.norm(state[:, None, :2] - goal, axis=-1) <= radius
    return state.astype(np.float32), np.where(near, 1.0, low).astype(np.float32)


def test_the_axis_that_no_reward_depends_on_is_left_out() -> None:
    """Places count, the speed does not."""
    shape = fit_reward_shape(*make_rewards())
    assert shape is not None
    assert shape.axes.shape == (2, 3)
    assert np.abs(shape.axes[:, 2]).max() < 0.02 * np.abs(shape.axes[:, :2]).max()


def test_joints_that_a_place_nearly_tells_are_left_out() -> None:
    """A hand at a place in a square and three joints that are the place and a little more, as of an arm in its room.

    Along all five axes the states that one task rewards lie close together. Only two of them explain the rewards.
    """
    rng = np.random.default_rng(0)
    place = rng.uniform(0.0, 20.0, (20_000, 2))
    joints = place @ rng.standard_normal((2, 3)) + 1.5 * rng.standard_normal((20_000, 3))
    goal = rng.uniform(2.0, 18.0, (12, 2))
    near = np.linalg.norm(place[:, None] - goal, axis=-1) <= 1.0
    shape = fit_reward_shape(np.concatenate([joints, place], axis=1).astype(np.float32), near.astype(np.float32))
    assert shape is not None
    assert shape.axes.shape == (2, 5)
    assert (shape.axes[:, :3] == 0.0).all()
    assert np.linalg.svd(shape.axes[:, 3:])[1] == pytest.approx([2.0, 2.0], rel=0.1)  # 1 / std of a disc of radius 1


def test_a_reward_that_depends_on_a_difference_is_found_along_it() -> None:
    """A hand that has to be at an offset from a cube, both anywhere: neither place tells, their difference does."""
    rng = np.random.default_rng(0)
    hand, cube = rng.uniform(0.0, 10.0, (2, 20_000, 1))
    goal = rng.uniform(-4.0, 4.0, 12)
    near = np.abs(hand - cube - goal) <= 0.5
    shape = fit_reward_shape(np.concatenate([hand, cube], axis=1).astype(np.float32), near.astype(np.float32))
    assert shape is not None
    assert shape.axes.shape == (1, 2)
    assert shape.axes[0, 0] == pytest.approx(-shape.axes[0, 1], rel=0.02)


@pytest.mark.parametrize("radius", [1.0, 3.0])
def test_the_share_falls_from_one_to_zero_at_the_radius(radius: float) -> None:
    """Half a radius away is rewarded, one and a half are not, whatever the units; and far away nothing is."""
    shape = fit_reward_shape(*make_rewards(radius))
    assert shape is not None
    middle = np.array([[10.0, 10.0, 0.0]], np.float32)
    offset = np.array([0.1, 0.5, 1.5, 5.0])[:, None] * np.array([[radius, 0.0, 0.0]])
    share = shape.look_up((middle + offset).astype(np.float32), middle)[:, 0]
    assert share[0] > 0.95
    assert share[1] > 0.9
    assert share[2] < 0.1
    assert share[3] == 0.0


@pytest.mark.parametrize(
    ("paid", "count", "share"),
    [
        ([3, 0, 5], [3, 1, 5], [1.0, 5 / 6, 5 / 6]),  # one state among nine
        ([2, 0, 1], [2, 0, 2], [1.0, 1.0, 0.5]),  # an empty bin
        ([0, 0, 1], [0, 0, 2], [1.0, 1.0, 0.5]),  # nothing in the middle
        ([0, 1, 3], [1, 1, 3], [0.8, 0.8, 0.8]),
        ([4, 2, 0], [4, 4, 4], [1.0, 0.5, 0.0]),
    ],
)
def test_shares_that_rise_with_the_distance_are_pooled(paid: list[int], count: list[int], share: list[float]) -> None:
    assert fit_falling_share(np.array(paid), np.array(count)) == pytest.approx(share)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=BINS))
def test_pooled_shares_fall_and_keep_the_number_of_rewarded_states(bins: list[tuple[int, int]]) -> None:
    paid, count = (np.array(one) for one in zip(*[(min(pair), max(pair)) for pair in bins], strict=True))
    share = fit_falling_share(paid, count)
    assert (np.diff(share) <= 0.0).all()
    assert (share @ count) == pytest.approx(paid.sum(), abs=1e-3)


def test_a_sum_of_rewards_is_told_from_that_of_steps_without() -> None:
    """Ten steps at -.1 make -1: nothing; nine of them and one that pays 1 make .1."""
    shape = fit_reward_shape(*make_rewards(low=-0.1))
    assert shape is not None
    assert shape.is_rewarded(np.array([-1.0, 0.1], np.float32), 10).tolist() == [False, True]


def test_a_penalty_makes_no_other_state_a_rewarded_one() -> None:
    """-100 for what is fast, in every task: ten usual steps, also behind a fall, are not paid; one at the place is."""
    state, reward = make_rewards()
    fallen = np.abs(state[:, 2]) > 6.0
    shape, plain = fit_reward_shape(state, np.where(fallen[:, None], -100.0, reward)), fit_reward_shape(state, reward)
    assert shape is not None
    assert plain is not None
    assert shape.axes.shape == plain.axes.shape
    assert (shape.low, shape.high) == (plain.low, plain.high) == (0.0, 1.0)
    assert shape.is_rewarded(np.array([0.0, -100.0, 1.0], np.float32), 10).tolist() == [False, False, True]


def test_of_a_reward_that_falls_with_the_distance_the_best_part_counts() -> None:
    """Minus the distance: ten steps at the usual distance are not paid, and neither are ten at half of it."""
    state, _ = make_rewards()
    goal = np.random.default_rng(1).uniform(2.0, 18.0, (12, 2))
    distance = np.linalg.norm(state[:, None, :2] - goal, axis=-1)
    shape = fit_reward_shape(state, -distance.astype(np.float32))
    assert shape is not None
    assert shape.axes.shape == (2, 3)
    at = np.median(distance) * np.array([1.0, 0.6, 0.1])
    assert shape.is_rewarded((-10.0 * at).astype(np.float32), 10).tolist() == [False, False, True]


def test_where_most_states_are_rewarded_the_others_are_usual() -> None:
    """1 outside of a disc of 8 m, which is three quarters of the square, and 0 inside."""
    state, near = make_rewards(radius=8.0)
    shape = fit_reward_shape(state, 1.0 - near)
    assert shape is not None
    assert (shape.low, shape.high) == (0.0, 1.0)


def test_steps_of_a_skill_that_was_cut_off_are_counted() -> None:
    """Every step costs 1 and one at the place nothing: three steps for -3 are none, for -2 one of them is."""
    shape = RewardShape(np.ones((1, 1), np.float32), np.ones(BINS, np.float32), 0.25, -1.0, 0.0)
    sums, steps = np.array([-3.0, -2.0, -10.0, -9.0], np.float32), np.array([3, 3, 10, 10])
    assert shape.is_rewarded(sums, steps).tolist() == [False, True, False, True]


def test_tasks_that_reward_nothing_or_everything_give_no_shape() -> None:
    """There is nothing to learn from."""
    state, _ = make_rewards()
    assert fit_reward_shape(state, np.zeros((len(state), 3), np.float32)) is None
    few = np.zeros((len(state), 1), np.float32)
    few[:5] = 1.0
    assert fit_reward_shape(state, few) is None


def test_without_a_shape_one_skill_away_counts() -> None:
    """At distance 1 in the metric of the logs all is rewarded alike, at 2 nothing is."""
    shape = make_default_shape(np.array([[2.0]], np.float32))
    share = shape.look_up(np.array([[0.0], [0.49], [1.0]], np.float32), np.zeros((1, 1), np.float32))[:, 0]
    assert share.tolist() == [1.0, 1.0, 0.0]


def test_arrays_give_the_shape_back_and_damage_is_refused() -> None:
    """As a bundle holds it."""
    shape = fit_reward_shape(*make_rewards())
    assert shape is not None
    arrays = shape.to_arrays()
    again = RewardShape.from_arrays(arrays)
    assert np.array_equal(again.share, shape.share)
    assert again.width == pytest.approx(shape.width)
    for name in arrays:
        with pytest.raises(BundleError, match="map the logs again"):
            RewardShape.from_arrays({key: value for key, value in arrays.items() if key != name})
    with pytest.raises(BundleError, match="map the logs again"):
        RewardShape.from_arrays({**arrays, "reward.share": np.full(BINS, 2.0, np.float32)})
    with pytest.raises(BundleError, match="map the logs again"):
        RewardShape.from_arrays({**arrays, "reward.scale": np.array([0.0, 0.0, 1.0], np.float32)})
