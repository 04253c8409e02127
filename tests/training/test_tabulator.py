"""Tables of a student's intervals: which seeds, which states, which nodes, and what the network is asked."""

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.placement import Placement
from amed_lightning.teacher.nodes import Nodes, chebyshev
from amed_lightning.teacher.store import TrajectoryReader
from amed_lightning.teacher.tabulate import Agreement
from amed_lightning.teacher.trajectories import TeacherConfig, roll_out
from amed_lightning.tensors import squared_distance
from amed_lightning.training.tabulator import TableOptions, Tabulator

from ..teacher.stores import CPU, fill
from .runs import distillation, trajectories

SEEDS, BLOCK = Seeds(Stream.training, 32, 128), Seeds(Stream.training, 70, 78)


def options(**changes):
    plain = {"agreement": Agreement(0.05), "ratio_range": None, "scale_time": None, "batch_size": 8}
    return TableOptions(**(plain | changes))


def tabulator(folder, teacher=None, **changes):
    """A tabulator of a student, the teacher's trajectories of a block, and the network's batches so far."""
    module = distillation(folder, scale_time=0.0, **changes)
    data = trajectories(folder, teacher=TeacherConfig({"name": "heun"}, 1, 64, **(teacher or {})))
    store = data.store(module.parts)
    fill(store, SEEDS, model=module.parts.model)
    recipe = options().recipe(module.student, store.recipe.digest, SEEDS)
    made = Tabulator(module.student, TrajectoryReader(store, SEEDS, module.parts.sigmas), recipe, CPU)
    everything, sizes = (
        roll_out(module.parts.model, store.recipe, SEEDS, CPU),
        module.parts.model.denoiser.denoiser.sizes,
    )
    sizes.clear()
    return made, everything, sizes


def test_a_block_is_read_by_its_seeds(tmp_path):
    made, everything, _ = tabulator(tmp_path)
    teacher = made.read(BLOCK)
    assert teacher.seeds.tolist() == list(range(70, 78))
    torch.testing.assert_close(teacher.states, everything.states[70 - 32 : 78 - 32])
    torch.testing.assert_close(teacher.states[:, 0], 80 * BLOCK.noise((1, 4, 4)))


@pytest.mark.parametrize(
    ("name", "afs"), [("amed", False), ("amed", True), ("dpm_solver_2", True), ("euler", False), ("unipc", True)]
)
def test_every_interval_of_a_one_step_student_goes_from_the_teacher_to_the_teacher(tmp_path, name, afs):
    made, everything, _ = tabulator(
        tmp_path, solver={"name": name} | ({"order": 1} if name == "unipc" else {}), afs=afs
    )
    student, flow, place = made.student, ProbabilityFlow(made.student.parts.model.denoiser), Placement(0.63, 0.99)
    states, sigmas = everything.states[70 - 32 : 78 - 32], student.parts.sigmas
    for index, table in enumerate(made.from_the_teacher(BLOCK)):
        known = student.sampler.known_at_start(states[:, index]) if index == 0 else None
        state = student.solver.init(states[:, index], sigmas[index:], known)
        end = student.solver.step_at(flow, state, sigmas[index + 1], place)
        expected = squared_distance(end.x, states[:, index + 1]).double()
        torch.testing.assert_close(table.losses(student.solver, place), expected, rtol=1e-2, atol=1e-4)
        torch.testing.assert_close(table.features, state.evaluated(flow)[0].features, rtol=1e-4, atol=1e-5)
    assert index == 2


@pytest.mark.parametrize(
    ("known", "teacher"),
    [
        (1, {}),
        (0, {"afs": True}),
        (0, {"dtype": "float16"}),
        (0, {"schedule": {"name": "logsnr"}, "num_intervals": 7}),
    ],
    ids=["as it was asked", "analytic", "rounded", "interpolated"],
)
def test_the_node_at_an_interval_s_start_is_known_where_the_stored_answer_is_the_network_s(tmp_path, known, teacher):
    made, _, sizes = tabulator(tmp_path, teacher, afs=True)
    tables = made.from_the_teacher(BLOCK)
    assert sizes == [8] * sum(len(table.nodes) - known for table in tables)


class TestRecipe:
    def nodes(self, folder, scale_dir=0.01, scale_time=0.0, bound=None, **changes):
        module = distillation(folder, scale_dir=scale_dir, scale_time=scale_time, **changes)
        return options(scale_time=bound).recipe(module.student, "ab12", SEEDS).nodes

    def test_its_axes_hold_what_the_student_may_place_and_no_more(self, tmp_path):
        whole, inner = chebyshev(5, 0.0, 1.0), chebyshev(5, 0.1, 0.9)
        assert self.nodes(tmp_path) == Nodes(whole)
        assert self.nodes(tmp_path, scale_time=0.2) == Nodes(whole, (0.8, 1.0, 1.2))
        assert self.nodes(tmp_path, scale_time=0.1, bound=0.25) == Nodes(whole, (0.75, 1.0, 1.25))
        assert self.nodes(tmp_path, solver={"name": "ipndm"}) == Nodes(inner)

    def test_a_solver_that_asks_again_after_its_second_update_has_direction_scales_too(self, tmp_path):
        assert self.nodes(tmp_path, scale_dir=0.05, solver={"name": "unipc"}).direction_scale == (0.95, 1.0, 1.05)
        assert self.nodes(tmp_path, scale_dir=0.0, solver={"name": "unipc"}).direction_scale == (1.0,)

    def test_time_scales_beyond_the_table_are_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"route.scale_time is 0.1, but the student's goes up to 0.2; raise it"):
            self.nodes(tmp_path, scale_time=0.2, bound=0.1)

    def test_a_shared_table_has_no_solver_and_the_others_have_all_options_of_theirs(self, tmp_path):
        for name, own in (("heun", None), ("ipndm", {"name": "ipndm", "order": 4})):
            module = distillation(tmp_path, solver={"name": name})
            recipe = options().recipe(module.student, "ab12", SEEDS)
            assert recipe.solver == own
            assert (recipe.stream, recipe.start, recipe.stop) == ("training", 32, 128)
            assert recipe.sigmas == tuple(module.parts.sigmas.tolist())
