"""``export``: a sampler for diffusers, ComfyUI, PyTorch alone or ONNX."""

from pathlib import Path

from jsonargparse import Namespace

from amed_lightning.config import InputError, load_yaml
from amed_lightning.export.folder import export
from amed_lightning.sampling.parts import build_sampler, config_of, learned_sampler
from amed_lightning.sampling.sampler import Sampler


def run(options: Namespace) -> int:
    """Read, build, write."""
    for path in export(_sampler(options.source), options.to, options.folder):
        print(path)
    return 0


def _sampler(source: Path) -> Sampler:
    if source.suffix == ".json":
        return learned_sampler(source)
    content = load_yaml(source)
    if not isinstance(content.get("sampler"), dict):
        raise InputError(f"{source}: no 'sampler' in it; name the .json of a fit, or a YAML as `sample` takes it")
    return build_sampler(config_of(content["sampler"]))
