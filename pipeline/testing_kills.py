"""Kills the chain at random moments, goes on, and compares what comes out with a run that was never stopped.

Half of the kills fall at a random file operation in the stage's work folder, half after a random part of the time that
the stage takes when nothing stops it. Both scale with the stage, so that kills land on machines of any speed. A stage
that was finished before its kill is compared, removed and begun again, until as many kills have landed as were asked
for.

`benchmarks/bench_reliability.py` and `tests/pipeline/test_kill.py` use this.
"""

import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import RunError
from .folder import name_partial
from .keys import load_record

CHAIN = ("generate", "ingest", "extract", "meta-train", "export", "adapt")
"""The stages of `supple run`, in order."""
DEMO = (*CHAIN[:4], "map-logs", *CHAIN[4:])
"""Those of the preset `demo`, whose logs come along."""

TINY = (
    "--no-report",
    *("--robot.episode-steps", "60", "--robot.num-train-tasks", "3", "--robot.num-test-tasks", "2"),
    *("--generate.steps", "6000", "--generate.rows", "6", "--robot.planner.episode-steps", "500"),
    *("--extract.skill.num-updates", "40", "--extract.skill.batch-size", "32", "--extract.log-every", "10"),
    *("--learner.config.epochs", "5", "--learner.config.updates-per-epoch", "2"),
    *("--learner.config.pool-episodes", "40", "--learner.config.warmup-epochs", "1"),
    *("--learner.config.prior-tasks", "1", "--learner.config.posterior-tasks", "2"),
    *("--learner.config.batch", "16", "--learner.config.hidden", "16", "16"),
    *("--adapt.episodes", "6", "--learner.deployment.exploration-episodes", "2", "--adapt.evaluations", "2"),
    *("--learner.deployment.finetune.batch", "8", "--learner.deployment.finetune.min-transitions", "8"),
    *("--map.places", "60"),
)
"""Options of `supple run demo` that bring the chain down to seconds."""

COMPARED = ("key", "outputs", "output_digest", "metrics_digest")
"""Fields of stage.json that a run which was killed and resumed shares with one that was not."""

ATTEMPTS = 20
"""Starts per kill asked for, after which a stage is given up: its kills do not land."""


@dataclass(slots=True)
class Kills:
    """The outcome of the kills of one stage; the names are those of a reliability record."""

    injected: int = 0
    """SIGKILLs that ended the process."""
    detected: int = 0
    """Those that landed: the stage had begun and was not published, and the next start went on with what it found."""
    silent: int = 0
    """Published results that differ from those of the run that was never stopped."""
    crashed: int = 0
    """Starts after a kill that ended by themselves with an error."""
    hung: int = 0
    """Starts that did not end within the limit."""


class Pace(NamedTuple):
    """How a stage goes when nothing stops it."""

    touches: int
    """File operations in its work folder."""
    seconds: float
    """From the first to the last of them."""


Main = Callable[[Sequence[str]], int]
"""Entry point of a command."""


class Child:
    """A command in a forked process, so that torch is not loaded anew, and a pipe that tells its file operations."""

    def __init__(self, arguments: Sequence[str], folder: Path, log: Path, main: Main | None = None) -> None:
        """Starts it.

        Args:
            arguments: of the command.
            folder: each file operation in here writes one byte into the pipe, before it happens.
            log: file that what the command prints is appended to.
            main: runs the command; None for `supple`.
        """
        self._touches, writer = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            _run(arguments, folder, log, writer, main)
        os.close(writer)

    def wait(self, touches: int, limit: float) -> Iterator[float]:
        """Yields the time of each of the next `touches` file operations, fewer where the command ends before.

        Raises:
            TimeoutError: none of them came within `limit` seconds.
        """
        for _ in range(touches):
            if not select.select([self._touches], [], [], limit)[0]:
                raise TimeoutError
            if not os.read(self._touches, 1):
                return
            yield time.monotonic()

    def kill(self) -> int:
        """Kills it unless it has ended; returns its exit code, negative for a signal."""
        os.kill(self.process, signal.SIGKILL)
        return self.finish()

    def finish(self) -> int:
        """Waits for its end; returns its exit code, negative for a signal."""
        os.close(self._touches)
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def _run(arguments: Sequence[str], folder: Path, log: Path, pipe: int, main: Main | None) -> None:
    """The child's side; never returns."""
    code, prefix = 1, str(folder)

    def tell(event: str, facts: tuple[Any, ...]) -> None:
        if facts and isinstance(facts[0], str | Path) and str(facts[0]).startswith(prefix):
            os.write(pipe, b".")

    try:
        from . import cli

        with log.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
            try:
                sys.addaudithook(tell)
                code = (main or cli.main)(arguments)
            finally:
                if sys.exc_info()[0] is not None:
                    traceback.print_exc()
    finally:
        os._exit(code)


def run_whole(arguments: Sequence[str], stage: Path, limit: float) -> Pace:
    """Runs a command up to its end and measures how it works in the stage's folder.

    Raises:
        RunError: it failed, or did not end within the limit.
    """
    log = stage.parent.with_suffix(".log")
    child = Child(arguments, name_partial(stage), log)
    try:
        times = list(child.wait(sys.maxsize, limit))
    except TimeoutError as error:
        child.kill()
        raise RunError(f"{stage}: expected a sign of life every {limit} s, got none; see {log}") from error
    code = child.finish()
    if code != 0 or not times:
        raise RunError(f"{stage}: expected a run that ends with 0, got {code}; see {log}")
    return Pace(len(times), times[-1] - times[0])


def kill_chain(
    folder: Path, options: Sequence[str], kills: int, rng: np.random.Generator, limit: float = 600.0
) -> dict[str, Kills]:
    """Runs the preset `demo` twice, stage by stage: whole, and killed again and again.

    Args:
        folder: gets `whole` and `killed`, two run folders, and what each printed, `whole.log` and `killed.log`.
        options: of `supple run demo`.
        kills: how many have to land in each stage.
        rng: source of the moments.
        limit: seconds without any file operation in the stage's folder after which a start counts as hung.

    Returns:
        The outcome of the kills, by stage.

    Raises:
        RunError: the run that nothing stops failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for stage in DEMO:
        commands = [
            ["run", "demo", "--out", str(folder / name), "--checkpoint-period", "0", "--until", stage, *options]
            for name in ("whole", "killed")
        ]
        pace = run_whole(commands[0], folder / "whole" / stage, limit)
        counts[stage] = kill_stage(commands[1], stage, folder, pace, kills, rng, limit)
    return counts


def kill_stage(
    command: Sequence[str],
    stage: str,
    folder: Path,
    pace: Pace,
    kills: int,
    rng: np.random.Generator,
    limit: float,
) -> Kills:
    """Kills a stage until enough have landed, and lets it end.

    Args:
        command: makes `folder`/killed/`stage`.
        stage: its name.
        folder: has `whole`/`stage`, the result of the same command that nothing stopped.
        pace: of that one.
        kills: how many have to land.
        rng: source of the moments.
        limit: see `kill_chain`.
    """
    published = folder / "killed" / stage
    counts = Kills()
    for attempt in range(ATTEMPTS * kills):
        if published.exists():
            counts.silent += _differs(folder / "whole" / stage, published)
            shutil.rmtree(published)
        if counts.detected >= kills:
            break
        by_time = attempt % 2
        touches = 1 if by_time else int(rng.integers(1, pace.touches + 1))
        kill_once(command, published, touches, by_time * rng.uniform(0.0, pace.seconds), counts, limit)
    kill_once(command, published, sys.maxsize, 0.0, counts, limit)
    counts.silent += published.exists() and _differs(folder / "whole" / stage, published)
    return counts


def kill_once(
    command: Sequence[str],
    published: Path,
    touches: int,
    delay: float,
    counts: Kills,
    limit: float,
    main: Main | None = None,
) -> None:
    """Starts the command and kills it `delay` seconds after some file operations; adds up the outcomes."""
    partial = name_partial(published)
    child = Child(command, partial, published.parent.with_suffix(".log"), main)
    try:
        seen = len(list(child.wait(touches, limit)))
    except TimeoutError:
        counts.hung += 1
        child.kill()
    else:
        time.sleep(delay)
        code = child.finish() if seen < touches else child.kill()
        counts.injected += code == -signal.SIGKILL
        counts.detected += code == -signal.SIGKILL and partial.exists()
        if code in (0, -signal.SIGKILL):
            return
        counts.crashed += 1
    for left in (partial, published):
        shutil.rmtree(left, ignore_errors=True)


def _differs(whole: Path, killed: Path) -> bool:
    one, other = load_record(whole), load_record(killed)
    return any(one[name] != other[name] for name in COMPARED)
