"""One cluster; where there can be none, its tests are skipped and say why."""

import pytest

from .cluster import Cluster, UnavailableError
from .scenes import happen


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    try:
        with Cluster(tmp_path_factory.mktemp("slurm")) as running:
            yield running
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def outcomes(cluster, tmp_path_factory):
    return happen(cluster, tmp_path_factory.mktemp("jobs"))
