"""The agent that finds its way by logs, on a line: it searches, drives, hands over, and takes its state along."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from supple.adapt.log_agent import ANEW, EXHAUSTED, Guide, LogAgent, compute_stride, require_guide
from supple.adapt.log_map import map_log
from supple.adapt.log_skills import drop_skills, pack_skills, read_skills
from supple.adapt.reward_shape import BINS, RewardShape
from supple.adapt.runtime_agent import RowEpisodes, SeenRows, repeat_rows
from supple.adapt.spaces import RowSpace, SpaceSettings
from supple.errors import BundleError, RunError
from supple.robots.spec import ArraySpec, Axis, RobotSpec

from .conftest import make_contract, make_weights
from .test_log_map import LINE, make_line

START, DECISIONS = 20, 30
REST = 7.0
"""What the agent inside chooses."""


class _Space:
    horizon, latent_dim = 1, 1

    def normalise(self, observation: np.ndarray) -> np.ndarray:
        """Observations are on the networks' scale."""
        return observation


class _Inside:
    """Stays where it is, and remembers what it was told."""

    def __init__(self) -> None:
        self.space = _Space()
        self.told: list[str] = []

    def begin_task(self, rows: int) -> None:
        self.told.append("task")

    def begin_episode(self, *, explore: bool = True) -> None:
        self.told.append("episode")

    def act(self, seen: SeenRows) -> np.ndarray:
        return np.full((len(seen.rows), 1), REST, np.float32)

    def observe(self, episodes: RowEpisodes) -> None:
        self.told.append("observe")

    def adapt(self) -> None:
        self.told.append("adapt")

    def state(self) -> dict[str, Any]:
        return {"inside": np.zeros(3)}

    def load_state(self, arrays: Any) -> None:
        assert set(arrays) == {"inside"}


def make_guide(*, searches: bool = True) -> Guide:
    """Every cell of the line is a place; a task pays in one cell alone."""
    share = np.zeros(BINS, np.float32)
    share[:2] = 1.0  # of half a cell each
    shape = RewardShape(np.ones((1, 1), np.float32), share, 0.25, 0.0, 1.0)
    return Guide(map_log(*make_line(), LINE) | shape.to_arrays(), searches=searches)


def play(agent: Any, goal: int, rows: int = 1, decisions: int = DECISIONS) -> tuple[list[int], float]:
    """One episode from the middle of the line; the cells that the first row visited, and its return."""
    agent.begin_episode()
    observation = np.zeros((rows, decisions + 1, 1), np.float32)
    latent, reward = np.zeros((rows, decisions, 1), np.float32), np.zeros((rows, decisions), np.float32)
    now = np.full((rows, 1), START, np.float32)
    observation[:, 0] = now
    last, length = np.zeros(rows, np.float32), decisions
    for decision in range(decisions):
        chosen = agent.act(SeenRows(now.copy(), np.arange(rows), last))
        now = np.clip(now + np.where(np.abs(chosen) == 1.0, chosen, 0.0), 0, LINE - 1).astype(np.float32)
        last = (now[:, 0] == goal).astype(np.float32)
        observation[:, decision + 1], latent[:, decision], reward[:, decision] = now, chosen, last
        if last.all():
            length = decision + 1
            break
    lengths, ended = np.full(rows, length), last > 0
    agent.observe(RowEpisodes(observation, latent, reward, lengths, ended, lengths))
    return observation[0, 1 : length + 1, 0].astype(int).tolist(), float(reward[0].sum())


def test_a_search_does_not_turn_back_where_it_has_been() -> None:
    """30 decisions from cell 20 see one end whole (19 cells) or more; the second episode goes to the other side."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    first, _ = play(agent, -1)
    second, _ = play(agent, -1)
    assert len(set(first)) >= 19
    assert len(set(first) | set(second)) >= 38


@pytest.mark.parametrize("goal", [2, 37])
def test_once_felt_the_goal_is_driven_to_by_the_shortest_way(goal: int) -> None:
    """The way from cell 20 takes as many decisions as there are cells."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    while not agent.known[0]:
        play(agent, goal)
    cells, total = play(agent, goal)
    assert total == 1.0
    assert len(cells) == abs(goal - START)


def test_what_is_near_is_counted_in_the_direction_of_travel() -> None:
    """From 0 four skills lead to 5, and no way back."""
    way = np.array([0.0, 2.0, 3.0, 4.0, 5.0, 5.0], np.float32)[:, None]
    guide = Guide(map_log(way, way, np.array([0]), 8) | make_guide().shape.to_arrays())
    at = {round(float(state[0])): index for index, state in enumerate(guide.log.state)}
    assert guide.discount[at[0], at[5]] == pytest.approx(0.95**4)
    assert guide.discount[at[5], at[0]] == 0.0


def test_beliefs_are_those_of_bayes() -> None:
    """One cell visited without reward: its belief falls to 1 - .95 of itself, and no other one changes."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    cells, _ = play(agent, -1, decisions=1)
    belief = np.exp(agent.state()["log.belief"][0])
    visited = int(agent._guide.log.locate(np.array([[cells[0]]], np.float32))[0][0, 0])
    assert belief[visited] == pytest.approx(0.05, rel=1e-4)
    assert np.delete(belief, visited) == pytest.approx(np.ones(LINE - 1), rel=1e-6)


@pytest.mark.parametrize(("rewards", "known"), [((-4.0, -2.0), False), ((-4.0, -1.0), True), ((-3.0, -2.0), True)])
def test_a_skill_that_the_end_of_an_episode_cuts_off_is_not_paid_by_being_short(
    rewards: tuple[float, float], known: bool
) -> None:
    """Every step costs 1; a skill lasts four, and the second one is cut off after two."""

    class Long(_Inside):
        def __init__(self) -> None:
            super().__init__()
            self.space = _Space()
            self.space.horizon = 4

    guide = make_guide()
    guide.shape = replace(guide.shape, low=-1.0, high=0.0)
    agent = LogAgent(Long(), guide)
    agent.begin_task(1)
    agent.begin_episode()
    seen, one = np.array([[[20.0], [21.0], [22.0]]], np.float32), np.array([True])
    reward = np.array([rewards], np.float32)
    agent.observe(RowEpisodes(seen, np.ones((1, 2, 1), np.float32), reward, np.array([2]), one, np.array([6])))
    assert agent.known.tolist() == [known]


def test_a_search_gives_way_to_who_returns_more_where_no_place_explains_the_rewards() -> None:
    """Minus the distance from the start, by logs that know of 0 and 1 alone: the agent inside stays there."""
    agent, one = LogAgent(_Inside(), make_guide()), np.array([1])
    agent.begin_task(1)

    def run_episode(logs: float) -> bool:
        agent.begin_episode()
        led = bool(agent.leads[0])
        seen = np.array([[[START], [0.0 if led else START]]], np.float32)
        agent.act(SeenRows(seen[:, 0], np.array([0]), np.zeros(1, np.float32)))
        reward = np.array([[logs if led else -1.0]], np.float32)
        agent.observe(RowEpisodes(seen, np.ones((1, 1, 1), np.float32), reward, one, np.array([False]), one))
        return led

    # nothing differs; the third one does, and who has not been tried gets its turns
    assert [run_episode(logs) for logs in (-20.0, -20.0, -25.0, -20.0, -20.0)] == [True, True, True, False, False]
    assert not agent.known[0]
    agent.begin_episode(explore=False)
    assert agent.leads.tolist() == [False]
    # who only drives does not begin to search because returns differ
    drives = LogAgent(_Inside(), make_guide(searches=False))
    drives.load_state(agent.state() | {"log.returns": np.array([[9.0, -9.0]], np.float32)})
    drives.begin_episode()
    assert drives.leads.tolist() == [False]


def test_a_price_on_effort_does_not_end_the_search() -> None:
    """A goal that pays 1 was not found; the episodes of the logs differ by .3 in what the motion costs."""
    agent, one = LogAgent(_Inside(), make_guide()), np.array([1])
    agent.begin_task(1)
    led = []
    for cost in (0.1, 0.4, 0.2, 0.4):
        agent.begin_episode()
        led.append(bool(agent.leads[0]))
        seen = np.array([[[START], [START]]], np.float32)
        agent.act(SeenRows(seen[:, 0], np.array([0]), np.zeros(1, np.float32)))
        reward = np.array([[-cost]], np.float32)
        agent.observe(RowEpisodes(seen, np.ones((1, 1, 1), np.float32), reward, one, np.array([False]), one))
    assert led == [True] * 4
    assert not agent.known[0]


def test_rewards_are_predicted_by_the_places_that_are_believed_in() -> None:
    """Before anything was seen, one cell of 40 pays; once the goal was felt, its cell does, and none far from it."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    cells = np.arange(LINE, dtype=np.float32)[:, None]
    places = agent._guide.regions
    np.testing.assert_allclose(agent.predict_rewarded(cells)[0], 1.0 / places, rtol=1e-3)
    before, _ = play(agent, -1, decisions=1)
    chance = agent.predict_rewarded(cells)[0]
    # the visited cell keeps .05 of its belief: .05 / (places - .95)
    assert chance[before[0]] == pytest.approx(0.05 / (places - 0.95), rel=1e-2)
    while not agent.known[0]:
        play(agent, 30)
    chance = agent.predict_rewarded(cells)[0]
    assert chance.argmax() == 30
    assert chance[30] > 0.9
    assert chance[:25].max() < 1e-2


def test_decisions_in_a_place_are_counted_until_the_episode_ends() -> None:
    """So that a robot that goes round in circles is led elsewhere, see `LogMap.choose`."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    agent.begin_episode()
    here = int(agent._guide.log.locate(np.array([[START]], np.float32))[0][0, 0])
    for _ in range(3):
        agent.act(SeenRows(np.array([[START]], np.float32), np.zeros(1, np.int64), np.zeros(1, np.float32)))
    assert agent._stayed[0, here] == agent._stayed.sum() == 3.0
    agent.begin_episode()
    assert not agent._stayed.any()


def test_a_state_far_from_the_logs_is_left_to_the_agent_inside() -> None:
    """The logs end at 39; at 4000 nobody knows where a skill leads."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(2)
    agent.begin_episode()
    seen = SeenRows(np.array([[20.0], [4000.0]], np.float32), np.arange(2), np.zeros(2, np.float32))
    chosen = agent.act(seen)[:, 0]
    assert abs(chosen[0]) == 1.0
    assert chosen[1] == REST


def test_logs_lead_only_while_they_may() -> None:
    may = [True]
    agent = LogAgent(_Inside(), make_guide(), lambda: may[0])
    agent.begin_task(1)
    agent.begin_episode()
    seen = SeenRows(np.array([[START]], np.float32), np.array([0]), np.zeros(1, np.float32))
    assert agent.act(seen) != REST
    may[0] = False  # in the middle of an episode
    assert agent.act(seen) == REST


def test_a_task_that_is_nowhere_gives_every_second_episode_to_the_agent_inside() -> None:
    """After the whole line has been seen, whoever leads changes with each episode."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    led = []
    for _ in range(8):
        play(agent, -1)
        led.append(bool(agent.leads[0]))
    turned = led.index(False)
    assert led[:turned] == [True] * turned
    assert all(before != after for before, after in zip(led[turned - 1 :], led[turned:], strict=False))


@pytest.mark.parametrize(("left", "again"), [(2 * ANEW, False), (ANEW / 2, True)])
def test_places_that_nobody_has_seen_keep_their_belief_until_hardly_any_are_left(left: float, again: bool) -> None:
    """Most places are excluded. A search that then forgot everything would begin with those near the start again."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    agent._belief[:] = np.log(left)
    unseen = int(agent._guide.log.locate(np.array([[39.0]], np.float32))[0][0, 0])
    before = agent._belief[0, unseen]
    play(agent, -1, decisions=1)
    assert agent._belief[0, unseen] == (0.0 if again else before)
    assert left < EXHAUSTED
    agent.begin_episode()
    assert not agent.leads[0]


def test_the_better_one_leads_a_known_task() -> None:
    """Logs that fail hand over; an agent inside that fails as well hands back."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    goal = 23
    while not agent.known[0]:
        play(agent, goal)
    agent.begin_episode()
    assert agent.leads[0]
    play(agent, -1)  # the goal is gone: the logs' episode pays nothing
    agent.begin_episode()
    assert not agent.leads[0]
    play(agent, -1)  # the agent inside stays where it is
    agent.begin_episode()
    assert agent.leads[0]


def test_who_was_hardly_tried_does_not_lead_when_it_counts() -> None:
    """Logs that were right once and wrong once: 1 / 2 of them, 0 / 0 of the agent inside.

    The next episode is the agent's, to find out: (1 + 1) / 3 against (0 + 1) / 1. One that counts is the logs':
    (1 + 1) / 4 against (0 + 1) / 2, and against 1 / 3 once the agent has failed.
    """
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    while not agent.known[0]:
        play(agent, 23)
    play(agent, -1)
    agent.begin_episode(explore=True)
    assert not agent.leads[0]
    agent.begin_episode(explore=False)
    assert agent.leads[0]
    play(agent, -1)
    agent.begin_episode(explore=False)
    assert agent.leads[0]
    assert agent.state()["log.worst"].tolist() == [0.0]
    agent._returns[0], agent._tries[0] = (1.0, 3.0), (4, 3)  # 2 / 6 against 4 / 5
    agent.begin_episode(explore=False)
    assert not agent.leads[0]
    agent._returns[0], agent._tries[0], agent._worst[0] = (2.0, 1.0), (4, 1), -4.0  # (3 - 4) / 6 against (2 - 4) / 3
    agent.begin_episode(explore=False)
    assert agent.leads[0]


@pytest.mark.parametrize(
    ("tries", "explore", "leads"), [((5, 0), False, True), ((5, 0), True, False), ((0, 5), False, False)]
)
def test_who_was_not_tried_at_all_does_not_lead_when_it_counts(
    tries: tuple[int, int], explore: bool, leads: bool
) -> None:
    """Returns of 4, 0, 0, 0 and 0: their mean, 8 / 7 by Laplace, is below the 4 / 2 of who was never tried."""
    agent = LogAgent(_Inside(), make_guide())
    agent.begin_task(1)
    agent._known[0], agent._best[0], agent._worst[0] = True, 4.0, 0.0
    agent._returns[0], agent._tries[0] = np.where(np.array(tries) > 0, 4.0, 0.0), tries
    agent.begin_episode(explore=explore)
    assert agent.leads[0] == leads


def test_a_guide_that_does_not_search_drives_to_what_the_other_found() -> None:
    """The agent inside stays at the start, which pays once; then the logs lead back to it."""
    agent = LogAgent(_Inside(), make_guide(searches=False))
    agent.begin_task(1)
    assert set(play(agent, -1)[0]) == {START}
    assert not agent.leads[0]
    assert play(agent, START)[1] == 1.0
    agent.begin_episode()
    assert agent.leads[0]


def test_the_agent_inside_learns_from_every_episode() -> None:
    """It is told of tasks, episodes and steps, whoever leads."""
    inside = _Inside()
    agent = LogAgent(inside, make_guide())
    agent.begin_task(1)
    play(agent, -1)
    agent.adapt()
    assert inside.told == ["task", "episode", "observe", "adapt"]


def test_a_state_goes_on_in_another_agent_also_with_more_rows() -> None:
    """As evaluations do: each row of a task drives as the task's own would."""
    guide = make_guide()
    agent = LogAgent(_Inside(), guide)
    agent.begin_task(1)
    while not agent.known[0]:
        play(agent, 5)
    again = LogAgent(_Inside(), guide)
    again.load_state(repeat_rows({k: v for k, v in agent.state().items() if k != "inside"}, 3) | {"inside": 0})
    assert play(again, 5, rows=3) == play(agent, 5)
    with pytest.raises(RunError, match="log agent"):
        again.load_state({"inside": 0})


def test_logs_of_other_skills_or_another_robot_are_refused() -> None:
    """When the bundle is loaded, not when the robot moves. A skill agent has Z = 3, the robot O = 4."""
    state, _, start = make_line()
    rng = np.random.default_rng(0)
    wide = np.repeat(state, 4, axis=1) + rng.standard_normal((len(state), 4)).astype(np.float32)
    skill = rng.standard_normal((len(state), 3)).astype(np.float32)
    shape = RewardShape(np.ones((1, 4), np.float32), make_guide().shape.share, 0.25, 0.0, 1.0)
    arrays = map_log(wide, skill, start, LINE) | shape.to_arrays()
    contract = make_contract("skill")
    require_guide(arrays, contract, "logs")
    with pytest.raises(BundleError, match="'state' of width 4, got 1"):
        require_guide(map_log(state, skill, start, LINE) | shape.to_arrays(), contract, "logs")
    with pytest.raises(BundleError, match="'skill' of width 3, got 2"):
        require_guide(map_log(wide, skill[:, :2], start, LINE) | shape.to_arrays(), contract, "logs")
    with pytest.raises(BundleError, match="expected the skills of the logs"):
        require_guide(arrays, make_contract("raw"), "logs")
    packed = pack_skills(contract.space, make_weights(contract))
    assert not any("prior" in name for name in packed)
    require_guide(arrays | packed, make_contract("raw"), "logs")
    assert drop_skills(arrays | packed).keys() == arrays.keys()
    choice = replace(contract, space=SpaceSettings(name="choice"))
    with pytest.raises(BundleError, match="expected none for an agent of named choices"):
        require_guide(arrays | packed, choice, "logs")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("skills.horizon", np.array([0], np.int32), "expected the skills of the logs"),
        ("skills.horizon", np.array([4.0], np.float32), "expected the skills of the logs"),
        ("skills.space.std", np.zeros(4, np.float32), "space.std > 0"),
        ("skills.space.mean", np.full(4, np.nan, np.float32), "finite 'space.mean'"),
        ("skills.space.decoder.layers.0.weight", np.zeros((16, 6), np.float32), r"layers.0.weight' of shape \(16, 7\)"),
        ("skills.space.decoder.layers.7.bias", np.zeros(2, np.float32), "only tensors that bundle.json declares"),
    ],
)
def test_damaged_skills_of_logs_are_refused(name: str, value: np.ndarray, message: str) -> None:
    """A robot must not move by half of a decoder."""
    contract = make_contract("skill")
    arrays = {"skill": np.zeros((1, 3))} | pack_skills(contract.space, make_weights(contract)) | {name: value}
    with pytest.raises(BundleError, match=message):
        read_skills(arrays, contract.robot, "logs")


PACE = 4
"""Steps of a skill on the line of actions: each goes a quarter of a cell."""


def make_action_guide() -> Guide:
    """The guide of the line, whose skills command z / `PACE` in each of `PACE` steps."""
    line = ArraySpec("observation", (Axis("x", "m", -np.inf, np.inf),))
    robot = RobotSpec("line", line, ArraySpec("action", (Axis("x", "m", -1.0, 1.0),)), line, 0.02, PACE * DECISIONS)
    settings = SpaceSettings(name="skill", horizon=PACE, latent_dim=1, prior=(1, 2), decoder=(2, 1))
    weights = {
        "space.mean": np.zeros(1, np.float32),
        "space.std": np.ones(1, np.float32),
        "space.decoder.layers.0.weight": np.array([[0.0, 1.0 / PACE]], np.float32),
        "space.decoder.layers.0.bias": np.zeros(1, np.float32),
    }
    arrays = map_log(*make_line(), LINE) | make_guide().shape.to_arrays() | pack_skills(settings, weights)
    skills = read_skills(arrays, robot, "logs")
    return Guide(arrays, skills)


class _Actions(_Inside):
    """The agent inside over actions, half as large as the limit: unit actions of 2 are 1 m."""

    def __init__(self) -> None:
        super().__init__()
        spec = ArraySpec("action", (Axis("x", "m", -2.0, 2.0),))
        line = ArraySpec("observation", (Axis("x", "m", -np.inf, np.inf),))
        robot = RobotSpec("line", line, spec, line, 0.02, 8)
        self.space = RowSpace(SpaceSettings(name="unit", latent_dim=1), robot, {})


def play_actions(agent: Any, goal: float, steps: int = PACE * DECISIONS) -> tuple[list[float], np.ndarray]:
    """One episode of actions in the unit of `_Actions`; the way of the only row, and what was chosen."""
    agent.begin_episode()
    observation = np.zeros((1, steps + 1, 1), np.float32)
    latent, reward = np.zeros((1, steps, 1), np.float32), np.zeros((1, steps), np.float32)
    now = np.full((1, 1), START, np.float32)
    observation[:, 0] = now
    last, length = np.zeros(1, np.float32), steps
    for step in range(steps):
        chosen = agent.act(SeenRows(now.copy(), np.arange(1), last))
        now = np.clip(now + 2.0 * np.where(np.abs(chosen) <= 1.0, chosen, 0.0), 0, LINE - 1).astype(np.float32)
        last = np.array([abs(now[0, 0] - goal) < 0.1], np.float32)
        observation[:, step + 1], latent[:, step], reward[:, step] = now, chosen, last
        if last.all():
            length = step + 1
            break
    lengths = np.array([length])
    agent.observe(RowEpisodes(observation, latent, reward, lengths, last > 0, lengths))
    return observation[0, : length + 1, 0].tolist(), latent[0, :length, 0]


def test_an_agent_over_actions_is_led_by_the_skills_of_the_logs() -> None:
    """A skill of one cell is four actions of 1/4 m, 1/8 in units of the limit; the next begins after the fourth."""
    agent = LogAgent(_Actions(), make_action_guide())
    agent.begin_task(1)
    way, chosen = play_actions(agent, -9.0)
    assert np.abs(chosen) == pytest.approx(np.full(PACE * DECISIONS, 0.125))
    assert np.ptp(chosen.reshape(DECISIONS, PACE), axis=1) == pytest.approx(np.zeros(DECISIONS))
    assert len({round(x) for x in way[::PACE]}) >= 19


def test_actions_drive_to_a_goal_that_was_felt_within_a_skill() -> None:
    """At the third of a skill's four steps, on the way to cell 25. It ended the episode and counts where it was."""
    agent = LogAgent(_Actions(), make_action_guide())
    agent.begin_task(1)
    goal = 24.75
    while not agent.known[0]:
        play_actions(agent, goal)
    way, _ = play_actions(agent, goal)
    assert way[-1] == goal
    assert len(way) - 1 == PACE * 4 + 3


def test_what_an_action_agent_excludes_is_what_its_skills_ended_in() -> None:
    """Six steps are a skill and a half: the cell after four steps and the half cell after six were not rewarded."""
    agent = LogAgent(_Actions(), make_action_guide())
    agent.begin_task(1)
    way, _ = play_actions(agent, -9.0, steps=6)
    belief = np.exp(agent.state()["log.belief"][0])
    state = agent._guide.log.state[:, 0]
    expected = np.ones(LINE)
    for seen in (way[4], way[6]):
        expected[np.abs(state - seen) < 0.5] *= 1.0 - 0.95
    assert belief == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("bins", "wanted"), [(2, 2.0), (8, 0.5)])
def test_the_stride_is_a_skill_over_the_radius_of_a_region(bins: int, wanted: float) -> None:
    """A skill is one cell; regions of 2 and of 8 bins of a quarter of a cell have radii of half a cell and of two."""
    share = np.zeros(BINS, np.float32)
    share[:bins] = 1.0
    shape = RewardShape(np.ones((1, 1), np.float32), share, 0.25, 0.0, 1.0)
    assert compute_stride(map_log(*make_line(), LINE) | shape.to_arrays()) == pytest.approx(wanted)
