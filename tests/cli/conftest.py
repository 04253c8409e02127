"""A command leaves its marks in the environment; every test gets its own."""

import os
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def _environment():
    with mock.patch.dict(os.environ):
        os.environ.pop("PL_GLOBAL_SEED", None)
        yield
