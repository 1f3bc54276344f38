"""Updates of an agent in a process beside the one that controls the robot.

Steps of gradients take seconds, and much memory. Meanwhile the controlling process has to hold the robot, to hear that
it was stopped, and to answer its second process. So the state of the agent, the episodes and the state of the random
numbers go to a child, which learns and gives back the new state. It is the same code on the same numbers: the result is
equal bit for bit to that of an update in this process.

A child that dies, takes longer than its budget, or gives back what is no state of the agent is ended, and leaves the
agent as it was: `UpdateFault`. The next update starts another one. The child starts as
`python -m supple.adapt.host.update_child`. Both sides exchange JSON and safetensors, nothing that is executed.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, RunError, SuppleError
from ..strict_json import parse_json
from .bundle import Bundle
from .bundle_folder import parse_tensors, tensor_bytes
from .policy_change import find_infinite
from .runtime_agent import Arrays, RowEpisodes, WrappedAgent

MODULE = "supple.adapt.host.update_child"
HEAD = struct.Struct("<IQ")
"""Bytes of the JSON and of the tensors that follow."""
MOST_JSON, MOST_TENSORS = 1 << 24, 1 << 36
IDLE_PERIOD = 0.05
"""Seconds between two calls of `idle` while a child learns."""
EPISODE, STATE = "episode.", "state."


class UpdateFault(RunError):
    """An update did not come to its end; the agent is as it was before."""


def pack(facts: Mapping[str, Any], arrays: Arrays) -> bytes:
    """A message of JSON facts and arrays."""
    text, tensors = json.dumps(facts).encode(), tensor_bytes(arrays)
    return HEAD.pack(len(text), len(tensors)) + text + tensors


class UpdateChild:
    """The child: started when it is needed, and again after it was ended."""

    def __init__(self, folder: Path, bundle: Bundle, seconds: float, *, device: str = "cpu", threads: int = 1) -> None:
        """Starts it, and does not wait for it.

        Args:
            folder: Of the bundle.
            bundle: The same, with the settings that hold.
            seconds: Budget of one update, the start of the child included.
            device: Where a host learns.
            threads: Of torch.
        """
        self._about = {
            "bundle": str(folder.resolve()),
            "digest": bundle.digest,
            "learner": bundle.contract.learner,
            "device": device,
            "threads": threads,
        }
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        return None if self._process is None else self._process.pid

    def _start(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            # the folder of a user's file is on this process's path, and a learner has to be found there as well
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for this process, which ends the child
                env=environment,
            )
        self._link.setblocking(False)
        self._unsent = pack(self._about, {})

    def update(
        self, verb: str, arrays: Arrays, facts: Mapping[str, Any], idle: Callable[[], None]
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What the child gives back, as facts and arrays.

        Args:
            verb: "observe" or "adapt".
            arrays: The state of the agent and the episodes, see `BesideAgent`.
            facts: State of the random numbers.
            idle: Called every `IDLE_PERIOD` while the child learns; what it raises ends the child.

        Raises:
            UpdateFault: It died, took too long, or gave back what is no message.
        """
        if self._process is None:
            self._start()
        try:
            return self._exchange(pack({**facts, "verb": verb}, arrays), idle)
        except BaseException:
            self._end()  # what it still does is for nobody, and what it would send next is no answer
            raise

    def _exchange(self, request: bytes, idle: Callable[[], None]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        unsent, received = memoryview(self._unsent + request), bytearray()
        self._unsent = b""
        deadline, next_idle = time.monotonic() + self._seconds, 0.0
        while True:
            now = time.monotonic()
            if now >= next_idle:
                idle()
                next_idle = time.monotonic() + IDLE_PERIOD
            if now > deadline:
                raise UpdateFault(
                    f"update: expected a child that has learned within {self._seconds:g} s, got none; pass more "
                    "update-seconds, or smaller updates"
                )
            wait = max(0.0, min(next_idle, deadline) - time.monotonic())
            readable, writable, _ = select.select([self._link], [self._link] if unsent else [], [], wait)
            try:
                if writable:
                    unsent = unsent[self._link.send(unsent[: 1 << 20]) :]
                content = self._link.recv(1 << 20) if readable else None
            except BlockingIOError:
                continue
            except OSError:
                content = b""
            if content == b"":
                raise UpdateFault(f"update: expected a child that learns, got its end{self._describe_end()}")
            received += content or b""
            if (message := unpack(received)) is not None:
                facts, arrays = message
                if "error" in facts:
                    raise UpdateFault(f"update: expected a child that learns, got: {facts['error']}")
                return facts, arrays

    def _describe_end(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "; see its error"
        return f" by signal {-code}; was it killed, or is the memory full?" if code < 0 else f" ({code}); see its error"

    def _end(self) -> None:
        self._link.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Ends the child."""
        self._end()


def unpack(content: bytearray | bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """The message that some bytes are, or begin to be; None where more have to come.

    Raises:
        UpdateFault: They are none.
    """
    if len(content) < HEAD.size:
        return None
    text, tensors = HEAD.unpack_from(content)
    if text > MOST_JSON or tensors > MOST_TENSORS:
        raise UpdateFault(f"update: expected a message, got one of {text} and {tensors} bytes; see the child's error")
    if len(content) < HEAD.size + text + tensors:
        return None
    if len(content) > HEAD.size + text + tensors:
        raise UpdateFault("update: expected one message, got more; see the child's error")
    middle = HEAD.size + text
    facts = parse_json(bytes(content[HEAD.size : middle]), dict, "update", UpdateFault, "see the child's error")
    try:
        arrays = parse_tensors(bytes(content[middle:]), Path("update"))
    except BundleError as error:
        raise UpdateFault(str(error)) from error
    return facts, {name: value.copy() for name, value in arrays.items()}  # which can be written to, as others are


class BesideAgent(WrappedAgent):
    """An agent that learns in a child and acts here; see the module's docstring."""

    def __init__(
        self,
        acting: Any,
        child: UpdateChild,
        rng: np.random.Generator,
        idle: Callable[[], None],
        *,
        verbs: Collection[str] = ("observe", "adapt"),
    ) -> None:
        """Before the first task.

        Args:
            acting: The agent, as the child makes it.
            child: Learns.
            rng: What the agent draws from.
            idle: Called while the child learns: holds the robot.
            verbs: What the child does; the others are done here.
        """
        super().__init__(acting)
        self._child, self._rng, self._idle, self._verbs = child, rng, idle, verbs

    def observe(self, episodes: RowEpisodes) -> None:
        """See `RuntimeAgent.observe`.

        Raises:
            UpdateFault: The child did not learn; nothing has changed.
        """
        if "observe" not in self._verbs:
            super().observe(episodes)
            return
        found = episodes._asdict().items()
        self._update("observe", {f"{EPISODE}{name}": value for name, value in found if value is not None})

    def adapt(self) -> None:
        """See `RuntimeAgent.adapt`.

        Raises:
            UpdateFault: The child did not learn; nothing has changed.
        """
        if "adapt" in self._verbs:
            self._update("adapt", {})
        else:
            super().adapt()

    def _update(self, verb: str, episodes: Arrays) -> None:
        before, drawn = self._acting.state(), self._rng.bit_generator.state
        given = {f"{STATE}{name}": value for name, value in before.items()} | dict(episodes)
        facts, after = self._child.update(verb, given, {"rng": drawn}, self._idle)
        try:
            if wrong := find_infinite(after):
                raise UpdateFault(f"'{wrong}' is not finite")
            self._acting.load_state(after)
            self._rng.bit_generator.state = facts["rng"]
        except (SuppleError, KeyError, TypeError, ValueError, IndexError) as error:
            self._acting.load_state(before)
            self._rng.bit_generator.state = drawn
            raise UpdateFault(
                f"update: expected a state of the agent, got one in which {error}; adapt again"
            ) from error
