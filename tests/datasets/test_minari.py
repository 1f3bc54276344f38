"""Minari: counts from the arrays, T or T + 1 observations, nested spaces, pictures."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from supple.datasets.episode import ReadOptions
from supple.datasets.formats import open_source
from supple.errors import SourceError
from supple.robots.kitchen_family import Kitchen
from tests.datasets.make_sources import make_minari, make_minari_arrow, record

LAYOUTS = ("hdf5", "arrow", "parquet")
STEPS = np.arange(12, dtype=np.float32)


def write(folder: Path, layout: str, space: gymnasium.Space[Any], observations: Any, steps: int = 11) -> Path:
    storage = MinariStorage.new(folder / "data", space, spaces.Discrete(3), data_format=layout)
    storage.update_episodes(
        EpisodeBuffer(
            id=number,
            observations=observations,
            actions=np.arange(steps) % 3,
            rewards=np.zeros(steps),
            terminations=np.arange(steps) == steps - 1,
            truncations=np.zeros(steps, np.bool_),
            infos={"qpos": np.arange(steps + 1.0)[:, None]},
        )
        for number in range(11)
    )
    return folder


def box(dim: int, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (dim,), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nested_spaces_become_named_columns(layout: str, tmp_path: Path) -> None:
    parts = tuple(STEPS[:, None] + 100 * number for number in range(11))
    space = spaces.Dict(
        {
            "parts": spaces.Tuple([box(1)] * 11),
            "contact": spaces.Discrete(2),
            "camera": spaces.Box(0, 255, (4, 4, 3), np.uint8),
        }
    )
    pictures = np.zeros((12, 4, 4, 3), np.uint8)
    path = write(tmp_path, layout, space, {"parts": parts, "contact": np.arange(12) % 2, "camera": pictures})
    reader = open_source(path, ReadOptions())
    feature = reader.describe().schema.feature("observation")
    # a tuple has its eleven parts in the order of their numbers, not of the text
    assert feature.axes == ("contact_0", *(f"parts_index_{number}_0" for number in range(11)))
    assert reader.describe().ignored["observations/camera"].startswith("holds arrays of shape (4, 4, 3), neither")
    first, *rest = reader.episodes()
    assert len(rest) == 10
    np.testing.assert_array_equal(first.arrays["observation"][:, 3], STEPS[:-1] + 200)
    np.testing.assert_array_equal(first.arrays["next_observation"][:, 3], STEPS[1:] + 200)
    np.testing.assert_array_equal(first.arrays["qpos"][:, 0], STEPS[:-1])
    np.testing.assert_array_equal(first.arrays["action"][:, 0], np.arange(11) % 3)
    assert (first.terminated, first.truncated) == (True, False)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_come_along_where_they_are_asked_for(layout: str, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 9, 3), np.uint8)
    space = spaces.Dict({"camera": spaces.Box(0, 255, (8, 9, 3), np.uint8), "place": box(1)})
    path = write(tmp_path, layout, space, {"camera": pictures, "place": STEPS[:, None]})
    left = open_source(path, ReadOptions()).describe()
    assert left.ignored["observations/camera"] == "holds pictures; --only takes them by name"
    assert [name for name in left.ignored if "camera" in name] == ["observations/camera"]
    first, *_ = open_source(path, ReadOptions(only=("observations/camera",))).episodes()
    np.testing.assert_array_equal(first.arrays["observations_camera"], pictures[:-1])


def test_of_a_goal_environment_only_the_observation_is_one(tmp_path: Path) -> None:
    space = spaces.Dict({"observation": box(2), "achieved_goal": box(1), "desired_goal": box(1)})
    rows = {
        "observation": np.stack([STEPS, -STEPS], 1),
        "achieved_goal": STEPS[:, None],
        "desired_goal": STEPS[:, None],
    }
    path = write(tmp_path, "hdf5", space, rows)
    schema = open_source(path, ReadOptions()).describe().schema
    assert schema.feature("observation").shape == (2,)
    assert schema.feature("observations_desired_goal").role == "goal"
    chosen = ("observations/desired_goal", "observations/observation")
    feature = open_source(path, ReadOptions(observation_keys=chosen)).describe().schema.feature("observation")
    assert feature.axes == ("desired_goal_0", "observation_0", "observation_1")


def write_kitchen(folder: Path, layout: str) -> tuple[Path, np.ndarray]:
    """Two episodes as in `D4RL/kitchen/mixed-v2`: 59 numbers, and goals for each subtask; and the observations."""
    seen = np.arange(4 * 59, dtype=np.float64).reshape(4, 59)
    goals = {"microwave": 1, "kettle": 7, "bottom burner": 2, "light switch": 2}
    nested = spaces.Dict({name: box(width, np.float64) for name, width in goals.items()})
    space = spaces.Dict({"achieved_goal": nested, "desired_goal": nested, "observation": box(59, np.float64)})
    part = {name: np.full((4, width), 0.5) for name, width in goals.items()}
    storage = MinariStorage.new(folder / "data", space, spaces.Box(-1.0, 1.0, (9,), np.float64), data_format=layout)
    storage.update_episodes(
        EpisodeBuffer(
            id=number,
            observations={"achieved_goal": part, "desired_goal": part, "observation": seen + 1000.0 * number},
            actions=np.full((3, 9), 0.1 * number),
            rewards=np.array([0.0, 1.0, 0.0]),
            terminations=np.zeros(3, np.bool_),
            truncations=np.arange(3) == 2,
            infos={},
        )
        for number in range(2)
    )
    return folder, seen


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_kitchens_of_minari_and_of_supple(layout: str, tmp_path: Path) -> None:
    path, seen = write_kitchen(tmp_path, layout)
    schema = open_source(path, ReadOptions()).describe().schema
    assert schema.feature("observation").shape == (59,)  # and no goals, though these are nested
    assert schema.feature("observations_desired_goal_kettle").role == "goal"
    robot = Kitchen(observation="state").spec()
    keys = ("observations/observation[0:9]", "observations/observation[18:39]")
    reader = open_source(path, ReadOptions(observation_keys=keys), robot)
    assert reader.describe().schema.feature("observation").axes == robot.observation.names
    assert reader.describe().ignored["observations/observation"] == "is taken in part"
    _, second = reader.episodes()
    wanted = (seen[:, [*range(9), *range(18, 39)]] + 1000.0).astype(np.float32)
    assert np.array_equal(second.arrays["observation"], wanted[:-1])
    assert np.array_equal(second.arrays["next_observation"], wanted[1:])


@pytest.mark.parametrize("part", ["[9:9]", "[50:60]", "[7:3]"])
def test_a_part_that_an_array_does_not_have_is_refused(part: str, tmp_path: Path) -> None:
    path, _ = write_kitchen(tmp_path, "hdf5")
    reader = open_source(path, ReadOptions(observation_keys=(f"observations/observation{part}",)))
    with pytest.raises(SourceError, match=r"expected a part of one vector per step of 59 axes, got \["):
        reader.describe()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_counts_come_from_the_arrays(layout: str, tmp_path: Path) -> None:
    path = make_minari(tmp_path, record(), layout)
    metadata = json.loads((path / "metadata.json").read_text())
    (path / "metadata.json").write_text(json.dumps({**metadata, "total_episodes": 7, "total_steps": 3}))
    spec = open_source(path, ReadOptions()).describe()
    assert (spec.episodes, spec.rows) == (3, 20)
    assert spec.notes == (
        "metadata.json says total_episodes = 7, the arrays say 3; the arrays count",
        "metadata.json says total_steps = 3, the arrays say 20; the arrays count",
    )


def test_an_episode_without_its_last_observation_is_told_apart(tmp_path: Path) -> None:
    path = make_minari(tmp_path, record())
    with h5py.File(path / "main_data.hdf5", "a") as file:
        file["episode_1/observations"].resize((3, 3))
    reader = open_source(path, ReadOptions())
    spec = reader.describe()
    assert "next_observation" not in spec.schema.names
    assert "1 of 3 episodes, the first episode_1, lack the observation behind their last action" in spec.notes[0]
    assert [episode.length for episode in reader.episodes()] == [5, 3, 12]
    with h5py.File(path / "main_data.hdf5", "a") as file:
        file["episode_1/observations"].resize((2, 3))
    with pytest.raises(
        SourceError, match=r"episode_1/observations: expected 4 rows, one more than rewards, or 3, got 2"
    ):
        open_source(path, ReadOptions()).describe()


def test_the_flags_tell_padding_from_data(tmp_path: Path) -> None:
    """An Arrow table of an episode without its last observation has no padding; its last flag is in its last row."""
    path = make_minari_arrow(tmp_path, record())
    table_path = path / "1" / "part-0.arrow"
    with pa.memory_map(str(table_path)) as stream:
        table = pa.ipc.open_file(stream).read_all().slice(0, 3)
        columns = [pa.array(column.to_pylist(), column.type) for column in table.columns]
    with pa.OSFile(str(table_path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(pa.table(columns, schema=table.schema))
    reader = open_source(path, ReadOptions())
    assert [episode.length for episode in reader.episodes()] == [5, 3, 12]
    assert "next_observation" not in reader.describe().schema.names
    assert "the first 1, lack the observation" in reader.describe().notes[0]


def test_an_array_of_another_length_is_refused(tmp_path: Path) -> None:
    path = make_minari(tmp_path, record())
    with h5py.File(path / "main_data.hdf5", "a") as file:
        file["episode_2/actions"].resize((11, 2))
    with pytest.raises(SourceError, match=r"episode_2/actions: expected 12 rows as in rewards, got 11"):
        open_source(path, ReadOptions()).describe()


def test_the_data_file_alone_will_do(tmp_path: Path) -> None:
    path = make_minari(tmp_path, record()) / "main_data.hdf5"
    assert [episode.length for episode in open_source(path, ReadOptions()).episodes()] == [5, 3, 12]
