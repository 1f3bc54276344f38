import dataclasses
import json
import sys
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


USERS = {
    "arms/__init__.py": "WIDTH = 1\n",
    "arms/robots.py": "import mirror\nfrom arms.sim import Cart\nfrom .near import y\nimport far.deep.end\n"
    "import bare.one, numpy, pipeline.keys, dist\nfrom importlib import import_module\nimport_module('plain')\n"
    "register(entry_point='arms.envs:Env')\nregister('late:Env')\n"
    "try:\n    import broken\nexcept SyntaxError:\n    pass\n",
    "arms/sim.py": "import bare.two.one\nclass Cart: pass\n",
    "arms/near.py": "y = 1\n",
    "arms/envs.py": "from ._native import Env\n",
    "arms/_native.abi3.so": "bytes",
    "arms/other.py": "unused = 1\n",
    "plain.py": "x = 1\n",
    "late.py": "x = 1\n",
    "pipeline/__init__.py": "x = 1\n",
    "pipeline/keys.py": "x = 1\n",
    "broken.py": "x = (\n",
    "bare/one.py": "x = 1\n",
    "bare/two/one.py": "x = 1\n",
    "bare/three.py": "unused = 1\n",
    "src/far/__init__.py": "x = 1\n",
    "src/far/deep/__init__.py": "x = 1\n",
    "src/far/deep/end.py": "from ..beside import y\n",
    "src/far/beside.py": "y = 1\n",
    "src/mirror.py": "import mirror\n",
    "lib/site-packages/dist/__init__.py": "x = 1\n",
}
"""A user's files by name; `src` is on the path, as for a package that is installed with `pip install -e`."""
UNUSED = {"arms/other.py", "bare/three.py", "lib/site-packages/dist/__init__.py"}


def users_digest(root: Path, monkeypatch: pytest.MonkeyPatch, changed: str = "") -> str:
    """Of `arms/robots.py` of a user, in a folder of its own."""
    for name, text in USERS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "more = 1\n" * (name == changed))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(root), str(root / "src"), str(root / "lib" / "site-packages"), *sys.path])
        return compute_code_digest(str(root / "arms" / "robots.py"))


@pytest.mark.parametrize("changed", USERS)
def test_all_of_a_users_own_modules_count_however_they_are_imported_and_wherever_they_are(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = users_digest(tmp_path / "a", monkeypatch)
    assert users_digest(tmp_path / "elsewhere" / "b", monkeypatch) == before
    assert (users_digest(tmp_path / "c", monkeypatch, changed) == before) == (changed in UNUSED)


def test_a_module_that_is_loaded_counts_and_none_of_its_name_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for folder, text in (("a", "x = 1\n"), ("b", "x = 2\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "robot.py").write_text("import json, numpy\n")
        (tmp_path / folder / "json.py").write_text(text)
        (tmp_path / folder / "numpy.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / folder)
        digests.add(compute_code_digest(str(tmp_path / folder / "robot.py")))
    assert len(digests) == 1


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
