r"""Time schedules: the noise levels at which a solver stops.

The noise level sigma is the time. A schedule maps u = i/N, from 0 to 1, onto the levels from sigma_max down to
sigma_min. Because it is a map of u, the grid with M extra levels inside every interval contains the levels of the
coarse grid, exactly. Levels are computed in float64: in float32 the polynomial grid moves by up to 5e-4 at rho = 1.

A schedule's ends are the model's, and others are refused. One exception is published: with rho other than 1,
``discrete`` starts at the level of the time ``t_0^rho``, t_0 that of sigma_max, which is below sigma_max where t_0 is
below 1. Its first level is then the noise's, the analytic first step's and the teacher's too.

========== =====================================================================================================
polynomial ``(sigma_max^(1/rho) + u (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho`` (EDM, Karras et al. 2022, eq. 5)
logsnr     geometric (DPM-Solver, Lu et al. 2022)
time       uniform, then warped by rho, in the time of the variance-preserving SDE (Song et al. 2021) whose ends fit
discrete   uniform, then warped by rho, in the model's own discrete time (DDPM, Ho et al. 2020; Stable Diffusion)
flow       uniform in the time of a flow, ``s = sigma / (1 + sigma)``, then shifted (Stable Diffusion 3, FLUX)
explicit   a list of levels
gits       the list that a dynamic program chose among a fine teacher's levels (GITS, Chen et al. 2024)
========== =====================================================================================================
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from amed_lightning.noise.discrete_time import DiscreteTime
from amed_lightning.noise.form import Form, require_choice
from amed_lightning.noise.found import Found, read_found
from amed_lightning.noise.shift import dynamic_shift
from amed_lightning.tensors import Level

Grid: TypeAlias = Float[Tensor, "levels"]

_INNER_RHO = 7.0
"""Levels inside the intervals of a list are uniform in sigma^(1/7)."""
ROUNDING = 1e-6
"""Relative. An end as near to the model's as this is the model's: float32 moves a computed level by less, any choice of
another range by more."""
FIRST_TIME = 1e-3
"""Smallest time of the variance-preserving SDE (epsilon_s), where its level is sigma_min."""


@dataclass(frozen=True)
class NoiseRange:
    """The levels between which a model was trained.

    Attributes:
        sigma_min: smallest level, positive.
        sigma_max: largest level.
        log_alphas: for a discrete-time model, half the log of its cumulative alphas at times 1/M, 2/M, ..., 1.
        shift: of a flow's times in the model's own pipeline, positive.

    Raises:
        ValueError: the levels are not positive and increasing, the table does not decrease, or the shift is no factor.
    """

    sigma_min: float
    sigma_max: float
    log_alphas: tuple[float, ...] | None = field(default=None, repr=False)
    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"levels from {self.sigma_min} to {self.sigma_max} are not positive and increasing")
        table = self.log_alphas
        if table is not None and not (len(table) > 1 and all(after < before for before, after in pairwise(table))):
            raise ValueError("a model's table of alphas has at least two entries and decreases, and this one does not")
        _require_shift(self.shift)


def _require_shift(shift: float) -> None:
    """Refuse a shift that is no factor of levels.

    Raises:
        ValueError: it is not positive and finite.
    """
    if not 0 < shift < math.inf:
        raise ValueError(f"a shift multiplies levels, so it is positive and finite, and {shift} is not")


@runtime_checkable
class Schedule(Protocol):
    """Maps u in [0, 1] onto noise levels.

    A schedule that has intervals of its own says so by their number, ``intervals``, and is refined by multiples of it;
    one whose published form starts elsewhere than at sigma_max by a true attribute ``has_own_start``, one that serves
    certain samplers only by a mapping ``made_for`` of what these have.
    """

    def sigmas(self, u: Grid, noise_range: NoiseRange) -> Grid:
        """Return the levels at ``u``, decreasing from sigma_max at 0 to sigma_min at 1."""
        ...


def levels(schedule: Schedule, num_intervals: int, noise_range: NoiseRange) -> Grid:
    """Return the N + 1 levels of a schedule, in float64 and decreasing.

    Raises:
        ValueError: fewer than one interval, a number that a list cannot have, ends that are not the model's, or levels
            that do not decrease.

    >>> levels(Logsnr(), 2, NoiseRange(0.01, 100.0)).tolist()
    [100.0, 1.0, 0.01]
    """
    if num_intervals < 1:
        raise ValueError(f"a schedule needs at least one interval, got {num_intervals}")
    if num_intervals % (own := getattr(schedule, "intervals", 1)):
        raise ValueError(f"the list has {own} intervals, which {num_intervals} do not refine")
    # One at a time: a vectorised power rounds differently from place to place, and grids must contain one another.
    u = torch.arange(num_intervals + 1, dtype=torch.float64) / num_intervals
    grid = torch.cat([schedule.sigmas(part, noise_range) for part in torch.split(u, 1)]).double()
    own, model = (float(grid[0]), float(grid[-1])), (noise_range.sigma_max, noise_range.sigma_min)
    first, last = (math.isclose(*ends, rel_tol=ROUNDING) for ends in zip(own, model, strict=True))
    if not last or not (first or getattr(schedule, "has_own_start", False)):
        goes, should = (f"from {start:.10g} to {end:.10g}" for start, end in (own, model))
        raise ValueError(f"the schedule goes {goes}, the model {should}; a schedule has the model's ends")
    grid[0], grid[-1] = model[0] if first else own[0], model[1]
    if not bool((grid.diff() < 0).all()):
        raise ValueError(f"the levels do not decrease: {grid.tolist()}")
    return grid


@dataclass(frozen=True)
class Polynomial:
    """Uniform in sigma^(1/rho).

    Args:
        rho: 7 in EDM; 1 is uniform in sigma.
    """

    rho: float = 7.0

    def sigmas(self, u: Grid, noise_range: NoiseRange) -> Grid:
        """Return the levels at ``u``."""
        return _warp(noise_range.sigma_max, noise_range.sigma_min, u, self.rho)


@dataclass(frozen=True)
class Logsnr:
    """Uniform in ln sigma."""

    def sigmas(self, u: Grid, noise_range: NoiseRange) -> Grid:
        """Return the levels at ``u``."""
        return noise_range.sigma_max * (noise_range.sigma_min / noise_range.sigma_max) ** u


class VPTime:
    """The time t in (0, 1] of the variance-preserving SDE with linear beta (Song et al. 2021).

    ``sigma(t) = sqrt(exp(beta_d t^2 / 2 + beta_min t) - 1)``; the betas follow from sigma(1e-3) = sigma_min and
    sigma(1) = sigma_max (EDM, table 1).

    Args:
        noise_range: gives the ends.
    """

    def __init__(self, noise_range: NoiseRange) -> None:
        low, high = math.log1p(noise_range.sigma_min**2), math.log1p(noise_range.sigma_max**2)
        self.beta_d = 2 * (low / FIRST_TIME - high) / (FIRST_TIME - 1)
        self.beta_min = high - self.beta_d / 2

    def sigma(self, t: Level) -> Level:
        """Return the level at time ``t``."""
        return (self.beta_d * t.square() / 2 + self.beta_min * t).expm1().sqrt()

    def of(self, sigma: Level) -> Level:
        """Return the time of a level."""
        return ((self.beta_min**2 + 2 * self.beta_d * sigma.square().log1p()).sqrt() - self.beta_min) / self.beta_d

    def speed(self, t: Level) -> Level:
        """Return dsigma/dt at time ``t``."""
        sigma = self.sigma(t)
        return (self.beta_min + self.beta_d * t) * (sigma + 1 / sigma) / 2


@dataclass(frozen=True)
class TimeUniform:
    """Uniform in t^(1/rho), t the time of the variance-preserving SDE.

    Args:
        rho: 1 in AMED's recipes, 2 in DEIS'.
    """

    rho: float = 1.0

    def sigmas(self, u: Grid, noise_range: NoiseRange) -> Grid:
        """Return the levels at ``u``."""
        return VPTime(noise_range).sigma(_warp(1.0, FIRST_TIME, u, self.rho))


@dataclass(frozen=True)
class Discrete:
    """Uniform in t^(1/rho), t the model's own time, through its piecewise linear table of log alphas.

    With t_0 and t_N the times of sigma_max and sigma_min, the textbook's is ``t = (t_0^(1/rho) + u (t_N^(1/rho) -
    t_0^(1/rho)))^rho``. As published the root of t_0 is missing, ``t = (t_0 + u (t_N^(1/rho) - t_0))^rho``, and the
    first level is that of ``t_0^rho``. Both are the same where rho or t_0 is 1.

    Args:
        rho: exponent of the warp.
        form: whose formula.

    Raises:
        ValueError: no such form.
    """

    rho: float = 1.0
    form: Form = "published"

    def __post_init__(self) -> None:
        require_choice("form", self.form, ("published", "textbook"))

    @property
    def has_own_start(self) -> bool:
        """Whether the first level is the formula's, not the model's sigma_max."""
        return self.form == "published" and self.rho != 1

    def sigmas(self, u: Grid, noise_range: NoiseRange) -> Grid:
        """Return the levels at ``u``.

        Raises:
            ValueError: the model has no table.
        """
        if noise_range.log_alphas is None:
            raise ValueError("the schedule 'discrete' needs a model with a table of alphas, and this model has none")
        time = DiscreteTime(torch.tensor(noise_range.log_alphas, dtype=u.dtype))
        first, last = time.of(torch.tensor([noise_range.sigma_max, noise_range.sigma_min], dtype=u.dtype))
        start = first if self.form == "published" else first ** (1 / self.rho)
        return time.sigma((start + u * (last ** (1 / self.rho) - start)) ** self.rho)


@dataclass(frozen=True)
class Flow:
    """Uniform in the time of a flow before its shift.

    With a shift a and the ends' times ``s = (sigma / a) / (1 + sigma / a)``, levels are ``a s / (1 - s)`` at times
    between them that are as far from one another. A published pipeline of N steps has the levels of times 1 to 1/N,
    the first of which is infinite, and then 0: this schedule's first is the model's sigma_max, its last sigma_min, and
    ``denoise_to_zero`` adds the step to 0.

    Args:
        shift: a; the model's own pipeline's where nothing is said.
        tokens: of an image, in place of ``shift``: exp of the line through ``base_shift`` at 256 tokens and
            ``max_shift`` at 4096.
        base_shift: with ``tokens``; FLUX's where nothing is said.
        max_shift: with ``tokens``; FLUX's where nothing is said.

    Raises:
        ValueError: a shift that is none, both that and tokens, or a line without tokens.
    """

    shift: float | None = None
    tokens: int | None = None
    base_shift: float = 0.5
    max_shift: float = 1.15

    def __post_init__(self) -> None:
        if self.tokens is None and (self.base_shift, self.max_shift) != (Flow.base_shift, Flow.max_shift):
            raise ValueError(
                "`base_shift` and `max_shift` are a line over `tokens`, of which nothing is said; give them"
            )
        if self.shift is not None and self.tokens is not None:
            raise ValueError("give `shift` or `tokens`, from which it follows, and not both")
        _require_shift(self._factor(1.0))

    def sigmas(self, u: Grid, noise_range: NoiseRange) -> Grid:
        """Return the levels at ``u``."""
        shift = self._factor(noise_range.shift)
        first, last = (level / (shift + level) for level in (noise_range.sigma_max, noise_range.sigma_min))
        time = first + u * (last - first)
        return shift * time / (1 - time)

    def _factor(self, own: float) -> float:
        if self.tokens is not None:
            return dynamic_shift(self.tokens, self.base_shift, self.max_shift)
        return own if self.shift is None else self.shift


@dataclass(frozen=True)
class Explicit:
    """A list of levels; levels inside its intervals are uniform in sigma^(1/7).

    Args:
        levels: decreasing, from the model's sigma_max to its sigma_min.

    Raises:
        ValueError: fewer than two levels, or levels that do not decrease to above zero.
    """

    levels: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or not all(after < before for before, after in pairwise(self.levels)):
            raise ValueError(f"a list of levels has at least two and decreases, unlike {list(self.levels)}")
        if self.levels[-1] <= 0:
            raise ValueError(f"levels are positive, and {self.levels[-1]} is not")

    @property
    def intervals(self) -> int:
        """How many intervals the list has."""
        return len(self.levels) - 1

    def sigmas(self, u: Grid, noise_range: NoiseRange) -> Grid:
        """Return the levels at ``u``; whole parts of the list are its own levels to the last bit."""
        position = u * self.intervals
        nearest = position.round()
        position = torch.where((position - nearest).abs() < ROUNDING, nearest, position)
        index = position.floor().long()
        listed = torch.tensor(self.levels, dtype=u.dtype)
        first, last = listed[index], listed[(index + 1).clamp(max=len(listed) - 1)]
        inside = position - index
        return torch.where(inside == 0, first, _warp(first, last, inside, _INNER_RHO))


@dataclass(frozen=True)
class Gits(Explicit):
    """Levels that a search found.

    Args:
        levels: as in :class:`Explicit`.
        found: how they were found, and what for.
    """

    found: Found

    @property
    def made_for(self) -> dict[str, Any]:
        """What a sampler on these levels has to have; any other is refused."""
        return self.found.made_for


def gits(path: str) -> Gits:
    """Read the levels that ``amed-lightning schedule`` found (GITS, Chen et al. 2024).

    Args:
        path: of its ``.json``.

    Raises:
        ValueError: the file is missing, is not such a file, or holds levels that no list can have.
    """
    found = read_found(Path(path))
    try:
        return Gits(found.sigmas, found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def scaled_linear_log_alphas(first: float = 0.00085, last: float = 0.012, steps: int = 1000) -> tuple[float, ...]:
    """Return Stable Diffusion's table: betas are the squares of uniform points between the roots of two betas."""
    betas = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()
    return tuple(((1 - betas).log().cumsum(0) / 2).tolist())


def _warp(first: float | Grid, last: float | Grid, u: Grid, rho: float) -> Grid:
    return (first ** (1 / rho) + u * (last ** (1 / rho) - first ** (1 / rho))) ** rho


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "polynomial": Polynomial,
    "logsnr": Logsnr,
    "time_uniform": TimeUniform,
    "discrete": Discrete,
    "flow": Flow,
    "explicit": Explicit,
    "gits": gits,
}
"""The schedules that configurations call by name."""
