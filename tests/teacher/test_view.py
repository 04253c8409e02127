"""A dense store serves every student: contained levels to the last bit, others to the fourth order."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.gaussian import anisotropic_gaussian
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Logsnr, NoiseRange, levels
from amed_lightning.teacher.records import Layout
from amed_lightning.teacher.store import TrajectoryReader, TrajectoryStore
from amed_lightning.teacher.trajectories import SHARD_SIZE, Trajectories, recipe_for, roll_out
from amed_lightning.teacher.view import View, node_at
from amed_lightning.training.fine_samples import ends_of

from ..sampling.models import mixture, random_network
from .stores import CPU, fill, parts_of, teacher, training

POLYNOMIAL, LOGSNR, UNIFORM = {"name": "polynomial"}, {"name": "logsnr"}, {"name": "time_uniform"}
DENSE = {"inner_levels": 0, "schedule": POLYNOMIAL, "num_intervals": 60}
FIELDS = ("states", "derivatives", "features")


def dense_recipe(parts, **changes):
    return recipe_for(parts, teacher(**(DENSE | changes)))


def rows_of(recipe, trajectories, view):
    """Cut the view's pieces out of packed records."""
    records = Layout.of(recipe).pack(trajectories)
    return torch.stack(
        [
            torch.frombuffer(bytearray(b"".join(record[piece] for piece in view.pieces)), dtype=torch.uint8)
            for record in records
        ]
    )


class TestRecipe:
    def test_one_store_serves_students_of_every_schedule_and_number_of_intervals(self):
        students = [{"schedule": schedule} for schedule in (POLYNOMIAL, LOGSNR, UNIFORM)]
        students += [{"num_intervals": number, "afs": afs} for number in (1, 4, 9) for afs in (False, True)]
        assert len({dense_recipe(parts_of(**student)).digest for student in students}) == 1

    def test_a_dense_teacher_on_the_students_own_grid_is_the_students_teacher(self):
        parts = parts_of(schedule=LOGSNR, num_intervals=4)
        own = teacher(schedule=LOGSNR, num_intervals=4)
        assert recipe_for(parts_of(), own) == recipe_for(parts, teacher())

    def test_a_number_of_intervals_alone_is_on_the_student_s_schedule(self):
        own = recipe_for(parts_of(schedule=LOGSNR), teacher(num_intervals=6))
        assert own == recipe_for(parts_of(), teacher(schedule=LOGSNR, num_intervals=6))
        assert own.num_intervals == 6

    def test_where_only_the_student_s_ends_are_wanted_too(self):
        ends = ends_of(parts_of(schedule=LOGSNR))
        assert recipe_for(ends, teacher(num_intervals=6)) == recipe_for(ends, teacher(schedule=LOGSNR, num_intervals=6))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"num_intervals": None}, "teacher.schedule is of a grid of the teacher's own: set teacher.num_intervals"),
            ({"schedule": {"name": "polinomial"}}, "unknown schedule 'polinomial'"),
            ({"num_intervals": 0}, "at least one interval, got 0"),
            ({"afs": True}, "teacher.afs is true, but a grid of the teacher's own"),
            ({"dtype": "bfloat16"}, "teacher.dtype is bfloat16, whose 8 bits do not do for derivatives"),
            ({"dtype": "double"}, "teacher.dtype is double; use float64, float32 or float16"),
        ],
    )
    def test_a_grid_or_precision_that_does_not_do_is_refused(self, changes, message):
        with pytest.raises(InputError, match=message):
            dense_recipe(parts_of(afs=True), **changes)


class TestContainedLevels:
    @pytest.mark.parametrize("solver", ["heun", "ipndm", "dpm_solver_pp", "unipc"])
    @pytest.mark.parametrize("inner_levels", [0, 2])
    def test_they_are_read_to_the_last_bit(self, tmp_path, solver, inner_levels):
        parts = parts_of(num_intervals=5)
        recipe = dense_recipe(parts, solver={"name": solver}, num_intervals=20, inner_levels=inner_levels)
        store = TrajectoryStore(tmp_path, recipe)
        fill(store, training(0, SHARD_SIZE))
        back = TrajectoryReader(store, training(0, SHARD_SIZE), parts.sigmas).read(range(64))
        whole = roll_out(mixture(), recipe, training(0, 64), CPU)
        assert back.states.equal(whole.states[:, ::4])
        assert back.derivatives.equal(whole.derivatives[:, ::4])
        assert back.features.equal(whole.features[:, ::4])

    def test_a_level_between_two_others_does_not_change_them(self):
        recipe = dense_recipe(parts_of())
        whole = roll_out(mixture(), recipe, training(0, 8), CPU)
        wanted = torch.tensor([*recipe.stored_sigmas[0:21:10], 3.3, recipe.stored_sigmas[-1]], dtype=torch.float64)
        view = View(recipe, wanted)
        assert not view.is_exact
        back = view.trajectories(rows_of(recipe, whole, view), whole.seeds)
        assert back.states[:, [0, 1, 2, 4]].equal(whole.states[:, [0, 10, 20, 60]])
        assert back.derivatives[:, :3].equal(whole.derivatives[:, [0, 10, 20]])
        assert back.features[:, :3].equal(whole.features[:, [0, 10, 20]])

    def test_only_the_levels_that_a_student_needs_are_copied(self):
        recipe = dense_recipe(parts_of())
        view = View(recipe, parts_of(num_intervals=3).sigmas)
        assert view.states == [0, 20, 40, 60]
        assert view.row_bytes == 4 * (4 * 16 + 3 * 16 + 3 * 3)
        whole = View(recipe, None)
        assert whole.row_bytes == Layout.of(recipe).record_bytes
        assert whole.pieces == [slice(0, whole.row_bytes)], "one copy"


class TestLevelsBetween:
    NOISE_RANGE = NoiseRange(0.01, 80.0)
    STUDENT = (31.0, 7.7, 2.3, 0.9, 0.21, 0.06)

    def errors(self, num_intervals, student):
        """Return the root mean square errors of states and derivatives on an exact Gaussian flow, in float64."""
        model = anisotropic_gaussian()
        sigmas = levels(Logsnr(), num_intervals, self.NOISE_RANGE)
        noise = training(0, 16).noise(model.shape).double()

        def exact(grid):
            x = [model.denoiser.gaussian_solution(sigmas[0] * noise, sigmas[0], sigma) for sigma in grid]
            answers = [ProbabilityFlow(model.denoiser)(*pair) for pair in zip(x, grid, strict=True)]
            states, slopes = torch.stack(x, 1), torch.stack([answer.derivative for answer in answers[:-1]], 1)
            features = torch.stack([answer.features for answer in answers[:-1]], 1)
            return Trajectories(states, slopes, features, None, torch.arange(16))

        wanted = torch.tensor([80.0, *student, 0.01], dtype=torch.float64)
        view = View(
            replace(dense_recipe(parts_of(model)), sigmas=tuple(sigmas.tolist()), num_intervals=num_intervals), wanted
        )
        whole, truth = exact(sigmas), exact(wanted)
        needed = replace(
            whole,
            states=whole.states[:, view.states],
            derivatives=whole.derivatives[:, view.answers],
            features=whole.features[:, view.answers],
        )
        back = view.at_levels(needed)
        return [
            ((getattr(back, name) - getattr(truth, name)).square().mean().sqrt()) for name in ("states", "derivatives")
        ]

    def slopes(self, grids, student):
        errors = torch.tensor([[error.log() for error in self.errors(number, student)] for number in grids])
        steps = torch.tensor([[-math.log(number), 1.0] for number in grids], dtype=torch.float64)
        return torch.linalg.lstsq(steps, errors.double()).solution[0]

    def test_states_and_derivatives_are_of_order_four(self):
        slopes = self.slopes((24, 48, 96, 192), self.STUDENT)
        assert (slopes > 3.7).all(), slopes

    def test_so_they_are_inside_the_last_interval_where_an_answer_is_extrapolated(self):
        slopes = torch.stack(
            [
                torch.tensor(
                    [
                        a.log2() - b.log2()
                        for a, b in zip(self.errors(n, [1.02 * 0.01]), self.errors(2 * n, [1.02 * 0.01]), strict=True)
                    ]
                )
                for n in (24, 48, 96)
            ]
        )
        assert (slopes > 3).all(), slopes

    def test_on_sixty_levels_they_are_what_the_flow_says_to_a_thousandth(self):
        model = mixture()
        recipe = dense_recipe(parts_of(model))
        view = View(recipe, parts_of(model, schedule=UNIFORM, num_intervals=7).sigmas)
        whole = roll_out(model, recipe, training(0, 64), CPU)
        back = view.trajectories(rows_of(recipe, whole, view), whole.seeds)
        for index in range(7):
            sigma = parts_of(model, schedule=UNIFORM, num_intervals=7).sigmas[index]
            answer = ProbabilityFlow(model.denoiser)(back.states[:, index], sigma)
            far = (back.derivatives[:, index] - answer.derivative).norm() / answer.derivative.norm()
            assert far < 1e-3, (index, far)
            assert (back.features[:, index] - answer.features).abs().max() < 0.02, index

    def test_weights_of_values_add_up_to_one(self):
        stored = levels(Logsnr(), 12, self.NOISE_RANGE).tolist()
        for sigma in (79.0, 12.3, 0.5, 0.0101):
            node = node_at(sigma, stored)
            assert math.isclose(sum(node.states.values()), 1)
            assert math.isclose(sum(node.answer.values()), 1)
            assert max(node.answer) < 12

    def test_an_answer_comes_from_two_stored_ones_on_either_side_where_there_are_so_many(self):
        stored = levels(Logsnr(), 12, self.NOISE_RANGE).tolist()
        between = [math.sqrt(above * below) for above, below in pairwise(stored)]
        supports = [sorted(node_at(sigma, stored).answer) for sigma in between]
        assert supports[:3] == [[0, 1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 4]]
        assert supports[-3:] == [[8, 9, 10, 11]] * 3

    @pytest.mark.parametrize("sigma", [80.1, 0.0019])
    def test_a_level_outside_the_teachers_is_refused(self, sigma):
        with pytest.raises(InputError, match=f"the student's level {sigma} lies outside the teacher's, 80 to 0.002"):
            View(dense_recipe(parts_of()), torch.tensor([sigma], dtype=torch.float64))


class TestHalfPrecision:
    def test_a_record_is_half_as_large_and_holds_the_rounded_numbers(self, tmp_path):
        parts = parts_of()
        recipes = [recipe_for(parts, teacher(dtype=dtype)) for dtype in ("float32", "float16")]
        assert len({recipe.digest for recipe in recipes}) == 2
        assert Layout.of(recipes[0]).record_bytes == 2 * Layout.of(recipes[1]).record_bytes
        store = TrajectoryStore(tmp_path, recipes[1])
        fill(store, training(0, SHARD_SIZE))
        back = TrajectoryReader(store, training(0, SHARD_SIZE), parts.sigmas).read(range(64))
        whole = roll_out(mixture(), recipes[1], training(0, 64), CPU)
        for name in FIELDS:
            assert getattr(back, name).dtype == torch.float32
            assert getattr(back, name).equal(getattr(whole, name).half().float()), name

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_labels_come_back_beside_levels_of_any_size(self, tmp_path, dtype):
        model = build("model", DENOISERS, random_network(tmp_path, label_dim=3))
        parts = parts_of(model, schedule=UNIFORM, num_intervals=3)
        store = TrajectoryStore(tmp_path, dense_recipe(parts, num_intervals=9, dtype=dtype))
        fill(store, training(0, SHARD_SIZE), model=model)
        for sigmas in (None, parts.sigmas):
            reader = TrajectoryReader(store, training(0, SHARD_SIZE), sigmas)
            assert reader.read([7, 3]).condition.equal(training(0, SHARD_SIZE).labels(model.shape, 3)[[7, 3]])
            reader.close()

    @pytest.mark.parametrize("name", FIELDS)
    def test_a_number_that_it_cannot_hold_is_refused(self, name):
        recipe = recipe_for(parts_of(), teacher(dtype="float16"))
        whole = roll_out(mixture(), recipe, training(0, 2), CPU)
        broken = getattr(whole, name).clone()
        broken[1] = 7e4
        with pytest.raises(InputError, match=f"the teacher's {name} reach 70000, which is not finite in torch.float16"):
            list(Layout.of(recipe).pack(replace(whole, **{name: broken})))
