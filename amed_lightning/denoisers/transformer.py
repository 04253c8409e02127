"""A transformer of diffusers as the network inside a denoiser.

The bottleneck is what its middle block says of the image's tokens, averaged over channels, on their grid, and averaged
down to at most 8x8. Weights that a folder has in half precision stay so where single is asked for, which is that of the
states, and only double changes them.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.bottleneck import observe, observed
from amed_lightning.denoisers.unet import Outputs
from amed_lightning.flow.model import Condition, Features
from amed_lightning.tensors import Images

Told: TypeAlias = Any
"""What a family's transformer is told besides latents and time, for each sample of a batch."""
Conditioning: TypeAlias = Callable[[Condition | None, int], Told]
"""Gives it for a batch's conditions and its size."""
Ask: TypeAlias = Callable[[Any, Images, Float[Tensor, "batch"], Told], Outputs]
"""Calls a transformer with latents of its own precision, times and what it is told."""
_LARGEST_GRID = 8


class Transformer(nn.Module):
    """A transformer and what it is told.

    Args:
        transformer: of diffusers.
        shape: channels, height, width of a latent.
        patch: height and width of a token in the latent.
        middle: path of the block whose output is the bottleneck; of several outputs the image's tokens are the last.
        ask: calls it.
        conditioning: tells it.

    Attributes:
        feature_size: length of the features.
    """

    def __init__(
        self,
        transformer: Any,
        shape: tuple[int, int, int],
        patch: int,
        middle: str,
        ask: Ask,
        conditioning: Conditioning,
    ) -> None:
        super().__init__()
        self.transformer, self.shape, self.ask, self.conditioning = transformer, shape, ask, conditioning
        self.grid = (shape[1] // patch, shape[2] // patch)
        self.pooled = (min(self.grid[0], _LARGEST_GRID), min(self.grid[1], _LARGEST_GRID))
        self.feature_size = self.pooled[0] * self.pooled[1]
        observe(transformer.get_submodule(middle))

    def forward(self, x: Images, time: Float[Tensor, "batch"], condition: Condition | None) -> tuple[Outputs, Features]:
        """Return the prediction and the features, at the precision of ``x``."""
        told = self.conditioning(condition, len(x))
        with observed() as outputs:
            output = self.ask(self.transformer, x.to(self.transformer.dtype), time, told)
        said: Any = outputs[-1]
        tokens = said if isinstance(said, Tensor) else said[-1]
        on_grid = tokens.to(x.dtype).mean(-1).unflatten(1, self.grid)
        return output.to(x.dtype), F.adaptive_avg_pool2d(on_grid[:, None], self.pooled).flatten(1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Transformer":
        return super()._apply(lambda tensor: _kept_half(tensor, fn(tensor)), recurse)  # type: ignore[no-untyped-call]


def _kept_half(before: Tensor, after: Tensor) -> Tensor:
    """Return ``after``, but in the half precision of ``before`` where it has become single."""
    is_half = before.dtype in (torch.float16, torch.bfloat16)
    return after.to(before.dtype) if is_half and after.dtype == torch.float32 else after


def middle_of(transformer: Any, *stacks: str) -> str:
    """Return the path of the middle block of a transformer's stacks of blocks, one after another."""
    paths = [f"{stack}.{number}" for stack in stacks for number in range(len(transformer.get_submodule(stack)))]
    return paths[len(paths) // 2]
