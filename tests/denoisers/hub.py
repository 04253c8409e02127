"""A hub on 127.0.0.1 that gives one repository, as much of the protocol as a snapshot asks for."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(name: str, folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Serve a folder under ``owner/name``; yield the address and the names of the files that are fetched."""
    fetched: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            path = urlsplit(self.path).path
            if path.startswith(f"/api/models/{name}/tree/"):
                files = [file for file in folder.rglob("*") if file.is_file()]
                self.send([entry(file) for file in files], body)
            elif path.startswith(f"/api/models/{name}"):
                self.send({"id": name, "sha": COMMIT, "siblings": []}, body)
            elif path.startswith(f"/{name}/resolve/{COMMIT}/"):
                asked = path.removeprefix(f"/{name}/resolve/{COMMIT}/")
                fetched.update([asked] if body else [])
                self.send((folder / asked).read_bytes(), body)
            else:
                self.send_error(404)

        def send(self, content, body):
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.send_header("ETag", f'"{hashlib.sha1(raw).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(raw)

        def log_message(self, *_):
            pass

    def entry(file):
        raw = file.read_bytes()
        place = file.relative_to(folder).as_posix()
        return {"type": "file", "path": place, "size": len(raw), "oid": hashlib.sha1(raw).hexdigest()}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
