"""`supple ingest ADDRESS`: a file behind a real HTTP server on this machine, its digest and the cap on its size."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from supple.pipeline.cli import main
from tests.datasets.make_sources import make_d4rl, record


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keeps the test output clean."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    make_d4rl(tmp_path / "site", record())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/play.hdf5"
    server.shutdown()
    thread.join()
    server.server_close()


def test_digest_and_cap(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ingest(*options: str) -> tuple[int, str]:
        command = ["ingest", address, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out"), *options]
        code = main(command)
        return code, capsys.readouterr().err

    content = (tmp_path / "site" / "play.hdf5").read_bytes()
    code, said = ingest("--max-bytes", "1000")
    assert (code, f"expected a file of at most 1000 bytes, got {len(content)}" in said) == (2, True)
    code, said = ingest("--sha256", "0" * 64)
    assert (code, "SHA-256" in said) == (2, True), said
    assert not (tmp_path / "out").exists()
    assert ingest("--sha256", hashlib.sha256(content).hexdigest().upper())[0] == 0
    code, said = ingest("--sha256", "1" * 64)  # now from the cache
    assert (code, "SHA-256" in said) == (2, True), said


def test_a_digest_that_is_none_or_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", "http://127.0.0.1:1/x", "--sha256", "12", "--out", str(tmp_path / "out")]) == 2
    assert "--sha256: expected 64 hexadecimal digits, got '12'" in capsys.readouterr().err
    source = make_d4rl(tmp_path, record())
    assert main(["ingest", str(source), "--sha256", "0" * 64, "--out", str(tmp_path / "out")]) == 2
    assert "expected an address to download" in capsys.readouterr().err
