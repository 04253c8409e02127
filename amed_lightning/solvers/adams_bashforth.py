r"""Adams-Bashforth rules in sigma: Euler, iPNDM and iPNDM-v.

Euler is DDIM (Song et al. 2021) in this parametrisation: ``x' = x + (sigma' - sigma) d``, order 1.

iPNDM (Zhang and Chen 2023, section 3.3; after Liu et al. 2022) takes the weights of an equidistant grid, whatever the
grid is: its nominal order holds on levels uniform in sigma, order 2 at most elsewhere.

iPNDM-v takes the weights of the grid it is on. The textbook's integrate the Lagrange extrapolation of d exactly and
reach the nominal order on every grid. The published tables used others at orders 3 and 4: with steps h_0 (this one),
h_1, h_2, h_3 (the ones before), ``q = h_0/h_1, g = h_1/h_2, e = h_1 (h_1 + h_2) / (h_2 (h_2 + h_3))``, order 3 adds
``A (1, -(1 + g), g)`` and order 4 ``B (1, -(1 + g + e), g + e (1 + h_2/h_3), -e g)`` to the order-2 weights
``(1 + q/2, -q/2)``, with A and B as below. On an equidistant grid order 4 gives (57, -65, 43, -11)/24 where
(55, -59, 37, -9)/24 is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.noise.form import Form
from amed_lightning.solvers.method import Variant
from amed_lightning.solvers.multistep import Rule
from amed_lightning.solvers.quadrature import extrapolation_weights
from amed_lightning.tensors import Images, Level

EQUIDISTANT = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of orders 1 to 4 on an equidistant grid, newest evaluation first."""
PAPER = "Zhang and Chen 2023, [2204.13902](https://arxiv.org/abs/2204.13902)"
"""Of iPNDM, iPNDM-v and DEIS."""
NOMINAL = (1, 2, 3, 4)


def weighted(weights: Sequence[Level | float], evaluations: Sequence[Evaluation]) -> Images:
    """Return the weighted sum of derivatives, newest first."""
    slope = weights[0] * evaluations[0].derivative
    for weight, evaluation in zip(weights[1:], evaluations[1:], strict=True):
        slope = slope + weight * evaluation.derivative
    return slope


@dataclass(frozen=True)
class Equidistant(Rule):
    """iPNDM: the weights of an equidistant grid; Euler at order 1.

    Args:
        order: 1 to 4.

    Raises:
        ValueError: no such order.
    """

    order: int = 4
    paper: ClassVar = PAPER
    variants: ClassVar = (Variant(NOMINAL, deviation="an equidistant grid's weights on every grid", most_elsewhere=2),)

    def __call__(
        self, x: Images, evaluations: Sequence[Evaluation], sigma_next: Level, updates_left: int
    ) -> tuple[Images, Images]:
        """Return (x, the step times the weighted derivatives)."""
        return x, (sigma_next - evaluations[0].sigma) * weighted(EQUIDISTANT[len(evaluations) - 1], evaluations)


@dataclass(frozen=True)
class Euler(Equidistant):
    """Euler's method, which is DDIM."""

    order: int = field(default=1, init=False)
    paper: ClassVar = "Song et al. 2021 (DDIM), [2010.02502](https://arxiv.org/abs/2010.02502)"
    variants: ClassVar = (Variant((1,)),)


@dataclass(frozen=True)
class VariableStep(Rule):
    """iPNDM-v: the weights of the grid it is on.

    Args:
        order: 1 to 4.
        form: whose weights, see above.

    Raises:
        ValueError: no such order or form.
    """

    order: int = 4
    form: Form = "published"
    paper: ClassVar = PAPER
    variants: ClassVar = (
        Variant(
            (1, 2, 3, None),
            {"form": "published"},
            "a bracket of order 3 is misplaced, which its order survives; order 4 has (57, −65, 43, −11)/24 on an"  # noqa: RUF001
            " equidistant grid, and weights that sum to 1 only for steps in geometric progression",
        ),
        Variant(NOMINAL, {"form": "textbook"}),
    )

    def __call__(
        self, x: Images, evaluations: Sequence[Evaluation], sigma_next: Level, updates_left: int
    ) -> tuple[Images, Images]:
        """Return (x, the weighted derivatives, whose weights contain the step)."""
        levels = [evaluation.sigma for evaluation in evaluations]
        if self.form == "textbook":
            return x, weighted(extrapolation_weights(levels, sigma_next), evaluations)
        weights = _published_weights([newer - older for newer, older in pairwise((sigma_next, *levels))])
        return x, (sigma_next - levels[0]) * weighted(weights, evaluations)


def _published_weights(steps: Sequence[Level]) -> list[Level | float]:
    """Return the published tool's weights for one to four steps, newest first."""
    if len(steps) == 1:
        return [1.0]
    h0, h1 = steps[:2]
    ratio = h0 / h1
    weights: list[Level | float] = [1 + ratio / 2, -ratio / 2]
    if len(steps) == 2:
        return weights
    h2, g = steps[2], h1 / steps[2]
    third = h0 / (3 * (h0 + h1))
    a = (1 - third * h0 * (h0 + h1) / (h1 * (h1 + h2))) / 2
    weights = [weights[0] + a, weights[1] - (1 + g) * a, g * a]
    if len(steps) == 3:
        return weights
    h3 = steps[3]
    e = h1 * (h1 + h2) / (h2 * (h2 + h3))
    fourth = (1 - third) / 2 + (1 - h0 / (2 * (h0 + h1))) * h0 / (6 * (h0 + h1 + h2))
    b = fourth * h0 * (h0 + h1) * (h0 + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
    added = [b, -(1 + g + e) * b, (g + e * (1 + h2 / h3)) * b, -e * g * b]
    return [weight + extra for weight, extra in zip([*weights, 0.0], added, strict=True)]
