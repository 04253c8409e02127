"""A block: what it leaves, and what it does where memory runs out."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from amed_lightning.bench.results import Line, Results, read_named, write_sums
from amed_lightning.bench.row import Row
from amed_lightning.bench.sweep import compute_block, run
from amed_lightning.bench.table import tables
from amed_lightning.config import canonical_json
from amed_lightning.data.folder import image_files
from amed_lightning.data.picture import record_in, to_pixels
from amed_lightning.denoisers.registry import digits
from amed_lightning.noise.schedules import Polynomial, levels
from amed_lightning.runtime.tensor_file import read_with_facts, write_tensors
from amed_lightning.sampling.sampler import Sampler, sample_seeds
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.tensors import quantise

from ..hungry import hungry
from ..pretended.places import DEVICE
from .suites import CPU, Alone, bench_of, entry, fill, rows, untidy, values

pytestmark = pytest.mark.usefixtures("unchecked")

EULER = {"name": "euler"}


def noise(first, last):
    return Seeds(Stream.evaluation, first, last).noise((1, 8, 8))


class TestSamples:
    def test_the_first_block_keeps_the_images_of_the_first_seeds(self, tmp_path):
        bench = bench_of(tmp_path, entry(EULER))
        fill(bench, tmp_path)
        for cell in bench.cells:
            expected = torch.cat([quantise(bench.sampler(cell).sample(noise(at, at + 12)).x) for at in (0, 12)])[:16]
            assert Results(tmp_path).samples(cell.key).equal(expected)

    def test_a_cell_that_has_not_begun_has_none(self, tmp_path):
        assert Results(tmp_path).samples("0123456789abcdef") is None


class TestSums:
    def test_a_symmetric_matrix_is_kept_as_a_triangle_and_read_back_bit_for_bit(self, tmp_path):
        path, half = tmp_path / "sums.safetensors", torch.randn(5, 5, dtype=torch.float64)
        sums = {"outer": half + half.T, "square": half, "sum": half[0], "count": torch.tensor(7)}
        write_sums(path, sums, {"block": "a"})
        stored, _ = read_with_facts(path)
        assert {name: value.numel() for name, value in stored.items()} == {
            **{"outer.triangle": 15, "square": 25, "sum": 5, "count": 1}
        }
        back, facts = read_named(path, "a")
        assert facts == {"block": "a"}
        assert back.keys() == sums.keys()
        assert all(value.equal(sums[name]) for name, value in back.items())

    def test_those_of_a_real_block_are_half_as_large(self, tmp_path):
        with untidy():
            bench = bench_of(tmp_path, entry(EULER), num_blocks=1)
            fill(bench, tmp_path)
        size = bench.evaluator.detector.feature_size
        stored, _ = read_with_facts(Results(tmp_path).sums(bench.cells[1].key, 0))
        assert size * (size + 1) // 2 in {value.numel() for value in stored.values()}
        assert size * size not in {value.numel() for value in stored.values()}

    def test_whole_matrices_of_before_are_read(self, tmp_path):
        path, outer = tmp_path / "sums.safetensors", torch.eye(3, dtype=torch.float64)
        write_tensors(path, {"outer": outer}, {"block": "a"})
        assert read_named(path, "a")[0]["outer"].equal(outer)


class TestPictures:
    @pytest.fixture
    def bench(self, tmp_path):
        return bench_of(tmp_path, entry(EULER))

    def test_they_are_written_on_request_named_by_their_seeds(self, tmp_path, bench):
        results = Results(tmp_path, keeps_images=True)
        assert fill(bench, tmp_path, results=results) == []
        for cell in bench.cells:
            folder = tmp_path / "images" / cell.key
            assert sorted(path.name for path in folder.iterdir()) == [f"{seed:06d}.png" for seed in range(48)]
            expected = quantise(bench.sampler(cell).sample(noise(24, 36)).x)
            with Image.open(results.picture(cell.key, 30)) as picture:
                assert to_pixels(picture, "30").equal(expected[6])

    def test_they_say_which_cell_and_how_many_images_they_belong_to(self, tmp_path, bench):
        results = Results(tmp_path, keeps_images=True)
        fill(bench, tmp_path, results=results)
        for cell in bench.cells:
            record = record_in(results.picture(cell.key, 30))
            assert (record.verb, record.seeds) == ("bench", [0, 48])
            assert record.made_by == json.loads(canonical_json(cell.identity | {"nfe": cell.nfe}))
            assert list(image_files(tmp_path / "images" / cell.key).notes) == []
            results.picture(cell.key, 47).unlink()
            assert (
                "47 images, and the run that made 000000.png was over"
                in image_files(tmp_path / "images" / cell.key).notes[0]
            )

    def test_without_the_request_there_are_none(self, tmp_path, bench):
        fill(bench, tmp_path)
        assert not (tmp_path / "images").exists()

    def test_a_finished_sweep_makes_them_when_they_are_asked_for_later_and_keeps_its_rows(self, tmp_path, bench):
        fill(bench, tmp_path)
        before = rows(tmp_path)
        fill(bench, tmp_path, results=Results(tmp_path, keeps_images=True))
        assert len(list((tmp_path / "images").rglob("*.png"))) == 2 * 48
        assert rows(tmp_path) == before

    def test_one_that_is_lost_is_made_again(self, tmp_path, bench):
        results = Results(tmp_path, keeps_images=True)
        fill(bench, tmp_path, results=results)
        lost = results.picture(bench.cells[1].key, 47)
        content = lost.read_bytes()
        lost.unlink()
        fill(bench, tmp_path, results=results)
        assert lost.read_bytes() == content


class TestMemory:
    def filled(self, folder, room, **changes):
        folder.mkdir()
        bench = bench_of(folder, entry(EULER), model=hungry(room), **changes)
        return bench, fill(bench, folder)

    def test_the_micro_batch_is_halved_until_there_is_room_and_block_and_row_say_so(self, tmp_path):
        bench, failed = self.filled(tmp_path / "little", 4)
        assert failed == []
        for cell in bench.cells:
            row = rows(tmp_path / "little")[cell.key]
            assert row["batch_sizes"] == [3]
            assert row["n"] == 48

    def test_the_scores_are_those_of_a_suite_with_that_micro_batch(self, tmp_path):
        self.filled(tmp_path / "little", 6)
        self.filled(tmp_path / "planned", 6, batch_size=6)
        little, planned = (list(values(tmp_path / name).values()) for name in ("little", "planned"))
        assert sorted(map(str, little)) == sorted(map(str, planned))

    def test_the_protocol_is_another_but_the_cell_is_the_same(self, tmp_path):
        enough, _ = self.filled(tmp_path / "enough", 12)
        little, _ = self.filled(tmp_path / "little", 6)
        for one, other in zip(enough.cells, little.cells, strict=True):
            assert one.key == other.key
            plain, halved = rows(tmp_path / "enough")[one.key], rows(tmp_path / "little")[one.key]
            assert plain["protocol"] != halved["protocol"]
            assert plain["batch_sizes"] == [12]

    def test_such_a_row_is_not_ranked_with_others(self, tmp_path):
        bench, _ = self.filled(tmp_path / "enough", 12)
        (key,) = [cell.key for cell in bench.cells if not cell.planned.is_reference]
        self.filled(tmp_path / "little", 6)
        halved = rows(tmp_path / "little")[key]
        plain = [rows(tmp_path / "enough")[key] | {"key": name, "label": name} for name in "ab"]
        lines = [Line(row.id, False, {}, row) for row in map(Row.of, (*plain, halved))]
        (table,) = tables(lines)
        marks = {line[1].text: line[4].is_best for line in table.lines}
        assert marks == {"a": True, "b": True, "euler ‡": False}

    def test_without_room_for_one_sample_the_cell_fails(self, tmp_path):
        _, failed = self.filled(tmp_path / "none", 0)
        assert failed == ["heun", "euler"]


class TestMicroBatches:
    @pytest.mark.parametrize("size", [7, 32])
    def test_another_one_agrees_to_one_grey_level_in_every_pixel(self, size):
        model = digits()
        sampler = Sampler(model, SOLVERS["ipndm"](), levels(Polynomial(), 5, model.noise_range))
        seeds = Seeds(Stream.evaluation, 0, 64)
        plain, other = (
            torch.cat([quantise(state.x).int() for state in sample_seeds(sampler, seeds, batch, CPU)])
            for batch in (64, size)
        )
        assert int((plain - other).abs().max()) <= 1


@pytest.mark.usefixtures("unchecked")
def test_on_a_device_the_host_waits_once_per_micro_batch_of_a_block(tmp_path, pretended):
    """But for the images of the reference, which go to a file, and those of the first seeds."""
    bench, results, syncs = bench_of(tmp_path, entry(EULER), model={"name": "digits"}), Results(tmp_path), []
    bench.to(DEVICE)
    reference, cell = bench.cells
    compute_block(bench, reference, 1, results, DEVICE, {})
    for size in (12, 4):
        own = replace(cell, protocol=replace(cell.protocol, batch_sizes=(size,)))
        with pretended.counted() as seen:
            compute_block(bench, own, 1, results, DEVICE, {})
        syncs.append(seen.syncs)
    assert syncs[1] - syncs[0] == 24 / 4 - 24 / 12


@pytest.mark.gpu
class TestDevice:
    def test_a_sweep_on_it_has_the_scores_of_one_on_the_cpu(self, tmp_path, device):
        for name, place in {"cpu": CPU, "device": device}.items():
            (tmp_path / name).mkdir()
            bench = bench_of(tmp_path / name, entry(EULER), model={"name": "digits"}, num_blocks=1)
            assert run([bench], Results(tmp_path / name), Alone(), place) == []
        for on_cpu, on_device in zip(*(values(tmp_path / name).values() for name in ("cpu", "device")), strict=True):
            assert on_device["fid"] == pytest.approx(on_cpu["fid"], rel=1e-2)
