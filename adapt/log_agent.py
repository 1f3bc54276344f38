"""An agent that finds its way by logs: it searches where they lead, and drives to what was rewarded.

It wraps the agent of any bundle over skills or actions, but not over named choices. Each row believes in places: every
place of the map may be the middle of the region that its task rewards, and all are equally likely at first. A state
that was not rewarded makes the places that would have rewarded it unlikely, a rewarded one all others, by the shape
that the rewards of the train tasks have (Bayes' rule; see `reward_shape.py`). A row then heads for the place m that
maximises

    sum_g belief(g) share(m, g) * DISCOUNT ** skills(here, m)

and chooses the logged skill that leads there: a search that goes to what is near and was not seen, and a drive to the
goal once it was felt. Nothing is trained in a task.

Three things hand an episode or a decision over to the agent inside: a state far from all that was logged, a task of
which nearly every place has been excluded, and one in which that agent has got more reward, of whatever kind. It learns
from every episode, whoever chose in it.

An agent that chooses actions is led by the logs' own skills, see `log_skills.py`: a choice then lasts as many decisions
as the skill has steps.

Axes: R rows, r rows still running, O observation (without features of pictures), Z latent, M places, K decisions of
an episode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .contract import BundleContract
from .led_agent import STATE, LedAgent
from .log_events import EventAgent, EventGuide, holds_events, require_event_guide
from .log_map import DISCOUNT, FAR, UNREACHED, Indices, LogMap, find_begins, read_pace, require_map
from .log_paths import PathGuide
from .log_skills import read_skills
from .networks import Array
from .reward_shape import CERTAIN, SURPRISING, RewardShape
from .runtime_agent import Arrays, PredictsReward, RowEpisodes, RuntimeAgent, SeenRows, take_state
from .spaces import RowSpace

EXHAUSTED = 0.05
"""Mean belief below which a task counts as searched: from then on the agent inside gets every second episode."""
ANEW = 0.005
"""Mean belief below which the search begins anew. Before that, the few places that nobody has seen keep theirs."""
LONGEST_STRIDE = 1.0
"""Largest `compute_stride` of logs that come along."""


class Guide:
    """The map of a bundle's logs and the shape of rewards, made once for all agents of the bundle."""

    def __init__(self, arrays: Arrays, skills: RowSpace | None = None, *, searches: bool = True) -> None:
        """Takes `Bundle.logs`; see `Bundle.make_guide`.

        Args:
            arrays: Of the logs.
            skills: Those of the logs, for agents that choose actions; None for agents over these skills.
            searches: See `Bundle.make_guide`.

        Raises:
            BundleError: They do not fit each other.
        """
        self.searches, self.skills = searches, skills
        self.log, self.shape = LogMap(arrays), RewardShape.from_arrays(arrays)
        self.share = self.shape.look_up(self.log.state, self.log.state)
        """Of rewarded states at place m in the task of place g, (M, M)."""
        away = self.log.skills
        self.discount: Array = np.where(away == UNREACHED, np.float32(0.0), DISCOUNT ** away.astype(np.float32))
        """`DISCOUNT` to the power of the skills from place to place, (M, M); 0 where there is no way."""

    @property
    def regions(self) -> int:
        """Possible middles of the rewarded region, M: the places."""
        return self.log.places

    @property
    def places(self) -> int:
        """Places in which decisions are counted, M."""
        return self.log.places

    @property
    def latent_dim(self) -> int:
        """Z."""
        return int(self.log.skill.shape[1])

    def choose(self, state: Array, belief: Array, stayed: Array) -> tuple[Array, NDArray[np.bool_], Indices]:
        """Skills (r, Z), whether the logs know the states that they are chosen in (r,), and their places (r,).

        Args:
            state: On the networks' scale, (r, O).
            belief: Probability that each place is the middle of the rewarded region, (r, M).
            stayed: Earlier decisions of the episode in each place, (r, M).
        """
        near, offset = self.log.locate(state)
        here = near[:, 0]
        target = ((belief @ self.share.T) * self.discount[here]).argmax(axis=1)
        return self.log.choose(state, near, target, stayed), offset[:, 0] <= FAR * self.log.reach, here

    def see(self, begin: Array, latent: Array, end: Array, whole: NDArray[np.bool_]) -> Array:
        """Share of what a decision saw that the task of each middle rewards, (r, M): of where it ended.

        Args:
            begin: State in which it was taken, (r, O).
            latent: What was chosen, (r, Z).
            end: Where it ended, (r, O).
            whole: Whether a skill was carried out to its end, (r,).
        """
        return self.shape.look_up(end, self.log.state)


AnyGuide: TypeAlias = "Guide | PathGuide | EventGuide"


def make_guide(arrays: Arrays, skills: RowSpace | None = None, *, searches: bool = True) -> AnyGuide:
    """The guide of logs: by events, by places, or by paths where the logs hold states within skills.

    The arguments are those of `Guide`. Events are searched for whatever `searches` says.
    """
    if holds_events(arrays):
        return EventGuide(arrays)
    kind = Guide if read_pace(arrays) == 1 else PathGuide
    return kind(arrays, skills, searches=searches)


def lead(agent: RuntimeAgent, guide: AnyGuide, may_lead: Callable[[], bool] = lambda: True) -> RuntimeAgent:
    """The agent, led by a guide; see `LogAgent` for the arguments."""
    if isinstance(guide, EventGuide):
        return EventAgent(agent, guide, may_lead)
    return LogAgent(agent, guide, may_lead)


class LogAgent(LedAgent, PredictsReward):
    """See the module's docstring."""

    def __init__(
        self, agent: RuntimeAgent, guide: Guide | PathGuide, may_lead: Callable[[], bool] = lambda: True
    ) -> None:
        """Wraps an agent over the skills of the logs, or over actions where the guide has skills.

        Args:
            agent: The agent inside.
            guide: The map.
            may_lead: Asked at every decision. Where guards fell back to the prior policy, the logs no longer choose.
        """
        super().__init__(agent, may_lead)
        self._guide, self._shape = guide, guide.shape
        self._skills: RowSpace = guide.skills or self.space
        self._own = self._shape.axes.shape[1]
        self._pace = self._skills.horizon // self.space.horizon  # decisions that a skill lasts
        self._begin(0)

    def _begin(self, rows: int) -> None:
        self._rows = rows
        self._belief: Array = np.zeros((rows, self._guide.regions), np.float32)  # log of the share that is left
        self._known = np.zeros(rows, np.bool_)
        self._searched = np.zeros(rows, np.int64)
        self._forget_returns(rows)
        self._begin_episode()

    def _begin_episode(self, *, explore: bool = True) -> None:
        self._now = self._belief.copy()
        self._stayed: Array = np.zeros((self._rows, self._guide.places), np.float32)
        self._held: Array = np.zeros((self._rows, self._guide.latent_dim), np.float32)
        self._taken: Array = np.zeros((self._rows, self.space.latent_dim), np.float32)  # whoever chose it
        self._from: Array = np.zeros((self._rows, self._own), np.float32)
        self._led = np.zeros(self._rows, np.bool_)
        self._decided = np.zeros(self._rows, np.int64)
        self._felt: Array = np.zeros(self._rows, np.float32)  # reward since the present skill began
        self._leads = self._choose_leaders(explore=explore)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Tasks in which a reward was seen, (R,)."""
        return self._known

    def _scale(self, observation: Array) -> Array:
        """The robot's own observations on the networks' scale: logs hold no features of pictures."""
        return self._skills.normalise(observation)[..., : self._own]

    def _choose_leaders(self, *, explore: bool) -> NDArray[np.bool_]:
        """Known tasks: who returned more. Others: the logs, or each in turn where all places are excluded.

        Returns that differ are a reward, too, of a kind that no place explains: there the search is no end in itself.
        """
        more = self._compare(explore=explore)
        differ = self._differ(self._best, self._worst)
        searches = np.where(differ, more, self._searched % 2 == 0) & self._guide.searches
        return np.where(self._known, more, searches)

    def _differ(self, best: Array, worst: Array) -> NDArray[np.bool_]:
        """Whether returns differ as if a step had been rewarded, (R,): a price on effort, say, differs by less."""
        differ: NDArray[np.bool_] = best - worst >= self._shape.high - self._shape.low
        return differ

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        latent, rows = super().act(seen), seen.rows
        self._felt[rows] += seen.reward
        due = self._decided[rows] % self._pace == 0
        if due.any():
            self._choose(SeenRows(seen.observation[due], rows[due], self._felt[rows[due]]))
            self._felt[rows[due]] = 0.0
        self._decided[rows] += 1
        led = self._led[rows] & self._may_lead()
        chosen = self._held[rows]
        if self._guide.skills is not None:
            action = self.space.invert(self._skills.hold(chosen)(seen.observation))
            assert action is not None, "an agent over skills has a guide without"
            chosen = action
        self._taken[rows] = np.where(led[:, None], chosen, latent)
        return self._taken[rows]

    def predict_rewarded(self, observation: Array) -> Array:
        """See `PredictsReward.predict_rewarded`: the mean over places of the belief after the last episode."""
        state = self._scale(observation)
        nobody = np.zeros((len(state), self.space.latent_dim), np.float32)
        share = self._guide.see(state, nobody, state, np.zeros(len(state), np.bool_))
        chance: Array = np.clip(_normalise(self._belief) @ share.T, 0.0, CERTAIN).astype(np.float32)
        return chance

    def _choose(self, seen: SeenRows) -> None:
        """The next skill of rows whose last one has ended; the reward is that of the whole skill."""
        rows, state = seen.rows, self._scale(seen.observation)
        began = self._decided[rows] > 0  # nothing is known of the state of a reset
        before = rows[began]
        paid = self._shape.is_rewarded(seen.reward[began], self._skills.horizon)
        whole = np.ones(len(before), np.bool_)
        share = self._guide.see(self._from[before], self._taken[before], state[began], whole)
        self._now[before] = _update(self._now[before], share, paid)
        self._held[rows], known, here = self._guide.choose(state, _normalise(self._now[rows]), self._stayed[rows])
        self._stayed[rows, here] += 1.0
        self._led[rows] = self._leads[rows] & known
        self._from[rows] = state

    def observe(self, episodes: RowEpisodes) -> None:
        """Takes in the episodes, whoever led them."""
        super().observe(episodes)
        total = episodes.reward.sum(axis=1)
        for begin in range(0, int(episodes.length.max(initial=0)), self._pace):
            rows = np.flatnonzero(episodes.length > begin)
            reward = episodes.reward[rows, begin : begin + self._pace].sum(axis=1)
            end = np.minimum(begin + self._pace, episodes.length[rows])
            steps = np.minimum(end * self.space.horizon, episodes.steps[rows]) - begin * self.space.horizon
            paid = self._shape.is_rewarded(reward, steps)
            first, last = (self._scale(episodes.observation[rows, at]) for at in (begin, end))
            cut = episodes.terminated[rows] | (episodes.steps[rows] < episodes.length[rows] * self.space.horizon)
            whole = (begin + self._pace < episodes.length[rows]) | ~cut
            share = self._guide.see(first, episodes.latent[rows, begin], last, whole)
            self._belief[rows] = _update(self._belief[rows], share, paid)
            self._known[rows] |= paid
        differ = self._differ(np.maximum(self._best, total), np.minimum(self._worst, total))
        self._take_returns(total, self._known | differ)
        left = np.exp(self._belief).mean(axis=1)
        self._belief[~self._known & (left < ANEW)] = 0.0
        self._searched += ~self._known & ((left < EXHAUSTED) | (self._searched > 0))

    def state(self) -> dict[str, NDArray[Any]]:
        """See `RuntimeAgent.state`; what is believed begins with `log.`."""
        names = ("belief", "known", "searched", *self.returns)
        return super().state() | {f"{STATE}{name}": getattr(self, f"_{name}").copy() for name in names}

    def load_state(self, arrays: Arrays) -> None:
        """See `RuntimeAgent.load_state`."""
        inner = {name: value for name, value in arrays.items() if not name.startswith(STATE)}
        super().load_state(inner)
        of_rows: dict[str, tuple[int, ...]] = {"known": (), "searched": (), **self.returns}
        shapes: Mapping[str, tuple[int | None, ...]] = {
            f"{STATE}belief": (None, self._guide.regions),
            **{f"{STATE}{name}": (None, *shape) for name, shape in of_rows.items()},
        }
        taken = take_state(arrays, shapes, "log agent")
        self._begin(len(taken[f"{STATE}belief"]))
        for name, value in taken.items():
            attribute = f"_{name.removeprefix(STATE)}"
            setattr(self, attribute, value.astype(getattr(self, attribute).dtype))
        self._begin_episode()


def _update(belief: Array, share: Array, paid: NDArray[np.bool_]) -> Array:
    """Bayes' rule for what was rewarded or not, (r,), on logarithms of shares (r, M)."""
    share = np.clip(share, 0.0, CERTAIN)
    seen = np.where(paid[:, None], np.log(np.maximum(share, SURPRISING)), np.log1p(-share))
    updated: Array = (belief + seen).astype(np.float32)
    return updated


def _normalise(belief: Array) -> Array:
    """The probabilities (r, M) of logarithms of shares."""
    share = np.exp(belief - belief.max(axis=1, keepdims=True))
    normalised: Array = (share / share.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def require_guide(arrays: Arrays, contract: BundleContract, where: str) -> None:
    """Checks that logs are those of a robot over its skills, and bring their skills along for an agent over actions.

    Raises:
        BundleError: A part is missing, or belongs to another robot or other skills.
    """
    if contract.space.name == "choice":
        raise BundleError(f"{where}: expected none for an agent of named choices, got logs; export it without them")
    if holds_events(arrays):
        require_event_guide(arrays, contract, where)
        return
    require_map(arrays)
    axes = RewardShape.from_arrays(arrays).axes
    sizes = {
        "state": (arrays["state"].shape[1], contract.state_dim),
        "reward.axes": (axes.shape[1], contract.state_dim),
    }
    if contract.space.name == "skill":
        sizes["skill"] = (arrays["skill"].shape[1], contract.space.latent_dim)
    for name, (found, expected) in sizes.items():
        if found != expected:
            raise BundleError(f"{where}: expected '{name}' of width {expected}, got {found}; map the logs again")
    if contract.space.name != "skill":
        if (pace := read_pace(arrays)) != 1:
            raise BundleError(
                f"{where}: expected states one skill apart for an agent over actions, got {pace} for each skill; "
                "export it without logs"
            )
        read_skills(arrays, contract.robot, where)


def compute_stride(arrays: Arrays) -> float:
    """Median length of a logged skill over the radius of a rewarded region, along the axes that tell tasks apart.

    The radius is the distance at which less than half of the states are rewarded. Above 1 a skill passes over the
    region: the logs cannot aim at it, and a search at the ends of skills does not see what lies between.
    """
    shape, state = RewardShape.from_arrays(arrays), arrays["state"].astype(np.float32)
    pace = read_pace(arrays)
    begins = find_begins(len(state), arrays["start"].astype(np.int64), pace)
    length = np.linalg.norm((state[begins + pace] - state[begins]) @ shape.axes.T, axis=1)
    radius = shape.width * max(int((shape.share >= 0.5).sum()), 1)
    return float(np.median(length) / radius)
