"""Every kind of bag gives the messages that were written."""

from pathlib import Path
from typing import Any

import pytest

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


def test_a_folder_of_bags_gives_them_by_name(bags: Any, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, kind in (("b", "rosbag1"), ("a", "plain"), ("c", "sqlite")):
        bags.write(folder / name, kind, bags.arm(0.1))
    (folder / "notes.txt").write_text("nothing")
    assert [bag.name for bag in find_bags(folder)] == ["a.mcap", "b.bag", "c"]
