"""What a small ingest leaves behind when it is killed, or the system fails it, at one of its file operations.

`tests/pipeline/test_ingest_faults.py` takes some operations, `benchmarks/bench_ingest_faults.py` takes all.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from supple.datasets import open_store, verify_store
from supple.errors import SuppleError
from supple.pipeline.cli import main
from supple.pipeline.run_files import STORE_NAME
from tests.datasets.make_sources import make_d4rl, record

from .file_operations import Fault, run_command

TRIES = 5
"""Of a fault at an operation that a run did not come to."""


@dataclass(slots=True)
class Outcomes:
    """The names are those of a reliability record."""

    injected: int = 0
    detected: int = 0
    """Kills that ended the process, or errors that were refused in one line."""
    silent: int = 0
    """Stores that are neither whole nor absent, or differ from that of an uninterrupted run in the end."""
    crashed: int = 0
    """Tracebacks, and commands that fail when they are given again."""
    hung: int = 0


class SmallIngest:
    """An ingest of a few rows, again and again.

    Args:
        folder: For all that is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "in").mkdir(parents=True)
        self._source = make_d4rl(folder / "in", record())
        assert main(self.command("first")) == 0  # loads what it needs, so that no child has to
        code, self.operations = run_command(self.command("whole"), folder / "whole", folder / "whole.log")
        assert code == 0, (folder / "whole.log").read_text()
        self.digest = self.find_digest("whole")

    def command(self, name: str) -> list[str]:
        """Its command line."""
        return ["ingest", str(self._source), "--out", str(self.folder / name / "ingest")]

    def find_digest(self, name: str) -> str | None:
        """Digest of a whole store; None where there is none; "damaged" for anything else."""
        path = self.folder / name / "ingest"
        if not path.exists():
            return None
        try:
            verify_store(path / STORE_NAME)
            return open_store(path / STORE_NAME).digest
        except SuppleError:
            return "damaged"

    def inject(self, faults: Iterable[Fault], outcomes: Outcomes) -> Iterator[float]:
        """Injects each, gives the command again, and adds up the outcomes; yields seconds after each."""
        for fault in faults:
            begin = time.monotonic()
            name, log = f"at-{fault.at}", self.folder / "log"
            for _ in range(TRIES):
                log.unlink(missing_ok=True)
                code, operations = run_command(self.command(name), self.folder / name, log, fault)
                if len(operations) > fault.at:
                    break
                # threads write in another order each time, and may need fewer operations: take the last of these
                shutil.rmtree(self.folder / name, ignore_errors=True)
                fault = replace(fault, at=len(operations) - 1)
            else:
                continue
            printed = log.read_text()
            outcomes.injected += 1
            refused = code == 2 and "Traceback" not in printed and "; " in printed.splitlines()[-1]
            # an error may concern what is only written beside the result
            unhurt = code == 0 and self.find_digest(name) == self.digest
            outcomes.detected += code == -9 if fault.error is None else refused or unhurt
            outcomes.crashed += not (code == -9 if fault.error is None else refused or unhurt)
            outcomes.silent += self.find_digest(name) not in (None, self.digest)
            again, _ = run_command(self.command(name), self.folder / name, log)
            outcomes.crashed += again != 0
            outcomes.silent += again == 0 and self.find_digest(name) != self.digest
            if outcomes.crashed or outcomes.silent:
                raise AssertionError(f"{fault}: exit codes {code}, {again}: {log.read_text()[-2000:]}")
            shutil.rmtree(self.folder / name, ignore_errors=True)
            yield time.monotonic() - begin
