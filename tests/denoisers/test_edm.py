"""EDM's pickles become our networks, tensor by tensor."""

import sys
import time

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.edm import edm_card, read_edm
from amed_lightning.denoisers.files import read_model, save_weights
from amed_lightning.denoisers.pickled_modules import TensorReader
from amed_lightning.denoisers.pickles import read_pickle

from . import fuzzing
from .persistent import Persistent, edm_object, write_pickle
from .published import (
    CIFAR10,
    DDPMPP,
    EDM_CONDITIONAL,
    EDM_UNCONDITIONAL,
    FFHQ,
    IMAGENET64,
    edm_conditional,
    edm_shapes,
    edm_unconditional,
    filters,
    random_state,
    write_edm,
)
from .reference import reference

NCSNPP = EDM_UNCONDITIONAL | {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
NCSNPP |= {"resample_filter": [1, 3, 3, 1]}
KINDS = {"DDPM++": EDM_UNCONDITIONAL, "ADM": EDM_CONDITIONAL, "NCSN++": NCSNPP}
KINDS |= {"skips": EDM_UNCONDITIONAL | {"encoder_type": "skip", "decoder_type": "skip", "label_dim": 4}}
every_kind = pytest.mark.parametrize("arguments", KINDS.values(), ids=KINDS)


def ask(denoiser, seed=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    return denoiser(x, torch.tensor([0.1, 20.0]).reshape(2, 1, 1, 1), torch.tensor([1, 0]))


def theirs(path):
    """Return the tensors of a file, the filters included."""
    return dict(TensorReader(path.stat().st_size).tensors(read_pickle(path)["ema"]))


def altered(folder, change, arguments=EDM_UNCONDITIONAL):
    """Write a network after changing its arguments, its tensors, or the object itself."""
    state = filters(arguments) | random_state(edm_shapes(arguments), 0)

    def content():
        given, tensors = dict(arguments), dict(state)
        change(given, tensors)
        return {"ema": edm_object(given, tensors)}

    return write_pickle(folder / "network.pkl", content)


class TestReading:
    @pytest.mark.parametrize(
        ("arguments", "parameters", "tensors", "filters_beside", "bottleneck"),
        [
            (CIFAR10, 55_733_891, 417, 8, "8x8_block3"),
            (FFHQ, 61_805_571, 541, 12, "8x8_block3"),
            (IMAGENET64, 295_899_267, 541, 12, "8x8_block2"),
        ],
        ids=["cifar10", "ffhq", "imagenet64"],
    )
    def test_a_published_network_has_the_published_number_of_weights(
        self, arguments, parameters, tensors, filters_beside, bottleneck
    ):
        with torch.device("meta"):
            network = edm_card(arguments).denoiser().model
        assert sum(weights.numel() for weights in network.parameters()) == parameters
        assert len(network.state_dict()) == tensors
        assert len(filters(arguments)) == filters_beside
        assert (network.bottleneck, network.feature_size) == (bottleneck, 64)

    @pytest.mark.parametrize("instance", "abc")
    def test_its_tensors_are_named_as_in_the_published_implementation(self, instance):
        content = reference(instance)
        arguments = {name: value for name, value in content.arguments.items() if name != "cls"}
        assert edm_shapes(arguments).keys() | filters(arguments).keys() == content.state.keys()

    @every_kind
    def test_every_tensor_arrives_and_none_is_left(self, tmp_path, arguments):
        state = random_state(edm_shapes(arguments), 0)
        stored = read_edm(write_edm(tmp_path / "network.pkl", arguments))
        torch.testing.assert_close(dict(stored.weights), state, rtol=0, atol=0)
        denoiser = stored.denoiser()
        torch.testing.assert_close(dict(denoiser.state_dict()), state, rtol=0, atol=0)
        assert not denoiser.training
        assert not any(weights.requires_grad for weights in denoiser.parameters())

    @every_kind
    def test_it_survives_both_ways(self, tmp_path, arguments):
        """Ours to theirs to ours, and theirs to ours to theirs."""
        path = write_edm(tmp_path / "network.pkl", arguments)
        stored = read_edm(path)
        again = tmp_path / "again.pkl"
        tensors = filters(arguments) | dict(stored.weights)
        write_pickle(again, lambda: {"ema": edm_object(arguments, tensors)})
        torch.testing.assert_close(theirs(again), theirs(path), rtol=0, atol=0)
        assert read_edm(again).digest == stored.digest
        save_weights(tmp_path / "network.json", stored.weights, stored.card)
        ours = read_model(tmp_path / "network.json")
        assert ours.digest == stored.digest
        torch.testing.assert_close(ask(ours.denoiser()).image, ask(stored.denoiser()).image, rtol=0, atol=0)

    def test_a_model_says_what_its_user_must_know(self, tmp_path):
        model = read_edm(edm_conditional(tmp_path)).model()
        assert (model.shape, model.num_classes, model.feature_size) == ((3, 16, 16), 10, 64)
        assert (model.noise_range.sigma_min, model.noise_range.sigma_max) == (0.002, 80.0)

    def test_the_digest_is_that_of_the_weights(self, tmp_path):
        digests = {read_edm(edm_unconditional(tmp_path, seed)).digest for seed in (0, 1)}
        assert len(digests) == 2

    def test_what_training_kept_beside_the_network_is_ignored(self, tmp_path):
        def content():
            network = edm_object(fuzzing.ARGUMENTS, fuzzing.STATE)
            data = sys.modules["dnnlib.util"].EasyDict(path="cifar10-32x32.zip", use_labels=False)
            return {"loss_fn": Persistent("EDMLoss"), "augment_pipe": None, "dataset_kwargs": data, "ema": network}

        path = write_pickle(tmp_path / "network.pkl", content)
        assert read_edm(path).weights.keys() == fuzzing.STATE.keys()

    @pytest.mark.parametrize(("levels", "expected"), [([1, 1, 1], 8), ([1], 32), ([1, 1], 16)])
    def test_without_a_level_of_eight_pixels_the_lowest_is_the_bottleneck(self, levels, expected):
        card = edm_card(DDPMPP | {"img_resolution": 32, "channel_mult": levels})
        assert card.network["bottleneck_resolution"] == expected

    def test_tensors_in_half_precision_are_read_as_single(self, tmp_path):
        path = altered(
            tmp_path, lambda _, tensors: tensors.update({k: v.half() for k, v in tensors.items() if "filter" not in k})
        )
        assert {value.dtype for value in read_edm(path).weights.values()} == {torch.float32}


class TestRefusal:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model_type": "UViT"}, "'UViT'"),
            ({"img_resolution": None}, "network.pkl"),
            ({"img_resolution": "16"}, "network.pkl"),
            ({"img_resolution": 18}, "network.pkl"),
            ({"model_channels": 0}, "channels"),
            ({"model_channels": 2**40}, "network.pkl"),
            ({"num_blocks": 10**9}, "1 to 64 blocks"),
            ({"channel_mult": [1] * 20}, "1 to 16 levels"),
            ({"channel_mult": []}, "network.pkl"),
            ({"channel_mult": [10**12, 1]}, "network.pkl"),
            ({"label_dim": -3}, "network.pkl"),
            ({"label_dim": 2**60}, "network.pkl"),
            ({"embedding_type": "learned"}, "embedding_type"),
            ({"width": 3}, "width"),
            ({"resample_filter": [1, 2, 1]}, "its length is even"),
            ({"resample_filter": [1, 3, 3, 1]}, "is not the filter"),
            ({"attn_resolutions": {"a": 1}}, "is not plain"),
            ({"dropout": [[0.1]]}, "is not plain"),
            ({"encoder_type": "standard" * 10_000}, "is not plain"),
            ({"attn_resolutions": [8] * 1000}, "is not plain"),
            ({"decoder_type": "\x1b[2J"}, "is not plain"),
            ({"\ud800": 1}, "is not plain"),
            ({"num_blocks": 2}, "there is no 'model"),
            ({"label_dim": 7}, r"there is no 'model\.map_label"),
            ({"augment_dim": 0}, r"the network has no 'model\.map_augment\.weight'"),
            ({"model_channels": 32}, r"of another shape .* \(and \d+ more\)"),
        ],
    )
    def test_other_arguments_than_the_tensors_are_refused_at_once(self, tmp_path, change, message):
        path = altered(tmp_path, lambda given, tensors: given.update(change))
        began = time.monotonic()
        with pytest.raises(InputError, match=rf"network\.pkl: .*{message}|{message}") as refusal:
            read_edm(path).denoiser()
        assert time.monotonic() - began < 5
        assert len(str(refusal.value).splitlines()) == 1

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("model.enc.16x16_conv.weight", "there is no 'model.enc"),
            ("model.map_layer0.bias", "there is no 'model.map"),
        ],
    )
    def test_a_missing_tensor_is_named(self, tmp_path, name, message):
        path = altered(tmp_path, lambda _, tensors: tensors.pop(name))
        with pytest.raises(InputError, match=message):
            read_edm(path).denoiser()

    @pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
    def test_a_number_that_is_not_finite_is_refused(self, tmp_path, wrong):
        path = altered(tmp_path, lambda given, tensors: list(tensors.values())[-1].fill_(wrong))
        with pytest.raises(InputError, match=r"network\.pkl: .*a NaN or an infinity is in '.*'$"):
            read_edm(path).denoiser()

    def test_a_tensor_too_many_is_named(self, tmp_path):
        path = altered(tmp_path, lambda _, tensors: tensors.update({"model.extra.weight": torch.ones(2)}))
        with pytest.raises(InputError, match=r"the network has no 'model\.extra\.weight'"):
            read_edm(path).denoiser()

    @pytest.mark.parametrize(
        "name", ["model.a\n\x1b[2J.weight", "model.\ud800.weight", "model." + "long" * 99 + ".weight"]
    )
    def test_a_message_is_one_line_of_plain_text_whatever_a_tensor_is_called(self, tmp_path, name):
        path = altered(tmp_path, lambda _, tensors: tensors.update({name: torch.ones(2)}))
        with pytest.raises(InputError) as refusal:
            read_edm(path).denoiser()
        message = str(refusal.value)
        assert message.isascii()
        assert message.isprintable()
        assert len(message) < 400

    def test_another_filter_is_refused(self, tmp_path):
        place = "model.enc.8x8_down.conv0.resample_filter"
        path = altered(tmp_path, lambda _, tensors: tensors.update({place: torch.full((1, 1, 2, 2), 0.2)}))
        with pytest.raises(InputError, match=r"8x8_down\.conv0\.resample_filter' is not the filter"):
            read_edm(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (lambda: {"model": Persistent("AMED_predictor")}, "no 'ema'.*name the model of an AMED predictor"),
            (lambda: [1, 2], "no 'ema'"),
            (lambda: {"ema": 3}, "not an object of a persistent class"),
            (lambda: {"ema": torch.nn.Sigmoid()}, "not an object of a persistent class"),
            (lambda: {"ema": Persistent("EDMLoss")}, "a 'EDMLoss' where an EDMPrecond or VPPrecond or .* is expected"),
            (lambda: {"ema": Persistent("EDMPrecond")}, "of no known resolution"),
        ],
    )
    def test_another_object_is_refused(self, tmp_path, content, message):
        path = write_pickle(tmp_path / "network.pkl", content)
        with pytest.raises(InputError, match=rf"network\.pkl: .*{message}"):
            read_edm(path)
