"""The order of convergence of every solver, on the grids where it is declared."""

import pytest

from amed_lightning.config import build
from amed_lightning.noise.schedules import Logsnr, Polynomial, Schedule
from amed_lightning.solvers.registry import SOLVERS

from .problems import measured_order

UNIFORM, GRADED, LOGSNR = Polynomial(rho=1.0), Polynomial(rho=7.0), Logsnr()
EVERYWHERE = (UNIFORM, GRADED, LOGSNR)


def declared() -> list[tuple[dict[str, object], Schedule, float]]:
    everywhere = [
        ({"name": "euler"}, 1),
        ({"name": "heun"}, 2),
        ({"name": "dpm_solver_2"}, 2),
        ({"name": "amed"}, 2),
        ({"name": "ipndm", "order": 1}, 1),
        *(
            ({"name": "dpm_solver_pp", "order": order, "prediction": prediction, "lower_order_final": False}, rate)
            for prediction in ("data", "noise")
            for order, rate in ((1, 1), (2, 2), (3, 2))
        ),
    ]
    every_order = [
        *(("ipndm_v", {"form": "textbook"}, order, order) for order in (1, 2, 3, 4)),
        *(("ipndm_v", {"form": "published"}, order, order) for order in (1, 2, 3)),
        *(("deis", {"variable": "rhoAB"}, order, order) for order in (1, 2, 3, 4)),
        *(("deis", {"form": form}, order, order) for form in ("published", "textbook") for order in (1, 2, 3, 4)),
        *(
            ("dpm_solver_pp", {"prediction": prediction, "lower_order_final": False, "form": "textbook"}, order, order)
            for prediction in ("data", "noise")
            for order in (1, 2, 3)
        ),
    ]
    every_order += [
        ("unipc", {"prediction": prediction, "variant": variant, "lower_order_final": False}, order, order + 1)
        for prediction in ("data", "noise")
        for variant in ("bh1", "bh2")
        for order in (1, 2, 3)
    ]
    everywhere += [({"name": name, "order": order, **options}, rate) for name, options, order, rate in every_order]
    cases = [(spec, grid, order) for spec, order in everywhere for grid in EVERYWHERE]
    cases += [({"name": "ipndm", "order": order}, UNIFORM, order) for order in (2, 3, 4)]
    return cases


@pytest.mark.parametrize(("spec", "grid", "order"), declared(), ids=str)
def test_the_measured_order_is_the_declared_one(spec, grid, order):
    assert measured_order(build("solver", SOLVERS, spec), grid) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("grid", [GRADED, LOGSNR], ids=str)
def test_equidistant_weights_lose_their_order_on_graded_grids(order, grid):
    assert measured_order(build("solver", SOLVERS, {"name": "ipndm", "order": order}), grid) < 2.3


def test_every_solver_has_a_declared_order():
    assert {spec["name"] for spec, _, _ in declared()} == set(SOLVERS)
