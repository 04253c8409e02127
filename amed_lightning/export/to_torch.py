"""For PyTorch alone: a whole sampler, network and predictor included, as one graph from noise to images.

``torch.export.load("sampler.pt2").module()(noise)`` takes standard normal noise of shape (batch, channels, height,
width), and a label for each sample behind it if the model has labels; images come out, in [-1, 1].
"""

import io
from typing import Any

import torch
from torch import Tensor, nn

from amed_lightning.config import InputError
from amed_lightning.flow.model import Condition
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.tensors import Images

GRAPH, ONNX = "sampler.pt2", "sampler.onnx"
BATCH = 2
"""Of the trace; a graph serves any from 2 up. A batch of 1 would be taken for a constant."""


class Whole(nn.Module):
    """A sampler as a module, whose weights are those of all its parts.

    Args:
        sampler: of a pixel model.

    Raises:
        InputError: its model has a decoder or prompts.
    """

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        if sampler.model.decoder is not None or sampler.model.prompts is not None:
            raise InputError("a model with a decoder or prompts: one graph is made of a pixel model's sampler alone")
        self.sampler = sampler
        parts = (sampler.model.denoiser, sampler.model.last_denoiser, sampler.solver, sampler.placer)
        self.parts = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))

    def forward(self, noise: Images, condition: Condition | None = None) -> Images:
        """Return the image of each noise."""
        return Sampler.sample(self.sampler, noise, condition).x

    @property
    def example(self) -> tuple[Tensor, ...]:
        """Return what it is called with."""
        model = self.sampler.model
        noise = torch.randn(BATCH, *model.shape, dtype=model.state_dtype)
        return (noise, torch.arange(BATCH) % model.num_classes) if model.num_classes else (noise,)

    @property
    def dynamic(self) -> dict[str, Any]:
        """Return what of that may have another size."""
        batch = {0: torch.export.Dim("batch", min=BATCH)}
        return dict(zip(("noise", "condition"), [batch] * len(self.example), strict=False))


def graph(sampler: Sampler) -> torch.export.ExportedProgram:
    """Trace a sampler.

    Raises:
        InputError: its model has a decoder or prompts, or something in it cannot be traced.
    """
    whole = Whole(sampler).eval()
    try:
        with torch.no_grad():
            return torch.export.export(whole, whole.example, dynamic_shapes=whole.dynamic)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"this sampler cannot be traced: {' '.join(str(error).split()):.300}") from error


def for_torch(sampler: Sampler) -> dict[str, bytes]:
    """Return the file of a graph, by name."""
    content = io.BytesIO()
    torch.export.save(graph(sampler), content)
    return {GRAPH: content.getvalue()}


def for_onnx(sampler: Sampler) -> dict[str, bytes]:
    """Return the file of a graph in ONNX's form, by name.

    Raises:
        InputError: the extra onnx is not installed, or the sampler cannot be traced.
    """
    whole = Whole(sampler).eval()
    try:
        with torch.no_grad():
            program = torch.onnx.export(graph(sampler), whole.example, dynamo=True)
    except ImportError as error:
        raise InputError(f"onnx needs the extra onnx ({error}): pip install 'amed-lightning[onnx]'") from error
    assert program is not None
    return {ONNX: program.model_proto.SerializeToString()}
