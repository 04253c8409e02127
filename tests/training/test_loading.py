"""In memory or read ahead: a training sees the same numbers, and what fits is read once."""

import threading

import pytest
import torch
from torch.utils.data import BatchSampler, Dataset

from amed_lightning.config import InputError
from amed_lightning.teacher.store import TrajectoryReader, TrajectoryStore
from amed_lightning.teacher.trajectories import SHARD_SIZE, TeacherConfig, recipe_for, roll_out
from amed_lightning.training import loading
from amed_lightning.training.loading import InMemory, ReadAhead, Streamed, loader_for, place_for

from ..sampling.models import mixture
from ..teacher.stores import CPU, fill, parts_of, teacher, training
from .runs import distillation, trainer, trajectories

FIELDS = ("states", "derivatives", "features", "seeds")


@pytest.fixture(params=["student's own store", "dense store", "half precision"])
def reader(tmp_path, request):
    """Three hundred trajectories out of two shards."""
    kinds = {
        "student's own store": {},
        "dense store": {"schedule": {"name": "polynomial"}, "num_intervals": 8},
        "half precision": {"dtype": "float16"},
    }
    parts = parts_of(schedule={"name": "logsnr"})
    store = TrajectoryStore(tmp_path, recipe_for(parts, teacher(**kinds[request.param])))
    fill(store, training(0, 2 * SHARD_SIZE))
    reader = TrajectoryReader(store, training(100, 400), parts.sigmas)
    yield reader
    reader.close()


def same(one, other):
    return all(getattr(one, name).equal(getattr(other, name)) for name in FIELDS)


class TestNumbers:
    POSITIONS = ([7, 299, 0, 156], [155, 157, 1, 2])

    def test_what_is_in_memory_is_what_the_store_says(self, reader):
        dataset = InMemory(reader, CPU)
        for indices in self.POSITIONS:
            assert same(dataset[indices], reader.read(indices))

    def test_what_is_read_ahead_is_what_the_store_says(self, reader):
        loader = ReadAhead(Streamed(reader), batch_size=None, sampler=self.POSITIONS)
        assert len(loader) == 2
        for _ in range(2):
            for indices, batch in zip(self.POSITIONS, loader, strict=True):
                assert same(batch, reader.read(indices))

    def test_memory_holds_a_row_per_trajectory_and_no_open_file(self, reader):
        dataset = InMemory(reader, CPU)
        assert dataset.rows.shape == (300, reader.view.row_bytes)
        assert not reader._records.shards


class Watched(Dataset):
    """Numbers; which were asked for, and by which thread."""

    def __init__(self):
        self.asked, self.threads, self.arrived = [], set(), threading.Semaphore(0)

    def __getitem__(self, indices):
        self.asked.append(indices)
        self.threads.add(threading.get_ident())
        self.arrived.release()
        if indices == [13]:
            raise InputError("no such record")
        return indices[0]


class TestReadAhead:
    def loader(self, *numbers):
        return ReadAhead(Watched(), batch_size=None, sampler=[[number] for number in numbers])

    def test_the_next_batch_is_read_while_one_is_used_and_no_further(self):
        loader = self.loader(5, 6, 7, 8)
        batches = iter(loader)
        assert next(batches) == 5
        for _ in range(2):
            assert loader.dataset.arrived.acquire(timeout=30)
        assert loader.dataset.asked == [[5], [6]]
        assert list(batches) == [6, 7, 8]
        assert threading.get_ident() not in loader.dataset.threads

    def test_an_epoch_that_is_left_early_leaves_no_thread_behind(self):
        before = threading.active_count()
        batches = iter(self.loader(5, 6, 7))
        next(batches)
        assert threading.active_count() == before + 1
        batches.close()
        assert threading.active_count() == before

    def test_an_error_of_the_thread_reaches_the_training(self):
        batches = iter(self.loader(5, 13, 7))
        assert next(batches) == 5
        with pytest.raises(InputError, match="no such record"):
            next(batches)


class TestPlace:
    """Where a thousand bytes stay."""

    @pytest.fixture
    def choose(self, monkeypatch):
        def chosen(free, share=0.5, sharing=1, device="cpu"):
            monkeypatch.setattr(loading, "free_memory", lambda place: free[place.type])
            place = place_for(1000, torch.device(device), share, sharing)
            return None if place is None else place.type

        return chosen

    def test_half_of_what_is_free_is_taken_and_no_more(self, choose):
        assert choose({"cpu": 2000}) == "cpu"
        assert choose({"cpu": 1999}) is None

    def test_the_device_comes_before_the_machine(self, choose):
        assert choose({"cpu": 0, "cuda": 2000}, device="cuda") == "cuda"
        assert choose({"cpu": 2000, "cuda": 1999}, device="cuda") == "cpu"
        assert choose({"cpu": 1999, "cuda": 1999}, device="cuda") is None

    def test_processes_divide_the_machines_memory_but_not_their_devices(self, choose):
        assert choose({"cpu": 8000}, sharing=4) == "cpu"
        assert choose({"cpu": 7999}, sharing=4) is None
        assert choose({"cpu": 0, "cuda": 2000}, sharing=4, device="cuda") == "cuda"

    def test_a_share_of_nothing_streams(self, choose):
        assert choose({"cpu": 2**40}, share=0.0) is None


class TestTraining:
    def fitted(self, folder, **changes):
        module, data = distillation(folder), trajectories(folder, **changes)
        torch.manual_seed(0)
        trainer(folder, max_epochs=2).fit(module, data)
        return module.predictor.state_dict()

    def test_it_learns_the_same_from_memory_and_from_the_stream(self, tmp_path, monkeypatch):
        kinds, real = [], loading.Streamed.__init__
        monkeypatch.setattr(
            loading.Streamed, "__init__", lambda self, reader: (kinds.append(len(reader)), real(self, reader))[1]
        )
        torch.manual_seed(0)
        in_memory = self.fitted(tmp_path)
        assert kinds == []
        torch.manual_seed(0)
        streamed = self.fitted(tmp_path, memory_share=0.0)
        assert len(kinds) == 2, "training and validation"
        assert in_memory.keys() == streamed.keys()
        assert all(in_memory[name].equal(streamed[name]) for name in in_memory)

    def test_nothing_asks_for_workers_that_memory_does_not_need(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
        self.fitted(tmp_path)

    def test_students_of_several_grids_learn_from_one_dense_store(self, tmp_path):
        dense = TeacherConfig({"name": "heun"}, 0, 64, schedule={"name": "polynomial"}, num_intervals=20)
        for schedule, intervals in (("polynomial", 4), ("time_uniform", 3)):
            student = {"schedule": {"name": schedule}, "num_intervals": intervals}
            module, data = distillation(tmp_path, **student), trajectories(tmp_path, teacher=dense)
            trainer(tmp_path).fit(module, data)
            for seeds in (data.train_seeds, data.val_seeds):
                batch = TrajectoryReader(data.store(module.parts), seeds, module.parts.sigmas).read([0, 1])
                assert (batch.states.shape[1], batch.derivatives.shape[1]) == (intervals + 1, intervals)
        assert len(list((tmp_path / "store").iterdir())) == 1

    @pytest.mark.parametrize("share", [-0.1, 1.5])
    def test_a_share_that_is_none_is_refused(self, tmp_path, share):
        with pytest.raises(InputError, match=f"data.memory_share is {share}; it must lie between 0 and 1"):
            trajectories(tmp_path, memory_share=share)


@pytest.mark.gpu
class TestDevice:
    def test_batches_are_made_on_the_device_from_the_same_numbers(self, reader, device):
        (batch,) = loader_for(reader, BatchSampler([7, 299, 0], 3, drop_last=False), device, 0.5, 1)
        expected = reader.read([7, 299, 0])
        for name in FIELDS[:3]:
            there = getattr(batch, name)
            assert there.device.type == "cuda"
            torch.testing.assert_close(there.cpu(), getattr(expected, name), rtol=1e-6, atol=0)
        assert batch.to(device).states is batch.states

    def test_a_roll_out_is_that_of_the_cpu_to_tolerance(self, device):
        there, here = (
            roll_out(mixture(), recipe_for(parts_of(), teacher()), training(0, 64), place) for place in (device, CPU)
        )
        assert there.states.device.type == "cpu"
        for name in FIELDS[:3]:
            torch.testing.assert_close(getattr(there, name), getattr(here, name), rtol=1e-4, atol=1e-4)

    def test_a_fit_that_streams_learns_what_a_fit_from_device_memory_learns(self, tmp_path, device):
        learned = []
        for share in (0.5, 0.0):
            torch.manual_seed(0)
            module = distillation(tmp_path)
            trainer(tmp_path, accelerator=device.type, devices=1).fit(
                module, trajectories(tmp_path, memory_share=share)
            )
            learned.append({name: weights.cpu() for name, weights in module.predictor.state_dict().items()})
        for name, weights in learned[0].items():
            torch.testing.assert_close(weights, learned[1][name])
