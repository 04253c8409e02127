"""What a machine has, and what is wrong with it, as findings.

Everything is asked of the machine itself: the installed packages' own metadata, the files in PATH, the environment. A
problem is what will stop a run; a warning what may surprise.
"""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, metadata, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from amed_lightning.runtime.cache import cache_folder
from amed_lightning.runtime.network import is_offline
from amed_lightning.runtime.slurm import number

OURS = "amed-lightning"
GIGABYTE = 1e9
ROOM_FOR_A_MODEL = 5 * GIGABYTE
"""The largest published file has 4.3 GB."""


@dataclass(frozen=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        text: what was found.
        level: how bad it is.
    """

    text: str
    level: Literal["fact", "warning", "problem"] = "fact"


def packages() -> Iterator[Finding]:
    """Compare what is installed with what the package asks for; extras may be missing."""
    yield Finding(f"Python {platform.python_version()}, {platform.platform()}")
    own = _installed(Requirement(OURS))
    yield own
    if own.level == "problem":
        return
    needed = [Requirement(text) for text in metadata(OURS).get_all("Requires-Dist") or []]
    for requirement in needed:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _installed(requirement)
    for extra in metadata(OURS).get_all("Provides-Extra") or []:
        of_extra = [part for part in needed if part.marker is not None and f'"{extra}"' in str(part.marker)]
        missing = [part.name for part in of_extra if _installed(part).level != "fact"]
        lacks = f"lacks {', '.join(missing)}: pip install '{OURS}[{extra}]'"
        yield Finding(f"extra {extra}: {lacks if missing else 'installed'}")


def _installed(requirement: Requirement) -> Finding:
    wanted = f"{requirement.name}{requirement.specifier}"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Finding(f"{wanted} is not installed", "problem")
    if not requirement.specifier.contains(found, prereleases=True):
        return Finding(f"{requirement.name} {found} is installed, and {wanted} is needed", "problem")
    return Finding(f"{requirement.name} {found}")


def script(name: str = "lightning") -> Iterator[Finding]:
    """Tell who owns a script that more than one package installs: the one that was installed last."""
    owners = {entry.dist.name for entry in entry_points(group="console_scripts", name=name) if entry.dist is not None}
    if others := sorted(owners - {OURS}):
        yield Finding(f"{', '.join(others)} also installs a script `{name}`; `{OURS}` is always ours", "warning")
    path = shutil.which(name)
    if path is None:
        yield Finding(f"no `{name}` in PATH; `python -m amed_lightning` is the same program", "warning")
    elif "amed_lightning" in Path(path).read_text(errors="replace"):
        yield Finding(f"`{name}` is {path}, ours")
    else:
        yield Finding(f"`{name}` is {path}, another package's: use `{OURS}`, or install ours again", "warning")


def devices() -> Iterator[Finding]:
    """List what torch computes on."""
    import torch  # not for every question

    yield Finding(f"CPU: {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores")
    if (threads := os.environ.get("OMP_NUM_THREADS", "1")) != "1":
        yield Finding(f"OMP_NUM_THREADS is {threads}: several processes on shared cores will be slow", "warning")
    for index in range(torch.cuda.device_count()):
        has = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}: {has.name}, {has.total_memory / GIGABYTE:.0f} GB")
    if torch.backends.mps.is_available():
        yield Finding("mps: Apple's GPU, which has no float64 and is not used")
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        yield Finding(f"nvidia-smi is here, but torch {torch.__version__} sees no GPU: is it a CPU build?", "warning")


def slurm() -> Iterator[Finding]:
    """Tell what SLURM says of the job that this runs in, and what Lightning will not accept."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith("SLURM_")}
    if not found:
        yield Finding("no SLURM variables: this is no job")
        return
    for name in ("JOB_ID", "JOB_NAME", "JOB_PARTITION", "NNODES", "NTASKS", "NTASKS_PER_NODE", "PROCID", "STEP_ID"):
        if f"SLURM_{name}" in found:
            yield Finding(f"SLURM_{name}={found[f'SLURM_{name}']}")
    if number("SLURM_NTASKS", 1) == 1:
        return
    if "SLURM_NTASKS_PER_NODE" not in found:
        yield Finding("several tasks without --ntasks-per-node: Lightning refuses them", "problem")
    if found.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        yield Finding(f"a job called {found['SLURM_JOB_NAME']}: Lightning ignores its tasks", "warning")
    elif "SLURM_STEP_ID" not in found:
        yield Finding("several tasks, but this was not started by srun: Lightning would wait for the others", "warning")


def folders() -> Iterator[Finding]:
    """Measure the caches and the runs, and the room that is left."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    caches = {
        "AMED_CACHE": cache_folder(),
        "HF_HOME": Path(os.environ.get("HF_HOME") or home / "huggingface"),
    }
    for variable, folder in caches.items():
        yield Finding(f"{variable}: {folder}, {_size(folder) / GIGABYTE:.2f} GB")
    yield Finding(f"runs: {Path('runs').resolve()}, {_size(Path('runs')) / GIGABYTE:.2f} GB")
    for folder in (cache_folder(), Path("runs")):
        place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        free = shutil.disk_usage(place).free
        text = f"room at {place}: {free / GIGABYTE:.1f} GB"
        if not os.access(place, os.W_OK) or not place.is_dir():
            yield Finding(f"{place}, for {folder}, cannot be written", "problem")
        elif free < ROOM_FOR_A_MODEL:
            yield Finding(f"{text}, less than the {ROOM_FOR_A_MODEL / GIGABYTE:.0f} GB of a large model", "warning")
        else:
            yield Finding(text)
    if is_offline():
        yield Finding("AMED_OFFLINE is set: nothing is fetched")


def _size(folder: Path) -> int:
    """Return the bytes of the files below a folder, links not followed."""
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files)
