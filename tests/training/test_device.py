"""A fit on a device learns what it learns on the CPU, and its steps cross between the two as little as they must."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from amed_lightning.teacher.trajectories import TeacherConfig
from amed_lightning.training import constants, record
from amed_lightning.training.classifier import ClassifierTraining
from amed_lightning.training.denoiser import DenoiserTraining

from ..pretended.device import PretendedDevice
from ..pretended.places import DEVICE
from ..sampling.models import random_network
from . import test_images
from .runs import distillation, trainer, trajectories

pytestmark = pytest.mark.usefixtures("unchecked")

INTERVALS = 2
TABLE = {"name": "table", "agreement": 100.0, "stage_epochs": 1}
WATCHED = {"model": {"name": "watched"}}
FITS = {
    # name: route, solver, further options; second order divides by the ratio, which wild features bring to 0
    "network": ({"name": "network"}, "amed", {"scale_time": 0.1}),
    "plugin by network": ({"name": "network"}, "dpm_solver_pp", {"jointly": True}),
    "differences": ({"name": "differences"}, "heun", {}),
    "table of AMED-Solver": (TABLE, "amed", {}),
    "table of DPM-Solver-2": (TABLE, "dpm_solver_2", {"jointly": True, "loss": "published"} | WATCHED),
    "table of Heun": (TABLE, "heun", WATCHED),
    "stages": (TABLE, "ipndm", {}),
}
SYNCS = {
    # name: how often the host waits in a batch; the gradient is looked at before every optimiser step
    "network": INTERVALS,
    "plugin by network": INTERVALS,
    # which of four queries an interval's first has been already is a comparison of numbers
    "differences": 5 * INTERVALS,
    "table of AMED-Solver": INTERVALS,
    "stages": INTERVALS,
}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """A warm start of a few steps."""
    monkeypatch.setattr(constants, "APPROACH_STEPS", 3)


class Crossings(pl.Callback):
    """What crosses in each training batch."""

    def __init__(self, machine):
        self.machine, self.seen = machine, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.block = self.machine.counted()
        self.seen.append(self.block.__enter__())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.block.__exit__(None, None, None)


def fitted(folder, accelerator, route, solver, options, callbacks=(), epochs=INTERVALS, **resumed):
    """Fit on two batches an epoch; everything goes into the folder."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    plain = {
        "model": random_network(folder.parent),
        "solver": {"name": solver},
        "num_intervals": INTERVALS,
        "afs": True,
    }
    module = distillation(folder, route=route, **({"scale_time": 0.0} | plain | options))
    teacher = TeacherConfig({"name": "heun"}, 1, 32)
    data = trajectories(folder, teacher=teacher, trajectories=32, validation_trajectories=16, batch_size=16)
    run = trainer(folder, accelerator=accelerator, devices=1, max_epochs=epochs, callbacks=list(callbacks))
    run.fit(module, data, **resumed)
    return module, run


def assert_same(there, here):
    """A stage that has not begun has a size that is no number."""
    for name, value in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


def written(folder):
    """Predictors, constants, trajectories and tables, by their names."""
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json", ".mdb")]
    files = [path for path in files if not path.name.endswith(record.ENDING)]  # it tells the seconds
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_writes_the_bytes_of_the_cpu_and_its_steps_cross_no_more_often_than_they_must(tmp_path, name):
    route, solver, options = FITS[name]
    here, _ = fitted(tmp_path / "cpu", "cpu", route, solver, options)
    with PretendedDevice() as machine:
        crossings = Crossings(machine)
        there, _ = fitted(tmp_path / "there", "cuda", route, solver, options, [crossings])
    assert_same(there, here)
    files = written(tmp_path / "cpu")
    assert written(tmp_path / "there") == files
    names = {path.name for path in files}
    assert {"predictor.json", "data.mdb"} <= names
    assert any(path.parent.name == "tables" for path in files) == (route == TABLE)
    assert ("constants.json" in names) == (route == TABLE and not here.student.is_multistep)
    last = crossings.seen[-1]  # in the first batches of a stage, what is logged gets its place on the device
    assert last.syncs == SYNCS.get(name, last.syncs)


def test_a_fit_goes_on_from_a_checkpoint_that_was_written_there(tmp_path):
    with PretendedDevice():
        whole, _ = fitted(tmp_path / "whole", "cuda", *FITS["stages"])
        _, half = fitted(tmp_path / "halves", "cuda", *FITS["stages"], epochs=1)
        half.save_checkpoint(tmp_path / "half.ckpt")
        resumed, _ = fitted(tmp_path / "halves", "cuda", *FITS["stages"], ckpt_path=tmp_path / "half.ckpt")
    assert_same(resumed, whole)
    assert written(tmp_path / "halves") == written(tmp_path / "whole")


def trained(folder, accelerator, make, callbacks):
    folder.mkdir()
    torch.manual_seed(0)
    module = make(folder)
    run = trainer(folder, accelerator=accelerator, devices=1, callbacks=callbacks, limit_val_batches=1)
    run.fit(module, test_images.data(steps_per_epoch=4))
    return module


@pytest.mark.parametrize("averages", [False, True], ids=["plain", "averaged"])
@pytest.mark.parametrize(
    "make",
    [
        lambda folder: DenoiserTraining(test_images.CARD),
        lambda folder: ClassifierTraining(test_images.DIGITS),
    ],
    ids=["denoiser", "classifier"],
)
def test_a_network_is_trained_to_the_same_weights(tmp_path, make, averages):
    def callbacks():
        return [EMAWeightAveraging(decay=0.9)] if averages else []

    here = trained(tmp_path / "cpu", "cpu", make, callbacks())
    with PretendedDevice():
        there = trained(tmp_path / "there", "cuda", make, callbacks())
    assert_same(there, here)
    assert written(tmp_path / "there") == written(tmp_path / "cpu")


real = pytest.mark.skipif(not torch.cuda.is_available(), reason="the pretended device has the bits of the CPU, above")


@pytest.mark.gpu
@real
@pytest.mark.parametrize("name", ["network", "differences", "table of AMED-Solver", "table of Heun"])
def test_on_a_device_a_fit_learns_what_it_learns_on_the_cpu_to_tolerance(tmp_path, name):
    (here, _), (there, _) = (fitted(tmp_path / place, place, *FITS[name]) for place in ("cpu", "cuda"))
    there_weights, weights = (
        torch.cat([each.detach().cpu().flatten() for each in module.predictor.parameters()]) for module in (there, here)
    )
    assert float((there_weights - weights).norm() / weights.norm()) < 0.05


@pytest.mark.gpu
@real
def test_a_group_of_one_process_on_nccl_gives_back_what_it_is_given(tmp_path):
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        sums, objects = torch.arange(3.0, device=DEVICE), [{"seeds": 3}]
        torch.distributed.all_reduce(sums)
        torch.distributed.broadcast_object_list(objects, src=0)
        assert sums.tolist() == [0.0, 1.0, 2.0]
        assert objects == [{"seeds": 3}]
    finally:
        torch.distributed.destroy_process_group()
