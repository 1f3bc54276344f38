"""Which scenes of the maze a run can show, drawn: trips on test tasks, fans of skills, the map of task embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...adapt.bundle import Bundle, load_bundle
from ...adapt.policy import make_agent
from ...errors import BundleError
from ...meta.simpl.agent import SimplAgent
from ...meta.simpl.finetune import Finetuner
from ...meta.space import SkillSpace
from ...robots.maze import MazeBatch
from ...robots.maze_family import Maze
from ...robots.task import Task
from ...skills.checkpoint import load_skill_model
from ..robots import RobotChoice, find_recorded
from ..stages.adapt import ADAPTED_NAME
from ..stages.export import NAME as BUNDLE_NAME
from .curves import Plot
from .maze import make_fan_plots, make_map_plots, make_trip_plot, name_goal
from .rollouts import (
    CPU,
    compute_embeddings,
    compute_fans,
    compute_map,
    compute_trips,
    load_adapted,
)
from .run_folder import RunView

SHOWN_TASKS = 4
"""Test tasks whose trips are drawn: the first ones, whatever came of them."""
SHOWN_EPISODES = 5
"""Trips per task and stage."""
SHOWN_SKILLS = 40
"""Skills in each drawing of skills."""
CHAIN = 100
"""Skills one after the other in the third drawing of skills."""
MAP_EPISODES = 8
"""Episodes per task that the task embeddings are inferred from."""
MAP_CONTEXT = 256
"""Transitions of the context, as in the adaptation loop."""
MAP_LEAD = (
    f"The task encoder saw {MAP_EPISODES} episodes of each task with random embeddings. Colour: where the goal is. "
    "Hollow: no episode reached the goal, so the encoder knows only where it is not. Axes: principal components of the "
    "train tasks."
)
NEVER_REWARDED = "No episode of adaptation reached this goal, so there was nothing to infer or to fine-tune yet."
MOST_ROWS = 400
"""Robots that run side by side."""
SEED = 0


class TripGroup(NamedTuple):
    """The trips of one task."""

    title: str
    note: str
    plots: list[Plot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenes:
    """What could be drawn; the rest is explained in `notes`."""

    trips: list[TripGroup] = field(default_factory=list)
    trips_lead: str = ""
    fans: list[Plot] = field(default_factory=list)
    maps: list[Plot] = field(default_factory=list)
    map_lead: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    """Section -> why something is missing."""


def choice_of(folder: Path, record: object, given: RobotChoice | None) -> RobotChoice:
    """The robot of a stage; see `find_recorded` for arguments and errors."""
    return find_recorded(record, given, str(folder))


def make_scenes(run: RunView, *, robot: RobotChoice | None = None, threads: int = 1) -> Scenes:
    """Rolls out and draws what the artefacts allow.

    Args:
        run: Of `supple run`.
        robot: That the run is about, where it is a user's; None takes a built-in one from the records.
        threads: Of the simulator.

    Raises:
        SuppleError: an artefact is damaged.
    """
    notes: dict[str, str] = {}
    fans = draw_fans(run, robot, threads)
    if not fans:
        notes["skills"] = "No drawings of skills: the stage extract has not finished, or its data is of another robot."
    export = run.find("export")
    if export is None:
        reason = "there is no policy bundle yet, as the stage export has not finished."
        notes |= {"trips": f"No trips: {reason}", "tasks": f"No map: {reason}"}
        return Scenes(fans=fans, notes=notes)
    bundle = load_bundle(export.folder / BUNDLE_NAME)
    agent = make_agent(bundle, CPU)
    family = choice_of(export.folder, bundle.contract.provenance.get("robot"), robot).family
    if not isinstance(family, Maze):
        reason = f"robot '{family.name}' has no drawing yet."
        notes |= {"trips": f"No trips: {reason}", "tasks": f"No map: {reason}"}
        return Scenes(fans=fans, notes=notes)
    train, test = (load_tasks(bundle, split) for split in ("train", "test"))
    trips, lead = draw_trips(run, agent, family, test, threads)
    if run.find("adapt") is None:
        notes["trips"] = "No trips after inference and after fine-tuning: the stage adapt has not finished."
    maps = draw_map(agent, family, train, test, threads)
    return Scenes(trips=trips, trips_lead=lead, fans=fans, maps=maps, map_lead=MAP_LEAD, notes=notes)


def load_tasks(bundle: Bundle, split: str) -> tuple[Task, ...]:
    """The tasks of one split that the bundle was made with.

    Raises:
        BundleError: it names none.
    """
    try:
        records = bundle.contract.provenance["tasks"][split]
        return tuple(Task(record["name"], tuple(record["goal"])) for record in records)
    except (KeyError, TypeError) as error:
        raise BundleError(f"bundle.json provenance.tasks: expected {split} tasks, got none; export it again") from error


def draw_fans(run: RunView, given: RobotChoice | None, threads: int) -> list[Plot]:
    """Skills from one state; none where the skills are not there or not of the maze."""
    extract = run.find("extract")
    if extract is None or extract.config.get("robot") is None:
        return []
    family = choice_of(extract.folder, extract.config["robot"], given).family
    if not isinstance(family, Maze):
        return []
    space = SkillSpace(load_skill_model(extract.folder))
    robot = MazeBatch(
        family.layout(), SHOWN_SKILLS, threads=threads, episode_steps=family.episode_steps, terminate_at_goal=False
    )
    fans = compute_fans(robot, space, skills=SHOWN_SKILLS, chain=CHAIN, seed=SEED)
    robot.close()
    return make_fan_plots(robot.layout, fans, robot.spec.control_period)


def draw_trips(
    run: RunView, agent: SimplAgent, maze: Maze, test: Sequence[Task], threads: int
) -> tuple[list[TripGroup], str]:
    """Trips of the first test tasks before and, where `adapt` has finished, after adaptation."""
    adapt = run.find("adapt")
    tuners: Mapping[int, Finetuner] = {}
    if adapt is not None:
        test, tuners = load_adapted(adapt.folder / ADAPTED_NAME, agent, maze.spec().observation.shape[0])
    shown = tuple(test)[:SHOWN_TASKS]
    robot = maze.make(len(shown) * SHOWN_EPISODES, threads)
    found = compute_trips(agent, robot, shown, tuners, episodes=SHOWN_EPISODES, seed=SEED)
    robot.close()
    start = (float(robot.start[0]), float(robot.start[1]))
    plots = [[make_trip_plot(robot.layout, start, trips, stage) for stage in trips.trips] for trips in found]
    if tuners:
        groups = [
            TripGroup(name_goal(task), "" if index in tuners else NEVER_REWARDED, plots[index])
            for index, task in enumerate(shown)
        ]
    else:
        named = zip(shown, plots, strict=True)
        groups = [TripGroup("", "", [Plot(plot.svg, f"{name_goal(task)}. {plot.caption}") for task, (plot,) in named])]
    lasts = maze.episode_steps * robot.spec.control_period
    lead = (
        f"{SHOWN_EPISODES} episodes of up to {lasts:g} s on each of the first {len(shown)} of {len(test)} test tasks, "
        "stochastic, run for this page. Open circle: start. Green disc: within it the goal counts as reached. A dot "
        "ends an episode that reached it, a cross one that ran out of time. Before adaptation each episode has its own "
        "random task embedding."
    )
    return groups, lead


def draw_map(agent: SimplAgent, maze: Maze, train: Sequence[Task], test: Sequence[Task], threads: int) -> list[Plot]:
    """Where the task encoder puts train and test tasks."""
    found = []
    for index, tasks in enumerate((train, test)):
        rows = len(tasks) * max(1, min(MAP_EPISODES, MOST_ROWS // len(tasks)))
        robot = maze.make(rows, threads)
        context = max(MAP_CONTEXT, MAP_EPISODES)
        found.append(
            compute_embeddings(agent, robot, tasks, episodes=MAP_EPISODES, context=context, seed=SEED + 100 * index)
        )
        robot.close()
    (train_at, train_found), (test_at, test_found) = found
    layout = maze.layout()
    return make_map_plots(layout, train, test, compute_map(train_at, test_at, train_found, test_found))
