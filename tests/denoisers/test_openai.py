"""State dicts of guided-diffusion and the consistency models become our networks, tensor by tensor."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.files import read_model, save_weights
from amed_lightning.denoisers.openai import openai_model, read_openai
from amed_lightning.denoisers.untold import Untold

from .published import (
    CLASSIFIER,
    CONSISTENCY,
    GUIDED,
    TINY,
    TINY_CLASSIFIER,
    TINY_CONSISTENCY,
    UNTOLD,
    classifier,
    consistency,
    guided,
    openai_shapes,
    random_state,
    write_openai,
)
from .reference import reference

DEEP = replace(TINY, channel_mult=(1, 2, 2, 1), num_res_blocks=3, attention=(4, 16))
TINIES = {"cm": TINY_CONSISTENCY, "guided": TINY, "classifier": TINY_CLASSIFIER, "deep": DEEP}
TINIES |= {"deep classifier": replace(DEEP, is_classifier=True), "one level": replace(TINY, channel_mult=(2,))}
every_kind = pytest.mark.parametrize("options", TINIES.values(), ids=TINIES)


def ours(state):
    return openai_model(Path("a.pt"), dict(state), UNTOLD)


def built(stored):
    return stored.classifier() if stored.card.is_classifier else stored.denoiser()


def numbered(options):
    """Number every entry of every tensor of a file, and return the numbers as they arrive here."""
    theirs, first = {}, 0
    for name, shape in openai_shapes(options).items():
        count = torch.Size(shape).numel()
        theirs[name] = torch.arange(first, first + count, dtype=torch.float32).reshape(shape)
        first += count
    assert first < 2**24  # single precision counts no further
    return theirs, ours(theirs).weights


class TestNames:
    @pytest.mark.parametrize(
        ("options", "parameters", "tensors"),
        [(CONSISTENCY, 526_304_771, 566), (GUIDED, 553_838_086, 567), (CLASSIFIER, 54_096_360, 249)],
        ids=["bedroom", "diffusion", "classifier"],
    )
    def test_a_published_network_has_the_published_number_of_weights(self, options, parameters, tensors):
        shapes = openai_shapes(options)
        assert len(shapes) == tensors
        stored = openai_model(
            Path("a.pt"), {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, Untold(256, 64)
        )
        module = built(stored)
        assert sum(weights.numel() for weights in module.parameters()) == parameters
        assert len(module.state_dict()) == tensors
        if not options.is_classifier:
            assert (module.model.bottleneck, module.model.feature_size) == ("8x8_in1", 64)
            assert (module.model.head_channels, stored.card.network["attn_resolutions"]) == (64, [32, 16, 8])

    @pytest.mark.parametrize(
        ("instance", "part", "options"),
        [("d", None, TINY_CONSISTENCY), ("e", "model", TINY), ("e", "classifier", TINY_CLASSIFIER)],
    )
    def test_the_list_of_names_is_the_published_implementation_s(self, instance, part, options):
        content = reference(instance)
        state = content.part(part) if part else content.state
        assert {name: tuple(value.shape) for name, value in state.items()} == openai_shapes(options)

    @every_kind
    def test_every_entry_arrives_and_none_is_left(self, options):
        theirs, weights = numbered(options)
        total = sum(tensor.numel() for tensor in theirs.values())
        arrived = torch.cat([tensor.flatten() for tensor in weights.values()]).sort().values
        assert arrived.equal(torch.arange(total, dtype=torch.float32))
        assert weights.keys() == built(ours(theirs)).state_dict().keys()

    @every_kind
    def test_it_survives_both_ways(self, options):
        """The numbers say where every entry came from, and so how to bring it back."""
        theirs, places = numbered(options)
        state = random_state(openai_shapes(options), 5)
        there = torch.cat([tensor.flatten() for tensor in state.values()])
        here = ours(state).weights
        for name, tensor in here.items():
            assert tensor.equal(there[places[name].long()])
        back = torch.empty_like(there)
        for name, tensor in here.items():
            back[places[name].long().flatten()] = tensor.flatten()
        assert back.equal(there)
        again = dict(zip(theirs, back.split([tensor.numel() for tensor in theirs.values()]), strict=True))
        again = {name: part.reshape(theirs[name].shape) for name, part in again.items()}
        torch.testing.assert_close(dict(ours(again).weights), dict(here), rtol=0, atol=0)


class TestFiles:
    @pytest.mark.parametrize("write", [consistency, guided, classifier])
    def test_a_file_and_what_it_is_converted_to_are_one_model(self, tmp_path, write):
        stored = read_openai(write(tmp_path), UNTOLD)
        save_weights(tmp_path / "converted.json", stored.weights, stored.card)
        converted = read_model(tmp_path / "converted.json")
        assert converted.digest == stored.digest
        generator = torch.Generator().manual_seed(1)
        given = torch.randn(2, 3, 16, 16, generator=generator), torch.tensor(0.7), torch.tensor([3, 1])
        first, second = built(stored)(*given), built(converted)(*given)
        if not stored.card.is_classifier:
            first, second = first.image, second.image
        assert first.equal(second)

    def test_a_model_says_what_its_user_must_know(self, tmp_path):
        model = read_openai(guided(tmp_path), UNTOLD).model()
        assert (model.shape, model.num_classes, model.feature_size) == ((3, 16, 16), 10, 64)
        ends = (model.noise_range.sigma_min, model.noise_range.sigma_max)
        assert ends == pytest.approx((0.010484, 152.167), rel=1e-4)
        model = read_openai(consistency(tmp_path), UNTOLD).model()
        assert (model.num_classes, model.noise_range.sigma_min, model.noise_range.sigma_max) == (0, 0.002, 80.0)

    def test_tensors_in_half_precision_are_read_as_single(self, tmp_path):
        path = guided(tmp_path)
        torch.save({name: value.half() for name, value in torch.load(path).items()}, path)
        assert {value.dtype for value in read_openai(path, UNTOLD).weights.values()} == {torch.float32}

    def test_torch_s_first_format_is_read_too(self, tmp_path):
        path = guided(tmp_path)
        before = read_openai(path, UNTOLD).digest
        torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
        assert read_openai(path, UNTOLD).digest == before

    def test_a_classifier_is_no_denoiser_and_a_denoiser_no_classifier(self, tmp_path):
        with pytest.raises(InputError, match=r"16x16_classifier\.pt: .*name it as the classifier of one"):
            read_openai(classifier(tmp_path), UNTOLD).model()
        with pytest.raises(InputError, match=r"16x16_diffusion\.pt: a denoiser is no classifier"):
            read_openai(guided(tmp_path), UNTOLD).classifier()


class Call:
    def __reduce__(self):
        return os.system, ("touch canary",)


class TestRefusal:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"input_blocks.0.0.weight": Call()}, "not a file of tensors"),
            (Call(), "not a file of tensors"),
            ([torch.ones(2)], "expected a mapping of names to tensors"),
            ({"state_dict": {"a": torch.ones(2)}}, "expected a mapping of names to tensors"),
            ({"weight": torch.ones(2)}, "there is no 'time_embed.0.weight'"),
            ({}, "there is no 'time_embed.0.weight'"),
        ],
    )
    def test_what_is_no_such_state_is_refused(self, tmp_path, monkeypatch, content, message):
        monkeypatch.chdir(tmp_path)
        torch.save(content, "network.pt")
        with pytest.raises(InputError, match=rf"network\.pt: .*{message}") as refusal:
            read_openai(tmp_path / "network.pt", UNTOLD)
        assert len(str(refusal.value).splitlines()) == 1
        assert not (tmp_path / "canary").exists()

    @pytest.mark.parametrize("cut", [0, 100, 0.5])
    def test_a_damaged_file_is_refused(self, tmp_path, cut):
        path = guided(tmp_path)
        content = path.read_bytes()
        path.write_bytes(content[: int(cut * len(content)) if cut < 1 else cut])
        with pytest.raises(InputError, match=r"16x16_diffusion\.pt: not a file of tensors"):
            read_openai(path, UNTOLD)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"none\.pt: no such file"):
            read_openai(tmp_path / "none.pt", UNTOLD)

    @every_kind
    def test_a_tensor_more_or_less_is_named(self, tmp_path, options):
        state = random_state(openai_shapes(options), 0)
        last = list(state)[-1]
        with pytest.raises(InputError, match="there is no place for 'extra'"):
            ours(state | {"extra": torch.ones(1)})
        with pytest.raises(InputError, match="there is no"):
            built(ours({name: value for name, value in state.items() if name != last}))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"img_resolution": 16, "head_channels": 24}, "with .*head_channels 24.*: .* no multiple of 24"),
            ({"img_resolution": 16, "num_heads": 3}, "with .*num_heads 3.*: .* no multiple of 3"),
            ({"img_resolution": 16, "num_heads": 4}, "said by head_channels, not by num_heads"),
            ({"img_resolution": 15, "head_channels": 16}, "the network has no"),
            ({"img_resolution": 64, "head_channels": 16}, "with img_resolution 64"),
        ],
    )
    def test_options_of_another_network_are_refused(self, tmp_path, options, message):
        path = write_openai(tmp_path / "network.pt", TINY_CLASSIFIER)
        with pytest.raises(InputError, match=rf"network\.pt: .*{message}"):
            read_openai(path, Untold(**options)).classifier()
