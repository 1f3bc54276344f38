"""A policy server: one agent for one robot, over a websocket on this machine.

A client shows the token in the header `Authorization: Bearer TOKEN`. Any number of clients may ask for `health`; the
first other verb takes the robot's session, until that client leaves. A client that leaves in the middle of an episode
ends it: nothing of it is learned. Every action is finite and within the limits of the bundle (`session.py`); whatever
goes wrong is an error in the answer, and in doubt the end of the episode, never an action.

Steps of gradients are taken beside (`background_learner.py`): `end_episode` and `adapt` answer when one begins, and
`health` says whether it goes on and whether it failed.

A server may have a `Keeper`, which writes down what the session is after each episode and each update, so that another
process goes on from there: `whole_state` and `load_whole_state`. What is kept is between two episodes: one that is
under way when the process dies is lost. A keeper that fails, as on a full disk, stops neither the robot nor the
learner: the answers say `kept: false`, and the next episode tries again.
"""

from __future__ import annotations

import hmac
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response
from websockets.sync.server import Server, ServerConnection, serve

from ... import __version__
from ...errors import RunError, SpecError, SuppleError, make_text
from ..background_learner import BackgroundLearner, read_newest
from ..contract import BundleContract
from ..runtime_agent import Arrays
from ..session import AgentSession
from ..spaces import split_prefix
from .messages import MOST_BYTES, Request, read_request, write_message

MOST_CLIENTS, MOST_SNAPSHOTS = 8, 16
PING_INTERVAL, PING_TIMEOUT = 5.0, 10.0
"""Seconds: a client that has vanished without a word is gone, and its session free, after both."""
LEAST_TOKEN = 16
"""Characters."""
State = dict[str, NDArray[Any]]
Kept = tuple[State, int, int]
"""What an agent knew, after how many episodes and steps of adaptation."""
Record = dict[str, Any]
SNAPSHOT, TASK = "snapshot-", "task-"
"""What begins so, with a number behind it, is the name of a snapshot, or of a task that has ended."""
_SESSION, _LEARNER = "session.", "learner."


def read_known(arrays: Arrays) -> State:
    """What acting needs of all that is known of the task, in the arrays of `PolicyServer.whole_state`."""
    learned = read_newest(split_prefix(arrays, _LEARNER))
    return learned or split_prefix(arrays, _SESSION)


class Keeper(Protocol):
    """Where a session is written down."""

    def keep(
        self, arrays: State, facts: Mapping[str, Any], copies: Mapping[str, State], records: Sequence[Record]
    ) -> None:
        """Writes it; afterwards a kill or a power cut loses nothing of it.

        Args:
            arrays: Of the session.
            facts: Of the session, as JSON.
            copies: Snapshots, all that there are, by names that are never used twice; and tasks that have ended since.
            records: What has happened since, in order; each is told once, also where the call fails.

        Raises:
            SuppleError: It cannot be written.
            OSError: The same.
        """
        ...


class PolicyServer:
    """Answers requests; `serve_policy` puts it behind a websocket."""

    def __init__(
        self,
        session: AgentSession,
        facts: dict[str, Any],
        *,
        adapts: bool = True,
        learner: BackgroundLearner | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Takes a session.

        Args:
            session: Of the bundle.
            facts: What `health` says of the bundle; plain values.
            adapts: Whether `adapt` does something: False for a learner by gradients without a host.
            learner: That of the session, where it learns beside.
            keeper: Writes down what the session is.
        """
        self._learner = learner
        self.facts = facts
        """What `health` says of the bundle."""
        self._session, self._adapts = session, adapts
        self._lock = threading.Lock()
        self._owner: object | None = None
        self._snapshots: dict[int, Kept] = {}
        self._before: dict[int, Kept] = {}  # taken by the server itself, before an episode is learned from
        self._taken = 0
        self._keeper, self._writing = keeper, threading.Lock()
        self._own: tuple[State, dict[str, Any], dict[str, State]] | None = None  # see `_settle`
        self._tasks, self._ended = 0, dict[str, State]()  # how many there were, and those that are not written yet
        self._noted = 0  # of the guards' events
        self._resumed: int | None = None
        self._kept_episodes, self._keep_failure = 0, ""
        if learner is not None:
            learner.on_learned = self.keep_learned
        self._began = time.monotonic()
        self.counts = {"requests": 0, "refused": 0, "faults": 0}
        """Requests, those refused, and those that failed for a reason that nobody foresaw."""

    @property
    def contract(self) -> BundleContract:
        """Of the bundle."""
        return self._session.contract

    @property
    def picture_bytes(self) -> int:
        """Of each picture; 0 where the policy needs none."""
        return 0 if self._session.image is None else math.prod(self._session.image.shape)

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
            return read_request(content, self.picture_bytes)
        except SpecError:
            with self._lock:
                if self._owner is client:
                    self._session.spoil()
            raise

    def _do(self, request: Request, client: object) -> dict[str, Any]:
        if request.verb == "health":
            return self.health()
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
                "finish": self._finish,
                "snapshot": self._snapshot,
                "rollback": self._rollback,
            }
            return actions[request.verb](**request.fields)

    def health(self) -> dict[str, Any]:
        """See the verb."""
        learner = self._learner
        told = {} if learner is None else {**learner.counts, "last_failure": learner.last_failure}
        return {
            **self.facts,
            "learning": self._session.learning,
            "extra": self._session.extra,
            **told,
            **self._tell_guards(events=True),
            "snapshots": sorted([*self._snapshots, *self._before]),
            "supple": __version__,
            "running": self._session.running,
            "episodes": self._session.episodes,
            "adaptations": self._session.adaptations,
            **self._tell_kept(),
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

    # -- what is kept ----------------------------------------------------------------------------------------------

    def whole_state(self) -> tuple[State, dict[str, Any], dict[str, State]]:
        """Everything that the session goes on from: arrays, JSON facts, and its snapshots by their names.

        Raises:
            RunError: Nothing was settled yet.
        """
        if self._own is None:
            raise RunError("whole_state: expected a task, got none; call reset first")
        own, told, kept = self._own
        arrays, facts = {f"{_SESSION}{name}": value for name, value in own.items()}, {**told}
        if self._learner is not None:
            learned, facts["learner"] = self._learner.whole_state()
            arrays |= {f"{_LEARNER}{name}": value for name, value in learned.items()}
        return arrays, facts, kept

    def load_whole_state(self, arrays: Arrays, facts: Mapping[str, Any], copies: Mapping[str, State]) -> None:
        """Goes on where `whole_state` was taken; before anybody is served.

        Raises:
            RunError: The state is none, or one of another bundle's agent.
            SpecError: Its goal is none of the robot's.
        """
        try:
            if self._learner is not None:
                self._learner.load_whole_state(split_prefix(arrays, _LEARNER), facts["learner"])
            self._session.load_whole_state(split_prefix(arrays, _SESSION), facts["session"])
            for number, episodes, adaptations, before in facts["snapshots"]:
                one = (copies[f"{SNAPSHOT}{number}"], int(episodes), int(adaptations))
                (self._before if before else self._snapshots)[int(number)] = one
            self._tasks, self._taken = int(facts["tasks"]), int(facts["taken"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            got = f"{type(error).__name__} {error}"
            raise RunError(f"session: expected a whole state, got {got}; begin another session") from error
        self._noted = max((int(event["number"]) for event in self._list_events()), default=0)
        self._resumed = self._kept_episodes = self._session.episodes
        self._settle()

    def _settle(self) -> None:
        """Reads what the session is between two episodes; its learner may be at work, and is read when it is kept."""
        kept = self._snapshots | self._before
        told = [[number, *one[1:], number in self._before] for number, one in sorted(kept.items())]
        own, facts = self._session.whole_state()
        facts = {"session": facts, "tasks": self._tasks, "taken": self._taken, "snapshots": told}
        self._own = own, facts, {f"{SNAPSHOT}{number}": one[0] for number, one in kept.items()}

    def _keep(self, **record: Any) -> dict[str, Any]:
        """Has written down what the session is, and what happened; says how it went, where there is a keeper."""
        if self._keeper is None:
            return {}
        self._settle()
        return {"kept": self._write(record)}

    def keep_learned(self) -> None:
        """Has written down what was learned; also while an episode is under way, from any thread."""
        if self._keeper is not None and self._own is not None:
            self._write({})

    def _write(self, record: Record) -> bool:
        assert self._keeper is not None
        with self._writing:
            try:
                arrays, facts, copies = self.whole_state()
                learner, session = facts.get("learner"), facts["session"]
                if learner is not None and learner["done"] + len(learner["updates"]) != session["given"]:
                    return False  # this is the learner's thread, and whoever has the session is about to be here
                events = [event for event in self._list_events() if event["number"] > self._noted]
                self._noted = max((event["number"] for event in events), default=self._noted)
                at = {"task": self._tasks, "episode": session["episodes"]}
                records = [{"kind": "guard", **at, **event} for event in events]
                records += [{**at, **record}] if record else []
                self._keeper.keep(arrays, facts, copies | self._ended, records)
            except Exception as error:  # noqa: BLE001 - a full disk must not take the robot's policy along
                self._keep_failure = f"{type(error).__name__}: {make_text(error)}"
                return False
            self._ended.clear()
            self._kept_episodes, self._keep_failure = int(session["episodes"]), ""
            return True

    def _list_events(self) -> list[dict[str, Any]]:
        return [] if self._learner is None else list(self._learner.events)

    def _tell_kept(self) -> dict[str, Any]:
        if self._keeper is None:
            return {}
        told = {"resumed": self._resumed, "kept_episodes": self._kept_episodes, "keep_failure": self._keep_failure}
        return {**told, "tasks": self._tasks}

    def _begin_task(self, goal: list[float] | None) -> None:
        """Another task; what is known of the one before is kept, so that a bundle can be made of it."""
        known: State = {}
        if self._keeper is not None and self._own is not None and self._session.episodes:
            known = self._own[0] if self._learner is None else self._learner.newest
        self._session.begin_task(goal=goal)
        self._before.clear()
        with self._writing:
            if known:
                self._ended[f"{TASK}{self._tasks}"] = known
            self._tasks, self._noted = self._tasks + 1, 0
        self._keep()

    # -- verbs -----------------------------------------------------------------------------------------------------

    def _reset(self, task: bool, explore: bool, goal: list[float] | None) -> dict[str, Any]:
        if task or not self._session.has_task:
            self._begin_task(goal)
        self._session.reset(explore=explore, goal=goal)
        extra = self._session.extra
        return {"episode": self._session.episodes + (not extra), "extra": extra, "speed": self._session.speed}

    def _act(self, observation: list[float], picture: bytes | None) -> dict[str, Any]:
        action = self._session.act(observation, self._read_picture(picture, "act"))
        return {"action": action.tolist(), "step": self._session.steps}

    def _read_picture(self, content: bytes | None, where: str) -> NDArray[np.uint8] | None:
        """The picture of these bytes; the session refuses one that is missing, or that nobody needs."""
        if content is None:
            return None
        image, picture = self._session.image, np.frombuffer(content, np.uint8)
        if image is None:
            return picture
        if picture.size != self.picture_bytes:
            raise SpecError(
                f"{where}: expected a picture of {self.picture_bytes} bytes, {image.shape}, got {picture.size}; send "
                "its rows one behind the other, channels last"
            )
        return picture.reshape(image.shape)

    def _observe(self, reward: float) -> dict[str, Any]:
        self._session.observe(reward)
        return {}

    def _end_episode(
        self, observation: list[float], picture: bytes | None, terminated: bool, success: bool | None
    ) -> dict[str, Any]:
        failed, before = self._read_failed(), self._copy_before()
        seen = self._read_picture(picture, "end_episode")
        told = self._session.end_episode(observation, seen, terminated=terminated, success=success)
        record = {"terminated": terminated, "goal": self._session.goal or [], **told}
        record |= {} if success is None else {"success": success}
        kept = self._keep(kind="extra" if told["extra"] else "episode" if told["learned"] else "forgotten", **record)
        return {**told, **before, "learning": self._session.learning, **failed, **kept}

    def _adapt(self) -> dict[str, Any]:
        if not self._adapts:
            raise RunError("adapt: expected an agent that learns here, got one that needs torch; start it with --learn")
        return self._begin(self._session.adapt)

    def _finish(self) -> dict[str, Any]:
        return self._begin(self._session.finish)

    def _begin(self, update: Callable[[], None]) -> dict[str, Any]:
        failed = self._read_failed()
        update()
        kept = self._keep()
        return {"adaptations": self._session.adaptations, "learning": self._session.learning, **failed, **kept}

    def _read_failed(self) -> dict[str, int]:
        """Failed updates before one begins; a client compares them with those after it."""
        return {} if self._learner is None else {"failed_updates": self._learner.counts["failed_updates"]}

    def _snapshot(self) -> dict[str, Any]:
        number = self._copy(self._snapshots, self._session.state())
        return {"snapshot": number, **self._tell_guards(), **self._keep()}

    def _copy_before(self) -> dict[str, Any]:
        """A snapshot of what a learner knew before the episode that ends; none where it is learning."""
        learner = self._learner
        if learner is None or learner.guards is None or learner.learning or learner.extra is not None:
            return {}
        return {"snapshot": self._copy(self._before, learner.state())}

    def _copy(self, kept: dict[int, Kept], state: State) -> int:
        self._taken += 1
        kept[self._taken] = (state, self._session.episodes, self._session.adaptations)
        if len(kept) > MOST_SNAPSHOTS:
            del kept[min(kept)]
        return self._taken

    def _rollback(self, snapshot: int) -> dict[str, Any]:
        known = self._snapshots | self._before
        if snapshot not in known:
            raise RunError(
                f"rollback: expected one of the snapshots {sorted(known)}, got {snapshot}; the last {MOST_SNAPSHOTS} "
                "are kept"
            )
        state, episodes, adaptations = known[snapshot]
        self._session.load_state(state)
        self._session.episodes, self._session.adaptations = episodes, adaptations
        kept = self._keep(kind="rollback", snapshot=snapshot)
        return {"episodes": episodes, "adaptations": adaptations, **self._tell_guards(), **kept}


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
        max_size=MOST_BYTES + policy.picture_bytes,
        compression=None,
        open_timeout=5,
        close_timeout=1,
        ping_interval=PING_INTERVAL,
        ping_timeout=PING_TIMEOUT,
    )
