"""Settings for all tests."""

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

# `make test` draws the same examples every time; HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session", autouse=True)
def _temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is claimed for a whole computer, such as a robot by its name, is claimed for the tests of this process."""
    tmp_path_factory.getbasetemp()  # stays where it is, and is kept for whoever looks into a failure
    with tempfile.TemporaryDirectory(prefix="supple-", ignore_cleanup_errors=True) as place:  # short, as sockets want
        os.environ["TMPDIR"] = tempfile.tempdir = place
        yield
