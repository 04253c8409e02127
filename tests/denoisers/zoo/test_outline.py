"""Outlines: a published model's facts, without its weights."""

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.registry import outline
from amed_lightning.noise.schedules import Discrete, levels
from amed_lightning.noise.shift import dynamic_shift


def pretrained(card, **options):
    return {"name": "pretrained", "card": card, **options}


@pytest.fixture(autouse=True)
def _nothing_is_here(monkeypatch, tmp_path):
    monkeypatch.setenv("AMED_CACHE", str(tmp_path))
    monkeypatch.setenv("AMED_OFFLINE", "1")


@pytest.mark.parametrize(
    ("card", "shape", "num_classes", "cost"),
    [
        ("cifar10", (3, 32, 32), 0, 1),
        ("ffhq", (3, 64, 64), 0, 1),
        ("afhqv2", (3, 64, 64), 0, 1),
        ("imagenet64", (3, 64, 64), 1000, 1),
        ("lsun_bedroom", (3, 256, 256), 0, 1),
        ("imagenet256", (3, 256, 256), 1000, 1),
        ("lsun_bedroom_ldm", (3, 64, 64), 0, 1),
        ("ms_coco", (4, 64, 64), 0, 2),
        ("sd35_medium", (16, 128, 128), 0, 2),
        ("flux_dev", (16, 128, 128), 0, 1),
        ("sana", (32, 32, 32), 0, 2),
    ],
)
def test_every_card_has_an_outline(card, shape, num_classes, cost):
    model = outline(pretrained(card))
    assert (model.shape, model.num_classes, model.denoiser.cost, model.feature_size) == (shape, num_classes, cost, 64)


@pytest.mark.parametrize(("card", "size"), [("cifar10", 32), ("ms_coco", 512), ("sana", 1024)])
def test_an_image_has_the_size_of_the_decoded_sample(card, size):
    assert outline(pretrained(card)).image_shape == (3, size, size)


@pytest.mark.parametrize("card", ["lsun_bedroom_ldm", "ms_coco"])
def test_a_discrete_model_has_its_table(card):
    """The table's first and last entries are the ends of the range, to the digits that the card gives."""
    noise_range = outline(pretrained(card)).noise_range
    assert len(noise_range.log_alphas) == 1000
    ends = (-2 * torch.tensor(noise_range.log_alphas, dtype=torch.float64)[[0, -1]]).expm1().sqrt()
    expected = torch.tensor([noise_range.sigma_min, noise_range.sigma_max], dtype=torch.float64)
    torch.testing.assert_close(ends, expected, rtol=1e-3, atol=0)
    assert len(levels(Discrete(), 3, noise_range)) == 4


@pytest.mark.parametrize(("card", "shift"), [("sd35_medium", 3.0), ("flux_dev", dynamic_shift(4096)), ("sana", 3.0)])
def test_a_flow_goes_from_the_last_step_of_training_to_the_first_under_its_pipeline_s_shift(card, shift):
    noise_range = outline(pretrained(card)).noise_range
    found = torch.tensor([noise_range.shift, noise_range.sigma_min * 999, noise_range.sigma_max / 999])
    torch.testing.assert_close(found, torch.full((3,), shift), rtol=1e-5, atol=0)


def test_a_model_inside_another_is_outlined_too():
    guided = outline({"name": "guided", "of": pretrained("imagenet64"), "scale": 2.0})
    assert (guided.denoiser.cost, guided.num_classes) == (2, 1000)
    both = outline({"name": "thresholded", "of": {"name": "guided", "of": pretrained("imagenet64"), "scale": 2.0}})
    assert both.denoiser.cost == 2
    assert both.last_denoiser.cost == 2


def test_a_model_that_a_weaker_one_guides_costs_both_and_loads_neither():
    """Nothing is fetched here, so a model that is loaded would be missing."""
    weaker = pretrained("imagenet64", overrides={"path": "weaker.pkl"})
    spec = {"name": "autoguided", "of": pretrained("imagenet64"), "weak": weaker, "scale": 2.0, "interval": [0.1, 5.0]}
    model = outline(spec)
    assert (model.denoiser.cost, model.shape, model.num_classes) == (2, (3, 64, 64), 1000)
    assert model.digest != outline(spec | {"weak": pretrained("imagenet64")}).digest
    assert outline({"name": "thresholded", "of": spec}).denoiser.cost == 2
    with pytest.raises(InputError, match="model 'autoguided': the model makes samples of shape"):
        outline(spec | {"weak": pretrained("cifar10")})


def test_what_a_wrapper_refuses_is_refused():
    with pytest.raises(InputError, match="model 'guided': guidance needs a class-conditional model"):
        outline({"name": "guided", "of": pretrained("cifar10"), "scale": 2.0})
    with pytest.raises(InputError, match=r"model 'guided': .*scale"):
        outline({"name": "guided", "of": pretrained("imagenet64"), "scale": "much"})
    with pytest.raises(InputError, match="no card 'cifar100'"):
        outline({"name": "thresholded", "of": pretrained("cifar100")})


def test_it_cannot_be_run():
    model = outline({"name": "thresholded", "of": pretrained("cifar10")})
    with pytest.raises(InputError, match="model 'cifar10' was outlined from its card, without weights"):
        model.denoiser(torch.zeros(1, 3, 32, 32), torch.tensor(1.0), None)
    with pytest.raises(InputError, match="model 'ms_coco' was outlined from its card"):
        outline(pretrained("ms_coco")).decoder(torch.zeros(1, 4, 64, 64))


def test_digests_tell_outlines_apart():
    specs = [pretrained("cifar10"), pretrained("ffhq"), pretrained("cifar10", overrides={"path": "mine.pkl"})]
    assert len({outline(spec).digest for spec in specs}) == 3


def test_a_model_that_is_no_cards_is_loaded():
    assert outline({"name": "digits"}).denoiser(torch.zeros(1, 1, 8, 8), torch.tensor(1.0), None).image.shape == (
        1,
        1,
        8,
        8,
    )
