"""Every row of docs/features.md says whether a feature is there, or why not, and has a command that shows it."""

import re
import shlex
import subprocess
import sys

import pytest

from amed_lightning.cli.main import main
from amed_lightning.cli.options import parsed

from .test_readme import HOME, after_demo  # noqa: F401  # a fixture

TEXT = (HOME / "docs/features.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TEXT.splitlines() if line[:1] == "|"][2:]
QUICK = ("list", "doctor", "new", "models")
"""Verbs that take under a second here, which are run."""


def test_there_are_forty_five_and_those_that_are_not_wholly_there_say_why():
    assert len({feature for feature, *_ in ROWS}) == len(ROWS) == 45
    assert {state for _, state, *_ in ROWS} <= {"yes", "partly", "no"}
    assert [feature for feature, state, why, _ in ROWS if (state == "yes") != (why == "")] == []


@pytest.mark.usefixtures("after_demo")
@pytest.mark.parametrize("command", sorted({command.strip("`| ") for *_, command in ROWS}))
def test_the_evidence_is_there(command, capsys):
    program, *words = shlex.split(command)
    match program:
        case "amed-lightning" if words[0] in QUICK:
            with pytest.raises(SystemExit) as ended:
                main(words)
            assert (ended.value.code, capsys.readouterr().err) == (0, "")
        case "amed-lightning" if "--help" in words:
            with pytest.raises(SystemExit, match="0"):
                parsed(words[0], words[1:])
        case "amed-lightning":
            assert parsed(words[0], words[1:])
        case "make":
            assert re.search(rf"^{words[0]}:", (HOME / "Makefile").read_text(), re.MULTILINE)
        case "pytest":
            assert (HOME / words[0]).exists()
        case "python":
            said = subprocess.run([sys.executable, *words], cwd=HOME, capture_output=True, text=True, check=True)
            assert "digits/amed-5" in said.stdout
        case _:
            pytest.fail(f"{program}: unknown")
