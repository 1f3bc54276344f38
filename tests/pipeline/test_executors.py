"""All executors keep the same promises: results in place, errors as outcomes, work of dead workers done again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from supple.errors import ConfigError, FormatError, SourceError
from supple.pipeline.executors import (
    ATTEMPTS,
    Executor,
    ExecutorConfig,
    LocalExecutor,
    Outcome,
    ProcessExecutor,
    WorkerDied,
    make_executor,
)
from supple.pipeline.interrupt import Interrupted, StopRequest
from supple.pipeline.sharded_robots import ShardedRobots, share_robots
from supple.robots.family import make_robots
from supple.robots.gridnavi import GridNavi
from supple.robots.task import goals_of


def square(number: int) -> int:
    if number == 3:
        raise SourceError("three: expected another number, got 3; take four")
    if number == 5:
        raise ZeroDivisionError("five")
    return number * number


def die_at_first(job: tuple[Path, int]) -> str:
    """Kills its process until the job has been begun so many times."""
    place, times = job
    begun = len(list(place.parent.glob(f"{place.name}.*")))
    place.with_name(f"{place.name}.{begun}").touch()
    if begun < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return place.name


def make_counter(start: int) -> Callable[[int], int]:
    """A function with a state: what it has added up so far."""
    if start < 0:
        raise SourceError("start: expected 0 or more, got -1; take another")
    total = [start]

    def add(number: int) -> int:
        if number == 13:
            raise FormatError("a.pkl: expected HDF5, got a pickle; read another", "a pickle", known=True)
        if number == 66:
            os.kill(os.getpid(), signal.SIGKILL)
        total[0] += number
        return total[0]

    return add


def wait_for(job: tuple[Path, float]) -> None:
    job[0].write_text(str(os.getpid()))
    time.sleep(job[1])


def require_promises(executor: Executor, folder: Path) -> None:
    found: dict[int, Outcome[int]] = {one.number: one for one in executor.run(square, range(7))}
    assert [found[number].value for number in range(7)] == [0, 1, 4, None, 16, None, 36]
    assert found[3].failure == "three: expected another number, got 3; take four"
    assert (found[3].kind, found[3].trace) == ("SourceError", "")
    assert found[5].failure == "ZeroDivisionError: five"
    assert "in square" in found[5].trace
    assert list(executor.run(square, [])) == []


def require_second_attempts(executor: Executor, folder: Path) -> None:
    jobs = [(folder / "a", 0), (folder / "b", 1), (folder / "c", 0)]
    assert {one.number: one.value for one in executor.run(die_at_first, jobs)} == {0: "a", 1: "b", 2: "c"}
    assert len(list(folder.glob("b.*"))) == 2


def require_held(executor: Executor, *, kill: bool = True) -> None:
    """Two functions keep a state each, errors come as they are, and a worker that dies is said."""
    one, two = (executor.hold(make_counter, start) for start in (0, 10))
    assert (one.finish(), two.finish()) == (None, None)
    for number, sums in ((1, (1, 11)), (2, (3, 13))):
        one.start(number)
        two.start(number)
        assert (one.finish(), two.finish()) == sums
    one.start(13)
    with pytest.raises(FormatError) as error:
        one.finish()
    assert str(error.value) == "a.pkl: expected HDF5, got a pickle; read another"
    one.start(4)
    assert one.finish() == 7
    if kill:
        one.start(66)
        with pytest.raises(WorkerDied):
            one.finish()
    two.start(4)
    assert two.finish() == 17
    one.close()
    two.close()
    bad = executor.hold(make_counter, -1)
    with pytest.raises(SourceError, match=r"^start: expected 0 or more, got -1; take another"):
        bad.finish()
    bad.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessExecutor]:
    with closing(ProcessExecutor(2, StopRequest())) as executor:
        yield executor


def test_local_promises(tmp_path: Path) -> None:
    require_promises(LocalExecutor(StopRequest()), tmp_path)
    require_held(LocalExecutor(StopRequest()), kill=False)


def test_process_promises(processes: ProcessExecutor, tmp_path: Path) -> None:
    require_promises(processes, tmp_path)


def test_a_process_that_held_something_does_jobs_afterwards(processes: ProcessExecutor, tmp_path: Path) -> None:
    require_held(processes)
    for worker in processes._workers:
        os.kill(worker.process.pid, signal.SIGINT)  # as Ctrl-C does to all processes of a terminal
    workers = {worker.process.pid for worker in processes._workers}
    assert (len(workers), processes._holding) == (1, [])  # the other was killed
    require_promises(processes, tmp_path)
    assert workers < {worker.process.pid for worker in processes._workers}


def test_the_work_of_a_dead_process_is_done_again(processes: ProcessExecutor, tmp_path: Path) -> None:
    require_second_attempts(processes, tmp_path)


def test_a_job_that_always_kills_its_worker_is_given_up_and_the_others_go_on(
    processes: ProcessExecutor, tmp_path: Path
) -> None:
    jobs = [(tmp_path / "a", ATTEMPTS), (tmp_path / "b", 0)]
    found = {one.number: one for one in processes.run(die_at_first, jobs)}
    assert found[1].value == "b"
    assert f"got {ATTEMPTS} that died (SIGKILL)" in found[0].failure
    assert len(list(tmp_path.glob("a.*"))) == ATTEMPTS


def test_ray_promises(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'supple[ray]'")
    with closing(make_executor(ExecutorConfig(executor="ray", workers=2), StopRequest())) as executor:
        require_promises(executor, tmp_path)
        require_second_attempts(executor, tmp_path)
        require_held(executor)
        require_shared_robots(executor)


def require_shared_robots(executor: Executor) -> None:
    """Robots whose workers are killed on the way do as robots of one process."""
    family = GridNavi()
    alone, shared = make_robots(family, 3), share_robots(family, 3, 1, executor)
    goals, rows = np.array(goals_of(family.tasks().train)[:3]), np.arange(3)
    for robots in (alone, shared):
        robots.reset(rows, goals, np.random.default_rng(0))
    for choice in (0, 1, 2, 0):
        if choice == 2:
            ray = sys.modules["ray"]
            ray.kill(cast(Any, cast(ShardedRobots, shared)._shards[1]._held)._actor)
        action = np.full((3, 1), choice, np.float32)
        for one, two in zip(alone.step(rows, action), shared.step(rows, action), strict=True):
            assert one is not None
            assert two is not None
            assert np.array_equal(one, two)
            assert two.flags.writeable  # the caller's to keep; Ray's own arrays are not
    shared.close()


def test_a_request_to_stop_ends_the_jobs_under_way(tmp_path: Path) -> None:
    stop = StopRequest()

    def ask() -> None:
        while not (tmp_path / "pid").is_file():
            time.sleep(0.01)
        stop.receive(signal.SIGTERM, None)

    threading.Thread(target=ask).start()
    began = time.monotonic()
    with closing(ProcessExecutor(1, stop)) as executor, pytest.raises(Interrupted) as error:
        list(executor.run(wait_for, [(tmp_path / "pid", 60.0)]))
    assert error.value.exit_code == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30
    require_gone(int((tmp_path / "pid").read_text()))
    with pytest.raises(Interrupted):
        list(LocalExecutor(stop).run(square, [1]))


def test_workers_end_with_a_driver_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from test_executors import *\n"
        "if __name__ == '__main__': list(ProcessExecutor(1, StopRequest()).run(wait_for, [(Path(sys.argv[1]), 60.0)]))"
    )
    (tmp_path / "main.py").write_text(program)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    driver = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py"), str(tmp_path / "pid")], env=os.environ | {"PYTHONPATH": path}
    )
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert driver.poll() is None
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    require_gone(int((tmp_path / "pid").read_text()))


def require_gone(pid: int) -> None:
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":  # an orphan that its new parent has not looked at yet
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} still runs")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "--workers: expected 1 with --executor local, got 2"),
        ({"ray_address": "auto"}, "--ray-address: expected --executor ray, got local"),
        ({"executor": "processes", "workers": 0}, "workers: expected a whole number from 1"),
        ({"executor": "threads"}, "executor: expected one of local, processes, ray, got 'threads'"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExecutorConfig(**options)
