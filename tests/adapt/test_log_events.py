"""The agent led by events: a cursor on a line with a switch at either end; tasks pay for switching in their order."""

from typing import Any

import numpy as np
import pytest

from supple.adapt.log_agent import lead, make_guide, require_guide
from supple.adapt.log_events import EventAgent, EventGuide, holds_events
from supple.adapt.log_map import DISCOUNT
from supple.adapt.runtime_agent import RowEpisodes, SeenRows
from supple.errors import BundleError, RunError

from .conftest import make_contract
from .test_log_agent import REST, _Inside

END, DECISIONS = 3, 12
RIGHT, LEFT = 0, 1
"""The events: the switch at +3, and that at -3."""


def make_arrays(**changes: Any) -> dict[str, np.ndarray]:
    """States are (x, right, left); the decoder reacts to x alone. From each x a log went to either end, by steps."""
    x = np.arange(-END, END + 1)
    parts = {
        "point": np.concatenate([x, x])[:, None].astype(np.float16),
        "skill": np.repeat([1.0, -1.0], len(x))[:, None].astype(np.float16),
        "next": np.repeat([RIGHT, LEFT], len(x)).astype(np.int16),
        "left": np.concatenate([END - x, END + x]).astype(np.int16),
        "axes": np.array([[1.0, 0.0, 0.0]], np.float32),
        "detector": np.array([[0.0, 1.0, 0.0, 0.5], [0.0, 0.0, 1.0, 0.5]], np.float32),
        "prior": np.full((2, 2), 0.5, np.float32),
        "unit": np.array([2.0], np.float32),
    }
    return {f"event.{name}": value for name, value in (parts | changes).items() if value is not None}


def play(agent: Any, order: tuple[int, int], *, explore: bool = True, start: int = 0) -> tuple[list[int], float]:
    """One episode in one row; where the cursor went, and the return. A switch pays 2 when its turn has come."""
    agent.begin_episode(explore=explore)
    now = np.array([[start, 0.0, 0.0]], np.float32)
    observation, latent = np.zeros((1, DECISIONS + 1, 3), np.float32), np.zeros((1, DECISIONS, 1), np.float32)
    reward, paid, length = np.zeros((1, DECISIONS), np.float32), 0, DECISIONS
    observation[0, 0], last = now[0], np.zeros(1, np.float32)
    for decision in range(DECISIONS):
        chosen = agent.act(SeenRows(now.copy(), np.arange(1), last))
        latent[0, decision] = chosen[0]
        before = now.copy()
        now[0, 0] = np.clip(now[0, 0] + (chosen[0, 0] if abs(chosen[0, 0]) == 1.0 else 0.0), -END, END)
        now[0, 1] = max(now[0, 1], now[0, 0] == END)
        now[0, 2] = max(now[0, 2], now[0, 0] == -END)
        turn = paid < 2 and now[0, 1 + order[paid]] > before[0, 1 + order[paid]]
        last = np.array([2.0 * turn], np.float32)
        paid += turn
        observation[0, decision + 1], reward[0, decision] = now[0], last[0]
        if paid == 2:
            length = decision + 1
            break
    ended = np.array([paid == 2])
    agent.observe(RowEpisodes(observation, latent, reward, np.array([length]), ended, np.array([length])))
    return observation[0, 1 : length + 1, 0].astype(int).tolist(), float(reward.sum())


def make_agent(**changes: Any) -> EventAgent:
    agent = lead(_Inside(), make_guide(make_arrays(**changes)))
    assert isinstance(agent, EventAgent)
    agent.begin_task(1)
    return agent


def test_the_order_is_found_out_and_then_kept() -> None:
    """The first guess is wrong: the right switch pays nothing first. It has happened then, and is not sought again."""
    agent = make_agent()
    cells, total = play(agent, (LEFT, RIGHT))
    assert cells[:9] == [1, 2, 3, 2, 1, 0, -1, -2, -3]
    assert total == 2.0
    assert agent.state()["log.happened"].tolist() == [[[1.0, 1.0], [0.0, 0.0]]]
    assert agent.state()["log.paid"].tolist() == [[[0.0, 1.0], [0.0, 0.0]]]
    cells, total = play(agent, (LEFT, RIGHT), explore=False)
    assert (cells, total) == ([-1, -2, -3, -2, -1, 0, 1, 2, 3], 4.0)


def test_what_train_tasks_paid_is_sought_first() -> None:
    agent = make_agent(prior=np.array([[0.2, 0.8], [0.5, 0.5]], np.float32))
    assert play(agent, (LEFT, RIGHT))[1] == 4.0


def test_of_equal_chances_the_nearer_is_sought_and_time_spent_counts() -> None:
    guide = EventGuide(make_arrays())
    state, worth = np.array([[1.0, 0.0, 0.0]], np.float32), np.array([[0.5, 0.5]], np.float32)
    skill, sought = guide.choose(state, worth, np.zeros((1, 2), np.float32))
    assert (skill.tolist(), sought.tolist()) == ([[1.0]], [RIGHT])
    # 2 skills to the right and 4 to the left: more than 2 spent on the right are too many
    assert guide.choose(state, worth, np.array([[3.0, 0.0]], np.float32))[1].tolist() == [LEFT]
    # and a chance that is more than DISCOUNT ** 2 as good outweighs the way
    less = np.array([[0.5 * DISCOUNT**2 * 0.99, 0.5]], np.float32)
    assert guide.choose(state, less, np.zeros((1, 2), np.float32))[1].tolist() == [LEFT]


def test_the_skill_is_that_of_the_nearest_logged_state_on_the_axes_of_the_decoder() -> None:
    skill = np.arange(14, dtype=np.float16)[:, None]
    guide = EventGuide(make_arrays(skill=skill))
    state = np.array([[-1.6, 50.0, 0.0], [2.4, 0.0, -50.0]], np.float32)
    chosen, sought = guide.choose(state, np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.zeros((2, 2), np.float32))
    # rows of x = -2 to the right, and of x = 2 to the left
    assert (chosen[:, 0].tolist(), sought.tolist()) == ([1.0, 12.0], [RIGHT, LEFT])


def test_events_of_one_decision_share_what_it_paid() -> None:
    agent = make_agent()
    agent.begin_episode()
    agent.act(SeenRows(np.zeros((1, 3), np.float32), np.arange(1), np.zeros(1, np.float32)))
    seen = np.array([[[0, 0, 0], [0, 1, 1], [0, 1, 1]]], np.float32)
    once = np.array([2])
    agent.observe(
        RowEpisodes(
            seen, np.zeros((1, 2, 1), np.float32), np.array([[2.0, 0.0]], np.float32), once, np.zeros(1, bool), once
        )
    )
    assert agent.state()["log.paid"].tolist() == [[[0.5, 0.5], [0.0, 0.0]]]
    assert agent.state()["log.happened"].tolist() == [[[1.0, 1.0], [0.0, 0.0]]]


def test_what_lies_behind_the_end_of_an_episode_counts_for_nothing() -> None:
    agent = make_agent()
    seen = np.array([[[0, 0, 0], [0, 0, 0], [0, 1, 1]]], np.float32)
    one = np.array([1])
    agent.observe(
        RowEpisodes(seen, np.zeros((1, 2, 1), np.float32), np.zeros((1, 2), np.float32), one, np.zeros(1, bool), one)
    )
    assert not agent.state()["log.happened"].any()


def test_a_second_reward_is_counted_in_the_second_phase() -> None:
    agent = make_agent()
    play(agent, (RIGHT, LEFT))
    assert agent.state()["log.paid"].tolist() == [[[1.0, 0.0], [0.0, 1.0]]]


def test_the_agent_inside_gets_a_try_while_exploring_and_none_when_it_counts() -> None:
    """The logs returned 4; the one inside, which rests, may once be as good as the best, and returns 0."""
    agent = make_agent()
    play(agent, (RIGHT, LEFT))
    agent.begin_episode(explore=False)
    assert agent.leads.tolist() == [True]
    play(agent, (LEFT, RIGHT))  # 2: the mean of the logs is 3, with one more of 4 they have 10 / 3
    agent.begin_episode(explore=True)
    assert agent.leads.tolist() == [False]
    cells, total = play(agent, (RIGHT, LEFT))
    assert (set(cells), total) == ({0}, 0.0)
    agent.begin_episode(explore=False)
    assert agent.leads.tolist() == [True]


def test_guards_that_have_fallen_back_end_it() -> None:
    agent = lead(_Inside(), make_guide(make_arrays()), lambda: False)
    agent.begin_task(1)
    agent.begin_episode()
    chosen = agent.act(SeenRows(np.zeros((1, 3), np.float32), np.arange(1), np.zeros(1, np.float32)))
    assert chosen.tolist() == [[REST]]


def test_where_everything_has_happened_the_agent_inside_acts() -> None:
    agent = make_agent()
    agent.begin_episode()
    chosen = agent.act(SeenRows(np.array([[0.0, 1.0, 1.0]], np.float32), np.arange(1), np.zeros(1, np.float32)))
    assert chosen.tolist() == [[REST]]


def test_a_state_goes_on_exactly() -> None:
    agent, other = make_agent(), make_agent()
    play(agent, (LEFT, RIGHT))
    other.load_state(agent.state())
    assert [play(one, (LEFT, RIGHT)) for one in (agent, other)] == [([-1, -2, -3, -2, -1, 0, 1, 2, 3], 4.0)] * 2
    ended, others = agent.state(), other.state()
    assert all(np.array_equal(ended[name], others[name]) for name in ended)
    with pytest.raises(RunError, match=r"log\.paid"):
        other.load_state({name: value for name, value in agent.state().items() if name != "log.paid"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("point", None),
        ("point", np.zeros((14, 2), np.float16)),
        ("skill", np.zeros((13, 1), np.float16)),
        ("next", np.zeros(14, np.int16)),
        ("next", np.full(14, 2, np.int16)),
        ("next", np.full(14, -1, np.int16)),
        ("left", np.full(14, -1, np.int16)),
        ("detector", np.zeros((2, 3), np.float32)),
        ("detector", np.full((2, 4), np.nan, np.float32)),
        ("prior", np.ones((2, 3), np.float32)),
        ("prior", -np.ones((2, 2), np.float32)),
        ("prior", np.ones((0, 2), np.float32)),
        ("unit", np.zeros(1, np.float32)),
        ("unit", np.array([np.inf], np.float32)),
    ],
)
def test_a_map_that_does_not_fit_is_refused(name: str, value: Any) -> None:
    arrays = make_arrays(**{name: value})
    assert holds_events(arrays)
    with pytest.raises(BundleError, match=f"map of events: expected 'event.{name}'"):
        make_guide(arrays)


def test_a_map_of_events_is_one_robot_s_over_its_skills() -> None:
    wide = np.zeros((1, 4), np.float32)
    arrays = make_arrays(axes=wide, detector=np.zeros((2, 5), np.float32), skill=np.zeros((14, 3), np.float16))
    require_guide(arrays, make_contract("skill"), "logs")
    with pytest.raises(BundleError, match=r"logs: expected 'event\.axes' of width 4, got 3"):
        require_guide(make_arrays(skill=np.zeros((14, 3), np.float16)), make_contract("skill"), "logs")
    with pytest.raises(BundleError, match=r"logs: expected 'event\.skill' of width 3, got 1"):
        require_guide(arrays | {"event.skill": np.zeros((14, 1), np.float16)}, make_contract("skill"), "logs")
    with pytest.raises(BundleError, match="no map of events for an agent over raw actions"):
        require_guide(arrays, make_contract("raw"), "logs")


def see(agent: EventAgent, state: tuple[float, float, float], reward: float = 0.0) -> float:
    """The skill that is chosen in a state."""
    seen = SeenRows(np.array([state], np.float32), np.arange(1), np.array([reward], np.float32))
    return float(agent.act(seen)[0, 0])


def show(agent: EventAgent, states: list[tuple[float, float, float]], rewards: list[float]) -> None:
    """An episode that somebody else played."""
    agent.begin_episode()
    count = np.array([len(rewards)])
    seen, reward = np.array([states], np.float32), np.array([rewards], np.float32)
    agent.observe(
        RowEpisodes(seen, np.zeros((1, len(rewards), 1), np.float32), reward, count, np.zeros(1, bool), count)
    )


def test_who_gets_nowhere_turns_to_the_other_event() -> None:
    agent = make_agent()
    agent.begin_episode()
    assert [see(agent, (0.0, 0.0, 0.0)) for _ in range(4)] == [1.0, -1.0, 1.0, -1.0]


def test_what_has_happened_once_has_happened_for_the_episode() -> None:
    agent = make_agent()
    agent.begin_episode()
    assert see(agent, (1.0, 1.0, 0.0)) == -1.0
    assert see(agent, (2.5, 0.0, 0.0)) == -1.0  # its detector blinks, and it is near
    show(agent, [(0, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 0)], [0.0, 0.0, 0.0])
    assert agent.state()["log.happened"][0, 0].tolist() == [1.0, 0.0]


def test_an_event_that_was_not_paid_is_sought_less() -> None:
    """From x = 1 it is 2 skills to the right and 4 to the left; half of the chance is less than two skills more."""
    agent = make_agent()
    agent.begin_episode()
    assert see(agent, (1.0, 0.0, 0.0)) == 1.0
    show(agent, [(0, 0, 0), (0, 1, 0)], [0.0])
    agent.begin_episode()
    assert see(agent, (1.0, 0.0, 0.0)) == -1.0


def test_phases_are_counted_in_what_an_event_pays() -> None:
    """One reward of 2, the unit, is one phase, and not two."""
    prior = np.array([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9]], np.float32)
    agent = make_agent(prior=prior)
    agent.begin_episode()
    see(agent, (0.0, 0.0, 0.0))
    assert see(agent, (0.0, 0.0, 0.0), reward=2.0) == 1.0
    show(agent, [(0, 0, 0), (0, 1, 0), (0, 1, 1)], [2.0, 2.0])
    assert agent.state()["log.paid"][0].tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
