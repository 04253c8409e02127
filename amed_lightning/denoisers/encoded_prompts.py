"""Prompts as a transformer is told them: encoded by the folder's own text encoders.

Prompts become tokens when a model is made, since threads cannot share a tokenizer. A prompt is encoded once, by itself,
at the precision in which the folder has the encoder, whatever the batch; the most recent embeddings are kept by the
digest of encoders and prompt, so that all models of a process that come from the same files share them.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor, nn

from amed_lightning.denoisers.guidance import OPEN_CLASS
from amed_lightning.flow.model import Condition

KEPT = 256
"""Embeddings that are kept; those of T5 have 2 to 4 MB."""


class Encoded(NamedTuple):
    """What an encoder says of one prompt.

    Attributes:
        said: its output, of a batch of 1.
        mask: 1 for each token of the prompt, 0 for what fills it up.
    """

    said: Any
    mask: Int[Tensor, "1 length"]


Embedding: TypeAlias = tuple[Tensor, ...]
"""What a transformer is told of one prompt, without a dimension of the batch."""
Answer: TypeAlias = Callable[[Sequence[Encoded]], tuple[Tensor, ...]]
"""Makes it, with a batch of 1, of what the encoders say."""


class Remembered:
    """The most recent embeddings of a process."""

    def __init__(self, kept: int) -> None:
        self.kept, self.lock = kept, Lock()
        self.known: OrderedDict[object, Embedding] = OrderedDict()

    def get(self, key: object, make: Callable[[], Embedding]) -> Embedding:
        """Return what is known under a key, or make it."""
        with self.lock:
            if key in self.known:
                self.known.move_to_end(key)
                return self.known[key]
        made = make()  # two threads may make the same, which is the same
        with self.lock:
            self.known[key] = made
            while len(self.known) > self.kept:
                self.known.popitem(last=False)
        return made


EMBEDDINGS = Remembered(KEPT)


class Tokens(NamedTuple):
    """The tokens of prompts.

    Attributes:
        ids: of each prompt.
        mask: 1 for each token of a prompt, 0 for what fills it up.
        cut: the positions of prompts that are too long.
    """

    ids: Int[Tensor, "prompts length"]
    mask: Int[Tensor, "prompts length"]
    cut: set[int]


def tokens_of(tokenizer: Any, texts: Sequence[str], length: int) -> Tokens:
    """Turn prompts into tokens.

    Args:
        tokenizer: of a text encoder.
        texts: the prompts.
        length: of each in tokens; shorter ones are filled up, longer ones cut.
    """
    pieces = tokenizer(
        list(texts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_overflowing_tokens=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    owners = pieces.overflow_to_sample_mapping  # the pieces of a text follow one another
    is_first = torch.cat([owners.new_ones(1, dtype=torch.bool), owners.diff() > 0])
    return Tokens(pieces.input_ids[is_first], pieces.attention_mask[is_first], set(owners[~is_first].tolist()))


class TextEncoder(nn.Module):
    """A text encoder and a model's prompts.

    Args:
        encoder: of transformers, frozen.
        opened: tokens of the open condition's prompt.
        prompts: tokens of the others.
        masked: whether the encoder is told what only fills up.

    Attributes:
        cut: the numbers of prompts that are too long, -1 for the open condition's.
    """

    def __init__(self, encoder: Any, opened: Tokens, prompts: Tokens | None, masked: bool = False) -> None:
        super().__init__()
        self.encoder, self.masked = encoder, masked
        lists = [opened] if prompts is None else [opened, prompts]
        self._rows = [row for each in lists for row in zip(each.ids, each.mask, strict=True)]
        self.cut = {OPEN_CLASS} if opened.cut else set()
        self.cut |= set() if prompts is None else prompts.cut

    def forward(self, position: int) -> Encoded:
        """Encode one prompt where the encoder is; the first is the open condition's."""
        ids, mask = (each[None].to(self.encoder.device) for each in self._rows[position])
        told = {"attention_mask": mask} if self.masked else {}
        return Encoded(self.encoder(ids, output_hidden_states=True, **told), mask)


def text_encoder(tokenizer: Any, encoder: Any, texts: Sequence[str], length: int, masked: bool = False) -> TextEncoder:
    """Return a text encoder that is told the open condition's prompt as all others, which follow it in ``texts``."""
    opened, others = texts[:1], texts[1:]
    prompts = tokens_of(tokenizer, others, length) if others else None
    return TextEncoder(encoder, tokens_of(tokenizer, opened, length), prompts, masked)


class EncodedPrompts(nn.Module):
    """The prompts of a model, as its transformer is told them.

    Args:
        encoders: each with the same prompts, the first of which is that of the open condition.
        answer: makes the embedding of what they say.
        texts: the prompts.
        identity: digest of the encoders and of whatever else decides what they say.

    Attributes:
        cut: the numbers of prompts that are too long for an encoder, -1 for the open condition's.
    """

    def __init__(self, encoders: Sequence[TextEncoder], answer: Answer, texts: Sequence[str], identity: str) -> None:
        super().__init__()
        self.encoders, self.answer = nn.ModuleList(encoders), answer
        self.texts, self.identity = list(texts), identity
        self.cut = {number for encoder in encoders for number in encoder.cut}

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a compiler would encode anew at every evaluation
    def forward(self, condition: Condition | None, batch: int) -> tuple[Tensor, ...]:
        """Return what the transformer is told of a batch of prompts; None leaves all open."""
        numbers = [OPEN_CLASS] * batch if condition is None else condition.tolist()
        return tuple(map(torch.stack, zip(*map(self._embedding, numbers), strict=True)))

    def _embedding(self, number: int) -> Embedding:
        position, like = number - OPEN_CLASS, next(self.encoders.parameters())
        key = (self.identity, position == 0, self.texts[position], like.device, like.dtype)
        return EMBEDDINGS.get(key, lambda: self._encode(position, like.device))

    def _encode(self, position: int, device: torch.device) -> Embedding:
        with torch.autocast(device.type, enabled=False):
            return tuple(each[0] for each in self.answer([encoder(position) for encoder in self.encoders]))
