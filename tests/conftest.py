"""Every test runs on one thread, with the shapes in the package's annotations checked at each call.

``JAXTYPING_DISABLE=1`` leaves the shapes out: a planted fault has to be seen by its numbers.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import config, install_import_hook

from .pretended.device import PretendedDevice
from .pretended.places import DEVICE

WITH_TENSORS = (
    *("tensors", "seeds", "noise", "flow", "solvers", "denoisers", "data", "amed", "sampling", "teacher", "metrics"),
    *("export", "training", "bench", "api"),
)
"""Layers that name shapes; those left out, ``cli``, ``config`` and ``runtime``, have types alone, which mypy checks."""

if not config.jaxtyping_disable:
    install_import_hook([f"amed_lightning.{layer}" for layer in WITH_TENSORS], "beartype.beartype")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Leave shapes unchecked, where calls are made by the thousand that other tests make with these checks."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)


@pytest.fixture
def pretended() -> Iterator[PretendedDevice]:
    """A CUDA device that is pretended, here and also where there is a real one."""
    with PretendedDevice() as machine:
        yield machine


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The machine's CUDA device, or one that is pretended."""
    if not torch.cuda.is_available():
        request.getfixturevalue("pretended")
    return DEVICE
