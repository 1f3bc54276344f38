"""Work that is made of independent jobs, on one machine or many: in this process, in processes of it, or on Ray.

Three promises hold for the jobs of each `Executor`, so that a result never depends on it:

- A job is a function of its argument alone, and is done at least once. What it leaves behind must be the same however
  often it is done: jobs here publish files by rename.
- An error of a job is an outcome, and the other jobs go on.
- A job whose worker died is done again, `ATTEMPTS` times in all.

Outcomes come in the order in which jobs end, with the numbers of the jobs.

Beside jobs, an executor holds functions that have a state, such as robots in the middle of an episode: `Executor.hold`.
Such a state dies with its worker. Who holds it can restore it, and nobody else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from ..bounds import Bounded, Count
from ..errors import LONGEST_TEXT, ConfigError, SuppleError, describe_error
from . import user_modules as user_modules  # so that workers find a user's files by quoted names
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
class RobotExecutorConfig(ExecutorConfig):
    """Where the robots of a training are stepped."""

    executor: Literal["local", "processes", "ray"] = "local"
    """`local`: the robots of the training are stepped in this process; `processes`: shares of them in further processes
    of this machine; `ray`: on Ray, on this machine or on a cluster. The result is the same. At each step a message goes
    to each of them and back: that pays where physics is slow, as in the kitchen, and costs time where it is fast, as in
    a maze."""
    workers: Count | None = None
    """Shares of the robots, of which this process steps the first; without it, one for each core, or for each core of
    the cluster."""


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


class WorkerDied(Exception):
    """A worker ended before it answered, and what it held is lost; the text says how it ended."""


class Held(ABC, Generic[Job, Result]):
    """A function with a state that a worker holds. It is called from one thread, and answers one call before the next.

    The first call is that of what makes the function: `finish` it, whose result is None, before the first `start`.
    """

    @abstractmethod
    def start(self, argument: Job) -> None:
        """Begins a call with this argument; that the worker is dead is said by `finish`."""

    @abstractmethod
    def finish(self) -> Result:
        """Waits for the call, and returns its result.

        Raises:
            WorkerDied: the worker ended before it answered.
            Exception: what the call raised. From another process it comes in the nearest class of ours or of Python's
                own, with the trace as a note.
        """

    @abstractmethod
    def close(self) -> None:
        """Lets go of the function, and of the worker."""


class Executor(ABC):
    """Does jobs. `close` it, or use it in a `with` block of `contextlib.closing`.

    Args:
        workers: Jobs at a time.
        stop: Set from a signal handler to stop.
    """

    def __init__(self, workers: int, stop: StopRequest) -> None:
        self.workers = workers
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

    @abstractmethod
    def hold(self, make: Callable[[Job], Callable[[Any], Any]], job: Job) -> Held[Any, Any]:
        """Has a worker of its own call `make(job)`, and keep the function that this returns for further calls.

        Args:
            make: Of a module, as it is looked up by name elsewhere.
            job: An argument that can be pickled.

        Raises:
            ConfigError: it cannot be pickled.
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
        return Outcome(number=number, failure=describe_error(error, LONGEST_TEXT), kind=type(error).__name__)
    except Exception as error:  # noqa: BLE001 - the other jobs go on, and the trace is told
        kind = type(error).__name__
        return Outcome(
            number=number,
            failure=f"{kind}: {describe_error(error, LONGEST_TEXT)}",
            kind=kind,
            trace="\n" + traceback.format_exc(),
        )


def lose(number: int, how: str) -> Outcome[Any]:
    """The outcome of a job whose workers die."""
    return Outcome(
        number=number,
        failure=f"expected a worker to end this job, got {ATTEMPTS} that died ({how}); see whether memory ran out, and "
        "lower --workers",
    )


class _Failure(NamedTuple):
    """An error on its way from a worker."""

    kind: type[Exception]
    """The nearest class of ours or of Python's own: others may be known to the worker alone."""
    text: str
    trace: str

    def make_error(self) -> Exception:
        error = self.kind.__new__(self.kind, self.text)  # not by a constructor, which may want more
        error.add_note(f"in a worker:\n{self.trace}")
        return error


def _answer(function: Callable[[Job], Result], argument: Job) -> Result | _Failure:
    """Calls a function in a worker; an error is an answer."""
    try:
        return function(argument)
    except Exception as error:  # noqa: BLE001 - the holder raises it
        known = [kind for kind in type(error).__mro__ if kind.__module__.partition(".")[0] in ("builtins", "supple")]
        return _Failure(known[0], str(error), traceback.format_exc())


_HERE: list[Callable[[Any], Any]] = []
"""In a worker: the function that it holds, if any."""


def _make_here(order: tuple[Callable[[Any], Callable[[Any], Any]], Any]) -> None:
    make, job = order
    _HERE[:] = [make(job)]


def _call_here(argument: Any) -> Any:
    return _HERE[0](argument)


def _forget_here(_: None) -> None:
    _HERE.clear()


class LocalExecutor(Executor):
    """One job after the other, in this process."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__(1, stop)

    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Outcome[Result]]:
        """See `Executor.run`."""
        for number, job in enumerate(jobs):
            self.raise_stop(number)
            yield attempt(function, number, job)

    def hold(self, make: Callable[[Job], Callable[[Any], Any]], job: Job) -> Held[Any, Any]:
        """See `Executor.hold`."""
        return _LocalHeld(make, job)


class _LocalHeld(Held[Any, Any]):
    """A function of this process: a call is done as soon as it is begun."""

    def __init__(self, make: Callable[[Job], Callable[[Any], Any]], job: Job) -> None:
        self._function: Callable[[Any], Any] = partial(self._make, make)
        self.start(job)

    def _make(self, make: Callable[[Job], Callable[[Any], Any]], job: Job) -> None:
        self._function = make(job)

    def start(self, argument: Any) -> None:
        """See `Held.start`."""
        self._result, self._error = None, None
        try:
            self._result = self._function(argument)
        except Exception as error:  # noqa: BLE001 - `finish` raises it
            self._error = error

    def finish(self) -> Any:
        """See `Held.finish`."""
        if self._error is not None:
            raise self._error
        return self._result

    def close(self) -> None:
        """See `Held.close`."""


@dataclass(eq=False)
class _Worker:
    """A process that does jobs, and our end of the pipe to it; readable when it answers or dies."""

    process: Any
    pipe: Connection
    number: int | None = None
    """Of the job that it is at; 0 at a call of what it holds."""

    def tell_end(self) -> str:
        """How it died."""
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class ProcessExecutor(Executor):
    """Jobs in processes of this machine, which begin afresh: nothing of this process is copied."""

    def __init__(self, workers: int, stop: StopRequest) -> None:
        super().__init__(workers, stop)
        self._workers: list[_Worker] = []
        self._holding: list[_Worker] = []

    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Outcome[Result]]:
        """See `Executor.run`."""
        waiting = deque(range(len(jobs)))
        tries = [0] * len(jobs)
        ended = 0
        while ended < len(jobs):
            while len(self._workers) < min(self.workers, len(jobs) - ended):
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
        how = worker.tell_end()
        if worker.number is None or tries[worker.number] < ATTEMPTS:
            return None
        return lose(worker.number, how)

    def hold(self, make: Callable[[Job], Callable[[Any], Any]], job: Job) -> Held[Any, Any]:
        """See `Executor.hold`."""
        worker = next((one for one in self._workers if one.number is None and one.process.is_alive()), None)
        if worker is None:
            worker = self._start()
        else:
            self._workers.remove(worker)
        self._holding.append(worker)
        return _send_first(_ProcessHeld(worker, self._take_back), make, job)

    def _take_back(self, worker: _Worker) -> None:
        """Keeps a worker that is free again for other work; one that is dead or at a call is ended."""
        self._holding.remove(worker)
        if worker.number is None and not worker.pipe.closed:
            self._workers.append(worker)
        else:
            _end([worker])

    def close(self) -> None:
        """See `Executor.close`; a worker that is at a job is asked to stop, and killed where it does not."""
        _end([*self._workers, *self._holding])
        self._workers, self._holding = [], []


class _ProcessHeld(Held[Any, Any]):
    """A function that a process of this machine holds."""

    def __init__(self, worker: _Worker, take_back: Callable[[_Worker], None]) -> None:
        self._worker, self._take_back = worker, take_back

    def send(self, function: Callable[[Any], Any], argument: Any) -> None:
        """Has the process call a function of this module."""
        with suppress(OSError):  # it died: the pipe tells so when it is read
            self._worker.pipe.send((partial(_answer, function), 0, argument))
        self._worker.number = 0

    def start(self, argument: Any) -> None:
        """See `Held.start`."""
        self.send(_call_here, argument)

    def finish(self) -> Any:
        """See `Held.finish`."""
        try:
            answer = self._worker.pipe.recv().value
        except (EOFError, OSError) as error:
            raise WorkerDied(self._worker.tell_end()) from error
        self._worker.number = None
        if isinstance(answer, _Failure):
            raise answer.make_error()
        return answer

    def close(self) -> None:
        """See `Held.close`."""
        with suppress(WorkerDied):
            if self._worker.number is None and not self._worker.pipe.closed:
                self.send(_forget_here, None)
                self.finish()
        self._take_back(self._worker)


def _send_first(held: _ProcessHeld | _RayHeld, make: Callable[[Job], Callable[[Any], Any]], job: Job) -> Held[Any, Any]:
    """Has the worker make the function that it will hold; see `Executor.hold` for errors."""
    try:
        held.send(_make_here, (make, job))
    except Exception as error:
        held.close()
        raise _refuse_job(error) from error
    return held


def _refuse_job(error: Exception) -> ConfigError:
    """The refusal of what cannot be sent to another process."""
    reason = f"{type(error).__name__}: {describe_error(error)}"
    return ConfigError(
        f"--executor: expected settings that can be sent to another process, got '{reason}'; put functions and classes "
        "at the top of a module, or use --executor local"
    )


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.pipe.close()
        if worker.number is not None:
            worker.process.terminate()
    for worker in workers:
        worker.process.join(GRACE)
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()


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
                    f"'{describe_error(error)}'; check the address and ray status"
                ) from error
        super().__init__(workers or max(1, int(ray.cluster_resources().get("CPU", 1))), stop)

    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Outcome[Result]]:
        """See `Executor.run`."""
        ray = self._ray
        task = ray.remote(max_retries=ATTEMPTS - 1, retry_exceptions=[Interrupted])(attempt)
        waiting = deque(enumerate(jobs))
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
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

    def hold(self, make: Callable[[Job], Callable[[Any], Any]], job: Job) -> Held[Any, Any]:
        """See `Executor.hold`: an actor."""
        return _send_first(_RayHeld(self._ray), make, job)

    def close(self) -> None:
        """See `Executor.close`; a cluster that was there before stays."""
        if self._ours:
            self._ray.shutdown()


class _Seat:
    """What an actor is: the place of a function in a process of Ray's."""

    def look_in(self, path: list[str]) -> None:
        """Finds modules where the driver does; a user's robots lie beside what was run there."""
        sys.path[:0] = [place for place in path if place not in sys.path]

    def do(self, function: Callable[[Any], Any], argument: Any) -> Any:
        return _answer(function, argument)


class _RayHeld(Held[Any, Any]):
    """A function that an actor of Ray holds."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._actor = ray.remote(_Seat).remote()
        self._actor.look_in.remote(sys.path)

    def send(self, function: Callable[[Any], Any], argument: Any) -> None:
        """Has the actor call a function of this module."""
        self._reference = self._actor.do.remote(function, argument)

    def start(self, argument: Any) -> None:
        """See `Held.start`."""
        self.send(_call_here, argument)

    def finish(self) -> Any:
        """See `Held.finish`."""
        try:
            answer = self._ray.get(self._reference)
        except self._ray.exceptions.RayTaskError:  # the actor lives, and cannot read what it was sent
            raise
        except self._ray.exceptions.RayError as error:
            raise WorkerDied(type(error).__name__) from error
        if isinstance(answer, _Failure):
            raise answer.make_error()
        return answer

    def close(self) -> None:
        """See `Held.close`."""
        self._ray.kill(self._actor)


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
