"""Moments of the real images that scores refer to."""

from dataclasses import dataclass

import torch

from amed_lightning.config import InputError, Spec, build, digest
from amed_lightning.data.registry import DATASETS
from amed_lightning.metrics.detector import Detector
from amed_lightning.metrics.files import DETECTORS
from amed_lightning.metrics.frechet import Moments
from amed_lightning.metrics.scores import GenerationScores
from amed_lightning.tensors import Bytes

BATCH_SIZE = 256


@dataclass(frozen=True)
class Examiner:
    """A detector and the real images as it sees them.

    Attributes:
        detector: looks at images.
        reference: moments of the real images' features.
        shape: channels, height and width of the real images.
        digest: identifies the detector's weights and the dataset.
    """

    detector: Detector
    reference: Moments
    shape: tuple[int, ...]
    digest: str

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse images of another shape than the real ones.

        Raises:
            InputError: naming both.
        """
        if shape != self.shape:
            raise InputError(f"images of shape {shape} cannot be scored against {self.shape}")

    def scores(self, total: int) -> GenerationScores:
        """Return empty scores for ``total`` images.

        Raises:
            InputError: so few have no scores.
        """
        if total < 2:
            raise InputError(f"FID needs at least two images, and there is {total}")
        return GenerationScores(self.reference, self.detector.num_classes, total)


def examiner(detector: Spec, dataset: Spec) -> Examiner:
    """Load a detector and show it a dataset.

    Raises:
        InputError: an unknown detector or dataset.
    """
    network, weights = build("detector", DETECTORS, detector)
    images, _ = build("dataset", DATASETS, dataset)
    return Examiner(network, _moments(network, images), tuple(images.shape[1:]), digest([weights, dataset]))


def _moments(detector: Detector, images: Bytes) -> Moments:
    total = torch.zeros(detector.feature_size, dtype=torch.float64)
    outer = torch.zeros(detector.feature_size, detector.feature_size, dtype=torch.float64)
    for batch in torch.split(images, BATCH_SIZE):
        features = detector(batch).features.double()
        total += features.sum(0)
        outer += features.T @ features
    return Moments.from_sums(len(images), total, outer)
