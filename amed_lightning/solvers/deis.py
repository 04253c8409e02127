r"""DEIS (Zhang and Chen 2023, ICLR): Adams-Bashforth exponential integrators, orders 1 to 4.

The noise that the network sees, here the derivative d, is extrapolated by a polynomial and integrated over the step:
``tAB`` takes the polynomial in the time t of the variance-preserving SDE and integrates it against dsigma/dt, ``rhoAB``
in sigma itself, which needs no quadrature and is textbook iPNDM-v. Orders count evaluations.

The published tables integrated tAB with a left sum of 10,000 points, both ends counted, and took the SDE's betas for
levels from 0.002 to 80 whatever the model was. Exact quadrature moves the published samples by up to 1e-3; it is also
what a placer per sample wants, for which the sum is taken per sample and costs more than the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.noise.form import Form
from amed_lightning.noise.schedules import NoiseRange, VPTime
from amed_lightning.solvers.adams_bashforth import NOMINAL, PAPER, weighted
from amed_lightning.solvers.method import Variant
from amed_lightning.solvers.multistep import Rule
from amed_lightning.solvers.quadrature import extrapolation_weights, lagrange_weights, points_between
from amed_lightning.tensors import Images, Level

_PUBLISHED_POINTS, _EXACT_POINTS = 10_000, 32
_TIME = VPTime(NoiseRange(0.002, 80.0))


@dataclass(frozen=True)
class DEIS(Rule):
    """DEIS, whose order 4 is tAB3.

    Args:
        order: 1 to 4.
        variable: of the polynomial, ``tAB`` or ``rhoAB``.
        form: how tAB is integrated, as published or exactly.

    Raises:
        ValueError: no such order, variable or form.
    """

    order: int = 4
    variable: Literal["tAB", "rhoAB"] = "tAB"
    form: Form = "published"
    paper: ClassVar = PAPER
    variants: ClassVar = (
        Variant(
            NOMINAL,
            {"variable": "tAB", "form": "published"},
            "sums 10,000 points, both ends counted; its time belongs to levels from 0.002 to 80 whatever the model",
        ),
        Variant(NOMINAL, {"variable": "tAB", "form": "textbook"}, "integrated to rounding; the same time"),
        Variant(NOMINAL, {"variable": "rhoAB"}, "none; it is `ipndm_v`, textbook"),
    )

    def __call__(
        self, x: Images, evaluations: Sequence[Evaluation], sigma_next: Level, updates_left: int
    ) -> tuple[Images, Images]:
        """Return (x, the weighted derivatives, whose weights contain the step)."""
        levels = [evaluation.sigma for evaluation in evaluations]
        if len(levels) == 1:
            return x, (sigma_next - levels[0]) * evaluations[0].derivative
        if self.variable == "rhoAB":
            weights = extrapolation_weights(levels, sigma_next)
        else:
            weights = (
                _exact_weights(levels, sigma_next) if self.form == "textbook" else _summed_weights(levels, sigma_next)
            )
        return x, weighted(weights, evaluations)


def _exact_weights(levels: Sequence[Level], sigma_next: Level) -> list[Level]:
    """Integrate over ln sigma, in which the polynomials in t are smooth."""
    logs, measure = points_between(levels[0].log(), sigma_next.log(), _EXACT_POINTS)
    sigmas = logs.exp()
    return lagrange_weights([_TIME.of(level) for level in levels], _TIME.of(sigmas), measure * sigmas)


def _summed_weights(levels: Sequence[Level], sigma_next: Level) -> list[Level]:
    """Sum over equidistant times, both ends counted, in float64."""
    times = [_TIME.of(level.double()) for level in levels]
    span = _TIME.of(sigma_next.double()) - times[0]
    fractions = torch.linspace(0, 1, _PUBLISHED_POINTS, dtype=torch.float64, device=span.device)
    points = times[0] + span * fractions.reshape(-1, *[1] * span.ndim)
    weights = lagrange_weights(times, points, _TIME.speed(points) * span / _PUBLISHED_POINTS)
    precision = (sigma_next - levels[0]).dtype  # torch.result_type would cut a compiled graph
    return [weight.to(precision) for weight in weights]
