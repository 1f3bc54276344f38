"""A robot of ROS 2: which topics are which axes of its contract, and which controller takes its commands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...bounds import Bounded, Positive, require_bounds
from ...errors import ConfigError
from ..spec import RobotSpec
from .messages import Controller, JointValue, Source, TrajectoryController, require_sources
from .pictures import RosCamera
from .transport import OpensTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class RosRobot(Bounded):
    """Everything that a driver has to know.

    Raises:
        ConfigError: Axes, joints, controller and home do not fit together.
    """

    transport: OpensTransport
    """`cyclonedds.CycloneDds`, `zenoh.Zenoh` or `rclpy.Rclpy`."""
    contract: RobotSpec
    """Of the robot. An action axis that commands a place names the observation axis with `Axis.commands`."""
    observation: Mapping[str, Source]
    """Where each observation axis stands, by its name."""
    action: Mapping[str, JointValue]
    """The joint of each action axis, by the axis' name."""
    controller: Controller
    """What takes the commands."""
    joint_topic: str = "/joint_states"
    """Topic of joint states."""
    stamped: bool = True
    """Whether messages of joint states have the time of the measurement in their header. Without it, ages count from
    the moment at which a message was published, as the transport says."""
    home: tuple[float, ...] | None = None
    """Command of the start of an episode, shape (A,); None where a person or another program brings the robot there."""
    home_seconds: Positive = 3.0
    """Least duration of the way there."""
    home_tolerance: Positive = 0.05
    """Distance of each commanded observation axis from home, in its unit, at which the robot is there."""
    max_age: Positive = 0.3
    """Seconds after which a robot that has fallen silent is not sent home any further."""
    stop_topic: str = ""
    """A topic of `Bool` that is told true at a stop, for drivers that listen to one; empty for none."""
    camera: RosCamera | None = None
    """Of a robot whose policies see; its pictures are scaled down to those of the contract."""
    ready_topic: str = ""
    """A topic of `Bool` on which the robot says, again and again, whether it may be moved; empty for none."""
    timeout: Positive = 5.0
    """Seconds to wait for the first joint states, for the controller, and for the arrival at home."""

    def __post_init__(self) -> None:
        require_bounds(self)
        spec, where = self.contract, self.contract.name
        require_sources(spec.observation, self.observation, where)
        require_sources(spec.action, self.action, where)
        if (spec.image is None) != (self.camera is None):
            expected = "none, since the contract has no image" if spec.image is None else "one for the contract's image"
            raise ConfigError(f"{where} camera: expected {expected}, got {self.camera}; correct one of them")
        named = [self.joint_topic, self.controller.topic, *([self.camera.topic] if self.camera else [])]
        for topic in (*named, self.stop_topic or "/", self.ready_topic or "/"):
            if not topic.startswith("/") or topic.endswith("/") != (topic == "/") or "//" in topic:
                raise ConfigError(
                    f"{where} topic: expected a full name such as /joint_states, got {topic!r}; correct it"
                )
        joints = [value.joint for value in self.action.values()]
        if sorted(joints) != sorted(self.controller.joints) or len(set(joints)) < len(joints):
            raise ConfigError(
                f"{where} controller: expected the joints of the action axes, {', '.join(joints)}, got "
                f"{', '.join(self.controller.joints) or 'none'}; give the joints of the controller, in its order"
            )
        fields = {value.field for value in self.action.values()}
        if len(fields) > 1 or (isinstance(self.controller, TrajectoryController) and fields != {"position"}):
            raise ConfigError(
                f"{where} action: expected one kind of command that the controller takes, got "
                f"{', '.join(sorted(fields))}; a trajectory controller takes positions"
            )
        if isinstance(self.controller, TrajectoryController) and not 0.0 < self.controller.lookahead < math.inf:
            raise ConfigError(
                f"{where} lookahead: expected a positive number of control periods, got {self.controller.lookahead}; 1 "
                "reaches each point in one period"
            )
        lost = [name for name, seen in zip(spec.action.names, spec.find_commanded(), strict=True) if seen is None]
        if fields == {"position"} and lost:
            raise ConfigError(
                f"{where} action axis '{lost[0]}': expected one that commands an observation axis, got none; name it "
                "with Axis(commands=...), so that the robot can hold"
            )
        if self.home is not None:
            if fields != {"position"}:
                raise ConfigError(
                    f"{where} home: expected none for a robot that is not sent to places, got one; drop it"
                )
            spec.action.require_one(self.home, f"{where} home")
