"""A denoiser whose activations are not kept for the gradient but made again, run by run (Chen et al. 2016).

A gradient through N runs then takes the memory of one, and N runs more.
"""

from dataclasses import dataclass

from torch.utils.checkpoint import checkpoint

from amed_lightning.denoisers.around import Around
from amed_lightning.flow.model import Condition, Denoised, Denoiser, Features
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True)
class Recomputed(Around):
    """Another denoiser, for a gradient through many of its runs.

    Args:
        denoiser: answers; frozen, and the same whenever it is asked the same.
    """

    denoiser: Denoiser

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Ask."""
        image, features = checkpoint(self._tensors, x, sigma, condition, use_reentrant=False, preserve_rng_state=False)
        return Denoised(image, features)

    def _tensors(self, x: Images, sigma: Level, condition: Condition | None) -> tuple[Images, Features]:
        answer = self.denoiser(x, sigma, condition)
        return answer.image, answer.features
