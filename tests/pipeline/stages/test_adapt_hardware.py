"""A real robot is read unless the operator says --execute, and is moved only with limits and with a way to stop it."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from supple.adapt.bundle import load_bundle
from supple.adapt.bundle_folder import find_bundle
from supple.errors import ConfigError, RobotFault
from supple.pipeline.evidence import AUDIT_NAME
from supple.pipeline.interrupt import StopRequest
from supple.pipeline.progress import JsonProgress
from supple.pipeline.robots import RobotChoice
from supple.pipeline.settings.adapt import AdaptStageConfig
from supple.pipeline.settings.motion import MotionConfig
from supple.pipeline.stage import Machine, StageResult, run_stage
from supple.pipeline.stages import robot_cell
from supple.pipeline.stages.adapt import find_robot_of, make_adapt
from supple.robots.family import RobotFamily
from supple.robots.hardware_family import HardwareFamily, claim_robot, find_claim
from supple.robots.limits import LoopLimits, RobotLimits
from supple.robots.robot import FirstRow, Float, Holds, Observes, Step, Stops, TakesLimits, TellsAge
from supple.robots.spec import ArraySpec

STOP = """
from pathlib import Path

def stop(place, reason):
    Path(place).write_text(reason)
"""


class Twin(FirstRow, Stops, Holds, Observes):
    """The simulated robot as a driver of a real one, which counts what it is told."""

    def __init__(self, family: RobotFamily) -> None:
        super().__init__(family.make(1))
        self.moved, self.starts, self.reads, self.stops = 0, 0, 0, list[str]()
        self.holds, self.busy = 0, lambda: None
        self.fail_at = -1
        self.seen = super().reset(np.array(family.tasks().train[0].goal, np.float32), np.random.default_rng(0))

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        self.starts += 1
        return super().reset(goal, rng)

    def step(self, action: Float) -> Step:
        self.moved += 1
        self.busy()
        if self.moved == self.fail_at:
            raise OSError("no link")
        return super().step(action)

    def read(self) -> Float:
        self.reads += 1
        return self.seen

    def hold(self) -> None:
        self.holds += 1

    def stop(self, reason: str) -> None:
        self.stops.append(reason)


@dataclass
class Cell:
    """A robot cell: the bundle of a tiny run, a driver, and the family of both."""

    bundle: Path
    twin: Twin
    family: HardwareFamily
    folder: Path
    updates: Literal["auto", "here"] = "here"

    def run(
        self, motion: MotionConfig, stop_request: StopRequest | None = None, **changes: Any
    ) -> tuple[StageResult, list[dict[str, Any]]]:
        family = replace(self.family, **changes)
        choice = RobotChoice("cell.py:ARM", family, Path(__file__))
        config = AdaptStageConfig(episodes=2, evaluations=0, evaluate_at=(), updates=self.updates)
        stage = make_adapt(self.bundle, family.tasks().test[:1], choice, config, 0, motion)
        with (self.folder / "records.jsonl").open("w") as stream:
            result = run_stage(replace(stage, folder=self.folder / "out"), MACHINE, JsonProgress(stream), stop_request)
        records = [json.loads(line) for line in (self.folder / "records.jsonl").read_text().splitlines()]
        return result, [record for record in records if record["event"] in ("limits", "dry_run")]


MACHINE = Machine(tensorboard=False)


@pytest.fixture
def cell(tiny_run: Path, tmp_path: Path) -> Cell:
    bundle = find_bundle(tiny_run)
    simulated = find_robot_of(load_bundle(bundle), None).family
    twin = Twin(simulated)
    goals = [task.goal for task in simulated.tasks().test]
    family = HardwareFamily(
        name="cell",
        connect=lambda: twin,
        contract=simulated.spec(),
        train_goals=(simulated.tasks().train[0].goal,),
        test_goals=(goals[0],),
    )
    return Cell(bundle, twin, family, tmp_path)


def test_a_robot_is_moved_by_one_process_at_a_time(cell: Cell) -> None:
    moves = MotionConfig(execute=True)
    changes = {"stops_by_itself": True}
    with claim_robot("cell", "another folder"):
        with pytest.raises(
            RobotFault, match=rf"cell: expected to be alone .*process {os.getpid()} with another folder"
        ):
            cell.run(moves, **changes)
        assert (cell.twin.moved, cell.twin.starts) == (0, 0)
        shutil.rmtree(cell.folder / "out.partial")
        cell.run(moves, name="other-cell", **changes)
        shutil.rmtree(cell.folder / "out")
        cell.run(MotionConfig())  # to be read, a robot need not be claimed
        shutil.rmtree(cell.folder / "out")
    cell.run(moves, **changes)
    assert cell.twin.moved


def test_a_claim_ends_with_its_process_and_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from supple.robots.hardware_family import claim_robot
with claim_robot("arm", "somewhere"):
    print("claimed", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RobotFault, match=f"process {process.pid} with somewhere"), claim_robot("arm", "here"):
            pass
        with claim_robot("arm-2", "here"):
            pass
        process.kill()
    with claim_robot("arm", "here"):
        assert find_claim("arm").read_text() == f"process {os.getpid()} with here"
    find_claim("arm").unlink()
    find_claim("arm").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RobotFault, match="expected a file that says who moves arm"), claim_robot("arm", "here"):
        pass
    assert not (tmp_path / "elsewhere").exists()
    find_claim("arm").unlink()


def test_a_real_robot_is_only_read_unless_it_is_told_to_execute(cell: Cell) -> None:
    result, (limits, dry) = cell.run(MotionConfig())
    twin = cell.twin
    assert (twin.moved, twin.starts, twin.stops) == (0, 0, [])
    assert twin.reads == dry["commands"] + 2
    assert dry["sent"] == 0
    assert dry["commands"] == 2 * cell.family.contract.episode_steps
    for axis in dry["axes"].values():
        assert -1.0 <= axis["low"] <= axis["high"] <= 1.0  # the robot rests, and the logs choose by its state alone
    assert {row["source"] for row in limits["limits"]} == {"contract", "loop"}
    events = [json.loads(line) for line in (result.folder / AUDIT_NAME).read_text().splitlines()]
    assert events[1]["event"] == "limits"
    assert events[1]["limits"] == limits["limits"]


def test_a_driver_that_cannot_be_read_is_not_run_dry(cell: Cell) -> None:
    class Blind(FirstRow):
        closed = False

        def close(self) -> None:
            self.closed = True

    blind = Blind(cell.twin._batch)
    with pytest.raises(ConfigError, match="dry run: expected a driver that can be read without a command, got Blind"):
        cell.run(MotionConfig(), connect=lambda: blind)
    assert blind.closed


def test_to_execute_there_must_be_somebody_who_stops_the_robot(cell: Cell) -> None:
    with pytest.raises(
        ConfigError, match="--execute on 'cell': expected a way to stop the robot when this process dies"
    ):
        cell.run(MotionConfig(execute=True))
    assert cell.twin.starts == 0
    _, records = cell.run(MotionConfig(execute=True), stops_by_itself=True)
    assert [record["event"] for record in records] == ["limits"]
    assert cell.twin.moved > 0
    assert cell.twin.starts == 2


def test_a_dry_run_is_no_run_that_another_start_takes_for_done(cell: Cell) -> None:
    cell.run(MotionConfig())
    with pytest.raises(Exception, match="out"):
        cell.run(MotionConfig(execute=True), stops_by_itself=True)
    assert cell.twin.moved == 0


def test_the_second_process_stops_the_robot_and_the_run_finds_out(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell.folder / "stopper.py").write_text(STOP)
    stop = runpy.run_path(str(cell.folder / "stopper.py"))["stop"]
    place = cell.folder / "stopped"
    begun: list[Any] = []

    class Noted(robot_cell.Watchdog):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            begun.append(self)

    monkeypatch.setattr(robot_cell, "Watchdog", Noted)
    cell.run(MotionConfig(execute=True), stop=stop, stop_arguments=(str(place),))
    assert len(begun) == 1
    assert not place.exists()

    class Killer(Twin):
        def step(self, action: Float) -> Step:
            os.kill(begun[-1].pid, signal.SIGKILL)
            return super().step(action)

    twin = Killer(find_robot_of(load_bundle(cell.bundle), None).family)
    again = replace(cell, folder=cell.folder / "again")
    again.folder.mkdir()
    with pytest.raises(RobotFault, match="it has gone"):
        again.run(
            MotionConfig(execute=True), stop=stop, stop_arguments=(str(place),), connect=lambda: twin, name="other"
        )
    assert twin.stops


def test_a_limit_that_is_missing_is_named_before_anything_is_connected(cell: Cell, tmp_path: Path) -> None:
    axes = tuple(replace(axis, unit="m/s") for axis in cell.family.contract.action.axes)
    spec = replace(cell.family.contract, action=ArraySpec("action", axes))
    family = replace(cell.family, contract=spec, connect=lambda: pytest.fail("connected"))
    with pytest.raises(
        ConfigError,
        match=r"may jump.*give \[action\.force_x\] acceleration = number, ",
    ):
        MotionConfig().find_limits(family)
    path = tmp_path / "limits.toml"
    path.write_text("[action.force_x]\nacceleration = 2.0\nvelocity = 0.5\n[action.force_y]\nacceleration = 3.0\n")
    limits = MotionConfig(limits=path, slow=0.5).find_limits(family)
    assert limits.action[0]["velocity"].high == 0.25
    assert limits.action[1]["acceleration"].high == 0.75


def test_a_person_is_told_what_the_limits_do_not_hold_for(cell: Cell, tmp_path: Path) -> None:
    class Whole(Twin, TellsAge, TakesLimits):
        def observation_age(self) -> float:
            return 0.0

        def take_limits(self, limits: RobotLimits) -> bool:
            assert self.starts == 0
            return True

    path = tmp_path / "limits.toml"
    path.write_text("[action.force_x]\neffort = 0.5\n")
    motion = MotionConfig(execute=True, limits=path)
    for twin, said in (
        (cell.twin, ["what the driver commands by itself in its reset", "the age of observations"]),
        (Whole(find_robot_of(load_bundle(cell.bundle), None).family), []),
    ):
        there = replace(cell, twin=twin, folder=cell.folder / type(twin).__name__)
        there.folder.mkdir()
        result, _ = there.run(motion, stops_by_itself=True, connect=lambda: there.twin)  # noqa: B023
        limits = json.loads((result.folder / AUDIT_NAME).read_text().splitlines()[1])
        assert [one.partition(":")[0] for one in limits["without"]] == said
        notes = (there.folder / "records.jsonl").read_text()
        assert notes.count("the limits do not hold for") == len(said)


def test_a_robot_that_safety_limits_refuse_is_let_go_of(cell: Cell, tmp_path: Path) -> None:
    class Far(Twin, TakesLimits):
        closed = False

        def take_limits(self, limits: RobotLimits) -> bool:
            raise ConfigError("home: expected one within the limits, got 3; move it")

        def close(self) -> None:
            self.closed = True

    far = Far(find_robot_of(load_bundle(cell.bundle), None).family)
    with pytest.raises(ConfigError, match="home: expected one within the limits"):
        cell.run(MotionConfig(execute=True), stops_by_itself=True, connect=lambda: far)
    assert far.closed
    assert (far.starts, far.moved) == (0, 0)


def test_modes_that_exclude_each_other_are_refused(cell: Cell) -> None:
    simulated = find_robot_of(load_bundle(cell.bundle), None).family
    with pytest.raises(ConfigError, match="expected --dry-run or --execute, got both"):
        MotionConfig(dry_run=True, execute=True).is_dry(cell.family)
    with pytest.raises(ConfigError, match="--dry-run: expected a real robot, got the simulated"):
        MotionConfig(dry_run=True).is_dry(simulated)
    assert MotionConfig().is_dry(cell.family)
    assert not MotionConfig().is_dry(simulated)
    with pytest.raises(ConfigError, match="slow"):
        MotionConfig(slow=0.0)


def test_a_robot_is_held_after_each_episode_and_while_a_process_beside_learns(cell: Cell) -> None:
    loop = LoopLimits(max_age=60.0)  # a busy machine is late, and what is late depends on the machine
    result, _ = replace(cell, updates="auto").run(MotionConfig(execute=True), stops_by_itself=True, loop=loop)
    beside = (result.folder / "records.jsonl").read_text()
    assert cell.twin.holds > cell.twin.starts  # once after each episode, and again and again meanwhile
    assert not cell.twin.stops
    here = replace(cell, twin=Twin(find_robot_of(load_bundle(cell.bundle), None).family), folder=cell.folder / "here")
    here.folder.mkdir()
    result, _ = here.run(MotionConfig(execute=True), stops_by_itself=True, connect=lambda: here.twin, loop=loop)
    assert (result.folder / "records.jsonl").read_text() == beside


def test_the_first_ctrl_c_stops_a_real_robot_at_once(cell: Cell) -> None:
    request = StopRequest()

    def press() -> None:
        if cell.twin.moved == 3:
            request.receive(signal.SIGINT, None)

    cell.twin.busy = press
    with pytest.raises(KeyboardInterrupt):
        cell.run(MotionConfig(execute=True), request, stops_by_itself=True)
    assert cell.twin.moved == 3
    assert cell.twin.stops[0] == "the robot's step did not complete: KeyboardInterrupt"
    with pytest.raises(RobotFault, match="expected an armed robot, got one stopped by 'the robot's step did not comp"):
        cell.run(MotionConfig(execute=True), StopRequest(), stops_by_itself=True)
    assert cell.twin.moved == 3
    with pytest.raises(KeyboardInterrupt):  # somebody asked before the robot was there
        cell.run(MotionConfig(execute=True), request, stops_by_itself=True)


@pytest.mark.parametrize("error", [SystemExit, StopIteration])
@pytest.mark.parametrize("where", ["connect", "reset", "step", "hold", "close", "compute_reward"])
def test_whatever_a_driver_raises_is_an_error_with_a_name(
    cell: Cell, where: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise error("driver")

    connect = cell.family.connect
    if where == "connect":
        connect = fail
    else:
        monkeypatch.setattr(cell.twin, where, fail)
    with pytest.raises(RobotFault, match=error.__name__):
        cell.run(MotionConfig(execute=True), connect=connect, stops_by_itself=True)
    assert bool(cell.twin.stops) == (where != "connect")


def test_a_robot_that_would_go_on_by_itself_is_refused(cell: Cell) -> None:
    class Rolls(FirstRow, Stops):
        closed = False

        def stop(self, reason: str) -> None: ...

        def close(self) -> None:
            self.closed = True

    rolls = Rolls(cell.twin._batch)
    with pytest.raises(ConfigError, match="driver that can hold the robot, since 'force_x' commands no place"):
        cell.run(MotionConfig(execute=True), connect=lambda: rolls, stops_by_itself=True)
    assert rolls.closed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def judge(:", "expected a module that runs, got SyntaxError"),
        ("raise SystemExit(0)", "expected a module that runs, got SystemExit: 0"),
        ("judge = 3", "expected robot, keyboard or FILE.py:NAME of a function"),
        ("", "expected robot, keyboard or FILE.py:NAME of a function"),
    ],
)
def test_a_monitor_that_is_none_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad_monitor.py"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        robot_cell.load_judge(f"{path}:judge")


def test_a_monitor_is_a_function_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "some_monitor.py"
    path.write_text("def judge(observation, goal):\n    return 7\n")
    judge: Any = robot_cell.load_judge(f"{path}:judge")
    assert judge(None, None) == 7
    with pytest.raises(ConfigError, match="expected robot, keyboard or FILE"):
        robot_cell.load_judge(str(tmp_path / "nothing.py"))
