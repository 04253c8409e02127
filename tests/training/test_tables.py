"""The route without the network says what the routes with it say."""

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.teacher.trajectories import roll_out
from amed_lightning.training.order import Batches

from ..teacher.stores import CPU, Member, Team
from .runs import INTERVALS, ROWS, distillation, disturb, prepared

pytestmark = pytest.mark.usefixtures("unchecked")


def trajectories_of(module, data, seeds):
    return roll_out(module.parts.model, data.store(module.parts).recipe, seeds, CPU)


def examples(module, data, seeds):
    """The batches of an epoch: all rows in order."""
    return module.route.loader(module.student, data, seeds, Batches(ROWS, ROWS, Member(Team(1), 0), None))


@pytest.mark.parametrize(("name", "scale_time"), [("amed", 0.05), ("heun", 0.0), ("euler", 0.0)])
def test_its_losses_and_gradients_are_those_of_the_network_route(tmp_path, name, scale_time):
    module, data = prepared(tmp_path, solver={"name": name}, afs=True, scale_time=scale_time)
    network = distillation(tmp_path, solver={"name": name}, afs=True, scale_time=scale_time)
    disturb(module.predictor, 1)
    network.predictor.load_state_dict(module.predictor.state_dict())
    (batch,) = examples(module, data, data.train_seeds)
    teacher = trajectories_of(module, data, data.train_seeds)
    pairs = zip(*(list(each.intervals(part)) for each, part in ((module, batch), (network, teacher))), strict=True)
    for number, (one, other) in enumerate(pairs, start=1):
        assert one.number == other.number == number
        torch.testing.assert_close(one.place.ratio, other.place.ratio, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one.losses.float(), other.losses.float(), rtol=2e-2, atol=1e-4)
        for interval in (one, other):
            interval.losses.mean().backward()
        gradients = [torch.cat([w.grad.flatten() for w in each.predictor.parameters()]) for each in (module, network)]
        assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 0.05
    assert number == INTERVALS


def test_training_and_validation_have_tables_of_their_own(tmp_path):
    module, data = prepared(tmp_path)
    for seeds in (data.train_seeds, data.val_seeds):
        (batch,) = examples(module, data, seeds)
        teacher = trajectories_of(module, data, seeds)
        for number, table in enumerate(batch.intervals):
            torch.testing.assert_close(table.features, teacher.features[:, number], rtol=1e-4, atol=1e-5)


def test_options_out_of_range_are_refused(tmp_path):
    for options, message in (
        ({"ratio_range": (0.7, 0.2)}, "ratio_range 0.7 to 0.2 does not lie in order between 0 and 1"),
        ({"ratio_range": (0.0, 1.1)}, "ratio_range 0.0 to 1.1 does not lie"),
        ({"stage_epochs": 0}, "stage_epochs is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"most_nodes": 0}, "most_nodes is 0; it must be at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            distillation(tmp_path, route={"name": "table"} | options)
