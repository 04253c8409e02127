"""A network that is larger than the device: its weights stay in the machine's memory, and visit layer by layer."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_module
from torch import Tensor, nn


class Offloaded(nn.Module):
    """A network of diffusers whose weights a move to a device leaves where they are; it computes there all the same.

    Each layer's weights are copied before it runs and dropped after it (accelerate), at every run of the network.

    Args:
        network: whose weights are in the machine's memory.

    Attributes:
        device: where it computes.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.device = network, torch.device("cpu")

    @property
    def config(self) -> Any:
        """The network's own."""
        return self.network.config

    @property
    def dtype(self) -> torch.dtype:
        """The weights' precision."""
        return self.network.dtype

    def forward(self, *told: Any, **options: Any) -> Any:
        """Run the network."""
        return self.network(*told, **options)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Offloaded":
        remove_hook_from_module(self.network, recurse=True)  # the weights are back
        super()._apply(lambda tensor: tensor.to(fn(tensor.new_empty(0)).dtype), recurse)  # type: ignore[no-untyped-call]
        self.device = fn(torch.empty(0, device=self.device)).device
        if self.device.type != "cpu":
            cpu_offload(self.network, self.device, offload_buffers=True)
        return self
