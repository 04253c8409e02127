"""Runs tests again and again, each time in a fork of one process that has imported torch and Lightning once.

``python forking.py`` stands in the folder whose tests it runs. It reads a line per run, a JSON list of what pytest is
to run, and answers with a line of JSON: pytest's exit code, and the type of what each failed test raised while it was
called, by node id. An error of another phase (collection, a fixture) is in the exit code alone.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from typing import Any

import pytest

SLOW_TO_IMPORT = (
    *("torch", "lightning.pytorch", "torchmetrics", "torch_fidelity", "torchvision"),
    *("scipy.special", "jsonargparse", "jaxtyping", "beartype", "lmdb", "safetensors.torch", "matplotlib.pyplot"),
)
SECONDS = 300
"""A fault may make a loop endless."""


class Failures:
    """Takes note of what failed tests raised."""

    def __init__(self) -> None:
        self.raised: dict[str, str] = {}

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.when == "call" and call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
            self.raised[item.nodeid] = call.excinfo.typename


def run(tests: list[str]) -> dict[str, Any]:
    """Run tests until one fails."""
    failures = Failures()
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main(["-x", "-p", "no:cacheprovider", *tests], plugins=[failures])
    return {"code": int(code), "raised": failures.raised}


def in_a_fork(tests: list[str]) -> dict[str, Any]:
    """Run tests in a child, and kill it if it takes too long."""
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        signal.alarm(SECONDS)
        os.write(theirs, json.dumps(run(tests)).encode())
        sys.stderr.flush()
        os._exit(0)
    os.close(theirs)
    with open(ours) as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if said else {"code": os.waitstatus_to_exitcode(status), "raised": {}}


if __name__ == "__main__":
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    gc.freeze()  # a child that collects garbage would copy all of this
    for line in sys.stdin:
        print(json.dumps(in_a_fork(json.loads(line))), flush=True)
