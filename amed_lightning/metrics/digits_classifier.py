"""The detector of the digits: a small convolutional classifier."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.metrics.detector import Detection
from amed_lightning.tensors import Bytes, dequantise

FEATURES, CLASSES = 64, 10


class DigitsClassifier(nn.Module):
    """8x8 grey bytes in; 64 features (the layer before the last) and the logits of ten classes out."""

    feature_size, num_classes = FEATURES, CLASSES
    image_shape: tuple[int, ...] | None = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.SiLU()),
            *(nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.SiLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(), nn.Flatten()),
            *(nn.Linear(64 * 16, FEATURES), nn.SiLU()),
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Bytes) -> Detection:
        """Detect."""
        features: Float[Tensor, "batch features"] = self.encoder(dequantise(images))
        return Detection(features, self.head(self.dropout(features)))

    def loss(self, images: Bytes, labels: Tensor) -> Float[Tensor, ""]:
        """Return the mean cross-entropy."""
        return F.cross_entropy(self(images).logits, labels)
