"""The order of every solver on every grid: measured once, compared with what is declared and with the page."""

import pytest

from amed_lightning.noise.schedules import Discrete
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import METHODS, SOLVERS
from docs.make_solvers import GRIDS, PAGE, solvers

from .problems import error_from_exact_history, error_with_warm_up, measured_order

pytestmark = pytest.mark.usefixtures("unchecked")
FINE = (256, 512)
UNIFORM, *GRADED = GRIDS
WARPED = [Discrete(2.0, "published"), Discrete(2.0, "textbook")]
"""In a discrete model's time; as published they do not start at the largest level."""
NEAR = 0.25
ADVICE = "write the page again with: python -m docs.make_solvers"
ERRORS = {"exact history": error_from_exact_history, "own warm-up": error_with_warm_up}
VARIANTS = {
    " ".join([name, *variant.options.values()]): (name, variant)
    for name, method in METHODS.items()
    for variant in method.variants
}
EVERY = {
    f"{case}-{index + 1}": (case, index)
    for case, (_, variant) in VARIANTS.items()
    for index in range(len(variant.orders))
}


HIGH = [
    "heun-1",
    "amed-1",
    "ipndm_v textbook-3",
    "deis tAB textbook-2",
    "dpm_solver_pp data textbook-3",
    "unipc data bh2-2",
]


def declared(case, index, grid, history):
    """Return the least and the largest that is right: a plain first step costs order, equidistant weights on others."""
    name, variant = VARIANTS[case]
    rate = variant.orders[index]
    if history == "own warm-up":
        # Levels uniform in sigma are so dense at the start that on few of them the rule's own error is the larger one.
        is_hidden = index == 2 and grid == UNIFORM and name in ("unipc", "dpm_solver_pp")
        most = min(rate or 4, METHODS[name].warm_up_order)
        return most, most + 0.7 * is_hidden
    if variant.most_elsewhere and grid != UNIFORM:
        return min(rate, variant.most_elsewhere), min(rate, variant.most_elsewhere)
    return (1, 4) if rate is None else (rate, rate)


def printed():
    """Read the page's orders: those of a line's variant, by what the column's head says."""
    head, _, *lines = (
        line[2:-2].split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"
    )
    columns = [f"{grid}, {history}" for history in ERRORS for grid in GRIDS]
    return {
        (variant, column): [float(order) for order in line[head.index(column)].split()]
        for variant, line in zip(VARIANTS, lines, strict=False)
        for column in columns
    }


PRINTED = printed()


@pytest.mark.parametrize("history", ERRORS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("case", EVERY)
def test_the_measured_order_is_the_declared_and_the_printed_one(case, grid, history):
    variant, index = EVERY[case]
    found = measured_order(ERRORS[history], solvers(*VARIANTS[variant])[index], GRIDS[grid])
    least, most = declared(variant, index, grid, history)
    assert least - NEAR < found < most + NEAR
    cell = PRINTED[variant, f"{grid}, {history}"]
    assert found == pytest.approx(cell[index if len(cell) > 1 else 0], abs=NEAR), ADVICE


def test_every_variant_is_printed():
    assert {variant for variant, _ in PRINTED} == VARIANTS.keys()


@pytest.mark.parametrize("schedule", WARPED, ids=str)
@pytest.mark.parametrize("case", HIGH)
def test_it_is_the_same_on_schedules_that_are_warped_otherwise(case, schedule):
    variant, index = EVERY[case]
    found = measured_order(error_from_exact_history, solvers(*VARIANTS[variant])[index], schedule)
    assert found == pytest.approx(VARIANTS[variant][1].orders[index], abs=NEAR)


@pytest.mark.parametrize(("grid", "expected"), [*zip(GRIDS, (3, 2, 3), strict=True)])
def test_the_published_fourth_order_of_ipndm_v_is_lower(grid, expected):
    found = measured_order(error_from_exact_history, SOLVERS["ipndm_v"](order=4), GRIDS[grid], FINE)
    assert found == pytest.approx(expected, abs=NEAR)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("name", "options"), [("dpm_solver_pp", {"form": "textbook"}), ("dpm_solver_pp", {}), ("unipc", {})], ids=str
)
def test_falling_back_at_the_end_leaves_order_two(name, options, grid):
    for error in ERRORS.values():
        assert measured_order(error, SOLVERS[name](**options), GRIDS[grid]) == pytest.approx(2, abs=NEAR)


@pytest.mark.parametrize("grid", GRIDS)
def test_amed_at_another_fixed_ratio_is_of_order_one(grid):
    found = measured_order(error_with_warm_up, SOLVERS["amed"](FixedPlacement(0.6)), GRIDS[grid])
    assert found == pytest.approx(1, abs=NEAR)
