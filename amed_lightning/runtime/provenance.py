"""What produced a result: versions, device, commit. Long work writes it, with its configuration, to ``run.json``.

Figures are compared digit for digit only where :func:`hardware` is the same.
"""

import json
import platform
import re
import subprocess
import time
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import torch

from amed_lightning.config import canonical_json, digest, file_digest, write_atomically

OURS = "amed-lightning"
PACKAGES = (OURS, "torch", "lightning", "torch-fidelity", "numpy")
PACKAGE = Path(__file__).parent.parent


def provenance(device: torch.device, world_size: int) -> dict[str, Any]:
    """Return the versions, device, commit, digest of the code and time of this run."""
    return {
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "world_size": world_size,
        "commit": commit(),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "source": source_digest(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def hardware(device: torch.device) -> str:
    """Return the device's class and instruction set, as a name for a folder.

    The instruction set is the one that PyTorch's kernels use, which ``ATEN_CPU_CAPABILITY`` may lower.

    >>> hardware(torch.device("cpu")).startswith("cpu-")
    True
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        parts = ["cuda", torch.cuda.get_device_name(device), f"sm{major}{minor}"]
    else:
        parts = [device.type, platform.machine(), torch.backends.cpu.get_cpu_capability()]
    return re.sub(r"[^a-z0-9_]+", "-", "-".join(parts).lower())


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
    files = sorted(PACKAGE.rglob("*.py"))
    return digest({str(file.relative_to(PACKAGE)): file_digest(file) for file in files})


def commit() -> str | None:
    """Return the commit of this code: its checkout's, or the one it was installed from (PEP 610), if there is any."""
    return _git("rev-parse", "HEAD") or _installed_commit()


def _installed_commit() -> str | None:
    try:
        installed = distribution(OURS)
        record: dict[str, Any] = json.loads(installed.read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    is_this_code = Path(str(installed.locate_file(PACKAGE.name))).resolve() == PACKAGE.resolve()
    return record.get("vcs_info", {}).get("commit_id") if is_this_code else None


def commit_time() -> float:
    """Return when the checkout's commit was made, in seconds since 1970; now, where there is no checkout."""
    written = _git("show", "--no-patch", "--format=%ct", "HEAD")
    return float(written) if written else time.time()


def _git(*arguments: str) -> str | None:
    """Ask git about the package's own checkout; None where it lies in none, or in another repository's folders."""

    def answer(*question: str) -> str:
        asked = ["git", "-C", str(PACKAGE), *question]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    try:
        answer("ls-files", "--error-unmatch", "__init__.py")
        if Path(answer("rev-parse", "--show-toplevel")).resolve() != PACKAGE.parent.resolve():
            return None
        return answer(*arguments)
    except (OSError, subprocess.CalledProcessError):
        return None
