"""Statistics of real images: the same from everywhere, kept in files, refused where they are wrong."""

import json

import numpy as np
import pytest
import torch
import yaml

from amed_lightning.config import InputError
from amed_lightning.data.digits import digits, digits_set
from amed_lightning.data.folder import image_files
from amed_lightning.data.images import ImageSet
from amed_lightning.denoisers.zoo.card import ZOO
from amed_lightning.metrics.files import digits_classifier
from amed_lightning.metrics.reference import build_evaluator
from amed_lightning.metrics.statistics import read_statistics, statistics_of, write_statistics

from ..data.files import edm_name, pictures, write_folder, write_zip

DIGITS = {"name": "digits"}
COUNT = 90
SIZE = 64


@pytest.fixture(scope="module")
def detector():
    return digits_classifier()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    images, labels = digits()
    named = [[edm_name(number), int(labels[number])] for number in range(COUNT)]
    return write_folder(tmp_path_factory.mktemp("digits"), images[:COUNT], named)


@pytest.fixture(scope="module")
def made(detector, folder):
    return statistics_of(*detector, image_files(folder), keep_features=True, batch_size=32)


@pytest.fixture
def file(made, tmp_path):
    write_statistics(tmp_path / "stats.npz", made)
    return tmp_path / "stats.npz"


def edm_file(path, **changes):
    """A file as EDM publishes them: a mean and a covariance, and nothing else."""
    values = np.random.default_rng(0).normal(size=(200, SIZE))
    np.savez(path, **({"mu": values.mean(0), "sigma": np.cov(values, rowvar=False)} | changes))
    return path


def without(path, name):
    """Write an archive again without one of its arrays."""
    with np.load(path) as archive:
        kept = {key: value for key, value in archive.items() if key != name}
    np.savez(path, **kept)


class TestComputing:
    def test_folder_zip_and_array_of_the_same_images_have_the_same_statistics(self, detector, folder, made, tmp_path):
        images, labels = digits()
        array = ImageSet(COUNT, lambda number: (images[number], int(labels[number])), str)
        zipped = image_files(write_zip(tmp_path / "digits.zip", folder))
        for other in (array, zipped):
            found = statistics_of(*detector, other, keep_features=True, batch_size=32)
            assert (found.dataset, found.class_counts, found.shape) == (made.dataset, made.class_counts, (1, 8, 8))
            assert found.moments.mean.equal(made.moments.mean)
            assert found.moments.covariance.equal(made.moments.covariance)
            assert found.features.equal(made.features)

    def test_they_are_those_of_the_features(self, detector, made):
        features = detector[0](digits()[0][:COUNT]).features
        torch.testing.assert_close(made.features, features, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(made.moments.mean, features.double().numpy().mean(0), rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            made.moments.covariance, np.cov(features.double().numpy(), rowvar=False), rtol=0, atol=1e-5
        )
        assert made.moments.count == COUNT

    def test_another_batch_size_moves_the_last_digits_at_most(self, detector, folder, made):
        found = statistics_of(*detector, image_files(folder), batch_size=7)
        torch.testing.assert_close(found.moments.covariance, made.moments.covariance, rtol=0, atol=1e-5)
        assert found.dataset == made.dataset

    def test_features_are_kept_on_request_only(self, detector, folder):
        assert not len(statistics_of(*detector, image_files(folder)).features)

    def test_no_more_images_are_read_than_are_looked_at(self, detector):
        network, digest = detector
        images, read, largest = digits()[0], [], []

        class Watching:
            feature_size, num_classes, image_shape = network.feature_size, network.num_classes, (1, 8, 8)

            def __call__(self, batch):
                largest.append(len(batch))
                assert len(set(read)) == sum(largest)
                return network(batch)

        def reading(number):
            read.append(number)
            return images[number], None

        statistics_of(Watching(), digest, ImageSet(50, reading, str), batch_size=16)
        assert largest == [16, 16, 16, 2]

    def test_images_that_the_detector_does_not_take_are_refused(self, detector, tmp_path):
        folder = write_folder(tmp_path, pictures(3))
        with pytest.raises(InputError, match=r"img00000000.png: shape \(3, 8, 8\), and the detector takes \(1, 8, 8\)"):
            statistics_of(*detector, image_files(folder))

    def test_a_single_image_is_refused(self, detector, tmp_path):
        with pytest.raises(InputError, match="the only image; statistics need at least two"):
            statistics_of(*detector, image_files(write_folder(tmp_path, pictures(1, channels=1))))


class TestFiles:
    def test_what_was_written_is_read(self, made, file):
        found = read_statistics(file)
        assert found.moments.mean.equal(made.moments.mean)
        assert found.moments.covariance.equal(made.moments.covariance)
        assert found.features.equal(made.features)
        for name in ("dataset", "detector", "shape"):
            assert getattr(found, name) == getattr(made, name)
        assert found.moments.count == COUNT
        assert sum(found.class_counts.values()) == COUNT

    def test_the_file_is_one_that_edms_tool_reads(self, made, file):
        with np.load(file) as archive:
            assert archive["mu"].dtype == archive["sigma"].dtype == np.float64
            np.testing.assert_array_equal(archive["mu"], made.moments.mean)
            np.testing.assert_array_equal(archive["sigma"], made.moments.covariance)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_edms_files_are_read_as_they_are(self, tmp_path, dtype):
        values = np.random.default_rng(0).normal(size=(200, SIZE)).astype(dtype)
        mean, covariance = values.mean(0), np.cov(values, rowvar=False).astype(dtype)
        found = read_statistics(edm_file(tmp_path / "cifar10-32x32.npz", mu=mean, sigma=covariance))
        np.testing.assert_array_equal(found.moments.mean, mean)
        np.testing.assert_array_equal(found.moments.covariance, covariance)
        assert (found.moments.count, found.detector, found.shape) == (None, None, None)

    def test_only_what_statistics_are_is_read(self, tmp_path):
        path = edm_file(tmp_path / "stats.npz", arr_0=np.array([{}], dtype=object))
        assert len(read_statistics(path).moments.mean) == SIZE

    def test_another_file_has_another_digest(self, tmp_path):
        one, two = (edm_file(tmp_path / f"{value}.npz", mu=np.full(SIZE, value)) for value in (0.0, 1.0))
        assert read_statistics(one).dataset != read_statistics(two).dataset


class TestRefusals:
    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"none.npz: no such file; compute it with `amed-lightning reference`"):
            read_statistics(tmp_path / "none.npz")

    @pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-200], lambda content: b"mu: 3"])
    def test_a_damaged_file_is_refused(self, file, damage):
        file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(InputError, match=r"stats.npz: not a readable .npz file of statistics"):
            read_statistics(file)

    def test_flipped_bits_are_noticed(self, file, made):
        content, wanted = file.read_bytes(), made.moments.mean.numpy().tobytes()
        file.write_bytes(content.replace(wanted, bytes(len(wanted))))
        with pytest.raises(InputError, match="not a readable"):
            read_statistics(file)

    def test_a_file_of_python_objects_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="not a readable"):
            read_statistics(edm_file(tmp_path / "stats.npz", mu=np.array([{}], dtype=object)))

    def test_a_bare_array_is_refused(self, tmp_path):
        np.save(tmp_path / "stats.npy", np.zeros(3))
        with pytest.raises(InputError, match="not a readable"):
            read_statistics(tmp_path / "stats.npy")

    def test_an_archive_without_statistics_is_refused(self, file):
        without(file, "mu")
        with pytest.raises(InputError, match="not statistics: it has no arrays 'mu' and 'sigma'"):
            read_statistics(file)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mu": np.zeros((1, SIZE))}, "are no mean and covariance"),
            ({"sigma": np.zeros((SIZE, SIZE - 1))}, "are no mean and covariance"),
            ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "are no mean and covariance"),
            ({"mu": np.full(SIZE, np.nan)}, "not finite"),
            ({"sigma": np.full((SIZE, SIZE), np.inf)}, "not finite"),
            ({"sigma": np.triu(np.ones((SIZE, SIZE)))}, "not symmetric"),
        ],
    )
    def test_arrays_that_are_no_statistics_are_refused(self, tmp_path, changes, message):
        with pytest.raises(InputError, match=message):
            read_statistics(edm_file(tmp_path / "stats.npz", **changes))

    @pytest.mark.parametrize("wrong", [np.nan, np.inf])
    def test_features_that_are_not_finite_are_refused(self, file, made, wrong):
        features = made.features.numpy().copy()
        features[3, 1] = wrong
        with np.load(file) as archive:
            arrays = dict(archive)
        np.savez(file, **(arrays | {"features": features}))
        with pytest.raises(InputError, match=rf"{file.name}: 'features' is not finite: .*; the file is damaged$"):
            read_statistics(file)

    def test_features_of_another_count_are_refused(self, file, made):
        with np.load(file) as archive:
            arrays = dict(archive)
        np.savez(file, **(arrays | {"features": made.features[:-1].numpy()}))
        with pytest.raises(InputError, match=f"features .* of {COUNT} images; the file is damaged"):
            read_statistics(file)


class TestAsReference:
    def spec(self, path):
        return {"name": "statistics", "path": str(path)}

    def test_a_file_serves_as_the_images_do(self, folder, file):
        images, judges = digits()[0][:COUNT], []
        for dataset in ({"name": "images", "path": str(folder)}, self.spec(file)):
            evaluator = build_evaluator(DIGITS, dataset)
            scores = evaluator.scores(COUNT)
            scores.update(images, torch.arange(COUNT))
            judges.append((evaluator.digest, evaluator.reference.shape))
            assert scores.compute()["fid"] == pytest.approx(0, abs=1e-3)
        assert judges[0] == judges[1]

    def test_a_published_models_card_names_its_statistics(self, file, tmp_path, monkeypatch):
        monkeypatch.setenv("AMED_CACHE", str(tmp_path))
        monkeypatch.setenv("AMED_OFFLINE", "1")
        place = tmp_path / "models" / "cifar10" / "cifar10-32x32.npz"
        with pytest.raises(InputError, match=f"place it at {place}"):
            build_evaluator(DIGITS, {"name": "published", "card": "cifar10"})
        place.parent.mkdir(parents=True)
        file.rename(place)
        assert build_evaluator(DIGITS, {"name": "published", "card": "cifar10"}).reference.moments.count == COUNT
        with pytest.raises(InputError, match="no card 'cifar11'"):
            build_evaluator(DIGITS, {"name": "published", "card": "cifar11"})

    def test_a_card_without_statistics_is_refused(self, tmp_path):
        card = yaml.safe_load((ZOO / "cifar10.yaml").read_text())
        del card["files"]["reference"]
        (tmp_path / "cifar10.yaml").write_text(yaml.safe_dump(card))
        with pytest.raises(InputError, match="names no reference among its files"):
            build_evaluator(DIGITS, {"name": "published", "card": str(tmp_path / "cifar10.yaml")})

    def test_statistics_of_another_detector_are_refused(self, file):
        with np.load(file) as archive:
            arrays = dict(archive)
        about = json.loads(str(arrays["metadata"])) | {"detector": "0" * 64}
        np.savez(file, **(arrays | {"metadata": np.array(json.dumps(about))}))
        with pytest.raises(InputError, match=r"stats.npz: made by detector 000000000000, and this is"):
            build_evaluator(DIGITS, self.spec(file))

    def test_statistics_of_another_number_of_features_are_refused(self, tmp_path):
        path = edm_file(tmp_path / "stats.npz", mu=np.zeros(65), sigma=np.eye(65))
        with pytest.raises(InputError, match=r"stats.npz: 65 features, and the detector gives 64"):
            build_evaluator(DIGITS, self.spec(path))

    def test_a_file_without_a_shape_leaves_it_to_the_detector(self, tmp_path):
        evaluator = build_evaluator(DIGITS, self.spec(edm_file(tmp_path / "stats.npz")))
        evaluator.require_shape((1, 8, 8))
        with pytest.raises(InputError, match=r"images of shape \(3, 8, 8\) cannot be scored against \(1, 8, 8\)"):
            evaluator.require_shape((3, 8, 8))

    @pytest.mark.parametrize(("metric", "title"), [("kid", "KID"), ("precision_recall", "precision and recall")])
    def test_what_needs_features_is_refused_by_a_mean_and_a_covariance(self, tmp_path, metric, title):
        path = edm_file(tmp_path / "stats.npz")
        with pytest.raises(InputError, match=rf"stats.npz: holds the features of 0 images, too few for {title};"):
            build_evaluator(DIGITS, self.spec(path), ["fid", metric])

    def test_features_in_the_file_serve_kid_precision_and_recall(self, file):
        images, found = digits()[0][:COUNT], []
        for dataset in (self.spec(file), DIGITS):
            evaluator = build_evaluator(DIGITS, dataset, ["kid", "precision_recall"])
            scores = evaluator.scores(COUNT)
            scores.update(images, torch.arange(COUNT))
            found.append(scores.compute())
        assert found[0]["precision"] == found[0]["recall"] == 1
        assert found[1]["precision"] == 1
        assert found[1]["recall"] < 1
        assert set(found[0]) == {"kid", "kid_deviation", "precision", "recall"}


def test_the_digits_have_every_class(detector):
    counts = statistics_of(*detector, digits_set()).class_counts
    assert (len(counts), min(counts.values()), max(counts.values())) == (10, 174, 183)
