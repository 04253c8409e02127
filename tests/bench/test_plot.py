"""Pictures are functions of the rows, and of the samples that blocks keep."""

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from amed_lightning.bench import plot as plot_module
from amed_lightning.bench.plot import COLOURS, curves, plot, write_grids
from amed_lightning.bench.results import Results, block_name
from amed_lightning.runtime.tensor_file import write_tensors

from .sheets import row

ROWS = [
    row("ipndm-4", nfe=6, fid=7.1, error=0.25),
    row("euler", fid=31.5, error=0.05),
    row("heun", nfe=78, fid=5.0, reference=True),
    row("amed", fid=9.75),
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, still open."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    yield figures
    monkeypatch.undo()
    plt.close("all")


def ways(rows, schedule=None):
    return {curve.title: [row["values"]["fid"] for row in curve.rows.values()] for curve in curves(rows, schedule)}


class TestCurves:
    def test_a_solver_stays_on_the_one_schedule_that_is_best_over_all_its_network_runs(self):
        a = [row("euler", nfe=nfe, fid=fid) for nfe, fid in {5: 30.0, 6: 20.0, 7: 10.0}.items()]
        b = [row("euler", nfe=nfe, fid=fid, schedule="polynomial") for nfe, fid in {5: 29.0, 6: 21.0, 7: 11.0}.items()]
        assert ways([*a, *b]) == {"euler, logsnr": [30.0, 20.0, 10.0]}

    def test_one_that_it_ran_on_at_fewer_of_them_is_not_mixed_in_though_it_be_better_there(self):
        rows = [row("euler", fid=20.0), row("euler", fid=1.0, schedule="polynomial"), row("euler", fid=9.0, nfe=6)]
        assert ways(rows) == {"euler, logsnr": [20.0, 9.0]}

    def test_nor_is_the_analytic_first_step(self):
        rows = [row("euler", fid=20.0, nfe=3), row("euler", fid=9.0), row("euler", fid=1.0, afs=True)]
        assert ways(rows) == {"euler, logsnr": [20.0, 9.0]}
        assert ways(rows[2:]) == {"euler, logsnr, AFS": [1.0]}

    def test_all_may_be_asked_for_on_one_schedule(self):
        rows = [row("euler"), row("euler", fid=50.0, schedule="polynomial"), row("amed", fid=9.0)]
        assert ways(rows, "polynomial") == {"euler, polynomial": [50.0]}

    def test_the_best_come_first(self):
        assert list(ways([row("a", fid=3.0), row("b", fid=1.0), row("c", fid=2.0)])) == [
            *("b, logsnr", "c, logsnr", "a, logsnr")
        ]

    def test_references_and_rows_of_another_protocol_have_none(self):
        rows = [row("a"), row("b"), row("c", protocol="f" * 64), row("heun", reference=True)]
        assert set(ways(rows)) == {"a, logsnr", "b, logsnr"}


class TestPlot:
    @pytest.mark.parametrize("rows", [ROWS, ROWS[2:3], ROWS[:1]], ids=["all", "reference alone", "no reference"])
    def test_it_writes_a_picture(self, tmp_path, rows):
        path = tmp_path / "deep" / "fid.png"
        plot(rows, path)
        with Image.open(path) as picture:
            assert picture.size[0] > 1000

    def test_every_dataset_has_a_panel_per_score_with_a_line_per_solver(self, tmp_path, drawn):
        plot([*ROWS, row("deis-4", dataset="blue")], tmp_path / "fid.png")
        (figure,) = drawn
        titles = [(axis.get_title(), axis.get_ylabel()) for axis in figure.axes]
        assert titles == [(name, score) for name in ("grey", "blue") for score in ("FID", "IS")]
        assert {text.get_text() for text in figure.axes[1].get_legend().get_texts()} == {
            *("ipndm-4, logsnr", "euler, logsnr", "amed, logsnr", "heun, 78 NFE")
        }
        points = {
            container.get_label(): container.lines[0].get_xydata().tolist() for container in figure.axes[0].containers
        }
        assert points == {
            "amed, logsnr": [[5.0, 9.75]],
            "euler, logsnr": [[5.0, 31.5]],
            "ipndm-4, logsnr": [[6.0, 7.1]],
        }

    def test_an_error_that_reaches_below_zero_does_not_stretch_the_axis(self, tmp_path, drawn):
        plot([row("euler", fid=10.0, error=11.0), row("amed", fid=20.0)], tmp_path / "fid.png")
        bottom, top = drawn[0].axes[0].get_ylim()
        assert 5 < bottom < 10
        assert 20 < top < 40

    @pytest.mark.parametrize("error", [0.05, 8.0])
    def test_error_bars_end_inside_the_axes(self, tmp_path, drawn, error):
        plot([row("euler", fid=10.0, error=error), row("amed", fid=9.5, error=error)], tmp_path / "fid.png")
        for axis, values in zip(drawn[0].axes, ([9.5, 10.0], [8.0, 8.0]), strict=True):
            bottom, top = axis.get_ylim()
            assert bottom < min(values) - error
            assert max(values) + error < top

    def test_eight_lines_have_a_colour_each_and_the_rest_is_grey(self, tmp_path, drawn):
        plot([row(f"solver {number:02}", fid=number + 1.0) for number in range(25)], tmp_path / "fid.png")
        lines = {line.get_label(): line.lines[0].get_color() for line in drawn[0].axes[0].containers}
        assert len({lines[f"solver {number:02}, logsnr"] for number in range(8)}) == len(COLOURS) == 8
        greys = {line.lines[0].get_color() for line in drawn[0].axes[0].containers[8:]}
        assert greys == {"#bfbfbf"}
        assert "17 others" in [text.get_text() for text in drawn[0].axes[1].get_legend().get_texts()]

    @pytest.mark.parametrize(("ending", "begins"), [("pdf", b"%PDF-"), ("svg", b"<?xml")])
    def test_its_ending_decides_the_format_and_equal_rows_are_equal_bytes(self, tmp_path, ending, begins):
        paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
        for path in paths:
            plot(ROWS, path)
        first, second = (path.read_bytes() for path in paths)
        assert first.startswith(begins)
        assert first == second

    def test_a_name_is_no_formula(self, tmp_path):
        plot([row("$x^{$ <b>")], tmp_path / "fid.svg")
        assert "$x^{$ &lt;b&gt;" in (tmp_path / "fid.svg").read_text()

    def test_the_scores_that_there_are_are_drawn_and_who_lacks_one_has_no_point(self, tmp_path, drawn):
        rows = [row("euler") | {"values": {"kid": 0.5}}, row("amed") | {"values": {"kid": 0.4, "is": 9.0}}]
        plot(rows, tmp_path / "fid.png")
        lines = [[len(line.lines[0].get_xdata()) for line in axis.containers] for axis in drawn[0].axes]
        assert [axis.get_ylabel() for axis in drawn[0].axes] == ["IS", "KID"]
        assert lines == [[1, 0], [1, 1]]


class TestGrids:
    @pytest.fixture
    def results(self, tmp_path):
        results = Results(tmp_path)
        for number, entry in enumerate(ROWS):
            images = torch.full((3, 1, 8, 8), 50 * number, dtype=torch.uint8)
            self.keep(results, entry["key"], images)
        return results

    def keep(self, results, key, images):
        write_tensors(results.sums(key, 0), {"samples": images}, {"block": block_name(key, 0)})

    def test_there_is_one_per_dataset_and_number_of_network_runs_with_a_strip_per_solver(self, results, drawn):
        paths = write_grids(ROWS, results)
        assert [path.name for path in paths] == ["samples-grey-5.png", "samples-grey-6.png"]
        assert all(path.is_file() for path in paths)
        labels = [[axis.get_ylabel().split("\n")[0] for axis in figure.axes] for figure in drawn]
        assert labels == [["heun", "amed", "euler"], ["heun", "ipndm-4"]]
        (strip,) = drawn[0].axes[1].get_images()
        assert strip.get_array().shape == (8, 27)
        assert strip.get_array()[0, :10].tolist() == [150] * 8 + [255, 150]

    def test_colour_stays_colour(self, results, drawn):
        images = torch.arange(3 * 3 * 4, dtype=torch.uint8).reshape(1, 3, 3, 4)
        self.keep(results, "amed", images)
        write_grids(ROWS, results)
        (strip,) = drawn[0].axes[1].get_images()
        assert strip.get_array()[:, :4].tolist() == images[0].permute(1, 2, 0).tolist()

    def test_a_cell_whose_samples_are_gone_is_left_out(self, results, drawn):
        results.sums("amed", 0).unlink()
        write_grids(ROWS, results)
        assert [axis.get_ylabel().split("\n")[0] for axis in drawn[0].axes] == ["heun", "euler"]

    def test_without_any_there_is_no_picture(self, tmp_path):
        assert write_grids(ROWS, Results(tmp_path / "nothing")) == []


def test_pictures_need_no_display():
    assert plot_module.matplotlib.get_backend().lower() == "agg"
