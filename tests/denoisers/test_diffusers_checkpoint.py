"""Original checkpoints: what a pipeline's tensors become under their names is read back as that pipeline."""

import os
import pickle
import shutil
import sys

import diffusers
import pytest
import safetensors.torch
import torch

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.diffusers_checkpoint import CONVERSIONS
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.zoo.card import ZOO

from . import originals
from .loading import copied


def latent(path, config):
    return build("model", DENOISERS, {"name": "latent_diffusion", "path": str(path), "config": config and str(config)})


def text(path, config):
    return build("model", DENOISERS, {"name": "stable_diffusion", "path": str(path), "config": config and str(config)})


def without_weights(folder, target):
    """Copy the configurations alone."""
    return shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.fixture(scope="module")
def parts(tiny):
    """The modules of every pipeline."""
    kinds = {
        "latent_diffusion": diffusers.LDMPipeline,
        "stable_diffusion": diffusers.StableDiffusionPipeline,
        "sdxl": diffusers.StableDiffusionXLPipeline,
    }
    return {name: kind.from_pretrained(tiny[name], local_files_only=True) for name, kind in kinds.items()}


class TestReading:
    def test_latent_diffusion_with_its_averaged_weights(self, tiny, parts, tmp_path):
        pipeline = parts["latent_diffusion"]
        averages = originals.unconditional_unet(pipeline.unet)
        last = {name: torch.zeros_like(tensor) for name, tensor in averages.items()}
        weights = last | originals.averaged(averages) | originals.autoencoder(pipeline.vqvae)
        torch.save({"state_dict": weights, "global_step": 3}, tmp_path / "model.ckpt")
        configs = without_weights(tiny["latent_diffusion"], tmp_path / "configs")
        assert latent(tmp_path / "model.ckpt", configs).digest == latent(tiny["latent_diffusion"], None).digest

    @pytest.mark.parametrize(
        ("names", "prefix"),
        [(originals.clip, "cond_stage_model.transformer."), (originals.open_clip, "cond_stage_model.model.")],
        ids=["v1", "v2"],
    )
    def test_stable_diffusion_with_its_text_encoder_of_clip_or_open_clip(self, tiny, parts, tmp_path, names, prefix):
        pipeline = parts["stable_diffusion"]
        weights = originals.unet(pipeline.unet) | originals.autoencoder(pipeline.vae)
        torch.save({"state_dict": weights | names(pipeline.text_encoder, prefix)}, tmp_path / "model.ckpt")
        configs = without_weights(tiny["stable_diffusion"], tmp_path / "configs")
        assert text(tmp_path / "model.ckpt", configs).digest == text(tiny["stable_diffusion"], None).digest

    def test_sdxl(self, tiny, parts, tmp_path):
        pipeline = parts["sdxl"]
        weights = originals.unet(pipeline.unet) | originals.autoencoder(pipeline.vae)
        weights |= originals.clip(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
        weights |= originals.open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
        safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
        configs = without_weights(tiny["sdxl"], tmp_path / "configs")
        assert text(tmp_path / "model.safetensors", configs).digest == text(tiny["sdxl"], None).digest

    def test_a_lightning_checkpoint_that_keeps_its_callbacks_states(self, tiny, parts, tmp_path, monkeypatch):
        pipeline = parts["latent_diffusion"]
        weights = originals.unconditional_unet(pipeline.unet) | originals.autoencoder(pipeline.vqvae)
        module = type(sys)("pytorch_lightning.callbacks.model_checkpoint")
        module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
        with monkeypatch.context() as context:
            context.setitem(sys.modules, module.__name__, module)
            state = {module.ModelCheckpoint: {"monitor": "val/loss_simple_ema", "best_model_score": torch.ones(())}}
            torch.save({"state_dict": weights, "callbacks": state}, tmp_path / "model.ckpt")
        model = latent(tmp_path / "model.ckpt", tiny["latent_diffusion"])
        assert model.digest == latent(tiny["latent_diffusion"], None).digest


def full_size(name):
    """Describe a published network, and how many millions of weights it has."""
    if name == "LSUN's":
        return "UNet2DModel", diffusers.UNet2DModel.load_config(ZOO / "lsun_bedroom_ldm", subfolder="unet"), 274.06
    if name == "LSUN's autoencoder":
        return "VQModel", diffusers.VQModel.load_config(ZOO / "lsun_bedroom_ldm", subfolder="vqvae"), 55.32
    common = {"sample_size": 64, "layers_per_block": 2}
    if name == "Stable Diffusion's":
        blocks = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8}
        return "UNet2DConditionModel", common | blocks, 859.52
    blocks = {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    return "UNet2DConditionModel", common | blocks, 2567.46


class TestFullSize:
    @pytest.mark.parametrize("name", ["LSUN's", "LSUN's autoencoder", "Stable Diffusion's", "SDXL's"])
    def test_every_tensor_of_a_network_of_the_published_size_has_its_place(self, name):
        kind, config, published = full_size(name)
        with torch.device("meta"):
            network = getattr(diffusers, kind)(**config)
        assert sum(weights.numel() for weights in network.parameters()) / 1e6 == pytest.approx(published, abs=0.005)
        names = {
            "UNet2DModel": originals.unconditional_unet,
            "UNet2DConditionModel": originals.unet,
            "VQModel": originals.autoencoder,
        }
        converted = CONVERSIONS[kind](names[kind](network), network)
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        assert {name: tensor.shape for name, tensor in converted.items()} == shapes


class TestRefusal:
    @pytest.fixture
    def checkpoint(self, tiny, parts, tmp_path):
        """Save the unconditional model's tensors after a change."""

        def save(change):
            pipeline = parts["latent_diffusion"]
            weights = originals.unconditional_unet(pipeline.unet) | originals.autoencoder(pipeline.vqvae)
            change(weights)
            torch.save(weights, tmp_path / "model.ckpt")
            return tmp_path / "model.ckpt"

        return save

    def test_a_missing_tensor_is_named(self, checkpoint, tiny):
        path = checkpoint(lambda weights: weights.pop("model.diffusion_model.middle_block.1.proj_out.bias"))
        with pytest.raises(InputError, match=r"unet: the checkpoint lacks tensor mid_block.attentions.0.to_out.0.bias"):
            latent(path, tiny["latent_diffusion"])

    def test_a_tensor_of_another_architecture_is_named(self, checkpoint, tiny):
        extra = "model.diffusion_model.input_blocks.4.0.in_layers.0.bias"
        path = checkpoint(lambda weights: weights.update({extra: torch.zeros(3)}))
        with pytest.raises(
            InputError, match=r"unet: the checkpoint has the unknown tensor down_blocks.1.resnets.1.norm1"
        ):
            latent(path, tiny["latent_diffusion"])

    def test_a_tensor_of_another_shape_is_named(self, checkpoint, tiny):
        path = checkpoint(lambda weights: weights.update({"first_stage_model.encoder.conv_in.bias": torch.zeros(3)}))
        with pytest.raises(InputError, match=r"vqvae: cannot be loaded: .*VQModel"):
            latent(path, tiny["latent_diffusion"])

    def test_a_file_without_the_autoencoder_is_refused(self, checkpoint, tiny):
        def drop(weights):
            for name in [name for name in weights if name.startswith("first_stage_model")]:
                del weights[name]

        with pytest.raises(InputError, match=r"vqvae: cannot be loaded: .*quantize.embedding"):
            latent(checkpoint(drop), tiny["latent_diffusion"])

    def test_a_file_without_configurations_is_refused(self, checkpoint):
        with pytest.raises(InputError, match="needs `config`"):
            latent(checkpoint(lambda weights: None), None)

    def test_code_in_a_pickle_is_refused_by_name_and_not_run(self, tiny, tmp_path):
        class Hostile:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "harm"),)

        torch.save({"state_dict": {"a": torch.zeros(1)}, "callbacks": Hostile()}, tmp_path / "model.ckpt")
        with pytest.raises(
            InputError,
            match=r"model.ckpt: not a checkpoint of tensors alone: it asks for posix.mkdir; where you trust it",
        ):
            latent(tmp_path / "model.ckpt", tiny["latent_diffusion"])
        assert not (tmp_path / "harm").exists()

    @pytest.mark.parametrize(
        ("suffix", "message"), [(".ckpt", "not a checkpoint of tensors alone"), (".safetensors", "not .*safetensors")]
    )
    @pytest.mark.parametrize("content", [b"", b"version https://git-lfs", pickle.dumps([1, 2], 2), b"\xff" * 100])
    def test_a_file_of_something_else_is_refused(self, tiny, tmp_path, suffix, message, content):
        path = tmp_path / f"model{suffix}"
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            latent(path, tiny["latent_diffusion"])

    def test_a_truncated_file_is_refused(self, checkpoint, tiny):
        path = checkpoint(lambda weights: None)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(InputError, match="not a checkpoint of tensors alone"):
            latent(path, tiny["latent_diffusion"])


def sigmas_of(scheduler):
    alphas = scheduler.alphas_cumprod
    return ((1 - alphas) / alphas).sqrt()


class TestWhatAFileTells:
    """A checkpoint that tells of its training is held against the folder that is given with it."""

    @pytest.fixture
    def saved(self, parts, tmp_path):
        """Save Stable Diffusion's tensors with others, as a pickle or as safetensors with metadata."""

        def save(tensors, suffix=".ckpt", metadata=None):
            pipeline = parts["stable_diffusion"]
            weights = originals.unet(pipeline.unet) | originals.autoencoder(pipeline.vae)
            weights |= originals.clip(pipeline.text_encoder, "cond_stage_model.transformer.") | tensors
            path = tmp_path / f"model{suffix}"
            if suffix == ".safetensors":
                safetensors.torch.save_file(weights, path, metadata)
            else:
                torch.save({"state_dict": weights}, path)
            return path

        return save

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_what_agrees_is_read(self, tiny, parts, saved, dtype):
        """Its buffers may have been saved in half precision."""
        scheduler = parts["stable_diffusion"].scheduler
        tensors = {
            "alphas_cumprod": scheduler.alphas_cumprod.to(dtype),
            "denoiser.sigmas": sigmas_of(scheduler).to(dtype),
            "scale_factor": torch.tensor(0.3, dtype=dtype),
        }
        expected = text(tiny["stable_diffusion"], None).digest
        path = saved(tensors, ".safetensors", {"modelspec.prediction_type": "epsilon", "format": "pt"})
        assert text(path, tiny["stable_diffusion"]).digest == expected
        assert text(saved(tensors), tiny["stable_diffusion"]).digest == expected

    @pytest.mark.parametrize(
        ("tensors", "message"),
        [
            (
                {"v_pred": torch.tensor([])},
                "scheduler_config.json: its prediction_type is epsilon, but .* v_prediction",
            ),
            ({"ztsnr": torch.tensor([])}, "its tensor ztsnr marks a training whose last level had no signal"),
            ({"edm_mean": torch.zeros(4)}, "its tensor edm_mean marks a model of EDM's form"),
            (
                {"scale_factor": torch.tensor(0.227)},
                r"vae.config.json: its scaling_factor is 0.3, but .* says 0.227; take",
            ),
            (
                {"alphas_cumprod": torch.linspace(1, 0.01, 1000)},
                "its table of cumulative alphas is 0.99915 ... 0.00466",
            ),
            ({"alphas_cumprod": torch.linspace(1, 0.01, 500)}, r"but .* says 1 ... 0.01 \(500\); take a fitting"),
            ({"denoiser.sigmas": torch.linspace(0.03, 14.6, 1000)}, "its table of cumulative alphas is 0.99915"),
        ],
        ids=["v_pred", "ztsnr", "edm", "scale", "alphas", "steps", "sigmas"],
    )
    def test_what_disagrees_is_refused_by_name(self, tiny, saved, tensors, message):
        with pytest.raises(InputError, match=message) as refused:
            text(saved(tensors), tiny["stable_diffusion"])
        assert "model.ckpt" in str(refused.value)

    def test_what_metadata_say_too(self, tiny, saved):
        path = saved({}, ".safetensors", {"modelspec.prediction_type": "v"})
        with pytest.raises(
            InputError, match=r"its prediction_type is epsilon, but .*model.safetensors says v_prediction"
        ):
            text(path, tiny["stable_diffusion"])

    def test_a_marked_network_is_read_with_a_folder_that_agrees(self, tiny, saved, tmp_path):
        changes = {"scheduler__scheduler_config": {"prediction_type": "v_prediction"}}
        folder = copied(tiny["stable_diffusion"], tmp_path, **changes)
        assert text(saved({"v_pred": torch.tensor([])}), folder).digest == text(folder, None).digest

    @pytest.mark.parametrize(
        "name", ["model.diffusion_model.time_embed.cond_proj.weight", "first_stage_model.decoder.norm_extra.weight"]
    )
    def test_a_tensor_that_the_conversion_drops_is_refused_by_name(self, tiny, saved, name):
        """An LCM's U-Net has one more than Stable Diffusion's: the scale of its guidance."""
        with pytest.raises(InputError, match=f"the checkpoint has the unknown tensor {name}, one of 1"):
            text(saved({name: torch.ones(3)}), tiny["stable_diffusion"])

    def test_what_an_autoencoder_was_judged_by_is_no_part_of_it(self, tiny, saved):
        path = saved({"first_stage_model.loss.logvar": torch.ones(3)})
        assert text(path, tiny["stable_diffusion"]).digest == text(tiny["stable_diffusion"], None).digest

    def test_an_average_that_is_missing_is_named(self, tiny, parts, tmp_path):
        pipeline = parts["latent_diffusion"]
        weights = originals.unconditional_unet(pipeline.unet)
        averages = originals.averaged(weights)
        averages.pop("model_ema.diffusion_modeltime_embed0bias")
        torch.save(weights | averages | originals.autoencoder(pipeline.vqvae), tmp_path / "model.ckpt")
        with pytest.raises(
            InputError, match=r"unet: the checkpoint lacks tensor time_embedding.linear_1.bias, one of 1"
        ):
            latent(tmp_path / "model.ckpt", tiny["latent_diffusion"])

    def test_it_has_no_variants(self, tiny, saved):
        spec = {"name": "stable_diffusion", "path": str(saved({})), "config": str(tiny["stable_diffusion"])}
        with pytest.raises(InputError, match="`variant` is for a folder; a checkpoint in one file has"):
            build("model", DENOISERS, spec | {"variant": "fp16"})
