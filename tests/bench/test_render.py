"""One table, four ways to write it."""

import csv
import io
import re

import pytest
from rich import text
from rich.console import Console

from amed_lightning.bench import render
from amed_lightning.bench.plan import CellId
from amed_lightning.bench.published import Figure, Published, Scoring
from amed_lightning.bench.render import STATISTICS, comma_separated, latex, markdown, terminal
from amed_lightning.bench.table import SCORES, tables

from .sheets import gap, line

LINES = [
    line("ipndm-4", nfe=6, fid=7.126, is_=8.9, rmse=0.1234, error=0.25, afs=True),
    line("euler", fid=31.5, is_=7.25, rmse=0.4, error=0.05),
    line("heun", nfe=78, fid=5.0, is_=9.5, error=0.125, reference=True),
    line("amed", fid=9.75, is_=8.75, rmse=0.2, error=0.05),
    gap("deis_4", "excluded", "100% too slow & costly"),
]
PUBLISHED = Published(
    {CellId("grey", "euler", "logsnr", False, 5): [Figure("fid", 49.66, "AMED Table 2_a", True)]},
    [],
    [],
    {"grey": Scoring([{"name": "digits"}], {"name": "digits"}, 48)},
)


def parsed(text):
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines]


class TestMarkdown:
    def test_it_is_a_table_with_a_caption_and_numbered_notes(self):
        text = markdown(tables(LINES, PUBLISHED))
        header, rule, *lines = parsed(text)
        assert header == ["NFE", "solver", "schedule", "AFS", "FID", "IS", "RMSE", "published FID"]
        assert set(rule) == {"---"}
        assert [line[1] for line in lines] == ["amed", "euler", "deis_4", "ipndm-4", "heun"]
        assert lines[1][-1] == "49.66° [1]"
        assert text.endswith("\n1. AMED Table 2_a\n2. 100% too slow & costly\n")

    def test_the_best_is_bold_and_the_reference_is_not(self):
        bold = [[text.startswith("**") for text in line[4:]] for line in parsed(markdown(tables(LINES)))[2:]]
        assert bold == [[True] * 3, [False] * 3, [False] * 3, [True] * 3, [False] * 3]

    def test_several_datasets_have_headings_and_one_has_none(self):
        several = markdown(tables([line("a"), line("a", dataset="blue")]))
        assert re.findall("^## (.*)$", several, re.MULTILINE) == ["grey", "blue"]
        assert "##" not in markdown(tables(LINES))


class TestLatex:
    def test_it_has_as_many_columns_in_every_line_and_rules_between_network_runs(self):
        text = latex(tables(LINES, PUBLISHED))
        (columns,) = re.findall(r"\\begin{longtable}{(\w+)}", text)
        assert columns == "rlllrrrr"
        lines = [line for line in text.splitlines() if line.endswith(r"\\") and "caption" not in line]
        assert len(lines) == 2 + len(LINES)
        assert all(len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1 for line in lines)
        assert text.count(r"\midrule") == 2 + 2
        assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 1
        assert text.index(r"\endfirsthead") < text.index(r"\endhead") < text.index(r"\endfoot")

    def test_text_refers_to_it_by_a_label_of_plain_characters(self):
        assert r"\label{tab:grey-64-a-b}" in latex(tables([line("a", dataset="grey_64 {a}&b")]))

    def test_the_best_is_bold_and_special_characters_are_escaped(self):
        text = latex(tables(LINES, PUBLISHED))
        assert r"\textbf{9.75 $\pm$ 0.05}" in text
        assert r"deis\_4" in text
        assert r"100\% too slow \& costly" in text
        assert r"49.66$^\circ$ [1]" in text
        assert not set("±†‡°—") & set(text)


class TestCSV:
    @pytest.fixture
    def read(self):
        return list(csv.DictReader(io.StringIO(comma_separated(LINES, PUBLISHED))))

    def test_it_reads_back_to_the_last_digit(self, read):
        by_label = {entry["label"]: entry for entry in read}
        assert list(by_label) == ["amed", "euler", "deis_4", "ipndm-4", "heun"]
        for entry in (each.row for each in LINES if each.row):
            shown = by_label[entry.id.label]
            for name in [f"{score}{statistic}" for score in SCORES for statistic in STATISTICS]:
                assert (float(shown[name]) if shown[name] else None) == entry.values.get(name)
            assert (int(shown["nfe"]), int(shown["n"]), float(shown["seconds"])) == (entry.id.nfe, 48, 0.125)
            assert (shown["key"], shown["protocol"]) == (entry.key, entry.protocol)
            assert shown["afs"] == str(entry.id.afs)

    def test_it_tells_what_became_of_a_cell_and_what_was_published(self, read):
        states = {entry["label"]: (entry["state"], entry["reason"]) for entry in read}
        assert states["amed"] == ("finished", "")
        assert states["deis_4"] == ("excluded", "100% too slow & costly")
        published = {entry["label"]: (entry["published"], entry["published_quality"]) for entry in read}
        assert published["euler"] == ("49.66", "secondary")
        assert published["amed"] == ("", "")


class TestTerminal:
    def test_it_shows_every_cell_and_note_and_no_markup(self):
        console = Console(width=160, file=io.StringIO())
        (table,) = tables(LINES, PUBLISHED)
        console.print(terminal(table))
        text = console.file.getvalue()
        assert all(each.id.label in text for each in LINES)
        assert "9.75 ± 0.05" in text
        assert "excluded [2]" in text
        assert "[1] AMED Table 2_a" in text
        assert "**" not in text

    @pytest.mark.parametrize(("width", "left_out"), [(80, []), (52, ["RMSE"]), (10, ["IS", "RMSE"])])
    def test_it_leaves_out_scores_that_a_width_has_no_room_for_and_says_so_but_never_the_first(self, width, left_out):
        console = Console(width=200, file=io.StringIO())
        console.print(terminal(tables([line("euler", error=0.05, afs=True)])[0], width))
        shown = console.file.getvalue()
        header = shown.splitlines()[1]
        assert header.split() == [
            *("NFE", "solver", "schedule", "AFS", "FID"),
            *(title for title in ("IS", "RMSE") if title not in left_out),
        ]
        assert len(header) <= max(width, 40)
        assert (f"not shown: {', '.join(left_out)}" in " ".join(shown.split())) == bool(left_out)

    def test_a_column_in_which_nothing_stands_is_left_out_where_the_width_is_given(self):
        console = Console(width=200, file=io.StringIO())
        console.print(terminal(tables([line("euler")])[0], 80))
        assert "AFS" not in console.file.getvalue()


@pytest.mark.parametrize("width", [18, 30, 50, 80, 160])
def test_a_square_that_is_filled_at_once_looks_as_rich_would_draw_it(width, monkeypatch):
    def drawn():
        output = io.StringIO()
        shown = terminal(tables(LINES, PUBLISHED)[0])
        Console(file=output, width=width, force_terminal=True, color_system="truecolor").print(shown)
        return output.getvalue()

    filled = drawn()
    monkeypatch.setattr(render, "Square", text.Text)
    assert filled == drawn()
    assert "\x1b[1m" in filled
