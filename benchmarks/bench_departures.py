"""What one meta-training update costs when a setting of the preset `maze` is put back to its published value.

Prints a JSON list of records (schema: `benchmarks/results/records.py`). A round times every variant one after the
other, each over two updates (of which one also updates the policy where `policy_every` is 2), so that a busy machine
slows all. Times are milliseconds per update of one thread, the ratio is the median of the rounds' ratios to the preset.
What the departures do to learning stands beside these in `docs/published-run.md`.

    OMP_NUM_THREADS=1 python benchmarks/bench_departures.py
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from bench_meta import make_learner, make_space, summarise, time_of
from recording import print_records

from supple.meta.simpl.config import SimplConfig
from supple.pipeline.presets import PRESETS

ROUNDS = 3
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_departures.py"
GROUPS: dict[str, tuple[str, ...]] = {
    "set-transformer": ("encoder",),
    "context of 8192 transitions": ("posterior_context", "context_episodes"),
    "1024 transitions a task": ("batch", "success_batch"),
    "26 tasks": ("posterior_tasks",),
    "policy in every update": ("policy_every",),
    "float32": ("bfloat16",),
    "no reward prediction": ("reward_prediction",),
}
"""Variants by name: the settings of `SimplConfig` that are put back together."""


def make_variants() -> dict[str, SimplConfig]:
    """The preset `maze`, each variant of it, and all of them together."""
    ours, published = PRESETS["maze"].learner.config, PRESETS["maze-published"].learner.config

    def put_back(names: tuple[str, ...]) -> SimplConfig:
        return replace(ours, **{name: getattr(published, name) for name in names})

    everything = tuple(name for names in GROUPS.values() for name in names)
    return (
        {"preset maze": ours}
        | {name: put_back(names) for name, names in GROUPS.items()}
        | {"all of these": put_back(everything)}
    )


def main() -> None:
    """Measures everything and prints the records."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    space = make_space()
    variants = make_variants()
    learners = {name: make_learner(space, config) for name, config in variants.items()}

    def run(name: str) -> Callable[[], object]:
        return lambda: [learners[name].update() for _ in range(2)]

    for name in variants:
        run(name)()
    times = np.array([[time_of(run(name))[1] / 2.0 for name in variants] for _ in range(ROUNDS)])
    records: list[dict[str, Any]] = []
    for side, name in enumerate(variants):
        records.append({"method": name, "metric": "ms_per_update_cpu", "at": {}} | summarise(times[:, side] * 1e3, 0))
        if side:
            ratio = round(float(np.median(times[:, side] / times[:, 0])), 2)
            common = {"method": name, "metric": "cost of an update", "at": {}}
            records.append(common | {"ratio": ratio, "peer": "the preset maze"})
    print_records("departures", COMMAND, began, records)


if __name__ == "__main__":
    main()
