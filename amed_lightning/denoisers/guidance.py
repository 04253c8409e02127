r"""Guidance as denoisers around others.

Classifier-free guidance (Ho and Salimans 2021): ``D = D_open + w (D_class - D_open)``, both halves in one call of twice
the batch: two network runs. The features are those of the half that knows its class. A negative prompt is the open
condition of a model of prompts.

Autoguidance (Karras et al. 2024): the same with ``D_open`` a weaker model of the same classes, smaller or trained for
less; an evaluation costs the runs of both.

Either is confined to an interval of levels, ``low < sigma <= high``, outside which there is only D_class and its cost
(Kynkäänniemi et al. 2024). Where the levels of a batch differ, both are run if one of them is inside. Either is
rescaled by phi, ``D <- D (phi std(D_class) / std(D) + 1 - phi)``, deviations over all numbers of a sample (Lin et al.
2023, eqs. 15 and 16, who do this to the network's answer, whatever it is; here it is the image, for any model).

Classifier guidance (Dhariwal and Nichol 2021): ``D = D_model + w sigma^2 grad_x log p(class | x; sigma)``, the same as
adding ``-w sqrt(1 - alpha) grad log p``, with the gradient in the scaled image, to the noise of a variance-preserving
model. The denoiser may know the class too, as ADM does. The classifier is another network; its run does not count as
one of the denoiser's.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from amed_lightning.config import digest
from amed_lightning.denoisers.around import Around, Wrapper
from amed_lightning.flow.model import Condition, Denoised, Denoiser, DiffusionModel
from amed_lightning.noise.schedules import ROUNDING, NoiseRange
from amed_lightning.tensors import Images, Level

LogProbability: TypeAlias = Callable[[Images, Level, Condition], Float[Tensor, "batch"]]
OPEN_CLASS = -1
"""The label that leaves the class open."""


@dataclass(frozen=True)
class Manner:
    """Where and how far guidance goes.

    Attributes:
        interval: of levels, the lower excluded; None for all.
        rescale: phi, 0 to 1.

    Raises:
        ValueError: an interval that is none, or another phi.
    """

    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(f"interval {list(self.interval)}: levels from one to a larger one, zero or more")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"rescale {self.rescale}: it lies between 0 and 1")

    def inside(self, sigma: Level) -> Bool[Tensor, "..."]:
        """Tell the levels at which there is guidance."""
        low, high = self.interval or (0.0, math.inf)
        return (sigma > low) & (sigma <= high)


PLAIN = Manner()


def require_unused(manner: Manner, negative: str) -> None:
    """Refuse options of a guidance that there is not.

    Raises:
        ValueError: one is given.
    """
    if manner != PLAIN or negative:
        raise ValueError("nothing is guided away from another answer here; leave negative, interval and rescale out")


class Extrapolated(Wrapper, ABC):
    """Extrapolate from a weak answer through a strong one.

    Args:
        denoiser: answers strongly.
        scale: 1 is the strong answer, more exaggerates.
        manner: where, and rescaled or not.
    """

    def __init__(self, denoiser: Denoiser, scale: float, manner: Manner = PLAIN) -> None:
        super().__init__(denoiser)
        self.scale, self.manner = scale, manner

    @property
    @abstractmethod
    def asked(self) -> tuple[Denoiser, Denoiser]:
        """The denoisers that answer strongly and weakly."""

    @property
    def cost(self) -> int:
        """Network runs of both."""
        return sum(each.cost for each in self.asked)

    @abstractmethod
    def both(self, x: Images, sigma: Level, condition: Condition | None) -> tuple[Denoised, Images]:
        """Return the strong answer, with the network runs of both, and the weak one's image."""

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise.

        Raises:
            ValueError: there are no labels where they are needed.
        """
        if self.manner.interval is None:
            return self._extrapolated(*self.both(x, sigma, condition))
        inside = self.manner.inside(sigma)
        if not bool(inside.any()):
            answer = self.denoiser(x, sigma, condition)
            return replace(answer, cost=answer.runs(self.denoiser))
        strong, weak = self.both(x, sigma, condition)
        answer = self._extrapolated(strong, weak)
        return replace(answer, image=torch.where(inside, answer.image, strong.image))

    def _extrapolated(self, strong: Denoised, weak: Images) -> Denoised:
        image = weak + self.scale * (strong.image - weak)
        if self.manner.rescale:
            ratio = _deviation(strong.image) / _deviation(image)
            image = image * (self.manner.rescale * ratio + (1 - self.manner.rescale))
        return replace(strong, image=image)


def _guidances(denoiser: object) -> Iterator[Extrapolated]:
    """Yield the guidance among a denoiser's layers, and among those of a weaker model."""
    if isinstance(denoiser, Extrapolated):
        yield denoiser
        for asked in denoiser.asked:
            yield from _guidances(asked)
    elif denoiser is not None:
        yield from _guidances(getattr(denoiser, "denoiser", None))


def is_guided_in_part(denoiser: Denoiser) -> bool:
    """Whether a denoiser takes fewer network runs at some levels, outside an interval."""
    return any(guidance.manner.interval is not None for guidance in _guidances(denoiser))


@dataclass(frozen=True)
class Counted(Around):
    """Stands where a denoiser would be whose runs are to be counted, and not made.

    Attributes:
        denoiser: the one.
        feature_size: length of its features.
    """

    denoiser: Denoiser
    feature_size: int

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Answer with nothing, at the cost of the level."""
        return Denoised(x * 0, x.new_zeros(len(x), self.feature_size), _runs_at(self.denoiser, sigma))


def _runs_at(denoiser: Denoiser, sigma: Level) -> int:
    """Return the network runs that an answer takes at some levels."""
    guidance = next(_guidances(denoiser), None)
    if guidance is None:
        return denoiser.cost
    asked = guidance.asked if bool(guidance.manner.inside(sigma).any()) else [guidance.denoiser]
    return sum(_runs_at(each, sigma) for each in asked)


def _deviation(images: Images) -> Level:
    return images.std(tuple(range(1, images.ndim)), keepdim=True)


class ClassifierFreeGuidance(Extrapolated):
    """Extrapolate from the answer without a class to the one with it.

    Args:
        denoiser: answers with and without labels.
        scale: 1 is the conditional model, more exaggerates.
        manner: where, and rescaled or not.
    """

    @property
    def asked(self) -> tuple[Denoiser, Denoiser]:
        """The denoiser with a class, and without."""
        return self.denoiser, self.denoiser

    def both(self, x: Images, sigma: Level, condition: Condition | None) -> tuple[Denoised, Images]:
        """Return the answer with a class, and the image without one.

        Raises:
            ValueError: there are no labels.
        """
        if condition is None:
            raise ValueError("classifier-free guidance needs a label for every sample")
        both = torch.cat([condition, torch.full_like(condition, OPEN_CLASS)])
        levels = torch.cat([sigma, sigma]) if sigma.ndim else sigma
        answer = self.denoiser(torch.cat([x, x]), levels, both)
        guided, unguided = answer.image.chunk(2)
        return Denoised(guided, answer.features.chunk(2)[0], 2 * answer.runs(self.denoiser)), unguided


class AutoGuidance(Extrapolated):
    """Extrapolate from a weaker model's answer through the model's own.

    Args:
        denoiser: the model's.
        weak: the weaker model's.
        scale: 1 is the model itself, more exaggerates.
        manner: where, and rescaled or not.
    """

    def __init__(self, denoiser: Denoiser, weak: Denoiser, scale: float, manner: Manner = PLAIN) -> None:
        super().__init__(denoiser, scale, manner)
        self.weak = weak

    @property
    def asked(self) -> tuple[Denoiser, Denoiser]:
        """Both models."""
        return self.denoiser, self.weak

    def both(self, x: Images, sigma: Level, condition: Condition | None) -> tuple[Denoised, Images]:
        """Return both models' answers."""
        strong, weak = (each(x, sigma, condition) for each in self.asked)
        return replace(strong, cost=strong.runs(self.denoiser) + weak.runs(self.weak)), weak.image


def classifier_free(model: DiffusionModel, scale: float, manner: Manner = PLAIN, negative: str = "") -> DiffusionModel:
    """Guide a model that answers with and without labels.

    Args:
        model: with classes or prompts.
        scale: 1 is the model itself, more exaggerates.
        manner: where, and rescaled or not.
        negative: the open condition's prompt, which the model knows already; its digest does not.

    Raises:
        ValueError: the model is unconditional.
    """
    if not model.is_conditional:
        raise ValueError("guidance needs a class-conditional model, and this one has no classes")
    how = ["classifier-free guidance", scale, *([negative] if negative else [])]
    return _guided(model, lambda denoiser: ClassifierFreeGuidance(denoiser, scale, manner), manner, how)


def auto_guided(model: DiffusionModel, weak: DiffusionModel, scale: float, manner: Manner = PLAIN) -> DiffusionModel:
    """Guide a model by a weaker one.

    Args:
        model: the better one; its levels, decoder and prompts are the guided model's.
        weak: of samples of the same shape, and of the same classes or prompts.
        scale: 1 is the model itself, more exaggerates.
        manner: where, and rescaled or not.

    Raises:
        ValueError: the two make different samples, or know different classes or prompts, or the weak one would be asked
            at levels at which it was not trained.
    """
    for name, mine, other in (
        ("makes samples of shape", model.shape, weak.shape),
        ("has classes:", model.num_classes, weak.num_classes),
        ("has prompts:", model.prompts is not None, weak.prompts is not None),
    ):
        if mine != other:
            raise ValueError(f"the model {name} {mine}, and the weak one {other}; take a weaker model of the same kind")
    if model.prompts is not None and weak.prompts is not None and model.prompts.texts != weak.prompts.texts:
        raise ValueError("the model and the weak one have different prompts; give both the same")
    _require_levels(model.noise_range, weak.noise_range, manner)
    how = ["autoguidance", weak.digest, scale]
    return _guided(model, lambda denoiser: AutoGuidance(denoiser, weak.denoiser, scale, manner), manner, how)


def _require_levels(asked: NoiseRange, trained: NoiseRange, manner: Manner) -> None:
    """Refuse a weak model that would be asked at levels that it does not know.

    Raises:
        ValueError: naming an interval without them.
    """
    low, high = manner.interval or (0.0, math.inf)
    low, high = max(low, asked.sigma_min), min(high, asked.sigma_max)
    if low < high and (high > trained.sigma_max * (1 + ROUNDING) or low < trained.sigma_min * (1 - ROUNDING)):
        known = f"{trained.sigma_min:.5g} to {trained.sigma_max:.5g}"
        raise ValueError(
            f"the weak model was trained at levels {known}, and would be asked at {low:.5g} to {high:.5g}: let "
            "`interval` lie inside"
        )


def _guided(
    model: DiffusionModel, around: Callable[[Denoiser], Extrapolated], manner: Manner, how: list[object]
) -> DiffusionModel:
    """Guide a model's denoisers; how belongs to its digest, and whether the last evaluation is another denoiser's."""
    last = None if model.last_denoiser is None else around(model.last_denoiser)
    how = how + ([] if manner == PLAIN else [manner]) + ([] if last is None else ["the last evaluation, too"])
    return replace(model, denoiser=around(model.denoiser), last_denoiser=last, digest=digest([model.digest, *how]))


class ClassifierGuidance(Wrapper):
    """Follow a classifier of noisy images.

    Args:
        denoiser: answers.
        log_probability: log p(class | x; sigma) of each sample's own class, given x, sigma and the classes.
        scale: weight of its gradient.
    """

    def __init__(self, denoiser: Denoiser, log_probability: LogProbability, scale: float) -> None:
        super().__init__(denoiser)
        self.log_probability, self.scale = log_probability, scale

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
