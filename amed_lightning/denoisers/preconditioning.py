r"""Preconditioning: how a network F becomes a denoiser (Karras et al. 2022, eq. 7 and table 1).

``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)``.

=========== =================================== ====================== ============================= ================
            c_skip                              c_out                  c_in                          c_noise
=========== =================================== ====================== ============================= ================
edm         sigma_data^2/(sigma_data^2+sigma^2) sigma sigma_data c_in  1/sqrt(sigma_data^2+sigma^2)  ln(sigma) / 4
cm          the same                            the same               the same                      250 ln(sigma)
vp, edm_vp  1                                   -sigma: F is the noise 1/sqrt(1+sigma^2)             (M - 1) t(sigma)
vp_discrete the same                            the same               the same                      step(sigma)
edm_iddpm   the same                            the same               the same                      the nearest step
table       by what F is, below                 by what F is, below    the same                      step(sigma)
edm_ve      1                                   sigma                  1                             ln(sigma / 2)
flow        1 / (1 + sigma)                     -sigma / (1 + sigma)   1 / (1 + sigma)               1000 s
=========== =================================== ====================== ============================= ================

cm is EDM's network in the consistency models' files (Song et al. 2023). vp is the variance-preserving form of ADM, and
edm_vp that of EDM's baseline, where ``sigma^2 + 1 = exp(beta_d t^2 / 2 + beta_min t)``; t is not rounded to the steps
of training. vp_discrete is the same by a table of the steps' cumulative alphas, between which the step is linear in ln
alpha; table is that of DDPM, LDM and Stable Diffusion, whose alphas are written out. edm_iddpm is EDM's baseline on the
cosine table, which is told the step whose level is nearest, as published: between two levels c_out and c_in follow
sigma, and c_noise jumps in the middle. The data's standard deviation is taken as 1 in all but the first two.

In the variance-preserving forms F is the noise n unless it is said to be another:

============ =================== ============================= =======================================================
             c_skip              c_out                         F
============ =================== ============================= =======================================================
epsilon      1                   -sigma                        n
v_prediction 1 / (1 + sigma^2)   -sigma / sqrt(1 + sigma^2)    ``alpha n - alpha sigma x_0`` (Salimans and Ho 2022,
                                                               appendix D) with ``alpha = 1 / sqrt(1 + sigma^2)``
sample       0                   1                             x_0
============ =================== ============================= =======================================================

A network of flow matching (Liu et al. 2023; Stable Diffusion 3, Esser et al. 2024) sees ``(1 - s) x_0 + s n`` at the
time ``s = sigma / (1 + sigma)``, which is ``x / (1 + sigma)``, and predicts ``n - x_0``. A step of Euler's method from
sigma to sigma' is one from s to s' in its own states: ``(x + (sigma' - sigma) (x - D) / sigma) / (1 + sigma')
= x / (1 + sigma) + (s' - s) F``. At ``s = 1`` sigma is infinite: models go up to the largest s that they say.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from amed_lightning.denoisers.adm import NoisyClassifier
from amed_lightning.flow.model import Condition, Denoised, Features
from amed_lightning.noise.betas import BETAS, RESCALED_STEPS, NoiseSchedule, cosine_betas, log_alphas_of
from amed_lightning.noise.discrete_time import DiscreteTime
from amed_lightning.noise.schedules import NoiseRange
from amed_lightning.tensors import Images, Level, per_sample

Network: TypeAlias = Callable[[Images, Float[Tensor, "batch"], Condition | None], tuple[Images, Features]]
"""Answers at a scaled state, c_noise per sample and their conditions, with its bottleneck features."""
Moving: TypeAlias = Callable[[Tensor], Tensor]
"""What a module does to its tensors where it is moved or converted."""
Prediction: TypeAlias = Literal["epsilon", "v_prediction", "sample"]
_SKIP_AND_OUT: dict[Prediction, Callable[[Level], tuple[Level | float, Level]]] = {
    "epsilon": lambda sigma: (1.0, -sigma),
    "v_prediction": lambda sigma: (1 / (1 + sigma.square()), -sigma / (1 + sigma.square()).sqrt()),
    "sample": lambda sigma: (0.0, torch.ones_like(sigma)),
}
"""The factors of the state and of what a variance-preserving network predicts in the clean image."""
FLOW_STEPS = 1000
"""What a network of flow matching takes its time in."""


class Coefficients(NamedTuple):
    """What surrounds a network at a level; ``scale`` is 1 / c_in."""

    skip: Level | float
    out: Level
    scale: Level
    noise: Level


@dataclass(frozen=True)
class Preconditioning(ABC):
    """What surrounds a network.

    Attributes:
        sigma_data: standard deviation of the data.
        rounds: whether a level is rounded to the images' precision first, as in EDM's code; else its coefficients are
            those of the level itself.
    """

    sigma_data: float = 1.0
    rounds: ClassVar[bool] = True

    @property
    def log_alphas(self) -> tuple[float, ...] | None:
        """Half the log of the cumulative alphas of a model of discrete steps."""
        return None

    @abstractmethod
    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""

    def following(self, moving: Moving) -> "Preconditioning":
        """Return what surrounds the network where it goes; only a table goes with it."""
        return self


@dataclass(frozen=True)
class EDM(Preconditioning):
    """EDM's own form."""

    sigma_data: float = 0.5

    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""
        variance = sigma.square() + self.sigma_data**2
        scale = variance.sqrt()
        return Coefficients(self.sigma_data**2 / variance, sigma * self.sigma_data / scale, scale, self.code(sigma))

    def code(self, sigma: Level) -> Level:
        """Return what the network is told of a level."""
        return sigma.log() * 0.25


class Consistency(EDM):
    """EDM's form in the consistency models' files."""

    def code(self, sigma: Level) -> Level:
        """Return what the network is told of a level."""
        return sigma.log() * 250.0


@dataclass(frozen=True)
class OfUnitVariance(Preconditioning):
    """A form in which the data's standard deviation is 1.

    Raises:
        ValueError: it is said to be another.
    """

    def __post_init__(self) -> None:
        if self.sigma_data != 1:
            raise ValueError(f"sigma_data is {self.sigma_data}; this preconditioning takes it as 1")


@dataclass(frozen=True)
class VariancePreserving(OfUnitVariance):
    """The variance-preserving form.

    Attributes:
        prediction: what the network says.
    """

    prediction: Prediction = field(default="epsilon", kw_only=True)

    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""
        skip, out = _SKIP_AND_OUT[self.prediction](sigma)
        return Coefficients(skip, out, (1 + sigma.square()).sqrt(), self.step(sigma))

    @abstractmethod
    def step(self, sigma: Level) -> Level:
        """Return the step that the network is told at a level."""


@dataclass(frozen=True)
class VP(VariancePreserving):
    """Steps of the variance-preserving SDE (Song et al. 2021), fractions included.

    Attributes:
        beta_d: slope of beta in time.
        beta_min: beta at time 0.
        M: number of steps in training; the last, M - 1, is at time 1.

    Raises:
        ValueError: betas that are not positive and rising, or fewer than two steps.
    """

    beta_d: float = 19.9
    beta_min: float = 0.1
    M: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta_d <= 0 or self.beta_min < 0 or self.M < 2:
            raise ValueError(f"beta_d {self.beta_d}, beta_min {self.beta_min}, M {self.M}: no noise that grows so")

    def step(self, sigma: Level) -> Level:
        """Return the step that the network is told at a level."""
        root = (self.beta_min**2 + 2 * self.beta_d * sigma.square().log1p()).sqrt()
        return (self.M - 1) * ((root - self.beta_min) / self.beta_d)

    def sigma(self, t: float) -> float:
        """Return the level at a time."""
        return level(-(self.beta_d * t**2 / 2 + self.beta_min * t) / 2)


class Discrete(VariancePreserving):
    """A table of training's steps, 0 to M - 1, fractions included."""

    @property
    @abstractmethod
    def log_alphas(self) -> tuple[float, ...]:
        """Half the log of the cumulative alphas after each step."""

    @property
    def levels(self) -> tuple[float, float]:
        """The levels of the first and of the last step."""
        return level(self.log_alphas[0]), level(self.log_alphas[-1])

    def step(self, sigma: Level) -> Level:
        """Return the step that the network is told at a level."""
        table = self._table.to(sigma.device)
        return len(table) * DiscreteTime(table).of(sigma.double()) - 1

    def following(self, moving: Moving) -> "Discrete":
        """Let the table go where the network goes, in its own precision."""
        self.__dict__["_table"] = self._table.to(moving(self._table).device)
        return self

    @cached_property
    def _table(self) -> Tensor:
        return torch.tensor(self.log_alphas, dtype=torch.float64, device="cpu")  # whatever the default device


@dataclass(frozen=True)
class OfTable(Discrete):
    """Steps of DDPM's and Stable Diffusion's trainings, fractions included.

    Attributes:
        table: half the log of the cumulative alphas at times 1/M, ..., 1; two at least, decreasing.
    """

    table: tuple[float, ...] = field(default=(), repr=False)
    rounds = False

    @property
    def log_alphas(self) -> tuple[float, ...]:
        """Half the log of the cumulative alphas after each step."""
        return self.table

    @property
    def noise_range(self) -> NoiseRange:
        """The levels of the first and of the last entry, between which the network was trained."""
        sigma_min, sigma_max = (math.sqrt(math.expm1(-2 * end)) for end in (self.table[0], self.table[-1]))
        return NoiseRange(sigma_min, sigma_max, self.table)


@dataclass(frozen=True)
class VPDiscrete(Discrete):
    """Steps of guided-diffusion's and improved-diffusion's trainings, fractions included.

    Attributes:
        noise_schedule: of the betas.
        diffusion_steps: their number.
        rescale_timesteps: whether the network is told its step as one of a thousand.
    """

    noise_schedule: NoiseSchedule = "cosine"
    diffusion_steps: int = 1000
    rescale_timesteps: bool = False

    @cached_property
    def log_alphas(self) -> tuple[float, ...]:
        """Half the log of the cumulative alphas after each step."""
        return log_alphas_of(BETAS[self.noise_schedule](self.diffusion_steps))

    def step(self, sigma: Level) -> Level:
        """Return the step that the network is told at a level."""
        step = super().step(sigma)
        return (step * RESCALED_STEPS / self.diffusion_steps if self.rescale_timesteps else step).to(sigma.dtype)


@dataclass(frozen=True)
class IDDPM(Discrete):
    """EDM's form of Nichol and Dhariwal's models, on levels u_0 > ... > u_{M-1} > u_M = 0.

    ``u_{j-1} = sqrt((u_j^2 + 1) / max(a_{j-1} / a_j, C_1) - 1)`` with ``a_j = sin^2(pi/2 j / (M (C_2 + 1)))``: u_j is
    the level of step M - 1 - j of the cosine betas that are clipped at ``1 - C_1``.

    Attributes:
        C_1: smallest alpha of a step.
        C_2: offset of the cosine.
        M: number of steps.

    Raises:
        ValueError: alphas that are not between 0 and 1.
    """

    C_1: float = 0.001
    C_2: float = 0.008
    M: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.C_1 < 1 or self.C_2 < 0:
            raise ValueError(f"C_1 {self.C_1}, C_2 {self.C_2}: no noise that grows so")

    @cached_property
    def log_alphas(self) -> tuple[float, ...]:
        """Half the log of the cumulative alphas after each step."""
        return log_alphas_of(cosine_betas(self.M, self.C_2, 1 - self.C_1))

    @property
    def u(self) -> Float[Tensor, "levels"]:
        """The levels u_0 ... u_M."""
        return torch.cat([(-2 * self._table).expm1().sqrt().flip(0), self._table.new_zeros(1)])

    def step(self, sigma: Level) -> Level:
        """Return the number of the nearest level, -1 for zero."""
        rising = self.u.flip(0).to(sigma.device)
        return torch.bucketize(sigma.detach().double(), (rising[1:] + rising[:-1]) / 2).to(sigma.dtype) - 1


@dataclass(frozen=True)
class FlowMatching(OfUnitVariance):
    """Rectified flows.

    Attributes:
        steps: the network's time at ``s = 1``.
    """

    steps: float = FLOW_STEPS
    rounds = False

    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""
        scale = 1 + sigma
        return Coefficients(1 / scale, -sigma / scale, scale, self.steps * sigma / scale)


class VE(OfUnitVariance):
    """EDM's form of the variance-exploding SDE (Song et al. 2021)."""

    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""
        return Coefficients(1.0, sigma, torch.ones_like(sigma), (sigma / 2).log())


def level(log_alpha: float) -> float:
    """Return a level, to ten digits: a card's digest does not depend on how a machine rounds its last bit.

    Args:
        log_alpha: half the log of the cumulative alpha.
    """
    return float(f"{math.sqrt(math.expm1(-2 * log_alpha)):.10g}")


class Preconditioned(nn.Module):
    """A network as a denoiser.

    Args:
        model: the network F; outputs beyond the image's channels are variances, unused.
        preconditioning: what surrounds it.
    """

    cost = 1

    def __init__(self, model: Network, preconditioning: Preconditioning) -> None:
        super().__init__()
        self.model: Any = model
        self.preconditioning = preconditioning.following(lambda tensor: tensor)  # a table is made before it is needed

    @property
    def sigma_data(self) -> float:
        """Standard deviation of the data."""
        return self.preconditioning.sigma_data

    def coefficients(self, sigma: Level) -> Coefficients:
        """Return what surrounds the network at level ``sigma``."""
        return self.preconditioning.coefficients(sigma)

    def forward(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Denoise ``x`` at level ``sigma``; a negative label, or None, leaves the class open."""
        at = self.coefficients(sigma.to(x.dtype) if self.preconditioning.rounds else sigma)
        code = per_sample(at.noise, x.shape[0]).to(x.dtype)
        output, features = self.model((x / at.scale).to(x.dtype), code, condition)
        answer = output[:, : x.shape[1]].to(x.dtype)
        return Denoised((at.skip * x + at.out * answer).to(x.dtype), features)

    def _apply(self, fn: Moving, recurse: bool = True) -> "Preconditioned":
        self.preconditioning = self.preconditioning.following(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


class PreconditionedClassifier(nn.Module):
    """A classifier of noisy images beside a variance-preserving model.

    Args:
        model: the classifier of scaled images.
        preconditioning: the model's; scale and step are the same.
    """

    def __init__(self, model: NoisyClassifier, preconditioning: Preconditioning) -> None:
        super().__init__()
        self.model, self.preconditioning = model, preconditioning

    def forward(self, x: Images, sigma: Level, labels: Condition) -> Float[Tensor, "batch"]:
        """Return log p(class | x; sigma) of each sample's own class."""
        at = self.preconditioning.coefficients(sigma.to(x.dtype))
        logits = self.model(x / at.scale, per_sample(at.noise, len(x)))
        own: Tensor = logits.log_softmax(1).gather(1, labels[:, None])
        return own[:, 0]
