"""The watched mixture as a model that configurations can name."""

import pytest
import torch

from amed_lightning.denoisers.registry import DENOISERS

from .runs import watched_mixture


@pytest.fixture(autouse=True)
def _watched(monkeypatch):
    monkeypatch.setitem(DENOISERS, "watched", watched_mixture)
    torch.manual_seed(0)
