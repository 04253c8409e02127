"""Pickles of EDM's persistent classes, written by stand-ins for them.

Such an object is pickled as a call of ``torch_utils.persistence._reconstruct_persistent_obj`` on one mapping, which
carries the source of the class. The modules that the pickles name exist only while a file is written.
"""

import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

RECONSTRUCT = ("torch_utils.persistence", "_reconstruct_persistent_obj")
SOURCE = "raise SystemExit('the source of a pickled class was run')"
LAYERS = {"map_noise": "PositionalEmbedding", "affine": "Linear", "norm": "GroupNorm"}


class Reduced:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.call = function, arguments, state

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class Persistent(nn.Module):
    """An object of a persistent class."""

    def __init__(self, class_name: str, arguments: Mapping[str, Any] | None = None, source: str = SOURCE) -> None:
        super().__init__()
        self._init_args, self._init_kwargs = (), dict(arguments or {})
        object.__setattr__(self, "pickled_as", (class_name, source))

    def __reduce__(self) -> tuple[Any, ...]:
        class_name, source = self.pickled_as
        state = {name: value for name, value in self.__dict__.items() if name != "pickled_as"}
        content = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state}
        return getattr(sys.modules[RECONSTRUCT[0]], RECONSTRUCT[1]), (content,), None


def edm_object(
    arguments: Mapping[str, Any], state: Mapping[str, Tensor], source: str = SOURCE, kind: str = "EDMPrecond"
) -> Persistent:
    """Return a network as EDM's training keeps it.

    Args:
        arguments: of its constructor.
        state: its tensors.
        source: what its class claims to be.
        kind: the class of its preconditioning.
    """
    root = Persistent(kind, arguments, source)
    root.sigma_min, root.sigma_max, root.sigma_data = 0, float("inf"), 0.5
    for name, value in state.items():
        *path, last = name.split(".")
        module: nn.Module = root
        for depth, part in enumerate(path):
            if part not in module._modules:
                module._modules[part] = _module(path[: depth + 1], arguments)
            module = module._modules[part]
        if last in ("resample_filter", "freqs", "phases", "u"):
            module.register_buffer(last, value)
        else:
            module._parameters[last] = nn.Parameter(value, requires_grad=False)
    return root


def _module(path: list[str], arguments: Mapping[str, Any]) -> nn.Module:
    """Return an empty module of the class that stands at this place of a network."""
    if path in (["model"], ["unet"]):
        return Persistent(arguments.get("model_type", "UNet"), {"seen": True})
    if path[1:] in (["enc"], ["dec"]):
        return nn.ModuleDict()
    if len(path) == 3 and "block" in path[-1]:
        block = Persistent("UNetBlock")
        block.skip_scale, block.num_heads = np.sqrt(0.5), 0
        return block
    layer = Persistent(next((kind for part, kind in LAYERS.items() if path[-1].startswith(part)), "Conv2d"))
    layer.init_weight, layer.bias = np.float64(1e-5), None
    layer.register_buffer("resample_filter", None)
    return layer


def latents_object() -> Persistent:
    """Return what EDM2's networks of latents are pickled beside: their encoder, with arrays of numpy."""
    encoder = Persistent("StabilityVAEEncoder")
    encoder.vae_name, encoder._vae = "stabilityai/sd-vae-ft-mse", None
    encoder.scale, encoder.bias = np.float32([0.12, 0.11, 0.13, 0.15]), np.float32([-0.7, -0.35, -0.02, 0.33])
    return encoder


def predictor_object(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> Persistent:
    """Return an AMED predictor as its training keeps it; the settings are plain attributes."""
    root = Persistent("AMED_predictor", settings)
    for name, value in settings.items():
        setattr(root, name, value)
    for name, value in state.items():
        layer, last = name.split(".")
        if layer not in root._modules:
            root._modules[layer] = Persistent("Linear")
        root._modules[layer]._parameters[last] = nn.Parameter(value)
    root.sigmoid = nn.Sigmoid()
    return root


def loss_object(student: str, teacher: str) -> Persistent:
    """Return what a predictor is pickled beside: its loss, which names two functions and keeps tensors."""
    loss = Persistent("AMED_loss")
    loss.solver_stu, loss.solver_tea = (
        getattr(sys.modules["solvers_amed"], f"{name}_sampler") for name in (student, teacher)
    )
    loss.t_steps = torch.linspace(80, 0.002, 4)
    return loss


def write_pickle(path: Path, content: Callable[[], Any], protocol: int = 4) -> Path:
    """Write what ``content`` makes while the modules that a pickle may name exist."""
    with foreign_modules():
        path.write_bytes(pickle.dumps(content(), protocol))
    return path


@contextmanager
def foreign_modules() -> Iterator[None]:
    """Let the published projects' modules exist, with the functions that their pickles name."""
    functions = {"solvers_amed": [f"{name}_sampler" for name in ("amed", "heun", "ipndm", "dpm_2", "dpm_pp", "euler")]}
    functions |= {"torch_utils": [], RECONSTRUCT[0]: [RECONSTRUCT[1]], "dnnlib": [], "dnnlib.util": []}
    modules = {name: ModuleType(name) for name in functions}
    for name, members in functions.items():
        for member in members:
            setattr(modules[name], member, _function(name, member))
    modules["dnnlib.util"].EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    with mock.patch.dict(sys.modules, modules):
        yield


def _function(module: str, name: str) -> Callable[..., None]:
    def function(*_: Any) -> None:
        raise SystemExit(f"{module}.{name} was run")

    function.__module__, function.__name__, function.__qualname__ = module, name, name
    return function
