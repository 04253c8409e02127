"""Training a denoiser from images (EDM, Karras et al. 2022, eq. 2 and table 1).

The loss is ``weight(sigma) |D(y + sigma n; sigma) - y|^2`` with ln sigma normal, and a weight that makes every level
equally important at initialisation: ``(sigma^2 + sigma_data^2) / (sigma sigma_data)^2``.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from amed_lightning.denoisers.files import save_model
from amed_lightning.denoisers.model_card import ModelCard
from amed_lightning.denoisers.preconditioning import Preconditioned
from amed_lightning.tensors import Images, dequantise, is_finite
from amed_lightning.training.exporting import ExportingAtTheEnd
from amed_lightning.training.images import require_images
from amed_lightning.training.optimizers import MEMORY_FORMATS, with_cosine_decay

LabelledBytes = Sequence[Tensor]


def edm_loss(
    denoiser: Preconditioned, clean: Images, labels: Int[Tensor, "batch"], mean: float, deviation: float
) -> Float[Tensor, ""]:
    """Return EDM's loss, averaged over batch and pixels.

    Args:
        denoiser: a preconditioned network with ``sigma_data``.
        clean: images in [-1, 1].
        labels: classes; negative ones stay open.
        mean: of ln sigma.
        deviation: of ln sigma.
    """
    sigma = (mean + deviation * torch.randn(len(clean), 1, 1, 1, device=clean.device)).exp()
    denoised = denoiser(clean + sigma * torch.randn_like(clean), sigma, labels).image
    weight = (sigma.square() + denoiser.sigma_data**2) / (sigma * denoiser.sigma_data).square()
    return (weight * (denoised - clean).square()).mean()


class DenoiserTraining(ExportingAtTheEnd):
    """Train a denoiser and export it when the run ends.

    Args:
        card: the network and its preconditioning.
        export: where the ``.json`` card goes, if not into the run's directory; the weights go beside it.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        label_dropout: fraction of labels left open, so that the model also works without a class.
        log_sigma_mean: mean of ln sigma.
        log_sigma_deviation: standard deviation of ln sigma.
        channels_last: keep a pixel's channels side by side in memory, which suits some devices; the same function.
        half: export the weights in half precision, in half the room.

    Raises:
        InputError: images or labels that are not the network's.
    """

    result_name = "denoiser.json"

    def __init__(
        self,
        card: ModelCard,
        export: Path | None = None,
        learning_rate: float = 1e-3,
        label_dropout: float = 0.1,
        log_sigma_mean: float = -1.2,
        log_sigma_deviation: float = 1.2,
        channels_last: bool = False,
        half: bool = False,
    ) -> None:
        super().__init__(export)
        self.card, self.learning_rate = card, learning_rate
        self.label_dropout, self.half_precision = label_dropout, half
        self.log_sigma = (log_sigma_mean, log_sigma_deviation)
        self.denoiser = card.denoiser().to(memory_format=MEMORY_FORMATS[channels_last])

    def training_step(self, batch: LabelledBytes, batch_idx: int) -> Tensor:
        """Return the loss of a batch of image bytes and labels."""
        images, labels = self._fitting(batch)
        open_class = torch.rand(len(labels), device=labels.device) < self.label_dropout
        loss = edm_loss(self.denoiser, dequantise(images), labels.masked_fill(open_class, -1), *self.log_sigma)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: LabelledBytes, batch_idx: int) -> None:
        """Log the loss of the averaged weights."""
        images, labels = self._fitting(batch)
        loss = edm_loss(self.denoiser, dequantise(images), labels, *self.log_sigma)
        if not is_finite(loss):
            raise FloatingPointError(f"val/loss is {float(loss)} in epoch {self.current_epoch}: lower learning_rate")
        self.log("val/loss", loss)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam with a cosine decay over the whole run."""
        return with_cosine_decay(torch.optim.Adam(self.denoiser.parameters(), self.learning_rate), self.trainer)

    def command(self, result: Path) -> str:
        """Return the command that samples with it."""
        part = f"'{{name: file, path: {result}}}'"
        return f"amed-lightning sample --sampler.model {part} --sampler.solver ipndm --sampler.schedule polynomial " + (
            f"--sampler.nfe 18 --output {result.with_name('samples.png')}"
        )

    def write(self, path: Path) -> None:
        """Write the weights (the averaged ones, when the run averages them)."""
        save_model(path, self.denoiser, self.card, self.half_precision)

    def _fitting(self, batch: LabelledBytes) -> LabelledBytes:
        require_images(batch, self.card.shape, self.denoiser.model.label_dim)
        return batch
