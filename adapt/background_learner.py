"""An agent that learns in a thread of its own, so that whoever acts meanwhile never waits for it.

`updates.py` takes steps of gradients in a child, and its caller waits for the child. Here a thread waits. The agent of
a session acts by the last state that the learner finished, and takes over a newer one when an episode begins, never in
the middle of one. An update that fails, of whatever kind, leaves that state as it was.

An episode that began while an update was going on was played by the policy before it. An off-policy learner takes it in
afterwards; for another one it is forgotten.

Updates may be guarded (`guards.py`). Guards want extra episodes with another policy, to see what the prior policy
returns, or how a new one moves. The learner's thread then waits until whoever has the robot has played one: `extra`
says by which policy, and `give` hands it over.

`whole_state` is all of that at any time, with the updates that have not ended and the extra episodes that were played
for them. An update that is taken again from there gives the same result bit for bit, and asks for no episode twice.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError, SuppleError, make_text
from .guards import GuardedAgent, Play, Signals
from .led_agent import LedAgent
from .runtime_agent import HOST, Arrays, RowEpisodes, RuntimeAgent
from .spaces import split_prefix

MOST_WAITING = 16
"""Updates that wait for their turn; an episode beyond them is forgotten."""
MOST_EVENTS = 16
"""What guards did that is told later."""
State = dict[str, NDArray[Any]]
_AGENT, _UPDATE, _PLAY = "agent.", "update.", "play."
_EPISODES, _SIGNALS, _ACTING, _LEADS = "episodes.", "signals", "acting.", "leads"


class Extra(NamedTuple):
    """An episode that the guards wait for; nothing is learned from it."""

    agent: RuntimeAgent
    """Plays it."""
    speed: float
    """Share of what it asks for, in (0, 1]."""


class Update(NamedTuple):
    """What is learned from, in order."""

    verb: Literal["observe", "adapt", "finish"]
    """`finish` has the guards judge a policy that no episode has judged yet."""
    play: Play | None = None
    """Of `observe`."""
    acting: State | None = None
    """The agent that played it, at its end; None for an older copy of the policy."""
    leads: NDArray[np.bool_] | None = None
    """Rows that the logs led in the episode, see `LedAgent.leads`."""
    explore: bool = True
    """How that episode was begun."""


class Settled(NamedTuple):
    """What is known between two updates."""

    state: State
    """Of the agent."""
    rng: Mapping[str, Any]
    """State of what it draws from."""
    undone: int
    """See `GuardedAgent.undone`."""
    unjudged: bool
    """No episode has judged the policy yet, where updates are guarded."""


class Cancelled(RunError):
    """Nobody wants the result of an update any more."""


class BackgroundLearner:
    """Learns in order; every method but `close` belongs to one caller, which acts, unless it says otherwise."""

    def __init__(
        self,
        make_agent: Callable[[BackgroundLearner], RuntimeAgent],
        rng: np.random.Generator,
        *,
        off_policy: bool,
        observes_fast: bool,
    ) -> None:
        """Starts the thread.

        Args:
            make_agent: Makes the agent that learns, such as a `BesideAgent` that calls `go_on` while it waits; and sets
                `guards`, where it has some.
            rng: What that agent draws from.
            off_policy: It learns from an episode of an older policy as well.
            observes_fast: It keeps episodes, and learns in steps of adaptation alone.
        """
        self.guards: GuardedAgent | None = None
        """Of the agent; they ask this learner to `play`, `take_signals` and `hold`."""
        self.events: deque[dict[str, Any]] = deque(maxlen=MOST_EVENTS)
        """The last things that the guards did in the task: `number`, counted from 1 on, `event` and `reason`."""
        self.held = ""
        """Why no policy may act in the task any more; empty while one may."""
        self.adaptations = 0
        """Steps of adaptation that ended in the task."""
        self.on_learned: Callable[[], None] = lambda: None
        """Called in the learner's thread after each update, but for those that were cancelled."""
        self._told = 0  # events so far
        self._extra: Extra | None = None
        self._plays: list[Play] = []  # extra episodes of the present update, in the order in which it asks for them
        self._asked = 0  # how many of them it has asked for
        self._signals = Signals()
        self._off_policy, self._observes_fast = off_policy, observes_fast
        self._updates: deque[Update] = deque()  # that have not ended, the present one first
        self._changed = threading.Condition()
        self._given = self._done = self._taken = self._adapting = 0  # how many updates there were, in order
        self._rng, self._task_rng = rng, rng.bit_generator.state
        self._settled = Settled({}, self._task_rng, 0, unjudged=False)
        self._cancelled = self._closed = False
        self.counts = {"updates": 0, "failed_updates": 0}
        """Updates that came to their end, and those that left the policy as it was."""
        self.last_failure = ""
        """Why the last of those failed."""
        self._agent = make_agent(self)
        self._thread = threading.Thread(target=self._run, daemon=True, name="learner")
        self._thread.start()

    @property
    def learning(self) -> bool:
        """Whether an update is going on, or waits for its turn; not while it waits for an extra episode."""
        with self._changed:
            return self._done < self._given and self._extra is None

    @property
    def extra(self) -> Extra | None:
        """The extra episode that is to be played next; None where none is."""
        return self._extra

    @property
    def fallen(self) -> bool:
        """Whether the guards fell back to the prior policy, in the task."""
        return self.guards is not None and self.guards.fallen

    # -- the learner's thread --------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Raises `Cancelled` where nobody wants the update any more; for the learner's thread."""
        if self._cancelled:
            raise Cancelled("update: expected somebody who waits for it, got nobody; it is cancelled")

    def play(self, agent: RuntimeAgent, speed: float, rng: np.random.Generator) -> Play:
        """Waits until the extra episode was played; see `guards.PlayEpisode`. For the learner's thread."""
        with self._changed:
            index, self._asked = self._asked, self._asked + 1
            if index == len(self._plays):
                self._extra = Extra(agent, speed)
                self._changed.notify_all()
                try:
                    while index == len(self._plays):
                        self.go_on()
                        self._changed.wait()
                finally:
                    self._extra = None
            return self._plays[index]

    def take_signals(self) -> Signals:
        """What the episode was like that is being learned from; for the learner's thread."""
        return self._signals

    def hold(self, reason: str) -> None:
        """No policy may act in the task any more; for the learner's thread."""
        self.held = reason

    def _run(self) -> None:
        while (update := self._wait()) is not None:
            settled, failure, wanted = None, "", True
            try:
                self.go_on()
                settled, failure = self._take(update)
            except Cancelled:
                wanted = False
            except BaseException as error:  # noqa: BLE001 - a learner that dies must not take the policy along
                failure = _describe(error)
            events = self._take_events()
            with self._changed:
                if settled is not None:
                    self._settled = settled
                    self.adaptations += update.verb == "adapt" and not failure
                    for event in events:
                        self._told += 1
                        self.events.append({"number": self._told, "event": event["event"], "reason": event["reason"]})
                        failure = event["reason"] if event["event"] == "failed" else failure
                if failure:
                    self.counts["failed_updates"] += 1
                    self.last_failure = failure
                elif settled is not None:
                    self.counts["updates"] += 1
                self._updates.popleft()
                self._plays.clear()
            if wanted:  # else nothing was learned, and a state that is kept still has the update
                self.on_learned()
            with self._changed:  # what is said to be learned is kept already
                self._done += 1
                self._changed.notify_all()

    def _wait(self) -> Update | None:
        """The next update; None where there are to be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._updates or self._closed)
            self._asked = 0
            return None if self._closed else self._updates[0]

    def _take(self, update: Update) -> tuple[Settled, str]:
        """One update: what is known after it, and why it failed, if it did; the agent is then as it was before."""
        before, failure = self._agent.state(), ""
        try:
            self._learn(update)
        except Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - see `_run`
            failure = _describe(error)
            self._return_to(before)
            if self.guards is not None and not self.held:
                self.guards.count_failure(failure)
        return self._settle(), failure

    def _learn(self, update: Update) -> None:
        agent, play = self._agent, update.play
        if play is None:
            if update.verb == "adapt":
                agent.adapt()
            elif self.guards is not None:
                self.guards.finish()
            return
        if update.acting is None:
            agent.begin_episode(explore=update.explore)
        else:
            host = {name: value for name, value in agent.state().items() if name.startswith(HOST)}
            agent.load_state(host | update.acting)
        if isinstance(agent, LedAgent) and update.leads is not None:
            agent.set_leads(update.leads)
        self._signals = play.signals
        agent.observe(play.episodes)

    def _take_events(self) -> list[dict[str, Any]]:
        if self.guards is None:
            return []
        events = list(self.guards.events)
        self.guards.events.clear()
        return events

    def _return_to(self, state: Arrays) -> None:
        spent = None if self.guards is None else self.guards.counts
        self._agent.load_state(state)
        if self.guards is not None and spent is not None:
            self.guards.keep_spent(spent)

    def _settle(self) -> Settled:
        guards = self.guards
        undone, unjudged = (0, 0) if guards is None else (guards.undone, guards.counts["unjudged"])
        return Settled(self._agent.state(), self._rng.bit_generator.state, undone, bool(unjudged))

    # -- whoever acts ----------------------------------------------------------------------------------------------

    @property
    def newest(self) -> State:
        """What acting needs of all that was learned."""
        return _without_host(self._settled.state)

    def _submit(self, update: Update) -> None:
        with self._changed:
            self._given += 1
            self._updates.append(update)
            self._changed.notify_all()

    def _cancel(self) -> None:
        """Ends what is going on; returns once nothing is."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done == self._given)
            self._cancelled = False

    def take_newest(self) -> State | None:
        """The state to act by from now on; None where there is no newer one."""
        with self._changed:
            if self._taken == self._done:
                return None
            self._taken = self._done
            return self.newest

    def begin_task(self) -> None:
        """Forgets everything; an update that is going on ends."""
        self._cancel()
        self._task_rng = self._rng.bit_generator.state
        self._agent.begin_task(1)
        self._take_events()
        self.events.clear()
        self.held, self._told, self.adaptations = "", 0, 0
        self._publish()
        self._taken = self._done

    def _publish(self) -> None:
        with self._changed:
            self._settled = self._settle()
            self._given += 1
            self._done += 1

    def give(self, play: Play) -> None:
        """The extra episode was played; nothing is learned from it."""
        with self._changed:
            if self._extra is not None:
                self._plays.append(play)
                self._extra = None
                self._changed.notify_all()

    def observe(self, play: Play, acting: RuntimeAgent, *, explore: bool) -> bool:
        """Takes in an episode; False where it is forgotten.

        Args:
            play: One row.
            acting: The agent that played it, as it is at its end.
            explore: How the episode was begun.
        """
        fast = self._observes_fast and self._done == self._given
        leads = acting.leads.copy() if isinstance(acting, LedAgent) else None
        if self._taken == self._given:
            update = Update("observe", play, acting.state(), leads, explore)
        elif self._off_policy and self._given - self._done < MOST_WAITING:
            older = play.signals._replace(taken_over=int(play.episodes.steps.max()))
            update = Update("observe", play._replace(signals=older), None, leads, explore)
        else:
            return False
        self._submit(update)
        if fast:
            with self._changed:
                self._changed.wait_for(lambda: self._done == self._given or self._extra is not None)
        return True

    def adapt(self) -> None:
        """Begins a step of adaptation, after the episodes that wait for their turn.

        Raises:
            RunError: Another one is going on.
        """
        if self._done < self._adapting:
            raise self._refuse("adapt")
        self._submit(Update("adapt"))
        self._adapting = self._given

    def finish(self) -> None:
        """Has the guards judge a policy that no episode has judged yet; see `adapt` for errors."""
        if self._done < self._given:
            raise self._refuse("finish")
        self._submit(Update("finish"))

    def state(self) -> State:
        """All that the agent knows of the task; see `adapt` for errors."""
        if self._done < self._given:
            raise self._refuse("snapshot")
        return self._agent.state()

    def load_state(self, arrays: Arrays) -> None:
        """Back to where `state` was taken; an update that is going on ends. What guards have spent stays spent.

        Raises:
            RunError: The state is not one of this agent's.
        """
        self._cancel()
        self._return_to(arrays)
        self._publish()

    def _refuse(self, what: str) -> RunError:
        if self._extra is not None:
            return RunError(f"{what}: expected no extra episode to be asked for, got one; play it first: reset")
        return RunError(f"{what}: expected no update under way, got one; ask for health until learning is false")

    def whole_state(self) -> tuple[State, dict[str, Any]]:
        """Everything that the learner goes on from, in the middle of an update, too: arrays, and JSON facts."""
        with self._changed:
            settled, updates = self._settled, tuple(self._updates)
            arrays = {f"{_AGENT}{name}": value for name, value in settled.state.items()}
            for index, play in enumerate(self._plays):
                arrays |= _write_play(play, f"{_PLAY}{index}.")
            for index, update in enumerate(updates):
                arrays |= _write_update(update, f"{_UPDATE}{index}.")
            return arrays, {
                "updates": [
                    {"verb": one.verb, "explore": one.explore, "newest": one.acting is not None} for one in updates
                ],
                "plays": len(self._plays),
                "done": self._given - len(updates),
                "rng": settled.rng,
                "task_rng": self._task_rng,
                "undone": settled.undone,
                "unjudged": settled.unjudged,
                "adaptations": self.adaptations,
                "counts": dict(self.counts),
                "last_failure": self.last_failure,
                "held": self.held,
                "told": self._told,
                "events": list(self.events),
            }

    def load_whole_state(self, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Goes on where `whole_state` was taken; an update that had not ended begins again.

        The policy that acts is the caller's: see `taken`.

        Raises:
            RunError: The state is not one of this learner's.
            KeyError: It lacks a part.
        """
        self._cancel()
        self._rng.bit_generator.state = self._task_rng = facts["task_rng"]
        self._agent.begin_task(1)
        self._agent.load_state(split_prefix(arrays, _AGENT))
        self._rng.bit_generator.state = facts["rng"]
        if self.guards is not None:
            self.guards.undone = int(facts["undone"])
        self._take_events()
        self.events.extend(facts["events"])
        self.held, self._told = str(facts["held"]), int(facts["told"])
        self.adaptations, self.last_failure = int(facts["adaptations"]), str(facts["last_failure"])
        self.counts |= {name: int(facts["counts"][name]) for name in self.counts}
        updates = [_read_update(arrays, f"{_UPDATE}{index}.", told) for index, told in enumerate(facts["updates"])]
        with self._changed:
            self._settled = self._settle()
            self._plays = [_read_play(arrays, f"{_PLAY}{index}.") for index in range(facts["plays"])]
            self._given = self._done = int(facts["done"])
        for update in updates:
            self._submit(update)
            if update.verb == "adapt":
                self._adapting = self._given

    @property
    def given(self) -> int:
        """How many updates there were, those included that have not ended."""
        return self._given

    @property
    def taken(self) -> int:
        """After how many updates the policy was read that acts; to be set after `load_whole_state`."""
        return self._taken

    @taken.setter
    def taken(self, count: int) -> None:
        self._taken = count

    def close(self) -> None:
        """Ends the thread and what is going on; again does nothing."""
        with self._changed:
            self._cancelled = self._closed = True
            self._changed.notify_all()
        with suppress(RuntimeError):
            self._thread.join(10.0)


def read_newest(arrays: Arrays) -> State:
    """What acting needs of all that was learned, in the arrays of `BackgroundLearner.whole_state`."""
    return _without_host(split_prefix(arrays, _AGENT))


def _without_host(state: Arrays) -> State:
    return {name: value for name, value in state.items() if not name.startswith(HOST)}


def _write_play(play: Play, prefix: str) -> State:
    found = play.episodes._asdict().items()
    arrays = {f"{prefix}{_EPISODES}{name}": value.copy() for name, value in found if value is not None}
    return arrays | {f"{prefix}{_SIGNALS}": np.array(play.signals, np.float64)}


def _read_play(arrays: Arrays, prefix: str) -> Play:
    clamped, unknown, taken, agreement = arrays[f"{prefix}{_SIGNALS}"].tolist()
    episodes = RowEpisodes(**split_prefix(arrays, f"{prefix}{_EPISODES}"))
    return Play(episodes, Signals(clamped, unknown, int(taken), agreement))


def _write_update(update: Update, prefix: str) -> State:
    arrays = {} if update.play is None else _write_play(update.play, prefix)
    arrays |= {f"{prefix}{_ACTING}{name}": value for name, value in (update.acting or {}).items()}
    return arrays if update.leads is None else arrays | {f"{prefix}{_LEADS}": update.leads}


def _read_update(arrays: Arrays, prefix: str, told: Mapping[str, Any]) -> Update:
    play = _read_play(arrays, prefix) if told["verb"] == "observe" else None
    acting = split_prefix(arrays, f"{prefix}{_ACTING}") if told["newest"] else None
    return Update(told["verb"], play, acting, arrays.get(f"{prefix}{_LEADS}"), bool(told["explore"]))


def _describe(error: BaseException) -> str:
    kind = "" if isinstance(error, SuppleError) else f"{type(error).__name__}: "
    return f"{kind}{make_text(error)}"
