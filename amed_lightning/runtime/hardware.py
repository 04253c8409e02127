"""What kind of machine computes: figures are compared digit for digit only where it is the same kind."""

import platform
import re

import torch


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
