"""No byte is made of a NaN or an infinity, and whose it is and where it began is told."""

from dataclasses import dataclass, replace

import pytest
import torch

from amed_lightning.flow.model import Denoised
from amed_lightning.sampling.finite import NotFiniteError
from amed_lightning.sampling.images import generate
from amed_lightning.sampling.sampler import Sampler, sample_seeds
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.tensors import quantise

from .models import mixture

CPU = torch.device("cpu")
SIGMAS = torch.tensor([10.0, 3.0, 1.0, 0.1], dtype=torch.float64)
SEEDS = Seeds(Stream.evaluation, 8, 13)


@dataclass
class Overflows:
    """A denoiser whose answers are not finite at one level, in one row of every batch."""

    sigma: float
    row: int
    value: float
    cost: int = 1

    def __call__(self, x, sigma, condition):
        image = mixture().denoiser(x, sigma, condition).image.clone()
        if float(sigma) == self.sigma:
            image[self.row, 0, 1, 2] = self.value
        return Denoised(image, x.new_zeros(len(x), 3))


class Decoder:
    """Doubles latents, but makes no number of the brightest image."""

    shape = (1, 4, 4)

    def __call__(self, latents):
        brightest = latents.sum((1, 2, 3)).argmax()
        return (2 * latents).index_fill(0, brightest, torch.nan)


def sampler(denoiser=None, solver=None, **parts):
    model = mixture()
    model = replace(model, denoiser=denoiser or model.denoiser, **parts)
    return Sampler(model, solver or SOLVERS["euler"](), SIGMAS, denoise_to_zero="last_denoiser" in parts)


def said(sampler, seeds=SEEDS, batch_size=5):
    with pytest.raises(NotFiniteError) as error:
        list(generate(sampler, seeds, batch_size, CPU))
    return str(error.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("solver", [SOLVERS["euler"](), SOLVERS["ipndm"](order=3)], ids=["one-step", "multistep"])
@pytest.mark.parametrize(
    ("number", "ends"), [(1, "sigma 10 to 3"), (2, "sigma 3 to 1"), (3, "sigma 1 to 0.1")], ids=["1", "2", "3"]
)
def test_the_seed_and_the_interval_where_it_began_are_told_and_the_usual_cause(number, ends, solver, value):
    message = said(sampler(Overflows(float(SIGMAS[number - 1]), 3, value), solver))
    assert message.startswith(
        f"the sample of evaluation seed 11 is not finite, which began in interval {number} of 3 ({ends}); "
    )
    assert "float16: set arithmetic.precision to bfloat16 or float32" in message
    assert len(message.splitlines()) == 1


def test_denoise_to_zero_is_told_from_the_last_interval():
    last = Overflows(float(SIGMAS[-1]), 2, torch.nan)
    assert "evaluation seed 10 is not finite, which began in denoise-to-zero; " in said(sampler(last_denoiser=last))


def test_a_decoder_that_makes_no_number_of_a_number_is_told():
    latents = torch.cat([state.x for state in sample_seeds(sampler(), SEEDS, 5, CPU)])
    seed = SEEDS.start + int(latents.sum((1, 2, 3)).argmax())
    assert f"evaluation seed {seed} is not finite, which began in the decoder; " in said(sampler(decoder=Decoder()))


def test_finite_samples_are_those_of_the_sampler_without_what_fills_up_their_batch():
    found = list(generate(sampler(), SEEDS, 4, CPU))
    assert [len(batch.images) for batch in found] == [4, 1]
    expected = torch.cat([state.x for state in sample_seeds(sampler(), SEEDS, 4, CPU)])
    assert torch.cat([batch.images for batch in found]).equal(expected)
    assert torch.cat([batch.pixels for batch in found]).equal(quantise(expected))
