"""How blocks make a U-Net: the names, channels and order of an encoder and a decoder.

Level ``l`` works at ``resolution >> l``. Every encoder output is kept for the decoder, whose blocks see it beside
their input, newest first. Module names are those of EDM's files (Karras et al. 2022).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from amed_lightning.denoisers.layers import Direction

MIN_CHANNELS, MAX_LEVELS, MAX_BLOCKS = 4, 16, 64
"""Beyond these a description is a mistake, and building what it says would take for ever."""


@dataclass(frozen=True)
class Planned:
    """A block of a U-Net that is to be built.

    Attributes:
        level: counted from the highest resolution.
        name: of its module.
        in_channels: of its input, what it sees of the encoder included.
        out_channels: of its output.
        attends: whether it ends in attention.
        resample: how it changes the resolution.
    """

    level: int
    name: str
    in_channels: int
    out_channels: int
    attends: bool = False
    resample: Direction | None = None


@dataclass(frozen=True)
class Topology:
    """How blocks make a U-Net.

    Attributes:
        img_resolution: of the images.
        model_channels: unit of the channels.
        channel_mult: each level's channels, highest resolution first.
        num_blocks: of each level in the encoder; the decoder has one more.
        attn_resolutions: where blocks attend.
        stem_mult: channels of the first convolution.

    Raises:
        ValueError: no such U-Net can be.
    """

    img_resolution: int
    model_channels: int
    channel_mult: Sequence[int | float]
    num_blocks: int
    attn_resolutions: Sequence[int]
    stem_mult: int | float

    def __post_init__(self) -> None:
        levels = len(self.channel_mult)
        if not (0 < levels <= MAX_LEVELS and 0 < self.num_blocks <= MAX_BLOCKS):
            raise ValueError(f"a U-Net has 1 to {MAX_LEVELS} levels, each of 1 to {MAX_BLOCKS} blocks")
        if min(self.channels) < MIN_CHANNELS:
            raise ValueError(f"a U-Net of {min(self.channels)} channels; it has at least {MIN_CHANNELS}")
        if self.img_resolution < 1 or self.img_resolution % 2 ** (levels - 1):
            raise ValueError(f"img_resolution {self.img_resolution} cannot be halved {levels - 1} times")

    @property
    def stem(self) -> int:
        """Channels of the first convolution."""
        return round(self.model_channels * self.stem_mult)

    @property
    def channels(self) -> list[int]:
        """Channels of each level."""
        return [round(self.model_channels * mult) for mult in self.channel_mult]

    @property
    def resolutions(self) -> list[int]:
        """The resolution of each level."""
        return [self.img_resolution >> level for level in range(len(self.channel_mult))]

    def require_level(self, resolution: int) -> None:
        """Check that a level works at a resolution.

        Raises:
            ValueError: none does.
        """
        if resolution not in self.resolutions:
            sizes = ", ".join(map(str, self.resolutions))
            raise ValueError(f"bottleneck_resolution {resolution}: no level has it; use one of {sizes}")

    def encoder(self) -> Iterator[Planned]:
        """Plan the encoder's blocks, after the first convolution."""
        now = self.stem
        for level, (size, out) in enumerate(zip(self.resolutions, self.channels, strict=True)):
            if level:
                yield Planned(level, f"{size}x{size}_down", now, now, resample="down")
            for index in range(self.num_blocks):
                yield Planned(level, f"{size}x{size}_block{index}", now, out, size in self.attn_resolutions)
                now = out

    def middle(self) -> Iterator[Planned]:
        """Plan the two blocks between encoder and decoder."""
        level, size, now = len(self.channels) - 1, self.resolutions[-1], self.channels[-1]
        yield Planned(level, f"{size}x{size}_in0", now, now, attends=True)
        yield Planned(level, f"{size}x{size}_in1", now, now)

    def decoder(self, attends: Callable[[int], bool] = lambda index: True) -> Iterator[Planned]:
        """Plan the middle and the decoder's blocks, lowest resolution first.

        Args:
            attends: whether a level's block of this index attends where the resolution says so.
        """
        yield from self.middle()
        now, skips = self.channels[-1], [self.stem, *(block.out_channels for block in self.encoder())]
        for level, (size, out) in reversed(list(enumerate(zip(self.resolutions, self.channels, strict=True)))):
            if level < len(self.channels) - 1:
                yield Planned(level, f"{size}x{size}_up", now, now, resample="up")
            for index in range(self.num_blocks + 1):
                attention = size in self.attn_resolutions and attends(index)
                yield Planned(level, f"{size}x{size}_block{index}", now + skips.pop(), out, attention)
                now = out
