"""The datasets that configurations call by name."""

from collections.abc import Callable

from jaxtyping import Int
from torch import Tensor

from amed_lightning.data.digits import digits
from amed_lightning.tensors import Bytes

DATASETS: dict[str, Callable[..., tuple[Bytes, Int[Tensor, "batch"]]]] = {"digits": digits}
