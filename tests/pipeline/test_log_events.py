"""Which events logs hold, on logs written by hand: three switches; train tasks pay for two of them in order."""

from itertools import permutations

import numpy as np
import pytest
import torch

from supple.adapt.log_agent import make_guide
from supple.adapt.log_events import MOST_PHASES, EventGuide
from supple.pipeline.log_events import (
    DOUBT,
    compute_decoder_axes,
    find_events,
    find_first,
    find_moments,
    map_events,
)
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

STEPS, UNIT = 60, 3.0
TASKS = ((0, 1), (1, 0), (1, 2))
AT = (12, 27, 42)
"""Steps from which on the first, second and third switch of an episode are on."""


def make_logs(times: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """All orders of three switches, so many times; states are the switches and a cursor. Tasks pay in their order."""
    rng, states, rewards = np.random.default_rng(0), [], []
    for order in [*permutations(range(3))] * times:
        on, reward = np.zeros((STEPS, 3)), np.zeros((STEPS, len(TASKS)), np.float32)
        for switch, step in zip(order, AT, strict=True):
            on[step:, switch] = 1.0
        for index, task in enumerate(TASKS):
            turn = 0
            for switch, step in zip(order, AT, strict=True):
                if turn < 2 and switch == task[turn]:
                    reward[step, index] = UNIT
                    turn += 1
        state = np.concatenate([on, rng.uniform(-1.0, 1.0, (STEPS, 1))], axis=1) + 0.05 * rng.normal(size=(STEPS, 4))
        states.append(state.astype(np.float32))
        rewards.append(reward)
    length = np.full(len(states), STEPS)
    return np.concatenate(states), np.cumsum(length) - length, length, rewards


def test_moments_are_where_one_event_was_paid_and_how_many_were_before() -> None:
    reward = np.zeros((6, 2), np.float32)
    reward[1, 0] = reward[4, 0] = reward[4, 1] = UNIT
    twice = reward.copy()
    twice[1, 0] = 2 * UNIT  # two events at once tell nothing of either, but that two were paid
    found = find_moments([reward, twice])
    assert found is not None
    moments, unit = found
    assert unit == UNIT
    assert moments.episode.tolist() == [0, 0, 0, 1, 1]
    assert moments.step.tolist() == [1, 4, 4, 4, 4]
    assert moments.task.tolist() == [0, 0, 1, 0, 1]
    assert moments.phase.tolist() == [0, 1, 0, 2, 0]


@pytest.mark.parametrize(
    "reward",
    [
        np.zeros((6, 2)),
        np.array([[0.0], [UNIT], [0.0]]),  # once, as a goal that ends the task
        np.array([[0.0], [-UNIT], [UNIT], [UNIT]]),
        np.array([[1.0], [1.7], [0.3]]),  # dense
        np.ones((MOST_PHASES + 1, 1)),  # for being somewhere
        np.array([[0.0], [UNIT], [UNIT], [UNIT], [0.0], [0.0], [UNIT], [UNIT]]),  # the same, passed fast, twice
    ],
)
def test_other_rewards_are_not_paid_for_events(reward: np.ndarray) -> None:
    assert find_moments([reward.astype(np.float32)]) is None
    state = np.random.default_rng(0).normal(size=(len(reward), 2)).astype(np.float32)
    assert find_events(state, np.array([0]), np.array([len(reward)]), [reward.astype(np.float32)]) is None


def test_events_are_the_switches_and_their_detectors_tell_when_they_are_on() -> None:
    state, start, length, rewards = make_logs()
    events = find_events(state, start, length, rewards)
    assert events is not None
    assert events.unit == UNIT
    assert len(events.detector) == 3
    tells = state @ events.detector[:, :-1].T > events.detector[:, -1]
    switch = [int(np.argmax([(tells[:, event] == (state[:, s] > 0.5)).mean() for s in range(3)])) for event in range(3)]
    assert sorted(switch) == [0, 1, 2]
    assert all((tells[:, event] == (state[:, s] > 0.5)).mean() > 0.99 for event, s in enumerate(switch))
    # phase 0: tasks begin with 0, 1, 1; phase 1: they go on with 1, 0, 2
    counts = np.array([[1, 2, 0], [1, 1, 1]])[:, switch] + DOUBT
    np.testing.assert_allclose(events.prior, counts / counts.sum(axis=1, keepdims=True), rtol=1e-5)


def test_events_that_no_two_tasks_share_are_found_by_how_the_state_changes() -> None:
    """With one task to an episode, nothing is paid by two: the second of (0, 1) and the first of (1, 2) look alike."""
    for times, events in ((20, 3), (2, None)):  # with two logs of each order no event has five moments
        state, start, length, rewards = make_logs(times)
        apart = [reward.copy() for reward in rewards]
        for episode, reward in enumerate(apart):
            reward[:, np.arange(3) != episode % 3] = 0.0
        found = find_events(state, start, length, apart)
        assert (None if found is None else len(found.detector)) == events


def test_what_is_paid_at_the_end_of_an_episode_makes_no_event() -> None:
    """Nobody knows what was well before step 3 or well after step 57."""
    state, start, length, rewards = make_logs()
    for reward in rewards:
        reward[[3, 57], 0] = UNIT
    found = find_events(state, start, length, rewards)
    assert found is not None
    assert len(found.detector) == 3


def test_an_event_happens_where_its_detector_lasts() -> None:
    state, start, length, rewards = make_logs()
    events = find_events(state, start, length, rewards)
    assert events is not None
    blink = state.copy()
    blink[5:7, 0] = 1.0  # the first episode turns on 0 at step 12
    first = find_first(events, blink, start, length)
    assert sorted(first[0].tolist()) == list(AT)
    short = find_first(events, state, start, np.full(len(length), 30))
    assert all(sorted(one.tolist()) == [12, 27, 30] for one in short)


def make_model() -> SkillModel:
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    torch.manual_seed(0)
    model = SkillModel(4, 2, SkillConfig(skill_horizon=4, skill_dim=3, **width)).eval()
    model.normaliser.std.copy_(torch.tensor([1.0, 2.0, 0.5, 1.0]))
    return model


def test_the_axes_of_the_distance_tell_how_much_commands_differ() -> None:
    """Small differences of states, on the networks' scale, against what the decoder does, on the mean."""
    model, rng = make_model(), np.random.default_rng(1)
    observation, skill = rng.normal(size=(500, 4)).astype(np.float32), rng.normal(size=(500, 3)).astype(np.float32)
    axes = compute_decoder_axes(model, observation, skill)
    assert axes.shape[1] == 4
    for direction in np.eye(4, dtype=np.float32):
        moved = observation + 1e-3 * direction * model.normaliser.std.numpy()
        with torch.no_grad():
            one, other = (
                model.decode_scaled(torch.from_numpy(seen), torch.from_numpy(skill)) for seen in (observation, moved)
            )
        measured = float(((one - other) ** 2).sum(1).mean().sqrt()) / 1e-3
        assert np.linalg.norm(axes @ direction) == pytest.approx(measured, rel=0.05, abs=0.01)


def test_a_map_names_the_next_event_of_each_state_and_the_skills_until_then() -> None:
    state, start, length, rewards = make_logs()
    model = make_model()
    observation = state * model.normaliser.std.numpy()
    action = np.random.default_rng(2).normal(size=(len(state), 2)).astype(np.float32)
    arrays = map_events(model, observation, action, start, length, rewards, pace=2, seed=0)
    assert arrays is not None
    assert isinstance(make_guide(arrays), EventGuide)
    left = arrays["event.left"].reshape(len(start), -1)
    # every second step until the last switch at 42: rows at 0, 2, ... 40
    assert left.shape[1] == 21
    assert left[0].tolist() == [3, 3, 2, 2, 1, 1, 4, 4, 3, 3, 2, 2, 1, 1, 4, 3, 3, 2, 2, 1, 1]
    following = arrays["event.next"].reshape(len(start), -1)
    runs = [list(dict.fromkeys(one.tolist())) for one in following]
    assert all(sorted(run) == [0, 1, 2] for run in runs)
    assert len({tuple(run) for run in runs}) == 6
    assert map_events(model, observation, action, start, length, [0.0 * one for one in rewards], pace=2, seed=0) is None


def test_a_map_leaves_out_states_that_no_skill_led_from_and_after_which_nothing_came() -> None:
    """One log ends with its last switch on from step 57 of 60, another without it; the last skill begins at step 54."""
    state, start, length, rewards = make_logs()
    state[AT[2] : 57, 2], rewards[0][57], rewards[0][AT[2]] = 0.0, rewards[0][AT[2]], 0.0
    last = slice(int(start[1]) + AT[2], int(start[1]) + STEPS)
    state[last, 1], rewards[1][AT[2]] = 0.0, 0.0  # the order of the second log is 0, 2, 1
    model = make_model()
    observation = state * model.normaliser.std.numpy()
    action = np.random.default_rng(2).normal(size=(len(state), 2)).astype(np.float32)
    arrays = map_events(model, observation, action, start, length, rewards, pace=2, seed=0)
    assert arrays is not None
    # rows 0 to 54 of the first, 0 to 26 of the second, 0 to 40 of each of ten others
    assert len(arrays["event.next"]) == 28 + 14 + 10 * 21
    assert arrays["event.skill"].any(axis=1).all()
