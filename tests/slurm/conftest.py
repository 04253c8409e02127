"""One cluster for all tests; where there can be none, they are skipped and say why."""

import pytest

from .cluster import Cluster, UnavailableError


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    try:
        with Cluster(tmp_path_factory.mktemp("slurm")) as running:
            yield running
    except UnavailableError as reason:
        pytest.skip(str(reason))
