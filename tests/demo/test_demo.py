"""What `make demo` has left is what docs/digits.md says of it."""

import csv
import math

import pytest

from .readme import DEMO, PAGE, brief, differences, fitted, here, rows

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def fid():
    """The lowest FID of a solver at a number of network runs, over all first steps and schedules or on one."""
    with DEMO.with_suffix(".csv").open(newline="") as file:
        cells = list(csv.DictReader(file))

    def lowest(label, nfe, schedule=None):
        wanted = {"label": label, "nfe": str(nfe)} | ({} if schedule is None else {"schedule": schedule})
        return min((float(cell["fid"]) for cell in cells if cell.items() >= wanted.items()), default=math.inf)

    return lowest


def test_every_row_of_the_table_is_a_row_of_the_page_and_readmes_are_among_them():
    assert "\n".join(differences(PAGE.read_text(), DEMO.read_text(), here(), fitted())) == ""
    assert len(rows(brief(DEMO.read_text()))) == 10


@pytest.mark.parametrize("solver", ["dpm_solver_2", "euler"])
def test_at_five_network_runs_amed_has_at_most_half_of_the_lowest_fid_of(solver, fid):
    assert fid("amed", 5) <= fid(solver, 5) / 2


@pytest.mark.parametrize("solver", ["dpm_solver_2", "euler"])
@pytest.mark.parametrize("nfe", [3, 5, 7, 9])
def test_amed_has_a_lower_fid_than(solver, nfe, fid):
    assert fid("amed", nfe) < fid(solver, nfe)


@pytest.mark.parametrize("nfe", [3, 5])
def test_amed_has_a_lower_fid_than_coefficients(nfe, fid):
    assert fid("amed", nfe) < fid("amed + coefficients", nfe)


@pytest.mark.parametrize("nfe", [3, 5])
def test_amed_has_at_most_half_of_the_fid_that_constants_have(nfe, fid):
    assert fid("amed", nfe) <= fid("amed + constants", nfe) / 2


@pytest.mark.parametrize("nfe", [3, 5])
def test_a_learned_table_has_the_lowest_fid_of_all(nfe, fid):
    others = "amed", "ipndm-3", "ipndm-4", "ipndm-4 + plugin", "dpm_solver_pp-3", "euler"
    assert fid("ipndm-3 + union", nfe) < min(fid(label, nfe) for label in others)


def test_the_plugin_has_at_most_half_of_the_fid_of_its_base_solver_on_its_schedule(fid):
    assert fid("ipndm-4 + plugin", 6, "time_uniform") <= fid("ipndm-4", 6, "time_uniform") / 2
