"""Training the denoiser and the detector of the digits, for a few steps."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from amed_lightning.data.digits import digits
from amed_lightning.denoisers.files import ModelCard, load_model
from amed_lightning.metrics.files import digits_classifier
from amed_lightning.tensors import dequantise
from amed_lightning.training.classifier import ClassifierTraining, augment
from amed_lightning.training.denoiser import DenoiserTraining, edm_loss
from amed_lightning.training.images import Images

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
