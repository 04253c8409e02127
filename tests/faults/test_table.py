"""The table of planted faults fits the code: `make stress` plants them, and this is seen with every change."""

from pathlib import Path

import pytest

import amed_lightning

from .planted import FAULTS

PACKAGE = Path(amed_lightning.__file__).parent


def test_no_two_faults_are_called_alike():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("file", sorted({fault.file for fault in FAULTS}))
def test_every_text_that_a_fault_replaces_is_there_once(file):
    text = (PACKAGE / file).read_text(encoding="utf-8")
    assert [fault.old for fault in FAULTS if fault.file == file and text.count(fault.old) != 1] == []
    assert all(fault.new != fault.old for fault in FAULTS)


@pytest.mark.parametrize("test", sorted({test.split("::")[0] for fault in FAULTS for test in fault.tests}))
def test_the_tests_that_are_to_notice_are_there(test):
    assert (PACKAGE.parent / "tests" / test).is_file()
