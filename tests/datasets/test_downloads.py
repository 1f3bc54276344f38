import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from supple.datasets import D4RLReader, download, downloading, write_d4rl
from supple.datasets import d4rl_infos as infos_module
from supple.errors import SourceError


@dataclass
class Site:
    """One file behind a real HTTP server on this machine, and how the server misbehaves."""

    content: bytes
    etag: str = '"one"'
    drops: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off."""
    statuses: list[int] = field(default_factory=list)
    """Statuses of the next answers, before any content."""
    ranges: bool = True
    length: bool = True
    requests: list[str | None] = field(default_factory=list)
    """The Range header of every request."""
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        wanted = self.headers.get("Range")
        site.requests.append(wanted)
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        start = 0
        if wanted and site.ranges and self.headers.get("If-Range") == site.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        else:
            self.send_response(200)
        body = site.content[start:]
        if site.etag:
            self.send_header("ETag", site.etag)
        if site.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: site.drops.pop(0)] if site.drops else body)

    def log_message(self, *_: Any) -> None:
        """Keeps the test output clean."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    rows = np.arange(3000)
    path = write_d4rl(
        tmp_path / "source.hdf5",
        {
            "observations": np.stack([rows, rows], axis=1),
            "actions": rows[:, None],
            "rewards": rows,
            "terminals": rows % 100 == 99,
        },
    )
    site = Site(path.read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"site": site}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/data/play.hdf5"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., Path]:
    def run(source: str, **options: Any) -> Path:
        steps = downloading(source, tmp_path / "cache", pause=0.0, timeout=5.0, **options)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return Path(stop.value)

    return run


Fetch = Callable[..., Path]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_fetched_once(site: Site, tmp_path: Path) -> None:
    path = download(site.url, tmp_path / "cache")
    assert path.read_bytes() == site.content
    assert D4RLReader(path).describe().episodes == 30
    assert download(site.url, tmp_path / "cache") == path
    assert site.requests == [None]
    assert names(path.parent) == [path.name, f"{path.name}.json"]


def test_a_dropped_connection_is_resumed(site: Site, fetch: Fetch) -> None:
    site.drops = [10_000, 5_000]
    path = fetch(site.url)
    assert path.read_bytes() == site.content
    assert site.requests == [None, "bytes=10000-", "bytes=15000-"]
    assert names(path.parent) == [path.name, f"{path.name}.json"]


def test_a_later_call_goes_on_where_the_last_gave_up(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    site.drops = [20_000, 0]
    with pytest.raises(SourceError, match=r"got 20000 bytes and then .* in 2 attempts; run the command again"):
        fetch(site.url, attempts=2)
    assert not list((tmp_path / "cache").glob("*.hdf5"))
    assert fetch(site.url).read_bytes() == site.content
    assert site.requests == [None, "bytes=20000-", "bytes=20000-"]


def test_progress_is_yielded(site: Site, tmp_path: Path) -> None:
    steps = list(downloading(site.url, tmp_path / "cache"))
    assert steps[-1] == (len(site.content), len(site.content))


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: Site, fetch: Fetch) -> None:
    site.drops = [20_000]
    with pytest.raises(SourceError):
        fetch(site.url, attempts=1)
    site.content, site.etag = site.content[:512] + site.content[512:], '"two"'
    assert fetch(site.url).read_bytes() == site.content
    assert site.requests == [None, "bytes=20000-"]  # answered with 200 and the whole file


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": ""}, {"etag": 'W/"weak"'}])
def test_a_server_that_cannot_resume(site: Site, fetch: Fetch, change: dict[str, Any]) -> None:
    for name, value in change.items():
        setattr(site, name, value)
    site.drops = [10_000]
    assert fetch(site.url).read_bytes() == site.content


def test_a_server_that_does_not_say_the_length(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    site.length = False
    assert fetch(site.url).read_bytes() == site.content
    site.drops = [10_000]
    site.url += "?again"
    with pytest.raises(SourceError, match="expected a whole HDF5 file, got other bytes; check the address"):
        fetch(site.url)
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(site: Site, fetch: Fetch) -> None:
    site.statuses = [503, 429]
    assert fetch(site.url).read_bytes() == site.content
    assert len(site.requests) == 3
    site.statuses = [404]
    with pytest.raises(SourceError, match="expected a file, got HTTP status 404; check the address"):
        fetch(f"{site.url}?gone")
    assert len(site.requests) == 4


def test_attempts_are_bounded(site: Site, fetch: Fetch) -> None:
    site.statuses = [503] * 10
    with pytest.raises(SourceError, match="got 0 bytes and then HTTP status 503 in 3 attempts"):
        fetch(site.url, attempts=3)
    assert len(site.requests) == 3


def test_no_server(fetch: Fetch) -> None:
    with pytest.raises(SourceError, match=r"no connection \(.*refused\) in 2 attempts"):
        fetch("http://127.0.0.1:9/play.hdf5", attempts=2)


def test_something_that_is_no_hdf5(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    site.content = b"<html>not found</html>"
    with pytest.raises(SourceError, match="expected a whole HDF5 file, got other bytes; check the address"):
        fetch(site.url)
    assert not list((tmp_path / "cache").glob("*.hdf5"))


def test_a_damaged_cache_is_fetched_again(site: Site, fetch: Fetch) -> None:
    path = fetch(site.url)
    path.write_bytes(site.content[:-1] + b"?")
    assert fetch(site.url).read_bytes() == site.content
    assert len(site.requests) == 2


def test_two_downloads_of_one_file(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    site.drops = [10_000]
    first = downloading(site.url, tmp_path / "cache", pause=0.0)
    next(first)
    with pytest.raises(SourceError, match=r"expected no other download of .*, got one; wait for it"):
        fetch(site.url)
    first.close()
    assert fetch(site.url).read_bytes() == site.content


@pytest.mark.parametrize("source", ["file:///etc/hostname", "ftp://host/x.hdf5", "play.hdf5", "http:///x"])
def test_other_addresses_are_refused(source: str, fetch: Fetch) -> None:
    with pytest.raises(SourceError, match="expected d4rl:<name> or an http or https address, got another"):
        fetch(source)


def test_d4rl_names(site: Site, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    infos = SimpleNamespace(DATASET_URLS={"maze2d-test-v1": site.url}, REF_MIN_SCORE={}, REF_MAX_SCORE={})
    monkeypatch.setattr(infos_module, "_load_infos", lambda: infos)
    assert fetch("d4rl:maze2d-test-v1").read_bytes() == site.content
    with pytest.raises(SourceError, match="such as maze2d-test-v1, got 'maze2d-other'"):
        fetch("d4rl:maze2d-other")


def test_without_the_d4rl_package(monkeypatch: pytest.MonkeyPatch, fetch: Fetch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SourceError, match="got none installed; run `pip install --no-deps d4rl`"):
        fetch("d4rl:maze2d-large-v1")
