"""Datagrams between a driver and a robot process: fixed layout, checksum, nothing that is executed.

    magic "SUPL", version, kind, count of values, sequence, stamp (monotonic clock, ns), values (float32), crc32

All little-endian. What is no such datagram is counted and thrown away.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import zlib
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import RobotFault

_HEADER = struct.Struct("<4sBBHIQ")
_CHECKSUM = struct.Struct("<I")
_MAGIC, _VERSION = b"SUPL", 1
MOST_VALUES = 1024
"""Of a datagram."""
MOST_PACKETS = 1024
"""That are read at once; more than wait in a socket's queue."""
MOST_BYTES = _HEADER.size + 4 * MOST_VALUES + _CHECKSUM.size


class Kind(IntEnum):
    """What a datagram is."""

    COMMAND = 1
    """To the robot: a command, shape (A,)."""
    HOME = 2
    """To the robot: the number of an episode, a seed, and a goal; the robot goes to a start."""
    STOP = 3
    """To the robot: stop, and hold until RECOVER."""
    RECOVER = 4
    """To the robot: a person has inspected it."""
    REST = 5
    """To the robot: no command follows for now; hold."""
    WATCH = 6
    """To the robot: send states here too."""
    STATE = 7
    """From the robot: its mode, the number of the episode, and an observation, shape (O,)."""


class Packet(NamedTuple):
    """A datagram."""

    kind: Kind
    sequence: int
    """Counts the datagrams of one sender, from 1 on."""
    stamp_ns: int
    """When the values were true, by the sender's monotonic clock."""
    values: NDArray[np.float32]
    """Shape (count,)."""


class Exchange(Protocol):
    """What a robot process hears its commands by, and tells its states."""

    def receive(self) -> list[tuple[Packet, str]]:
        """All packets that wait, with their senders."""
        ...

    def send(self, packet: Packet, address: str) -> bool:
        """Sends a packet to one of them; False where nobody listens there, or the other side does not keep up."""
        ...


def pack(packet: Packet) -> bytes:
    """The bytes of a datagram."""
    values = np.ascontiguousarray(packet.values, "<f4")
    head = _HEADER.pack(_MAGIC, _VERSION, packet.kind, len(values), packet.sequence, packet.stamp_ns)
    body = head + values.tobytes()
    return body + _CHECKSUM.pack(zlib.crc32(body))


def unpack(data: bytes) -> Packet | None:
    """The datagram in some bytes; None where it is none."""
    if not _HEADER.size + _CHECKSUM.size <= len(data) <= MOST_BYTES:
        return None
    body = data[: -_CHECKSUM.size]
    magic, version, kind, count, sequence, stamp_ns = _HEADER.unpack_from(body)
    whole = len(body) == _HEADER.size + 4 * count and (zlib.crc32(body),) == _CHECKSUM.unpack(data[-_CHECKSUM.size :])
    if not whole or (magic, version) != (_MAGIC, _VERSION) or kind not in Kind._value2member_map_:
        return None
    values = np.frombuffer(body, "<f4", offset=_HEADER.size).astype(np.float32)
    return Packet(Kind(kind), sequence, stamp_ns, values)


def _is_left_behind(address: str) -> bool:
    """Whether a socket is there that nobody listens at."""
    try:
        if not stat.S_ISSOCK(os.lstat(address).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


class Link:
    """One end: a datagram socket with a place in the file system."""

    def __init__(self, address: str) -> None:
        """Binds the socket; in the place of one that a process left behind when it was killed.

        Args:
            address: Path of the socket, at most some 100 characters; nothing else may be there.

        Raises:
            RobotFault: The path is taken, too long, or cannot be made.
        """
        self.address = address
        self.malformed = 0
        """Datagrams that were thrown away."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            if _is_left_behind(address):
                os.unlink(address)
            self._socket.bind(address)
        except OSError as error:
            self._socket.close()
            raise RobotFault(
                f"robot link {address}: expected a path for a socket, got '{error}'; choose a short path in a folder "
                "that can be written, where nothing is"
            ) from error
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Of the socket, for `select`."""
        return self._socket.fileno()

    def send(self, packet: Packet, address: str) -> bool:
        """Sends a datagram; False where nobody listens there, or the other side does not keep up."""
        try:
            self._socket.sendto(pack(packet), address)
        except OSError:
            return False
        return True

    def receive(self) -> list[tuple[Packet, str]]:
        """All datagrams that wait, up to `MOST_PACKETS`, with the addresses of their senders."""
        found: list[tuple[Packet, str]] = []
        for _ in range(MOST_PACKETS):  # who sends without end must not keep the robot from its next command
            try:
                data, sender = self._socket.recvfrom(MOST_BYTES + 1)
            except BlockingIOError:
                break
            packet = unpack(data)
            if packet is None or not np.isfinite(packet.values).all():
                self.malformed += 1
            else:
                found.append((packet, sender or ""))
        return found

    def close(self) -> None:
        """Closes the socket; its path stays, so that another process may remove it."""
        self._socket.close()
