"""Files in the formats in which networks are published, with random weights in them.

The tiny ones have 16x16 pixels and features of 8x8. The state dicts of guided-diffusion and the consistency models are
written from a list of their names and shapes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amed_lightning.denoisers.edm import edm_card
from amed_lightning.denoisers.layers import Resample
from amed_lightning.denoisers.untold import Untold

from .persistent import edm_object, latents_object, loss_object, predictor_object, write_pickle

Shapes = dict[str, tuple[int, ...]]

EDM = {"img_resolution": 16, "img_channels": 3, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8]}
EDM_UNCONDITIONAL = EDM | {"label_dim": 0, "use_fp16": False, "model_type": "SongUNet", "embedding_type": "positional"}
EDM_UNCONDITIONAL |= {"encoder_type": "standard", "decoder_type": "standard", "channel_mult_noise": 1}
EDM_UNCONDITIONAL |= {"resample_filter": [1, 1], "model_channels": 16, "augment_dim": 9, "dropout": 0.13}
EDM_CONDITIONAL = EDM | {"label_dim": 10, "use_fp16": True, "model_type": "DhariwalUNet", "model_channels": 32}
EDM_CONDITIONAL |= {"dropout": 0.1}
DDPMPP = {"img_channels": 3, "label_dim": 0, "use_fp16": False, "model_type": "SongUNet", "model_channels": 128}
DDPMPP |= {"embedding_type": "positional", "encoder_type": "standard", "decoder_type": "standard", "augment_dim": 9}
DDPMPP |= {"channel_mult_noise": 1, "resample_filter": [1, 1], "dropout": 0.13}
CIFAR10 = DDPMPP | {"img_resolution": 32, "channel_mult": [2, 2, 2]}
FFHQ = DDPMPP | {"img_resolution": 64, "channel_mult": [1, 2, 2, 2], "dropout": 0.05}
EDM2 = {"img_resolution": 16, "img_channels": 3, "label_dim": 10, "use_fp16": True, "model_channels": 32}
EDM2 |= {"channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8], "channels_per_head": 32, "dropout": 0.1}
IMAGENET64 = {"img_resolution": 64, "img_channels": 3, "label_dim": 1000, "use_fp16": True, "dropout": 0.1}
IMAGENET64 |= {"model_type": "DhariwalUNet", "model_channels": 192, "channel_mult": [1, 2, 3, 4]}
"""The constructor's arguments of EDM's published networks."""
AMED_SETTINGS = {"dataset_name": "cifar10", "img_resolution": 16, "num_steps": 4, "sampler_stu": "amed", "M": 1}
AMED_SETTINGS |= {"sampler_tea": "heun", "guidance_type": None, "guidance_rate": 0.0, "schedule_type": "time_uniform"}
AMED_SETTINGS |= {"schedule_rho": 1.0, "afs": True, "scale_dir": 0.01, "scale_time": 0, "max_order": 3}
AMED_SETTINGS |= {"predict_x0": True, "lower_order_final": True}
"""Of an AMED-Solver of three intervals; ``num_steps`` counts levels."""


@dataclass(frozen=True)
class OpenAI:
    """The options of a network of guided-diffusion or the consistency models; the defaults are guided-diffusion's."""

    image_size: int = 256
    model_channels: int = 256
    num_res_blocks: int = 2
    channel_mult: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    attention: tuple[int, ...] = (32, 16, 8)
    num_classes: int = 1000
    head_channels: int = 64
    is_classifier: bool = False
    is_cm: bool = False
    scale_shift: bool = True
    resblock_updown: bool = True
    learn_sigma: bool = True
    sees: int = 3

    def channels(self, level: int) -> int:
        """Return the channels of a level."""
        return int(self.model_channels * self.channel_mult[level])


CONSISTENCY = OpenAI(num_classes=0, is_cm=True, scale_shift=False, learn_sigma=False)
GUIDED = OpenAI()
CLASSIFIER = OpenAI(model_channels=128, is_classifier=True)
TINY = OpenAI(16, 32, 1, (1, 2), (8,), num_classes=10, head_channels=16)
TINY_SIZES = ("image_size", "model_channels", "num_res_blocks", "channel_mult", "attention", "head_channels")
TINY_CONSISTENCY = replace(CONSISTENCY, **{name: getattr(TINY, name) for name in TINY_SIZES})
TINY_CLASSIFIER = replace(TINY, is_classifier=True)
TINY_OPTIONS = {"img_resolution": 16, "head_channels": 16}
"""What the files of the tiny networks do not tell, and nobody takes for granted."""
UNTOLD = Untold(**TINY_OPTIONS)


def edm_unconditional(folder: Path, seed: int = 0) -> Path:
    """Write a DDPM++ without classes as EDM publishes it."""
    return write_edm(folder / "edm-tiny-16x16-uncond-vp.pkl", EDM_UNCONDITIONAL, seed)


def edm_conditional(folder: Path, seed: int = 0) -> Path:
    """Write an ADM of ten classes as EDM publishes it."""
    return write_edm(folder / "edm-tiny-16x16-cond-adm.pkl", EDM_CONDITIONAL, seed)


def edm2(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write one of EDM2's networks of ten classes as it is published, in half precision."""
    arguments = EDM2 | changes
    state = edm2_state(arguments, seed)
    return write_pickle(
        folder / "edm2-tiny-16x16.pkl",
        lambda: {"encoder": latents_object(), "ema": edm_object(arguments, state, kind="Precond")},
    )


def edm2_state(arguments: Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Draw the tensors of an EDM2 file: rows of whatever length, and what training's loss keeps beside the network."""
    with torch.device("meta"):
        module = edm_card(arguments, "Precond").denoiser().model
    shapes = {f"unet.{name}": tuple(value.shape) for name, value in module.state_dict().items()}
    shapes |= {"logvar_fourier.freqs": (128,), "logvar_fourier.phases": (128,), "logvar_linear.weight": (1, 128)}
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).half() for name, shape in shapes.items()}


def consistency(folder: Path, seed: int = 0) -> Path:
    """Write EDM's network as the consistency models publish it; read it with ``TINY_OPTIONS``."""
    return write_openai(folder / "edm_tiny16_ema.pt", TINY_CONSISTENCY, seed)


def guided(folder: Path, seed: int = 0) -> Path:
    """Write guided-diffusion's network of ten classes; read it with ``TINY_OPTIONS``."""
    return write_openai(folder / "16x16_diffusion.pt", TINY, seed)


def classifier(folder: Path, seed: int = 1) -> Path:
    """Write guided-diffusion's classifier of ten classes; read it with ``TINY_OPTIONS``."""
    return write_openai(folder / "16x16_classifier.pt", TINY_CLASSIFIER, seed)


def amed_predictor(path: Path, settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> Path:
    """Write an AMED predictor as its training publishes it."""
    functions = {"dpm": "dpm_2", "dpmpp": "dpm_pp"}
    student, teacher = (functions.get(settings[name], settings[name]) for name in ("sampler_stu", "sampler_tea"))

    def content() -> dict[str, Any]:
        return {"model": predictor_object(settings, state), "loss_fn": loss_object(student, teacher)}

    return write_pickle(path, content)


def write_edm(path: Path, arguments: Mapping[str, Any], seed: int = 0) -> Path:
    """Write a pickle of a network of these constructor arguments."""
    state = random_state(edm_shapes(arguments), seed)
    return write_pickle(path, lambda: {"ema": edm_object(arguments, filters(arguments) | state)})


def write_openai(path: Path, options: OpenAI, seed: int = 0) -> Path:
    """Write a state dict of a network of these options."""
    torch.save(random_state(openai_shapes(options), seed), path)
    return path


def random_state(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    """Draw weights, none of them zero, that keep activations of order one."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        is_norm = len(shape) == 1 and name.endswith("weight")
        spread = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.2
        state[name] = spread * torch.randn(shape, generator=generator) + is_norm
    return state


def edm_shapes(arguments: Mapping[str, Any], outputs: int | None = None) -> Shapes:
    """Return the shape of every weight of one of EDM's networks."""
    return {name: tuple(value.shape) for name, value in _edm_module(arguments, outputs).state_dict().items()}


def filters(arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the resampling filters that EDM's files hold beside the weights."""
    line = torch.tensor(arguments.get("resample_filter", [1, 1]), dtype=torch.float32)
    taps = (line[:, None] * line)[None, None] / line.sum() ** 2
    modules = _edm_module(arguments).named_modules()
    places = [name.removesuffix(".resample") for name, module in modules if isinstance(module, Resample)]
    return {f"{place}.resample_filter": taps for place in places}


def _edm_module(arguments: Mapping[str, Any], outputs: int | None = None) -> torch.nn.Module:
    with torch.device("meta"):
        return edm_card(arguments, outputs=outputs).denoiser()


def openai_shapes(options: OpenAI) -> Shapes:
    """Return the names and shapes in a file of guided-diffusion or the consistency models."""
    unit, levels = options.model_channels, range(len(options.channel_mult))
    shapes = {"time_embed.0.weight": (4 * unit, unit), "time_embed.0.bias": (4 * unit,)}
    shapes |= {"time_embed.2.weight": (4 * unit, 4 * unit), "time_embed.2.bias": (4 * unit,)}
    now = options.channels(0)
    shapes |= _convolution("input_blocks.0.0", options.sees, now)
    skips, index = [now], 0
    for level in levels:
        for block in range(options.num_res_blocks + bool(level)):
            leads_down, index = bool(level) and not block, index + 1
            out = now if leads_down else options.channels(level)
            if leads_down and not options.resblock_updown:
                shapes |= _convolution(f"input_blocks.{index}.0.op", now, now)
            else:
                shapes |= _residual(options, f"input_blocks.{index}.0", now, out)
            if not leads_down and options.image_size >> level in options.attention:
                shapes |= _attention(options, f"input_blocks.{index}.1", out)
            now = out
            skips.append(now)
    shapes |= _residual(options, "middle_block.0", now, now) | _attention(options, "middle_block.1", now)
    shapes |= _residual(options, "middle_block.2", now, now)
    if options.is_classifier:
        return shapes | _head(options, now)
    if options.num_classes:
        shapes["label_emb.weight"] = (options.num_classes, 4 * unit)
    for index in range(len(skips)):
        level = len(levels) - 1 - index // (options.num_res_blocks + 1)
        out, parts = options.channels(level), 1
        shapes |= _residual(options, f"output_blocks.{index}.0", now + skips.pop(), out)
        if options.image_size >> level in options.attention:
            shapes |= _attention(options, f"output_blocks.{index}.1", out)
            parts = 2
        if level and index % (options.num_res_blocks + 1) == options.num_res_blocks:
            up = f"output_blocks.{index}.{parts}"
            shapes |= (
                _residual(options, up, out, out) if options.resblock_updown else _convolution(f"{up}.conv", out, out)
            )
        now = out
    return shapes | _norm("out.0", now) | _convolution("out.2", now, 6 if options.learn_sigma else 3)


def _convolution(name: str, channels: int, out: int) -> Shapes:
    return {f"{name}.weight": (out, channels, 3, 3), f"{name}.bias": (out,)}


def _residual(options: OpenAI, name: str, channels: int, out: int) -> Shapes:
    embedded = (1 + options.scale_shift) * out
    shapes = _norm(f"{name}.in_layers.0", channels) | _norm(f"{name}.out_layers.0", out)
    shapes |= {f"{name}.in_layers.2.weight": (out, channels, 3, 3), f"{name}.in_layers.2.bias": (out,)}
    shapes |= {f"{name}.emb_layers.1.weight": (embedded, 4 * options.model_channels)}
    shapes |= {f"{name}.emb_layers.1.bias": (embedded,)}
    shapes |= {f"{name}.out_layers.3.weight": (out, out, 3, 3), f"{name}.out_layers.3.bias": (out,)}
    if channels != out:
        shapes |= {f"{name}.skip_connection.weight": (out, channels, 1, 1), f"{name}.skip_connection.bias": (out,)}
    return shapes


def _attention(options: OpenAI, name: str, channels: int) -> Shapes:
    kernel = (1, 1) if options.is_cm else (1,)
    shapes = {f"{name}.qkv.weight": (3 * channels, channels, *kernel), f"{name}.qkv.bias": (3 * channels,)}
    shapes |= {f"{name}.proj_out.weight": (channels, channels, *kernel), f"{name}.proj_out.bias": (channels,)}
    return _norm(f"{name}.norm", channels) | shapes


def _head(options: OpenAI, channels: int) -> Shapes:
    tokens = (options.image_size >> (len(options.channel_mult) - 1)) ** 2 + 1
    shapes = {"out.2.positional_embedding": (channels, tokens)}
    shapes |= {"out.2.qkv_proj.weight": (3 * channels, channels, 1), "out.2.qkv_proj.bias": (3 * channels,)}
    shapes |= {"out.2.c_proj.weight": (options.num_classes, channels, 1), "out.2.c_proj.bias": (options.num_classes,)}
    return _norm("out.0", channels) | shapes


def _norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}
