"""Small recordings in every format, with values that say where they belong: `observation = row`, `action = step`.

Minari's files are written by Minari, zarr v2 by zarr, videos by PyAV; robomimic, SPiRL and LeRobot, which are too large
to install here, by h5py and pyarrow in the layout that their documentation gives; OGBench's by
`numpy.savez_compressed`, as it does itself.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from zarr.storage import LocalStore, ZipStore

from supple.datasets import write_d4rl

Array = np.ndarray[Any, Any]
LENGTHS = (5, 3, 12)


class Recorded(NamedTuple):
    """One episode."""

    observation: Array
    """Shape (T + 1, 3)."""
    action: Array
    """Shape (T, 2)."""
    reward: Array
    """Shape (T,)."""


def record(lengths: Sequence[int] = LENGTHS) -> list[Recorded]:
    """Episodes whose observations count on from each other."""
    episodes, row = [], 0
    for length in lengths:
        rows = np.arange(row, row + length + 1, dtype=np.float32)
        step = np.arange(length, dtype=np.float32)
        observation = rows[:, None] + np.array([0, 0.25, 0.5], np.float32)
        episodes.append(Recorded(observation, np.stack([step, -step], axis=1), step / 2))
        row += length + 1
    return episodes


def make_d4rl(folder: Path, episodes: Sequence[Recorded]) -> Path:
    ends = np.cumsum([len(one.action) for one in episodes]) - 1
    rows = np.arange(ends[-1] + 1)
    return write_d4rl(
        folder / "play.hdf5",
        {
            "observations": np.concatenate([one.observation[:-1] for one in episodes]),
            "actions": np.concatenate([one.action for one in episodes]),
            "rewards": np.concatenate([one.reward for one in episodes]),
            "terminals": np.zeros(len(rows), np.bool_),
            "timeouts": np.isin(rows, ends),
        },
    )


def make_minari(folder: Path, episodes: Sequence[Recorded], layout: str = "hdf5") -> Path:
    storage = MinariStorage.new(
        folder / "data",
        gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32),
        gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        data_format=layout,
    )
    storage.update_episodes(
        EpisodeBuffer(
            id=number,
            observations=one.observation,
            actions=one.action,
            rewards=one.reward,
            terminations=np.zeros(len(one.reward), np.bool_),
            truncations=np.arange(len(one.reward)) == len(one.reward) - 1,
            infos={},
        )
        for number, one in enumerate(episodes)
    )
    return folder / "data"


def make_minari_arrow(folder: Path, episodes: Sequence[Recorded]) -> Path:
    return make_minari(folder, episodes, "arrow")


def make_minari_parquet(folder: Path, episodes: Sequence[Recorded]) -> Path:
    return make_minari(folder, episodes, "parquet")


def make_robomimic(folder: Path, episodes: Sequence[Recorded]) -> Path:
    """The observation in two keys, whose order by name is that of its axes."""
    with h5py.File(folder / "demo.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(len(one.action) for one in episodes)
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20, "robots": ["Panda"]}}
        )
        for number, one in enumerate(episodes):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = len(one.action)
            for name, rows in (("obs", one.observation[:-1]), ("next_obs", one.observation[1:])):
                demo[f"{name}/object"] = rows[:, :1].astype(np.float64)
                demo[f"{name}/robot0_eef_pos"] = rows[:, 1:].astype(np.float64)
            demo["actions"] = one.action.astype(np.float64)
            demo["rewards"] = one.reward.astype(np.float64)
            demo["dones"] = np.zeros(len(one.action), np.int64)
            demo["states"] = np.concatenate([one.observation[:-1]] * 2, axis=1).astype(np.float64)
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
    return folder / "demo.hdf5"


def make_spirl(folder: Path, episodes: Sequence[Recorded]) -> Path:
    root = folder / "rollouts"
    root.mkdir()
    for number, one in enumerate(episodes):
        with h5py.File(root / f"rollout_{number}.h5", "w") as file:
            file["traj_per_file"] = 1
            padding = ((0, 2), (0, 0))
            file["traj0/states"] = np.pad(one.observation[:-1], padding)
            file["traj0/actions"] = np.pad(one.action, padding)
            file["traj0/images"] = np.zeros((len(one.action) + 2, 4, 4, 3), np.uint8)
            file["traj0/pad_mask"] = np.pad(np.ones(len(one.action)), (0, 2))
    return root


def make_ogbench(folder: Path, episodes: Sequence[Recorded]) -> Path:
    ends = np.cumsum([len(one.observation) for one in episodes]) - 1
    observation = np.concatenate([one.observation for one in episodes])
    np.savez_compressed(
        folder / "cube-play-v0.npz",
        observations=observation,
        actions=np.concatenate([np.pad(one.action, ((0, 1), (0, 0)), constant_values=9.0) for one in episodes]),
        terminals=np.isin(np.arange(len(observation)), ends),
        qpos=observation.astype(np.float64)[:, :2],
    )
    return folder / "cube-play-v0.npz"


def make_zarr(folder: Path, episodes: Sequence[Recorded], *, zipped: bool = False) -> Path:
    path = folder / ("replay.zarr.zip" if zipped else "replay.zarr")
    store = ZipStore(path, mode="w") if zipped else LocalStore(path)
    root = zarr.create_group(store, zarr_format=2)
    state = np.concatenate([one.observation[:-1] for one in episodes])
    rows = {"data/state": state, "data/action": np.concatenate([one.action for one in episodes])}
    rows["data/img"] = np.zeros((len(state), 4, 4, 3), np.float32)
    rows["meta/episode_ends"] = np.cumsum([len(one.action) for one in episodes])
    for name, values in rows.items():
        array = root.create_array(name, shape=values.shape, chunks=(4, *values.shape[1:]), dtype=values.dtype)
        array[...] = values
    store.close()
    return path


def make_zarr_zip(folder: Path, episodes: Sequence[Recorded]) -> Path:
    return make_zarr(folder, episodes, zipped=True)


def _make_frames(episodes: Sequence[Recorded], first: int, index: int) -> pa.Table:
    """The columns that a LeRobotDataset has, of consecutive episodes; `index` counts on from the files before."""
    lengths = [len(one.action) for one in episodes]
    frame = np.concatenate([np.arange(length) for length in lengths])
    episode = np.repeat(np.arange(first, first + len(episodes)), lengths)
    state = np.concatenate([one.observation[:-1] for one in episodes])
    action = np.concatenate([one.action for one in episodes])
    return pa.table(
        {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(state.reshape(-1)), 3),
            "action": pa.FixedSizeListArray.from_arrays(pa.array(action.reshape(-1)), 2),
            "next.reward": np.concatenate([one.reward for one in episodes]),
            "timestamp": (frame / 10).astype(np.float32),
            "frame_index": frame,
            "episode_index": episode,
            "index": index + np.arange(len(frame)),
            "task_index": np.zeros(len(frame), np.int64),
        }
    )


def _make_info(version: str, episodes: Sequence[Recorded]) -> dict[str, Any]:
    return {
        "codebase_version": version,
        "robot_type": "so100",
        "total_episodes": len(episodes),
        "total_frames": sum(len(one.action) for one in episodes),
        "fps": 10,
        "features": {
            "observation.state": {"dtype": "float32", "shape": [3], "names": ["pan.pos", "lift.pos", "grip.pos"]},
            "observation.images.top": {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channel"]},
            "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["pan.pos", "lift.pos"]}},
            "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        },
    }


def make_lerobot_2(folder: Path, episodes: Sequence[Recorded]) -> Path:
    root = folder / "so100"
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(_make_info("v2.1", episodes)))
    index, lines = 0, []
    for number, one in enumerate(episodes):
        table = _make_frames([one], number, index)
        pq.write_table(table, root / "data" / "chunk-000" / f"episode_{number:06d}.parquet")
        lines.append(json.dumps({"episode_index": number, "tasks": ["pick"], "length": len(one.action)}))
        index += len(one.action)
    (root / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    (root / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "pick"}) + "\n")
    return root


def make_lerobot_3(folder: Path, episodes: Sequence[Recorded]) -> Path:
    """The first two episodes in one file, the others in a second one."""
    root = folder / "so100"
    for name in ("data/chunk-000", "meta/episodes/chunk-000"):
        (root / name).mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(_make_info("v3.0", episodes)))
    first = sum(len(one.action) for one in episodes[:2])
    pq.write_table(_make_frames(episodes[:2], 0, 0), root / "data/chunk-000/file-000.parquet", row_group_size=4)
    pq.write_table(_make_frames(episodes[2:], 2, first), root / "data/chunk-000/file-001.parquet")
    lengths = [len(one.action) for one in episodes]
    ends = np.cumsum(lengths)
    table = {
        "episode_index": np.arange(len(lengths)),
        "length": lengths,
        "data/chunk_index": [0] * len(lengths),
        "data/file_index": [0, 0, *[1] * (len(lengths) - 2)],
        "dataset_from_index": ends - lengths,
        "dataset_to_index": ends,
        "tasks": [["pick"]] * len(lengths),
    }
    pq.write_table(pa.table(table), root / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], "task": ["pick"]}), root / "meta/tasks.parquet")
    return root


CAMERA = "observation.images.top"
HEIGHT, WIDTH = 48, 64


def make_pictures(rows: Array) -> Array:
    """Pictures (N, 48, 64, 3) that say which row they are of: 10 a row in grey, and a white corner of 16 x 16."""
    pictures = np.empty((len(rows), HEIGHT, WIDTH, 3), np.uint8)
    pictures[:] = (10 * rows % 250)[:, None, None, None]
    pictures[:, :16, :16] = 255
    return pictures


def write_video(path: Path, pictures: Array, rate: int = 10, codec: str = "libx264") -> Path:
    """A video without losses but those of its colours, a key frame in three."""
    import av  # the children of the fuzzing begin sooner without it

    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"qp": "0", "g": "3", "threads": "1"} if codec == "libx264" else {}
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def count_rows(episodes: Sequence[Recorded]) -> list[Array]:
    """The rows of each episode, counted on."""
    ends = np.cumsum([len(one.action) for one in episodes])
    return [np.arange(end - len(one.action), end) for end, one in zip(ends.tolist(), episodes, strict=True)]


def make_lerobot_2_filmed(folder: Path, episodes: Sequence[Recorded]) -> Path:
    """A video for each episode."""
    root = make_lerobot_2(folder, episodes)
    for number, rows in enumerate(count_rows(episodes)):
        write_video(root / f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4", make_pictures(rows))
    return root


def make_lerobot_3_filmed(folder: Path, episodes: Sequence[Recorded]) -> Path:
    """The first two episodes in one video, the others in a second one."""
    root, rows = make_lerobot_3(folder, episodes), count_rows(episodes)
    for number, part in enumerate((rows[:2], rows[2:])):
        write_video(root / f"videos/{CAMERA}/chunk-000/file-{number:03d}.mp4", make_pictures(np.concatenate(part)))
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    places = [0, 0, *[1] * (len(rows) - 2)]
    begin = [(one[0] - (rows[2][0] if place else 0)) / 10 for one, place in zip(rows, places, strict=True)]
    columns = {
        "chunk_index": [0] * len(rows),
        "file_index": places,
        "from_timestamp": begin,
        "to_timestamp": [start + len(one) / 10 for start, one in zip(begin, rows, strict=True)],
    }
    for name, values in columns.items():
        table = table.append_column(f"videos/{CAMERA}/{name}", pa.array(values))
    pq.write_table(table, file)
    return root


FILMED = {"lerobot-2.1-video": make_lerobot_2_filmed, "lerobot-3.0-video": make_lerobot_3_filmed}
"""By layout: data sets of LeRobot with the videos of a camera."""
MAKERS: dict[str, tuple[str, Callable[[Path, Sequence[Recorded]], Path]]] = {
    "d4rl": ("d4rl", make_d4rl),
    "minari-hdf5": ("minari", make_minari),
    "minari-arrow": ("minari", make_minari_arrow),
    "minari-parquet": ("minari", make_minari_parquet),
    "robomimic": ("robomimic", make_robomimic),
    "lerobot-2.1": ("lerobot", make_lerobot_2),
    "lerobot-3.0": ("lerobot", make_lerobot_3),
    "zarr": ("zarr", make_zarr),
    "zarr-zip": ("zarr", make_zarr_zip),
    "ogbench": ("ogbench", make_ogbench),
    "spirl": ("spirl", make_spirl),
}
"""By layout: the format that reads it, and what writes it."""
