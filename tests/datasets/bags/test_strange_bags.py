"""Bags that no list names: each is read as what it is, or refused in a line that says what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer as McapWriter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from supple.datasets.bags.mapping import parse_mapping
from supple.datasets.bags.reader import BagReader
from supple.datasets.bags.recording import Loss
from supple.datasets.episode import ReadOptions
from supple.datasets.formats import list_sources, open_source
from supple.errors import FormatError, SourceError
from tests.datasets.bags.conftest import Sent
from tests.datasets.make_sources import make_d4rl, record

NS = 10**9
STEP = 10**7
Make = Callable[[list[Any]], BagReader]


@pytest.fixture
def make(bags: Any, tmp_path: Path) -> Make:
    return lambda sent: BagReader(bags.write(tmp_path / "bag", "mcap", sent))


def joined(bags: Any, joints: list[Any], count: int = 100) -> list[Any]:
    """Joint states, and commands of two axes."""
    sent = joints + [bags.array(bags.start + k * STEP, [k, 2.0]) for k in range(count)]
    return sorted(sent, key=lambda one: one.log_time)


@pytest.mark.parametrize("first", [5 * NS, -5 * NS, 0])
def test_simulated_time_beside_real_time_goes_by_the_recorder(first: int, bags: Any, make: Make) -> None:
    joints = [
        bags.joints(first + k * STEP // 2, ["a"], [k], delay=bags.start - first + k * STEP // 2) for k in range(100)
    ]
    reader = make(joined(bags, joints))
    spec = reader.describe()
    assert [topic.clock for topic in reader.mapping.topic] == ["log", "log"]
    (episode,) = reader.episodes()
    # each step has the command that came with its measurement
    np.testing.assert_array_equal(episode.arrays["observation"][:, 0], episode.arrays["action"][:, 0])
    said = [note for note in spec.notes if "the recorder's clock, unlike those of others" in note]
    assert len(said) == 1  # one stamp of 0 was never set, and says nothing of the others


def test_topics_of_a_mapping_that_share_no_moment_are_said(bags: Any, make: Make) -> None:
    joints = [bags.joints(5 * NS + k * STEP, ["a"], [k], delay=bags.start - 5 * NS) for k in range(100)]
    reader = make(joined(bags, joints))
    text = reader.write_mapping().replace('name = "/joint_states"', 'name = "/joint_states"\nclock = "header.stamp"')
    stamped = text.replace('clock = "header.stamp"\nclock = "log"', 'clock = "header.stamp"')
    assert stamped != text
    from supple.datasets.bags.mapping import parse_mapping

    with pytest.raises(SourceError, match=r"share no moment: 5.000 to 5.990 s and 17.* s; give both the same clock"):
        BagReader(reader._path, parse_mapping(stamped, "map")).describe()


def test_nan_is_not_measured_and_is_said(bags: Any, make: Make) -> None:
    joints = [bags.joints(bags.start + k * STEP, ["a", "b"], [np.nan if k == 7 else k, 1.0]) for k in range(100)]
    reader = make(joined(bags, joints))
    assert "topic /joint_states: 1 messages hold NaN for a wanted axis, which is not measured there" in (
        reader.describe().notes
    )
    (episode,) = reader.episodes()
    assert episode.arrays["observation"][:9, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 8]
    assert episode.arrays["age"][7] == np.float32(0.01)


def test_joints_without_a_number_or_a_name_are_no_axes(bags: Any, make: Make) -> None:
    joints = [bags.joints(bags.start + k * STEP, ["a", "", "fixed"], [k, 5.0]) for k in range(100)]
    spec = make(joined(bags, joints)).describe()
    assert spec.schema.feature("observation").axes == ("a",)
    assert "joints a, fixed; entries without a name are left out" in spec.contents["/joint_states"]


def test_a_joint_that_stands_twice_in_a_message_is_said(bags: Any, make: Make) -> None:
    joints = [bags.joints(bags.start + k * STEP, ["a", "a"], [k, -k]) for k in range(100)]
    notes = make(joined(bags, joints)).describe().notes
    assert "topic /joint_states: a stands more than once in one message; the first counts" in notes


def test_a_topic_with_two_types_is_left_out_of_the_draft(bags: Any, make: Make) -> None:
    sent = joined(bags, [bags.joints(bags.start + k * STEP, ["a"], [k]) for k in range(100)])
    spec = make([*sent, bags.text(bags.start + NS, "x", topic="/commands")]).describe()
    assert "topic /commands comes with messages of 2 types, and cannot be used" in spec.notes
    (question,) = spec.questions
    assert "expected a topic that commands, got none" in question


def test_an_orientation_that_was_never_set_is_none(bags: Any, make: Make) -> None:
    kind_of = type(bags.text(0, ""))

    def odometry(k: int, w: float) -> Any:
        pose = {"pose": {"position": {"x": 1.0 * k}, "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": w}}}
        fields = {"header": bags.stamp(bags.start + k * STEP), "pose": pose}
        return kind_of("/odom", "nav_msgs/msg/Odometry", bags.start + k * STEP, fields)

    twist = [
        kind_of("/cmd_vel", "geometry_msgs/msg/Twist", bags.start + k * STEP, {"linear": {"x": 1.0}})
        for k in range(100)
    ]
    sent = sorted([odometry(k, 0.0 if k < 20 else 1.0) for k in range(100)] + twist, key=lambda one: one.log_time)
    (episode,) = make(sent).episodes()
    assert episode.arrays["observation"][0, 0] == 20.0  # x at the first pose that is one


def test_one_stamp_in_the_far_future_is_explained(bags: Any, make: Make) -> None:
    joints = [bags.joints(bags.start + k * STEP, ["a"], [k]) for k in range(100)]
    joints.append(bags.joints(bags.start + 3 * 10**17, ["a"], [1.0]))
    with pytest.raises(
        SourceError, match=r"/joint_states is silent for 3e\+08 s at once; cut it there with \[episodes\]"
    ):
        make(joined(bags, joints)).describe()


def test_a_bag_cut_off_in_its_only_chunk_says_so(bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", "rosbag1", bags.arm(0.5))
    cut = tmp_path / "bag.bag.active"
    cut.write_bytes(bag.read_bytes()[: bag.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"two messages or more of a topic .* got it is cut off"):
        BagReader(cut).describe()


def test_a_trajectory_that_shall_start_later_says_nothing_of_clocks(bags: Any, make: Make) -> None:
    kind_of = type(bags.text(0, ""))
    points = [{"positions": [1.0], "time_from_start": {"sec": 1, "nanosec": 0}}]
    sent = [bags.joints(bags.start + k * STEP, ["a"], [k]) for k in range(500)]
    for second in (0, 1):
        time = bags.start + second * NS
        fields = {"header": bags.stamp(time + 2 * NS), "joint_names": ["a"], "points": points}
        sent.append(kind_of("/arm/trajectory", "trajectory_msgs/msg/JointTrajectory", time, fields))
    reader = make(sorted(sent, key=lambda one: one.log_time))
    assert not [note for note in reader.describe().notes if "clock" in note or "moment" in note]
    assert {topic.name: topic.clock for topic in reader.mapping.topic}["/joint_states"] == "header.stamp"


def map_joints(field: str = "position", axis: str = "a", topic: str = "/joint_states") -> Any:
    return parse_mapping(
        f'''
        period = 0.02
        action_source = "next_state"
        [[topic]]
        name = "{topic}"
        clock = "log"
        [[signal]]
        feature = "observation"
        topic = "{topic}"
        field = "{field}"
        axes = ["{axis}"]
        units = ["rad"]
        [[signal]]
        feature = "action"
        topic = "{topic}"
        field = "{field}"
        axes = ["{axis}"]
        units = ["rad"]
        ''',
        "map",
    )


@pytest.mark.parametrize(
    ("field", "axis", "topic", "named"),
    [
        (
            "positions",
            "a",
            "/joint_states",
            r"got no such field in sensor_msgs/msg/JointState; known are header, name, ",
        ),
        ("header.stam", "sec", "/joint_states", r"got no such field in .*; known are stamp, frame_id"),
        ("position", "z", "/joint_states", r"expected 'z' in position, got none in any message; known are a"),
        ("effort", "a", "/joint_states", r"got only its name, and no number but NaN, in all messages"),
        ("data", "0", "/commands", r"expected '0' in data, got no number but NaN, in all messages; leave it out"),
    ],
)
def test_what_a_mapping_names_and_nobody_sent_is_named(
    field: str, axis: str, topic: str, named: str, bags: Any, tmp_path: Path
) -> None:
    sent = [bags.joints(bags.start + k * STEP, ["a"], [k]) for k in range(50)]
    sent += [bags.array(bags.start + k * STEP, [np.nan]) for k in range(50)]
    path = bags.write(tmp_path / "bag", "plain", sorted(sent, key=lambda one: one.log_time))
    with pytest.raises(SourceError, match=named):
        BagReader(path, map_joints(field, axis, topic)).describe()


@pytest.mark.parametrize("kind", ["plain", "mcap", "sqlite", "rosbag1"])
@pytest.mark.parametrize("count", [100, 1000])
def test_a_recorder_whose_clock_was_set_back_is_said(kind: str, count: int, bags: Any, tmp_path: Path) -> None:
    """In one chunk, and in many."""
    sent = [bags.joints(bags.start + k * STEP, ["a"], [k], delay=-30 * NS * (k >= count // 2)) for k in range(count)]
    path = bags.write(tmp_path / "bag", kind, sent)
    reader = BagReader(path, map_joints())
    assert "the clock was set back by 29.99 s: no episode goes across" in " ".join(reader.describe().notes)
    first, second = (episode.arrays["observation"][:, 0] for episode in reader.episodes())
    # steps are 20 ms apart, messages 10 ms; the last one has no next state
    np.testing.assert_array_equal(first, np.arange(0, count // 2 - 2, 2))
    np.testing.assert_array_equal(second, np.arange(count // 2, count - 2, 2))


@pytest.mark.parametrize("kind", ["plain", "mcap", "sqlite", "rosbag1"])
@pytest.mark.parametrize("size", [3004, 504])
@pytest.mark.parametrize("clocks", ["both", "log"])
def test_a_clock_that_was_set_back_mixes_no_two_stretches(
    kind: str, size: int, clocks: str, bags: Any, tmp_path: Path
) -> None:
    """By ms, of the computer and so of stamps and recorder, or of the recorder alone; commands have no stamps."""
    sent = []
    for k in range(1000):
        back = size * 10**6 * (k >= 500)
        stamp = bags.start + k * STEP - back * (clocks == "both")
        sent.append(bags.joints(stamp, ["a", "b"], [k, -k], delay=bags.start + k * STEP - back - stamp))
        if k % 2 == 0:
            sent.append(bags.array(bags.start + k * STEP + STEP // 10 - back, [k, -k]))
    path = bags.write(tmp_path / "bag", kind, sent)
    stamped = """
period = 0.02
topic = [{name = "/joint_states", max_age = 0.05}, {name = "/commands", clock = "log"}]
signal = [
    {feature = "observation", topic = "/joint_states", field = "position", axes = ["a", "b"], units = ["", ""]},
    {feature = "action", topic = "/commands", field = "data", axes = ["x", "y"], units = ["", ""]},
]
"""
    readers = [BagReader(path)]
    if clocks == "both":
        readers.append(BagReader(path, parse_mapping(stamped, "map")))
    else:
        with pytest.raises(
            SourceError, match=r"topic /commands by .* s, and that of /joint_states by 0 s; give both clo"
        ):
            BagReader(path, parse_mapping(stamped, "map")).describe()
    for reader in readers:
        assert reader.mapping.period == 0.02
        assert any("the clock was set back by" in note for note in reader.describe().notes)
        first, second = reader.episodes()
        for episode in (first, second):
            observation, action = (episode.arrays[name] for name in ("observation", "action"))
            assert (np.diff(observation[:, 0]) == 2).all()
            np.testing.assert_array_equal(observation, action)
        assert first.length + second.length > 495


def test_stamps_that_go_on_are_worth_more_than_a_recorder_that_was_set_back(bags: Any, make: Make) -> None:
    sent = []
    for k in range(1000):
        delay = -3004 * 10**6 * (k >= 500)
        sent.append(bags.joints(bags.start + k * STEP, ["a"], [k], delay=delay))
        sent.append(bags.joints(bags.start + k * STEP, ["a"], [k], delay=delay, topic="/joint_command"))
    reader = make(sent)
    assert {topic.clock for topic in reader.mapping.topic} == {"header.stamp"}
    (episode,) = reader.episodes()
    np.testing.assert_array_equal(episode.arrays["observation"][:, 0], np.arange(1000))
    np.testing.assert_array_equal(episode.arrays["action"][:, 0], np.arange(1000))


def test_an_episode_between_marks_goes_on_behind_a_clock_that_was_set_back(bags: Any, make: Make) -> None:
    sent = []
    for k in range(600):
        time = bags.start + k * STEP - 2 * NS * (k >= 300)
        sent += [bags.joints(time, ["a"], [k]), bags.array(time, [k])]
        if k in (100, 500):
            sent.append(bags.text(time, {100: "start", 500: "stop"}[k]))
    first, second = (episode.arrays["observation"][:, 0] for episode in make(sent).episodes())
    assert (first[0], first[-1]) == (100, 299)
    assert (second[0], second[-1]) == (300, 499)


def test_a_stretch_without_one_of_the_topics_is_left_out(bags: Any, make: Make) -> None:
    """Nobody commands before the clock is set back, and nothing is measured behind the second step."""
    sent = []
    for k in range(900):
        time = bags.start + k * STEP - 2 * NS * (k // 300)
        sent += [bags.joints(time, ["a"], [k])] * (k < 600)
        sent += [bags.array(time, [k])] * (k >= 300)
    reader = make(sent)
    (episode,) = reader.episodes()
    np.testing.assert_array_equal(episode.arrays["observation"][:, 0], np.arange(300, 600))
    np.testing.assert_array_equal(episode.arrays["action"][:, 0], np.arange(300, 600))
    assert "segments without a complete observation are left out" in reader.describe().notes


def test_small_disorder_of_a_recorder_is_no_matter(bags: Any, tmp_path: Path) -> None:
    sent = [bags.joints(bags.start + k * STEP, ["a"], [k], delay=-2 * STEP * (k % 2)) for k in range(1000)]
    assert not any(
        "set back" in note
        for note in BagReader(bags.write(tmp_path / "bag", "plain", sent), map_joints()).describe().notes
    )


def test_an_unknown_compression_is_named_once(bags: Any, tmp_path: Path) -> None:
    path = bags.write(tmp_path / "bag", "plain-zstd", bags.arm())
    path.write_bytes(path.read_bytes().replace(b"\x04\0\0\0zstd", b"\x04\0\0\0brot"))
    with pytest.raises(SourceError, match="got a chunk with compression 'brot'; /") as error:
        BagReader(path).describe()
    assert str(error.value).count("brot") == 1


def test_the_reasons_of_a_loss_are_not_a_thousand() -> None:
    loss = Loss()
    for number in range(1000):
        loss.add(f"crc of chunk {number}")
    assert loss.reasons == [*(f"crc of chunk {number}" for number in range(5)), "and more of this kind"]


def test_a_file_that_the_metadata_do_not_name_is_said(bags: Any, tmp_path: Path) -> None:
    """As when a recorder that splits its bags was killed in the last one."""
    path = bags.write(tmp_path / "log", "mcap", bags.arm())
    (path / "log_1.mcap").write_bytes((path / "log.mcap").read_bytes())
    (path / "notes.mcap").write_bytes(b"of somebody else")
    (loss,) = BagReader(path).describe().losses
    assert "log_1.mcap is not in metadata.yaml and not read" in loss
    assert "notes" not in loss


def test_bags_beside_recordings_of_another_format_are_refused(bags: Any, tmp_path: Path) -> None:
    bags.write(tmp_path / "a", "plain", bags.arm())
    make_d4rl(tmp_path, record())
    (tmp_path / "readme.txt").write_text("hello")
    for read in (list_sources, lambda path: open_source(path, ReadOptions()).describe()):
        with pytest.raises(FormatError, match=r"expected a folder of bags alone, got play\.hdf5 too, an HDF5 file"):
            read(tmp_path)
    (tmp_path / "play.hdf5").unlink()
    assert list_sources(tmp_path) == [tmp_path / "a.mcap"]


def test_bags_of_a_folder_that_miss_their_file_say_so(bags: Any, tmp_path: Path) -> None:
    path = bags.write(tmp_path / "log", "mcap", bags.arm())
    (path / "log.mcap").unlink()
    with pytest.raises(SourceError, match=r"the metadata of a ROS 2 bag and its files, got none of log\.mcap; copy"):
        BagReader(path).describe()


def test_a_sub_folder_with_bags_and_a_bag_without_a_byte_are_refused(bags: Any, tmp_path: Path) -> None:
    bags.write(tmp_path / "a", "plain", bags.arm())
    (tmp_path / "more").mkdir()
    bags.write(tmp_path / "more" / "b", "plain", bags.arm())
    with pytest.raises(FormatError, match="got more too, a folder with bags of its own; name the bags, or put it"):
        list_sources(tmp_path)
    (tmp_path / "more" / "b.mcap").unlink()
    (tmp_path / "c.mcap.active").touch()
    with pytest.raises(FormatError, match=r"got c\.mcap\.active too, an empty file; remove it"):
        list_sources(tmp_path)


@pytest.mark.parametrize("ragged", [False, True])
def test_numbers_and_names_that_are_not_as_many_are_said(ragged: bool, bags: Any, make: Make) -> None:
    """A number without a name, and a name without a velocity, in messages of one length and of many."""
    names = [["a" * (1 + k % 40 * ragged), "b"] for k in range(100)]
    joints = [
        bags.joints(bags.start + k * STEP, [*names[k], "c"], [k, 1.0, 2.0, 3.0], velocity=[1.0, 2.0])
        for k in range(100)
    ]
    reader = make(joined(bags, [*joints, *(one._replace(topic="/more") for one in joints)]))
    text = """
period = 0.01
topic = [{name = "/joint_states"}, {name = "/commands", clock = "log"}]
signal = [
    {feature = "observation", topic = "/joint_states", field = "position", axes = ["b", "c"], units = ["rad", "rad"]},
    {feature="observation", topic = "/joint_states", field = "velocity", elements = ["b"], axes = ["v"], units = [""]},
    {feature = "action", topic = "/commands", field = "data", axes = ["x", "y"], units = ["", ""]},
]
"""
    notes = "; ".join(BagReader(reader._path, parse_mapping(text, "map")).describe().notes)
    assert "/joint_states: position has 4 numbers and 3 names in some messages; velocity has 2 numbers and 3 " in notes
    assert "/commands" not in notes


def test_commands_whose_length_changes_are_said(bags: Any, make: Make) -> None:
    joints = [bags.joints(bags.start + k * STEP, ["a"], [k], velocity=[1.0] * (k % 2)) for k in range(100)]
    commands = [bags.array(bags.start + k * STEP, [1.0, 2.0, 3.0][: 3 - k % 2]) for k in range(100)]
    notes = make(sorted(joints + commands, key=lambda one: one.log_time)).describe().notes
    assert any(
        "topic /commands: data has 2 to 3 numbers; what a message has none of keeps its last" in one for one in notes
    )
    assert not any("/joint_states" in note for note in notes)  # velocities that come now and then are usual


def test_joints_without_names_are_taken_by_number(bags: Any, make: Make) -> None:
    joints = [bags.joints(bags.start + k * STEP, [], [k, -k]) for k in range(100)]
    reader = make(joined(bags, joints))
    with pytest.raises(SourceError, match=r"its numbers have no names: a mapping can take them by elements = \['0'"):
        reader.describe()
    mapping = parse_mapping(
        """
period = 0.01
topic = [{name = "/joint_states"}, {name = "/commands", clock = "log"}]
signal = [
    {feature = "observation", topic = "/joint_states", field = "position", axes = ["b", "a"], elements = ["1", "0"],
     units = ["rad", "rad"]},
    {feature = "action", topic = "/commands", field = "data", axes = ["x", "y"], units = ["", ""]},
]
""".replace("\n     units", " units"),
        "map",
    )
    (episode,) = BagReader(reader._path, mapping).episodes()
    assert episode.arrays["observation"][:3].tolist() == [[0, 0], [-1, 1], [-2, 2]]


def test_a_clock_that_is_not_that_of_the_stamps_is_said(bags: Any, make: Make) -> None:
    joints = [
        bags.joints(bags.start + k * STEP + 3600 * NS * (k == 50), ["a"], [k], delay=-3600 * NS * (k == 50))
        for k in range(100)
    ]
    notes = make(joined(bags, joints)).describe().notes
    assert (
        "topic /joint_states: its stamps cannot be used (0 are 0, and they are set back by up to 3599.99 s): it goes"
        in notes[0]
    )


def test_a_single_command_is_named(bags: Any, make: Make) -> None:
    joints = [bags.joints(bags.start + k * STEP, ["a"], [k]) for k in range(100)]
    (question,) = make(joined(bags, joints, 1)).describe().questions
    assert question.startswith("expected a topic that commands, got none but /commands with a single message; draft")


def test_a_counter_is_no_axis_of_float32(bags: Any, make: Make) -> None:
    joints = [bags.joints(bags.start + k * STEP, ["a"], [1e12 + k]) for k in range(100)]
    reader = make(joined(bags, joints))
    with pytest.raises(
        SourceError, match=r"joint_states: expected numbers that float32 tells apart.*position, step \d+;"
    ):
        reader.describe()
    text = reader.write_mapping().replace('field = "position"', 'field = "position"\ndtype = "float64"')
    (episode,) = BagReader(reader._path, parse_mapping(text, "map")).episodes()
    assert np.diff(episode.arrays["observation"][:, 0]).tolist() == [1.0] * 99


def test_marks_that_nobody_knows_are_said(bags: Any, make: Make) -> None:
    joints = [bags.joints(bags.start + k * STEP, ["a"], [k]) for k in range(100)]
    marks = [bags.text(bags.start + k * 20 * STEP, word) for k, word in enumerate(["Los", "Halt"])]
    notes = make(sorted(joined(bags, joints) + marks, key=lambda one: one.log_time)).describe().notes
    assert any("topic /episode may mark episodes, with 'Los', 'Halt': none of them is known" in note for note in notes)


def test_messages_in_another_encoding_are_named(bags: Any, tmp_path: Path) -> None:
    with (tmp_path / "log.mcap").open("wb") as stream:
        writer = McapWriter(stream)
        writer.start()
        channel = writer.register_channel("/state", "json", writer.register_schema("State", "jsonschema", b"{}"))
        for k in range(3):
            writer.add_message(channel, bags.start + k, b'{"a": 1}', bags.start + k)
        writer.finish()
    with pytest.raises(
        SourceError, match=r"/state: State, 3 messages.*; cannot be decoded: its messages are in json, not"
    ):
        BagReader(tmp_path / "log.mcap").describe()


@pytest.mark.parametrize("count", [3, 100])
def test_the_name_of_a_robot_is_not_the_names_of_its_joints(count: int, bags: Any, tmp_path: Path) -> None:
    types = get_typestore(Stores.ROS2_HUMBLE)
    types.register(get_types_from_msg("string name\nfloat64[] q", "lab/msg/State"))
    sent = [Sent("/q", "lab/msg/State", bags.start + k * STEP, {"name": "r" * k, "q": [k, -k]}) for k in range(count)]
    mapping = parse_mapping(
        """
period = 0.01
action_source = "next_state"
topic = [{name = "/q", clock = "log"}]
signal = [
    {feature = "observation", topic = "/q", field = "q", axes = ["a", "b"], units = ["", ""]},
    {feature = "action", topic = "/q", field = "q", axes = ["a", "b"], units = ["", ""]},
]
""",
        "map",
    )
    reader = BagReader(bags.write(tmp_path / "bag", "mcap", sent, types), mapping)
    (episode,) = reader.episodes()
    assert episode.arrays["observation"].tolist() == [[k, -k] for k in range(count - 1)]
    assert not any("names" in note for note in reader.describe().notes)
