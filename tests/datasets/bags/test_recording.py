"""Every kind of bag gives the messages that were written."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from supple.datasets.bags.bag_files import open_recording
from supple.datasets.bags.finding import find_bags
from supple.datasets.bags.mapping import parse_mapping
from supple.datasets.bags.message_types import load_types
from supple.datasets.bags.reader import BagReader
from supple.datasets.formats import list_sources
from supple.errors import SourceError
from tests.datasets.bags.conftest import Bags

NS = 10**9

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
def test_mcap_messages_come_in_the_order_of_the_file_whatever_their_chunks(chunk_bytes: int, tmp_path: Path) -> None:
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
        assert found == sent
    assert len(list(recording.messages(range(len(topics))))) == 300
    assert not recording.loss.reasons


FIELDS = ("float64 pos", "float64 vel", "float64 cmd")


def write_arm(path: Path, kind: str, texts: list[str], encodings: tuple[str, ...] = ("cdr", "cdr")) -> Path:
    """A bag of `/arm`, with position 1 and velocity 2, the first half by the first definition, and so on."""
    ros1 = kind == "rosbag1"
    stores = [get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE) for _ in texts]
    for types, text in zip(stores, texts, strict=True):
        types.register(get_types_from_msg(text, "lab/msg/Arm"))
    messages = [types.types["lab/msg/Arm"](pos=1.0, vel=2.0, cmd=3.0) for types in stores]
    times = [[NS * (1 + half) + k * 10**7 for k in range(20)] for half in range(len(texts))]
    if ros1:
        with Rosbag1Writer(path := path.with_suffix(".bag")) as bag:
            for number, (types, message) in enumerate(zip(stores, messages, strict=True)):
                connection = bag.add_connection("/arm", "lab/msg/Arm", typestore=types, callerid=f"/{number}")
                for time in times[number]:
                    bag.write(connection, time, types.serialize_ros1(message, "lab/msg/Arm"))
        return path
    files = [path / f"{path.name}_{number}.mcap" for number in range(len(texts))]
    if kind == "folder":
        path.mkdir()
    else:
        path = path.with_suffix(".mcap")
        files = [path] * len(texts)
    streams = {file: file.open("wb") for file in dict.fromkeys(files)}
    writers = {file: Writer(stream) for file, stream in streams.items()}
    for writer in writers.values():
        writer.start("ros2", "test")
    for number, (types, message) in enumerate(zip(stores, messages, strict=True)):
        writer = writers[files[number]]
        schema = writer.register_schema("lab/msg/Arm", "ros2msg", texts[number].encode())
        channel = writer.register_channel("/arm", encodings[number], schema)
        for time in times[number]:
            writer.add_message(channel, time, bytes(types.serialize_cdr(message, "lab/msg/Arm")), time)
    for file, writer in writers.items():
        writer.finish()
        streams[file].close()
    return path


ARM = parse_mapping(
    """
period = 0.02
action_source = "next_state"
topic = [{name = "/arm", clock = "log"}]
signal = [
    {feature = "observation", topic = "/arm", axes = ["pos", "vel"], units = ["rad", "rad/s"]},
    {feature = "action", topic = "/arm", axes = ["pos", "vel"], units = ["rad", "rad/s"]},
]
""",
    "map",
)


@pytest.mark.parametrize("kind", ["mcap", "folder", "rosbag1"])
def test_no_message_is_decoded_by_the_definition_of_another(kind: str, tmp_path: Path) -> None:
    """Of one type, as before and behind an update of the robot's software."""
    path = write_arm(tmp_path / "bag", kind, ["\n".join(FIELDS), "\n".join(FIELDS[::-1])])
    with pytest.raises(
        SourceError,
        match=r"topic /arm: expected a topic of one type, got messages by 2 definitions of lab/msg/Arm; split",
    ):
        BagReader(path, ARM).describe()


@pytest.mark.parametrize("kind", ["mcap", "folder", "rosbag1"])
def test_comments_make_no_other_definition(kind: str, tmp_path: Path) -> None:
    texts = ["\n".join(FIELDS), "# of the arm\nfloat64   pos # rad\n\nfloat64 vel\nfloat64 cmd"]
    reader = BagReader(write_arm(tmp_path / "bag", kind, texts), ARM)
    assert reader.describe().rows > 20
    assert all((episode.arrays["observation"] == [1.0, 2.0]).all() for episode in reader.episodes())


def test_a_topic_in_two_encodings_is_refused(tmp_path: Path) -> None:
    path = write_arm(tmp_path / "bag", "mcap", ["\n".join(FIELDS)] * 2, ("cdr", "json"))
    with pytest.raises(SourceError, match="topic /arm: expected a topic of one type, got messages in cdr and in json"):
        BagReader(path, ARM).describe()


@pytest.mark.parametrize("known", [True, False])
def test_a_topic_in_sqlite_has_the_definition_that_its_hash_names(known: bool, bags: Bags, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", "sqlite", bags.arm())
    (file,) = bag.glob("*.db3")
    with closing(sqlite3.connect(file)) as base, base:
        columns = [row[1] for row in base.execute("PRAGMA table_info(message_definitions)")]
        row = dict(
            zip(
                columns,
                base.execute("SELECT * FROM message_definitions WHERE topic_type LIKE '%JointState'").fetchone(),
                strict=True,
            )
        )
        other = row["encoded_message_definition"].replace(
            "float64[] position\nfloat64[] velocity", "float64[] velocity\nfloat64[] position"
        )
        assert other != row["encoded_message_definition"]
        row |= {"id": 99, "encoded_message_definition": other, "type_description_hash": "RIHS01_other"}
        marks = ", ".join("?" * len(row))
        base.execute(f"INSERT INTO message_definitions VALUES ({marks})", tuple(row.values()))
        base.execute("UPDATE message_definitions SET type_description_hash = 'RIHS01_one' WHERE id <> 99")
        base.execute(f"UPDATE topics SET type_description_hash = '{'RIHS01_one' if known else ''}'")
    if known:
        (episode,) = BagReader(bag).episodes()
        assert episode.arrays["observation"][10].tolist() == [20.0, 1020.0, -20.0, 0.5]
    else:
        with pytest.raises(
            SourceError, match="got topic /joint_states comes with messages by 2 definitions of sensor_msgs"
        ):
            BagReader(bag).describe()


def test_a_topic_in_two_rows_of_sqlite_is_one(bags: Bags, tmp_path: Path) -> None:
    (file,) = bags.write(tmp_path / "bag", "sqlite", bags.arm()).glob("*.db3")
    with closing(sqlite3.connect(file)) as base, base:
        columns = ", ".join(row[1] for row in base.execute("PRAGMA table_info(topics)") if row[1] != "id")
        base.execute(
            f"INSERT INTO topics (id, {columns}) SELECT 99, {columns} FROM topics WHERE name = '/joint_states'"
        )
        base.execute(
            "UPDATE messages SET topic_id = 99 WHERE id % 2 = 0 AND topic_id IN (SELECT id FROM topics WHERE name = "
            "'/joint_states')"
        )
    lone = tmp_path / "lone.db3"
    lone.write_bytes(file.read_bytes())
    (episode,) = BagReader(lone).episodes()
    np.testing.assert_array_equal(episode.arrays["observation"][:, 0], 2 * np.arange(100))


def test_a_folder_of_bags_gives_them_by_name(bags: Any, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, kind in (("b", "rosbag1"), ("a", "plain"), ("c", "sqlite")):
        bags.write(folder / name, kind, bags.arm(0.1))
    (folder / "notes.txt").write_text("nothing")
    assert [bag.name for bag in find_bags(folder)] == ["a.mcap", "b.bag", "c"]


def split(bags: Bags, folder: Path, names: list[str], pause: int = 0) -> Path:
    """A folder with a recording cut into files of these names, one after the other, `pause` ns apart."""
    folder.mkdir()
    for number, name in enumerate(names):
        sent = bags.arm(0.5, bags.start + number * (NS // 2 + pause))
        moved = [
            one._replace(fields={**one.fields, "position": [50 * number + k // 1, 0]})
            if "position" in one.fields
            else one
            for k, one in enumerate(sent)
        ]
        bags.write(folder / name, "plain", moved)
    return folder


@pytest.mark.parametrize("names", [["pick_1", "pick_2"], ["pick", "pick_old"], ["pick_0", "pick_2"], ["pick_0", "x"]])
def test_recordings_that_have_the_name_of_their_folder_are_bags_of_their_own(
    names: list[str], bags: Bags, tmp_path: Path
) -> None:
    folder = split(bags, tmp_path / "pick", names)
    assert find_bags(folder) == [folder / f"{name}.mcap" for name in names]
    assert list_sources(folder) == find_bags(folder)


def test_files_that_are_numbered_and_follow_on_are_one_bag(bags: Bags, tmp_path: Path) -> None:
    names = [f"log_{number}" for number in range(12)]
    folder = split(bags, tmp_path / "log", names)
    assert find_bags(folder) == [folder]
    (episode,) = BagReader(folder).episodes()  # log_10 behind log_9
    assert not any("set back" in note for note in BagReader(folder).describe().notes)
    assert (np.diff(episode.arrays["time"]) == 2 * 10**7).all()
    assert episode.length == 300
    apart = split(bags, tmp_path / "apart", ["apart_0", "apart_1"], 600 * NS)
    assert find_bags(apart) == [apart / "apart_0.mcap", apart / "apart_1.mcap"]
    again = split(bags, tmp_path / "again", ["again_1", "again_0"])  # the second was recorded first
    assert find_bags(again) == [again / "again_0.mcap", again / "again_1.mcap"]


def test_bags_of_a_folder_go_by_the_numbers_in_their_names(bags: Bags, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        bags.write(tmp_path / f"run_{number}", "plain", bags.arm(0.1))
    assert [bag.stem for bag in find_bags(tmp_path)] == ["run_1", "run_2", "run_10"]
