"""Named tensors and facts about them in one safetensors file, with a checksum that is compared when it is read.

All that is told beside the tensors stands in one entry: the format keeps several in no order, and equal contents are to
be equal bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from amed_lightning.config import InputError, canonical_json, write_atomically
from amed_lightning.runtime.foreign import UNREADABLE, require_bounded
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.runtime.trouble import CURES
from amed_lightning.tensors import not_finite

Facts = dict[str, Any]


class DamagedFileError(InputError):
    """A file is not as it was written: it can be made again.

    Args:
        path: of the file.
        reason: what is wrong.
    """

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path}: not readable ({reason})")
        self.path = path


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Facts | None = None) -> None:
    """Write tensors, all or nothing.

    Raises:
        FloatingPointError: one has a number that is not finite, which nobody would read again.
    """
    if name := not_finite(tensors):
        raise FloatingPointError(f"{path}: '{name}' has a NaN or an infinity; nothing is written")
    content = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    told = {"facts": facts or {}, "sha256": _checksum(content, facts or {})}
    write_atomically(path, safetensors.torch.save(content, {"about": json.dumps(told)}))


def read_with_facts(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """Read tensors and the facts about them.

    Raises:
        DamagedFileError: the file is gone, cut off or changed, or has a number that is not finite.
        OSError: the system does not let it be read, which says nothing of the file.
    """
    try:
        path.open("rb").close()
        require_bounded(path)
        with safetensors.safe_open(path, "pt") as file:
            told = parse_json(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        facts: Facts = told["facts"]
        is_whole = told["sha256"] == _checksum(tensors, facts)
    except FileNotFoundError as error:
        raise DamagedFileError(path, error) from error
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in CURES:
            raise
        raise DamagedFileError(path, error) from error
    if not is_whole:
        raise DamagedFileError(path, "its checksum is not the one that it was written with")
    if name := not_finite(tensors):
        raise DamagedFileError(path, f"'{name}' has a NaN or an infinity")
    return tensors, facts


def _checksum(tensors: Mapping[str, Tensor], facts: Facts) -> str:
    total = hashlib.sha256(canonical_json(facts).encode())
    for name in sorted(tensors):
        total.update(safetensors.torch.save({name: tensors[name]}))
    return total.hexdigest()
