"""The command `supple`: one verb per stage, `run` for the chain, and verbs that look at what is there.

Every verb's arguments are a frozen dataclass, parsed by tyro. A verb's module is loaded only when it is called, so that
`supple --help` answers at once. Exit codes: 0 done, 2 refused (one line says why), 3 done in part (with what a
damaged source still held, or without the runs of a sweep that failed), 4 done and a check of `doctor` failed, 128 + n
stopped by signal n.
"""

import errno
import importlib
import io
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from ..errors import ConfigError, RunError, SuppleError, describe_foreign, find_foreign
from .interrupt import Interrupted

if TYPE_CHECKING:
    from .cli_common import Verb

TRAIN_MODULES = frozenset(
    {
        *("dm_env", "google_crc32c", "gymnasium", "h5py", "jinja2", "matplotlib", "mujoco", "numcodecs", "packaging"),
        *("pyarrow", "rich", "scipy", "tensorboard", "torch", "tyro", "zarr"),
    }
)
"""What the extra `train` brings, by the names that are imported; a robot's computer has none of it."""
ROS_MODULES = frozenset({"lz4", "mcap", "rosbags", "ruamel", "zstandard"})
"""What the extra `ros` brings beside that: it reads and writes bags."""
RAY_MODULES = frozenset({"ray"})
"""What the extra `ray` brings beside that: `--executor ray`."""
ONNX_MODULES = frozenset({"onnx", "onnxruntime"})
"""What the extra `onnx` brings: `supple deploy` writes and compares models."""
SERVE_MODULES = frozenset({"msgpack", "websockets"})
"""What the extra `serve` brings: `supple serve` and its client."""
VIDEO_MODULES = frozenset({"av", "PIL"})
"""What the extra `video` brings beside that: `supple video` writes films."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk without room; those of a write do not name the file."""
EXTRAS = {
    "train": TRAIN_MODULES,
    "ros": ROS_MODULES,
    "ray": RAY_MODULES,
    "onnx": ONNX_MODULES,
    "serve": SERVE_MODULES,
    "video": VIDEO_MODULES,
}


class Entry(NamedTuple):
    """Where a verb is found and how it is explained."""

    module: str
    name: str
    summary: str
    examples: tuple[str, ...]


VERBS = {
    "run": Entry(
        "verbs.run",
        "Run",
        "Run the whole chain of a preset; what is there already is skipped, what was interrupted goes on.",
        (
            "supple run demo",
            "supple run maze --seed 0 --out runs/maze-0 --threads 2",
            "supple run maze --robot.layout-seed 7 --out runs/maze-layout7",
            "supple run demo --from-log runs/demo/generate --out runs/demo-from-log",
        ),
    ),
    "sweep": Entry(
        "verbs.sweep",
        "Sweep",
        "Run the chain for each seed of each preset, robot and learner, here or on many machines, and make one table.",
        (
            "supple sweep demo --seeds 0:8 --executor processes --workers 2",
            "supple sweep maze --seeds 0:8 --executor ray",
        ),
    ),
    "generate": Entry(
        "verbs.data",
        "Generate",
        "Make play data of a simulated robot, without any task in mind, and write it as D4RL HDF5.",
        (
            "supple generate --out runs/my/generate",
            "supple generate --robot maze --robot.layout-seed 7 --steps 200000 --robot.planner.action-noise 0.1",
        ),
    ),
    "inspect": Entry(
        "verbs.inspect_source",
        "Inspect",
        "Say what is in a recording, and what ingest would make of it; nothing is written.",
        (
            "supple inspect play.hdf5",
            "supple inspect runs/my/generate --robot maze",
            "supple inspect play.hdf5 --json",
            "supple inspect runs/my/bags --write-mapping runs/my/map.toml",
        ),
    ),
    "ingest": Entry(
        "verbs.data",
        "Ingest",
        "Read a recording of any format that is known, check it and write an episode store.",
        (
            "supple ingest runs/my/generate --robot maze --out runs/my/ingest",
            "supple ingest play.hdf5",
            "supple ingest d4rl:maze2d-open-v0",
        ),
    ),
    "append": Entry(
        "verbs.evolve",
        "Append",
        "Add recordings or stores behind the episodes of a store, which is replaced in one step.",
        (
            "supple append runs/my/ingest runs/my/generate --out runs/my/all",
            "supple append runs/my/all runs/my/ingest",
        ),
    ),
    "merge": Entry(
        "verbs.evolve",
        "Merge",
        "Write one store of several of the same robot.",
        ("supple merge runs/my/ingest runs/my/all --out runs/my/merged",),
    ),
    "split": Entry(
        "verbs.evolve",
        "Split",
        "Write parts of a store into stores of their own, at random or by the numbers of episodes.",
        (
            "supple split runs/my/merged --out-dir runs/my/parts --fraction 0.2 --seed 0",
            "supple split runs/my/merged --out-dir runs/my/ranges --episodes 0:1 1:2",
        ),
    ),
    "export-bag": Entry(
        "verbs.data",
        "ExportBag",
        "Write episodes of a store as MCAP logs with ROS 2 messages, for viewers of robot logs.",
        ("supple export-bag runs/my/ingest --out runs/my/bags --episodes 0 1",),
    ),
    "extract": Entry(
        "verbs.train",
        "Extract",
        "Learn the skill model from an episode store: encoder, decoder and skill prior.",
        (
            "supple extract runs/my/ingest --out runs/my/extract",
            "supple extract runs/my/ingest --skill.skill-dim 8 --skill.num-updates 20000 --seed 1",
        ),
    ),
    "meta-train": Entry(
        "verbs.meta_train",
        "MetaTrain",
        "Meta-train a policy over skills (or raw actions) on a set of training tasks.",
        (
            "supple meta-train runs/my/extract --out runs/my/meta-train --threads 2",
            "supple meta-train runs/my/extract --robot maze --robot.num-train-tasks 20 --learner.config.epochs 100",
            "supple meta-train runs/my/extract --learner rl2 --action-space skill",
            "supple meta-train --learner maml --robot arms --action-space unit",
        ),
    ),
    "explore": Entry(
        "verbs.data",
        "Explore",
        "Let skills play where the tasks are, without any task in mind, and write it as D4RL HDF5.",
        (
            "supple explore runs/my/extract --out runs/my/explore",
            "supple explore runs/my/extract --robot maze --robot.layout-seed 7 --episodes 100",
        ),
    ),
    "map-logs": Entry(
        "verbs.train",
        "MapLogs",
        "Encode logs as skills, so that they come along in a bundle and its agent finds its way by them.",
        (
            "supple map-logs runs/my/ingest runs/my/extract --out runs/my/map-logs",
            "supple map-logs runs/my/ingest runs/my/extract --places 2000 --robot maze --robot.num-train-tasks 20",
        ),
    ),
    "export": Entry(
        "verbs.train",
        "Export",
        "Write the policy bundle of a meta-trained agent.",
        (
            "supple export runs/my/meta-train --out runs/my/export",
            "supple export runs/my/meta-train --logs runs/my/map-logs --out runs/my/guided",
        ),
    ),
    "adapt": Entry(
        "verbs.adapt",
        "Adapt",
        "Adapt a bundle to tasks, as its learner does: inference and fine-tuning, memory, or gradient steps.",
        (
            "supple adapt runs/demo/export/bundle --tasks goals.csv --episodes 100 --seed 0 --json",
            "supple adapt runs/demo --settings search=blind finetune.batch=128 --episodes 300",
            "supple adapt runs/my/rl2-bundle --seed 1",
        ),
    ),
    "deploy": Entry(
        "verbs.deploy",
        "Deploy",
        "Write the folder for a robot's computer: bundle, numpy runtime, ONNX, a controller in C++; all are compared.",
        ("supple deploy runs/demo/export/bundle --out runs/demo-deploy",),
    ),
    "doctor": Entry(
        "verbs.doctor",
        "Doctor",
        "Check all that has to be true before a robot moves by a bundle; exit code 4 where something is not.",
        (
            "supple doctor runs/demo/export/bundle --robot maze --robot.layout-size 10 --robot.layout-seed 1",
            "supple doctor runs/demo/export/bundle --robot maze --robot.layout-size 10 --robot.layout-seed 1 --json",
        ),
    ),
    "serve": Entry(
        "verbs.serve",
        "Serve",
        "Answer for a bundle over a local websocket: act, observe, adapt, snapshot and roll back.",
        ("supple serve runs/demo/export/bundle", "supple serve runs/demo/export/bundle --port 9000 --learn"),
    ),
    "rearm": Entry(
        "verbs.rearm",
        "Rearm",
        "End a stop of the safety limits with a code of the operator, or print new codes.",
        ("supple rearm cell/audit.jsonl", "supple rearm cell/audit.jsonl --issue 10"),
    ),
    "replay": Entry(
        "verbs.replay",
        "Replay",
        "Say from logs alone whether a policy is worth putting on the robot: one page, one verdict.",
        (
            "supple replay runs/demo runs/demo/ingest",
            "supple replay runs/demo/adapt/policies/0 runs/demo/ingest --also runs/demo --json",
        ),
    ),
    "report": Entry(
        "verbs.report",
        "Report",
        "Make one self-contained HTML page of a run, finished or not.",
        ("supple report runs/demo", "supple report runs/demo --out demo.html"),
    ),
    "video": Entry(
        "verbs.video",
        "Video",
        "Film the policies of a run on one test task, with the return and the parts of the task beside the robot.",
        ("supple video runs/demo --out demo.webm", "supple video runs/demo --every 4 --speed 2 --out demo.gif"),
    ),
    "verify": Entry(
        "verbs.look",
        "Verify",
        "Check every byte of a store, a bundle, a stage folder or a whole run.",
        (
            "supple verify runs/demo",
            "supple verify runs/demo/ingest --deep",
            "supple verify runs/demo/export/bundle",
        ),
    ),
    "info": Entry(
        "verbs.look",
        "Info",
        "Say what this installation is, or what a file or folder of Supple holds.",
        (
            "supple info",
            "supple info runs/demo/extract",
            "supple info runs/demo/export/bundle --json",
            "supple info runs/demo/ingest --html card.html",
        ),
    ),
}


def make_overview() -> str:
    """What `supple --help` prints."""
    width = max(map(len, VERBS))
    lines = ["usage: supple VERB [OPTIONS]", ""]
    lines += ["Robots that learn skills from unlabeled motion and adapt to new tasks.", ""]
    lines += [f"  {verb:<{width}}  {entry.summary}" for verb, entry in VERBS.items()]
    return "\n".join([*lines, "", "supple VERB --help explains a verb. Start with: supple run demo"])


def dispatch(arguments: Sequence[str]) -> int:
    """Runs one verb; errors pass through.

    Raises:
        ConfigError: the verb is unknown.
        RunError: a user's code wanted to end the program.
        SystemExit: from the parser, with 0 for --help and 2 for arguments that it refuses.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(make_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from .. import __version__

        print(f"supple {__version__}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        raise ConfigError(f"verb: expected one of {', '.join(VERBS)}, got {verb!r}; see supple --help")
    parsed = parse(verb, rest)
    from .cli_common import Runner

    runner = Runner(parsed.options)
    try:
        parsed.execute(runner)
    except SystemExit as error:  # with a code of 0 it would pass for success
        raise RunError(
            f"{verb}: expected code of yours that comes to its end, got code that ends this program (SystemExit "
            f"{error.code}){''.join(f' in line {line} of {file.name}' for file, line in find_foreign(error)[-1:])}; "
            "look for sys.exit in the files that you named"
        ) from error
    finally:
        runner.view.close()
    return runner.exit_code


def parse(verb: str, arguments: Sequence[str]) -> "Verb":
    """The verb with its arguments; see `dispatch` for errors."""
    entry = VERBS[verb]
    description = entry.summary + "\n\nExamples:\n" + "\n".join(f"  {example}" for example in entry.examples)
    if verb == "run":
        from .verbs.run import parse_run

        return parse_run(arguments, description)
    if verb == "sweep":
        from .verbs.sweep import parse_sweep

        return parse_sweep(arguments, description)
    from .cli_common import parse_verb

    kind: type[Verb] = getattr(importlib.import_module(f".{entry.module}", __package__), entry.name)
    return parse_verb(kind, verb, description, arguments, None)


def refuse(error: BaseException, message: str, arguments: Sequence[str]) -> int:
    """Says on one line of stderr what was refused, and with --json as a record on stdout too."""
    line = " ".join(add_notes(message, error).split())
    if "--json" in arguments:
        say(json.dumps({"event": "error", "type": type(error).__name__, "message": line}), sys.stdout)
    say(f"supple: {line}", sys.stderr)
    return 2


def add_notes(message: str, error: BaseException) -> str:
    """The message, and what the error's notes say beside it: that a robot could not be told to stop, or be closed.

    The trace of a worker is no line, and is left out.
    """
    notes = [note for note in getattr(error, "__notes__", ()) if "\n" not in note]
    return "; ".join((message, *notes))


def say(line: str, stream: TextIO) -> None:
    """Prints a line to a stream that may be full or gone; `end_streams` then says so."""
    with suppress(OSError):
        print(line, file=stream, flush=True)


def require_streams() -> int:
    """0 where stdout and stderr are open, as files that are opened later would take their place; else 2, said once."""
    for name, stream, other in (("stdout", sys.stdout, sys.stderr), ("stderr", sys.stderr, sys.stdout)):
        if stream is None:
            if other is not None:
                say(f"supple: {name}: expected an open stream, got a closed one; send it to /dev/null instead", other)
            return 2
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be of any bytes
    return 0


def end_streams(code: int) -> int:
    """The exit code once all that was printed has left; 2 where a stream cannot take it, which is said on the other."""
    for name, stream, other in (("stdout", sys.stdout, sys.stderr), ("stderr", sys.stderr, sys.stdout)):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is left must not fail again at the exit
            if isinstance(error, BrokenPipeError):
                return 128 + signal.SIGPIPE
            if code != 2:
                say(f"supple: {name}: expected to print, got '{error.strerror}'; free or change its place", other)
            code = 2
    return code


def require_text(arguments: Sequence[str]) -> None:
    """Refuses arguments that no name of a file, option or task can be written with.

    Raises:
        ConfigError: an argument is not UTF-8 or holds NUL.
    """
    for argument in arguments:
        if "\0" in argument or any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise ConfigError(f"argument {argument!r}: expected UTF-8 text, got other bytes; rename it")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns the exit code.

    Args:
        arguments: Verb and options; None takes those of the process.
    """
    return run_program("supple", dispatch, sys.argv[1:] if arguments is None else arguments)


def run_program(program: str, dispatch: Callable[[Sequence[str]], int], given: Sequence[str]) -> int:
    """Runs a command; errors that its user can mend become one line and an exit code.

    Args:
        program: What is typed before the arguments.
        dispatch: Does it, and returns the exit code.
        given: The arguments.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return require_streams() or end_streams(run_named_files(program, dispatch, given))


def run_named_files(program: str, dispatch: Callable[[Sequence[str]], int], given: Sequence[str]) -> int:
    """As `run_verb`; an error that came through a Python file that the command names is one line about that file.

    `python -X dev -m supple` shows its traceback.
    """
    try:
        return run_verb(program, dispatch, given)
    except Exception as error:
        if is_of_renderer(error):
            asked, got = os.environ.get("MUJOCO_GL", ""), describe_foreign(error)
            remedy = (
                "unset it, or set MUJOCO_GL=disable where nothing is drawn, MUJOCO_GL=egl (packages libegl1 "
                "libegl-mesa0 libgl1-mesa-dri) or MUJOCO_GL=osmesa (package libosmesa6)"
            )
            wanted = f"MUJOCO_GL: expected a renderer of this computer, got {asked!r} ({got}); {remedy}"
            return refuse(error, wanted, given)
        theirs = find_foreign(error)
        named = [file for file, _ in theirs if any(is_named(file, argument) for argument in given)]
        if not named or sys.flags.dev_mode:
            raise
        where = f"{named[-1].name}: expected code that runs"
        return refuse(
            error, f"{where}, got {describe_foreign(error)}; correct it (python -X dev -m supple says more)", given
        )


def is_of_renderer(error: Exception) -> bool:
    """Whether MuJoCo could not be imported, as `MUJOCO_GL` names no renderer that this computer has."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>")
    modules = [str(frame.f_globals.get("__name__")) for frame in frames]
    return any(name.startswith("mujoco.") and name.endswith(".gl_context") for name in modules)


def is_named(file: Path, argument: str) -> bool:
    """Whether an argument names this file of a user, as `FILE.py:NAME` or `PACKAGE.MODULE:NAME`."""
    where = argument.rpartition(":")[0].rpartition("=")[2]
    module = sys.modules.get(where)
    return Path(where).name == file.name or (module is not None and getattr(module, "__file__", None) == str(file))


def run_verb(program: str, dispatch: Callable[[Sequence[str]], int], given: Sequence[str]) -> int:
    """Runs one verb and says what stopped it; an error that nobody has foreseen passes through, with its traceback."""
    command = f"{program} {shlex.join(given)}"
    try:
        require_text(given)
        return dispatch(given)
    except SuppleError as error:
        return refuse(error, str(error), given)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        extra = next((name for name, modules in EXTRAS.items() if package in modules), None)
        if extra is None:
            raise
        missing = f"expected the package {error.name}, got none installed; run pip install 'supple[{extra}]'"
        return refuse(error, f"{given[0] if given else 'supple'}: {missing}", given)
    except Interrupted as error:
        say(f"supple: {add_notes(f'{error}; go on with: {command}', error)}", sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        say(f"supple: {add_notes(f'stopped at once; go on with: {command}', error)}", sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno is None:
            raise
        got = os.strerror(error.errno)
        if error.errno in FULL:
            where = error.filename or "disk"
            wanted = f"expected room to write, got '{got}'; free some, then go on with: {command}"
            return refuse(error, f"{where}: {wanted}", given)
        where = error.filename or "a file or stream"
        return refuse(error, f"{where}: expected to use it, got '{got}'; correct or free it", given)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return refuse(error, f"memory: expected enough for these sizes, got '{error}'; lower them", given)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch has errors of its own for that."""
    kinds = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return kinds or "can't allocate memory" in str(error)


if __name__ == "__main__":
    sys.exit(main())
