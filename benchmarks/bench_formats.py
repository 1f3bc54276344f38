"""Every format and every message type: whether the values are those of its own library, and how fast they are read.

Prints a JSON list of records: the share of values that are equal, steps or messages per second of the processor, of
both, and the ratio, the median over the rounds. What damage does to formats is in the records of `make fuzz`; here
payloads of each message type are damaged.

    OMP_NUM_THREADS=1 python benchmarks/bench_formats.py
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import av
import h5py
import numpy as np
import pyarrow.parquet as pq
import zarr
from bench_datasets import Record, compare, cpu_time_of
from minari.dataset.minari_storage import MinariStorage
from PIL import Image
from recording import print_records
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from zarr.storage import ZipStore

from supple.datasets.bags.mapping import TopicClock
from supple.datasets.bags.pictures import PictureReader
from supple.datasets.bags.reader import BagReader
from supple.datasets.bags.recording import Topic
from supple.datasets.bags.series import TRAJECTORY, Request, TopicReader
from supple.datasets.bags.trajectory import TrajectoryReader
from supple.datasets.formats import find_format
from supple.datasets.side_arrays import identify
from supple.errors import SuppleError
from supple.robots.ros.pictures import KINDS, RAW

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.datasets.bags.conftest import START, Bags
from tests.datasets.fuzz_readers import LAYOUTS
from tests.datasets.make_sources import CAMERA, FILMED, MAKERS, record
from tests.datasets.mutations import BYTES
from tests.datasets.test_formats import options_of

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_formats.py"
EPISODES, STEPS, SECONDS = 8, 250, 20.0
MESSAGES, DAMAGED = 5_000, 300
ROUNDS = 3
FRAMES, SIDES = 100, (240, 320)
"""Pictures of a camera, pixels."""
Arrays = list[np.ndarray[Any, Any]]
BAGS = Bags()


def read_ours(path: Path, name: str) -> Arrays:
    """Observation and action of all episodes."""
    episodes = list(find_format(path, name).read(path, options_of(name)).episodes())
    return [np.concatenate([one.arrays[key] for one in episodes]) for key in ("observation", "action")]


def read_d4rl(path: Path) -> Arrays:
    with h5py.File(path) as file:
        return [file["observations"][:], file["actions"][:]]


def read_minari(path: Path) -> Arrays:
    storage = MinariStorage.read(path)
    episodes = list(storage.get_episodes(range(storage.total_episodes)))
    return [
        np.concatenate([np.asarray(one["observations"])[:-1] for one in episodes]),
        np.concatenate([np.asarray(one["actions"]) for one in episodes]),
    ]


def read_robomimic(path: Path) -> Arrays:
    with h5py.File(path) as file:
        demos = [file[f"data/demo_{number}"] for number in range(len(file["data"]))]
        observation = [np.concatenate([one["obs/object"], one["obs/robot0_eef_pos"]], axis=1) for one in demos]
        return [np.concatenate(observation), np.concatenate([one["actions"][:] for one in demos])]


def read_lerobot(path: Path) -> Arrays:
    tables = [pq.read_table(file) for file in sorted(path.glob("data/*/*.parquet"))]
    keys = ("observation.state", "action")
    return [np.concatenate([np.stack(table[key].to_numpy()) for table in tables]) for key in keys]


def read_zarr(path: Path) -> Arrays:
    root = zarr.open_group(ZipStore(path, mode="r") if path.is_file() else path, mode="r", zarr_format=2)
    return [root["data/state"][:], root["data/action"][:]]


def read_ogbench(path: Path) -> Arrays:
    with np.load(path) as file:
        inner = np.concatenate(([True], ~file["terminals"][:-1]))  # of the rows that are no last one
        within = np.concatenate((inner[1:], [False]))
        return [file["observations"][within], file["actions"][within]]


def read_spirl(path: Path) -> Arrays:
    found: tuple[Arrays, Arrays] = ([], [])
    for number in range(len(list(path.iterdir()))):
        with h5py.File(path / f"rollout_{number}.h5") as file:
            rows = int(file["traj0/pad_mask"][:].sum())
            for values, key in zip(found, ("states", "actions"), strict=True):
                values.append(file[f"traj0/{key}"][:rows])
    return [np.concatenate(values) for values in found]


PEERS: dict[str, tuple[Callable[[Path], Arrays], str]] = {
    "d4rl": (read_d4rl, "h5py"),
    "minari": (read_minari, "minari"),
    "robomimic": (read_robomimic, "h5py"),
    "lerobot": (read_lerobot, "pyarrow"),
    "zarr": (read_zarr, "zarr"),
    "ogbench": (read_ogbench, "numpy"),
    "spirl": (read_spirl, "h5py"),
}
"""By format: how its own library, or the one that its loader uses, reads all values."""


def measure_format(layout: str, folder: Path) -> list[Record]:
    """One layout of `make_sources`."""
    name, maker = MAKERS[layout]
    source = maker(folder, record([STEPS] * EPISODES))
    read, library = PEERS[name]
    ours, theirs = read_ours(source, name), read(source)
    return measure(layout, "steps", library, ours, theirs, partial(read_ours, source, name), partial(read, source))


def measure_videos(layout: str, folder: Path) -> list[Record]:
    """One layout of LeRobot with a camera: its pictures, 48 x 64, and those that PyAV decodes from all files."""
    source = FILMED[layout](folder, record([STEPS] * EPISODES))
    options = replace(options_of("lerobot"), only=(CAMERA,))

    def read() -> Arrays:
        episodes = find_format(source, "lerobot").read(source, options).episodes()
        return [np.concatenate([one.arrays[identify(CAMERA)] for one in episodes])]

    def read_theirs() -> Arrays:
        found = []
        for file in sorted(source.rglob("*.mp4")):
            with av.open(file) as container:
                found += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return [np.stack(found)]

    return measure(layout, "steps", "av", read(), read_theirs(), read, read_theirs)


def measure_bag(kind: str, folder: Path) -> list[Record]:
    """One kind of bag, with joint states and commands; ours are steps at the rate of the joint states."""
    bag = BAGS.write(folder / "log", kind, BAGS.arm(SECONDS))

    def read_bag() -> Arrays:
        return [np.concatenate([one.arrays["observation"] for one in BagReader(bag).episodes()])]

    def read_rosbags() -> Arrays:
        with AnyReader([bag]) as reader:
            wanted = [one for one in reader.connections if one.topic == "/joint_states"]
            found = [
                reader.deserialize(payload, connection.msgtype).position
                for connection, _, payload in reader.messages(wanted)
            ]
        return [np.array(found, np.float32)]

    ours, theirs = read_bag(), read_rosbags()
    # the observation holds positions and, where there are any, velocities
    # a step is at every second joint state, as commands come at half their rate
    ours[0], theirs[0] = ours[0][:, :2], theirs[0][::2]
    rows = min(len(ours[0]), len(theirs[0]))
    return measure(kind, "steps", "rosbags", [ours[0][:rows]], [theirs[0][:rows]], read_bag, read_rosbags)


def measure(
    method: str, unit: str, library: str, ours: Arrays, theirs: Arrays, mine: Callable[[], Any], peer: Callable[[], Any]
) -> list[Record]:
    """Records of one format or message type."""
    equal = [
        np.asarray(a).astype(np.float64) == np.asarray(b).astype(np.float64) for a, b in zip(ours, theirs, strict=True)
    ]
    title = f"{library} {version(library)}"
    share = float(np.mean([part.mean() for part in equal]))
    shared = {"method": method, "metric": "values equal", "mean": share, "n": sum(part.size for part in equal)}
    times = np.array([(cpu_time_of(mine), cpu_time_of(peer)) for _ in range(ROUNDS)])
    rows = len(ours[0])
    rates = compare((method, f"{method}, {library}"), f"{unit} per second", {}, times, (rows, rows), title)
    for one in rates:
        one.pop("at")
    rates[-1]["metric"] = f"{unit} per second against the library"
    return [shared | {"peer": title}, *rates]


class Case(NamedTuple):
    """A message type, what of it is read, and how its messages look."""

    field: str
    axes: tuple[str, ...]
    make: Callable[[int], dict[str, Any]]


def _vector(*names: str, scale: float = 1.0) -> Callable[[int], dict[str, float]]:
    return lambda index: {name: scale * (index + at) for at, name in enumerate(names)}


_xyz, _xyzw = _vector("x", "y", "z"), _vector("x", "y", "z", "w")
CASES: dict[str, Case] = {
    "sensor_msgs/msg/JointState": Case(
        "position", ("a", "b"), lambda i: {"name": ["a", "b"], "position": [1.0 * i, 2.0 * i]}
    ),
    "nav_msgs/msg/Odometry": Case(
        "pose.pose.position",
        ("x", "y", "z"),
        lambda i: {"pose": {"pose": {"position": _xyz(i), "orientation": _xyzw(i)}}},
    ),
    "geometry_msgs/msg/PoseStamped": Case(
        "pose.orientation", ("x", "y", "z", "w"), lambda i: {"pose": {"position": _xyz(i), "orientation": _xyzw(i)}}
    ),
    "geometry_msgs/msg/WrenchStamped": Case("wrench.force", ("x", "y", "z"), lambda i: {"wrench": {"force": _xyz(i)}}),
    "geometry_msgs/msg/Twist": Case("linear", ("x", "y", "z"), lambda i: {"linear": _xyz(i)}),
    "geometry_msgs/msg/TwistStamped": Case("twist.angular", ("x", "y", "z"), lambda i: {"twist": {"angular": _xyz(i)}}),
    "std_msgs/msg/Float64MultiArray": Case("data", ("a", "b"), lambda i: {"data": [1.0 * i, 2.0 * i]}),
    "std_msgs/msg/Float32MultiArray": Case("data", ("a", "b"), lambda i: {"data": [1.0 * i, 2.0 * i]}),
    "std_msgs/msg/Bool": Case("data", ("data",), lambda i: {"data": i % 3 == 0}),
    "std_msgs/msg/Int64": Case("data", ("data",), lambda i: {"data": i}),
    TRAJECTORY: Case(
        "points.positions",
        ("a", "b"),
        lambda i: {
            "header": BAGS.stamp(START + i * 10**7),
            "joint_names": ["a", "b"],
            "points": [{"positions": [1.0 * i, 2.0 * i]}],
        },
    ),
    "my_robot/msg/Sample": Case("b", ("a", "b", "c"), lambda i: {"a": 1.0 * i, "b": [1.0 * i, 2.0, 3.0]}),
}
"""By message type; the last one is known from its definition alone."""
SAMPLE = "float64 a\nfloat32[3] b\n"


def measure_type(kind: str) -> list[Record]:
    """One message type: reading, and what damaged payloads do."""
    case, types = CASES[kind], get_typestore(Stores.ROS2_HUMBLE)
    if kind not in types.types:
        types.register(get_types_from_msg(SAMPLE, kind))
    few = MESSAGES // 5 if kind == TRAJECTORY else MESSAGES
    payloads = [bytes(types.serialize_cdr(BAGS.make(types, kind, case.make(index)), kind)) for index in range(few)]
    topic = Topic("/topic", kind, "cdr", SAMPLE if kind.startswith("my_robot") else "", "msg")
    request = Request(case.field, case.axes, (), "float64")

    def read(given: list[bytes]) -> Arrays:
        reader = (TrajectoryReader if kind == TRAJECTORY else TopicReader)(
            topic, TopicClock(name="/topic", clock="log"), (request,), "benchmark"
        )
        reader.add([START + index * 10**7 for index in range(len(given))], given)
        return [reader.finish()[0].values[0]]

    def read_theirs() -> Arrays:
        return [np.array([_pick(types.deserialize_cdr(one, kind), case) for one in payloads], np.float64)]

    ours, theirs = read(payloads), read_theirs()
    ours[0] = ours[0][: len(theirs[0])]
    records = measure(kind, "messages", "rosbags", ours, theirs, lambda: read(payloads), read_theirs)
    return [*records, damage(kind, payloads, read)]


def measure_pictures(kind: str) -> list[Record]:
    """As `measure_type`, of a camera: raw messages against rosbags, compressed ones (PNG) against Pillow behind it."""
    types, rng = get_typestore(Stores.ROS2_HUMBLE), np.random.default_rng(0)
    smooth = np.linspace(0, 200, SIDES[0] * SIDES[1] * 3).reshape(*SIDES, 3)
    pictures = (smooth + rng.integers(0, 50, (FRAMES, *SIDES, 3))).astype(np.uint8)
    payloads = []
    for picture in pictures:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG", compress_level=1)
        fields = {"format": "png", "data": np.frombuffer(stream.getvalue(), np.uint8)}
        if kind == RAW:
            size = {"height": SIDES[0], "width": SIDES[1], "step": 3 * SIDES[1]}
            fields = {**size, "encoding": "rgb8", "data": picture.ravel()}
        payloads.append(bytes(types.serialize_cdr(BAGS.make(types, kind, fields), kind)))
    topic = Topic("/topic", kind, "cdr", "", "msg")
    request = Request("", ("image",), (), "int64", picture=(*SIDES, 3))

    def read(given: list[bytes]) -> Arrays:
        reader = PictureReader(topic, TopicClock(name="/topic", clock="log"), (request,), "benchmark")
        reader.add([START + index * 10**7 for index in range(len(given))], given)
        reader.finish()
        return [reader.finish_pictures()[request]]

    def read_theirs() -> Arrays:
        found = [types.deserialize_cdr(one, kind) for one in payloads]  # type: ignore[attr-defined]
        if kind == RAW:
            return [np.stack([one.data.reshape(*SIDES, 3) for one in found])]
        return [np.stack([np.asarray(Image.open(io.BytesIO(one.data))) for one in found])]

    library = "rosbags" if kind == RAW else "pillow"
    records = measure(kind, "messages", library, read(payloads), read_theirs(), lambda: read(payloads), read_theirs)
    return [*records, damage(kind, payloads, read)]


def _pick(message: Any, case: Case) -> list[float]:
    if case.field.startswith("points."):
        return [float(number) for number in message.points[0].positions]
    value = message
    for name in case.field.split("."):
        value = getattr(value, name)
    if isinstance(value, bool | int | float):
        return [float(value)]
    return [
        float(n) for n in (value if isinstance(value, np.ndarray) else [getattr(value, axis) for axis in case.axes])
    ]


def damage(kind: str, payloads: list[bytes], read: Callable[[list[bytes]], Arrays]) -> Mapping[str, Any]:
    """Counts of damaged payloads, each among whole ones: left out and counted, or read as other numbers."""
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(("injected", "detected", "silent", "crashed", "hung"), 0)
    whole = read(payloads[:20])[0]
    harmless = 0
    for _ in range(DAMAGED):
        data = bytearray(payloads[9])
        BYTES[int(rng.integers(len(BYTES)))](data, rng)
        counts["injected"] += 1
        try:
            found = read([*payloads[:9], bytes(data), *payloads[10:20]])[0]
        except SuppleError:
            counts["detected"] += 1
            continue
        except Exception:  # noqa: BLE001 - whatever it is, it is the finding
            counts["crashed"] += 1
            continue
        if len(found) < len(whole) or np.isnan(found).any():
            counts["detected"] += 1
        elif np.array_equal(found, whole):
            harmless += 1
        else:
            counts["silent"] += 1
    return {"method": kind, "metric": "damaged payloads", "harmless": harmless, **counts}


def main() -> None:
    """Measures everything, or some layouts, and prints the records."""
    parser = argparse.ArgumentParser(description="Every format and every message type.")
    parser.add_argument("layouts", nargs="*", help="layouts of recordings, or message types; all by default")
    chosen = parser.parse_args().layouts
    began = time.perf_counter()
    formats: list[Mapping[str, Any]] = []
    for layout in [one for one in chosen if "/" not in one] if chosen else LAYOUTS:
        with tempfile.TemporaryDirectory() as place:
            look = measure_format if layout in MAKERS else measure_videos if layout in FILMED else measure_bag
            formats += look(layout, Path(place))
        print(layout, formats[-4]["mean"], formats[-1]["ratio"], file=sys.stderr, flush=True)
    types: list[Mapping[str, Any]] = []
    for kind in [one for one in chosen if "/" in one] if chosen else (*CASES, *KINDS):
        types += (measure_pictures if kind in KINDS else measure_type)(kind)
        print(kind, types[-5]["mean"], types[-2]["ratio"], types[-1], file=sys.stderr, flush=True)
    records = [one | {"benchmark": "formats"} for one in formats] + [
        one | {"benchmark": "message-types"} for one in types
    ]
    print_records("formats", " ".join([COMMAND, *chosen]), began, records)


if __name__ == "__main__":
    main()
