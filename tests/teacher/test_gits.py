"""GITS: the costs, the dynamic program, the inserted level, the command's search.

What is computed is written down a second time here, from the definition: jumps and distances sample by sample, every
path of a small grid, the student's runs as loops.
"""

import json
import math
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.gaussian import anisotropic_gaussian
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.noise.schedules import NoiseRange
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts, build_sampler
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.gits import cheapest_path, jump_costs, with_inserted_level
from amed_lightning.teacher.search import search
from amed_lightning.teacher.trajectories import TeacherConfig, Trajectories, recipe_for, roll_out
from amed_lightning.teacher.wanted import ScheduleSearch

from ..sampling.models import within_table

MODEL, POLYNOMIAL = {"name": "anisotropic_gaussian"}, {"name": "polynomial"}
METRICS = ("dev", "l1", "l2")
FINE = 8
CPU = torch.device("cpu")


def near():
    """The exact model from so low a level that the analytic first step is not its answer there."""
    return replace(anisotropic_gaussian(), noise_range=NoiseRange(0.05, 1.5))


class Alone:
    global_rank, world_size = 0, 1

    def broadcast(self, obj, src=0):
        return obj


def fine_run(afs, model=None):
    """Return a student's parts on the fine levels, and eight of the teacher's trajectories there."""
    parts = SamplerParts(SamplerConfig(MODEL, {"name": "euler"}, POLYNOMIAL, FINE, afs=afs), model)
    recipe = recipe_for(parts, TeacherConfig({"name": "ipndm"}, 0, 8, afs=afs))
    return parts, roll_out(parts.model, recipe, Seeds(Stream.tuning, 0, 8), CPU)


@pytest.fixture(scope="module")
def fine():
    return fine_run(afs=True)


def part_of(trajectories, chosen):
    """Return some of the trajectories."""
    parts = (trajectories.states, trajectories.derivatives, trajectories.features)
    return Trajectories(*(part[chosen] for part in parts), None, trajectories.seeds[chosen])


def off_line(point, first, last):
    """Twice the area of the triangle over its base."""
    base, side = last - first, point - first
    return math.sqrt(max(0.0, (side @ side) * (base @ base) - (side @ base) ** 2)) / math.sqrt(base @ base)


def defined_cost(teacher, sigmas, metric, i, j):
    """The mean over samples of what a jump from level i to level j costs."""
    costs = []
    for x, d in zip(
        teacher.states.flatten(2).double().numpy(), teacher.derivatives.flatten(2).double().numpy(), strict=True
    ):
        jumped = x[i] + (float(sigmas[j]) - float(sigmas[i])) * d[i]
        costs.append(
            {
                "l1": abs(jumped - x[j]).sum(),
                "l2": math.sqrt(((jumped - x[j]) ** 2).sum()),
                "dev": off_line(jumped, x[0], x[-1]) - off_line(x[j], x[0], x[-1]),
            }[metric]
        )
    return sum(costs) / len(costs)


def best_path(cost, last, jumps, gamma):
    """Of all paths, in the order of their indices, the first that costs least; each further jump counts gamma more."""
    every = [(0, *between, last) for between in combinations(range(1, last), jumps - 1)]
    return list(min(every, key=lambda path: sum(gamma**k * cost(i, j) for k, (i, j) in enumerate(pairwise(path)))))


def defined_search(teacher, sigmas, metric, jumps, gamma):
    table = {(i, j): defined_cost(teacher, sigmas, metric, i, j) for i, j in combinations(range(len(sigmas)), 2)}
    return best_path(lambda i, j: table[i, j], len(sigmas) - 1, jumps, gamma)


def defined_end(model, x, sigmas, order):
    """Run Adams-Bashforth of order 1 or 2, its first derivative analytic, and return the last states."""
    past = None
    for sigma, sigma_next in pairwise(sigmas):
        if past is None:
            slope = x / math.sqrt(1 + sigma**2)
        else:
            slope = (x - model.denoiser(x, torch.tensor(sigma, dtype=torch.float64), None).image) / sigma
        step = slope if order == 1 or past is None else 1.5 * slope - 0.5 * past
        x, past = x + (sigma_next - sigma) * step, slope
    return x


def defined_insertion(path, parts, sigmas, teacher, order):
    """With every level that the first jump passes over inserted, keep the run that ends nearest to the teacher."""

    def distance(between):
        chosen = [float(sigmas[index]) for index in [0, between, *path[1:]]]
        end = defined_end(parts.model, teacher.states[:, 0], chosen, order)
        return sum(((a - b) ** 2).sum().sqrt() for a, b in zip(end, teacher.states[:, -1], strict=True))

    return [0, min(range(1, path[1]), key=distance), *path[1:]] if path[1] > 1 else path


class TestCosts:
    @pytest.mark.parametrize("metric", METRICS)
    def test_a_jump_costs_what_its_definition_says(self, fine, metric):
        parts, teacher = fine
        costs = jump_costs([teacher], parts.sigmas, metric)
        for i, j in combinations(range(FINE + 1), 2):
            assert float(costs[i, j]) == pytest.approx(
                defined_cost(teacher, parts.sigmas, metric, i, j), rel=1e-6, abs=1e-9
            )
        assert costs.tril().diagonal().isinf().all()
        assert costs[5, 2].isinf()

    @pytest.mark.parametrize("metric", METRICS)
    def test_every_sample_counts_alike_however_they_are_batched(self, fine, metric):
        parts, teacher = fine
        ragged = [part_of(teacher, slice(0, 5)), part_of(teacher, slice(5, 8))]
        whole = jump_costs([teacher], parts.sigmas, metric)
        torch.testing.assert_close(jump_costs(ragged, parts.sigmas, metric), whole, rtol=1e-12, atol=1e-12)

    def test_an_analytic_teacher_takes_the_analytic_first_step(self, fine):
        parts, teacher = fine
        analytic = teacher.states[:, 0] / (1 + parts.sigmas[0] ** 2).sqrt().float()
        torch.testing.assert_close(teacher.derivatives[:, 0], analytic)
        assert not teacher.features[:, 0].any()
        assert teacher.features[:, 1].any()


class TestPath:
    @pytest.mark.parametrize("gamma", [1.0, 1.15, 0.5])
    @pytest.mark.parametrize("jumps", [1, 2, 3, 6])
    def test_it_is_the_cheapest_of_all(self, gamma, jumps):
        size = 7
        costs = torch.rand(size, size, generator=torch.Generator().manual_seed(jumps), dtype=torch.float64)
        upper = costs.masked_fill(torch.ones(size, size).tril().bool(), torch.inf)
        assert cheapest_path(upper, jumps, gamma) == best_path(lambda i, j: float(costs[i, j]), size - 1, jumps, gamma)

    @pytest.mark.parametrize("gamma", [1.0, 2.0])
    def test_of_equal_ones_it_is_the_one_of_the_lowest_indices(self, gamma):
        """Small whole numbers have ties and no rounding."""
        generator = torch.Generator().manual_seed(0)
        for jumps in (2, 3, 4) * 20:
            costs = torch.randint(-2, 3, (7, 7), generator=generator).double()
            upper = costs.masked_fill(torch.ones(7, 7).tril().bool(), torch.inf)
            assert cheapest_path(upper, jumps, gamma) == best_path(lambda i, j: float(costs[i, j]), 6, jumps, gamma)  # noqa: B023

    @pytest.mark.parametrize("jumps", [0, 5])
    def test_more_jumps_than_levels_are_refused(self, jumps):
        with pytest.raises(ValueError, match="cannot be chosen among 4"):
            cheapest_path(torch.ones(5, 5), jumps, 1.0)

    @pytest.mark.parametrize("wrong", [math.nan, math.inf])
    def test_a_cost_that_is_no_number_is_refused(self, wrong):
        costs = torch.ones(5, 5)
        costs[1, 3] = wrong
        with pytest.raises(ValueError, match="cost is not finite"):
            cheapest_path(costs, 2, 1.0)


@pytest.mark.parametrize("order", [1, 2])
def test_the_inserted_level_is_the_one_from_which_the_student_ends_nearest(order):
    model = near()
    parts, teacher = fine_run(True, model)
    student = SamplerConfig(MODEL, {"name": "ipndm", "order": order}, POLYNOMIAL, FINE, afs=True)
    sampler = SamplerParts(student, model).sampler(None)
    for path in ([0, 6, 8], [0, 7, 8], [0, 4, 7, 8]):
        inserted = with_inserted_level(path, sampler, parts.sigmas, teacher)
        assert inserted == defined_insertion(path, parts, parts.sigmas, teacher, order)
    assert with_inserted_level([0, 1, 8], sampler, parts.sigmas, teacher) == [0, 1, 8]


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """Run searches on eight trajectories of the model :func:`near`; stores are shared."""
    monkeypatch.setitem(DENOISERS, "near", near)

    def run(num_intervals=3, solver="euler", **changes):
        config = {"fine_intervals": FINE, "trajectories": 8, "batch_size": 8, "root": tmp_path} | changes
        output = tmp_path / "gits.json"
        sigmas = search(
            ScheduleSearch({"name": "near"}, {"name": solver}, num_intervals, output, **config), Alone(), CPU
        )
        found = json.loads(output.read_text())
        assert found["sigmas"] == sigmas
        return found

    return run


class TestSearch:
    @pytest.mark.parametrize("afs", [False, True])
    def test_it_finds_what_the_definition_says(self, searched, afs):
        """With gamma 0.2 the first jump ends at the next level, where nothing is inserted; with others far below."""
        parts, teacher = fine_run(afs, near())
        firsts = set()
        for metric in METRICS:
            for gamma, jumps in ((0.2, 2), (1.0, 3), (1.15, 4), (3.0, 2)):
                path = defined_search(teacher, parts.sigmas, metric, jumps, gamma)
                firsts.add(min(path[1], 2))
                expected = defined_insertion(path, parts, parts.sigmas, teacher, 1) if afs else path
                assert searched(jumps, metric=metric, gamma=gamma, afs=afs)["indices"] == expected
        assert firsts == {1, 2}

    def test_it_takes_the_published_metric_weight_and_teacher_unless_it_is_told_others(self, searched):
        found = searched()
        assert (found["metric"], found["gamma"]) == ("dev", 1.15)
        assert (found["teacher"], found["schedule"]) == (
            {"name": "ipndm", "order": 4},
            {"name": "polynomial", "rho": 7.0},
        )
        assert ScheduleSearch(MODEL, {"name": "euler"}, 3, Path("gits.json")).fine_intervals == 60
        other = searched(metric="l2", gamma=1.1, teacher={"name": "heun"}, schedule={"name": "logsnr"})
        assert (other["metric"], other["gamma"], other["teacher"]["name"]) == ("l2", 1.1, "heun")
        assert (other["schedule"], other["fine_intervals"]) == ({"name": "logsnr"}, FINE)

    @pytest.mark.parametrize("afs", [False, True])
    def test_it_writes_levels_that_a_sampler_takes(self, searched, tmp_path, afs):
        found = searched(afs=afs, gamma=3.0)
        spec = {"name": "gits", "path": str(tmp_path / "gits.json")}
        number = len(found["sigmas"]) - 1
        assert number == 3 + afs
        sampler = build_sampler(SamplerConfig({"name": "near"}, {"name": "euler"}, spec, number, afs))
        assert sampler.sigmas.tolist() == found["sigmas"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"trajectories": 12}, "trajectories is 12; it must be a multiple of 8"),
            ({"num_intervals": 9}, "num_intervals 9 cannot be chosen among fine_intervals 8"),
            ({"num_intervals": 0}, "num_intervals 0 cannot be chosen"),
            ({"gamma": 0.0}, "gamma is 0.0"),
            ({"gamma": -1.0}, "gamma is -1.0"),
            ({"gamma": math.nan}, "gamma is nan"),
        ],
    )
    def test_numbers_that_make_no_sense_are_refused_before_anything_is_computed(
        self, searched, tmp_path, changes, message
    ):
        with pytest.raises(InputError, match=message):
            searched(**changes)
        assert not any(tmp_path.iterdir())

    def test_levels_that_start_below_the_models_are_no_ground_for_a_list(self, tmp_path, monkeypatch):
        monkeypatch.setitem(DENOISERS, "within_table", within_table)
        plain = {"name": "within_table"}, {"name": "euler"}, 3, tmp_path / "gits.json"
        config = ScheduleSearch(*plain, schedule={"name": "discrete", "rho": 2.0}, root=tmp_path)
        with pytest.raises(InputError, match=r"starts at 7\.2349, .* the model's 10; take form: textbook"):
            search(config, Alone(), CPU)
