"""What a predictor must beat: constants and coefficients, as their files sample and as the log says they do."""

import json
import math

import pytest
import torch

from amed_lightning.amed.files import load_predictor
from amed_lightning.teacher.trajectories import roll_out
from amed_lightning.training import baselines
from amed_lightning.training.arrivals import through_network
from amed_lightning.training.student import Student

from ..teacher.stores import CPU
from .runs import INTERVALS, ROWS, distillation, prepared, trainer, trajectories

TABLE = {"name": "table", "warm_start": False}
FEW = {"trajectories": ROWS, "validation_trajectories": ROWS, "batch_size": ROWS}


def fitted(folder, **changes):
    """A distillation by tables after its first batch, its data and its trainer."""
    module, data = distillation(folder, route=TABLE, scale_time=0.0, **changes), trajectories(folder, **FEW)
    run = trainer(folder)
    run.fit(module, data)
    return module, data, run


@pytest.mark.parametrize(("name", "kinds"), [("dpm_solver_2", ["constants", "coefficients"]), ("euler", ["constants"])])
def test_their_files_sample_with_the_losses_that_were_logged(tmp_path, name, kinds):
    module, data, run = fitted(tmp_path, solver={"name": name}, afs=True)
    assert {path.stem for path in tmp_path.glob("c*.json")} == set(kinds)
    teacher = roll_out(module.parts.model, data.store(module.parts).recipe, data.val_seeds, CPU)
    for kind in kinds:
        path = tmp_path / f"{kind}.json"
        placer = load_predictor(path, module.parts.purpose, kind)
        student = Student(module.parts, placer)
        losses = [float(interval.losses.mean()) for interval, _ in student.intervals(teacher, through_network)]
        said = json.loads(path.read_text())["training"]["val_losses"]
        assert said == pytest.approx(losses, rel=0.02, abs=1e-6)
        assert float(run.callback_metrics[f"val/{kind}"]) == pytest.approx(math.prod(said) ** (1 / INTERVALS))


def test_a_multistep_student_has_none(tmp_path):
    *_, run = fitted(tmp_path, solver={"name": "ipndm"})
    assert not list(tmp_path.glob("c*.json"))
    assert not {"val/constants", "val/coefficients"} & run.callback_metrics.keys()


class TestWarmStart:
    def begun(self, folder, **changes):
        """Begin a fit, as the trainer does, and return how far its ratios then are from the constants'."""
        module, _ = prepared(folder, **changes)
        (callback,) = module.configure_callbacks()
        run = trainer(folder)
        callback.on_train_start(run, module)
        tables = module.route.tables[next(iter(module.route.tables))]
        constants = baselines.fit_constants(module.student.solver, tables)
        ends = [(table.start, table.sigmas[0], table.sigmas[1]) for table in tables]
        with torch.no_grad():
            return [float((module.predictor(*each).ratio - constants(*each).ratio).abs().max()) for each in ends]

    def test_a_fit_begins_at_the_constants_unless_it_is_told_otherwise(self, tmp_path):
        warm, cold = (self.begun(tmp_path, route={"warm_start": start}) for start in (True, False))
        assert max(warm) < 0.05
        assert max(cold) > 0.2
        assert len(warm) == INTERVALS

    def test_a_fit_that_goes_on_does_not(self, tmp_path, monkeypatch):
        monkeypatch.setattr("lightning.pytorch.Trainer.global_step", 12)
        assert max(self.begun(tmp_path)) > 0.2
