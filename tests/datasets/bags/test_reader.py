"""Bags become steps whose every number says from which message it is."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer as McapWriter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from supple.datasets import Reader, disk_arrays
from supple.datasets.bags import series
from supple.datasets.bags import stretch as stretch_module
from supple.datasets.bags.layout import LayoutError
from supple.datasets.bags.mapping import parse_mapping
from supple.datasets.bags.reader import BagReader
from supple.datasets.testing import ReaderContract
from supple.errors import ConfigError, SourceError
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from tests.datasets.bags.conftest import Sent

MAPPING = """
period = 0.02
[[topic]]
name = "/joint_states"
max_age = 0.05
[[topic]]
name = "/commands"
clock = "log"
[[signal]]
feature = "observation"
topic = "/joint_states"
field = "position"
axes = ["b", "a"]
units = ["rad", "m"]
[[signal]]
feature = "action"
topic = "/commands"
field = "data"
axes = ["a", "b"]
units = ["m", "rad"]
"""


@pytest.mark.parametrize("kind", ["rosbag1", "sqlite", "mcap", "plain-zstd"])
def test_an_unambiguous_bag_needs_no_mapping(kind: str, arm_bag: Any) -> None:
    reader = BagReader(arm_bag(kind))
    spec = reader.describe()
    (episode,) = reader.episodes()
    k = np.arange(100)
    assert spec.questions == ()
    assert spec.schema.control_period == 0.02
    assert spec.schema.feature("observation").axes == ("a", "b", "a_velocity", "b_velocity")
    np.testing.assert_array_equal(
        episode.arrays["observation"], np.stack([2 * k, 1000 + 2 * k, -2.0 * k, 0.5 + 0 * k], 1)
    )
    np.testing.assert_array_equal(episode.arrays["action"], np.stack([2 * k, 7 + 0 * k], 1))
    np.testing.assert_array_equal(episode.arrays["time"], 1_700_000_000 * 10**9 + k * 20_000_000)
    assert episode.arrays["valid"].all()
    assert not episode.arrays["age"].any()
    assert spec.provenance["mapping_drafted"] is True
    assert spec.provenance["quality"][0]["topics"]["/joint_states"]["rate"] == 100.0


def test_axes_are_taken_by_name_in_the_order_of_the_mapping(arm_bag: Any) -> None:
    reader = BagReader(arm_bag("plain"), parse_mapping(MAPPING, "map"))
    (episode,) = reader.episodes()
    k = np.arange(100)
    np.testing.assert_array_equal(episode.arrays["observation"], np.stack([1000 + 2 * k, 2 * k], 1))
    assert reader.describe().schema.feature("observation").units == ("rad", "m")


def test_saturation_is_at_the_limits_of_the_robot_and_unknown_without_one(arm_bag: Any) -> None:
    axes = {"a": Axis("a", "m", 0.0, 198.0), "b": Axis("b", "rad", -50.0, 50.0)}  # commands are a = 2 k, b = 7
    robot = RobotSpec(
        name="arm",
        observation=ArraySpec("observation", tuple(replace(axes[name], low=-np.inf, high=np.inf) for name in "ba")),
        action=ArraySpec("action", (axes["a"], axes["b"])),
        goal=ArraySpec("goal", (axes["a"],)),
        control_period=0.02,
        episode_steps=100,
    )
    path, mapping = arm_bag("plain"), parse_mapping(MAPPING, "map")
    (known,) = BagReader(path, mapping, robot).describe().provenance["quality"]
    assert known["saturation"] == 0.02
    (unknown,) = BagReader(path, mapping).describe().provenance["quality"]
    assert "saturation" not in unknown


class TestBagReader(ReaderContract):
    @pytest.fixture(autouse=True)
    def _bags(self, bags: Any) -> None:
        self.bags = bags

    def make_source(self, folder: Path) -> Path:
        (folder / "logs").mkdir()
        for name in ("one", "two"):
            self.bags.write(folder / "logs" / name, "plain", self.bags.arm(0.5))
        return folder / "logs"

    def make_reader(self, path: Path) -> Reader:
        return BagReader(path)


MakeReader = Any
NS = 10**9


@pytest.fixture
def make(bags: Any, tmp_path: Path) -> MakeReader:
    """A reader of a bag of these messages; `changes` are replaced in the mapping."""

    def make(sent: list[Any], mapping: str | None = MAPPING, *changes: tuple[str, str], types: Any = None) -> BagReader:
        bag = bags.write(tmp_path / f"bag-{len(list(tmp_path.iterdir()))}", "plain", sent, types)
        for old, new in changes:
            assert mapping is not None
            assert old in mapping
            mapping = mapping.replace(old, new)
        return BagReader(bag, None if mapping is None else parse_mapping(mapping, "map"))

    return make


def test_arm_and_gripper_may_share_a_topic_in_any_order(bags: Any, make: MakeReader) -> None:
    start, sent = bags.start, [bags.array(bags.start, [0.0, 0.0])]
    for k in range(20):
        order = ["a", "c"] if k % 2 else ["c", "a"]
        sent.append(bags.joints(start + k * 20_000_000, order, [k, -k] if k % 2 else [-k, k]))
        sent.append(bags.joints(start + k * 20_000_000, ["b"], [100 + k]))
    (episode,) = make(sent).episodes()
    k = np.arange(20)
    np.testing.assert_array_equal(episode.arrays["observation"], np.stack([100 + k, k], 1))


def test_an_axis_that_is_nowhere_is_named_with_those_that_are(bags: Any, make: MakeReader) -> None:
    with pytest.raises(SourceError, match=r"topic /joint_states: expected 'z' in position, got none .*known are a, b"):
        make(bags.arm(0.2), MAPPING, ('axes = ["b", "a"]', 'axes = ["b", "z"]')).describe()
    with pytest.raises(
        SourceError,
        match=r"topic /nothing: expected a topic of one type, got none of that name in the bag; choose among /com",
    ):
        make(bags.arm(0.2), MAPPING, ("/joint_states", "/nothing")).describe()
    with pytest.raises(SourceError, match=r"expected '2' in data, got none in any message; known are data \(0 to 1\)"):
        make(
            bags.arm(0.2),
            MAPPING,
            ('axes = ["a", "b"]\nunits = ["m", "rad"]', 'axes = ["q"]\nunits=[""]\nelements=["2"]'),
        ).describe()
    with pytest.raises(ConfigError, match=r"topic /commands: expected a time in header.stamp, got none in std_msgs"):
        make(bags.arm(0.2), MAPPING, ('clock = "log"', "")).describe()


def test_the_stated_clock_and_latency_place_a_message(bags: Any, make: MakeReader) -> None:
    # stamps 20 ms apart, recorded 1 s late: by the stamp both topics run together, by the recorder they do not
    start = bags.start
    sent = [bags.joints(start + k * 20_000_000, ["a", "b"], [k, k], delay=NS) for k in range(50)]
    sent += [bags.array(start + k * 20_000_000, [k, k]) for k in range(50)]
    (episode,) = make(sent).episodes()
    assert episode.length == 50
    np.testing.assert_array_equal(episode.arrays["observation"], episode.arrays["action"])
    (late,) = make(sent, MAPPING, ("max_age = 0.05", 'max_age = 0.05\nclock = "log"\nlatency = 0.9')).episodes()
    # 1.0 s late less 0.9 s of latency: five steps behind the commands
    np.testing.assert_array_equal(np.minimum(late.arrays["observation"][:, 0] + 5, 49), late.arrays["action"][:, 0])
    assert late.arrays["time"][0] == start + 100_000_000


def test_a_step_begins_when_its_command_has_come(bags: Any, make: MakeReader) -> None:
    # measurements 5 ms apart count 0, 1, ...; commands 20 ms apart come 9 ms after the first measurement
    start = bags.start
    sent = [bags.joints(start + k * 5_000_000, ["a", "b"], [k, k]) for k in range(200)]
    sent += [bags.array(start + 9_000_000 + k * 20_000_000, [k, k]) for k in range(50)]
    (episode,) = make(sorted(sent, key=lambda one: one.log_time)).episodes()
    assert 10 <= (episode.arrays["time"][0] - start) / 1e6 < 10.5
    np.testing.assert_array_equal(episode.arrays["action"][:, 0], np.arange(episode.length))
    np.testing.assert_array_equal(episode.arrays["observation"][:, 0], 2 + 4 * np.arange(episode.length))


def test_time_that_runs_back_is_sorted_and_reported(bags: Any, make: MakeReader) -> None:
    sent = bags.arm(0.5)
    times = [one.log_time for one in sent]
    sent[10], sent[20] = sent[20], sent[10]
    swapped = [one._replace(log_time=time) for one, time in zip(sent, times, strict=True)]
    spec = make(swapped).describe()
    assert any("/joint_states: time runs back at" in note for note in spec.notes)
    (episode,) = make(swapped).episodes()
    assert (np.diff(episode.arrays["observation"][:, 1]) > 0).all()
    back = [
        *bags.arm(0.5),
        *(one._replace(log_time=one.log_time + 11 * NS) for one in bags.arm(0.5, bags.start - 10 * NS)),
    ]
    with pytest.raises(
        SourceError, match=r"topic /joint_states by 11 s, and that of /commands by 0 s; give both clock = "
    ):
        make(back).describe()
    reader = make(back, MAPPING, ("max_age = 0.05", 'max_age = 0.05\nclock = "log"'))
    assert not any("set back" in note for note in reader.describe().notes)
    with_both = [
        *bags.arm(0.5),
        *bags.arm(0.5, bags.start - 10 * NS),
    ]
    for clock in ("", '\nclock = "log"'):  # by stamps as by the recorder's clock, which was set back with them
        reader = make(with_both, MAPPING, ("max_age = 0.05", f"max_age = 0.05{clock}"))
        assert any("the clock was set back by 10.49 s: no episode" in note for note in reader.describe().notes)
        for episode in reader.episodes():
            np.testing.assert_array_equal(episode.arrays["observation"][:, 1], 2 * np.arange(25))
            np.testing.assert_array_equal(episode.arrays["action"][:, 0], 2 * np.arange(25))
        assert reader.describe().episodes == 2


def test_messages_without_a_stamp_are_left_out_and_counted(bags: Any, make: MakeReader) -> None:
    sent = bags.arm(0.5)
    sent[5].fields["header"]["stamp"].update(sec=0, nanosec=0)
    assert any("1 messages have the stamp 0" in note for note in make(sent).describe().notes)
    for one in sent:
        if "header" in one.fields:
            one.fields["header"]["stamp"].update(sec=0, nanosec=0)
    with pytest.raises(SourceError, match="got 0 in all messages; use clock = 'log'"):
        make(sent).describe()


def test_a_gap_in_measurements_cuts_the_episode(bags: Any, make: MakeReader) -> None:
    sent = [one for one in bags.arm(2.0) if not bags.start + NS // 2 < one.log_time < bags.start + NS]
    first, second = make(sent).episodes()
    # the measurement of 0.50 s is held for 0.05 s
    assert first.arrays["time"][-1] == bags.start + NS // 2 + 40_000_000
    assert second.arrays["time"][0] == bags.start + NS
    (whole,) = make(sent, MAPPING, ("period = 0.02", 'period = 0.02\ninvalid = "keep"')).episodes()
    assert whole.length == 100
    assert whole.arrays["valid"].sum() == first.length + second.length
    assert whole.arrays["age"].max() == np.float32(0.48)
    by_gap = list(make(sent, MAPPING + '[episodes]\nby = "gap"\nmax_gap = 0.3\n').episodes())
    assert [episode.length for episode in by_gap] == [26, 50]


@pytest.mark.parametrize("kind", ["std_msgs/msg/Bool", "std_msgs/msg/String", "std_msgs/msg/Int32"])
def test_markers_begin_and_end_episodes(kind: str, bags: Any, make: MakeReader) -> None:
    words = {"Bool": (True, False), "String": ("start", "stop"), "Int32": (1, 0)}[kind.rpartition("/")[2]]
    sent = bags.arm(2.0)
    kind_of = type(sent[0])
    for second, word in ((0.1, 0), (0.5, 1), (0.8, 0), (1.0, 0), (1.2, 1), (1.5, 1)):
        sent.append(kind_of("/episode", kind, bags.start + round(second * NS), {"data": words[word]}))
    start, stop = (str(word).lower() for word in words)
    rule = f'[episodes]\nby = "marker"\ntopic = "/episode"\nstart = "{start}"\nstop = "{stop}"\n'
    reader = make(sorted(sent, key=lambda one: one.log_time), MAPPING + rule)
    # the second start at 1.0 s repeats the first
    times = [(e.arrays["time"][[0, -1]] - bags.start) / NS for e in reader.episodes()]
    np.testing.assert_allclose(times, [[0.1, 0.48], [0.8, 1.18]])
    assert "by the marks of topic /episode, 1.19 of 1.99 s are in no episode" in reader.describe().notes
    rule = rule.replace(f'"{stop}"', '""')  # without a word that stops, each start begins an episode
    reader = make(sorted(sent, key=lambda one: one.log_time), MAPPING + rule)
    times = [(e.arrays["time"][[0, -1]] - bags.start) / NS for e in reader.episodes()]
    np.testing.assert_allclose(times, [[0.1, 0.78], [0.8, 0.98], [1.0, 1.98]])


def test_a_table_of_times_cuts_episodes(bags: Any, make: MakeReader) -> None:
    reader = make(bags.arm(2.0), MAPPING + '[episodes]\nby = "table"\ntable = [[0.5, 0.7], [1.0, 1.1]]\n')
    assert [episode.length for episode in reader.episodes()] == [11, 6]


def test_a_table_counts_from_the_first_message_of_all_topics(bags: Any, make: MakeReader) -> None:
    sent = [one for one in bags.arm(2.0) if one.topic == "/commands" or one.log_time >= bags.start + NS // 2]
    reader = make(sent, MAPPING + '[episodes]\nby = "table"\ntable = [[1.0, 1.2]]\n')
    (episode,) = reader.episodes()
    np.testing.assert_array_equal(episode.arrays["time"][[0, -1]] - bags.start, [NS, NS + NS // 5])


@pytest.mark.parametrize("invalid", ["cut", "keep"])
def test_a_command_from_before_a_cut_is_not_known_behind_it(invalid: str, bags: Any, make: MakeReader) -> None:
    # the recorder pauses from 1 to 3 s, and commands come again at 3.5 s
    sent = [
        one
        for one in bags.arm(5.0)
        if not NS <= one.log_time - bags.start < (3.5 if one.topic == "/commands" else 3.0) * NS
    ]
    reader = make(sent, MAPPING, ("period = 0.02", f'period = 0.02\ninvalid = "{invalid}"'))
    valid = np.concatenate([one.arrays["valid"] for one in reader.episodes()]) > 0
    time, action, observation = (
        np.concatenate([one.arrays[name] for one in reader.episodes()])[valid]
        for name in ("time", "action", "observation")
    )
    seconds = (time - bags.start) / NS
    assert not ((seconds > 1.05) & (seconds < 3.5)).any()
    assert {3.5, 4.98} <= set(seconds.tolist())
    late = seconds >= 1.0  # the last measurement and command are held for 0.05 s
    np.testing.assert_array_equal(action[~late | (seconds > 3), 0], observation[~late | (seconds > 3), 1])


def test_the_angles_of_an_episode_begin_within_one_turn(bags: Any, make: MakeReader) -> None:
    # a turn in 2 s, and an episode for each of five turns, which begin and end alike
    sent = []
    for k in range(500):
        time, angle = bags.start + k * 20_000_000, np.pi * k * 0.02
        turn = {"z": np.sin(angle / 2), "w": np.cos(angle / 2)}
        pose = {"pose": {"position": {"x": k % 100}, "orientation": turn}}
        sent.append(Sent("/odom", "nav_msgs/msg/Odometry", time, {"header": bags.stamp(time), "pose": pose}))
        sent.append(Sent("/cmd_vel", "geometry_msgs/msg/Twist", time, {"linear": {"x": 1.0}}))
        if k % 100 in (0, 99):
            sent.append(Sent("/episode", "std_msgs/msg/Bool", time, {"data": k % 100 == 0}))
    reader = make(sent, None)
    column = reader.describe().schema.feature("observation").axes.index("yaw")
    for episode in reader.episodes():
        yaw = episode.arrays["observation"][:, column]
        np.testing.assert_allclose(yaw, np.pi * 0.02 * np.arange(len(yaw)), atol=1e-4)
    # the state that a step leads to is beside the step, beyond pi as well
    text = (
        reader.write_mapping()
        .replace("action_source", "#")
        .replace("period =", 'action_source = "next_state"\nperiod =')
    )
    text = text[: text.index('[[signal]]\nfeature = "action"')].replace(
        '[[topic]]\nname = "/cmd_vel"\nclock = "log"\n', ""
    )
    text += """[[signal]]
feature = "action"
topic = "/odom"
field = "pose.pose.orientation"
axes = ["turned"]
elements = ["yaw"]
units = ["rad"]
"""
    (*_, last) = BagReader(reader._path, parse_mapping(text, "map")).episodes()
    yaw, turned = last.arrays["observation"][:, column], last.arrays["action"][:, 0]
    np.testing.assert_array_equal(yaw[1:], turned[:-1])


def test_actions_of_a_log_without_commands(bags: Any, make: MakeReader) -> None:
    sent = [one for one in bags.arm(1.0) if one.topic == "/joint_states"]
    taught = MAPPING.replace('[[topic]]\nname = "/commands"\nclock = "log"\n', "").replace("/commands", "/joint_states")
    taught = taught.replace('field = "data"', 'field = "position"')
    (episode,) = make(sent, taught, ("period = 0.02", 'period = 0.02\naction_source = "next_state"')).episodes()
    observation, action = (episode.arrays[name] for name in ("observation", "action"))
    np.testing.assert_array_equal(action[:-1], observation[1:, ::-1])
    (episode,) = make(sent, taught, ("period = 0.02", 'period = 0.02\naction_source = "delta"')).episodes()
    np.testing.assert_array_equal(episode.arrays["action"], np.full((episode.length, 2), 2.0))


def test_a_base_stops_when_its_commands_do(bags: Any, make: MakeReader) -> None:
    kind_of = type(bags.text(0, ""))
    sent = []
    for k in range(150):
        time = bags.start + k * 20_000_000
        turn = 0.1 * k
        pose = {"pose": {"position": {"x": k}, "orientation": {"z": np.sin(turn / 2), "w": np.cos(turn / 2)}}}
        twist = {"twist": {"linear": {"x": 1.0}}}
        sent.append(
            kind_of("/odom", "nav_msgs/msg/Odometry", time, {"header": bags.stamp(time), "pose": pose, "twist": twist})
        )
        if k < 50:
            sent.append(
                kind_of("/cmd_vel", "geometry_msgs/msg/Twist", time, {"linear": {"x": 1.0 + k}, "angular": {"z": -k}})
            )
    reader = make(sent, None)
    (episode,) = reader.episodes()
    schema = reader.describe().schema
    assert schema.feature("action").axes == ("linear_x", "linear_y", "angular_z")
    assert schema.feature("action").units == ("m/s", "m/s", "rad/s")
    action = episode.arrays["action"]
    np.testing.assert_array_equal(action[:50, 0], 1 + np.arange(50))
    assert (action[50:74, 0] == 50).all()  # the last command is followed for 0.5 s
    assert (action[75:] == 0).all()
    yaw = episode.arrays["observation"][:, schema.feature("observation").axes.index("yaw")]
    np.testing.assert_allclose(yaw, 0.1 * np.arange(150), atol=1e-4)  # unwrapped


def test_a_trajectory_is_its_set_point(bags: Any, make: MakeReader) -> None:
    kind_of = type(bags.text(0, ""))

    def trajectory(time: int, points: list[tuple[float, float]], stamp: int = 0) -> Any:
        rows = [
            {"positions": [value, -value], "time_from_start": {"sec": int(t), "nanosec": round(t % 1 * NS)}}
            for t, value in points
        ]
        return kind_of(
            "/arm/joint_trajectory",
            "trajectory_msgs/msg/JointTrajectory",
            time,
            {"header": bags.stamp(stamp), "joint_names": ["b", "a"], "points": rows},
        )

    start = bags.start
    sent = [one for one in bags.arm(2.0) if one.topic == "/joint_states"]
    sent += [trajectory(start, [(0.0, 0.0), (1.0, 1.0)]), trajectory(start + NS // 2, [(0.5, 1.5)])]
    (episode,) = make(sent, None).episodes()
    t = 0.01 * np.arange(episode.length)
    # from 0 to 0.5 along the first line, then from there to 1.5 at 1.0 s, then held
    expected = np.interp(t, [0, 0.5, 1.0, 2.0], [0, 0.5, 1.5, 1.5])
    np.testing.assert_allclose(episode.arrays["action"], np.stack([expected, -expected], 1), atol=1e-6)


def test_a_trajectory_whose_points_run_back_is_left_out_and_counted(bags: Any, make: MakeReader) -> None:
    def trajectory(time: int, seconds: tuple[int, int], value: float) -> Any:
        points = [{"positions": [value, value], "time_from_start": {"sec": one, "nanosec": 0}} for one in seconds]
        fields = {"header": bags.stamp(0), "joint_names": ["a", "b"], "points": points}
        return type(bags.text(0, ""))("/arm/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", time, fields)

    sent = [one for one in bags.arm(2.0) if one.topic == "/joint_states"]
    sent += [trajectory(bags.start, (0, 1), 3.0), trajectory(bags.start + NS // 2, (1, 0), 9.0)]
    reader = make(sent, None)
    (episode,) = reader.episodes()
    assert (episode.arrays["action"] == 3.0).all()
    (loss,) = reader.describe().losses
    assert "1 messages of /arm/joint_trajectory" in loss


def test_long_episodes_by_gaps_and_late_stamps_are_those_of_short_ones(
    bags: Any, make: MakeReader, monkeypatch: Any
) -> None:
    sent = [one for one in bags.arm(3.0) if not bags.start + NS < one.log_time < bags.start + 2 * NS]
    mapping = MAPPING.replace("max_age = 0.05", "max_age = 0.05\nlatency = 0.003")
    mapping += '[episodes]\nby = "gap"\nmax_gap = 0.5\n'
    usual = list(make(sent, mapping).episodes())
    assert len(usual) == 2
    monkeypatch.setattr(disk_arrays, "SPILL_BYTES", 100)
    monkeypatch.setattr(disk_arrays, "BLOCK_ROWS", 7)
    monkeypatch.setattr(stretch_module, "BLOCK_STEPS", 7)
    for first, second in zip(usual, make(sent, mapping).episodes(), strict=True):
        for name, array in first.arrays.items():
            np.testing.assert_array_equal(array, second.arrays[name])


def test_custom_types_come_from_the_bag(bags: Any, make: MakeReader) -> None:
    types = get_typestore(Stores.ROS2_HUMBLE)
    types.register(
        get_types_from_msg(
            "std_msgs/Header header\nstring[] joint_names\nfloat32[] torque\nint64 count\n", "acme/msg/Drive"
        )
    )
    kind_of = type(bags.text(0, ""))
    sent = bags.arm(0.5)
    for k in range(50):
        time = bags.start + k * 10_000_000
        fields = {"header": bags.stamp(time), "joint_names": ["b", "a"], "torque": [k, -k], "count": 2**53 + 1 + k}
        sent.append(kind_of("/drive", "acme/msg/Drive", time, fields))
    mapping = (
        MAPPING
        + """
[[topic]]
name = "/drive"
[[signal]]
feature = "torque"
topic = "/drive"
field = "torque"
axes = ["a", "b"]
units = ["N m", "N m"]
dtype = "float64"
[[signal]]
feature = "counter"
topic = "/drive"
field = "count"
axes = ["counter"]
units = [""]
dtype = "int64"
scalar = true
"""
    )
    (episode,) = make(sorted(sent, key=lambda one: one.log_time), mapping, types=types).episodes()
    k = 2 * np.arange(25)
    np.testing.assert_array_equal(episode.arrays["torque"], np.stack([-k, k], 1))
    np.testing.assert_array_equal(episode.arrays["counter"], 2**53 + 1 + k)  # no float64 holds these


def test_an_unknown_type_matters_only_where_it_is_wanted(bags: Any, tmp_path: Path) -> None:
    sent = bags.arm(0.5)
    with (tmp_path / "log.mcap").open("wb") as stream:
        writer = McapWriter(stream)
        writer.start("ros2", "test")
        schemas = [
            writer.register_schema("acme/msg/Secret", "ros2msg", b""),
            writer.register_schema("P", "protobuf", b"x"),
        ]
        strange = [
            writer.register_channel("/secret", "cdr", schemas[0]),
            writer.register_channel("/p", "protobuf", schemas[1]),
        ]
        channels: dict[str, int] = {}
        for one in sent:
            if one.topic not in channels:
                text = bags.ros2.generate_msgdef(one.type, ros_version=2)[0]
                schema = writer.register_schema(one.type, "ros2msg", text.encode())
                channels[one.topic] = writer.register_channel(one.topic, "cdr", schema)
            data = bytes(bags.ros2.serialize_cdr(bags.make(bags.ros2, one.type, one.fields), one.type))
            writer.add_message(channels[one.topic], one.log_time, data, one.log_time)
            for channel in strange:
                writer.add_message(channel, one.log_time, b"\x00\x01", one.log_time)
        writer.finish()
    spec = BagReader(tmp_path / "log.mcap").describe()
    assert spec.rows == 25
    assert spec.losses == ()
    assert {"/secret", "/p"} <= set(spec.ignored)
    for topic, message in (
        ("/secret", "got an empty schema"),
        ("/p", "expected messages in cdr or ros1, got 'protobuf'"),
    ):
        mapping = parse_mapping(MAPPING.replace("/joint_states", topic), "map")
        with pytest.raises(SourceError, match=f"topic {topic}: .*{message}"):
            BagReader(tmp_path / "log.mcap", mapping).describe()


@pytest.mark.parametrize(
    ("extra", "question"),
    [
        (
            "/other_commands",
            r"expected one topic that commands, got /commands, /other_commands; keep in --mapping the one",
        ),
        ("/joint_states_2", r"expected one source of joint a, got /joint_states and /joint_states_2; keep one"),
        ("", r"expected a topic that commands, got none; draft a mapping, and keep action_source = 'next_state'"),
    ],
)
def test_what_is_ambiguous_is_asked(extra: str, question: str, bags: Any, make: MakeReader) -> None:
    sent = bags.arm(0.5)
    if not extra:
        sent = [one for one in sent if one.topic == "/joint_states"]
    copied = {"/other_commands": "/commands", "/joint_states_2": "/joint_states"}.get(extra)
    sent += [one._replace(topic=extra) for one in sent if one.topic == copied]
    (asked, *_) = make(sent, None).describe().questions
    assert re.search(question, asked)


def test_slow_and_fast_decoding_agree(bags: Any, make: MakeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    (fast,) = make(bags.arm(0.5)).episodes()
    monkeypatch.setattr(series, "Layout", _refuse)
    (slow,) = make(bags.arm(0.5)).episodes()
    for name, array in fast.arrays.items():
        np.testing.assert_array_equal(array, slow.arrays[name])


def _refuse(*_: Any) -> None:
    raise LayoutError("none")


def test_long_columns_wait_on_the_disk_and_blocks_of_steps_join(bags: Any, make: MakeReader, monkeypatch: Any) -> None:
    (usual,) = make(bags.arm(1.0)).episodes()
    monkeypatch.setattr(disk_arrays, "SPILL_BYTES", 100)
    monkeypatch.setattr(series, "BLOCK_MESSAGES", 7)
    monkeypatch.setattr(stretch_module, "BLOCK_STEPS", 3)
    (small,) = make(bags.arm(1.0)).episodes()
    for name, array in usual.arrays.items():
        np.testing.assert_array_equal(array, small.arrays[name])
