"""A robot family from any MuJoCo model file: which joints, sites and sensors are observed, and what a task is.

    ARM = MjcfFamily(
        name="my-arm",
        model=Path(__file__).with_name("my_arm.xml"),
        goal_site="hand",
        goal_low=(-0.4, -0.4, 0.1),
        goal_high=(0.4, 0.4, 0.6),
    )

Limits and units are those of the model. A task is a place of one site, or angles of some joints. It is hidden: the
observation never holds the goal. Places are those of the site at random poses of the robot, so that all of them can be
reached; places of an object that no joint moves are uniform in their box.

Axes: R rows, r rows of this call, P poses, O observation, A action, G goal.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..bounds import Count, NonNegative, Positive, Seed, require_bounds
from ..errors import ConfigError, SpecError
from .family import (
    ONLY_TASKS,
    BuiltFrom,
    Camera,
    Draws,
    Films,
    PlayChunk,
    Plays,
    Scene,
    SetsState,
    Subdivides,
    TellsSuccess,
)
from .mjcf_anatomy import POSES, Anatomy, Frame, find_anatomy, find_names
from .mjcf_model import Drive, is_xml, load_mjcf, mjcf_files
from .mjcf_robots import MjcfRobots, Reach
from .mujoco_camera import make_goal_mark, open_model_camera
from .mujoco_robots import compute_distance, joint_unit, name_joint
from .robot import Bool, Float, RobotBatch, Rows
from .spec import ArraySpec, Axis, RobotSpec
from .task import TaskSet
from .task_draws import draw_tasks
from .waypoint_play import WaypointConfig, play_waypoints

_LOG = logging.getLogger(__name__)

WorldAxis = Literal["x", "y", "z"]
SMALL_TURN = 0.12
"""Range of the widest hinge, rad, below which it may have been meant in radians and read in degrees: 2 pi degrees."""
TRIES = 400
"""Times `mjcf_anatomy.POSES` random poses that are tried for each goal; a box that they miss is refused."""


@dataclass(frozen=True, kw_only=True)
class MjcfFamily(Plays, TellsSuccess, SetsState, Subdivides, Draws, Films, BuiltFrom):
    """Robots of one MuJoCo model that reach for places or poses.

    Raises:
        ConfigError: A field is one that no family can have. What does not fit the model is found when it is loaded: by
            `spec`, `make` and `tasks`.
    """

    name: str
    """Of the family, for records and folders."""
    model: Path | str
    """An MJCF or URDF file, best given as `Path(__file__).with_name("my_arm.xml")`; or the text of one, see
    `mjcf_model` for a scene around a robot of an installed package."""
    model_files: Mapping[str, Path] = field(default_factory=dict)
    """Files that the text of a model names in braces, as `file="{arm}"` with `{"arm": path}`. So records name the file,
    and not the folder where this computer has its packages; what is in the file counts as in all files."""
    joints: tuple[str, ...] | None = None
    """Joints that are observed, their positions and then their velocities; None for all. Free and ball joints show
    quaternions as wxyz."""
    sites: tuple[str, ...] = ()
    """Sites, or bodies where no site has the name, whose places are observed, m, in the frame of the world. That of the
    goal is added at the end."""
    sensors: tuple[str, ...] = ()
    """Sensors of the model that are observed."""
    actuators: tuple[str, ...] | None = None
    """Actuators that are commanded; None for all. The others keep the control of the keyframe, or 0."""
    drives: tuple[Drive, ...] = ()
    """Actuators to add to the model, for URDF files, which have none."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Narrower ranges of hinge and slide joints, rad or m, by name: for joints that can turn twice around, where the
    work is in front of the robot. Position servos are limited to them, and poses of play data lie within them."""
    control_period: Positive = 0.02
    """Time between two actions, seconds; a multiple of the timestep of the model."""
    goal_site: str | None = None
    """The site or body that is to reach a place."""
    goal_axes: tuple[WorldAxis, ...] = ("x", "y", "z")
    """Axes of the world that the place is given in; the others do not count."""
    goal_joints: tuple[str, ...] = ()
    """Instead of a site: joints that are to reach angles (or lengths, but not both)."""
    goal_low: tuple[float, ...] = ()
    """Lower corner of the box of goals, m or rad; for joints it is the lower end of their range where it is empty."""
    goal_high: tuple[float, ...] = ()
    """Upper corner."""
    reward: Literal["sparse", "dense"] = "sparse"
    """Sparse pays 1 within `success_radius` and ends the episode there; dense pays minus the distance, m or rad."""
    success_radius: Positive = 0.05
    """Distance at which a goal counts as reached, m or rad."""
    episode_steps: Count = 100
    """Time limit of one episode, actions."""
    keyframe: str | None = None
    """Where episodes start; None for the model's default pose."""
    reset_noise: NonNegative = 0.05
    """Half width of the uniform noise on each hinge and slide joint at the start, rad or m; kept within its range."""
    num_train_tasks: Count = field(default=40, metadata=ONLY_TASKS)
    """Train goals."""
    num_test_tasks: Count = field(default=10, metadata=ONLY_TASKS)
    """Test goals."""
    task_seed: Seed = field(default=0, metadata=ONLY_TASKS)
    """Seed of the goals."""
    waypoints: WaypointConfig = field(default_factory=WaypointConfig)
    """How play data is made."""

    def __post_init__(self) -> None:
        require_bounds(self)
        if (self.goal_site is None) == (not self.goal_joints):
            raise ConfigError(
                f"{self.name} goal: expected a goal_site or goal_joints, got {self.goal_site} and "
                f"{list(self.goal_joints)}; name what is to reach a goal"
            )
        if not self.goal_axes or len(set(self.goal_axes)) < len(self.goal_axes):
            raise ConfigError(
                f"{self.name} goal_axes: expected distinct axes among x, y and z, got {list(self.goal_axes)}; name "
                "each once"
            )
        axes = len(self.goal_axes) if self.goal_site else len(self.goal_joints)
        sizes = {len(self.goal_low), len(self.goal_high)}
        if not (sizes == {axes} or (sizes == {0} and self.goal_joints)):
            raise ConfigError(
                f"{self.name} goal_low, goal_high: expected {axes} numbers each, got {list(self.goal_low)} and "
                f"{list(self.goal_high)}; give one per axis of the goal"
            )
        for name in self.model_files:
            if not is_xml(self.model) or f"{{{name}}}" not in str(self.model):
                raise ConfigError(
                    f"{self.name} model_files: expected names that stand in braces in the text of the model, got "
                    f"'{name}'; correct the name"
                )
        for low, high in zip(self.goal_low, self.goal_high, strict=True):
            if low >= high:
                raise ConfigError(
                    f"{self.name} goal_low, goal_high: expected low < high, got {low} and {high}; correct the box"
                )

    @property
    def _source(self) -> Path | str:
        """The model with its files in place."""
        source = self.model
        for name, path in self.model_files.items():
            source = str(source).replace(f"{{{name}}}", str(path))
        return source

    @cached_property
    def anatomy(self) -> Anatomy:
        """The compiled model and where all that is observed and commanded stands in it.

        Raises:
            ConfigError: The model cannot be compiled, or a name does not fit it.
        """
        goal_site = () if self.goal_site is None else (self.goal_site,)
        return find_anatomy(
            load_mjcf(self._source, self.drives, self.name, self.ranges),
            self.name,
            joints=self.joints,
            sites=(*(name for name in self.sites if name != self.goal_site), *goal_site),
            sensors=self.sensors,
            actuators=self.actuators,
            keyframe=self.keyframe,
        )

    @cached_property
    def goal(self) -> ArraySpec:
        """The box of goals.

        Raises:
            ConfigError: See `anatomy`, or goal joints are not observed, or are no hinge or slide joints of one kind, or
                have neither a range nor a box.
        """
        if self.goal_site is not None:
            box = zip(self.goal_axes, self.goal_low, self.goal_high, strict=True)
            return ArraySpec("goal", tuple(Axis(f"goal_{axis}", "m", low, high) for axis, low, high in box))
        model, where = self.anatomy.model, f"{self.name} goal_joints"
        known = {name_joint(model, joint): joint for joint in self.anatomy.scalar.tolist()}
        seen = [name for name in known if name in ArraySpec("observation", self.anatomy.observation).names]
        joints = [known[seen[place]] for place in find_names(self.goal_joints, seen, where)]
        units = {joint_unit(model, joint) for joint in joints}
        if len(units) > 1:
            raise ConfigError(
                f"{where}: expected only hinges or only slide joints, got both in {list(self.goal_joints)}; name "
                "joints of one unit"
            )
        low, high = self.goal_low, self.goal_high
        ranges = [self._find_joint_range(joint, where) for joint in joints]
        for tie in self.anatomy.ties:
            if tie.joint in joints and (tie.leader < 0 or tie.leader in joints):
                raise ConfigError(
                    f"{where}: expected joints that move by themselves, got '{name_joint(model, tie.joint)}', which an "
                    "equality of the model holds or ties to another of them; leave it out"
                )
        if not low:
            low, high = (tuple(ends) for ends in zip(*ranges, strict=True))
        for name, (least, most), bottom, top in zip(self.goal_joints, ranges, low, high, strict=True):
            if not (least <= bottom < top <= most and np.isfinite([bottom, top]).all()):
                raise ConfigError(
                    f"{self.name} goal_low, goal_high: expected a box within the range {least:g} .. {most:g} of joint "
                    f"'{name}' and of its servo, got {bottom:g} .. {top:g}; correct the box, or give the joint a range"
                )
        unit = units.pop()
        limits = zip(self.goal_joints, low, high, strict=True)
        return ArraySpec("goal", tuple(Axis(f"goal_{name}", unit, bottom, top) for name, bottom, top in limits))

    def _find_joint_range(self, joint: int, where: str) -> tuple[float, float]:
        """What a joint can be brought to, rad or m; infinite where it has no range.

        Raises:
            ConfigError: Actuators hold it that are not commanded, or it is part of a closed chain.
        """
        model = self.anatomy.model
        frame = Frame(name_joint(model, joint), "xpos", int(model.jnt_bodyid[joint]))
        if joint not in self.anatomy.list_posed(frame) | self.anatomy.list_idle():
            raise ConfigError(
                f"{where}: expected joints that are commanded, got '{frame.name}', which an actuator holds that is "
                "not, or which is part of a closed chain; add its actuator to actuators, or name another joint"
            )
        if not model.jnt_limited[joint] and joint not in self.anatomy.servos:
            return -np.inf, np.inf
        low, high = self.anatomy.pose_ranges(frame)
        place = self.anatomy.scalar.tolist().index(joint)
        if low[place] == high[place]:  # nothing commands it, and it moves all the same
            low, high = model.jnt_range[self.anatomy.scalar].T
        return float(low[place]), float(high[place])

    @property
    def place_axes(self) -> tuple[str, ...]:
        """See `SetsState.place_axes`: what is compared with the goal."""
        return tuple(f"{self.goal_site}_{axis}" for axis in self.goal_axes) if self.goal_site else self.goal_joints

    @cached_property
    def reach(self) -> Reach:
        """What a task pays.

        Raises:
            ConfigError: See `anatomy` and `goal`.
        """
        names = ArraySpec("observation", self.anatomy.observation).names
        columns = np.array([names.index(name) for name in self.place_axes], np.int64)
        return Reach(columns=columns, radius=self.success_radius, dense=self.reward == "dense")

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`.

        Raises:
            ConfigError: The fields do not fit the model.
        """
        return RobotSpec(
            name=self.name,
            observation=ArraySpec("observation", self.anatomy.observation),
            action=ArraySpec("action", self.anatomy.action),
            goal=self.goal,
            control_period=self.control_period,
            episode_steps=self.episode_steps,
        )

    def make(self, rows: int, threads: int = 1) -> MjcfRobots:
        """See `RobotFamily.make`.

        Raises:
            ConfigError: There are no rows or threads, or the fields do not fit the model.
        """
        return self._make(rows, threads, forces=False)

    @property
    def physics_steps(self) -> int:
        """See `Subdivides.physics_steps`.

        Raises:
            ConfigError: The model cannot be compiled.
        """
        return round(self.control_period / float(self.anatomy.model.opt.timestep))

    def subdivide(self, parts: int) -> MjcfFamily:
        """See `Subdivides.subdivide`."""
        return replace(self, control_period=self.control_period / parts, episode_steps=self.episode_steps * parts)

    def _make(self, rows: int, threads: int, *, forces: bool) -> MjcfRobots:
        timestep, frame_skip = float(self.anatomy.model.opt.timestep), self.physics_steps
        if frame_skip < 1 or abs(frame_skip * timestep - self.control_period) > 1e-6 * self.control_period:
            raise ConfigError(
                f"{self.name} control_period: expected a multiple of the timestep {timestep:g} s of the model, got "
                f"{self.control_period:g} s; take {max(frame_skip, 1) * timestep:g} s, or change the timestep"
            )
        return MjcfRobots(
            self.spec(),
            self.anatomy,
            self.reach,
            rows,
            frame_skip=frame_skip,
            reset_noise=self.reset_noise,
            threads=threads,
            forces=forces,
        )

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`.

        Raises:
            ConfigError: The fields do not fit the model, or the site does not get into the box of goals.
        """
        return self._tasks

    @cached_property
    def _tasks(self) -> TaskSet:
        tasks = draw_tasks(self.name, self._draw_goals, self.num_train_tasks, self.num_test_tasks, self.task_seed)
        if self.goal_site is not None and (shared := self.anatomy.list_shared(self.anatomy.frames[-1])):
            _LOG.warning(
                "%s goal_site: expected an actuator for each joint that moves '%s', got joints %s that share theirs; "
                "random poses move each by itself, and goals may be out of reach: bring goals with --tasks and "
                "--test-tasks",
                self.name,
                self.goal_site,
                shared,
            )
        return tasks

    def _draw_goals(self, count: int, rng: np.random.Generator) -> Float:
        """Shape (count, G): places of the site at random poses that lie within the box, or uniform in it.

        Raises:
            ConfigError: The site does not get into the box, nothing moves it, or a closed chain does.
        """
        if self.goal_site is not None:
            self._require_moved(self.goal_site, self.anatomy.frames[-1])
        goals = np.empty((0, *self.goal.shape), np.float32)
        reached = np.empty((0, *self.goal.shape), np.float32)
        for tries, places in enumerate(self._draw_places(rng), start=1):
            reached = np.concatenate([reached, places])
            reached = np.stack([reached.min(axis=0), reached.max(axis=0)]) if len(reached) else reached
            inside = ((places >= self.goal.low) & (places <= self.goal.high)).all(axis=1)
            goals = np.concatenate([goals, places[inside]])
            still = len(places) > 1 and bool(np.ptp(reached, axis=0).max() < np.finfo(np.float32).eps)
            if len(goals) >= count and not still:
                return goals[:count]
            if still or tries >= TRIES * max(1, len(goals)):
                ends = " .. ".join(str([round(float(one), 3) for one in end]) for end in reached) + " m"
                gets = f"it gets to {ends}" if len(reached) else "in none of them nothing touches"
                raise ConfigError(
                    f"{self.name} goal_low, goal_high: expected a box that '{self.goal_site}' gets into, got "
                    f"{list(self.goal_low)} .. {list(self.goal_high)} m and {len(goals)} of {tries * POSES} random "
                    f"poses in it; {gets}{self._explain_reach()}"
                )
        return rng.uniform(self.goal.low, self.goal.high, (count, *self.goal.shape)).astype(np.float32)

    def _require_moved(self, site: str, frame: Frame) -> None:
        """Refuses a site whose places are not known, or are one place.

        Raises:
            ConfigError: It is one.
        """
        anatomy, where = self.anatomy, f"{self.name} goal_site"
        if anatomy.is_in_loop(frame):
            raise ConfigError(
                f"{where}: expected a site of an open chain, got '{site}', which joints of a closed chain move (an "
                "equality of kind connect, weld or tendon), so that random poses break it; name a site before the "
                "chain, or bring goals with --tasks and --test-tasks"
            )
        if not anatomy.is_moved(frame) and not anatomy.floats(frame):
            held = anatomy.list_held(frame)
            raise ConfigError(
                f"{where}: expected a site that commands move, or of an object, got '{site}', "
                + (
                    f"whose joints {held} no command moves; command them"
                    if held
                    else "which no joint moves; correct it"
                )
            )

    def _explain_reach(self) -> str:
        """What often keeps a place from moving as far as somebody thought; empty where it is not that."""
        found = ""
        slides = self.anatomy.list_open_slides(self.anatomy.frames[-1])
        if slides:
            example = ", ".join(f"'{name}': (-1.0, 1.0)" for name in slides)
            found += f"; slide joints without a range stay where they are, so give ranges={{{example}}}"
        low, high = self.anatomy.pose_ranges(self.anatomy.frames[-1])
        turning = self.anatomy.model.jnt_type[self.anatomy.scalar] == int(mujoco.mjtJoint.mjJNT_HINGE)
        widest = float(np.max((high - low)[turning], initial=0.0))
        if 0.0 < widest < SMALL_TURN:
            found += f"; no hinge turns by more than {widest:.2g} rad, and MJCF counts in degrees unless its compiler "
            found += 'has angle="radian"'
        return found

    def _draw_places(self, rng: np.random.Generator) -> Iterator[Float]:
        """Yields places of the goal's site at random poses, (P, G), without end; none where no joint moves the site."""
        if self.goal_site is None or not self.anatomy.is_moved(self.anatomy.frames[-1]):
            return
        axes = [get_args(WorldAxis).index(axis) for axis in self.goal_axes]
        for _, places in self.anatomy.draw_poses(rng, self.anatomy.frames[-1]):
            yield places[:, axes].astype(np.float32)

    def compute_success(self, observation: Float, reward: Float, goals: Float) -> Bool:
        """See `TellsSuccess.compute_success`: within `success_radius`, whatever the reward."""
        reach = self.reach
        return reach.is_success(compute_distance(observation[..., reach.columns], goals))

    def set_state(self, robot: RobotBatch, rows: Rows, observation: Float) -> Float:
        """See `SetsState.set_state`; joints that are not observed stand as at the start."""
        if not isinstance(robot, MjcfRobots):
            raise SpecError(
                f"{self.name} set_state: expected robots of this family, got {type(robot).__name__}; make them"
            )
        return robot.reset_to(rows, observation)

    @property
    def play_steps(self) -> int:
        """See `Plays.play_steps`."""
        return self.waypoints.episode_steps

    def play(self, rows: int, seed: int, threads: int = 1) -> Iterator[PlayChunk]:
        """See `Plays.play`: from pose to pose, see `waypoint_play`."""
        longer = replace(self, episode_steps=self.waypoints.episode_steps)
        return self._watch(play_waypoints(longer._make(rows, threads, forces=True), self.waypoints, seed))

    def _watch(self, chunks: Iterator[PlayChunk]) -> Iterator[PlayChunk]:
        """The chunks; says once where play leaves alone what is to reach a goal, as an object that nothing pushes."""
        for count, chunk in enumerate(chunks):
            moved = float(np.ptp(chunk.observation[..., self.reach.columns], axis=1).max())
            if count == 0 and moved < self.success_radius:
                _LOG.warning(
                    "%s play: expected motion of %s, got at most %.2g %s in %d episodes, less than success_radius; no "
                    "skill learns to move it from such data: bring logs with --from-log, or a family whose play does",
                    self.name,
                    list(self.place_axes),
                    moved,
                    self.goal.axes[0].unit,
                    len(chunk.observation),
                )
            yield chunk

    def scene(self) -> Scene | None:
        """See `Draws.scene`: the plane of the two widest axes of the box of places; None for angles and one axis."""
        if self.goal_site is None or len(self.goal_axes) < 2:
            return None
        widths = self.goal.high - self.goal.low
        plane = sorted(np.argsort(-widths, kind="stable")[:2].tolist())
        reached = next(self._draw_places(np.random.default_rng(0)), np.empty((0, *self.goal.shape)))
        places = np.concatenate([reached, [self.goal.low, self.goal.high]])
        (left, bottom), (right, top) = places.min(axis=0)[plane].tolist(), places.max(axis=0)[plane].tolist()
        x, y = (f"{self.goal_site}_{self.goal_axes[axis]}" for axis in plane)
        goal_x, goal_y = (self.goal.names[axis] for axis in plane)
        return Scene(
            axes=(x, y),
            goal_axes=(goal_x, goal_y),
            unit="m",
            limits=((left, right), (bottom, top)),
            goal_radius=self.success_radius,
        )

    def open_camera(self, robot: RobotBatch, goal: Float, height: int, width: int) -> Camera:
        """See `Films.open_camera`: from where the model says, its `statistic` and `visual/global`.

        The goal is a sphere of the success radius, where it is a place. In axes of the world that do not count, it
        stands where the site is at the start.
        """
        if not isinstance(robot, MjcfRobots):
            raise SpecError(
                f"{self.name} camera: expected robots of this family, got {type(robot).__name__}; make them"
            )
        marks = []
        if self.goal_site is not None:
            place = self._find_place_at_start()
            place[[get_args(WorldAxis).index(axis) for axis in self.goal_axes]] = goal
            marks.append(make_goal_mark(place, self.success_radius))
        return open_model_camera(self.anatomy.model, lambda row: robot.state[0][row], height, width, marks)

    def _find_place_at_start(self) -> NDArray[np.float64]:
        """Of the goal's site, shape (3,), m."""
        data, frame = mujoco.MjData(self.anatomy.model), self.anatomy.frames[-1]
        data.qpos[:] = self.anatomy.start
        mujoco.mj_kinematics(self.anatomy.model, data)
        place: NDArray[np.float64] = getattr(data, frame.array)[frame.row].copy()
        return place

    def files(self) -> tuple[Path, ...]:
        """See `BuiltFrom.files`.

        Raises:
            ConfigError: The model cannot be read.
        """
        return mjcf_files(self._source, self.name)

    def libraries(self) -> tuple[str, ...]:
        """See `BuiltFrom.libraries`."""
        return ("mujoco",)
