"""Whatever people get wrong ends in one line that says what to do, and exit code 2."""

import re
import subprocess
import sys

import pytest
import yaml

from .command import refusal
from .mistakes import LATE, QUICK, Mistake


def words(mistake: Mistake) -> list[str]:
    if mistake.content is not None:
        text = mistake.content if isinstance(mistake.content, str) else yaml.safe_dump(mistake.content)
        with open("run.yaml", "w") as file:
            file.write(text)
    return mistake.command.replace("{}", "run.yaml").split()


def test_there_are_as_many_as_were_counted_in_use():
    assert len({*map(str, (*QUICK, *LATE))}) >= 86


@pytest.mark.parametrize("mistake", QUICK, ids=lambda mistake: f"{mistake.command}: {mistake.says}")
def test_what_is_seen_at_once(capsys, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    assert re.search(mistake.says, refusal(capsys, *words(mistake)))


@pytest.mark.slow
@pytest.mark.parametrize("mistake", LATE, ids=lambda mistake: f"{mistake.command}: {mistake.says}")
def test_what_a_part_refuses(capsys, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    line = refusal(capsys, *words(mistake))
    assert re.search(mistake.says, line)
    assert not re.search(r"<class|typing\.|Parser key|Union|class_path '", line)


def test_what_is_seen_at_once_is_seen_without_torch(tmp_path):
    """All in one process, whose imports would add up."""
    (tmp_path / "all.py").write_text(
        "import contextlib, sys\n"
        "from amed_lightning.cli.main import main\n"
        f"for words in {[mistake.command.split() for mistake in QUICK if mistake.content is None]}:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main(words)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "all.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
