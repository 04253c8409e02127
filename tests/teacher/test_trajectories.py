"""A teacher's trajectory is a plain one on a finer grid, and its recipe names everything that it depends on."""

from dataclasses import fields, replace

import pytest
import torch

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.prompts import PromptLists
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.flow.probability_flow import ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import levels
from amed_lightning.solvers.registry import SOLVERS, network_runs
from amed_lightning.solvers.state import trajectory
from amed_lightning.teacher.trajectories import TeacherRecipe, recipe_for, roll_out

from ..sampling.models import mixture, random_network, watched, within_table
from .stores import CPU, parts_of, teacher, training

RECIPE = recipe_for(parts_of(), teacher())
OTHER = {
    "model": "another",
    "shape": (1, 2, 8),
    "feature_size": 4,
    "conditions": "1 classes",
    "solver": {"name": "euler"},
    "sigmas": (80.0, 1.0, 0.002),
    "num_intervals": 4,
    "batch_size": 32,
    "afs": True,
    "dtype": "float16",
    "arithmetic": Arithmetic("bfloat16"),
    "shard_size": 128,
    "version": 4,
}
STUDENTS = {"amed": {"name": "amed"}, "plugin": {"name": "ipndm", "order": 3}}
TEACHERS = [{"name": "heun"}, {"name": "dpm_solver_2"}, {"name": "ipndm", "order": 3}, {"name": "dpm_solver_pp"}]
TEACHERS += [{"name": "unipc"}]


class TestRecipe:
    @pytest.mark.parametrize("name", [field.name for field in fields(TeacherRecipe)])
    def test_every_field_moves_the_digest(self, name):
        assert replace(RECIPE, **{name: OTHER[name]}).digest != RECIPE.digest

    @pytest.mark.parametrize(
        ("student", "fine"),
        [
            ({"schedule": {"name": "polynomial", "rho": 5}}, {}),
            ({"schedule": {"name": "logsnr"}}, {}),
            ({"num_intervals": 4}, {}),
            ({}, {"inner_levels": 0}),
            ({}, {"batch_size": 128}),
            ({"afs": True}, {"afs": True}),
            ({}, {"solver": {"name": "ipndm"}}),
        ],
    )
    def test_what_moves_a_trajectory_moves_the_digest(self, student, fine):
        assert recipe_for(parts_of(**student), teacher(**fine)).digest != RECIPE.digest

    def test_another_model_moves_the_digest(self, tmp_path):
        models = [build("model", DENOISERS, random_network(tmp_path, seed=seed)) for seed in (0, 1)]
        assert len({recipe_for(parts_of(model), teacher()).digest for model in models}) == 2

    def test_training_prompts_move_the_digest_and_evaluation_prompts_do_not(self):
        lists = [PromptLists(training, tuple(evaluation)) for training in (("a",), ("b",)) for evaluation in "cd"]
        recipes = [recipe_for(parts_of(replace(mixture(), prompts=prompts)), teacher()) for prompts in lists]
        assert recipes[0] == recipes[1] != recipes[2] == recipes[3]
        assert len({RECIPE.digest, *(recipe.digest for recipe in recipes)}) == 3

    def test_without_training_prompts_there_is_no_teacher(self):
        model = replace(mixture(), prompts=PromptLists(evaluation=("a",)))
        with pytest.raises(InputError, match="no training prompts"):
            recipe_for(parts_of(model), teacher())

    def test_defaults_that_are_spelled_out_do_not_move_it(self):
        short, spelled = {"name": "ipndm"}, {"name": "ipndm", "order": 4}
        digests = {
            recipe_for(parts_of(schedule=schedule), teacher(solver=solver)).digest
            for solver in (short, spelled)
            for schedule in (
                {"name": "polynomial"},
                {"name": "polynomial", "rho": 7},
                {"rho": 7.0, "name": "polynomial"},
            )
        }
        assert len(digests) == 1

    @pytest.mark.parametrize("solver", STUDENTS.values(), ids=STUDENTS)
    @pytest.mark.parametrize("afs", [False, True])
    def test_students_of_every_solver_share_a_teacher(self, solver, afs):
        assert recipe_for(parts_of(solver=solver, afs=afs), teacher()).digest == RECIPE.digest

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"inner_levels": -1}, "teacher.inner_levels is -1; it must be at least 0"),
            ({"batch_size": 0}, "teacher.batch_size is 0; it must be at least 1"),
            ({"solver": {"name": "hoin"}}, "unknown solver 'hoin': use one of euler, "),
            ({"solver": {"name": "heun", "placer": {"fixed": 0.5}}}, "solver 'heun': .*placer"),
        ],
    )
    def test_a_teacher_that_cannot_run_is_refused(self, changes, message):
        with pytest.raises(InputError, match=message) as refusal:
            recipe_for(parts_of(), teacher(**changes))
        assert "\n" not in str(refusal.value)

    def test_an_analytic_start_is_refused_for_a_student_that_evaluates_its_own(self):
        assert recipe_for(parts_of(afs=True), teacher(afs=True)).afs
        with pytest.raises(InputError, match=r"teacher\.afs"):
            recipe_for(parts_of(afs=False), teacher(afs=True))


class TestOwnStart:
    """A schedule whose first level is not the model's largest one."""

    def student(self, **changes):
        return parts_of(within_table(), schedule={"name": "discrete", "rho": 2.0}, **changes)

    def test_the_teacher_starts_where_the_student_does_and_stops_at_its_levels(self):
        student = self.student()
        recipe = recipe_for(student, teacher(inner_levels=3))
        assert list(recipe.stored_sigmas) == student.sigmas.tolist()
        assert recipe.sigmas[0] < within_table().noise_range.sigma_max
        rolled = roll_out(within_table(), recipe, training(0, 4), CPU)
        assert rolled.states[:, 0].equal(training(0, 4).noise((1, 4, 4)) * student.sigmas[0].float())

    def test_its_form_moves_the_digest(self):
        textbook = parts_of(within_table(), schedule={"name": "discrete", "rho": 2.0, "form": "textbook"})
        assert recipe_for(self.student(), teacher()).digest != recipe_for(textbook, teacher()).digest

    def test_a_store_that_starts_elsewhere_is_no_teacher_for_it(self):
        """What it holds at the student's first level is no pure noise."""
        dense = teacher(schedule={"name": "polynomial"}, num_intervals=20)
        with pytest.raises(InputError, match=r"teacher\.schedule starts at 10, the student at 7\.2349"):
            recipe_for(self.student(), dense)
        own = teacher(schedule={"name": "discrete", "rho": 2.0}, num_intervals=20)
        assert recipe_for(self.student(), own).sigmas[0] == float(self.student().sigmas[0])


@pytest.mark.parametrize("afs", [False, True], ids=["evaluated start", "analytic start"])
@pytest.mark.parametrize("inner_levels", [0, 1, 3])
@pytest.mark.parametrize("solver", TEACHERS, ids=[spec["name"] for spec in TEACHERS])
class TestRollOut:
    @pytest.fixture
    def made(self, solver, inner_levels, afs):
        """The solver, the trajectories, and the number of network runs."""
        model, calls = watched(mixture())
        recipe = recipe_for(parts_of(model, afs=afs), teacher(solver=solver, inner_levels=inner_levels, afs=afs))
        rolled = roll_out(model, recipe, training(5, 9), CPU)
        return build("solver", SOLVERS, recipe.solver), rolled, len(calls.sizes)

    def test_its_states_are_a_plain_trajectory_on_the_fine_grid_read_at_the_coarse_levels(
        self, made, inner_levels, afs
    ):
        plain, rolled, _ = made
        model, stride = mixture(), inner_levels + 1
        fine = levels(parts_of().schedule, 3 * stride, model.noise_range)
        with torch.inference_mode():
            x = training(5, 9).noise(model.shape) * 80
            known = analytic_first_step(x, fine[0], model.feature_size) if afs else None
            states = [state.x for state in trajectory(plain, ProbabilityFlow(model.denoiser), x, fine, known=known)]
        assert rolled.states.equal(torch.stack(states[::stride], 1))
        assert rolled.states.shape == (4, 4, *model.shape)
        assert rolled.seeds.tolist() == [5, 6, 7, 8]

    def test_the_kept_answers_are_those_at_the_kept_states(self, made, afs):
        _, rolled, _ = made
        flow, sigmas = ProbabilityFlow(mixture().denoiser), parts_of().sigmas
        for index in range(3):
            state = rolled.states[:, index]
            is_analytic = afs and index == 0
            answer = analytic_first_step(state, sigmas[0], 3) if is_analytic else flow(state, sigmas[index])
            assert rolled.derivatives[:, index].equal(answer.derivative)
            assert rolled.features[:, index].equal(answer.features)
            kept = rolled.evaluation(index, sigmas[index])
            assert (kept.cost, kept.sigma) == (0, sigmas[index])
            assert kept.derivative.equal(answer.derivative)
            assert kept.features.equal(answer.features)
            atol = 1e-6 * float(sigmas[index])  # the image is computed back from the derivative
            torch.testing.assert_close(kept.denoised, answer.denoised, rtol=1e-5, atol=atol)

    def test_keeping_them_takes_no_further_network_run_but_after_a_corrector(self, made, solver, inner_levels, afs):
        plain, _, calls = made
        at_corrected_states = 2 if solver["name"] == "unipc" else 0  # it hands on what it asked at the predicted ones
        assert calls == network_runs(plain, 3 * (inner_levels + 1), afs) + at_corrected_states


class TestLabels:
    def test_a_trajectory_follows_the_label_of_its_seed(self, tmp_path):
        model, calls = watched(build("model", DENOISERS, random_network(tmp_path, label_dim=3)))
        rolled = roll_out(model, recipe_for(parts_of(model), teacher()), training(0, 6), CPU)
        drawn = training(0, 6).labels(model.shape, 3)
        assert rolled.condition.equal(drawn)
        assert all(condition.equal(drawn) for condition in calls.conditions)

    def test_a_trajectory_follows_the_training_prompt_of_its_seed(self):
        prompts = PromptLists(training=("a", "b", "c"), evaluation=("d",))
        model, calls = watched(replace(mixture(), prompts=prompts))
        rolled = roll_out(model, recipe_for(parts_of(model), teacher()), training(0, 6), CPU)
        assert rolled.condition.equal(prompts.numbers(training(0, 6), model.shape))
        assert all(condition.equal(rolled.condition) for condition in calls.conditions)

    def test_a_model_without_labels_leaves_none(self):
        assert roll_out(mixture(), RECIPE, training(0, 2), CPU).condition is None
