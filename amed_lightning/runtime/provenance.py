"""What produced a result: versions, device, commit. Long work writes it, with its configuration, to ``run.json``."""

import json
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from amed_lightning.config import canonical_json, digest, file_digest, write_atomically

PACKAGES = ("amed-lightning", "torch", "lightning", "torchmetrics", "numpy")


def provenance(device: torch.device, world_size: int) -> dict[str, Any]:
    """Return the versions, device, commit and time of this run."""
    return {
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_run_record(
    folder: Path, config: object, digests: dict[str, str], source: dict[str, Any], restart: bool = False
) -> None:
    """Write ``run.json``: configuration, digests and provenance.

    Args:
        folder: of the run.
        config: what the run was asked to do.
        digests: of the model, the store, ...
        source: what :func:`provenance` returned.
        restart: keep the record of the first start, and write ``restart-<number>.json`` beside it if this one differs
            in more than its time.
    """
    record = {"config": json.loads(canonical_json(config)), "digests": digests, **source}
    path = folder / "run.json"
    if restart and path.is_file():
        if json.loads(path.read_text()) | {"time": source["time"]} == record:
            return
        path = folder / f"restart-{len(list(folder.glob('restart-*.json'))) + 1}.json"
    write_atomically(path, json.dumps(record, indent=2).encode() + b"\n")


def source_digest() -> str:
    """Return the SHA-256 of the package's own code: what a commit and a dirty tree come to, also without git."""
    package = Path(__file__).parent.parent
    files = sorted(package.rglob("*.py"))
    return digest({str(file.relative_to(package)): file_digest(file) for file in files})


def commit_time() -> float:
    """Return when the commit was made, in seconds since 1970; now, where there is no git."""
    written = _git("show", "--no-patch", "--format=%ct", "HEAD")
    return float(written) if written else time.time()


def _git(*arguments: str) -> str | None:
    """Ask git about the folder the package lies in; None outside a checkout."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
