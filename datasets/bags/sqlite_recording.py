"""ROS 2 bags in SQLite: the rows of the tables `topics`, `message_definitions` and `messages`, read in bulk.

The file has no checksums: SQLite finds a damaged structure, and nothing finds a damaged payload. A recorder that
was killed leaves a journal beside the file; SQLite plays it back in a copy, since a source is never written to.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ...errors import FormatError, SourceError, describe_error
from .message_types import TopicTable
from .recording import (
    MOST_RECORD,
    Block,
    Loss,
    Message,
    Recording,
    Topic,
    gather,
    make_scratch,
)

_JOURNALS = ("-wal", "-journal")
_ROWS = 4096
"""Rows that are taken from SQLite at a time."""
_TABLES = {"topics", "messages", "message_definitions"}
_HASH = "type_description_hash"
"""Column that says which definition of its type a topic has, in newer bags."""
_LANGUAGES = {"ros2msg": "msg", "ros2idl": "idl"}


class SqliteRecording(Recording):
    """One `.db3` file; see `McapRecording` for errors.

    Args:
        path: The file.
        unpack: Undoes the compression of each payload.
    """

    format = "rosbag2-sqlite3"
    checksums = False

    def __init__(self, path: Path, unpack: Callable[[bytes], bytes] | None = None) -> None:
        self.path, self._unpack = path, unpack
        self.loss = Loss()
        self.embedded = {}
        self._file = self._play_back()
        self._ids: dict[int, int] = {}
        try:
            with closing(self._connect()) as base:
                self._read_topics(base)
                ((verdict,),) = base.execute("PRAGMA quick_check(1)").fetchall() or [("ok",)]
                if verdict != "ok":
                    self.loss.add(f"SQLite finds it damaged: {describe_error(verdict)}")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if not hasattr(self, "topics"):
                raise SourceError(
                    f"{path}: expected a ROS 2 bag, got an SQLite file that cannot be read ({describe_error(error)}); "
                    "run sqlite3 with .recover on it"
                ) from error
            self.loss.add(describe_error(error))

    def _play_back(self) -> Path:
        """The file itself, or a copy in which SQLite may play back the journal of a recorder that was killed."""
        journals = [Path(f"{self.path}{end}") for end in _JOURNALS]
        journals = [journal for journal in journals if journal.is_file() and journal.stat().st_size]
        if not journals:
            return self.path
        self.loss.add(f"its recorder was killed: it left {journals[0].name}")
        copy = make_scratch(self)
        for file in (self.path, *journals):
            shutil.copyfile(file, copy / file.name)
        return copy / self.path.name

    def _connect(self) -> sqlite3.Connection:
        mode = "ro&immutable=1" if self._file == self.path else "rw"
        base = sqlite3.connect(f"file:{quote(str(self._file))}?mode={mode}", uri=True)
        base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_RECORD)
        base.execute("PRAGMA trusted_schema = OFF")
        return base

    def _read_topics(self, base: sqlite3.Connection) -> None:
        tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise FormatError(
                f"{self.path}: expected the tables of a ROS 2 bag, got {', '.join(sorted(tables)) or 'none'}; check "
                "the path",
                "an SQLite data base of another program",
                True,
            )
        hashed = set()
        for table in _TABLES & tables:
            for _, column, _, _, _, _, hidden in base.execute(f"PRAGMA table_xinfo({table})"):
                if column == _HASH:
                    hashed.add(table)
                if hidden:
                    raise SourceError(
                        f"{self.path}: expected the tables of a ROS 2 bag, got {table} whose {column} is computed and "
                        "not recorded; copy the bag again"
                    )
        hashes = {table: _HASH if table in hashed else "NULL" for table in _TABLES}
        definitions: dict[str, dict[object, tuple[str, str]]] = {}
        if "message_definitions" in tables:
            rows = base.execute(
                f"SELECT topic_type, {hashes['message_definitions']}, encoding, encoded_message_definition, rowid FROM "
                "message_definitions"
            )
            for kind, known, encoding, text, row in rows:
                if isinstance(text, str):
                    definitions.setdefault(kind, {})[known or row] = (text, _LANGUAGES.get(encoding, ""))
        topics = TopicTable()
        query = f"SELECT id, {hashes['topics']}, name, type, serialization_format FROM topics ORDER BY id"
        for number, known, *texts in base.execute(query):
            # a column of SQLite holds any type, whatever its declaration says
            if not all(isinstance(text, str) for text in texts):
                self.loss.add(f"topic {number} has no name or no type")
                continue
            name, kind, encoding = texts
            found = definitions.get(kind, {})
            # nobody says which of several is that of the topic: it then has them all, and is not decoded
            possible = [found[known]] if known in found else [*found.values()] or [("", "")]
            self._ids[number], *_ = [topics.add(Topic(name, kind, encoding, *one)) for one in possible]
        self.topics = topics.rows

    def blocks(self, wanted: Collection[int]) -> Iterator[Block]:
        """See `Recording.blocks`."""
        return gather(self._read_rows(wanted))

    def _read_rows(self, wanted: Collection[int]) -> Iterator[Message]:
        ids = {number: row for number, row in self._ids.items() if row in wanted}
        marks = ",".join("?" * len(ids))
        query = f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) ORDER BY id"
        unpack = self._unpack or bytes
        with closing(self._connect()) as base:
            try:
                cursor = base.execute(query, tuple(ids))
                while rows := cursor.fetchmany(_ROWS):
                    for number, log_time, payload in rows:
                        try:
                            yield Message(ids[number], int(log_time), unpack(payload))
                        except (TypeError, ValueError) as error:
                            self.loss.messages += 1
                            self.loss.add(f"a row that is no message: {describe_error(error)}")
            except sqlite3.Error as error:
                self.loss.add(f"SQLite stopped: {describe_error(error)}")
