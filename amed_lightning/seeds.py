"""One random generator per sample, so that a sample depends on its seed alone.

Each use of randomness draws from a stream of its own. A stream occupies the upper three bits of the 32 bits that
PyTorch's CPU generator is seeded with, a seed the lower 29: streams are disjoint by construction. Evaluation is stream
0, so its seed k is the plain ``manual_seed(k)`` of published few-step tables.

The noise is drawn first, then the label, from the same generator.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

SEEDS_PER_STREAM = 2**29


class Stream(IntEnum):
    """What a random number is for."""

    evaluation = 0
    training = 1
    validation = 2
    tuning = 3
    reference = 4


@dataclass(frozen=True)
class Seeds:
    """The seeds ``start`` to ``stop - 1`` of one stream, in order.

    >>> Seeds(Stream.evaluation, 0, 4).noise((1, 2, 2))[3].equal(Seeds(Stream.evaluation, 3, 5).noise((1, 2, 2))[0])
    True
    """

    stream: Stream
    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop <= SEEDS_PER_STREAM:
            raise ValueError(f"seeds {self.start} to {self.stop} do not lie in order between 0 and {SEEDS_PER_STREAM}")

    def __len__(self) -> int:
        return self.stop - self.start

    def blocks(self, size: int) -> Iterator["Seeds"]:
        """Cut the range into blocks of ``size`` seeds; the last may be shorter."""
        for start in range(self.start, self.stop, size):
            yield Seeds(self.stream, start, min(start + size, self.stop))

    def generators(self) -> Iterator[torch.Generator]:
        """Yield each seed's own generator, on the CPU."""
        for seed in range(self.start, self.stop):
            yield torch.Generator().manual_seed(int(self.stream) * SEEDS_PER_STREAM + seed)

    def noise(self, shape: tuple[int, ...]) -> Float[Tensor, "batch *shape"]:
        """Draw standard normal noise of ``shape`` for each seed, in float32."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self.generators()])

    def labels(self, shape: tuple[int, ...], num_classes: int) -> Int[Tensor, "batch"]:
        """Draw a label in 0 .. ``num_classes`` - 1 for each seed, after its noise of ``shape``."""
        return self.noise_and_labels(shape, num_classes)[1]

    def noise_and_labels(
        self, shape: tuple[int, ...], num_classes: int
    ) -> tuple[Float[Tensor, "batch *shape"], Int[Tensor, "batch"]]:
        """Draw each seed's noise and, after it, its label."""
        noise, labels = [], []
        for generator in self.generators():
            noise.append(torch.randn(shape, generator=generator))
            labels.append(torch.randint(num_classes, (), generator=generator))
        return torch.stack(noise), torch.stack(labels)
