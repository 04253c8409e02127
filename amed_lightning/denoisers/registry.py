"""The models that configurations call by name."""

from collections.abc import Callable
from pathlib import Path

from amed_lightning.denoisers.files import load_model
from amed_lightning.denoisers.gaussian import anisotropic_gaussian
from amed_lightning.flow.model import DiffusionModel

ASSETS = Path(__file__).parent.parent / "assets"


def digits() -> DiffusionModel:
    """The denoiser of 8x8 handwritten digits that the package ships; class-conditional."""
    return load_model(ASSETS / "digits" / "denoiser.json")


def file(path: str) -> DiffusionModel:
    """A model that ``fit`` exported.

    Args:
        path: of its ``.json`` card.
    """
    return load_model(Path(path))


DENOISERS: dict[str, Callable[..., DiffusionModel]] = {
    "digits": digits,
    "file": file,
    "anisotropic_gaussian": anisotropic_gaussian,
}
