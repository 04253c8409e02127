"""``new``: a folder to begin in, with what the digits take."""

import shutil

from jsonargparse import Namespace

from amed_lightning.config import InputError
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.shipped import shipped

_STARTER = {
    "configs": ("amed.yaml", "plugin.yaml", "union.yaml", "digits.yaml", "digits/*.yaml"),
    "benchmarks": ("digits.yaml",),
    "slurm": ("*",),
}
"""Folders of the program, and what of each is copied."""


def run(options: Namespace) -> int:
    """Copy, and say what to do next.

    Raises:
        InputError: something is there already.
    """
    copies = {
        options.folder / name / file.relative_to(shipped(name)): file
        for name, patterns in _STARTER.items()
        for pattern in patterns
        for file in sorted(shipped(name).glob(pattern))
        if file.is_file()
    }
    if there := next((copy for copy in copies if copy.exists()), None):
        raise InputError(f"{there}: there is one already; name another folder, or delete it")
    require_place(options.folder, is_folder=True)
    for copy, file in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    print(f"{len(copies)} files: {options.folder}")
    print(f"cd {options.folder} && amed-lightning fit digits/amed-5")
    return 0
