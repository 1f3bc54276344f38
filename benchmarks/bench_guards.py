"""Whether guards keep a poisoned adaptation from leaving a policy that is worse than the prior policy.

Prints a JSON list of records, one for each poison of the rewards; `benchmarks/poison.py` has the robot and the learner.
Every run adapts for 20 episodes, then plays the final and the prior policy in the same 60 episodes without poison. The
counts:

    injected   runs
    detected   those that end with a policy that is not worse beyond the 99 % interval of the difference
    silent     the others
    crashed    runs that ended with an error other than a stop of the safety limits
    hung       0: nothing waits

`without guards` shows that the poison works. `no second channel` is the case that nobody can tell: neither success nor
the robot's own `compute_reward` contradicts a reward that is wrong in a consistent way.

    python benchmarks/bench_guards.py > docs/results/guards.json
    python benchmarks/bench_guards.py 20 served > docs/results/guards-served.json

With `served` a client of `supple serve --learn` adapts, and its rewards are poisoned on their way to the server.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from poison import Poison, Poisoned, adapt_poisoned, make_bundle, serve_poisoned
from recording import print_records

from supple.adapt.bundle import Bundle
from supple.adapt.guard_config import GuardConfig

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 50
SERVED = sys.argv[2:] == ["served"]
COMMAND = "python benchmarks/bench_guards.py" + (f" {RUNS} served" if SERVED else "")
POISONS: tuple[Poison, ...] = ("nan", "inverted", "constant")
CASES = (
    ("guarded", GuardConfig(), True),
    ("guarded, no second channel", GuardConfig(), False),
    ("without guards", None, True),
)


def main() -> None:
    """Runs all cases and prints the records."""
    torch.set_num_threads(1)
    began, records = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder / "bundle")
        for case, (method, guards, told) in enumerate(CASES):
            for poison in POISONS:
                runs = []
                for seed in range(RUNS if case == 0 else min(RUNS, 10)):
                    place = folder / f"{case}-{poison}-{seed}"
                    place.mkdir()
                    runs.append(run(bundle, poison, place, seed, guards, told))
                good = sum(run.drop <= 0.0 for run in runs)
                records.append(
                    {
                        "method": method,
                        "metric": f"poisoned adaptation, {poison} rewards",
                        "seeds": list(range(len(runs))),
                    }
                    | {"injected": len(runs), "detected": good, "silent": len(runs) - good, "crashed": 0, "hung": 0}
                )
                print(records[-1], file=sys.stderr, flush=True)
    print_records("guards-served" if SERVED else "guards", COMMAND, began, records)


def run(bundle: Bundle, poison: Poison, folder: Path, seed: int, guards: GuardConfig | None, told: bool) -> Poisoned:
    """One adaptation, by the loop or by a client."""
    if SERVED:
        return serve_poisoned(bundle, poison, seed, guards=guards, tells=told, computes=told)
    return adapt_poisoned(bundle, poison, folder, seed, guards=guards, tells=told, computes=told)


if __name__ == "__main__":
    main()
