"""Comparing two sweeps: what changed, whether a test tells it from nothing, and what cannot be compared."""

from dataclasses import replace

import pytest

from amed_lightning.bench.compare import compare

from .sheets import row


def changed(fids, **more):
    """Return a row that has these FIDs without each of its blocks."""
    fid = sum(fids) / len(fids)
    return row("a", fid=fid, off=[part - fid for part in fids], **more)


def only(before, after):
    (table,) = compare(before, after)
    return table


class TestDifferences:
    def test_it_is_the_second_minus_the_first_with_the_error_of_paired_blocks(self):
        table = only([changed([10.0, 12.0])], [changed([10.5, 12.7])])
        assert table.lines[0][4].text == "11.00 → 11.60 (+0.60 ± 0.10)"

    def test_what_both_share_cancels_so_that_a_small_difference_is_seen(self):
        table = only([changed([10.0, 20.0])], [changed([10.5, 20.5])])
        assert table.lines[0][4].is_best
        assert table.lines[0][4].text.endswith("(+0.50 ± 0.00)")

    @pytest.mark.parametrize(("shift", "is_marked"), [(1.26, False), (1.28, True)])
    def test_it_is_marked_where_the_test_tells_it_from_zero(self, shift, is_marked):
        """An error of 0.1 times Student's 12.706 at one degree of freedom."""
        table = only([changed([10.0, 12.0])], [changed([10.0 + shift - 0.1, 12.0 + shift + 0.1])])
        assert table.lines[0][4].is_best == is_marked
        assert table.caption.endswith("bold: a paired t test on the same seeds (two-sided, 5%) tells it from zero")

    def test_equal_sweeps_have_no_difference_at_all(self):
        table = only([changed([10.0, 12.0])], [changed([10.0, 12.0])])
        assert table.lines[0][4].text == "11.00 → 11.00 (+0.00 ± 0.00)"
        assert not any(cell.is_best for cell in table.lines[0])
        assert table.notes == []

    def test_without_blocks_to_leave_out_there_is_no_error(self):
        table = only([row("a", fid=10.0, off=())], [row("a", fid=10.5, off=())])
        assert table.lines[0][4].text == "10.00 → 10.50 (+0.50)"

    def test_the_speed_is_a_ratio(self):
        table = only([row("a")], [row("a", images_per_second=768.0)])
        assert table.header[-1] == "speed B/A"
        assert table.lines[0][-1].text == "2.00"

    def test_distances_to_unlike_references_are_not_compared(self):
        other = {"protocol": row("a").identity["protocol"], "reference": "another"}
        before, after = [row("a"), row("b")], [row("a", identity=other), row("b")]
        place = only(before, after).header.index("RMSE")
        assert [line[place].text for line in only(before, after).lines] == ["", "0.200 → 0.200 (+0.000 ± 0.000)"]


class TestCells:
    def test_those_that_only_one_has_are_named(self):
        table = only([row("a"), row("b", afs=True)], [row("a"), row("c", nfe=7)])
        assert [line[1].text for line in table.lines] == ["a"]
        assert table.notes == ["only A has b on logsnr with AFS at 5 NFE", "only B has c on logsnr at 7 NFE"]

    def test_cells_that_only_their_predictors_tell_apart_are_matched_by_their_keys(self):
        before = [replace(row("amed", fid=fid), key=key) for key, fid in {"0" * 16: 10.0, "1" * 16: 12.0}.items()]
        after = [replace(row("amed", fid=fid), key=key) for key, fid in {"1" * 16: 12.5, "2" * 16: 14.0}.items()]
        table = only(before, after)
        assert [(line[1].text, line[4].text[:13]) for line in table.lines] == [("amed 11111111", "12.00 → 12.50")]
        assert table.notes == [
            *("only A has amed 00000000 on logsnr at 5 NFE", "only B has amed 22222222 on logsnr at 5 NFE")
        ]

    def test_unlike_protocols_are_named_with_what_differs_and_not_compared(self):
        table = only([row("a")], [row("a", protocol="f" * 64, batch_sizes=[12, 6])])
        assert table.lines == []
        assert table.notes == ["unlike protocols of a on logsnr at 5 NFE: batch_sizes [12] against [12, 6]"]

    def test_every_dataset_has_a_table_of_its_own(self):
        grey, blue = compare([row("a"), row("a", dataset="blue")], [row("a"), row("a", dataset="blue")])
        assert [grey.dataset, blue.dataset] == ["grey", "blue"]
        assert len(grey.lines) == len(blue.lines) == 1

    def test_a_dataset_that_only_one_has_is_told(self):
        _, blue = compare([row("a")], [row("a"), row("a", dataset="blue")])
        assert blue.notes == ["only B has a on logsnr at 5 NFE"]
