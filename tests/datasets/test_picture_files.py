"""Pictures within the Parquet files of LeRobotDatasets, a file of its own for each step."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from supple.datasets import lerobot
from supple.datasets.episode import Episode, ReadOptions
from supple.datasets.formats import open_source
from supple.errors import SourceError
from tests.datasets.make_sources import (
    CAMERA,
    LENGTHS,
    Recorded,
    make_lerobot_2,
    make_lerobot_3,
    make_pictures,
    record,
)

FEATURE = "observation_images_top"
Maker = Callable[[Path, list[Recorded]], Path]
BOTH = pytest.mark.parametrize("make", [make_lerobot_2, make_lerobot_3])
Row = dict[str, Any] | None


def options(**change: Any) -> ReadOptions:
    return ReadOptions(observation_units=("deg",), action_units=("deg",), **{"only": (CAMERA,), **change})


def encode(picture: np.ndarray[Any, Any], kind: str = "PNG") -> bytes:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, kind)
    return stream.getvalue()


def embed(root: Path, change: Callable[[int], Row] = lambda row: None) -> Path:
    """Puts pictures into the files of a data set, in small groups of rows; `change` has another entry for some rows."""
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][CAMERA]["dtype"] = "image"
    (root / "meta/info.json").write_text(json.dumps(info))
    for file in sorted((root / "data").rglob("*.parquet")):
        table = pq.read_table(file)
        rows = table["index"].to_pylist()
        files = [{"bytes": encode(one), "path": "frame.png"} for one in make_pictures(np.array(rows))]
        entries = [change(row) or one for row, one in zip(rows, files, strict=True)]
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        pq.write_table(table.append_column(CAMERA, pa.array(entries, kind)), file, row_group_size=3)
    return root


def read(path: Path, chosen: ReadOptions) -> list[Episode]:
    return list(open_source(path, chosen).episodes())


@BOTH
def test_every_step_has_its_own_picture(make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot, "_PICTURE_ROWS", 2)
    reader = open_source(embed(make(tmp_path, record())), options())
    spec = reader.describe()
    feature = spec.schema.feature(FEATURE)
    assert (feature.role, feature.shape) == ("image", (48, 64, 3))
    assert spec.contents[CAMERA] == "pictures 48 x 64, PNG: one for each of 20 steps"
    assert not [name for name in (*spec.contents, *spec.ignored) if name.startswith(f"{CAMERA}/")]
    episodes = list(reader.episodes())
    assert [one.length for one in episodes] == list(LENGTHS)
    pictures = np.concatenate([one.arrays[FEATURE] for one in episodes])
    np.testing.assert_array_equal(pictures, make_pictures(np.arange(20)))


def test_they_are_left_out_unless_somebody_names_them(tmp_path: Path) -> None:
    path = embed(make_lerobot_2(tmp_path, record()), lambda row: {"bytes": b"no picture", "path": None})
    spec = open_source(path, options(only=None)).describe()
    assert spec.ignored[CAMERA] == "is a picture file per step; --only takes it by name"
    assert FEATURE not in spec.schema.names


def test_they_are_scaled_down_by_the_mean_of_their_area(tmp_path: Path) -> None:
    path = embed(make_lerobot_2(tmp_path, record()))
    pictures = np.concatenate([one.arrays[FEATURE] for one in read(path, options(picture_size=(12, 16)))])
    whole = make_pictures(np.arange(20)).reshape(20, 12, 4, 16, 4, 3).mean((2, 4))
    assert np.abs(pictures - whole).max() <= 0.5
    with pytest.raises(SourceError, match=r"expected pictures of at least 96 x 16, got 48 x 64; ask for smaller"):
        read(path, options(picture_size=(96, 16)))


def test_jpeg_and_grey_are_read(tmp_path: Path) -> None:
    grey = np.full((48, 64), 7, np.uint8)
    path = embed(make_lerobot_2(tmp_path, record()), lambda row: {"bytes": encode(grey, "JPEG"), "path": None})
    pictures = np.concatenate([one.arrays[FEATURE] for one in read(path, options())])
    assert pictures.shape == (20, 48, 64, 1)
    assert (pictures == 7).all()


PLAIN = make_pictures(np.zeros(1))[0]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"bytes": None, "path": "a/b.png"}, "expected the bytes of a picture in every row, got the name 'a/b.png' al"),
        ({"bytes": None, "path": None}, "expected the bytes of a picture in every row, got nothing in row 3"),
        ({"bytes": b"GIF89a", "path": None}, "episode 0, step 3: expected a whole picture, got one that cannot be dec"),
        ({"bytes": encode(PLAIN)[:-40], "path": None}, "episode 0, step 3: expected a whole picture"),
        (
            {"bytes": encode(PLAIN[:40]), "path": None},
            "step 3: expected 48 x 64 pixels as in the first one, got 40 x 64",
        ),
        (
            {"bytes": encode(np.zeros((48, 64), np.uint16)), "path": None},
            "expected grey or red, green and blue of 8 bits, at most 8192 pixels a side, got mode I;16, 48 x 64",
        ),
    ],
)
def test_what_is_no_picture_is_named(entry: Row, named: str, tmp_path: Path) -> None:
    path = embed(make_lerobot_2(tmp_path, record()), lambda row: entry if row == 3 else None)
    with pytest.raises(SourceError) as caught:
        read(path, options())
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_that_says_it_is_huge_is_not_decoded(tmp_path: Path) -> None:
    data = bytearray(encode(PLAIN))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    path = embed(make_lerobot_2(tmp_path, record()), lambda row: {"bytes": bytes(data), "path": None})
    with pytest.raises(SourceError, match="episode 0, step 0: expected a whole picture"):
        open_source(path, options()).describe()
