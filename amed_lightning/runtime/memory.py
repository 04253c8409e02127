"""How much memory there is to take, and when nobody has to look for what is free again."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_LEAST = 1 << 30
"""Bytes that are taken to be free on Windows, which Python does not tell."""


def free_memory(device: torch.device) -> int:
    """Return the bytes that new tensors on a device may take.

    Of the machine's memory this is what the kernel calls available (which counts what it could drop from its caches),
    and no more than a control group allows, as a cluster's job or a container has one.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([_available(Path("/proc/meminfo")), *_control_group_limits(Path("/proc/self/cgroup"))])


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no cycles in this block, which keeps what it makes: to look through that again and again is slow."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _available(meminfo: Path) -> int:
    """Read the available memory; where the kernel does not tell, take all that is built in, or what any machine has."""
    if not hasattr(os, "sysconf"):
        return _LEAST
    if not meminfo.exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _control_group_limits(membership: Path, mount: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Yield the memory limits of this process' control groups, of both versions, and of the groups around them."""
    lines = membership.read_text().splitlines() if membership.exists() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers not in ("", "memory"):
            continue
        root, name = (mount, "memory.max") if controllers == "" else (mount / "memory", "memory.limit_in_bytes")
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            limit = (folder / name).read_text().strip() if (folder / name).is_file() else "max"
            if limit != "max":
                yield int(limit)
