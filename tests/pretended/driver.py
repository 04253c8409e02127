"""What ``torch.cuda`` says of the pretended device: there is one, it has a name, and nothing to wait for."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

NAME, CAPABILITY, MEMORY = "pretended", (0, 0), 2**33
ANSWERS = {
    "is_available": True,
    "is_initialized": True,
    "device_count": 1,
    "current_device": 0,
    "get_device_name": NAME,
    "get_device_capability": CAPABILITY,
    "get_device_properties": SimpleNamespace(name=NAME, total_memory=MEMORY, major=0, minor=0),
    "mem_get_info": (MEMORY, MEMORY),
    "is_bf16_supported": True,
    "get_rng_state_all": [],
    "set_rng_state_all": None,
    "manual_seed_all": None,
    "set_device": None,
    "empty_cache": None,
    "synchronize": None,
}


class Autocast(torch.autocast):
    """Autocast to the device's lower precision is the CPU's, whose kernels compute."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


@contextmanager
def driver() -> Iterator[None]:
    """Let ``torch.cuda`` speak of the pretended device."""
    stand_ins = {name: mock.Mock(return_value=answer) for name, answer in ANSWERS.items()}
    with (
        mock.patch.multiple(torch.cuda, **stand_ins),
        mock.patch.object(torch, "autocast", Autocast),
        mock.patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor),  # all memory is the machine's
        mock.patch.object(torch.accelerator, "current_stream", return_value=SimpleNamespace(is_capturing=bool)),
        mock.patch.object(torch._C, "_cuda_clearCublasWorkspaces", create=True),
    ):
        yield
