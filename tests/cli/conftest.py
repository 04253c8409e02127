"""A command leaves its marks in the environment; every test gets its own.

Lightning keeps the stream that it finds when it is first imported, which must not be one that a test captures.
"""

import os
from unittest import mock

import lightning.pytorch  # noqa: F401
import pytest


@pytest.fixture(autouse=True)
def _environment():
    with mock.patch.dict(os.environ):
        os.environ.pop("PL_GLOBAL_SEED", None)
        yield
