"""Whether the network may be used: ``--offline`` forbids it here and to every library that fetches by itself.

huggingface_hub is told by its own variable. Whatever else would look up or reach another machine from Python (fsspec,
torch.hub, torchvision, a logger) is stopped where Python does it, with a line that says so. The processes of a job are
joined by PyTorch, below Python, and go on.
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from amed_lightning.config import InputError

FORBIDDEN = "AMED_OFFLINE"
_HUB_FORBIDDEN = "HF_HUB_OFFLINE"
NEAR = ("localhost", "0.0.0.0", "::", "::1", "")
"""Names and addresses of this machine, beside 127.0.0.0/8 and its own name."""


def is_offline() -> bool:
    """Tell whether the user forbids the network: ``--offline``, or ``AMED_OFFLINE`` set to something but 0."""
    return os.environ.get(FORBIDDEN, "") not in ("", "0")


@contextmanager
def offline() -> Iterator[None]:
    """Forbid the network for a while."""
    before = os.environ.get(FORBIDDEN)
    os.environ[FORBIDDEN] = "1"
    try:
        yield
    finally:
        del os.environ[FORBIDDEN]
        if before is not None:
            os.environ[FORBIDDEN] = before


def keep_offline() -> None:
    """Hold libraries to it, if the user forbids the network; to be called before they are imported."""
    if is_offline():
        os.environ[_HUB_FORBIDDEN] = "1"
        _watch()


@cache
def _watch() -> None:
    """Watch this process from now on; Python knows no way back, so the watch looks whether it is still asked for."""
    sys.addaudithook(_stop)


def _stop(event: str, arguments: tuple[Any, ...]) -> None:
    """Stop what leads to another machine.

    Raises:
        InputError: naming the machine.
    """
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if is_offline() and not _is_near(host):
        raise InputError(f"{_text(host)} would be asked, and {FORBIDDEN} forbids the network; place the file by hand")


def _is_near(host: Any) -> bool:
    name = _text(host)
    return name in NEAR or name.startswith("127.") or name in (socket.gethostname(), os.environ.get("MASTER_ADDR"))


def _text(host: Any) -> str:
    return host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
