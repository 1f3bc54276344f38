"""Whether a robot holds when its controlling process dies or hangs, and whether any socket minds rubbish.

Prints a JSON list of records of reliability. Detected are kills after which the robot held, malformed messages that
changed nothing, and gaps in the commands after which the robot held within the stated bound.

    python benchmarks/bench_links.py [kills of each kind] [malformed messages to each socket] [drops sockets ros kills]
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from link_faults import (
    HOLD_PERIODS,
    Counts,
    attack_dds,
    attack_driver,
    attack_operator,
    attack_readings,
    attack_robot,
    attack_server,
    attack_watchdog,
    attack_zenoh,
    silence_controllers,
    sweep_drops,
)
from poison import make_bundle
from recording import print_records

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
MESSAGES = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
PARTS = sys.argv[3:] or ["drops", "sockets", "ros", "kills"]
COMMAND = "python benchmarks/bench_links.py"
DROPPED, DELAYS_MS = range(1, 26), range(1, 201)
Record = dict[str, Any]


def silence(folder: Path) -> list[Record]:
    """Controlling processes that are killed, and that are held."""
    records: list[Record] = []
    for how in (signal.SIGKILL, signal.SIGSTOP):
        place = folder / how.name
        place.mkdir()
        found = silence_controllers(how, KILLS, place)
        load = round(os.getloadavg()[1], 1)
        metric = "the robot holds, and is stopped"
        records.append({"method": f"{how.name} of the policy's process", "metric": metric, **found.counts})
        metric = f"most control periods to the hold (load {load})"
        records.append({"method": f"{how.name} of the policy's process", "metric": metric, "mean": found.worst_periods})
        print(records[-2:], file=sys.stderr, flush=True)
    return records


def attack(folder: Path) -> list[Record]:
    """Malformed messages to each socket."""
    bundle = make_bundle(folder / "bundle")
    return count(
        {
            "robot": lambda: attack_robot(MESSAGES, folder),
            "driver": lambda: attack_driver(MESSAGES, folder),
            "take-over": lambda: attack_operator(MESSAGES, folder),
            "watchdog": lambda: attack_watchdog(MESSAGES),
            "policy server": lambda: attack_server(MESSAGES, bundle),
        }
    )


def attack_ros(folder: Path) -> list[Record]:
    """The same for a robot of ROS 2."""
    return count(
        {
            "ROS 2, driver": lambda: attack_readings(MESSAGES),
            "ROS 2, zenoh": lambda: attack_zenoh(MESSAGES, folder),
            "ROS 2, DDS ports": lambda: attack_dds(MESSAGES, folder),
        }
    )


def count(attacks: Mapping[str, Callable[[], Counts]]) -> list[Record]:
    """A record of each."""
    metric, records = "the next good client is served", list[Record]()
    for name, run in attacks.items():
        records.append({"method": f"malformed messages: {name}", "metric": metric, "seeds": [0], **run()})
        print(records[-1], file=sys.stderr, flush=True)
    return records


def drop() -> list[Record]:
    """All cells of dropped commands and delays."""
    counts, worst = sweep_drops(DROPPED, DELAYS_MS)
    method = f"{len(DROPPED)} x {len(DELAYS_MS)} dropped commands and delays"
    metric = f"holds within {HOLD_PERIODS + 1} control periods"
    return [
        {"method": method, "metric": metric, **counts},
        {"method": method, "metric": "most control periods to the hold", "mean": worst},
    ]


def main() -> None:
    """Measures everything and prints the records."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            "drops": drop,
            "sockets": lambda: attack(folder),
            "ros": lambda: attack_ros(folder),
            "kills": lambda: silence(folder),
        }
        records = [record for name in PARTS for record in parts[name]()]
    print_records("links", COMMAND, began, records)


if __name__ == "__main__":
    main()
