"""Text encoders as the conditioning of a U-Net: a prompt's number becomes the U-Net's further arguments.

Stable Diffusion v1 and v2 have one text encoder, whose last layer's tokens the U-Net attends to. SDXL (Podell et al.
2023) has two: it attends to the layer before the last of both, side by side, and is told the pooled answer of the
second and six numbers, the original height and width, the upper left corner of the crop, and the height and width
aimed at; here always a whole image of the model's own size. What exceeds the length that tokenizer and encoder take (77
tokens) is cut off.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from amed_lightning.denoisers.encoded_prompts import Encoded, EncodedPrompts, text_encoder
from amed_lightning.flow.model import Condition


class TextConditioning(nn.Module):
    """The prompts of a model, as its U-Net takes them.

    Args:
        tokenizers: of the encoders.
        encoders: one ``CLIPTextModel``, or that and a ``CLIPTextModelWithProjection``.
        texts: the open condition's, empty or negative, then the prompts by number.
        zeros_for_empty: the open condition's embedding is zero, as in SDXL, and not what the encoders make of it.
        image_size: height and width that a U-Net with two encoders is told.
        identity: digest of the encoders.

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
        identity: str,
    ) -> None:
        super().__init__()
        self.zeros_for_empty = zeros_for_empty
        parts = [
            text_encoder(
                tokenizer, encoder, texts, min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
            )
            for tokenizer, encoder in zip(tokenizers, encoders, strict=True)
        ]
        self.prompts = EncodedPrompts(parts, _of_one if len(parts) == 1 else _of_two, texts, identity)
        self.cut = self.prompts.cut
        self.register_buffer("sizes", torch.tensor([*image_size, 0, 0, *image_size]), persistent=False)

    def forward(self, condition: Condition | None, batch: int) -> dict[str, Any]:
        """Return the U-Net's further arguments for a batch of prompts; None leaves all open."""
        tokens, *pooled = self.prompts(condition, batch)
        if not pooled:
            return {"encoder_hidden_states": tokens}
        if self.zeros_for_empty:
            is_open = (torch.full((batch,), True) if condition is None else condition < 0).to(tokens.device)
            tokens, pooled = tokens.masked_fill(is_open[:, None, None], 0), [pooled[0].masked_fill(is_open[:, None], 0)]
        added = {"text_embeds": pooled[0], "time_ids": self.sizes.to(tokens.dtype).expand(batch, -1)}
        return {"encoder_hidden_states": tokens, "added_cond_kwargs": added}


def _of_one(said: Sequence[Encoded]) -> tuple[Tensor, ...]:
    return (said[0].said.last_hidden_state,)


def _of_two(said: Sequence[Encoded]) -> tuple[Tensor, ...]:
    first, second = (each.said for each in said)
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds
