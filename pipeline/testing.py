"""A toy stage, a random walk that can be resumed, for tests of the stage runner; `python -m` runs it in a process."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from .progress import PlainProgress
from .stage import Machine, Stage, StageResult, Work, run_stage


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkConfig:
    """How far the walk goes."""

    steps: int = 200
    scale: float = 1.0
    widths: tuple[int, ...] = (2, 3)
    label: str = "walk"
    pause: float = 0.0


class Walk:
    """The walker; its state is its position, step and generator."""

    def __init__(self, config: WalkConfig, seed: int) -> None:
        self.config, self.step = config, 0
        self.rng = np.random.default_rng(seed)
        self.position = 0.0

    def state(self) -> tuple[list[float], dict[str, Any]]:
        """All that the next step depends on."""
        return [self.position], {"step": self.step, "rng": self.rng.bit_generator.state}

    def load_state(self, tensors: list[float], facts: dict[str, Any]) -> None:
        """Goes on where `state` was taken."""
        self.position, self.step = tensors[0], facts["step"]
        self.rng.bit_generator.state = facts["rng"]

    def run(self) -> Iterator[dict[str, float]]:
        """Yields one record per step."""
        while self.step < self.config.steps:
            self.position += self.config.scale * float(self.rng.standard_normal())
            self.step += 1
            time.sleep(self.config.pause)
            yield {"step": self.step, "position": self.position, "steps_per_s": time.monotonic()}


def save(path: Path, tensors: list[float], facts: dict[str, Any]) -> None:
    """Writes a checkpoint as JSON, by rename."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps([tensors, facts]))
    temporary.replace(path)


def load(path: Path) -> tuple[list[float], dict[str, Any]]:
    """Reads what `save` wrote.

    Raises:
        RunError: it is not JSON.
    """
    try:
        tensors, facts = json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f"{path}: expected JSON, got damage; remove it") from error
    return tensors, facts


def walk(work: Work) -> None:
    """The stage's body: walks, then writes the end of the walk and of each input's walk."""
    walker = Walk(work.stage.config, work.seed)
    if checkpoint := work.restore(save, load):
        walker.load_state(checkpoint.tensors, checkpoint.facts)
    work.consume(walker.run(), total=walker.config.steps, start=walker.step, state=walker.state)
    for name, path in work.inputs.items():
        (work.folder / f"{name}.txt").write_bytes((path / "end.txt").read_bytes() if path.is_dir() else b"")
    (work.folder / "end.txt").write_text(repr(walker.position))


def make_stage(folder: Path, config: WalkConfig, *, seed: int = 0, name: str = "walk", **inputs: Path) -> Stage:
    """A walk that publishes into `folder`."""
    return Stage(
        name=name,
        folder=folder,
        config=config,
        inputs=inputs,
        seed=seed,
        module="errors.py",
        libraries=("numpy",),
        body=walk,
    )


def run_toy(folder: Path, config: WalkConfig, *, period: float = 0.0, **options: Any) -> StageResult:
    """Runs the walk; a period of 0 saves a checkpoint at each step."""
    machine = Machine(checkpoint_period=period, tensorboard=False)
    return run_stage(make_stage(folder, config, **options), machine, PlainProgress(sys.stderr, sys.stdout, 1e9))


if __name__ == "__main__":
    result = run_toy(Path(sys.argv[1]), WalkConfig(steps=int(sys.argv[2]), pause=float(sys.argv[3])))
    print(result.status)
