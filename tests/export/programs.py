"""Exported folders, read as the other programs read them."""

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.export.folder import export
from amed_lightning.export.to_comfyui import MODULE as NODE
from amed_lightning.export.to_diffusers import CONFIG
from amed_lightning.export.to_diffusers import MODULE as SCHEDULER
from amed_lightning.flow.model import Condition, DiffusionModel
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.sampling.sampler import Sampler

BATCH = 3


def sampler_config(model: DiffusionModel, solver: str | dict[str, Any] = "ipndm", **changes: Any) -> SamplerConfig:
    """Describe a sampler of four intervals, which computes in the precision of the model's weights."""
    named = {"name": solver} if isinstance(solver, str) else solver
    double = next(model.denoiser.parameters()).dtype == torch.float64
    plain = {"schedule": {"name": "logsnr"}, "num_intervals": 4}
    plain |= {"arithmetic": Arithmetic("float64" if double else "float32")}
    return SamplerConfig({}, named, **(plain | changes))


def sampler_of(model: DiffusionModel, solver: str | dict[str, Any] = "ipndm", **changes: Any) -> Sampler:
    """Build the sampler of a :func:`sampler_config`."""
    return build_sampler(sampler_config(model, solver, **changes), model)


def noise_for(model: DiffusionModel, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, *model.shape, generator=generator, dtype=next(model.denoiser.parameters()).dtype)


def sampled(sampler: Sampler, noise: Tensor, condition: Condition | None = None) -> Tensor:
    with torch.no_grad():
        return sampler.sample(noise, condition).x


def imported(path: Path, name: str) -> types.ModuleType:
    """Import a file, or a folder as a package."""
    for known in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[known]
    places = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def scheduler_class(folder: Path) -> type:
    """Return the class that the configuration of an exported folder names."""
    named = json.loads((folder / CONFIG).read_text())["_class_name"]
    return getattr(imported(folder / SCHEDULER, Path(SCHEDULER).stem), named)


def scheduler_of(sampler: Sampler, folder: Path) -> Any:
    """Export a sampler for diffusers and read it back."""
    export(sampler, "diffusers", folder)
    return scheduler_class(folder).from_pretrained(folder)


def node_of(sampler: Sampler, folder: Path, monkeypatch: Any) -> tuple[Any, Tensor]:
    """Export a sampler for ComfyUI and return what its node gives, where ComfyUI is nothing but this."""
    export(sampler, "comfyui", folder)
    comfy, samplers = types.ModuleType("comfy"), types.ModuleType("comfy.samplers")
    samplers.KSAMPLER = lambda function: function
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    monkeypatch.setitem(sys.modules, "comfy.samplers", samplers)
    assert NODE in {path.name for path in folder.iterdir()}
    package = imported(folder / "__init__.py", "exported_node")
    (node,) = package.NODE_CLASS_MAPPINGS.values()
    assert package.NODE_DISPLAY_NAME_MAPPINGS.keys() == package.NODE_CLASS_MAPPINGS.keys()
    assert node.INPUT_TYPES() == {"required": {}}
    assert node.RETURN_TYPES == ("SAMPLER", "SIGMAS")
    return getattr(node(), node.FUNCTION)()


class Answering(nn.Module):
    """A network of diffusers as one of one's own: its answer, and what it is told besides the time.

    Args:
        network: of diffusers.
        ask: calls it.
    """

    def __init__(self, network: nn.Module, ask: Any) -> None:
        super().__init__()
        self.inner, self.ask = network, ask

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.ask(self.inner, x, time)
