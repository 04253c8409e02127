r"""UniPC (Zhao et al. 2023, NeurIPS, algorithm 5): a predictor, and a corrector that costs no evaluation.

In lambda = -ln sigma with step H and ``h = -H`` (data prediction) or ``H`` (noise prediction), ``rho_j = (lambda_j -
lambda_0) / H`` are the past evaluations' places, ``rho_o = 1`` the new one's, and ``D_j = (m_j - m_0) / rho_j``:

    base:      ``(sigma'/sigma) x - (e^h - 1) m_0`` (data) or ``x - sigma' (e^h - 1) m_0`` (noise)
    predictor: ``base - C sum_(j<o) p_j D_j``
    corrector: ``base - C (sum_(j<o) c_j D_j + c_o (m' - m_0))``, m' evaluated at the predicted state

with C = B, or sigma' B for noise, ``B = h`` (bh1) or ``e^h - 1`` (bh2). The weights solve ``sum_j rho_j^(k-1) w_j =
k! psi_k / B``, where ``psi_1 = (e^h - 1)/h - 1`` and ``psi_(k+1) = psi_k / h - 1/(k+1)!``; as published, the predictor
of order 2 and the corrector of order 1 take 1/2 in place of the solution.

The evaluation m' is the next interval's first; it is never taken again at the corrected state. After the last level
there is no correction, so N intervals cost N evaluations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.solvers.dpm_solver_pp import CAPPED, UNTHRESHOLDED, Prediction
from amed_lightning.solvers.method import Variant
from amed_lightning.solvers.multistep import OneEvaluation, usable_order
from amed_lightning.solvers.state import SolverState
from amed_lightning.tensors import Images, Level

_DEVIATION = f"takes ½ for the solution at the predictor's order 2 and the corrector's order 1; {CAPPED}"


@dataclass(frozen=True)
class UniPC(OneEvaluation):
    """UniPC.

    Args:
        order: 1 to 3.
        prediction: what is extrapolated. The thresholding that the published tools add to data prediction is a model's,
            ``{name: thresholded, of: ...}``.
        variant: the function B.
        lower_order_final: fall back to lower orders at the last updates; as published, not within the warm-up.

    Raises:
        ValueError: no such order, prediction or variant.
    """

    order: int = 3
    prediction: Prediction = "data"
    variant: Literal["bh1", "bh2"] = "bh2"
    lower_order_final: bool = True
    paper: ClassVar = "Zhao et al. 2023, [2302.04867](https://arxiv.org/abs/2302.04867)"
    variants: ClassVar = (
        Variant((2, 3, 4), {"prediction": "data", "variant": "bh1"}, f"{_DEVIATION}; {UNTHRESHOLDED}"),
        Variant((2, 3, 4), {"prediction": "data", "variant": "bh2"}, f"{_DEVIATION}; {UNTHRESHOLDED}"),
        Variant((2, 3, 4), {"prediction": "noise", "variant": "bh1"}, _DEVIATION),
        Variant((2, 3, 4), {"prediction": "noise", "variant": "bh2"}, _DEVIATION),
    )
    warm_up_order: ClassVar = 3

    @property
    def memory(self) -> int:
        """Number of past evaluations that it uses, besides the one at the interval's start."""
        return self.order - 1

    @property
    def updates_below_order(self) -> int:
        """The warm-up, and as many at the end where it falls back to lower orders there."""
        return 2 * self.memory if self.lower_order_final else self.memory

    def step(
        self, flow: ProbabilityFlow, state: SolverState, sigma_next: Level, direction_scale: Level | float = 1.0
    ) -> SolverState:
        """Advance to ``sigma_next``, what the network adds multiplied by ``direction_scale``."""
        here, nfe = state.evaluated(flow)
        evaluations = (*state.history, here)
        kept = self.remembered(evaluations)
        order = usable_order(len(evaluations), self.order, state.updates_left, self.lower_order_final, "published")
        newest_first = evaluations[::-1][:order]
        carried, increment = self._increment(state.x, newest_first, sigma_next, None)
        predicted = carried + direction_scale * increment
        if state.updates_left == 1:
            return SolverState(predicted, sigma_next, None, kept, 0, nfe)
        arrived = flow(predicted, sigma_next)
        carried, increment = self._increment(state.x, newest_first, sigma_next, arrived)
        corrected = carried + direction_scale * increment
        return SolverState(corrected, sigma_next, arrived, kept, state.updates_left - 1, nfe + arrived.cost)

    def _increment(
        self, x: Images, evaluations: Sequence[Evaluation], sigma_next: Level, arrived: Evaluation | None
    ) -> tuple[Images, Images]:
        """Return (carried, increment) of the predictor, or, given what is at ``sigma_next``, of the corrector."""
        sigma, order = evaluations[0].sigma, len(evaluations)
        step = (sigma / sigma_next).log()
        signed_step = -step if self.prediction == "data" else step
        growth = torch.expm1(signed_step)
        current = self._predicted(evaluations[0])
        places = [(sigma / past.sigma).log() / step for past in evaluations[1:]]
        differences = [
            (self._predicted(past) - current) / place for past, place in zip(evaluations[1:], places, strict=True)
        ]
        if arrived is not None:
            places.append(torch.ones_like(step))
            differences.append(self._predicted(arrived) - current)
        basis = signed_step if self.variant == "bh1" else growth
        network = growth * current
        halved = order == (2 if arrived is None else 1)
        weights: list[Level | float] = [0.5] if halved else _weights(signed_step, basis, places)
        for weight, difference in zip(weights, differences, strict=True):
            network = network + basis * weight * difference
        if self.prediction == "data":
            return (sigma_next / sigma) * x, -network
        return x, -sigma_next * network

    def _predicted(self, evaluation: Evaluation) -> Images:
        return evaluation.denoised if self.prediction == "data" else evaluation.derivative


def _weights(signed_step: Level, basis: Level, places: Sequence[Level]) -> list[Level | float]:
    """Solve the Vandermonde system of the given places."""
    if not places:
        return []
    powers, right = [], []
    psi = torch.expm1(signed_step) / signed_step - 1
    for k in range(1, len(places) + 1):
        powers.append(torch.stack([place ** (k - 1) for place in places], -1))
        right.append(math.factorial(k) * psi / basis)
        psi = psi / signed_step - 1 / math.factorial(k + 1)
    solution = torch.linalg.solve_ex(torch.stack(powers, -2), torch.stack(right, -1)[..., None])[0]
    return list(solution[..., 0].unbind(-1))
