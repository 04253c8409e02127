"""Files that somebody sent end in one line, within seconds and a gibibyte, and what is in them is never run."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from . import files

HOME = Path(__file__).parents[2]
SECONDS, MEBIBYTES = 5, 1024


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What reading each of the files came to, in the order of the table."""
    folder = tmp_path_factory.mktemp("sent")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME)}
    for name in ("AMED_OFFLINE", "HF_HUB_OFFLINE"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "tests.hostile.warmed", str(folder / "read")]
    ran = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    return {found["name"]: found for found in map(json.loads, ran.stdout.splitlines())}


def faults(expected, found):
    """Name what is wrong with how a file was read."""
    *_, last = found["said"] or [""]
    text = "\n".join(found["said"])
    if found["canary"]:
        yield "it was run"
    if found["code"] != expected.code or "Traceback" in text or (expected.code == 2 and text.count("error: ") != 1):
        yield f"code {found['code']}: {text[-1000:]}"
    if expected.line not in last:
        yield f"{expected.line!r} is not in {last!r}"
    if found.get("seconds", 0) > SECONDS:
        yield f"{found['seconds']:.1f} s"
    if found.get("mebibytes", 0) > MEBIBYTES:
        yield f"{found['mebibytes']:.0f} MiB"


@pytest.mark.slow
def test_none_of_the_files_is_run_or_takes_seconds_or_gigabytes(told):
    assert told.keys() == files.FILES.keys()
    wrong = {name: [*faults(files.FILES[name], found)] for name, found in told.items()}
    assert {name: reasons for name, reasons in wrong.items() if reasons} == {}


def test_there_are_files_of_all_kinds():
    kinds = {name.split("_")[0] for name in files.FILES}
    assert len(files.FILES) >= 40
    assert kinds >= {"card", "model", "predictor", "checkpoint", "network", "state", "statistics", "schedule", "latent"}
    assert kinds >= {"captions", "image", "zip", "archive", "manifest", "trajectories", "table", "rows", "golden"}


def test_a_payload_would_leave_its_mark(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(files.Runs()))
    assert Path("canary").exists()
