"""What a folder says of its suite: a line per cell, whatever became of it, without loading anything."""

from dataclasses import replace

import pytest

from amed_lightning.bench import cell as prepare_module
from amed_lightning.bench.cell import prepare
from amed_lightning.bench.results import Results, lines_of, rows_of, write_json, write_plan
from amed_lightning.bench.suite import load_suite
from amed_lightning.config import InputError, digest
from amed_lightning.metrics.files import DIGITS

from .sheets import row
from .suites import DATASET, entry, write_suite

DATASETS = [DATASET, DATASET | {"name": "blue"}]
EXCLUDED = [{"reason": "it diverges", "datasets": ["blue"], "nfe": [3]}]


@pytest.fixture
def suite(tmp_path):
    return load_suite(
        write_suite(tmp_path, datasets=DATASETS, excluded=EXCLUDED, entries=[entry({"name": "euler"}, nfe=[3, 4])])
    )


@pytest.fixture
def results(tmp_path, suite):
    """A folder whose first cell is finished and whose second has failed."""
    results, benches = Results(tmp_path / "results"), prepare(suite)
    write_plan(suite, benches, results)
    first, second, *_ = benches[0].cells
    results.write_row(row(first.key))
    write_json(results.error(second.key), {"error": "x"})
    return results


class TestRow:
    def test_its_file_gives_it_back(self, tmp_path):
        results, written = Results(tmp_path), row("a", error=0.25, own_scores={"brightness": {"better": "higher"}})
        results.write_row(written)
        assert results.finished("a") == written

    def test_one_of_another_version_lacks_what_has_a_default_and_may_have_more(self, results):
        content = row("a").content | {"what a later version says": 1}
        kept = {
            name: value for name, value in content.items() if name not in ("leave_one_out", "own_scores", "detector")
        }
        write_json(results.row("a"), kept)
        assert results.finished("a") == replace(row("a"), leave_one_out={}, own_scores={}, detector=None)

    @pytest.mark.parametrize("name", ["values", "protocol", "label"])
    def test_what_lacks_more_is_none_and_is_said_to_be_none(self, results, capsys, name):
        content = row("a").content
        del content[name]
        write_json(results.row("a"), content)
        assert results.finished("a") is None
        assert f"'{name}'" in capsys.readouterr().err


class TestLines:
    def test_every_cell_has_one_in_the_order_of_the_suite(self, results):
        lines = lines_of(results)
        assert [(line.id.dataset, line.id.nfe, line.id.label, line.gap) for line in lines] == [
            ("grey", 12, "heun", ""),
            ("grey", 3, "euler", "failed"),
            ("grey", 4, "euler", "missing"),
            ("blue", 12, "heun", "missing"),
            ("blue", 4, "euler", "missing"),
            ("blue", 3, "euler", "excluded"),
        ]
        assert [line.reason for line in lines] == ["", "x", "", "", "", "it diverges"]
        assert [line.is_reference for line in lines] == [True, False, False, True, False, False]

    def test_how_cells_are_scored_is_known_before_they_are_computed_every_option_spelled_out(self, results):
        scored = {"detector": {"name": "digits", "path": str(DIGITS)}, "real_images": {"name": "digits"}, "n": 48}
        assert all(line.scored == scored for line in lines_of(results))

    @pytest.mark.parametrize("wrong", ["NaN", "Infinity", "1e999"])
    def test_a_score_that_is_not_finite_is_no_row_and_is_said_to_be_none(self, results, capsys, wrong):
        path = results.row(lines_of(results)[0].row.key)
        path.write_text(f'{{"key": "{path.stem}", "values": {{"fid": {wrong}}}}}')
        assert lines_of(results)[0].gap == "missing"
        said = capsys.readouterr().err
        assert f"{path}: not this cell's row" in said
        assert f"{wrong} is not finite" in said
        assert said.count("\n") == 1

    def test_rows_are_those_of_the_finished_cells_of_the_suite(self, results):
        results.write_row(row("0123456789abcdef"))
        assert [row.key for row in rows_of(results.folder)] == [lines_of(results)[0].row.key]

    def test_an_error_of_a_cell_that_has_been_computed_since_counts_for_nothing(self, results, suite):
        failed = prepare(suite)[0].cells[1]
        results.write_row(row(failed.key))
        assert lines_of(results)[1].gap == ""

    def test_errors_of_every_task_of_an_array_count(self, results, suite):
        cell = prepare(suite)[1].cells[0]
        write_json(results.folder / "rows" / f"{cell.key}.error-7.json", {"error": "x"})
        assert lines_of(results)[3].gap == "failed"

    def test_nothing_is_loaded(self, results, monkeypatch):
        monkeypatch.setattr(prepare_module, "load", None)
        monkeypatch.setattr(prepare_module, "build_evaluator", None)
        assert len(lines_of(results)) == 6


class TestPlan:
    def test_it_says_of_which_version_of_the_suite_it_is(self, results, suite):
        assert digest(suite) in results.plan.read_text()


class TestNothing:
    def test_a_folder_without_a_sweep_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"nowhere: no sweep there; run `amed-lightning bench --config"):
            rows_of(tmp_path / "nowhere")

    def test_a_sweep_without_a_finished_cell_has_lines_and_no_rows(self, results):
        for path in results.folder.glob("rows/*"):
            path.unlink()
        assert {line.gap for line in lines_of(results)} == {"missing", "excluded"}
        with pytest.raises(InputError, match=r"no finished cells; run `amed-lightning bench --config"):
            rows_of(results.folder)

    def test_a_plan_that_is_none_is_named(self, results):
        results.plan.write_text("{")
        with pytest.raises(InputError, match=r"plan.json: not a file that a sweep wrote"):
            lines_of(results)
