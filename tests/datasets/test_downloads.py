import base64
import hashlib
import io
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from supple.datasets import D4RLReader, download, downloading, write_d4rl
from supple.datasets import d4rl_infos as infos_module
from supple.datasets import downloads as downloads_module
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
    headers: dict[str, str] = field(default_factory=dict)
    """Sent in place of or beside the usual ones."""
    redirect: int = 0
    """Status of a redirection in place of the content."""
    endless: bool = False
    """Whether an answer never stops."""
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
        if site.redirect:
            self.send_response(site.redirect)
            self.send_header("Location", site.headers["Location"])
            self.end_headers()
            return
        start = 0
        if wanted and site.ranges and self.headers.get("If-Range") == site.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        else:
            self.send_response(200)
        body = site.content[start:]
        usual = {"ETag": site.etag, "Content-Length": str(len(body)) if site.length else ""}
        for name, value in (usual | site.headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body[: site.drops.pop(0)] if site.drops else body)
            while site.endless:
                self.wfile.write(bytes(2**16))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

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
    site.drops = [10_000, 10_000]
    path = fetch(site.url)
    assert path.read_bytes() == site.content
    assert site.requests == [None, "bytes=5000-", "bytes=7500-"]
    assert names(path.parent) == [path.name, f"{path.name}.json"]


def test_a_later_call_goes_on_where_the_last_gave_up(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    site.drops = [20_000, 0]
    with pytest.raises(SourceError, match=r"got 20000 bytes and then .* in 2 attempts; run the command again"):
        fetch(site.url, attempts=2)
    assert not list((tmp_path / "cache").glob("*.hdf5"))
    assert fetch(site.url).read_bytes() == site.content
    assert site.requests == [None, "bytes=10000-", "bytes=10000-"]


def test_progress_is_yielded(site: Site, tmp_path: Path) -> None:
    steps = list(downloading(site.url, tmp_path / "cache"))
    assert steps[-1] == (len(site.content), len(site.content))


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: Site, fetch: Fetch) -> None:
    site.drops = [20_000]
    with pytest.raises(SourceError):
        fetch(site.url, attempts=1)
    site.content, site.etag = site.content[:512] + site.content[512:], '"two"'
    assert fetch(site.url).read_bytes() == site.content
    assert site.requests == [None, "bytes=10000-"]  # answered with 200 and the whole file


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
    with pytest.raises(SourceError, match="expected a whole recording, got a damaged one; check the address"):
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
    site.content = b"<!DOCTYPE html><html>not found</html>"
    with pytest.raises(SourceError, match="expected a whole recording, got a page of HTML; check the address"):
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


def test_an_answer_without_an_end_stops_at_the_cap(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    site.length, site.endless = False, True
    with pytest.raises(SourceError, match="expected a file of at most 1000000 bytes, got more; check the address"):
        fetch(site.url, most_bytes=1_000_000)
    assert sum(file.stat().st_size for file in (tmp_path / "cache").iterdir()) < 1000
    site.endless, site.length = False, True
    with pytest.raises(SourceError, match=rf"of at most 1000 bytes, got {len(site.content)}; check"):
        fetch(site.url, most_bytes=1000)


def test_two_versions_under_one_etag_are_not_glued(site: Site, fetch: Fetch) -> None:
    """The bytes around the seam are fetched again and compared."""
    site.drops = [20_000]
    with pytest.raises(SourceError):
        fetch(site.url, attempts=1)
    changed = bytearray(site.content)
    changed[15_000] ^= 1
    site.content = bytes(changed)
    assert fetch(site.url).read_bytes() == site.content
    assert site.requests == [None, "bytes=10000-", None]


def test_a_digest_decides(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    digest = hashlib.sha256(site.content)
    site.headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert fetch(site.url).read_bytes() == site.content
    site.url += "?again"
    site.drops = [20_000]
    with pytest.raises(SourceError):
        fetch(site.url, attempts=1)
    changed = bytearray(site.content)
    changed[-100] ^= 1  # far from the seam
    site.content = bytes(changed)
    with pytest.raises(SourceError, match=rf"expected a file of SHA-256 .*, got {hash_glued(site)}|whole recording"):
        fetch(site.url)
    site.headers.clear()
    with pytest.raises(SourceError, match=f"expected a file of SHA-256 {'0' * 64}, got"):
        fetch(f"{site.url}&own", sha256="0" * 64)
    assert not list((tmp_path / "cache").glob("*.part"))


def hash_glued(site: Site) -> str:
    return hashlib.sha256(site.content).hexdigest()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "9" * 5000},
        {"Content-Length": "-5"},
        {"ETag": '"' + "x" * 30_000 + '"'},
        {"ETag": '"\x07"'},
        {"Repr-Digest": "sha-256=:" + "A" * 60_000 + ":"},
        {"Last-Modified": "\u00ff" * 100, "ETag": ""},
        {"Content-Encoding": "gzip"},
    ],
)
def test_hostile_headers_do_no_harm(headers: dict[str, str], site: Site, fetch: Fetch) -> None:
    site.headers = headers
    try:
        assert fetch(site.url, attempts=2).read_bytes() == site.content
    except SourceError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
    assert len(said) < 1000


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:9/x", "file:///etc/hostname", "ftp://host/x", "//host", "https://["]
)
def test_https_is_never_left(target: str) -> None:
    handler = downloads_module._KeepsTransport()
    request = urllib.request.Request("https://host/data.hdf5")
    if target == "//host":
        follow = handler.redirect_request(request, io.BytesIO(), 302, "", Message(), "https://host/other")
        assert follow is not None
        assert follow.full_url == "https://host/other"
        return
    with pytest.raises((SourceError, ValueError)):
        handler.redirect_request(request, io.BytesIO(), 302, "", Message(), target)


def test_a_redirection_to_a_file_is_refused(site: Site, fetch: Fetch) -> None:
    site.headers = {"Location": "file:///etc/hostname"}
    site.redirect = 302
    with pytest.raises(SourceError, match="expected a file, got HTTP status 302"):
        fetch(site.url, attempts=2)


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:99999/x",
        "http://127.0.0.1:port/x",
        "http://[::1/x",
        "http://host/a b",
        "http://host/a\r\nHost: other",
        "http://h\u00f6st/x",
        f"http://{'a' * 300}.com/x",
        "http://..com/x",
        f"http://host/{'x' * 5000}",
        "http://\u202ehost/x",
    ],
)
def test_hostile_addresses_are_refused(source: str, fetch: Fetch) -> None:
    with pytest.raises(SourceError, match=r"expected .*address, got") as caught:
        fetch(source, attempts=1)
    assert str(caught.value).isprintable()


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
