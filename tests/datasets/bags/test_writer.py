"""Episodes go out as bags that other programs open, and come back as the same store."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from supple.datasets import Episode, Feature, Schema, open_store, write_store
from supple.datasets.bags.reader import BagReader
from supple.datasets.bags.writer import BagWriter, write_bags, write_episode
from supple.datasets.schema import make_image_feature
from supple.errors import SpecError, StoreError
from supple.robots.spec import ArraySpec, Axis, RobotSpec

UNITS = ("rad", "m", "rad/s", "m/s", "N m", "N", "", "1", "kg")


def make_schema(dtype: str, units: list[str]) -> Schema:
    axes = tuple(f"axis {index}" for index in range(len(units)))
    return Schema(
        features=(
            Feature(
                name="observation", dtype=dtype, shape=(len(units),), units=tuple(units), role="observation", axes=axes
            ),
            Feature(name="action", dtype="float32", shape=(2,), units=("rad", ""), role="action", axes=("a", "b")),
            Feature(name="reward", dtype="float64", shape=(), units=("",), role="reward", axes=("reward",)),
            Feature(name="ids", dtype="uint64", shape=(2,), units=("", "rad"), role="other", axes=("i", "j")),
            Feature(name="flag", dtype="int8", shape=(), units=("",), role="state", axes=("flag",)),
        ),
        control_period=1 / 30,
    )


def make_episode(schema: Schema, rng: np.random.Generator, steps: int, terminated: bool) -> Episode:
    arrays = {}
    for feature in schema.features:
        shape = (steps, *feature.shape)
        kind = np.dtype(feature.dtype)
        if kind.kind == "f":
            arrays[feature.name] = (rng.normal(size=shape) * 10.0 ** rng.integers(-30, 30, shape)).astype(kind)
        else:
            info = np.iinfo(kind)
            arrays[feature.name] = rng.integers(info.min + 1, info.max, shape, dtype=kind)
    return Episode(arrays, terminated, not terminated)


@settings(max_examples=8, deadline=None)
@given(
    dtype=st.sampled_from(["float32", "float64"]),
    units=st.lists(st.sampled_from(UNITS), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_episode_comes_back_bit_for_bit(tmp_path_factory: Any, dtype: str, units: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = make_schema(dtype, units)
    episode = make_episode(schema, rng, int(rng.integers(1, 40)), bool(rng.integers(2)))
    path = tmp_path_factory.mktemp("bag") / "one.mcap"
    write_episode(path, episode, schema)
    reader = BagReader(path)
    spec = reader.describe()
    (found,) = reader.episodes()
    assert spec.schema == schema
    assert spec.losses == ()
    assert not [note for note in spec.notes if "checksum" in note]
    assert (found.terminated, found.truncated) == (episode.terminated, episode.truncated)
    for name, array in episode.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_a_store_comes_back_exactly(channels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    schema = make_schema("float32", ["rad", "rad/s", ""])
    if channels:
        schema = replace(schema, features=(make_image_feature("image", (9, 14, channels)), *schema.features))
    episodes = [make_episode(schema, rng, steps, steps == 5) for steps in (3, 5, 1)]
    write_store(tmp_path / "first", episodes, schema, {})
    assert write_bags(tmp_path / "bags", enumerate(episodes), schema) == 3
    reader = BagReader(tmp_path / "bags")
    write_store(tmp_path / "second", reader.episodes(), reader.describe().schema, {})
    assert open_store(tmp_path / "second").digest == open_store(tmp_path / "first").digest


def test_pictures_of_other_channels_are_no_message(tmp_path: Path) -> None:
    schema = make_schema("float32", ["rad"])
    schema = replace(schema, features=(*schema.features, make_image_feature("depth", (8, 8, 2))))
    with pytest.raises(SpecError, match="expected pictures of 1 or 3 channels, got 'depth' with 2"):
        BagWriter(tmp_path / "one.mcap", schema)


def test_numbers_of_entries_are_no_names_by_which_a_command_is_compared(tmp_path: Path) -> None:
    schema = make_schema("float32", ["kg", "kg"])  # both are entries of arrays, as the action's second axis is
    schema = replace(schema, features=(schema.features[0], replace(schema.features[1], units=("kg", "kg"))))
    steps = np.cumsum(np.random.default_rng(0).normal(size=(60, 2)), 0).astype(np.float32)
    episode = Episode({"observation": steps, "action": np.roll(steps, 9, 0)}, True, False)
    write_episode(tmp_path / "one.mcap", episode, schema)
    spec = BagReader(tmp_path / "one.mcap").describe()
    assert "lag_steps" not in spec.provenance["quality"][0]


def test_other_programs_open_it(tmp_path: Path) -> None:
    schema = make_schema("float32", ["rad", "rad", ""])
    episode = make_episode(schema, np.random.default_rng(0), 10, True)
    write_episode(tmp_path / "one.mcap", episode, schema)
    with AnyReader([tmp_path / "one.mcap"]) as reader:
        types = {one.topic: one.msgtype for one in reader.connections}
        first = next(
            reader.deserialize(raw, one.msgtype)
            for one, _, raw in reader.messages()
            if one.topic == "/observation/position"
        )
    assert types == {
        "/observation/position": "sensor_msgs/msg/JointState",
        "/observation/values": "std_msgs/msg/Float32MultiArray",
        "/action/position": "sensor_msgs/msg/JointState",
        "/action/values": "std_msgs/msg/Float32MultiArray",
        "/reward": "std_msgs/msg/Float64",
        "/ids": "std_msgs/msg/UInt64MultiArray",
        "/flag": "std_msgs/msg/Int8",
    }
    assert first.name == ["axis 0", "axis 1"]
    np.testing.assert_array_equal(first.position, episode.arrays["observation"][0, :2])
    with (tmp_path / "one.mcap").open("rb") as stream:
        assert sum(1 for _ in make_reader(stream, validate_crcs=True).iter_messages()) == 70


def test_a_flipped_bit_is_never_silent(tmp_path: Path) -> None:
    schema = make_schema("float32", ["rad", ""])
    episode = make_episode(schema, np.random.default_rng(0), 20, True)
    write_episode(tmp_path / "one.mcap", episode, schema)
    data, rng = (tmp_path / "one.mcap").read_bytes(), np.random.default_rng(1)
    silent = 0
    for place in rng.integers(0, len(data), 30):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "one.mcap").write_bytes(changed)
        reader = BagReader(tmp_path / "one.mcap")
        try:
            spec, found = reader.describe(), list(reader.episodes())
        except (StoreError, SpecError, ValueError):
            continue
        same = spec.schema == schema and len(found) == 1 and found[0].terminated
        same = same and all(np.array_equal(found[0].arrays[name], array) for name, array in episode.arrays.items())
        silent += not same and not spec.losses
    assert silent == 0


def test_a_killed_writer_leaves_what_it_wrote(tmp_path: Path) -> None:
    code = (
        "import os, sys, numpy as np; from supple.datasets import Feature, Schema\n"
        "from supple.datasets.bags.writer import BagWriter\n"
        "from supple.datasets.bags import writer\n"
        "writer._CHUNK_BYTES = 4096\n"
        "names = ('observation', 'action')\n"
        "features = [Feature(name=n, shape=(1,), units=('rad',), role=n, axes=('a',)) for n in names]\n"
        "bag = BagWriter(sys.argv[1], Schema(features=tuple(features), control_period=0.1))\n"
        "for k in range(200): bag.add({n: np.array([k], np.float32) for n in names})\n"
        "bag._stream.flush(); os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "run.mcap"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, env=dict(os.environ))
    assert done.returncode == -9
    reader = BagReader(path)
    spec = reader.describe()
    (episode,) = reader.episodes()
    assert spec.losses
    assert 100 < episode.length < 200
    assert (episode.terminated, episode.truncated) == (False, True)
    np.testing.assert_array_equal(episode.arrays["action"][:, 0], np.arange(episode.length))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    schema = make_schema("float32", ["rad"])
    step = {name: array[0] for name, array in make_episode(schema, np.random.default_rng(0), 1, True).arrays.items()}
    with BagWriter(tmp_path / "one.mcap", schema) as bag:
        with pytest.raises(SpecError, match=r"step 0: expected action as float32 \(2,\), got none"):
            bag.add({name: value for name, value in step.items() if name != "action"})
        with pytest.raises(SpecError, match=r"expected observation as float32 \(1,\), got float64 \(1,\)"):
            bag.add({**step, "observation": np.zeros(1)})
        bag.add(step)
    with pytest.raises(StoreError, match="expected nothing there yet"):
        BagWriter(tmp_path / "one.mcap", schema)
    without = Schema(features=schema.features)
    with pytest.raises(SpecError, match="expected a schema with a control period, got none"):
        BagWriter(tmp_path / "two.mcap", without)


def test_a_feature_can_have_a_topic_of_its_own(tmp_path: Path) -> None:
    schema = make_schema("float32", ["rad", "m/s"])
    episode = make_episode(schema, np.random.default_rng(0), 3, True)
    path = tmp_path / "named.mcap"
    write_episode(path, episode, schema, topics={"action": "/eval/demo/action", "observation": "/log/seen"})
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    topics = {channel.topic for channel in summary.channels.values()}
    assert {"/eval/demo/action/position", "/eval/demo/action/values", "/log/seen/position", "/flag"} <= topics
    assert not any(topic.startswith(("/action", "/observation")) for topic in topics)
    (found,) = BagReader(path).episodes()
    for name, array in episode.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


def test_a_bag_of_a_robot_that_nobody_named_takes_the_given_one(tmp_path: Path) -> None:
    """As the log of an adaptation, whose writer knows axes and units, and no limits."""
    axes = (Axis("q", "rad", -100.0, 100.0),)
    spec = RobotSpec(
        "joint", ArraySpec("observation", axes), ArraySpec("action", axes), ArraySpec("goal", axes), 0.1, 9
    )
    features = tuple(
        Feature(name=name, shape=(1,), units=("rad",), role=name, axes=("q",))  # type: ignore[arg-type]
        for name in ("observation", "action")
    )
    schema = Schema(features=features, control_period=0.1)
    arrays = {name: np.ones((4, 1), np.float32) for name in schema.names}
    write_episode(tmp_path / "joint.mcap", Episode(arrays, False, True), schema)
    assert BagReader(tmp_path / "joint.mcap").describe().schema.robot is None
    assert BagReader(tmp_path / "joint.mcap", spec=spec).describe().schema.robot == spec
    other = replace(spec, observation=ArraySpec("observation", (Axis("q", "m", -1.0, 1.0),)))
    with pytest.raises(SpecError, match="expected observation axes and units"):
        BagReader(tmp_path / "joint.mcap", spec=other).describe()
