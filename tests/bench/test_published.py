"""Every published row is either joined to a cell of ours or left out for a reason that is written down."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from amed_lightning.bench.plan import SCORED, CellId, plan
from amed_lightning.bench.published import FIGURES, KEYS, read_published
from amed_lightning.bench.results import Line
from amed_lightning.bench.suite import Dataset, Entry, Suite
from amed_lightning.config import InputError
from amed_lightning.denoisers.zoo.card import load_card
from amed_lightning.metrics.inception import RELEASE

from ..noise.found import write_found

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def published():
    return read_published(BENCHMARKS)


def line(published, dataset, label, schedule, nfe, afs=False, **scored):
    """Return the place of a cell that was scored as its dataset's figures were."""
    theirs = published.scored[dataset]
    scored = {"detector": theirs.detectors[0], "real_images": theirs.real_images, "n": theirs.n} | scored
    return Line(CellId(dataset, label, schedule, afs, nfe), False, scored)


def beside(published, *cell):
    return [figure.value for figure in published.beside(line(published, *cell))]


class TestOurFigures:
    def test_no_row_is_unmapped(self, published):
        assert published.unmapped == []

    def test_every_row_is_there_once(self, published):
        with (BENCHMARKS / FIGURES).open(newline="") as file:
            total = len(list(csv.DictReader(file)))
        assert (sum(map(len, published.figures.values())), len(published.left_out), total) == (510, 891, 1401)

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
        scored = {"name": "inception"}, {"name": "published", "card": "cifar10"}
        suite = Suite(
            "found", [Dataset("cifar10", {"name": "digits"}, *scored)], entries, num_blocks=50, block_size=1000
        )
        (cell,) = plan(suite)
        assert {figure.value for figure in published.beside(cell)} == figures

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
        quoted = published.beside(line(published, "cifar10", "ipndm-4", "logsnr", 5))
        assert [figure.is_secondary for figure in quoted] == [True]

    def test_every_square_is_one_that_a_suite_of_ours_can_have(self, published, tmp_path):
        """A label that no solver of ours has would never be found."""
        solvers = [{"name": name} for name in ("euler", "heun", "dpm_solver_2", "ipndm", "ipndm_v", "deis", "amed")]
        solvers += [{"name": "ipndm", "order": 3}, {"name": "dpm_solver_2", "placer": {"fixed": 0.1}}]
        solvers += [{"name": name, "learned": "p.json"} for name in ("amed", "ipndm", "dpm_solver_2")]
        pp = {"name": "dpm_solver_pp", "order": 2, "prediction": "noise"}
        solvers += [pp, pp | {"learned": "p.json"}]
        schedules = [{"name": name} for name in ("polynomial", "logsnr", "time_uniform", "discrete")]
        schedules += [{"name": "time_uniform", "rho": 2.0}]
        clipped = [{"name": "dpm_solver_pp"}, {"name": "unipc"}]
        clipped += [{"name": "dpm_solver_pp", "learned": "p.json"}]
        entries = [Entry(solver, schedules, [6]) for solver in solvers]
        entries += [Entry(solver, schedules, [6], thresholded=True) for solver in clipped]
        entries += [Entry({"name": "heun"}, schedules, [35], denoise_to_zero=True)]
        for solver in ({"name": "euler"}, {"name": "ipndm", "order": 4}):
            path = write_found(tmp_path / f"{solver['name']}.json", solver=solver)
            entries.append(Entry(solver, [{"name": "gits", "path": str(path)}], [6]))
        digits = {"name": "digits"}
        cells = plan(Suite("all", [Dataset("any", digits, digits, digits)], entries))
        possible = {(cell.label, cell.schedule_label) for cell in cells}
        assert {(label, schedule) for _, label, schedule, _, _ in published.figures} <= possible


def euler_on_cifar10(detector, real_images, blocks):
    """Return the place of a cell for which 49.66 is published, in a suite that scores it like this."""
    named = Dataset("cifar10", {"name": "pretrained", "card": "cifar10"}, detector, real_images)
    entry = Entry({"name": "euler"}, [{"name": "polynomial"}], [5])
    (cell,) = plan(Suite("mine", [named], [entry], num_blocks=blocks, block_size=100))
    return cell


INCEPTION, CARD = {"name": "inception"}, {"name": "published", "card": "cifar10"}


class TestScoring:
    @pytest.mark.parametrize(
        "detector",
        [
            INCEPTION,
            INCEPTION | {"tap": 2048, "logits": False},
            INCEPTION | {"path": "a.pth", "sha256": RELEASE.sha256},
        ],
        ids=["as it is fetched", "spelled out", "a copy of one's own"],
    )
    def test_a_cell_that_is_scored_as_the_figures_were_has_them(self, published, detector):
        place = euler_on_cifar10(detector, CARD, 500)
        assert {figure.value for figure in published.beside(place)} == {49.66}
        assert published.unlike(place) == ""

    @pytest.mark.parametrize(
        ("detector", "real_images", "blocks", "reason"),
        [
            (INCEPTION, CARD, 1, "n = 100 instead of 50000"),
            (INCEPTION, CARD, 501, "n = 50100 instead of 50000"),
            ({"name": "digits"}, CARD, 500, "another detector"),
            (INCEPTION | {"tap": 768}, CARD, 500, "another detector"),
            (INCEPTION | {"path": "mine.pth"}, CARD, 500, "another detector"),
            (INCEPTION | {"path": "mine.pth", "sha256": "0" * 64}, CARD, 500, "another detector"),
            (INCEPTION, {"name": "digits"}, 500, "other real images"),
            (INCEPTION, {"name": "statistics", "path": "cifar10-32x32.npz"}, 500, "other real images"),
            (INCEPTION, CARD | {"card": "ffhq"}, 500, "other real images"),
            (
                {"name": "digits"},
                {"name": "digits"},
                1,
                "another detector, other real images, n = 100 instead of 50000",
            ),
        ],
    )
    def test_any_other_has_none_and_the_reason_is_told(
        self, published, tmp_path, detector, real_images, blocks, reason
    ):
        place = euler_on_cifar10(detector, real_images, blocks)
        assert published.beside(place) == []
        assert published.unlike(place) == reason

    def test_a_cell_without_figures_has_no_reason_either(self, published):
        assert published.unlike(replace(euler_on_cifar10({"name": "digits"}, CARD, 1), nfe=99)) == ""

    def test_a_plan_of_older_code_that_does_not_say_how_has_none(self, published):
        cell = euler_on_cifar10(INCEPTION, CARD, 500)
        for name in SCORED:
            scored = {key: value for key, value in cell.scored.items() if key != name}
            assert published.beside(replace(cell, scored=scored)) == []

    def test_the_reference_is_one_that_a_card_names(self, published):
        assert all("reference" in load_card(theirs.real_images["card"]).files for theirs in published.scored.values())


@pytest.fixture
def folder(tmp_path):
    """A folder of one figure and its rules."""
    rules = {
        "datasets": [{"spelled": ["sd"], "ours": "coco", "network_runs": 2}, {"spelled": ["old"], "not_ours": "old"}],
        "solvers": [{"spelled": ["dpm[*]"], "ours": {"label": "dpm", "schedule": "discrete", "afs": "odd"}}],
        "metrics": {"fid": "fid"},
        "metrics_not_ours": {"clip": "no CLIP"},
        "detectors": [{"name": "inception"}],
        "scored": {"coco": {"n": 30, "real_images": {"name": "mine"}}},
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

    def test_rules_that_do_not_say_how_a_dataset_s_figures_were_scored_are_refused(self, folder):
        write_rows(folder, ("sd", "cfg", "dpm[2M]", "5", "fid", "9.5", "a paper", "primary"))
        rules = yaml.safe_load((folder / KEYS).read_text())
        (folder / KEYS).write_text(yaml.safe_dump(rules | {"scored": {}}))
        with pytest.raises(InputError, match=rf"{KEYS}: `scored` does not say how the figures of coco were"):
            read_published(folder)

    @pytest.mark.parametrize("wrong", ["nan", "inf", "1e999", "about 9"])
    def test_a_figure_that_is_no_finite_number_is_refused(self, folder, wrong):
        write_rows(folder, ("sd", "cfg", "dpm[2M]", "5", "fid", wrong, "a paper", "primary"))
        with pytest.raises(InputError, match=rf"{FIGURES}: sd cfg .*: .*{wrong}.*$"):
            read_published(folder)

    def test_a_file_without_its_columns_is_named(self, folder):
        (folder / FIGURES).write_text("dataset,nfe\ncifar10,5\n")
        with pytest.raises(InputError, match=rf"{FIGURES}: no column guidance"):
            read_published(folder)
