"""What is known of a published model before its weights are here: enough to plan a run, not to make it."""

import math
from dataclasses import dataclass

from amed_lightning.config import InputError, Spec, digest
from amed_lightning.denoisers.zoo.card import Card, Facts
from amed_lightning.flow.model import Condition, Denoised, DiffusionModel
from amed_lightning.noise.schedules import NoiseRange, scaled_linear_log_alphas
from amed_lightning.tensors import Images, Latents, Level


@dataclass(frozen=True)
class _WithoutWeights:
    """Stands where the denoiser of a loaded model would be.

    Attributes:
        card: name of the model's card.
        cost: network runs per evaluation.
    """

    card: str
    cost: int

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Refuse.

        Raises:
            InputError: always.
        """
        raise _refusal(self.card)


@dataclass(frozen=True)
class _WithoutDecoder:
    """Stands where the decoder of a loaded latent model would be.

    Attributes:
        card: name of the model's card.
        shape: channels, height, width of an image.
    """

    card: str
    shape: tuple[int, int, int]

    def __call__(self, latents: Latents) -> Images:
        """Refuse.

        Raises:
            InputError: always.
        """
        raise _refusal(self.card)


def _refusal(card: str) -> InputError:
    return InputError(f"model '{card}' was outlined from its card, without weights; it cannot be run")


def outlined(card: Card, overrides: Spec | None = None) -> DiffusionModel:
    """Return a card's model without its weights.

    Its digest is another than the loaded model's, which names the weights.

    Args:
        card: of the model.
        overrides: options that were changed.
    """
    facts = card.facts
    return DiffusionModel(
        denoiser=_WithoutWeights(card.name, facts.cost),
        digest=digest(["outline", card.model | (overrides or {}), facts]),
        shape=facts.shape,
        noise_range=_noise_range(facts),
        feature_size=facts.feature_size,
        num_classes=facts.num_classes,
        decoder=None if facts.image_shape is None else _WithoutDecoder(card.name, facts.image_shape),
    )


def require_facts(model: DiffusionModel, card: Card) -> None:
    """Compare a loaded model with its card.

    Raises:
        InputError: it is another model than the card's.
    """
    expected = outlined(card)
    for name in ("shape", "image_shape", "feature_size", "num_classes"):
        found, said = getattr(model, name), getattr(expected, name)
        if found != said:
            raise InputError(f"card '{card.name}': the files hold a model whose {name} is {found}, not {said}")
    for name in ("sigma_min", "sigma_max", "shift"):
        found, said = (getattr(m.noise_range, name) for m in (model, expected))
        if not math.isclose(found, said, rel_tol=1e-3):
            raise InputError(f"card '{card.name}': the files hold a model whose {name} is {found:.6g}, not {said:.6g}")


def _noise_range(facts: Facts) -> NoiseRange:
    log_alphas = None if facts.betas is None else scaled_linear_log_alphas(*facts.betas)
    return NoiseRange(facts.sigma_min, facts.sigma_max, log_alphas, facts.shift)
