"""``bench``: run, look, compare; every ending has its exit code."""

import csv
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from amed_lightning.bench import sweep
from amed_lightning.bench.published import KEYS
from amed_lightning.solvers.multistep import Multistep
from amed_lightning.solvers.registry import SOLVERS

from ..bench.suites import DATASET, PLAIN, entry, rows, values, write_suite
from .command import call, refusal, start

pytestmark = pytest.mark.usefixtures("unchecked")

EULER = {"name": "euler"}


@pytest.fixture
def suite(tmp_path):
    return write_suite(tmp_path, entries=[entry(EULER, [3, 4])])


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Where that suite was run."""
    place = tmp_path_factory.mktemp("ended")
    assert run(write_suite(place, entries=[entry(EULER, [3, 4])]), place) == 0
    return place / "small"


@pytest.fixture
def finished(ended, tmp_path):
    """The folder of a run of the suite."""
    return shutil.copytree(ended, tmp_path / "small")


def bench(suite, folder, *options):
    """Run the command where no published figures are."""
    return call("bench", *options, "--config", suite, "--output", folder, "--published", folder)


def run(suite, folder, *options):
    return bench(suite, folder, "run", "--accelerator", "cpu", *options)


class TestRun:
    def test_it_leaves_rows_tables_and_pictures_and_prints_the_table(self, tmp_path, suite, capsys):
        assert run(suite, tmp_path) == 0
        folder = tmp_path / "small"
        assert {path.name for path in folder.iterdir()} == {
            *(
                "blocks",
                "references",
                "rows",
                "samples",
                "plan.json",
                "run.json",
                "table.md",
                "table.csv",
                "table.tex",
                "fid.png",
            ),
            *("samples-grey-3.png", "samples-grey-4.png"),
        }
        printed = capsys.readouterr()
        assert "euler" in printed.out
        assert "written:" in printed.out
        assert "no published-figures.csv" in printed.err

    def test_run_is_what_it_does_without_being_told(self, tmp_path, suite):
        assert bench(suite, tmp_path, "--accelerator", "cpu") == 0
        assert len(rows(tmp_path / "small")) == 3

    def test_images_are_written_when_they_are_asked_for(self, tmp_path, suite):
        assert run(suite, tmp_path, "--images") == 0
        assert len(list((tmp_path / "small" / "images").rglob("*.png"))) == 3 * 48

    def test_a_cell_that_fails_is_named_and_shown_the_others_finish_and_the_code_is_1(
        self, tmp_path, monkeypatch, capsys
    ):
        class Broken(Multistep):
            def step(self, flow, state, sigma_next):
                raise ArithmeticError("out of luck")

        def broken(placer: object = None) -> Broken:
            return Broken(SOLVERS["euler"]().rule)

        module = type(sys)("somebodys_own")
        module.broken = broken
        monkeypatch.setitem(sys.modules, "somebodys_own", module)
        suite = write_suite(tmp_path, entries=[entry({"name": "somebodys_own.broken"}), entry(EULER)])
        assert run(suite, tmp_path) == 1
        printed = capsys.readouterr()
        assert "failed: grey, somebodys_own.broken at 4 NFE, see" in printed.err
        assert "1 of 3 cells have no result yet: 1 failed" in printed.out
        assert "failed: grey somebodys_own.broken logsnr 4 NFE: ArithmeticError('out of luck'), see" in printed.err
        table = (tmp_path / "small" / "table.md").read_text()
        assert "| somebodys_own.broken | logsnr |  | failed [1] |" in table
        assert "1. ArithmeticError('out of luck')" in table
        assert len(rows(tmp_path / "small")) == 2

    def test_nothing_runs_where_something_is_not_there(self, tmp_path, capsys):
        placed = entry({"name": "amed", "learned": "nowhere.json"})
        suite = write_suite(tmp_path, entries=[entry(EULER), placed])
        line = refusal(capsys, "bench", "--config", suite, "--output", tmp_path, "--published", tmp_path)
        assert "no such file: nowhere.json (no configuration in configs/ makes it)" in line
        assert not (tmp_path / "small").exists()

    def test_away_from_a_checkout_the_program_s_own_configurations_make_it(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        suite = write_suite(tmp_path, entries=[entry({"name": "amed", "learned": "runs/digits/amed-3/predictor.json"})])
        line = refusal(capsys, "bench", "--config", suite, "--output", tmp_path, "--published", tmp_path)
        assert "(amed-lightning fit digits/amed-3)" in line

    def test_all_that_is_missing_is_named_with_the_commands_that_make_it(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        configs = {
            "configs/deep/a.yaml": "trainer: {default_root_dir: runs/a }",
            "configs/g.yaml": "search:\n  output: g.json\n",
            "configs/e.yaml": "model:\n  export: out/e.json\n",
            "configs/u.yaml": "trainer:\n  default_root_dir: runs/v2/u-{nfe}\n",
        }
        for name, text in configs.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        entries = [
            entry({"name": "amed", "learned": "runs/a/predictor.json"}),
            entry({"name": "amed", "learned": "runs/a/constants.json"}),
            entry({"name": "ipndm", "learned": "runs/b/predictor.json"}),
            entry({"name": "ipndm", "learned": "runs/v2/u-{nfe}/table.json"}, nfe=[3, 5]),
            entry({"name": "ipndm", "learned": "out/e.json"}),
            entry(EULER, schedules=[{"name": "gits", "path": "g.json"}]),
        ]
        suite = write_suite(tmp_path, entries=entries, model={"name": "file", "path": "no-model.json"})
        line = refusal(capsys, "bench", "--config", suite, "--output", tmp_path, "--published", tmp_path)
        assert (
            "runs/a/predictor.json, runs/a/constants.json (amed-lightning fit --config configs/deep/a.yaml); " in line
        )
        assert "runs/b/predictor.json (no configuration in configs/ makes it); " in line
        assert "g.json (amed-lightning schedule --config configs/g.yaml)" in line
        assert "out/e.json (amed-lightning fit --config configs/e.yaml)" in line
        for nfe in (3, 5):
            fit = f"amed-lightning fit --config configs/u.yaml --model.student.nfe={nfe}"
            assert f"runs/v2/u-{nfe}/table.json ({fit})" in line

    @pytest.mark.parametrize("option", ["--devices", "--num_nodes"])
    def test_no_devices_are_refused_before_anything_is_loaded(self, tmp_path, capsys, option):
        suite = write_suite(tmp_path, model={"name": "file", "path": "no-model.json"})
        line = refusal(capsys, "bench", "--config", suite, "--output", tmp_path, "--published", tmp_path, option, 0)
        assert f"{option[2:]} is 0; it must be at least 1" in line

    def test_a_table_at_any_time_says_what_is_missing(self, tmp_path, suite, capsys, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(sweep, "compute_block", interrupted)
        assert call("bench", "--config", suite, "--output", tmp_path, "--accelerator", "cpu") != 0
        assert bench(suite, tmp_path, "table") == 0
        assert "3 of 3 cells have no result yet: 3 missing" in capsys.readouterr().out

    def test_damaged_samples_of_a_finished_cell_are_made_again(self, tmp_path, suite, finished, capsys):
        before = values(finished)
        for path in (finished / "samples").glob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:-40])
        assert run(suite, tmp_path) == 0
        assert capsys.readouterr().err.count("it is made again") == 3
        assert values(finished) == before
        assert run(suite, tmp_path) == 0
        assert "made again" not in capsys.readouterr().err


class TestJobs:
    @pytest.mark.slow
    def test_two_that_run_at_once_share_the_cells_and_leave_the_rows_of_one(self, tmp_path, suite):
        command = ("bench", "--config", suite, "--accelerator", "cpu", "--output", tmp_path)
        places = [tmp_path / name for name in ("one", "two")]
        for place in places:
            place.mkdir()
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda place: start(place, *command), places))
        assert run(suite, tmp_path / "whole") == 0
        assert values(tmp_path / "small") == values(tmp_path / "whole" / "small")
        assert not list((tmp_path / "small").rglob(".*"))


class TestDryRun:
    def test_it_prints_and_writes_nothing(self, tmp_path, suite, capsys):
        assert run(suite, tmp_path, "--dry-run", "--seconds_per_run", 36, "--devices", 2) == 0
        printed = capsys.readouterr().out
        assert "heun" in printed
        assert "intervals" in printed
        assert "912" in printed, "network runs: (12 + 3 + 4) x 48"
        assert "0.38" in printed, "hours: 19 x 4 micro-batches x 36 s / 2"
        assert not (tmp_path / "small").exists()

    def test_its_estimate_is_of_the_whole_suite_and_says_so_whatever_is_finished(self, tmp_path, suite, ended, capsys):
        printed = []
        for _ in range(2):
            assert run(suite, tmp_path, "--dry-run", "--seconds_per_run", 36) == 0
            printed.append(capsys.readouterr().out)
            shutil.copytree(ended, tmp_path / "small", dirs_exist_ok=True)
        assert printed[0] == printed[1]
        assert "the whole suite, finished cells too, on 1 device" in printed[0]

    def test_it_needs_neither_weights_nor_predictors_and_says_so(self, tmp_path, capsys):
        placed = entry({"name": "ipndm", "learned": "nowhere.json"})
        suite = write_suite(tmp_path, entries=[placed], model={"name": "file", "path": "no-model.json"})
        assert run(suite, tmp_path, "--dry-run") == 0
        printed = capsys.readouterr().out
        assert "ipndm-4 + plugin" in printed
        assert "grey: " in printed
        assert "no-model.json: no such file" in printed

    def test_bad_input_is_found(self, tmp_path, capsys):
        suite = write_suite(tmp_path, entries=[entry({"name": "eluer"})])
        assert "unknown solver 'eluer'" in refusal(capsys, "bench", "--config", suite, "--dry-run")


class TestTable:
    def test_published_figures_stand_beside_cells_of_their_name_that_are_scored_alike(
        self, tmp_path, capsys, pytestconfig
    ):
        datasets = [DATASET | {"name": "cifar10", "reference": None}]
        cell = entry(EULER, 5, schedules=[{"name": "polynomial"}])
        suite = write_suite(tmp_path, datasets=datasets, entries=[cell])
        assert run(suite, tmp_path) == 0
        ours, theirs = pytestconfig.rootpath / "benchmarks", tmp_path / "as if of 48 digits"
        shutil.copytree(ours, theirs, ignore=shutil.ignore_patterns("*.py"))
        rules = yaml.safe_load((theirs / KEYS).read_text())
        digits = {dataset: {"n": 48, "real_images": {"name": "digits"}} for dataset in rules["scored"]}
        (theirs / KEYS).write_text(yaml.safe_dump(rules | {"detectors": [{"name": "digits"}], "scored": digits}))
        for published, figure in {theirs: "49.66", ours: ""}.items():
            capsys.readouterr()
            assert call("bench", "table", "--config", suite, "--output", tmp_path, "--published", published) == 0
            assert ("49.66" in capsys.readouterr().out) == bool(figure)
            with (tmp_path / "small" / "table.csv").open(newline="") as file:
                (line,) = csv.DictReader(file)
            assert line["published"] == figure
        reason = "another detector, other real images, n = 48 instead of 50000"
        assert (
            f"no published figures, because these scores are of {reason}" in (tmp_path / "small/table.md").read_text()
        )

    def test_a_suite_that_has_changed_since_is_told(self, tmp_path, suite, capsys):
        assert run(suite, tmp_path) == 0
        assert "has changed" not in capsys.readouterr().err
        suite.write_text(yaml.safe_dump(PLAIN | {"entries": [entry(EULER, 7)]}))
        assert bench(suite, tmp_path, "table") == 0
        assert "has changed since" in capsys.readouterr().err

    def test_plot_draws_again(self, tmp_path, suite, finished):
        for path in finished.glob("*.png"):
            path.unlink()
        assert bench(suite, tmp_path, "plot") == 0
        assert {path.name for path in finished.glob("*.png")} == {
            *("fid.png", "samples-grey-3.png", "samples-grey-4.png")
        }

    @pytest.mark.usefixtures("finished")
    def test_plot_draws_all_on_one_schedule_as_the_ending_says(self, tmp_path, suite, capsys):
        options = ("--on_schedule", "logsnr", "--picture", tmp_path / "new" / "fid.svg")
        assert bench(suite, tmp_path, "plot", *options) == 0
        assert "All solvers on logsnr" in (tmp_path / "new" / "fid.svg").read_text()
        capsys.readouterr()
        where = ("--config", suite, "--output", tmp_path)
        told = refusal(capsys, "bench", "plot", *where, "--on_schedule", "discrete")
        assert "no cell ran on the schedule 'discrete'; there are logsnr, polynomial" in told
        told = refusal(capsys, "bench", "report", *where, "--on_schedule", "discrete")
        assert "no cell ran on the schedule 'discrete'" in told
        assert "ends with .png, .pdf, .svg" in refusal(capsys, "bench", "plot", *where, "--picture", "fid.gif")

    @pytest.mark.usefixtures("finished")
    def test_report_writes_one_page_beside_the_tables_or_where_it_is_told_to(self, tmp_path, suite, capsys):
        for path, options in {"small/report.html": (), "new/page.html": ("--page", tmp_path / "new/page.html")}.items():
            assert bench(suite, tmp_path, "report", *options) == 0
            assert f"written: {tmp_path / path}" in capsys.readouterr().out
            assert (tmp_path / path).read_text().startswith("<!DOCTYPE html>")

    def test_a_screening_leaves_out_what_is_beaten_and_a_run_without_computes_it(self, tmp_path, capsys):
        entries = [entry(EULER), entry({"name": "heun"})]
        suite = write_suite(tmp_path, entries=entries, num_blocks=4, block_size=64, batch_size=64)
        assert run(suite, tmp_path, "--screen") == 0
        printed = capsys.readouterr().out
        assert "screened: 1 of 2 cells are left out, on 64 images each" in printed
        assert "excluded [1]" in printed
        assert len(rows(tmp_path / "small-screening")) == len(rows(tmp_path / "small")) == 2
        assert bench(suite, tmp_path, "table") == 0
        assert "has changed since" not in capsys.readouterr().err
        assert run(suite, tmp_path) == 0
        assert "excluded" not in capsys.readouterr().out
        assert len(rows(tmp_path / "small")) == 3


class TestCompare:
    def test_it_shows_differences_and_what_only_one_has(self, tmp_path, capsys):
        for name, nfes in {"a": [3, 4], "b": [4, 5]}.items():
            (tmp_path / name).mkdir()
            assert run(write_suite(tmp_path / name, entries=[entry(EULER, nfes)]), tmp_path / name) == 0
        capsys.readouterr()
        folders = [tmp_path / name / "small" for name in "ab"]
        assert call("bench", "compare", *folders, "--output", tmp_path / "changes.md") == 0
        printed = capsys.readouterr().out
        assert "only A has euler on logsnr at 3 NFE" in printed
        assert "(+0.00 ± 0.00)" in printed
        assert "only B has euler on logsnr at 5 NFE" in (tmp_path / "changes.md").read_text()

    def test_a_folder_without_a_sweep_is_refused(self, tmp_path, capsys):
        assert "no sweep there" in refusal(capsys, "bench", "compare", tmp_path, tmp_path)
