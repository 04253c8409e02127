"""Thresholding (Saharia et al. 2022, "Imagen", section 2.3) as a denoiser around another.

Dynamic thresholding is ``D <- clip(D, -s, s) / s`` with s the 0.995 quantile of |D| over the pixels of a sample, at
least 1. The gradient passes through s. Published tables use it with data prediction, never for the last evaluation of
denoise-to-zero. Static thresholding clips at 1; it is part of the published ADM.
"""

from dataclasses import replace

from amed_lightning.config import digest
from amed_lightning.denoisers.around import Changed
from amed_lightning.flow.model import Denoised, Denoiser, DiffusionModel
from amed_lightning.tensors import where_finite


class Thresholded(Changed):
    """A denoiser whose images are clipped to a sample's own range.

    Args:
        denoiser: answers.
        quantile: of the pixels' absolute values.
    """

    def __init__(self, denoiser: Denoiser, quantile: float = 0.995) -> None:
        super().__init__(denoiser)
        self.quantile = quantile

    def change(self, answer: Denoised) -> Denoised:
        """Clip the image."""
        bound = answer.image.abs().flatten(1).quantile(self.quantile, dim=1).clamp(min=1).reshape(-1, 1, 1, 1)
        return replace(answer, image=answer.image.clamp(-bound, bound) / bound)


def thresholded(model: DiffusionModel, quantile: float = 0.995) -> DiffusionModel:
    """Threshold a model's answers, but not the last one of denoise-to-zero.

    Raises:
        ValueError: the quantile lies outside (0, 1].
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"a quantile lies above 0 and at most at 1, got {quantile}")
    return replace(
        model,
        denoiser=Thresholded(model.denoiser, quantile),
        last_denoiser=model.last_denoiser or model.denoiser,
        digest=digest([model.digest, "thresholded", quantile]),
    )


class Clipped(Changed):
    """A denoiser whose images are clipped to [-bound, bound].

    Args:
        denoiser: answers.
        bound: positive.
    """

    def __init__(self, denoiser: Denoiser, bound: float = 1.0) -> None:
        super().__init__(denoiser)
        self.bound = bound

    def change(self, answer: Denoised) -> Denoised:
        """Clip the image."""
        return replace(answer, image=where_finite(answer.image, answer.image.clamp(-self.bound, self.bound)))


def clipped(model: DiffusionModel) -> DiffusionModel:
    """Clip a model's answers to [-1, 1]."""
    return replace(model, denoiser=Clipped(model.denoiser), digest=digest([model.digest, "clipped"]))
