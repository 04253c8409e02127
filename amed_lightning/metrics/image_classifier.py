"""A small classifier as a detector: the layer before the last gives the features, the last the logits."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.metrics.detector import Detection
from amed_lightning.tensors import Bytes, dequantise

_DROPOUT = 0.3


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
