"""Text encoders as the conditioning of a U-Net: a prompt's number becomes the U-Net's further arguments.

Stable Diffusion v1 and v2 have one text encoder, whose last layer's tokens the U-Net attends to. SDXL (Podell et al.
2023) has two: it attends to the layer before the last of both, side by side, and is told the pooled answer of the
second and six numbers, the original height and width, the upper left corner of the crop, and the height and width
aimed at; here always a whole image of the model's own size. What exceeds the length that tokenizer and encoder take (77
tokens) is cut off.

Prompts become tokens when a model is made, since threads cannot share a tokenizer. An embedding is computed once, by
itself and in full precision, so that it does not depend on the batch, and the most recent ones are kept.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from amed_lightning.denoisers.encoded_prompts import tokens_of
from amed_lightning.denoisers.guidance import OPEN_CLASS
from amed_lightning.flow.model import Condition

Embedding: TypeAlias = tuple[Float[Tensor, "tokens width"], Float[Tensor, "pooled"]]
"""What a U-Net attends to, and the pooled answer, empty where there is one encoder."""
KEPT = 1024
"""Embeddings that are kept: more than the prompts of a batch, or every evaluation would encode them again."""


class TextConditioning(nn.Module):
    """The prompts of a model, as its U-Net takes them.

    Args:
        tokenizers: of the encoders.
        encoders: one ``CLIPTextModel``, or that and a ``CLIPTextModelWithProjection``.
        texts: the open condition's, empty or negative, then the prompts by number.
        zeros_for_empty: the empty prompt's embedding is zero, as in SDXL, and not what the encoders make of it.
        image_size: height and width that a U-Net with two encoders is told.

    Attributes:
        cut: the numbers of prompts that are too long for an encoder, -1 for the open condition's.
    """

    sizes: Int[Tensor, "6"]

    def __init__(
        self,
        tokenizers: Sequence[Any],
        encoders: Sequence[Any],
        texts: Sequence[str],
        zeros_for_empty: bool,
        image_size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.encoders, self.zeros_for_empty = nn.ModuleList(encoders), zeros_for_empty
        tokenized = [
            tokens_of(tokenizer, texts, min(tokenizer.model_max_length, encoder.config.max_position_embeddings))
            for tokenizer, encoder in zip(tokenizers, encoders, strict=True)
        ]
        self._tokens = [tokens.ids for tokens in tokenized]
        self.cut = {position + OPEN_CLASS for tokens in tokenized for position in tokens.cut}
        self.register_buffer("sizes", torch.tensor([*image_size, 0, 0, *image_size]), persistent=False)
        self._embedding = lru_cache(KEPT)(self._encode)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a compiler would encode anew at every evaluation
    def forward(self, condition: Condition | None, batch: int) -> dict[str, Any]:
        """Return the U-Net's further arguments for a batch of prompts; None leaves all open."""
        like = next(self.encoders.parameters())
        numbers = [OPEN_CLASS] * batch if condition is None else condition.tolist()
        embeddings = [self._embedding(number, like.device, like.dtype) for number in numbers]
        tokens, pooled = map(torch.stack, zip(*embeddings, strict=True))
        if len(self.encoders) == 1:
            return {"encoder_hidden_states": tokens}
        added = {"text_embeds": pooled, "time_ids": self.sizes.to(like.dtype).expand(batch, -1)}
        return {"encoder_hidden_states": tokens, "added_cond_kwargs": added}

    def _encode(self, number: int, device: torch.device, dtype: torch.dtype) -> Embedding:
        """Encode one prompt where the encoders are, and at their precision."""
        with torch.autocast(device.type, enabled=False):
            answers = [
                encoder(texts[number - OPEN_CLASS][None].to(device), output_hidden_states=True)
                for encoder, texts in zip(self.encoders, self._tokens, strict=True)
            ]
        if len(answers) == 1:
            tokens = answers[0].last_hidden_state[0]
            pooled = tokens.new_empty(0)
        else:
            tokens = torch.cat([answer.hidden_states[-2][0] for answer in answers], 1)
            pooled = answers[-1].text_embeds[0]
        if number == OPEN_CLASS and self.zeros_for_empty:
            return torch.zeros_like(tokens), torch.zeros_like(pooled)
        return tokens, pooled
