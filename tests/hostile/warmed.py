"""Reads hostile files, each in a fork of one process that has imported everything once.

``python -m tests.hostile.warmed FOLDER NAME ...`` writes each file of those names in a folder of its own, runs the
command that reads it, and prints a line of JSON: the exit code, the last line of its errors, the seconds of processor
time and the mebibytes that reading took, and whether a payload was run.
"""

import importlib
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from . import files

WARM = (
    *("diffusers", "transformers", "lightning.pytorch", "torch_fidelity.feature_extractor_inceptionv3"),
    *(f"amed_lightning.cli.{verb}" for verb in ("bench", "convert", "evaluate", "fit", "models", "sample")),
    *("amed_lightning.denoisers.diffusers_checkpoint", "torchvision.datasets", "tests.denoisers.pipelines"),
)
SECONDS, ROOM = 60, 8 << 30
"""After which a child is killed, and the memory that it may have beside what it shares."""


def used() -> tuple[float, int]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def read(name: str) -> dict[str, Any]:
    """Write a file and run the command that reads it, in this process and folder."""
    from amed_lightning.cli.main import main

    Path("payload.py").write_text(files.PAYLOAD)
    command = files.FILES[name].make()
    seconds, kibibytes = used()
    code: Any = None
    try:
        main(list(command))
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    took, peak = used()
    return {"code": code, "seconds": took - seconds, "mebibytes": (peak - kibibytes) / 1024}


def in_a_fork(name: str, folder: Path) -> dict[str, Any]:
    """Read a file in a child, and kill it if it takes too long."""
    folder.mkdir(parents=True)
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        signal.alarm(SECONDS)
        os.chdir(folder)
        os.environ["AMED_CACHE"] = str(folder / "cache")
        resource.setrlimit(resource.RLIMIT_DATA, (ROOM, ROOM))
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        try:
            os.write(theirs, json.dumps(read(name)).encode())
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    os.close(theirs)
    with open(ours) as answer:
        told = answer.read()
    _, status = os.waitpid(child, 0)
    said = (folder / "said.txt").read_text(errors="replace").splitlines()
    found = {"name": name, "said": said, "canary": (folder / "canary").exists()}
    return found | (json.loads(told) if told else {"code": f"signal {-os.waitstatus_to_exitcode(status)}"})


if __name__ == "__main__":
    for module in WARM:
        importlib.import_module(module)
    home, *names = sys.argv[1:]
    for each in names or files.FILES:
        print(json.dumps(in_a_fork(each, Path(home, each))), flush=True)
