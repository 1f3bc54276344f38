import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supple.errors import SourceError, SpecError
from supple.robots.task import Task, TaskSet, goals_of, load_tasks_csv, save_tasks_csv

GOALS = st.tuples(st.integers(-5, 5), st.integers(-5, 5)).map(lambda goal: tuple(float(value) for value in goal))
WORDS = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=12)


def make_tasks(goals: list[tuple[float, ...]]) -> tuple[Task, ...]:
    return tuple(Task(f"t{index}", goal) for index, goal in enumerate(goals))


@given(st.lists(GOALS, min_size=1, max_size=8), st.lists(GOALS, min_size=1, max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_task_sets_are_disjoint_or_refused(train: list[tuple[float, ...]], test: list[tuple[float, ...]]) -> None:
    if len({*train, *test}) == len(train) + len(test):
        tasks = TaskSet("set", make_tasks(train), make_tasks(test))
        assert {task.goal for task in tasks.train}.isdisjoint(task.goal for task in tasks.test)
    else:
        with pytest.raises(SpecError, match=r"task set 'set': expected distinct goals, got \("):
            TaskSet("set", make_tasks(train), make_tasks(test))


def test_a_test_goal_among_the_train_goals_is_named() -> None:
    train, test = (Task("a", (1.0, 2.0)), Task("b", (3.0, 4.0))), (Task("c", (3, 4)),)
    with pytest.raises(SpecError, match=r"got \(3, 4\) for both 'b' and 'c'; train and test tasks must be disjoint"):
        TaskSet("maze", train, test)


def test_goals_that_robots_cannot_tell_apart_are_the_same_goal() -> None:
    """Robots get goals in float32, whose numbers near 0.3 are 3e-8 apart."""
    train = (Task("a", (0.3,)),)
    with pytest.raises(SpecError, match=r"got \(0.3000000001,\), which is \(0.3,\) in float32, for both 'a' and 'b'"):
        TaskSet("near", train, (Task("b", (0.3000000001,)),))
    assert TaskSet("near", train, (Task("b", (0.30000007,)),)).test[0].name == "b"
    assert TaskSet("near", train, (Task("b", (0.3000000001,)),), held_out=False).test[0].name == "b"


def test_a_goal_may_stand_twice_in_a_file_under_two_names(tmp_path: Path) -> None:
    tasks = load_tasks_csv(write(tmp_path / "goals.csv", "name,x\nfirst,1\nsecond,1\n,1\n"), ("x",))
    assert [task.name for task in tasks] == ["first", "second", "task2"]


def test_tasks_that_are_not_held_out_may_stand_twice_but_not_differ_in_length() -> None:
    train, test = make_tasks([(1.0,), (2.0,), (1.0,)]), make_tasks([(2.0,), (1.0,)])
    assert TaskSet("set", train, test, held_out=False).test == test
    with pytest.raises(SpecError, match="expected distinct goals"):
        TaskSet("set", train, test)
    with pytest.raises(SpecError, match=r"expected 1 finite numbers per goal, got \(1.0, 2.0\) for 't0'"):
        TaskSet("set", train, make_tasks([(1.0, 2.0)]), held_out=False)


@pytest.mark.parametrize(("train", "test", "split"), [([], [(1.0,)], "train"), ([(1.0,)], [], "test")])
def test_empty_split_is_refused(train: list[tuple[float]], test: list[tuple[float]], split: str) -> None:
    with pytest.raises(SpecError, match=f"task set 'set': expected at least one {split} task, got none"):
        TaskSet("set", make_tasks(list(train)), make_tasks(list(test)))


@pytest.mark.parametrize("goal", [(1.0, math.nan), (1.0, math.inf), (1.0,), ()])
def test_goal_that_is_no_vector_of_the_set_is_refused(goal: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match=r"expected 2 finite numbers per goal, got \(.*for 't0'; correct"):
        TaskSet("set", (Task("a", (5.0, 6.0)),), make_tasks([goal]))


def test_goals_of_stacks_in_order() -> None:
    goals = goals_of(make_tasks([(1.0, 2.0), (3.0, 4.5)]))
    assert goals.dtype == np.float32
    assert goals.tolist() == [[1.0, 2.0], [3.0, 4.5]]


@given(
    tasks=st.lists(
        st.builds(Task, WORDS, st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3)),
        min_size=1,
        unique_by=lambda task: task.name,
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_csv_round_trip(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("csv") / "tasks.csv"
    save_tasks_csv(path, tasks, ("x", "y", "z"))
    assert load_tasks_csv(path, ("x", "y", "z")) == tuple(tasks)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "x,y\n1,2\n3,4.5\n",
        "x, y\r\n1, 2\r\n3, 4.5",
        "\ufeffx,y\n1,2\n\n3,4.5\n\n",
        "y,x\n2,1\n4.5,3\n",
        ',"x", y\n,1,2\n,"3",4.5\n',
        "\n , \nx,y,,\n1,2,,\n,,,\n3,4.5,,\n",
        "x,y\r1,2\r3,4.5\r",
    ],
)
def test_csv_as_people_write_it(tmp_path: Path, text: str) -> None:
    tasks = load_tasks_csv(write(tmp_path / "goals.csv", text), ("x", "y"))
    assert tasks == (Task("task0", (1.0, 2.0)), Task("task1", (3.0, 4.5)))


def test_csv_names_are_kept(tmp_path: Path) -> None:
    tasks = load_tasks_csv(write(tmp_path / "goals.csv", "name,x,y\ndoor,1,2\n,3,4\n"), ("x", "y"))
    assert [task.name for task in tasks] == ["door", "task1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"goals\.csv: expected columns \['x', 'y'\], got \[\]; add the header line 'x,y'"),
        ("a,b\n1,2\n", r"goals\.csv: expected columns \['x', 'y'\], got \['a', 'b'\]"),
        ("1,2\n3,4\n", r"goals\.csv: expected columns \['x', 'y'\], got \['1', '2'\]"),
        ("x,y,x\n1,2,3\n", r"goals\.csv: expected columns \['x', 'y'\], got \['x', 'y', 'x'\]"),
        (
            "\nname,x,y,z\ndoor,1,2,3\n",
            r"goals\.csv:2: expected the columns x, y, name, got 'z' in column 4; drop it, or choose the robot",
        ),
        ("note,x,y\nfar,1,2\n", r"goals\.csv:1: expected the columns x, y, name, got 'note' in column 1; drop it"),
        ("x,y,\n1,2,3\n", r"goals\.csv:1: expected the columns x, y, name, got '' in column 3; drop it"),
        ("x,y,,\n1,2,,3\n", r"goals\.csv:1: expected each column once, got '' in column 4, too; drop"),
        (
            "name,x,y,name\na,1,2,b\n",
            r"goals\.csv:1: expected each column once, got 'name' in column 4, too; drop",
        ),
        ("x,y\n", r"goals\.csv: expected at least one task below the header, got none"),
        (
            "x,y\n1,2\n3,north\n",
            r"goals\.csv:3: expected finite numbers in \['x', 'y'\], got \['3', 'north'\]; correct",
        ),
        ("x,y\n1,nan\n", r"goals\.csv:2: expected finite numbers in \['x', 'y'\], got \['1', 'nan'\]"),
        ("x,y\n1,inf\n", r"goals\.csv:2: expected finite numbers in \['x', 'y'\], got \['1', 'inf'\]"),
        ("x,y\n1,\n", r"goals\.csv:2: expected finite numbers in \['x', 'y'\], got \['1', ''\]"),
        ("x,y\n0_3,1\n", r"goals\.csv:2: expected finite numbers in \['x', 'y'\], got \['0_3', '1'\]"),
        (
            "name,x,y\ndoor,1,2\nwall,3,4\ndoor,5,6\n",
            r"goals\.csv:4: expected another name than in line 2, got 'door'; give each task a name of its own",
        ),
        (
            "name,x,y\ntask1,1,2\n,3,4\n",
            r"goals\.csv:3: expected another name than in line 2, got 'task1', for a line without a name; give",
        ),
        ("x,y\n\n1,2\n3\n", r"goals\.csv:4: expected 2 values, got 1 \['3'\]; correct the line"),
        ("x,y\n1,5,2,5\n", r"goals\.csv:2: expected 2 values, got 4 \['1', '5', '2', '5'\]"),
        (b"x,y\n\xff\xfe,2\n", r"goals\.csv: expected CSV text in UTF-8, got .*0xff"),
        ('x,y\n"1"2,3\n', r"goals\.csv: expected CSV text in UTF-8, got .*expected after"),
    ],
)
def test_bad_csv_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load_tasks_csv(write(tmp_path / "goals.csv", text), ("x", "y"))


def test_missing_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"nowhere\.csv: expected a CSV file of tasks, got nothing there; check the path"
    ):
        load_tasks_csv(tmp_path / "nowhere.csv", ("x", "y"))
