"""What several packages look for in a folder of a run: the record of the run itself, and its episode store."""

from pathlib import Path
from typing import Final

RUN_NAME: Final = "run.json"
"""In the folder of a run of the chain, and of a seed of a benchmark cell: what it is, and the commit that it was made
with."""
LEARNER_NAME: Final = "learner.safetensors"
"""In the folder of a meta-training: the whole state of the learner after its last iteration."""
STORE_NAME: Final = "store"
"""In an `ingest` folder: the episode store."""


def find_store(path: Path) -> Path:
    """The store itself, or the one in an `ingest` folder."""
    return path / STORE_NAME if (path / STORE_NAME).is_dir() else path
