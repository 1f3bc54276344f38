"""How fast bags are read: groups of equal messages against rosbags' deserialisation of each, and whole bags into steps.

Prints a JSON list of records (schema: `benchmarks/results/records.py`). A round times both sides one after the other,
in seconds of the processor; `low` and `high` bound the middle 95 % of the rounds, a ratio is the median of their
ratios. Both sides give the same numbers, which is checked first.

    OMP_NUM_THREADS=1 python benchmarks/bench_bags.py
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_datasets import Record, compare, cpu_time_of
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from recording import print_records
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from supple.datasets.bags.mapping import TopicClock, parse_mapping
from supple.datasets.bags.reader import BagReader
from supple.datasets.bags.recording import Topic
from supple.datasets.bags.series import Request, TopicReader

MESSAGES = 100_000
JOINTS = tuple(f"panda_joint{index}" for index in range(1, 8))
KIND = "sensor_msgs/msg/JointState"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_bags.py"
PEER = "rosbags 0.11.9, deserialize_cdr of each message"
TYPES = get_typestore(Stores.ROS2_HUMBLE)
MAPPING = """
period = 0.02
[[topic]]
name = "/joint_states"
[[signal]]
feature = "observation"
topic = "/joint_states"
field = "position"
axes = [{axes}]
units = [{units}]
""".format(axes=", ".join(f'"{name}"' for name in JOINTS), units=", ".join('"rad"' for _ in JOINTS))


def make_payloads(vary: bool) -> list[bytes]:
    """JointState messages of seven joints, 356 bytes each; with `vary`, the frame is named differently in each."""
    types, payloads = TYPES.types, []
    for index in range(MESSAGES if not vary else MESSAGES // 5):
        stamp = types["builtin_interfaces/msg/Time"](1_700_000_000 + index // 500, index % 500 * 2_000_000)
        header = types["std_msgs/msg/Header"](stamp, "x" * (index * 7919 % 200) if vary else "base")
        names = [f"{name}{index % 997}" for name in JOINTS] if vary else list(JOINTS)
        message = types[KIND](header, names, np.full(7, index * 1.0), np.full(7, 2.0), np.full(7, 3.0))
        payloads.append(bytes(TYPES.serialize_cdr(message, KIND)))
    return payloads


def read_ours(payloads: list[bytes], joints: tuple[str, ...] = JOINTS) -> Any:
    topic = Topic("/joint_states", KIND, "cdr", "", "")
    requests = (Request("position", joints, (), "float64"),)
    reader = TopicReader(topic, TopicClock(name=topic.name), requests, "benchmark")
    reader.add([0] * len(payloads), payloads)
    return reader.finish()[0].values[0]


def read_theirs(payloads: list[bytes]) -> list[Any]:
    return [TYPES.deserialize_cdr(payload, KIND).position for payload in payloads]  # type: ignore[attr-defined]


def measure_decoding(rounds: int) -> list[Record]:
    """Messages per second that are decoded, of one layout and of as many as there are messages."""
    records = []
    for vary, name in ((False, "one layout"), (True, "another layout each")):
        payloads = make_payloads(vary)
        few = payloads[: len(payloads) // 10]
        theirs = np.array(read_theirs(few))
        if not vary:
            np.testing.assert_array_equal(read_ours(few), theirs)
        else:  # the joints of message 5 are also those of every 997th behind it, and of no other
            found, same = read_ours(few, tuple(f"{name}5" for name in JOINTS)), np.arange(len(few)) % 997 == 5
            np.testing.assert_array_equal(found[same], theirs[same])
            assert same.sum() > 1
            assert np.isnan(found[~same]).all()
        times = np.array(
            [
                (cpu_time_of(lambda m=payloads: read_ours(m)), cpu_time_of(lambda f=few: read_theirs(f)))
                for _ in range(rounds)
            ]
        )
        amounts = (len(payloads), len(few))
        records += compare(
            ("Supple", "rosbags"), "messages decoded per second", {"messages": name}, times, amounts, PEER
        )
    return records


def write_bag(path: Path, payloads: list[bytes], compression: CompressionType) -> None:
    with path.open("wb") as stream:
        writer = McapWriter(stream, compression=compression)
        writer.start("ros2", "benchmark")
        text = TYPES.generate_msgdef(KIND, ros_version=2)[0]
        channel = writer.register_channel(
            "/joint_states", "cdr", writer.register_schema(KIND, "ros2msg", text.encode())
        )
        for index, payload in enumerate(payloads):
            when = 1_700_000_000 * 10**9 + index * 2_000_000
            writer.add_message(channel, when, payload, when)
        writer.finish()


def measure_bags(folder: Path, rounds: int) -> list[Record]:
    """Messages per second from a bag on the disk to steps, against iterating over it with rosbags."""
    payloads, records = make_payloads(False), []
    for compression in (CompressionType.NONE, CompressionType.ZSTD):
        path = folder / f"{compression.name.lower()}.mcap"
        write_bag(path, payloads, compression)

        def ours(path: Path = path) -> None:
            (episode,) = BagReader(path, parse_mapping(MAPPING, "benchmark")).episodes()
            assert episode.length == MESSAGES // 10

        def theirs(path: Path = path) -> None:
            with AnyReader([path]) as reader:
                assert sum(1 for _ in reader.messages()) == MESSAGES

        times = np.array([(cpu_time_of(ours), cpu_time_of(theirs)) for _ in range(rounds)])
        at = {"bag": f"MCAP, compression {compression.name.lower()}"}
        records += compare(
            ("Supple, bag to steps, checksums checked", "rosbags, iteration alone"),
            "messages per second",
            at,
            times,
            (MESSAGES, MESSAGES),
            "rosbags 0.11.9, raw messages",
        )
    return records


if __name__ == "__main__":
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        found = measure_decoding(5) + measure_bags(Path(place), 3)
    print_records("bags", COMMAND, began, found)
