"""Downloads HDF5 files over HTTP: resumed where the last attempt stopped, checked, and named only when whole.

The bytes go into `<file>.part`, beside it the address and the server's validator (RFC 9110, sections 8.8, 13.1.5),
so that a file that changed on the server is fetched anew and never glued to the old half.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from ..errors import SourceError
from ..plain_files import sync
from ..strict_json import load_json
from .d4rl_infos import load_d4rl_info
from .hdf5 import open_hdf5, walk
from .manifest import hash_file

_BLOCK_BYTES = 2**20
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What is known about a file that is being, or was, downloaded."""

    url: str
    validator: str
    """Strong ETag or Last-Modified; "" when the server gives neither, and the file cannot be resumed."""
    bytes: int | None
    """Size; None when the server does not say."""
    sha256: str = ""
    """Of the whole file, once it is there."""


class _Interrupted(Exception):
    """The connection broke or the server asks to come back; worth another attempt."""


def download(source: str, cache_dir: str | Path, *, attempts: int = 8, timeout: float = 30.0) -> Path:
    """Downloads a file unless it is in the cache; see `downloading` for arguments and errors."""
    steps = downloading(source, cache_dir, attempts=attempts, timeout=timeout)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return Path(stop.value)


def downloading(
    source: str, cache_dir: str | Path, *, attempts: int = 8, timeout: float = 30.0, pause: float = 0.5
) -> Generator[tuple[int, int | None], None, Path]:
    """Downloads a file, yields (bytes there, bytes in all), and returns its path; a later call goes on after a failure.

    Args:
        source: `d4rl:<name>`, or an http or https address of an HDF5 file.
        cache_dir: Folder for the file; made if need be.
        attempts: Connections in all before giving up, > 0.
        timeout: Seconds without a byte before an attempt has failed.
        pause: Seconds before the second attempt; doubled for each further one, at most 30.

    Raises:
        SourceError: an unknown name, an address that cannot be had, a server that breaks off each time, another process
            that downloads the same file, or something that is no whole HDF5 file.
    """
    url = load_d4rl_info(source.removeprefix("d4rl:")).url if source.startswith("d4rl:") else source
    path = _cache_path(url, Path(cache_dir))
    if _is_cached(path, url):
        yield path.stat().st_size, path.stat().st_size
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with _hold(path.with_name(f"{path.name}.lock"), url), part.open("ab") as stream:
        facts = yield from _fetch(url, part, stream, attempts, timeout, pause)
        os.fsync(stream.fileno())
        _require_hdf5(part, url)
        _write_facts(path, _Facts(url=url, validator=facts.validator, bytes=facts.bytes, sha256=hash_file(part)))
        os.replace(part, path)
        _facts_path(part).unlink(missing_ok=True)
        sync(path.parent)
    return path


@contextmanager
def _hold(lock: Path, url: str) -> Iterator[None]:
    """Keeps other processes off the same file; the lock ends with its process, however that ends."""
    with lock.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = lock.exists() and os.path.samestat(os.fstat(stream.fileno()), lock.stat())
        except BlockingIOError:
            held = False
        if not held:
            raise SourceError(f"{lock}: expected no other download of {url}, got one; wait for it and run again")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _fetch(
    url: str, part: Path, stream: BinaryIO, attempts: int, timeout: float, pause: float
) -> Generator[tuple[int, int | None], None, _Facts]:
    problem = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(min(pause * 2 ** (attempt - 1), 30.0))
        try:
            return (yield from _fetch_once(url, part, stream, timeout))
        except (_Interrupted, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = " ".join(str(error).split()) or type(error).__name__
    raise SourceError(
        f"{url}: expected the whole file, got {stream.tell()} bytes and then {problem} in {attempts} attempts; "
        "run the command again to go on from there"
    )


def _fetch_once(
    url: str, part: Path, stream: BinaryIO, timeout: float
) -> Generator[tuple[int, int | None], None, _Facts]:
    known = _read_facts(part, url)
    there = stream.seek(0, os.SEEK_END)
    if known is None or not known.validator or (known.bytes is not None and there > known.bytes):
        there = 0
    if known and known.bytes == there > 0:
        return known
    headers = {"Accept-Encoding": "identity", "User-Agent": "supple"}
    if known and there:
        headers |= {"Range": f"bytes={there}-", "If-Range": known.validator}
    with _open(url, headers, timeout) as response:
        if response.status != 206:
            there = 0
        total = _total_bytes(response, there)
        facts = _Facts(url=url, validator=_validator(response), bytes=total)
        if known and there and (facts.validator != known.validator or known.bytes not in (None, total)):
            stream.truncate(0)
            raise _Interrupted("another file than before")
        stream.truncate(there)
        _write_facts(part, facts)
        while block := response.read(_BLOCK_BYTES):
            stream.write(block)
            stream.flush()
            there += len(block)
            yield there, total
    if total is not None and there != total:
        if there > total:
            stream.truncate(0)
        raise _Interrupted(f"a connection that closed after {there} of {total} bytes")
    return facts


def _open(url: str, headers: dict[str, str], timeout: float) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
    ):
        opener.add_handler(handler())
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _RETRIED_STATUS:
            raise _Interrupted(f"HTTP status {error.code}") from error
        raise SourceError(f"{url}: expected a file, got HTTP status {error.code}; check the address") from error
    except urllib.error.URLError as error:
        raise _Interrupted(f"no connection ({error.reason})") from error
    if not isinstance(response, http.client.HTTPResponse):
        raise SourceError(f"{url}: expected an http or https answer, got another protocol; check the address")
    return response


def _total_bytes(response: http.client.HTTPResponse, there: int) -> int | None:
    if response.status == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != there:
            raise _Interrupted("another range than asked for")
        return int(match[2])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _validator(response: http.client.HTTPResponse) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _require_hdf5(part: Path, url: str) -> None:
    try:
        with open_hdf5(part) as file:
            walk(file, part)
    except SourceError as error:
        part.unlink()
        raise SourceError(f"{url}: expected a whole HDF5 file, got other bytes; check the address") from error


def _cache_path(url: str, cache_dir: Path) -> Path:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceError(f"{url}: expected d4rl:<name> or an http or https address, got another; correct it")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", unquote(parts.path).rsplit("/", 1)[-1]).lstrip(".") or "download"
    return cache_dir / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"


def _is_cached(path: Path, url: str) -> bool:
    """Whether the file is there with the bytes that were downloaded; a damaged one is fetched again."""
    facts = _read_facts(path, url)
    return facts is not None and path.is_file() and hash_file(path) == facts.sha256


def _facts_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_facts(path: Path, url: str) -> _Facts | None:
    try:
        facts = _Facts(**load_json(_facts_path(path), dict, SourceError, "download it again"))
    except (SourceError, TypeError):
        return None
    return facts if facts.url == url else None


def _write_facts(path: Path, facts: _Facts) -> None:
    target = _facts_path(path)
    partial = target.with_name(f"{target.name}.partial")
    partial.write_text(json.dumps(asdict(facts), sort_keys=True))
    sync(partial)
    os.replace(partial, target)
