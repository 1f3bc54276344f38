"""What all verbs share: their options, and how they run stages."""

import io
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar, cast, get_args, get_origin, get_type_hints

import tyro

from ..bounds import BoundsError, NonNegative, Threads, require_bounds
from ..errors import ConfigError, RunError, describe_foreign
from ..robots.families import FAMILIES
from ..robots.family import RobotFamily
from .interrupt import StopRequest, catch_signals
from .keys import compute_digest
from .progress import ProgressView, make_progress
from .robots import RobotChoice, find_robot
from .stage import Machine, Stage, StageResult, compute_fields, run_stage

PROGRAM = "supple"
RUNS = Path("runs")
"""Where stages go without --out: into `runs/<verb>-<key>`, so that the same command always finds its own folder."""

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of every verb."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks are trained; `auto` takes CUDA where there is one. Part of the key."""
    threads: Threads = 1
    """CPU threads for physics and networks. Physics does not depend on it; sums in networks may, so same seed, same
    result holds bit for bit at the same number."""
    checkpoint_period: NonNegative = 60.0
    """Seconds between two checkpoints of a stage."""
    accept_code_change: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Skip or resume work of an earlier version of the code; without it, only the same code's."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON record per line on stdout, for machines."""


FLAT = tyro.conf.arg(name="")
"""A field whose own fields are options without a prefix."""
Common = Annotated[Options, FLAT]


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutRobot:
    """Arguments of a verb that is about a robot: `--robot` names its family, `--robot.*` are the family's settings."""

    usual_robot: ClassVar[str | None] = None
    """The family without `--robot`; None for a verb that can do without."""
    named: ClassVar[RobotChoice | None] = None
    """What `--robot` named; set by `bind`."""
    robot: tyro.conf.Suppress[RobotFamily | None] = None
    """Settings of the robot that `--robot` names."""

    @property
    def choice(self) -> RobotChoice | None:
        """The robot with the settings of the command line; None where none was named."""
        return None if self.named is None or self.robot is None else replace(self.named, family=self.robot)

    @classmethod
    def bind(cls, arguments: Sequence[str]) -> tuple[type[Any], list[str]]:
        """The arguments of the verb for the robot that is named among them, and the other arguments.

        Raises:
            ConfigError: there is no such robot.
        """
        reference, rest = take_option("--robot", arguments)
        if reference is None and cls.usual_robot is None:
            return cls, rest
        choice = find_robot(reference or cls.usual_robot or "")
        return bind_choice(cls, "robot", choice.family, named=choice), rest

    def require_choice(self) -> RobotChoice:
        """The robot of a verb that has a usual one."""
        assert self.choice is not None, "bind gives the usual robot"
        return self.choice


def bind_choice(kind: type[Any], name: str, settings: object, **named: object) -> type[Any]:
    """The verb's arguments with the settings of what was chosen among them, so that its fields are options.

    Args:
        kind: Dataclass of the verb.
        name: Its field that holds the settings.
        settings: A dataclass object, whose values are the defaults.
        named: Attributes of the class that say what was chosen.
    """
    bound = make_dataclass(
        kind.__name__,
        [(name, type(settings), field(default=settings))],
        bases=(kind,),
        frozen=True,
        kw_only=True,
        namespace={**named, "__doc__": kind.__doc__},
    )
    return cast(type[Any], bound)


def take_option(name: str, arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of an option such as `--robot`, and the other arguments.

    Raises:
        ConfigError: it has no value, or stands twice.
    """
    rest, found = [], []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == name:
            found.append(next(waiting, ""))
        elif argument.startswith(f"{name}="):
            found.append(argument.removeprefix(f"{name}="))
        else:
            rest.append(argument)
    if len(found) > 1 or "" in found:
        raise ConfigError(f"{name}: expected one name, got {found}; see --help")
    return (found[0] if found else None), rest


def take_group(prefix: str, arguments: Sequence[str]) -> list[str]:
    """The options whose names begin so, such as `--robot.`, with their values."""
    found, within = [], False
    for argument in arguments:
        if argument.startswith("--"):
            within = argument.startswith(prefix)
        if within:
            found.append(argument)
    return found


ROBOT_HELP = (
    "--robot NAME chooses the robot: {known}, FILE.py:NAME or PACKAGE.MODULE:NAME of your own; its settings are the "
    "options --robot.* below."
)


CUDA_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvgpu")
"""Of the CUDA driver on Linux, under WSL and on Jetson; without one torch, which takes seconds to load, sees no GPU."""


def choose_device(name: str) -> Literal["cpu", "cuda"]:
    """The device class; loads torch only where it is needed to know."""
    if name == "cpu" or (name == "auto" and not any(Path(path).exists() for path in CUDA_DEVICES)):
        return "cpu"
    from ..skills.device import choose_device as choose

    return "cuda" if choose(name).type == "cuda" else "cpu"


def make_machine(options: Options, *, uses_torch: bool = True, program: str = PROGRAM) -> Machine:
    """The machine facts of these options; `program` is what was typed before the arguments."""
    return Machine(
        device=choose_device(options.device) if uses_torch else "cpu",
        threads=options.threads,
        checkpoint_period=options.checkpoint_period,
        accept_code_change=options.accept_code_change,
        command=f"{program} {shlex.join(sys.argv[1:])}",
    )


def parse_verb(
    kind: type[Parsed],
    verb: str,
    description: str,
    arguments: Sequence[str],
    default: Parsed | None,
    *,
    see: str | None = None,
    program: str = "",
) -> Parsed:
    """The arguments of a verb; what tyro refuses becomes one line, which points to the help of `see` (of the verb).

    `program` is what is typed before the options; without it, `supple` and the verb.

    Raises:
        ConfigError: an unknown option, a value of the wrong type, or one that its config refuses.
        SystemExit: after --help.
    """
    refusal = io.StringIO()
    if issubclass(kind, AboutRobot):
        if default is None:
            kind, arguments = kind.bind(arguments)
        description += "\n\n" + ROBOT_HELP.format(known=", ".join(FAMILIES))
    try:
        with redirect_stderr(refusal):
            name = program or f"{PROGRAM} {verb}"
            parsed = tyro.cli(kind, prog=name, description=description, args=arguments, default=default)
        assert parsed is not None, "the default is only None where tyro makes a value of its own"
        try:
            require_bounds(parsed)
        except BoundsError as error:
            raise ConfigError(f"{verb}: {name_option(kind, error.path[1:])}: {error.reason}") from error
        return parsed
    except BoundsError as error:  # of a config whose fields are options without a prefix
        option = ".".join(error.path[1:]).replace("_", "-")
        raise ConfigError(f"{verb}: --{option}: {error.reason}") from error
    except SystemExit as stop:
        if stop.code != 2:
            raise
    lines = [line.strip("│╭╮╰╯─ \t") for line in refusal.getvalue().splitlines()[1:]]
    # rules across the terminal are no part of what is said
    text = " ".join(line for line in lines if set(line) - set("-─"))
    text = text.split("Argument helptext:")[0].split("For full helptext")[0].strip()
    bounds = re.fullmatch(r"Error parsing ([\w.-]+): \w+\.([\w.]+)(?:\[\d+\])?: (expected .*)", text)
    if bounds is not None:  # a config that checks itself, named by its class
        where, name, reason = bounds.groups()
        text = f"{name_option(kind, [*where.replace('-', '_').split('.'), *name.split('.')])}: {reason}"
    raise ConfigError(f"{verb}: {text}; see {program or f'{PROGRAM} {see or verb}'} --help")


def name_option(kind: Any, path: Sequence[str]) -> str:
    """The option of a verb's field, such as `--extract.skill.skill-dim`, as tyro names it."""
    words = []
    for name in path:
        field = name.partition("[")[0]
        hint = get_type_hints(kind, include_extras=True).get(field) if is_dataclass(kind) else None
        kind, *found = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if FLAT not in found:
            words.append(field.replace("_", "-"))
    return "--" + ".".join(words)


class Runner:
    """Runs stages one after the other under one progress view and one stop request."""

    def __init__(self, options: Options, program: str = PROGRAM) -> None:
        self.options = options
        self.program = program
        self.view: ProgressView = make_progress("json" if options.json else "auto")
        self.exit_code = 0
        """Of a verb that did what it was asked for."""
        self.stop = StopRequest()

    def run(
        self, stage: Stage, out: Path | None = None, *, uses_torch: bool = True, reuse: Sequence[Path] = ()
    ) -> StageResult:
        """Runs one stage; without `out`, into a folder named after the stage and its key. See `run_stage`.

        Raises:
            RunError: A user's code raised a KeyboardInterrupt.
        """
        machine = make_machine(self.options, uses_torch=uses_torch, program=self.program)
        if out is None:
            out = RUNS / f"{stage.name}-{compute_digest(compute_fields(stage, machine))[:12]}"
        with catch_signals(self.stop):
            try:
                return run_stage(replace(stage, folder=out), machine, self.view, self.stop, reuse)
            except KeyboardInterrupt as error:
                if self.stop:
                    raise
                raise RunError(  # an environment whose window was closed, say
                    f"{stage.name}: expected code that raises errors of its own, got {describe_foreign(error)}, and "
                    "nobody pressed Ctrl-C; look for it in the robot's code"
                ) from error


class Verb(Protocol):
    """One sub-command: a frozen dataclass whose fields are its arguments."""

    @property
    def options(self) -> Options:
        """The options that all verbs share."""
        ...

    def execute(self, runner: Runner) -> None:
        """Does it; raises a SuppleError where it cannot."""
        ...
