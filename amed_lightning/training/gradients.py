r"""Taking a student's step so that its loss has a gradient in the placement, with the network at hand.

:func:`through_network` is reverse mode through the frozen network: two network runs' time per step, and the memory of
every activation.

:class:`DifferenceGradient` takes the step, and central differences of its *output* in ratio and time scale, without a
graph through the network: three network runs per step (five with a time scale), a fraction of the memory, and nothing
is asked of the operators. The loss itself would not do: ``|x_teacher - x|^2`` is up to a million times the loss, whose
difference has no digits left in float32. The direction scale costs no run where the network's answers do not depend on
it.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from amed_lightning.denoisers.cached import CachedDenoiser
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.solvers.placed import PlacedSolver
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.state import SolverState
from amed_lightning.tensors import Images, Level, squared_distance
from amed_lightning.training.student import Losses

_DIRECTION_STEP = 0.05
"""Of the direction scale; the state is linear in it but for UniPC, so the step may be large."""


def through_network(
    solver: PlacedSolver, flow: ProbabilityFlow, start: SolverState, sigma_next: Level, place: Placement, target: Images
) -> tuple[SolverState, Losses]:
    """Take the step and leave its gradient to autograd."""
    end = solver.step_at(flow, start, sigma_next, place)
    return end, squared_distance(end.x, target)


@dataclass(frozen=True)
class DifferenceGradient:
    """Take the step, and take it again on both sides of the placement.

    Attributes:
        size: of the steps in ratio, at the interval's middle, and in time scale. Towards the interval's ends the step
            in ratio shrinks as r (1 - r) does, and stays inside.
    """

    size: float = 3e-3

    def __call__(
        self,
        solver: PlacedSolver,
        flow: ProbabilityFlow,
        start: SolverState,
        sigma_next: Level,
        place: Placement,
        target: Images,
    ) -> tuple[SolverState, Losses]:
        """Return the state, and losses whose gradient in the placement is that of the differences."""
        flow = replace(flow, denoiser=CachedDenoiser(flow.denoiser))
        with torch.no_grad():
            end = solver.step_at(flow, start, sigma_next, place)
            residual = end.x - target
            gradients = []
            for name, entry, size in self._steps(place):
                ahead, behind = (
                    solver.step_at(flow, start, sigma_next, replace(place, **{name: entry + side * size})).x
                    for side in (1, -1)
                )
                slope = (ahead - behind) / (2 * size)
                gradients.append((entry, 2 * (residual * slope).flatten(1).sum(1)))
        losses = squared_distance(end.x, target)
        for entry, gradient in gradients:
            losses = losses + gradient * (entry - entry.detach()).flatten()
        return end, losses

    def _steps(self, place: Placement) -> list[tuple[str, Tensor, Tensor | float]]:
        """Return the entries that want a gradient, and the step in each."""
        ratio = torch.as_tensor(place.ratio).detach()
        steps: list[tuple[str, Tensor | float, Tensor | float]] = [
            ("ratio", place.ratio, 4 * ratio * (1 - ratio) * self.size),
            ("direction_scale", place.direction_scale, _DIRECTION_STEP),
            ("time_scale", place.time_scale, self.size),
        ]
        return [(name, e, size) for name, e, size in steps if isinstance(e, Tensor) and e.requires_grad]
