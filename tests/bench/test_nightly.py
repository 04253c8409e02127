"""A night from the command line: TensorBoard shows it, golden rows check it, a planted error does not pass."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import amed_lightning
from amed_lightning.bench.golden import golden_path
from amed_lightning.bench.nightly import run_directory
from amed_lightning.runtime.provenance import hardware

from .browser import browser, shown
from .nights import FIRST_DAY, ask, night, tensorboard_server, write_config
from .sheets import row
from .suites import CPU, entry, write_suite

pytestmark = pytest.mark.usefixtures("unchecked")

PACKAGE = Path(amed_lightning.__file__).parent


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory):
    """The folder of a night that makes the golden rows and of the next one, which reproduces them."""
    folder = tmp_path_factory.mktemp("nights")
    assert night(folder) == 3
    assert night(folder, "--update-golden") == 0
    assert night(folder, day=FIRST_DAY + 1) == 0
    return folder


def reports(folder, name):
    return [path.read_text() for path in sorted((folder / "results").glob(f"small/*/{name}"))]


def golden_of(folder):
    return golden_path(folder / "golden", hardware(CPU), "small")


def dataset_in_tensorboard(folder):
    (protocol,) = {row["protocol"] for row in json.loads(golden_of(folder).read_text())["rows"].values()}
    return f"grey-{protocol[:8]}"


def test_a_bound_of_a_score_that_does_not_exist_is_refused_before_the_night(tmp_path, capsys):
    write_config(tmp_path, bounds={"relative": {"fdi": 1e-4}})
    assert night(tmp_path) == 2
    assert "unknown score in the relative bounds 'fdi': use one of fid, is, " in (said := capsys.readouterr().err)
    assert said.endswith("; did you mean 'fid'?\n")
    assert not (tmp_path / "results").exists()


class TestNight:
    def test_the_golden_rows_are_filed_under_the_hardware(self, two_nights):
        rows = json.loads(golden_of(two_nights).read_text())["rows"]
        assert rows.keys() == {"grey heun polynomial 12 NFE", "grey euler logsnr 4 NFE", "grey ipndm-2 logsnr 4 NFE"}

    def test_every_night_has_rows_and_reports_of_its_own(self, two_nights):
        markdown = reports(two_nights, "report.md")
        assert len(markdown) == 2
        assert all("Outcome: **fine**" in text and "| ipndm-2 |" in text for text in markdown)

    def test_a_finished_night_is_not_run_again(self, two_nights):
        rows = sorted(two_nights.glob("results/small/*/rows/*.json"))
        before = [row.stat().st_mtime_ns for row in rows]
        assert night(two_nights, day=FIRST_DAY + 1) == 0
        assert [row.stat().st_mtime_ns for row in rows] == before

    def test_the_ci_server_gets_a_case_for_every_figure(self, two_nights):
        root = ElementTree.fromstring(reports(two_nights, "junit.xml")[-1])
        cases = {(case.get("classname"), case.get("name")) for case in root}
        assert ("small.grey ipndm-2 logsnr 4 NFE", "rmse") in cases
        assert (root.get("tests"), root.get("failures"), root.get("skipped")) == (str(len(cases)), "0", "0")

    def test_updating_prints_a_diff_that_can_be_reviewed(self, two_nights, capsys):
        path = golden_of(two_nights)
        kept = path.read_text()
        path.write_text(kept.replace('"is": ', '"is": 1'))
        try:
            assert night(two_nights, "--update-golden") == 0
            changed = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("-  ", "+  "))]
            assert len(changed) == 6
            assert all('"is": ' in line for line in changed)
            assert path.read_text() == kept
        finally:
            path.write_text(kept)


class TestRegression:
    def test_an_error_planted_in_a_coefficient_is_caught_and_the_cell_named(self, two_nights, tmp_path):
        """The package is copied and one weight of Adams-Bashforth changed by a percent; all else is as it was."""
        shutil.copytree(PACKAGE, tmp_path / "amed_lightning", ignore=shutil.ignore_patterns("__pycache__"))
        rule = tmp_path / "amed_lightning/solvers/adams_bashforth.py"
        right, wrong = "(3 / 2, -1 / 2)", "(3.015 / 2, -1.015 / 2)"
        assert rule.read_text().count(right) == 1
        rule.write_text(rule.read_text().replace(right, wrong))
        shutil.copytree(two_nights / "golden", tmp_path / "golden")
        command = [
            "-m",
            "amed_lightning",
            "bench",
            "nightly",
            "--config",
            write_config(tmp_path),
            "--accelerator",
            "cpu",
        ]
        ended = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 1, ended.stderr
        named = [line for line in ended.stderr.splitlines() if line.startswith("regression")]
        assert {line.split(", ")[0] for line in named} == {"regression: grey ipndm-2 logsnr 4 NFE"}
        root = ElementTree.fromstring(reports(tmp_path, "junit.xml")[0])
        failures = [case.get("classname") for case in root if case.find("failure") is not None]
        assert set(failures) == {"small.grey ipndm-2 logsnr 4 NFE"}

    def test_a_cell_that_fails_is_a_regression_and_no_golden_row(self, two_nights, tmp_path, capsys, monkeypatch):
        def broken(*_):
            raise RuntimeError("planted")

        monkeypatch.setattr("amed_lightning.solvers.adams_bashforth.Equidistant.__call__", broken)
        shutil.copytree(two_nights / "golden", tmp_path / "golden")
        assert night(tmp_path) == 1
        assert "planted" in capsys.readouterr().err
        assert night(tmp_path, "--update-golden") == 2
        assert "ipndm-2 logsnr 4 NFE" in capsys.readouterr().err

    def test_rows_of_the_day_are_judged_at_the_place_that_the_suite_gives_them_now(self, tmp_path):
        """Two schedules of one name have changed places: the golden row of the first is the second's now."""
        lists = [{"name": "explicit", "levels": [80.0, middle, 0.002]} for middle in (3.0, 0.5)]
        write_config(tmp_path)
        for order, update, code in ((lists, ["--update-golden"], 0), (lists, [], 0), (lists[::-1], [], 1)):
            write_suite(tmp_path, entries=[entry({"name": "euler"}, nfe=2, schedules=order)])
            assert night(tmp_path, *update) == code

    def test_other_numbers_of_samples_leave_it_open(self, two_nights, tmp_path, capsys):
        shutil.copytree(two_nights / "golden", tmp_path / "golden")
        config = write_config(tmp_path)
        suite = tmp_path / "suite.yaml"
        suite.write_text(suite.read_text().replace("block_size: 24", "block_size: 36"))
        assert config.is_file()
        assert night(tmp_path) == 3
        assert "protocol" in capsys.readouterr().err


class TestBadInput:
    def test_a_wrong_key_is_named(self, tmp_path, capsys):
        write_config(tmp_path, golds="nowhere")
        assert night(tmp_path) == 2
        assert "golds" in capsys.readouterr().err

    def test_damaged_golden_rows_are_found_before_the_night(self, tmp_path, capsys):
        write_config(tmp_path)
        golden_of(tmp_path).parent.mkdir(parents=True)
        golden_of(tmp_path).write_text("{}")
        assert night(tmp_path) == 2
        assert "not a file of golden rows" in capsys.readouterr().err
        assert not (tmp_path / "results").exists()


class TestTensorBoard:
    def test_scores_of_unlike_protocols_are_no_curve(self):
        nights = [row("amed"), row("amed", protocol="f" * 64), row("amed", fid=9.0)]
        assert [run_directory(night) for night in nights] == [
            *("grey-01234567/amed-logsnr", "grey-ffffffff/amed-logsnr", "grey-01234567/amed-logsnr")
        ]

    def test_tensorboard_serves_two_nights(self, two_nights):
        folder, tag = dataset_in_tensorboard(two_nights), "fid/nfe_04"
        run = f"{folder}/ipndm-2-logsnr"
        with tensorboard_server(two_nights / "tensorboard") as address:
            points = ask(address, "scalars/scalars", run=run, tag=tag)
            assert [step for _, step, _ in points] == [FIRST_DAY, FIRST_DAY + 1]
            assert len({value for *_, value in points}) == 1
            assert set(ask(address, "scalars/tags")) == {run, f"{folder}/euler-logsnr", f"{folder}/heun-polynomial"}
            assert "samples/nfe_04" in ask(address, "images/tags")[run]
            page = ask(address, "custom_scalars/layout")
            charts = {chart["title"]: chart for category in page["category"] for chart in category["chart"]}
            assert charts["4 NFE"]["multiline"]["tag"][0].startswith("^")
            texts = ask(address, "text/text", run=".", tag="report/text_summary")
            assert {entry["step"] for entry in texts} == {FIRST_DAY, FIRST_DAY + 1}
            assert all("<table>" in entry["text"] and "ipndm-2" in entry["text"] for entry in texts)

    @pytest.mark.slow
    def test_a_person_sees_the_charts_and_the_table_of_two_nights(self, two_nights):
        chart, run, nights = "nfe_04", f"{dataset_in_tensorboard(two_nights)}/ipndm-2-logsnr", ("20,000", "20,001")
        with browser() as window, tensorboard_server(two_nights / "tensorboard") as address:
            page = shown(window, f"{address}/#timeseries", chart, run)
            assert chart in page
            assert run in page
            page = shown(window, f"{address}/#custom_scalars", "FID against time", "4 NFE")
            assert "FID against time" in page
            assert "4 NFE" in page
            page = shown(window, f"{address}/#text", *nights)
            assert all(night in page for night in nights)
            assert page.count("Outcome: ") == 2
            assert page.count("± ") >= 6
