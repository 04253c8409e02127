"""The names that original checkpoints give to the tensors of a pipeline, written from CompVis' and OpenAI's layouts."""

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]
RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
AUTOENCODER = [
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"group_norm", "norm"),
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"to_([qkv])\.", r"\1."),
    (r"to_out\.0", "proj_out"),
]
OPEN_CLIP = [
    (r"^text_model\.", ""),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.token_embedding", "token_embedding"),
    (r"final_layer_norm", "ln_final"),
    (r"encoder\.layers", "transformer.resblocks"),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"self_attn\.out_proj", "attn.out_proj"),
]


def renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def unet(module: nn.Module) -> Weights:
    """A U-Net in OpenAI's layout: every block is numbered, down- and upsampling are blocks or their last children."""
    per_level = module.config.layers_per_block + 1
    names = module.state_dict()
    original = {}
    for name, tensor in names.items():
        match name.split("."):
            case ["down_blocks", level, kind, index, *rest]:
                number = 1 + int(level) * per_level + (per_level - 1 if kind == "downsamplers" else int(index))
                child = "0.op" if kind == "downsamplers" else "01"[kind == "attentions"]
                name = ".".join(["input_blocks", str(number), child, *rest[kind == "downsamplers" :]])
            case ["up_blocks", level, kind, index, *rest]:
                number = int(level) * per_level + (per_level - 1 if kind == "upsamplers" else int(index))
                attends = any(other.startswith(f"up_blocks.{level}.attentions") for other in names)
                child = "12"[attends] if kind == "upsamplers" else "01"[kind == "attentions"]
                name = ".".join(["output_blocks", str(number), child, *rest])
        for new, old in OUTER.items():
            name = re.sub(rf"^{re.escape(new)}\.", f"{old}.", name)
        if ".transformer_blocks." not in name:
            for new, old in RESIDUAL.items():
                name = name.replace(f".{new}.", f".{old}.")
        original[f"model.diffusion_model.{name}"] = tensor
    return original


def unconditional_unet(module: nn.Module) -> Weights:
    """The same, whose attention has one convolution: head by head its queries, keys and values."""
    original = unet(module)
    for name in [name for name in original if ".to_q." in name]:
        layer, kind = name.split(".to_q.")
        by_head = [
            original.pop(f"{layer}.to_{letter}.{kind}").unflatten(0, (-1, module.config.attention_head_dim))
            for letter in "qkv"
        ]
        joint = torch.stack(by_head, 1).flatten(0, 2)
        original[f"{layer}.qkv.{kind}"] = joint[..., None] if kind == "weight" else joint
    for name in [name for name in original if ".to_out.0." in name]:
        tensor = original.pop(name)
        original[name.replace("to_out.0", "proj_out")] = tensor[..., None] if tensor.ndim == 2 else tensor
    return {name.replace(".group_norm.", ".norm."): tensor for name, tensor in original.items()}


def averaged(weights: Weights) -> Weights:
    """The names under which a checkpoint keeps the averages of a U-Net's weights."""
    return {"model_ema." + name.removeprefix("model.").replace(".", ""): tensor for name, tensor in weights.items()}


def autoencoder(module: nn.Module) -> Weights:
    """An autoencoder, whose decoder counts its levels from the lowest resolution up."""
    levels = len(module.config.up_block_types)
    original = {}
    for name, tensor in module.state_dict().items():
        for level in range(levels):
            name = re.sub(rf"up_blocks\.{level}\.resnets\.(\d)", rf"up.{levels - 1 - level}.block.\1", name)
            name = re.sub(rf"up_blocks\.{level}\.upsamplers\.0", f"up.{levels - 1 - level}.upsample", name)
        name = renamed(name, AUTOENCODER)
        convolution = ".attn_1." in name and tensor.ndim == 2
        original[f"first_stage_model.{name}"] = tensor[..., None, None] if convolution else tensor
    return original


def clip(module: nn.Module, prefix: str) -> Weights:
    """A text encoder as transformers of that time saved it, with a constant beside its weights."""
    names = {name.removeprefix("text_model."): tensor for name, tensor in module.state_dict().items()}
    constant = {"embeddings.position_ids": torch.arange(module.config.max_position_embeddings)[None]}
    return {f"{prefix}text_model.{name}": tensor for name, tensor in (names | constant).items()}


def open_clip(module: nn.Module, prefix: str) -> Weights:
    """A text encoder in OpenCLIP's layout."""
    weights = module.state_dict()
    original = {}
    for name, tensor in weights.items():
        if match := re.match(r"(.*self_attn)\.q_proj\.(\w+)", name):
            layer, kind = match.groups()
            joint = torch.cat([weights[f"{layer}.{letter}_proj.{kind}"] for letter in "qkv"])
            original[f"{renamed(layer, OPEN_CLIP)}.in_proj_{kind}".replace("self_attn", "attn")] = joint
        elif name == "text_projection.weight":
            original["text_projection"] = tensor.T.contiguous()
        elif not re.search(r"\.[kv]_proj\.", name):
            original[renamed(name, OPEN_CLIP)] = tensor
    return {prefix + name: tensor for name, tensor in original.items()}
