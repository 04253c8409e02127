"""Nights of a small suite, run by the command, each on a day of its own."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from amed_lightning.bench import nightly

from ..cli.command import call
from .suites import entry, write_suite

FIRST_DAY = 20_000
SERVER_SECONDS = 60
EULER, IPNDM = entry({"name": "euler"}), entry({"name": "ipndm", "order": 2})


def write_config(folder: Path, **changes: object) -> Path:
    """Write a night of the small suite, all of it below ``folder``."""
    folders = {name: str(folder / name) for name in ("golden", "tensorboard", "results")}
    suite = write_suite(folder, entries=[EULER, IPNDM])
    path = folder / "nightly.yaml"
    path.write_text(yaml.safe_dump({"suite": str(suite)} | folders | changes))
    return path


def night(folder: Path, *options: str, day: int = FIRST_DAY) -> int:
    """Run a night in this process and return its exit code."""
    config = folder / "nightly.yaml"
    if not config.is_file():
        write_config(folder)
    with mock.patch.object(nightly.time, "time", return_value=day * nightly.SECONDS_PER_DAY + 3600.0):
        return call("bench", "nightly", "--config", config, "--accelerator", "cpu", *options)


@contextmanager
def tensorboard_server(folder: Path):
    """Serve a folder with TensorBoard, as the project tells its users to; yield the address."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0"]
    command += ["--reload_multifile", "true", "--reload_multifile_inactive_secs", "-1"]
    log = folder.parent / "tensorboard.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        yield _address(server, log)
    finally:
        server.kill()
        server.wait()


def _address(server: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        for line in log.read_text().splitlines():
            if " at http" in line:
                return line.split(" at ")[1].split()[0].rstrip("/")
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def ask(address: str, path: str, **query: str):
    """Ask TensorBoard's HTTP interface, again until it has read the files."""
    deadline, answer = time.monotonic() + SERVER_SECONDS, None
    while not answer and time.monotonic() < deadline:
        with urlopen(f"{address}/data/plugin/{path}?{urlencode(query)}") as response:
            answer = json.load(response)
        time.sleep(0.2)
    return answer
