"""A loader's place: which batches of which epoch were handed out, whoever reads ahead."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from amed_lightning.training.images import RandomSampler
from amed_lightning.training.loading import ReadAhead
from amed_lightning.training.order import Batches
from amed_lightning.training.resuming import Resumable, ResumableSampler

from ..teacher.stores import Member, Team

SIZE, BATCH = 24, 4


def loader(kind=DataLoader, order=None, **options):
    order = order or Batches(SIZE, BATCH, Member(Team(1), 0), 5)
    dataset = TensorDataset(torch.arange(SIZE))
    return Resumable(kind(dataset, batch_size=None, sampler=ResumableSampler(order), **options))


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return [batch[0].tolist() for batch in loader]


@pytest.mark.parametrize(("kind", "options"), [(DataLoader, {}), (ReadAhead, {}), (DataLoader, {"num_workers": 2})])
def test_it_goes_on_after_what_was_handed_out_and_the_next_epoch_is_whole(kind, options):
    first = loader(kind, **options)
    whole = [epoch(first, number) for number in (0, 1, 2)]
    first.sampler.set_epoch(1)
    batches = iter(first)
    taken = [next(batches)[0].tolist() for _ in range(2)]
    state = first.state_dict()
    batches.close()
    assert state == {"epoch": 1, "taken": 2}
    second = loader(kind, **options)
    second.load_state_dict(state)
    assert taken + epoch(second, 1) == whole[1]
    assert epoch(second, 2) == whole[2]
    assert len(second) == len(whole[0]) == SIZE // BATCH


def test_a_place_counts_from_the_epochs_beginning_also_after_a_restart():
    again = loader()
    again.load_state_dict({"epoch": 0, "taken": 2})
    batches = iter(again)
    next(batches)
    assert again.state_dict() == {"epoch": 0, "taken": 3}


class TestDraws:
    def draws(self, *seeds, number=0):
        order = RandomSampler(SIZE, BATCH, 6, *seeds)
        order.set_epoch(number)
        return list(order)

    def test_they_are_a_function_of_seed_process_and_epoch(self):
        torch.manual_seed(1)
        first = self.draws(3, 0, number=2)
        torch.manual_seed(2)
        assert self.draws(3, 0, number=2) == first
        others = (self.draws(4, 0, number=2), self.draws(3, 1, number=2), self.draws(3, 0, number=1))
        assert all(first != other for other in others)

    def test_they_reach_every_sample_and_repeat_some(self):
        drawn = torch.tensor([self.draws(0, 0, number=number) for number in range(20)]).flatten()
        assert set(drawn.tolist()) == set(range(SIZE))
        assert drawn.bincount().max() > 20
