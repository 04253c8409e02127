"""What the verbs' parsers share."""

import jsonargparse

from amed_lightning.config import InputError


def parser_for(verb: str, description: str) -> jsonargparse.ArgumentParser:
    """Return a parser that takes ``--config`` and says where to compute.

    Args:
        verb: as it is typed.
        description: of what it does.
    """
    parser = jsonargparse.ArgumentParser(prog=f"amed-lightning {verb}", description=description)
    parser.add_argument("--config", action="config", help="YAML file with these options")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu, or auto")
    parser.add_argument("--devices", type=int, default=1, help="processes per node, one device or CPU thread each")
    parser.add_argument("--num_nodes", type=int, default=1, help="nodes")
    return parser


def seed_range(text: str) -> range:
    """Read ``first-last`` or one number.

    Raises:
        InputError: it is neither.

    >>> seed_range("0-63")
    range(0, 64)
    """
    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
        raise InputError(f"--seeds {text}: write a first and a last seed, like 0-63")
    return range(int(first), int(last or first) + 1)
