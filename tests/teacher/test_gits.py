"""GITS: the costs, the dynamic program, the inserted level, the command's search."""

import json
from itertools import combinations, pairwise

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.sampling.sampler import SamplerConfig, SamplerParts, build_sampler
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.state import solve
from amed_lightning.teacher.gits import cheapest_path, jump_costs, with_inserted_level
from amed_lightning.teacher.search import ScheduleSearch, search
from amed_lightning.teacher.trajectories import TeacherConfig, recipe_for, roll_out

MODEL, POLYNOMIAL = {"name": "anisotropic_gaussian"}, {"name": "polynomial"}
CPU = torch.device("cpu")


class Alone:
    global_rank, world_size = 0, 1

    def broadcast(self, obj, src=0):
        return obj


@pytest.fixture(scope="module")
def fine():
    parts = SamplerParts(SamplerConfig(MODEL, {"name": "euler"}, POLYNOMIAL, 8, afs=True))
    recipe = recipe_for(parts, TeacherConfig({"name": "ipndm"}, 0, 8, afs=True))
    return parts, roll_out(parts.model, recipe, Seeds(Stream.tuning, 0, 8), CPU)


@pytest.mark.parametrize("metric", ["l1", "l2", "dev"])
def test_a_jump_costs_what_its_definition_says(fine, metric):
    parts, teacher = fine
    costs = jump_costs([teacher, teacher], parts.sigmas, metric)
    states = teacher.states.double().flatten(2)
    for start, stop in [(0, 1), (0, 8), (3, 5), (7, 8)]:
        expected = []
        for sample in range(8):
            step = parts.sigmas[stop] - parts.sigmas[start]
            jumped = states[sample, start] + step * teacher.derivatives[sample, start].double().flatten()
            reached, first = states[sample, stop], states[sample, 0]
            if metric == "dev":
                line = states[sample, -1] - first
                far = [((p - first) - line * ((p - first) @ line) / (line @ line)).norm() for p in (jumped, reached)]
                expected.append(far[0] - far[1])
            else:
                expected.append(torch.linalg.vector_norm(jumped - reached, ord=int(metric[1])))
        torch.testing.assert_close(costs[start, stop], torch.stack(expected).mean())
    assert costs.tril().diagonal().isinf().all()
    assert costs[5, 2].isinf()


@pytest.mark.parametrize("gamma", [1.0, 1.15, 0.5])
@pytest.mark.parametrize("jumps", [1, 2, 3, 6])
def test_the_path_is_the_cheapest_of_all(gamma, jumps):
    size = 7
    costs = torch.rand(size, size, generator=torch.Generator().manual_seed(jumps), dtype=torch.float64)

    def total(path):
        return sum(gamma**k * float(costs[i, j]) for k, (i, j) in enumerate(pairwise(path)))

    every = [(0, *between, size - 1) for between in combinations(range(1, size - 1), jumps - 1)]
    upper = costs.masked_fill(torch.ones(size, size).tril().bool(), torch.inf)
    assert tuple(cheapest_path(upper, jumps, gamma)) == min(every, key=total)


def test_ties_go_to_the_lowest_index():
    costs = torch.ones(5, 5).masked_fill(torch.ones(5, 5).tril().bool(), torch.inf)
    assert cheapest_path(costs, 3, 1.0) == [0, 1, 2, 4]


@pytest.mark.parametrize("jumps", [0, 5])
def test_more_jumps_than_levels_are_refused(jumps):
    with pytest.raises(ValueError, match="cannot be chosen among 4"):
        cheapest_path(torch.ones(5, 5), jumps, 1.0)


def test_the_inserted_level_is_the_one_from_which_the_student_ends_nearest(fine):
    parts, teacher = fine
    sampler = parts.sampler(None)
    path = with_inserted_level([0, 6, 8], sampler, parts.sigmas, teacher)
    ends = {}
    for between in range(1, 6):
        sigmas = parts.sigmas[[0, between, 6, 8]]
        start = teacher.states[:, 0]
        flow = ProbabilityFlow(parts.model.denoiser)
        state = solve(sampler.solver, flow, start, sigmas, known=sampler.known_at_start(start))
        ends[between] = float((state.x - teacher.states[:, -1]).flatten(1).norm(dim=1).mean())
    assert path == [0, min(ends, key=ends.get), 6, 8]
    assert with_inserted_level([0, 1, 8], sampler, parts.sigmas, teacher) == [0, 1, 8]


def test_the_analytic_teacher_takes_the_analytic_first_step(fine):
    parts, teacher = fine
    torch.testing.assert_close(
        teacher.derivatives[:, 0], teacher.states[:, 0] / (1 + parts.sigmas[0] ** 2).sqrt().float()
    )
    assert not teacher.features[:, 0].any()
    assert teacher.features[:, 1].any()


@pytest.mark.parametrize("afs", [False, True])
def test_a_search_writes_levels_that_a_sampler_takes(tmp_path, afs):
    output = tmp_path / "gits.json"
    config = ScheduleSearch(
        MODEL, {"name": "euler"}, 3, output, afs, fine_intervals=12, trajectories=16, batch_size=8, root=tmp_path
    )
    sigmas = search(config, Alone(), CPU)
    found = json.loads(output.read_text())
    assert found["sigmas"] == sigmas
    assert len(sigmas) == len(set(found["indices"])) >= 4
    spec = {"name": "gits", "path": str(output)}
    sampler = build_sampler(SamplerConfig(MODEL, {"name": "euler"}, spec, len(sigmas) - 1, afs))
    assert sampler.sigmas.tolist() == pytest.approx(sigmas, rel=1e-12)
    with pytest.raises(InputError, match="trajectories is 12"):
        search(
            ScheduleSearch(MODEL, {"name": "euler"}, 3, output, trajectories=12, batch_size=8, root=tmp_path),
            Alone(),
            CPU,
        )
