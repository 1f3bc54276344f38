"""Whether the chain survives being killed: every stage, at random moments, against a run that nothing stopped.

Prints a JSON list of records, one for each stage of a tiny chain; `pipeline/testing_kills.py` says how moments are
chosen. The counts:

    injected   SIGKILLs that ended the process
    detected   those that landed while the stage was at work; the next start found what they left and went on from it.
               The others came after its result was published, or before its work folder was made
    silent     results whose key, digests of files, or digest of metrics differ from those of the whole run
    crashed    starts that failed by themselves
    hung       starts that showed no sign of life for ten minutes

    python benchmarks/bench_reliability.py > docs/results/reliability.json
"""

import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from recording import print_records

import supple.pipeline.verbs.run  # noqa: F401  loaded before the forks, so that no child has to
from supple.pipeline.testing_kills import TINY, kill_chain

KILLS = 20
"""That have to land in each stage."""
SEED = 0
COMMAND = "python benchmarks/bench_reliability.py"


def main() -> None:
    """Kills all stages and prints the records."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = kill_chain(Path(folder), TINY, KILLS, np.random.default_rng(SEED))
    print_records(
        "reliability",
        COMMAND,
        began,
        [
            {"method": stage, "metric": "SIGKILL, then the same command again", "seeds": [SEED]} | asdict(kills)
            for stage, kills in counts.items()
        ],
    )


if __name__ == "__main__":
    main()
