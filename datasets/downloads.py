"""Downloads recordings over HTTP: resumed where the last attempt stopped, checked, and named only when whole.

The bytes go into `<file>.part`, beside it the address and the server's validator (RFC 9110, sections 8.8, 13.1.5),
so that a file that changed on the server is fetched anew and never glued to the old half. As a validator may lie, a
resumed download asks for some bytes again and compares them, and a digest that the server (RFC 9530) or the caller
gives decides. Nothing that came over https goes on over http.
"""

from __future__ import annotations

import base64
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
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import unquote, urlsplit

from ..errors import FormatError, SourceError, describe_error
from ..plain_files import sync
from ..strict_json import load_json
from .containers import find_container
from .d4rl_infos import load_d4rl_info
from .formats import find_format
from .hdf5 import open_hdf5, walk
from .manifest import hash_file

_BLOCK_BYTES = 2**20
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})")
_DIGEST = re.compile(r"sha-256=:?([A-Za-z0-9+/]{43}=):?")
MOST_BYTES = 2**36
"""Largest file that is fetched, 64 GiB: an answer without an end must not fill the disk."""
_OVERLAP_BYTES = 2**16
"""Fetched again when a download goes on, and compared with what is there."""
_MOST_VALIDATOR = 1024
_MOST_URL = 4096


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
    promised: str = ""
    """SHA-256 that the server gives for the whole file; "" where it gives none."""


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
    source: str,
    cache_dir: str | Path,
    *,
    attempts: int = 8,
    timeout: float = 30.0,
    pause: float = 0.5,
    most_bytes: int = MOST_BYTES,
    sha256: str | None = None,
) -> Generator[tuple[int, int | None], None, Path]:
    """Downloads a file, yields (bytes there, bytes in all), and returns its path; a later call goes on after a failure.

    Args:
        source: `d4rl:<name>`, or an http or https address of a recording in one file.
        cache_dir: Folder for the file; made if need be.
        attempts: Connections in all before giving up, > 0.
        timeout: Seconds without a byte before an attempt has failed.
        pause: Seconds before the second attempt; doubled for each further one, at most 30.
        most_bytes: Largest file that is fetched.
        sha256: Of the file, hexadecimal; None where nobody knows it.

    Raises:
        SourceError: an unknown name, an address that cannot be had, a server that breaks off each time, another process
            that downloads the same file, a file that is too large, has another digest, or is no recording.
    """
    url = load_d4rl_info(source.removeprefix("d4rl:")).url if source.startswith("d4rl:") else source
    path = _cache_path(url, Path(cache_dir))
    if _is_cached(path, url):
        found = hash_file(path)
        if sha256 is not None and found != sha256.lower():
            raise SourceError(
                f"{path}: expected the download of {url} to have SHA-256 {sha256.lower()}, got {found}; correct the "
                "digest, or remove the file to fetch it again"
            )
        yield path.stat().st_size, path.stat().st_size
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with _hold(path.with_name(f"{path.name}.lock"), url), part.open("ab") as stream:
        facts = yield from _fetch(url, part, stream, attempts, timeout, pause, most_bytes)
        os.fsync(stream.fileno())
        _require_recording(part, url)
        digest = hash_file(part)
        _require_digest(part, url, digest, facts.promised if sha256 is None else sha256.lower())
        _write_facts(path, _Facts(url=url, validator=facts.validator, bytes=facts.bytes, sha256=digest))
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
    url: str, part: Path, stream: BinaryIO, attempts: int, timeout: float, pause: float, most_bytes: int
) -> Generator[tuple[int, int | None], None, _Facts]:
    problem = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(min(pause * 2 ** (attempt - 1), 30.0))
        try:
            return (yield from _fetch_once(url, part, stream, timeout, most_bytes))
        except (_Interrupted, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = describe_error(error)
    raise SourceError(
        f"{url}: expected the whole file, got {stream.tell()} bytes and then {problem} in {attempts} attempts; "
        "run the command again to go on from there"
    )


def _fetch_once(
    url: str, part: Path, stream: BinaryIO, timeout: float, most_bytes: int
) -> Generator[tuple[int, int | None], None, _Facts]:
    known = _read_facts(part, url)
    there = stream.seek(0, os.SEEK_END)
    if known is None or not known.validator or (known.bytes is not None and there > known.bytes):
        there = 0
    if known and known.bytes == there > 0:
        return known
    headers = {"Accept-Encoding": "identity", "User-Agent": "supple"}
    again = min(_OVERLAP_BYTES, there // 2)
    if known and there:
        headers |= {"Range": f"bytes={there - again}-", "If-Range": known.validator}
    with _open(url, headers, timeout) as response:
        if response.status != 206:
            there = again = 0
        total = _total_bytes(response, there - again)
        facts = _Facts(url=url, validator=_validator(response), bytes=total, promised=_read_promise(response))
        same = known is not None and known.validator == facts.validator and known.bytes in (None, total)
        if there and not (same and _repeats(part, there - again, response.read(again))):
            stream.truncate(0)
            raise _Interrupted("another file than before")
        if (total or 0) > most_bytes:
            raise _refuse_size(url, most_bytes, f"{total}")
        stream.truncate(there)
        _write_facts(part, facts)
        while block := response.read(_BLOCK_BYTES):
            if there + len(block) > most_bytes:
                stream.truncate(0)
                raise _refuse_size(url, most_bytes, "more")
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
        _KeepsTransport,
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
    except (ValueError, UnicodeError, http.client.InvalidURL) as error:  # of an address, or of one redirected to
        raise SourceError(f"{url!r:.200}: expected an address, got '{describe_error(error)}'; correct it") from error
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
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _validator(response: http.client.HTTPResponse) -> str:
    etag = response.headers.get("ETag", "")
    found = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    return found if len(found) <= _MOST_VALIDATOR and found.isprintable() else ""


def _read_promise(response: http.client.HTTPResponse) -> str:
    """SHA-256 of the whole file that the server gives, hexadecimal, or ""."""
    match = _DIGEST.search(response.headers.get("Repr-Digest", ""))
    return base64.b64decode(match[1]).hex() if match else ""


def _repeats(part: Path, begin: int, block: bytes) -> bool:
    """Whether the bytes are those that are there from `begin` on."""
    with part.open("rb") as stream:
        stream.seek(begin)
        return stream.read(len(block)) == block


def _refuse_size(url: str, most_bytes: int, got: str) -> SourceError:
    return SourceError(f"{url}: expected a file of at most {most_bytes} bytes, got {got}; check the address")


class _KeepsTransport(urllib.request.HTTPRedirectHandler):
    """Follows a server to another address, but never from https to http, nor to another protocol."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """See the base class."""
        old, new = req.type, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise SourceError(
                f"{req.full_url}: expected to go on over {old}, got a redirection to {newurl[:200]!r}; give the "
                f"file's own "
                "address"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_recording(part: Path, url: str) -> None:
    try:
        find_format(part)
        if find_container(part) == "hdf5":
            with open_hdf5(part) as file:
                walk(file, part)
    except SourceError as error:
        found = error.found if isinstance(error, FormatError) else "a damaged one"
        part.unlink()
        raise SourceError(f"{url}: expected a whole recording, got {found}; check the address") from error


def _require_digest(part: Path, url: str, digest: str, promised: str) -> None:
    if promised and digest != promised:
        part.unlink()
        raise SourceError(
            f"{url}: expected a file of SHA-256 {promised}, got {digest}; it changed on the way or on the server: run "
            "the command again"
        )


def _cache_path(url: str, cache_dir: Path) -> Path:
    try:
        parts = urlsplit(url)
        port = parts.port
        parts.hostname and parts.hostname.encode("idna")
    except (ValueError, UnicodeError) as error:
        raise SourceError(f"{url!r:.200}: expected an address, got '{error}'; correct it") from error
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= _MOST_URL and port != 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise SourceError(
            f"{url!r:.200}: expected d4rl:<name> or an http or https address, got another; correct it, with %20 for "
            f"spaces"
        )
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
