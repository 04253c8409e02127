"""A table replays the solver that it was read off, and tells what it does to a constant answer."""

import pytest
import torch

from amed_lightning.flow.probability_flow import ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import Polynomial, levels
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve
from amed_lightning.solvers.tabulated import Tabulated, table_of

from .problems import RANGE, Watched, mixture, start

pytestmark = pytest.mark.usefixtures("unchecked")

SIGMAS = levels(Polynomial(), 5, RANGE)
OPTIONS = {
    "ipndm": [{"order": order} for order in (1, 2, 3, 4)],
    "ipndm_v": [{"order": order, "form": form} for order in (3, 4) for form in ("published", "textbook")],
    "deis": [{"variable": "tAB"}, {"variable": "rhoAB"}, {"form": "textbook"}],
    "dpm_solver_pp": [
        {"prediction": prediction, "form": form, "lower_order_final": final}
        for prediction in ("data", "noise")
        for form in ("published", "textbook")
        for final in (True, False)
    ],
    "unipc": [
        {"prediction": prediction, "variant": variant} for prediction in ("data", "noise") for variant in ("bh1", "bh2")
    ],
}
EVERY = [(name, options) for name in SOLVERS for options in OPTIONS.get(name, [{}])]


@pytest.mark.parametrize("afs", [False, True], ids=["no afs", "afs"])
@pytest.mark.parametrize("placer", [None, FixedPlacement(0.4)], ids=["plain", "placed"])
@pytest.mark.parametrize(("name", "options"), EVERY, ids=lambda part: str(part))
def test_a_table_replays_its_solver(name, options, placer, afs):
    solver = SOLVERS[name](placer=placer, **options)
    x = start()
    known = analytic_first_step(x, SIGMAS[0], 3) if afs else None
    watched, again = Watched(mixture()), Watched(mixture())
    end = solve(solver, ProbabilityFlow(watched), x, SIGMAS, known=known)
    table = table_of(solver, SIGMAS, afs)
    sigmas = torch.cat([table.told, SIGMAS[-1:]])
    replayed = solve(Tabulated(table), ProbabilityFlow(again), x / SIGMAS[0] * sigmas[0], sigmas)
    assert replayed.nfe == end.nfe
    torch.testing.assert_close(torch.stack(again.levels), torch.stack(watched.levels), rtol=1e-13, atol=0)
    torch.testing.assert_close(replayed.x, end.x, rtol=0, atol=1e-12)
