"""An agent that finds out which things a task pays for, one after another, and does them as the logs do.

Some tasks pay for several things in turn: open the microwave, then move the kettle. Such things are *events*. The logs
show them, the train tasks' rewards say which there are (see `pipeline/log_events.py`), and linear detectors tell from a
state which have happened. A map of events holds logged states, the skill that was chosen in each, the event that came
next, and how many skills that took.

A reward moves the episode on to its next phase. How often event c was paid in phase p is counted:

    chance(p, c) = (share of train tasks that pay c in phase p + paid(p, c)) / (1 + happened(p, c)).

The agent seeks the event, of those that have not happened, that maximises chance(p, c) DISCOUNT ** (skills left +
skills spent on it), and takes the skill of the nearest logged state after which it came next. Two states are as far
apart as the decoder's commands in them are. Nothing is trained in a task; the choice among the events of a phase is a
bandit's, and events that turn out to be paid are sought first from then on.

Axes: R rows, r rows still running, O observation, Z latent, N logged states, D axes of the distance, C events, P
phases, K decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .contract import BundleContract
from .led_agent import STATE, LedAgent
from .log_map import DISCOUNT
from .networks import Array
from .runtime_agent import Arrays, RowEpisodes, RuntimeAgent, SeenRows, take_state

PREFIX = "event."
"""What begins so among the arrays of logs is a map of events."""
MOST_EVENTS = 64
MOST_PHASES = 16


def holds_events(arrays: Arrays) -> bool:
    """Whether logs are a map of events."""
    return f"{PREFIX}next" in arrays


class EventGuide:
    """A map of events, made once for all agents of a bundle."""

    searches = True

    def __init__(self, arrays: Arrays) -> None:
        """Takes `Bundle.logs`.

        Raises:
            BundleError: They do not fit each other.
        """
        part = require_events(arrays)
        self._axes: Array = part["axes"]
        self._detector: Array = part["detector"]
        self.prior: Array = part["prior"]
        """Share of the train tasks that pay each event in each phase, (P, C); each phase sums to 1."""
        self.unit = float(part["unit"][0])
        """Of reward: what one event pays."""
        following = part["next"].astype(np.int64)
        order = np.argsort(following, kind="stable")
        ends = np.searchsorted(following[order], np.arange(self.events + 1))
        point, skill, left = (part[name][order].astype(np.float32) for name in ("point", "skill", "left"))
        self._rows = [slice(*ends[event : event + 2]) for event in range(self.events)]
        self._point, self._skill, self._left = point, skill, left
        self._size = (point**2).sum(axis=1)

    @property
    def events(self) -> int:
        """C."""
        return len(self._detector)

    @property
    def phases(self) -> int:
        """P."""
        return len(self.prior)

    @property
    def latent_dim(self) -> int:
        """Z."""
        return int(self._skill.shape[1])

    def detect(self, state: Array) -> NDArray[np.bool_]:
        """Which events states say to have happened, (..., C); `state` is on the networks' scale, (..., O)."""
        happened: NDArray[np.bool_] = state @ self._detector[:, :-1].T > self._detector[:, -1]
        return happened

    def choose(self, state: Array, worth: Array, spent: Array) -> tuple[Array, NDArray[np.int64]]:
        """Skills (r, Z) and the events that they seek, (r,).

        Args:
            state: On the networks' scale, (r, O).
            worth: Of each event before the way to it is counted, (r, C).
            spent: Skills spent in the episode on each, (r, C).
        """
        point = state @ self._axes.T
        row = np.empty((len(state), self.events), np.int64)
        score = np.empty((len(state), self.events), np.float32)
        for event, of in enumerate(self._rows):
            # |x|^2 is the same for all
            row[:, event] = of.start + (self._size[of] - 2.0 * (point @ self._point[of].T)).argmin(axis=1)
            score[:, event] = worth[:, event] * DISCOUNT ** (self._left[row[:, event]] + spent[:, event])
        sought = score.argmax(axis=1)
        return self._skill[row[np.arange(len(state)), sought]], sought


class EventAgent(LedAgent):
    """See the module's docstring."""

    def __init__(self, agent: RuntimeAgent, guide: EventGuide, may_lead: Callable[[], bool] = lambda: True) -> None:
        """Wraps an agent over the skills of the logs.

        Args:
            agent: The agent inside; it learns from every episode.
            guide: The map.
            may_lead: Asked at every decision. Where guards fell back to the prior policy, the logs no longer choose.
        """
        super().__init__(agent, may_lead)
        self._guide = guide
        self._begin(0)

    def _begin(self, rows: int) -> None:
        guide = self._guide
        self._rows = rows
        self._paid: Array = np.zeros((rows, guide.phases, guide.events), np.float32)
        self._happened: Array = np.zeros((rows, guide.phases, guide.events), np.float32)
        self._forget_returns(rows)
        self._begin_episode(explore=True)

    def _begin_episode(self, *, explore: bool) -> None:
        self._phase: Array = np.zeros(self._rows, np.float32)
        self._done = np.zeros((self._rows, self._guide.events), np.bool_)
        self._spent: Array = np.zeros((self._rows, self._guide.events), np.float32)
        self._leads = self._compare(explore=explore)

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        latent, rows = super().act(seen), seen.rows
        state = self.space.normalise(seen.observation)
        self._phase[rows] += seen.reward / self._guide.unit
        self._done[rows] |= self._guide.detect(state)
        phase = self._read_phase(self._phase[rows])
        chance = (self._guide.prior[phase] + self._paid[rows, phase]) / (1.0 + self._happened[rows, phase])
        chance = np.where(self._done[rows], np.float32(0.0), chance)
        skill, sought = self._guide.choose(state, chance, self._spent[rows])
        self._spent[rows, sought] += 1.0
        led = self._leads[rows] & chance.any(axis=1) & self._may_lead()
        return np.where(led[:, None], skill, latent)

    def _read_phase(self, phase: Array) -> NDArray[np.int64]:
        return np.clip(np.rint(phase), 0, self._guide.phases - 1).astype(np.int64)

    def observe(self, episodes: RowEpisodes) -> None:
        """Takes in the episodes, whoever led them: which events happened in which phase, and which were paid.

        Events of one decision share its reward.
        """
        super().observe(episodes)
        happened = self._guide.detect(self.space.normalise(episodes.observation))  # (R, K + 1, C)
        done = np.logical_or.accumulate(happened, axis=1)
        fresh = done[:, 1:] & ~done[:, :-1]
        share = episodes.reward / self._guide.unit
        phase = self._read_phase(share.cumsum(axis=1) - share)
        paid = np.rint(share) > 0
        row, decision, event = np.nonzero(fresh & (np.arange(fresh.shape[1]) < episodes.length[:, None])[..., None])
        where = (row, phase[row, decision], event)
        np.add.at(self._happened, where, np.float32(1.0))
        np.add.at(self._paid, where, paid[row, decision] / fresh[row, decision].sum(axis=1, dtype=np.float32))
        self._take_returns(episodes.reward.sum(axis=1), np.ones(len(happened), np.bool_))

    def state(self) -> dict[str, NDArray[Any]]:
        """See `RuntimeAgent.state`; what was counted begins with `log.`."""
        names = ("paid", "happened", *self.returns)
        return super().state() | {f"{STATE}{name}": getattr(self, f"_{name}").copy() for name in names}

    def load_state(self, arrays: Arrays) -> None:
        """See `RuntimeAgent.load_state`."""
        super().load_state({name: value for name, value in arrays.items() if not name.startswith(STATE)})
        table = (None, self._guide.phases, self._guide.events)
        shapes: Mapping[str, tuple[int | None, ...]] = {
            f"{STATE}paid": table,
            f"{STATE}happened": table,
            **{f"{STATE}{name}": (None, *shape) for name, shape in self.returns.items()},
        }
        taken = take_state(arrays, shapes, "agent led by events")
        self._begin(len(taken[f"{STATE}best"]))
        for name, value in taken.items():
            attribute = f"_{name.removeprefix(STATE)}"
            setattr(self, attribute, value.astype(getattr(self, attribute).dtype))
        self._begin_episode(explore=True)


def require_events(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The parts of a map of events, by their names without the prefix.

    Raises:
        BundleError: Names the first that is missing or does not fit the others.
    """
    names = {"point": 2, "skill": 2, "next": 1, "left": 1, "axes": 2, "detector": 2, "prior": 2, "unit": 1}
    part = {name: arrays.get(f"{PREFIX}{name}", np.empty(())) for name in names}
    if missing := [name for name, axes in names.items() if part[name].ndim != axes]:
        raise BundleError(f"map of events: expected '{PREFIX}{missing[0]}', got none; map the logs again")
    count, events, phases = len(part["next"]), len(part["detector"]), len(part["prior"])
    known = np.bincount(np.clip(part["next"].astype(np.int64), 0, MOST_EVENTS), minlength=events)
    fits = {
        "detector": 0 < events <= MOST_EVENTS and part["detector"].shape[1] == part["axes"].shape[1] + 1,
        "next": len(known) == events and bool((known > 0).all()) and int(part["next"].min(initial=0)) >= 0,
        "point": part["point"].shape == (count, len(part["axes"])),
        "skill": len(part["skill"]) == count,
        "left": len(part["left"]) == count and int(part["left"].min(initial=0)) >= 0,
        "prior": 0 < phases <= MOST_PHASES and part["prior"].shape[1] == events and bool((part["prior"] >= 0).all()),
        "unit": part["unit"].shape == (1,) and bool((part["unit"] > 0).all()),
        "axes": part["axes"].shape[0] > 0,
    }
    for name, good in fits.items():
        if not good or not np.isfinite(part[name]).all():
            raise BundleError(
                f"map of events: expected '{PREFIX}{name}' that fits {count} states and {events} events, got "
                f"{part[name].dtype} {part[name].shape}; map the logs again"
            )
    return part


def require_event_guide(arrays: Arrays, contract: BundleContract, where: str) -> None:
    """Checks that a map of events is of a robot over its skills.

    Raises:
        BundleError: A part is missing, or belongs to another robot, to other skills, or to an agent over actions.
    """
    part = require_events(arrays)
    if contract.space.name != "skill":
        raise BundleError(
            f"{where}: expected no map of events for an agent over {contract.space.name} actions, got one; export it "
            "without logs"
        )
    sizes = {
        "axes": (part["axes"].shape[1], contract.observation_dim),
        "skill": (part["skill"].shape[1], contract.space.latent_dim),
    }
    for name, (found, expected) in sizes.items():
        if found != expected:
            raise BundleError(f"{where}: expected 'event.{name}' of width {expected}, got {found}; map the logs again")
