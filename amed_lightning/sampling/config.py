"""What a sampler is told; nothing of it needs torch."""

from dataclasses import dataclass, field

from amed_lightning.config import Spec
from amed_lightning.denoisers.arithmetic import Arithmetic


@dataclass(frozen=True)
class SamplerConfig:
    """How samples are made.

    Attributes:
        model: name and options of the denoiser.
        solver: name and options; besides these ``learned``, the path of what a fit has learned for it, or ``placer``,
            which is none or ``{fixed: r}``.
        schedule: name and options.
        num_intervals: intervals of the time grid; or else ``nfe``.
        afs: replace the first evaluation by the analytic one.
        denoise_to_zero: end with the denoiser's answer at sigma_min, one more evaluation.
        arithmetic: precision and what else moves the last digits.
        nfe: network runs per sample, guidance's included, which the intervals follow from.
    """

    model: Spec
    solver: Spec
    schedule: Spec
    num_intervals: int | None = None
    afs: bool = False
    denoise_to_zero: bool = False
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    nfe: int | None = None
