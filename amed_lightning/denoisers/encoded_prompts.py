"""Prompts as a network is told them: encoded by the folder's own text encoders.

Prompts become tokens when a model is made, since threads cannot share a tokenizer. A prompt is encoded once, by itself,
at the precision of the encoder, whatever the batch. The most recent embeddings are kept, those of the largest batch at
least, and all models that come from the same files share them.

Where all prompts are encoded when a model is made, nothing is left of the encoders.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

import torch
from jaxtyping import Int
from torch import Tensor, nn

from amed_lightning.denoisers.guidance import OPEN_CLASS
from amed_lightning.flow.model import Condition

KEPT = 256
"""Embeddings that are kept, or as many as a batch has if these are more; those of T5 have 2 to 4 MB."""


class Encoded(NamedTuple):
    """What an encoder says of one prompt.

    Attributes:
        said: its output, of a batch of 1.
        mask: 1 for each token of the prompt, 0 for what fills it up.
    """

    said: Any
    mask: Int[Tensor, "1 length"]


Embedding: TypeAlias = tuple[Tensor, ...]
"""What a network is told of one prompt, without a dimension of the batch."""
Answer: TypeAlias = Callable[[Sequence[Encoded]], tuple[Tensor, ...]]
"""Makes it, with a batch of 1, of what the encoders say."""


class _Remembered:
    """The most recent embeddings of some encoders."""

    def __init__(self) -> None:
        self.kept, self.lock = KEPT, Lock()
        self.known: OrderedDict[object, Embedding] = OrderedDict()

    def all(self, keys: Sequence[object], make: Callable[[int], Embedding]) -> list[Embedding]:
        """Return a batch's embeddings.

        Args:
            keys: of its prompts.
            make: from a place among them, the embedding of one that is not known.
        """
        with self.lock:
            found = {key: self.known[key] for key in keys if key in self.known}
        for place, key in enumerate(keys):
            if key not in found:
                found[key] = make(place)  # two threads may make the same, which is the same
        with self.lock:
            self.kept = max(self.kept, len(found))
            self.known.update(found)
            for key in found:
                self.known.move_to_end(key)
            while len(self.known) > self.kept:
                self.known.popitem(last=False)
        return [found[key] for key in keys]


_REMEMBERED: WeakValueDictionary[str, _Remembered] = WeakValueDictionary()
"""By the identity of encoders, while a model has them."""


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
    """The prompts of a model, as its network is told them.

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
        self.encoders, self.answer, self.texts = nn.ModuleList(encoders), answer, list(texts)
        self.cut = {number for encoder in encoders for number in encoder.cut}
        self.remembered = _REMEMBERED.setdefault(identity, _Remembered())

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a compiler would encode anew at every evaluation
    def forward(self, condition: Condition | None, batch: int) -> tuple[Tensor, ...]:
        """Return what the network is told of a batch of prompts; None leaves all open."""
        return self._told([0] * batch if condition is None else (condition - OPEN_CLASS).tolist())

    def encoded(self) -> "FixedPrompts":
        """Return all prompts as they are told, without their encoders."""
        with torch.inference_mode(False), torch.no_grad():
            return FixedPrompts(self._told(range(len(self.texts))))

    def _told(self, positions: Sequence[int]) -> tuple[Tensor, ...]:
        like = next(self.encoders.parameters())
        keys = [(position == 0, self.texts[position], like.device, like.dtype) for position in positions]
        embeddings = self.remembered.all(keys, lambda place: self._encode(positions[place], like.device))
        return tuple(map(torch.stack, zip(*embeddings, strict=True)))

    def _encode(self, position: int, device: torch.device) -> Embedding:
        with torch.autocast(device.type, enabled=False):
            return tuple(each[0] for each in self.answer([encoder(position) for encoder in self.encoders]))


class FixedPrompts(nn.Module):
    """Prompts that were encoded already.

    Args:
        told: what the network is told of all of them, the open condition's first.
    """

    def __init__(self, told: Sequence[Tensor]) -> None:
        super().__init__()
        self._names = [f"told_{number}" for number in range(len(told))]
        for name, each in zip(self._names, told, strict=True):
            self.register_buffer(name, each, persistent=False)

    def forward(self, condition: Condition | None, batch: int) -> tuple[Tensor, ...]:
        """Return what the network is told of a batch of prompts; None leaves all open."""
        told = [self.get_buffer(name) for name in self._names]
        positions = torch.zeros(batch, dtype=torch.int64) if condition is None else condition - OPEN_CLASS
        return tuple(each[positions.to(each.device)] for each in told)
