"""Damaged bags: what is left is read, what is lost is said, and where there are checksums nothing changes unseen."""

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from mcap.writer import Writer

from supple.datasets.bags import recording as recording_module
from supple.datasets.bags.bag_files import open_recording
from supple.datasets.bags.reader import BagReader
from supple.errors import SourceError

UNCHECKED = ("rosbag1", "rosbag1-bz2", "rosbag1-lz4", "sqlite", "mcap", "mcap-storage", "mcap-message", "mcap-file")
Content = tuple[Any, list[tuple[int, int, bytes]]]


def find_file(bag: Path) -> Path:
    """The file of a bag that holds its messages."""
    return bag if bag.is_file() else next(file for file in bag.iterdir() if file.name != "metadata.yaml")


def read(bag: Path) -> tuple[Content, list[str]]:
    """Topics and messages, and why they are not all."""
    recording = open_recording(bag)
    messages = [tuple(one) for one in recording.messages(range(len(recording.topics)))]
    return (recording.topics, sorted(messages)), recording.loss.reasons  # type: ignore[arg-type]


def change(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with 1 to 16 flipped bits, a part missing, doubled or moved, or a length that cannot be."""
    changed = bytearray(data)
    place, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    match int(rng.integers(6)):
        case 0:
            del changed[place:]
        case 1:
            del changed[place : place + length]
        case 2:
            changed[place:place] = changed[max(0, place - length) : place]
        case 3:
            changed[place : place + 8] = rng.choice(np.array([0, 2**31, 2**64 - 1], np.uint64)).tobytes()
        case _:
            for at in rng.integers(0, len(data), rng.integers(1, 17)):
                changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


@pytest.fixture
def mutants(bags: Any, tmp_path: Path) -> Callable[[str, int], Iterator[tuple[Content, Path]]]:
    """Makes damaged copies of a bag of a kind, one after the other in the same place."""

    def make(kind: str, count: int) -> Iterator[tuple[Content, Path]]:
        bag = bags.write(tmp_path / f"whole-{kind}", kind, bags.arm(0.4))
        whole, reasons = read(bag)
        assert not reasons
        copy = tmp_path / "copy" / bag.name
        shutil.copytree(bag, copy) if bag.is_dir() else (copy.parent.mkdir(), shutil.copy(bag, copy))
        file, data = find_file(copy), find_file(bag).read_bytes()
        rng = np.random.default_rng(0)
        for _ in range(count):
            changed = data
            while changed == data:
                changed = change(data, rng)
            file.write_bytes(changed)
            yield whole, copy

    return make


@pytest.mark.parametrize(
    ("kind", "count"), [("plain", 100), ("plain-zstd", 300), ("plain-lz4", 50), ("plain-unchunked", 100)]
)
def test_nothing_changes_unseen_under_checksums(kind: str, count: int, mutants: Any) -> None:
    silent, refused, recovered = 0, 0, 0
    for whole, bag in mutants(kind, count):
        try:
            found, reasons = read(bag)
        except SourceError as error:
            refused += str(bag) in str(error)
            continue
        recovered += bool(reasons)
        silent += found != whole and not reasons
    assert silent == 0
    assert refused + recovered > count / 2


@pytest.mark.parametrize("kind", UNCHECKED)
def test_without_checksums_damage_is_read_or_refused_and_never_fatal(kind: str, mutants: Any) -> None:
    noticed = 0
    for whole, bag in mutants(kind, 40):
        try:
            found, reasons = read(bag)
        except SourceError:
            noticed += 1
            continue
        noticed += bool(reasons)
        assert len(found[1]) <= 2 * len(whole[1])
    assert noticed > 10


@pytest.mark.parametrize("kind", ["plain", "plain-zstd", "plain-unchunked", "rosbag1", "rosbag1-lz4", "sqlite", "mcap"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_bag_that_was_cut_off_is_read_up_to_there(kind: str, share: float, bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", kind, bags.arm(3.0))
    (topics, whole), _ = read(bag)
    file = find_file(bag)
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    try:
        (found_topics, found), reasons = read(bag)
    except SourceError:
        assert kind in ("sqlite", "mcap", "rosbag1", "rosbag1-lz4")  # all in one chunk, or the tables are gone
        return
    assert reasons
    assert set(found_topics) <= set(topics)
    assert len(found) < len(whole) or share > 0.3  # the end of a bag may be its index alone
    assert set(found) <= set(whole)
    if kind.startswith("plain"):
        assert len(found) > (share - 0.2) * len(whole)


def test_a_damaged_chunk_costs_its_messages_and_no_others(bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", "plain", bags.arm())
    (_, whole), _ = read(bag)
    data = bytearray(bag.read_bytes())
    middle = data.index(np.float64(1100.0).tobytes())  # of joint b in the message of step 100
    data[middle] ^= 1
    bag.write_bytes(data)
    recording = open_recording(bag)
    found = list(recording.messages(range(2)))
    assert recording.loss.chunks == 1
    assert recording.loss.messages == len(whole) - len(found)
    assert 0 < recording.loss.messages < 60
    assert "crc" in recording.loss.reasons[0]


def test_steps_are_cut_where_messages_were_lost(bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", "plain", bags.arm())
    data = bytearray(bag.read_bytes())
    data[data.index(np.float64(1100.0).tobytes())] ^= 1
    bag.write_bytes(data)
    spec = BagReader(bag).describe()
    first, second = BagReader(bag).episodes()
    assert spec.episodes == 2
    assert (first.terminated, first.truncated) == (False, True)
    assert first.arrays["observation"][-1, 0] < 100 < second.arrays["observation"][0, 0]
    (loss,) = spec.provenance["recovered"]
    assert loss["chunks_lost"] == 1
    assert loss["messages_lost"] > 0
    assert "recovered" in spec.losses[0]


def test_a_killed_recorder_leaves_a_journal_that_is_played_back(bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", "sqlite", bags.arm())
    file = find_file(bag)
    (_, whole), _ = read(bag)
    base = sqlite3.connect(file)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("INSERT INTO messages(topic_id, timestamp, data) SELECT topic_id, timestamp + 1, data FROM messages")
    base.commit()
    for end in ("", "-wal"):
        shutil.copy(f"{file}{end}", tmp_path / f"kept{end}")
    base.close()
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"kept{end}", f"{file}{end}")
    before = {one.name: one.read_bytes() for one in bag.iterdir()}
    (_, found), reasons = read(bag)
    assert len(found) == 2 * len(whole)
    assert "was killed" in reasons[0]
    assert {one.name: one.read_bytes() for one in bag.iterdir()} == before


def test_a_folder_without_metadata_is_read_and_said(bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", "mcap", bags.arm())
    (bag / "metadata.yaml").unlink()
    spec = BagReader(bag).describe()
    assert "metadata.yaml" in spec.losses[0]
    assert spec.rows == 100


def test_metadata_that_counts_more_is_believed(bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", "sqlite", bags.arm())
    base = sqlite3.connect(find_file(bag))
    base.execute("DELETE FROM messages WHERE id > 250")
    base.commit()
    base.close()
    recording = open_recording(bag)
    assert len(list(recording.messages(range(2)))) == 250
    assert recording.loss.messages == 50


@pytest.mark.parametrize("value", ["NULL", "7", "x'00ff'"])
@pytest.mark.parametrize("column", ["name", "type", "serialization_format"])
def test_a_topic_whose_texts_are_none_is_left_out_and_said(bags: Any, tmp_path: Path, column: str, value: str) -> None:
    bag = bags.write(tmp_path / "bag", "sqlite", bags.arm())
    base = sqlite3.connect(find_file(bag))
    rows = base.execute("SELECT sql FROM sqlite_master WHERE name = 'topics'").fetchone()[0]
    base.execute("ALTER TABLE topics RENAME TO declared")  # without NOT NULL and without an affinity to text
    base.execute(rows.replace("TEXT NOT NULL", "BLOB"))
    base.execute("INSERT INTO topics SELECT * FROM declared")
    base.execute("DROP TABLE declared")
    base.execute(f"UPDATE topics SET {column} = {value} WHERE id = (SELECT min(id) FROM topics)")
    base.commit()
    base.close()
    recording = open_recording(bag)
    (left,) = recording.topics
    assert recording.loss.reasons == ["topic 1 has no name or no type"]
    payloads = [message for message in recording.messages(range(1)) if message.topic == 0]
    assert len(payloads) == 100
    with pytest.raises(SourceError):  # half of the robot is gone
        BagReader(bag).describe()
    assert left.name


def test_a_bomb_is_refused_before_it_is_unpacked(bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", "sqlite-file", bags.arm())
    file = find_file(bag)
    file.write_bytes(zstandard.compress(bytes(2**28)))
    with pytest.raises(SourceError, match="compressed bytes, got more"):
        read(bag)


def test_a_bomb_in_a_chunk_is_left_out(tmp_path: Path) -> None:
    from mcap.data_stream import RecordBuilder
    from mcap.records import Chunk
    from mcap.writer import MCAP0_MAGIC

    builder = RecordBuilder()
    Chunk("zstd", zstandard.compress(bytes(2**28)), 0, 0, 0, 2**28).write(builder)
    (tmp_path / "bomb.mcap").write_bytes(MCAP0_MAGIC + builder.end())
    recording = open_recording(tmp_path / "bomb.mcap")
    assert "declares 268435456 bytes" in recording.loss.reasons[0]


@pytest.mark.parametrize("kind", ["rosbag1", "plain"])
def test_a_record_that_is_larger_than_memory_allows_is_not_read(
    kind: str, bags: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = bags.write(tmp_path / "log", kind, bags.arm(1.0))
    monkeypatch.setattr(recording_module, "MOST_RECORD", 1000)
    (_, messages), reasons = read(bag)
    assert not messages
    assert "more than 1000" in reasons[0]


def test_attachments_are_passed_over_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_module, "MOST_RECORD", 2**21)
    for chunked in (True, False):
        with (tmp_path / "log.mcap").open("wb") as stream:
            writer = Writer(stream, use_chunking=chunked)
            writer.start("ros2", "test")
            writer.add_attachment(1, 1, "video.mp4", "video/mp4", bytes(2**22))
            channel = writer.register_channel("/a", "cdr", writer.register_schema("a/msg/A", "ros2msg", b"uint8 data"))
            writer.add_message(channel, 5, b"payload", 5)
            writer.finish()
        recording = open_recording(tmp_path / "log.mcap")
        assert [one.payload for one in recording.messages([0])] == [b"payload"]
        assert not recording.loss.reasons


def test_tables_that_compute_their_values_are_refused(bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "log", "sqlite", bags.arm(0.2))
    (file,) = bag.glob("*.db3")
    with closing(sqlite3.connect(file)) as base, base:
        base.execute("ALTER TABLE messages RENAME TO old")
        base.execute(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id, timestamp, data AS (zeroblob(1000000000)))"
        )
        base.execute("INSERT INTO messages (id, topic_id, timestamp) SELECT id, topic_id, timestamp FROM old")
    with pytest.raises(SourceError, match="got messages whose data is computed and not recorded"):
        open_recording(bag)


def test_metadata_that_grow_without_end_are_refused(bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "log", "mcap", bags.arm(0.2))
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['x'] * 9)}]" for n in range(30)]
    text = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").write_text("\n".join(lines) + "\n" + re.sub(r"- \S+\.mcap", "- *a29", text))
    with pytest.raises(SourceError, match="list in place of a text"):
        open_recording(bag)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_compressed_file_that_is_cut_off_is_named_as_it_lies_there(share: float, bags: Any, tmp_path: Path) -> None:
    bag = bags.write(tmp_path / "bag", "mcap-file", bags.arm())
    file = find_file(bag)
    data = zstandard.ZstdDecompressor().decompress(file.read_bytes(), max_output_size=2**24)
    file.write_bytes(zstandard.compress(data[: int(share * 20)]) if share else file.read_bytes()[:40])
    with pytest.raises(SourceError) as error:
        BagReader(bag).describe()
    assert str(error.value).startswith(str(bag if share else file))
    assert "supple-bag-" not in str(error.value)
