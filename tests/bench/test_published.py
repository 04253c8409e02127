"""Every published row is either joined to a cell of ours or left out for a reason that is written down."""

import csv
from pathlib import Path

import pytest
import yaml

from amed_lightning.bench.plan import plan
from amed_lightning.bench.published import FIGURES, KEYS, read_published
from amed_lightning.bench.suite import Dataset, Entry, Suite
from amed_lightning.config import InputError

from ..noise.found import write_found

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def published():
    return read_published(BENCHMARKS)


def beside(published, dataset, label, schedule, nfe, afs=False):
    square = {"dataset": dataset, "label": label, "schedule": schedule, "nfe": nfe, "afs": afs}
    return [figure.value for figure in published.beside(square)]


class TestOurFigures:
    def test_no_row_is_unmapped(self, published):
        assert published.unmapped == []

    def test_every_row_is_there_once(self, published):
        with (BENCHMARKS / FIGURES).open(newline="") as file:
            total = len(list(csv.DictReader(file)))
        assert sum(map(len, published.figures.values())) + len(published.left_out) == total

    @pytest.mark.parametrize(
        ("cell", "value"),
        [
            (("cifar10", "ipndm-4 + plugin", "polynomial", 5, True), 6.61),
            (("imagenet64", "amed", "time_uniform", 5, True), 10.74),
            (("lsun_bedroom", "amed", "polynomial", 5, True), 13.20),
            (("cifar10", "ipndm-4", "polynomial", 4), 24.82),
            (("cifar10", "ipndm-3", "logsnr", 4), 35.04),
            (("cifar10", "dpm_solver_pp-3 + thresholded", "logsnr", 5), 24.97),
            (("cifar10", "heun + denoised", "polynomial", 35), 1.97),
            (("cifar10", "ipndm-4", "gits-dev-1.15", 5), 8.38),
            (("cifar10", "euler", "gits-dev-1.15", 5), 28.05),
            (("ms_coco_sd14", "dpm_solver_pp-2-noise", "discrete", 8), 21.33),
            (("imagenet256", "dpm_solver_pp-3 + thresholded", "time_uniform", 4), 60.01),
        ],
        ids=lambda value: "-".join(map(str, value[:2])) if isinstance(value, tuple) else "",
    )
    def test_a_known_figure_stands_where_it_belongs(self, published, cell, value):
        assert value in beside(published, *cell)

    def test_the_two_protocols_of_ipndm_are_not_mixed(self, published):
        for nfe in (4, 6, 8, 10):
            assert len(set(beside(published, "cifar10", "ipndm-4", "polynomial", nfe))) == 1

    @pytest.mark.parametrize(
        ("changes", "figures"),
        [
            ({}, {8.38}),
            ({"metric": "l2"}, set()),
            ({"gamma": 1.1}, set()),
            ({"solver": {"name": "euler"}}, set()),
            ({"teacher": {"name": "heun"}}, set()),
            ({"fine_intervals": 30}, set()),
        ],
        ids=["as published", "metric", "weight", "solver", "teacher", "teacher's levels"],
    )
    def test_a_found_schedule_has_a_figure_beside_it_only_if_it_was_found_as_published(
        self, published, tmp_path, changes, figures
    ):
        path = write_found(tmp_path / "g.json", **({"solver": {"name": "ipndm", "order": 4}} | changes))
        entries = [Entry({"name": "ipndm"}, [{"name": "gits", "path": str(path)}], [5])]
        (cell,) = plan(Suite("found", [Dataset("cifar10", *[{"name": "given"}] * 3)], entries))
        assert {figure.value for figure in published.beside(cell.square)} == figures

    def test_where_gits_coefficient_is_not_stated_nothing_is_joined(self, published):
        joined = {dataset for dataset, _, schedule, _, _ in published.figures if schedule.startswith("gits")}
        assert joined == {"cifar10"}

    def test_no_figure_stands_beside_data_prediction_that_lacks_its_thresholding(self, published):
        data = {label for _, label, *_ in published.figures if label.startswith(("dpm_solver_pp", "unipc"))}
        assert {label for label in data if "thresholded" not in label} == {
            "dpm_solver_pp-2-noise",
            "dpm_solver_pp-2-noise + plugin",
        }

    @pytest.mark.parametrize("word", ["epd", "paradigms"])
    def test_parallel_network_runs_are_never_joined(self, published, word):
        left_out = [row for row, _ in published.left_out if word in row["solver"].lower()]
        assert left_out
        joined = [figure for figures in published.figures.values() for figure in figures]
        assert not any("EPD" in figure.source for figure in joined)

    def test_latent_and_pixel_bedrooms_are_not_mixed(self, published):
        bedrooms = {dataset for dataset, *_ in published.figures if "bedroom" in dataset}
        assert bedrooms == {"lsun_bedroom"}
        sources = [
            figure.source
            for (dataset, *_), figures in published.figures.items()
            for figure in figures
            if dataset == "lsun_bedroom"
        ]
        assert all(source.startswith(("AMED", "GITS")) for source in sources)

    def test_secondary_rows_stay_secondary(self, published):
        quoted = published.beside(
            {"dataset": "cifar10", "label": "ipndm-4", "schedule": "logsnr", "afs": False, "nfe": 5}
        )
        assert [figure.is_secondary for figure in quoted] == [True]

    def test_every_square_is_one_that_a_suite_of_ours_can_have(self, published, tmp_path):
        """A label that no solver of ours has would never be found."""
        solvers = [{"name": name} for name in ("euler", "heun", "dpm_solver_2", "ipndm", "ipndm_v", "deis", "amed")]
        solvers += [{"name": "ipndm", "order": 3}, {"name": "dpm_solver_2", "placer": {"fixed": 0.1}}]
        solvers += [{"name": name, "placer": {"predictor": "p.json"}} for name in ("amed", "ipndm", "dpm_solver_2")]
        pp = {"name": "dpm_solver_pp", "order": 2, "prediction": "noise"}
        solvers += [pp, pp | {"placer": {"predictor": "p.json"}}]
        schedules = [{"name": name} for name in ("polynomial", "logsnr", "time_uniform", "discrete")]
        schedules += [{"name": "time_uniform", "rho": 2.0}]
        clipped = [{"name": "dpm_solver_pp"}, {"name": "unipc"}]
        clipped += [{"name": "dpm_solver_pp", "placer": {"predictor": "p.json"}}]
        entries = [Entry(solver, schedules, [6]) for solver in solvers]
        entries += [Entry(solver, schedules, [6], thresholded=True) for solver in clipped]
        entries += [Entry({"name": "heun"}, schedules, [35], denoise_to_zero=True)]
        for solver in ({"name": "euler"}, {"name": "ipndm", "order": 4}):
            path = write_found(tmp_path / f"{solver['name']}.json", solver=solver)
            entries.append(Entry(solver, [{"name": "gits", "path": str(path)}], [6]))
        given = {"name": "given"}
        cells = plan(Suite("all", [Dataset("any", given, given, given)], entries))
        possible = {(cell.square["label"], cell.square["schedule"]) for cell in cells}
        assert {(label, schedule) for _, label, schedule, _, _ in published.figures} <= possible


@pytest.fixture
def folder(tmp_path):
    """A folder of one figure and its rules."""
    rules = {
        "datasets": [{"spelled": ["sd"], "ours": "coco", "network_runs": 2}, {"spelled": ["old"], "not_ours": "old"}],
        "solvers": [{"spelled": ["dpm[*]"], "ours": {"label": "dpm", "schedule": "discrete", "afs": "odd"}}],
        "metrics": {"fid": "fid"},
        "metrics_not_ours": {"clip": "no CLIP"},
    }
    (tmp_path / KEYS).write_text(yaml.safe_dump(rules))
    return tmp_path


def write_rows(folder, *rows):
    names = ["dataset", "guidance", "solver", "nfe", "metric", "value", "source", "quality"]
    with (folder / FIGURES).open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(dict(zip(names, row, strict=True)) for row in rows)


class TestRules:
    def test_network_runs_are_counted_in_our_unit_and_odd_ones_decide_the_first_step(self, folder):
        write_rows(folder, ("sd", "cfg", "dpm[2M]", "5", "fid", "9.5", "a paper", "primary"))
        (square,) = read_published(folder).figures
        assert square == ("coco", "dpm", "discrete", False, 10)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({0: "old"}, "old"),
            ({4: "clip"}, "no CLIP"),
            ({0: "new"}, None),
            ({2: "dpm"}, None),
            ({2: "dpm2"}, None),
            ({4: "vendi"}, None),
        ],
        ids=["dataset left out", "metric left out", "dataset", "solver", "brackets are no wildcard", "metric"],
    )
    def test_a_row_without_a_rule_is_unmapped_and_one_with_a_reason_left_out(self, folder, changes, reason):
        row = ["sd", "cfg", "dpm[2M]", "5", "fid", "9.5", "a paper", "primary"]
        for place, value in changes.items():
            row[place] = value
        write_rows(folder, row)
        published = read_published(folder)
        assert not published.figures
        assert [why for _, why in published.left_out] == ([] if reason is None else [reason])
        assert len(published.unmapped) == (reason is None)

    def test_a_file_without_its_columns_is_named(self, folder):
        (folder / FIGURES).write_text("dataset,nfe\ncifar10,5\n")
        with pytest.raises(InputError, match=rf"{FIGURES}: no column guidance"):
            read_published(folder)
