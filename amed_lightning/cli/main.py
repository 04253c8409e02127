"""The command ``amed-lightning``, also installed as ``lightning``: a thin dispatcher over the verbs.

A verb's module is imported when it is called, so that ``--help`` and ``--version`` answer at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NoReturn

from amed_lightning import __version__
from amed_lightning.config import InputError
from amed_lightning.runtime.exit_codes import ExitCode
from amed_lightning.runtime.signals import listening
from amed_lightning.runtime.watch import AGAIN, is_of_a_lost_process, leave, meet, watching

INTERRUPTIBLE = ("fit", "precompute", "schedule", "sample", "bench")
"""Verbs that look at the signals which ask them to stop; the others end at once."""

VERBS = {
    "fit": ("amed_lightning.cli.fit", "distil a predictor, or train a denoiser or a detector, from a YAML file"),
    "validate": ("amed_lightning.cli.fit", "compute the validation loss of a checkpoint"),
    "precompute": ("amed_lightning.cli.precompute", "compute the teacher's trajectories that a fit will read"),
    "sample": ("amed_lightning.cli.sample", "write images for a range of seeds"),
    "evaluate": ("amed_lightning.cli.evaluate", "score a sampler or a folder of images with FID and IS"),
    "reference": ("amed_lightning.cli.reference", "compute the statistics of real images that scores refer to"),
    "schedule": ("amed_lightning.cli.schedule", "choose a few-step schedule among a fine teacher's levels (GITS)"),
    "stores": ("amed_lightning.cli.stores", "list trajectories and tables, and who needs them; prune the others"),
    "models": ("amed_lightning.cli.models", "list, fetch or verify the published models"),
    "doctor": ("amed_lightning.cli.doctor", "tell what this machine has, and what is wrong with it"),
    "convert": ("amed_lightning.cli.convert", "turn a published network or predictor into safetensors and a JSON"),
    "bench": ("amed_lightning.cli.bench", "sweep solvers and NFE: run, table, plot"),
}


def usage() -> str:
    """Return the help page."""
    verbs = "\n".join(f"  {verb:<12} {help_line}" for verb, (_, help_line) in VERBS.items())
    return (
        "usage: amed-lightning [--help] [--version] [--offline] VERB ...\n\n"
        "Distil a pre-trained diffusion model into a five-evaluation sampler, and prove it with FID and IS.\n\n"
        f"{verbs}\n\n`amed-lightning VERB --help` says what a verb takes. With --offline nothing is fetched."
    )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and exit with its code."""
    verb, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb == "--offline":
        os.environ["AMED_OFFLINE"] = "1"
        verb, *rest = rest or ["--help"]
    if verb in ("-h", "--help"):
        print(usage())
        sys.exit(0)
    if verb == "--version":
        print(f"amed-lightning {__version__}")
        sys.exit(0)
    if verb not in VERBS:
        print(f"error: unknown verb '{verb}': use one of {', '.join(VERBS)}", file=sys.stderr)
        sys.exit(ExitCode.bad_input)
    sys.path.append(os.getcwd())  # a user's own classes are found as `python -m` finds them
    try:
        os.environ["OMP_NUM_THREADS"] = _threads(os.environ.get("OMP_NUM_THREADS", ""))
        with listening() if verb in INTERRUPTIBLE else nullcontext(), watching():
            code: int = importlib.import_module(VERBS[verb][0]).run(verb, rest)
            meet()
    except ValueError as error:
        bad_input = _bad_input(error)
        if bad_input is None:
            raise
        print(f"error: {bad_input}", file=sys.stderr)
        code = ExitCode.bad_input
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        code = ExitCode.failed
    except RuntimeError as error:
        if not is_of_a_lost_process(error):
            raise
        print(f"error: another process of this job is gone ({_first_line(error)}); {AGAIN}", file=sys.stderr)
        code = ExitCode.failed
    except KeyboardInterrupt:
        print(f"{verb}: interrupted", file=sys.stderr)
        code = ExitCode.interrupted
    finally:
        leave()
    sys.exit(code)


def _threads(told: str) -> str:
    """Return the number of threads that OpenMP is told: nothing is 1, and of a list of nested levels the first counts.

    Raises:
        InputError: it is no positive number.

    >>> _threads(""), _threads("4,3,2")
    ('1', '4')
    """
    first = told.partition(",")[0].strip() or "1"
    if not first.isdecimal() or int(first) < 1:
        raise InputError(f"OMP_NUM_THREADS is {told!r}; set it to a number of threads, or not at all")
    return first


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def _bad_input(error: BaseException | None) -> InputError | None:
    """Find the input error that another was raised from; jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error
