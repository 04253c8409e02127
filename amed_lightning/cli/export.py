"""``export``: a sampler for diffusers, ComfyUI, PyTorch alone or ONNX."""

from collections.abc import Sequence
from pathlib import Path

from amed_lightning.cli.parsing import Parser
from amed_lightning.config import InputError, load_yaml
from amed_lightning.export.folder import EXPORTS, export
from amed_lightning.sampling.sampler import Sampler, build_sampler, config_of, learned_sampler


def run(verb: str, arguments: Sequence[str]) -> int:
    """Read, build, write."""
    parser = Parser(prog=f"amed-lightning {verb}", description="Write a sampler for another program.")
    parser.add_argument("--config", action="config", help="YAML file with these options")
    parser.add_argument("source", type=Path, help="the .json that a fit has written, or a YAML as `sample` takes it")
    parser.add_argument("folder", type=Path, help="the new folder")
    parser.add_argument("--to", required=True, choices=list(EXPORTS), help="the program")
    options = parser.parse_args(list(arguments))
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
