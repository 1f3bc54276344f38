"""Play data of the Franka kitchen from scripts: four subtasks in a random order, each by a few waypoints of the hand.

A script of one row says where the hand shall be next, how it is turned, and what the fingers do. One damped
least-squares step for all rows together (Wampler, "Manipulator inverse kinematic solutions based on vector formulations
and damped least-squares methods", IEEE Trans. SMC 16, 1986) makes joint velocities of it, and the inverse of the servo,
with the load of gravity, makes actions. Each episode has its own start, speed, paths, pauses and noise, as people have.
The scripts know all positions without noise. What is recorded is what the robot observes, and the actions as applied.

Places are in metres in the frame of the world: x to the right, y away from the robot, z up.

Axes: R rows, r rows of this call, T time, J = 7 joints of the arm, Q = 30 positions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..bounds import Bounded, NonNegative, Range, Share
from ..errors import ConfigError
from .family import PlayChunk
from .kitchen import (
    ANGLES,
    CONTROL_PERIOD,
    LENGTH,
    MAX_SPEED,
    RADIUS,
    START,
    SUBTASKS,
)
from .robot import Float, Rows

if TYPE_CHECKING:
    from .kitchen_robots import KitchenRobots

Double = NDArray[np.float64]
Whole = NDArray[np.int64]
OPEN, CLOSED = 1.0, -1.0
TIP = 0.03
"""From the site `end_effector` to the point between the finger tips, m."""
DAMPING = 0.03
"""Of the least squares."""
TURN_WEIGHT = 0.35
"""Of a radian beside a metre."""
POSTURE_GAIN = 0.5
"""With which what the hand leaves free returns to the start pose, 1/s."""
MARGIN = 0.15
"""To the joint limits, rad; within it joints are pushed back."""
FORWARD = np.array([(0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)])
"""The hand turned so that its fingers point along y and its x axis up."""
TREMOR = 0.7
"""Of the noise on actions: what is left of it a step later."""
SETTLE = 3
"""Steps that the fingers need to close or open."""
MOST_FAILURES = 100
"""Demonstrations one after the other that may all be incomplete; with the settings of this file one of four is."""
_SITES = (
    "end_effector", "knob2_site", "knob4_site", "light_site", "slide_site", "hinge_site2", "microhandle_site",
    "kettle_site",
)  # fmt: skip
_BLOCKED = ("hinge cabinet", "slide cabinet")
"""Once the first is open its door is in the way of the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstrationConfig(Bounded):
    """How people-like the demonstrations are.

    Raises:
        ConfigError: A field is out of its range.
    """

    start_jitter: NonNegative = 0.05
    """Standard deviation of the arm's joints at the start, rad."""
    speed_spread: Annotated[float, Range(0, 0.5)] = 0.15
    """Half width of the uniform factor of all speeds, drawn for each episode."""
    place_jitter: NonNegative = 0.01
    """Standard deviation of places on the way, m; a third of it at handles."""
    pause: Share = 0.1
    """Chance of a pause of one to four steps before a waypoint."""
    action_noise: NonNegative = 0.1
    """Standard deviation of the noise on actions, correlated over about three steps. Scripts see where it has put them,
    so that the data show the way back (Laskey et al., "DART", CoRL 2017)."""
    retries: Annotated[int, Range(0, 10)] = 1
    """Further attempts at a subtask that failed; they stay in the data."""


class Pose(NamedTuple):
    """What one step of a script asks for."""

    place: Double
    """Of the point between the finger tips, m."""
    turn: Double | None
    """Rotation matrix of the hand; None for any."""
    grip: float
    speed: float
    """At most, m/s."""


class Posture(NamedTuple):
    """Instead of a pose: angles of the arm, shape (J,), rad."""

    angles: Double
    grip: float


Script: TypeAlias = Generator["Pose | Posture", None, None]
Place: TypeAlias = "Double | Callable[[], Double]"


def turn_about(axis: int, angle: float) -> Double:
    """Rotation matrix about axis 0, 1 or 2 by an angle, rad."""
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.eye(3)
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix[i, i] = matrix[j, j] = cos
    matrix[i, j], matrix[j, i] = -sin, sin
    return matrix


class Kinematics:
    """Where everything is, for all rows: live arrays that the physics writes.

    Args:
        robots: From `make_demonstrated`; the arrays are filled by the next reset or step.
    """

    def __init__(self, robots: KitchenRobots) -> None:
        from .kitchen_robots import load_kitchen_model

        model = load_kitchen_model()
        self.model = model
        self.sites = {name: model.site(name).id for name in _SITES}
        self.qpos, self.load = robots.bind("qpos"), robots.bind("qfrc_bias")
        self.site_place, self.site_turn = robots.bind("site_xpos"), robots.bind("site_xmat")
        self.anchors, self.axes = robots.bind("xanchor"), robots.bind("xaxis")
        self.low, self.high = model.jnt_range[:ANGLES].T
        gain, damping = model.actuator_gainprm[:ANGLES, 0], model.dof_damping[:ANGLES]
        self.stiffness = gain
        # what a servo covers of its error in a period, as its joint is overdamped
        self.covers = 1.0 - np.exp(-gain * CONTROL_PERIOD / damping)

    def hand(self, rows: Rows) -> tuple[Double, Double]:
        """Place between the finger tips, (r, 3), and rotation, (r, 3, 3)."""
        site = self.sites["end_effector"]
        turn = self.site_turn[rows, site].reshape(-1, 3, 3)
        return self.site_place[rows, site] + TIP * turn[:, :, 2], turn


def compute_velocities(scene: Kinematics, rows: Rows, asked: list[Pose]) -> Double:
    """Joint velocities, shape (r, J), rad/s, that bring the hands of rows toward poses by damped least squares."""
    place, turn = scene.hand(rows)
    goal = np.array([pose.place for pose in asked])
    speed = np.array([pose.speed for pose in asked])
    turned = np.array([pose.turn is not None for pose in asked])
    goal_turn = np.where(turned[:, None, None], np.array([FORWARD if p.turn is None else p.turn for p in asked]), turn)
    way = 0.6 * (goal - place) / CONTROL_PERIOD
    way *= np.minimum(1.0, speed / np.maximum(np.linalg.norm(way, axis=1), 1e-9))[:, None]
    error = goal_turn @ turn.transpose(0, 2, 1)
    skew = error - error.transpose(0, 2, 1)
    spin = 0.25 / CONTROL_PERIOD * np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)
    spin *= np.minimum(1.0, 2.0 / np.maximum(np.linalg.norm(spin, axis=1), 1e-9))[:, None]
    weight = TURN_WEIGHT * turned[:, None]
    axes = scene.axes[rows, :ANGLES]
    arms = place[:, None, :] - scene.anchors[rows, :ANGLES]
    jacobian = np.concatenate([np.cross(axes, arms), weight[:, None] * axes], axis=2).transpose(0, 2, 1)
    wanted = np.concatenate([way, weight * spin], axis=1)
    angles = scene.qpos[rows, :ANGLES]
    rest = POSTURE_GAIN * (np.array(START[:ANGLES]) - angles)
    rest += 2.0 * np.maximum(scene.low + MARGIN - angles, 0.0) - 2.0 * np.maximum(angles - scene.high + MARGIN, 0.0)
    square = jacobian @ jacobian.transpose(0, 2, 1) + DAMPING**2 * np.eye(6)
    # J+ (x - J rest) + rest: what the hand leaves free goes to rest
    missing = wanted - np.einsum("rij,rj->ri", jacobian, rest)
    velocities: Double = rest + np.einsum("rij,ri->rj", jacobian, np.linalg.solve(square, missing[..., None])[..., 0])
    return velocities


def compute_actions(scene: Kinematics, rows: Rows, asked: list[Pose | Posture]) -> Double:
    """Actions without noise, shape (r, A), for what scripts ask for."""
    velocities = np.empty((len(rows), ANGLES))
    poses = np.array([isinstance(one, Pose) for one in asked])
    if poses.any():
        velocities[poses] = compute_velocities(scene, rows[poses], [one for one in asked if isinstance(one, Pose)])
    if not poses.all():
        angles = np.array([one.angles for one in asked if isinstance(one, Posture)])
        velocities[~poses] = 0.6 * (angles - scene.qpos[rows[~poses], :ANGLES]) / CONTROL_PERIOD
    step = MAX_SPEED * CONTROL_PERIOD
    way = velocities * CONTROL_PERIOD / scene.covers
    held = scene.load[rows, :ANGLES] / scene.stiffness
    way /= np.maximum(1.0, np.abs(way).max(axis=1) / step)[:, None]
    way += held
    grip = np.array([one.grip for one in asked])
    actions: Double = np.clip(np.concatenate([way / step, grip[:, None], grip[:, None]], axis=1), -1.0, 1.0)
    return actions


class Grasp(NamedTuple):
    """How the bar of a door is held and pulled."""

    pitch: float
    """Of the hand, downward, rad."""
    past: float
    """The bar, m: where the point between the finger tips is, as the fingers slip off otherwise."""
    lead: float
    """Angle by which the hand is asked to be ahead of the door, rad."""
    speed: float
    """At most, m/s."""


class Demonstrator:
    """The scripts of one row, with the style of one episode.

    Args:
        scene: Where everything is.
        row: Which row.
        config: Of the style.
        rng: Of this episode.
    """

    def __init__(self, scene: Kinematics, row: int, config: DemonstrationConfig, rng: np.random.Generator) -> None:
        self._scene, self._row, self._config, self._rng = scene, row, config, rng
        self._rows = np.array([row])
        self._pace = rng.uniform(1.0 - config.speed_spread, 1.0 + config.speed_spread)
        self._home = np.array(START[:ANGLES]) + rng.normal(0.0, config.start_jitter, ANGLES)
        self._scripts: tuple[Callable[[], Script], ...] = (
            lambda: self.turn_knob("knob2_site", "knob_Joint_2", -0.86),
            lambda: self.turn_knob("knob4_site", "knob_Joint_4", -0.90),
            self.push_switch,
            self.slide_cabinet,
            self.open_hinge,
            self.open_microwave,
            self.move_kettle,
        )
        self.doing = 0
        """Place in the order of the subtask under way."""

    def run(self, order: list[int]) -> Script:
        """The subtasks in this order, with a way back to the start pose between them."""
        for self.doing, subtask in enumerate(order):
            for attempt in range(1 + self._config.retries):
                if self.doing or attempt:
                    yield from self.go_home()
                yield from self._scripts[subtask]()
                if self.is_done(subtask):
                    break

    def is_done(self, subtask: int) -> bool:
        """Whether a subtask is complete, without noise."""
        away = self._scene.qpos[self._row, list(SUBTASKS[subtask].columns)] - SUBTASKS[subtask].goal
        return bool(np.linalg.norm(away) < RADIUS)

    # what the scripts see

    @property
    def place(self) -> Double:
        """Between the finger tips."""
        place: Double = self._scene.hand(self._rows)[0][0]
        return place

    @property
    def turn(self) -> Double:
        """Of the hand."""
        turn: Double = self._scene.hand(self._rows)[1][0]
        return turn

    def site(self, name: str) -> Double:
        """Place of a handle."""
        place: Double = self._scene.site_place[self._row, self._scene.sites[name]].copy()
        return place

    def joint(self, name: str) -> float:
        """Position of an object's joint."""
        return float(self._scene.qpos[self._row, self._scene.model.joint(name).qposadr[0]])

    def kettle(self) -> Double:
        """Place of the kettle."""
        place: Double = self._scene.qpos[self._row, 23:26].copy()
        return place

    # what the scripts are made of

    def reach(
        self,
        place: Place,
        turn: Double | Callable[[], Double] | None = FORWARD,
        *,
        grip: float = CLOSED,
        within: float = 0.025,
        most: int = 25,
        speed: float = 0.35,
        until: Callable[[], bool] | None = None,
        jitter: float = 1.0,
    ) -> Script:
        """Moves the hand to a place, which may move, until it is there or a condition holds, in `most` steps."""
        spread = self._rng.normal(0.0, 1.0, 3) * self._config.place_jitter * jitter
        if self._rng.random() < self._config.pause * jitter:
            yield from self.hold(int(self._rng.integers(1, 5)), grip)
        for _ in range(most):
            goal = (place() if callable(place) else place) + spread
            wanted = turn() if callable(turn) else turn
            if until is not None and until():
                return
            if until is None and np.linalg.norm(goal - self.place) < within:
                cosine = 1.0 if wanted is None else (np.trace(wanted @ self.turn.T) - 1.0) / 2.0
                if cosine > np.cos(0.25):
                    return
            yield Pose(goal, wanted, grip, speed * self._pace)

    def hold(self, steps: int, grip: float) -> Script:
        """Stays where it is."""
        place, turn = self.place, self.turn
        for _ in range(steps):
            yield Pose(place, turn, grip, 0.35)

    def retreat(self, grip: float) -> Script:
        """Moves straight back, out of the way."""
        yield from self.reach(
            lambda: self.place - 0.1 * self.turn[:, 2], None, grip=grip, most=3, speed=0.6, jitter=0.0
        )

    def go_home(self) -> Script:
        """Returns to about the start pose."""
        for _ in range(30):
            if np.abs(self._home - self._scene.qpos[self._row, :ANGLES]).max() < 1.4:
                return
            yield Posture(self._home, OPEN)

    # the seven subtasks

    def push_switch(self) -> Script:
        """Pushes the light switch to the left with the fist."""
        handle = self.site("light_site")
        yield from self.reach(handle + [0.09, -0.14, 0.0], within=0.06, most=30, speed=0.8)
        yield from self.reach(handle + [0.09, -0.01, 0.0], most=15, jitter=0.3)
        done = -0.69 + self._rng.uniform(0.0, 0.08)
        yield from self.reach(
            handle + [-0.12, -0.005, 0.0], until=lambda: self.joint("light_switch") < done, most=20, jitter=0.3
        )
        yield from self.retreat(CLOSED)

    def slide_cabinet(self) -> Script:
        """Pushes the handle of the slide cabinet to the right with the open hand."""
        handle = self.site("slide_site")
        yield from self.reach(handle + [-0.01, -0.14, 0.0], grip=OPEN, within=0.06, most=40, speed=0.8)
        yield from self.reach(handle, grip=OPEN, most=15, jitter=0.3)
        done = 0.37 - self._rng.uniform(0.0, 0.05)
        yield from self.reach(
            lambda: self.site("slide_site") + [0.09, 0.0, 0.0],
            grip=OPEN,
            until=lambda: self.joint("slide_cabinet") > done,
            most=30,
            jitter=0.3,
        )
        yield from self.retreat(OPEN)

    def turn_knob(self, site: str, joint: str, goal: float) -> Script:
        """Takes a knob of the oven and turns the wrist."""
        knob = self.site(site)
        yield from self.reach(knob + [0.0, -0.12, 0.0], grip=OPEN, within=0.06, most=30, speed=0.8)
        yield from self.reach(knob + [0.0, -0.01, 0.0], grip=OPEN, most=15, jitter=0.3)
        yield from self.hold(SETTLE, CLOSED)
        yield from self.reach(
            knob + [0.0, -0.01, 0.0],
            lambda: turn_about(1, 1.0 - self.joint(joint)) @ FORWARD,
            until=lambda: self.joint(joint) < goal,
            most=45,
            jitter=0.0,
        )
        yield from self.hold(2, OPEN)
        yield from self.retreat(OPEN)

    def open_hinge(self) -> Script:
        """Takes the handle of the right hinge cabinet and follows its arc."""
        goal = 1.2 + self._rng.uniform(0.0, 0.15)
        yield from self._open_door("hinge_site2", -0.08, "right_hinge_cabinet", goal, Grasp(0.0, 0.02, 0.25, 0.35))

    def open_microwave(self) -> Script:
        """Takes the handle of the microwave, from above, and follows its arc."""
        goal = -0.5 - self._rng.uniform(0.0, 0.1)
        yield from self._open_door("microhandle_site", 0.0, "microwave", goal, Grasp(0.4, 0.035, -0.3, 0.4))

    def _open_door(self, site: str, above: float, joint: str, goal: float, grasp: Grasp) -> Script:
        """Follows the arc of a door, ahead of it.

        Args:
            site: Of the handle.
            above: The site, m: where the bar is taken.
            joint: Of the door.
            goal: Angle at which it is open, rad.
            grasp: How the bar is held.
        """
        start = self.joint(joint)
        hinge: Double = self._scene.anchors[self._row, self._scene.model.joint(joint).id].copy()
        turn = turn_about(0, -grasp.pitch) @ FORWARD
        ahead = turn[:, 2]
        recent: deque[float] = deque(maxlen=8)

        def find_handle() -> Double:
            return self.site(site) + [0.0, 0.0, above]

        handle = find_handle()
        yield from self.reach(handle - 0.11 * ahead, turn, grip=OPEN, within=0.06, most=35, speed=0.8)
        yield from self.reach(handle + grasp.past * ahead, turn, grip=OPEN, most=15, speed=0.3, jitter=0.3)
        yield from self.hold(SETTLE, CLOSED)

        def find_yaw() -> Double:
            return turn_about(2, 0.5 * (self.joint(joint) - start))

        def follow() -> Double:
            angle = self.joint(joint) - start + grasp.lead
            place: Double = hinge + turn_about(2, angle) @ (handle - hinge) + grasp.past * find_yaw() @ ahead
            return place

        def is_over() -> bool:
            angle = self.joint(joint) - start
            recent.append(angle)
            slipped = abs(angle) > 0.5 and float(np.linalg.norm(self.place - find_handle())) > 0.09
            stuck = abs(angle) > 0.3 and len(recent) == recent.maxlen and abs(angle - recent[0]) < 0.01
            return slipped or stuck or abs(self.joint(joint)) > abs(goal)

        yield from self.reach(follow, lambda: find_yaw() @ turn, until=is_over, most=100, speed=grasp.speed, jitter=0.0)
        yield from self.hold(2, OPEN)
        yield from self.retreat(OPEN)

    def move_kettle(self) -> Script:
        """Hooks the handle of the kettle with the open hand, lifts it, carries it back and puts it down."""
        turn = turn_about(0, -0.4) @ FORWARD
        ahead, loop = turn[:, 2], self.site("kettle_site") + [0.0, 0.0, -0.045]
        yield from self.reach(loop - 0.16 * ahead, turn, grip=OPEN, within=0.06, most=35, speed=0.8)
        yield from self.reach(loop + 0.05 * ahead, turn, grip=OPEN, most=18, speed=0.3, jitter=0.3)
        yield from self.reach(self.place + [0.0, 0.0, 0.1], turn, grip=OPEN, most=10, jitter=0.0)
        goal = np.array(SUBTASKS[6].goal[:3])
        yield from self.reach(
            lambda: self.place + np.clip(goal + [0.0, 0.0, 0.08] - self.kettle(), -0.1, 0.1),
            turn,
            grip=OPEN,
            until=lambda: bool(np.abs(self.kettle() - goal)[:2].max() < 0.02),
            most=30,
            jitter=0.0,
        )
        yield from self.reach(
            lambda: self.place - [0.0, 0.0, 0.06],
            turn,
            grip=OPEN,
            until=lambda: bool(self.kettle()[2] < 1.63),
            most=12,
            speed=0.3,
            jitter=0.0,
        )
        yield from self.retreat(OPEN)


class Episode(NamedTuple):
    """One demonstration, whether it succeeded or not."""

    chunk: PlayChunk
    """One row; its infos are the order, the place in it of the subtask under way, and the positions without noise."""
    paid: int
    """Subtasks of the order that were paid, of `LENGTH`."""


def demonstrate(
    robots: KitchenRobots, orders: Whole, config: DemonstrationConfig, seeds: Sequence[Any]
) -> list[Episode]:
    """One episode for each row.

    Args:
        robots: Rows, R, from `make_demonstrated`.
        orders: Subtasks of each row, shape (R, LENGTH).
        config: Of the style.
        seeds: Of each row; what a row does depends on nothing else.
    """
    scene, running = Kinematics(robots), np.arange(robots.rows)
    rngs = [np.random.default_rng(seed) for seed in seeds]
    goals = orders.astype(np.float32)
    now = np.concatenate([robots.reset(running[[row]], goals[[row]], rng) for row, rng in enumerate(rngs)])
    people = [Demonstrator(scene, row, config, rng) for row, rng in enumerate(rngs)]
    scripts = [one.run(order.tolist()) for one, order in zip(people, orders, strict=True)]
    steps: list[list[tuple[Any, ...]]] = [[] for _ in scripts]
    tremor = np.zeros((robots.rows, ANGLES))
    for _ in range(robots.spec.episode_steps):
        asked = {row: one for row in running.tolist() if (one := next(scripts[row], None)) is not None}
        running = np.array(list(asked), np.int64)
        if not asked:
            break
        action = compute_actions(scene, running, list(asked.values()))
        fresh = np.array([rngs[row].normal(0.0, config.action_noise, ANGLES) for row in asked])
        tremor[running] = TREMOR * tremor[running] + np.sqrt(1.0 - TREMOR**2) * fresh
        action[:, :ANGLES] += tremor[running]
        taken, qpos = np.clip(action, -1.0, 1.0).astype(np.float32), robots.qpos
        moved = robots.step(running, taken)
        for place, row in enumerate(asked):
            steps[row].append((now[row].copy(), taken[place], moved.reward[place], [people[row].doing], qpos[row]))
        now[running] = moved.observation
    return [_make_episode(one, goal) for one, goal in zip(steps, goals, strict=True)]


def _make_episode(steps: list[tuple[Any, ...]], goal: Float) -> Episode:
    observation, action, reward, doing, qpos = (np.array(part, np.float32)[None] for part in zip(*steps, strict=True))
    infos = {"goal": np.tile(goal, (1, len(steps), 1)), "doing": doing, "qpos": qpos}
    return Episode(PlayChunk(observation, action, reward, infos), int(reward.sum()))


def make_demonstrated(config: DemonstrationConfig, rows: int, **settings: Any) -> KitchenRobots:
    """Kitchens whose arm starts a little differently each time, with all that scripts look at.

    Args:
        config: Of the style.
        rows: Number of kitchens.
        **settings: See `KitchenRobots`.
    """
    import mujoco

    from .kitchen_robots import KitchenRobots

    return KitchenRobots(rows, start_jitter=config.start_jitter, stage=mujoco.mjtStage.mjSTAGE_VEL, **settings)


def draw_orders(number: int, held_out: Float, rng: np.random.Generator) -> Whole:
    """Random orders of distinct subtasks, shape (number, LENGTH), none that is held out.

    The slide cabinet never comes after the hinge cabinet, whose open door is in the way.

    Args:
        number: How many.
        held_out: Orders, shape (N, LENGTH).
        rng: Source.
    """
    hinge, slide = (next(i for i, one in enumerate(SUBTASKS) if one.name == name) for name in _BLOCKED)
    refused = {tuple(order) for order in held_out.astype(int).tolist()}
    orders: list[list[int]] = []
    while len(orders) < number:
        order = rng.permutation(len(SUBTASKS))[:LENGTH].tolist()
        blocked = hinge in order and slide in order and order.index(hinge) < order.index(slide)
        if not blocked and tuple(order) not in refused:
            orders.append(order)
    return np.array(orders, np.int64)


def play_demonstrations(
    config: DemonstrationConfig, rows: int, seed: int, *, held_out: Float, **settings: Any
) -> Iterator[PlayChunk]:
    """Yields demonstrations in which all four subtasks are paid within the time limit, one at a time, without end.

    Args:
        config: Of the style.
        rows: Robots side by side.
        seed: Seed of orders and styles.
        held_out: Orders that do not occur, shape (N, LENGTH).
        **settings: Of the robots, see `KitchenRobots`.

    Raises:
        ConfigError: `MOST_FAILURES` demonstrations in a row were not complete.
    """
    robots, rng = make_demonstrated(config, rows, **settings), np.random.default_rng(seed)
    failures = 0
    for round_ in count():
        orders = draw_orders(rows, held_out, rng)
        for episode in demonstrate(robots, orders, config, [(seed, round_, row) for row in range(rows)]):
            failures = 0 if episode.paid == LENGTH else failures + 1
            if not failures:
                yield episode.chunk
            elif failures >= MOST_FAILURES:
                raise ConfigError(
                    f"kitchen play: expected demonstrations with all {LENGTH} subtasks paid within "
                    f"{robots.spec.episode_steps} actions, got none in {failures} one after the other; raise "
                    "--robot.episode-steps (280 as published), or lower --robot.demonstrations.action-noise, "
                    "--robot.demonstrations.start-jitter or --robot.noise-ratio"
                )
