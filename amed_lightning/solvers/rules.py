r"""Update rules with one evaluation per interval.

Euler is DDIM (Song et al. 2021) in this parametrisation: ``x' = x + (sigma' - sigma) d``, order 1.

iPNDM (Zhang and Chen 2023, "DEIS", section 3.3; after Liu et al. 2022) is Adams-Bashforth with the weights of an
equidistant grid, whatever the grid is: its nominal order holds on levels uniform in sigma, order 2 at most elsewhere.

DPM-Solver++ (Lu et al. 2022b) is an exponential integrator in lambda = -ln sigma, with H the step in lambda. With data
prediction it extrapolates D, with noise prediction the derivative d:

    data:  ``x' = (sigma'/sigma) x - (phi_1 m_0 + ...)``,  ``phi_1 = e^-H - 1``
    noise: ``x' = x - sigma' (phi_1 m_0 + ...)``,          ``phi_1 = e^H - 1``

Its published third-order form takes D2 = H^2 m''/2 where the expansion needs H^2 m'', and therefore converges at order
2. It stays the default because the published tables rest on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch

from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.tensors import Images, Level

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of orders 1 to 4 on an equidistant grid, newest answer first."""


def require_order(order: int, highest: int) -> None:
    """Refuse an order outside 1 .. ``highest``.

    Raises:
        ValueError: naming the orders that exist.
    """
    if order not in range(1, highest + 1):
        raise ValueError(f"order {order} does not exist; use 1 to {highest}")


@dataclass(frozen=True)
class EquidistantAdamsBashforth:
    """iPNDM; Euler at order 1.

    Args:
        max_order: 1 to 4.

    Raises:
        ValueError: no such order.
    """

    max_order: int

    def __post_init__(self) -> None:
        require_order(self.max_order, len(ADAMS_BASHFORTH))

    def __call__(
        self, x: Images, answers: Sequence[Evaluation], sigma_next: Level, updates_left: int
    ) -> tuple[Images, Images]:
        """Return (x, the weighted sum of derivatives times the step)."""
        weights = ADAMS_BASHFORTH[len(answers) - 1]
        slope = sum(
            (weight * answer.derivative for weight, answer in zip(weights[1:], answers[1:], strict=True)),
            start=weights[0] * answers[0].derivative,
        )
        return x, (sigma_next - answers[0].sigma) * slope


@dataclass(frozen=True)
class DPMSolverPlusPlus:
    """DPM-Solver++, multistep.

    Args:
        max_order: 1 to 3.
        prediction: what is extrapolated, ``data`` (D) or ``noise`` (d).
        lower_order_final: fall back to lower orders at the last updates, which stabilises few-step runs. As published,
            it does not touch the warm-up.

    Raises:
        ValueError: no such order or prediction.
    """

    max_order: int
    prediction: Literal["data", "noise"] = "data"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        require_order(self.max_order, 3)
        if self.prediction not in ("data", "noise"):
            raise ValueError(f"prediction '{self.prediction}' does not exist; use data or noise")

    def __call__(
        self, x: Images, answers: Sequence[Evaluation], sigma_next: Level, updates_left: int
    ) -> tuple[Images, Images]:
        """Return (the scaled state, the network's terms)."""
        warm = len(answers) == self.max_order
        order = min(self.max_order, updates_left) if warm and self.lower_order_final else len(answers)
        sigma = answers[0].sigma
        step = (sigma / sigma_next).log()
        lags = [(older.sigma / newer.sigma).log() / step for newer, older in pairwise(answers)]
        if self.prediction == "data":
            network = _expansion(-step, lags, [answer.denoised for answer in answers[:order]])
            return (sigma_next / sigma) * x, -network
        network = _expansion(step, lags, [answer.derivative for answer in answers[:order]])
        return x, -sigma_next * network


def _expansion(signed_step: Level, lags: Sequence[Level], predictions: Sequence[Images]) -> Images:
    """Sum phi_k times the k-th divided difference of the predictions.

    Args:
        signed_step: the integrator's exponent, H for noise prediction and -H for data prediction.
        lags: distances in lambda between successive predictions, in units of H.
        predictions: one to three, newest first.
    """
    phi_1 = torch.expm1(signed_step)
    total = phi_1 * predictions[0]
    if len(predictions) == 1:
        return total
    newer = (predictions[0] - predictions[1]) / lags[0]
    if len(predictions) == 2:
        return total + phi_1 * newer / 2
    older = (predictions[1] - predictions[2]) / lags[1]
    curvature = (newer - older) / (lags[0] + lags[1])
    phi_2 = phi_1 / signed_step - 1
    phi_3 = phi_2 / signed_step - 1 / 2
    return total + phi_2 * (newer + lags[0] * curvature) + phi_3 * curvature
