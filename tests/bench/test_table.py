"""Tables are functions of the lines of a sheet."""

import pytest

from amed_lightning.bench.plan import CellId
from amed_lightning.bench.published import NOTHING, Figure, Published, Scoring
from amed_lightning.bench.row import Row
from amed_lightning.bench.table import tables, winners

from .sheets import gap, line, row


def marked(rows, score="fid"):
    return {key for key, name in winners(rows) if name == score}


def only(lines, published=NOTHING):
    (table,) = tables(lines, published)
    return table


def texts(table):
    return [[cell.text for cell in line] for line in table.lines]


class TestWinners:
    @pytest.mark.parametrize(("score", "winner"), [("fid", "a"), ("is", "b"), ("rmse", "c")])
    def test_low_wins_for_fid_and_rmse_and_high_for_is(self, score, winner):
        rows = [row("a", fid=1.0), row("b", is_=9.0), row("c", rmse=0.1)]
        assert marked(rows, score) == {winner}

    @pytest.mark.parametrize(("fid", "winners"), [(10.42, {"a", "b"}), (10.44, {"a"})])
    def test_a_score_wins_beside_the_best_unless_a_paired_test_tells_it_from_it(self, fid, winners):
        """Of three blocks the difference is off by -0.1, 0, 0.1: an error of 0.1155 * 4.303 is 0.497 at 2 degrees."""
        rows = [row("a", fid=9.93, off=(-3.0, 0.0, 3.0)), row("b", fid=fid, off=(-3.1, 0.0, 3.1))]
        assert marked(rows) == winners

    def test_what_seeds_have_in_common_cancels_so_that_large_errors_hide_no_difference(self):
        rows = [row("a", fid=10.0, off=(-5.0, 0.0, 5.0)), row("b", fid=10.4, off=(-5.01, 0.0, 5.01))]
        assert marked(rows) == {"a"}

    def test_unpaired_errors_make_equal_what_their_difference_makes_equal(self):
        rows = [row("a", fid=10.0, off=(-0.2, 0.0, 0.2)), row("b", fid=11.0, off=(0.2, 0.0, -0.2))]
        assert marked(rows) == {"a", "b"}

    def test_without_blocks_to_leave_out_the_best_stands_alone(self):
        assert marked([row("a", fid=10.0, off=()), row("b", fid=10.001, off=())]) == {"a"}

    def test_a_row_of_older_code_that_has_none_is_ranked_by_its_value(self):
        content = row("b", fid=10.001).content
        del content["leave_one_out"]
        assert marked([row("a", fid=10.0, error=5.0), Row.of(content)]) == {"a"}

    def test_every_number_of_network_runs_has_its_own_best(self):
        assert marked([row("a", nfe=3, fid=50.0), row("b", nfe=5, fid=10.0), row("c", nfe=5, fid=20.0)]) == {"a", "b"}

    def test_the_reference_is_never_marked_and_beats_nobody(self):
        rows = [row("reference", fid=1.0, reference=True), row("a", fid=10.0), row("b", fid=12.0)]
        assert marked(rows) == {"a"}
        assert winners([row("reference", reference=True)]) == set()

    def test_a_row_of_another_protocol_beats_nobody_and_wins_nothing(self):
        rows = [row("a", fid=10.0), row("b", fid=12.0), row("c", fid=1.0, protocol="f" * 64, batch_sizes=[6])]
        assert marked(rows) == {"a"}

    def test_not_even_where_it_is_alone(self):
        rows = [row("a"), row("b"), row("c", nfe=9, protocol="f" * 64, batch_sizes=[6])]
        assert "c" not in marked(rows)


class TestTables:
    def test_lines_are_sorted_by_network_runs_then_fid_and_gaps_come_last(self):
        lines = [line("b", nfe=6), line("c", fid=9.0), gap("d", "missing"), line("a", fid=8.0)]
        assert [(cells[0], cells[1]) for cells in texts(only(lines))] == [
            *[("5", "a"), ("5", "c"), ("5", "d"), ("6", "b")]
        ]

    def test_every_dataset_has_a_table_in_the_order_of_the_plan_and_a_best_of_its_own(self):
        lines = [line("a", dataset="grey", fid=9.0), line("b", dataset="blue", fid=10.0)]
        grey, blue = tables(lines)
        assert [grey.dataset, blue.dataset] == ["grey", "blue"]
        assert [table.lines[0][4].is_best for table in (grey, blue)] == [True, True]

    def test_scores_show_their_errors_and_those_that_no_row_has_have_no_column(self):
        table = only([line("a", fid=7.126, is_=8.9, rmse=0.1234, error=0.25)])
        assert table.header == ["NFE", "solver", "schedule", "AFS", "FID", "IS", "RMSE"]
        assert texts(table) == [["5", "a", "logsnr", "", "7.13 ± 0.25", "8.90 ± 0.25", "0.123 ± 0.250"]]
        assert only([line("heun", reference=True)]).header[4:] == ["FID", "IS"]

    def test_scores_that_were_asked_for_have_columns_and_psnr_which_says_what_rmse_says_has_none(self):
        asked = line("a", values={"kid": 0.0012, "precision": 0.61, "recall": 0.5, "rmse": 0.2, "psnr": 20.0})
        assert only([asked]).header[4:] == ["KID", "precision", "recall", "RMSE"]

    def test_missing_failed_and_excluded_cells_are_visible_with_their_reason(self):
        lines = [line("a"), gap("b", "missing"), gap("c", "failed"), gap("d", "excluded", "it diverges")]
        table = only(lines)
        assert [cells[4] for cells in texts(table)[1:]] == ["missing", "failed", "excluded [1]"]
        assert all(cells[5:] == ["—", "—"] for cells in texts(table)[1:])
        assert table.notes == ["it diverges"]

    def test_a_reason_is_noted_once(self):
        lines = [line("a"), *(gap(name, "excluded", "it diverges") for name in "bc")]
        assert [cells[4] for cells in texts(only(lines))[1:]] == ["excluded [1]", "excluded [1]"]

    def test_warm_up_and_unlike_protocols_are_marked_and_explained(self):
        lines = [line("a"), line("b"), line("c", stays_in_warm_up=True, protocol="f" * 64, batch_sizes=[12, 6])]
        table = only(lines)
        assert [cells[1] for cells in texts(table)] == ["a", "b", "c † ‡"]
        assert "† too few intervals" in table.caption
        assert (
            "‡ another protocol, not ranked with the others: ffffffffffff with n = 48 and micro-batches of 12, 6"
            in (table.caption)
        )

    def test_data_prediction_that_lacks_its_thresholding_is_marked_and_explained(self):
        table = only([line("a"), line("b", lacks_thresholding=True), line("c", lacks_thresholding=True)])
        assert [cells[1] for cells in texts(table)] == ["a", "b §", "c §"]
        assert "§ data prediction without the thresholding of the published tools" in table.caption

    def test_what_is_not_there_is_not_explained(self):
        assert not set("†‡§°") & set(only([line("a")]).caption)

    def test_the_caption_says_what_was_scored_and_what_error_and_bold_mean(self):
        assert only([line("a")]).caption == (
            "n = 48 samples per cell, protocol 0123456789ab; "
            "± standard error of the value, by the jackknife over 2 blocks of 24 seeds; "
            "bold: the best of its NFE, "
            "and what a paired t test on the same seeds (two-sided, 5%) does not tell from it"
        )

    def test_the_caption_says_once_what_is_doubtful_about_the_scores(self):
        doubts = ["FID of 48 generated images: few", "IS of 48 generated images: few"]
        assert only([line(name, caveats=doubts) for name in "ab"]).caption.endswith("; ".join(["from it", *doubts]))

    def test_where_there_are_no_errors_it_speaks_of_none(self):
        table = only([line("a", off=())])
        assert texts(table)[0][4] == "10.00"
        assert table.caption == "n = 48 samples per cell, protocol 0123456789ab; bold: the best of its NFE"


INCEPTION, CARD = {"name": "inception", "tap": 2048}, {"name": "published", "card": "grey"}
AS_PUBLISHED = {"detector": INCEPTION, "real_images": CARD, "n": 50_000}
FIGURES = {
    CellId("grey", "a", "logsnr", False, 5): [
        Figure("fid", 24.44, "quoted", True),
        Figure("fid", 13.59, "README", False),
        Figure("fid", 13.59, "Table 2a", False),
        Figure("is", 9.1, "Table 9", False),
    ]
}


def beside(lines):
    return only(lines, Published(FIGURES, [], [], {"grey": Scoring([INCEPTION], CARD, 50_000)}))


class TestPublished:
    def test_a_figure_stands_beside_its_cell_with_its_sources_and_a_secondary_one_is_marked(self):
        table = beside([line("a", **AS_PUBLISHED), line("b", fid=11.0, **AS_PUBLISHED)])
        assert table.header[-1] == "published FID"
        assert [cells[-1] for cells in texts(table)] == ["13.59 [1][2], 24.44° [3]", ""]
        assert table.notes == ["README", "Table 2a", "quoted"]
        assert "° from a secondary source" in table.caption

    def test_a_missing_cell_has_it_too(self):
        table = beside([gap("a", "missing", **AS_PUBLISHED)])
        assert texts(table)[0][-1].startswith("13.59")

    @pytest.mark.parametrize("changed", [{"afs": True}, {"nfe": 6}, {"schedule": "polynomial"}, {"dataset": "blue"}])
    def test_it_does_not_stand_beside_a_cell_that_differs_in_anything(self, changed):
        table = beside([line("a", **AS_PUBLISHED, **changed)])
        assert "published FID" not in table.header
        assert "published" not in table.caption

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"n": 128}, "n = 128 instead of 50000"),
            ({"detector": {"name": "digits"}}, "another detector"),
            ({"real_images": {"name": "digits"}, "n": 128}, "other real images, n = 128 instead of 50000"),
        ],
        ids=["samples", "detector", "real images and samples"],
    )
    def test_nor_beside_one_that_was_scored_otherwise_and_the_caption_says_in_what(self, changed, reason):
        lines = [line("a", **AS_PUBLISHED | changed), line("b", **AS_PUBLISHED | changed)]
        table = beside(lines)
        assert "published FID" not in table.header
        assert table.notes == []
        assert table.caption.endswith(f"; no published figures, because these scores are of {reason}")
