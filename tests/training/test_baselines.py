"""What a predictor must beat: constants and coefficients, as their files sample and as the log says they do."""

import json
import math

import pytest
import torch

from amed_lightning.amed.constants import constants_table
from amed_lightning.amed.files import load_learned
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.tabulated import Tabulated
from amed_lightning.teacher.trajectories import roll_out
from amed_lightning.tensors import squared_distance
from amed_lightning.training import baselines

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
    train, _ = module.route.tables.values()
    for kind in kinds:
        numbers = getattr(baselines, f"fit_{kind}")(module.student.solver, train)
        said = json.loads((tmp_path / f"{kind}.json").read_text())["training"]["val_losses"]
        assert said == pytest.approx(list(losses(module.student, teacher, numbers)), rel=0.02, abs=1e-6)
        assert float(run.callback_metrics[f"val/{kind}"]) == pytest.approx(math.prod(said) ** (1 / INTERVALS))
        table = constants_table(module.student.solver, module.parts.sigmas, True, numbers)
        read = load_learned(tmp_path / f"{kind}.json", module.parts.purpose)
        torch.testing.assert_close(read.state_dict(), Tabulated(table).state_dict(), rtol=0, atol=0)
        assert read.form == kind


def losses(student, teacher, numbers):
    """Mean squared distances to the teacher, every interval begun at its state and placed by its numbers."""
    flow = ProbabilityFlow(student.parts.model.denoiser, teacher.condition)
    for index, (ratio, direction, first) in enumerate(numbers.tolist()):
        begun = student.start(teacher, index)
        sigma_next = student.parts.sigmas[index + 1]
        end = student.solver.step_at(flow, begun, sigma_next, Placement(ratio, direction)).x
        end = end + first * (sigma_next - begun.sigma) * begun.known.derivative
        yield float(squared_distance(end, teacher.states[:, index + 1]).mean())


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
            ratios = [module.predictor(*each).ratio for each in ends]
        return [float((own - goal).abs().max()) for own, goal in zip(ratios, constants[:, 0], strict=True)]

    def test_a_fit_begins_at_the_constants_unless_it_is_told_otherwise(self, tmp_path):
        warm, cold = (self.begun(tmp_path, route={"warm_start": start}) for start in (True, False))
        assert max(warm) < 0.05
        assert max(cold) > 0.2
        assert len(warm) == INTERVALS

    def test_a_fit_that_goes_on_does_not(self, tmp_path, monkeypatch):
        monkeypatch.setattr("lightning.pytorch.Trainer.global_step", 12)
        assert max(self.begun(tmp_path)) > 0.2
