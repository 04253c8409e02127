"""sFID: Inception's features at positions, against torch-fidelity's network, and OpenAI's statistics of them."""

import numpy as np
import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.metrics.detector import Detection
from amed_lightning.metrics.fid import SpatialFID
from amed_lightning.metrics.files import load_detector
from amed_lightning.metrics.frechet import Moments, feature_sums
from amed_lightning.metrics.scores import GenerationScores, Measure
from amed_lightning.metrics.statistics import Statistics, read_spatial_statistics, read_statistics

from ..data.files import pictures
from .known import Known, known_scores, pictures_of


@pytest.fixture(scope="module")
def spatial(inception_weights):
    return load_detector({"name": "inception", "path": str(inception_weights), "tap": "spatial"})


def test_features_are_the_first_seven_channels_at_all_positions(spatial, inception_weights):
    detector, digest = spatial
    full, other = load_detector({"name": "inception", "path": str(inception_weights)})
    seen, images = [], pictures(2, size=32)
    full.network.Mixed_6d.register_forward_hook(lambda module, given, found: seen.append(found))
    full(images)
    whole = seen[0].numpy()
    expected = [
        [whole[image, channel, row, column] for row in range(17) for column in range(17) for channel in range(7)]
        for image in range(2)
    ]
    found = detector(images)
    np.testing.assert_allclose(found.features, expected, rtol=1e-5, atol=1e-6)
    assert (detector.feature_size, detector.num_classes, found.logits.shape) == (2023, 0, (2, 0))
    assert digest != other
    assert not detector.network.Mixed_6d.branch1x1._forward_hooks, "nothing is left on the network"


def test_it_is_the_frechet_distance_of_them():
    features = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    real = Statistics(Moments.from_sums(60, *feature_sums(features.flip(1) * 2)), "of nothing")
    detector = Known(Detection(features, torch.zeros(60, 0)))
    scores = GenerationScores([Measure(SpatialFID(), detector, real, "sfid.")], 60)
    fid = known_scores(Detection(features, torch.zeros(60, 0)), real, 60, ["fid"])
    for each in (scores, fid):
        each.update(pictures_of(torch.arange(60)), torch.arange(60))
    assert scores.compute() == {"sfid": fid.compute()["fid"]}


def test_openais_files_have_both(tmp_path):
    path = tmp_path / "VIRTUAL.npz"
    parts = {"mu": np.zeros(3), "sigma": np.eye(3), "mu_s": np.ones(4), "sigma_s": 2 * np.eye(4)}
    np.savez(path, arr_0=np.zeros((2, 4, 4, 3), np.uint8), **parts)
    assert read_statistics(path).moments.mean.tolist() == [0] * 3
    spatial = read_spatial_statistics(path).moments
    assert spatial.mean.tolist() == [1] * 4
    assert spatial.covariance.diagonal().tolist() == [2] * 4
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(InputError, match="no arrays 'mu_s' and 'sigma_s'"):
        read_spatial_statistics(path)


def test_its_detector_is_inception_at_positions(inception_weights):
    metric = SpatialFID(inception_weights)
    detector, _ = load_detector(metric.detector)
    assert detector.feature_size == metric.feature_size == 2023
