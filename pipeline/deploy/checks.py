"""What has to be true before a robot moves by a bundle: the checks of `supple doctor`, each of them by itself.

A check says `ok`, `warning` (the robot may move, and somebody should know), `failed` (it must not) or `not checked`.
"""

from __future__ import annotations

import gc
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ...adapt.action_limits import ActionLimits
from ...adapt.bundle import Bundle, require_robot
from ...adapt.session import AgentSession, make_middle
from ...adapt.watchdog import Watchdog
from ...errors import BundleError, ConfigError, RobotFault, SpecError, SuppleError, describe_error
from ...robots.hardware_family import HardwareFamily
from ...robots.limits import RobotLimits
from ...robots.ros.driver import survey
from ...robots.ros.ros_robot import RosRobot
from ...robots.spec import ArraySpec, RobotSpec
from ...strict_json import load_json
from ..settings.motion import MotionConfig
from .note_stop import note_stop

Status = Literal["ok", "warning", "failed", "not checked"]
ACTS = 2000
"""Calls that the latency is measured by."""
SLACK = 0.05
"""Two rates are alike within it, as in `RobotSpec.require_match`."""
LISTENS = 2.0
"""Seconds for which the topics of a robot are listened to."""
WATCHDOG_TIMEOUT = 0.1
WORDS = "the drives lost power"
"""What a person types to acknowledge the emergency stop."""


class Check(NamedTuple):
    """One line of the list."""

    name: str
    status: Status
    said: str
    details: tuple[str, ...] = ()
    """Lines below it, such as a diff."""


def check_robot(bundle: Bundle, robot: RobotSpec | None) -> Check:
    """Whether the robot is the one that the bundle was made for: rate, and axes in their order, units and limits."""
    if robot is None:
        return Check("robot", "not checked", "no --robot was named; the bundle's own axes are shown by supple info")
    try:
        require_robot(bundle.contract, robot)
    except BundleError as error:
        return Check("robot", "failed", str(error), tuple(list_differences(bundle.contract.robot, robot)))
    axes = len(robot.observation.axes) + len(robot.action.axes)
    return Check("robot", "ok", f"'{robot.name}' has the {axes} axes, units, limits and the rate of the bundle")


def list_differences(mine: RobotSpec, other: RobotSpec) -> Iterator[str]:
    """A diff for people, place by place: `-` as the bundle has it, `+` as the robot has it."""
    if abs(mine.control_period - other.control_period) > SLACK * mine.control_period:
        yield f"- control_period {mine.control_period:g} s ({1 / mine.control_period:g} Hz)"
        yield f"+ control_period {other.control_period:g} s ({1 / other.control_period:g} Hz)"
    if mine.choices != other.choices:
        yield f"- choices {', '.join(mine.choices) or 'none'}"
        yield f"+ choices {', '.join(other.choices) or 'none'}"
    for name in ("observation", "action", "goal"):
        mine_axes, other_axes = _list_axes(getattr(mine, name)), _list_axes(getattr(other, name))
        for index in range(max(len(mine_axes), len(other_axes))):
            pair = [axes[index] if index < len(axes) else "none" for axes in (mine_axes, other_axes)]
            if pair[0] != pair[1]:
                yield f"- {name} {index}: {pair[0]}"
                yield f"+ {name} {index}: {pair[1]}"
        names = [getattr(spec, name).names for spec in (mine, other)]
        if names[0] != names[1] and sorted(names[0]) == sorted(names[1]):
            yield f"  {name}: the same names in another order"


def _list_axes(spec: ArraySpec) -> list[str]:
    return [
        f"{axis.name} [{axis.unit}] {axis.low:g} .. {axis.high:g}"
        + ("" if axis.rate_limit is None else f", {axis.rate_limit:g} {axis.unit}/s")
        for axis in spec.axes
    ]


def check_limits(bundle: Bundle, path: Path | None) -> Check:
    """Whether every action axis has limits, and whether these are within the robot's own.

    Args:
        bundle: Loaded.
        path: JSON file: {action axis: {"low": ..., "high": ..., "rate_limit": ...}}, each of them optional; or the TOML
            file of `supple adapt --limits`.

    Raises:
        ConfigError: The file is no such file.
    """
    robot = bundle.contract.robot
    further = find_further(path)
    limits = RobotLimits.of(robot) if further is None else RobotLimits.of(robot).override(further)
    try:
        ActionLimits.of(robot, limits)
    except SpecError as error:
        return Check("limits", "failed", str(error))
    beyond = [] if path is None or further is not None else list(_list_beyond(robot.action, path))
    if beyond:
        said = (
            f"expected the bundle's limits within those of {path}, got {len(beyond)} beyond; give the robot its limits"
        )
        return Check("limits", "failed", said, tuple(beyond))
    found = zip(robot.action.names, limits.action, limits.chains, strict=True)
    free = [name for name, bounds, chain in found if chain[0] == "position" and "velocity" not in bounds]
    if free:
        said = f"no rate limit for {', '.join(free)}, which command a place: the first command may be a jump"
        return Check("limits", "warning", said)
    return Check("limits", "ok", f"all {len(robot.action.axes)} action axes have finite limits")


def find_further(path: Path | None) -> Path | None:
    """The file of limits if it is one of `supple adapt --limits`."""
    return path if path is not None and path.suffix == ".toml" else None


def check_motion(family: HardwareFamily, path: Path | None) -> Check:
    """Whether `supple adapt --execute` would move the robot: with these limits, and with somebody who can stop it."""
    try:
        family.limits()
    except SuppleError as error:
        return Check("motion", "failed", str(error))
    motion = MotionConfig(execute=True, limits=find_further(path))
    try:
        motion.find_limits(family)
        motion.require_guarded(family)
    except SuppleError as error:
        said = describe_error(error.args[0].partition(" among:")[0], most=400)
        return Check("motion", "warning", f"supple adapt --execute would refuse it: {said}")
    return Check("motion", "ok", "supple adapt --execute takes its limits, and somebody stops it when commands cease")


def _list_beyond(action: ArraySpec, path: Path) -> Iterator[str]:
    data = load_json(path, dict, ConfigError, "give the limits of each action axis", "a JSON file of limits")
    axes = {axis.name: axis for axis in action.axes}
    for name, limits in data.items():
        known = isinstance(limits, dict) and not set(limits) - {"low", "high", "rate_limit"}
        if name not in axes or not known or not all(type(value) in (int, float) for value in limits.values()):
            raise ConfigError(
                f"{path}: expected low, high and rate_limit as numbers of one of {', '.join(axes)}, got {name!r}: "
                f"{limits!r:.80}; correct it"
            )
        axis = axes[name]
        rate = math.inf if axis.rate_limit is None else axis.rate_limit
        for field, value, sign in (("low", axis.low, -1.0), ("high", axis.high, 1.0), ("rate_limit", rate, 1.0)):
            if field in limits and sign * value > sign * limits[field]:
                yield f"{name} {field}: {limits[field]:g} {axis.unit} of the robot, {value} of the bundle"


def check_rates(bundle: Bundle, bag: Path | None, mapping: Path | None) -> Check:
    """Whether the topics of a bag come as often as the policy acts, and carry the axes of the bundle in their units.

    Raises:
        ConfigError: There is a bag and no mapping.
        SourceError: One of them cannot be read.
    """
    if bag is None:
        return Check("topics", "not checked", "no --bag was given; record one of the robot that is to move")
    if mapping is None:
        raise ConfigError(f"doctor: expected --mapping with --bag {bag}, got none; draft one: supple inspect {bag}")
    from ...datasets.bags.bag_files import open_recording
    from ...datasets.bags.finding import find_bags
    from ...datasets.bags.mapping import load_mapping
    from ...datasets.bags.quality import measure_topic

    signals = load_mapping(mapping).signal
    robot, details, wrong = bundle.contract.robot, list[str](), 0
    for spec in (robot.observation, robot.action):
        found = [pair for one in signals if one.feature == spec.name for pair in zip(one.axes, one.units, strict=True)]
        wanted = [(axis.name, axis.unit) for axis in spec.axes]
        for index in range(max(len(found), len(wanted))):
            pair = [_name_axis(axes[index] if index < len(axes) else None) for axes in (wanted, found)]
            if pair[0] != pair[1]:
                wrong += 1
                details += [f"- {spec.name} {index}: {pair[0]}", f"+ {spec.name} {index}: {pair[1]}"]
    wanted_rate = 1.0 / robot.control_period
    names = {one.topic for one in signals if one.feature == robot.observation.name}
    for path in find_bags(bag):
        recording = open_recording(path)
        topics = {index: topic.name for index, topic in enumerate(recording.topics) if topic.name in names}
        times: dict[str, list[int]] = {name: [] for name in names}
        for message in recording.messages(topics.keys()):
            times[topics[message.topic]].append(message.log_time)
        for name, stamps in sorted(times.items()):
            measured = measure_topic(np.sort(np.array(stamps, np.int64)))
            slow = measured["rate"] < (1.0 - SLACK) * wanted_rate
            wrong += slow
            text = f"{path.name} {name}: {measured['rate']:g} Hz, longest gap {1e3 * measured['longest_gap']:g} ms"
            details.append(f"{'-' if slow else ' '} {text}")
    if wrong:
        said = f"expected axes and units of the bundle at {wanted_rate:g} Hz or more, got {wrong} differences"
        return Check("topics", "failed", f"{said}; correct the mapping, or the drivers' rates", tuple(details))
    return Check("topics", "ok", f"{len(names)} topics at {wanted_rate:g} Hz or more", tuple(details))


def check_ros(robot: RosRobot) -> Check:
    """Whether a robot of ROS 2 is there: rates, joints and stamps of its topics, and its controller. Nothing moves."""
    try:
        found = survey(robot, LISTENS)
    except (RobotFault, ConfigError) as error:
        return Check("ROS 2", "failed", str(error))
    wanted, details, slow = 1.0 / robot.contract.control_period, list[str](), 0
    for topic, rate in sorted(found.rates.items()):
        camera = robot.camera if robot.camera is not None and robot.camera.topic == topic else None
        late = rate < (1.0 - SLACK) * (wanted if camera is None else 1.0 / camera.max_age)
        slow += late
        details.append(f"{'-' if late else ' '} {topic}: {rate:.1f} Hz")
    others = sorted(set(found.joints) - set(robot.controller.joints))
    details += [
        f"  joints: {', '.join(found.joints)}" + (f"; not commanded: {', '.join(others)}" if others else ""),
        f"  oldest measurement: {1e3 * found.age:.1f} ms",
        f"  {robot.controller.topic}: {found.listeners} listen; its parameter `joints` has to be "
        f"{', '.join(robot.controller.joints)}, in this order",
    ]
    if slow:
        seen = "" if robot.camera is None else f" and pictures every {robot.camera.max_age:g} s"
        said = f"expected topics at {wanted:g} Hz or more{seen}, got {slow} slower ones; raise the rate of the driver"
        return Check("ROS 2", "failed", said, tuple(details))
    if not robot.stamped:
        said = "joint states have no stamps: an old measurement that is published again counts as new"
        return Check("ROS 2", "warning", said, tuple(details))
    return Check("ROS 2", "ok", f"{len(found.rates)} topics at {wanted:g} Hz or more, all axes found", tuple(details))


def _name_axis(axis: tuple[str, str] | None) -> str:
    return "none" if axis is None else f"{axis[0]} [{axis[1]}]"


def check_latency(bundle: Bundle, share: float) -> Check:
    """How long `act` takes on this machine.

    Args:
        bundle: Loaded.
        share: Of the control period that 99 % of the calls may take.
    """
    period = bundle.contract.robot.control_period
    try:
        times = 1e3 * measure_acts(bundle, ACTS)
    except SpecError as error:
        return Check("latency", "not checked", str(error))
    middle, late, worst = (float(value) for value in np.percentile(times, [50, 99, 100]))
    said = (
        f"act: p50 {middle:.3f} ms, p99 {late:.3f} ms, worst {worst:.3f} ms of a control period of {1e3 * period:g} ms"
    )
    if late > share * 1e3 * period:
        return Check("latency", "failed", f"{said}; free the machine, or take a faster one")
    return Check("latency", "ok", said)


def measure_acts(bundle: Bundle, acts: int) -> Any:
    """Seconds of each of so many calls of `AgentSession.act`, in episodes as long as the contract allows.

    Raises:
        SpecError: The robot has no limits.
    """
    session, spec = AgentSession(bundle, seed=0), bundle.contract.robot
    seen = make_middle(session.measured)
    picture = None if session.image is None else session.image.make_dark()
    times = np.empty(acts)
    session.reset(task=True)
    with np.errstate(all="ignore"):
        session.act(seen, picture)  # the first call is slow
        gc.disable()
        try:
            for index in range(acts):
                if session.steps == spec.episode_steps:
                    session.reset()
                began = time.perf_counter()
                session.act(seen, picture)
                times[index] = time.perf_counter() - began
        finally:
            gc.enable()
    return times


def check_watchdog() -> Check:
    """Whether a second process stops a robot here when the heartbeats of this one cease."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stopped"
        try:
            watchdog = Watchdog(note_stop, WATCHDOG_TIMEOUT, [str(path)])
        except RobotFault as error:
            return Check("watchdog", "failed", str(error))
        try:
            watchdog.beat()
            began = time.monotonic()
            while not path.exists() and time.monotonic() < began + 5.0:
                time.sleep(0.005)
            waited = time.monotonic() - began
        finally:
            watchdog.close()
        if not path.exists():
            return Check("watchdog", "failed", f"expected a stop within {WATCHDOG_TIMEOUT} s, got none within 5 s")
    said = f"a second process stopped {1e3 * waited:.0f} ms after the last heartbeat, with a timeout of 100 ms"
    return Check("watchdog", "ok" if waited < 1.0 else "warning", said)


def check_stop(needed: bool, ask: Callable[[str], str] | None) -> Check:
    """Whether a person has just tried the emergency stop.

    Args:
        needed: The robot is a real one.
        ask: Asks a person and returns what was typed; None where nobody is there. No option answers for a person.
    """
    if not needed:
        return Check("e-stop", "ok", "a simulator needs none")
    if ask is None:
        said = "nobody is there to acknowledge it; run supple doctor on a terminal, beside the robot"
        return Check("e-stop", "failed", said)
    typed = ask(f"Press the emergency stop now. Has the robot lost power? Type: {WORDS}\n> ").strip()
    if typed != WORDS:
        return Check("e-stop", "failed", f"expected '{WORDS}', got {typed!r:.40}; the robot must not move without it")
    return Check("e-stop", "ok", "tried and acknowledged by a person")
