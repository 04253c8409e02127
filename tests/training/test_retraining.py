"""Re-training the shipped denoiser from its YAML reproduces its quality; `make retrain` fits it and runs this."""

from pathlib import Path

import pytest
import torch

from amed_lightning.metrics.reference import build_evaluator
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.sampling.sampler import sample_seeds
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.tensors import quantise

RETRAINED = Path("runs/digits/denoiser/denoiser.json")
SEEDS = Seeds(Stream.evaluation, 0, 2304)
SPREAD = 1.2
"""Deviation of the fine reference's FID over blocks of 768 seeds, in the demo's table."""


def fid(path: Path) -> float:
    config = SamplerConfig({"name": "file", "path": str(path)}, {"name": "heun"}, {"name": "polynomial"}, 39)
    sampler, judge = build_sampler(config), build_evaluator({"name": "digits"}, {"name": "digits"})
    scores, done = judge.scores(len(SEEDS)), 0
    for state in sample_seeds(sampler, SEEDS, 256, torch.device("cpu")):
        with torch.inference_mode():
            scores.update(quantise(state.x), done + torch.arange(len(state.x)))
        done += len(state.x)
    return scores.compute()["fid"]


@pytest.mark.nightly
def test_the_retrained_model_is_as_good_as_the_shipped_one():
    shipped = Path("amed_lightning/assets/digits/denoiser.json")
    assert fid(RETRAINED) <= fid(shipped) + 3 * SPREAD
