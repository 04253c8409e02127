"""A network of one's own: what it is asked, what its answer means, and what is refused."""

import math

import pytest
import torch
from torch import nn

from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import InputError
from amed_lightning.denoisers.own import discrete_model, flow_model

SHAPE, BETAS = (2, 4, 4), torch.linspace(1e-3, 0.2, 50)
LEVEL = torch.tensor(0.7, dtype=torch.float64)


class Network(nn.Module):
    """Answers with a number that learns times the state, and with as many channels of something else."""

    def __init__(self, factor=0.5):
        super().__init__()
        self.factor, self.middle = nn.Parameter(torch.tensor(factor)), nn.AvgPool2d(2)
        self.asked = []

    def forward(self, x, *told):
        self.asked.append((x, *told))
        self.middle(torch.cat([x, 3 * x], 1))
        return torch.cat([self.factor * x, x + 100], 1)


def noise(count=3):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_it_is_asked_about_states_of_variance_one_and_its_noise_is_taken_off():
    network, x = Network(), noise()
    answer = discrete_model(network, SHAPE, BETAS).denoiser(x, LEVEL, None)
    scaled = x / (1 + LEVEL**2).sqrt()
    asked, time = network.asked[-1]
    torch.testing.assert_close(asked, scaled.float())
    assert time.shape == (3,)
    torch.testing.assert_close(answer.image, (x - LEVEL * 0.5 * scaled).float())


def test_it_goes_from_the_last_beta_s_level_to_the_first_s():
    model = discrete_model(Network(), SHAPE, BETAS)
    kept = torch.cumprod(1 - BETAS.double(), 0)
    ends = [math.sqrt(1 / float(each) - 1) for each in (kept[0], kept[-1])]
    assert [model.noise_range.sigma_min, model.noise_range.sigma_max] == pytest.approx(ends, rel=1e-6)
    assert len(model.noise_range.log_alphas) == 50


def test_its_features_are_the_bottleneck_s_mean_over_channels():
    network, x = Network(), noise()
    model = discrete_model(network, SHAPE, BETAS, bottleneck=network.middle)
    features = model.denoiser(x, LEVEL, None).features
    pooled = nn.functional.avg_pool2d(network.asked[-1][0], 2)
    torch.testing.assert_close(features, (2 * pooled.mean(1)).flatten(1))
    assert model.feature_size == 4


def test_labels_come_third():
    network = Network()
    model = discrete_model(network, SHAPE, BETAS, num_classes=7)
    model.denoiser(noise(), LEVEL, torch.tensor([1, 5, 6]))
    assert network.asked[-1][2].tolist() == [1, 5, 6]
    assert model.num_classes == 7


def test_no_class_is_told_as_its_open_label():
    networks = Network(), Network()
    for network, model in zip(networks, labelled(*networks, open_label=3), strict=True):
        model.denoiser(noise(), LEVEL, torch.tensor([0, -1, 2]))
        assert network.asked[-1][2].tolist() == [0, 3, 2]
    assert not {model.digest for model in labelled(*networks)} & {
        model.digest for model in labelled(*networks, open_label=3)
    }


def labelled(discrete, flow, **options):
    yield discrete_model(discrete, SHAPE, BETAS, num_classes=3, **options)
    yield flow_model(flow, SHAPE, num_classes=3, **options)


def test_another_bottleneck_is_another_model():
    network = nn.Sequential(nn.Identity(), nn.Identity(), Network())
    network.forward = lambda x, time: network[2](network[1](network[0](x)), time)
    first, second = (discrete_model(network, SHAPE, BETAS, bottleneck=network[part]) for part in (0, 1))
    assert first.digest != second.digest


def test_a_bottleneck_that_is_elsewhere_is_refused():
    with pytest.raises(InputError, match="bottleneck: this AvgPool2d is none of the network's modules"):
        discrete_model(Network(), SHAPE, BETAS, bottleneck=nn.AvgPool2d(2))


def test_it_is_frozen_and_its_digest_is_that_of_weights_and_use():
    network = Network()
    models = [
        discrete_model(network, SHAPE, BETAS),
        discrete_model(Network(), SHAPE, BETAS),
        discrete_model(Network(0.4), SHAPE, BETAS),
        discrete_model(Network(), SHAPE, BETAS / 2),
        discrete_model(Network(), SHAPE, BETAS, "v_prediction"),
        discrete_model(Network(), SHAPE, BETAS, num_classes=2),
    ]
    assert not network.factor.requires_grad
    assert models[0].digest == models[1].digest
    assert len({model.digest for model in models}) == 5


def test_without_a_bottleneck_there_is_nothing_for_a_predictor():
    model = discrete_model(Network(), SHAPE, BETAS)
    assert model.feature_size == 0
    with pytest.raises(InputError, match="reads the model's bottleneck, and this model gives none"):
        AMEDPredictor(model.feature_size)


@pytest.mark.parametrize("betas", [[0.1], [0.1, 1.0], [0.0, 0.1]])
def test_betas_that_are_none_are_refused(betas):
    with pytest.raises(InputError, match="betas: there are two at least, each between 0 and 1"):
        discrete_model(Network(), SHAPE, betas)


def test_an_answer_of_another_shape_is_refused():
    network = nn.Module()
    network.forward = lambda x, time: x[:, :1]
    with pytest.raises(InputError, match=r"answers in shape \(1, 1, 4, 4\) where \(1, 2, 4, 4\) is needed"):
        discrete_model(network, SHAPE, BETAS)


class TestFlowMatching:
    def test_it_goes_between_its_times_and_is_told_a_thousandth(self):
        network = Network()
        model = flow_model(network, SHAPE, times=(0.1, 0.75), bottleneck=network.middle)
        assert [model.noise_range.sigma_min, model.noise_range.sigma_max] == pytest.approx([1 / 9, 3.0])
        model.denoiser(noise(), torch.tensor(3.0, dtype=torch.float64), None)
        assert network.asked[-1][1].tolist() == pytest.approx(3 * [750.0])
        assert model.feature_size == 4

    @pytest.mark.parametrize("times", [(0.0, 0.5), (0.5, 1.0), (0.5, 0.4)])
    def test_times_that_are_none_are_refused(self, times):
        with pytest.raises(InputError, match="they lie between 0 and 1, the smaller first"):
            flow_model(Network(), SHAPE, times)

    def test_its_shift_multiplies_its_levels(self):
        model = flow_model(Network(), SHAPE, times=(0.1, 0.75), shift=3.0)
        assert [model.noise_range.sigma_min, model.noise_range.sigma_max] == pytest.approx([1 / 3, 9.0])
        assert model.noise_range.shift == 3.0
        with pytest.raises(InputError, match=r"shift 0\.0: it multiplies levels"):
            flow_model(Network(), SHAPE, shift=0.0)
