"""Small classifiers as detectors of their images: the layer before the last gives the features, the last the logits."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.metrics.detector import Detection
from amed_lightning.tensors import Bytes, dequantise

_DROPOUT = 0.3
_WIDTHS = (24, 48, 96)
"""Channels of the clothes' classifier, at 28, 14 and 7 pixels."""
_GROUP = 12
"""Channels that are normalised together."""


class ImageClassifier(nn.Module, ABC):
    """Bytes in; features and the logits of the classes out.

    Attributes:
        feature_size: length of the features.
        num_classes: length of the logits.
        image_shape: channels, height and width of the only images it takes.
    """

    feature_size: int
    num_classes: int
    image_shape: tuple[int, ...] | None

    def __init__(self) -> None:
        super().__init__()
        self.encoder = self.layers()
        self.dropout = nn.Dropout(_DROPOUT)
        self.head = nn.Linear(self.feature_size, self.num_classes)

    @abstractmethod
    def layers(self) -> nn.Sequential:
        """Build what makes features of images in [-1, 1]."""

    def forward(self, images: Bytes) -> Detection:
        """Detect."""
        features: Float[Tensor, "batch features"] = self.encoder(dequantise(images))
        return Detection(features, self.head(self.dropout(features)))

    def loss(self, images: Bytes, labels: Tensor) -> Float[Tensor, ""]:
        """Return the mean cross-entropy."""
        return F.cross_entropy(self(images).logits, labels)


class DigitsClassifier(ImageClassifier):
    """The digits': 8x8 grey bytes in; 64 features and the logits of ten classes out."""

    feature_size, num_classes, image_shape = 64, 10, (1, 8, 8)

    def layers(self) -> nn.Sequential:
        """Build what makes features of images in [-1, 1]."""
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.SiLU()),
            *(nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.SiLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(), nn.Flatten()),
            *(nn.Linear(64 * 16, self.feature_size), nn.SiLU()),
        )


class FashionMNISTClassifier(ImageClassifier):
    """Fashion-MNIST's: 28x28 grey bytes in; 64 features and the logits of ten classes out."""

    feature_size, num_classes, image_shape = 64, 10, (1, 28, 28)

    def layers(self) -> nn.Sequential:
        """Build what makes features of images in [-1, 1]."""
        first, second, third = _WIDTHS
        return nn.Sequential(
            *_convolution(1, first),
            *_convolution(first, second, stride=2),
            *_convolution(second, second),
            *_convolution(second, third, stride=2),
            *_convolution(third, third),
            *_convolution(third, third, stride=2),
            *(nn.Flatten(), nn.Linear(16 * third, self.feature_size), nn.SiLU()),
        )


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> Iterator[nn.Module]:
    yield nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
    yield nn.GroupNorm(out_channels // _GROUP, out_channels)
    yield nn.SiLU()
