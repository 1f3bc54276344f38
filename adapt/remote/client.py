"""A client of `supple serve`: one file that can be copied; it needs the packages websockets and msgpack, nothing else.

    with PolicyClient("ws://127.0.0.1:8765", token) as policy:
        policy.reset(task=True)
        action = policy.act(observation)["action"]
        policy.observe(reward)
        policy.end_episode(observation, terminated=False)
        policy.adapt()

Every call returns the server's answer as a dict, and raises `PolicyError` where there is none in time, or a refusal.
Hold the robot then: a policy that does not answer is a policy that is lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgpack
from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.sync.client import connect

WITHIN = frozenset({"act", "observe", "health"})
"""Verbs that are answered at once: a robot may move."""
BETWEEN_TIMEOUT = 10.0
"""Seconds to wait, at least, for the answer to any other verb: the server may write down what it knows."""


class PolicyError(RuntimeError):
    """The server refused a request, or did not answer in time."""


class PolicyClient:
    """One robot's connection."""

    def __init__(self, url: str, token: str, *, timeout: float = 1.0, adapt_timeout: float = 600.0) -> None:
        """Connects.

        Args:
            url: Such as `ws://127.0.0.1:8765`.
            token: Of the server.
            timeout: Seconds to wait for an answer within an episode; several control periods.
            adapt_timeout: Seconds to wait for an update, where it is waited for.

        Raises:
            PolicyError: There is no server, or it refuses the token.
        """
        self._timeout, self._adapt_timeout, self._sent = timeout, adapt_timeout, 0
        headers = {"Authorization": f"Bearer {token}"}
        self._stack = ExitStack()
        try:
            opened = connect(
                url, additional_headers=headers, compression=None, proxy=None, max_size=1 << 20, open_timeout=5
            )
            self._connection = self._stack.enter_context(opened)
        except (OSError, TimeoutError, InvalidHandshake, WebSocketException) as error:
            raise PolicyError(f"{url}: expected a policy server that takes the token, got '{error}'") from error

    def __enter__(self) -> PolicyClient:
        """Itself."""
        return self

    def __exit__(self, *details: object) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Leaves; an episode under way is over."""
        self._stack.close()

    def health(self) -> dict[str, Any]:
        """What the server is, and how it is doing."""
        return self.ask("health")

    def reset(self, *, task: bool = False, explore: bool = True, goal: Sequence[float] | None = None) -> dict[str, Any]:
        """Begins an episode, of a new task where `task`.

        The policy never sees the `goal` of the task. A server whose guards know the robot's rewards refuses those that
        contradict it. Where `extra` is true in the answer, the guards have asked for the episode: play it as any other.
        """
        told = {} if goal is None else {"goal": [float(value) for value in goal]}
        return self.ask("reset", task=task, explore=explore, **told)

    def act(self, observation: Sequence[float], picture: Any = None) -> dict[str, Any]:
        """`action` for this control period, in the units and the order of the bundle.

        Args:
            observation: What the robot measured.
            picture: The newest one, where the policy needs pictures: bytes, or an array of them, row by row, channels
                last. `health` says their shape.
        """
        return self.ask("act", observation=[float(value) for value in observation], **_tell(picture))

    def observe(self, reward: float) -> dict[str, Any]:
        """The reward of the control step that followed the last `act`."""
        return self.ask("observe", reward=float(reward))

    def end_episode(
        self,
        observation: Sequence[float],
        picture: Any = None,
        *,
        terminated: bool,
        success: bool | None = None,
        wait: bool = True,
    ) -> dict[str, Any]:
        """Ends the episode; the agent takes it in.

        Args:
            observation: Where it ended.
            picture: Where it ended; see `act`.
            terminated: The task ended it; else a time limit or a person did.
            success: Whether the task was solved; None where nobody knows.
            wait: Until the agent has learned from it. Otherwise the next episode may be played by the policy before,
                and `health` says how it goes on.

        Raises:
            PolicyError: See `ask`; or the update failed, so that the policy is as it was.
        """
        seen = [float(value) for value in observation]
        told = self.ask("end_episode", observation=seen, terminated=terminated, success=success, **_tell(picture))
        return self._wait("end_episode", told) if wait else told

    def adapt(self, *, wait: bool = True) -> dict[str, Any]:
        """One step of adaptation, between two episodes; see `end_episode` for `wait` and errors."""
        told = self.ask("adapt")
        return self._wait("adapt", told) if wait else told

    def finish(self, *, wait: bool = True) -> dict[str, Any]:
        """Has the guards judge a policy that no episode has judged yet; see `end_episode` for `wait` and errors.

        Call it once all episodes are played, and then play on as long as `health` says `extra`.
        """
        told = self.ask("finish")
        return self._wait("finish", told) if wait else told

    def _wait(self, verb: str, told: dict[str, Any]) -> dict[str, Any]:
        if "failed_updates" not in told:  # the server learned before it answered
            return told
        deadline, health = time.monotonic() + self._adapt_timeout, self.health()
        while health["learning"]:
            if time.monotonic() > deadline:
                raise PolicyError(f"{verb}: expected an update within {self._adapt_timeout:g} s, got one that goes on")
            time.sleep(0.02)
            health = self.health()
        if health["failed_updates"] > told["failed_updates"]:
            raise PolicyError(f"{verb}: the policy is as it was: {health['last_failure']}")
        return {**told, "learning": False, "adaptations": health["adaptations"]}

    def snapshot(self) -> dict[str, Any]:
        """`snapshot`: the number of a copy of what the agent knows, on the server."""
        return self.ask("snapshot")

    def rollback(self, snapshot: int) -> dict[str, Any]:
        """Back to a snapshot."""
        return self.ask("rollback", snapshot=snapshot)

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        """The answer to any verb.

        Raises:
            PolicyError: A refusal, or no answer in time.
        """
        self._sent += 1
        patience = self._timeout if verb in WITHIN else max(self._timeout, BETWEEN_TIMEOUT)
        try:
            self._connection.send(msgpack.packb({"id": self._sent, "verb": verb, **fields}))
            answer = self._connection.recv(patience)
            data = msgpack.unpackb(answer, strict_map_key=True) if isinstance(answer, bytes) else None
        except (TimeoutError, OSError, ValueError, WebSocketException) as error:
            self.close()  # a late answer must not be taken for that of a later request
            raise PolicyError(f"{verb}: expected an answer, got '{error or type(error).__name__}'") from error
        if not isinstance(data, dict) or data.get("id") not in (self._sent, -1):
            self.close()
            raise PolicyError(f"{verb}: expected the answer to request {self._sent}, got {data!r:.80}")
        if data.get("ok") is not True:
            raise PolicyError(f"{verb}: {data.get('error')}: {data.get('message')}")
        return data


def _tell(picture: Any) -> dict[str, bytes]:
    """The field of a picture; none where there is no picture."""
    return {} if picture is None else {"picture": memoryview(picture).tobytes()}
