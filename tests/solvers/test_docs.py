"""The page on solvers and schedules says what the code does; its orders are compared in ``test_order.py``."""

import re

import pytest
import torch

from amed_lightning.noise.schedules import SCHEDULES, levels
from amed_lightning.solvers.registry import METHODS
from docs import make_solvers, schedules

MEASURED = re.compile(r"(?<![\w.])\d\.\d(?![\w.])")
ROUNDED = re.compile(r"\de-\d\d")
HEADING = "## Schedules\n"
PAGE = make_solvers.PAGE.read_text(encoding="utf-8")
ADVICE = "write the page again with: python -m docs.make_solvers"


def unmeasured(part):
    """A part of the page without its measured orders."""
    return re.sub(r"#( #)*", "#", MEASURED.sub("#", part))


def test_what_the_page_says_of_solvers_is_what_the_script_writes():
    made = make_solvers.solvers_part(measure=lambda error, solver, grid: 0.0)
    assert unmeasured(PAGE.partition(HEADING)[0]) == unmeasured(made + "\n"), ADVICE


def test_what_the_page_says_of_schedules_is_what_the_script_writes():
    """Errors of rounding differ from processor to processor, by a small factor."""
    printed, made = HEADING + PAGE.partition(HEADING)[2], schedules.section()
    assert ROUNDED.sub("#", printed) == ROUNDED.sub("#", made), ADVICE
    ratios = [float(one) / float(two) for one, two in zip(*map(ROUNDED.findall, (printed, made)), strict=True)]
    assert all(1 / 4 <= ratio <= 4 for ratio in ratios), ADVICE


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_solver_has_its_paper_and_variants_of_as_many_orders(method):
    assert re.search(r"\]\(https://arxiv.org/abs/\d{4}\.\d{5}\)$", method.paper)
    assert method.paper in PAGE
    assert len({len(variant.orders) for variant in method.variants}) == 1
    assert all(variant.options.keys() <= vars(method()).keys() for variant in method.variants)


@pytest.mark.parametrize("name", schedules.FORMULAS)
def test_the_published_formulas_give_our_levels_in_double_precision_and_others_in_single(name):
    assert name in SCHEDULES
    assert schedules.difference(name, torch.float64) < 1e-10 < schedules.difference(name, torch.float32)


def test_the_published_last_level_of_time_uniform_is_that_of_a_rounded_square():
    rounded = torch.tensor(1 + 0.002**2, dtype=torch.float32).double() - 1
    assert float(schedules.published_levels("time_uniform", 6, torch.float32)[-1]) == pytest.approx(
        float(rounded.sqrt()), rel=1e-4
    )
    schedule, noise_range, _ = schedules.FORMULAS["time_uniform"]
    assert float(levels(schedule, 6, noise_range)[-1]) == 0.002


def test_what_data_prediction_lacks_of_the_published_tools_is_said_in_its_line_and_in_no_other():
    for name, method in METHODS.items():
        for each in method.variants:
            lacks = each.options.get("prediction") == "data" and each.options.get("form", "published") == "published"
            assert ("thresholding of the published tools" in each.deviation) == lacks, name
