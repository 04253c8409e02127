"""Every route leaves the same gradient at the placement."""

import pytest

from amed_lightning.training.arrivals import ByDifferences, through_network

from .gradients import NETWORKS, nodes_around, steps

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
    return list(steps(NETWORKS[network](), name=solver))


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
            wide, narrow = (distance(step.by(ByDifferences(size)), exact) for size in (8e-3, 4e-3))
            assert narrow < 1e-3
            assert wide / narrow == pytest.approx(4, rel=0.05)
