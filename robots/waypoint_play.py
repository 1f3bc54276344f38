"""Play data of robots with joints: from one random pose to the next, without any task in mind.

Each row draws a pose and a speed, follows a minimum-jerk path there (Flash and Hogan, "The coordination of arm
movements: an experimentally confirmed mathematical model", Journal of Neuroscience 5, 1985), and draws the next.
Position servos are commanded along the path, velocity servos along its speed, and motors by the torque that follows it:
critically damped feedback on the inertia of each joint by itself, plus the load of gravity and motion. Actuators that
act on no hinge or slide joint get coloured noise, see `play`, and so do those of slide joints without a range.

Axes: R rows, T time, A action, J hinge and slide joints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from ..bounds import Count, Positive, Share, require_bounds
from ..errors import ConfigError
from .family import PlayChunk
from .mjcf_anatomy import POSES, Whole
from .mjcf_robots import MjcfRobots
from .mujoco_robots import Double, command_kind
from .play import NoiseConfig, draw_commands

BANDWIDTH = 8.0
"""Of the feedback, rad/s; less where the control period is long."""
LARGEST_STEP = 0.25
"""Bandwidth times control period that is still stable, rad."""
POSES_KEPT = 2048
"""Poses that waypoints are drawn from."""
TRIES = 200
"""Times that `mjcf_anatomy.POSES` random poses are tried for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaypointConfig:
    """How play data from pose to pose is made.

    Raises:
        ConfigError: A field is out of its range.
    """

    episode_steps: Count = 500
    """Length of one stored episode, actions; the robot is reset after it."""
    sweep_time: tuple[Positive, Positive] = (1.0, 3.0)
    """Seconds in which a joint would cross its whole range, drawn for each waypoint."""
    command_noise: Share = 0.05
    """Coloured noise on each command, in standard deviations of the noise below."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """The noise, and all that is commanded to actuators that act on no hinge or slide joint."""

    def __post_init__(self) -> None:
        require_bounds(self)
        if self.sweep_time[0] > self.sweep_time[1]:
            raise ConfigError(f"WaypointConfig.sweep_time: expected low <= high, got {self.sweep_time}; swap them")


def play_waypoints(robots: MjcfRobots, config: WaypointConfig, seed: int) -> Iterator[PlayChunk]:
    """Yields episodes of play data without end.

    Args:
        robots: Made with forces; their time limit is the length of an episode. Closed when the iterator is.
        config: Speeds and noise.
        seed: Seed of poses, speeds, starts and noise.

    Raises:
        ConfigError: Nearly every pose touches something, so that there is nowhere to go.
    """
    rng, spec, rows = np.random.default_rng(seed), robots.spec, robots.rows
    everyone, steps = np.arange(rows), spec.episode_steps
    goals = np.tile(spec.goal.low, (rows, 1))  # they do not move the robot
    driver = _Driver(robots)
    poses = _draw_bank(robots, rng)[:, driver.columns]
    middle = 0.5 * (spec.action.high + spec.action.low)
    try:
        while True:
            noise = draw_commands(spec, rows, steps, config.noise, rng)
            observation = np.empty((rows, steps, *spec.observation.shape), np.float32)
            action, reward = (
                np.empty((rows, steps, *spec.action.shape), np.float32),
                np.empty((rows, steps), np.float32),
            )
            now = robots.reset(everyone, goals, rng)
            begin = robots.state[0][:, driver.columns]
            end, since, lasts = begin.copy(), np.zeros(rows), np.zeros(rows)
            for step in range(steps):
                arrived = since >= lasts
                count = int(np.count_nonzero(arrived))
                begin[arrived] = end[arrived]
                end[arrived] = poses[rng.integers(len(poses), size=count)]
                sweep = rng.uniform(*config.sweep_time, count)
                parts = np.abs(end[arrived] - begin[arrived]) / driver.widths
                since[arrived], lasts[arrived] = 0.0, sweep * parts.max(axis=1, initial=0.0)
                since += spec.control_period
                command = driver.follow(begin, end, since, lasts)
                command += config.command_noise * (noise[:, step] - middle)
                command[:, driver.free] = noise[:, step, driver.free]
                action[:, step] = np.clip(command.astype(np.float32), spec.action.low, spec.action.high)
                observation[:, step] = now
                moved = robots.step(everyone, action[:, step])
                now, reward[:, step] = moved.observation, moved.reward
            yield PlayChunk(observation, action, reward, {})
    finally:
        robots.close()


def _draw_bank(robots: MjcfRobots, rng: np.random.Generator) -> Double:
    """Random poses, shape (POSES_KEPT, nq).

    Raises:
        ConfigError: See `play_waypoints`.
    """
    bank = np.empty((0, robots.anatomy.model.nq))
    for qpos, _ in islice(robots.anatomy.draw_poses(rng), TRIES):
        bank = np.concatenate([bank, qpos])
        if len(bank) >= POSES_KEPT:
            break
    if not len(bank):
        raise ConfigError(
            f"{robots.spec.name} play: expected poses in which no more touches than at the start, got none in "
            f"{TRIES * POSES} random ones; exclude the contacts of neighbouring bodies in the model"
        )
    return bank[:POSES_KEPT]


class _Driver:
    """The commands that bring the joints of each row along a path.

    Args:
        robots: Whose actuators are commanded.
    """

    columns: Whole
    """In qpos: the joints that are driven, at least one actuator each, shape (D,)."""
    widths: Double
    """Of their ranges, rad or m, shape (D,)."""
    free: Whole
    """Of the commands: those of actuators that drive none of them."""

    def __init__(self, robots: MjcfRobots) -> None:
        self._robots = robots
        anatomy, model = robots.anatomy, robots.anatomy.model
        low, high = anatomy.pose_ranges()
        widths = dict(zip(anatomy.scalar.tolist(), (high - low).tolist(), strict=True))
        wide = {joint: width for joint, width in widths.items() if width > 0.0}
        kinds, joints = [], []
        for index in anatomy.actuators:
            kind, joint = command_kind(model, int(index)), int(model.actuator_trnid[index, 0])
            kinds.append(kind if joint in wide else None)
            joints.append(joint)
        driven = sorted({joint for joint, kind in zip(joints, kinds, strict=True) if kind})
        self.free = np.array([place for place, kind in enumerate(kinds) if kind is None], np.int64)
        self.columns = model.jnt_qposadr[driven].astype(np.int64)
        self.widths = np.array([wide[joint] for joint in driven])
        self._freedoms = model.jnt_dofadr[driven]
        self._inertia = model.dof_M0[self._freedoms]
        self._bandwidth = min(BANDWIDTH, LARGEST_STEP / robots.spec.control_period)
        # what each command is made of: (its place, place of its joint, factor)
        self._parts: dict[str, list[tuple[int, int, float]]] = {"force": [], "position": [], "velocity": []}
        for place, (index, joint, kind) in enumerate(zip(anatomy.actuators, joints, kinds, strict=True)):
            if kind is None:
                continue
            gear, gain = float(model.actuator_gear[index, 0]), float(model.actuator_gainprm[index, 0])
            pairs = list(zip(joints, kinds, strict=True))  # motors of one joint share its torque
            factor = gear if kind != "force" else 1.0 / (gear * gain * pairs.count((joint, kind)))
            self._parts[kind].append((place, driven.index(joint), factor))

    def follow(self, begin: Double, end: Double, since: Double, lasts: Double) -> Double:
        """Commands for the coming control period, shape (R, A); 0 where an actuator is free.

        Args:
            begin: Pose where the paths begin, shape (R, D).
            end: Pose where they end.
            since: Time on the path at the end of the period, seconds, shape (R,).
            lasts: Duration of the path.
        """
        time = np.maximum(lasts, 1e-9)[:, None]
        part = np.clip(since[:, None] / time, 0.0, 1.0)
        way, way_v, way_a = compute_minimum_jerk(part)
        target = begin + (end - begin) * way
        target_v, target_a = (end - begin) * way_v / time, (end - begin) * way_a / time**2
        qpos, qvel = self._robots.state
        error = target - qpos[:, self.columns]
        error_v = target_v - qvel[:, self._freedoms]
        acceleration = target_a + self._bandwidth**2 * error + 2.0 * self._bandwidth * error_v
        asked = {
            "force": self._inertia * acceleration + self._robots.load()[:, self._freedoms],
            "position": target,
            "velocity": target_v + self._bandwidth * error,
        }
        command = np.zeros((len(qpos), self._robots.spec.action.shape[0]))
        for kind, parts in self._parts.items():
            for place, joint, factor in parts:
                command[:, place] = factor * asked[kind][:, joint]
        return command


def compute_minimum_jerk(part: Double) -> tuple[Double, Double, Double]:
    """Way, its speed and its acceleration at a part 0 .. 1 of the time, each for a way and a time of 1."""
    return (
        part**3 * (10.0 - 15.0 * part + 6.0 * part**2),
        30.0 * part**2 * (1.0 - part) ** 2,
        60.0 * part * (1.0 - 3.0 * part + 2.0 * part**2),
    )
