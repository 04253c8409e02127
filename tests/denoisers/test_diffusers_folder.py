"""Weights of a folder: variants, shards and precisions, on disk and from a hub."""

import shutil

import diffusers
import huggingface_hub.constants
import pytest
import safetensors.torch
import torch
import transformers

from amed_lightning.config import InputError

from .hub import hub
from .loading import copied, text

PARTS = {
    "unet": diffusers.UNet2DConditionModel,
    "vae": diffusers.AutoencoderKL,
    "text_encoder": transformers.CLIPTextModel,
}


def saved_as(folder, variant, parts=PARTS, dtype=torch.float16, keep=False, **options):
    """Save parts anew, as a variant and in another precision, with or without what is there."""
    for part in parts:
        module = PARTS[part].from_pretrained(folder / part, dtype=dtype)
        config = (folder / part / "config.json").read_bytes()
        for file in (folder / part).iterdir():
            if not keep:
                file.unlink()
        module.save_pretrained(folder / part, variant=variant, **options)
        (folder / part / "config.json").write_bytes(config)
    return folder


def weights_of(model):
    network = model.denoiser.denoiser.model
    return [
        *network.unet.parameters(),
        *network.conditioning.prompts.encoders.parameters(),
        *model.decoder.parameters(),
    ]


def files(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


class TestVariants:
    @pytest.mark.parametrize("options", [{}, {"variant": "fp16"}], ids=["by itself", "asked for"])
    def test_weights_that_are_only_there_in_half_precision_are_read_as_they_are(self, tiny, tmp_path, options):
        folder = saved_as(copied(tiny["stable_diffusion"], tmp_path), "fp16")
        model, plain = text(folder, **options), text(tiny["stable_diffusion"])
        for half, single in zip(weights_of(model), weights_of(plain), strict=True):
            assert half.dtype == torch.float32
            assert half.equal(single.half().float())
        assert model.digest != plain.digest

    def test_of_both_the_plain_ones_are_read_unless_the_variant_is_asked_for(self, tiny, tmp_path):
        folder = saved_as(copied(tiny["stable_diffusion"], tmp_path), "fp16", keep=True)
        assert text(folder).digest == text(tiny["stable_diffusion"]).digest
        asked = text(folder, variant="fp16").digest
        for file in [file for file in folder.rglob("*.safetensors") if ".fp16." not in file.name]:
            file.unlink()
        assert text(folder).digest == asked != text(tiny["stable_diffusion"]).digest

    def test_a_part_that_lacks_the_variant_has_its_plain_weights(self, tiny, tmp_path):
        folder = saved_as(copied(tiny["stable_diffusion"], tmp_path), "fp16", parts=["unet"])
        assert text(folder).digest == text(folder, variant="fp16").digest
        assert text(folder).digest != text(tiny["stable_diffusion"]).digest

    @pytest.mark.parametrize("options", [{}, {"variant": "bf16"}], ids=["by itself", "asked for"])
    def test_in_shards_they_are_the_same(self, tiny, tmp_path, options):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        whole = saved_as(shutil.copytree(folder, tmp_path / "whole"), "bf16", dtype=torch.bfloat16)
        saved_as(folder, "bf16", dtype=torch.bfloat16, max_shard_size="20KB")
        assert len(list(folder.glob("unet/*.bf16-0*-of-0*.safetensors"))) > 1
        assert len(list(folder.glob("text_encoder/*.bf16-0*-of-0*.safetensors"))) > 1
        assert text(folder, **options).digest == text(whole).digest

    def test_weights_in_pickles_have_variants_too(self, tiny, tmp_path):
        folder = saved_as(copied(tiny["stable_diffusion"], tmp_path), "fp16", ["unet"])
        expected = text(folder).digest
        (path,) = (folder / "unet").glob("*.safetensors")
        torch.save(safetensors.torch.load_file(path), path.with_suffix(".bin"))
        path.unlink()
        assert text(folder).digest == expected

    def test_a_text_encoder_is_not_rounded_to_what_its_configuration_says(self, tiny, tmp_path):
        """SDXL's says float16 beside weights in single precision, and transformers follows it unless told otherwise."""
        folder = copied(tiny["stable_diffusion"], tmp_path, text_encoder__config={"dtype": "float16"})
        for ours, theirs in zip(weights_of(text(folder)), weights_of(text(tiny["stable_diffusion"])), strict=True):
            assert ours.equal(theirs)


class TestRefusal:
    def test_a_variant_that_no_part_has(self, tiny):
        with pytest.raises(
            InputError, match=r"stable_diffusion: no weights of variant 'fp61'; there are plain weights$"
        ):
            text(tiny["stable_diffusion"], variant="fp61")

    def test_a_part_with_several_variants_and_no_plain_weights(self, tiny, tmp_path):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        (path,) = (folder / "unet").glob("*.safetensors")
        for variant in ("fp16", "non_ema"):
            shutil.copy(path, path.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))
        path.unlink()
        choice = (
            "there are only weights of variant 'fp16' and weights of variant 'non_ema'; the option `variant` chooses"
        )
        with pytest.raises(InputError, match=f"unet: {choice}"):
            text(folder)
        text(folder, variant="non_ema")

    @pytest.mark.parametrize(
        ("part", "expected", "there"),
        [
            ("unet", "diffusion_pytorch_model", "model.safetensors"),
            ("vae", "diffusion_pytorch_model", "flax_model.msgpack"),
            ("text_encoder", "model", "openvino_model.bin"),
        ],
    )
    def test_a_part_without_weights_of_its_library_s_name(self, tiny, tmp_path, part, expected, there):
        folder = copied(tiny["stable_diffusion"], tmp_path)
        (path,) = (folder / part).glob("*.safetensors")
        path.rename(path.with_name(there))
        with pytest.raises(InputError, match=rf"{part}: no weights; expected {expected}.safetensors or .*`variant`"):
            text(folder)

    @pytest.mark.parametrize("part", ["unet", "text_encoder"])
    def test_a_shard_that_is_missing(self, tiny, tmp_path, part):
        folder = saved_as(copied(tiny["stable_diffusion"], tmp_path), "fp16", [part], max_shard_size="20KB")
        shard = max((folder / part).glob("*-of-*.safetensors"))
        shard.unlink()
        with pytest.raises(InputError, match=f"{part}: cannot be loaded: .*{shard.name}"):
            text(folder)

    def test_configurations_of_a_checkpoint_beside_a_folder(self, tiny):
        with pytest.raises(InputError, match="`config` is for a checkpoint in one file; a folder has its own"):
            text(tiny["stable_diffusion"], config=str(tiny["stable_diffusion"]))


class TestHub:
    @pytest.fixture(autouse=True)
    def cache(self, monkeypatch, tmp_path):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    @pytest.fixture
    def served(self, monkeypatch):
        """Serve a folder as ``someone/tiny``; return what a model of it fetches, and the model."""

        def run(folder, **options):
            with hub("someone/tiny", folder) as (address, fetched):
                monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
                template = address + "/{repo_id}/resolve/{revision}/{filename}"
                monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
                return fetched, text("someone/tiny", **options)

        return run

    def test_a_variant_s_files_are_fetched_where_it_is_asked_for_and_the_plain_ones_of_other_parts(
        self, tiny, tmp_path, served
    ):
        folder = saved_as(copied(tiny["stable_diffusion"], tmp_path), "fp16", ["unet", "text_encoder"], keep=True)
        fetched, model = served(folder, variant="fp16")
        assert {name for name in fetched if name.endswith(".safetensors")} == {
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "text_encoder/model.fp16.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
        }
        assert model.digest == text(folder, variant="fp16").digest

    def test_plain_files_alone_are_fetched_where_nothing_is_asked_for(self, tiny, tmp_path, served):
        folder = saved_as(copied(tiny["stable_diffusion"], tmp_path), "fp16", keep=True)
        fetched, model = served(folder)
        weights = {name for name in fetched if name.endswith(".safetensors")}
        assert weights == {name for name in files(tiny["stable_diffusion"]) if name.endswith(".safetensors")}
        assert model.digest == text(tiny["stable_diffusion"]).digest

    def test_shards_are_fetched_with_their_index(self, tiny, tmp_path, served):
        folder = saved_as(copied(tiny["stable_diffusion"], tmp_path), None, dtype=torch.float32, max_shard_size="20KB")
        assert len(list(folder.glob("unet/*.safetensors"))) > 1
        assert served(folder)[1].digest == text(folder).digest

    def test_a_repository_that_has_only_a_variant_is_refused_with_the_cure(self, tiny, tmp_path, served):
        folder = saved_as(copied(tiny["stable_diffusion"], tmp_path), "fp16")
        with pytest.raises(
            InputError, match=r"unet: no weights; expected .*the hub gives where the option `variant` names"
        ):
            served(folder)
        assert served(folder, variant="fp16")[1].digest == text(folder).digest
