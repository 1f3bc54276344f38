"""A log of the arm of `my_arm.py`, with the flaws that logs of real robots have: `python examples/arm_log.py FOLDER`.

The arm goes from pose to pose without any task. Each session is one MCAP file of ROS 2 messages:

    /joint_states    sensor_msgs/JointState        100 Hz   position and velocity, in the order of the driver
    /hand_pose       geometry_msgs/PoseStamped      50 Hz   place and orientation of the hand
    /joint_command   sensor_msgs/JointState         20 Hz   target of each servo
    /episode         std_msgs/String                        start and stop

Sensors are noisy and late by a tick now and then, commands come up to 10 ms late, the recorder stamps each message with
its own clock, loses some, and records nothing for a third of a second about once a minute. Between stop and start
somebody carries the arm back.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from mcap.writer import Writer
from my_arm import ARM
from rosbags.typesys import Stores, get_typestore

TICK = 0.005
"""Seconds between two looks at the arm; the timestep of its model."""
STATE_TICKS, POSE_TICKS, COMMAND_TICKS = 2, 4, 10
DRIVER_ORDER = ("base", "elbow", "shoulder", "wrist")
"""By name, as joint_state_broadcaster sends them; the model has the shoulder before the elbow."""
POSITION_NOISE, VELOCITY_NOISE, PLACE_NOISE = 2e-4, 5e-3, 5e-4
"""Standard deviations, rad, rad/s and m."""
LATE_SHARE = 0.2
"""Of the measurements: those that come a tick late."""
LOST_SHARE = 0.001
DROPOUT, BETWEEN_DROPOUTS = 0.3, 60.0
"""Seconds."""
PAUSE = 2.0
"""Seconds between two episodes, in which somebody carries the arm back."""
BEGIN_NS = 1_750_000_000_000_000_000
TYPES = get_typestore(Stores.ROS2_HUMBLE)
KINDS = {
    "/joint_states": "sensor_msgs/msg/JointState",
    "/hand_pose": "geometry_msgs/msg/PoseStamped",
    "/joint_command": "sensor_msgs/msg/JointState",
    "/episode": "std_msgs/msg/String",
}


class Drive(NamedTuple):
    """Episodes of motion side by side: R episodes, N ticks, T commands."""

    states: np.ndarray[Any, Any]
    """What the arm observes at each tick, (R, N, O)."""
    commands: np.ndarray[Any, Any]
    """(R, T, A)."""
    sent: np.ndarray[Any, Any]
    """Tick from which each command is in force, (R, T)."""


class Message(NamedTuple):
    """One message, before it is encoded."""

    time: float
    """Seconds since the session began."""
    topic: str
    fields: dict[str, Any]


def drive(episodes: int, seed: int) -> Drive:
    """Goes from pose to pose, in all episodes at once."""
    rng, rows = np.random.default_rng(seed), np.arange(episodes)
    commands = next(ARM.play(episodes, seed)).action
    count = commands.shape[1]
    sent = COMMAND_TICKS * np.arange(count) + rng.integers(0, 3, (episodes, count))
    sent[:, 0] = 0
    ticks = COMMAND_TICKS * count
    robots = replace(ARM, control_period=TICK, episode_steps=ticks).make(episodes)
    now = robots.reset(rows, np.tile(robots.spec.goal.low, (episodes, 1)), rng)
    states = np.empty((episodes, ticks, now.shape[1]), np.float32)
    force = np.zeros(episodes, np.int64)
    for tick in range(ticks):
        force += sent[rows, np.minimum(force + 1, count - 1)] == tick
        states[:, tick] = now
        now = robots.step(rows, commands[rows, np.minimum(force, count - 1)]).observation
    robots.close()
    return Drive(states, commands, sent)


def measure(states: np.ndarray[Any, Any], begin: float, rng: np.random.Generator) -> Iterator[Message]:
    """What the driver publishes of one episode, (N, O)."""
    names = list(ARM.spec().observation.names)
    places = [names.index(name) for name in DRIVER_ORDER]
    for tick in range(0, len(states) - 1, STATE_TICKS):
        late = tick + int(rng.random() < LATE_SHARE)
        yield Message(
            begin + TICK * late,
            "/joint_states",
            {
                "name": list(DRIVER_ORDER),
                "position": states[late, places] + POSITION_NOISE * rng.standard_normal(4),
                "velocity": states[late, [names.index(f"{name}_v") for name in DRIVER_ORDER]]
                + VELOCITY_NOISE * rng.standard_normal(4),
            },
        )
    for tick in range(0, len(states), POSE_TICKS):
        place = states[tick, -3:] + PLACE_NOISE * rng.standard_normal(3)
        base, *others = states[tick, :4].astype(np.float64) / 2.0
        pitch = sum(others)
        turn = (-np.sin(base) * np.sin(pitch), np.cos(base) * np.sin(pitch), np.sin(base) * np.cos(pitch))
        yield Message(
            begin + TICK * tick, "/hand_pose", {"place": place, "turn": (*turn, np.cos(base) * np.cos(pitch))}
        )


def make_episode(motion: Drive, row: int, begin: float, rng: np.random.Generator) -> Iterator[Message]:
    """All messages of one episode, and of the pause behind it."""
    end = begin + TICK * motion.states.shape[1]
    yield Message(begin, "/episode", {"data": "start"})
    yield from measure(motion.states[row], begin, rng)
    names = list(ARM.spec().action.names)
    for command, tick in zip(motion.commands[row], motion.sent[row], strict=True):
        # exact, so that it stays within the limits
        yield Message(begin + TICK * tick, "/joint_command", {"name": names, "position": command.astype(np.float64)})
    yield Message(end, "/episode", {"data": "stop"})
    carried = np.linspace(motion.states[row, -1], motion.states[0, 0], round(PAUSE / TICK) - 1)
    yield from measure(carried, end + TICK, rng)


def encode(message: Message) -> bytes:
    """The message in CDR."""
    types, fields = TYPES.types, message.fields
    kind = KINDS[message.topic]
    if kind == "std_msgs/msg/String":
        return bytes(TYPES.serialize_cdr(types[kind](fields["data"]), kind))
    nanoseconds = BEGIN_NS + round(1e9 * message.time)
    stamp = types["builtin_interfaces/msg/Time"](*divmod(nanoseconds, 10**9))
    header = types["std_msgs/msg/Header"](stamp, "world")
    if kind == "sensor_msgs/msg/JointState":
        empty = np.empty(0)
        made = types[kind](header, fields["name"], fields["position"], fields.get("velocity", empty), empty)
    else:
        point = types["geometry_msgs/msg/Point"](*map(float, fields["place"]))
        turn = types["geometry_msgs/msg/Quaternion"](*map(float, fields["turn"]))
        made = types[kind](header, types["geometry_msgs/msg/Pose"](point, turn))
    return bytes(TYPES.serialize_cdr(made, kind))


def write_session(path: Path, messages: list[Message], rng: np.random.Generator) -> None:
    """Writes what the recorder receives, in its order, with its clock and without what it loses."""
    received = [message.time + 0.002 + rng.exponential(0.001) for message in messages]
    dropouts = np.cumsum(rng.exponential(BETWEEN_DROPOUTS, 1 + int(max(received) / BETWEEN_DROPOUTS)))
    with path.open("xb") as stream:
        writer = Writer(stream, enable_data_crcs=True)
        writer.start("ros2", "arm_log")
        channels = {}
        for topic, kind in KINDS.items():
            schema = writer.register_schema(kind, "ros2msg", TYPES.generate_msgdef(kind, ros_version=2)[0].encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        for number, place in enumerate(np.argsort(received, kind="stable").tolist()):
            message, time = messages[place], received[place]
            out = bool(((dropouts <= time) & (time < dropouts + DROPOUT)).any()) or rng.random() < LOST_SHARE
            if message.topic == "/episode" or not out:
                stamp = BEGIN_NS + round(1e9 * time)
                writer.add_message(channels[message.topic], stamp, encode(message), stamp, number)
        writer.finish()


def record(folder: tyro.conf.Positional[Path], episodes: int = 200, sessions: int = 10, seed: int = 0) -> None:
    """Records sessions of the arm.

    Args:
        folder: To make, with one MCAP file per session.
        episodes: Of 25 s, in all; shared evenly among the sessions.
        sessions: Number of files.
        seed: Of motion, noise and losses.
    """
    folder.mkdir(parents=True)
    for session in range(sessions):
        rng = np.random.default_rng((seed, session))
        motion = drive(episodes // sessions, seed * sessions + session)
        lasts = TICK * motion.states.shape[1] + PAUSE
        messages = [
            message
            for row in range(len(motion.states))
            for message in make_episode(motion, row, 1.0 + row * lasts, rng)
        ]
        write_session(folder / f"session-{session:03}.mcap", messages, rng)


if __name__ == "__main__":
    tyro.cli(record)
