"""Samples made on a device are those of the CPU, and no interval of them copies or waits."""

from dataclasses import replace

import pytest
import torch

from amed_lightning.amed.constants import constants_table
from amed_lightning.amed.files import save_learned
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.images import generate
from amed_lightning.sampling.parts import SamplerParts, build_sampler
from amed_lightning.sampling.sampler import sample_seeds
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.tabulated import Tabulated

from ..pretended.device import PretendedDevice
from ..pretended.places import CPU, DEVICE
from .models import random_network

pytestmark = pytest.mark.usefixtures("unchecked")

SEEDS, BATCH = Seeds(Stream.evaluation, 0, 6), 4


def sampled(config, place):
    """Return the samples of six seeds, in two batches."""
    sampler = build_sampler(config).to(place)
    return torch.cat([state.x for state in sample_seeds(sampler, SEEDS, BATCH, place, classes=[2, 0])])


def config(folder, solver, num_intervals=2):
    """All that may copy something: labels, an analytic start, a learned placer from a file, a last evaluation."""
    model, schedule = random_network(folder, label_dim=3), {"name": "discrete"}
    plain = SamplerConfig(model, {"name": solver}, schedule, num_intervals, afs=True, denoise_to_zero=True)
    parts, path = SamplerParts(plain), folder / f"predictor-{num_intervals}.json"
    torch.manual_seed(0)
    save_learned(path, AMEDPredictor(parts.model.feature_size, 0.01, 0.1), parts.purpose, {})
    placed = {"name": solver, "learned": str(path)}
    return SamplerConfig(model, placed, schedule, num_intervals, afs=True, denoise_to_zero=True)


@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_are_those_of_the_cpu_bit_for_bit_and_more_intervals_cross_no_more_often(tmp_path, solver):
    few, many = config(tmp_path, solver), config(tmp_path, solver, num_intervals=4)
    expected = sampled(few, CPU)
    with PretendedDevice() as machine:
        assert sampled(few, DEVICE).cpu().equal(expected)
        with machine.counted() as seen:
            sampled(few, DEVICE)
        with machine.counted() as seen_of_more:
            sampled(many, DEVICE)
    assert seen_of_more == seen
    assert seen.to_host == seen.waits == 0


def test_the_host_waits_once_per_micro_batch_to_learn_whether_the_images_are_finite(tmp_path):
    with PretendedDevice() as machine:
        sampler, syncs = build_sampler(config(tmp_path, "amed")).to(DEVICE), []
        for batches in (1, 2, 5):
            with machine.counted() as seen:
                for _ in generate(sampler, Seeds(Stream.evaluation, 0, batches * BATCH), BATCH, DEVICE):
                    pass
            syncs.append(seen.syncs)
            assert seen.to_host == 0
    assert syncs == [1, 2, 5]


def steps(folder, kind):
    """A sampler of a kind, on a network of random weights with classes."""
    plain = config(folder, "amed")
    if kind == "predictor":
        return plain
    if kind == "guided":
        return replace(plain, model={"name": "guided", "of": plain.model, "scale": 2.0}, solver={"name": "euler"})
    if kind == "bfloat16":
        return replace(plain, solver={"name": "euler"}, arithmetic=Arithmetic(precision="bfloat16"))
    parts, path = SamplerParts(replace(plain, solver={"name": "amed"})), folder / "constants.json"
    numbers = torch.tensor([[0.4, 1.01, 0.0], [0.6, 0.99, 0.01]])
    table = constants_table(parts.solver(FixedPlacement(0.5)), parts.sigmas, True, numbers)
    save_learned(path, Tabulated(table, "constants"), parts.purpose, {})
    return replace(plain, solver={"name": "amed", "learned": str(path)})


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("kind", "tolerance"), [("predictor", 1e-2), ("constants", 1e-2), ("guided", 1e-2), ("bfloat16", 0.1)]
)
def test_a_device_gives_the_same_samples_to_tolerance(tmp_path, device, kind, tolerance):
    here = sampled(steps(tmp_path, kind), CPU)
    there = sampled(steps(tmp_path, kind), device)
    assert there.is_cuda
    assert float((there.cpu() - here).norm() / here.norm()) < tolerance


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="nothing is compiled for a pretended device")
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("compiled", [True, "sampler"])
def test_what_is_compiled_gives_the_same_samples_to_tolerance(tmp_path, compiled):
    plain = replace(config(tmp_path, "amed"), solver={"name": "euler"})
    here = sampled(plain, CPU)
    there = sampled(replace(plain, arithmetic=Arithmetic(compile=compiled)), DEVICE)
    assert float((there.cpu() - here).norm() / here.norm()) < 1e-2
