"""Keys of a folder's configurations: none that changes the meaning is passed over."""

import json

import diffusers
import pytest

from amed_lightning.config import InputError
from amed_lightning.denoisers.diffusers_folder import Folder
from amed_lightning.denoisers.diffusers_keys import UNET, arguments, require_understood
from amed_lightning.denoisers.zoo.card import ZOO
from amed_lightning.noise.schedules import scaled_linear_log_alphas

from . import pipelines
from .loading import copied, latent, text

INSIDE = {
    "UNet2DModel": """
        sample_size in_channels out_channels center_input_sample time_embedding_dim freq_shift flip_sin_to_cos
        down_block_types up_block_types block_out_channels layers_per_block mid_block_scale_factor downsample_padding
        downsample_type upsample_type dropout act_fn attention_head_dim norm_num_groups attn_norm_num_groups norm_eps
        resnet_time_scale_shift add_attention num_train_timesteps
    """,
    "UNet2DConditionModel": """
        sample_size in_channels out_channels center_input_sample flip_sin_to_cos freq_shift down_block_types
        up_block_types only_cross_attention block_out_channels layers_per_block downsample_padding
        mid_block_scale_factor dropout act_fn norm_num_groups norm_eps cross_attention_dim transformer_layers_per_block
        reverse_transformer_layers_per_block attention_head_dim num_attention_heads dual_cross_attention
        use_linear_projection addition_time_embed_dim upcast_attention resnet_time_scale_shift resnet_skip_time_act
        resnet_out_scale_factor time_embedding_dim time_embedding_act_fn timestep_post_act conv_in_kernel
        conv_out_kernel projection_class_embeddings_input_dim class_embeddings_concat mid_block_only_cross_attention
        cross_attention_norm addition_embed_type_num_heads
    """,
    "AutoencoderKL": """
        in_channels out_channels down_block_types up_block_types block_out_channels layers_per_block act_fn
        latent_channels norm_num_groups sample_size force_upcast use_quant_conv use_post_quant_conv
        mid_block_add_attention
        scaling_factor shift_factor latents_mean latents_std
    """,
    "VQModel": """
        in_channels out_channels down_block_types up_block_types block_out_channels layers_per_block act_fn
        latent_channels sample_size num_vq_embeddings norm_num_groups vq_embed_dim norm_type mid_block_add_attention
        lookup_from_codebook force_upcast
        scaling_factor
    """,
}
"""What the library builds a part from, or what is honoured; a decoder is always in single precision (force_upcast)."""
PIPELINE = {"_class_name": "StableDiffusionPipeline"}


@pytest.mark.parametrize("name", INSIDE)
def test_every_argument_of_a_network_has_been_looked_at(name):
    known = set(INSIDE[name].split()) | (set(UNET) if name.startswith("UNet") else set())
    assert set(arguments(getattr(diffusers, name))) <= known


@pytest.mark.parametrize(
    ("part", "config", "message"),
    [
        ("unet/config", {"class_embed_type": "timestep"}, 'class_embed_type is "timestep": a label or a noise level'),
        ("unet/config", {"time_cond_proj_dim": 256}, "time_cond_proj_dim is 256: .*LCM"),
        ("unet/config", {"addition_embed_type": "image"}, 'addition_embed_type is "image": only what SDXL adds'),
        ("unet/config", {"encoder_hid_dim_type": "image_proj"}, 'encoder_hid_dim_type is "image_proj": another'),
        ("unet/config", {"encoder_hid_dim": 4096}, "encoder_hid_dim is 4096: another"),
        ("unet/config", {"attention_type": "gated"}, 'attention_type is "gated": boxes'),
        ("unet/config", {"time_embedding_type": "fourier"}, 'time_embedding_type is "fourier": the time must be'),
        ("unet/config", {"mid_block_type": None}, "mid_block_type is null: the predictor reads"),
        ("unet/config", {"quantization_config": {"bits": 4}}, "quantization_config is .*nothing here knows that key"),
        ("vae/config", {"scaling_facto": 0.2}, r"scaling_facto is 0.2, .*\(is scaling_factor meant\?\)"),
        ("vae/config", {"latent_mean": [1.0]}, r"latent_mean is .*\(is latents_mean meant\?\)"),
        ("text_encoder/config", {"use_attention_mask": True}, "use_attention_mask is true: the padding of prompts"),
        ("text_encoder/config", {"clip_skip": 2}, "clip_skip is 2, and nothing here knows that key"),
        ("tokenizer/tokenizer_config", {"tokenizer_class": "T5Tokenizer"}, "only CLIP's tokenizer is read"),
        ("model_index", {"_class_name": "StableDiffusionInpaintPipeline"}, "StableDiffusionInpaintPipeline.*not repro"),
        ("model_index", {"_class_name": "LatentConsistencyModelPipeline"}, "LatentConsistencyModelPipeline.*not repr"),
        ("model_index", {"_class_name": "StableDiffusionUpscalePipeline"}, "StableDiffusionUpscalePipeline.*not repr"),
        ("model_index", {"_class_name": ["pipeline", "Own"]}, "_class_name is .*Own"),
        ("model_index", {"_class_name": None}, "_class_name is null"),
        ("model_index", {"controlnet": ["diffusers", "ControlNetModel"]}, "controlnet is .*nothing here knows"),
        ("model_index", {"text_encoder_3": ["transformers", "T5EncoderModel"]}, "text_encoder_3 is"),
        ("model_index", {"requires_aesthetics_score": True}, "requires_aesthetics_score is true: SDXL's refiner"),
        ("model_index", {"force_zeros_for_empty_prompt": "no"}, "force_zeros_for_empty_prompt is .no.: whether"),
        ("model_index", {"scheduler": ["diffusers", "LCMScheduler"]}, "is LCMScheduler, of which no plain table"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_done_here_is_refused_by_file_key_value_and_cure(tiny, tmp_path, part, config, message):
    folder = copied(tiny["stable_diffusion"], tmp_path, **{part.replace("/", "__"): config})
    with pytest.raises(InputError, match=rf"{part}.json: .*{message}") as refused:
        text(folder)
    assert "\n" not in str(refused.value)


def test_an_unconditional_folder_of_another_pipeline_is_refused(tiny, tmp_path):
    folder = copied(tiny["latent_diffusion"], tmp_path, model_index={"_class_name": "DDPMPipeline"})
    with pytest.raises(InputError, match=r'model_index.json: _class_name is "DDPMPipeline".*LDMPipeline, write that'):
        latent(folder)
    with pytest.raises(InputError, match=r'_class_name is "LDMPipeline"'):
        text(tiny["latent_diffusion"])


def test_what_makes_no_difference_is_passed_over(tiny, tmp_path):
    """Who looks at images, notes of the library, and what says nothing."""
    changes = {
        "model_index": {
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "requires_safety_checker": True,
            "novelty": [None, None],
        },
        "vae__config": {"_name_or_path": "somewhere", "novelty": None},
        "scheduler__scheduler_config": {"timestep_spacing": "linspace", "steps_offset": 0, "set_alpha_to_one": True},
    }
    plain = text(tiny["stable_diffusion"])
    model = text(copied(tiny["stable_diffusion"], tmp_path, **changes))
    assert model.noise_range == plain.noise_range
    assert len(list(model.denoiser.parameters())) == len(list(plain.denoiser.parameters()))


def test_the_configurations_that_are_shipped_are_understood():
    folder = Folder(ZOO / "lsun_bedroom_ldm")
    assert folder.training().log_alphas == pytest.approx(scaled_linear_log_alphas(0.0015, 0.0195), rel=1e-5)
    for part, kind in (("unet", diffusers.UNet2DModel), ("vqvae", diffusers.VQModel)):
        path = folder.path / part / "config.json"
        require_understood(path, folder.config(f"{part}/config.json"), UNET, arguments(kind))


def test_a_folder_needs_no_index(tiny, tmp_path):
    folder = copied(tiny["stable_diffusion"], tmp_path)
    (folder / "model_index.json").unlink()
    assert text(folder).digest == text(tiny["stable_diffusion"]).digest


class TestIndexedScheduler:
    def test_a_class_with_the_same_betas_may_stand_in_the_index(self, tiny, tmp_path):
        folder = copied(tiny["stable_diffusion"], tmp_path, model_index={"scheduler": ["diffusers", "PNDMScheduler"]})
        assert text(folder).digest == text(tiny["stable_diffusion"]).digest

    @pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # of diffusers' own code
    def test_a_class_that_takes_others_where_the_file_is_silent_is_refused(self, tiny, tmp_path):
        folder = copied(
            tiny["stable_diffusion"], tmp_path, model_index={"scheduler": ["diffusers", "HeunDiscreteScheduler"]}
        )
        path = folder / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({"_class_name": "PNDMScheduler"}))
        with pytest.raises(
            InputError, match=r"_class_name is PNDMScheduler, but pipelines make a HeunDiscreteScheduler"
        ):
            text(folder)


def test_a_tiny_pipeline_is_read_as_its_library_saves_it(tmp_path):
    """Every key that diffusers and transformers write of themselves is understood."""
    assert text(pipelines.sdxl(tmp_path / "sdxl")).image_shape == (3, 16, 16)
