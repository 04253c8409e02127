"""The figures that ``docs/benchmarks.md`` prints are those of the CSV."""

import re
from pathlib import Path

import pytest

from amed_lightning.bench.published import read_published

from .test_paper import FEW, HEADLINES, SUITES, key, planned

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "benchmarks.md").read_text()
SECTIONS = dict(re.findall(r"paper/(\w+)\.yaml\n```\n(.*?)(?=\n##)", TEXT, re.DOTALL))
AS_PUBLISHED = {"ms_coco": "ms_coco_sd14"}
"""The document says that these figures are of another version of the weights."""


def rows(section):
    """Read a table: label, schedule, AFS and tolerance of each row, and its cells by NFE."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    for label, schedule, afs, *cells, tolerance in lines[2:]:
        printed = {int(nfe): cell for nfe, cell in zip(lines[0][3:-1], cells, strict=True) if cell}
        yield (label, schedule, afs == "yes"), float(tolerance.removesuffix("%")) / 100, printed


@pytest.fixture(scope="module")
def published():
    return read_published(ROOT / "benchmarks")


def test_every_suite_has_a_section():
    assert SECTIONS.keys() == SUITES.keys()


@pytest.mark.parametrize("name", SUITES)
def test_figures_are_the_csv_s_first_and_marked_where_they_are_secondary(name, published):
    cells, dataset = {key(cell) for cell in planned(name)}, AS_PUBLISHED.get(name, name)
    for solver, _, printed in rows(SECTIONS[name]):
        for nfe, text in printed.items():
            assert (name, *solver, nfe) in cells
            first = min(published.figures[dataset, *solver, nfe], key=lambda figure: figure.is_secondary)
            mark = "°" if first.is_secondary else ""
            bold = "**" if (dataset, *solver, nfe) in HEADLINES else ""
            assert text == f"{bold}{first.value:.2f}{mark}{bold}"


@pytest.mark.parametrize("name", SUITES)
def test_no_figure_of_the_columns_is_missing(name, published):
    told = {(*solver, nfe) for solver, _, printed in rows(SECTIONS[name]) for nfe in printed}
    columns = {nfe for *_, nfe in told}
    cells = {key(cell)[1:] for cell in planned(name) if not cell.is_reference}
    figures = {square[1:] for square in published.figures if square[0] == AS_PUBLISHED.get(name, name)}
    assert {cell for cell in cells & figures if cell[-1] in columns} == told


@pytest.mark.parametrize("name", SUITES)
def test_a_tolerance_is_no_tighter_than_the_disagreement_of_primary_figures(name, published):
    for solver, tolerance, _ in rows(SECTIONS[name]):
        assert tolerance >= (0.05 if "amed" in solver[0] or "plugin" in solver[0] else 0.02)
        for nfe in FEW:
            found = published.figures.get((AS_PUBLISHED.get(name, name), *solver, nfe), [])
            values = [figure.value for figure in found if not figure.is_secondary]
            assert all(abs(value - values[0]) <= tolerance * values[0] for value in values)
