"""The detector of the digits: a small convolutional classifier."""

from torch import nn

from amed_lightning.metrics.image_classifier import ImageClassifier


class DigitsClassifier(ImageClassifier):
    """8x8 grey bytes in; 64 features (the layer before the last) and the logits of ten classes out."""

    feature_size, num_classes, image_shape = 64, 10, (1, 8, 8)

    def layers(self) -> nn.Sequential:
        """Build what makes features of images in [-1, 1]."""
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.SiLU()),
            *(nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.SiLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(), nn.Flatten()),
            *(nn.Linear(64 * 16, self.feature_size), nn.SiLU()),
        )
