"""Prompts: one list for training and one for evaluation, which have no caption in common.

A prompt is known by its number, the training list's first. Evaluation seed k has caption k, from the start again after
the last, as published tables of Stable Diffusion pair the 30,000 captions of MS-COCO with seeds 0 to 29,999. The seeds
of every other stream draw a training caption, after their noise. Published predictors were fitted on the captions that
they are evaluated with; here that is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from amed_lightning.config import InputError, digest
from amed_lightning.denoisers.captions import checked, read_captions
from amed_lightning.flow.model import Condition
from amed_lightning.seeds import Seeds, Stream

PromptSource: TypeAlias = str | list[str]
"""A file of prompts, or the prompts themselves."""
KINDS = ("training", "evaluation")


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


def prompt_lists(sources: Mapping[str, PromptSource]) -> PromptLists:
    """Read the prompts of a model.

    Args:
        sources: under ``training`` and ``evaluation``, a file that :func:`read_captions` reads, or a list.

    Raises:
        InputError: another key, a file that cannot be read, an empty list or caption, or one that is in both lists.
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


def _read(kind: str, source: PromptSource) -> tuple[str, ...]:
    if not isinstance(source, list):
        return read_captions(Path(source))
    try:
        return checked((f"prompt {number}", prompt) for number, prompt in enumerate(source, 1))
    except ValueError as error:
        raise InputError(f"prompts: {_name(source, kind)}: {error}") from error


def _name(source: PromptSource, kind: str) -> str:
    return f"the {kind} list" if isinstance(source, list) else str(source)


def _as_encoded(caption: str) -> str:
    """Return what a text encoder distinguishes: neither case nor spacing."""
    return " ".join(caption.split()).casefold()
