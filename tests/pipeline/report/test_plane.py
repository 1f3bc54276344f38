from dataclasses import dataclass, replace

import numpy as np
import pytest

from supple.errors import SpecError
from supple.pipeline.report.plane import find_plane, make_play_plot, make_task_plot, make_trip_plots, thin
from supple.pipeline.report.trips import TaskTrips, Trip
from supple.robots.family import Draws, RobotFamily, Scene
from supple.robots.maze_family import Maze
from supple.robots.robot import RobotBatch
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.robots.task import Task, TaskSet

HAND = ("</text><script>window.hacked=1</script>" * 4, "$z_{")
SCENE = Scene(axes=HAND, goal_axes=("goal_a", "goal_c"), unit="]]>m&", limits=((-1.0, 1.0), (0.0, 0.1)))


@dataclass(frozen=True, kw_only=True)
class Arm(Draws):
    """A family of which only the scene and the spec are looked at: the hand's third axis is not in the plane."""

    drawn: Scene | None = SCENE
    name = "arm"

    def spec(self) -> RobotSpec:
        hand = tuple(Axis(name, "m", -1.0, 1.0) for name in (HAND[1], "y", HAND[0]))
        goal = tuple(Axis(f"goal_{name}", "m", -1.0, 1.0) for name in "abc")
        return RobotSpec(
            "arm", ArraySpec("observation", hand), ArraySpec("action", hand), ArraySpec("goal", goal), 0.1, 9
        )

    def make(self, rows: int, threads: int = 1) -> RobotBatch:
        raise NotImplementedError

    def tasks(self) -> TaskSet:
        raise NotImplementedError

    def scene(self) -> Scene | None:
        return self.drawn


def test_axes_are_found_by_their_names() -> None:
    family: RobotFamily = Arm()
    plane = find_plane(family)
    assert plane is not None
    assert plane.places(np.array([[1.0, 2.0, 3.0]], np.float32)).tolist() == [[3.0, 1.0]]
    found = plane.goals([Task("a", (0.1, 0.2, 0.3))])
    assert found is not None
    assert found.tolist() == [pytest.approx([0.1, 0.3])]
    assert find_plane(Arm(drawn=None)) is None
    with pytest.raises(SpecError, match=r"scene of 'arm': expected observation axes among .*, got 'hand_x'; correct"):
        find_plane(Arm(drawn=replace(SCENE, axes=("hand_x", "y"))))


def test_a_plane_without_goals_shows_none() -> None:
    plane = find_plane(Arm(drawn=replace(SCENE, goal_axes=None)))
    assert plane is not None
    assert make_task_plot(plane, [Task("a", (0.1, 0.2, 0.3))], [Task("b", (0.3, 0.2, 0.3))]) is None


def test_names_are_text_in_drawings_of_any_shape() -> None:
    plane = find_plane(Arm())
    assert plane is not None
    path = np.linspace(-0.5, 0.5, 600, dtype=np.float32)[:, None].repeat(3, axis=1)
    task = Task("<b>", (0.1, 0.2, 0.05))
    trips = TaskTrips(
        task, {"before": [Trip(path, -3.0, None)], "adapted": [Trip(path, 1.0, True), Trip(path, 0.0, False)]}
    )
    plots = [
        make_task_plot(plane, [task], [task]),
        make_play_plot(plane, [path], "play", "One episode"),
        *make_trip_plots(plane, trips, "trip-0"),
    ]
    assert [plot.caption for plot in plots[2:]] == [
        "Before adaptation: mean return -3",
        "After fine-tuning: 1 of 2 episodes succeeded",
    ]
    for plot in plots:
        assert "<script" not in plot.svg
        assert "&lt;/t" in plot.svg
        assert "$z_{ (]]&gt;m&amp;)" in plot.svg
        assert "window.hacked=1</script>" * 2 not in plot.svg  # cut, since the axis is as long as the drawing


def test_long_paths_are_thinned_and_keep_their_ends() -> None:
    path = np.arange(2002.0)[:, None].repeat(2, axis=1)
    few = thin(path)
    assert 100 < len(few) < 200
    assert (few[0, 0], few[-1, 0]) == (0.0, 2001.0)
    assert len(thin(path[:1])) == 1


def test_walls_are_drawn_where_the_robot_meets_them() -> None:
    maze = Maze(layout_size=10, layout_seed=1)
    robot = maze.make(1)
    x, y = robot.reset(np.array([0]), np.ones((1, 2), np.float32), np.random.default_rng(0))[0, :2]
    boxes = [(polygon.min(axis=0), polygon.max(axis=0)) for polygon in maze.scene().polygons]
    wall = min(low[0] for low, high in boxes if low[1] < y < high[1] and low[0] > x)
    for _ in range(600):
        x = robot.step(np.array([0]), np.array([[0.3, 0.0]], np.float32)).observation[0, 0]
    assert x + 0.1 == pytest.approx(wall, abs=0.02)  # the particle's radius is 0.1
