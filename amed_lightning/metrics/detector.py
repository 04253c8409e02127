"""What scores see: a detector turns image bytes into features (for FID) and logits (for IS)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from amed_lightning.tensors import Bytes


@dataclass(frozen=True, slots=True)
class Detection:
    """A detector's answer for a batch of images."""

    features: Float[Tensor, "batch features"]
    logits: Float[Tensor, "batch classes"]


@runtime_checkable
class Detector(Protocol):
    """A frozen network that looks at image bytes.

    Attributes:
        feature_size: length of its features.
        num_classes: length of its logits; 0 where it gives none, and no IS.
        image_shape: channels, height and width of the only images it takes; None for any grey or RGB images.
    """

    feature_size: int
    num_classes: int
    image_shape: tuple[int, ...] | None

    def __call__(self, images: Bytes) -> Detection:
        """Return features and logits of a batch."""
        ...


@runtime_checkable
class TextDetector(Detector, Protocol):
    """A detector that answers texts with features of the same space."""

    def texts(self, prompts: Sequence[str]) -> Float[Tensor, "batch features"]:
        """Return features of length 1, where the detector is."""
        ...
