"""Robots by name: built-in families, a user's file or module, records in keys and bundles, tasks from files."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import cast

import pytest

from supple.errors import BundleError, ConfigError, SourceError, SpecError
from supple.pipeline.cli_common import take_option
from supple.pipeline.executors import ProcessExecutor
from supple.pipeline.interrupt import StopRequest
from supple.pipeline.robots import RobotChoice, choose_builtin, find_recorded, find_robot, find_tasks
from supple.robots.families import FAMILIES
from supple.robots.family import make_robots
from supple.robots.gridnavi import GridNavi
from supple.robots.krazy_world import KrazyWorld
from supple.robots.maze_family import Maze
from supple.robots.mjcf_family import MjcfFamily
from supple.robots.navigation import PointNavigation
from supple.robots.robot import RobotBatch
from supple.robots.task import Task, TaskSet

USERS = '''"""A user's robots."""

from dataclasses import dataclass, field
from pathlib import Path

from my_walls import SIZE

from supple.pipeline.presets import RunConfig
from supple.robots.family import ONLY_TASKS, BuiltFrom
from supple.robots.maze_family import Maze


@dataclass(frozen=True, kw_only=True)
class Box(BuiltFrom):
    size: int = SIZE
    model: Path = Path(__file__).with_name("box.xml")
    goals: int = field(default=2, metadata=ONLY_TASKS)
    name = "box"

    def inner(self):
        return Maze(layout_size=self.size, layout_seed=3, num_train_tasks=self.goals, num_test_tasks=2)

    def spec(self):
        return self.inner().spec()

    def make(self, rows, threads=1):
        return self.inner().make(rows, threads)

    def tasks(self):
        return self.inner().tasks()

    def files(self):
        return (self.model,)

    def libraries(self):
        return ("numpy",)


BOX = Box()
NUMBER = 3
PRESETS = {"quick": RunConfig(robot=Box(size=9))}
'''


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's file `my_box.py` with a module and a model beside it; it is forgotten afterwards."""
    (tmp_path / "my_box.py").write_text(USERS)
    (tmp_path / "my_walls.py").write_text("SIZE = 10\n")
    (tmp_path / "box.xml").write_text("<mujoco/>")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "my_box.py"
    forget()


def forget() -> None:
    """Modules of the user's are run anew at the next call, as in another process."""
    for name in ("my_box", "my_walls"):
        sys.modules.pop(name, None)


def test_a_built_in_family_is_found_by_its_name() -> None:
    choice = find_robot("maze")
    assert choice == RobotChoice("maze", FAMILIES["maze"])
    assert choice.record["config"]["layout_size"] == 20


def test_a_users_family_is_found_by_file_and_by_module(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_file = find_robot(f"{users}:BOX")
    assert by_file.reference == "my_box.py:BOX"
    assert by_file.family.spec().name == "maze"
    monkeypatch.chdir(users.parent)
    by_name = find_robot("my_box:BOX")
    assert by_name.reference == by_name.argument == "my_box:BOX"
    assert by_file.argument == f"{users}:BOX"
    assert by_name.record["digest"] == by_file.record["digest"]
    assert by_file.record["config"] == {"size": 10, "model": "box.xml", "goals": 2}
    assert by_file.record_without_tasks["config"] == {"size": 10, "model": "box.xml"}


@pytest.mark.parametrize("taken", ["", "import math as quick\n"])
def test_the_robot_of_a_preset_is_found_by_the_presets_name(users: Path, taken: str) -> None:
    users.write_text(taken + USERS)  # also where the module has something else of that name
    choice = find_robot(f"{users}:quick")
    assert choice.reference == "my_box.py:quick"
    assert choice.record["config"]["size"] == 9


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("no-such-robot", "maze"),
        ("nowhere.py:ARM", "nowhere.py: expected a Python file"),
        ("{users}:ARM", "one of BOX, got 'ARM'"),
        ("{users}:NUMBER", "one of BOX, got 'NUMBER'"),
        ("{users}:", "expected one of"),
        ("no_such_package.robots:ARM", "no_such_package"),
    ],
)
def test_what_is_no_robot_is_refused(reference: str, named: str, users: Path) -> None:
    with pytest.raises(ConfigError, match=named):
        find_robot(reference.format(users=users))


def test_a_file_that_fails_is_named_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "broken_robot.py").write_text("raise ValueError('no such joint')")
    with pytest.raises(
        ConfigError, match=r"broken_robot.py: expected a module that runs, got ValueError: no such joint"
    ):
        find_robot(f"{tmp_path / 'broken_robot.py'}:ARM")
    assert "broken_robot" not in sys.modules


@pytest.mark.parametrize("call", ["spec", "tasks"])
def test_a_family_whose_calls_give_something_else_is_refused(call: str, users: Path) -> None:
    choice = find_robot(f"{users}:BOX")

    class Odd(type(choice.family)):  # type: ignore[misc]
        pass

    setattr(Odd, call, lambda self: {"name": "box"})
    with pytest.raises(
        ConfigError, match=f"my_box.py:BOX {call}: expected a (RobotSpec|TaskSet), got dict; return one"
    ):
        getattr(replace(choice, family=Odd()), call)


def test_what_makes_no_robots_is_refused() -> None:
    class Empty(Maze):
        def make(self, rows: int, threads: int = 1) -> RobotBatch:
            return cast(RobotBatch, None)

    with pytest.raises(ConfigError, match=r"make: expected rows of robots, got NoneType without spec, rows, reset"):
        make_robots(Empty(), 2)


@pytest.mark.parametrize("changed", ["my_box.py", "my_walls.py", "box.xml"])
def test_the_record_changes_with_the_users_code_and_files(users: Path, changed: str) -> None:
    before = find_robot(f"{users}:BOX").record
    path = users.with_name(changed)
    path.write_text(path.read_text() + ("<!-- -->" if changed.endswith("xml") else "\nMORE = 1\n"))
    from supple.pipeline import keys

    keys.compute_code_digest.cache_clear()
    keys._load_tree.cache_clear()
    forget()
    after = find_robot(f"{users}:BOX").record
    assert after["config"] == before["config"]
    assert after["digest"] != before["digest"]


def test_files_of_a_family_inside_another_count(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wrapped(Maze):
        arm: MjcfFamily

    (tmp_path / "arm.xml").write_text("<mujoco/>")
    arm = MjcfFamily(name="arm", model=tmp_path / "arm.xml", goal_joints=("turn",))
    choice = RobotChoice("my_arm.py:ARM", Wrapped(arm=arm), Path(__file__))
    before = choice.record
    (tmp_path / "arm.xml").write_text("<mujoco></mujoco>")
    assert choice.record["digest"] != before["digest"]
    assert choice.record["config"] == before["config"]


def test_prose_in_a_users_file_changes_nothing(users: Path) -> None:
    before = find_robot(f"{users}:BOX").record
    users.write_text(users.read_text().replace('"""A user\'s robots."""', '"""Other words."""  # and a comment'))
    from supple.pipeline import keys

    keys.compute_code_digest.cache_clear()
    keys._load_tree.cache_clear()
    forget()
    assert find_robot(f"{users}:BOX").record == before


def test_a_record_of_a_built_in_family_gives_the_same_robot() -> None:
    maze = RobotChoice("maze", Maze(layout_size=12, layout_seed=4, num_train_tasks=5))
    assert find_recorded(maze.record, None, "bundle").family == maze.family


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_built_in_family_comes_back_from_its_record(name: str) -> None:
    choice = choose_builtin(FAMILIES[name])
    assert choice.reference == name
    assert find_recorded(json.loads(json.dumps(choice.record)), None, "bundle") == choice


def test_a_record_of_other_boards_or_goals_is_another_robot_or_refused() -> None:
    krazy, point = choose_builtin(KrazyWorld()).record, choose_builtin(PointNavigation()).record
    krazy["config"]["board"]["energy"] = None
    found = find_recorded(krazy, None, "bundle").family
    assert isinstance(found, KrazyWorld)
    assert found.board.energy is None
    point["config"]["variant"]["goals"] = "triangle"
    with pytest.raises(BundleError, match=r"bundle\.config\.variant\.goals: expected"):
        find_recorded(point, None, "bundle")
    krazy["config"]["board"]["size"] = 1
    with pytest.raises(BundleError, match=r"KrazyConfig\.size"):
        find_recorded(krazy, None, "bundle")


@pytest.mark.parametrize("number", ["many", True, None, 3.5])
def test_a_setting_of_another_type_is_refused(number: object) -> None:
    record = {"family": "gridnavi", "config": {"num_train": number, "task_seed": 0}}
    with pytest.raises(BundleError, match=rf"bundle\.config\.num_train: expected int, got {number!r}"):
        find_recorded(record, None, "bundle")


def test_a_record_of_the_maze_as_old_bundles_have_it_is_read() -> None:
    maze = {"layout_size": 10, "layout_seed": 1, "episode_steps": 60}
    tasks = {"task_set": "auto", "num_train_tasks": 3, "num_test_tasks": 2, "task_seed": 0}
    found = find_recorded({"family": "point-mazes", "config": {"maze": maze, "tasks": tasks}}, None, "bundle")
    assert found.reference == "maze"
    assert found.family == Maze(layout_size=10, layout_seed=1, episode_steps=60, num_train_tasks=3, num_test_tasks=2)


def test_only_built_in_families_are_named_by_their_type() -> None:
    class Other(GridNavi):
        pass

    with pytest.raises(ConfigError, match=r"robot: expected a family of maze, .*, got Other; add it to FAMILIES"):
        choose_builtin(Other())


def test_a_record_of_a_users_family_needs_the_user_and_runs_nothing(users: Path) -> None:
    record = find_robot(f"{users}:BOX").record
    forget()
    with pytest.raises(BundleError, match=r"name it again, as in --robot path/to/my_box.py:BOX"):
        find_recorded(record, None, "bundle")
    assert "my_box" not in sys.modules
    named = find_robot(f"{users}:BOX")
    assert find_recorded(record, named, "bundle") is named


def test_another_robot_than_the_recorded_one_is_refused_unless_it_is_accepted(users: Path) -> None:
    named = find_robot(f"{users}:BOX")
    other = replace(named, family=replace(named.family, size=11))  # type: ignore[type-var]
    message = r"with size \d+, got 11 in 'my_box\.py:BOX'; pass --robot\.size as then, or pass --accept-robot-change"
    with pytest.raises(BundleError, match=message):
        find_recorded(named.record, other, "bundle")
    with pytest.raises(BundleError, match=r"as it was, got other code or files of 'my_box\.py:BOX', .*; pass --acc"):
        find_recorded({**named.record, "digest": "0"}, named, "bundle")
    assert find_recorded(named.record, other, "bundle", accept_change=True) is other
    more_goals = replace(named, family=replace(named.family, goals=3))  # type: ignore[type-var]
    assert find_recorded(named.record, more_goals, "bundle") is more_goals


def test_a_bundle_of_a_robot_without_a_simulator_takes_the_robot_that_is_named(users: Path) -> None:
    named = find_robot(f"{users}:BOX")
    with pytest.raises(BundleError, match=r"nothing can be compared with 'my_box\.py:BOX' but its axes; pass --accept"):
        find_recorded(None, named, "bundle")
    assert find_recorded(None, named, "bundle", accept_change=True) is named


@pytest.mark.parametrize("record", [None, 3, {}, {"family": 3}, {"family": "maze"}, {"family": "maze", "config": []}])
def test_a_damaged_record_is_refused(record: object) -> None:
    with pytest.raises(BundleError, match="bundle"):
        find_recorded(record, None, "bundle")


def test_tasks_come_from_the_family_or_from_files(tmp_path: Path) -> None:
    maze = RobotChoice("maze", Maze(layout_size=10, layout_seed=1, num_train_tasks=3, num_test_tasks=2))
    own = find_tasks(maze, None, None)
    assert own == maze.family.tasks()
    goals = [(f"{a}", task.goal) for a, task in zip("abc", own.train, strict=True)]
    (tmp_path / "mine.csv").write_text("name,x,y\n" + "".join(f"{name},{x},{y}\n" for name, (x, y) in goals))
    (tmp_path / "other.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in (task.goal for task in own.test)))
    assert [task.name for task in find_tasks(maze, tmp_path / "mine.csv", None).train] == ["a", "b", "c"]
    both = find_tasks(maze, tmp_path / "mine.csv", tmp_path / "other.csv")
    assert (both.name, [t.goal for t in both.test]) == ("mine-other", [t.goal for t in own.test])
    with pytest.raises(SpecError, match="disjoint"):
        find_tasks(maze, tmp_path / "mine.csv", tmp_path / "mine.csv")
    (tmp_path / "far.csv").write_text("x,y\n1,999\n")
    with pytest.raises(SpecError, match="999"):
        find_tasks(maze, None, tmp_path / "far.csv")
    with pytest.raises(SourceError, match=r"no\.csv"):
        find_tasks(maze, tmp_path / "no.csv", None)


@pytest.mark.parametrize(("split", "goal", "got"), [("test", (1.0, 99.0), "99"), ("train", (5.0,), r"\(1, 1\)")])
def test_own_tasks_of_a_family_that_are_none_of_its_robot_are_refused_before_anything_is_trained(
    split: str, goal: tuple[float, ...], got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = {"train": (1.0, 2.0)[: len(goal)], "test": (1.0, 3.0)[: len(goal)], split: goal}
    own = TaskSet("own", *((Task(name, goals[name]),) for name in ("train", "test")))
    monkeypatch.setattr(Maze, "tasks", lambda self: own)
    with pytest.raises(SpecError, match=f"{split} tasks of 'maze': expected goal .*{got}"):
        find_tasks(RobotChoice("maze", Maze()), None, None)


def test_the_name_of_the_robot_is_taken_out_of_the_arguments() -> None:
    assert take_option("--robot", ["a", "--robot", "maze", "--robot.layout-seed", "7"]) == (
        "maze",
        ["a", "--robot.layout-seed", "7"],
    )
    assert take_option("--robot", ["--robot=maze"]) == ("maze", [])
    assert take_option("--robot", ["a"]) == (None, ["a"])
    for wrong in (["--robot"], ["--robot", "a", "--robot", "b"]):
        with pytest.raises(ConfigError, match="--robot: expected one name"):
            take_option("--robot", wrong)


def test_a_family_that_can_be_changed_is_told_how_to_be_frozen(tmp_path: Path) -> None:
    calls = "".join(f"    def {name}(self, *a): ...\n" for name in ("spec", "make", "tasks"))
    (tmp_path / "soft.py").write_text(
        f"from dataclasses import dataclass\n@dataclass\nclass Soft:\n{calls}SOFT = Soft()\n"
    )
    with pytest.raises(ConfigError, match=r"expected an object of a frozen dataclass, got one of Soft, .*frozen=True"):
        find_robot(f"{tmp_path / 'soft.py'}:SOFT")


def test_the_line_of_a_file_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("import json\n\njson.loads('{')\n")
    with pytest.raises(ConfigError, match=r"got JSONDecodeError: .* \(line 3 of fails\.py\); correct it"):
        find_robot(f"{tmp_path / 'fails.py'}:X")


TYPED = "from __future__ import annotations\nimport helper\n" + USERS.replace("from my_walls import SIZE", "SIZE = 10")


@pytest.fixture
def forgetting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules that a test loads are forgotten afterwards, and folders of theirs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    assert all(sys.modules[name] is module for name, module in before.items()), "nobody's module was taken"


@pytest.mark.usefixtures("forgetting")
@pytest.mark.parametrize("name", ["platform.py", "calendar.py", "my.arm.py", "my arm é.py", "own_box.py"])
def test_a_file_of_any_name_runs_and_its_objects_are_sent_to_workers(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TYPED)
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "box.xml").write_text("<mujoco/>")
    choice = find_robot(f"{tmp_path / name}:BOX")
    assert find_robot(f"{tmp_path / name}:BOX") == choice, "it runs once"
    assert choice.reference == f"{name}:BOX"
    assert (type(choice.family).__module__ == Path(name).stem) == (name in ("my arm é.py", "own_box.py"))
    with closing(ProcessExecutor(1, StopRequest())) as executor:
        (outcome,) = executor.run(attrgetter("size"), [choice.family])
    assert outcome.value == 10


@pytest.mark.usefixtures("forgetting")
def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    sizes = []
    for folder, size in (("a", 8), ("b", 9)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own_robot.py").write_text(TYPED.replace("import helper", "").replace("10", str(size)))
        (tmp_path / folder / "box.xml").write_text("<mujoco/>")
        family = find_robot(f"{tmp_path / folder / 'own_robot.py'}:BOX").family
        sizes.append(vars(sys.modules[type(family).__module__])["SIZE"])
    assert sizes == [8, 9]


@pytest.mark.usefixtures("forgetting")
@pytest.mark.parametrize("library", ["torch.py", "numpy.py", "supple.py", "mujoco/__init__.py"])
def test_a_module_that_would_be_taken_for_a_library_is_refused(library: str, tmp_path: Path) -> None:
    (tmp_path / library).parent.mkdir(exist_ok=True)
    (tmp_path / library).write_text("")
    (tmp_path / "own_robot.py").write_text(TYPED)
    message = rf"{library}: expected another name than that of a library of Supple, got '\w+', which .*; rename it"
    with pytest.raises(ConfigError, match=message):
        find_robot(f"{tmp_path / 'own_robot.py'}:BOX")
    assert str(tmp_path) not in sys.path
