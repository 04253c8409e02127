"""The command ``amed-lightning``, also installed as ``lightning``: a thin dispatcher over the verbs.

A verb's module is imported when it is called, so that ``--help`` and ``--version`` answer at once.
"""

import importlib
import locale
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import NoReturn

from amed_lightning import __version__
from amed_lightning.cli.options import parsed
from amed_lightning.config import InputError, input_error_of
from amed_lightning.runtime.allocator import keep_large_blocks
from amed_lightning.runtime.exit_codes import ExitCode
from amed_lightning.runtime.network import keep_offline
from amed_lightning.runtime.signals import let_go, listening
from amed_lightning.runtime.trouble import first_line, told
from amed_lightning.runtime.watch import AGAIN, is_of_a_lost_process, is_of_a_meeting, leave, meet, watching
from amed_lightning.runtime.wording import meant

OUTPUT = "standard output"
NIGHT = ["bench", "nightly"]
"""Whose exit code 1 blames the code, which the machine's trouble does not."""
_INTERRUPTIBLE = ("fit", "precompute", "schedule", "sample", "bench")
"""Verbs that look at the signals which ask them to stop; the others end at once."""

VERBS = {
    "fit": ("amed_lightning.cli.fit", "distil a sampler, or train a denoiser or a detector, from a YAML file"),
    "validate": ("amed_lightning.cli.fit", "compute the validation loss of a checkpoint"),
    "precompute": ("amed_lightning.cli.precompute", "compute the teacher's trajectories that a fit will read"),
    "sample": ("amed_lightning.cli.sample", "write images for a range of seeds"),
    "evaluate": ("amed_lightning.cli.evaluate", "score a sampler or a folder of images with FID and IS"),
    "reference": ("amed_lightning.cli.reference", "compute the statistics of real images that scores refer to"),
    "schedule": ("amed_lightning.cli.schedule", "choose a few-step schedule among a fine teacher's levels (GITS)"),
    "stores": ("amed_lightning.cli.stores", "list trajectories and tables, and who needs them; prune the others"),
    "models": ("amed_lightning.cli.models", "list, fetch or verify the published models"),
    "list": ("amed_lightning.cli.listing", "list what a YAML can name: solvers, schedules, models, ..., with options"),
    "doctor": ("amed_lightning.cli.doctor", "tell what this machine has, and what is wrong with it"),
    "convert": ("amed_lightning.cli.convert", "turn a published network or predictor into safetensors and a JSON"),
    "export": ("amed_lightning.cli.export", "write a sampler for diffusers, ComfyUI, PyTorch alone or ONNX"),
    "bench": ("amed_lightning.cli.bench", "sweep solvers and NFE: run, table, plot"),
    "new": ("amed_lightning.cli.new", "copy configurations, a suite and cluster scripts to begin with"),
    "completion": ("amed_lightning.cli.completion", "print a script that completes these commands in a shell"),
}


def usage() -> str:
    """Return the help page."""
    verbs = "\n".join(f"  {verb:<12} {help_line}" for verb, (_, help_line) in VERBS.items())
    return (
        "usage: amed-lightning [--help] [--version] [--offline] VERB ...\n\n"
        "Turn a pre-trained diffusion model into a sampler of few network runs,\nand prove it with FID and IS.\n\n"
        f"{verbs}\n\n`amed-lightning VERB --help` says what a verb takes. With --offline nothing is fetched."
    )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and exit with its code."""
    if arguments is None:
        _open_streams()
        _speak_utf_8()
    verb, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb == "--offline":
        os.environ["AMED_OFFLINE"] = "1"
        verb, *rest = rest or ["--help"]
    before, threading.excepthook = threading.excepthook, _of_a_thread
    try:
        with listening() if verb in _INTERRUPTIBLE else nullcontext():
            code = _ended(verb, rest)
    finally:
        threading.excepthook = before
        if arguments is None:
            let_go()
    sys.exit(code)


def _ended(verb: str, rest: list[str]) -> int:
    """Do what the verb says, leave the other processes, and return the exit code."""
    code: int = ExitCode.failed
    try:
        with watching(_blameless([verb, *rest])):
            code = _chosen(verb, rest)()
            meet()
        _flush()
    except KeyboardInterrupt:
        _say(f"{verb}: interrupted")
        code = ExitCode.interrupted
    except Exception as error:
        code = _ending([verb, *rest], error)
    finally:
        leave(getattr(sys.exc_info()[1], "code", code))
    return code


def _chosen(verb: str, rest: list[str]) -> Callable[[], int]:
    """Read the arguments, and return what does what the verb says and returns the exit code.

    Raises:
        InputError: no such verb, or arguments that it does not take.
    """
    if verb in ("-h", "--help"):
        return partial(_printed, usage())
    if verb == "--version":
        return partial(_printed, f"amed-lightning {__version__}")
    if verb not in VERBS:
        raise InputError(f"unknown verb '{verb}': use one of {', '.join(VERBS)}{meant(verb, VERBS)}")
    sys.path.append(_working_folder())  # a user's own classes are found as `python -m` finds them
    keep_offline()
    keep_large_blocks()
    os.environ["OMP_NUM_THREADS"] = _threads(os.environ.get("OMP_NUM_THREADS", ""))
    options = parsed(verb, rest)
    return partial(importlib.import_module(VERBS[verb][0]).run, options)


def _printed(text: str) -> ExitCode:
    print(text)
    return ExitCode.done


def _ending(command: list[str], error: Exception) -> ExitCode:
    """Say in one line what has ended the command, and return its exit code; an error of the program is raised again."""
    if bad_input := input_error_of(error):
        _say(f"error: {bad_input}")
        return ExitCode.bad_input
    if isinstance(error, FloatingPointError):
        _say(f"error: {error}")
        return ExitCode.failed
    if is_of_a_lost_process(error):
        _say(f"error: another process of this job is gone ({first_line(error)}); {AGAIN}")
        return _blameless(command)
    if is_of_a_meeting(error):
        _say(f"error: the processes of this job have not found each other ({first_line(error)}); {AGAIN}")
        return _blameless(command)
    if (trouble := told(error)) is None:
        raise error
    if not (isinstance(error, BrokenPipeError) and (error.filename == OUTPUT or _is_unread())):  # who left knows it
        _say(f"error: {command[0]}: {trouble}; what is finished is kept, and the same command goes on")
    with suppress(OSError):
        _flush()
    return _blameless(command)


def _blameless(command: list[str]) -> ExitCode:
    """Return the exit code of a failure that is not the code's."""
    return ExitCode.undecided if command[:2] == NIGHT else ExitCode.failed


def _flush() -> None:
    """Write what was printed; where that fails Python is not to try it again when it ends.

    Raises:
        OSError: it cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise OSError(error.errno, os.strerror(error.errno or 0), OUTPUT) from error


def _is_unread() -> bool:
    """Whether what is printed goes to a pipe that nobody reads any more, as after ``| head``."""
    if not hasattr(select, "poll"):  # as on Windows
        return False
    output = select.poll()
    with suppress(OSError):
        output.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in output.poll(0))


def _of_a_thread(ended: threading.ExceptHookArgs) -> None:
    """Print the error of a thread, unless it is TensorBoard's, which raises it again where it is written to."""
    if not type(ended.thread).__module__.startswith("tensorboard."):
        threading.__excepthook__(ended)


def _say(line: str) -> None:
    """Print a line for people, if that can be done."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _open_streams() -> None:
    """Give a stream that was closed a place: its number would be that of the next file, which others print into."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            setattr(sys, name, open(nowhere, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115


def _speak_utf_8() -> None:
    """Start this process again in Python's UTF-8 mode, where it would read and write files in another encoding."""
    if locale.getpreferredencoding(False).lower() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        again = [sys.executable, *sys.orig_argv[1:]]
        if os.name == "nt":  # where execv returns to the shell at once
            sys.exit(subprocess.call(again))
        os.execv(sys.executable, again)


def _working_folder() -> str:
    """Return it.

    Raises:
        InputError: it is gone.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise InputError("the working directory is gone: change to another, also if it has the same name") from None


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
