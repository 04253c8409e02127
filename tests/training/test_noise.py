"""What a training step draws is a function of seed, epoch, position and process."""

from itertools import product

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from amed_lightning.training.seeding import NoiseByBatch

from .runs import trainer


class Elsewhere(pl.Trainer):
    """A trainer of a process of another rank, in some epoch."""

    current_epoch, global_rank = 0, 0


def drawn(epoch=0, batch=0, rank=0):
    place = Elsewhere(accelerator="cpu", logger=False, enable_checkpointing=False)
    place.current_epoch, place.global_rank = epoch, rank
    NoiseByBatch().on_train_batch_start(place, pl.LightningModule(), None, batch)
    return torch.randn(4)


def test_it_is_drawn_again_whatever_was_drawn_before(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    torch.manual_seed(1)
    first = drawn(2, 5, 1)
    torch.manual_seed(2)
    assert drawn(2, 5, 1).equal(first)


def test_each_seed_epoch_batch_and_process_has_noise_of_its_own(monkeypatch):
    places, seen = list(product((0, 1), repeat=3)), set()
    for seed in ("0", "1"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        seen |= {tuple(drawn(*place).tolist()) for place in places}
    assert len(seen) == 2 * len(places)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_trainer_seeds_every_batch_of_every_epoch(tmp_path):
    noise = []

    class RandomSampler(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def training_step(self, batch, batch_idx):
            noise.append(torch.randn(4))
            return self.weight.square()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    run = trainer(tmp_path, max_epochs=2, callbacks=[NoiseByBatch()])
    run.fit(RandomSampler(), DataLoader(torch.arange(3), batch_size=1))
    expected = [drawn(epoch, batch) for epoch, batch in product((0, 1), (0, 1, 2))]
    assert torch.stack(noise).equal(torch.stack(expected))
