"""Work that is made of independent jobs, on one machine or many: in this process, in processes of it, or on Ray.

Three promises hold for each `Executor`, so that a result never depends on it:

- A job is a function of its argument alone, and is done at least once. What it leaves behind must be the same however
  often it is done: jobs here publish files by rename.
- An error of a job is an outcome, and the other jobs go on.
- A job whose worker died is done again, `ATTEMPTS` times in all.

Outcomes come in the order in which jobs end, with the numbers of the jobs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Literal, TypeVar

from ..bounds import Bounded, Count
from ..errors import ConfigError, SuppleError
from .interrupt import Interrupted, StopRequest

ATTEMPTS = 3
"""How often a job is begun whose worker dies each time."""
LISTEN_PERIOD = 0.2
"""Longest time until a request to stop is seen while jobs run elsewhere, seconds."""
GRACE = 30.0
"""Time that a worker has to save what it is at, when it is asked to stop, seconds."""

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorConfig(Bounded):
    """Where jobs are done."""

    executor: Literal["local", "processes", "ray"] = "local"
    """`local`: one after the other in this process; `processes`: in processes of this machine; `ray`: on Ray, on this
    machine or on a cluster. The result is the same."""
    workers: Count | None = None
    """Jobs at a time; without it, one for each core, or for each core of the cluster."""
    ray_address: str | None = None
    """Of a running Ray cluster, such as `auto` or `ray://head:10001`; without it, Ray is started on this machine and
    ended with the command."""

    def __post_init__(self) -> None:
        """An option that would do nothing is refused."""
        Bounded.__post_init__(self)
        if self.executor == "local" and (self.workers or 1) > 1:
            raise ConfigError(
                f"--workers: expected 1 with --executor local, got {self.workers}; add --executor processes"
            )
        if self.executor != "ray" and self.ray_address is not None:
            raise ConfigError(
                f"--ray-address: expected --executor ray, got {self.executor}; add it, or leave the address out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[Result]):
    """What became of a job."""

    number: int
    """Of the job, from 0."""
    value: Result | None = None
    """What it returned; None where it failed."""
    failure: str = ""
    """Why it failed, in one line; empty where it did not."""
    kind: str = ""
    """Class of the error."""
    trace: str = ""
    """Where an error that nobody had foreseen came from, from a new line on."""


class Executor(ABC):
    """Does jobs. `close` it, or use it in a `with` block of `contextlib.closing`.

    Args:
        stop: Set from a signal handler to stop.
    """

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop

    @abstractmethod
    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Outcome[Result]]:
        """Does all jobs, yields an outcome for each as it comes.

        Args:
            function: Of a module, as it is looked up by name elsewhere.
            jobs: Arguments that can be pickled.

        Raises:
            Interrupted: somebody asked to stop; jobs under way had the time to save what they can.
        """

    def close(self) -> None:  # noqa: B027 - an executor may have nothing to close
        """Ends its workers."""

    def raise_stop(self, ended: int) -> None:
        """Raises Interrupted where somebody asked to stop."""
        if self.stop:
            raise Interrupted("jobs", ended, self.stop.signal or 2)


def attempt(function: Callable[[Job], Result], number: int, job: Job) -> Outcome[Result]:
    """Does one job; an error is an outcome."""
    try:
        return Outcome(number=number, value=function(job))
    except Interrupted:
        raise
    except SuppleError as error:
        return Outcome(number=number, failure=" ".join(str(error).split()), kind=type(error).__name__)
    except Exception as error:  # noqa: BLE001 - the other jobs go on, and the trace is told
        kind = type(error).__name__
        return Outcome(number=number, failure=f"{kind}: {error}", kind=kind, trace="\n" + traceback.format_exc())


def lose(number: int, how: str) -> Outcome[Any]:
    """The outcome of a job whose workers die."""
    return Outcome(
        number=number,
        failure=f"expected a worker to end this job, got {ATTEMPTS} that died ({how}); see whether memory ran out, and "
        "lower --workers",
    )


class LocalExecutor(Executor):
    """One job after the other, in this process."""

    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Outcome[Result]]:
        """See `Executor.run`."""
        for number, job in enumerate(jobs):
            self.raise_stop(number)
            yield attempt(function, number, job)


@dataclass(eq=False)
class _Worker:
    """A process that does jobs, and our end of the pipe to it; readable when it answers or dies."""

    process: Any
    pipe: Connection
    number: int | None = None
    """Of the job that it is at."""


class ProcessExecutor(Executor):
    """Jobs in processes of this machine, which begin afresh: nothing of this process is copied."""

    def __init__(self, workers: int, stop: StopRequest) -> None:
        super().__init__(stop)
        self._count = workers
        self._workers: list[_Worker] = []

    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Outcome[Result]]:
        """See `Executor.run`."""
        waiting = deque(range(len(jobs)))
        tries = [0] * len(jobs)
        ended = 0
        while ended < len(jobs):
            while len(self._workers) < min(self._count, len(jobs) - ended):
                self._workers.append(self._start())
            for worker in self._workers:
                if waiting and worker.number is None:
                    worker.number = waiting.popleft()
                    tries[worker.number] += 1
                    with suppress(BrokenPipeError):  # it died: the pipe tells so below
                        worker.pipe.send((function, worker.number, jobs[worker.number]))
            found = wait([worker.pipe for worker in self._workers], LISTEN_PERIOD)
            for worker in [worker for worker in self._workers if worker.pipe in found]:
                number = worker.number
                try:
                    outcome: Outcome[Result] | None = worker.pipe.recv()
                    worker.number = None
                except (EOFError, ConnectionResetError):
                    outcome = self._bury(worker, tries)
                    if outcome is None and number is not None:
                        waiting.appendleft(number)
                if outcome is not None:
                    ended += 1
                    yield outcome
            self.raise_stop(ended)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=False)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _bury(self, worker: _Worker, tries: Sequence[int]) -> Outcome[Any] | None:
        """Removes a worker that died; the outcome of its job where that was the last attempt."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join()
        code = worker.process.exitcode
        if worker.number is None or tries[worker.number] < ATTEMPTS:
            return None
        return lose(worker.number, signal.Signals(-code).name if code < 0 else f"exit code {code}")

    def close(self) -> None:
        """See `Executor.close`; a worker that is at a job is asked to stop, and killed where it does not."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.number is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(GRACE)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
        self._workers = []


def _serve(pipe: Connection) -> None:
    """Does what comes through the pipe, until it is closed; a worker whose starter is gone ends at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all: the starter decides
    threading.Thread(target=_follow_parent, daemon=True).start()
    with suppress(EOFError, OSError, Interrupted):
        while True:
            pipe.send(attempt(*pipe.recv()))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a child serves"
    parent.join()
    os._exit(1)


class RayExecutor(Executor):
    """Jobs as tasks of Ray: https://docs.ray.io. Files are shared: a cluster needs one file system.

    Raises:
        ConfigError: there is no cluster at the address.
    """

    def __init__(self, workers: int | None, address: str | None, stop: StopRequest) -> None:
        super().__init__(stop)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its maker otherwise
        import ray

        self._ray = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            local: dict[str, Any] = {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
            try:
                ray.init(address, **({} if address else local), log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    f"--ray-address: expected a Ray cluster at {address or 'this machine'}, got "
                    f"'{' '.join(str(error).split())[:200]}'; check the address and ray status"
                ) from error
        self._count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))

    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Outcome[Result]]:
        """See `Executor.run`."""
        ray = self._ray
        task = ray.remote(max_retries=ATTEMPTS - 1, retry_exceptions=[Interrupted])(attempt)
        waiting = deque(enumerate(jobs))
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._count:
                    number, job = waiting.popleft()
                    running[task.remote(function, number, job)] = number
                found, _ = ray.wait(list(running), timeout=LISTEN_PERIOD)
                for reference in found:
                    number = running.pop(reference)
                    try:
                        yield ray.get(reference)
                    except ray.exceptions.RayError as error:
                        yield lose(number, type(error).__name__)
                self.raise_stop(len(jobs) - len(waiting) - len(running))
        finally:
            for reference in running:  # as Ctrl-C there
                ray.cancel(reference, force=False)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=GRACE)

    def close(self) -> None:
        """See `Executor.close`; a cluster that was there before stays."""
        if self._ours:
            self._ray.shutdown()


def make_executor(config: ExecutorConfig, stop: StopRequest) -> Executor:
    """The executor of these options.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    if config.executor == "ray":
        return RayExecutor(config.workers, config.ray_address, stop)
    if config.executor == "processes":
        return ProcessExecutor(config.workers or os.cpu_count() or 1, stop)
    return LocalExecutor(stop)
