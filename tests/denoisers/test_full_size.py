"""A network of published size, end to end: a pickle in EDM's format, random weights, images on this processor."""

import pytest
import torch

from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.sampling.sampler import sample_seeds
from amed_lightning.seeds import Seeds, Stream

from ..sampling.models import watched
from .published import CIFAR10, write_edm


@pytest.mark.slow
def test_a_cifar10_network_samples_four_images_at_five_network_runs(tmp_path):
    path = write_edm(tmp_path / "edm-cifar10-32x32-uncond-vp.pkl", CIFAR10)
    assert path.stat().st_size > 220e6
    config = SamplerConfig({"name": "edm", "path": str(path)}, {"name": "amed"}, {"name": "time_uniform"}, 3, afs=True)
    model, calls = watched(build_sampler(config).model)
    assert (model.shape, model.feature_size) == ((3, 32, 32), 64)
    (state,) = sample_seeds(build_sampler(config, model), Seeds(Stream.evaluation, 0, 4), 4, torch.device("cpu"))
    assert state.x.shape == (4, 3, 32, 32)
    assert state.x.isfinite().all()
    assert (state.nfe, calls.sizes) == (5, [4] * 5)
