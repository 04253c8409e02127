"""Where differences are taken: at the middle as wide as asked, towards an interval's ends ever narrower."""

from dataclasses import dataclass, field, replace

import pytest
import torch

from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.solvers.multistep import Refined
from amed_lightning.solvers.placement import FixedPlacement, Placement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.training.gradients import DifferenceGradient, through_network

from ..solvers.problems import mixture, start

SIGMAS = torch.tensor([2.0, 1.1, 0.5], dtype=torch.float64)
SIZE = 1e-3


@dataclass(frozen=True)
class Noted(Refined):
    """AMED-Plugin that keeps the placements that it is told."""

    places: list[Placement] = field(default_factory=list)

    def step_at(self, flow, state, sigma_next, place):
        self.places.append(place)
        return super().step_at(flow, state, sigma_next, place)


def leaf(value, batch=2):
    return torch.full((batch, 1, 1, 1), value, dtype=torch.float64, requires_grad=True)


def gradient(how, solver, place):
    flow, x = ProbabilityFlow(mixture()), start(batch=2)
    state = solver.init(x, SIGMAS)
    known = replace(state, known=state.evaluated(flow)[0])
    return how(solver, flow, known, SIGMAS[1], place, 0.7 * x)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1e-4, 1 - 1e-4])
def test_the_step_in_ratio_shrinks_as_the_nearer_end_and_stays_inside(ratio):
    solver = Noted(SOLVERS["euler"](), FixedPlacement(0.5))
    gradient(DifferenceGradient(SIZE), solver, Placement(leaf(ratio), leaf(1.0), leaf(1.02)))
    entries = ("ratio", "direction_scale", "time_scale")
    taken = torch.stack(
        [torch.stack([getattr(place, name)[0, 0, 0, 0] for name in entries]) for place in solver.places]
    )
    step = 4 * ratio * (1 - ratio) * SIZE
    expected = torch.tensor([[ratio, 1.0, 1.02]] * 7, dtype=torch.float64)
    for entry, size in enumerate((step, 0.05, SIZE)):
        expected[2 * entry + 1, entry] += size
        expected[2 * entry + 2, entry] -= size
    torch.testing.assert_close(taken.detach(), expected, rtol=0, atol=1e-12)
    assert float(solver.places[2].ratio[0]) > 0
    assert float(solver.places[1].ratio[0]) < 1


@pytest.mark.parametrize("name", ["amed", "dpm_solver_2", "ipndm_v", "deis"])
@pytest.mark.parametrize("ratio", [2e-3, 1 - 2e-3])
def test_next_to_an_end_the_gradient_is_reverse_mode_s(name, ratio):
    solver, gradients = SOLVERS[name](FixedPlacement(0.5)), []
    for how in (DifferenceGradient(3e-3), through_network):
        place = leaf(ratio)
        _, losses = gradient(how, solver, Placement(place, 1.01))
        gradients.append(torch.autograd.grad(losses.sum(), place)[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_an_entry_that_wants_no_gradient_costs_no_step():
    solver = Noted(SOLVERS["euler"](), FixedPlacement(0.5))
    gradient(DifferenceGradient(SIZE), solver, Placement(0.4, leaf(1.0)))
    assert len(solver.places) == 3
