import os
import time
from pathlib import Path

import pytest

from supple.pipeline import sources
from supple.pipeline.sources import SETTLED_NS, Import, SourceMemory, parse_source

TEXT = b'"""Prose."""\nfrom ..a import b, c\nfrom . import d\nimport e.f, g\nfrom h import i\nx = 1  # why\n'


def test_a_source_is_its_tree_and_its_imports() -> None:
    source = parse_source(TEXT)
    assert source.imports == (
        *(Import(2, "a", ("b", "c")), Import(1, "", ("d",)), Import(-1, "", ("e.f", "g")), Import(0, "h", ("i",))),
    )
    assert parse_source(TEXT.replace(b"Prose", b"Other prose").replace(b"# why", b"")) == source
    assert parse_source(TEXT.replace(b"x = 1", b"x = 2")).digest != source.digest


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x = 'arms.sim'", ("arms.sim",)),
        ("x = ['arms.sim:Cart', 'arms:Cart.make']", ("arms", "arms.sim")),
        ("import_module('arms'); importlib.import_module('b')", ("arms", "b")),
        ("x = 'arms', 'my arm.py', 'v1.5.2', '1.5', 'a..b', ''; f('arms'); import_module(name)", ()),
    ],
)
def test_texts_that_may_name_a_module_count_as_imports(text: str, named: tuple[str, ...]) -> None:
    imports = parse_source(text.encode()).imports
    assert imports == ((Import(-1, "", named),) if named else ())


def write(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    time.sleep(2 * SETTLED_NS / 1e9)


def test_a_file_is_parsed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr(sources, "parse_source", lambda content: parsed.append(content) or parse_source(content))
    file = tmp_path / "module.py"
    write(file, TEXT)
    memory = SourceMemory(tmp_path)
    assert memory.load(file) == memory.load(file) == parse_source(TEXT)
    memory.save()
    again = SourceMemory(tmp_path)
    assert again.load(file) == parse_source(TEXT)
    assert len(parsed) == 1
    before = file.stat()
    write(file, TEXT.replace(b"x = 1", b"x = 2"))  # of the same size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    time.sleep(2 * SETTLED_NS / 1e9)
    assert again.load(file).digest != parse_source(TEXT).digest
    assert len(parsed) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 3}', '{"FILE": {"mark": 0}}'])
def test_a_damaged_memory_is_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "module.py"
    write(file, TEXT)
    memory = SourceMemory(tmp_path)
    memory.load(file)
    memory.save()
    (kept,) = tmp_path.glob("sources-*.json")
    kept.write_text(text.replace("FILE", str(file)))
    assert SourceMemory(tmp_path).load(file) == parse_source(TEXT)


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "module.py"
    file.write_bytes(TEXT)
    monkeypatch.setattr(sources, "time_ns", lambda: file.stat().st_ctime_ns)
    memory = SourceMemory(tmp_path)
    memory.load(file)
    memory.save()
    assert list(tmp_path.glob("sources-*.json")) == []
