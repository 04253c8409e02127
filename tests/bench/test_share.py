"""Tasks of an array share a sweep through its files alone."""

import json

import pytest

from amed_lightning.bench import runner
from amed_lightning.bench.results import Results
from amed_lightning.bench.runner import run
from amed_lightning.bench.share import Share
from amed_lightning.config import InputError

from ..teacher.stores import Team
from .suites import CPU, Alone, bench_of, fill, rows, values

BLOCKS = 4


@pytest.fixture
def bench(tmp_path):
    return bench_of(tmp_path, num_blocks=BLOCKS)


@pytest.fixture
def computed(monkeypatch):
    """The blocks that are computed from here on, with the task that computes them."""
    done, real = [], runner.compute_block

    def counted(bench, cell, block, results, *others):
        done.append((results.share.index, cell.key, block))
        real(bench, cell, block, results, *others)

    monkeypatch.setattr(runner, "compute_block", counted)
    return done


def task(bench, folder, index, count):
    return run([bench], Results(folder, Share(index, count)), Alone(), CPU)


class TestShare:
    @pytest.mark.parametrize("count", [1, 2, 3, 7])
    def test_every_item_has_one_task_and_all_tasks_together_have_all(self, count):
        shares = [Share(index, count).of(range(10)) for index in range(count)]
        assert sorted(item for share in shares for item in share) == list(range(10))

    def test_every_task_begins_elsewhere_and_comes_past_everything(self):
        rotated = [Share(index, 3).rotated(range(9)) for index in range(3)]
        assert [items[0] for items in rotated] == [0, 3, 6]
        assert all(sorted(items) == list(range(9)) for items in rotated)

    @pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/4", "1/", "0/0", ""])
    def test_what_names_no_task_is_refused(self, text):
        with pytest.raises(InputError, match=f"--shard {text}: write a task from 0"):
            Share.parse(text)

    def test_a_task_is_counted_from_0(self):
        assert Share.parse("3/4") == Share(3, 4)


class TestTasks:
    def test_each_computes_its_own_cells_and_together_they_leave_the_rows_of_one_sweep(self, tmp_path, bench, computed):
        assert fill(bench, tmp_path / "whole") == []
        computed.clear()
        for index in range(2):
            assert task(bench, tmp_path / "tasks", index, 2) == []
        assert values(tmp_path / "tasks") == values(tmp_path / "whole")
        by_task = [{key for index, key, _ in computed if index == number} for number in range(2)]
        assert by_task[0] == {cell.key for cell in (bench.cells[0], bench.cells[1], bench.cells[3])}
        assert by_task[1] == {cell.key for cell in (bench.cells[2], bench.cells[4])}
        assert len(computed) == len(bench.cells) * BLOCKS, "the reference was there already for the second"

    def test_at_the_same_time_they_begin_the_reference_elsewhere_and_give_the_same_bits(
        self, tmp_path, bench, computed
    ):
        assert fill(bench, tmp_path / "whole") == []
        computed.clear()
        Team(2).run(lambda member: task(bench, tmp_path / "tasks", member.global_rank, 2))
        assert values(tmp_path / "tasks") == values(tmp_path / "whole")
        first = [
            next(block for index, key, block in computed if (index, key) == (number, bench.reference.key))
            for number in range(2)
        ]
        assert first == [0, BLOCKS // 2]

    @pytest.fixture
    def meanwhile(self, tmp_path, bench, computed, monkeypatch):
        """Let the first task run while the second is at its first block."""
        counted, ran = runner.compute_block, []

        def interrupted(bench, cell, block, results, *others):
            if results.share.index == 1 and not ran:
                ran.append(task(bench, tmp_path, 0, 2))
            counted(bench, cell, block, results, *others)

        monkeypatch.setattr(runner, "compute_block", interrupted)
        return ran

    def test_what_another_has_finished_meanwhile_is_not_computed_again(self, tmp_path, bench, computed, meanwhile):
        assert task(bench, tmp_path, 1, 2) == []
        by_the_second = [block for index, key, block in computed if (index, key) == (1, bench.reference.key)]
        assert by_the_second == [BLOCKS // 2], "the one that it was at"

    def test_another_s_failure_meanwhile_is_not_its_own(self, tmp_path, bench, computed, meanwhile, monkeypatch):
        under_way = runner.compute_block

        def broken_in_the_first(bench, cell, block, results, *others):
            if results.share.index == 0:
                raise ArithmeticError("a bad node")
            under_way(bench, cell, block, results, *others)

        monkeypatch.setattr(runner, "compute_block", broken_in_the_first)
        assert task(bench, tmp_path, 1, 2) == []
        assert len(meanwhile[0]) == 3, "the first has lost all of its cells"

    def test_a_task_without_cells_does_nothing(self, tmp_path, bench, computed):
        assert task(bench, tmp_path, 7, 8) == []
        assert computed == []

    def test_the_reference_s_failure_in_one_task_is_not_another_s(self, tmp_path, bench, monkeypatch):
        real = runner.compute_block

        def broken_in_the_first(bench, cell, block, results, *others):
            if results.share.index == 0:
                raise ArithmeticError("a bad node")
            real(bench, cell, block, results, *others)

        monkeypatch.setattr(runner, "compute_block", broken_in_the_first)
        failed = task(bench, tmp_path, 0, 2)
        assert [cell.key for cell in failed] == [bench.cells[number].key for number in (0, 1, 3)]
        assert task(bench, tmp_path, 1, 2) == []
        assert set(rows(tmp_path)) == {bench.cells[number].key for number in (0, 2, 4)}
        assert Results(tmp_path).errors(bench.reference.key) == [], "it has a row now"
        (error,) = Results(tmp_path).errors(bench.cells[1].key)
        assert "a bad node" in json.loads(error.read_text())["error"]
        monkeypatch.setattr(runner, "compute_block", real)
        assert fill(bench, tmp_path) == []
        assert not list(tmp_path.glob("rows/*error*"))
