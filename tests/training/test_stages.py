"""Every stage of a multistep student's tables starts where its sampler is with what the stages before have trained."""

import json
from dataclasses import replace

import pytest
import torch

from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.solvers.placement import Placement
from amed_lightning.teacher.trajectories import roll_out
from amed_lightning.tensors import per_sample, squared_distance

from ..teacher.stores import CPU
from .runs import INTERVALS, ROWS, disturb, prepared

pytestmark = pytest.mark.usefixtures("unchecked")

SOLVER, PLACE = {"name": "ipndm", "order": 3}, Placement(0.37, 0.99)


def staged(folder, **changes):
    """A distillation whose stages are over, and the weights that its predictor had at the end of each."""
    module, data = prepared(folder, solver=SOLVER, **changes)
    trained = []
    for stage in range(INTERVALS):
        module.route.begin_epoch(stage * module.route.stage_epochs)
        trained.append(disturb(module.predictor, stage))
    return module, data, trained


def sampled(module, data, trained):
    """The flow, the sampler's states before each interval with its answers there, and the teacher's states."""
    parts, solver = module.parts, module.student.solver
    teacher = roll_out(parts.model, data.store(parts).recipe, data.train_seeds, CPU)
    flow, x = ProbabilityFlow(parts.model.denoiser), teacher.states[:, 0]
    state, states = solver.init(x, parts.sigmas, module.student.sampler.known_at_start(x)), []
    for weights, sigma_next in zip(trained, parts.sigmas[1:], strict=True):
        module.predictor.load_state_dict(weights)
        state = replace(state, known=state.evaluated(flow)[0])
        states.append(state)
        with torch.no_grad():
            state = solver.step(flow, state, sigma_next)
    return flow, states, teacher.states


@pytest.mark.parametrize("afs", [False, True], ids=["evaluated start", "analytic start"])
def test_each_is_of_the_sampler_s_own_state_and_history(tmp_path, afs):
    module, data, trained = staged(tmp_path, afs=afs, route={"agreement": 1e-2})
    flow, states, targets = sampled(module, data, trained)
    sigmas, solver, tables = module.parts.sigmas, module.student.solver, module.route.stages.tables
    for number, (table, state) in enumerate(zip(tables, states, strict=True), start=1):
        assert table.sigmas.equal(sigmas[number - 1 :])
        assert table.past.shape == (ROWS, len(state.history))
        for column, answer in zip(table.past.T, state.history, strict=True):
            torch.testing.assert_close(column.float(), per_sample(answer.sigma.float(), ROWS))
        torch.testing.assert_close(table.features, state.known.features)
        end = solver.step_at(flow, state, sigmas[number], PLACE)
        expected = squared_distance(end.x, targets[:, number]).double()
        torch.testing.assert_close(table.losses(solver, PLACE), expected, rtol=1e-2, atol=1e-4)


def gone_on(folder, trained):
    """The tables of another run in the same place that has trained something before."""
    module, _ = prepared(folder, solver=SOLVER)
    module.route.restore({"trained": trained})
    module.route.begin_epoch((INTERVALS - 1) * module.route.stage_epochs)
    return module.route.stages.tables


def test_a_run_that_goes_on_reads_its_tables_or_makes_them_again_and_another_run_has_others(tmp_path):
    module, *_ = staged(tmp_path)
    trained, tables = module.route.state()["trained"], list(module.route.stages.tables)
    (last,) = (
        path for path in tmp_path.rglob("tables/*.json") if json.loads(path.read_bytes())["recipe"]["interval"] == 2
    )
    last.unlink()
    for one, other in zip(gone_on(tmp_path, trained), tables, strict=True):
        assert one.past.equal(other.past)
        torch.testing.assert_close(one.gram, other.gram)
    first, *others = gone_on(tmp_path, [disturb(module.predictor, stage) for stage in (7, 8)])
    assert first.gram.equal(tables[0].gram)
    assert not any(one.past.equal(other.past) for one, other in zip(others, tables[1:], strict=True))


def test_a_stage_lasts_as_many_epochs_as_it_was_told_and_the_last_to_the_end(tmp_path):
    module, _ = prepared(tmp_path, solver=SOLVER, route={"stage_epochs": 2})
    found = []
    for epoch in range(8):
        module.route.begin_epoch(epoch)
        found.append(len(module.route.stages.tables))
    assert found == [1, 1, 2, 2, 3, 3, 3, 3]


def in_memory(folder, memory):
    """The tables of all stages, and what the states took after each."""
    torch.manual_seed(0)
    module, _ = prepared(folder, solver=SOLVER, route={"batch_size": ROWS // 2, "states_memory": memory / 2**30})
    kept = []
    for stage in range(INTERVALS):
        module.route.begin_epoch(stage * module.route.stage_epochs)
        kept.append(module.route.stages.kept_bytes)
        disturb(module.predictor, stage)
    return module.route.stages.tables, kept


def test_states_between_stages_take_no_more_than_they_may_and_what_is_computed_again_is_the_same(tmp_path):
    tables, kept = in_memory(tmp_path / "enough", 2**30)
    assert kept[1] > kept[0] > kept[2] == 0
    others, fewer = in_memory(tmp_path / "half", kept[1] // 2)
    assert max(fewer) == fewer[1] == kept[1] // 2
    for one, other in zip(tables, others, strict=True):
        assert one.gram.equal(other.gram)
        assert one.past.equal(other.past)
