"""What the state dict of a network of OpenAI's does not tell, and who tells it.

Names and shapes leave open how large the images are, how channels are split into heads, how queries, keys and values
are sorted, and on which steps the network was trained. Size and heads are always asked for. For the rest the defaults
of the repositories are taken, and a line on standard error says so; but a network that is shaped like a published one
of other options, or like improved-diffusion's, which differ among themselves, is refused until they are given.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from amed_lightning.config import InputError
from amed_lightning.noise.betas import RESCALED_STEPS, NoiseSchedule

AttentionOrder: TypeAlias = Literal["legacy", "new"]
TRAINING = ("noise_schedule", "diffusion_steps", "rescale_timesteps")
"""What there is to say of the steps that a network was trained on."""


class Shape(NamedTuple):
    """What tells published networks apart, the number of levels, their channels and blocks, and how they resample."""

    model_channels: int
    num_blocks: int
    channel_mult: tuple[float, ...]
    resblock_updown: bool
    family: str = "guided_diffusion"


class Asked(NamedTuple):
    """Whose shape it is, how that was trained, and the options that a file of this shape must be given."""

    published: str
    options: tuple[str, ...]


DEFAULTS: dict[str, dict[str, Any]] = {
    "guided_diffusion": {"attention_order": "legacy", "noise_schedule": "linear", "diffusion_steps": 1000},
    "consistency": {"attention_order": "new"},
}
"""By family. guided-diffusion's are those of its scripts, and the consistency models' attention has no other order."""
_ASKED = {
    Shape(192, 3, (1, 2, 3, 4), True): Asked(
        "guided-diffusion's 64x64_diffusion.pt: new, cosine", ("attention_order", "noise_schedule")
    ),
    Shape(128, 4, (1, 2, 3, 4), True): Asked("guided-diffusion's 64x64_classifier.pt: cosine", ("noise_schedule",)),
    Shape(128, 3, (1, 2, 3, 4), False): Asked(
        "improved-diffusion's imagenet64_uncond: cosine, 4000 rescaled", ("noise_schedule", "diffusion_steps")
    ),
    Shape(192, 3, (1, 2, 3, 4), False): Asked(
        "improved-diffusion's imagenet64_cond: cosine, 4000 not rescaled", ("noise_schedule", "diffusion_steps")
    ),
    Shape(128, 3, (1, 2, 2, 2), False): Asked(
        "improved-diffusion's cifar10_uncond: cosine, 4000 rescaled", ("noise_schedule", "diffusion_steps")
    ),
}
"""Published networks with other options than the defaults."""
ORDINARY = Asked("", ())
_LIKE_IMPROVED_DIFFUSION = Asked("improved-diffusion's: ImageNet and CIFAR-10 cosine, LSUN linear", ("noise_schedule",))
"""Any other network that resamples by convolutions."""


@dataclass(frozen=True)
class Untold:
    """Options that a state dict leaves open; None is what nobody has said.

    Attributes:
        img_resolution: height and width of the images.
        head_channels: of each head of the attention.
        num_heads: of the attention, the same in every block, in place of ``head_channels``.
        attention_order: of channels before attention: legacy by head, then q, k, v; new by q, k, v, then head.
        noise_schedule: of the steps in training.
        diffusion_steps: number of steps in training.
        rescale_timesteps: whether the network was told its step as one of 1000.

    Raises:
        InputError: a value that no network has, or two ways to split channels into heads.
    """

    img_resolution: int | None = None
    head_channels: int | None = None
    num_heads: int | None = None
    attention_order: AttentionOrder | None = None
    noise_schedule: NoiseSchedule | None = None
    diffusion_steps: int | None = None
    rescale_timesteps: bool | None = None

    def __post_init__(self) -> None:
        for name in ("img_resolution", "head_channels", "num_heads", "diffusion_steps"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name} is {value!r}; it is a whole number from 1")
        for name, words in (("attention_order", get_args(AttentionOrder)), ("noise_schedule", get_args(NoiseSchedule))):
            if getattr(self, name) not in (None, *words):
                raise InputError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(words)}")
        if self.rescale_timesteps not in (None, True, False):
            raise InputError(f"rescale_timesteps is {self.rescale_timesteps!r}; it is true or false")
        if self.head_channels and self.num_heads:
            raise InputError(f"head_channels {self.head_channels} and num_heads {self.num_heads}: give one of them")

    @property
    def given(self) -> dict[str, Any]:
        """What somebody has said."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def split(self) -> dict[str, int]:
        """What says how channels are split into heads: one option, or none."""
        return {name: value for name, value in self.given.items() if name in ("head_channels", "num_heads")}

    def heads(self, channels: int) -> int:
        """Return how many heads attend in a block.

        Raises:
            ValueError: its channels cannot be split so.
        """
        parts = self.num_heads or self.head_channels or 1
        if channels % parts:
            raise ValueError(f"a block's {channels} channels are no multiple of {parts}")
        return self.num_heads or channels // parts

    def or_else(self, other: "Untold") -> "Untold":
        """Take from another what nobody has said here."""
        taken = other.given if not self.split else other.given.keys() - other.split.keys()
        return replace(self, **{name: getattr(other, name) for name in taken if name not in self.given})

    def require_always_asked(self, source: Path, family: str) -> None:
        """Ask for what is always asked for.

        Args:
            source: the file, for messages.
            family: the name that takes it.

        Raises:
            InputError: nobody has said it.
        """
        missing = [] if self.img_resolution else ["img_resolution"]
        missing += [] if self.split else ["head_channels or num_heads"]
        if missing:
            raise _question(source, family, missing)

    def settled(self, source: Path, shape: Shape) -> "Untold":
        """Take a family's defaults where nobody has said anything, aloud.

        Args:
            source: the file, for messages.
            shape: of its network.

        Raises:
            InputError: an option is asked for and nobody has said it.
        """
        taken = {name: value for name, value in DEFAULTS[shape.family].items() if name not in self.given}
        asked = _ASKED.get(shape, ORDINARY if shape.resblock_updown else _LIKE_IMPROVED_DIFFUSION)
        if missing := [name for name in asked.options if name in taken]:
            raise _question(source, shape.family, missing, f" (it is shaped like {asked.published})")
        full = replace(self, **taken)
        if full.diffusion_steps not in (None, RESCALED_STEPS) and full.rescale_timesteps is None:
            raise _question(source, shape.family, ["rescale_timesteps"], " and 1000 steps do not need")
        if taken:
            said = ", ".join(f"{name} {value}" for name, value in taken.items())
            print(f"note: {source}: read with {said}; its tensors do not tell, give what differs", file=sys.stderr)
        return full

    def require_agreement(self, source: Path, told: Mapping[str, Any]) -> None:
        """Compare what somebody has said with what is known of a file.

        Raises:
            InputError: something else is known, or nothing of the kind.
        """
        for name, value in self.given.items():
            if told.get(name) != value:
                found = f"{name} {told[name]}" if name in told else f"no {name}"
                raise InputError(f"{source}: known to have {found}; leave out {name} {value}")


NOTHING_SAID = Untold()


def _question(source: Path, family: str, missing: list[str], because: str = "") -> InputError:
    """Ask for options, under the name that takes them."""
    options = " and ".join(missing)
    return InputError(f"{source}: give {options}, which its tensors do not tell{because}; name it as '{family}'")
