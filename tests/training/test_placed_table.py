"""A predictor on top of a table: what its scales do, its file, and a fit."""

import json

import pytest
import torch

from amed_lightning.amed.files import form_of, load_learned, save_learned
from amed_lightning.amed.placed_table import PredictedTable
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import InputError
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Polynomial, levels
from amed_lightning.sampling.parts import SamplerParts, build_sampler
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve
from amed_lightning.solvers.tabulated import PlacedTable, Tabulated, table_of
from amed_lightning.teacher.trajectories import TeacherConfig, roll_out
from amed_lightning.tensors import squared_distance

from ..solvers.problems import RANGE, Watched, mixture, start
from .runs import distillation, student, trainer, trajectories

SIGMAS = levels(Polynomial(), 3, RANGE)
TABLE = Tabulated(table_of(SOLVERS["ipndm"](order=3), SIGMAS))


class Scales:
    """Tells every run how far to go and what the next one is told."""

    def __init__(self, direction=1.0, time=1.0):
        self.place = Placement(0.5, direction, time)

    def __call__(self, here, sigma, sigma_next):
        return self.place


def run(placer):
    watched = Watched(mixture())
    return solve(PlacedTable(TABLE, placer), ProbabilityFlow(watched), start(), SIGMAS), watched


def test_scales_of_one_are_the_table():
    (end, _), plain = run(Scales()), solve(TABLE, ProbabilityFlow(mixture()), start(), SIGMAS)
    torch.testing.assert_close(end.x, plain.x, rtol=1e-12, atol=1e-12)
    assert end.nfe == plain.nfe == 3


def test_a_step_goes_so_much_further_and_the_next_run_is_told_so_much_more():
    scale, time = (torch.linspace(*ends, len(start()), dtype=torch.float64) for ends in ((0.9, 1.1), (0.8, 1.2)))
    scale, time = scale.reshape(-1, 1, 1, 1), time.reshape(-1, 1, 1, 1)
    end, watched = run(Scales(scale, time))
    first, denoiser = start(), mixture()
    noise, answers, x = first / SIGMAS[0], [], first
    for row, sigma in enumerate(SIGMAS[:-1]):
        told = sigma * (time if row else 1)
        torch.testing.assert_close(watched.levels[row].expand(len(x), 1, 1, 1), told.expand(len(x), 1, 1, 1))
        answers.append(denoiser(x, told, None).image)
        x = x + scale * (TABLE.table.state(row + 1, noise, answers) - x)
    torch.testing.assert_close(end.x, x, rtol=1e-10, atol=1e-10)
    assert end.sigma == SIGMAS[-1]


def made():
    torch.manual_seed(2)
    return PredictedTable(TABLE, AMEDPredictor(3, scale_dir=0.1, scale_time=0.2))


def test_its_file_has_both_and_is_the_same_sampler(tmp_path):
    config = student(solver={"name": "ipndm", "order": 3})
    parts = SamplerParts(config)
    save_learned(tmp_path / "both.json", made(), parts.purpose, {})
    read = load_learned(tmp_path / "both.json", parts.purpose)
    torch.testing.assert_close(read.state_dict(), made().state_dict(), rtol=0, atol=0)
    assert form_of(tmp_path / "both.json") == "table predictor"
    noise = Seeds(Stream.tuning, 0, 3).noise(parts.model.shape)
    named = student(solver={"name": "ipndm", "order": 3, "learned": str(tmp_path / "both.json")})
    ends = [sampler.sample(noise).x for sampler in (build_sampler(named), parts.with_learned(made()))]
    assert ends[0].equal(ends[1])


@pytest.mark.parametrize("wrong", [{"predictor": {"feature_size": 2}}, {"table": {"form": 3}}, {"predictor": {"a": 1}}])
def test_options_of_another_are_refused(tmp_path, wrong):
    class Other(PredictedTable):
        @property
        def options(self):
            return super().options | wrong

    purpose = SamplerParts(student(solver={"name": "ipndm", "order": 3})).purpose
    save_learned(tmp_path / "both.json", Other(made().table, made().predictor), purpose, {})
    with pytest.raises(InputError, match=r"both\.json: "):
        load_learned(tmp_path / "both.json", purpose)


class TestFit:
    def on_a_table(self, folder, **changes):
        path, solver = folder / "table.json", {"name": "ipndm", "order": 3}
        save_learned(path, TABLE, SamplerParts(student(solver=solver)).purpose, {})
        options = {"route": {"name": "whole"}, "loss": "end_to_end", "scale_dir": 0.3, "learning_rate": 2e-2} | changes
        return distillation(folder, solver=solver | {"learned": str(path)}, scale_time=0.3, **options)

    @pytest.mark.usefixtures("unchecked")
    def test_it_brings_the_samples_nearer_than_the_table_s_and_exports_both(self, tmp_path):
        module = self.on_a_table(tmp_path)
        dense = TeacherConfig({"name": "heun"}, 1, 64, schedule={"name": "polynomial"}, num_intervals=12)
        trainer(tmp_path, max_epochs=12).fit(module, trajectories(tmp_path, teacher=dense))
        losses = json.loads((tmp_path / "predictor.json").read_text())["training"]["val_losses"]
        assert len(losses) == 3
        assert module.best["val_loss"] == losses[-1]
        read = load_learned(tmp_path / "predictor.json", module.parts.purpose)
        assert read.table.told.equal(TABLE.told)
        assert losses[-1] < 0.7 * self.untouched(tmp_path, dense)

    def untouched(self, folder, dense):
        """The loss that a fit begins at, which is the table's."""
        module, data = self.on_a_table(folder), trajectories(folder, teacher=dense)
        (found,) = trainer(folder).validate(module, data, verbose=False)
        teacher = roll_out(module.parts.model, data.store(module.taught).recipe, data.val_seeds, torch.device("cpu"))
        parts = module.parts
        noise = teacher.states[:, 0] / parts.sigmas[0].to(teacher.states)
        ends = parts.with_learned(TABLE).sample(noise).x
        assert found["val/loss"] == pytest.approx(float(squared_distance(ends, teacher.states[:, -1]).mean()), rel=1e-3)
        return found["val/loss"]

    def test_a_route_that_does_not_run_the_whole_table_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="on top of a table learns by the route 'whole'"):
            self.on_a_table(tmp_path, route={"name": "network"}, loss="published")
