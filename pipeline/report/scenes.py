"""Which scenes a run can show, drawn: tasks, play data, skills, trips on test tasks, the map of task embeddings.

A family that draws has its scenes in a plane; every other one has a time series for each observation axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ...adapt.bundle import Bundle
from ...adapt.eye import BundledEye, open_eyes
from ...adapt.host.simpl import make_simpl_networks
from ...datasets.store import EpisodeStore, find_store, open_store
from ...meta.space import SkillSpace
from ...robots.family import Hardware, HasParts, PlaysElsewhere, RobotFamily, TellsSuccess, make_robots
from ...robots.robot import Float, RobotBatch
from ...robots.task import Task
from ...skills.checkpoint import load_skill_model
from ..progress import ProgressView
from ..robots import find_refusal
from ..stages.adapt import ADAPTED_NAME
from .curves import Plot
from .embedding_map import make_map_plots
from .embeddings import compute_embeddings, compute_map
from .fans import compute_fans
from .measure import caption_trips
from .names import shorten
from .plane import Plane, find_plane, make_fan_plots, make_play_plot, make_task_plot, make_trip_plots
from .run_folder import RunView
from .run_robot import RunRobot
from .series import describe_axes, make_fan_series, make_part_series, make_trip_series, name_goal
from .trips import Adapted, Counted, Evaluated, TaskTrips, compute_trips, load_adapted, load_evaluated

SHOWN_TASKS = 4
"""Test tasks whose trips are drawn: the first ones, whatever came of them."""
SHOWN_EPISODES = 5
"""Trips per task and stage."""
SHOWN_PLAY = 20
"""Episodes of play data that are drawn: the first ones."""
SHOWN_SKILLS = 40
"""Skills in each drawing of skills."""
CHAIN = 100
"""Most skills one after the other in the last drawing of skills."""
ENCODES = "simpl"
"""Kind of the bundles that have a task encoder whose embeddings can be mapped."""
MAP_EPISODES = 8
"""Episodes per task that the task embeddings are inferred from."""
MAP_CONTEXT = 256
"""Transitions of the context, as in the adaptation loop."""
UNKNOWN = "Adaptation has not found out enough about this task yet, so there was nothing to infer or to fine-tune."
REAL = "No drawings that would need new episodes: a page does not move a real robot."
MOST_ROWS = 400
"""Robots that run side by side."""
SEED = 0


class TripGroup(NamedTuple):
    """The trips of one task."""

    title: str
    note: str
    legend: list[tuple[str, str]]
    """Stage and caption of each colour; empty where each drawing has a caption of its own."""
    plots: list[Plot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenes:
    """What could be drawn; the rest is explained in `notes`."""

    task: Plot | None = None
    play: list[Plot] = field(default_factory=list)
    fans: list[Plot] = field(default_factory=list)
    fans_lead: str = ""
    maps: list[Plot] = field(default_factory=list)
    map_lead: str = ""
    trips: list[TripGroup] = field(default_factory=list)
    trips_lead: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    """Section -> why something is missing."""


class Player:
    """Makes robots for the episodes that are played for the page, and tells how many of these are done."""

    def __init__(self, family: RobotFamily, eye: BundledEye | None, threads: int, view: ProgressView | None) -> None:
        """Robots of a family that see as the policy does; `threads` are of the simulator."""
        self._family, self._eye, self._threads, self._view = family, eye, threads, view
        self._done = 0.0

    def begin(self, episodes: int) -> None:
        """So many will be played at most: one that ends early counts for less."""
        if self._view is not None:
            self._view.start("report", episodes, 0, "episode")

    def make(self, rows: int) -> RobotBatch:
        """So many robots side by side."""
        return Counted(open_eyes(make_robots(self._family, rows, self._threads), self._eye), self._tell)

    def _tell(self, episodes: float) -> None:
        self._done += episodes
        if self._view is not None:
            self._view.update(self._done, {})


def make_scenes(run: RunView, robot: RunRobot, *, threads: int = 1, view: ProgressView | None = None) -> Scenes:
    """Rolls out and draws what the artefacts allow.

    Args:
        run: Of `supple run`.
        robot: That it is about.
        threads: Of the simulator.
        view: Is told how many of the episodes are played.

    Raises:
        SuppleError: an artefact is damaged.
    """
    if robot.family is None:
        return Scenes(notes={"task": f"No drawings: {robot.reason}"})
    family, plane = robot.family, find_plane(robot.family)
    notes: dict[str, str] = {}
    task = make_task_plot(plane, robot.train, robot.test) if plane is not None and robot.train else None
    play = draw_play(run, plane, elsewhere=isinstance(family, PlaysElsewhere))
    if isinstance(family, Hardware):
        return Scenes(task=task, play=play, notes=dict.fromkeys(("skills", "learning", "adaptation"), REAL))
    if refusal := find_refusal(family):
        left_out = dict.fromkeys(("skills", "learning", "adaptation"), f"No drawings of the robot: {refusal}.")
        return Scenes(task=task, play=play, notes=left_out)
    fans = draw_fans(run, family, plane, threads)
    if not fans:
        pictures = family.spec().image is not None
        reason = "they are chosen by pictures" if pictures else "the stage extract has not finished"
        notes["skills"] = f"No drawings of skills: {reason}."
    drawn = Scenes(
        task=task,
        play=play,
        fans=fans,
        fans_lead=describe_fans(family, plane),
        notes=notes,
    )
    export = run.find("export")
    if export is None:
        reason = "there is no policy bundle yet, as the stage export has not finished."
        notes |= {"adaptation": f"No trips: {reason}", "learning": f"No map: {reason}"}
        return drawn
    evaluated = load_evaluated(export, run.stages.get("adapt"))
    bundle, adapt = evaluated.bundle, run.find("adapt")
    encodes = bundle.contract.kind == ENCODES
    adapted = None if adapt is None else load_adapted(adapt.folder / ADAPTED_NAME)
    shown = tuple(robot.test if adapted is None else adapted.tasks)[:SHOWN_TASKS]
    player = Player(family, bundle.eye, threads, view)
    stages = 1 if adapted is None else 1 + len(adapted.stages)
    mapped = (len(robot.train) + len(robot.test)) * MAP_EPISODES if encodes else 0
    player.begin(len(shown) * SHOWN_EPISODES * stages + mapped)
    found = play_trips(evaluated, player, shown, adapted)
    if adapted is None:
        notes["adaptation"] = "No trips after adaptation: the stage adapt has not finished."
    return replace(
        drawn,
        maps=draw_map(bundle, player, plane, robot) if encodes else [],
        map_lead=describe_map(family),
        trips=draw_trips(found, family, plane, adapted=adapted is not None),
        trips_lead=describe_trips(found, family, plane, len(robot.test)) + describe_led(evaluated, adapted),
    )


def draw_play(run: RunView, plane: Plane | None, *, elsewhere: bool) -> list[Plot]:
    """Where play data went, unless that was elsewhere, and what skills explored.

    Nothing without a plane, or before there is an episode store.
    """
    if plane is None:
        return []
    plots = []
    if (ingest := run.find("ingest")) is not None and not elsewhere:
        episodes = load_first(open_store(find_store(ingest.folder)))
        plots.append(make_play_plot(plane, episodes, "play", f"The first {len(episodes)} episodes of the data"))
    if (explored := run.find("ingest-explored")) is not None:
        store = open_store(find_store(explored.folder))
        episodes = np.split(store.load("observation"), store.episodes.start[1:])
        count = min(SHOWN_PLAY, len(episodes))
        shown = [episodes[index] for index in np.linspace(0, len(episodes) - 1, count).astype(int)]
        caption = f"{count} of {len(episodes)} episodes in which the skills explored the place of the tasks"
        plots.append(make_play_plot(plane, shown, "explored", caption))
    return plots


def load_first(store: EpisodeStore) -> list[Float]:
    """Observations of the first episodes, each (T, O); the others are not read."""
    ends = store.episodes.start[:SHOWN_PLAY] + store.episodes.length[:SHOWN_PLAY]
    seen: list[Float] = []
    for block in store.blocks("observation"):
        seen.append(block)
        if sum(map(len, seen)) >= ends[-1]:
            break
    observation = np.concatenate(seen)
    return [observation[start:end] for start, end in zip(store.episodes.start, ends, strict=False)]


def draw_fans(run: RunView, family: RobotFamily, plane: Plane | None, threads: int) -> list[Plot]:
    """Skills from where episodes start; none before there are skills of this robot."""
    extract = run.find("extract")
    if extract is None:
        return []
    model, spec = load_skill_model(extract.folder), family.spec()
    if model.eye is not None:
        return []
    if (model.observation_dim, model.action_dim) != (*spec.observation.shape, *spec.action.shape):
        return []
    fans = compute_fans(family, SkillSpace(model), skills=SHOWN_SKILLS, chain=CHAIN, seed=SEED, threads=threads)
    return make_fan_series(spec, fans) if plane is None else make_fan_plots(plane, fans, spec.control_period)


def describe_fans(family: RobotFamily, plane: Plane | None) -> str:
    """What the drawings of skills show."""
    lead = "Skills drawn from the skill prior and carried out by the closed-loop decoder in the simulator"
    if plane is None:
        return f"{lead}, from where episodes start.{describe_axes(family.spec())}"
    return f"{lead}. Open circle: where they begin. Dots: where they end."


def play_trips(evaluated: Evaluated, player: Player, shown: Sequence[Task], adapted: Adapted | None) -> list[TaskTrips]:
    """Trips on some test tasks before and, where `adapt` has finished, after adaptation."""
    robot = player.make(len(shown) * SHOWN_EPISODES)
    found = compute_trips(evaluated, robot, shown, adapted, episodes=SHOWN_EPISODES, seed=SEED)
    robot.close()
    return found


def draw_trips(
    found: Sequence[TaskTrips], family: RobotFamily, plane: Plane | None, *, adapted: bool
) -> list[TripGroup]:
    """The trips of each task; `adapted` says whether adaptation has ended, so that a task without policy is unknown."""
    spec, groups = family.spec(), []
    for index, trips in enumerate(found):
        name = f"trip-{index}"
        plots = make_task_plots(family, plane, trips, name)
        note = UNKNOWN if adapted and len(trips.trips) == 1 else ""
        legend = [(stage, caption_trips(stage, played)) for stage, played in trips.trips.items()]
        title = f"Task {shorten(trips.task.name, 60)}: {name_goal(spec, trips.task)}"
        groups.append(TripGroup(title, note, legend if plane is None else [], plots))
    return groups


def make_task_plots(family: RobotFamily, plane: Plane | None, trips: TaskTrips, name: str) -> list[Plot]:
    """The trips of one task: in the plane, else a panel for each part of the task, else one for each axis."""
    if plane is not None:
        return make_trip_plots(plane, trips, name)
    if isinstance(family, HasParts):
        return make_part_series(family, family.spec(), trips, name)
    return make_trip_series(family.spec(), trips, name)


def describe_trips(found: Sequence[TaskTrips], family: RobotFamily, plane: Plane | None, count: int) -> str:
    """What the drawings of trips show, of `count` test tasks in all."""
    spec = family.spec()
    lead = (
        f"{SHOWN_EPISODES} episodes of up to {spec.episode_steps * spec.control_period:.3g} s for each policy on each "
        f"of the first {len(found)} of {count} test tasks, played for this page with the policies' own randomness."
    )
    if plane is None and isinstance(family, HasParts):
        return f"{lead} A panel for each part of the task: its distance from complete. Dashed: near enough. Dot: paid."
    trips = [trip for task in found for stage in task.trips.values() for trip in stage]
    if any(trip.success is not None for trip in trips):
        lead += " A dot ends an episode that succeeded, a cross one that did not."
    if plane is None:
        return f"{lead} Dashed: the goal.{describe_axes(spec)}"
    if plane.scene.start is not None:
        lead += " Open circle: start."
    if plane.goal_columns is None:
        return lead
    radius, unit = plane.scene.goal_radius, plane.scene.unit
    return (
        f"{lead} Green star: goal." if radius is None else f"{lead} Green disc: within {radius:g} {unit} of the goal."
    )


def describe_led(evaluated: Evaluated, adapted: Adapted | None) -> str:
    """What logs have to do with the trips; nothing, where they do not lead."""
    if evaluated.make_guide(adapted) is None:
        return ""
    lost = " What they knew after inference is not kept, so that it is not drawn."
    return " The logs lead as in the table, also before adaptation." + lost * (
        adapted is not None and adapted.has_policies
    )


def draw_map(bundle: Bundle, player: Player, plane: Plane | None, robot: RunRobot) -> list[Plot]:
    """Where the task encoder puts train and test tasks."""
    agent, found = make_simpl_networks(bundle), []
    for index, tasks in enumerate((robot.train, robot.test)):
        rows = len(tasks) * max(1, min(MAP_EPISODES, MOST_ROWS // len(tasks)))
        robots = player.make(rows)
        context, seed = max(MAP_CONTEXT, MAP_EPISODES), SEED + 100 * index
        found.append(compute_embeddings(agent, robots, tasks, episodes=MAP_EPISODES, context=context, seed=seed))
        robots.close()
    (train_at, train_found), (test_at, test_found) = found
    return make_map_plots(plane, robot.train, robot.test, compute_map(train_at, test_at, train_found, test_found))


def describe_map(family: RobotFamily) -> str:
    """What the map shows."""
    lead = (
        f"The task encoder saw {MAP_EPISODES} episodes of each task with random embeddings. Colour: the goal. Axes: "
        "principal components of the train tasks."
    )
    if isinstance(family, TellsSuccess):
        lead += " Hollow: no episode reached the goal, so the encoder knows only where it is not."
    return lead
