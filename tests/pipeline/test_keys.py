import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.errors import ConfigError, RunError
from supple.pipeline.folder import compute_path_digest
from supple.pipeline.keys import (
    PACKAGE_ROOT,
    compute_canonical,
    compute_code_digest,
    compute_plain,
    compute_versions,
    find_first_difference,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON)
def test_canonical_json_says_the_same_value(value: object) -> None:
    assert json.loads(compute_canonical(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_canonical_json_does_not_depend_on_order(value: dict[str, int]) -> None:
    assert compute_canonical(value) == compute_canonical(dict(reversed(value.items())))


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    path: Path
    sizes: tuple[int, ...]


def test_plain_names_the_field_that_cannot_be_a_key() -> None:
    outer = Outer(Inner(0.5), Path("a/b"), (1, 2))
    assert compute_plain(outer, "run") == {"inner": {"rate": 0.5}, "path": "a/b", "sizes": [1, 2]}
    with pytest.raises(ConfigError, match=r"run\.inner\.rate: expected a finite number, got nan"):
        compute_plain(dataclasses.replace(outer, inner=Inner(float("nan"))), "run")
    with pytest.raises(ConfigError, match=r"run\.inner: .* got object"):
        compute_plain(dataclasses.replace(outer, inner=object()), "run")  # type: ignore[arg-type]


def test_first_difference_is_named_by_its_path() -> None:
    old = {"config": {"a": 1, "b": {"c": [1]}}, "seed": 0}
    assert find_first_difference(old, old) is None
    assert find_first_difference(old, {"config": {"a": 1, "b": {"c": [2]}}, "seed": 1}) == ("config.b.c", [1], [2])
    assert find_first_difference(old, {"config": {"a": 1, "b": {"c": [1]}}}) == ("seed", 0, "nothing")


def write_package(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def code_digest(root: Path, **files: str) -> str:
    root.mkdir()
    usual = {
        "pipeline__stages__a": "from ...meta.gradient.inner import step\nfrom ...skills.net import size\n"
        "from ..stage import x\n\ndef f():\n    return size, step\n",
        "meta__gradient__inner": "from . import rule\nfrom ..policy import width\nstep = rule.rate * width\n",
        "meta__gradient__rule": "rate = 1\n",
        "meta__gradient__other": "unused = 1\n",
        "meta__policy": "width = 1\n",
        "skills__net": "from . import deep\nsize = deep.one\n",
        "skills__deep": "one = 1\n",
        "skills__other": "unused = 1\n",
        "pipeline__stage": "x = 1\n",
    }
    write_package(root, **{**usual, **files})
    return compute_code_digest("pipeline/stages/a.py", root)


@pytest.mark.parametrize(
    ("name", "text", "same"),
    [
        ("skills__deep", "one = 2\n", False),
        ("skills__net", "from . import deep\nsize = deep.one + 1\n", False),
        ("skills__deep", '"""Prose."""\n\n# a comment\none = (1)\n"""Says what one is."""\n', True),
        ("skills__other", "unused = 2\n", True),
        ("meta__gradient__rule", "rate = 2\n", False),
        ("meta__gradient__other", "unused = 2\n", True),
        ("meta__policy", "width = 2\n", False),
        ("pipeline__stage", "x = 2\n", True),
    ],
)
def test_code_counts_where_the_stage_imports_it_and_prose_never(
    tmp_path: Path, name: str, text: str, same: bool
) -> None:
    before, after = code_digest(tmp_path / "a"), code_digest(tmp_path / "b", **{name: text})
    assert (before == after) == same


@pytest.mark.parametrize("stage", sorted(path.stem for path in (PACKAGE_ROOT / "pipeline" / "stages").glob("[!_]*.py")))
def test_every_stage_has_a_code_version(stage: str) -> None:
    assert len(compute_code_digest(f"pipeline/stages/{stage}.py", PACKAGE_ROOT)) == 64


def test_folder_digest_depends_on_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    first = compute_path_digest(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    second = compute_path_digest(tmp_path / "a")
    (tmp_path / "a" / "y").write_bytes(b"2")
    assert len({first, second, compute_path_digest(tmp_path / "a")}) == 3
    with pytest.raises(RunError, match="nothing: expected an input file or folder"):
        compute_path_digest(tmp_path / "nothing")


def test_versions_of_absent_libraries_are_said() -> None:
    versions = compute_versions(["numpy", "no-such-library"])
    assert versions["no-such-library"] == "absent"
    assert versions["numpy"][0].isdigit()
