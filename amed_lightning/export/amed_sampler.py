r"""A few-step sampler as two nodes' worth of ComfyUI: its levels and what it makes of the model's images.

Put this folder into ``custom_nodes`` and connect both outputs of the node *AMED sampler* with ``SamplerCustom``. Its N
runs ask about ``x_i = a_i n + sum_(j<i) b_ij D_j``, n the noise and D_j the images so far; the last row is the sample.
ComfyUI's state is ``x_i / scale_i``, at the level that it is told.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Numbers = dict[str, Any]


def sample(
    numbers: Numbers,
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,
    disable: bool | None = None,
) -> Tensor:
    """Sample as ComfyUI's samplers are called.

    Args:
        numbers: of the sampler.
        model: gives the image at a state and a level for each sample.
        x: noise at the first level.
        sigmas: this sampler's levels; others are refused.
        extra_args: for the model.
        callback: is told every image.
        disable: of a progress bar that there is none of.

    Raises:
        ValueError: levels of another sampler, or only a part of these.
    """
    levels, scales = numbers["levels"], numbers["scales"]
    if len(sigmas) != len(levels) + 1 or not torch.allclose(sigmas[:-1].double().cpu(), torch.tensor(levels).double()):
        raise ValueError(f"this sampler goes along its own {len(levels)} levels; connect the node's SIGMAS")
    noise = x * (scales[0] / numbers["told"][0])
    images: list[Tensor] = []
    for run, level in enumerate(levels):
        x = _state(numbers, run, noise, images) / scales[run]
        image = model(x, x.new_full((len(x),), level), **(extra_args or {}))
        if (clip := numbers["clip"]) is not None:
            image = image.clamp(-clip, clip).where(image.isfinite(), torch.nan)
        images.append(image)
        if callback is not None:
            callback({"x": x, "i": run, "sigma": level, "sigma_hat": level, "denoised": image})
    return _state(numbers, len(levels), noise, images)


def _state(numbers: Numbers, row: int, noise: Tensor, images: list[Tensor]) -> Tensor:
    """Return the state of a row."""
    x = numbers["noise"][row] * noise
    for factor, image in zip(numbers["answers"][row], images, strict=False):
        x = x + factor * image
    return x


class AmedSampler:
    """The node: no inputs, a sampler and its levels."""

    RETURN_TYPES = ("SAMPLER", "SIGMAS")
    FUNCTION = "get"
    CATEGORY = "sampling/custom_sampling/samplers"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  # ComfyUI's name
        """Return that it takes nothing."""
        return {"required": {}}

    def get(self) -> tuple[Any, Tensor]:
        """Return the sampler and its levels, which end at the clean image."""
        from comfy.samplers import KSAMPLER

        numbers = json.loads((Path(__file__).parent / "sampler.json").read_text())

        def own(model: Any, x: Tensor, sigmas: Tensor, *given: Any, **named: Any) -> Tensor:
            return sample(numbers, model, x, sigmas, *given, **named)

        return KSAMPLER(own), torch.tensor([*numbers["levels"], 0.0])


NODE_CLASS_MAPPINGS = {"AmedSampler": AmedSampler}
NODE_DISPLAY_NAME_MAPPINGS = {"AmedSampler": "AMED sampler"}
