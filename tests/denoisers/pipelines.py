"""Tiny pipelines with random weights, in diffusers' layout on disk: LDM, Stable Diffusion and SDXL."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    LDMPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 16
AUTOENCODER = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
}
UNET = {"sample_size": 8, "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4}


def drawn(module: nn.Module, seed: int) -> nn.Module:
    """Move every weight by as much as makes it matter: some start at zero, and many prompts would look alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in module.parameters():
            weights += 0.1 * torch.randn(weights.shape, generator=generator)
    return module


def scheduler(**options) -> DDIMScheduler:
    """Stable Diffusion's betas; the last step ends at the first entry of the table, not at the clean image."""
    plain = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**{**plain, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, **options})


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Write a vocabulary of bytes and a few merges as CLIP's files are, and read it back."""
    folder.mkdir(parents=True)
    letters = sorted(ByteLevel.alphabet())
    merges = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    options = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "pad_token": END, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(options | {"bos_token": START, "eos_token": END}))
    return CLIPTokenizer.from_pretrained(folder)


def text_config(words: int, **options) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
        **options,
    )


def text_unet(**options) -> UNet2DConditionModel:
    """A U-Net whose middle block works at 4x4."""
    return UNet2DConditionModel(
        **UNET,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        **{"in_channels": 4, "cross_attention_dim": 16, **options},
    )


def latent_diffusion(folder: Path, **options) -> Path:
    """Unconditional, with a vector-quantised autoencoder."""
    unet = UNet2DModel(
        **UNET,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )
    vqvae = VQModel(**AUTOENCODER, latent_channels=3, num_vq_embeddings=32, vq_embed_dim=3, scaling_factor=0.7)
    LDMPipeline(drawn(vqvae, 1), drawn(unet, 2), scheduler(**options)).save_pretrained(folder)
    return folder


def stable_diffusion(folder: Path, **options) -> Path:
    """One text encoder, and an autoencoder with a Gaussian latent."""
    words = tokenizer(folder / "tokenizer")
    StableDiffusionPipeline(
        vae=drawn(AutoencoderKL(**AUTOENCODER, latent_channels=4, scaling_factor=0.3), 1),
        text_encoder=drawn(CLIPTextModel(text_config(len(words))), 3),
        tokenizer=words,
        unet=drawn(text_unet(), 2),
        scheduler=scheduler(**options),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def sdxl(folder: Path) -> Path:
    """Two text encoders, the pooled answer of the second, and six numbers."""
    words, others = tokenizer(folder / "tokenizer"), tokenizer(folder / "tokenizer_2")
    pooled, numbers = 12, 8
    unet = text_unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=numbers,
        projection_class_embeddings_input_dim=pooled + 6 * numbers,
    )
    second = text_config(len(words), projection_dim=pooled)
    StableDiffusionXLPipeline(
        vae=drawn(AutoencoderKL(**AUTOENCODER, latent_channels=4, scaling_factor=0.3), 1),
        text_encoder=drawn(CLIPTextModel(text_config(len(words))), 3),
        text_encoder_2=drawn(CLIPTextModelWithProjection(second), 4),
        tokenizer=words,
        tokenizer_2=others,
        unet=drawn(unet, 2),
        scheduler=scheduler(),
    ).save_pretrained(folder)
    return folder
