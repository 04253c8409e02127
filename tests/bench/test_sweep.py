"""Running a suite: every block once, whoever computes it; what failed is tried again, what is done is not."""

import errno
import json
import shutil
import sys
from dataclasses import replace
from statistics import fmean

import pytest
import torch

from amed_lightning.bench import sweep
from amed_lightning.bench.cell import prepare
from amed_lightning.bench.forecast import estimates
from amed_lightning.bench.results import Results, lines_of, write_plan
from amed_lightning.bench.suite import load_suite
from amed_lightning.config import InputError
from amed_lightning.metrics.reference import build_evaluator
from amed_lightning.runtime import progress
from amed_lightning.runtime.tensor_file import read_with_facts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers import registry
from amed_lightning.solvers.multistep import Multistep
from amed_lightning.tensors import quantise

from .suites import CELLS, CPU, DATASET, Alone, bench_of, entry, fill, rows, untidy, values, write_suite

BLOCKS = 2


@pytest.fixture
def computed(monkeypatch):
    """The blocks that are computed from here on."""
    done, real = [], sweep.compute_block

    def counted(bench, cell, block, *others):
        real(bench, cell, block, *others)
        done.append((cell.key, block))

    monkeypatch.setattr(sweep, "compute_block", counted)
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A bench, its results, and its rows by key."""
    folder = tmp_path_factory.mktemp("bench")
    bench = bench_of(folder)
    assert fill(bench, folder / "results") == []
    return bench, Results(folder / "results"), rows(folder / "results")


class TestRows:
    def test_there_is_one_per_cell_and_no_error(self, run):
        bench, results, found = run
        assert set(found) == {cell.key for cell in bench.cells}
        assert len(list(results.folder.glob("rows/*"))) == CELLS
        assert len(list(results.folder.glob("samples/*"))) == CELLS

    def test_their_sums_are_gone_and_the_images_of_the_reference_are_there(self, run):
        bench, results, _ = run
        assert {*results.folder.glob("blocks/*")} == {
            results.images(bench.reference.key, block) for block in range(BLOCKS)
        }

    def test_a_row_says_what_it_is_and_where_it_comes_from(self, run):
        bench, _, found = run
        for cell in bench.cells:
            row = found[cell.key]
            assert (row["label"], row["nfe"], row["afs"]) == (cell.planned.label, cell.nfe, cell.planned.afs)
            assert row["is_reference"] == (cell is bench.reference)
            assert row["dataset"] == "grey"
            assert row["n"] == 48
            assert row["caveats"] == bench.evaluator.caveats(48)
            assert [caveat.split(":")[0] for caveat in row["caveats"]] == [
                "FID of 48 generated images",
                "IS of 48 generated images",
            ]
            assert (row["detector"]["name"], row["real_images"]) == ("digits", {"name": "digits"})
            assert row["seconds"] > 0
            assert row["images_per_second"] == pytest.approx(48 / row["seconds"])
            assert row["provenance"]["world_size"] == 1
            assert row["seeds"] == [0, 48]
            assert row["blocks_from"] == [
                {name: row["provenance"][name] for name in ("commit", "dirty", "source", "device")}
            ]
            assert row["identity"]["sigmas"] == bench.sampler(cell).sigmas.tolist()
            assert ("rmse" in row["values"]) == (cell is not bench.reference)

    def test_the_scores_are_those_of_all_images_and_the_errors_those_of_leaving_a_block_out(self, run):
        bench, _, found = run
        evaluator, cell = build_evaluator(DATASET["detector"], DATASET["dataset"]), bench.cells[2]
        images, references = (
            torch.cat(
                [
                    sampler.sample(Seeds(Stream.evaluation, start, start + 12).noise((1, 8, 8))).x
                    for start in range(0, 48, 12)
                ]
            )
            for sampler in (bench.sampler(cell), bench.sampler(bench.reference))
        )
        whole, parts = evaluator.scores(48), []
        for first in (0, 24):
            part, block = evaluator.scores(48), slice(first, first + 24)
            for scores in (whole, part):
                pair = images[block], references[block]
                scores.update(quantise(images[block]), torch.arange(first, first + 24), pair=pair)
            parts.append(part.compute())
        expected = whole.compute()
        for score, of_a_part in {"fid": "fid", "is": "is_whole", "rmse": "rmse", "psnr": "psnr"}.items():
            scores = [part[of_a_part] for part in parts]
            error = abs(scores[0] - scores[1]) / 2
            expected |= {f"{score}_mean": fmean(scores), f"{score}_min": min(scores), f"{score}_error": error}
            assert found[cell.key]["leave_one_out"][score] == pytest.approx(scores[::-1], rel=1e-4)
        assert found[cell.key]["values"] == pytest.approx(expected, rel=1e-3)
        assert found[cell.key]["ranges"] == [pytest.approx(part, rel=1e-4) for part in parts]
        assert expected["fid_error"] > 0

    def test_the_finer_reference_is_what_images_are_compared_with(self, run):
        bench, results, found = run
        kept = read_with_facts(results.images(bench.reference.key, 1))[0]["images"]
        expected = bench.sampler(bench.reference).sample(Seeds(Stream.evaluation, 24, 36).noise((1, 8, 8))).x
        assert kept[:12].equal(expected)
        errors = [found[cell.key]["values"]["rmse"] for cell in bench.cells[1:]]
        assert errors[1] < errors[0], "four steps are nearer than three"

    def test_ranges_of_several_blocks_are_scored_together(self, tmp_path):
        options = {"num_blocks": 4, "block_size": 12}
        for name, ranges in {"two": {"num_ranges": 2}, "one": {"num_ranges": 1}, "blocks": {}}.items():
            (tmp_path / name).mkdir()
            assert fill(bench_of(tmp_path / name, entry({"name": "euler"}), **options, **ranges), tmp_path / name) == []
        two, one, blocks = (
            next(row for row in rows(tmp_path / name).values() if not row["is_reference"])
            for name in ("two", "one", "blocks")
        )
        assert [len(row["ranges"]) for row in (two, one, blocks)] == [2, 1, 4]
        assert two["values"]["fid"] == one["values"]["fid"] == blocks["values"]["fid"]
        assert one["ranges"][0]["fid"] == one["values"]["fid"]
        assert "fid_mean" not in one["values"]
        assert two["leave_one_out"] == one["leave_one_out"] == blocks["leave_one_out"]
        assert len(one["leave_one_out"]["is"]) == 4
        assert two["values"]["fid_mean"] < blocks["values"]["fid_mean"], "fewer images, more bias"

    def test_it_has_the_metrics_that_the_suite_asks_for(self, tmp_path):
        metrics = ["kid", "precision_recall"]
        bench = bench_of(tmp_path, entry({"name": "euler"}), metrics=metrics)
        assert fill(bench, tmp_path / "results") == []
        for row in rows(tmp_path / "results").values():
            scores = {"kid", "precision", "recall"} | (set() if row["is_reference"] else {"rmse", "psnr"})
            errors = {f"{name}_error" for name in scores}
            assert scores | errors < row["values"].keys()
            assert not {"fid", "is"} & row["values"].keys()


class TestRerun:
    @pytest.fixture
    def bench(self, tmp_path):
        return bench_of(tmp_path, entry({"name": "euler"}), entry({"name": "ipndm"}))

    @pytest.fixture
    def folder(self, tmp_path, bench):
        """The results of a whole run, with the sums."""
        with untidy():
            assert fill(bench, tmp_path / "results") == []
        return tmp_path / "results"

    def test_sums_that_a_killed_sweep_or_an_older_one_has_left_go(self, bench, folder):
        assert len(list(folder.glob("blocks/*"))) == 3 * BLOCKS + BLOCKS
        samples = [Results(folder).samples(cell.key).clone() for cell in bench.cells]
        assert fill(bench, folder) == []
        assert len(list(folder.glob("blocks/*"))) == BLOCKS
        assert all(Results(folder).samples(cell.key).equal(one) for cell, one in zip(bench.cells, samples, strict=True))

    def test_a_finished_suite_computes_nothing(self, bench, folder, monkeypatch):
        fill(bench, folder)
        before = {path: path.read_bytes() for path in folder.rglob("*.*")}
        monkeypatch.setattr(sweep, "compute_block", None)
        monkeypatch.setattr(sweep, "finished_row", None)
        assert fill(bench, folder) == []
        assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before

    @pytest.mark.parametrize("block", [0, 1])
    @pytest.mark.parametrize("number", [0, 2], ids=["reference", "cell"])
    def test_a_lost_block_alone_is_computed_again_with_the_same_scores(self, bench, folder, computed, number, block):
        cell, before = bench.cells[number], values(folder)
        Results(folder).row(cell.key).unlink()
        Results(folder).sums(cell.key, block).unlink()
        assert fill(bench, folder) == []
        assert computed == [(cell.key, block)]
        assert values(folder) == before

    def test_a_lost_row_is_put_together_from_its_blocks(self, bench, folder, computed):
        before = values(folder)
        Results(folder).row(bench.cells[1].key).unlink()
        assert fill(bench, folder) == []
        assert computed == []
        assert values(folder) == before

    def test_lost_images_of_the_reference_are_made_again(self, bench, folder):
        results, before = Results(folder), values(folder)
        results.images(bench.reference.key, 1).unlink()
        results.row(bench.cells[1].key).unlink()
        results.sums(bench.cells[1].key, 1).unlink()
        assert fill(bench, folder) == []
        assert values(folder) == before

    def test_a_row_names_every_commit_that_its_blocks_are_from(self, bench, folder, monkeypatch):
        cell = bench.cells[1]
        Results(folder).row(cell.key).unlink()
        Results(folder).sums(cell.key, 1).unlink()
        real = sweep.provenance
        monkeypatch.setattr(sweep, "provenance", lambda *place: real(*place) | {"commit": "later"})
        assert fill(bench, folder) == []
        first, second = rows(folder)[cell.key]["blocks_from"]
        assert first["commit"] == real(CPU, 1)["commit"]
        assert second == first | {"commit": "later"}

    def test_a_new_entry_computes_its_own_blocks_alone(self, tmp_path, folder, computed):
        before = values(folder)
        bench = bench_of(tmp_path, entry({"name": "euler"}), entry({"name": "ipndm"}), entry({"name": "heun"}))
        assert fill(bench, folder) == []
        assert computed == [(bench.cells[3].key, 0), (bench.cells[3].key, 1)]
        assert values(folder).items() > before.items()

    def test_an_interrupted_run_goes_on_where_it_stopped(self, tmp_path, bench, folder, computed, monkeypatch):
        real = sweep.compute_block

        def interrupted(*arguments):
            if len(computed) == 3:
                raise KeyboardInterrupt
            real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(sweep, "compute_block", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fill(bench, tmp_path / "broken")
        assert fill(bench, tmp_path / "broken") == []
        assert len(computed) == len(set(computed)) == 3 * BLOCKS
        assert values(tmp_path / "broken") == values(folder)


def test_a_row_is_there_as_soon_as_its_cell_s_blocks_are(tmp_path, monkeypatch):
    bench, seen, real = bench_of(tmp_path), [], sweep.compute_block
    results = Results(tmp_path / "results")

    def looked(bench, cell, block, *others):
        seen.append({key.stem for key in results.folder.glob("rows/*.json")})
        real(bench, cell, block, *others)

    monkeypatch.setattr(sweep, "compute_block", looked)
    assert fill(bench, results.folder) == []
    order = [cell.key for cell in sorted(bench.cells, key=lambda cell: cell.nfe, reverse=True)]
    assert seen == [set(order[: index // BLOCKS]) for index in range(CELLS * BLOCKS)]


def test_the_longest_cells_come_first_and_the_reference_before_all(tmp_path, computed):
    bench = bench_of(tmp_path, entry({"name": "euler"}, [3, 9, 4]), num_blocks=1)
    assert fill(bench, tmp_path / "results") == []
    nfe = {cell.key: cell.nfe for cell in bench.cells}
    assert [nfe[key] for key, _ in computed] == [12, 9, 4, 3]


def test_one_bar_says_how_far_all_cells_are_in_network_runs_and_which_is_at_hand(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    bench = bench_of(tmp_path, entry({"name": "euler"}, [3, 4]))
    capsys.readouterr()
    assert fill(bench, tmp_path / "results", processes=2) == []
    lines = capsys.readouterr().err.splitlines()
    done = [int(line.split()[1].split("/")[0]) for line in lines]
    assert done == sorted(done)
    assert lines[-1].startswith("bench: 912/912 network runs, ")
    assert "; grey heun polynomial 12 NFE" in lines[0]


def test_a_folder_without_room_for_the_reference_s_images_and_a_cell_s_sums_is_refused(tmp_path, monkeypatch):
    """48 images of 64 pixels in float32, and of two blocks half of 64 x 64 numbers in float64."""
    bench, folder, usage = bench_of(tmp_path, entry({"name": "euler"})), tmp_path / "results", shutil.disk_usage("/")
    needed = 48 * 64 * 4 + 2 * 64 * 64 // 2 * 8
    monkeypatch.setattr(sweep, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(InputError, match=r"results: the sweep needs 4.2e-05 GiB, and 4.2e-05 are free; make room"):
        fill(bench, folder)
    assert not folder.exists()
    monkeypatch.setattr(sweep, "disk_usage", lambda _: usage._replace(free=needed))
    assert fill(bench, folder) == []


class Breaking(Multistep):
    """A solver of somebody's own that raises until it is mended."""

    broken = True

    def step(self, flow, state, sigma_next):
        if self.broken:
            raise ArithmeticError("out of luck")
        return super().step(flow, state, sigma_next)


def guided_in(interval):
    """Describe a model that is guided in some levels."""
    return {"name": "guided", "of": {"name": "digits_conditional"}, "scale": 2.0, "interval": interval}


def test_guidance_in_an_interval_that_makes_fewer_runs_is_refused_in_the_plan_as_in_the_dry_run(tmp_path):
    """Euler's last evaluation is below 1; denoise-to-zero's is at sigma_min; heun's first is above 1."""
    for solver, interval, runs in (
        (entry({"name": "euler"}, 6), [1.0, 100.0], "5 network runs are made where a row would say 6"),
        (entry({"name": "euler"}, 6, denoise_to_zero=True), [0.05, 100.0], "5 .* would say 6"),
        (entry({"name": "heun"}, 8, thresholded=True), [0.0, 1.0], "would say 8"),
    ):
        path = write_suite(tmp_path, entries=[solver], model=guided_in(interval), reference=None)
        for planned in (prepare, lambda suite: estimates(suite, CPU, 0.5)):
            with pytest.raises(InputError, match=f"grey .* NFE: .*{runs}.*: let its `interval` hold every level"):
                planned(load_suite(path))


class Dishonest(Multistep):
    """A solver that asks the network more often than it says."""

    def step(self, flow, state, sigma_next):
        flow(state.x, state.sigma)
        following = super().step(flow, state, sigma_next)
        return type(following)(
            following.x, following.sigma, None, following.history, following.updates_left, following.nfe + 1
        )


class Overflowing(Multistep):
    """A solver that leaves its seventh sample without a number at the end."""

    def step(self, flow, state, sigma_next):
        end = super().step(flow, state, sigma_next)
        return replace(end, x=end.x.index_fill(0, torch.tensor(6), torch.inf)) if end.updates_left == 0 else end


class TestFailure:
    @pytest.fixture(autouse=True)
    def _solvers(self, monkeypatch):
        """A module that configurations can import, as a user's would be."""
        rule = registry.SOLVERS["euler"]().rule
        module = type(sys)("somebodys_own")

        def breaking(placer: object = None) -> Breaking:
            return Breaking(rule)

        def dishonest(placer: object = None) -> Dishonest:
            return Dishonest(rule)

        def overflowing(placer: object = None) -> Overflowing:
            return Overflowing(rule)

        module.breaking, module.dishonest, module.overflowing = breaking, dishonest, overflowing
        monkeypatch.setitem(sys.modules, "somebodys_own", module)

    @pytest.mark.parametrize("processes", [1, 2])
    def test_a_cell_that_fails_leaves_an_error_and_the_others_finish(self, tmp_path, processes):
        bench = bench_of(tmp_path, entry({"name": "somebodys_own.breaking"}), entry({"name": "euler"}))
        assert fill(bench, tmp_path / "results", processes) == ["somebodys_own.breaking"]
        results, (reference, failed, other) = Results(tmp_path / "results"), bench.cells
        assert set(values(results.folder)) == {reference.key, other.key}
        report = json.loads(results.error(failed.key).read_text())
        assert report["error"] == "ArithmeticError('out of luck')"
        assert report["cell"]["nfe"] == 4
        assert "in step" in report["traceback"]
        assert not results.row(failed.key).exists()

    def test_the_next_run_tries_it_again(self, tmp_path, computed, monkeypatch):
        bench = bench_of(tmp_path, entry({"name": "somebodys_own.breaking"}), entry({"name": "euler"}))
        assert fill(bench, tmp_path / "results") == ["somebodys_own.breaking"]
        before = values(tmp_path / "results")
        computed.clear()
        monkeypatch.setattr(Breaking, "broken", False)
        assert fill(bench, tmp_path / "results") == []
        failed, euler = bench.cells[1:]
        assert computed == [(failed.key, 0), (failed.key, 1)]
        assert values(tmp_path / "results") == before | {failed.key: before[euler.key]}
        assert not Results(tmp_path / "results").error(failed.key).exists()

    def test_a_cell_that_fails_again_fails_again(self, tmp_path):
        bench = bench_of(tmp_path, entry({"name": "somebodys_own.breaking"}))
        for _ in range(2):
            assert fill(bench, tmp_path / "results") == ["somebodys_own.breaking"]

    @pytest.mark.parametrize(
        ("raised", "trouble"), [(torch.OutOfMemoryError("no room"), "no memory left"), (ArithmeticError("no"), None)]
    )
    def test_it_is_said_whether_the_machine_is_to_blame(self, tmp_path, monkeypatch, raised, trouble):
        def step(*_):
            raise raised

        monkeypatch.setattr(Breaking, "step", step)
        bench = bench_of(tmp_path, entry({"name": "somebodys_own.breaking"}))
        fill(bench, tmp_path / "results")
        said = json.loads(Results(tmp_path / "results").error(bench.cells[1].key).read_text())["trouble"]
        assert said == trouble or trouble in said

    def test_a_system_that_refuses_to_write_ends_the_sweep_and_fails_no_cell(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device", "blocks")

        bench = bench_of(tmp_path, entry({"name": "euler"}))
        with monkeypatch.context() as context:
            context.setattr("amed_lightning.bench.sweep.write_tensors", full)
            with pytest.raises(OSError, match="No space left"):
                sweep.run([bench], Results(tmp_path / "results"), Alone(), CPU)
        assert not list(tmp_path.glob("results/rows/*"))
        assert fill(bench, tmp_path / "results") == []

    def test_network_runs_that_were_not_planned_are_a_failure(self, tmp_path):
        bench = bench_of(tmp_path, entry({"name": "somebodys_own.dishonest"}))
        assert fill(bench, tmp_path / "results") == ["somebodys_own.dishonest"]
        report = json.loads(Results(tmp_path / "results").error(bench.cells[1].key).read_text())
        assert "8 network runs were made where a row would say 4" in report["error"]

    def test_guidance_in_an_interval_of_all_levels_makes_the_runs_that_were_planned(self, tmp_path):
        bench = bench_of(tmp_path, entry({"name": "euler"}, 6), model=guided_in([0.0, 1e3]), reference=None)
        assert fill(bench, tmp_path / "results") == []
        assert len(values(tmp_path / "results")) == 1

    def test_an_image_that_is_not_finite_is_an_error_of_its_seed_and_interval_and_no_score(self, tmp_path):
        bench = bench_of(tmp_path, entry({"name": "somebodys_own.overflowing"}), entry({"name": "euler"}))
        assert fill(bench, tmp_path / "results") == ["somebodys_own.overflowing"]
        results, (reference, failed, other) = Results(tmp_path / "results"), bench.cells
        report = json.loads(results.error(failed.key).read_text())
        assert "evaluation seed 6 is not finite, which began in interval 4 of 4" in report["error"]
        assert set(values(results.folder)) == {reference.key, other.key}
        assert not results.sums(failed.key, 0).exists()

    @pytest.mark.parametrize("processes", [1, 2])
    def test_a_reference_that_fails_fails_the_rest_and_nothing_waits(self, tmp_path, processes):
        broken = {"solver": {"name": "somebodys_own.breaking"}, "schedules": [{"name": "logsnr"}], "nfe": [6]}
        bench = bench_of(tmp_path, entry({"name": "euler"}), reference=broken)
        assert fill(bench, tmp_path / "results", processes) == ["somebodys_own.breaking", "euler"]


class TestAnotherPlace:
    """A row serves every suite that has its cell; what the suite calls the cell, and takes it for, is the suite's."""

    def lines(self, tmp_path, *entries, **changes):
        bench, results = bench_of(tmp_path, *entries, **changes), Results(tmp_path / "results")
        write_plan(load_suite(tmp_path / "suite.yaml"), [bench], results)
        assert fill(bench, results.folder) == []
        return lines_of(results)

    def test_two_of_one_name_may_change_places(self, tmp_path):
        lists = [{"name": "explicit", "levels": levels} for levels in ([80.0, 3.0, 0.002], [80.0, 0.5, 0.002])]
        found = {}
        for order in (lists, lists[::-1]):
            told = {**entry({"name": "euler"}, nfe=2), "schedules": order}
            lines = self.lines(tmp_path, told, reference=None)
            assert [line.row.id for line in lines] == [line.id for line in lines]
            found[order[0]["levels"][1]] = [line.row.values["fid"] for line in lines]
        assert found[3.0] == found[0.5][::-1]
        assert found[3.0][0] != found[3.0][1]

    def test_the_reference_may_become_an_entry(self, tmp_path):
        heun, euler = entry({"name": "heun"}, nfe=6), entry({"name": "euler"}, nfe=6)
        first = self.lines(tmp_path, euler, reference=heun)
        assert [line.row.is_reference for line in first] == [True, False]
        for entries in ((euler, heun), (heun, euler)):
            assert not any(line.row.is_reference for line in self.lines(tmp_path, *entries, reference=None))


class TestProcesses:
    @pytest.mark.parametrize("processes", [2, 3])
    def test_any_number_of_them_share_the_blocks_and_give_the_same_bits(self, tmp_path, computed, processes):
        bench = bench_of(tmp_path, num_blocks=3)
        for number in (1, processes):
            assert fill(bench, tmp_path / str(number), number) == []
        assert len(computed) == 2 * CELLS * 3
        assert values(tmp_path / "1") == values(tmp_path / str(processes))
        for path in (tmp_path / "1" / "blocks").iterdir():
            one = read_with_facts(path)[0]
            several = read_with_facts(tmp_path / str(processes) / "blocks" / path.name)[0]
            assert all(value.equal(several[name]) for name, value in one.items() if name != "seconds")
