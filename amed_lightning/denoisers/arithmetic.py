"""How a network computes: what moves the last digits of a number, and so belongs to recipes and protocols.

It is one option of whatever samples: the student of a fit and its teacher, a sampler, a suite. The states between
network runs are float32, or float64 where that is asked for. In half precision the weights stay in single: convolutions
and products of matrices run in the chosen one, everything else and the preconditioning in single, and images and
features are single precision in and out. float16 ends at 65,504, and what exceeds it is infinite; bfloat16 reaches as
far as float32 with fewer digits.

TensorFloat-32 is off wherever it is not asked for, though PyTorch's convolutions have it on; in a backward pass, which
runs outside of the denoiser, it is always off (:func:`~amed_lightning.runtime.processes.compute_alike`).
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Arithmetic:
    """How the denoiser computes.

    Attributes:
        precision: of weights and states (float32, float64), or what the network's products are cast to (autocast). The
            weights of a transformer that a folder has in half precision are made double, but not single.
        tf32: allow TensorFloat-32 in the network's float32 products.
        channels_last: memory order of weights and images.
        compile: let ``torch.compile`` fuse the network, or all of a sample (``sampler``): network runs and the solver's
            steps. What asks for the states between, as fits and stores do, is not compiled then.
    """

    precision: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    tf32: bool = False
    channels_last: bool = False
    compile: bool | Literal["sampler"] = False

    @property
    def state_dtype(self) -> str:
        """Torch's name for the precision of the states between network runs."""
        return "float64" if self.precision == "float64" else "float32"
