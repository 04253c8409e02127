"""What a plan takes that has to be learned or found first, and the commands that make it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from amed_lightning.bench.plan import Planned
from amed_lightning.config import InputError
from amed_lightning.runtime.shipped import recipe, shipped

RUNS = "runs/"
"""Where a recipe's run is kept, under its name."""
CONFIGS = Path("configs")
"""Where configurations are looked for that make what is missing, beside the program's own, whose names these are."""


def require_files(cells: Iterable[Planned]) -> None:
    """Refuse a plan of which something that was to be learned or found first is missing.

    Raises:
        InputError: naming all such files, each with the command that makes it.
    """
    if missing := [path for path in _files(cells) if not path.is_file()]:
        made: dict[str, list[str]] = defaultdict(list)
        for path, command in zip(missing, _makers(missing), strict=True):
            made[f"amed-lightning {command}" if command else f"no configuration in {CONFIGS}/ makes it"].append(
                str(path)
            )
        told = "; ".join(f"{', '.join(paths)} ({maker})" for maker, paths in made.items())
        raise InputError(f"no such file{'s' if len(missing) > 1 else ''}: {told}")


def fits_of(cells: Iterable[Planned]) -> list[str]:
    """Return what follows ``amed-lightning fit`` in the commands that make what a plan takes, each once."""
    makers = (command.partition(" ") for command in _makers(_files(cells)))
    return list(dict.fromkeys(rest.removeprefix("--config ") for verb, _, rest in makers if verb == "fit"))


def _files(cells: Iterable[Planned]) -> Iterable[Path]:
    """Return what was to be learned or found first, each once."""
    return dict.fromkeys(path for cell in cells if cell.excluded is None for path in cell.files)


def _makers(paths: Iterable[Path]) -> Iterator[str]:
    """Yield for each file the verb and arguments that make it; nothing, where no configuration does."""
    configs = {
        str(CONFIGS / path.relative_to(folder)): path.read_text(errors="replace").split()
        for folder in (shipped("configs"), CONFIGS)
        for path in sorted(folder.glob("**/*.yaml"))
    }
    for path in paths:
        yield _maker(path, configs)


def _maker(path: Path, configs: Mapping[str, Sequence[str]]) -> str:
    folder = str(path.parent)
    if folder.startswith(RUNS) and recipe(name := folder.removeprefix(RUNS)):
        return f"fit {name}"
    options = {"": "{nfe}"} | {f" --model.student.nfe={nfe}": nfe for nfe in re.findall(r"\d+", folder)}
    for config, words in configs.items():
        if str(path) in words:
            return f"{'schedule' if 'search:' in words else 'fit'} --config {config}"
        for option, nfe in options.items():
            if folder in (word.replace("{nfe}", nfe) for word in words):
                return f"fit --config {config}{option}"
    return ""
