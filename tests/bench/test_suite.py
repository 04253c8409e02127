"""A suite is checked before anything is computed, and a cell's key says everything that its result depends on."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from amed_lightning.amed.files import save_learned
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.bench.cell import Loader, prepare
from amed_lightning.bench.plan import plan
from amed_lightning.bench.suite import load_suite
from amed_lightning.config import InputError, build
from amed_lightning.denoisers.prompts import PromptLists
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.metrics.files import save_detector
from amed_lightning.metrics.image_classifier import DigitsClassifier
from amed_lightning.noise.schedules import NoiseRange, scaled_linear_log_alphas
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.solvers.placement import FixedPlacement

from ..noise.found import write_found
from .suites import CELLS, DATASET, LOGSNR, MODEL, PLAIN, bench_of, entry, write_suite

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NO_SUITES = {"published_keys.yaml", "nightly.yaml"}
SUITES = sorted(path for path in BENCHMARKS.glob("*.yaml") if path.name not in NO_SUITES)
EULER = {"name": "euler"}


def without(*names):
    return {key: value for key, value in PLAIN.items() if key not in names}


class TestLoading:
    @pytest.mark.parametrize("path", SUITES, ids=[path.name for path in SUITES])
    def test_every_suite_of_the_project_loads(self, path):
        suite = load_suite(path)
        assert suite.name == path.stem
        assert suite.entries

    def test_all_cells_of_the_demo_are_cells_of_the_digits_table(self):
        demo, digits = (load_suite(BENCHMARKS / f"{name}.yaml") for name in ("demo", "digits"))
        assert replace(demo, name="", entries=[]) == replace(digits, name="", entries=[])
        cells = plan(digits)
        assert 0 < len([cell for cell in plan(demo) if cell in cells]) == len(plan(demo)) < len(cells) / 2

    def test_what_is_left_out_has_its_default(self, tmp_path):
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(without("num_blocks", "block_size", "batch_size")))
        suite = load_suite(path)
        assert (suite.num_blocks, suite.block_size, suite.batch_size) == (3, 768, 256)
        assert suite.datasets[0].reference.afs == (False,)
        assert suite.entries[0].afs == (False, True)

    @pytest.mark.parametrize(
        ("content", "named"),
        [
            (PLAIN | {"blocks": 3}, "blocks"),
            (PLAIN | {"entries": [entry(EULER, steps=3)]}, "steps"),
            (PLAIN | {"num_blocks": "three"}, "num_blocks"),
            (PLAIN | {"entries": [entry(EULER) | {"nfe": ["five"]}]}, "nfe"),
            (PLAIN | {"entries": [entry(EULER) | {"nfe": 5}]}, "nfe"),
            (PLAIN | {"datasets": [DATASET | {"model": 3}]}, "model"),
            (
                PLAIN | {"datasets": [DATASET | {"batch_size": 7}]},
                "block_size 24 is not a multiple of grey's batch_size 7",
            ),
            (PLAIN | {"datasets": [DATASET, DATASET]}, "datasets .*'grey', 'grey'"),
            (PLAIN | {"datasets": []}, "datasets .* at least one"),
            (PLAIN | {"entries": [entry(EULER, datasets=["gray"])]}, "'gray'.*'grey'"),
            (PLAIN | {"block_size": 25}, "block_size 25 is not a multiple of grey's batch_size 12"),
            (PLAIN | {"num_blocks": 4, "num_ranges": 3}, "num_blocks 4 is not a multiple of num_ranges 3"),
            (PLAIN | {"arithmetic": {"precision": "float8"}}, "precision"),
            (PLAIN | {"excluded": [{"nfe": [3]}]}, "reason"),
            (PLAIN | {"excluded": [{"reason": "x", "datasets": ["gray"]}]}, "'gray'.*'grey'"),
            (without("entries"), "entries"),
            (PLAIN | {"datasets": [{key: DATASET[key] for key in DATASET if key != "model"}]}, "model"),
            ({**PLAIN, "entries": [{"solver": EULER, "nfe": [3]}]}, "schedules"),
        ],
        ids=[
            *("unknown key", "unknown key of an entry", "word for a number", "word in a list", "number for a list"),
            *("word for a mapping", "own ragged blocks", "dataset twice", "no dataset", "unknown dataset"),
            *("ragged blocks", "ragged ranges", "precision", "no reason", "exclusion of an unknown dataset"),
            *("no entries", "no model", "no schedules"),
        ],
    )
    def test_a_suite_that_is_wrong_is_refused_by_file_and_key(self, tmp_path, content, named):
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(InputError, match=f"^{re.escape(str(path))}: .*{named}") as refusal:
            load_suite(path)
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize("name", ["num_blocks", "num_ranges", "block_size", "batch_size"])
    def test_a_size_of_nothing_is_refused_by_its_name(self, tmp_path, name):
        with pytest.raises(InputError, match=f"{name} is 0"):
            load_suite(write_suite(tmp_path, **{name: 0}))

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"nowhere.yaml: no such file"):
            load_suite(tmp_path / "nowhere.yaml")

    @pytest.mark.parametrize("content", ["[1, 2]", "a: [", "words"])
    def test_a_file_that_is_no_mapping_is_named(self, tmp_path, content):
        path = tmp_path / "suite.yaml"
        path.write_text(content)
        with pytest.raises(InputError, match=re.escape(str(path))):
            load_suite(path)


class TestCells:
    def test_an_entry_is_the_product_of_its_lists_and_the_reference_comes_first(self, tmp_path):
        bench = bench_of(tmp_path)
        facts = [(cell.planned.label, cell.nfe, cell.planned.afs, cell.planned.intervals(1)) for cell in bench.cells]
        assert facts == [
            ("heun", 12, False, 6),
            *[("euler", 3, False, 3), ("euler", 4, False, 4), ("euler", 3, True, 4), ("euler", 4, True, 5)],
        ]
        assert len(facts) == CELLS
        assert bench.reference is bench.cells[0]

    def test_a_cell_that_two_entries_describe_is_there_once(self, tmp_path):
        bench = bench_of(tmp_path, entry(EULER), entry(EULER), entry({"name": "ipndm", "order": 1}))
        assert [cell.planned.label for cell in bench.cells] == ["heun", "euler", "ipndm-1"]

    @pytest.mark.parametrize(
        ("solver", "nfe", "afs", "nearest"),
        [
            ({"name": "amed"}, 5, False, "without an analytic first step; the nearest are 4 and 6"),
            ({"name": "amed"}, 4, True, "with an analytic first step; the nearest are 3 and 5"),
            ({"name": "heun"}, 1, False, "the nearest are 2 and 4"),
            ({"name": "euler", "placer": {"fixed": 0.5}}, 5, False, "the nearest are 4 and 6"),
            ({"name": "euler"}, 0, False, "the nearest are 1 and 2"),
        ],
    )
    def test_an_impossible_number_of_network_runs_is_refused_with_the_nearest(
        self, tmp_path, solver, nfe, afs, nearest
    ):
        with pytest.raises(InputError, match=f"solver '{solver['name']}' at {nfe} NFE: .*{nearest}"):
            bench_of(tmp_path, entry(solver, nfe, afs=[afs]))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"entries": [entry({"name": "eluer"})]}, "unknown solver 'eluer'"),
            ({"entries": [entry({"name": "ipndm", "oder": 3})]}, "solver 'ipndm': .*oder"),
            ({"entries": [entry(EULER) | {"schedules": [{"name": "cosine"}]}]}, "unknown schedule 'cosine'"),
            (
                {"entries": [entry(EULER) | {"schedules": [{"name": "discrete"}]}]},
                "'discrete' needs a model with a table",
            ),
            ({"entries": [entry({"name": "amed", "learned": "p-{nfe}.json"})]}, "no such file: p-4.json"),
            ({"model": {"name": "digts"}}, "unknown model 'digts'"),
            ({"detector": {"name": "vgg"}}, "unknown detector 'vgg'"),
            ({"dataset": {"name": "mnist"}}, "unknown dataset 'mnist'"),
        ],
        ids=["solver", "option", "schedule", "table", "predictor", "model", "detector", "dataset"],
    )
    def test_a_part_that_does_not_exist_or_fit_is_refused_before_anything_runs(self, tmp_path, changes, message):
        with pytest.raises(InputError, match=message) as refusal:
            bench_of(tmp_path, **changes)
        assert "\n" not in str(refusal.value)

    def test_a_model_of_another_shape_than_the_real_images_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"\(1, 4, 4\) .* \(1, 8, 8\)"):
            bench_of(tmp_path, model={"name": "anisotropic_gaussian"})

    @pytest.mark.parametrize("nfe", [[], [12, 14]], ids=["none", "two"])
    def test_a_reference_is_one_cell(self, tmp_path, nfe):
        with pytest.raises(InputError, match=f"reference.*{len(nfe)}"):
            bench_of(tmp_path, reference=DATASET["reference"] | {"nfe": nfe})

    def test_every_dataset_has_all_entries_or_those_that_name_it(self, tmp_path):
        datasets = [DATASET, DATASET | {"name": "blue", "reference": None, "batch_size": 6}]
        entries = [entry(EULER), entry({"name": "ipndm"}, datasets=["blue"])]
        grey, blue = prepare(load_suite(write_suite(tmp_path, datasets=datasets, entries=entries)))
        assert [cell.planned.label for cell in grey.cells] == ["heun", "euler"]
        assert [cell.planned.label for cell in blue.cells] == ["euler", "ipndm-4"]
        assert (grey.name, blue.name, blue.reference) == ("grey", "blue", None)
        assert [bench.cells[0].protocol.batch_sizes for bench in (grey, blue)] == [(12,), (6,)]

    def test_an_entry_s_flag_is_the_wrapper_around_its_model(self, tmp_path):
        clipped = entry({"name": "dpm_solver_pp"}, thresholded=True)
        plain, thresholded = bench_of(tmp_path, entry({"name": "dpm_solver_pp"}), clipped).cells[1:]
        assert thresholded.planned.label == "dpm_solver_pp-3 + thresholded"
        assert thresholded.planned.model == {"name": "thresholded", "of": MODEL}
        assert thresholded.sampling["model"] == build("model", DENOISERS, thresholded.planned.model).digest
        assert thresholded.sampling["model"] != plain.sampling["model"]

    @pytest.mark.parametrize(
        ("model", "word"),
        [
            ({"name": "thresholded", "of": MODEL}, "thresholded"),
            ({"name": "thresholded", "of": MODEL, "quantile": 0.9}, "thresholded-0.9"),
            ({"name": "pooled", "of": {"name": "thresholded", "of": MODEL}}, "thresholded"),
        ],
        ids=["around all", "with a quantile of its own", "inside"],
    )
    @pytest.mark.parametrize("flag", [False, True])
    def test_a_dataset_s_model_that_is_thresholded_is_so_in_every_label_and_once(self, tmp_path, model, word, flag):
        cells = plan(load_suite(write_suite(tmp_path, entries=[entry(EULER, thresholded=flag)], model=model)))
        assert [(cell.label, cell.model) for cell in cells] == [
            (f"{name} + {word}", model) for name in ("heun", "euler")
        ]

    @pytest.mark.parametrize(
        ("solver", "flag", "lacks"),
        [
            ({"name": "dpm_solver_pp"}, False, True),
            ({"name": "unipc"}, False, True),
            ({"name": "dpm_solver_pp", "placer": {"fixed": 0.5}}, False, True),
            ({"name": "dpm_solver_pp"}, True, False),
            ({"name": "dpm_solver_pp", "form": "textbook"}, False, False),
            ({"name": "unipc", "prediction": "noise"}, False, False),
            ({"name": "ipndm"}, False, False),
        ],
    )
    def test_published_data_prediction_knows_that_it_lacks_its_thresholding(self, tmp_path, solver, flag, lacks):
        suite = load_suite(write_suite(tmp_path, entries=[entry(solver, thresholded=flag)], reference=None))
        assert [cell.lacks_thresholding for cell in plan(suite)] == [lacks]

    @pytest.mark.parametrize(
        ("spec", "label"),
        [
            ({"name": "ipndm"}, "ipndm-4"),
            ({"name": "ipndm", "order": 4}, "ipndm-4"),
            ({"name": "dpm_solver_pp", "order": 2, "prediction": "noise"}, "dpm_solver_pp-2-noise"),
            ({"name": "unipc", "lower_order_final": False}, "unipc-3-no lower_order_final"),
            ({"name": "deis", "form": "textbook", "variable": "rhoAB"}, "deis-4-rhoAB-textbook"),
            ({"name": "amed", "learned": "p.json"}, "amed"),
            ({"name": "ipndm", "learned": "p.json"}, "ipndm-4 + plugin"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_label_does_not_depend_on_how_a_default_is_spelled(self, tmp_path, spec, label):
        (cell,) = plan(load_suite(write_suite(tmp_path, entries=[entry(spec)], reference=None)))
        assert cell.label == label

    def test_a_schedule_is_named_with_its_options(self, tmp_path):
        schedules = [
            {"name": "polynomial", "rho": 7},
            {"name": "time_uniform", "rho": 2},
            {"name": "gits", "path": "g"},
        ]
        cells = plan(load_suite(write_suite(tmp_path, entries=[entry(EULER, schedules=schedules)], reference=None)))
        assert [cell.schedule_label for cell in cells] == ["polynomial", "time_uniform-2", "gits"]

    @pytest.mark.parametrize(
        ("changes", "label"),
        [
            ({}, "gits-dev-1.15"),
            ({"metric": "l2"}, "gits-l2-1.15"),
            ({"gamma": 1.1}, "gits-dev-1.1"),
            ({"solver": {"name": "ipndm", "order": 3}}, "gits-dev-1.15-for ipndm-3"),
            ({"teacher": {"name": "heun"}}, "gits-dev-1.15-of heun"),
            ({"schedule": {"name": "logsnr"}, "fine_intervals": 30}, "gits-dev-1.15-on logsnr-among 30"),
        ],
    )
    def test_a_found_schedule_is_named_by_what_its_file_holds(self, tmp_path, changes, label):
        path = write_found(tmp_path / "g.json", **changes)
        found = entry(EULER, schedules=[{"name": "gits", "path": str(path)}])
        (cell,) = plan(load_suite(write_suite(tmp_path, entries=[found], reference=None)))
        assert cell.schedule_label == label

    def test_a_file_that_is_no_schedule_is_refused_when_the_suite_is_planned(self, tmp_path):
        path = write_found(tmp_path / "g.json", metric="l3")
        found = entry(EULER, schedules=[{"name": "gits", "path": str(path)}])
        with pytest.raises(InputError, match=r"g\.json: .*metric l3 does not exist"):
            plan(load_suite(write_suite(tmp_path, entries=[found])))

    @pytest.mark.parametrize(
        ("sizes", "metric", "said"),
        [
            (
                {"num_blocks": 4, "block_size": 3},
                "precision_recall",
                "precision and recall: at least 4 images .* not 3",
            ),
            ({"num_blocks": 2, "num_ranges": 1, "block_size": 1}, "fid", "FID: at least 2 images .* not 1"),
        ],
    )
    def test_parts_of_the_seeds_that_have_no_score_are_refused_before_anything_is_sampled(
        self, tmp_path, sizes, metric, said
    ):
        suite = load_suite(write_suite(tmp_path, batch_size=1, metrics=[metric], **sizes))
        with pytest.raises(InputError, match=f"a range of seeds, or all blocks but one, .*: {said}; raise block_size"):
            prepare(suite)

    def test_no_two_rows_of_a_table_look_alike(self, tmp_path):
        """Files that hold the like, lists, and predictors at two paths are numbered; the same spelled twice is not."""
        paths = [
            str(write_found(tmp_path / f"{name}.json", indices=[0, 1, 2, place]))
            for name, place in (("a", 3), ("b", 4))
        ]
        schedules = [{"name": "gits", "path": path} for path in paths]
        schedules += [{"name": "explicit", "levels": [80.0, middle, 0.002]} for middle in (1.0, 2.0)]
        schedules += [{"name": "polynomial", "rho": rho} for rho in (7, 7.0)]
        placed = [{"name": "amed", "learned": f"{name}.json"} for name in "ab"]
        entries = [entry(EULER, [4, 5], schedules=schedules), *map(entry, placed)]
        cells = plan(load_suite(write_suite(tmp_path, entries=entries, reference=None)))
        names = [(cell.label, cell.schedule_label, cell.nfe) for cell in cells]
        of_files = ["gits-dev-1.15", "gits-dev-1.15 (2)", "explicit", "explicit (2)", "polynomial", "polynomial"]
        assert names[:12] == [("euler", schedule, nfe) for schedule in of_files for nfe in (4, 5)]
        assert names[12:] == [("amed", "logsnr", 4), ("amed (2)", "logsnr", 4)]

    def test_a_curve_has_one_number_at_all_its_network_runs(self, tmp_path):
        """Else a plot would join a predictor's points with another's."""
        listed = {"b.json": [4], "a-{nfe}.json": [2, 4, 6], "c-8.json": [8], "d-6.json": [6]}
        entries = [entry({"name": "amed", "learned": path}, nfe) for path, nfe in listed.items()]
        cells = plan(load_suite(write_suite(tmp_path, entries=entries, reference=None)))
        found = {cell.solver["learned"]: cell.label for cell in cells}
        assert found == {
            "b.json": "amed",
            **{f"a-{nfe}.json": "amed (2)" for nfe in (2, 4, 6)},
            **dict.fromkeys(("c-8.json", "d-6.json"), "amed"),
        }

    @pytest.mark.parametrize(("middle", "label"), [(3.0, "explicit (3)"), (2.0, "explicit (2)")])
    def test_nor_does_the_reference_look_like_another_cell_whose_names_it_leaves(self, tmp_path, middle, label):
        """Golden rows and charts would have two for one; a screening, without it, names what the suite excludes."""

        def at(*middles):
            return entry(EULER, 2, schedules=[{"name": "explicit", "levels": [80.0, each, 0.002]} for each in middles])

        cells = plan(load_suite(write_suite(tmp_path, entries=[at(1.0, 2.0)], reference=at(middle))))
        assert [cell.is_reference for cell in cells] == [True, False, False]
        assert [cell.schedule_label for cell in cells] == [label, "explicit", "explicit (2)"]

    def test_the_path_of_a_predictor_or_schedule_may_name_the_dataset(self, tmp_path):
        placed = entry({"name": "amed", "learned": "{dataset}-{nfe}.json"})
        placed["schedules"] = [{"name": "gits", "path": "gits-{nfe}.json"}]
        (cell,) = plan(load_suite(write_suite(tmp_path, entries=[placed], reference=None)))
        assert cell.solver["learned"] == "grey-4.json"
        assert cell.schedule["path"] == "gits-4.json"

    def test_labels_tell_solvers_options_and_placers_apart(self, tmp_path):
        solvers = [EULER, {"name": "ipndm", "order": 3}, EULER | {"placer": {"fixed": 0.5}}, {"name": "amed"}]
        labels = [cell.planned.label for cell in bench_of(tmp_path, *map(entry, solvers)).cells[1:]]
        assert labels == ["euler", "ipndm-3", "euler + fixed 0.5", "amed"]


def test_entries_that_describe_one_cell_are_told(tmp_path):
    """Two steps of `logsnr` have the geometric mean between their ends."""
    levels = bench_of(tmp_path, entry(EULER, 2), reference=None).cells[0].identity["sigmas"]
    alike = [*LOGSNR, {"name": "explicit", "levels": levels}]
    bench = bench_of(tmp_path, entry(EULER, 2, schedules=alike), reference=None)
    assert len(bench.cells) == 1
    told = "grey euler explicit 2 NFE is grey euler logsnr 2 NFE by another name, and has no line of its own"
    assert bench.notes[-1] == told
    assert bench_of(tmp_path, entry(EULER, 2), entry(EULER, 2), reference=None).notes == bench.notes[:-1]


class TestDevice:
    def test_detectors_look_at_real_images_there(self, tmp_path, device, monkeypatch):
        suite, looked, real = load_suite(write_suite(tmp_path)), [], DigitsClassifier.forward

        def forward(self, images):
            looked.append(images.device)
            return real(self, images)

        monkeypatch.setattr(DigitsClassifier, "forward", forward)
        (there,), seen = prepare(suite, Loader(device)), {*looked}
        assert seen == {device}
        (here,) = prepare(suite)
        assert there.evaluator.reference.moments.mean.equal(here.evaluator.reference.moments.mean)
        assert [cell.key for cell in there.cells] == [cell.key for cell in here.cells]


class TestExclusions:
    def excluded(self, tmp_path, *exclusions):
        datasets = [DATASET, DATASET | {"name": "blue", "reference": None}]
        entries = [entry({"name": "ipndm"}, [3, 4]), entry({"name": "ipndm", "order": 3})]
        suite = load_suite(write_suite(tmp_path, datasets=datasets, entries=entries, excluded=list(exclusions)))
        cells = [cell for cell in plan(suite) if cell.excluded]
        return [(cell.dataset, cell.label, cell.nfe) for cell in cells], suite

    @pytest.mark.parametrize(
        ("exclusion", "cells"),
        [
            ({"solver": {"name": "ipndm", "order": 3}}, [("grey", "ipndm-3", 4), ("blue", "ipndm-3", 4)]),
            ({"solver": {"order": 4}, "datasets": ["blue"]}, [("blue", "ipndm-4", 3), ("blue", "ipndm-4", 4)]),
            ({"nfe": [3]}, [("grey", "ipndm-4", 3), ("blue", "ipndm-4", 3)]),
            ({"nfe": [3], "datasets": ["grey"], "solver": {"placer": "none"}}, [("grey", "ipndm-4", 3)]),
        ],
        ids=["solver", "dataset", "network runs", "all of them"],
    )
    def test_a_cell_is_excluded_where_everything_fits_options_that_were_not_spelled_included(
        self, tmp_path, exclusion, cells
    ):
        assert self.excluded(tmp_path, {"reason": "it diverges"} | exclusion)[0] == cells

    def test_an_excluded_cell_is_not_computed_and_the_reference_never_excluded(self, tmp_path):
        _, suite = self.excluded(tmp_path, {"reason": "too slow", "datasets": ["grey"]})
        grey, blue = prepare(suite)
        assert [cell.planned.label for cell in grey.cells] == ["heun"]
        assert len(blue.cells) == 3

    def test_it_may_be_one_that_the_solver_could_not_have(self, tmp_path):
        excluded = [{"reason": "odd", "nfe": [3]}]
        bench = bench_of(tmp_path, entry({"name": "heun"}, [3, 4]), excluded=excluded)
        assert [cell.nfe for cell in bench.cells] == [12, 4]

    def test_one_that_excludes_nothing_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"'too slow' excludes no cell of suite 'small'"):
            self.excluded(tmp_path, {"reason": "too slow", "nfe": [5]})


def keys(folder, *entries, **changes):
    """Return the keys of the cells after the reference."""
    return [cell.key for cell in bench_of(folder, *entries, **changes).cells[1:]]


class TestKeys:
    @pytest.mark.parametrize(
        "changes",
        [
            {"num_blocks": 3},
            {"block_size": 36},
            {"batch_size": 24},
            {"num_ranges": 1},
            {"model": {"name": "digits"}},
            {"entries": [entry(EULER, 5)]},
            {"entries": [entry(EULER, 4, afs=[True])]},
            {"entries": [entry(EULER) | {"schedules": [{"name": "polynomial"}]}]},
            {"entries": [entry({"name": "ipndm"})]},
            {"entries": [entry(EULER | {"placer": {"fixed": 0.5}})]},
            {"entries": [entry(EULER, 5, denoise_to_zero=True)]},
        ],
        ids=[
            "blocks",
            "block size",
            "batch size",
            "ranges",
            "model",
            "runs",
            "start",
            "schedule",
            "solver",
            "placer",
            "end",
        ],
    )
    def test_what_a_score_depends_on_moves_the_key(self, tmp_path, changes):
        plain = {"entries": [entry(EULER)]}
        assert keys(tmp_path, **(plain | changes)) != keys(tmp_path, **plain)

    def test_options_move_the_key(self, tmp_path):
        solvers = [{"name": "ipndm", "order": order} for order in (2, 3)]
        solvers += [EULER | {"placer": {"fixed": ratio}} for ratio in (0.4, 0.5)]
        schedules = [{"name": "polynomial", "rho": rho} for rho in (5.0, 7.0)]
        entries = [*map(entry, solvers), *(entry(EULER) | {"schedules": [schedule]} for schedule in schedules)]
        assert len(set(keys(tmp_path, *entries))) == 6

    def test_both_forms_of_a_discrete_schedule_have_keys_and_labels_of_their_own(self, tmp_path, monkeypatch):
        tabled = NoiseRange(0.1, 10.0, scaled_linear_log_alphas())
        model = replace(build("model", DENOISERS, MODEL), noise_range=tabled)
        monkeypatch.setitem(DENOISERS, "tabled", lambda: model)
        schedules = [{"name": "discrete", "rho": 2.0, "form": form} for form in ("published", "textbook")]
        cells = bench_of(tmp_path, entry(EULER, schedules=schedules), model={"name": "tabled"}, reference=None).cells
        assert [cell.planned.schedule_label for cell in cells] == ["discrete-2", "discrete-2-textbook"]
        assert len({cell.key for cell in cells}) == 2
        assert [cell.sampling["sigmas"][0] for cell in cells] == [pytest.approx(7.23490375, abs=1e-8), 10.0]

    def test_evaluation_prompts_move_the_key_and_training_prompts_do_not(self, tmp_path, monkeypatch):
        def prompted(training, evaluation):
            return replace(build("model", DENOISERS, MODEL), prompts=PromptLists((training,), (evaluation,)))

        monkeypatch.setitem(DENOISERS, "prompted", prompted)
        asked = [{"name": "prompted", "training": one, "evaluation": other} for one, other in ("ab", "cb", "ac")]
        first, same, another = (keys(tmp_path, model=model) for model in asked)
        assert first == same
        assert not set(first) & set(another)

    def test_other_weights_of_the_detector_move_the_key(self, tmp_path):
        path = tmp_path / "fresh.safetensors"
        torch.manual_seed(0)
        save_detector(path, DigitsClassifier())
        assert keys(tmp_path, detector=DATASET["detector"] | {"path": str(path)}) != keys(tmp_path)

    @pytest.mark.parametrize(
        ("short", "spelled"),
        [
            (entry({"name": "ipndm"}), entry({"name": "ipndm", "order": 4})),
            (
                entry(EULER) | {"schedules": [{"name": "polynomial"}]},
                entry(EULER) | {"schedules": [{"name": "polynomial", "rho": 7}]},
            ),
            (entry(EULER), entry(EULER, afs=[False])),
            (entry(EULER), entry(EULER | {"placer": "none"})),
            (entry(EULER | {"placer": {"fixed": 1.0}}), entry(EULER | {"placer": {"fixed": 1}})),
        ],
        ids=["option", "exponent", "start", "no placer", "whole ratio"],
    )
    def test_defaults_that_are_spelled_out_do_not(self, tmp_path, short, spelled):
        assert keys(tmp_path, short) == keys(tmp_path, spelled)

    def test_the_name_of_the_suite_and_its_other_cells_do_not(self, tmp_path):
        assert keys(tmp_path, entry(EULER, 3), entry(EULER), name="another")[1:] == keys(tmp_path, entry(EULER))

    def test_another_reference_moves_it_because_the_distance_to_it_is_a_score(self, tmp_path):
        other = DATASET["reference"] | {"nfe": [14]}
        assert keys(tmp_path, entry(EULER), reference=other) != keys(tmp_path, entry(EULER))


class TestPredictors:
    def predictor(self, path, seed):
        torch.manual_seed(seed)
        config = SamplerConfig(MODEL, {"name": "amed"}, LOGSNR[0], 2)
        save_learned(path, AMEDPredictor(1), SamplerParts(config).purpose, {})

    def placed(self, path):
        return entry({"name": "amed", "learned": str(path)})

    def test_the_key_goes_by_a_predictor_s_content_and_not_by_its_path(self, tmp_path):
        for seed in (0, 1):
            self.predictor(tmp_path / f"{seed}.json", seed)
        for end in ("json", "safetensors"):
            shutil.copy(tmp_path / f"0.{end}", tmp_path / f"copy.{end}")
        first, second, copy = (keys(tmp_path, self.placed(tmp_path / f"{name}.json")) for name in (0, 1, "copy"))
        assert first == copy
        assert first != second
        assert first != keys(tmp_path, entry({"name": "amed"}))

    def test_its_path_may_name_the_number_of_network_runs(self, tmp_path):
        self.predictor(tmp_path / "amed-4.json", 0)
        bench = bench_of(tmp_path, self.placed(tmp_path / "amed-{nfe}.json"))
        (cell,) = bench.cells[1:]
        assert bench.sampler(cell).solver.placer.scale_dir == 0.01
        assert cell.nfe == 4

    def test_one_made_for_another_number_of_intervals_is_refused(self, tmp_path):
        self.predictor(tmp_path / "p.json", 0)
        with pytest.raises(InputError, match="it takes 4 network runs, not nfe 6"):
            bench_of(tmp_path, self.placed(tmp_path / "p.json") | {"nfe": [6]})

    def test_a_fixed_ratio_needs_none(self, tmp_path):
        bench = bench_of(tmp_path, entry({"name": "amed", "placer": {"fixed": 0.3}}))
        (cell,) = bench.cells[1:]
        assert bench.sampler(cell).solver.placer == FixedPlacement(0.3)
