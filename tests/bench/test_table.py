"""Tables and plots are functions of the rows."""

import csv
import io
import re

import pytest
from rich.console import Console

from amed_lightning.bench.plot import plot
from amed_lightning.bench.results import Results, write_json
from amed_lightning.bench.table import COLUMNS, SCORES, best, comma_separated, markdown, ordered, terminal
from amed_lightning.config import InputError

from .suites import bench_of


def row(key, nfe=5, fid=10.0, is_=8.0, rmse=0.2, spread=0.0, reference=False, **more):
    scores = {"fid": fid, "is": is_} | ({} if reference else {"rmse": rmse})
    spreads = {f"{name}_spread": spread for name in scores} if spread is not None else {}
    plain = {
        "key": key,
        "dataset": "grey",
        "label": key,
        "schedule": "logsnr",
        "afs": False,
        "nfe": nfe,
        "is_reference": reference,
        "stays_in_warm_up": False,
    }
    plain |= {"values": scores | spreads, "n": 48, "seconds": 0.125, "protocol": "0123456789abcdef"}
    return plain | more


def marked(rows, score="fid"):
    return {key for key, name in best(rows) if name == score}


class TestBest:
    @pytest.mark.parametrize(("score", "winner"), [("fid", "a"), ("is", "b"), ("rmse", "c")])
    def test_low_wins_for_fid_and_rmse_and_high_for_is(self, score, winner):
        rows = [row("a", fid=1.0), row("b", is_=9.0), row("c", rmse=0.1)]
        assert marked(rows, score) == {winner}

    def test_a_difference_within_the_spread_of_either_is_no_difference(self):
        assert marked([row("a", fid=10.0, spread=0.1), row("b", fid=10.4, spread=0.5)]) == {"a", "b"}
        assert marked([row("a", fid=10.0, spread=0.5), row("b", fid=10.4, spread=0.1)]) == {"a", "b"}

    def test_a_difference_beyond_it_is(self):
        assert marked([row("a", fid=10.0, spread=0.3), row("b", fid=10.4, spread=0.3)]) == {"a"}

    def test_without_a_spread_the_best_stands_alone(self):
        assert marked([row("a", fid=10.0, spread=None), row("b", fid=10.001, spread=None)]) == {"a"}

    def test_every_number_of_network_runs_has_its_own_best(self):
        assert marked([row("a", nfe=3, fid=50.0), row("b", nfe=5, fid=10.0), row("c", nfe=5, fid=20.0)]) == {"a", "b"}

    def test_the_reference_is_never_marked_and_beats_nobody(self):
        rows = [row("reference", fid=1.0, reference=True), row("a", fid=10.0), row("b", fid=12.0)]
        assert marked(rows) == {"a"}
        assert best([row("reference", reference=True)]) == set()


ROWS = [
    row("ipndm-4", nfe=6, fid=7.126, is_=8.9, rmse=0.1234, spread=0.25, afs=True),
    row("euler", nfe=5, fid=31.5, is_=7.25, rmse=0.4, spread=0.05),
    row("heun", nfe=78, fid=5.0, is_=9.5, spread=0.125, reference=True),
    row("amed", nfe=5, fid=9.75, is_=8.75, rmse=0.2, spread=0.05),
]


class TestMarkdown:
    def parsed(self, text):
        lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line] for line in lines]

    def test_it_is_a_table_by_network_runs_and_then_by_fid(self):
        header, rule, *lines = self.parsed(markdown(ROWS))
        assert header == [*COLUMNS]
        assert set(rule) == {"---"}
        assert [(line[0], line[1]) for line in lines] == [
            ("5", "amed"),
            ("5", "euler"),
            ("6", "ipndm-4"),
            ("78", "heun"),
        ]
        assert [line[1] for line in lines] == [entry["label"] for entry in ordered(ROWS)]

    def test_its_numbers_read_back_to_the_digits_shown(self):
        for line, entry in zip(self.parsed(markdown(ROWS))[2:], ordered(ROWS), strict=True):
            for text, (score, digits) in zip(line[4:], [("fid", 2), ("is", 2), ("rmse", 3)], strict=True):
                value = entry["values"].get(score)
                if value is None:
                    assert text == ""
                    continue
                shown, spread = (float(part) for part in text.strip("*").split("±"))
                assert abs(shown - value) <= 0.5001 * 10**-digits
                assert abs(spread - entry["values"][f"{score}_spread"]) <= 0.5001 * 10**-digits

    def test_the_best_is_bold_and_the_reference_is_not(self):
        bold = [[text.startswith("**") for text in line[4:]] for line in self.parsed(markdown(ROWS))[2:]]
        assert bold == [[True] * 3, [False] * 3, [True] * 3, [False] * 3]

    def test_the_analytic_first_step_is_told(self):
        assert [line[3] for line in self.parsed(markdown(ROWS))[2:]] == ["", "", "yes", ""]

    def test_the_caption_names_the_protocol_and_the_number_of_samples(self):
        assert re.search(r"n = 48 samples per cell.*protocol 0123456789ab\b", markdown(ROWS))


class TestCSV:
    def test_it_reads_back_to_the_last_digit(self):
        rows = list(csv.DictReader(io.StringIO(comma_separated(ROWS))))
        assert [line["solver"] for line in rows] == ["amed", "euler", "ipndm-4", "heun"]
        for line, entry in zip(rows, ordered(ROWS), strict=True):
            for name in [name for score in SCORES for name in (score, f"{score}_spread")]:
                value = entry["values"].get(name)
                assert (float(line[name]) if line[name] else None) == value
            assert (int(line["nfe"]), int(line["n"]), float(line["seconds"])) == (entry["nfe"], 48, 0.125)
            assert (line["key"], line["protocol"]) == (entry["key"], entry["protocol"])
            assert line["afs"] == str(entry["afs"])


class TestTerminal:
    def test_it_shows_every_row_and_no_markup(self):
        console = Console(width=140, file=io.StringIO())
        console.print(terminal(ROWS, "small"))
        text = console.file.getvalue()
        assert all(entry["label"] in text for entry in ROWS)
        assert "9.75 ± 0.05" in text
        assert "**" not in text
        assert "[bold]" not in text


class TestPlot:
    @pytest.mark.parametrize("rows", [ROWS, ROWS[2:3], ROWS[:1]], ids=["all", "reference alone", "no reference"])
    def test_it_writes_a_picture(self, tmp_path, rows):
        path = tmp_path / "deep" / "fid.png"
        plot(rows, path)
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(content) > 5000


class TestResults:
    @pytest.fixture
    def bench(self, tmp_path):
        return bench_of(tmp_path)

    def test_the_rows_are_those_of_the_cells_that_are_finished_in_their_order(self, tmp_path, bench):
        results = Results(tmp_path)
        for cell, content in zip(reversed(bench.cells[:3]), ROWS, strict=False):
            write_json(results.row(cell), content)
        write_json(results.error(bench.cells[3]), {"error": "x"})
        write_json(tmp_path / "rows" / "0123456789abcdef.json", {"key": "of another suite"})
        assert results.rows(bench.cells) == ROWS[2::-1]

    def test_a_folder_without_rows_is_refused(self, tmp_path, bench):
        with pytest.raises(InputError, match=r"no finished cells; run `amed-lightning bench --config"):
            Results(tmp_path).rows(bench.cells)
