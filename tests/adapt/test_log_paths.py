"""The guide by paths: skills of five cells on a line, which pass over rewarded regions of one cell."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.adapt.log_agent import Guide, LogAgent, make_guide, require_guide
from supple.adapt.log_map import DISCOUNT, UNREACHED, count_ways, find_begins, map_log
from supple.adapt.log_paths import PREDICTED, PathGuide
from supple.adapt.reward_shape import BINS, RewardShape
from supple.adapt.runtime_agent import RowEpisodes, SeenRows, repeat_rows
from supple.errors import BundleError

from .conftest import make_contract
from .test_log_agent import _Inside

LINE, PACE, START = 41, 5, 20


def make_arrays() -> dict[str, Any]:
    """Two walks along the whole line, a row for each cell; a skill is five cells, and pays within half a cell."""
    right = np.arange(LINE, dtype=np.float32)
    state = np.concatenate([right, right[::-1]])[:, None]
    skill = np.concatenate([np.arange(LINE) + 100.0, -np.arange(LINE) - 100.0]).astype(np.float32)[:, None]
    share = np.zeros(BINS, np.float32)
    share[:2] = 1.0
    shape = RewardShape(np.ones((1, 1), np.float32), share, 0.25, 0.0, 1.0)
    return map_log(state, skill, np.array([0, LINE]), LINE, pace=PACE) | shape.to_arrays()


def play(agent: Any, goal: int, decisions: int = 8) -> tuple[list[int], float]:
    """One episode from the middle of the line: a positive latent goes to the right; passing the goal ends it."""
    agent.begin_episode()
    observation = np.zeros((1, decisions + 1, 1), np.float32)
    latent, reward = np.zeros((1, decisions, 1), np.float32), np.zeros((1, decisions), np.float32)
    now, last, length, steps = START, 0.0, decisions, 0
    observation[:, 0], cells = START, [START]
    for decision in range(decisions):
        seen = SeenRows(np.array([[now]], np.float32), np.array([0]), np.array([last], np.float32))
        chosen = agent.act(seen)
        for _ in range(PACE):
            now, steps = int(np.clip(now + np.sign(chosen[0, 0]), 0, LINE - 1)), steps + 1
            cells.append(now)
            last = float(now == goal)
            if last:
                break
        observation[:, decision + 1], latent[:, decision], reward[:, decision] = now, chosen, last
        if last:
            length = decision + 1
            break
    taken, ended = np.array([length]), np.array([last > 0])
    agent.observe(RowEpisodes(observation, latent, reward, taken, ended, np.array([steps])))
    return cells, last


class _Skills(_Inside):
    """An agent over skills of five steps."""

    def __init__(self) -> None:
        super().__init__()
        self.space.horizon = PACE


def test_skills_begin_where_their_end_is_in_the_episode() -> None:
    """Rows 0 to 3 and 4 to 6 are two episodes; a skill lasts two rows."""
    assert find_begins(7, np.array([0, 4]), 2).tolist() == [0, 1, 4]
    assert find_begins(7, np.array([0, 4])).tolist() == [0, 1, 2, 4, 5]


def test_ways_are_counted_until_a_skill_passes() -> None:
    """Skills lead 0 -> 1 -> 2; one that begins in 2 passes region 0, and nothing passes region 1."""
    passes = np.array([[False, False], [False, False], [True, False]])
    ways = count_ways(np.array([0, 1]), np.array([1, 2]), passes)
    assert ways.tolist() == [[3, UNREACHED], [2, UNREACHED], [1, UNREACHED]]


def test_the_pace_says_which_guide() -> None:
    assert isinstance(make_guide(make_arrays()), PathGuide)
    with pytest.raises(BundleError, match="one state for each skill, got 5"):
        Guide(make_arrays())
    for wrong in (np.array([0], np.int32), np.array([5.0]), np.array([5, 5], np.int32)):
        with pytest.raises(BundleError, match="'pace' of one positive integer"):
            make_guide(make_arrays() | {"pace": wrong})


def test_logs_without_a_whole_skill_are_refused() -> None:
    with pytest.raises(BundleError, match="a skill of 99 states at least, got none"):
        make_guide(make_arrays() | {"pace": np.array([99], np.int32)})


def test_a_decision_sees_its_end_and_half_of_what_a_logged_skill_passed() -> None:
    """From 20 to 25: middle 25 is certain, 21 to 24 count by `PREDICTED`, 26 and 20 were not passed."""
    guide = PathGuide(make_arrays())
    latent = np.array([[120.0]], np.float32)
    begin, end, whole = (np.array([[20.0]], np.float32), np.array([[25.0]], np.float32), np.array([True]))
    middle = np.rint(guide._middle[:, 0]).astype(int)
    share = dict(zip(middle.tolist(), guide.see(begin, latent, end, whole)[0].tolist(), strict=True))
    assert [share[cell] for cell in range(19, 28)] == [0.0, 0.0, *[float(PREDICTED)] * 4, 1.0, 0.0, 0.0]
    for others in ((latent + 0.5, whole), (latent, ~whole)):  # no logged skill, and one that was cut off
        share = dict(zip(middle.tolist(), guide.see(begin, others[0], end, others[1])[0].tolist(), strict=True))
        assert sum(share.values()) == share[25] == 1.0


def test_a_path_is_moved_to_where_it_began_and_ended() -> None:
    """The skill logged from 20 to 25 took the robot from 21 to 27: a step is 1.2 cells."""
    guide = PathGuide(make_arrays())
    row = np.array([guide._row_of[np.array([120.0], np.float32).tobytes()]])
    begin, end = np.array([[21.0]], np.float32), np.array([[27.0]], np.float32)
    assert guide._predict(begin, row, end)[0, :, 0] == pytest.approx([22.2, 23.4, 24.6, 25.8, 27.0])
    assert guide._predict(begin, row)[0, :, 0] == pytest.approx([21.8, 22.6, 23.4, 24.2, 25.0])


def test_the_way_to_a_region_is_the_number_of_skills_until_one_passes_it() -> None:
    """From 20 a skill passes 21 to 25, two pass 30, and four pass 40."""
    guide = PathGuide(make_arrays())
    place = np.rint(make_arrays()["place"][:, 0] / guide._metric[0, 0]).astype(int).tolist()
    middle = np.rint(guide._middle[:, 0]).astype(int).tolist()
    ways = [guide._discount[place.index(START), middle.index(cell)] for cell in (21, 25, 26, 30, 40)]
    assert ways == pytest.approx([DISCOUNT, DISCOUNT, DISCOUNT**2, DISCOUNT**2, DISCOUNT**4])


@pytest.mark.parametrize("goal", [2, 23, 38])
def test_a_region_within_a_skill_is_found_and_driven_to(goal: int) -> None:
    """No skill from cell 20 ends in any of the goals. Two episodes see the whole line; then the way is the shortest."""
    agent = LogAgent(_Skills(), PathGuide(make_arrays()))
    agent.begin_task(1)
    searched = 0
    while not agent.known[0]:
        play(agent, goal)
        searched += 1
    assert searched <= 2
    cells, paid = play(agent, goal)
    assert paid == 1.0
    assert len(cells) - 1 == abs(goal - START)


def test_a_search_does_not_pass_twice_over_what_paid_nothing() -> None:
    """Eight skills are forty cells: as many as the line has on both sides, of which half are passed twice at least."""
    agent = LogAgent(_Skills(), PathGuide(make_arrays()))
    agent.begin_task(1)
    assert len(set(play(agent, -1)[0]) | set(play(agent, -1)[0])) >= 36


def test_a_state_goes_on_in_another_agent() -> None:
    """Which skill was chosen is read from the episode itself: nothing of it has to be saved."""
    guide = PathGuide(make_arrays())
    agent = LogAgent(_Skills(), guide)
    agent.begin_task(1)
    play(agent, 2)
    other = LogAgent(_Skills(), guide)
    other.load_state(repeat_rows({k: v for k, v in agent.state().items() if k != "inside"}, 1) | {"inside": 0})
    assert play(other, 2) == play(agent, 2)
    assert np.array_equal(other.state()["log.belief"], agent.state()["log.belief"])


def test_a_state_far_from_the_logs_is_left_to_the_agent_inside() -> None:
    guide = PathGuide(make_arrays())
    belief = np.full((2, guide.regions), 1.0 / guide.regions, np.float32)
    known = guide.choose(np.array([[20.0], [4000.0]], np.float32), belief, np.zeros((2, 1), np.float32))[1]
    assert known.tolist() == [True, False]


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 35), st.integers(0, 40))
def test_a_known_region_that_a_skill_passes_is_passed_by_the_next(here: int, goal: int) -> None:
    """Whatever the place, the chosen skill goes towards the goal."""
    guide = PathGuide(make_arrays())
    belief = guide.shape.look_up_points(np.array([[goal]], np.float32), guide._middle)
    belief /= belief.sum()
    latent, _, _ = guide.choose(np.array([[here]], np.float32), belief, np.zeros((1, 1), np.float32))
    if here != goal:
        assert np.sign(latent[0, 0]) == np.sign(goal - here)


def test_paths_lead_no_agent_over_actions() -> None:
    """It would see the ends alone, and search where it has passed."""
    arrays = make_arrays()
    wide = {"state": np.repeat(arrays["state"], 4, axis=1), "reward.axes": np.ones((1, 4), np.float32)}
    wide |= {"metric": np.eye(4, dtype=np.float32), "place": np.repeat(arrays["place"], 4, axis=1)}
    with pytest.raises(BundleError, match="one skill apart for an agent over actions, got 5"):
        require_guide(arrays | wide, make_contract("raw"), "logs")
