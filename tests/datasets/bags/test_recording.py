"""Every kind of bag gives the messages that were written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer

from supple.datasets.bags.bag_files import open_recording
from supple.datasets.bags.finding import find_bags
from supple.datasets.bags.message_types import load_types

KINDS = (
    *("rosbag1", "rosbag1-bz2", "rosbag1-lz4", "sqlite", "sqlite-message", "sqlite-file"),
    *("mcap", "mcap-storage", "mcap-message", "mcap-file", "plain", "plain-zstd", "plain-lz4", "plain-unchunked"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_messages_are_those_that_were_written(kind: str, arm_bag: Any, bags: Any) -> None:
    recording = open_recording(arm_bag(kind))
    sent = bags.arm()
    assert not recording.loss.reasons
    assert recording.checksums == (kind in ("plain", "plain-zstd", "plain-lz4"))
    assert {topic.name: topic.type for topic in recording.topics} == {one.topic: one.type for one in sent}
    found = list(recording.messages(range(len(recording.topics))))
    assert len(found) == len(sent)
    for topic in range(len(recording.topics)):
        name, type, encoding, *_ = recording.topics[topic]
        types = load_types(recording.topics[topic], "bag")
        decode = types.deserialize_cdr if encoding == "cdr" else types.deserialize_ros1
        mine = [one for one in found if one[0] == topic]
        theirs = [one for one in sent if one.topic == name]
        assert [one[1] for one in mine] == [one.log_time for one in theirs]
        field = "data" if name == "/commands" else "position"
        for (_, _, payload), message in zip(mine[:20], theirs, strict=False):
            value: Any = getattr(decode(payload, type), field)
            assert list(value) == list(message.fields[field])
    assert [one[0] for one in recording.messages([1])] == [1] * sum(one[0] == 1 for one in found)
    assert not recording.loss.reasons


@pytest.mark.parametrize("chunk_bytes", [200, 2000, 10**6])
def test_mcap_messages_come_by_log_time_whatever_their_chunks(chunk_bytes: int, tmp_path: Path) -> None:
    times = [int(time) for time in np.random.default_rng(0).integers(0, 500, 300)]
    path = tmp_path / "log.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=chunk_bytes)
        writer.start("ros2", "test")
        schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
        channels = [writer.register_channel(name, "cdr", schema) for name in ("/a", "/b", "/b")]
        for index, time in enumerate(times):
            writer.add_message(channels[index % 3], time, index.to_bytes(8, "little"), time)
        writer.finish()
    recording = open_recording(path)
    topics = [topic.name for topic in recording.topics]
    for name, of in (("/a", {0}), ("/b", {1, 2})):
        found = [(one[1], one[2]) for one in recording.messages([topics.index(name)])]
        sent = [(time, index.to_bytes(8, "little")) for index, time in enumerate(times) if index % 3 in of]
        assert [time for time, _ in found] == sorted(time for time, _ in sent)
        assert sorted(found) == sorted(sent)
    assert len(list(recording.messages(range(len(topics))))) == 300
    assert not recording.loss.reasons


def test_a_folder_of_bags_gives_them_by_name(bags: Any, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, kind in (("b", "rosbag1"), ("a", "plain"), ("c", "sqlite")):
        bags.write(folder / name, kind, bags.arm(0.1))
    (folder / "notes.txt").write_text("nothing")
    assert [bag.name for bag in find_bags(folder)] == ["a.mcap", "b.bag", "c"]
