"""One tiny run of the whole chain, made once, that tests of the command line look at."""

from pathlib import Path

import pytest

from supple.pipeline.testing_kills import TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from supple.pipeline.cli import main

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["run", "demo", "--out", str(folder), *TINY]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_options() -> tuple[str, ...]:
    return TINY
