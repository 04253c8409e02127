"""Latent models built from tiny pipelines on disk, as configurations name them."""

import contextlib
import json
import shutil

from amed_lightning.config import build
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.seeds import Seeds, Stream

CAPTIONS = ["a cat", "a dog", "two  Cats, and one dog that sleeps on the table beside a window at night"]
PROMPTS = {"training": ["a house"], "evaluation": CAPTIONS}


def latent(path, **options):
    return build("model", DENOISERS, {"name": "latent_diffusion", "path": str(path), **options})


def text(path, **options):
    spec = {"name": "stable_diffusion", "path": str(path), "prompts": PROMPTS}
    return build("model", DENOISERS, spec | options)


def noise(model, batch=3):
    return Seeds(Stream.evaluation, 0, batch).noise(model.shape)


def copied(folder, tmp_path, **changes):
    """Copy a pipeline and change entries of its JSON files, named by their paths with an underscore for the slash."""
    target = shutil.copytree(folder, tmp_path / "changed")
    for name, entries in changes.items():
        path = target / f"{name.replace('__', '/')}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return target


@contextlib.contextmanager
def watched(module):
    """Collect the outputs of a module."""
    outputs = []
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    yield outputs
    handle.remove()
