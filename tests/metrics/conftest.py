"""Weights in the format of torch-fidelity's release, drawn at random."""

from io import BytesIO
from unittest import mock

import pytest
import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def random_network():
    """Torch-fidelity's network with weights that keep the size of activations through its depth."""
    nothing = BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with mock.patch.object(nn.Module, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], nothing)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    return network


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(random_network().state_dict(), path)
    return path
