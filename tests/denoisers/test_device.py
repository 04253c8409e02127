"""A model on a device answers as on the CPU, and a run of its network copies nothing and waits for nothing."""

from functools import partial

import pytest
import torch

from amed_lightning.config import build
from amed_lightning.denoisers.preconditioning import OfTable, Preconditioned
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.noise.schedules import scaled_linear_log_alphas
from amed_lightning.seeds import Seeds, Stream

from ..pretended.device import Traffic
from ..pretended.places import CPU, DEVICE
from . import published
from .published import TINY_OPTIONS

pytestmark = pytest.mark.usefixtures("unchecked")

BATCH = 3
SIGMAS = {
    "one level": torch.tensor(1.3, dtype=torch.float64),
    "a level per sample": torch.tensor([0.1, 1.3, 9.0], dtype=torch.float64).reshape(BATCH, 1, 1, 1),
}
PROMPTS = {"training": ["a house"], "evaluation": ["a cat", "a dog", "two cats"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny):
    """What configurations name, by the way in which it computes."""
    folder = tmp_path_factory.mktemp("published")
    ddpmpp = {"name": "edm", "path": str(published.edm_unconditional(folder))}
    network, judge = published.guided(folder), published.classifier(folder)
    guided = {"name": "guided_diffusion", "path": str(network), **TINY_OPTIONS}
    text = {"name": "stable_diffusion", "prompts": PROMPTS}
    return {
        "DDPM++": ddpmpp,
        "ADM": {"name": "edm", "path": str(published.edm_conditional(folder))},
        "consistency": {"name": "consistency", "path": str(published.consistency(folder)), **TINY_OPTIONS},
        "clipped": guided,
        "classifier guidance": guided | {"classifier": str(judge), "scale": 2.0},
        "classifier-free guidance": {"name": "guided", "of": {"name": "digits_conditional"}, "scale": 2.0},
        "thresholded": {"name": "thresholded", "of": ddpmpp},
        "pooled": {"name": "pooled", "of": ddpmpp, "resolution": 4},
        "latent diffusion": {"name": "latent_diffusion", "path": str(tiny["latent_diffusion"])},
        "Stable Diffusion": text | {"path": str(tiny["stable_diffusion"]), "guidance": 7.5},
        "SDXL": text | {"path": str(tiny["sdxl"])},
    }


def answered(spec, sigma, place, counted):
    """Return what a model says at a place, and its last sample decoded; ``counted`` watches the second answer."""
    model = build("model", DENOISERS, spec).to(place)
    seeds = Seeds(Stream.evaluation, 0, BATCH)
    condition = model.condition_for(seeds)
    x, sigma = (seeds.noise(model.shape) * sigma.float()).to(place), sigma.to(place)
    condition = None if condition is None else condition.to(place)
    with torch.inference_mode():
        model.denoiser(x, sigma, condition)
        with counted() as seen:
            answer = model.denoiser(x, sigma, condition)
            decoded = model.decode(x[-1:])
    return (answer.image, answer.features, decoded), seen


READS_PROMPTS = {"Stable Diffusion": Traffic(to_host=1), "SDXL": Traffic(to_host=1)}
"""The prompts' numbers, by which their embeddings are found."""


@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS)
@pytest.mark.parametrize(
    "name",
    [
        *("DDPM++", "ADM", "consistency", "clipped", "classifier guidance", "classifier-free guidance", "thresholded"),
        *("pooled", "latent diffusion", "Stable Diffusion", "SDXL"),
    ],
)
def test_its_answers_are_those_of_the_cpu_bit_for_bit(models, name, sigma, pretended):
    answer = partial(answered, models[name], sigma, counted=pretended.counted)
    (expected, _), (there, seen) = answer(CPU), answer(DEVICE)
    for one, other in zip(there, expected, strict=True):
        assert one.is_cuda
        assert one.cpu().equal(other)
    assert seen == READS_PROMPTS.get(name, Traffic())


def test_a_table_of_discrete_times_follows_its_weights_in_double_precision(pretended):
    table = scaled_linear_log_alphas()
    denoiser = Preconditioned(lambda x, time, condition: (x, time[:, None]), OfTable(table=table))
    sigma, x = SIGMAS["one level"], torch.ones(BATCH, 1, 2, 2)
    expected = denoiser(x, sigma, None).features
    denoiser.half().to(DEVICE)
    x, sigma = x.to(DEVICE), sigma.to(DEVICE)
    with pretended.counted() as seen:
        features = denoiser(x, sigma, None).features
    assert features.cpu().equal(expected)
    assert seen == Traffic()
