"""The tensors of guided-diffusion's U-Nets under the names and in the layouts that they have here.

======================== ============================================================================================
here                     there
======================== ============================================================================================
``enc.*``                ``input_blocks.0``, ``.1``, ... in this order
``dec.*_in0``, ``_in1``  ``middle_block.0`` with the attention ``.1``, ``middle_block.2`` (a classifier's ``middle.*``)
``dec.*_block*``         ``output_blocks.0``, ``.1``, ... in this order
``dec.*_up``             the last part of the output block before
======================== ============================================================================================

A part that changes the resolution is a block, or a convolution ``op`` (down) or ``conv`` (up).

The rows of queries, keys and values are sorted by head, coordinate, then q, k, v here. There they are sorted by head,
q, k, v, then coordinate in the legacy order, and by q, k, v, head, then coordinate in the new one, which the
classifier's head has always.
"""

from collections.abc import Callable

from torch import Tensor

from amed_lightning.denoisers.topology import Topology

BLOCK = {
    "norm0": "in_layers.0",
    "conv0": "in_layers.2",
    "affine": "emb_layers.1",
    "norm1": "out_layers.0",
    "conv1": "out_layers.3",
    "skip": "skip_connection",
}
_ATTENTION = {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"}
_EMBEDDING = {"map_layer0": "time_embed.0", "map_layer1": "time_embed.2"}
OUTPUT = {"out_norm": "out.0", "out_conv": "out.2"}
_POOL = {"out_norm": "out.0", "pool.qkv": "out.2.qkv_proj", "pool.proj": "out.2.c_proj"}
CLASSIFIER_ALONE = "out.2.positional_embedding"
LABELS = "label_emb.weight"

State = dict[str, Tensor]


def translated(state: State, topology: Topology, heads: Callable[[int], int], new_order: bool) -> State:
    """Give tensors their names and layouts here.

    Args:
        state: the tensors of a file.
        topology: of its network.
        heads: how many attend in a block of so many channels.
        new_order: whether the rows of its blocks' attention are sorted by q, k, v first.

    Raises:
        ValueError: a tensor has no place.
    """
    left, weights = dict(state), {}
    for here, there in _modules(topology, CLASSIFIER_ALONE in state).items():
        for kind in ("weight", "bias"):
            if f"{there}.{kind}" in left:
                tensor = left.pop(f"{there}.{kind}")
                if here.endswith(".qkv"):
                    tensor = _by_head_and_coordinate(tensor, heads(len(tensor) // 3), new_order or here == "pool.qkv")
                if here.endswith((".qkv", ".proj")) and kind == "weight":
                    tensor = tensor.flatten(1) if here.startswith("pool.") else tensor.flatten(1)[..., None, None]
                weights[f"model.{here}.{kind}"] = tensor
    if LABELS in left:
        weights["model.map_label.weight"] = left.pop(LABELS).T
    if CLASSIFIER_ALONE in left:
        weights["model.pool.position"] = left.pop(CLASSIFIER_ALONE)
    if left:
        raise ValueError(f"there is no place for {min(left)!r:.100}")
    return weights


def _by_head_and_coordinate(rows: Tensor, heads: int, by_part: bool) -> Tensor:
    """Sort rows by head, coordinate, then q, k, v; they come by q, k, v and head, or by head and q, k, v."""
    split = rows.reshape(*((3, heads) if by_part else (heads, 3)), -1, *rows.shape[1:])
    return split.movedim(0 if by_part else 1, 2).reshape(rows.shape)


def _modules(topology: Topology, is_classifier: bool) -> dict[str, str]:
    """Return the name there of every module here."""
    stem = f"enc.{topology.img_resolution}x{topology.img_resolution}_conv"
    names = _EMBEDDING | (_POOL if is_classifier else OUTPUT) | {stem: "input_blocks.0.0"}
    for index, block in enumerate(topology.encoder(), 1):
        names |= _parts(f"enc.{block.name}", f"input_blocks.{index}.0", f"input_blocks.{index}.1")
        names[f"enc.{block.name}"] = f"input_blocks.{index}.0.op"
    middle = "middle" if is_classifier else "dec"
    first, second = topology.middle()
    names |= _parts(f"{middle}.{first.name}", "middle_block.0", "middle_block.1")
    names |= _parts(f"{middle}.{second.name}", "middle_block.2")
    return names if is_classifier else names | _decoder(topology)


def _decoder(topology: Topology) -> dict[str, str]:
    """Return the name there of every module of the decoder, after the middle."""
    names: dict[str, str] = {}
    index, parts = -1, 0
    for block in list(topology.decoder())[2:]:
        if block.resample:
            names |= _parts(f"dec.{block.name}", f"output_blocks.{index}.{parts}")
            names[f"dec.{block.name}"] = f"output_blocks.{index}.{parts}.conv"
        else:
            index, parts = index + 1, 2 if block.attends else 1
            names |= _parts(f"dec.{block.name}", f"output_blocks.{index}.0", f"output_blocks.{index}.1")
    return names


def _parts(here: str, there: str, attention: str = "none") -> dict[str, str]:
    """Return the name there of every module of a block here; what a block lacks is named in vain."""
    block = {f"{here}.{ours}": f"{there}.{theirs}" for ours, theirs in BLOCK.items()}
    return block | {f"{here}.{ours}": f"{attention}.{theirs}" for ours, theirs in _ATTENTION.items()}
