"""The table of docs/digits.md is the sweep of benchmarks/digits.yaml: ``make readme`` writes it.

``make demo`` sweeps some of its rows and ends by comparing. README has ten of them, which the demo has as well.

A kind of hardware repeats a solver's scores digit for digit. A fit ends elsewhere on another processor already, and on
another kind of hardware images differ too: there rows may differ within three of their errors.
"""

import re
from collections.abc import Collection
from pathlib import Path

import torch

from amed_lightning.bench.golden import is_learned
from amed_lightning.bench.results import rows_of
from amed_lightning.config import write_atomically
from amed_lightning.runtime.provenance import hardware

HOME = Path(__file__).parents[2]
README, PAGE = HOME / "README.md", HOME / "docs/digits.md"
TABLE, DEMO = HOME / "runs/bench/digits/table.md", HOME / "runs/bench/demo/table.md"
BEGIN, END = "<!-- runs/bench/digits/table.md, written by `make readme` -->\n", "<!-- end of the table -->\n"
ORIGIN = (
    "Computed on `{}`. Elsewhere, and after a fit on another processor, rows may differ within three of their errors."
)
Name = tuple[str, str, str, str]
"""What a row's first columns say: NFE, solver, schedule, AFS."""
IN_README: tuple[Name, ...] = (
    ("3", "ipndm-3 + union", "time_uniform", "yes"),
    ("3", "amed", "time_uniform", "yes"),
    ("3", "ipndm-3", "time_uniform", ""),
    ("5", "ipndm-3 + union", "time_uniform", "yes"),
    ("5", "amed", "time_uniform", "yes"),
    ("5", "ipndm-3", "time_uniform", ""),
    ("5", "dpm_solver_pp-3 §", "logsnr", ""),
    ("5", "dpm_solver_2", "polynomial", "yes"),
    ("5", "euler", "time_uniform", "yes"),
    ("78", "heun", "polynomial", ""),
)
"""Each solver that others know, at its best, and what is learned."""


def here() -> str:
    """Return the kind of hardware on which the demo runs."""
    return hardware(torch.device("cpu"))


def fitted() -> set[Name]:
    """Return the rows of the demo for which something was fitted."""
    learned = filter(is_learned, rows_of(DEMO.parent))
    return {(str(row.id.nfe), row.id.label, row.id.schedule, "yes" if row.id.afs else "") for row in learned}


def section(text: str) -> str:
    """Return what stands between a page's marks."""
    return text.split(BEGIN)[1].split(END)[0]


def written(text: str, table: str, origin: str) -> str:
    """Return a page with another table, and the kind of hardware that computed it, between its marks."""
    return between(text, f"{table}\n{ORIGIN.format(origin)}\n")


def between(text: str, content: str) -> str:
    """Return a page with something else between its marks."""
    before, after = text.split(section(text))
    return f"{before}{content}{after}"


def brief(table: str) -> str:
    """Return README's rows of a table, as they are.

    Raises:
        ValueError: one is not there.
    """
    head, rule, *lines = [line for line in table.splitlines() if line[:1] == "|"]
    named = {name_of(line): line for line in lines}
    if missing := [name for name in IN_README if name not in named]:
        raise ValueError(f"no row of README's in the table: {missing[0]}")
    return "\n".join([head, rule, *(named[name] for name in IN_README)]) + "\n"


def name_of(line: str) -> Name:
    """Return the name of a row."""
    nfe, label, schedule, afs, *_ = (cell.strip() for cell in line.split("|")[1:-1])
    return nfe, label, schedule, afs


def differences(text: str, table: str, origin: str, fitted: Collection[Name]) -> list[str]:
    """Say which rows of a table a page has not, or has otherwise.

    Args:
        text: the page.
        table: Markdown.
        origin: kind of hardware that computed it.
        fitted: its rows for which something was fitted.
    """
    ours, theirs, is_same = rows(section(text)), rows(table), ORIGIN.format(origin) in text
    return [
        f"{' '.join(name)}: {ours.get(name)} in the page, {theirs[name]} in the table"
        for name in theirs
        if name not in ours
        or not (list.__eq__ if is_same and name not in fitted else _are_near)(ours[name], theirs[name])
    ]


def rows(markdown: str) -> dict[Name, list[str]]:
    """Return the scores of a table's rows, as they are printed, by what names the rows."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if line[:1] == "|"]
    named = {(nfe, label, schedule, afs): scores for nfe, label, schedule, afs, *scores in lines[2:]}
    if len(named) != len(lines) - 2:
        raise ValueError("two rows of the table have one name")
    return named


def _are_near(ours: list[str], theirs: list[str]) -> bool:
    """Whether scores lie within three of the errors that are printed beside ours; which are bold is not compared."""
    numbers = (
        [[float(number) for number in re.findall(r"[\d.]+", score)] for score in scores] for scores in (ours, theirs)
    )
    return all(
        len(one) == len(other) and (not one or abs(one[0] - other[0]) <= 3 * one[1])
        for one, other in zip(*numbers, strict=True)
    )


if __name__ == "__main__":
    write_atomically(PAGE, written(PAGE.read_text(), TABLE.read_text(), here()).encode())
    write_atomically(README, between(README.read_text(), brief(TABLE.read_text())).encode())
