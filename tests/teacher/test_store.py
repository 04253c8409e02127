"""The store: what was written is read back, by whoever wrote it; what is not whole is refused by name."""

import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher import environment
from amed_lightning.teacher import precompute as precompute_module
from amed_lightning.teacher import store as store_module
from amed_lightning.teacher.precompute import precompute
from amed_lightning.teacher.store import TrajectoryReader, TrajectoryStore
from amed_lightning.teacher.trajectories import SHARD_SIZE, recipe_for, roll_out

from ..sampling.models import mixture, random_network, watched
from .stores import CPU, Member, Team, fill, parts_of, records, store_of, teacher, training

FIELDS = ("states", "derivatives", "features", "seeds")


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path)


@pytest.fixture
def filled(store):
    """Two shards of training trajectories."""
    fill(store, training(0, 2 * SHARD_SIZE))
    return store


def read(store, seeds, indices):
    reader = TrajectoryReader(store, seeds)
    try:
        return reader.read(indices)
    finally:
        reader.close()


def contents(store):
    """Return every shard's manifest and records."""
    return {
        shard.name: ((shard / "manifest.json").read_text(), records(shard))
        for shard in store.folder.iterdir()
        if shard.is_dir()
    }


class TestReading:
    def test_what_was_computed_is_read_back_bit_for_bit(self, filled):
        back = read(filled, training(0, SHARD_SIZE), [70, 64, 127, 70])
        batch = roll_out(mixture(), filled.recipe, training(64, 128), CPU)
        for name in FIELDS:
            assert getattr(back, name).equal(getattr(batch, name)[[6, 0, 63, 6]]), name
        assert back.condition is None

    def test_a_label_comes_back_with_its_trajectory(self, tmp_path):
        model = build("model", DENOISERS, random_network(tmp_path, label_dim=3))
        store = store_of(tmp_path, model)
        fill(store, training(0, SHARD_SIZE), model=model)
        back = read(store, training(0, SHARD_SIZE), range(SHARD_SIZE))
        assert back.condition.equal(training(0, SHARD_SIZE).labels(model.shape, 3))

    def test_positions_count_from_the_first_seed_of_the_range_and_cross_shards(self, filled):
        back = read(filled, training(250, 300), [0, 49, 10])
        assert back.seeds.tolist() == [250, 299, 260]
        assert back.states[:, 0].equal(torch.cat([training(k, k + 1).noise((1, 4, 4)) for k in (250, 299, 260)]) * 80)

    def test_a_range_has_as_many_trajectories_as_seeds(self, filled):
        reader = TrajectoryReader(filled, training(250, 300))
        assert len(reader) == 50
        reader.close()

    def test_streams_do_not_mix(self, store):
        fill(store, training(0, 1), Seeds(Stream.validation, 0, 1))
        states = [read(store, Seeds(stream, 0, 1), [0]).states for stream in (Stream.training, Stream.validation)]
        assert not states[0].allclose(states[1])

    def test_a_closed_reader_opens_the_shard_again_when_it_is_asked(self, filled):
        reader = TrajectoryReader(filled, training(0, SHARD_SIZE))
        first = reader.read([3])
        reader.close()
        assert reader.read([3]).states.equal(first.states)
        reader.close()


class ClosingIndices(list):
    """Positions, and what happens while they are gone through."""

    def __init__(self, indices, through):
        super().__init__(indices)
        self.through = through

    def __iter__(self):
        return self.through()


class Positions(Dataset):
    """A reader as a dataset."""

    def __init__(self, reader):
        self.reader = reader

    def __getitem__(self, indices):
        return self.reader.read(indices)


class TestClosing:
    def test_it_unmaps_the_shards(self, filled):
        def mapped():
            return str(filled.folder) in Path("/proc/self/maps").read_text()

        reader = TrajectoryReader(filled, training(0, 2 * SHARD_SIZE))
        assert not mapped()
        reader.read([3])
        assert mapped()
        reader.close()
        assert not mapped()

    def test_readers_of_the_same_shards_do_not_disturb_each_other(self, filled):
        one, other = (TrajectoryReader(filled, training(0, 2 * SHARD_SIZE)) for _ in range(2))
        first = one.read([3]).states
        assert other.read([3]).states.equal(first)
        one.close()
        assert TrajectoryReader(filled, training(0, SHARD_SIZE)).read([3]).states.equal(first)
        assert other.read([3, 4]).states[:1].equal(first)

    def test_a_read_in_another_thread_goes_on(self, filled):
        """Its records lie in memory that must not go away under it."""
        reader = TrajectoryReader(filled, training(0, 2 * SHARD_SIZE))
        expected = reader.read([3, 300]).states

        def closing_indices():
            yield 3
            reader.close()
            yield 300

        rows = reader.rows(ClosingIndices([3, 300], closing_indices))
        assert reader.trajectories(rows, [3, 300]).states.equal(expected)


class TestWorkers:
    INDICES = (3, 300)

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    @pytest.mark.parametrize("opened", [False, True])
    def test_a_forked_worker_reads_what_its_parent_reads(self, filled, opened):
        reader = TrajectoryReader(filled, training(0, 2 * SHARD_SIZE))
        if opened:
            reader.read([4])
        loader = DataLoader(Positions(reader), batch_size=None, sampler=[self.INDICES], num_workers=1, timeout=30)
        (forked,) = loader
        here = reader.read(self.INDICES)
        assert all(getattr(forked, name).equal(getattr(here, name)) for name in FIELDS)
        reader.close()

    def test_a_closed_reader_can_be_sent_to_another_process(self, filled):
        reader = TrajectoryReader(filled, training(0, 2 * SHARD_SIZE))
        there = pickle.loads(pickle.dumps(reader)).read(self.INDICES)
        assert there.states.equal(reader.read(self.INDICES).states)


def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_the_manifest(path, content):
    if path.name == "manifest.json":
        killed()


def killed_after(run):
    return lambda *arguments: killed(run(*arguments))


MOMENTS = {
    "between two records": (environment, "key_of", killed),
    "after the records": (environment, "write", killed_after(environment.write)),
    "at the manifest": (store_module, "write_atomically", killed_at_the_manifest),
    "at the rename": (store_module.Path, "rename", killed),
}


class TestWriting:
    @pytest.mark.parametrize("patch", MOMENTS.values(), ids=MOMENTS)
    def test_a_writer_killed_at_any_moment_leaves_nothing_readable(self, store, monkeypatch, patch):
        shard = training(0, SHARD_SIZE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which wait for ever
            if not (child := os.fork()):
                monkeypatch.setattr(*patch)
                fill(store, shard)
                os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert any(store.folder.glob(".training-*")), "the kill came too late"
        assert store.missing(shard) == [shard]
        with pytest.raises(InputError, match="is missing; run `amed-lightning precompute`"):
            TrajectoryReader(store, shard)
        fill(store, shard)
        assert read(store, shard, [255]).seeds.tolist() == [255]
        assert not any(store.folder.glob(".training-*"))

    def test_a_shard_that_is_there_already_is_kept(self, filled):
        before = contents(filled)
        other = roll_out(mixture(), filled.recipe, training(SHARD_SIZE, 2 * SHARD_SIZE), CPU)
        filled.write(training(0, SHARD_SIZE), [other])
        assert contents(filled) == before

    def test_the_folder_says_what_recipe_it_is_for(self, filled):
        recipe = json.loads((filled.folder / "recipe.json").read_text())
        assert recipe["solver"] == {"name": "heun"}
        assert recipe["sigmas"] == list(filled.recipe.sigmas)
        assert filled.folder.name == filled.recipe.digest[:16]


def flip_a_byte(path, record):
    """Change one bit in the middle of a record, wherever the file keeps it."""
    content = bytearray(path.read_bytes())
    content[content.index(record) + len(record) // 2] ^= 1
    path.write_bytes(content)


class TestDamage:
    @pytest.fixture
    def shard(self, filled):
        return filled.path(training(SHARD_SIZE, 2 * SHARD_SIZE))

    def refused(self, store, shard, message):
        with pytest.raises(InputError, match=f"{re.escape(str(shard))}: .*{message}") as refusal:
            read(store, training(0, 2 * SHARD_SIZE), range(2 * SHARD_SIZE))
        assert "\n" not in str(refusal.value)
        assert "amed-lightning precompute" in str(refusal.value)

    def test_a_missing_shard(self, filled, shard):
        shutil.rmtree(shard)
        self.refused(filled, shard, "is missing")

    def test_a_shard_renamed_to_another(self, filled, shard):
        first = filled.path(training(0, SHARD_SIZE))
        shutil.rmtree(shard)
        shutil.copytree(first, shard)
        self.refused(filled, shard, "written for start 0, not 256")

    def test_a_shard_of_another_stream(self, filled, shard):
        fill(filled, Seeds(Stream.validation, SHARD_SIZE, 2 * SHARD_SIZE))
        shutil.rmtree(shard)
        filled.path(Seeds(Stream.validation, SHARD_SIZE, 2 * SHARD_SIZE)).rename(shard)
        self.refused(filled, shard, "written for stream validation, not training")

    def test_a_shard_of_another_recipe(self, filled, shard, tmp_path):
        foreign = TrajectoryStore(tmp_path, recipe_for(parts_of(), teacher(inner_levels=2)))
        fill(foreign, training(SHARD_SIZE, 2 * SHARD_SIZE))
        shutil.rmtree(shard)
        foreign.path(training(SHARD_SIZE, 2 * SHARD_SIZE)).rename(shard)
        self.refused(filled, shard, f"written for recipe {foreign.recipe.digest}, not {filled.recipe.digest}")

    def test_a_file_cut_short(self, filled, shard):
        content = (shard / "data.mdb").read_bytes()
        (shard / "data.mdb").write_bytes(content[:-4096])
        self.refused(filled, shard, f"{len(content) - 4096} bytes where {len(content)} were written")

    @pytest.mark.parametrize("position", [0, 137, 255])
    def test_one_bit_of_one_record(self, filled, shard, position):
        flip_a_byte(shard / "data.mdb", records(shard)[position][1])
        self.refused(filled, shard, f"the checksum of seed {SHARD_SIZE + position}'s record does not match")

    def test_a_record_that_nobody_reads_is_nobody_s_trouble_and_one_is_looked_at_once(self, filled, shard, monkeypatch):
        flip_a_byte(shard / "data.mdb", records(shard)[7][1])
        looked_at, real = [], store_module._checksum
        monkeypatch.setattr(store_module, "_checksum", lambda record: (looked_at.append(1), real(record))[1])
        reader = TrajectoryReader(filled, training(0, 2 * SHARD_SIZE))
        assert looked_at == []
        for _ in range(2):
            reader.read([0, SHARD_SIZE + 6, SHARD_SIZE + 8])
            reader.close()
        assert len(looked_at) == 3

    @pytest.mark.parametrize("is_damaged", [False, True])
    def test_a_shard_of_before_with_one_checksum_for_all_is_read_whole_when_it_is_opened(
        self, filled, shard, is_damaged
    ):
        manifest = json.loads((shard / "manifest.json").read_text())
        del manifest["checksums"]
        manifest["sha256"] = hashlib.sha256(b"".join(record for _, record in records(shard))).hexdigest()
        (shard / "manifest.json").write_text(json.dumps(manifest))
        if is_damaged:
            flip_a_byte(shard / "data.mdb", records(shard)[7][1])
            with pytest.raises(InputError, match="the records' checksum does not match"):
                TrajectoryReader(filled, training(0, 2 * SHARD_SIZE))
        else:
            assert read(filled, training(0, 2 * SHARD_SIZE), [SHARD_SIZE]).seeds.tolist() == [SHARD_SIZE]

    def test_a_manifest_that_has_too_few_checksums(self, filled, shard):
        manifest = json.loads((shard / "manifest.json").read_text())
        (shard / "manifest.json").write_text(json.dumps(manifest | {"checksums": manifest["checksums"][1:]}))
        self.refused(filled, shard, "255 checksums of 256 records")

    @pytest.mark.parametrize(("name", "wrong"), [("states", torch.nan), ("features", torch.inf)])
    def test_a_number_that_is_not_finite_whatever_the_checksum_says(self, filled, shard, monkeypatch, name, wrong):
        broken = read(filled, training(SHARD_SIZE, 2 * SHARD_SIZE), range(SHARD_SIZE))
        getattr(broken, name)[7, -1].view(-1)[-1] = wrong
        shutil.rmtree(shard)
        monkeypatch.setattr(Tensor, "isfinite", lambda part: torch.ones_like(part, dtype=torch.bool))
        filled.write(training(SHARD_SIZE, 2 * SHARD_SIZE), [broken])
        monkeypatch.undo()
        self.refused(filled, shard, f"the trajectory of seed {SHARD_SIZE + 7} has a NaN or an infinity")

    @pytest.mark.parametrize("name", ["manifest.json", "data.mdb"])
    def test_a_shard_without_one_of_its_files(self, filled, shard, name):
        (shard / name).unlink()
        self.refused(filled, shard, "not a shard of trajectories")

    def test_a_manifest_that_is_not_json(self, filled, shard):
        (shard / "manifest.json").write_text("{")
        self.refused(filled, shard, "not a shard of trajectories")

    @pytest.mark.parametrize("page", [0, 1, -1])
    def test_a_broken_page_of_the_database(self, filled, shard, page):
        content = bytearray((shard / "data.mdb").read_bytes())
        for place in range(10, 24):
            content[page * 4096 % len(content) + place] ^= 0xFF
        (shard / "data.mdb").write_bytes(content)
        self.refused(filled, shard, "not readable|checksum")

    @pytest.mark.parametrize("name", ["bytes", "checksums"])
    def test_a_manifest_without_one_of_its_entries(self, filled, shard, name):
        manifest = json.loads((shard / "manifest.json").read_text())
        del manifest[name]
        (shard / "manifest.json").write_text(json.dumps(manifest))
        self.refused(filled, shard, name)

    def test_the_other_shards_stay_readable(self, filled, shard):
        shutil.rmtree(shard)
        assert read(filled, training(0, SHARD_SIZE), [5]).seeds.tolist() == [5]


class TestPrecompute:
    def test_one_process_and_three_write_the_same_records(self, tmp_path):
        wanted = [training(0, 4 * SHARD_SIZE), Seeds(Stream.validation, 0, SHARD_SIZE)]
        written = []
        for processes in (1, 3):
            store = store_of(tmp_path / str(processes))
            fill(store, *wanted, processes=processes)
            written.append(contents(store))
        assert len(written[0]) == 5
        assert written[0] == written[1]

    @pytest.mark.parametrize("processes", [1, 2])
    def test_its_files_are_those_of_one_shard_after_the_other(self, tmp_path, processes):
        wanted = training(0, 4 * SHARD_SIZE)
        plain, store = store_of(tmp_path / "plain"), store_of(tmp_path / "store")
        for shard in plain.shards(wanted):
            plain.write(shard, [roll_out(mixture(), plain.recipe, batch, CPU) for batch in shard.blocks(64)])
        fill(store, wanted, processes=processes)
        files = [
            {path.relative_to(each.folder): path.read_bytes() for path in each.folder.rglob("*") if path.is_file()}
            for each in (plain, store)
        ]
        assert len(files[0]) == 1 + 2 * 4
        assert files[0] == files[1]

    def test_a_shard_is_computed_here_and_written_by_a_thread(self, store, monkeypatch):
        threads = {}

        def noted(name, run):
            return lambda *rest: (threads.setdefault(name, set()).add(threading.current_thread()), run(*rest))[1]

        for module, name in ((precompute_module, "roll_out"), (environment, "write")):
            monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
        precompute(store, mixture(), [training(0, 2 * SHARD_SIZE)], Member(Team(1), 0), CPU)
        assert threads["roll_out"] == {threading.current_thread()}
        (writer,) = threads["write"]
        assert writer is not threading.current_thread()

    def test_a_disk_that_is_full_ends_it_and_leaves_nothing(self, store, monkeypatch):
        written, real = [], environment.write

        def full(folder, seeds, *rest):
            real(folder, seeds, *rest)
            if seeds.start:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            written.append(seeds)

        monkeypatch.setattr(environment, "write", full)
        with pytest.raises(OSError, match="No space left on device") as error:
            fill(store, training(0, 4 * SHARD_SIZE))
        assert error.value.filename == str(store.path(training(SHARD_SIZE, 2 * SHARD_SIZE)))
        assert len(written) == 1
        first = store.path(training(0, SHARD_SIZE))
        assert {path.name for path in store.folder.iterdir()} == {"recipe.json", first.name}

    def test_no_trajectory_is_computed_twice(self, store, monkeypatch):
        computed, real = [], precompute_module.roll_out
        monkeypatch.setattr(precompute_module, "roll_out", lambda *rest: (computed.append(rest[2]), real(*rest))[1])
        fill(store, training(0, 4 * SHARD_SIZE), processes=3)
        assert sorted(batch.start for batch in computed) == list(range(0, 4 * SHARD_SIZE, 64))

    def test_the_last_shard_ends_with_the_batch_that_the_range_ends_in(self, store):
        fill(store, training(SHARD_SIZE + 10, SHARD_SIZE + 70))
        assert [*contents(store)] == [store.path(training(SHARD_SIZE, SHARD_SIZE + 128)).name]

    def test_as_many_trajectories_as_are_asked_for_are_computed_and_are_those_of_a_whole_shard(self, tmp_path, filled):
        recipe, (model, calls) = replace(filled.recipe, batch_size=2), watched(mixture())
        few = TrajectoryStore(tmp_path, recipe)
        fill(few, training(0, 2), model=model)
        assert sum(calls.sizes) == 2 * 12
        mine, theirs = (read(store, training(0, 2), [0, 1]).states for store in (few, filled))
        torch.testing.assert_close(mine, theirs)

    def test_a_shard_that_is_there_whole_serves_who_needs_its_beginning(self, filled):
        model, calls = watched(mixture())
        fill(filled, training(0, 100), model=model)
        assert calls.sizes == []
        assert read(filled, training(0, 100), [99]).states.equal(read(filled, training(0, 2 * SHARD_SIZE), [99]).states)

    def test_one_that_was_cut_is_no_whole_one(self, store):
        fill(store, training(0, 64))
        fill(store, training(0, SHARD_SIZE))
        assert len(contents(store)) == 2
        assert read(store, training(0, SHARD_SIZE), [200]).seeds.tolist() == [200]

    def test_a_complete_store_is_left_alone(self, filled):
        model, calls = watched(mixture())
        fill(filled, training(0, 2 * SHARD_SIZE), model=model, processes=2)
        assert calls.sizes == []

    @pytest.mark.parametrize("processes", [1, 2])
    def test_a_resumed_run_computes_only_what_is_missing(self, filled, processes):
        before = contents(filled)
        shutil.rmtree(filled.path(training(SHARD_SIZE, 2 * SHARD_SIZE)))
        model, calls = watched(mixture())
        fill(filled, training(0, 2 * SHARD_SIZE), model=model, processes=processes)
        assert calls.sizes == [64] * (SHARD_SIZE // 64 * 12)
        assert contents(filled) == before

    def test_a_batch_size_that_does_not_divide_a_shard_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"teacher.batch_size is 100; it must divide shard_size, 256"):
            TrajectoryStore(tmp_path, recipe_for(parts_of(), teacher(batch_size=100)))
