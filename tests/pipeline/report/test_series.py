from dataclasses import replace
from types import ModuleType

import numpy as np

from supple.pipeline.report.fans import Fans
from supple.pipeline.report.series import (
    MOST_AXES,
    choose_axes,
    describe_axes,
    find_goal,
    make_fan_series,
    make_part_series,
    make_trip_series,
    name_goal,
)
from supple.pipeline.report.trips import TaskTrips, Trip
from supple.robots.family import HasParts, Parts
from supple.robots.robot import Float
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.robots.task import Task


def make_spec(count: int) -> RobotSpec:
    """`count` observation axes in rad; goals are of the last one, and of one that is not observed."""
    axes = tuple(Axis(f"joint{index}", "rad", -3.0, 3.0) for index in range(count))
    goal = (Axis("elsewhere", "m", -1.0, 1.0), Axis(f"goal_joint{count - 1}", "rad", -3.0, 3.0))
    return RobotSpec(
        "arm", ArraySpec("observation", axes), ArraySpec("action", axes), ArraySpec("goal", goal), 0.05, 20
    )


def test_a_goal_is_drawn_on_the_axis_of_its_name_and_unit() -> None:
    spec, task = make_spec(3), Task("t", (0.5, -1.25))
    assert [find_goal(spec, axis, task) for axis in spec.observation.axes] == [None, None, -1.25]
    other = Axis("joint2", "deg", -3.0, 3.0)
    assert find_goal(spec, other, task) is None
    assert name_goal(spec, task) == "elsewhere 0.5 m, goal_joint2 -1.25 rad"


def test_many_axes_are_cut_and_those_with_a_goal_come_first() -> None:
    assert choose_axes(make_spec(3)) == [2, 0, 1]
    assert choose_axes(make_spec(30)) == [29, *range(MOST_AXES - 1)]
    assert describe_axes(make_spec(3)) == ""
    assert describe_axes(make_spec(30)) == " Drawn: 12 of 30 observation axes."


def test_each_axis_has_a_panel_with_its_unit_and_the_goal() -> None:
    spec = make_spec(3)
    path = np.linspace(0.0, 1.0, 9, dtype=np.float32)[:, None].repeat(3, axis=1)
    told = {"before": [Trip(path, 0.0, False)], "adapted": [Trip(path, 1.0, True)]}
    plots = make_trip_series(spec, TaskTrips(Task("t", (0.5, 0.75)), told), "trip-0")
    assert [plot.caption for plot in plots] == ["joint2, goal 0.75 rad", "joint0", "joint1"]
    for plot in plots:
        assert "time (s)" in plot.svg
        assert ">rad</text>" in plot.svg
        assert "After fine-tuning: 1 of 1 episodes succeeded" in plot.svg
        assert ("var(--goal)" in plot.svg) == ("goal" in plot.caption)
    untold = {"before": [Trip(path, -4.0, None)]}
    (plot, *_) = make_trip_series(spec, TaskTrips(Task("t", (0.5, 0.75)), untold), "trip-0")
    assert "Before adaptation: mean return -4" in plot.svg
    fans = make_fan_series(spec, Fans([path, path[:4]], [], [path]))
    assert [plot.caption for plot in fans] == ["joint2", "joint0", "joint1"]


def test_hostile_axes_are_text(hostile: ModuleType) -> None:
    spec = hostile.ROBOT.spec()
    path = np.zeros((5, 3), np.float32)
    task = Task(hostile.SCRIPT, (0.0, -0.0, 0.5))
    for plot in make_trip_series(spec, TaskTrips(task, {"before": [Trip(path, 0.0, None)]}), "trip-0"):
        assert "<script" not in plot.svg
        assert "<img" not in plot.svg
        assert "<b>" not in plot.svg
    assert "-0 " not in name_goal(spec, task)
    assert name_goal(replace(spec), task).count(",") == 2


class Doors(HasParts):
    """Two doors, each an observation axis; a door is open below .3, and pays once the first has paid."""

    def compute_parts(self, path: Float, goal: Float) -> Parts:
        opened = np.maximum.accumulate(path < 0.3, axis=0)
        return Parts(("left door", "right door"), path, 0.3, np.logical_and.accumulate(opened, axis=1))


def test_each_part_of_a_task_has_a_panel_with_a_dot_where_it_is_paid() -> None:
    left, right = np.linspace(1.0, 0.0, 11), np.full(11, 0.1)
    path = np.stack([left, right], axis=1).astype(np.float32)
    told = {"before": [Trip(path[:5], 0.0, None)], "adapted": [Trip(path, 2.0, True), Trip(path[:8], 0.0, None)]}
    plots = make_part_series(Doors(), make_spec(2), TaskTrips(Task("t", (0.5, 0.75)), told), "trip-0")
    # 1, .9, ... .2 is reached after eight steps: by one trip of three
    assert [plot.caption for plot in plots] == [
        f"{number}. {door}: paid in 0 of 1 before adaptation, 1 of 2 after fine-tuning"
        for number, door in ((1, "left door"), (2, "right door"))
    ]
    assert all("Distance of" in plot.svg and "var(--goal)" in plot.svg for plot in plots)
