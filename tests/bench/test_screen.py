"""Screening leaves out what is beaten beyond doubt, and nothing else."""

import pytest
import torch

from amed_lightning.bench.cell import prepare
from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.plan import plan
from amed_lightning.bench.results import Results, rows_of, write_plan
from amed_lightning.bench.screen import BLOCKS, DOUBT, beaten, doubt, screening, without
from amed_lightning.bench.suite import load_suite
from amed_lightning.config import digest

from .sheets import row
from .suites import LOGSNR, entry, fill, write_suite

CPU = torch.device("cpu")
NOISE = (-0.4, -0.3, -0.2, -0.1, 0.1, 0.2, 0.3, 0.4)


def labels(rows):
    return {(loser.cell.label, loser.by.label) for loser in beaten(rows)}


class TestScreening:
    @pytest.mark.parametrize(
        ("blocks", "size", "batch", "block", "shortened"),
        [(10, 5000, 500, 250, 250), (10, 5000, 100, 250, 50), (9, 256, 256, 72, 72), (2, 12, 12, 2, 2)],
    )
    def test_it_is_of_2000_images_or_of_a_quarter_in_eight_blocks(
        self, tmp_path, blocks, size, batch, block, shortened
    ):
        suite = load_suite(write_suite(tmp_path, num_blocks=blocks, block_size=size, batch_size=batch))
        small = screening(suite, CPU)
        assert (small.num_blocks, small.block_size, small.batch_size_for(small.datasets[0])) == (8, block, shortened)
        assert (small.metrics, small.datasets[0].reference) == (("fid",), None)
        assert small.name != suite.name

    @pytest.mark.parametrize(("device", "precision"), [("cpu", "float32"), ("cuda", "bfloat16")])
    def test_on_a_gpu_it_is_in_bfloat16_and_the_suite_is_not(self, tmp_path, device, precision):
        suite = load_suite(write_suite(tmp_path))
        assert screening(suite, torch.device(device)).arithmetic.precision == precision
        assert suite.arithmetic.precision == "float32"


class TestDoubt:
    def test_a_difference_of_means_has_the_share_of_resamplings_that_a_normal_law_says(self):
        """Eight whose mean, 0.5, is two of its own deviations above zero: 2.3 % of a normal law is below."""
        pseudo_values = [0.5 + 2.582 * part for part in NOISE]
        left_out = [(8 * 0.5 - value) / 7 for value in pseudo_values]
        assert 0.016 < doubt(Estimate(0.5, left_out)) < 0.030
        assert 0.970 < doubt(Estimate(-0.5, [-each for each in left_out])) < 0.984

    def test_what_no_block_contradicts_is_beyond_doubt_and_no_difference_is_not(self):
        assert doubt(Estimate(1.0, [1.0] * BLOCKS)) == 0
        assert doubt(Estimate(0.0, [0.0] * BLOCKS)) == 1

    def test_without_blocks_to_leave_out_nothing_is(self):
        assert doubt(Estimate(100.0)) == 1

    @pytest.mark.parametrize(("cells", "rounds", "least", "most"), [(2, 400, 0.01, 0.06), (15, 30, 0.06, 0.14)])
    def test_how_often_an_equal_cell_is_left_out(self, cells, rounds, least, most):
        """Eight blocks are few to resample, and the best of many is lucky: docs/benchmarks.md says how often."""
        generator, lost = torch.Generator().manual_seed(1), 0
        for blocks in torch.randn(rounds, cells, BLOCKS, generator=generator, dtype=torch.float64):
            best = blocks.mean(1).argmin()
            for pseudo_values in blocks - blocks[best]:
                value = float(pseudo_values.mean())
                left_out = (BLOCKS * value - pseudo_values) / (BLOCKS - 1)
                lost += doubt(Estimate(value, left_out.tolist())) <= DOUBT
        assert least < lost / rounds / (cells - 1) < most


class TestBeaten:
    def test_what_is_worse_than_the_best_on_the_same_seeds_is_and_what_may_not_be_is_not(self):
        other = NOISE[::-1]
        rows = [row("a", fid=10.0, off=NOISE), row("b", fid=10.4, off=NOISE), row("c", fid=10.4, off=other)]
        assert labels(rows) == {("b", "a")}

    def test_every_number_of_network_runs_and_dataset_has_its_own_best(self):
        rows = [row("a", fid=1.0, off=NOISE), row("b", fid=50.0, off=NOISE, nfe=6)]
        assert labels([*rows, row("c", fid=90.0, off=NOISE, dataset="blue")]) == set()

    def test_a_reference_and_a_row_of_another_protocol_beat_nobody(self):
        rows = [row("a", fid=10.0, off=NOISE), row("b", fid=10.0, off=NOISE)]
        rows += [row("heun", fid=1.0, off=NOISE, reference=True), row("c", fid=1.0, off=NOISE, protocol="f" * 64)]
        assert labels(rows) == set()


class TestWithout:
    def test_beaten_cells_are_excluded_with_the_reason_and_the_others_are_what_they_were(self, tmp_path):
        entries = [entry({"name": name}, schedules=LOGSNR) for name in ("euler", "heun")]
        sizes = {"num_blocks": 4, "block_size": 64, "batch_size": 64}
        suite = load_suite(write_suite(tmp_path, entries=entries, **sizes))
        small, folder = screening(suite, CPU), tmp_path / "results"
        (bench,) = prepare(small)
        assert fill(bench, folder) == []
        write_plan(small, [bench], Results(folder), digest(suite))
        losers = beaten(rows_of(folder))
        assert {loser.cell.label for loser in losers} == {"euler"}
        states = {cell.label: cell.excluded for cell in plan(without(suite, losers)) if not cell.is_reference}
        assert states == {
            "euler": "screened: FID is worse than that of heun on logsnr on the same 64 seeds",
            "heun": None,
        }
        assert [cell.id for cell in plan(without(suite, losers))] == [cell.id for cell in plan(suite)]
        assert digest(suite) in Results(folder).plan.read_text()
