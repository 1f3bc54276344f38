"""One tiny run of the whole chain, made once, that tests of the command line look at."""

from pathlib import Path

import pytest

TINY = [
    "--no-report",
    *("--episode-steps", "60", "--num-train-tasks", "3", "--num-test-tasks", "2"),
    *("--generate.steps", "6000", "--generate.rows", "6", "--generate.planner.episode-steps", "500"),
    *("--extract.skill.num-updates", "40", "--extract.skill.batch-size", "32", "--extract.log-every", "10"),
    *("--meta-train.simpl.epochs", "5", "--meta-train.simpl.updates-per-epoch", "2"),
    *("--meta-train.simpl.pool-episodes", "40", "--meta-train.simpl.warmup-epochs", "1"),
    *("--meta-train.simpl.prior-tasks", "1", "--meta-train.simpl.posterior-tasks", "2"),
    *("--meta-train.simpl.batch", "16", "--meta-train.simpl.hidden", "16", "16"),
    *("--adapt.episodes", "6", "--adapt.exploration-episodes", "2", "--adapt.evaluations", "2"),
    *("--adapt.finetune.batch", "8", "--adapt.finetune.min-transitions", "8"),
]
"""Options of `supple run demo` that bring the chain down to seconds."""


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from supple.pipeline.cli import main

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["run", "demo", "--out", str(folder), *TINY]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_options() -> list[str]:
    return TINY
