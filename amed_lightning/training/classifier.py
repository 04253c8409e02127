"""Training a detector: cross-entropy on images shifted by a pixel or more, with a little noise."""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from amed_lightning.config import InputError, Spec, build
from amed_lightning.metrics.files import CLASSIFIERS, save_detector
from amed_lightning.tensors import Bytes, is_finite
from amed_lightning.training.exporting import ExportingAtTheEnd
from amed_lightning.training.images import OPEN, require_images
from amed_lightning.training.optimizers import MEMORY_FORMATS, with_cosine_decay

LabelledBytes = Sequence[Tensor]


def augment(images: Bytes, max_shift: int, noise: float) -> Bytes:
    """Shift each batch and add noise, so that the features do not hang on single pixels.

    Args:
        images: 0 to 255; what is shifted out on one side comes in on the other.
        max_shift: pixels, at most, in either direction.
        noise: standard deviation, in grey levels.
    """
    shifts = torch.randint(-max_shift, max_shift + 1, (2,)).tolist()
    noisy = images.roll(shifts, (2, 3)) + noise * torch.randn(images.shape, device=images.device)
    return noisy.round().clip(0, 255).to(torch.uint8)


class ClassifierTraining(ExportingAtTheEnd):
    """Train a classifier and export it when the run ends.

    Args:
        classifier: name and options of the network.
        export: where the ``.safetensors`` file goes, if not into the run's directory.
        learning_rate: of AdamW at the start; it falls to zero along a cosine.
        max_shift: pixels by which images are shifted, at most.
        noise: that images are given, standard deviation in grey levels.
        channels_last: keep a pixel's channels side by side in memory, which suits some devices; the same function.

    Raises:
        InputError: no such network, or images or labels that are not its own.
    """

    result_name = "classifier.safetensors"

    def __init__(
        self,
        classifier: Spec,
        export: Path | None = None,
        learning_rate: float = 2e-3,
        max_shift: int = 1,
        noise: float = 8.0,
        channels_last: bool = False,
    ) -> None:
        super().__init__(export)
        self.learning_rate, self.max_shift, self.noise = learning_rate, max_shift, noise
        network = build("classifier", CLASSIFIERS, classifier)
        self.classifier = network.to(memory_format=MEMORY_FORMATS[channels_last])

    def training_step(self, batch: LabelledBytes, batch_idx: int) -> Tensor:
        """Return the loss of a batch of image bytes and labels."""
        images, labels = self._fitting(batch)
        loss = self.classifier.loss(augment(images, self.max_shift, self.noise), labels)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: LabelledBytes, batch_idx: int) -> None:
        """Log the accuracy on held-out images."""
        images, labels = self._fitting(batch)
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

    def _fitting(self, batch: LabelledBytes) -> LabelledBytes:
        require_images(batch, self.classifier.image_shape, self.classifier.num_classes)
        if int(batch[1].min()) == OPEN:
            raise InputError("data: an image has no label, and a classifier learns from labels; give each its own")
        return batch
