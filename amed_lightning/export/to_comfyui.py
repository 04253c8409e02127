"""For ComfyUI: a folder of a node and its numbers.

ComfyUI's own states are ``x_0 + sigma n``, or for a model of flow matching ``(1 - s) x_0 + s n``, whose level is s.
"""

import json
from importlib.resources import files
from typing import Any

from amed_lightning.denoisers.preconditioning import FlowMatching
from amed_lightning.export.network import inside, table_for
from amed_lightning.sampling.sampler import Sampler

MODULE, NUMBERS, PACKAGE = "amed_sampler.py", "sampler.json", "__init__.py"
_INIT = b'''"""A few-step sampler, see amed_sampler.py."""

from .amed_sampler import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
'''


def comfyui_numbers(sampler: Sampler) -> dict[str, Any]:
    """Return what the node is told: a number for each run, and the table.

    Raises:
        InputError: a predictor places the sampler's steps, or its model has more inside than a network.
    """
    table, inner = table_for(sampler), inside(sampler.model)
    told = table.told.tolist()
    scales = [1 + level if isinstance(inner.denoiser.preconditioning, FlowMatching) else 1.0 for level in told]
    levels = [level / scale if scale > 1 else level for level, scale in zip(told, scales, strict=True)]
    numbers = {"levels": levels, "scales": scales, "told": told}
    return numbers | {"noise": table.noise.tolist(), "answers": table.answers.tolist(), "clip": inner.clip}


def for_comfyui(sampler: Sampler) -> dict[str, bytes]:
    """Return the files of a node's folder, by name."""
    numbers = json.dumps(comfyui_numbers(sampler), indent=2).encode() + b"\n"
    return {PACKAGE: _INIT, MODULE: files(__package__).joinpath(MODULE).read_bytes(), NUMBERS: numbers}
