"""Prompts: one list for training and one for evaluation, which have no caption in common.

A prompt is known by its number, the training list's first. Evaluation seed k has caption k, from the start again after
the last, as published tables of Stable Diffusion pair the 30,000 captions of MS-COCO with seeds 0 to 29,999. The seeds
of every other stream draw a training caption, after their noise. Published predictors were fitted on the captions that
they are evaluated with; here that is refused.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from amed_lightning.config import InputError, digest
from amed_lightning.flow.model import Condition
from amed_lightning.seeds import Seeds, Stream

Source: TypeAlias = str | list[str]
"""A file of prompts, or the prompts themselves."""
KINDS = ("training", "evaluation")
CAPTION_COLUMNS = ("caption", "text")
"""How a CSV file may call its captions; the published MS-COCO list says ``text``."""


@dataclass(frozen=True)
class PromptLists:
    """The prompts of a model, by what they are for."""

    training: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Return all prompts; a prompt's position is its number."""
        return self.training + self.evaluation

    def numbers(self, seeds: Seeds, shape: tuple[int, ...]) -> Condition:
        """Return the number of each seed's prompt.

        Raises:
            InputError: there are no prompts for this stream.
        """
        count = len(self._of(seeds.stream))
        if seeds.stream is Stream.evaluation:
            return len(self.training) + torch.arange(seeds.start, seeds.stop) % count
        return seeds.labels(shape, count)

    def digest(self, stream: Stream) -> str:
        """Identify the prompts of a stream.

        Raises:
            InputError: there are none.
        """
        return digest(self._of(stream))

    def _of(self, stream: Stream) -> tuple[str, ...]:
        kind = "evaluation" if stream is Stream.evaluation else "training"
        prompts: tuple[str, ...] = getattr(self, kind)
        if not prompts:
            raise InputError(f"the model has no {kind} prompts: give it the option `prompts: {{{kind}: <file>}}`")
        return prompts


def prompt_lists(sources: Mapping[str, Source]) -> PromptLists:
    """Read the prompts of a model.

    Args:
        sources: under ``training`` and ``evaluation``, a file (one prompt per line, or a ``.csv`` with a column
            ``caption`` or ``text``) or a list.

    Raises:
        InputError: another key, a file that cannot be read, an empty list, or a caption that is in both lists.
    """
    for kind in sources:
        if kind not in KINDS:
            raise InputError(f"prompts: unknown key '{kind}'; there are {' and '.join(KINDS)}")
    lists = PromptLists(**{kind: _read(kind, source) for kind, source in sources.items()})
    trained_on = {_as_encoded(caption) for caption in lists.training}
    for caption in lists.evaluation:
        if _as_encoded(caption) in trained_on:
            names = " and ".join(_name(sources[kind], kind) for kind in KINDS)
            raise InputError(f"prompts: '{caption}' is in both {names}; remove it from one of them")
    return lists


def _read(kind: str, source: Source) -> tuple[str, ...]:
    try:
        lines = source if isinstance(source, list) else _read_file(Path(source))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{source}: not a readable file of prompts: {error}") from error
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not prompts:
        raise InputError(f"prompts: {_name(source, kind)} has no prompts")
    return prompts


def _read_file(path: Path) -> Sequence[str]:
    content = path.read_text(encoding="utf-8-sig")
    if path.suffix != ".csv":
        return content.split("\n")
    rows = csv.DictReader(io.StringIO(content))
    columns = rows.fieldnames or ()
    column = next((column for column in CAPTION_COLUMNS if column in columns), None)
    if column is None:
        raise InputError(f"{path}: no column {' or '.join(CAPTION_COLUMNS)}; its columns are {', '.join(columns)}")
    return [row[column] or "" for row in rows]


def _name(source: Source, kind: str) -> str:
    return f"the {kind} list" if isinstance(source, list) else str(source)


def _as_encoded(caption: str) -> str:
    """Return what a text encoder distinguishes: neither case nor spacing."""
    return " ".join(caption.split()).casefold()
