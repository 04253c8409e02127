"""What a sweep finds damaged, or in another's place, it makes again; it never reads past it."""

import json
import shutil

import pytest

from amed_lightning.bench import sweep
from amed_lightning.bench.results import Results
from amed_lightning.bench.row import Row

from .suites import bench_of, entry, fill, untidy, values

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bench and a folder with its results, sums included."""
    folder = tmp_path_factory.mktemp("bench")
    bench = bench_of(folder, entry({"name": "euler"}), entry({"name": "ipndm"}))
    with untidy():
        assert fill(bench, folder / "results") == []
    return bench, folder / "results"


@pytest.fixture
def results(made, tmp_path):
    return Results(shutil.copytree(made[1], tmp_path / "results"))


def cut_off(path, other):
    path.write_bytes(path.read_bytes()[:-40])


def with_a_bit_flipped(path, other):
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)


def with_another_figure(path, other):
    written = path.read_text()
    figure = json.dumps(json.loads(written)["values"]["fid"])
    path.write_text(written.replace(figure, f"1{figure}"))


def deleted(path, other):
    path.unlink()


def of_another(path, other):
    shutil.copy(other, path)


@pytest.mark.parametrize("damage", [cut_off, with_a_bit_flipped, deleted, of_another])
@pytest.mark.parametrize("part", ["sums", "images"])
def test_a_block_is_made_again_before_its_cell_is_scored(made, results, damage, part, capsys):
    bench, folder = made
    reference, euler, other = bench.cells
    if part == "sums":
        damage(results.sums(euler.key, 0), results.sums(other.key, 0))
    else:
        damage(results.images(reference.key, 0), results.images(reference.key, 1))
        results.sums(euler.key, 0).unlink()
    results.row(euler.key).unlink()
    assert fill(bench, results.folder) == []
    assert damage is deleted or "it is made again" in capsys.readouterr().err
    assert values(results.folder) == values(folder)


@pytest.mark.parametrize("damage", [cut_off, with_another_figure, deleted, of_another])
def test_a_row_is_made_again(made, results, damage):
    bench, folder = made
    damage(results.row(bench.cells[1].key), results.row(bench.cells[2].key))
    assert fill(bench, results.folder) == []
    assert values(results.folder) == values(folder)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_block_that_is_deleted_under_a_sweep_is_made_again(made, results, monkeypatch, processes):
    bench, folder = made
    euler = bench.cells[1]
    results.row(euler.key).unlink()
    real, scored = sweep.read_block, []

    def robbed(path_of, key, block):
        if block == 0 and path_of(key, block) == results.sums(euler.key, block):
            if not scored:
                results.sums(euler.key, 1).unlink()
            scored.append(1)
        return real(path_of, key, block)

    monkeypatch.setattr(sweep, "read_block", robbed)
    assert fill(bench, results.folder, processes) == []
    assert 2 <= len(scored) <= 1 + processes  # the other one may have looked before the block was made
    assert values(results.folder) == values(folder)


def test_a_row_of_before_that_has_no_checksum_is_read(made, results):
    bench, _ = made
    path = results.row(bench.cells[1].key)
    row = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    path.write_text(json.dumps(row))
    assert results.finished(bench.cells[1].key) == Row.of(row)


@pytest.mark.parametrize("damage", [cut_off, with_a_bit_flipped, deleted, of_another])
def test_samples_that_are_damaged_are_not_read_and_made_again_from_their_block_alone(made, results, damage, capsys):
    bench, _ = made
    assert fill(bench, results.folder) == []
    euler, other = bench.cells[1:]
    whole, before = results.samples(euler.key).clone(), values(results.folder)  # the file may be mapped
    damage(results.kept(euler.key), results.kept(other.key))
    assert results.samples(euler.key) is None
    assert damage is deleted or f"{euler.key}.safetensors: not readable" in capsys.readouterr().err
    assert fill(bench, results.folder) == []
    assert results.samples(euler.key).equal(whole)
    assert values(results.folder) == before
    assert not results.sums(euler.key, 0).exists()


@pytest.mark.parametrize("damage", [cut_off, with_a_bit_flipped, of_another])
def test_a_first_block_that_is_damaged_where_its_row_is_there_already_is_made_again(made, results, damage):
    bench, _ = made
    euler, other = bench.cells[1:]
    whole = results.samples(euler.key).clone()
    damage(results.sums(euler.key, 0), results.sums(other.key, 0))
    assert fill(bench, results.folder) == []
    assert results.samples(euler.key).equal(whole)
