"""Any number of processes gives the same bits, also where they are killed and others go on."""

import random
import time

import pytest
import torch

from amed_lightning.bench.cell import prepare
from amed_lightning.bench.suite import load_suite
from amed_lightning.runtime.tensor_file import read_with_facts

from ..cli.command import start
from .forks import begin, end, kill
from .suites import CELLS, bench_of, entry, fill, rows, untidy, values, write_suite

pytestmark = pytest.mark.usefixtures("unchecked")

COUNTS = (1, 2, 4)


def same_blocks(one, other):
    """Whether every block of one folder has the bits of the other's."""
    paths = list((one / "blocks").glob("[!.]*"))
    for path in paths:
        mine, others = read_with_facts(path)[0], read_with_facts(other / "blocks" / path.name)[0]
        assert mine.keys() == others.keys()
        assert all(value.equal(others[name]) for name, value in mine.items())
    return len(paths)


class TestCounts:
    @pytest.mark.parametrize("count", COUNTS[1:])
    def test_real_processes_over_gloo_give_the_rows_and_the_blocks_of_one(self, tmp_path, count):
        bench = bench_of(tmp_path, num_blocks=3)
        with untidy():
            for number in (1, count):
                end(begin(bench, tmp_path / str(number), number))
        assert values(tmp_path / "1") == values(tmp_path / str(count))
        assert same_blocks(tmp_path / "1", tmp_path / str(count)) == CELLS * 3 + 3
        assert {row["provenance"]["world_size"] for row in rows(tmp_path / str(count)).values()} == {count}

    @pytest.mark.slow
    def test_those_that_the_command_starts_do_too(self, tmp_path):
        """The several are started by the command itself; the one is this process."""
        suite, count = write_suite(tmp_path), COUNTS[-1]
        start(tmp_path, "bench", "--config", suite, "--accelerator", "cpu", "--devices", count, "--output", tmp_path)
        (bench,) = prepare(load_suite(suite))
        assert fill(bench, tmp_path / "one") == []
        assert values(tmp_path / "small") == values(tmp_path / "one")
        assert {row["provenance"]["world_size"] for row in rows(tmp_path / "small").values()} == {count}
        for name in ("table.md", "table.csv", "table.tex", "fid.png", "samples-grey-4.png", "run.json"):
            assert (tmp_path / "small" / name).stat().st_size > 0


def finished(folder):
    """Return the names of finished blocks that have no row yet, and of finished cells."""
    return {path.name for kind in ("blocks/[!.]*", "rows/*") for path in folder.glob(kind)}


class TestKill:
    KILLS = 10

    def wait_for_work(self, folder, begun):
        """Wait until processes that have just started have finished a block."""
        deadline = time.monotonic() + 30
        while finished(folder) == begun:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @pytest.mark.slow
    def test_ten_kills_at_random_moments_and_other_counts_leave_the_rows_of_an_undisturbed_run(self, tmp_path):
        entries = [entry({"name": name}, nfe) for name in ("heun", "dpm_solver_2") for nfe in (4, 6, 8, 10)]
        bench = bench_of(tmp_path, *entries, num_blocks=6, block_size=192)
        started = time.monotonic()
        end(begin(bench, tmp_path / "undisturbed", 1))
        whole, chance = time.monotonic() - started, random.Random(0)
        disturbed = tmp_path / "disturbed"
        for number in range(self.KILLS):
            begun = finished(disturbed)
            children = begin(bench, disturbed, 1 + number % 3)
            if number % 4:  # the others are killed while they are still gathering
                self.wait_for_work(disturbed, begun)
            time.sleep(chance.uniform(0, whole / self.KILLS / 2))
            assert kill(children), "killed while they were at work"
        assert 0 < len(rows(disturbed)) < len(rows(tmp_path / "undisturbed")), "in the middle of the sweep"
        end(begin(bench, disturbed, 4))
        assert values(disturbed) == values(tmp_path / "undisturbed")
        assert same_blocks(tmp_path / "undisturbed", disturbed) == 6, "the reference's images alone"
        assert not list(disturbed.glob("rows/*error*"))


def test_blocks_are_computed_on_one_thread():
    assert torch.get_num_threads() == 1
