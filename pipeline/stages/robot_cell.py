"""The robots of the stage `adapt`: behind safety limits and a second process, with who looks on and who may step in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from ...adapt.audit import AuditLog
from ...adapt.novelty import NoveltyModel, NoveltyScorer
from ...adapt.safety import SafetyLimits
from ...adapt.takeover import KeyboardOperator, SocketOperator, Terminal, require_keys
from ...adapt.task_monitor import Judge, ScriptMonitor
from ...adapt.watch import CommandTap, Monitor, Operator, Watch
from ...adapt.watchdog import Watchdog
from ...datasets.log_family import LogFamily
from ...errors import ConfigError
from ...robots.dry_robot import DryRobot
from ...robots.family import Hardware, RobotFamily, make_robots
from ...robots.hardware_family import HardwareFamily, claim_robot
from ...robots.limits import RobotLimits
from ...robots.log_robot import LogRobot
from ...robots.robot import RobotBatch, RobotRow, TellsAge, can
from ..evidence import AUDIT_NAME, LOG_FOLDER
from ..progress import ProgressView
from ..robots import load_user_module
from ..settings.adapt import Watching
from ..settings.motion import MotionConfig
from ..stage import Work


@contextmanager
def open_robots(
    family: RobotFamily,
    motion: MotionConfig,
    watching: Watching,
    rows: int,
    work: Work,
    *,
    guarded: bool,
    nominal: NoveltyModel | None = None,
    skill_dim: int = 0,
) -> Iterator[tuple[RobotBatch, Watch | None]]:
    """Robots behind their safety limits, behind a second process where a real one moves, and what watches them.

    Args:
        family: Of the robots.
        motion: Whether and how fast they move.
        watching: Who looks on.
        rows: Number of robots.
        work: Of the stage.
        guarded: Updates are guarded, so that somebody watches.
        nominal: Model of motion of the bundle; `watching` may name another one.
        skill_dim: Numbers of a skill of the bundle, for the log; 0 where it chooses commands.

    Raises:
        ConfigError: See `MotionConfig.find_limits` and `make_operator`; or a dry run's robot cannot be read.
        RobotFault: The robot, the log or the second process cannot be reached, or another process moves the robot.
    """
    limits, real = motion.find_limits(family), isinstance(family, Hardware)
    if real:
        work.view.record("limits", {"limits": limits.to_json()}, limits.describe())
    made: list[DryRobot] = []
    if isinstance(family, HardwareFamily) and motion.is_dry(family):
        family = family.dry(made)
    with ExitStack() as stack:
        if isinstance(family, HardwareFamily) and not motion.is_dry(family):
            stack.enter_context(claim_robot(family.name, str(work.stage.folder.absolute())))
        if real:
            stack.enter_context(work.stop.at_once())
        replay = family.replay() if isinstance(family, LogFamily) else None
        robots = make_robots(family, rows, work.machine.threads, real=True) if replay is None else RobotRow(replay)
        watched = guarded or watching.any
        try:
            taps = CommandTap(robots) if watched else None
            watchdog = None
            if isinstance(family, HardwareFamily) and not made and family.stop is not None:
                watchdog = Watchdog(family.stop, family.watchdog_timeout, family.stop_arguments)
                stack.callback(watchdog.close)
            begun = real and work.begin_moving()
        except BaseException:
            robots.close()
            raise
        limited = limit_robots(
            *(taps or robots, work.folder / AUDIT_NAME),
            simulator=not real,
            limits=limits,
            watchdog=watchdog,
            begun=begun,
        )
        robot = stack.enter_context(limited)
        if real:
            for what in find_without(robot, robots, limits):
                work.view.note(f"{work.stage.name}: the limits do not hold for {what}")
        if taps is None:
            yield robot, None
        else:
            watch = watch_robots(
                *(robot, taps, watching, work, stack),
                simulated=not real,
                limits=limits,
                nominal=nominal,
                skill_dim=skill_dim,
            )
            yield watch, watch
        for dry in made:
            tell_dry_run(dry, work.view)
        if replay is not None:
            tell_replay(replay, work.view)


def watch_robots(
    robot: SafetyLimits,
    taps: CommandTap,
    watching: Watching,
    work: Work,
    stack: ExitStack,
    *,
    simulated: bool,
    limits: RobotLimits | None = None,
    nominal: NoveltyModel | None = None,
    skill_dim: int = 0,
) -> Watch:
    """What watches the robots; all that it opens is closed by the stack. See `open_robots` for arguments."""
    sink = None
    if watching.log:
        from ..cell_log import CellLog

        about = {"stage": work.stage.name}
        log = CellLog(work.folder / LOG_FOLDER, robot.spec, about, simulated=simulated, skill_dim=skill_dim)
        sink = stack.enter_context(log)
    if watching.operator == "keyboard":
        require_keys(robot.spec)
    operator, monitor = make_operator(watching, work.view.note, stack, robot.hold, limits)
    model = nominal if watching.novelty is None else NoveltyModel.load(watching.novelty)
    scorer = None if model is None else NoveltyScorer(model, robot.spec, robot.rows)
    return Watch(robot, taps, operator=operator, monitor=monitor, scorer=scorer, sink=sink, limits=limits)


def tell_dry_run(dry: DryRobot, view: ProgressView) -> None:
    """What would have been sent."""
    facts = dry.describe()
    axes = "".join(f"\n  {axis}: {ends['low']:.4g} .. {ends['high']:.4g}" for axis, ends in facts["axes"].items())
    text = f"dry run: {facts['commands']} commands computed, none sent; pass --execute to move the robot{axes}"
    view.record("dry_run", facts, text)


def tell_replay(replay: LogRobot, view: ProgressView) -> None:
    """How far the commands were from those of the log."""
    facts = replay.describe()
    axes = "".join(
        f"\n  {axis}: {away['mean']:.4g} on average, {away['largest']:.4g} at most"
        for axis, away in facts["axes"].items()
    )
    text = (
        f"log: {facts['commands']} commands in {facts['episodes']} recorded episodes; distance from the recorded ones"
    )
    view.record("replay", facts, text + axes)


def make_operator(
    watching: Watching,
    tell: Callable[[str], None],
    stack: ExitStack,
    idle: Callable[[], None] = lambda: None,
    limits: RobotLimits | None = None,
) -> tuple[Operator | None, Monitor | None]:
    """Who may take over within the limits, and who judges the task; `idle` is called while a person is asked.

    Raises:
        ConfigError: There is no terminal, no such operator, or no such function.
    """
    judges, keys = watching.monitor == "keyboard", watching.operator == "keyboard"
    keyboard = None
    if keys or judges or watching.prompt:
        terminal = Terminal()
        stack.callback(terminal.close)
        keyboard = KeyboardOperator(terminal, tell, judges=judges, prompts=watching.prompt, idle=idle, limits=limits)
    operator: Operator | None = keyboard if keys else None
    if watching.operator.startswith("socket:"):
        remote = SocketOperator(watching.operator.removeprefix("socket:"))
        stack.callback(remote.close)
        operator = remote
    elif watching.operator not in ("none", "keyboard"):
        raise ConfigError(
            f"--operator: expected none, keyboard or socket:PATH, got '{watching.operator}'; choose one of them"
        )
    if watching.monitor in ("robot", "keyboard"):
        return operator, keyboard if judges or watching.prompt else None
    return operator, ScriptMonitor(load_judge(watching.monitor), keyboard.begin if keyboard else None)


def load_judge(reference: str) -> Judge:
    """The function that `FILE.py:NAME` names.

    Raises:
        ConfigError: There is none, or the file does not run.
    """
    path, colon, name = reference.rpartition(":")
    found = getattr(load_user_module(path)[0], name, None) if colon and Path(path).is_file() else None
    if not callable(found):
        raise ConfigError(
            f"--monitor: expected robot, keyboard or FILE.py:NAME of a function, got '{reference}'; see "
            "task_monitor.Judge"
        )
    judge: Judge = found
    return judge


@contextmanager
def limit_robots(
    robots: RobotBatch,
    path: Path,
    *,
    simulator: bool,
    limits: RobotLimits | None = None,
    watchdog: Watchdog | None = None,
    begun: bool = False,
) -> Iterator[SafetyLimits]:
    """Robots behind their safety limits, with the audit log at `path`; both are closed at the end.

    Args:
        robots: Simulated, or one real robot.
        path: The audit log.
        simulator: A stop that an earlier run of the stage has left does not hold: a simulator starts anew, and there is
            nothing to inspect. For a real robot a person ends it.
        limits: None for those of the contract.
        watchdog: Of a real robot.
        begun: See `AuditLog`.

    Raises:
        RobotFault: the log cannot be written.
    """
    try:
        audit = AuditLog(path, simulator=simulator, begun=begun)
    except BaseException:
        robots.close()
        raise
    with closing(audit):
        try:
            limited = SafetyLimits(robots, audit, limits=limits, watchdog=watchdog)
        except BaseException:
            robots.close()
            raise
        with closing(limited) as robot:
            if limits is not None and not simulator:
                audit.append("limits", limits=limits.to_json(), without=find_without(robot, robots, limits))
            yield robot


def find_without(robot: SafetyLimits, robots: RobotBatch, limits: RobotLimits) -> list[str]:
    """What the limits of a real robot do not hold for, since its driver cannot: in words."""
    found = []
    if not robot.keeps_home and limits.action != RobotLimits.of(limits.spec).action:
        found.append("what the driver commands by itself in its reset: it takes no limits (TakesLimits)")
    if limits.loop.max_age is not None and not can(robots, TellsAge):
        found.append("the age of observations: the driver does not tell it (TellsAge)")
    return found
