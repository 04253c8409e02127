"""Each planted fault makes a test fail, by an assertion; without one the same tests pass.

``pytest -m stress -n 2 tests/faults`` plants on two cores; each worker has a garden of its own.
"""

import pytest

from .garden import Garden
from .planted import FAULTS

pytestmark = pytest.mark.stress
BY_ASSERTION = ("AssertionError", "Failed")
TESTS = {test for fault in FAULTS for test in fault.tests}
ONCE = [test for test in sorted(TESTS) if not any(test.startswith(f"{other}::") for other in TESTS)]
"""The tests of the table, but for those inside others."""


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    garden = Garden(tmp_path_factory.mktemp("garden") / "copy")
    yield garden
    garden.close()


@pytest.mark.parametrize("test", ONCE)
def test_the_unplanted_copy_passes(garden, test):
    assert garden.run([test]) == {"code": 0, "raised": {}}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_caught(garden, fault):
    with garden.planted(fault.file, fault.old, fault.new):
        answer = garden.run(fault.tests)
    assert answer["code"] == 1, f"no test noticed that {fault.name}"
    assert set(answer["raised"].values()) & set(BY_ASSERTION), answer["raised"]
