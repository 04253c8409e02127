"""The configurations, suites, scripts and learned samplers that come with the program, and how they are named.

In a checkout they lie at its top, where people look for them; a wheel has the same files inside the package.
"""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from amed_lightning.config import InputError, load_yaml
from amed_lightning.runtime.wording import meant

HERE = Path(__file__).parents[1]
CONFIGS = "configs"
"""The folder of configurations: the program's, and the user's own in the working directory."""
RECIPE = re.compile(r"(?:(?P<home>.+)/)?(?P<data>[^/]+)/(?P<method>[^/]+?)(?:-(?P<runs>[0-9]+))?(?:\.yaml)?")


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
        name: a path, or ``digits/gits`` for ``configs/digits/gits.yaml``.
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
    if folder == CONFIGS:
        data_sets, methods = _data_sets_and_methods()
        inside, special = re.sub("-[0-9]+$", "", inside), re.compile(f".*/({'|'.join(methods)})(-[0-9]+)?")
        names = [name for name in names if not special.fullmatch(name)] + list(
            map("/".join, product(data_sets, methods))
        )
    raise InputError(f"--config {name}: {'a folder' if path.is_dir() else 'no such file'}{meant(inside, names)}")


def recipe(name: str) -> list[str]:
    """Return the arguments of a fit that is named by data set, method and, maybe, network runs: ``cifar10/amed-5``.

    Its configurations go from general to special, each where there is one: ``amed.yaml``, ``cifar10.yaml``,
    ``cifar10/amed.yaml``, ``cifar10/amed-5.yaml``. Each is the user's own, in ``configs``, or else the program's.

    Args:
        name: also with the folder of the configurations before it, or as if it were a file.

    Returns:
        Configurations, network runs, and the directory of the run, ``runs/cifar10/amed-5``; nothing, where there is no
        such data set or method, and where a file of that path names its classes itself. One of the pair's own that
        does, as those of earlier versions do, is taken alone.
    """
    found = RECIPE.fullmatch(name)
    if found is None or (Path(name).is_file() and _is_whole(Path(name))):
        return []
    home, data, method, runs = found.group("home", "data", "method", "runs")
    homes = [Path(home)] if home else []
    first, second = (_layer(homes, layer) for layer in (method, data))
    if not (first and second and _is_whole(first)) or _is_whole(second):
        return []
    pair, exact = (_layer(homes, f"{data}/{method}{end}") for end in ("", f"-{runs}"))
    told = [f"--model.student.nfe={runs}"] if runs else []
    if exact is not None and _is_whole(exact):
        return [f"--config={exact}"]
    if pair is not None and _is_whole(pair):
        return [f"--config={pair}", *told]
    files = [layer for layer in (first, second, pair, exact) if layer is not None]
    return [*(f"--config={file}" for file in files), *told, f"--trainer.default_root_dir=runs/{data}/{method}-{{nfe}}"]


def _layer(homes: Sequence[Path], name: str) -> Path | None:
    """Return a configuration of that name, the user's before the program's."""
    places = (home / f"{name}.yaml" for home in (*homes, Path(CONFIGS), shipped(CONFIGS)))
    return next((place for place in places if place.is_file()), None)


def _is_whole(path: Path) -> bool:
    """Whether a configuration names the class of the model, as a method's does, and a data set's does not."""
    model = load_yaml(path).get("model")
    return isinstance(model, dict) and "class_path" in model


def _data_sets_and_methods() -> tuple[list[str], list[str]]:
    """Return the names of the program's."""
    files = sorted(shipped(CONFIGS).glob("*.yaml"))
    return [file.stem for file in files if not _is_whole(file)], [file.stem for file in files if _is_whole(file)]
