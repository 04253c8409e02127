"""A solver takes an interval where its caller says, and keeps nothing of a call."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.solvers.placement import FixedPlacement, Placement
from amed_lightning.solvers.registry import SOLVERS

from .problems import SpreadPlacement, mixture, start

SIGMAS = torch.tensor([2.0, 1.1, 0.5], dtype=torch.float64)
every_solver = pytest.mark.parametrize("make", SOLVERS.values(), ids=SOLVERS)


@every_solver
def test_a_step_is_the_one_at_what_its_placer_answers(make):
    flow, solver = ProbabilityFlow(mixture()), make(SpreadPlacement())
    state = solver.init(start(), SIGMAS)
    here, _ = state.evaluated(flow)
    place = solver.placer(here, state.sigma, SIGMAS[1])
    placed = make(FixedPlacement(0.9)).step_at(flow, state, SIGMAS[1], place)
    assert placed.x.equal(solver.step(flow, state, SIGMAS[1]).x)
    assert placed.nfe == solver.step(flow, state, SIGMAS[1]).nfe


def test_threads_that_share_a_solver_do_not_see_one_another_s_placements():
    flow, solver = ProbabilityFlow(mixture()), SOLVERS["ipndm"](FixedPlacement(0.5))
    state = solver.init(start(batch=2), SIGMAS)
    state = replace(state, known=state.evaluated(flow)[0])

    def step(ratio):
        return solver.step_at(flow, state, SIGMAS[1], Placement(ratio)).x

    ratios = [0.1 + 0.8 * index / 400 for index in range(400)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(step, ratios))
    assert all(x.equal(step(ratio)) for x, ratio in zip(together, ratios, strict=True))
