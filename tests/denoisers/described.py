"""guided-diffusion's and improved-diffusion's network written from its description, to compare ours with.

It runs on a state dict as published, one tensor after the other, and shares nothing with the package.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .published import OpenAI


@dataclass(frozen=True)
class Described:
    """A network.

    Attributes:
        state: its tensors.
        options: which network it is.
        num_heads: of every attention; else heads of ``options.head_channels`` channels.
        new_order: queries of all heads come first, then all keys, then all values.
    """

    state: dict[str, Tensor]
    options: OpenAI
    num_heads: int | None = None
    new_order: bool = False

    def __call__(self, x: Tensor, step: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return all that the network says of scaled images at a step each."""
        half = self.options.model_channels // 2
        rates = (-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half).exp()  # in single precision always
        angles = step[:, None] * rates.to(step.dtype)
        code = torch.cat([angles.cos(), angles.sin()], 1)
        embedding = self.linear("time_embed.2", F.silu(self.linear("time_embed.0", code)))
        if labels is not None:
            embedding = embedding + self.state["label_emb.weight"][labels]
        kept: list[Tensor] = []
        for index in range(self.count("input_blocks")):
            x = self.down(index, x, embedding)
            kept.append(x)
        for part in ("0", "1", "2"):
            x = self.part(f"middle_block.{part}", x, embedding)
        for index in range(self.count("output_blocks")):
            x = torch.cat([x, kept.pop()], 1)
            for part in range(3):
                x = self.part(f"output_blocks.{index}.{part}", x, embedding, doubles=part > 0)
        return self.convolve("out.2", F.silu(self.norm("out.0", x)))

    def down(self, index: int, x: Tensor, embedding: Tensor) -> Tensor:
        """Run an input block; after each level but the last one comes one that halves the resolution."""
        if index == 0:
            return self.convolve("input_blocks.0.0", x)
        halves = index % (self.options.num_res_blocks + 1) == 0
        x = self.part(f"input_blocks.{index}.0", x, embedding, halves=halves)
        return self.part(f"input_blocks.{index}.1", x, embedding)

    def part(self, name: str, x: Tensor, embedding: Tensor, halves: bool = False, doubles: bool = False) -> Tensor:
        """Run what stands at a place: a residual block, attention, a convolution that resamples, or nothing."""
        if f"{name}.op.weight" in self.state:
            return self.convolve(f"{name}.op", x, stride=2)
        if f"{name}.conv.weight" in self.state:
            return self.convolve(f"{name}.conv", repeated(x))
        if f"{name}.qkv.weight" in self.state:
            return self.attend(name, x)
        if f"{name}.in_layers.0.weight" in self.state:
            return self.residual(name, x, embedding, F.avg_pool2d if halves else repeated if doubles else None)
        return x

    def residual(self, name, x, embedding, resample):
        y = F.silu(self.norm(f"{name}.in_layers.0", x))
        if resample is not None:
            y, x = (resample(part, 2) for part in (y, x))
        y = self.convolve(f"{name}.in_layers.2", y)
        said = self.linear(f"{name}.emb_layers.1", F.silu(embedding))[:, :, None, None]
        if self.options.scale_shift:
            half = said.shape[1] // 2
            y = self.norm(f"{name}.out_layers.0", y) * (1 + said[:, :half]) + said[:, half:]
        else:
            y = self.norm(f"{name}.out_layers.0", y + said)
        if f"{name}.skip_connection.weight" in self.state:
            x = self.convolve(f"{name}.skip_connection", x, padding=0)
        return x + self.convolve(f"{name}.out_layers.3", F.silu(y))

    def attend(self, name, x):
        """Cut the channels up by hand, one head after the other."""
        batch, channels, height, width = x.shape
        heads = self.num_heads or channels // self.options.head_channels
        depth = channels // heads
        kernel, bias = self.state[f"{name}.qkv.weight"].flatten(1), self.state[f"{name}.qkv.bias"]
        rows = torch.einsum("oc,bcn->bon", kernel, self.norm(f"{name}.norm", x).flatten(2)) + bias[:, None]
        seen = []
        for head in range(heads):
            if self.new_order:
                starts = [part * channels + head * depth for part in range(3)]
            else:
                starts = [(3 * head + part) * depth for part in range(3)]
            query, key, value = (rows[:, start : start + depth] for start in starts)
            affinity = torch.einsum("bdq,bdk->bqk", query, key) / math.sqrt(depth)
            seen.append(torch.einsum("bqk,bdk->bdq", affinity.softmax(2), value))
        kernel, bias = self.state[f"{name}.proj_out.weight"].flatten(1), self.state[f"{name}.proj_out.bias"]
        projected = torch.einsum("oc,bcn->bon", kernel, torch.cat(seen, 1)) + bias[:, None]
        return x + projected.reshape(batch, channels, height, width)

    def convolve(self, name, x, stride=1, padding=1):
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], stride, padding)

    def linear(self, name, x):
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, name, x):
        return F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-5)

    def count(self, blocks):
        return len({name.split(".")[1] for name in self.state if name.startswith(f"{blocks}.")})


def repeated(x: Tensor, factor: int = 2) -> Tensor:
    """Repeat every pixel in both directions."""
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def cosine_alphas(steps: int) -> Tensor:
    """Return the cumulative alphas of Nichol and Dhariwal's equation 17, through betas of at most 0.999."""

    def f(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    kept = [max(f((step + 1) / steps) / f(step / steps), 0.001) for step in range(steps)]
    return torch.tensor(kept, dtype=torch.float64).cumprod(0)


def linear_alphas(steps: int) -> Tensor:
    """Return the cumulative alphas of betas from 0.0001 to 0.02 in a thousand steps, scaled for any other number."""
    return (1 - torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * 1000 / steps).cumprod(0)


def level(alpha: Tensor) -> Tensor:
    """Return the level of a cumulative alpha."""
    return ((1 - alpha) / alpha).sqrt()
