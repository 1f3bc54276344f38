"""The process that learns beside the one that controls a robot; see `adapt/updates.py`, which alone starts it."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import BundleError, SuppleError
from ..bundle import load_bundle
from ..runtime_agent import RandomNoise, RowEpisodes
from ..updates import EPISODE, HEAD, STATE, pack, unpack
from .hosts import make_hosted


def read_messages(link: socket.socket) -> Iterator[tuple[dict[str, Any], dict[str, NDArray[Any]]]]:
    """Messages until the other side has gone."""
    stream = link.makefile("rb")
    while len(head := stream.read(HEAD.size)) == HEAD.size:
        message = unpack(head + stream.read(sum(HEAD.unpack(head))))
        if message is None:
            return
        yield message


def answer(link: socket.socket) -> None:
    """Makes the agent of the first message, and learns what each further one says."""
    messages = read_messages(link)
    about, _ = next(messages)
    torch.set_num_threads(about["threads"])
    bundle = load_bundle(Path(about["bundle"])).with_settings(about["learner"])
    if bundle.digest != about["digest"]:
        raise BundleError(f"{about['bundle']}: expected the bundle that acts, got another one; do not change it")
    rng = np.random.default_rng(0)
    agent = make_hosted(bundle, RandomNoise(rng), device=about["device"])
    for facts, arrays in messages:
        agent.load_state({name.removeprefix(STATE): v for name, v in arrays.items() if name.startswith(STATE)})
        rng.bit_generator.state = facts["rng"]
        if facts["verb"] == "adapt":
            agent.adapt()
        else:
            episode = {name.removeprefix(EPISODE): v for name, v in arrays.items() if name.startswith(EPISODE)}
            agent.observe(RowEpisodes(**episode))
        link.sendall(pack({"rng": rng.bit_generator.state}, agent.state()))


def end_with(link: socket.socket) -> None:
    """Ends this process once the other side has gone: an update may go on for minutes, for nobody."""
    poll = select.poll()
    poll.register(link, 0)  # a hang-up is told in any case, and what comes in is not
    poll.poll()
    os._exit(0)


def main(handle: str) -> None:
    """What runs as `python -m supple.adapt.host.update_child`.

    A service manager sends its signals to all processes of a service. This one ends with the one that it learns for,
    so that what that one is being told, or writes down, is no update that failed.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(handle)) as link:
        threading.Thread(target=end_with, args=(link,), daemon=True).start()
        try:
            answer(link)
        except (BrokenPipeError, ConnectionResetError, StopIteration):
            pass  # nobody waits any more
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is told to the process that controls the robot
            kind = "" if isinstance(error, SuppleError) else f"{type(error).__name__} "
            with suppress(OSError):
                link.sendall(pack({"error": f"{kind}{error}"}, {}))


if __name__ == "__main__":
    main(sys.argv[1])
