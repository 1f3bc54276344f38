import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from supple.errors import BundleError, SpecError
from supple.pipeline.cli import parse
from supple.pipeline.report.run_folder import load_run
from supple.pipeline.report.run_robot import find_run_robot
from supple.pipeline.robots import find_robot
from supple.robots.maze_family import Maze

MAZE = Maze(layout_size=10, layout_seed=1)


def test_a_built_in_robot_is_found_by_its_record(tiny_run: Path) -> None:
    robot = find_run_robot(load_run(tiny_run), None)
    assert robot.reference == "maze"
    assert isinstance(robot.family, Maze)
    assert robot.family.episode_steps == 60
    assert robot.spec == robot.family.spec()
    assert [len(robot.train), len(robot.test)] == [3, 2]
    assert robot.settings["layout_size"] == 10
    assert robot.reason == ""


def test_a_run_that_has_just_begun_has_a_robot_but_no_tasks(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run / "generate", tmp_path / "generate.partial")
    record = json.loads((tmp_path / "generate.partial" / "stage.json").read_text())
    (tmp_path / "generate.partial" / "key.json").write_text(json.dumps(record["fields"]))
    robot = find_run_robot(load_run(tmp_path), None)
    assert robot.spec == replace(MAZE, episode_steps=60).spec()
    assert (robot.train, robot.test) == ((), ())


def test_a_users_robot_is_not_run_without_being_named(hostile: ModuleType, hostile_run: Path) -> None:
    run = load_run(hostile_run)
    robot = find_run_robot(run, None)
    assert robot.family is None
    assert "name it again, as in --robot path/to/hostile_robots.py" in robot.reason
    assert robot.spec == hostile.ROBOT.spec()  # as recorded with the data
    assert [task.name for task in (*robot.test, *robot.train)] == list(hostile.NAMES)
    named = find_run_robot(run, find_robot(f"{hostile.__file__}:{hostile.IMAGE}"))
    assert named.family == hostile.ROBOT
    with pytest.raises(BundleError, match="got another family of 'maze'"):
        find_run_robot(run, find_robot("maze"))


def test_a_robot_whose_code_changed_is_taken_where_the_user_says_so_and_has_the_same_axes(
    hostile: ModuleType, hostile_run: Path
) -> None:
    run, named = load_run(hostile_run), find_robot(f"{hostile.__file__}:{hostile.IMAGE}")
    changed = replace(named, module=Path(__file__))  # other code
    with pytest.raises(BundleError, match=r"got other code or files of .* pass --accept-robot-change"):
        find_run_robot(run, changed)
    assert find_run_robot(run, changed, accept_change=True).family == hostile.ROBOT
    with pytest.raises(SpecError):
        find_run_robot(run, find_robot("maze"), accept_change=True)
    for verb in ("report", "video"):
        assert parse(verb, [str(hostile_run), "--accept-robot-change"])
