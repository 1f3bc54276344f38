"""Reads damaged recordings of every format, each in a child process with a cap on memory and on time.

    python -m tests.datasets.fuzz_readers FOLDER SEED LAYOUT FIRST LAST [LAYOUT FIRST LAST ...]

is the child: a JSON line when it begins a mutant and one with its outcome. Mutant number i of a layout depends on the
seed, the layout and i alone, so that each can be made again, and a run can go on where another stopped. What became of
a mutant:

    detected   refused with a typed error, or read with a loss or a note that the whole recording does not have
    same       read as the whole recording: the damage is in bytes that mean nothing
    silent     read as another recording, and nobody was told
    crashed    any other exception, a message of several lines, a change outside of the recording, or a dead process
    hung       not done within the time
"""

import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from supple.datasets.episode import ReadOptions
from supple.datasets.formats import find_format
from supple.errors import SuppleError
from tests.datasets.make_sources import CAMERA, FILMED, MAKERS, record
from tests.datasets.mutations import BOMBS, OUTSIDE, Changes, mutate

ROOT = Path(__file__).parents[2]
LAYOUTS = (*MAKERS, *(kind for kind in BOMBS if kind not in MAKERS))
"""All that are damaged: those of `make_sources`, and kinds of bags."""
_RARE = (
    "minari-parquet",
    "plain",
    "plain-unchunked",
    "sqlite-message",
    "mcap-file",
    "rosbag1-lz4",
    "lerobot-2.1-video",
)
QUICK = tuple(layout for layout in LAYOUTS if layout not in _RARE)
"""Those of `make test`, one for each way in which a format is read."""
CHECKED = ("ogbench", "zarr-zip", "plain", "plain-zstd", "plain-unchunked")
"""Layouts whose every number is covered by a checksum: in them no damage may go unseen."""
OUTCOMES = ("detected", "same", "silent", "crashed", "hung")
MEMORY = 3 * 2**30
"""Address space of the child, bytes; the libraries of all formats take half of it before anything is read."""
SECONDS = 20.0
"""Of the processor, for one mutant."""
PATIENCE = 30.0
"""Times that, by the clock, after which a child that does nothing counts as hung too; the machine may be busy."""


class Job(NamedTuple):
    """Mutants [first, last) of a layout."""

    layout: str
    first: int
    last: int


@dataclass(slots=True)
class Counts:
    """What became of the mutants of one layout."""

    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    peak_bytes: int = 0
    """Largest resident memory of the child."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    """The first mutants that were silent where there is a checksum, crashed or hung: number, outcome, reason."""

    @property
    def injected(self) -> int:
        """Mutants that were read."""
        return sum(self.outcomes.values())

    def add(self, layout: str, number: int, outcome: str, reason: str, peak_bytes: int = 0) -> None:
        """Counts one mutant."""
        self.outcomes[outcome] += 1
        self.peak_bytes = max(self.peak_bytes, peak_bytes)
        if outcome in ("crashed", "hung") or (outcome == "silent" and layout in CHECKED):
            self.faults = [*self.faults, {"mutant": number, "outcome": outcome, "reason": reason}][:20]

    def merge(self, other: "Counts") -> None:
        """Adds the mutants of another run."""
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] += count
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.faults = [*self.faults, *other.faults][:20]


def fuzz(folder: Path, seed: int, jobs: Sequence[Job], seconds: float = SECONDS) -> Iterator[tuple[str, Counts]]:
    """Runs the jobs in one child, a new one behind each that dies; yields (layout, counts) as each job is done.

    Args:
        folder: For recordings, emptied.
        seed: Of all mutants.
        jobs: In this order.
        seconds: For one mutant, after which the child is killed.
    """
    pending = list(jobs)
    counts: dict[str, Counts] = {}
    while pending:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        child = _Child(folder, seed, pending)
        while pending:
            layout, first, last = pending[0]
            mine = counts.setdefault(layout, Counts())
            event = child.read(seconds if child.begun else 600.0)
            if event is None:
                if not child.begun:
                    raise RuntimeError(f"{layout}: mutant {first} was not made: {child.finish()}")
                mine.add(layout, first, *child.finish())
            elif "outcome" in event:
                mine.add(layout, event["mutant"], event["outcome"], event["reason"], event["peak_bytes"])
            else:
                continue
            pending[0] = Job(layout, first + 1, last)
            if first + 1 == last:
                pending.pop(0)
                yield layout, counts.pop(layout)
            if event is None:
                break
        else:
            child.finish()


class _Child:
    """The process that reads, and what it says."""

    def __init__(self, folder: Path, seed: int, jobs: Sequence[Job]) -> None:
        words = [str(word) for job in jobs for word in job]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.datasets.fuzz_readers", str(folder), str(seed), *words],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        self._buffer = b""
        self._late = False
        self.begun = False
        """Whether it is at a mutant."""

    def read(self, seconds: float) -> dict[str, Any] | None:
        """The next event; None where the child died, or was late."""
        until, spent, left = time.monotonic() + PATIENCE * seconds, self._measure(), seconds
        while b"\n" not in self._buffer:
            if not select.select([self._lines], [], [], min(left, PATIENCE * seconds))[0]:
                left = min(spent + seconds - self._measure(), until - time.monotonic())
                if left <= 0:
                    self._late = True
                    return None
                continue
            block = os.read(self._lines.fileno(), 65536)
            if not block:
                return None
            self._buffer += block
        line, self._buffer = self._buffer.split(b"\n", 1)
        event: dict[str, Any] = json.loads(line)
        self.begun = "outcome" not in event
        return event

    def _measure(self) -> float:
        """Seconds of the processor that it has had; 0 once it is gone."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def finish(self) -> tuple[str, str]:
        """Ends it; why a mutant was its last one, as outcome and reason."""
        if self._late:
            self._process.kill()
        code = self._process.wait()
        self._lines.close()
        self._errors.seek(0)
        said = self._errors.read()[-1000:].decode(errors="replace")
        self._errors.close()
        return ("hung", "no answer in time") if self._late else ("crashed", f"exit code {code}: {said}")


def make_recording(layout: str, folder: Path) -> tuple[Path, str]:
    """A small recording, and the name of its format."""
    if layout in MAKERS:
        name, maker = MAKERS[layout]
        return maker(folder, record()), name
    if layout in FILMED:
        return FILMED[layout](folder, record()), "lerobot"
    from tests.datasets.bags.conftest import Bags

    bags = Bags()
    return bags.write(folder / "log", layout, bags.arm(0.4)), "bag"


def read(path: Path, name: str, cameras: tuple[str, ...] | None = None) -> tuple[list[bytes], tuple[str, ...]]:
    """All that reaches a store, to compare, and all that is said about it."""
    units = ("deg",) if name == "lerobot" else None
    options = ReadOptions(observation_units=units, action_units=units, only=cameras)
    reader = find_format(path, name).read(path, options)
    spec = reader.describe()
    parts = [json.dumps(spec.schema.to_json(), sort_keys=True).encode()]
    for episode in reader.episodes():
        parts.append(bytes([episode.terminated, episode.truncated]))
        parts += [key.encode() + array.tobytes() for key, array in sorted(episode.arrays.items())]
    left_out = (f"{name}: {reason}" for name, reason in spec.ignored.items())
    return parts, (*spec.losses, *spec.notes, *spec.questions, *left_out)


def apply(folder: Path, changes: Changes) -> None:
    """Makes the changes below a folder."""
    for name, data in changes.items():
        file = folder / name
        file.unlink(missing_ok=True)
        if isinstance(data, Path):
            file.symlink_to(folder.parent / data)
        elif data is not None:
            file.write_bytes(data)


def run_jobs(folder: Path, seed: int, jobs: Sequence[Job], tell: Callable[[dict[str, Any]], None]) -> None:
    """The child's side: tells when each mutant begins, and what became of it."""
    for layout, first, last in jobs:
        place = folder / f"{layout}-{first}" / "in"
        place.mkdir(parents=True)
        (place.parent / OUTSIDE).mkdir()
        (place.parent / OUTSIDE / "canary").write_bytes(b"outside")
        source, name = make_recording(layout, place)
        files = {str(file.relative_to(place)): file.read_bytes() for file in sorted(place.rglob("*")) if file.is_file()}
        cameras = (CAMERA,) if layout in FILMED else None
        whole = read(source, name, cameras)
        for number in range(first, last):
            rng = np.random.default_rng([seed, LAYOUTS.index(layout), number])
            changes = mutate(layout, files, rng)
            apply(place, changes)
            tell({"layout": layout, "mutant": number})
            if os.environ.get("SUPPLE_FUZZ_DIES_AT") == str(number):  # for the tests of the parent
                os.abort()
            if os.environ.get("SUPPLE_FUZZ_WAITS_AT") == str(number):
                time.sleep(3600)
            outcome, reason = _try(source, name, cameras, whole)
            apply(place, {change: files.get(change) for change in changes})
            outside = {file.name: file.read_bytes() for file in (place.parent / OUTSIDE).iterdir()}
            if outside != {"canary": b"outside"} or len(list(place.parent.iterdir())) != 2:
                outcome, reason = "crashed", f"changed what is outside: {sorted(outside)}"
            peak = read_peak()
            tell({"layout": layout, "mutant": number, "outcome": outcome, "reason": reason, "peak_bytes": peak})


def read_peak() -> int:
    """Most bytes that this process has had in memory; `ru_maxrss` would begin with those of the process before it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _try(
    source: Path, name: str, cameras: tuple[str, ...] | None, whole: tuple[list[bytes], tuple[str, ...]]
) -> tuple[str, str]:
    try:
        parts, said = read(source, name, cameras)
    except SuppleError as error:
        return ("crashed" if "\n" in str(error) else "detected"), str(error)
    except BaseException:  # noqa: BLE001 - whatever it is, it is the finding
        return "crashed", traceback.format_exc()[-1500:]
    if parts == whole[0]:
        return "same", ""
    return ("silent", "") if set(said) <= set(whole[1]) else ("detected", "said")


def main(arguments: Sequence[str]) -> None:
    """Runs the child."""
    folder, seed, *words = arguments
    jobs = [Job(words[at], int(words[at + 1]), int(words[at + 2])) for at in range(0, len(words), 3)]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run_jobs(Path(folder), int(seed), jobs, lambda event: print(json.dumps(event), flush=True))


if __name__ == "__main__":
    main(sys.argv[1:])
