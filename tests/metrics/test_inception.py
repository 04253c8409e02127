"""InceptionV3 against torch-fidelity and torchmetrics, on random weights in the release's format."""

import os
import shutil

import pytest
import torch
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.utils import create_feature_extractor
from torchmetrics.image.fid import FrechetInceptionDistance

from amed_lightning.config import InputError, build, file_digest
from amed_lightning.metrics import inception as module
from amed_lightning.metrics.files import DETECTORS
from amed_lightning.metrics.inception import inception
from amed_lightning.metrics.reference import build_evaluator

from ..data.files import pictures, write_folder

REAL, GENERATED = 128, 256
AT_ONCE = 8


def smooth(count, seed, size=32):
    """Colour images with structure: random blots, blown up."""
    blots = pictures(count, size=size // 4, seed=seed).float()
    return torch.nn.functional.interpolate(blots, size=size, mode="bilinear").round().to(torch.uint8)


class Images(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        return self.images[number]


@pytest.fixture(scope="module")
def early(inception_weights):
    """The detector that stops at the first tap, which a CPU can afford."""
    return inception(inception_weights, tap=64, logits=False)


def torch_fidelity_features(weights, images, *names):
    extractor = create_feature_extractor(
        "inception-v3-compat", list(names), cuda=False, verbose=False, feature_extractor_weights_path=str(weights)
    )
    return extractor(images)


@pytest.fixture(scope="module")
def scored(inception_weights, tmp_path_factory):
    """A FID through files and the evaluator, and the images that it is of."""
    real, generated = smooth(REAL, seed=0), smooth(GENERATED, seed=1) // 2
    folder = write_folder(tmp_path_factory.mktemp("real"), real)
    spec = {"name": "inception", "path": str(inception_weights), "tap": 64, "logits": False}
    evaluator = build_evaluator(spec, {"name": "images", "path": folder}, ["fid"])
    found = evaluator.scores(GENERATED)
    for numbers in torch.arange(GENERATED).split(100):
        found.update(generated[numbers], numbers)
    return found.compute()["fid"], real, generated


class TestDetector:
    def test_it_comes_frozen_and_in_evaluation_mode(self, early):
        detector, _ = early
        assert not any(weights.requires_grad for weights in detector.parameters())
        assert not any(part.training for part in detector.network.modules())

    def test_an_early_tap_without_logits_stops_there(self, early, monkeypatch):
        detector, _ = early
        monkeypatch.setattr(detector.network.Conv2d_3b_1x1, "forward", None)
        seen = detector(pictures(3))
        assert (seen.features.shape, seen.logits.shape) == ((3, 64), (3, 0))
        assert (detector.feature_size, detector.num_classes) == (64, 0)

    def test_features_are_those_of_torch_fidelity(self, early, inception_weights):
        images = smooth(4, seed=0)
        (expected,) = torch_fidelity_features(inception_weights, images, "64")
        torch.testing.assert_close(early[0](images).features, expected, rtol=1e-5, atol=0)

    def test_grey_images_count_as_colour_images_with_equal_channels(self, early):
        grey = pictures(3, channels=1)
        assert early[0](grey).features.equal(early[0](grey.repeat(1, 3, 1, 1)).features)

    def test_a_large_batch_is_cut(self, early, monkeypatch):
        detector, images = early[0], pictures(7)
        whole = detector(images)
        monkeypatch.setattr(module, "ON_A_CPU", 3)
        torch.testing.assert_close(detector(images).features, whole.features, rtol=1e-5, atol=0)

    def test_tensor_float_32_is_off_inside_and_as_before_outside(self, early, monkeypatch):
        detector, found = early[0], []
        backend = torch.backends.cudnn
        monkeypatch.setattr(backend, "allow_tf32", True)
        hook = detector.network.Conv2d_1a_3x3.register_forward_hook(lambda *_: found.append(backend.allow_tf32))
        detector(pictures(1))
        hook.remove()
        assert (found, backend.allow_tf32) == ([False], True)

    def test_the_digest_says_weights_and_tap_but_not_how_far_the_network_runs(self, early, inception_weights, tmp_path):
        state = torch.load(inception_weights, weights_only=True)
        state["Conv2d_1a_3x3.conv.weight"][0, 0, 0, 0] += 1e-3
        torch.save(state, tmp_path / "other.pth")
        path, other = inception_weights, tmp_path / "other.pth"
        found = [inception(*options)[1] for options in ((path, 64, True), (path, 192, False), (other, 64, False))]
        assert found[0] == early[1]
        assert len(set(found)) == 3

    def test_a_configuration_names_it(self, inception_weights, early):
        spec = {"name": "inception", "path": str(inception_weights), "tap": 64, "logits": False}
        assert build("detector", DETECTORS, spec)[1] == early[1]
        with pytest.raises(InputError, match="tap"):
            build("detector", DETECTORS, spec | {"tap": 65})


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile",)


class TestRefusals:
    @pytest.mark.parametrize(
        "content", [{}, {"fc.weight": torch.zeros(2, 2)}, [1, 2], {"fc.weight": Hostile()}, torch.zeros(3)]
    )
    def test_other_weights_are_refused_and_nothing_in_them_runs(self, tmp_path, monkeypatch, content):
        monkeypatch.chdir(tmp_path)
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(InputError, match=r"other.pth: not the weights of torch-fidelity's InceptionV3"):
            inception(tmp_path / "other.pth", tap=64)
        assert not (tmp_path / "hostile").exists()

    def test_weights_that_are_not_finite_are_refused(self, inception_weights, tmp_path):
        state = torch.load(inception_weights, mmap=True)
        name = next(name for name, value in state.items() if value.is_floating_point())
        torch.save({name: torch.full_like(state[name], torch.nan)}, tmp_path / "other.pth")
        with pytest.raises(InputError, match=rf"other\.pth: not the weights .* \('{name}' has a NaN or an infinity\)$"):
            inception(tmp_path / "other.pth", tap=64)

    @pytest.mark.parametrize("kept", [0, 100, 1_000_000])
    def test_a_file_that_was_cut_off_is_refused(self, inception_weights, tmp_path, kept):
        (tmp_path / "cut.pth").write_bytes(inception_weights.read_bytes()[:kept])
        with pytest.raises(InputError, match=r"cut.pth: not the weights of torch-fidelity's InceptionV3"):
            inception(tmp_path / "cut.pth", tap=64)

    def test_other_weights_than_at_their_first_use_are_refused(self, inception_weights, tmp_path):
        path = tmp_path / "weights.pth"
        shutil.copy(inception_weights, path)
        inception(path, tap=64, logits=False)
        assert path.with_name("weights.pth.sha256").read_text().startswith(file_digest(path))
        path.write_bytes(path.read_bytes() + b"more")
        with pytest.raises(InputError, match=r"weights.pth: its SHA-256 is .* recorded on first use"):
            inception(path, tap=64, logits=False)

    def test_a_file_is_compared_with_the_digest_that_is_given(self, inception_weights):
        inception(inception_weights, tap=64, logits=False, sha256=file_digest(inception_weights))
        with pytest.raises(InputError, match="it should be 0000"):
            inception(inception_weights, tap=64, logits=False, sha256="0" * 64)

    def test_what_is_called_like_the_release_must_be_the_release(self, inception_weights, tmp_path):
        path = shutil.copy(inception_weights, tmp_path / "weights-inception-2015-12-05-6726825d.pth")
        with pytest.raises(InputError, match="it should be 6726825d"):
            inception(path, tap=64, logits=False)

    def test_without_a_network_the_file_to_place_by_hand_is_named(self, tmp_path, monkeypatch, inception_weights):
        monkeypatch.setenv("AMED_CACHE", str(tmp_path))
        monkeypatch.setenv("AMED_OFFLINE", "1")
        place = tmp_path / "detectors" / "weights-inception-2015-12-05-6726825d.pth"
        with pytest.raises(InputError, match=rf"get it from https://github.com/.* and place it at {place}"):
            inception()
        place.parent.mkdir()
        shutil.copy(inception_weights, place)
        with pytest.raises(InputError, match="it should be 6726825d"):
            inception()

    def test_where_no_digest_can_be_kept_it_is_asked_for(self, inception_weights, tmp_path):
        path = tmp_path / "weights.pth"
        shutil.copy(inception_weights, path)
        path.with_name("weights.pth.sha256").mkdir()
        with pytest.raises(InputError, match=r"its SHA-256 cannot be kept beside it .*; give it as the option sha256"):
            inception(path, tap=64, logits=False)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"none.pth: no such file"):
            inception(tmp_path / "none.pth")


@pytest.mark.slow
class TestAgainstOthers:
    @pytest.mark.parametrize("size", [32, 64])
    def test_features_and_logits_equal_torch_fidelitys(self, inception_weights, size):
        images, (detector, _) = smooth(32, seed=0, size=size), inception(inception_weights)
        with torch.inference_mode():
            seen = detector(images)
            features, logits = torch_fidelity_features(inception_weights, images, "2048", "logits_unbiased")
        for found, expected in ((seen.features, features), (seen.logits, logits)):
            assert expected.std(0).mean() > 1e-3 * expected.abs().mean()  # the images differ
            assert ((found - expected).norm(dim=1) <= 1e-5 * expected.norm(dim=1)).all()

    def test_fid_equals_torch_fidelitys(self, inception_weights, scored):
        fid, real, generated = scored
        expected = calculate_metrics(
            **{"input1": Images(generated), "input2": Images(real), "fid": True, "feature_layer_fid": "64"},
            **{"cuda": False, "verbose": False, "save_cpu_ram": True, "batch_size": AT_ONCE},
            feature_extractor_weights_path=str(inception_weights),
        )
        assert fid == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)

    def test_fid_equals_torchmetrics_without_antialiasing(self, inception_weights, scored):
        fid, real, generated = scored
        metric = FrechetInceptionDistance(64, feature_extractor_weights_path=inception_weights, antialias=False)
        with torch.inference_mode():
            for images, are_real in ((real, True), (generated, False)):
                for part in images.split(AT_ONCE):
                    metric.update(part, real=are_real)
        assert fid == pytest.approx(float(metric.compute()), rel=1e-6)

    def test_inception_score_equals_torch_fidelitys_without_shuffling(self, inception_weights, tmp_path):
        images = smooth(64, seed=0)
        spec = {"name": "inception", "path": str(inception_weights), "tap": 64}
        evaluator = build_evaluator(spec, {"name": "images", "path": write_folder(tmp_path, pictures(2))}, ["is"])
        found = evaluator.scores(len(images))
        with torch.inference_mode():
            found.update(images, torch.arange(len(images)))
        expected = calculate_metrics(
            **{"input1": Images(images), "isc": True, "samples_shuffle": False},
            **{"cuda": False, "verbose": False, "save_cpu_ram": True, "batch_size": AT_ONCE},
            feature_extractor_weights_path=str(inception_weights),
        )
        assert found.compute()["is"] == pytest.approx(expected["inception_score_mean"], rel=1e-5)
        assert found.compute()["is_deviation"] == pytest.approx(expected["inception_score_std"], rel=1e-4)
