"""The detector of Fashion-MNIST: a convolutional classifier of 28x28 images."""

from collections.abc import Iterator

from torch import nn

from amed_lightning.metrics.image_classifier import ImageClassifier

_WIDTHS = (24, 48, 96)
"""Channels at 28, 14 and 7 pixels."""
_GROUP = 12
"""Channels that are normalised together."""


class FashionMNISTClassifier(ImageClassifier):
    """28x28 grey bytes in; 64 features (the layer before the last) and the logits of ten classes out."""

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
