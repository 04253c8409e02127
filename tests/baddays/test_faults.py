"""Every fault of the table ends in one line and the right exit code, what was finished stays, and a rerun goes on.

A few quick ones are run with the unit tests. ``pytest -m stress tests/baddays`` runs all; those that need a disk of
their own or another user need root.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from . import scene
from .faults import FAULTS, Fault
from .forks import Ended, run

QUICK = (
    "samples go to a file",
    "a name is too long",
    "a YAML is Latin-1",
    "a key stands twice",
    "a number may be octal",
    "an image is cut off",
    "OMP_NUM_THREADS is ''",
    "OMP_NUM_THREADS is 'many'",
    "nobody reads what is printed",
    "help is printed to a full disk",
    "the working directory is gone",
    "no more files can be opened",
    "there is no HOME and no user",
    "a killed writer left half an image",
    "no file may be over 500 bytes: sample",
)
GROUPS = {0: "survived equal", 1: "ended in a line", 2: "refused before the work", 3: "a night left undecided"}
DOCS = Path(__file__).parents[2] / "docs" / "reliability.md"


@pytest.fixture(scope="module")
def workplace():
    """A folder that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="baddays-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def images(workplace):
    """The folder of every verb's configuration, and some images."""
    return scene.build(workplace / "images", [scene.IMAGES])


@pytest.fixture(scope="module")
def everything(workplace):
    """The folder in which every verb has finished something."""
    return scene.build(workplace / "everything", [scene.IMAGES, scene.RUN, scene.SWEEP, scene.NIGHT])


def try_it(fault: Fault, template: Path) -> None:
    if (
        fault.disk or "may not" in fault.name or "another user" in fault.name or "no user" in fault.name
    ) and os.getuid():
        pytest.skip("needs root")
    folder = template.parent / "case"
    shutil.copytree(template, folder)
    scene.open_to_all(folder)
    small = folder / "small"
    try:
        if fault.disk:
            small.mkdir()
            _mount(small, f"size={fault.disk}k")
        fault.before(folder)
        before = scene.finished(folder)
        ended = run(folder, fault.command, fault.within)
        folder.chmod(0o777)
        _check(fault, folder, ended, before)
        if fault.goes_on:
            _mount(small, "remount,size=64m")
            again = run(folder, fault.command)
            assert again.code == 0, again.err
        assert not [*folder.rglob("*.unfinished"), *folder.rglob(".*.claim")]
    finally:
        if small.is_mount():
            subprocess.run(["umount", "--lazy", small], check=True)
        shutil.rmtree(folder)


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def _check(fault: Fault, folder: Path, ended: Ended, before: dict[str, str]) -> None:
    assert ended.code == fault.code, ended.err
    assert "Traceback" not in ended.err
    assert "Exception ignored" not in ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith(("error:", "undecided:"))]
    assert len(lines) == bool(fault.says), ended.err
    assert re.search(fault.says, "".join(lines)), lines
    after = scene.finished(folder)
    assert {name: after.get(name) for name in before} == before
    if fault.same:
        found, expected = scene.pixels(folder / fault.same), scene.pixels(folder / "done" / "images")
        assert len(found) == len(expected)
        assert all((one == other).all() for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name in QUICK], ids=lambda fault: fault.name)
def test_a_bad_day_ends_in_a_line(fault, images):
    try_it(fault, images)


@pytest.mark.stress
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_bad_day_ends_in_a_line(fault, everything):
    try_it(fault, everything)


def test_the_quick_ones_are_in_the_table_and_no_two_have_one_name():
    names = Counter((fault.name, fault.verb) for fault in FAULTS)
    assert set(names.values()) == {1}
    assert set(QUICK) <= {name for name, _ in names}


def test_the_docs_have_the_sums_of_this_table():
    sums = Counter(fault.code for fault in FAULTS)
    told = DOCS.read_text()
    assert len(FAULTS) >= 60
    assert f"| tried | {len(FAULTS)} |" in told
    for code, group in GROUPS.items():
        assert f"| {group} | {sums[code]} |" in told


@pytest.mark.stress
@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_names_and_texts_are_read_as_utf_8_whatever_the_locale_says(images, tmp_path, locale):
    command = [sys.executable, "-m", "amed_lightning", "sample", "--config", "Bär.yaml", *scene.CPU.split()]
    shutil.copytree(images, tmp_path / "here")
    (tmp_path / "here" / "sample.yaml").rename(tmp_path / "here" / "Bär.yaml")
    with (tmp_path / "here" / "Bär.yaml").open("a") as file:
        file.write("output: Bären\n")
    plain = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, cwd=tmp_path / "here", env=os.environ | plain, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Bären" in done.stdout.decode()
    assert len(scene.pixels(tmp_path / "here" / "Bären")) == 4


@pytest.mark.stress
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_no_file_of_the_command(images, tmp_path, closed):
    """Its number would be the next file's, and what is printed would end up in that."""
    shutil.copytree(images, tmp_path / "here")
    command = f"{sys.executable} -m amed_lightning {scene.VERBS['sample']} {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path / "here", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(scene.pixels(tmp_path / "here" / "new")) == 4
