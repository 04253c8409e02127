"""Tiny transformers with random weights, in diffusers' layout on disk."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import diffusers
import torch
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from .pipelines import AUTOENCODER, drawn, text_config, tokenizer

LETTERS = "▁abcdefghijklmnopqrstuvwxyz,."
T5_WIDTH = 24


def t5_tokenizer(folder: Path) -> T5Tokenizer:
    """Write a vocabulary of letters and two words as T5's files are, and read it back."""
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0)]
    words += [(letter, -4.0) for letter in LETTERS] + [("▁cat", -1.0), ("▁dog", -1.0)]
    T5Tokenizer(vocab=words, extra_ids=0, model_max_length=512).save_pretrained(folder)
    return T5Tokenizer.from_pretrained(folder)


def t5() -> T5EncoderModel:
    sizes = {"d_model": T5_WIDTH, "d_kv": 6, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    return drawn(T5EncoderModel(T5Config(vocab_size=len(LETTERS) + 5, **sizes)), 5)


def autoencoder(channels: int) -> diffusers.AutoencoderKL:
    return drawn(
        diffusers.AutoencoderKL(**AUTOENCODER, latent_channels=channels, scaling_factor=0.3, shift_factor=0.2), 1
    )


def repeatable(make: Callable[..., Path]) -> Callable[..., Path]:
    """Let a maker's modules begin at the same weights every time: they draw them, and :func:`drawn` adds to them."""

    @wraps(make)
    def made(*arguments: object, **options: object) -> Path:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make(*arguments, **options)

    return made


@repeatable
def sd3(folder: Path, **options) -> Path:
    """Two CLIPs and T5; the middle of three blocks has 4x4 tokens."""
    words, others = tokenizer(folder / "tokenizer"), tokenizer(folder / "tokenizer_2")
    sizes = {"attention_head_dim": 8, "num_attention_heads": 2, "num_layers": 3, "patch_size": 2, "sample_size": 8}
    widths = {"joint_attention_dim": 40, "caption_projection_dim": 16, "pooled_projection_dim": 12 + 10}
    transformer = diffusers.SD3Transformer2DModel(
        **sizes, **widths, in_channels=4, out_channels=4, pos_embed_max_size=12
    )
    clips = [
        drawn(CLIPTextModelWithProjection(text_config(len(words), projection_dim=width)), 3 + width)
        for width in (12, 10)
    ]
    third = T5EncoderModel(
        T5Config(vocab_size=len(LETTERS) + 5, d_model=40, d_kv=6, d_ff=32, num_layers=2, num_heads=4)
    )
    diffusers.StableDiffusion3Pipeline(
        transformer=drawn(transformer, 2),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **options}),
        vae=autoencoder(4),
        text_encoder=clips[0],
        tokenizer=words,
        text_encoder_2=clips[1],
        tokenizer_2=others,
        text_encoder_3=drawn(third, 5),
        tokenizer_3=t5_tokenizer(folder / "tokenizer_3"),
    ).save_pretrained(folder)
    return folder


@repeatable
def flux(folder: Path, guidance_embeds: bool = True, **options) -> Path:
    """CLIP and T5, two double blocks and three single ones; told its guidance."""
    words = tokenizer(folder / "tokenizer")
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=16,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(2, 2, 4),
    )
    moving = {"use_dynamic_shifting": True, "shift": 3.0}
    diffusers.FluxPipeline(
        transformer=drawn(transformer, 2),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**moving | options),
        vae=autoencoder(4),
        text_encoder=drawn(CLIPTextModel(text_config(len(words))), 3),
        tokenizer=words,
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(folder / "tokenizer_2"),
    ).save_pretrained(folder)
    return folder


@repeatable
def dit(folder: Path, **options) -> Path:
    """A thousand classes, and a variance beside the noise."""
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 3, "patch_size": 2, "sample_size": 8}
    transformer = diffusers.DiTTransformer2DModel(**sizes, in_channels=4, out_channels=8, num_embeds_ada_norm=1000)
    ddim = diffusers.DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False, **options)
    vae = diffusers.AutoencoderKL(**AUTOENCODER, latent_channels=4, scaling_factor=0.3)
    diffusers.DiTPipeline(drawn(transformer, 2), drawn(vae, 1), ddim, {0: "a cat"}).save_pretrained(folder)
    return folder


@repeatable
def pixart(folder: Path, kind=diffusers.PixArtAlphaPipeline, sized: bool = False) -> Path:
    """T5, masked."""
    heads = 3 if sized else 2  # the codes of three sizes stand side by side
    sizes = {"attention_head_dim": 8, "num_layers": 3, "patch_size": 2, "sample_size": 8}
    transformer = diffusers.PixArtTransformer2DModel(
        **sizes,
        num_attention_heads=heads,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=8 * heads,
        caption_channels=T5_WIDTH,
        use_additional_conditions=sized,
    )
    vae = diffusers.AutoencoderKL(**AUTOENCODER, latent_channels=4, scaling_factor=0.3)
    kind(
        transformer=drawn(transformer, 2),
        scheduler=diffusers.DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False),
        vae=drawn(vae, 1),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(folder / "tokenizer"),
    ).save_pretrained(folder)
    return folder


def gemma_tokenizer(folder: Path) -> GemmaTokenizer:
    """Write a vocabulary of letters as Gemma's files are, and read it back."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *LETTERS]
    vocabulary = {word: number for number, word in enumerate(words)}
    GemmaTokenizer(vocab=vocabulary, merges=[], add_bos_token=True).save_pretrained(folder)
    return GemmaTokenizer.from_pretrained(folder)


@repeatable
def sana(folder: Path, **options) -> Path:
    """Gemma, masked, and a deep autoencoder that halves once."""
    words = gemma_tokenizer(folder / "tokenizer")
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 3, "patch_size": 1, "sample_size": 8}
    crossing = {"num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16}
    transformer = diffusers.SanaTransformer2DModel(
        **sizes, **crossing, in_channels=4, out_channels=4, caption_channels=16
    )
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "ResBlock"),
        decoder_block_types=("ResBlock", "ResBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        scaling_factor=0.4,
    )
    gemma = Gemma2Config(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    diffusers.SanaPipeline(
        transformer=drawn(transformer, 2),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **options}),
        vae=drawn(vae, 1),
        text_encoder=drawn(Gemma2Model(gemma), 3),
        tokenizer=words,
    ).save_pretrained(folder)
    return folder
