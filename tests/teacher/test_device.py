"""What is computed of a teacher on a device is what the CPU computes."""

from dataclasses import replace

import pytest
import torch

from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.teacher.search import search
from amed_lightning.teacher.trajectories import TeacherConfig, recipe_for, roll_out
from amed_lightning.teacher.wanted import ScheduleSearch

from ..pretended.device import PretendedDevice
from ..pretended.places import CPU, DEVICE
from ..sampling.models import random_network

pytestmark = pytest.mark.usefixtures("unchecked")

POLYNOMIAL = {"name": "polynomial"}


class Alone:
    global_rank, world_size = 0, 1

    def broadcast(self, obj, src=0):
        return obj


def parts(folder, num_intervals):
    model = random_network(folder, label_dim=3)
    return SamplerParts(SamplerConfig(model, {"name": "amed"}, POLYNOMIAL, num_intervals, afs=True))


def rolled_out(parts, solver, place, afs):
    recipe = recipe_for(parts, TeacherConfig({"name": solver}, 1, 4, afs))
    return roll_out(parts.model.to(place), recipe, Seeds(Stream.training, 0, 4), place)


@pytest.mark.parametrize("afs", [False, True], ids=["evaluated start", "analytic start"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_roll_out_is_that_of_the_cpu_bit_for_bit_and_its_levels_cost_no_copy(tmp_path, solver, afs):
    few, many = parts(tmp_path, 2), parts(tmp_path, 4)
    expected = rolled_out(few, solver, CPU, afs)
    with PretendedDevice() as machine:
        for name in ("states", "derivatives", "features", "condition"):
            there = getattr(rolled_out(few, solver, DEVICE, afs), name)
            assert there.is_cpu
            assert there.equal(getattr(expected, name))
        rolled_out(many, solver, DEVICE, afs)
        seen = []
        for each in (few, many):
            with machine.counted() as crossed:
                rolled_out(each, solver, DEVICE, afs)
            seen.append(crossed)
    assert seen[0] == seen[1]
    assert (seen[0].to_host, seen[0].waits) == (3, 0)


@pytest.mark.parametrize("metric", ["l2", "dev"])
def test_a_search_finds_the_levels_that_it_finds_on_the_cpu(tmp_path, metric):
    model = random_network(tmp_path)
    plain = ScheduleSearch(model, {"name": "amed"}, 2, tmp_path / "cpu.json", True, fine_intervals=8)
    plain = replace(plain, trajectories=8, batch_size=8, metric=metric, root=tmp_path / "cpu")
    expected = search(plain, Alone(), CPU)
    with PretendedDevice():
        found = search(replace(plain, output=tmp_path / "there.json", root=tmp_path / "there"), Alone(), DEVICE)
    assert found == expected
    assert (tmp_path / "there.json").read_bytes() == (tmp_path / "cpu.json").read_bytes()
    assert torch.tensor(found).diff().lt(0).all()
