"""Networks of discrete time as denoisers: what they are asked, and what their answer means."""

import math
from itertools import pairwise

import pytest
import torch

from amed_lightning.denoisers.preconditioning import FlowMatching, OfTable, Preconditioned
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import scaled_linear_log_alphas
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve

TABLE = scaled_linear_log_alphas()
DOUBLE = {"dtype": torch.float64}
PER_SAMPLE = torch.tensor([0.05, 0.9, 14.0], **DOUBLE).reshape(3, 1, 1, 1)
every_level = pytest.mark.parametrize("sigma", [torch.tensor(0.9, **DOUBLE), PER_SAMPLE], ids=["one", "per sample"])


class StandIn:
    """A network that keeps what it is asked and answers with a fixed image."""

    def __init__(self, output=None):
        self.output = output

    def __call__(self, x, time, condition):
        self.x, self.time, self.condition = x, time, condition
        return x if self.output is None else self.output, x.flatten(1)


def of_table(network, prediction):
    return Preconditioned(network, OfTable(table=TABLE, prediction=prediction))


def drawn(seed):
    return torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def level(index):
    return torch.tensor(math.sqrt(math.expm1(-2 * TABLE[index])), **DOUBLE)


@every_level
def test_the_network_sees_states_of_unit_variance(sigma):
    network, x = StandIn(), drawn(1)
    answer = of_table(network, "epsilon")(x, sigma, torch.arange(3))
    torch.testing.assert_close(network.x, x / (1 + sigma**2).sqrt())
    assert network.condition.equal(torch.arange(3))
    assert answer.features.equal(network.x.flatten(1))


@pytest.mark.parametrize("index", [0, 1, 499, 999])
def test_the_time_of_an_entry_of_the_table_is_its_number(index):
    network = StandIn()
    of_table(network, "epsilon")(drawn(1), level(index), None)
    torch.testing.assert_close(network.time, torch.full((3,), float(index), **DOUBLE), rtol=0, atol=1e-9)


def test_between_two_entries_the_time_is_linear_in_the_log_of_alpha():
    network = StandIn()
    between = torch.tensor([math.sqrt(math.expm1(-2 * (TABLE[k] + TABLE[k + 1]) / 2)) for k in (7, 300, 998)], **DOUBLE)
    of_table(network, "epsilon")(drawn(1), between.reshape(3, 1, 1, 1), None)
    assert network.time.tolist() == pytest.approx([7.5, 300.5, 998.5], abs=1e-8)


@every_level
def test_the_noise_of_a_noisy_image_leads_back_to_it(sigma):
    clean, noise = drawn(1), drawn(2)
    answer = of_table(StandIn(noise), "epsilon")(clean + sigma * noise, sigma, None)
    torch.testing.assert_close(answer.image, clean)


@every_level
def test_the_velocity_of_a_noisy_image_leads_back_to_it(sigma):
    clean, noise = drawn(1), drawn(2)
    alpha = 1 / (1 + sigma**2).sqrt()
    velocity = alpha * noise - (1 - alpha**2).sqrt() * clean
    answer = of_table(StandIn(velocity), "v_prediction")(clean + sigma * noise, sigma, None)
    torch.testing.assert_close(answer.image, clean)


@every_level
def test_a_predicted_image_is_the_answer(sigma):
    clean, noise = drawn(1), drawn(2)
    answer = of_table(StandIn(clean), "sample")(clean + sigma * noise, sigma, None)
    assert answer.image.equal(clean)


def test_single_precision_images_stay_so_under_a_level_in_double_precision():
    network = StandIn()
    answer = of_table(network, "epsilon")(drawn(1).float(), level(2), None)
    assert {value.dtype for value in (network.x, network.time, answer.image)} == {torch.float32}
    assert network.time.tolist() == [2.0, 2.0, 2.0]


def test_the_table_is_not_rounded_with_the_weights_beside_it():
    between = torch.tensor(math.sqrt(math.expm1(-(TABLE[7] + TABLE[8]))), **DOUBLE)
    network = StandIn()
    of_table(network, "epsilon").to(torch.float16)(drawn(1), between, None)
    assert network.time.tolist() == pytest.approx(3 * [7.5], abs=1e-8)


def test_the_gradient_passes_through_the_level():
    x = drawn(1)
    denoiser = of_table(lambda x, time, _: (x * time.reshape(3, 1, 1, 1), x.flatten(1)), "epsilon")
    assert torch.autograd.gradcheck(lambda sigma: denoiser(x, sigma, None).image, PER_SAMPLE.clone().requires_grad_())


def test_an_evaluation_is_one_network_run_and_the_table_is_no_weight():
    denoiser = of_table(StandIn(), "epsilon")
    assert denoiser.cost == 1
    assert not denoiser.state_dict()


class TestFlowMatching:
    @every_level
    def test_the_network_sees_the_way_from_the_image_to_the_noise(self, sigma):
        clean, noise, network = drawn(1), drawn(2), StandIn()
        Preconditioned(network, FlowMatching())(clean + sigma * noise, sigma, torch.arange(3))
        s = sigma / (1 + sigma)
        torch.testing.assert_close(network.x, (1 - s) * clean + s * noise)
        torch.testing.assert_close(network.time, (1000 * s).flatten().expand(3))
        assert network.condition.equal(torch.arange(3))

    @every_level
    def test_the_difference_of_noise_and_image_leads_back_to_it(self, sigma):
        clean, noise = drawn(1), drawn(2)
        answer = Preconditioned(StandIn(noise - clean), FlowMatching())(clean + sigma * noise, sigma, None)
        torch.testing.assert_close(answer.image, clean)

    @pytest.mark.parametrize("times", [[0.999, 0.5, 0.02], [0.9999, 0.7, 0.3, 0.01, 0.001]])
    def test_euler_in_its_levels_is_euler_in_its_times(self, times):
        """The second is the sampler of flow matching: x + (s' - s) F(x, 1000 s), in states (1 - s) x_0 + s n."""

        def velocity(x, time, condition):
            return (x * 3 + time.reshape(-1, 1, 1, 1) / 500).sin() - x, x.flatten(1)

        times = torch.tensor(times, **DOUBLE)
        sigmas = times / (1 - times)
        state = expected = times[0] * drawn(1)
        for s, after in pairwise(times):
            expected = expected + (after - s) * velocity(expected, 1000 * s.expand(3), None)[0]
        flow = ProbabilityFlow(Preconditioned(velocity, FlowMatching()))
        answer = solve(SOLVERS["euler"](), flow, state * (1 + sigmas[0]), sigmas).x / (1 + sigmas[-1])
        torch.testing.assert_close(answer, expected, rtol=0, atol=1e-11)  # where two levels of 1e4 are subtracted
        assert expected.std() > 0.1
