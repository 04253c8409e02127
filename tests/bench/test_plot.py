"""Pictures are functions of the rows, and of the samples that blocks keep."""

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from amed_lightning.bench import plot as plot_module
from amed_lightning.bench.plot import best_of_schedules, plot, write_grids
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


class TestBestOfSchedules:
    def test_a_solver_s_line_has_its_lowest_fid_of_each_number_of_network_runs(self):
        rows = [row("euler", fid=20.0), row("euler", fid=10.0, schedule="polynomial"), row("euler", fid=9.0, nfe=6)]
        assert best_of_schedules(rows) == {"euler": {5: rows[1], 6: rows[2]}}

    def test_references_and_rows_of_another_protocol_have_none(self):
        rows = [row("a"), row("b"), row("c", protocol="f" * 64), row("heun", reference=True)]
        assert set(best_of_schedules(rows)) == {"a", "b"}


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
            *("ipndm-4", "euler", "amed", "heun, 78 NFE")
        }
        points = {
            container.get_label(): container.lines[0].get_xydata().tolist() for container in figure.axes[0].containers
        }
        assert points == {"amed": [[5.0, 9.75]], "euler": [[5.0, 31.5]], "ipndm-4": [[6.0, 7.1]]}

    def test_an_error_that_reaches_below_zero_does_not_stretch_the_axis(self, tmp_path, drawn):
        plot([row("euler", fid=10.0, error=11.0), row("amed", fid=20.0)], tmp_path / "fid.png")
        bottom, top = drawn[0].axes[0].get_ylim()
        assert 5 < bottom < 10
        assert 20 < top < 40

    def test_no_two_lines_look_alike(self, tmp_path, drawn):
        plot([row(f"solver {number}") for number in range(25)], tmp_path / "fid.png")
        lines = [container.lines[0] for container in drawn[0].axes[0].containers]
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 25

    def test_the_scores_that_there_are_are_drawn_and_who_lacks_one_has_no_point(self, tmp_path, drawn):
        rows = [row("euler", values={"kid": 0.5}), row("amed", values={"kid": 0.4, "is": 9.0})]
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
            self.keep(results, entry.key, images)
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
