"""Ingest of many files, and collection of episodes, by one process and by two, paired: each round does both in turn.

Prints a JSON list of records (schema: `benchmarks/results/records.py`): rows or steps per second, and the median of the
ratios of the rounds. `low` and `high` bound the middle 95 % of the rounds. Both sides come to the same, which is
checked in each round. Processes begin before the clock does, as their start is a matter of seconds and not of rows.

Collection is `meta.collect` as meta-training calls it: skills at random, the decoder at every step. One physics thread
steps all robots in this process, or half of them here and half in another.

    OMP_NUM_THREADS=1 python benchmarks/bench_scale.py
    OMP_NUM_THREADS=1 python benchmarks/bench_scale.py collection     only that
"""

import io
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_bags import MAPPING, MESSAGES, make_payloads, write_bag
from bench_datasets import Record, compare
from mcap.writer import CompressionType
from recording import print_records

from supple.datasets import open_store, write_d4rl
from supple.meta.collect import Episodes, Seen, collect
from supple.meta.space import SkillSpace
from supple.pipeline.executors import ProcessExecutor
from supple.pipeline.interrupt import StopRequest
from supple.pipeline.progress import PlainProgress
from supple.pipeline.robots import find_robot
from supple.pipeline.settings.ingest import IngestConfig
from supple.pipeline.sharded_robots import share_robots
from supple.pipeline.stage import Machine, run_stage
from supple.pipeline.stages.ingest import Parts, make_ingest
from supple.robots.robot import Float, RobotBatch
from supple.robots.task import goals_of
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_scale.py"
ROUNDS = 5
COLLECTION_ROUNDS = 7
BAGS, FILES = 8, 8
ROWS = 400_000
"""Of each HDF5 file: 29 axes, as a kitchen has, and 9 of the action; 62 MB."""

COLLECTED = (
    ("maze", 1),
    ("kitchen", 1),
    ("examples/gymnasium_reacher.py:REACHER", 1),
    ("examples/dm_control_reacher.py:REACHER", 1),
    ("examples/dm_control_reacher.py:REACHER", 8),
)
"""Robots, and rows of each train task: one is an epoch of SiMPL."""
MOST_STEPS = 60
"""Of an episode."""


def load(path: Path) -> None:
    """A job that loads what an ingest needs."""
    from supple.datasets import source_ingest
    from supple.datasets.bags import reader

    assert source_ingest
    assert reader
    time.sleep(0.5)  # so that each worker gets one


def time_ingest(folder: Path, out: Path, executor: ProcessExecutor) -> tuple[float, str, int]:
    """Seconds of the whole stage, digest and rows of the store."""
    mapping = folder.with_name("map.toml") if folder.name == "bags" else None
    stage = make_ingest([folder], IngestConfig(mapping=mapping), None, Parts(out.with_name("parts"), executor))
    quiet = PlainProgress(io.StringIO(), io.StringIO())
    began = time.perf_counter()
    made = run_stage(replace(stage, folder=out), Machine(tensorboard=False), quiet)
    seconds = time.perf_counter() - began
    store = open_store(made.folder)
    return seconds, store.digest, store.rows


def measure(folder: Path, place: Path, name: str) -> list[Record]:
    """Both sides in turn."""
    times, rows = [], 0
    with closing(ProcessExecutor(1, StopRequest())) as one, closing(ProcessExecutor(2, StopRequest())) as two:
        list(one.run(load, [folder]))
        list(two.run(load, [folder, folder]))
        for number in range(ROUNDS):
            found = {}
            for side in (one, two) if number % 2 else (two, one):
                with tempfile.TemporaryDirectory(dir=place) as out:
                    seconds, digest, rows = time_ingest(folder, Path(out) / "made", side)
                found[side] = (seconds, digest)
            assert found[one][1] == found[two][1]
            times.append((found[two][0], found[one][0]))
    return compare(
        ("2 workers", "1 worker"),
        "rows ingested per second",
        {"files": name},
        np.array(times),
        (rows, rows),
        "1 worker",
    )


def collect_once(space: SkillSpace, robot: RobotBatch, goals: Float) -> Episodes:
    """One episode in all rows, each decision a skill at random."""
    generator = torch.Generator().manual_seed(0)

    def choose(seen: Seen) -> torch.Tensor:
        return torch.randn((len(seen.rows), space.latent_dim), generator=generator)

    rng, here = np.random.default_rng(0), torch.device("cpu")
    return collect(robot, space, choose, goals, rng, device=here, stop_at_goal=False)


def measure_collection(name: str, copies: int) -> list[Record]:
    """Steps per second with the robots in this process, and with half of them in another."""
    family = find_robot(name).family
    spec = family.spec()
    if spec.episode_steps > MOST_STEPS:
        family = replace(family, episode_steps=MOST_STEPS)  # type: ignore[type-var]
    goals = np.repeat(goals_of(family.tasks().train), copies, axis=0)
    space = SkillSpace(SkillModel(spec.observation.shape[0], spec.action.shape[0], SkillConfig()))
    times, taken = [], 0
    with closing(ProcessExecutor(2, StopRequest())) as executor:
        two, one = (share_robots(family, len(goals), 1, where) for where in (executor, None))
        for number in range(COLLECTION_ROUNDS + 1):
            seconds, paths = {}, []
            for robots in (one, two) if number % 2 else (two, one):
                began = time.perf_counter()
                episodes = collect_once(space, robots, goals)
                seconds[robots] = time.perf_counter() - began
                paths.append(episodes.path)
            assert torch.equal(*paths)
            taken = int(episodes.steps.sum())
            if number:  # the first makes environments and warms caches
                times.append((seconds[two], seconds[one]))
        two.close()
        one.close()
    return compare(
        ("2 processes", "1 process"),
        "steps collected per second",
        {"robot": f"{family.name}, {len(goals)} rows"},
        np.array(times),
        (taken, taken),
        "all robots in one process",
    )


def main(only: str = "") -> list[Record]:
    collected = [record for name, copies in COLLECTED for record in measure_collection(name, copies)]
    if only == "collection":
        return collected
    with tempfile.TemporaryDirectory() as temporary:
        place, records = Path(temporary), collected
        bags, files = place / "bags", place / "files"
        bags.mkdir()
        files.mkdir()
        (place / "map.toml").write_text(f'action_source = "next_state"\n{MAPPING}')
        payloads = make_payloads(False)
        for number in range(BAGS):
            write_bag(bags / f"log{number}.mcap", payloads, CompressionType.ZSTD)
        records += measure(bags, place, f"{BAGS} bags of {MESSAGES} JointState messages, MCAP with zstd")
        for number in range(FILES):
            rng = np.random.default_rng(number)
            arrays = {
                "observations": rng.normal(size=(ROWS, 29)).astype(np.float32),
                "actions": rng.uniform(-1, 1, (ROWS, 9)).astype(np.float32),
                "rewards": np.zeros(ROWS, np.float32),
                "terminals": np.zeros(ROWS, np.bool_),
                "timeouts": np.arange(ROWS) % 280 == 279,
            }
            write_d4rl(files / f"log{number}.hdf5", arrays)
        records += measure(files, place, f"{FILES} D4RL files of {ROWS} rows, 38 axes")
    return records


if __name__ == "__main__":
    began = time.perf_counter()
    print_records("scale", " ".join([COMMAND, *sys.argv[1:]]), began, main(*sys.argv[1:]))
