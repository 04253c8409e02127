"""Training is sampling with a loss between the steps."""

import json
import math
from dataclasses import dataclass, replace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amed_lightning.amed.files import load_learned
from amed_lightning.config import InputError
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.adams_bashforth import Equidistant
from amed_lightning.solvers.multistep import Multistep
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import SolverState, trajectory
from amed_lightning.solvers.two_stage import TwoStage, mean_direction
from amed_lightning.teacher import precompute as precompute_module
from amed_lightning.teacher.store import TrajectoryReader
from amed_lightning.teacher.trajectories import TeacherConfig, recipe_for, roll_out
from amed_lightning.training import distilling as distilling_module
from amed_lightning.training.distillation import AMEDDistillation
from amed_lightning.training.gradients import through_network
from amed_lightning.training.loading import InMemory
from amed_lightning.training.order import Batches
from amed_lightning.training.student import Student
from amed_lightning.training.tables import TableRoute
from amed_lightning.training.tabulator import is_shared

from ..sampling.models import random_network
from ..teacher.stores import Member, Team
from .runs import BATCH, BATCHES, INTERVALS, distillation, trainer, trajectories

pytestmark = pytest.mark.usefixtures("unchecked")

CPU = torch.device("cpu")
MULTISTEP = [name for name, make in SOLVERS.items() if make().is_multistep]
ONE_STEP = [name for name in SOLVERS if name not in MULTISTEP]
IMAGE_PREDICTING = ("dpm_solver_pp", "unipc")
"""Their first answer's image is computed back from the stored derivative, which rounds it."""


def teacher_batch(module, count=5):
    recipe = recipe_for(module.parts, TeacherConfig({"name": "heun"}, 1, 64))
    return roll_out(module.parts.model, recipe, Seeds(Stream.training, 0, count), CPU)


def along(module, teacher):
    """Each interval's losses and last state, without gradients."""
    ends = []

    def noting(*step):
        end, losses = through_network(*step)
        ends.append(end)
        return end, losses

    with torch.no_grad():
        return [(ends[-1], seen.losses) for seen in module.student.intervals(teacher, noting)]


def squared_distances(a, b):
    return torch.stack([((x - y) ** 2).sum() for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("route", ["network", "differences"])
@pytest.mark.parametrize("afs", [False, True], ids=["evaluated start", "analytic start"])
class TestPath:
    @pytest.mark.parametrize("name", ONE_STEP)
    def test_each_interval_of_a_one_step_student_is_a_step_of_the_sampler_from_the_teacher(
        self, tmp_path, name, afs, route
    ):
        """The stored answer stands in for a network run that would have said the same."""
        module = distillation(tmp_path, solver={"name": name}, afs=afs, route={"name": route})
        teacher, sampler = teacher_batch(module), module.student.sampler
        flow = ProbabilityFlow(sampler.model.denoiser)
        visited = along(module, teacher)
        for number, (state, distances) in enumerate(visited):
            start, end = teacher.states[:, number], teacher.states[:, number + 1]
            known = sampler.known_at_start(start) if number == 0 else None
            before = SolverState(start, sampler.sigmas[number], known, (), INTERVALS - number, 0)
            with torch.no_grad():
                expected = sampler.solver.step(flow, before, sampler.sigmas[number + 1])
            assert state.x.equal(expected.x)
            torch.testing.assert_close(distances, squared_distances(state.x, end))
        assert len(visited) == INTERVALS

    @pytest.mark.parametrize("name", MULTISTEP)
    def test_a_multistep_student_trains_along_its_own_trajectory(self, tmp_path, name, afs, route):
        module = distillation(tmp_path, solver={"name": name}, afs=afs, route={"name": route})
        teacher, sampler = teacher_batch(module), module.student.sampler
        start = teacher.states[:, 0]
        flow = ProbabilityFlow(sampler.model.denoiser)
        visited = along(module, teacher)
        with torch.no_grad():
            known = sampler.known_at_start(start)
            _, *plain = trajectory(sampler.solver, flow, start, sampler.sigmas, known=known)
        tolerance = 1e-4 if name in IMAGE_PREDICTING and not afs else 0
        for number, ((state, distances), expected) in enumerate(zip(visited, plain, strict=True), start=1):
            torch.testing.assert_close(state.x, expected.x, rtol=0, atol=tolerance)
            torch.testing.assert_close(distances, squared_distances(state.x, teacher.states[:, number]))

    def test_no_gradient_crosses_an_interval(self, tmp_path, afs, route):
        module = distillation(tmp_path, solver={"name": "ipndm"}, afs=afs, route={"name": route})
        for interval in module.intervals(teacher_batch(module)):
            interval.losses.mean().backward()  # a second pass through the same graph would be an error

    def test_labels_reach_the_student(self, tmp_path, afs, route):
        model = random_network(tmp_path, label_dim=3)
        module = distillation(tmp_path, model=model, afs=afs, route={"name": route})
        teacher, sampler = teacher_batch(module), module.student.sampler
        (state, _), *_ = along(module, teacher)
        with torch.no_grad():
            start = sampler.solver.init(
                teacher.states[:, 0], sampler.sigmas, sampler.known_at_start(teacher.states[:, 0])
            )
            expected = [
                sampler.solver.step(ProbabilityFlow(sampler.model.denoiser, labels), start, sampler.sigmas[1]).x
                for labels in (teacher.condition, (teacher.condition + 1) % 3)
            ]
        assert state.x.equal(expected[0])
        assert not state.x.allclose(expected[1])


STUDENTS = {
    # name: route, solver, network runs per training batch, per validation batch
    "amed": ("network", {"name": "amed"}, INTERVALS, INTERVALS),
    "plugin": ("network", {"name": "ipndm"}, 2 * INTERVALS - 1, 2 * INTERVALS - 1),
    # two on either side of the ratio, two of the time scale, none of the direction scale
    "amed by differences": ("differences", {"name": "amed"}, 5 * INTERVALS, INTERVALS),
    "plugin by differences": ("differences", {"name": "ipndm"}, 6 * INTERVALS - 1, 2 * INTERVALS - 1),
}


class TestRatios:
    """A predictor places where its route has looked, and nowhere else."""

    @pytest.mark.parametrize(
        ("solver", "route", "ratios"),
        [
            ({"name": "amed"}, {"name": "table"}, (0.0, 1.0)),
            ({"name": "ipndm"}, {"name": "table"}, (0.1, 0.9)),
            ({"name": "unipc", "order": 1}, {"name": "table"}, (0.1, 0.9)),
            ({"name": "ipndm"}, {"name": "table", "ratio_range": (0.2, 0.7)}, (0.2, 0.7)),
            ({"name": "ipndm"}, {"name": "network"}, (0.0, 1.0)),
        ],
    )
    def test_its_range_is_the_table_s(self, tmp_path, solver, route, ratios):
        module = distillation(tmp_path, solver=solver, route=route)
        assert module.predictor.ratio_range == ratios
        if isinstance(module.route, TableRoute):
            axis = module.route.options.recipe(module.student, "ab12", Seeds(Stream.training, 0, 4)).nodes.ratio
            assert (axis[0], axis[-1]) == ratios

    def test_however_far_it_has_learnt_it_stays_there(self, tmp_path):
        predictor = distillation(tmp_path, solver={"name": "ipndm"}, route={"name": "table"}).predictor
        here = Evaluation(torch.tensor(2.0), *[torch.zeros(2, 1, 4, 4)] * 2, torch.zeros(2, 3), 0)
        for bias, end in ((-1e4, 0.1), (1e4, 0.9)):
            torch.nn.init.constant_(predictor.fc_r.bias, bias)
            assert predictor(here, here.sigma, here.sigma / 2).ratio.flatten().tolist() == pytest.approx([end, end])

    def test_a_solver_that_places_nothing_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"test_distillation\.alone': it places no evaluation"):
            distillation(tmp_path, solver={"name": f"{__name__}.alone"})


def alone(placer=None):
    """A solver that leaves its placer unused."""
    return Multistep(Equidistant(1))


class TestSharing:
    """One table serves every student that asks the network the same, in every interval."""

    @dataclass(frozen=True)
    class LateInTheLast(TwoStage):
        """Asks at the end of the last interval, whatever it is told."""

        def step_at(self, flow, state, sigma_next, place):
            return super().step_at(
                flow, state, sigma_next, replace(place, ratio=1.0) if state.updates_left == 1 else place
            )

    def test_one_interval_that_differs_makes_a_table_of_its_own(self):
        sigmas = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
        assert is_shared(TwoStage(mean_direction, FixedPlacement(0.5)), sigmas)
        assert not is_shared(self.LateInTheLast(mean_direction, FixedPlacement(0.5)), sigmas)
        assert is_shared(self.LateInTheLast(mean_direction, FixedPlacement(1.0)), sigmas[:1])

    @pytest.mark.parametrize("name", SOLVERS)
    def test_the_solvers_that_share_are_those_that_ask_what_amed_asks(self, name):
        sigmas = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
        assert is_shared(SOLVERS[name](FixedPlacement(0.5)), sigmas) == (name in SHARING)


SHARING = ("amed", "heun", "dpm_solver_2", "euler")


class TestCalls:
    @pytest.mark.parametrize("afs", [False, True], ids=["evaluated start", "analytic start"])
    @pytest.mark.parametrize(("route", "solver", "training", "validating"), STUDENTS.values(), ids=STUDENTS)
    def test_with_a_complete_store_only_the_student_asks(
        self, tmp_path, monkeypatch, route, solver, training, validating, afs
    ):
        """A first answer is always known: stored, or analytic, or for a plugin only at the start."""
        module, data = distillation(tmp_path, route={"name": route}, solver=solver, afs=afs), trajectories(tmp_path)
        data.source(trainer(tmp_path).strategy, CPU).precompute(module.parts)
        sizes = module.parts.model.denoiser.denoiser.sizes
        assert sizes == [64] * (12 * (BATCHES + 2) * BATCH // 64)
        sizes.clear()
        monkeypatch.setattr(precompute_module, "roll_out", None)
        trainer(tmp_path).fit(module, data)
        assert sizes == [BATCH] * (training * BATCHES + validating * 2)

    def test_without_a_store_fit_makes_one(self, tmp_path):
        module, data = distillation(tmp_path), trajectories(tmp_path)
        trainer(tmp_path, limit_train_batches=1, limit_val_batches=1).fit(module, data)
        assert len(list(data.store(module.parts).folder.glob("*/data.mdb"))) == 2


class TestWeights:
    @pytest.mark.parametrize("solver", [{"name": "amed"}, {"name": "ipndm"}], ids=["amed", "plugin"])
    def test_every_weight_of_the_predictor_moves_in_fit(self, tmp_path, solver):
        module = distillation(tmp_path, solver=solver, afs=True)
        before = {name: weights.detach().clone() for name, weights in module.named_parameters()}
        trainer(tmp_path).fit(module, trajectories(tmp_path))
        assert [name for name, weights in module.named_parameters() if not (weights != before[name]).all()] == []
        assert {name.split(".")[1] for name in before} == {
            *("map_layer0", "enc_layer0", "enc_layer1", "fc_r", "fc_scale_dir", "fc_scale_time")
        }

    def test_the_denoiser_is_frozen_and_no_part_of_the_module(self, tmp_path):
        module = distillation(tmp_path, model=random_network(tmp_path))
        denoiser = module.parts.model.denoiser
        before = {name: value.clone() for name, value in denoiser.state_dict().items()}
        trainer(tmp_path, limit_train_batches=2, limit_val_batches=1).fit(module, trajectories(tmp_path))
        others = {name for name in module.state_dict() if not name.startswith("predictor.")}
        assert others == {"objective.sizes"}
        assert {id(weights) for weights in module.parameters()} == {
            id(weights) for weights in module.predictor.parameters()
        }
        assert all(value.equal(before[name]) for name, value in denoiser.state_dict().items())
        assert all(not weights.requires_grad and weights.grad is None for weights in denoiser.parameters())
        assert not denoiser.training

    def test_fit_brings_the_student_closer_to_its_teacher(self, tmp_path):
        losses = []
        for epochs in (1, 8):
            torch.manual_seed(0)
            module, run = distillation(tmp_path, afs=True), trainer(tmp_path, max_epochs=epochs)
            run.fit(module, trajectories(tmp_path))
            losses.append(module.best["val_loss"])
        assert losses[1] < losses[0] / 1.5


class TestStep:
    """Optimiser steps against Adam on losses that are written down."""

    def trained(self, folder, **changes):
        """A distillation after two batches, and one after the same two with its own losses still to be weighed."""
        torch.manual_seed(3)
        module = distillation(folder, afs=True, **changes)
        torch.manual_seed(3)
        by_hand = distillation(folder, afs=True, **changes)
        data = trajectories(folder, trajectories=2 * BATCH, seed=5)
        trainer(folder, limit_val_batches=0).fit(module, data)
        order = Batches(2 * BATCH, BATCH, Member(Team(1), 0), 5)
        reader = TrajectoryReader(data.store(module.parts), data.train_seeds, module.parts.sigmas)
        optimizer = torch.optim.Adam(by_hand.predictor.parameters(), lr=5e-3, betas=(0.9, 0.999), eps=1e-8)
        return module, by_hand, [reader.read(positions) for positions in order], optimizer

    def assert_same(self, module, by_hand):
        for weights, expected in zip(module.predictor.parameters(), by_hand.predictor.parameters(), strict=True):
            torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-6)

    def test_one_per_batch_is_along_the_sum_of_losses_over_their_running_sizes(self, tmp_path):
        module, by_hand, batches, optimizer = self.trained(tmp_path, jointly=True)
        sizes = [None] * INTERVALS
        for batch in batches:
            optimizer.zero_grad()
            losses = [interval.losses.mean() for interval in by_hand.intervals(batch)]
            now = [loss.item() for loss in losses]
            sizes = [loss if size is None else 0.9 * size + 0.1 * loss for size, loss in zip(sizes, now, strict=True)]
            sum(loss / size for loss, size in zip(losses, sizes, strict=True)).backward()
            optimizer.step()
        self.assert_same(module, by_hand)

    def test_one_per_interval_follows_each_loss_as_it_is_where_that_is_published(self, tmp_path):
        module, by_hand, batches, optimizer = self.trained(tmp_path, loss="published")
        for batch in batches:
            for interval in by_hand.intervals(batch):
                optimizer.zero_grad()
                interval.losses.mean().backward()
                optimizer.step()
        self.assert_same(module, by_hand)


class TestExport:
    LOSSES = (3.0, 1.0, 2.0, math.nan, 1.0, 0.5, 0.7)

    @pytest.fixture
    def exported(self, tmp_path, monkeypatch):
        """The epochs at which the predictor was written, when the losses are those above."""
        epochs, save = [], distilling_module.save_learned

        def record(path, predictor, purpose, training, sampler):
            epochs.append((training["epoch"], training["val_loss"]))
            save(path, predictor, purpose, training, sampler)

        monkeypatch.setattr(distilling_module, "save_learned", record)

        def validate(module, batch, batch_idx):
            losses = (self.LOSSES[module.current_epoch], 0.0, 0.0)
            module.log_dict({f"val/loss_{n}": loss for n, loss in enumerate(losses, start=1)}, batch_size=1)

        monkeypatch.setattr(AMEDDistillation, "validation_step", validate)
        return epochs

    def test_the_predictor_is_written_when_its_loss_is_the_lowest_so_far(self, tmp_path, exported):
        module = distillation(tmp_path, loss="published")
        kept = {}

        class Keep(pl.Callback):
            def on_validation_epoch_end(self, trainer, pl_module):
                kept[pl_module.current_epoch] = {name: w.clone() for name, w in module.predictor.state_dict().items()}

        run = trainer(tmp_path, max_epochs=7, limit_train_batches=1, limit_val_batches=1, callbacks=[Keep()])
        run.fit(module, trajectories(tmp_path))
        assert exported == [(0, 3.0), (1, 1.0), (5, 0.5)]
        loaded = load_learned(tmp_path / "predictor.json", module.parts.purpose)
        assert all(value.equal(kept[5][name]) for name, value in loaded.state_dict().items())
        assert not all(value.equal(kept[6][name]) for name, value in loaded.state_dict().items())

    def test_where_weights_are_averaged_the_average_is_judged_and_exported(self, tmp_path):
        module, data = distillation(tmp_path), trajectories(tmp_path)
        trainer(tmp_path, max_epochs=2, callbacks=[EMAWeightAveraging(decay=0.9)]).fit(module, data)
        said = json.loads((tmp_path / "predictor.json").read_text())["training"]["val_losses"]
        teacher = roll_out(module.parts.model, data.store(module.parts).recipe, data.val_seeds, CPU)
        student = Student(module.parts, load_learned(tmp_path / "predictor.json", module.parts.purpose))
        losses = [float(interval.losses.mean()) for interval in student.intervals(teacher, through_network)]
        assert said == pytest.approx(losses, rel=1e-3)

    def test_a_sanity_check_writes_nothing(self, tmp_path, exported):
        class Look(pl.Callback):
            def on_sanity_check_end(self, trainer, pl_module):
                assert exported == []
                assert not pl_module.best

        limits = {"num_sanity_val_steps": 1, "limit_train_batches": 1, "limit_val_batches": 1}
        module = distillation(tmp_path, loss="published")
        trainer(tmp_path, callbacks=[Look()], **limits).fit(module, trajectories(tmp_path))
        assert exported == [(0, 3.0)]

    def test_validating_alone_writes_nothing(self, tmp_path, exported):
        trainer(tmp_path, limit_val_batches=1).validate(distillation(tmp_path), trajectories(tmp_path), verbose=False)
        assert exported == []

    def test_another_use_of_the_exported_predictor_is_refused(self, tmp_path):
        module = distillation(tmp_path)
        trainer(tmp_path, limit_train_batches=1, limit_val_batches=1).fit(module, trajectories(tmp_path))
        other = distillation(tmp_path, schedule={"name": "logsnr"})
        with pytest.raises(InputError, match="was made for schedule"):
            load_learned(tmp_path / "predictor.json", other.parts.purpose)


class TestGradient:
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize(("level", "seed"), [(1, 7), (2, 70), (3, 200)])
    def test_one_that_is_not_finite_stops_the_run_and_names_interval_and_seed(
        self, tmp_path, monkeypatch, level, seed, bad
    ):
        real = InMemory.__getitem__

        def poisoned(self, indices):
            batch = real(self, indices)
            batch.states[batch.seeds == seed, level] = bad
            return batch

        monkeypatch.setattr(InMemory, "__getitem__", poisoned)
        module = distillation(tmp_path)
        named = (
            f"gradient of interval {level} is not finite; .* training seed {seed}; .* float16: set arithmetic.precision"
        )
        with pytest.raises(FloatingPointError, match=named):
            trainer(tmp_path).fit(module, trajectories(tmp_path))
        assert all(weights.isfinite().all() for weights in module.parameters())
        assert not (tmp_path / "predictor.json").exists()


class TestLog:
    def test_it_holds_losses_and_placements(self, tmp_path):
        logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
        run = trainer(tmp_path, logger=logger, log_every_n_steps=1, limit_train_batches=2, limit_val_batches=1)
        run.fit(distillation(tmp_path), trajectories(tmp_path))
        tags = EventAccumulator(logger.log_dir).Reload().Tags()
        placed = [f"train/{part}_{n}" for part in ("ratio", "direction_scale", "time_scale") for n in (1, 2, 3)]
        losses = [f"{split}/loss_{n}" for split in ("train", "val") for n in (1, 2, 3)]
        assert set(tags["scalars"]) == {*placed, *losses, "val/loss", "epoch"}


class TestResume:
    def fit(self, folder, epochs, seed, **options):
        torch.manual_seed(seed)
        module, run = distillation(folder, afs=True), trainer(folder, max_epochs=epochs)
        run.fit(module, trajectories(folder), **options)
        return module, run

    def test_two_epochs_and_two_more_are_four(self, tmp_path):
        whole, _ = self.fit(tmp_path / "whole", 4, seed=0)
        _, half = self.fit(tmp_path / "halves", 2, seed=0)
        half.save_checkpoint(tmp_path / "half.ckpt")
        resumed, _ = self.fit(tmp_path / "halves", 4, seed=1, ckpt_path=tmp_path / "half.ckpt")
        assert all(value.equal(whole.state_dict()[name]) for name, value in resumed.state_dict().items())
        for name in ("predictor.json", "predictor.safetensors"):
            assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "half.ckpt").stat().st_size < 2**20


class TestWhole:
    def test_a_fit_end_to_end_brings_the_samples_nearer_and_is_judged_by_them(self, tmp_path):
        module = distillation(tmp_path, route={"name": "whole"}, loss="end_to_end", scale_dir=0.2, learning_rate=2e-2)
        data = trajectories(tmp_path)
        trainer(tmp_path, max_epochs=15).fit(module, data)
        teacher = roll_out(module.parts.model, data.store(module.parts).recipe, data.val_seeds, CPU)

        def distance(placer):
            with torch.no_grad():
                (*_, last) = Student(module.parts, placer).whole(teacher)
            return float(last.losses.mean())

        best = load_learned(tmp_path / "predictor.json", module.parts.purpose)
        assert distance(best) == pytest.approx(module.best["val_loss"], rel=1e-3)
        assert distance(best) < 0.5 * distance(FixedPlacement(0.5))

    def test_another_route_has_no_gradient_for_it(self, tmp_path):
        with pytest.raises(InputError, match="end_to_end, which only the route 'whole' has a gradient for"):
            distillation(tmp_path, route={"name": "network"}, loss="end_to_end")
