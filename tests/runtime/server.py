"""A file server on 127.0.0.1 that behaves, or misbehaves, as it is told."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 12_000
"""Three blocks of a transfer, the last one partly filled."""
ETAG = '"first edition"'


@dataclass
class Request:
    range: str | None
    if_range: str | None


class Site:
    """What is served, and what was asked for."""

    def __init__(self, answers: list["Answer"]) -> None:
        self.answers, self.requests = answers, []
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/weights.pkl"

    def start(self) -> None:
        """Listen, again at the same address if it has listened before."""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.requests.append(Request(self.headers.get("Range"), self.headers.get("If-Range")))
                site._next_answer()(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _next_answer(self) -> "Answer":
        """Take the next answer; the last one is for everything that follows."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


Answer = Callable[[BaseHTTPRequestHandler], None]


def whole(content=CONTENT, ranges=True, etag=ETAG, kind="application/octet-stream"):
    """Send the file, or the part of it that is asked for."""

    def answer(handler):
        start = _start(handler, etag) if ranges else 0
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        _head(handler, 206 if start else 200, len(content) - start, etag, kind)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        handler.wfile.write(content[start:])

    return answer


def cut_after(count, content=CONTENT, etag=ETAG):
    """Promise the whole file, or the rest of it, and hang up after ``count`` more bytes."""

    def answer(handler):
        start = _start(handler, etag)
        _head(handler, 206 if start else 200, len(content) - start, etag, "application/octet-stream")
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        handler.wfile.write(content[start : start + count])
        handler.close_connection = True

    return answer


def status(code):
    """Answer with a status and nothing else."""

    def answer(handler):
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def _start(handler, etag):
    """Return where to begin: a condition that does not hold means from the start."""
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    holds = handler.headers.get("If-Range", etag) == etag
    return int(asked[1]) if asked and holds else 0


def _head(handler, code, length, etag, kind):
    handler.send_response(code)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(length))
    if etag:
        handler.send_header("ETag", etag)


@contextmanager
def serve(*answers: Answer) -> Iterator[Site]:
    """Serve with one answer after the other."""
    site = Site(list(answers))
    try:
        yield site
    finally:
        site.stop()
