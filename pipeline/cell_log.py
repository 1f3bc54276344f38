"""All that happened while an agent adapts, as MCAP logs: every observation, command, clamp, fault and intervention.

    log/0001.mcap, log/0002.mcap, ...   one file for each start; no later one writes to it

A file holds standard ROS 2 messages, so that Foxglove and `supple inspect` open it. Axes with a unit of motion are
`sensor_msgs/JointState`, other numbers `Float32MultiArray` with the names of the axes, and all else a
`std_msgs/String` of JSON. Chunks are small. They go to the operating system as soon as they are full: a SIGKILL costs
at most the last `CHUNK_BYTES`, a fraction of a second.

Topics of row 0; row n > 0 has `/row<n>` before each, and axes of several kinds of units have `/position`, `/velocity`,
`/effort` and `/values` behind it:

    /observation      as measured, after the command
    /action           as sent to the robot; none where nothing was sent
    /command/policy   the policy's
    /command/asked    what was asked of the safety limits: the policy's, slowed down, or a person's
    /image            that goes with the observation, of a robot that shows pictures to the policy; row 0 alone
    /goal             of the task, at each reset
    /reward           of the step
    /skill            that is held, where the policy chooses skills; else `/chosen`: the command that it chose, before
                      all limits, in the robot's units
    /skill_log_prob   log density with which it was chosen, nats; 0 where `/skill_known` is 0. Or `/chosen_log_prob`
    /skill_known      1 where the skill was drawn by the policy, so that its density is known; else 0: a mean, a skill
                      that logs chose, or a step of a person. Or `/chosen_known`
    /step             taken over, clamped, terminated, truncated: 0 or 1 each; success, -1 where nobody tells; the
                      number of the step in its episode; whether the episode only evaluates
    /event            resets, faults, stops, records, and the sha256 of the policies after each episode

Every event has a time of its own, later than that of the one before, whatever the clock of the computer does. So
`supple ingest` and `supple replay` read each step of row 0 as one row, with its reward and the end of its episode: see
`datasets/bags/control_steps.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.schema import IMAGE, Feature, Role, Schema, make_image_feature
from ..errors import ConfigError, RobotFault
from ..robots.ros.pictures import RAW
from ..robots.spec import ArraySpec, Axis, RobotSpec

CHUNK_BYTES = 4096
"""Of messages in a chunk: a kill costs at most these."""
HELD_PERIODS = 3
"""Control periods for which a measurement and a command, which jitter, count for who reads the log by a grid."""
_JOINTS, _NUMBERS, _TEXT = "sensor_msgs/msg/JointState", "std_msgs/msg/Float32MultiArray", "std_msgs/msg/String"


class CellLog:
    """The log of one start of the stage; a `watch.Sink`.

    Args:
        folder: Where the files are; made if it is not there.
        spec: Of the robot.
        about: What the log is of, as text by name.
        simulated: The clock of the simulation counts: it goes on by a control period in each step.
        skill_dim: Numbers of a skill; 0 where the policy chooses commands; None where nobody says what it chooses.

    Raises:
        ConfigError: The extra `ros` is not installed.
        RobotFault: The log cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        spec: RobotSpec,
        about: dict[str, str],
        *,
        simulated: bool = False,
        skill_dim: int | None = None,
    ) -> None:
        try:
            from mcap.writer import Writer
            from rosbags.typesys import Stores, get_typestore

            from ..datasets.bags.control_steps import FLAGS
            from ..datasets.bags.mcap_recording import METADATA_NAME
            from ..datasets.bags.writer import JOINT_FIELDS, describe_steps, make_picture
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"--log: expected the library {error.name}, got none; install it with: pip install 'supple[ros]'"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(path.stem) for path in folder.glob("*.mcap") if path.stem.isdigit()), default=0)
        self.path = folder / f"{number:04d}.mcap"
        self._types, self._make_picture = get_typestore(Stores.ROS2_HUMBLE), make_picture
        self._parts: dict[str, list[tuple[str, tuple[str, ...], Any]]] = {
            "step": [("values", FLAGS, slice(None))],
            "reward": [("values", ("reward",), slice(None))],
            "goal": _split(spec.goal.axes, JOINT_FIELDS),
        }
        self._parts["observation"] = _split(spec.observation.axes, JOINT_FIELDS)
        self._parts |= {
            feature.name: [("values", feature.axes, slice(None))] for feature in make_choice_features(spec, skill_dim)
        }
        self._parts |= dict.fromkeys(("action", "command", "chosen"), _split(spec.action.axes, JOINT_FIELDS))
        self._choice = None if skill_dim is None else name_choice(skill_dim)
        self._stream: IO[bytes] = self.path.open("xb")
        self._writer = Writer(self._stream, chunk_size=CHUNK_BYTES, enable_data_crcs=True)
        self._writer.start("ros2", "supple")
        held = HELD_PERIODS * spec.control_period
        self._writer.add_metadata(METADATA_NAME, describe_steps(make_schema(spec, skill_dim), "/step", held=held))
        self._writer.add_metadata("supple adapt", {"robot": json.dumps(spec.to_json()), **about})
        self._period_ns = round(1e9 * spec.control_period) if simulated else None
        self._last_ns = time.time_ns()
        self._index: dict[int, int] = {}
        """Of the next step of each row in its episode."""
        self._channels: dict[str, int] = {}
        self._count = 0
        self._stream.flush()

    def write(self, event: str, **facts: Any) -> None:
        """See `watch.Sink.write`.

        Raises:
            RobotFault: The log cannot be written: a robot whose log is full does not move on.
        """
        try:
            if event == "step":
                self._write_step(**facts)
            elif event == "picture":
                message = self._make_picture(self._types, facts["picture"], self._last_ns)
                self._add(f"/{IMAGE}", RAW, message, self._last_ns)
            else:
                now = self._tick()
                if event == "reset":
                    self._write_rows("observation", facts["rows"], facts["observation"], now)
                    self._write_rows("goal", facts["rows"], facts["goals"], now)
                    self._index |= dict.fromkeys(facts["rows"].tolist(), 0)
                plain = {name: _to_plain(value) for name, value in facts.items() if name != "observation"}
                self._write_text({"event": event, **plain, "monotonic": time.monotonic()}, now)
            self._stream.flush()
        except OSError as error:
            raise RobotFault(
                f"{self.path}: expected space for the log, got {error.strerror}; free some, then adapt again"
            ) from error

    def _tick(self, told_ns: int | None = None) -> int:
        """Time of an event, ns since 1970: later than all before it, or not before them if it is given.

        A clock that is set back, or two events within its resolution, would else mix up what came first.
        """
        if told_ns is not None:
            self._last_ns = self._last_ns if self._period_ns is not None else max(self._last_ns, told_ns)
        elif self._period_ns is not None:
            self._last_ns += self._period_ns
        else:
            self._last_ns = max(self._last_ns + 1, time.time_ns())
        return self._last_ns

    def _write_step(
        self, rows: Any, told_ns: int, policy: Any, asked: Any, sent: Any, observation: Any, **facts: Any
    ) -> None:
        told = self._tick(told_ns)
        self._write_rows("command/policy", rows, policy, told)
        self._write_rows("command/asked", rows, asked, told)
        if sent is not None:
            self._write_rows("action", rows, sent, told)
        now = self._tick()
        self._write_rows("observation", rows, observation, now)
        self._write_rows("reward", rows, facts["reward"][:, None], now)
        if self._choice is not None:
            known = np.isfinite(facts["log_prob"])
            self._write_rows(self._choice, rows, facts["chosen"], now)
            self._write_rows(f"{self._choice}_log_prob", rows, np.where(known, facts["log_prob"], 0.0)[:, None], now)
            self._write_rows(f"{self._choice}_known", rows, known[:, None].astype(np.float32), now)
        success = np.full(len(rows), -1.0) if facts["success"] is None else facts["success"]
        index = [self._index.get(row, 0) for row in rows.tolist()]
        self._index |= {row: number + 1 for row, number in zip(rows.tolist(), index, strict=True)}
        clamped, evaluated = facts["clamped"].any(axis=1), np.full(len(rows), facts["evaluation"])
        flags = (facts["taken_over"], clamped, facts["terminated"], facts["truncated"], success, index, evaluated)
        self._write_rows("step", rows, np.stack([np.asarray(flag, np.float64) for flag in flags], axis=1), now)

    def _write_rows(self, name: str, rows: Any, values: NDArray[Any], now: int) -> None:
        parts = self._parts[name.split("/")[0]]
        for row, value in zip(rows, values, strict=True):
            topic = f"/{name}" if row == 0 else f"/row{row}/{name}"
            for kind, axes, places in parts:
                self._add(
                    f"{topic}/{kind}" if len(parts) > 1 else topic, *self._make(kind, axes, value[places], now), now
                )

    def _make(self, kind: str, axes: Sequence[str], value: NDArray[Any], now: int) -> tuple[str, Any]:
        """The type and the message of some axes."""
        types = self._types.types
        if kind == "values":
            dimension = types["std_msgs/msg/MultiArrayDimension"](", ".join(axes), value.size, value.size)
            layout = types["std_msgs/msg/MultiArrayLayout"]([dimension], 0)
            return _NUMBERS, types[_NUMBERS](layout, np.ascontiguousarray(value, np.float32))
        header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](now // 10**9, now % 10**9), "")
        fields = dict.fromkeys(("position", "velocity", "effort"), np.empty(0)) | {kind: value.astype(np.float64)}
        return _JOINTS, types[_JOINTS](header, list(axes), **fields)

    def _write_text(self, record: dict[str, Any], now: int) -> None:
        self._add("/event", _TEXT, self._types.types[_TEXT](json.dumps(record)), now)

    def _add(self, topic: str, kind: str, message: Any, now: int) -> None:
        if topic not in self._channels:
            text = self._types.generate_msgdef(kind, ros_version=2)[0]
            schema = self._writer.register_schema(kind, "ros2msg", text.encode())
            self._channels[topic] = self._writer.register_channel(topic, "cdr", schema)
        data = bytes(self._types.serialize_cdr(message, kind))
        self._writer.add_message(self._channels[topic], now, data, now, self._count)
        self._count += 1

    def close(self) -> None:
        """Writes what is pending and the index; the file is then whole."""
        if not self._stream.closed:
            try:
                self._writer.finish()  # type: ignore[no-untyped-call]
            finally:
                self._stream.close()

    def __enter__(self) -> CellLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def name_choice(skill_dim: int) -> str:
    """What a policy chooses, as `supple replay` reads it: see `replay/levels.py`."""
    return "skill" if skill_dim else "chosen"


def make_choice_features(spec: RobotSpec, skill_dim: int | None) -> list[Feature]:
    """What was chosen for each step, with its density; none where nobody says what is chosen."""
    if skill_dim is None:
        return []
    name, axes = name_choice(skill_dim), tuple(f"skill{index}" for index in range(skill_dim))
    units: tuple[str, ...] = ("",) * skill_dim
    if not skill_dim:
        axes, units = spec.action.names, tuple(axis.unit for axis in spec.action.axes)
    density, known = (
        Feature(name=each, dtype="float32", shape=(), units=("",), role="other", axes=(each,))
        for each in (f"{name}_log_prob", f"{name}_known")
    )
    chosen = Feature(name=name, dtype="float32", shape=(len(axes),), units=units, role="other", axes=axes)
    return [chosen, density, known]


def make_schema(spec: RobotSpec, skill_dim: int | None = None) -> Schema:
    """What a log has of each step: observation, action, goal and picture where there are any, reward, flags and time.

    What was chosen, too, where somebody says.
    """

    def one(name: str, role: Role, dtype: str = "float32", unit: str = "") -> Feature:
        return Feature(name=name, dtype=dtype, shape=(), units=(unit,), role=role, axes=(name,))

    roles: list[tuple[ArraySpec, Role]] = [
        (spec.observation, "observation"),
        (spec.action, "action"),
    ]
    if spec.goal.axes:
        roles.append((spec.goal, "goal"))
    features = [
        Feature(
            name=role,
            dtype="float32",
            shape=array.shape,
            units=tuple(axis.unit for axis in array.axes),
            role=role,
            axes=array.names,
        )
        for array, role in roles
    ]
    flags = [one(name, "other") for name in ("success", "taken_over", "evaluation")]
    features += [] if spec.image is None else [make_image_feature(IMAGE, spec.image.shape)]
    features += [
        one("reward", "reward"),
        *flags,
        *make_choice_features(spec, skill_dim),
        one("time", "other", "int64", "ns"),
    ]
    return Schema(features=tuple(features), control_period=spec.control_period, robot=spec)


def _split(axes: Sequence[Axis], fields: Mapping[str, str]) -> list[tuple[str, tuple[str, ...], Any]]:
    """Kind of unit, names and places of axes, one entry for each kind."""
    kinds = [fields.get(axis.unit, "values") for axis in axes]
    found = []
    for kind in dict.fromkeys(kinds):
        places = [index for index, one in enumerate(kinds) if one == kind]
        found.append((kind, tuple(axes[index].name for index in places), places))
    return found


def _to_plain(value: Any) -> Any:
    """JSON of numbers and arrays; a number that is not finite is told as text."""
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(plain, dict):
        return {name: _to_plain(one) for name, one in plain.items()}
    if isinstance(plain, list | tuple):
        return [_to_plain(one) for one in plain]
    if isinstance(plain, float) and not np.isfinite(plain):
        return str(plain)
    return plain
