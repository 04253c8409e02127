"""Training denoisers and detectors from images, for a few steps."""

import json

import lightning.pytorch as pl
import pytest
import safetensors.torch
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from amed_lightning.config import InputError
from amed_lightning.data.digits import digits
from amed_lightning.data.images import ImageSet
from amed_lightning.denoisers.files import ModelCard, load_model
from amed_lightning.metrics.files import digits_classifier, fashion_mnist_classifier
from amed_lightning.tensors import dequantise
from amed_lightning.training import images as images_module
from amed_lightning.training.classifier import ClassifierTraining, augment
from amed_lightning.training.denoiser import DenoiserTraining, edm_loss
from amed_lightning.training.images import OPEN, Images, LabelledBytes, in_memory

from ..data.files import pictures, write_folder
from .runs import trainer

STEPS = 30
DIGITS = {"name": "digits"}
CARD = ModelCard(
    {"img_resolution": 8, "img_channels": 1, "label_dim": 10, "model_channels": 8, "channel_mult": [1]}
    | {"num_blocks": 1, "attn_resolutions": [], "dropout": 0.0, "bottleneck_resolution": 8},
    sigma_data=0.75,
)


def data(**changes):
    return Images(**({"dataset": DIGITS, "batch_size": 32, "steps_per_epoch": STEPS} | changes))


def denoising_loss(denoiser):
    images, labels = digits()
    torch.manual_seed(5)
    with torch.no_grad():
        return float(edm_loss(denoiser, dequantise(images[:256]), labels[:256], -1.2, 1.2))


class TestDenoiser:
    def test_a_few_steps_lower_the_loss(self, tmp_path):
        module = DenoiserTraining(CARD, learning_rate=1e-2)
        before = denoising_loss(module.denoiser)
        trainer(tmp_path, limit_val_batches=0).fit(module, data())
        assert denoising_loss(module.denoiser) < 0.8 * before

    def test_what_it_exports_is_a_model(self, tmp_path):
        module = DenoiserTraining(CARD)
        trainer(tmp_path, limit_val_batches=0, limit_train_batches=2).fit(module, data())
        model = load_model(tmp_path / "denoiser.json")
        assert (model.shape, model.num_classes, model.feature_size) == ((1, 8, 8), 10, 64)
        assert all(
            value.equal(module.denoiser.state_dict()[name]) for name, value in model.denoiser.state_dict().items()
        )

    def test_it_may_export_half_precision(self, tmp_path):
        trainer(tmp_path, limit_val_batches=0, limit_train_batches=2).fit(DenoiserTraining(CARD, half=True), data())
        weights = safetensors.torch.load_file(tmp_path / "denoiser.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {torch.float16}

    def test_a_run_that_averages_its_weights_exports_the_average(self, tmp_path):
        module = DenoiserTraining(CARD, learning_rate=1e-2)
        visited = []

        class Visit(pl.Callback):
            def on_train_batch_end(self, trainer, pl_module, *rest):
                visited.append({name: value.clone() for name, value in module.denoiser.state_dict().items()})

        callbacks = [EMAWeightAveraging(decay=0.8), Visit()]
        trainer(tmp_path, limit_val_batches=0, limit_train_batches=4, callbacks=callbacks).fit(module, data())
        exported = load_model(tmp_path / "denoiser.json").denoiser.state_dict()
        for name, value in exported.items():
            average = visited[0][name]
            for state in visited[1:]:
                average = 0.8 * average + 0.2 * state[name]
            torch.testing.assert_close(value, average, rtol=1e-5, atol=1e-6)
        assert any(not value.allclose(visited[-1][name], atol=1e-4) for name, value in exported.items())

    def test_the_loss_weighs_every_level_as_published(self):
        """A fresh network answers zero, so that D is c_skip x and the loss a plain expression."""
        denoiser, clean = CARD.denoiser(), dequantise(digits()[0][:64])
        torch.manual_seed(5)
        loss = edm_loss(denoiser, clean, digits()[1][:64], -1.2, 1.2)
        torch.manual_seed(5)
        sigma = torch.exp(-1.2 + 1.2 * torch.randn(64, 1, 1, 1))
        noisy = clean + sigma * torch.randn_like(clean)
        skip = 0.75**2 / (sigma**2 + 0.75**2)
        weight = (sigma**2 + 0.75**2) / (sigma * 0.75) ** 2
        assert loss.item() == pytest.approx((weight * (skip * noisy - clean) ** 2).mean().item(), rel=1e-5)

    @pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
    def test_the_given_fraction_of_labels_is_left_open(self, tmp_path, dropout):
        module = DenoiserTraining(CARD, label_dropout=dropout)
        asked = []
        module.denoiser.register_forward_pre_hook(lambda _, arguments: asked.append(arguments[2]))
        trainer(tmp_path, limit_val_batches=0, limit_train_batches=10).fit(module, data())
        assert (torch.cat(asked) < 0).float().mean().item() == pytest.approx(dropout, abs=0.1)
        assert torch.cat(asked).max() == (9 if dropout < 1 else -1)


class TestClassifier:
    def test_a_few_steps_teach_it_something_and_export_it(self, tmp_path):
        module = ClassifierTraining(DIGITS)
        run = trainer(tmp_path)
        run.fit(module, data(steps_per_epoch=60, hold_out=True))
        assert run.callback_metrics["val/accuracy"] > 0.5
        detector, _ = digits_classifier(tmp_path / "classifier.safetensors")
        images = digits()[0][:16]
        assert detector(images).logits.equal(module.classifier.eval()(images).logits)

    def test_the_learning_rate_ends_at_zero(self, tmp_path):
        run = trainer(tmp_path, limit_val_batches=0, max_epochs=2)
        run.fit(ClassifierTraining(DIGITS), data(steps_per_epoch=3))
        assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
        assert run.optimizers[0].param_groups[0]["initial_lr"] == 2e-3

    def test_augmented_images_are_shifted_by_so_much_at_most_and_a_little_noisy(self):
        images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
        images[0, 0, 4, 4] = 200
        places = set()
        for _ in range(60):
            changed = augment(images, 1, 8.0)
            assert changed.dtype == torch.uint8
            places.add(divmod(int(changed.flatten().argmax()), 8))
        assert {row for row, _ in places} == {column for _, column in places} == {3, 4, 5}
        assert 2 < augment(torch.full((8, 1, 8, 8), 128, dtype=torch.uint8), 0, 8.0).float().std() < 20


CLOTHES = {"name": "fashion_mnist"}


def pictures_of(folder, count=12, size=28, labels=True):
    """A folder of random grey images of ten classes, as a data module's option."""
    images = pictures(count, 1, size)
    classes = [[f"{number // 2:05d}/img{number:08d}.png", number % 10] for number in range(count)]
    return {"name": "images", "path": str(write_folder(folder, images, classes if labels else None))}


def few(folder, **changes):
    return data(**({"dataset": pictures_of(folder), "batch_size": 4, "steps_per_epoch": 3} | changes))


def weights(path):
    return safetensors.torch.load(path.read_bytes())


def fitted(folder, module, images, **changes):
    """The weights that a fit exports; networks begin as seed 1 says."""
    folder.mkdir()
    torch.manual_seed(1)
    module, options = module(), {"limit_val_batches": 0} | changes
    torch.manual_seed(2)
    trainer(folder, **options).fit(module, images)
    (path,) = folder.glob("*.safetensors")
    return weights(path)


def is_same(one, other):
    return one.keys() == other.keys() and all(value.equal(other[name]) for name, value in one.items())


LARGER = ModelCard(CARD.network | {"img_resolution": 28, "bottleneck_resolution": 28}, sigma_data=0.71)
TRAININGS = {"denoiser": lambda **options: DenoiserTraining(LARGER, **options)}
TRAININGS["classifier"] = lambda **options: ClassifierTraining(CLOTHES, **options)


@pytest.mark.parametrize("make", TRAININGS.values(), ids=TRAININGS)
class TestAnySet:
    def test_a_seed_gives_the_weights_and_another_others(self, tmp_path, make):
        images = [few(tmp_path / "images", seed=seed) for seed in (0, 0, 1)]
        one, same, other = (fitted(tmp_path / str(number), make, each) for number, each in enumerate(images))
        assert is_same(one, same)
        assert not is_same(one, other)

    def test_autocast_trains_and_exports_single_precision(self, tmp_path, make):
        images = few(tmp_path / "images")
        single = fitted(tmp_path / "single", make, images)
        mixed = fitted(tmp_path / "mixed", make, images, precision="bf16-mixed")
        assert not is_same(single, mixed)
        for name, value in mixed.items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, single[name], rtol=0, atol=0.02)

    def test_the_order_in_memory_is_an_option_and_no_other_function(self, tmp_path, make):
        images = few(tmp_path / "images")
        plain = fitted(tmp_path / "plain", make, images)
        last = fitted(tmp_path / "last", lambda: make(channels_last=True), images)
        for name, value in last.items():
            torch.testing.assert_close(value, plain[name], rtol=0, atol=1e-3)
        module = make(channels_last=True)
        kernels = [value for value in module.parameters() if value.ndim == 4 and min(value.shape[1:]) > 1]
        assert kernels
        assert all(value.is_contiguous(memory_format=torch.channels_last) for value in kernels)

    def test_images_of_another_shape_and_labels_beyond_the_classes_are_refused(self, tmp_path, make):
        smaller = few(tmp_path, dataset=pictures_of(tmp_path / "small", size=8))
        with pytest.raises(InputError, match=r"data: images of shape \(1, 8, 8\), and the network takes \(1, 28, 28\)"):
            trainer(tmp_path, limit_val_batches=0).fit(make(), smaller)
        other = few(tmp_path / "trained_on", validation=smaller.dataset)
        with pytest.raises(InputError, match=r"data: images of shape \(1, 8, 8\)"):
            trainer(tmp_path).fit(make(), other)
        images = few(tmp_path / "images")
        images.setup("fit")
        images.setup = lambda stage: None
        images.train_set.labels += 1
        with pytest.raises(InputError, match=r"data: an image has label 10, and the network knows 0 to 9"):
            trainer(tmp_path, limit_val_batches=0, max_epochs=9).fit(make(), images)

    def test_what_it_took_stands_beside_the_result(self, tmp_path, make):
        images = few(tmp_path / "images")
        run = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=1)
        run.fit(make(), images)
        (path,) = tmp_path.glob("*.training.json")
        record = json.loads(path.read_text())
        assert 0 < record["seconds"] < 600
        assert record["batches"] == 6
        assert [point["batches"] for point in record["curve"]] == [3, 6]
        name, value = next((name, value) for name, value in record["curve"][1].items() if name != "batches")
        assert value == pytest.approx(float(run.callback_metrics[name]))
        (start,) = record["starts"]
        assert start["batches"] == 0
        assert {"commit", "versions", "device"} <= start.keys()


class TestClothes:
    def test_a_classifier_learns_and_is_loaded(self, tmp_path):
        """Six random images by heart."""
        images = few(tmp_path / "images", dataset=pictures_of(tmp_path / "six", 6), batch_size=32, steps_per_epoch=40)
        module = ClassifierTraining(CLOTHES, max_shift=0, noise=0.0)
        trainer(tmp_path, limit_val_batches=0).fit(module, images)
        detector, _ = fashion_mnist_classifier(tmp_path / "classifier.safetensors")
        detection = detector(pictures(6, 1, 28))
        assert detection.logits.argmax(1).tolist() == list(range(6))
        assert detection.features.shape == (6, detector.feature_size)
        assert not any(each.requires_grad for each in detector.parameters())

    def test_the_digits_weights_are_not_its_own(self, tmp_path):
        module = ClassifierTraining(DIGITS)
        trainer(tmp_path, limit_val_batches=0, limit_train_batches=1).fit(module, data())
        with pytest.raises(
            InputError, match=r"classifier\.safetensors: not the weights of the classifier 'fashion_mni"
        ):
            fashion_mnist_classifier(tmp_path / "classifier.safetensors")

    def test_images_without_labels_teach_it_nothing(self, tmp_path):
        images = few(tmp_path / "images", dataset=pictures_of(tmp_path / "bare", 4, labels=False))
        with pytest.raises(InputError, match="data: an image has no label, and a classifier learns from labels"):
            trainer(tmp_path, limit_val_batches=0).fit(ClassifierTraining(CLOTHES), images)

    def test_an_unknown_classifier_is_refused(self):
        with pytest.raises(InputError, match="unknown classifier 'shoes': use one of digits, fashion_mnist"):
            ClassifierTraining({"name": "shoes"})


class TestImages:
    def test_held_out_images_are_never_trained_on(self):
        split = data(hold_out=True)
        split.setup("fit")
        assert len(split.train_set) + len(split.val_set) == 1797
        assert len(split.val_set) == 300
        train, held = (subset.images.flatten(1).float() for subset in (split.train_set, split.val_set))
        images = digits()[0].flatten(1).float()
        assert held.equal(images[::6])
        assert torch.cat([train, held]).sum() == images.sum()

    def test_otherwise_all_images_are(self):
        whole = data()
        whole.setup("fit")
        assert len(whole.train_set) == 1797

    def test_an_epoch_has_the_steps_that_were_asked_for(self):
        images = data()
        images.setup("fit")
        assert [len(labels) for _, labels in images.train_dataloader()] == [32] * STEPS

    def test_another_set_may_be_validated_on(self, tmp_path):
        images = few(tmp_path / "images", validation=pictures_of(tmp_path / "others", 5))
        images.setup("fit")
        assert len(images.train_set) == 12
        assert images.val_set.images.equal(pictures(5, 1, 28))
        with pytest.raises(InputError, match="data: hold_out is for a set that is also validated on"):
            data(validation=DIGITS, hold_out=True)

    def test_validation_comes_in_order_and_in_batches_of_bounded_size(self, monkeypatch):
        monkeypatch.setattr(images_module, "VALIDATED_AT_ONCE", 128)
        split = data(hold_out=True)
        split.setup("fit")
        images, labels = zip(*split.val_dataloader(), strict=True)
        assert [len(each) for each in labels] == [128, 128, 44]
        assert torch.cat(images).equal(split.val_set.images)

    def test_mirror_images_follow_all_others(self):
        images, labels = pictures(3, 2, 4), torch.tensor([4, 5, 6])
        both = LabelledBytes(images, labels, mirror=True)
        assert (len(LabelledBytes(images, labels)), len(both)) == (3, 6)
        found, told = both[[5, 0, 4, 3]]
        assert found.equal(torch.stack([images[2].flip(2), images[0], images[1].flip(2), images[0].flip(2)]))
        assert told.tolist() == [6, 4, 5, 4]
        assert LabelledBytes(images, labels)[[2]][0].equal(images[2:])

    def test_a_mirrored_set_is_trained_on_and_not_validated_on(self, tmp_path):
        images = few(tmp_path / "images", mirror=True, hold_out=True)
        images.setup("fit")
        assert (len(images.train_set), len(images.val_set)) == (20, 2)

    def test_images_without_labels_have_an_open_one(self, tmp_path):
        images = few(tmp_path / "images", dataset=pictures_of(tmp_path / "bare", 4, labels=False))
        images.setup("fit")
        assert images.train_set.labels.tolist() == [OPEN] * 4 == [-1] * 4

    def test_a_set_that_is_larger_than_the_memory_is_refused(self, monkeypatch):
        monkeypatch.setattr(images_module, "free_memory", lambda device: 1000)
        read = ImageSet(16, lambda number: (pictures(1, 1)[0], None), lambda number: f"image {number}")
        with pytest.raises(InputError, match=r"image 0: 16 such images take 1024 bytes, and 1000 are free"):
            in_memory(read)
