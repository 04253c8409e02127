import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from amed_lightning.amed.files import load_learned
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.teacher.trajectories import TeacherConfig

from ..teacher.stores import CPU, Member, Team
from .runs import BATCH, ROWS, distillation, student, trainer, trajectories

pytestmark = pytest.mark.usefixtures("unchecked")

FINE = TeacherConfig({"name": "heun"}, 15, 32, schedule={"name": "polynomial"}, num_intervals=1)


@pytest.fixture
def prepared(tmp_path):
    module = distillation(tmp_path, fine_teacher=FINE)
    data = trajectories(tmp_path, trajectories=ROWS, validation_trajectories=2 * BATCH, batch_size=ROWS)
    module.prepare(data.source(Member(Team(1), 0), CPU))
    return module


def test_the_fine_teacher_is_at_no_distance_from_itself_and_others_are(prepared):
    teacher = build_sampler(student(solver={"name": "heun"}, num_intervals=16))
    assert prepared.fine.distance(teacher) < 1e-6
    others = [build_sampler(student(solver={"name": "euler"}, num_intervals=count)) for count in (4, 8)]
    coarse, finer = (prepared.fine.distance(other) for other in others)
    assert coarse > finer > 0.01


def test_denoise_to_zero_comes_behind_the_states_that_are_compared(prepared):
    steps, count = {"solver": {"name": "heun"}, "num_intervals": 16}, 4
    plain, denoised = (build_sampler(student(**steps, denoise_to_zero=to_zero)) for to_zero in (False, True))
    assert prepared.fine.distance(denoised) == prepared.fine.distance(plain)
    assert prepared.fine.beside(denoised, count)[0].equal(prepared.fine.beside(plain, count)[0])
    noise = prepared.fine.noise[:count]
    assert not denoised.sample(noise).x.equal(plain.sample(noise).x)


def test_the_distance_is_the_root_mean_square_over_all_pixels(prepared):
    other = build_sampler(student(solver={"name": "euler"}))
    with torch.no_grad():
        apart = other.sample(prepared.fine.noise).x - prepared.fine.samples
    assert prepared.fine.distance(other) == pytest.approx(float(apart.double().square().mean().sqrt()), rel=1e-5)
    with_labels = replace(prepared.fine, condition=torch.zeros(2 * BATCH, dtype=torch.int64))
    assert with_labels.distance(other) == prepared.fine.distance(other)  # which this model does not look at


def test_the_predictor_that_is_exported_has_the_nearest_samples(tmp_path):
    module = distillation(tmp_path, fine_teacher=FINE)
    distances = []
    judge = module.judge
    module.judge = lambda name, value, made: distances.append((name, value)) or judge(name, value, made)
    trainer(tmp_path / "run", max_epochs=4).fit(module, datamodule=trajectories(tmp_path))
    facts = json.loads((tmp_path / "run" / "predictor.json").read_text())["training"]
    assert facts["val_rmse"] == min(value for _, value in distances)
    assert {name for name, _ in distances} == {"rmse"}
    module.predictor.load_state_dict(safetensors.torch.load_file(tmp_path / "run" / "predictor.safetensors"))
    assert module.fine.distance(module.parts.sampler(module.predictor)) == facts["val_rmse"]
    assert facts["val_loss"] > 0


def test_where_weights_are_averaged_the_distance_is_that_of_the_average(tmp_path):
    module, run = distillation(tmp_path, fine_teacher=FINE), tmp_path / "run"
    callbacks = [EMAWeightAveraging(decay=0.9)]
    trainer(run, max_epochs=2, callbacks=callbacks).fit(module, datamodule=trajectories(tmp_path))
    facts = json.loads((run / "predictor.json").read_text())["training"]
    exported = load_learned(run / "predictor.json", module.parts.purpose)
    assert facts["val_rmse"] == pytest.approx(module.fine.distance(module.parts.sampler(exported)), rel=1e-6)


def test_what_is_shown_of_a_fit_is_its_best_predictor_beside_the_fine_teacher(tmp_path):
    module = distillation(tmp_path, fine_teacher=FINE)
    assert module.shown() == {}
    data = trajectories(tmp_path, trajectories=ROWS, validation_trajectories=2 * BATCH, batch_size=ROWS)
    trainer(tmp_path, max_epochs=2).fit(module, data)
    shown = module.shown()
    learned = student(solver={"name": "amed", "learned": str(tmp_path / "predictor.json")})
    with torch.no_grad():
        expected = build_sampler(learned).sample(module.fine.noise[:16]).x
    torch.testing.assert_close(shown["student"], expected, rtol=1e-5, atol=1e-5)
    assert shown["teacher"].equal(module.fine.samples[:16])
