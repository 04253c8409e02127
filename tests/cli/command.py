"""The command, called in this process."""

from typing import Any

import pytest

from amed_lightning.cli.main import main


def call(*arguments: Any) -> int:
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """Return the line that the command refuses its arguments with."""
    capsys.readouterr()
    assert call(*arguments) == 2
    *_, line = (error := capsys.readouterr().err).splitlines()
    assert error.count("error: ") == 1
    assert "Traceback" not in error
    assert line.startswith("error: ")
    return line
