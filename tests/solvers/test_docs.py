"""The page on solvers says what the code does, and what is measured."""

import importlib.util
import re
from pathlib import Path

import pytest

from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS

from .problems import error_from_exact_history

ROOT = Path(__file__).parents[2]
MEASURED = re.compile(r"(?<![\w.])\d\.\d(?![\w.])")
COARSE, FINE = (48, 96), (256, 512, 1024)


def load(path):
    spec = importlib.util.spec_from_file_location(f"_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs = load(ROOT / "docs" / "make_solvers.py")
PAGE = docs.PAGE.read_text(encoding="utf-8")
ADVICE = "write the page again with: python -m docs.make_solvers"
UNIFORM = next(iter(docs.GRIDS))


def unmeasured(page):
    """A page without its measured orders."""
    return re.sub(r"#( #)*", "#", MEASURED.sub("#", page))


def test_all_but_the_orders_is_what_the_script_writes():
    made = docs.page(measure=lambda error, solver, grid: 0.0)
    assert unmeasured(PAGE) == unmeasured(made), ADVICE


@pytest.mark.slow
def test_the_orders_are_what_is_measured():
    made = docs.page()
    assert unmeasured(PAGE) == unmeasured(made), ADVICE
    for line, again in zip(PAGE.splitlines(), made.splitlines(), strict=True):
        found = [float(order) for order in MEASURED.findall(again)]
        assert [float(order) for order in MEASURED.findall(line)] == pytest.approx(found, abs=0.2), ADVICE


def test_every_solver_has_its_paper_and_its_variants():
    assert list(docs.PAPERS) == list(docs.VARIANTS) == list(SOLVERS)


def with_own_warm_up():
    """What a solver's first steps leave of its order: they are Euler's, or UniPC's of order 2."""
    cases = []
    for name, variants in docs.VARIANTS.items():
        for options, _ in variants:
            for order in docs.orders(name) or [1 if name == "euler" else 2]:
                expected = min(order + 1, 3) if name == "unipc" else min(order, 2)
                cases += [(name, options, order, grid, expected) for grid in docs.GRIDS]
    return cases


@pytest.mark.parametrize(("name", "options", "order", "grid", "expected"), with_own_warm_up(), ids=str)
def test_the_order_with_the_own_warm_up_is_the_declared_one(name, options, order, grid, expected):
    """Levels uniform in sigma are so dense at the start that on few of them the rule's own error is the larger one."""
    hidden = order == 3 and grid == UNIFORM and name in ("unipc", "dpm_solver_pp")
    solver = docs.solvers(name, options)[order - 1 if docs.orders(name) else 0]
    found = docs.measured(docs.error_with_warm_up, solver, docs.GRIDS[grid], COARSE)
    assert expected - 0.2 < found < expected + (0.9 if hidden else 0.2)


@pytest.mark.parametrize(("grid", "expected"), [*zip(docs.GRIDS, (3, 2, 3), strict=True)])
def test_the_published_fourth_order_of_ipndm_v_is_lower(grid, expected):
    found = docs.measured(error_from_exact_history, SOLVERS["ipndm_v"](order=4), docs.GRIDS[grid], FINE)
    assert found == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("grid", docs.GRIDS)
@pytest.mark.parametrize(
    ("name", "options"), [("dpm_solver_pp", {"form": "textbook"}), ("dpm_solver_pp", {}), ("unipc", {})], ids=str
)
def test_falling_back_at_the_end_leaves_order_two(name, options, grid):
    for error in (error_from_exact_history, docs.error_with_warm_up):
        found = docs.measured(error, SOLVERS[name](**options), docs.GRIDS[grid], COARSE)
        assert found == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("grid", docs.GRIDS)
def test_amed_at_another_fixed_ratio_is_of_order_one(grid):
    found = docs.measured(docs.error_with_warm_up, SOLVERS["amed"](FixedPlacement(0.6)), docs.GRIDS[grid])
    assert found == pytest.approx(1, abs=0.2)
