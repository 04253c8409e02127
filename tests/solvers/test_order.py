"""The order of every solver on every grid: measured once, compared with what is declared and with the page."""

import pytest

from amed_lightning.noise.schedules import Discrete
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS
from docs.make_solvers import GRIDS, PAGE, VARIANTS, orders, solvers

from .problems import error_from_exact_history, error_with_warm_up, measured_order

pytestmark = pytest.mark.usefixtures("unchecked")
FINE = (256, 512)
UNIFORM, *GRADED = GRIDS
WARPED = [Discrete(2.0, "published"), Discrete(2.0, "textbook")]
"""In a discrete model's time; as published they do not start at the largest level."""
NEAR = 0.25
ADVICE = "write the page again with: python -m docs.make_solvers"
ERRORS = {"exact history": error_from_exact_history, "own warm-up": error_with_warm_up}
NOMINAL = (1, 2, 3, 4)
DECLARED = {
    "euler": (1,),
    "heun": (2,),
    "dpm_solver_2": (2,),
    "amed": (2,),
    "ipndm": NOMINAL,
    "ipndm_v published": (1, 2, 3, None),  # below
    "ipndm_v textbook": NOMINAL,
    "deis tAB published": NOMINAL,
    "deis tAB textbook": NOMINAL,
    "deis rhoAB": NOMINAL,
    "dpm_solver_pp data published": (1, 2, 2),
    "dpm_solver_pp data textbook": (1, 2, 3),
    "dpm_solver_pp noise published": (1, 2, 2),
    "dpm_solver_pp noise textbook": (1, 2, 3),
    "unipc data bh1": (2, 3, 4),
    "unipc data bh2": (2, 3, 4),
    "unipc noise bh1": (2, 3, 4),
    "unipc noise bh2": (2, 3, 4),
}
"""With exact history, of each order that a solver's variant offers."""
EVERY = {
    f"{' '.join([name, *options.values()])}-{index + 1}": (name, options, index)
    for name, variants in VARIANTS.items()
    for options, _ in variants
    for index in range(len(orders(name)) or 1)
}


HIGH = [
    "heun-1",
    "amed-1",
    "ipndm_v textbook-3",
    "deis tAB textbook-2",
    "dpm_solver_pp data textbook-3",
    "unipc data bh2-2",
]


def declared(name, options, index, grid, history):
    """Return the least and the largest that is right: a plain first step costs order, equidistant weights on others."""
    rate = DECLARED[" ".join([name, *options.values()])][index]
    if history == "own warm-up":
        first = 3 if name == "unipc" else 2
        # Levels uniform in sigma are so dense at the start that on few of them the rule's own error is the larger one.
        is_hidden = index == 2 and grid == UNIFORM and name in ("unipc", "dpm_solver_pp")
        most = min(rate or 4, first)
        return most, most + 0.7 * is_hidden
    if name == "ipndm" and grid != UNIFORM:
        return min(rate, 2), min(rate, 2)
    return (1, 4) if rate is None else (rate, rate)


def printed():
    """Read the page's orders: those of a line's variant, by what the column's head says."""
    head, _, *lines = (
        line[2:-2].split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"
    )
    variants = [" ".join([name, *options.values()]) for name, rows in VARIANTS.items() for options, _ in rows]
    columns = [f"{grid}, {history}" for history in ERRORS for grid in GRIDS]
    return {
        (variant, column): [float(order) for order in line[head.index(column)].split()]
        for variant, line in zip(variants, lines, strict=False)
        for column in columns
    }


PRINTED = printed()


@pytest.mark.parametrize("history", ERRORS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("case", EVERY)
def test_the_measured_order_is_the_declared_and_the_printed_one(case, grid, history):
    name, options, index = EVERY[case]
    found = measured_order(ERRORS[history], solvers(name, options)[index], GRIDS[grid])
    least, most = declared(name, options, index, grid, history)
    assert least - NEAR < found < most + NEAR
    cell = PRINTED[case.rpartition("-")[0], f"{grid}, {history}"]
    assert found == pytest.approx(cell[index if len(cell) > 1 else 0], abs=NEAR), ADVICE


def test_every_order_of_every_variant_is_declared_and_printed():
    assert [f"{variant}-{index + 1}" for variant, rates in DECLARED.items() for index in range(len(rates))] == sorted(
        EVERY, key=lambda case: list(DECLARED).index(case.rpartition("-")[0])
    )
    assert {variant for variant, _ in PRINTED} == DECLARED.keys()


@pytest.mark.parametrize("schedule", WARPED, ids=str)
@pytest.mark.parametrize("case", HIGH)
def test_it_is_the_same_on_schedules_that_are_warped_otherwise(case, schedule):
    name, options, index = EVERY[case]
    found = measured_order(error_from_exact_history, solvers(name, options)[index], schedule)
    assert found == pytest.approx(DECLARED[case.rpartition("-")[0]][index], abs=NEAR)


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
