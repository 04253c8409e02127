"""Tiny pipelines, made once."""

from pathlib import Path

import pytest

from . import pipelines


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> dict[str, Path]:
    """The folders of an unconditional model, of Stable Diffusion and of SDXL."""
    root = tmp_path_factory.mktemp("pipelines")
    kinds = (pipelines.latent_diffusion, pipelines.stable_diffusion, pipelines.sdxl)
    return {make.__name__: make(root / make.__name__) for make in kinds}
