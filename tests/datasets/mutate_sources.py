"""Damages recordings in many ways and reads each: `mutate_sources.py FOLDER MUTANTS SEED [LAYOUT ...]`; a JSON line
each.

Bits flip, pieces are cut off, repeated, moved or zeroed, and fields of eight bytes become lengths that nothing has.
Each mutant is read in this process under a limit of memory and of time, so that a crash or an endless loop of a library
shows as one of the process. A mutant that reads as the whole recording is `same`, one that reads as another `silent`.
"""

import json
import resource
import signal
import sys
import traceback
from pathlib import Path

import numpy as np

from supple.datasets.formats import find_format
from supple.errors import SuppleError
from tests.datasets.make_sources import MAKERS, record
from tests.datasets.test_formats import options_of

_MEMORY = 2**32
_SECONDS = 10


def mutate(whole: bytes, rng: np.random.Generator) -> bytes:
    """One way to damage a file."""
    data = bytearray(whole)
    at = int(rng.integers(len(data)))
    size = int(rng.integers(1, 64))
    kind = int(rng.integers(7))
    if kind == 0:
        for place in rng.integers(len(data), size=int(rng.integers(1, 17))):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at : at + size] = bytes(len(data[at : at + size]))
    elif kind == 3:
        data[at:at] = data[at : at + size]
    elif kind == 4:
        other = int(rng.integers(len(data)))
        data[at : at + size] = data[other : other + size]
    elif kind == 5:
        width = int(rng.choice([4, 8]))
        value = (
            int(rng.choice([0, 1, 2**31, 2**31 - 1, 2**32 - 1])) if width == 4 else int(rng.choice([0, 2**31, 2**62]))
        )
        data[at : at + width] = value.to_bytes(width, "little")
    else:
        data[at : at + 8] = b"\xff" * 8
    return bytes(data)


def read(path: Path, name: str) -> bytes:
    """All that is read, as bytes to compare."""
    form = find_format(path, name)
    reader = form.read(path, options_of(name))
    reader.describe()
    parts = []
    for episode in reader.episodes():
        parts.append(bytes([episode.terminated, episode.truncated]))
        parts += [key.encode() + array.tobytes() for key, array in sorted(episode.arrays.items())]
    return b"".join(parts)


def main(layout: str, folder: Path, mutants: int, seed: int) -> dict[str, object]:
    """Counts of what became of the mutants."""
    name, maker = MAKERS[layout]
    source = maker(folder, record())
    whole = read(source, name)
    files = [source] if source.is_file() else sorted(file for file in source.rglob("*") if file.is_file())
    rng = np.random.default_rng(seed)
    counts: dict[str, int] = dict.fromkeys(("injected", "detected", "same", "silent", "crashed", "hung"), 0)
    faults: list[str] = []
    for _ in range(mutants):
        file = files[int(rng.integers(len(files)))]
        before = file.read_bytes()
        after = mutate(before, rng) if before else b"x"
        if after == before:
            continue
        file.write_bytes(after)
        counts["injected"] += 1
        signal.alarm(_SECONDS)
        try:
            counts["same" if read(source, name) == whole else "silent"] += 1
        except SuppleError as error:
            counts["detected" if "\n" not in str(error) else "crashed"] += 1
        except TimeoutError:
            counts["hung"] += 1
        except BaseException:  # noqa: BLE001 - whatever it is, it is the finding
            counts["crashed"] += 1
            faults.append(traceback.format_exc()[-1500:])
        finally:
            signal.alarm(0)
        file.write_bytes(before)
    return {"layout": layout, **counts, "faults": faults[:3]}


def stop(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for layout in sys.argv[4:] or MAKERS:
        place = Path(sys.argv[1]) / layout
        place.mkdir()
        print(json.dumps(main(layout, place, int(sys.argv[2]), int(sys.argv[3]))), flush=True)
