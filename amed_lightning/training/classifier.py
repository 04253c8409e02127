"""Training the digits' detector: cross-entropy on images shifted by a pixel, with a little noise."""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from amed_lightning.metrics.digits_classifier import DigitsClassifier
from amed_lightning.metrics.files import save_detector
from amed_lightning.tensors import Bytes, is_finite
from amed_lightning.training.exporting import ExportingAtTheEnd
from amed_lightning.training.optimizers import with_cosine_decay
from amed_lightning.training.precision import EXPORTED, SINGLE_WEIGHTS, require_precision

LabelledBytes = Sequence[Tensor]
MAX_SHIFT = 1
NOISE = 8
"""Standard deviation of the augmentation's noise, in grey levels."""


def augment(images: Bytes) -> Bytes:
    """Shift each batch by up to a pixel and add noise, so that the features do not hang on single pixels."""
    shifts = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,)).tolist()
    noisy = images.roll(shifts, (2, 3)) + NOISE * torch.randn(images.shape, device=images.device)
    return noisy.round().clip(0, 255).to(torch.uint8)


class ClassifierTraining(ExportingAtTheEnd):
    """Train the classifier and export it when the run ends.

    Args:
        export: where the ``.safetensors`` file goes, if not into the run's directory.
        learning_rate: of AdamW at the start; it falls to zero along a cosine.
    """

    result_name = "classifier.safetensors"

    def __init__(self, export: Path | None = None, learning_rate: float = 2e-3) -> None:
        super().__init__(export)
        self.learning_rate = learning_rate
        self.classifier = DigitsClassifier()

    def setup(self, stage: str) -> None:
        """Refuse a precision in which the weights would not be those that are exported."""
        require_precision(self.trainer.precision, SINGLE_WEIGHTS, EXPORTED)

    def training_step(self, batch: LabelledBytes, batch_idx: int) -> Tensor:
        """Return the loss of a batch of image bytes and labels."""
        images, labels = batch
        return self.classifier.loss(augment(images), labels)

    def validation_step(self, batch: LabelledBytes, batch_idx: int) -> None:
        """Log the accuracy on held-out images."""
        images, labels = batch
        logits = self.classifier(images).logits
        if not is_finite(logits):
            raise FloatingPointError(f"the logits are not finite in epoch {self.current_epoch}: lower learning_rate")
        self.log("val/accuracy", (logits.argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a cosine decay over the whole run."""
        optimizer = torch.optim.AdamW(self.classifier.parameters(), self.learning_rate, weight_decay=1e-2)
        return with_cosine_decay(optimizer, self.trainer)

    def write(self, path: Path) -> None:
        """Write the weights."""
        save_detector(path, self.classifier)
