"""A draft takes what is clear, and says or asks the rest. Joint `a` counts messages at 100 Hz."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from supple.datasets.bags.reader import BagReader
from supple.datasets.episode import ReadOptions
from supple.datasets.source_ingest import SourceIngest
from supple.errors import ConfigError
from tests.datasets.bags.conftest import Bags, Sent

MS = 10**6
NS = 10**9
Make = Callable[[list[Sent]], BagReader]


@pytest.fixture
def make(bags: Bags, tmp_path: Path) -> Make:
    """A reader of a bag of these messages, in the order of their log times."""

    def make(sent: list[Sent]) -> BagReader:
        path = tmp_path / f"bag-{len(list(tmp_path.iterdir()))}"
        return BagReader(bags.write(path, "mcap", sorted(sent, key=lambda one: one.log_time)))

    return make


def truth(bags: Bags, ms: int, value: bool, topic: str) -> Sent:
    return Sent(topic, "std_msgs/msg/Bool", bags.start + ms * MS, {"data": value})


def list_spans(reader: BagReader, bags: Bags) -> list[list[float]]:
    """First and last second of each episode."""
    return [((one.arrays["time"][[0, -1]] - bags.start) / NS).tolist() for one in reader.episodes()]


@pytest.mark.parametrize("topic", ["/industrial_io/vacuum_on", "/aruco_marker/visible", "/recordings_free"])
def test_a_part_of_a_word_marks_no_episodes(topic: str, bags: Bags, make: Make) -> None:
    reader = make(bags.arm(4.0) + [truth(bags, 200 * k, k % 4 > 1, topic) for k in range(20)])
    assert reader.describe().episodes == 1
    assert reader.describe().rows == 200
    assert topic in reader.describe().ignored


@pytest.mark.parametrize("topic", ["/episode_active", "/robot/isRecording", "/Trial", "/demo1/running"])
def test_a_mark_that_is_sent_again_and_again_starts_one_episode(topic: str, bags: Bags, make: Make) -> None:
    reader = make(bags.arm(4.0) + [truth(bags, 100 * k, 10 <= k < 30, topic) for k in range(40)])
    assert list_spans(reader, bags) == [[1.0, 2.98]]
    notes = reader.describe().notes
    assert any(note.startswith(f"topic {topic} marks episodes, by its name: 'true' starts one") for note in notes)
    assert f"by the marks of topic {topic}, 1.99 of 3.99 s are in no episode" in notes
    text = make(bags.arm(4.0) + [bags.text(bags.start + 500 * k * MS, ("stop", "start")[2 <= k < 6]) for k in range(8)])
    assert list_spans(text, bags) == [[1.0, 2.98]]


def test_a_mark_that_is_sent_once_counts(bags: Bags, make: Make) -> None:
    assert list_spans(make([*bags.arm(4.0), truth(bags, 3000, True, "/record")]), bags) == [[3.0, 3.98]]
    assert list_spans(make([*bags.arm(4.0), bags.text(bags.start + NS, "begin")]), bags) == [[1.0, 3.98]]
    never = make([*bags.arm(4.0), truth(bags, 3000, False, "/record")])
    assert list_spans(never, bags) == [[0.0, 3.98]]
    assert "topic /record may mark episodes, but never starts one: it is not used" in never.describe().notes


def test_what_is_sent_now_and_then_gives_no_period(bags: Bags, make: Make) -> None:
    joints = [one for one in bags.arm(10.0) if one.topic == "/joint_states"]
    joints += [bags.joints(bags.start + k * 20 * MS, ["a"], [k], topic="/arm/joint_command") for k in range(500)]
    joints += [bags.joints(bags.start + (1 + 3 * k) * NS, ["g"], [k], topic="/gripper/joint_command") for k in range(3)]
    reader = make(joints)
    assert reader.mapping.period == 0.02
    assert any("/gripper/joint_command comes now and then, with 3 messages" in one for one in reader.describe().notes)
    assert reader.describe().rows == 450  # the gripper is told to move after 1 s
    pose = {"pose": {"position": {"x": 1.0}, "orientation": {"w": 1.0}}}
    twice = [
        Sent("/target", "geometry_msgs/msg/PoseStamped", time, {"header": bags.stamp(time), **pose})
        for time in (bags.start + 100 * MS, bags.start + 5100 * MS)
    ]
    reader = make([*bags.arm(10.0), *twice])
    assert reader.mapping.period == 0.02
    assert reader.describe().episodes == 1
    rng = np.random.default_rng(0)
    times = bags.start + np.cumsum(rng.exponential(0.3, 30) * NS).astype(np.int64)
    events = [bags.joints(int(time), ["g"], [0.0], topic="/gripper/joint_command") for time in times]
    assert make(joints[:1500] + events).mapping.period == 0.02  # many, and at no rate


def test_each_joint_has_an_age_of_its_own(bags: Bags, make: Make) -> None:
    # an arm at 100 Hz and a gripper at 5 Hz share a topic
    reader = make(bags.arm(10.0) + [bags.joints(bags.start + (200 * k + 3) * MS, ["g"], [k]) for k in range(50)])
    spec = reader.describe()
    assert spec.episodes == 1
    assert {name: signal.max_age for signal in reader.mapping.signal for name in signal.axes} == {
        **dict.fromkeys(("a", "b", "a_velocity", "b_velocity", "command_0", "command_1")),
        "g": 1.0,
    }
    assert reader.mapping.clock("/joint_states").max_age == 0.1
    (note,) = (note for note in spec.notes if "less often" in note)
    assert note == (
        "topic /joint_states: g comes less often than its other axes, and is taken for the present for 1 s, not for "
        "0.1 s"
    )
    # velocities in one of 50 messages
    sent = [one for one in bags.arm(10.0) if one.topic != "/joint_states"]
    sent += [
        bags.joints(bags.start + 10 * k * MS, ["a"], [k], velocity=[k] if k % 50 == 0 else []) for k in range(1000)
    ]
    reader = make(sent)
    assert [(one.axes, one.max_age) for one in reader.mapping.signal[:2]] == [(("a",), None), (("a_velocity",), 2.5)]
    assert reader.describe().episodes == 1
    assert reader.describe().rows == 500


def test_the_axis_that_cuts_is_named(bags: Bags, make: Make) -> None:
    sent = [one for one in bags.arm(4.0) if one.topic != "/joint_states" or not NS < one.log_time - bags.start < 2 * NS]
    notes = make(sent).describe().notes
    assert any("are cut out, most of them for a of topic /joint_states" in note for note in notes)


def test_stamps_ahead_of_the_recorder_are_not_believed(bags: Bags, make: Make) -> None:
    commands = [one for one in bags.arm(4.0) if one.topic != "/joint_states"]
    ahead = [bags.joints(bags.start + (10 * k + 600) * MS, ["a"], [k], delay=-600 * MS) for k in range(400)]
    reader = make(commands + ahead)
    assert any(
        "/joint_states are 0.6 s ahead of the recorder's clock, unlike" in one for one in reader.describe().notes
    )
    (episode,) = reader.episodes()
    np.testing.assert_array_equal(episode.arrays["observation"][:, 0], episode.arrays["action"][:, 0])
    # a mapping that asks for the stamps gets them, and is told
    text = reader.write_mapping().replace('clock = "log"\nmax_age', 'clock = "header.stamp"\nmax_age')
    from supple.datasets.bags.mapping import parse_mapping

    notes = BagReader(reader._path, parse_mapping(text, "map")).describe().notes
    assert any(
        "/joint_states: its stamps are 0.6 s ahead of the recorder's clock, which cannot be" in one for one in notes
    )


def test_motion_before_its_command_is_said(bags: Bags, make: Make) -> None:
    def path(k: float) -> list[float]:
        return [float(np.sin(k / 30)), float(np.cos(k / 17))]

    sent = [bags.joints(bags.start + (10 * k - 300) * MS, ["a", "b"], path(k), delay=300 * MS) for k in range(1000)]
    sent += [bags.joints(bags.start + 20 * k * MS, ["a", "b"], path(2 * k), topic="/joint_command") for k in range(500)]
    notes = make(sent).describe().notes
    assert "in 1 of 1 episodes the motion comes before its command, by 15 steps: a clock or a latency is wrong" in notes


@pytest.mark.parametrize("kind", ["joints", "array", "trajectory"])
def test_commands_that_cannot_be_read_are_asked_for(kind: str, bags: Bags, make: Make) -> None:
    points = [{"positions": [1.0, 2.0], "time_from_start": {"sec": 1, "nanosec": 0}}]
    command: dict[str, Callable[[int], Sent]] = {
        "joints": lambda time: bags.joints(time, [], [1.0, 2.0], topic="/joint_command"),
        "array": lambda time: bags.array(time, []),
        "trajectory": lambda time: Sent(
            "/arm/trajectory", "trajectory_msgs/msg/JointTrajectory", time, {"header": bags.stamp(0), "points": points}
        ),
    }
    sent = [one for one in bags.arm(4.0) if one.topic == "/joint_states"]
    reader = make(sent + [command[kind](bags.start + 20 * k * MS) for k in range(200)])
    with pytest.raises(ConfigError, match=r"expected numbers with names in the topic that commands, got none in /"):
        SourceIngest(reader._path, ReadOptions(), None)
    assert reader.mapping.action_source == "next_state"


def test_one_stamp_that_was_never_set_does_not_cost_the_clock(bags: Bags, make: Make) -> None:
    sent = bags.arm(4.0)
    sent[0].fields["header"]["stamp"].update(sec=0, nanosec=0)
    reader = make(sent)
    assert reader.mapping.clock("/joint_states").clock == "header.stamp"
    assert "topic /joint_states: 1 messages have the stamp 0 and are left out" in reader.describe().notes
    for one in sent[::5]:
        if "header" in one.fields:
            one.fields["header"]["stamp"].update(sec=0, nanosec=0)
    reader = make(sent)
    assert reader.mapping.clock("/joint_states").clock == "log"
    assert not any("-0" in note for note in reader.describe().notes)


def test_more_joints_and_commands_in_a_later_bag_are_said(bags: Bags, tmp_path: Path) -> None:
    bags.write(tmp_path / "a", "plain", bags.arm())
    more = [
        one._replace(fields={**one.fields, "name": ["a", "b", "g"], "position": [1, 2, 3]})
        if one.topic == "/joint_states"
        else one._replace(fields={"data": [1.0, 2.0, 3.0]})
        for one in bags.arm()
    ]
    bags.write(tmp_path / "b", "plain", more)
    notes = BagReader(tmp_path).describe().notes
    assert [note.partition("; ")[0] for note in notes if "drafted from" in note] == [
        "b.mcap: topic /joint_states: g is not in the bag that the mapping was drafted from, and is left out",
        "b.mcap: topic /commands: data has 3 numbers, and 2 in the bag that the mapping was drafted from: the others "
        "are left out",
    ]
    alone = BagReader(tmp_path / "b.mcap", like=BagReader(tmp_path / "a.mcap").model)
    assert len([note for note in alone.describe().notes if "drafted from" in note]) == 2
