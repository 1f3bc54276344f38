import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.datasets import Episode, EpisodeStore, Feature, Schema, open_store, publish, verify_store, write_store
from supple.datasets.deep_verify import verify_deeply
from supple.datasets.episode import Reader, ReadOptions
from supple.datasets.evolve import Addition, appending, merging, splitting
from supple.datasets.manifest import MANIFEST_NAME, FileEntry, Manifest, hash_file, list_files
from supple.datasets.parts import Part, count_repeats, list_parts
from supple.datasets.store_source import StoreReader, read_episodes
from supple.datasets.testing import ReaderContract
from supple.errors import SourceError, SpecError, StoreError, SuppleError
from supple.robots.spec import ArraySpec, Axis, RobotSpec

ROBOT = RobotSpec(
    name="arm",
    observation=ArraySpec("observation", (Axis("base", "rad", -3.0, 3.0), Axis("elbow", "rad", 0.0, 2.0))),
    action=ArraySpec("action", (Axis("base", "rad/s", -1.0, 1.0),)),
    goal=ArraySpec("goal", (Axis("x", "m", 0.0, 1.0),)),
    control_period=0.05,
    episode_steps=100,
)
FEATURES = (
    Feature(name="observation", shape=(2,), units=("rad", "rad"), role="observation", axes=("base", "elbow")),
    Feature(name="action", shape=(1,), units=("rad/s",), role="action", axes=("base",)),
    Feature(name="time", dtype="int64", shape=(), units=("ns",), role="other", axes=("time",)),
)
SCHEMA = Schema(features=FEATURES, control_period=0.05, robot=ROBOT)


def make_episode(number: int, length: int = 6, *, terminated: bool = False) -> Episode:
    """The action of episode n is n / 100 in every step, so that a wrong episode shows."""
    step = np.arange(length, dtype=np.float32) / 3
    return Episode(
        {
            "observation": np.stack([0.01 * step, 1 + 0.01 * step], axis=1),
            "action": np.full((length, 1), number / 100, np.float32),
            "time": 1_000_000_000 * (number + 1) + 50_000_000 * np.arange(length, dtype=np.int64),
        },
        terminated,
        not terminated,
    )


def make_store(path: Path, numbers: range, sha256: str, schema: Schema = SCHEMA) -> EpisodeStore:
    episodes = [make_episode(number, 4 + number % 3, terminated=number % 2 == 0) for number in numbers]
    return write_store(path, episodes, schema, {"format": "test", "sha256": sha256})


def numbers_of(store: EpisodeStore) -> list[int]:
    return [round(100 * float(episode.arrays["action"][0, 0])) for episode in read_episodes(store)]


def add(path: Path, *others: Path, out: Path | None = None) -> None:
    readers = [StoreReader(other, ReadOptions()) for other in others]
    found = [Addition(str(reader._path), reader.describe(), reader.episodes()) for reader in readers]
    list(appending(path, found, out=out))


class TestStoreReader(ReaderContract):
    def make_source(self, folder: Path) -> Path:
        make_store(folder / "source", range(3), "a" * 64)
        return folder / "source"

    def make_reader(self, path: Path) -> Reader:
        return StoreReader(path, ReadOptions())


def test_append_keeps_rows_flags_and_the_origin_of_each_part(tmp_path: Path) -> None:
    first = make_store(tmp_path / "a", range(3), "a" * 64)
    second = make_store(tmp_path / "b", range(3, 5), "b" * 64)
    before = first.load("time")
    add(tmp_path / "a", tmp_path / "b", tmp_path / "b")
    store = open_store(tmp_path / "a")
    assert numbers_of(store) == [0, 1, 2, 3, 4, 3, 4]
    assert store.episodes.terminated.tolist() == [True, False, True, False, True, False, True]
    np.testing.assert_array_equal(store.episodes.truncated, ~store.episodes.terminated)
    np.testing.assert_array_equal(store.load("time")[: first.rows], before)
    parts = list_parts(store)
    assert [(part.store, part.source["sha256"][0], part.taken) for part in parts] == [
        (first.digest, "a", ((0, 3),)),
        (second.digest, "b", ((0, 2),)),
        (second.digest, "b", ((0, 2),)),
    ]
    assert [entry["episodes"] for entry in store.provenance["parts"]] == [[0, 3], [3, 5], [5, 7]]
    with pytest.raises(StoreError, match="open the store again"):
        first.load("time")
    assert not list(tmp_path.glob("*.partial-*"))


def test_append_to_another_folder_leaves_the_store(tmp_path: Path) -> None:
    digest = make_store(tmp_path / "a", range(2), "a" * 64).digest
    add(tmp_path / "a", tmp_path / "a", out=tmp_path / "c")
    assert open_store(tmp_path / "a").digest == digest
    assert numbers_of(open_store(tmp_path / "c")) == [0, 1, 0, 1]


def test_the_digest_says_what_is_in_it_and_not_how_it_came_there(tmp_path: Path) -> None:
    for name, numbers in {"a": range(2), "b": range(2, 4), "c": range(2)}.items():
        make_store(tmp_path / name, numbers, name[0].replace("c", "a") * 64)
    list(merging([tmp_path / "a", tmp_path / "b"], tmp_path / "merged"))
    add(tmp_path / "c", tmp_path / "b")
    assert open_store(tmp_path / "merged").digest == open_store(tmp_path / "c").digest


def test_episodes_that_come_twice_are_counted() -> None:
    once = Part(taken=((0, 3),), store="a", source={"sha256": "x"})
    again = Part(taken=((2, 4),), store=None, source={"sha256": "x"})
    other = Part(taken=((0, 3),), store="a", source={"sha256": "y"})
    unknown = Part(taken=((0, 3),), store=None, source={})
    assert count_repeats([once, other, unknown, unknown]) == 0
    assert count_repeats([once, again]) == 1  # episode 2
    assert count_repeats([once, once, again]) == 4
    assert count_repeats([Part(taken=((0, 2), (1, 2)), store="a", source={})]) == 1


def test_split_takes_whole_episodes_and_says_which(tmp_path: Path) -> None:
    make_store(tmp_path / "a", range(4), "a" * 64)
    make_store(tmp_path / "b", range(4, 8), "b" * 64)
    list(merging([tmp_path / "a", tmp_path / "b"], tmp_path / "all"))
    list(splitting(tmp_path / "all", tmp_path / "out", {"x": [0, 1, 3, 5, 6], "y": [7, 2]}))
    one, two = open_store(tmp_path / "out" / "x"), open_store(tmp_path / "out" / "y")
    assert numbers_of(one) == [0, 1, 3, 5, 6]
    assert numbers_of(two) == [7, 2]
    assert [(part.source["sha256"][0], part.taken) for part in list_parts(one)] == [
        ("a", ((0, 2), (3, 4))),
        ("b", ((1, 3),)),
    ]
    assert [(part.source["sha256"][0], part.taken) for part in list_parts(two)] == [("b", ((3, 4),)), ("a", ((2, 3),))]
    with pytest.raises(SpecError, match="expected episodes from 0 to 7 for z, got 8"):
        list(splitting(tmp_path / "all", tmp_path / "more", {"x": [1], "z": [8]}))
    assert not (tmp_path / "more").exists()


def change_axis(**changes: Any) -> Schema:
    """The schema of a robot whose first observation axis is another."""
    axes = (replace(ROBOT.observation.axes[0], **changes), ROBOT.observation.axes[1])
    robot = replace(ROBOT, observation=ArraySpec("observation", axes))
    feature = replace(FEATURES[0], axes=tuple(axis.name for axis in axes), units=tuple(axis.unit for axis in axes))
    return Schema(features=(feature, *FEATURES[1:]), control_period=0.05, robot=robot)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (replace(SCHEMA, robot=replace(ROBOT, name="leg")), "expected data of robot 'arm', got data of robot 'leg'"),
        (replace(SCHEMA, robot=None), "expected data of robot 'arm', got data of a robot that nobody named"),
        (change_axis(name="foot"), r"expected observation axes \['base', 'elbow'\], got \['foot', 'elbow'\]"),
        (change_axis(unit="deg"), "expected observation axis 'base' in 'rad', got 'deg'"),
        (change_axis(high=2.0), "expected observation axis 'base' with high 3.0 rad, got 2.0"),
        (change_axis(rate_limit=9.0), "expected observation axis 'base' with rate_limit None rad/s, got 9.0"),
        (
            replace(SCHEMA, control_period=0.1, robot=replace(ROBOT, control_period=0.1)),
            "expected control_period 0.05 s, got 0.1 s",
        ),
        (
            replace(SCHEMA, features=(*FEATURES[:2], replace(FEATURES[2], units=("s",)))),
            "expected time axis 'time' in 'ns', got 's'",
        ),
        (
            replace(SCHEMA, features=(*FEATURES, replace(FEATURES[2], name="stamp"))),
            "expected the features observation, action, time, got observation, action, time, stamp",
        ),
    ],
)
def test_other_data_are_refused_by_name(schema: Schema, message: str, tmp_path: Path) -> None:
    digest = make_store(tmp_path / "a", range(2), "a" * 64).digest
    episodes = [make_episode(1)]
    if "stamp" in schema.names:
        episodes = [Episode({**episodes[0].arrays, "stamp": episodes[0].arrays["time"]}, False, True)]
    write_store(tmp_path / "b", episodes, schema, {})
    with pytest.raises(SpecError, match=message):
        add(tmp_path / "a", tmp_path / "b")
    with pytest.raises(SpecError, match=message):
        list(merging([tmp_path / "a", tmp_path / "b"], tmp_path / "c"))
    assert open_store(tmp_path / "a").digest == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_nobodys_robot_is_not_mixed_with_a_named_one(tmp_path: Path) -> None:
    make_store(tmp_path / "a", range(2), "a" * 64, replace(SCHEMA, robot=None))
    make_store(tmp_path / "b", range(2), "b" * 64)
    with pytest.raises(SpecError, match="expected data of a robot that nobody named, got data of robot 'arm'"):
        add(tmp_path / "a", tmp_path / "b")
    make_store(tmp_path / "c", range(2), "b" * 64, Schema(features=FEATURES, control_period=0.1))
    with pytest.raises(SpecError, match=r"expected a step each 0\.05 s, got one each 0\.1 s"):
        add(tmp_path / "a", tmp_path / "c")


def test_a_source_that_fails_on_the_way_changes_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", range(2), "a" * 64)
    source = StoreReader(tmp_path / "a", ReadOptions()).describe()

    def episodes() -> Iterator[Episode]:
        yield make_episode(7)
        raise SourceError("here: expected more, got none; look")

    with pytest.raises(SourceError):
        list(appending(tmp_path / "a", [Addition("here", source, episodes())]))
    assert open_store(tmp_path / "a").digest == store.digest
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_killed_at_every_sync_and_rename(tmp_path: Path) -> None:
    """SIGKILL at each of them: the store is the old one or the new one, and the next append goes on."""
    old = make_store(tmp_path / "a", range(2), "a" * 64).digest
    make_store(tmp_path / "b", range(2, 4), "b" * 64)
    add(tmp_path / "a", tmp_path / "b", out=tmp_path / "new")
    new = open_store(tmp_path / "new").digest
    steps = -_append_killed_at(10**6, tmp_path)
    assert 20 < steps < 100
    make_again(tmp_path)
    found = {}
    for kill in (*range(0, steps - 4, 6), *range(steps - 4, steps)):
        assert _append_killed_at(kill, tmp_path) == signal.SIGKILL
        found[kill] = open_store(tmp_path / "a").digest
        if found[kill] == new:
            make_again(tmp_path)
    behind = [kill for kill, digest in found.items() if digest == new]
    assert set(found.values()) == {old, new}
    assert behind == list(range(behind[0], steps)), "nothing is undone behind the exchange"
    make_again(tmp_path)
    add(tmp_path / "a", tmp_path / "b")
    assert open_store(tmp_path / "a").digest == new
    assert not list(tmp_path.glob("a.partial-*")), "what dead writers left is gone"


def make_again(folder: Path) -> None:
    shutil.rmtree(folder / "a")
    make_store(folder / "a", range(2), "a" * 64)


def _append_killed_at(kill: int, folder: Path) -> int:
    """Appends in a process that is killed before its `kill`-th sync, or before or behind the exchange.

    Returns:
        The signal, or minus the number of such steps.
    """
    child = os.fork()
    if child == 0:
        done = [0]

        def tick() -> None:
            if done[0] == kill:
                os.kill(os.getpid(), signal.SIGKILL)
            done[0] += 1

        sync, exchange = os.fsync, publish._exchange

        def fsync(handle: Any) -> None:
            tick()
            sync(handle)

        def exchanging(*arguments: Any) -> None:
            tick()
            exchange(*arguments)
            tick()

        os.fsync, publish._exchange = fsync, exchanging  # type: ignore[assignment]
        add(folder / "a", folder / "b")
        os._exit(done[0])
    return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_two_appends_at_once_take_turns(tmp_path: Path) -> None:
    make_store(tmp_path / "a", range(2), "a" * 64)
    make_store(tmp_path / "b", range(2, 4), "b" * 64)
    children = []
    for _ in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            add(tmp_path / "a", tmp_path / "b")
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert numbers_of(open_store(tmp_path / "a")) == [0, 1, *[2, 3] * 4]


def test_a_file_system_that_cannot_exchange_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "a", range(2), "a" * 64)
    monkeypatch.setattr(publish, "_RENAME_EXCHANGE", 1 << 20)
    with pytest.raises(StoreError, match=r"replaces a folder in one step, got 'Invalid argument'; .* --out"):
        add(tmp_path / "a", tmp_path / "a")
    assert open_store(tmp_path / "a").digest == store.digest


def rewrite(path: Path, change: Any, *, tails: bool = True) -> None:
    """Changes the attributes of a store, and seals it again, as another version of the program would write it."""
    root = json.loads((path / "zarr.json").read_text())
    change(root["attributes"])
    (path / "zarr.json").write_text(json.dumps(root))
    old = open_manifest(path)
    files = {
        name: FileEntry(hash_file(path / name), (path / name).stat().st_size, old.files[name].tail if tails else None)
        for name in sorted(list_files(path))
    }
    files["zarr.json"] = replace(
        files["zarr.json"], tail=(path / "zarr.json").read_bytes()[-4:].hex() if tails else None
    )
    (path / MANIFEST_NAME).write_bytes(Manifest(files=files, chunks=old.chunks).to_bytes())


def open_manifest(path: Path) -> Manifest:
    value = json.loads((path / MANIFEST_NAME).read_text())
    return Manifest(files={name: FileEntry(**entry) for name, entry in value["files"].items()}, chunks=value["chunks"])


def make_version_1(path: Path) -> None:
    make_store(path, range(2), "a" * 64)
    rewrite(path, lambda root: root["schema"].update(schema_version=1, robot="arm"), tails=False)


def test_a_store_of_version_1_is_read_and_written_anew_only_when_asked(tmp_path: Path) -> None:
    make_version_1(tmp_path / "a")
    make_store(tmp_path / "b", range(2), "b" * 64)
    store = open_store(tmp_path / "a")
    assert (store.schema_version, store.robot_name, store.schema.robot) == (1, "arm", None)
    message = r"schema version 2, got version 1; write it anew with: supple ingest .*/a --robot arm --out FOLDER"
    with pytest.raises(StoreError, match=message):
        add(tmp_path / "a", tmp_path / "b")
    with pytest.raises(StoreError, match=message):
        list(merging([tmp_path / "b", tmp_path / "a"], tmp_path / "c"))
    assert open_store(tmp_path / "a").digest == store.digest
    reader = StoreReader(tmp_path / "a", ReadOptions(), ROBOT)
    spec = reader.describe()
    assert "the robot is the name 'arm' alone; it is written in version 2" in spec.notes[0]
    new = write_store(tmp_path / "new", reader.episodes(), spec.schema, spec.provenance)
    assert (new.schema_version, new.schema.robot, numbers_of(new)) == (2, ROBOT, [0, 1])
    assert list_parts(new)[0].store == store.digest
    with pytest.raises(SpecError, match="expected data of robot 'leg', got data of robot 'arm'"):
        StoreReader(tmp_path / "a", ReadOptions(), replace(ROBOT, name="leg")).describe()


@pytest.mark.parametrize("newer", ["schema", "manifest"])
def test_a_newer_store_is_refused_by_its_version(newer: str, tmp_path: Path) -> None:
    make_store(tmp_path / "a", range(2), "a" * 64)
    if newer == "schema":
        rewrite(tmp_path / "a", lambda root: root["schema"].update(schema_version=4))
        message = "schema: expected schema_version 1, 2 or 3, got 4; install the version of supple that wrote it"
    else:
        path = tmp_path / "a" / MANIFEST_NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 3, "novel": True}))
        message = "expected a store of format version 1 or 2, got version 3; install the version of supple"
    with pytest.raises(StoreError, match=message):
        open_store(tmp_path / "a")


def test_deep_verification_finds_what_bytes_do_not_tell(tmp_path: Path) -> None:
    source = tmp_path / "play.bin"
    source.write_bytes(b"recorded")
    store = make_store(tmp_path / "a", range(3), hash_file(source))
    report = verify_deeply(tmp_path / "a", [source, tmp_path / "gone"])
    assert (report.store.digest, report.parts, report.sources) == (store.digest, 1, (str(source),))
    assert report.doubts == ()
    source.write_bytes(b"recordeD")
    with pytest.raises(StoreError, match=r"play\.bin as it was when it was read, got another content"):
        verify_deeply(tmp_path / "a", [source])


def write_flawed(path: Path, **arrays: Any) -> Path:
    episode = make_episode(1, 200)
    write_store(path, [Episode({**episode.arrays, **arrays}, False, True)], SCHEMA, {})
    return path


def test_deep_verification_of_values_clock_and_boundaries(tmp_path: Path) -> None:
    good = make_episode(1, 200).arrays
    beyond = good["action"].copy()
    beyond[7] = 1.5
    back = good["time"].copy()
    back[9] = back[8]
    uneven = good["time"].copy()
    uneven[9:] += 1000
    jump = good["observation"].copy()
    jump[100:] -= (2.5, 0.9)
    for name, arrays, message in (
        ("beyond", {"action": beyond}, "expected action axis 'base' within -1 .. 1 .*got 1.5 in row 7"),
        ("back", {"time": back}, "expected time to go on within an episode, got a step of 0 ns before step 9"),
    ):
        with pytest.raises(StoreError, match=message):
            verify_deeply(write_flawed(tmp_path / name, **arrays))
        verify_store(tmp_path / name)  # whole, byte for byte
    assert verify_deeply(write_flawed(tmp_path / "uneven", time=uneven)).doubts == (
        "steps are not 50000000 ns apart in 1 episodes: 0",
    )
    (doubt,) = verify_deeply(write_flawed(tmp_path / "jump", observation=jump)).doubts
    assert "the observation jumps 1 times within an episode" in doubt
    assert "row 100 (episode 0)" in doubt
    episode = make_episode(1)
    write_store(tmp_path / "open", [Episode(episode.arrays, False, False)], SCHEMA, {})
    with pytest.raises(StoreError, match="terminated or truncated, got neither in episode 0"):
        verify_deeply(tmp_path / "open")


@pytest.mark.parametrize(
    "parts",
    [
        [{"episodes": [0, 1], "taken": [[0, 1]], "store": None, "source": {}}],
        [{"episodes": [0, 2], "taken": [[0, 3]], "store": None, "source": {}}],
        [{"episodes": [0, 2], "taken": [[2, 0]], "store": None, "source": {}}],
        [{"episodes": [0, 2]}],
        7,
    ],
)
def test_parts_that_are_no_parts_are_refused(parts: Any, tmp_path: Path) -> None:
    write_store(tmp_path / "a", [make_episode(0), make_episode(1)], SCHEMA, {"parts": parts})
    with pytest.raises(StoreError, match="expected parts that make up all 2 episodes"):
        verify_deeply(tmp_path / "a")


def test_arrays_can_be_left_out_of_a_store(tmp_path: Path) -> None:
    make_store(tmp_path / "a", range(2), "a" * 64)
    reader = StoreReader(tmp_path / "a", ReadOptions(skip=("time",)))
    assert reader.describe().schema.names == ("observation", "action")
    assert all(set(episode.arrays) == {"observation", "action"} for episode in reader.episodes())
    with pytest.raises(SuppleError, match="expected --only and --skip of time, got 'action'"):
        StoreReader(tmp_path / "a", ReadOptions(only=("action",))).describe()
