"""An ingest that is killed, or that the system fails, at one of its file operations: a whole store or none.

Here some operations are taken; `benchmarks/bench_ingest_faults.py` takes all of them.
"""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from supple.datasets import write_d4rl
from tests.datasets.make_sources import make_d4rl, record
from tests.pipeline.file_operations import Fault, run_command
from tests.pipeline.ingest_faults import Outcomes, SmallIngest

KILLS = 16
FAILURES = 4
"""Of each error."""
ERRORS = (errno.ENOSPC, errno.EMFILE)

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def ingest(tmp_path_factory: pytest.TempPathFactory) -> SmallIngest:
    return SmallIngest(tmp_path_factory.mktemp("faults") / "run")


def test_every_kind_of_operation_is_counted(ingest: SmallIngest) -> None:
    assert {"o", "w", "s", "r", "d"} == set(ingest.operations)
    assert len(ingest.operations) > 100
    assert ingest.operations.rstrip("s").endswith("r") or ingest.operations.endswith("rs")  # published, then synced


def test_killed_at_an_operation_there_is_a_whole_store_or_none(ingest: SmallIngest) -> None:
    count, outcomes = len(ingest.operations), Outcomes()
    places = [index * (count - 1) // (KILLS - 1) for index in range(KILLS)]
    for _ in ingest.inject([Fault(at, torn=at % 2 == 0) for at in places], outcomes):
        pass
    assert outcomes.injected >= KILLS - 1
    assert outcomes == Outcomes(injected=outcomes.injected, detected=outcomes.injected)


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_an_error_of_the_system_is_refused_and_loses_nothing(ingest: SmallIngest, error: int) -> None:
    count, outcomes = len(ingest.operations), Outcomes()
    places = [(2 * index + 1) * count // (2 * FAILURES) for index in range(FAILURES)]
    for _ in ingest.inject([Fault(at, error, torn=error == errno.ENOSPC) for at in places], outcomes):
        pass
    assert outcomes == Outcomes(injected=FAILURES, detected=FAILURES)


def test_a_folder_that_the_system_refuses(ingest: SmallIngest) -> None:
    outcomes = Outcomes()
    for _ in ingest.inject([Fault(ingest.operations.index(kind), errno.EACCES) for kind in "do"], outcomes):
        pass
    assert outcomes == Outcomes(injected=2, detected=2)


def limit(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (limit(resource.RLIMIT_FSIZE, 20_000), "File too large"),
        (limit(resource.RLIMIT_NOFILE, 12), "Too many open files"),
    ],
    ids=["files are limited", "handles are limited"],
)
def test_limits_of_the_process(ingest: SmallIngest, prepare: Callable[[], None], said: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rows = 10_000
    source = write_d4rl(
        tmp_path / "play.hdf5",
        {"observations": [[1.0]] * rows, "actions": [[1.0]] * rows, "rewards": [0.0] * rows, "terminals": [1] * rows},
    )
    command = ["ingest", str(source), "--out", str(tmp_path / "out")]
    assert run_command(command, tmp_path, log, prepare=prepare)[0] == 2
    printed = log.read_text()
    assert said in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists()
    assert run_command(command, tmp_path, log)[0] == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_nobody_may_write(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o500)
    log = tmp_path / "log"
    command = ["ingest", str(make_d4rl(tmp_path, record())), "--out", str(place / "out")]
    assert run_command(command, place, log)[0] == 2
    assert "expected a place to write to, got 'Permission denied'" in log.read_text()


def test_a_folder_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    log = tmp_path / "log"
    command = ["ingest", str(make_d4rl(tmp_path, record())), "--out", str(tmp_path / "file" / "out")]
    assert run_command(command, tmp_path / "file", log)[0] == 2
    assert "Traceback" not in log.read_text()
    assert (tmp_path / "file").read_text() == "mine"
