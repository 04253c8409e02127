r"""DPM-Solver++, multistep (Lu et al. 2022b, algorithm 2 and appendix B): an exponential integrator.

In lambda = -ln sigma, with H the step in lambda, data prediction extrapolates D, noise prediction the derivative d:

    data:  ``x' = (sigma'/sigma) x - (phi_1 m_0 + ...)``,  ``phi_1 = e^-H - 1``
    noise: ``x' = x - sigma' (phi_1 m_0 + ...)``,          ``phi_1 = e^H - 1``

The published third-order form takes D2 = H^2 m''/2 where the expansion needs H^2 m'', and therefore converges at order
2; the textbook's doubles it. Also as published, ``lower_order_final`` does not reach into the warm-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, TypeAlias

import torch

from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.noise.form import Form
from amed_lightning.solvers.method import Variant
from amed_lightning.solvers.multistep import Rule, usable_order
from amed_lightning.tensors import Images, Level

Prediction: TypeAlias = Literal["data", "noise"]
"""What an exponential integrator extrapolates: the clean image D or the derivative d."""
CAPPED = "`lower_order_final`, on by default, leaves no order above 2"
UNTHRESHOLDED = "without the thresholding of the published tools, which is the model's here: `thresholded`"


@dataclass(frozen=True)
class DPMSolverPlusPlus(Rule):
    """DPM-Solver++, multistep.

    Args:
        order: 1 to 3.
        prediction: what is extrapolated.
        lower_order_final: fall back to lower orders at the last updates, which stabilises few-step runs.
        form: which third order and which warm-up, see above. Neither thresholds: what the published tools add to data
            prediction is a model's, ``{name: thresholded, of: ...}``.

    Raises:
        ValueError: no such order, prediction or form.
    """

    order: int = 3
    prediction: Prediction = "data"
    lower_order_final: bool = True
    form: Form = "published"
    paper: ClassVar = "Lu et al. 2022b, [2211.01095](https://arxiv.org/abs/2211.01095)"
    variants: ClassVar = (
        Variant(
            (1, 2, 2),
            {"prediction": "data", "form": "published"},
            f"order 3 halves its second derivative; {CAPPED}; {UNTHRESHOLDED}",
        ),
        Variant((1, 2, 3), {"prediction": "data", "form": "textbook"}, CAPPED),
        Variant(
            (1, 2, 2),
            {"prediction": "noise", "form": "published"},
            f"order 3 halves its second derivative; {CAPPED}",
        ),
        Variant((1, 2, 3), {"prediction": "noise", "form": "textbook"}, CAPPED),
    )

    def __call__(
        self, x: Images, evaluations: Sequence[Evaluation], sigma_next: Level, updates_left: int
    ) -> tuple[Images, Images]:
        """Return (the scaled state, the network's terms)."""
        order = usable_order(len(evaluations), self.order, updates_left, self.lower_order_final, self.form)
        sigma = evaluations[0].sigma
        step = (sigma / sigma_next).log()
        lags = [(older.sigma / newer.sigma).log() / step for newer, older in pairwise(evaluations)]
        if self.prediction == "data":
            return (sigma_next / sigma) * x, -self._expansion(-step, lags, [a.denoised for a in evaluations[:order]])
        return x, -sigma_next * self._expansion(step, lags, [a.derivative for a in evaluations[:order]])

    def _expansion(self, signed_step: Level, lags: Sequence[Level], predictions: Sequence[Images]) -> Images:
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
        half_curvature = (newer - older) / (lags[0] + lags[1])
        phi_2 = phi_1 / signed_step - 1
        phi_3 = phi_2 / signed_step - 1 / 2
        factor = 2 if self.form == "textbook" else 1
        return total + phi_2 * (newer + lags[0] * half_curvature) + factor * phi_3 * half_curvature
