"""A network of one's own as a model: one of discrete, variance-preserving levels, or one of flow matching.

Anything else that estimates the clean image is an :class:`OwnModel`, or a ``Denoiser`` in a ``DiffusionModel``.
"""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.config import InputError, digest
from amed_lightning.denoisers.bottleneck import averaged, observe, observed
from amed_lightning.denoisers.files import weights_digest
from amed_lightning.denoisers.preconditioning import FlowMatching, OfTable, Preconditioned, Prediction
from amed_lightning.flow.model import Condition, Denoised, DiffusionModel, Features
from amed_lightning.noise.betas import log_alphas_of
from amed_lightning.noise.schedules import NoiseRange
from amed_lightning.runtime.maker import maker_of
from amed_lightning.tensors import Images, Level


class OwnModel(nn.Module, ABC):
    """A model in one class: it estimates the clean image, and has the facts that a user of it must know.

    Attributes:
        word: identifies what its answers depend on besides its options and weights; stores, predictors and results
            carry a digest of all three.
        shape: channels, height, width of a sample.
        noise_range: the levels between which it may be asked.
        feature_size: length of the features of its answers, which predictors read.
        num_classes: number of class labels, 0 for an unconditional model.
        cost: network runs of an answer.
        told: its options.
    """

    word: str = ""
    shape: tuple[int, int, int]
    noise_range: NoiseRange
    feature_size: int = 0
    num_classes: int = 0
    cost: int = 1
    told: dict[str, Any]

    def __new__(cls, *arguments: Any, **options: Any) -> "OwnModel":
        """Take note of the options."""
        model = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind(model, *arguments, **options)
        bound.apply_defaults()
        _, *told = bound.arguments.items()
        model.__dict__["told"] = dict(told)
        return model

    @abstractmethod
    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Estimate the clean image of each state, see :class:`~amed_lightning.flow.model.Denoiser`."""

    def model(self) -> DiffusionModel:
        """Freeze it, in place, and return it with its facts."""
        self.eval().requires_grad_(False)
        facts = (self.shape, self.noise_range, self.feature_size, self.num_classes)
        made_of = [_kind(self), self.told, self.word, weights_digest(self), *facts]
        return DiffusionModel(self, digest(made_of), *facts)

    @classmethod
    def maker(cls) -> Callable[..., DiffusionModel]:
        """Return what builds the model of its options."""
        make: Callable[..., DiffusionModel] = maker_of(cls, OwnModel.model)
        return make


class _OwnNetwork(nn.Module):
    """Anybody's network as one that a :class:`Preconditioned` asks.

    Args:
        network: answers with a tensor of the state's shape; channels beyond the state's are variances, unused.
        bottleneck: the one of its modules that returns the bottleneck, of shape (batch, channels, height, width).
        open_label: what it takes for no class.

    Raises:
        InputError: a bottleneck that is no module of it.
    """

    def __init__(self, network: nn.Module, bottleneck: nn.Module | None, open_label: int) -> None:
        super().__init__()
        self.network, self.open_label = network, open_label
        self.bottleneck_names = [name for name, module in network.named_modules() if module is bottleneck]
        if bottleneck is not None:
            if not self.bottleneck_names:
                raise InputError(f"bottleneck: this {type(bottleneck).__name__} is none of the network's modules")
            observe(bottleneck)

    def forward(self, x: Images, time: Float[Tensor, "batch"], condition: Condition | None) -> tuple[Images, Features]:
        """Return the prediction and the features, of which there are none without a bottleneck.

        Raises:
            InputError: the network's answer is not of the state's shape.
        """
        with observed() as outputs:
            labels = () if condition is None else (condition.where(condition >= 0, self.open_label),)
            output = self.network(x, time, *labels)
        output = output[:, : x.shape[1]].to(x.dtype)
        if output.shape != x.shape:
            raise InputError(f"the network answers in shape {tuple(output.shape)} where {tuple(x.shape)} is needed")
        features = averaged(outputs[-1]).to(x.dtype) if self.bottleneck_names else x.new_zeros(x.shape[0], 0)
        return output, features


def discrete_model(
    network: nn.Module,
    shape: tuple[int, int, int],
    betas: Sequence[float] | Float[Tensor, "steps"],
    prediction: Prediction = "epsilon",
    num_classes: int = 0,
    bottleneck: nn.Module | None = None,
    open_label: int = -1,
) -> DiffusionModel:
    """Describe a network that was trained as DDPM's are (Ho et al. 2020). It is frozen, in place.

    Args:
        network: called as ``network(x, time)``, with a label per sample as the third argument if there are classes;
            ``x`` has variance 1, ``time`` is 0 to M - 1 for each sample, fractions included.
        shape: channels, height, width of a sample.
        betas: of the M steps of training, each between 0 and 1.
        prediction: what it answers with: the noise (``epsilon``), ``v_prediction``, or the clean image (``sample``).
        num_classes: number of labels, 0 for an unconditional model.
        bottleneck: the one of its modules whose output a predictor is to see; without, no predictor can be fitted.
        open_label: the label that the network takes for no class, for which classifier-free guidance asks it; often
            ``num_classes``.

    Raises:
        InputError: betas that are none, a bottleneck that is no module of the network, or a network that does not
            answer in the state's shape.
    """
    steps = [float(beta) for beta in betas]
    if len(steps) < 2 or not all(0 < beta < 1 for beta in steps):
        raise InputError("betas: there are two at least, each between 0 and 1")
    around = OfTable(table=log_alphas_of(steps), prediction=prediction)
    denoiser = Preconditioned(_OwnNetwork(network, bottleneck, open_label), around)
    return _described(denoiser, shape, around.noise_range, prediction, num_classes)


def flow_model(
    network: nn.Module,
    shape: tuple[int, int, int],
    times: tuple[float, float] = (0.001, 0.999),
    num_classes: int = 0,
    bottleneck: nn.Module | None = None,
    shift: float = 1.0,
    open_label: int = -1,
) -> DiffusionModel:
    """Describe a network that was trained by flow matching, as Stable Diffusion 3's. It is frozen, in place.

    At ``s = 1`` the level is infinite; sampling begins at the largest of ``times``, with noise alone.

    Args:
        network: called as ``network(x, time)``, with a label per sample as the third argument if there are classes;
            ``x`` is ``(1 - s) x_0 + s n``, ``time`` is 1000 s, and it answers with ``n - x_0``.
        shape: channels, height, width of a sample.
        times: the smallest and the largest s, between which it is used, before the shift.
        num_classes: number of labels, 0 for an unconditional model.
        bottleneck: the one of its modules whose output a predictor is to see; without, no predictor can be fitted.
        shift: of the times that it is used at, which the schedule ``flow`` takes; positive.
        open_label: the label that the network takes for no class, for which classifier-free guidance asks it; often
            ``num_classes``.

    Raises:
        InputError: times that are none, a shift that is no factor, or a network that does not answer in the state's
            shape.
    """
    if not 0 < times[0] < times[1] < 1:
        raise InputError(f"times {times}: they lie between 0 and 1, the smaller first")
    if not 0 < shift < math.inf:
        raise InputError(f"shift {shift}: it multiplies levels, so it is positive and finite")
    sigma_min, sigma_max = (shift * time / (1 - time) for time in times)
    denoiser = Preconditioned(_OwnNetwork(network, bottleneck, open_label), FlowMatching())
    return _described(denoiser, shape, NoiseRange(sigma_min, sigma_max, shift=shift), "flow_prediction", num_classes)


def _described(
    denoiser: Preconditioned, shape: tuple[int, int, int], noise_range: NoiseRange, prediction: str, num_classes: int
) -> DiffusionModel:
    """Freeze a denoiser, and describe it by what it has and what it answers."""
    denoiser.eval().requires_grad_(False)
    own = denoiser.model
    label = torch.zeros(1, dtype=torch.long) if num_classes else None
    like = next(own.network.parameters(), torch.zeros(()))
    with torch.inference_mode():
        _, features = own(
            like.new_zeros(1, *shape), like.new_zeros(1), label if label is None else label.to(like.device)
        )
    levels = {name: getattr(noise_range, name) for name in ("sigma_min", "sigma_max", "log_alphas")}
    made_of = [
        _kind(own.network),
        weights_digest(own.network),
        shape,
        levels,
        prediction,
        num_classes,
        features.shape[1],
        *own.bottleneck_names,
        *([own.open_label] if own.open_label != -1 else []),
    ]
    return DiffusionModel(denoiser, digest(made_of), shape, noise_range, features.shape[1], num_classes)


def _kind(network: nn.Module) -> str:
    return f"{type(network).__module__}.{type(network).__qualname__}"
