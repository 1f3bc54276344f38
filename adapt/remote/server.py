"""A policy server: one agent for one robot, over a websocket on this machine.

A client shows the token in the header `Authorization: Bearer TOKEN`. Any number of clients may ask for `health`; the
first other verb takes the robot's session, until that client leaves. A client that leaves in the middle of an episode
ends it: nothing of it is learned. Every action is finite and within the limits of the bundle (`session.py`); whatever
goes wrong is an error in the answer, and in doubt the end of the episode, never an action.

Steps of gradients are taken beside (`background_learner.py`): `end_episode` and `adapt` answer when one begins, and
`health` says whether it goes on and whether it failed.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response
from websockets.sync.server import Server, ServerConnection, serve

from ... import __version__
from ...errors import RunError, SpecError, SuppleError, make_text
from ..background_learner import BackgroundLearner
from ..session import AgentSession
from .messages import MOST_BYTES, Request, read_request, write_message

MOST_CLIENTS, MOST_SNAPSHOTS = 8, 16
PING_INTERVAL, PING_TIMEOUT = 5.0, 10.0
"""Seconds: a client that has vanished without a word is gone, and its session free, after both."""
LEAST_TOKEN = 16
"""Characters."""
State = dict[str, NDArray[Any]]
Kept = tuple[State, int, int]
"""What an agent knew, after how many episodes and steps of adaptation."""


class PolicyServer:
    """Answers requests; `serve_policy` puts it behind a websocket."""

    def __init__(
        self,
        session: AgentSession,
        facts: dict[str, Any],
        *,
        adapts: bool = True,
        learner: BackgroundLearner | None = None,
    ) -> None:
        """Takes a session.

        Args:
            session: Of the bundle.
            facts: What `health` says of the bundle; plain values.
            adapts: Whether `adapt` does something: False for a learner by gradients without a host.
            learner: That of the session, where it learns beside.
        """
        self._learner = learner
        self._session, self._facts, self._adapts = session, facts, adapts
        self._lock = threading.Lock()
        self._owner: object | None = None
        self._snapshots: dict[int, Kept] = {}
        self._before: dict[int, Kept] = {}  # taken by the server itself, before an episode is learned from
        self._taken = 0
        self._began = time.monotonic()
        self.counts = {"requests": 0, "refused": 0, "faults": 0}
        """Requests, those refused, and those that failed for a reason that nobody foresaw."""

    def answer(self, content: bytes | str, client: object) -> bytes:
        """The answer to a message, whatever it is; never raises.

        Args:
            content: As it came in.
            client: Who sent it; the session belongs to one of them.
        """
        began, number = time.perf_counter(), -1
        try:
            self.counts["requests"] += 1
            request = self._read(content, client)
            number = request.id
            reply = self._do(request, client)
        except SuppleError as error:
            self.counts["refused"] += 1
            return write_message({"id": number, "ok": False, "error": type(error).__name__, "message": str(error)})
        except Exception as error:  # noqa: BLE001 - a server that dies leaves a robot without a policy
            self.counts["faults"] += 1
            self._abandon()
            message = f"{type(error).__name__}: {make_text(error)}"
            return write_message({"id": number, "ok": False, "error": "RobotFault", "message": message})
        return write_message({"id": number, "ok": True, **reply, "ms": 1e3 * (time.perf_counter() - began)})

    def leave(self, client: object) -> None:
        """The client has gone; its session is free again, and its episode is over."""
        with self._lock:
            if self._owner is client:
                self._owner = None
                self._session.abandon()

    def _abandon(self) -> None:
        with self._lock:
            self._session.abandon()

    def _read(self, content: bytes | str, client: object) -> Request:
        """The request; one that cannot be read may have been a reward, and spoils the episode of its client."""
        try:
            return read_request(content)
        except SpecError:
            with self._lock:
                if self._owner is client:
                    self._session.spoil()
            raise

    def _do(self, request: Request, client: object) -> dict[str, Any]:
        if request.verb == "health":
            return self._health()
        with self._lock:
            if self._owner not in (None, client):
                raise RunError(f"{request.verb}: expected a free robot, got one of another client; close that first")
            self._owner = client
            actions: dict[str, Callable[..., dict[str, Any]]] = {
                "reset": self._reset,
                "act": self._act,
                "observe": self._observe,
                "end_episode": self._end_episode,
                "adapt": self._adapt,
                "snapshot": self._snapshot,
                "rollback": self._rollback,
            }
            return actions[request.verb](**request.fields)

    def _health(self) -> dict[str, Any]:
        learner = self._learner
        told = {} if learner is None else {**learner.counts, "last_failure": learner.last_failure}
        return {
            **self._facts,
            "learning": self._session.learning,
            "extra": self._session.extra,
            **told,
            **self._tell_guards(events=True),
            "snapshots": sorted([*self._snapshots, *self._before]),
            "supple": __version__,
            "running": self._session.running,
            "episodes": self._session.episodes,
            "adaptations": self._session.adaptations,
            "uptime_s": time.monotonic() - self._began,
            **self.counts,
        }

    def _tell_guards(self, *, events: bool = False) -> dict[str, Any]:
        """What the guards did in the task, where updates are guarded."""
        learner = self._learner
        if learner is None or learner.guards is None:
            return {}
        told = {"guards": {**learner.guards.describe(), "learns": learner.guards.learns, "held": learner.held}}
        return told | ({"events": list(learner.events)} if events else {})

    def _reset(self, task: bool, explore: bool, goal: list[float] | None) -> dict[str, Any]:
        self._session.reset(task=task, explore=explore, goal=goal)
        if task:
            self._before.clear()
        extra = self._session.extra
        return {"episode": self._session.episodes + (not extra), "extra": extra, "speed": self._session.speed}

    def _act(self, observation: list[float]) -> dict[str, Any]:
        return {"action": self._session.act(observation).tolist(), "step": self._session.steps}

    def _observe(self, reward: float) -> dict[str, Any]:
        self._session.observe(reward)
        return {}

    def _end_episode(self, observation: list[float], terminated: bool, success: bool | None) -> dict[str, Any]:
        failed, kept = self._read_failed(), self._keep_before()
        told = self._session.end_episode(observation, terminated=terminated, success=success)
        return {**told, **kept, "learning": self._session.learning, **failed}

    def _adapt(self) -> dict[str, Any]:
        if not self._adapts:
            raise RunError("adapt: expected an agent that learns here, got one that needs torch; start it with --learn")
        failed = self._read_failed()
        self._session.adapt()
        return {"adaptations": self._session.adaptations, "learning": self._session.learning, **failed}

    def _read_failed(self) -> dict[str, int]:
        """Failed updates before one begins; a client compares them with those after it."""
        return {} if self._learner is None else {"failed_updates": self._learner.counts["failed_updates"]}

    def _snapshot(self) -> dict[str, Any]:
        return {"snapshot": self._keep(self._snapshots, self._session.state()), **self._tell_guards()}

    def _keep_before(self) -> dict[str, Any]:
        """A snapshot of what a learner knew before the episode that ends; none where it is learning."""
        learner = self._learner
        if learner is None or learner.guards is None or learner.learning or learner.extra is not None:
            return {}
        return {"snapshot": self._keep(self._before, learner.state())}

    def _keep(self, kept: dict[int, Kept], state: State) -> int:
        self._taken += 1
        kept[self._taken] = (state, self._session.episodes, self._session.adaptations)
        if len(kept) > MOST_SNAPSHOTS:
            del kept[min(kept)]
        return self._taken

    def _rollback(self, snapshot: int) -> dict[str, Any]:
        kept = self._snapshots | self._before
        if snapshot not in kept:
            raise RunError(
                f"rollback: expected one of the snapshots {sorted(kept)}, got {snapshot}; the last {MOST_SNAPSHOTS} "
                "are kept"
            )
        state, episodes, adaptations = kept[snapshot]
        self._session.load_state(state)
        self._session.episodes, self._session.adaptations = episodes, adaptations
        return {"episodes": episodes, "adaptations": adaptations, **self._tell_guards()}


def serve_policy(policy: PolicyServer, host: str, port: int, token: str) -> Server:
    """The server, bound and not yet running: call its `serve_forever`, and `shutdown` from another thread.

    Args:
        policy: Answers.
        host: Address to listen at; 127.0.0.1 for this machine alone.
        port: 0 for any free one.
        token: What clients must show.

    Raises:
        SpecError: The token is too short.
        OSError: The address is taken.
    """
    if len(token) < LEAST_TOKEN:
        raise SpecError(f"token: expected at least {LEAST_TOKEN} characters, got {len(token)}; make a longer one")
    wanted = f"Bearer {token}".encode()
    room = threading.BoundedSemaphore(MOST_CLIENTS)

    def check(connection: ServerConnection, request: HttpRequest) -> Response | None:
        shown = ",".join(request.headers.get_all("Authorization")).encode("utf-8", "replace")
        if not hmac.compare_digest(shown, wanted):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "show the token of the server\n")
        return None

    def handle(connection: ServerConnection) -> None:
        if not room.acquire(blocking=False):
            connection.close(1013, "too many clients")
            return
        try:
            for content in connection:
                connection.send(policy.answer(content, connection))
        except ConnectionClosed:
            pass
        finally:
            policy.leave(connection)
            room.release()

    return serve(
        handle,
        host,
        port,
        process_request=check,
        max_size=MOST_BYTES,
        compression=None,
        open_timeout=5,
        close_timeout=1,
        ping_interval=PING_INTERVAL,
        ping_timeout=PING_TIMEOUT,
    )
