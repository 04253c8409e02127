"""One published file over HTTP: continued where it stopped, asked for again while that may help.

Why not a library: torch.hub compares a digest, but neither continues nor retries; pooch and fsspec continue nothing;
huggingface_hub continues, but fetches from its own hub. What is left is a loop around :mod:`urllib.request`.

A part is continued (``Range``) if the file's digest is known, so that a wrong continuation is found, or else if the
server confirms that the file is still the one the part came from (``If-Range``). Where it confirms nothing, the
transfer begins anew.

A server may be anybody's: what it sends ends at the size that is known, and it is left when it sends next to nothing.
"""

import http.client
import shutil
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from pathlib import Path

from amed_lightning import __version__
from amed_lightning.runtime.progress import Advance, nothing, progress

SECONDS_OF_SILENCE = 20.0
"""A server that says nothing for so long has failed."""
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further attempt, as long as none brings anything."""
SECONDS_OF_ANSWERING = 60.0
"""A server that has not told what it will send after so long has failed."""
SLOWEST, SECONDS_OF_LITTLE = 1 << 10, 60.0
"""A transfer of fewer bytes per second, over so many seconds, has failed; an attempt of fewer was in vain."""
MOST_UNTOLD = 32 << 30
"""Bytes of a file whose size nobody tells; never more than half of what the disk has room for."""
_BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that may be another a moment later."""
BLOCK = 1 << 20
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: under which it is kept.
        addresses: where it is, mirrors included, in the order to try.
        sha256: its digest, where it is known.
        size: its bytes, where they are known.
    """

    name: str
    addresses: tuple[str, ...]
    sha256: str | None = None
    size: int | None = None


class Impatient(http.client.HTTPConnection):
    """A connection that ends when the answer does not begin; a server may send its head byte by byte."""

    def getresponse(self) -> http.client.HTTPResponse:
        """Return the answer once its head is there.

        Raises:
            TimeoutError: it was not there in time; a head that is cut off looks like a whole one.
        """
        late = threading.Event()
        timer = threading.Timer(SECONDS_OF_ANSWERING, self._hang_up, [late])
        timer.daemon = True
        timer.start()
        try:
            answer = super().getresponse()
        finally:
            timer.cancel()
        if late.is_set():
            answer.close()
            raise TimeoutError(f"no answer in {SECONDS_OF_ANSWERING:.0f} seconds")
        return answer

    def _hang_up(self, late: threading.Event) -> None:
        late.set()
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class _ImpatientAndSecret(http.client.HTTPSConnection, Impatient):
    """The same over TLS."""


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(Impatient, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_ImpatientAndSecret, request)


class TransferError(Exception):
    """An address did not give the file.

    Attributes:
        again: whether it may do so when it is asked again.
    """

    def __init__(self, message: str, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


def download(address: str, file: RemoteFile, part: Path) -> None:
    """Fetch from one address, in as many requests as bring something.

    Args:
        address: where it is.
        file: what it should be; its digest is the caller's to compare.
        part: where it goes; what lies there is continued.

    Raises:
        TransferError: it cannot be had there.
        OSError: it cannot be written.
    """
    at_first = furthest = size_of(part)
    in_vain = 0
    while True:
        try:
            _request_rest(address, file, part, moving=furthest > at_first)
        except TransferError as error:
            reached = size_of(part)
            in_vain = 1 if reached - furthest >= SLOWEST else in_vain + 1
            furthest = max(furthest, reached)
            if not error.again or in_vain > len(PAUSES):
                raise
            time.sleep(PAUSES[in_vain - 1])
        else:
            _tag(part).unlink(missing_ok=True)
            return


def size_of(part: Path) -> int:
    """Return the bytes of a file that may not be there."""
    return part.stat().st_size if part.is_file() else 0


def _request_rest(address: str, file: RemoteFile, part: Path, moving: bool) -> None:
    """Ask once for what is missing, and receive it.

    Args:
        address: where it is.
        file: what it should be.
        part: where it goes.
        moving: whether the address has given anything, so that it is worth asking when it is out of reach.
    """
    request = urllib.request.Request(address, headers=_headers(file, part))
    try:
        with urllib.request.build_opener(_Http, _Https).open(request, timeout=SECONDS_OF_SILENCE) as answer:
            _receive(answer, file, part)
    except urllib.error.HTTPError as error:
        with error:
            _refused(error, part)
    except urllib.error.URLError as error:
        raise TransferError(f"the host cannot be reached ({error.reason})", again=moving) from error
    except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise TransferError(f"the connection broke ({error or type(error).__name__})", again=True) from error


def _headers(file: RemoteFile, part: Path) -> dict[str, str]:
    headers = {"User-Agent": f"amed-lightning/{__version__}"}
    tag = _tag(part).read_text() if _tag(part).is_file() else None
    if (have := size_of(part)) and (file.sha256 or tag):
        headers["Range"] = f"bytes={have}-"
        if not file.sha256:
            headers["If-Range"] = str(tag)
    return headers


def _tag(part: Path) -> Path:
    """Name the file that keeps what the server calls this version of the file."""
    return part.with_name(f"{part.name}.tag")


def _refused(error: urllib.error.HTTPError, part: Path) -> None:
    """Say what a status means; that there is no rest is fine if all is here."""
    if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        if error.headers.get("Content-Range") == f"bytes */{size_of(part)}":
            return
        part.unlink()
        raise TransferError("it is shorter than the part that was here", again=True) from error
    raise TransferError(f"HTTP {error.code} {error.reason}", again=error.code in _BUSY) from error


def _receive(answer: http.client.HTTPResponse, file: RemoteFile, part: Path) -> None:
    """Append what is sent, or begin anew if all is sent."""
    continued = answer.status == HTTPStatus.PARTIAL_CONTENT
    start = size_of(part) if continued else 0
    total = _promised(answer.headers, start)
    _require_plausible(answer.headers, file, total, part)
    if not continued:
        _keep_tag(answer.headers, part)
    with part.open("ab" if continued else "wb") as out, _megabytes(file.name, start, total) as advance:
        got, most = start, file.size or total or min(MOST_UNTOLD, start + shutil.disk_usage(part.parent).free // 2)
        began, at_begin = time.monotonic(), got
        while block := answer.read1(BLOCK):
            got += len(block)
            if got > most:
                part.unlink()
                raise TransferError(f"it sends more than {most} bytes")
            out.write(block)
            advance(len(block))
            if (seconds := time.monotonic() - began) > SECONDS_OF_LITTLE:
                if got - at_begin < SLOWEST * seconds:
                    raise TransferError(f"it sent {got - at_begin} bytes in {seconds:.0f} seconds", again=True)
                began, at_begin = time.monotonic(), got
    expected = file.size if total is None else total
    if expected is not None and got != expected:
        raise TransferError(f"it ended after {got} of {expected} bytes", again=got < expected)


def _promised(headers: Message, start: int) -> int | None:
    """Return the bytes of the whole file, as the server says.

    Raises:
        TransferError: the rest begins elsewhere.
    """
    if "Content-Range" in headers and not headers["Content-Range"].startswith(f"bytes {start}-"):
        raise TransferError(f"it was asked for the bytes from {start} and sent {headers['Content-Range']}")
    length = headers.get("Content-Length")
    if length is not None and not (length.isascii() and length.isdecimal()):
        raise TransferError(f"it says that it has {length!r:.80} bytes")
    return None if length is None else start + int(length)


def _require_plausible(headers: Message, file: RemoteFile, total: int | None, part: Path) -> None:
    """Refuse a log-in page, another file, and what the disk does not hold."""
    if headers.get("Content-Type", "").startswith("text/html"):
        raise TransferError("it answered with a web page")
    if file.size is not None and total not in (None, file.size):
        raise TransferError(f"it has {total} bytes, not {file.size}")
    needed, free = (total or 0) - size_of(part), shutil.disk_usage(part.parent).free
    if needed > free:
        raise TransferError(f"it needs {needed} bytes more, and {part.parent} has room for {free}")


def _keep_tag(headers: Message, part: Path) -> None:
    strong = headers.get("ETag", "W/").startswith('"')
    tag = headers["ETag"] if strong else headers.get("Last-Modified")
    if tag:
        _tag(part).write_text(tag)
    else:
        _tag(part).unlink(missing_ok=True)


@contextmanager
def _megabytes(name: str, start: int, total: int | None) -> Iterator[Advance]:
    """Show how much of the rest has come, where its size is known."""
    if total is None:
        yield nothing
        return
    done = 0
    with progress(f"fetch {name}", max(1, (total - start) // MEGABYTE), "MB") as show:

        def advance(amount: int, what: str = "") -> None:
            nonlocal done
            whole = done // MEGABYTE
            done += amount
            if step := done // MEGABYTE - whole:
                show(step)

        yield advance
