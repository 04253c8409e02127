import json
import warnings
from itertools import pairwise

import pytest
import safetensors.torch
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amed_lightning.config import InputError
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.tabulated import Tabulated
from amed_lightning.teacher.trajectories import TeacherConfig
from amed_lightning.training import least_squares
from amed_lightning.training.charts import Charts
from amed_lightning.training.least_squares import LeastSquares
from amed_lightning.training.normal_equations import Linear, NormalEquations, Replay
from amed_lightning.training.order import Blocks
from amed_lightning.training.trajectories import TeacherTrajectories

from ..teacher.stores import Member, Team
from .runs import student, trainer

pytestmark = pytest.mark.usefixtures("unchecked")

BLOCK, COUNT, FIRST = 16, 64, 32
CLASSICAL = {"solver": {"name": "ipndm", "order": 3}, "num_intervals": 4}


def module(**changes):
    plain = {"first_trajectories": FIRST, "first_epochs": 3}
    return LeastSquares(student(**CLASSICAL), **(plain | changes))


def ends(folder, **changes):
    teacher = TeacherConfig(
        {"name": "heun"}, 15, BLOCK, schedule={"name": "polynomial"}, num_intervals=1, shard_size=COUNT
    )
    plain = {"trajectories": COUNT, "validation_trajectories": COUNT, "batch_size": BLOCK}
    return TeacherTrajectories(teacher, folder / "store", **(plain | changes))


def fit(folder, learning=None, data=None, **options):
    learning = learning or module()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no optimizer")
        trainer(folder, **({"max_epochs": 6} | options)).fit(learning, datamodule=ends(folder.parent, **(data or {})))
    return learning


def test_a_fit_comes_nearer_to_its_teacher_and_its_file_is_the_sampler_that_was_validated(tmp_path):
    learning = fit(tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "table.json").read_text())["training"]
    plain = student(**CLASSICAL)
    found = student(solver=CLASSICAL["solver"] | {"learned": str(tmp_path / "run" / "table.json")}, num_intervals=4)
    seeds = Seeds(Stream.validation, 0, COUNT)
    sampler, classical = build_sampler(found), build_sampler(plain)
    noise = seeds.noise(sampler.model.shape)
    fine = build_sampler(student(solver={"name": "heun"}, num_intervals=16)).sample(noise).x
    far, near = (float((each.sample(noise).x - fine).square().mean().sqrt()) for each in (classical, sampler))
    assert near < 0.5 * far
    assert near == pytest.approx(facts["val_rmse"], rel=1e-5)
    assert sampler.nfe == classical.nfe == 4
    assert learning.runs > facts["runs"] >= 0


def test_what_is_exported_has_the_lowest_cost_whatever_validation_says(tmp_path):
    learning, distances = module(), iter(range(100))
    keep = learning.keep
    learning.keep = lambda made: keep(made | {"val_rmse": float(next(distances))})
    fit(tmp_path / "run", learning)
    numbers = safetensors.torch.load_file(tmp_path / "run" / "table.safetensors")
    torch.testing.assert_close(numbers, Tabulated(learning.table()).state_dict(), rtol=0, atol=0)
    assert json.loads((tmp_path / "run" / "table.json").read_text())["training"]["epoch"] == 5


@pytest.mark.parametrize(("at_once", "nfe", "depth"), [(None, 5, 5), ([2, 1, 1, 1], 6, 5)])
def test_denoise_to_zero_is_a_network_run_behind_the_table_s(at_once, nfe, depth):
    learning = LeastSquares(student(**CLASSICAL, denoise_to_zero=True), at_once=at_once)
    costs = learning.last()
    assert (learning.nfe, costs["nfe"], costs["depth"]) == (nfe, nfe, depth)


def test_without_validation_the_numbers_of_the_lowest_cost_are_exported(tmp_path):
    learning = fit(tmp_path / "run", limit_val_batches=0)
    numbers = safetensors.torch.load_file(tmp_path / "run" / "table.safetensors")
    learning.table.set(learning.table.numbers)
    assert learning.table.numbers.any()
    torch.testing.assert_close(numbers, Tabulated(learning.table()).state_dict(), rtol=0, atol=0)


def test_a_distance_that_is_not_finite_ends_the_fit_and_is_no_best(tmp_path, monkeypatch):
    monkeypatch.setattr(Replay, "end", lambda self, table, known: (self.noise * torch.nan, known))
    monkeypatch.setattr(LeastSquares, "training_step", lambda self, batch, number: self.sums.append(torch.ones(13)))
    with pytest.raises(FloatingPointError, match="validation samples is not finite"):
        fit(tmp_path / "run")
    assert not (tmp_path / "run" / "table.json").exists()


def test_a_placer_of_the_solver_is_refused_and_not_left_out():
    solver = CLASSICAL["solver"] | {"placer": {"fixed": 0.4}}
    with pytest.raises(InputError, match=r"model\.student\.solver: what is learned replaces its placer"):
        LeastSquares(student(solver=solver, num_intervals=4))


@pytest.mark.parametrize("first_seed", [0, COUNT])
def test_the_first_epochs_see_the_first_trajectories_alone(tmp_path, monkeypatch, first_seed):
    learning, seen, original = module(first_epochs=6), [], least_squares.noise_and_samples
    monkeypatch.setattr(
        least_squares,
        "noise_and_samples",
        lambda batch, parts: seen.extend(batch.seeds.tolist()) or original(batch, parts),
    )
    fit(tmp_path / "run", learning, {"first_seed": first_seed}, limit_val_batches=0)
    assert learning.equations[-2] == FIRST
    assert {*seen} == {*range(first_seed, first_seed + FIRST)}


def test_tensorboard_shows_the_cost_and_a_picture_of_every_step(tmp_path):
    learning = fit(tmp_path / "run", logger=TensorBoardLogger(tmp_path / "log"), log_every_n_steps=1, max_epochs=6)
    (folder,) = {path.parent for path in (tmp_path / "log").rglob("events*")}
    events = EventAccumulator(str(folder)).Reload()
    # The last batches of epochs 1 and 4, after which steps were taken.
    assert [event.step for event in events.Images("table")] == [7, 19]
    assert [event.value for event in events.Scalars("train/runs")][-1] == learning.runs
    costs = [event.value for event in events.Scalars("train/cost")]
    assert costs[1] < costs[0]


@pytest.mark.parametrize(("model", "shown"), [("latents", 0), ("mixture", 2)])
def test_tensorboard_shows_samples_that_are_pictures(tmp_path, model, shown):
    plain = student(**CLASSICAL, model={"name": f"tests.sampling.models.{model}"})
    learning = LeastSquares(plain, groups=["levels"], first_trajectories=FIRST, first_epochs=1)
    log = {"logger": TensorBoardLogger(tmp_path / "log"), "log_every_n_steps": 1, "callbacks": [Charts("")]}
    fit(tmp_path / "run", learning, max_epochs=1, **log)
    (folder,) = {path.parent for path in (tmp_path / "log").rglob("events*")}
    assert len(EventAccumulator(str(folder)).Reload().Tags()["images"]) == shown


@pytest.mark.parametrize(
    ("groups", "first"),
    [(["sums", "weights"], ["weights"]), (["sums"], ["sums"]), (None, ["levels", "query", "weights", "first"])],
    ids=str,
)
def test_the_sums_are_left_to_the_later_epochs_if_there_is_anything_else(groups, first):
    assert list(module(groups=groups).first_groups) == first


def test_the_first_epochs_may_be_told_what_learns(tmp_path):
    for epochs, expected in ((3, ["levels"]), (5, ["levels", "weights"])):
        learning = module(groups=["weights"], first_groups=["levels"])
        fit(tmp_path / str(epochs), learning, max_epochs=epochs, limit_val_batches=0)
        assert [group for group, numbers in learning.table.named_parameters() if numbers.any()] == expected


def test_its_file_tells_what_it_costs(tmp_path):
    fit(tmp_path / "run", module(at_once=[1, 2, 1, 2]), max_epochs=1)
    facts = json.loads((tmp_path / "run" / "table.json").read_text())["training"]
    assert (facts["nfe"], facts["depth"]) == (6, 4)
    # Levels, query scales, weights, sums, first: rows behind the first one see 1, 1, 3, 4, 4 and 6.
    assert facts["numbers"] == 5 + 6 + (0 + 0 + 2 + 3 + 3 + 5) + 6 + 1


def test_the_derivative_is_taken_anew_after_every_step_and_only_then(tmp_path, monkeypatch):
    taken, learning = [], module()
    original = Linear.at.__func__
    monkeypatch.setattr(
        Linear, "at", classmethod(lambda cls, table: taken.append(table.numbers) or original(cls, table))
    )
    fit(tmp_path / "run", learning)
    # Epochs 0, 2, 3 and 5 have equations, 1 and 4 steps: at 3 all trajectories come, and the sums of 4 rows.
    assert len({tuple(numbers.tolist()) for numbers in taken}) == 4
    assert [len(numbers) for numbers in taken] == [14, 14, 18, 18]
    assert {*taken[2].tolist()} == {*taken[1].tolist(), 0.0}


def test_a_student_whose_levels_meet_learns(tmp_path):
    """Heun's method asks twice at a level."""
    learning = LeastSquares(student(solver={"name": "heun"}, num_intervals=3, afs=True), first_trajectories=FIRST)
    fit(tmp_path / "run", learning)
    facts = json.loads((tmp_path / "run" / "table.json").read_text())["training"]
    assert facts["epoch"] > 0


def test_the_best_step_is_taken_if_it_is_better(tmp_path):
    learning = module(damping=1e-12, first_epochs=0)
    learning.table.set(learning.table.numbers + 0.5)  # so far that undamped steps go astray
    stood, costs, original = [], [], learning._choose

    def watched(offered):
        stood.append(learning.table.numbers)
        trials, before = dict(learning.trials), NormalEquations(learning.equations).cost
        costs.append(original(offered))
        taken = [numbers for numbers in trials.values() if torch.equal(numbers, learning.table.numbers)]
        assert bool(taken) == bool(offered.min() < before)
        assert costs[-1] == min(before, float(offered.min()))
        return costs[-1]

    learning._choose = watched
    fit(tmp_path / "run", learning, max_epochs=8)
    again = sum(torch.equal(*pair) for pair in pairwise(stood))
    assert 0 < again < len(stood) - 1, "one of both kinds"
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_blocks_are_dealt_out_whole_and_in_turn(world):
    team = Team(world)
    dealt = [list(Blocks(64, 16, Member(team, rank))) for rank in range(world)]
    together = [block for turn in zip(*dealt, strict=True) for block in turn]
    assert together == [list(range(start, start + 16)) for start in range(0, 64, 16)]


def test_numbers_that_do_not_divide_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"model\.first_trajectories is 24"):
        fit(tmp_path / "run", module(first_trajectories=24))


@pytest.mark.parametrize("option", [{"radius": 0.0}, {"damping": -1.0}, {"first_trajectories": 0}], ids=str)
def test_an_option_out_of_range_is_refused(option):
    with pytest.raises(InputError, match=next(iter(option))):
        module(**option)


def test_an_unknown_group_is_refused():
    with pytest.raises(InputError, match="group"):
        module(groups=["slopes"])


def test_a_table_of_another_use_is_refused(tmp_path):
    fit(tmp_path / "run")
    other = student(
        solver={"name": "ipndm", "order": 2, "learned": str(tmp_path / "run" / "table.json")}, num_intervals=4
    )
    with pytest.raises(InputError, match="made for solver"):
        build_sampler(other)


def test_a_fit_that_stopped_within_an_epoch_ends_as_one_that_did_not(tmp_path):
    whole = fit(tmp_path / "whole")
    learning, stopped = module(), module()

    def stop(trainer, *rest):
        if trainer.current_epoch == 4 and rest[-1] == 1:
            trainer.save_checkpoint(tmp_path / "middle.ckpt")
            trainer.should_stop = True

    torch.manual_seed(0)
    stopped.on_train_batch_end = lambda outputs, batch, number: stop(stopped.trainer, number)
    fit(tmp_path / "stopped", stopped)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore")
        trainer(tmp_path / "again", max_epochs=6).fit(
            learning, datamodule=ends(tmp_path), ckpt_path=tmp_path / "middle.ckpt", weights_only=False
        )
    assert torch.equal(learning.table.numbers, whole.table.numbers)
    assert learning.runs == whole.runs


def test_a_checkpoint_of_version_0_1_is_refused_in_a_line(tmp_path):
    learning = fit(tmp_path / "run", max_epochs=2)
    old = {"damping": 0.01, "runs": 7, "lowest": {}, "sums": None, "processes": 1}
    with pytest.raises(InputError, match=r"version 0\.1 began this fit.*another directory"):
        learning.on_load_checkpoint({"least_squares": old, "best": {"weights": torch.zeros(3)}})


def test_what_is_shown_of_a_fit_is_the_exported_table_beside_its_teacher(tmp_path):
    learning = fit(tmp_path / "run")
    shown = learning.shown()
    found = student(solver=CLASSICAL["solver"] | {"learned": str(tmp_path / "run" / "table.json")}, num_intervals=4)
    noise = Seeds(Stream.validation, 0, BLOCK).noise(learning.parts.model.shape)
    torch.testing.assert_close(shown["student"], build_sampler(found).sample(noise).x, rtol=1e-4, atol=1e-4)
    fine = build_sampler(student(solver={"name": "heun"}, num_intervals=16)).sample(noise).x
    torch.testing.assert_close(shown["teacher"], fine, rtol=1e-4, atol=1e-4)
    assert module().shown() == {}
