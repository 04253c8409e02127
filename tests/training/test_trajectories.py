"""Which trajectories form a batch is arithmetic: seed, epoch and position, and nothing else."""

from itertools import chain
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.training.order import Batches

from ..teacher.stores import Member, Team
from .runs import BATCH, distillation, trainer, trajectories

SIZE = 48


def batches(rank=0, world_size=1, seed=0, epoch=0, batch_size=12):
    sampler = Batches(SIZE, batch_size, Member(Team(world_size), rank), seed)
    sampler.set_epoch(epoch)
    return list(sampler)


class TestBatches:
    def test_they_are_a_function_of_seed_and_epoch_alone(self):
        torch.manual_seed(1)
        first = batches(seed=3, epoch=5)
        torch.manual_seed(2)
        before = torch.get_rng_state()
        assert batches(seed=3, epoch=5) == first
        assert torch.get_rng_state().equal(before)

    def test_another_seed_or_epoch_is_another_order(self):
        orders = {str(batches(seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1)}
        assert len(orders) == 4

    @pytest.mark.parametrize("epoch", [0, 1, 7])
    def test_an_epoch_visits_every_trajectory_once(self, epoch):
        drawn = batches(epoch=epoch)
        assert sorted(chain.from_iterable(drawn)) == list(range(SIZE))
        assert [len(batch) for batch in drawn] == [12] * 4

    @pytest.mark.parametrize("world_size", [2, 3, 4])
    def test_the_processes_share_out_each_batch_of_one_process(self, world_size):
        shares = [batches(rank, world_size, epoch=2) for rank in range(world_size)]
        for whole, *parts in zip(batches(epoch=2), *shares, strict=True):
            assert {len(part) for part in parts} == {12 // world_size}
            assert sorted(chain.from_iterable(parts)) == sorted(whole)

    def test_without_a_seed_they_are_in_order_in_every_epoch(self):
        in_order = torch.arange(SIZE).reshape(4, 12).tolist()
        assert batches(seed=None, epoch=0) == batches(seed=None, epoch=3) == in_order

    def test_there_are_as_many_as_it_says(self):
        assert len(Batches(SIZE, 12, Member(Team(3), 1), 0)) == len(batches(1, 3)) == 4


class TestTeacherTrajectories:
    def test_the_trainer_turns_the_epochs_and_training_never_sees_a_validation_seed(self, tmp_path):
        seen = {}

        class Watch(pl.Callback):
            def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
                seen.setdefault(trainer.current_epoch, []).append(batch)

            def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
                seen.setdefault("validation", []).append(batch)

        run = trainer(tmp_path, max_epochs=2, callbacks=[Watch()])
        run.fit(distillation(tmp_path), trajectories(tmp_path, seed=4))
        for epoch in (0, 1):
            order = Batches(4 * BATCH, BATCH, Member(Team(1), 0), 4)
            order.set_epoch(epoch)
            assert [batch.seeds.tolist() for batch in seen[epoch]] == list(order)
        validated = torch.cat([batch.seeds for batch in seen["validation"]])
        assert validated.tolist() == 2 * list(range(2 * BATCH))
        trained = torch.cat([batch.states[:, 0] for batch in seen[0]]).flatten(1)
        held_out = torch.cat([batch.states[:, 0] for batch in seen["validation"]]).flatten(1)
        assert torch.cdist(trained, held_out).min() > 1

    @pytest.mark.parametrize("name", ["trajectories", "validation_trajectories"])
    @pytest.mark.parametrize("number", [0, BATCH - 1, BATCH + 1])
    def test_a_number_that_is_no_multiple_of_the_batch_is_refused(self, tmp_path, name, number):
        with pytest.raises(
            InputError, match=f"data.{name} is {number}; it must be a multiple of data.batch_size, {BATCH}"
        ):
            trajectories(tmp_path, **{name: number})

    def test_processes_that_do_not_divide_the_batch_are_refused(self, tmp_path):
        data = trajectories(tmp_path)
        data.trainer = SimpleNamespace(world_size=3)
        with pytest.raises(InputError, match=f"data.batch_size is {BATCH}; 3 processes do not divide it"):
            data.setup("fit")
