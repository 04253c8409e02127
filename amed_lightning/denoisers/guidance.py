r"""Guidance as denoisers around others.

Classifier-free guidance (Ho and Salimans 2021): ``D = D_open + w (D_class - D_open)``, both halves in one call of twice
the batch: two network runs. The features are those of the half that knows its class.

Classifier guidance (Dhariwal and Nichol 2021): ``D = D_model + w sigma^2 grad_x log p(class | x; sigma)``, the same as
adding ``-w sqrt(1 - alpha) grad log p``, with the gradient in the scaled image, to the noise of a variance-preserving
model. The denoiser may know the class too, as ADM does. The classifier is another network; its run does not count as
one of the denoiser's.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from amed_lightning.config import digest
from amed_lightning.flow.model import Condition, Denoised, Denoiser, DiffusionModel
from amed_lightning.tensors import Images, Level

LogProbability: TypeAlias = Callable[[Images, Level, Condition], Float[Tensor, "batch"]]
OPEN_CLASS = -1
"""The label that leaves the class open."""


class ClassifierFreeGuidance(nn.Module):
    """Extrapolate from the answer without a class to the one with it.

    Args:
        denoiser: answers with and without labels.
        scale: 1 is the conditional model, more exaggerates.
    """

    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        super().__init__()
        self.denoiser, self.scale = denoiser, scale
        self.cost = 2 * denoiser.cost

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise.

        Raises:
            ValueError: there are no labels.
        """
        if condition is None:
            raise ValueError("classifier-free guidance needs a label for every sample")
        both = torch.cat([condition, torch.full_like(condition, OPEN_CLASS)])
        levels = torch.cat([sigma, sigma]) if sigma.ndim else sigma
        answer = self.denoiser(torch.cat([x, x]), levels, both)
        guided, unguided = answer.image.chunk(2)
        return Denoised(unguided + self.scale * (guided - unguided), answer.features.chunk(2)[0])


def classifier_free(model: DiffusionModel, scale: float) -> DiffusionModel:
    """Guide a model that answers with and without labels.

    Raises:
        ValueError: the model is unconditional.
    """
    if not model.is_conditional:
        raise ValueError("guidance needs a class-conditional model, and this one has no classes")
    denoiser = ClassifierFreeGuidance(model.denoiser, scale)
    return replace(model, denoiser=denoiser, digest=digest([model.digest, "classifier-free guidance", scale]))


class ClassifierGuidance(nn.Module):
    """Follow a classifier of noisy images.

    Args:
        denoiser: answers.
        log_probability: log p(class | x; sigma) of each sample's own class, given x, sigma and the classes.
        scale: weight of its gradient.
    """

    def __init__(self, denoiser: Denoiser, log_probability: LogProbability, scale: float) -> None:
        super().__init__()
        self.denoiser, self.log_probability, self.scale = denoiser, log_probability, scale
        self.cost = denoiser.cost

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise.

        Raises:
            ValueError: there are no labels.
        """
        if condition is None:
            raise ValueError("classifier guidance needs a label for every sample")
        answer = self.denoiser(x, sigma, condition)
        gradient = self._gradient(x, sigma, condition)
        return replace(answer, image=answer.image + self.scale * sigma.to(x.dtype).square() * gradient)

    def _gradient(self, x: Images, sigma: Level, condition: Condition) -> Images:
        """Differentiate, also where the caller wants no gradients; keep the graph where it wants them.

        Fused attention has no derivative of its derivative. In half precision that of a likely class would be 0.
        """
        differentiable = x.requires_grad
        exact = sdpa_kernel(SDPBackend.MATH) if differentiable else nullcontext()
        single = torch.autocast(x.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), exact, single:
            x = x if differentiable else x.clone().requires_grad_()
            total = self.log_probability(x, sigma.clone(), condition.clone()).sum()
            return torch.autograd.grad(total, x, create_graph=differentiable)[0]


def classifier_guided(
    model: DiffusionModel, classifier: LogProbability, num_classes: int, classifier_digest: str, scale: float
) -> DiffusionModel:
    """Let a model follow a classifier.

    Args:
        model: with the classifier's classes, or with none.
        classifier: of noisy images.
        num_classes: among which it chooses.
        classifier_digest: identifies it.
        scale: weight of its gradient.

    Raises:
        ValueError: the two know different classes.
    """
    if model.num_classes not in (0, num_classes):
        raise ValueError(f"the model knows {model.num_classes} classes and the classifier {num_classes}")
    return replace(
        model,
        denoiser=ClassifierGuidance(model.denoiser, classifier, scale),
        num_classes=num_classes,
        digest=digest([model.digest, "classifier guidance", classifier_digest, scale]),
    )
