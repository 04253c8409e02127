"""Every route leaves the same gradient at the placement."""

from dataclasses import replace

import pytest
import torch

from amed_lightning.tensors import squared_distance
from amed_lightning.training.gradients import DifferenceGradient, through_network
from amed_lightning.training.student import Student

from .gradients import ENTRIES, Spread, nodes_around, steps, whole

CASES = [
    *(("digits", solver) for solver in ("amed", "dpm_solver_2", "ipndm", "unipc")),
    *(("attending U-Net", solver) for solver in ("amed", "euler", "ipndm_v", "dpm_solver_pp")),
]
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning"),
    pytest.mark.usefixtures("unchecked"),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[1]} on {case[0]}")
def intervals(request, unchecked):
    """The three intervals of a student."""
    network, solver = request.param
    return list(steps(network, solver))


def distance(one, other):
    """The largest difference of losses and gradients, each in units of its own largest value."""
    return max(float((a.flatten() - b.flatten()).abs().max() / b.abs().max()) for a, b in zip(one, other, strict=True))


class TestAgreement:
    def test_reverse_mode_a_table_and_forward_mode_are_the_same(self, intervals):
        for step in intervals:
            exact = step.by_forward_mode()
            assert distance(step.by(through_network), exact) < 1e-9
            assert distance(step.by_table(nodes_around(step.student)), exact) < 1e-6

    def test_differences_are_too_to_their_second_order(self, intervals):
        for step in intervals:
            exact = step.by(through_network)
            wide, narrow = (distance(step.by(DifferenceGradient(size)), exact) for size in (8e-3, 4e-3))
            assert narrow < 1e-3
            assert wide / narrow == pytest.approx(4, rel=0.05)


class TestWhole:
    """Losses along the student's own run, each with a gradient in all placements before it."""

    def moved(self, student, name, amount):
        """The student, one entry of its placements moved for all samples."""
        placer = Spread.leaves()
        return Student(student.parts, replace(placer, **{name: (getattr(placer, name) + amount).detach()}))

    @pytest.mark.parametrize("solver", ["amed", "ipndm"])
    def test_every_loss_is_that_of_sampling_and_its_gradient_that_of_differences(self, solver):
        student, teacher = whole("digits", solver)
        sampler = student.parts.sampler(student.placer)
        noise = teacher.states[:, 0] / sampler.sigmas[0]
        states = list(sampler.states(noise))[1:]
        found = list(student.whole(teacher))
        assert [interval.number for interval in found] == [1, 2, 3]
        for interval, state, target in zip(found, states, teacher.states[:, 1:].unbind(1), strict=True):
            torch.testing.assert_close(interval.losses, squared_distance(state.x, target), rtol=1e-9, atol=0)
        leaves = [getattr(student.placer, name) for name in ENTRIES]
        for index in (1, 2):
            gradients = torch.autograd.grad(found[index].losses.sum(), leaves, retain_graph=True)
            for name, gradient in zip(ENTRIES, gradients, strict=True):
                ahead, behind = (
                    list(self.moved(student, name, side * 1e-5).whole(teacher))[index].losses.detach()
                    for side in (1, -1)
                )
                slope = (ahead - behind) / 2e-5
                torch.testing.assert_close(gradient.flatten(), slope, rtol=1e-4, atol=1e-6 * float(slope.abs().max()))
