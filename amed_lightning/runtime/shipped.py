"""The configurations, suites, scripts and learned samplers that come with the program, and how they are named.

In a checkout they lie at its top, where people look for them; a wheel has the same files inside the package.
"""

from pathlib import Path

from amed_lightning.config import InputError
from amed_lightning.runtime.wording import meant

HERE = Path(__file__).parents[1]


def shipped(folder: str) -> Path:
    """Return where a folder of the program's lies: configs, benchmarks, slurm."""
    inside = HERE / "shipped" / folder
    return inside if inside.is_dir() else HERE.parent / folder


def samplers() -> dict[str, Path]:
    """Return the files of the learned samplers, by names such as ``digits/amed-5``."""
    return {f"{path.parts[-3]}/{path.stem}": path for path in sorted((HERE / "assets").glob("*/samplers/*.json"))}


def found(name: str, folder: str) -> Path:
    """Return the file of that path or, where there is none, the one that the program has under that name.

    Args:
        name: a path, or ``digits/amed`` for ``configs/digits/amed.yaml``.
        folder: where names are looked for.

    Raises:
        InputError: there is neither; naming the nearest.
    """
    path, ours = Path(name).expanduser(), shipped(folder)
    if path.exists() and not path.is_dir():
        return path
    inside = name.removeprefix(f"{folder}/").removesuffix(".yaml")
    if (own := ours / f"{inside}.yaml").is_file() and ".." not in path.parts:
        return own
    names = [str(file.relative_to(ours).with_suffix("")) for file in sorted(ours.rglob("*.yaml"))]
    raise InputError(f"--config {name}: {'a folder' if path.is_dir() else 'no such file'}{meant(inside, names)}")
