"""Keys of cells: a change of a robot or a learner is one of its own cells alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.meta.cell_train import make_train
from benchmarks.meta.cells import CELLS
from benchmarks.meta.mujoco_cells import MUJOCO_CELLS
from supple.pipeline import keys
from supple.pipeline.keys import compute_code_digest, compute_plain
from supple.pipeline.learners import MlshSettings, Rl2Settings


def cells_with(word: str) -> set[str]:
    return {name for name, cell in CELLS.items() if word in cell.config.robot.name}


def cells_of(kind: type) -> set[str]:
    return {name for name, cell in CELLS.items() if isinstance(cell.config.learner, kind)}


CHANGES = {
    "robots/krazy_world.py": cells_with("krazy"),
    "robots/random_mazes.py": cells_with("maze-7"),
    "robots/maze.py": cells_with("point-maze"),
    "robots/mujoco_robots.py": set(MUJOCO_CELLS),
    "meta/memory/rl2_learner.py": cells_of(Rl2Settings),
    "meta/hierarchy/mlsh_learner.py": cells_of(MlshSettings),
    "benchmarks/meta/cell_train.py": set(CELLS),
    "benchmarks/meta/cells.py": set(),
    "benchmarks/policies/oracles.py": set(),
    "benchmarks/meta/measures.py": set(),
}
"""Cells whose training a change of a file is a change of."""


@pytest.fixture(autouse=True)
def _no_digest_is_left() -> Iterator[None]:
    yield
    compute_code_digest.cache_clear()


def digest_cells() -> dict[str, object]:
    compute_code_digest.cache_clear()
    stages = {name: make_train(cell.config, 0) for name, cell in CELLS.items()}
    return {
        name: (compute_code_digest(stage.module), compute_plain(stage.config, name)) for name, stage in stages.items()
    }


@pytest.mark.parametrize("changed", CHANGES)
def test_a_change_invalidates_the_cells_that_it_is_about(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, load = digest_cells(), keys._load_tree

    def load_changed(file: Path, root: Path) -> tuple[str, tuple[Path, ...]]:
        tree, imports = load(file, root)
        return tree + " and more" * (file == root / changed), imports

    monkeypatch.setattr(keys, "_load_tree", load_changed)
    after = digest_cells()
    assert {name for name in CELLS if before[name] != after[name]} == CHANGES[changed]
    assert CHANGES[changed] <= CELLS.keys()
