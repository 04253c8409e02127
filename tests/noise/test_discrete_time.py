"""The time of a table of alphas: its entries, straight lines between them, and on beyond both ends."""

import math

import pytest
import torch

from amed_lightning.noise.discrete_time import DiscreteTime

TIME = DiscreteTime(torch.tensor([-0.1, -0.4, -0.9], dtype=torch.float64))
POINTS = {
    "first": (1 / 3, -0.1),
    "second": (2 / 3, -0.4),
    "last": (1.0, -0.9),
    "between": (0.5, -0.25),
    "before": (0.3, -0.07),
    "beyond": (1.1, -1.05),
}
"""Times, and the logs of alpha there."""


@pytest.mark.parametrize(("time", "log_alpha"), POINTS.values(), ids=POINTS)
def test_a_level_is_the_root_of_what_alpha_leaves_over_alpha(time, log_alpha):
    alpha = math.exp(log_alpha)
    sigma = math.sqrt(1 - alpha**2) / alpha
    assert float(TIME.sigma(torch.tensor(time, dtype=torch.float64))) == pytest.approx(sigma, rel=1e-12)
    assert float(TIME.of(torch.tensor(sigma, dtype=torch.float64))) == pytest.approx(time, rel=1e-12)
