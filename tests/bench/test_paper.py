"""The suites of the published tables: every cell is planned without weights, and stands beside its figure."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from amed_lightning.bench.cell import Protocol
from amed_lightning.bench.forecast import estimates
from amed_lightning.bench.needed import fits_of
from amed_lightning.bench.plan import plan
from amed_lightning.bench.published import read_published
from amed_lightning.bench.suite import load_suite
from amed_lightning.config import complete, digest
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.zoo.card import load_card
from amed_lightning.noise.schedules import SCHEDULES
from amed_lightning.sampling.parts import learned_path
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.training.distillation import AMEDDistillation

from ..denoisers.zoo.cards import figured
from ..recipes import content_of

pytestmark = pytest.mark.usefixtures("unchecked")

ROOT = Path(__file__).parents[2]
SUITES = {path.stem: load_suite(path) for path in sorted((ROOT / "benchmarks" / "paper").glob("*.yaml"))}
IMAGES = {"ms_coco": 30_000}
HEADLINES = {
    ("cifar10", "ipndm-4 + plugin", "polynomial", True, 5): 6.61,
    ("imagenet64", "amed", "time_uniform", True, 5): 10.74,
    ("lsun_bedroom", "amed", "polynomial", True, 5): 13.20,
}
FEW = range(3, 11)
"""Network runs of the tables."""
OTHERS = {
    "gits-dev-1.15": "a schedule that is found for the model first",
    "dpm_solver_pp-3 + plugin + thresholded": "an ablation of schedules, on CIFAR-10 alone",
    "dpm_solver_pp-3 + thresholded on time_uniform": "the same ablation",
    "dpm_solver_pp-3 + thresholded on polynomial": "the same ablation",
    "ipndm-3": "the other baseline protocol",
}
"""Labels and schedules of primary figures that the suites leave out."""


@cache
def planned(name):
    return plan(SUITES[name])


@pytest.fixture(scope="module")
def published():
    return read_published(ROOT / "benchmarks")


def key(cell):
    return tuple(cell.id)


def is_left_out(square):
    _, label, schedule, _, nfe = square
    learned_at_even_runs = (label == "amed" or "plugin" in label) and nfe % 2 == 0
    return nfe not in FEW or learned_at_even_runs or bool({label, schedule, f"{label} on {schedule}"} & OTHERS.keys())


def test_there_is_a_suite_for_every_card_with_figures():
    assert sorted(SUITES) == figured()


@pytest.mark.parametrize("name", SUITES)
def test_it_scores_as_many_images_as_were_published_against_the_card_s_reference(name):
    suite = SUITES[name]
    (dataset,) = suite.datasets
    assert suite.num_blocks * suite.block_size == IMAGES.get(name, 50_000)
    assert (dataset.name, dataset.model) == (name, {"name": "pretrained", "card": name})
    assert (dataset.detector, dataset.dataset) == ({"name": "inception"}, {"name": "published", "card": name})
    assert "reference" in load_card(name).files


@pytest.mark.parametrize("name", SUITES)
def test_its_arithmetic_is_written_down_and_part_of_the_protocol(name):
    written = yaml.safe_load((ROOT / "benchmarks" / "paper" / f"{name}.yaml").read_text())["arithmetic"]
    assert written == {"precision": "float32", "tf32": True}
    assert SUITES[name].arithmetic == Arithmetic("float32", tf32=True)
    protocols = [Protocol("", 1, 1, 1, (1,), how) for how in (SUITES[name].arithmetic, Arithmetic())]
    assert len(set(map(digest, protocols))) == 2


@pytest.mark.parametrize("name", SUITES)
def test_without_weights_a_dry_run_knows_all_but_the_time_and_the_document_says_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AMED_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (expected,) = estimates(SUITES[name], torch.device("cpu"))
    assert "AMED_OFFLINE forbids the network" in expected.unknown
    assert (expected.cost, expected.hours) == (load_card(name).facts.cost, None)
    assert len(expected.cells) == len(planned(name)) == len({key(cell) for cell in expected.cells})
    runs, gib = expected.network_runs / 1e6, (expected.sum_bytes + expected.image_bytes) / 2**30
    document = (ROOT / "docs" / "benchmarks.md").read_text()
    assert f"| {name} | {len(expected.cells)} | {runs:.1f} | {gib:.1f} |" in document


@pytest.mark.parametrize("name", SUITES)
def test_every_primary_figure_of_the_tables_stands_beside_a_cell(name, published):
    cells = {key(cell) for cell in planned(name)}
    figures = {
        square
        for square, found in published.figures.items()
        if square[0] == name and not is_left_out(square) and not all(figure.is_secondary for figure in found)
    }
    assert figures - cells == set()
    assert bool(figures) == (name not in ("afhqv2", "imagenet256", "lsun_bedroom_ldm", "ms_coco"))


@pytest.mark.parametrize("name", SUITES)
def test_figures_stand_beside_the_cells_of_the_whole_suite_and_of_no_smaller_one(name, published):
    whole, small = planned(name), plan(replace(SUITES[name], num_blocks=1))
    joined = list(filter(published.beside, whole))
    assert joined == [cell for cell in whole if cell.id in published.figures]
    assert bool(joined) == (name not in ("lsun_bedroom_ldm", "ms_coco"))
    assert not any(map(published.beside, small))
    assert sum(map(bool, map(published.unlike, small))) == len(joined)


@pytest.mark.parametrize("word", OTHERS)
def test_what_is_left_out_is_published(word, published):
    assert any({label, schedule, f"{label} on {schedule}"} & {word} for _, label, schedule, _, _ in published.figures)


@pytest.mark.parametrize(("square", "fid"), HEADLINES.items(), ids=[dataset for dataset, *_ in HEADLINES])
def test_headlines_are_cells_and_are_marked(square, fid, published):
    assert square in {key(cell) for cell in planned(square[0])}
    assert fid in [figure.value for figure in published.figures[square] if not figure.is_secondary]
    text = (ROOT / "benchmarks" / "paper" / f"{square[0]}.yaml").read_text()
    assert f"# headline: FID {fid:.2f} at 5 NFE" in text


@pytest.mark.parametrize("name", SUITES)
def test_predictors_are_those_that_the_recipes_export_for_this_use(name):
    placed = {learned_path(cell.solver): cell for cell in planned(name) if cell.learned}
    recipes = [str(path.parent).removeprefix("runs/") for path in placed]
    assert fits_of(planned(name)) == recipes
    for recipe, (path, cell) in zip(recipes, placed.items(), strict=True):
        student, used = content_of(recipe)["model"]["init_args"]["student"], cell.config
        assert path.name == AMEDDistillation.result_name
        assert complete("model", DENOISERS, used.model) == complete("model", DENOISERS, student["model"])
        assert cell.rule == complete("solver", SOLVERS, student["solver"], hidden=["placer"])
        assert complete("schedule", SCHEDULES, used.schedule) == complete("schedule", SCHEDULES, student["schedule"])
        assert (used.nfe, used.afs) == (student["nfe"], student["afs"])
