"""A sampler for another program, as a folder of files; it is there whole, or not at all."""

from collections.abc import Callable
from pathlib import Path

from amed_lightning.config import InputError
from amed_lightning.export.to_comfyui import for_comfyui
from amed_lightning.export.to_diffusers import for_diffusers
from amed_lightning.export.to_torch import for_onnx, for_torch
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.unfinished import unfinished
from amed_lightning.sampling.sampler import Sampler

EXPORTS: dict[str, Callable[[Sampler], dict[str, bytes]]] = {
    "diffusers": for_diffusers,
    "comfyui": for_comfyui,
    "torch": for_torch,
    "onnx": for_onnx,
}
"""By program: the files, by name."""


def export(sampler: Sampler, program: str, folder: Path) -> list[Path]:
    """Write a sampler for another program.

    Args:
        sampler: of any model; the other program has the network, but for ``torch`` and ``onnx``, which are given it.
        program: a key of ``EXPORTS``.
        folder: new, or empty.

    Returns:
        The files.

    Raises:
        InputError: the folder is none, or has something in it, or the program cannot be told all of the sampler.
    """
    require_place(folder, is_folder=True)
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: there is something in it already; name another folder, or empty it")
    content = EXPORTS[program](sampler)
    with unfinished(folder, is_folder=True) as temporary:
        for name, data in content.items():
            (temporary / name).write_bytes(data)
        temporary.replace(folder)
    return [folder / name for name in content]
