"""The digits' detector and the moments of the real digits."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from amed_lightning.config import InputError, digest
from amed_lightning.data.digits import digits
from amed_lightning.metrics import reference
from amed_lightning.metrics.detector import Detection
from amed_lightning.metrics.files import digits_classifier, save_detector
from amed_lightning.metrics.image_classifier import DigitsClassifier
from amed_lightning.metrics.reference import build_evaluator
from amed_lightning.metrics.statistics import write_statistics
from amed_lightning.tensors import dequantise

from ..data.files import write_folder

DIGITS = {"name": "digits"}


@pytest.fixture(scope="module")
def evaluator():
    return build_evaluator(DIGITS, DIGITS)


class OfAnySize:
    """Knows how bright an image is."""

    feature_size, num_classes, image_shape = 1, 0, None

    def __call__(self, images):
        features = images.float().flatten(1).mean(1, keepdim=True)
        return Detection(features, features[:, :0])


class TestDigitsClassifier:
    def test_it_tells_the_digits_apart(self):
        detector, _ = digits_classifier()
        images, labels = digits()
        accuracy = (detector(images).logits.argmax(1) == labels).float().mean()
        assert accuracy > 0.95

    def test_it_comes_frozen_and_without_dropout(self):
        detector, _ = digits_classifier()
        images = digits()[0][:8]
        assert not any(weights.requires_grad for weights in detector.parameters())
        assert detector(images).logits.equal(detector(images).logits)

    def test_what_was_saved_is_loaded_with_its_digest(self, tmp_path):
        torch.manual_seed(0)
        written = [DigitsClassifier().eval() for _ in range(2)]
        loaded = []
        for number, classifier in enumerate(written):
            save_detector(tmp_path / f"{number}.safetensors", classifier)
            loaded.append(digits_classifier(tmp_path / f"{number}.safetensors"))
        images = digits()[0][:8]
        for classifier, (detector, _) in zip(written, loaded, strict=True):
            assert detector(images).features.equal(classifier(images).features)
        assert loaded[0][1] != loaded[1][1]

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"none.safetensors: no such file; train it with"):
            digits_classifier(tmp_path / "none.safetensors")

    @pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
    def test_weights_that_are_not_finite_are_refused(self, tmp_path, wrong):
        path, weights = tmp_path / "classifier.safetensors", DigitsClassifier().state_dict()
        weights["head.bias"][2] = wrong
        path.write_bytes(safetensors.torch.save(weights))
        with pytest.raises(InputError, match=r"classifier\.safetensors: its weights 'head\.bias' have a NaN or an inf"):
            digits_classifier(path)


class TestExaminer:
    def test_the_moments_are_those_of_all_digits(self, evaluator):
        features = evaluator.detector(digits()[0]).features.double().numpy()
        moments = evaluator.reference.moments
        assert moments.count == len(features) == 1797
        np.testing.assert_allclose(moments.mean, features.mean(0), rtol=0, atol=1e-6)
        np.testing.assert_allclose(moments.covariance, np.cov(features, rowvar=False), rtol=0, atol=1e-5)
        assert moments.covariance.isfinite().all()

    def test_the_digits_have_no_distance_to_themselves_and_noise_has_a_large_one(self, evaluator):
        real, scores = digits()[0], evaluator.scores(1797)
        scores.update(real, torch.arange(1797))
        noise = torch.randint(256, (512, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        noisy = evaluator.scores(512)
        noisy.update(noise, torch.arange(512))
        assert abs(scores.compute()["fid"]) < 1e-3
        assert noisy.compute()["fid"] > 10 * abs(scores.compute()["fid"]) + 1
        assert scores.compute()["is"] > 5

    def test_other_weights_have_another_digest(self, evaluator, tmp_path):
        path = tmp_path / "fresh.safetensors"
        save_detector(path, DigitsClassifier())
        assert build_evaluator(DIGITS | {"path": str(path)}, DIGITS).digest != evaluator.digest

    def test_images_of_another_shape_are_refused(self, evaluator):
        evaluator.require_shape((1, 8, 8))
        with pytest.raises(InputError, match=r"images of shape \(1, 4, 4\) cannot be scored against \(1, 8, 8\)"):
            evaluator.require_shape((1, 4, 4))

    def test_only_grey_and_rgb_images_are_for_detectors_of_any_size(self, evaluator):
        unknown = replace(evaluator.reference, shape=None)
        any_size = replace(evaluator, reference=unknown, detector=OfAnySize(), measures={})
        for channels in (1, 3):
            any_size.require_shape((channels, 64, 64))
        for channels in (2, 4, 5):
            with pytest.raises(InputError, match=rf"images of shape \({channels}, 64, 64\) are neither grey nor RGB"):
                any_size.require_shape((channels, 64, 64))

    @pytest.mark.parametrize("total", [0, 1])
    def test_so_few_images_have_no_scores(self, evaluator, total):
        with pytest.raises(InputError, match=f"FID: at least 2 images are needed, not {total}"):
            evaluator.scores(total)

    @pytest.mark.parametrize(
        ("detector", "dataset", "message"),
        [
            ({"name": "inceptoin"}, DIGITS, "unknown detector 'inceptoin': use one of digits"),
            (
                DIGITS,
                {"name": "mnist"},
                "unknown dataset 'mnist': use one of digits, fashion_mnist, images, torchvision, statistics, published",
            ),
        ],
    )
    def test_an_unknown_part_is_refused(self, detector, dataset, message):
        with pytest.raises(InputError, match=message):
            build_evaluator(detector, dataset)


class TestMetrics:
    @pytest.mark.parametrize("metrics", [[], ["fdi"], ["fid", "is", "psnr"]])
    def test_unknown_ones_are_refused(self, metrics):
        with pytest.raises(InputError, match=r"use (some|one) of fid, is, kid, precision_recall"):
            build_evaluator(DIGITS, DIGITS, metrics)

    def test_other_metrics_are_another_examiner_and_their_order_is_none(self, evaluator):
        chosen = (["fid", "is"], ["fid"], ["is"], ["fid", "kid"], ["kid", "fid", "is"], ["precision_recall", "fid"])
        digests = [build_evaluator(DIGITS, DIGITS, metrics).digest for metrics in chosen]
        assert digests[0] == build_evaluator(DIGITS, DIGITS, ["is", "fid"]).digest == evaluator.digest
        assert len(set(digests)) == len(chosen)

    @pytest.mark.parametrize(("metrics", "more"), [(["fid", "is"], []), (["kid", "is", "fid"], ["kid"])])
    def test_results_of_before_there_was_a_registry_are_found_again(self, metrics, more):
        found = build_evaluator(DIGITS, DIGITS, metrics)
        assert found.digest == digest([digits_classifier()[1], found.reference.dataset, more])

    def test_the_inception_score_needs_logits(self, inception_weights):
        detector = {"name": "inception", "path": str(inception_weights), "tap": 64, "logits": False}
        with pytest.raises(InputError, match="IS needs logits, and the detector gives none; leave it out"):
            build_evaluator(detector, DIGITS)

    def test_precision_and_recall_need_more_images_than_neighbours(self):
        evaluator = build_evaluator(DIGITS, DIGITS, ["precision_recall"])
        evaluator.scores(4)
        with pytest.raises(InputError, match="precision and recall: at least 4 images are needed, not 3"):
            evaluator.scores(3)

    @pytest.mark.parametrize(
        ("metrics", "enough", "text"),
        [
            (["fid"], 65, "FID of 64 generated images: the covariance of 64 features has full rank from 65"),
            (["is"], 100, "IS of 99 generated images: each of the 10 splits has fewer than ten"),
            (["kid"], 1000, "KID of 999 generated images: its subsets are of fewer than the usual 1000"),
            (["precision_recall"], 1000, "precision and recall of 999 generated images: a share is known to ±0.016"),
        ],
    )
    def test_scores_of_few_images_are_said_to_be_doubtful(self, metrics, enough, text):
        evaluator = build_evaluator(DIGITS, DIGITS, metrics)
        assert evaluator.caveats(enough) == []
        assert evaluator.caveats(enough - 1) == [text]

    def test_few_real_images_are_doubtful_too_but_for_the_inception_score(self, tmp_path):
        images, _ = digits()
        dataset = {"name": "images", "path": str(write_folder(tmp_path, images[:50]))}
        evaluator = build_evaluator(DIGITS, dataset, ["fid", "is", "kid", "precision_recall"])
        assert [caveat.split(" images")[0] for caveat in evaluator.caveats(70)] == [
            "FID of 50 real",
            "IS of 70 generated",
            "KID of 70 generated and 50 real",
            "precision and recall of 70 generated and 50 real",
        ]


@pytest.mark.gpu
def test_on_a_device_scores_are_those_of_the_cpu(device):
    images, values = digits()[0][:500], []
    for place in (torch.device("cpu"), device):
        evaluator = build_evaluator(DIGITS, DIGITS, ["fid", "is", "kid", "precision_recall"], place)
        scores = evaluator.scores(500)
        for numbers in torch.arange(500).split(100):
            batch = images[numbers].to(place)
            scores.update(batch, numbers, pair=(dequantise(batch), torch.zeros(100, 1, 8, 8, device=place)))
        values.append(scores.compute())
    assert values[0] == pytest.approx(values[1], rel=1e-3)


class TestShippedStatistics:
    def test_they_are_read_by_the_name_of_their_set(self, evaluator, tmp_path, monkeypatch):
        write_statistics(tmp_path / "train.npz", evaluator.reference)
        monkeypatch.setitem(reference.SHIPPED, "digits", tmp_path / "train.npz")
        found = build_evaluator(DIGITS, {"name": "shipped", "dataset": "digits"})
        assert found.digest == evaluator.digest
        assert found.reference.moments.mean.equal(evaluator.reference.moments.mean)

    def test_those_of_the_clothes_are_their_own_detectors(self):
        found = build_evaluator({"name": "fashion_mnist"}, {"name": "shipped", "dataset": "fashion_mnist"})
        assert (found.reference.moments.count, found.reference.shape) == (60_000, (1, 28, 28))
        assert dict(found.reference.class_counts) == dict.fromkeys(range(10), 6000)

    def test_a_set_without_any_is_named(self):
        with pytest.raises(InputError, match="unknown shipped statistics 'cifar10': use one of fashion_mnist"):
            build_evaluator(DIGITS, {"name": "shipped", "dataset": "cifar10"})
