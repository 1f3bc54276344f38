"""An agent that learns in a thread of its own, so that whoever acts meanwhile never waits for it.

`updates.py` takes steps of gradients in a child, and its caller waits for the child. Here a thread waits. The agent of
a session acts by the last state that the learner finished, and takes over a newer one when an episode begins, never in
the middle of one. An update that fails, of whatever kind, leaves that state as it was.

An episode that began while an update was going on was played by the policy before it. An off-policy learner takes it in
afterwards; for another one it is forgotten.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from ..errors import RunError, SuppleError
from .audit import make_text
from .led_agent import LedAgent
from .runtime_agent import HOST, Arrays, RowEpisodes, RuntimeAgent

MOST_WAITING = 16
"""Updates that wait for their turn; an episode beyond them is forgotten."""
State = dict[str, NDArray[Any]]


class Cancelled(RunError):
    """Nobody wants the result of an update any more."""


class BackgroundLearner:
    """Learns in order; every method but `close` belongs to one caller, which acts."""

    def __init__(
        self, make_agent: Callable[[Callable[[], None]], RuntimeAgent], *, off_policy: bool, observes_fast: bool
    ) -> None:
        """Starts the thread.

        Args:
            make_agent: Makes the agent that learns, such as a `BesideAgent`; it calls what it is given while it waits.
            off_policy: It learns from an episode of an older policy as well.
            observes_fast: It keeps episodes, and learns in steps of adaptation alone.
        """
        self._agent = make_agent(self._go_on)
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
        self._thread = threading.Thread(target=self._run, daemon=True, name="learner")
        self._thread.start()

    @property
    def learning(self) -> bool:
        """Whether an update is going on, or waits for its turn."""
        return self._done < self._given

    def _go_on(self) -> None:
        if self._cancelled:
            raise Cancelled("update: expected somebody who waits for it, got nobody; it is cancelled")

    def _run(self) -> None:
        while (update := self._waiting.get()) is not None:
            newest: State | None = None
            failure = ""
            try:
                self._go_on()
                update()
                newest = self._read()
            except Cancelled:
                pass
            except BaseException as error:  # noqa: BLE001 - a learner that dies must not take the policy along
                kind = "" if isinstance(error, SuppleError) else f"{type(error).__name__}: "
                failure = f"{kind}{make_text(error)}"
            with self._changed:
                if newest is not None:
                    self._newest = newest
                    self.counts["updates"] += 1
                elif failure:
                    self.counts["failed_updates"] += 1
                    self.last_failure = failure
                self._done += 1
                self._changed.notify_all()

    def _read(self) -> State:
        """What acting needs of the state."""
        return {name: value for name, value in self._agent.state().items() if not name.startswith(HOST)}

    def _submit(self, update: Callable[[], None]) -> None:
        self._given += 1
        self._waiting.put(update)

    def _cancel(self) -> None:
        """Ends what is going on; returns once nothing is."""
        self._cancelled = True
        self._wait()
        self._cancelled = False

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.learning)

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
        self._publish()
        self._taken = self._done

    def _publish(self) -> None:
        with self._changed:
            self._newest = self._read()
            self._given += 1
            self._done += 1

    def observe(self, episodes: RowEpisodes, acting: RuntimeAgent, *, explore: bool) -> bool:
        """Takes in an episode; False where it is forgotten.

        Args:
            episodes: One row.
            acting: The agent that played it, as it is at its end.
            explore: How the episode was begun.
        """
        agent, state, fast = self._agent, acting.state(), self._observes_fast and not self.learning
        if self._taken == self._given:

            def update() -> None:
                host = {name: value for name, value in agent.state().items() if name.startswith(HOST)}
                agent.load_state(host | state)
                agent.observe(episodes)

        elif self._off_policy and self._given - self._done < MOST_WAITING:
            leads = acting.leads.copy() if isinstance(acting, LedAgent) else None

            def update() -> None:
                agent.begin_episode(explore=explore)
                if isinstance(agent, LedAgent) and leads is not None:
                    agent.set_leads(leads)
                agent.observe(episodes)

        else:
            return False
        self._submit(update)
        if fast:
            self._wait()
        return True

    def adapt(self, finish: Callable[[], None]) -> None:
        """Begins a step of adaptation, after the episodes that wait for their turn.

        Args:
            finish: Called in the learner's thread once it has come to its end.

        Raises:
            RunError: Another one is going on.
        """
        if self._done < self._adapting:
            raise _busy("adapt")

        def update() -> None:
            self._agent.adapt()
            finish()

        self._submit(update)
        self._adapting = self._given

    def state(self) -> State:
        """All that the agent knows of the task; see `adapt` for errors."""
        if self.learning:
            raise _busy("snapshot")
        return self._agent.state()

    def load_state(self, arrays: Arrays) -> None:
        """Back to where `state` was taken; an update that is going on ends.

        Raises:
            RunError: The state is not one of this agent's.
        """
        self._cancel()
        self._agent.load_state(arrays)
        self._publish()

    def close(self) -> None:
        """Ends the thread and what is going on; again does nothing."""
        self._cancelled = True
        self._waiting.put(None)
        with suppress(RuntimeError):
            self._thread.join(10.0)


def _busy(what: str) -> RunError:
    return RunError(f"{what}: expected no update under way, got one; ask for health until learning is false")
