"""What several packages look for in a folder of a run: the record of the run itself, and its episode store."""

from pathlib import Path
from typing import Final

from .keys import RECORD_NAME

RUN_NAME: Final = "run.json"
"""In the folder of a run of the chain, and of a seed of a benchmark cell: what it is, and the commit that it was made
with."""
LEARNER_NAME: Final = "learner.safetensors"
"""In the folder of a meta-training: the whole state of the learner after its last iteration."""
TASKS_NAME: Final = "tasks.csv"
"""In the folder of a run of the chain: its test tasks, to be edited and adapted to."""
REPORT_NAME: Final = "report.html"
"""In the folder of a run of the chain: its report."""
STORE_NAME: Final = "store"
"""In an `ingest` folder: the episode store."""


def find_stage(path: Path, name: str) -> Path:
    """The folder of a stage: the path itself, or the one in a run folder."""
    inner = path / name
    return inner if (inner / RECORD_NAME).is_file() and not (path / RECORD_NAME).is_file() else path
