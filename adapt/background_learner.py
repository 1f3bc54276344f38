"""An agent that learns in a thread of its own, so that whoever acts meanwhile never waits for it.

`updates.py` takes steps of gradients in a child, and its caller waits for the child. Here a thread waits. The agent of
a session acts by the last state that the learner finished, and takes over a newer one when an episode begins, never in
the middle of one. An update that fails, of whatever kind, leaves that state as it was.

An episode that began while an update was going on was played by the policy before it. An off-policy learner takes it in
afterwards; for another one it is forgotten.

Updates may be guarded (`guards.py`). Guards want extra episodes with another policy, to see what the prior policy
returns, or how a new one moves. The learner's thread then waits until whoever has the robot has played one: `extra`
says by which policy, and `give` hands it over.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError, SuppleError, make_text
from .guards import GuardedAgent, Play, Signals
from .led_agent import LedAgent
from .runtime_agent import HOST, Arrays, RuntimeAgent

MOST_WAITING = 16
"""Updates that wait for their turn; an episode beyond them is forgotten."""
MOST_EVENTS = 16
"""What guards did that is told later."""
State = dict[str, NDArray[Any]]


class Extra(NamedTuple):
    """An episode that the guards wait for; nothing is learned from it."""

    agent: RuntimeAgent
    """Plays it."""
    speed: float
    """Share of what it asks for, in (0, 1]."""


class Cancelled(RunError):
    """Nobody wants the result of an update any more."""


class BackgroundLearner:
    """Learns in order; every method but `close` belongs to one caller, which acts, unless it says otherwise."""

    def __init__(
        self, make_agent: Callable[[BackgroundLearner], RuntimeAgent], *, off_policy: bool, observes_fast: bool
    ) -> None:
        """Starts the thread.

        Args:
            make_agent: Makes the agent that learns, such as a `BesideAgent` that calls `go_on` while it waits; and sets
                `guards`, where it has some.
            off_policy: It learns from an episode of an older policy as well.
            observes_fast: It keeps episodes, and learns in steps of adaptation alone.
        """
        self.guards: GuardedAgent | None = None
        """Of the agent; they ask this learner to `play`, `take_signals` and `hold`."""
        self.events: deque[dict[str, Any]] = deque(maxlen=MOST_EVENTS)
        """The last things that the guards did in the task: `number`, counted from 1 on, `event` and `reason`."""
        self.held = ""
        """Why no policy may act in the task any more; empty while one may."""
        self._told = 0  # events so far
        self._extra: Extra | None = None
        self._played: list[Play] = []  # that extra episode, once it was
        self._signals = Signals()
        self._off_policy, self._observes_fast = off_policy, observes_fast
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._given = self._done = self._taken = self._adapting = 0  # how many updates there were, in order
        self._newest: State = {}
        self._cancelled = False
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
            self._extra = Extra(agent, speed)
            self._played.clear()
            self._changed.notify_all()
            try:
                while not self._played:
                    self.go_on()
                    self._changed.wait()
                return self._played[0]
            finally:
                self._extra = None

    def take_signals(self) -> Signals:
        """What the episode was like that is being learned from; for the learner's thread."""
        return self._signals

    def hold(self, reason: str) -> None:
        """No policy may act in the task any more; for the learner's thread."""
        self.held = reason

    def _run(self) -> None:
        while (update := self._waiting.get()) is not None:
            newest: State | None = None
            failure = ""
            try:
                self.go_on()
                newest, failure = self._take(update)
            except Cancelled:
                pass
            except BaseException as error:  # noqa: BLE001 - a learner that dies must not take the policy along
                failure = _describe(error)
            with self._changed:
                if failure:
                    self.counts["failed_updates"] += 1
                    self.last_failure = failure
                elif newest is not None:
                    self.counts["updates"] += 1
                if newest is not None:
                    self._newest = newest
                self._done += 1
                self._changed.notify_all()

    def _take(self, update: Callable[[], None]) -> tuple[State, str]:
        """One update: the state to act by, and why it failed, if it did; the agent is then as it was before."""
        before, failure = self._agent.state(), ""
        try:
            update()
        except Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - see `_run`
            failure = _describe(error)
            self._return_to(before)
            if self.guards is not None and not self.held:
                self.guards.count_failure(failure)
        for event in [] if self.guards is None else self.guards.events:
            self._told += 1
            self.events.append({"number": self._told, "event": event["event"], "reason": event["reason"]})
            if event["event"] == "failed":
                failure = event["reason"]
        if self.guards is not None:
            self.guards.events.clear()
        return self._read(), failure

    def _return_to(self, state: Arrays) -> None:
        spent = None if self.guards is None else self.guards.counts
        self._agent.load_state(state)
        if self.guards is not None and spent is not None:
            self.guards.keep_spent(spent)

    def _read(self) -> State:
        """What acting needs of the state."""
        return {name: value for name, value in self._agent.state().items() if not name.startswith(HOST)}

    # -- whoever acts ----------------------------------------------------------------------------------------------

    def _submit(self, update: Callable[[], None]) -> None:
        self._given += 1
        self._waiting.put(update)

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
            return self._newest

    def begin_task(self) -> None:
        """Forgets everything; an update that is going on ends."""
        self._cancel()
        self._agent.begin_task(1)
        if self.guards is not None:
            self.guards.events.clear()
        self.events.clear()
        self.held, self._told = "", 0
        self._publish()
        self._taken = self._done

    def _publish(self) -> None:
        with self._changed:
            self._newest = self._read()
            self._given += 1
            self._done += 1

    def give(self, play: Play) -> None:
        """The extra episode was played; nothing is learned from it."""
        with self._changed:
            if self._extra is not None:
                self._played.append(play)
                self._extra = None
                self._changed.notify_all()

    def observe(self, play: Play, acting: RuntimeAgent, *, explore: bool) -> bool:
        """Takes in an episode; False where it is forgotten.

        Args:
            play: One row.
            acting: The agent that played it, as it is at its end.
            explore: How the episode was begun.
        """
        agent, state, fast = self._agent, acting.state(), self._observes_fast and self._done == self._given
        episodes, signals = play
        if self._taken == self._given:

            def update() -> None:
                host = {name: value for name, value in agent.state().items() if name.startswith(HOST)}
                agent.load_state(host | state)
                self._signals = signals
                agent.observe(episodes)

        elif self._off_policy and self._given - self._done < MOST_WAITING:
            leads = acting.leads.copy() if isinstance(acting, LedAgent) else None
            older = signals._replace(taken_over=int(episodes.steps.max()))

            def update() -> None:
                self._signals = older
                agent.begin_episode(explore=explore)
                if isinstance(agent, LedAgent) and leads is not None:
                    agent.set_leads(leads)
                agent.observe(episodes)

        else:
            return False
        self._submit(update)
        if fast:
            with self._changed:
                self._changed.wait_for(lambda: self._done == self._given or self._extra is not None)
        return True

    def adapt(self, finish: Callable[[], None]) -> None:
        """Begins a step of adaptation, after the episodes that wait for their turn.

        Args:
            finish: Called in the learner's thread once it has come to its end.

        Raises:
            RunError: Another one is going on.
        """
        if self._done < self._adapting:
            raise self._refuse("adapt")

        def update() -> None:
            self._agent.adapt()
            finish()

        self._submit(update)
        self._adapting = self._given

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

    def close(self) -> None:
        """Ends the thread and what is going on; again does nothing."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()
        self._waiting.put(None)
        with suppress(RuntimeError):
            self._thread.join(10.0)


def _describe(error: BaseException) -> str:
    kind = "" if isinstance(error, SuppleError) else f"{type(error).__name__}: "
    return f"{kind}{make_text(error)}"
