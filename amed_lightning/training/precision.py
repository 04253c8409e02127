"""The Trainer's precision, which is that of weights and optimisers, and not of a frozen denoiser."""

from collections.abc import Collection

from amed_lightning.config import InputError

SINGLE = ("32-true",)
SINGLE_WEIGHTS = (*SINGLE, "16-mixed", "bf16-mixed")
EXPORTED = f"weights are trained and exported in single precision; use {', '.join(SINGLE_WEIGHTS)}"
FROZEN = (
    "the Trainer's precision is not the frozen denoiser's, in which a distillation computes; leave it out, and set "
    "model.init_args.student.arithmetic.precision to float64, bfloat16 or float16"
)


def require_precision(precision: str, taken: Collection[str], cure: str) -> None:
    """Refuse a precision, before anything is computed in it.

    Args:
        precision: of the Trainer.
        taken: what the training takes.
        cure: what to do.

    Raises:
        InputError: it takes others only.
    """
    if precision not in taken:
        raise InputError(f"trainer.precision is {precision}: {cure}")
