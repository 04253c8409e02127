"""``stores``: what lies below ``data.root``, who needs it, and removing what nobody needs.

A store or a table is needed where a file below ``--runs`` names the digest of its trajectories, as a run's ``run.json``
and a found schedule do, or where a YAML of ``--config`` asks for them. What is claimed is being made, and stays.
"""

import json
import os
import shutil
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from amed_lightning.cli.options import configurations
from amed_lightning.config import InputError, digest

ENDINGS = (".json", ".yaml", ".yml")
_ONE_LINE = 10_000
"""Columns of what is no terminal: paths are not broken."""
Needs = Mapping[str, list[str]]
"""Who needs trajectories, by the digest of their recipe."""


@dataclass(frozen=True)
class _Kept:
    """A store, a table, or the blocks of one that is not finished.

    Attributes:
        paths: all that belongs to it.
        digest: of the recipe of the trajectories.
        recipe: what it was made by: solver, levels, model.
        holds: how many trajectories.
    """

    paths: tuple[Path, ...]
    digest: str
    recipe: str
    holds: str

    @property
    def files(self) -> list[Path]:
        """All its files."""
        inside = (file for path in self.paths for file in ([path] if path.is_file() else path.rglob("*")))
        return [file for file in inside if file.is_file()]

    @property
    def last_used(self) -> float:
        """When it was last written to, or opened by a fit, in seconds since 1970."""
        return max(path.stat().st_mtime for path in (*self.paths, *self.files))

    @property
    def claims(self) -> list[Path]:
        """What says that somebody is making more of it."""
        return [claim for path in self.paths for claim in path.glob(".*.claim")]

    def remove(self) -> None:
        """Remove it; who looks meanwhile finds all of it or nothing."""
        for path in self.paths:
            gone = path.rename(path.with_name(f".{path.name}.{uuid.uuid4().hex}.pruned"))
            shutil.rmtree(gone) if gone.is_dir() else gone.unlink()


def run(options: Namespace) -> int:
    """List what there is, or remove what nobody needs."""
    fits = {name: configurations(name) for name in options.config}
    if not options.root.is_dir():
        raise InputError(f"--root {options.root}: no such folder; name the one that `data.root` names")
    kept, needs = [*_stores(options.root), *_tables(options.root / "tables")], _needs(options, fits)
    if options.action == "list":
        _list(kept, needs)
    else:
        _prune(kept, needs, options.yes)
    return 0


def _list(kept: Sequence[_Kept], needs: Needs) -> None:
    table = Table("what", "recipe", "trajectories", "MiB", "last used", "needed by", box=None, pad_edge=False)
    for item in kept:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.last_used))
        table.add_row(item.paths[0].name, item.recipe, item.holds, f"{_megabytes(item):.1f}", used, _who(item, needs))
    Console(width=None if sys.stdout.isatty() else _ONE_LINE).print(table)


def _prune(kept: Sequence[_Kept], needs: Needs, yes: bool) -> None:
    total = 0.0
    for item in kept:
        if needs.get(item.digest):
            continue
        if item.claims:
            print(f"stays: {item.paths[0]}: claimed, see {item.claims[0]}")
            continue
        size = _megabytes(item)
        total += size
        if yes:
            item.remove()
        print(f"{'removed' if yes else 'would be removed'}: {item.paths[0]}, {size:.1f} MiB")
    print(f"{total:.1f} MiB{'' if yes else '; --yes removes them'}")


def _who(item: _Kept, needs: Needs) -> str:
    return ", ".join([*needs.get(item.digest, []), *(f"claimed, see {claim}" for claim in item.claims)]) or "nobody"


def _megabytes(item: _Kept) -> float:
    return sum(file.stat().st_size for file in item.files) / 2**20


def _stores(root: Path) -> Iterator[_Kept]:
    for path in sorted(root.glob("*/recipe.json")):
        recipe, folder = _read(path), path.parent
        count: dict[str, int] = defaultdict(int)
        for stream, start, stop in (shard.name.split("-") for shard in folder.glob("[a-z]*-*-*")):
            count[stream] += int(stop) - int(start)
        levels = _levels(recipe["sigmas"], recipe["num_intervals"])
        of = f"{_part(recipe['solver'])}, {levels}, model {recipe['model'][:12]}"
        yield _Kept((folder,), digest(recipe), of, ", ".join(f"{stream} {count[stream]}" for stream in sorted(count)))


def _tables(folder: Path) -> Iterator[_Kept]:
    """Find tables, and the blocks of those that are not finished."""
    for path in sorted([*folder.glob("*.json"), *folder.glob(".*.blocks/recipe.json")]):
        is_whole = path.parent == folder
        recipe = _read(path)["recipe"] if is_whole else _read(path)
        asks = _part(recipe["solver"]) if recipe["solver"] else "shared"
        of = (
            f"table, {asks}, {_levels(recipe['sigmas'], len(recipe['sigmas']) - 1)}{'' if is_whole else ', unfinished'}"
        )
        paths = (path, path.with_suffix(".safetensors")) if is_whole else (path.parent,)
        yield _Kept(paths, recipe["trajectories"], of, f"{recipe['stream']} {recipe['stop'] - recipe['start']}")


def _needs(options: Any, fits: Mapping[str, Sequence[str]]) -> Needs:
    """Find who names, or asks for, which trajectories."""
    needs: dict[str, list[str]] = defaultdict(list)
    known = {item.digest for item in (*_stores(options.root), *_tables(options.root / "tables"))}
    for path in _below(options.runs, options.root):
        text = path.read_text(errors="replace")
        for named in (name for name in known if name in text):
            needs[named].append(f"{path}{_asked_for(text)}")
    if fits:
        from amed_lightning.cli.training import distillation  # brings Lightning, which a list of folders does without
    for name, arguments in fits.items():
        module, data, _ = distillation(arguments)
        total = f"{len(data.train_seeds)} + {len(data.val_seeds)}"
        needs[data.store(module.taught).recipe.digest].append(f"{name} ({total})")
    return needs


def _asked_for(text: str) -> str:
    """Return how many trajectories the record of a fit asks for."""
    try:
        data = json.loads(text)["config"]["data"]["init_args"]
        return f" ({data['trajectories']} + {data['validation_trajectories']})"
    except (ValueError, KeyError, TypeError):
        return ""


def _below(folder: Path, but: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if (Path(parent) / name).resolve() != but.resolve()]
        yield from (Path(parent) / name for name in sorted(files) if name.endswith(ENDINGS))


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); move it away") from error
    return content


def _part(spec: Mapping[str, Any]) -> str:
    return " ".join([str(spec["name"]), *(f"{key}={value}" for key, value in spec.items() if key != "name")])


def _levels(sigmas: Sequence[float], num_intervals: int) -> str:
    return f"{num_intervals} intervals, {len(sigmas) - 1} steps from {sigmas[0]:g} to {sigmas[-1]:g}"
