"""Files that somebody sent: each function writes one into the current folder and returns the command that reads it.

What a payload does is to leave the file ``canary``: :data:`COMMAND` in a shell, or the import of the module
``payload``, which lies beside the hostile file and is found as a user's own classes are.
"""

import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
import yaml

from amed_lightning.amed.files import save_learned
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.cli.main import main
from amed_lightning.config import digest, file_digest
from amed_lightning.denoisers.registry import ASSETS
from amed_lightning.denoisers.zoo.card import ZOO
from amed_lightning.metrics.inception import RELEASE
from amed_lightning.runtime.provenance import hardware
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts

from ..denoisers.persistent import edm_object, predictor_object, write_pickle
from ..denoisers.published import AMED_SETTINGS, EDM_UNCONDITIONAL

COMMAND = "touch canary"
PAYLOAD = "open('canary', 'w').close()\nclass Thing:\n    def __init__(self, **options):\n        pass\n"
THING = {"name": "payload.Thing"}
GAUSSIAN = {"name": "anisotropic_gaussian", "height": 8, "width": 8}
DEEP = "[" * 200_000
GIBIBYTE = 1 << 30
CONFIGS = Path(__file__).parents[2] / "configs" / "digits"
Command = Sequence[str]


@dataclass(frozen=True)
class Hostile:
    """A hostile file.

    Attributes:
        make: writes it and returns the command that reads it.
        line: part of what the command says.
        code: of the command.
    """

    make: Callable[[], Command]
    line: str
    code: int


FILES: dict[str, Hostile] = {}


class Runs:
    """Pickled as a call of the shell."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (COMMAND,)


def hostile(line: str, code: int = 2) -> Callable[[Callable[[], Command]], Callable[[], Command]]:
    def keep(make: Callable[[], Command]) -> Callable[[], Command]:
        FILES[make.__name__] = Hostile(make, line, code)
        return make

    return keep


def sample(model: Any = GAUSSIAN, solver: Any = None, schedule: Any = None, **more: Any) -> Command:
    sampler = {"model": model, "solver": solver or {"name": "euler"}, "schedule": schedule or {"name": "logsnr"}}
    content = {"sampler": sampler | {"num_intervals": 3} | more, "seeds": "0-1", "output": "out"}
    Path("sample.yaml").write_text(yaml.safe_dump(content))
    return "sample", "--config", "sample.yaml"


def card(**changes: Any) -> dict[str, Any]:
    """Write a card, and return the model that names it."""
    content = yaml.safe_load((ZOO / "cifar10.yaml").read_text()) | changes
    Path("cifar10.yaml").write_text(yaml.safe_dump(content))
    return {"name": "pretrained", "card": "cifar10.yaml"}


def bench(**changes: Any) -> Command:
    dataset = {"name": "grey", "model": GAUSSIAN, "detector": {"name": "digits"}, "dataset": {"name": "digits"}}
    entry = {"solver": {"name": "euler"}, "schedules": [{"name": "logsnr"}], "nfe": [3]}
    suite = {"name": "small", "datasets": [dataset | changes], "entries": [entry], "block_size": 256}
    Path("suite.yaml").write_text(yaml.safe_dump(suite))
    return "bench", "--config", "suite.yaml", "--dry-run"


def reference(**dataset: Any) -> Command:
    return "evaluate", "--images", "images", "--dataset", json.dumps(dataset), "--detector", '{"name": "digits"}'


def images() -> Path:
    folder = Path("images")
    folder.mkdir()
    return folder


def two_images() -> None:
    """Write images that there is nothing to say against."""
    folder = images()
    for name in ("00.png", "01.png"):
        (folder / name).write_bytes(png(8, 8, (b"IDAT", _black(8, 8))))


def scored() -> Command:
    return "evaluate", "--images", "images", "--dataset", '{"name": "digits"}', "--detector", '{"name": "digits"}'


# Cards of published models.


@hostile("unknown model 'payload.Thing'")
def card_whose_model_is_an_import_path() -> Command:
    return sample(card(model=THING))


@hostile("unknown model 'payload.Thing'")
def card_whose_inner_model_is_an_import_path() -> Command:
    return sample(card(model={"name": "guided", "of": {"name": "pooled", "of": THING}, "scale": 2.0}))


@hostile("'class_path' is not accepted")
def card_whose_option_names_a_class() -> Command:
    thing = {"class_path": "payload.Thing", "init_args": {}}
    return sample(card(model={"name": "guided", "of": {"name": "digits", "x": thing}, "scale": 2.0}))


@hostile("unknown model 'payload.Thing'", code=0)
def card_on_a_dry_run() -> Command:
    return bench(model=card(model=THING))


@hostile("unknown model 'payload.Thing'")
def card_that_is_asked_for_an_option() -> Command:
    return *sample(card(model=THING)), "--guidance", "2"


@hostile("and not another card")
def card_that_names_itself() -> Command:
    return sample(card(model={"name": "pretrained", "card": "cifar10.yaml"}))


@hostile("could not determine a constructor")
def card_with_a_tag_of_python() -> Command:
    sampled = sample(card())
    with Path("cifar10.yaml").open("a") as file:
        file.write(f"remark: !!python/object/apply:os.system [{COMMAND}]\n")
    return sampled


@hostile("by its aliases it stands for more")
def card_of_aliases_of_aliases() -> Command:
    sampled = sample(card())
    letters = "abcdefghijklmnopqrstuvwxyz"
    lines = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise(letters)]
    Path("cifar10.yaml").write_text("\n".join(["a: &a [lol]", *lines]))
    return sampled


@hostile("by its aliases it stands for more")
def card_of_merges_of_merges() -> Command:
    sampled = sample(card())
    lines = [f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 40)]
    Path("cifar10.yaml").write_text("\n".join(["m0: &m0 {a: 1}", *lines]))
    return sampled


@hostile("nested too deeply")
def card_of_brackets() -> Command:
    Path("cifar10.yaml").write_text("name: " + DEEP[:100_000])
    return "models", "list", "cifar10.yaml"


@hostile("more than 131072 bytes")
def card_of_a_gigabyte() -> Command:
    with Path("cifar10.yaml").open("wb") as file:
        file.truncate(GIBIBYTE)
    return "models", "list", "cifar10.yaml"


@hostile("leads out of its folder")
def card_whose_file_leads_elsewhere() -> Command:
    network = {"name": "../../../../canary", "addresses": ["http://127.0.0.1:1/"]}
    card(files={"network": network})
    return "models", "fetch", "cifar10.yaml"


@hostile("a side has 1 to 256")
def card_of_a_network_without_end() -> Command:
    return sample(card(model={"name": "anisotropic_gaussian", "height": 1 << 20, "width": 1 << 20}))


def _archived(write: Callable[[zipfile.ZipFile], None]) -> Command:
    """Place an archive where a card's would be fetched to."""
    files = {"network": {"name": "net.zip", "addresses": [], "member": "net.json"}}
    sampled = sample(card(model={"name": "file", "path": "{network}"}, files=files))
    path = Path(os.environ["AMED_CACHE"], "models", "cifar10", "net.zip")
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        write(archive)
    return sampled


@hostile("which numbers never do")
def archive_that_becomes_gigabytes() -> Command:
    return _archived(lambda archive: _zeros(archive, "net.json", 4))


@hostile("net.safetensors: no such file")
def archive_with_a_link() -> Command:
    def write(archive: zipfile.ZipFile) -> None:
        link = zipfile.ZipInfo("net.json")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, str(ASSETS / "digits" / "denoiser.json"))

    return _archived(write)


def _zeros(archive: zipfile.ZipFile, name: str, gibibytes: int) -> None:
    """Put zeros in an archive that was packed once: all of it is one block, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    size = gibibytes << 30
    packed = block * (size >> 24) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    entry = zipfile.ZipInfo(name)
    entry.compress_type, entry.file_size, entry.compress_size = zipfile.ZIP_DEFLATED, size, len(packed)
    entry.CRC, entry.header_offset = 0, archive.fp.tell()
    archive.fp.write(entry.FileHeader(zip64=True) + packed)
    archive.start_dir = archive.fp.tell()
    archive.filelist.append(entry)
    archive.NameToInfo[name] = entry
    archive._didModify = True


# Models of ours, and safetensors.


def model_card(**changes: Any) -> Command:
    content = json.loads((ASSETS / "digits" / "denoiser.json").read_bytes())
    Path("net.safetensors").write_bytes((ASSETS / "digits" / "denoiser.safetensors").read_bytes())
    Path("net.json").write_text(json.dumps(content | changes))
    return sample({"name": "file", "path": "net.json"})


def network(**changes: Any) -> dict[str, Any]:
    return json.loads((ASSETS / "digits" / "denoiser.json").read_bytes())["network"] | changes


@hostile("unknown architecture 'payload.Thing'")
def model_of_an_imported_architecture() -> Command:
    return model_card(architecture="payload.Thing")


@hostile("unknown preconditioning 'os.system'")
def model_of_an_imported_preconditioning() -> Command:
    return model_card(preconditioning="os.system", preconditioning_options={"command": COMMAND})


@hostile("'class_path' is not accepted")
def model_whose_option_names_a_class() -> Command:
    return model_card(network=network(dropout={"class_path": "payload.Thing", "init_args": {}}))


@hostile("1 to 64 blocks")
def model_of_a_network_without_end() -> Command:
    return model_card(network=network(num_blocks=1 << 40))


@hostile("nested too deeply")
def model_of_brackets() -> Command:
    sampled = model_card()
    Path("net.json").write_text('{"network": ' + DEEP)
    return sampled


def _weights(content: bytes) -> Command:
    Path("net.safetensors").write_bytes(content)
    written = json.loads((ASSETS / "digits" / "denoiser.json").read_bytes())
    Path("net.json").write_text(json.dumps(written | {"weights_sha256": file_digest(Path("net.safetensors"))}))
    return sample({"name": "file", "path": "net.json"})


@hostile("not readable safetensors")
def safetensors_of_terabytes() -> Command:
    shape = [1 << 40]
    header = json.dumps({"model.a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 << 40]}}).encode()
    return _weights(struct.pack("<Q", len(header)) + header)


@hostile("its header says more than")
def safetensors_of_a_million_names() -> Command:
    entries = {f"{number:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(100_000)}
    header = json.dumps(entries).encode()
    return _weights(struct.pack("<Q", len(header)) + header)


@hostile("not safetensors")
def safetensors_that_are_a_pickle() -> Command:
    return _weights(pickle.dumps(Runs()))


# Predictors.


def predictor(solver: Any = None, weights: bytes | None = None, **changes: Any) -> Command:
    """Write a predictor for the digits, sign it again, and return what samples from it."""
    asked = {"name": "amed", "learned": "predictor.json"}
    parts = SamplerParts(SamplerConfig({"name": "digits"}, {"name": "amed"}, {"name": "time_uniform"}, 3))
    path = Path("predictor.json")
    save_learned(path, AMEDPredictor(64), parts.purpose, {})
    content = json.loads(path.read_text()) | changes
    if solver is not None:
        content["purpose"] |= {"solver": solver}
    if weights is not None:
        path.with_suffix(".safetensors").write_bytes(weights)
        content["weights_sha256"] = file_digest(path.with_suffix(".safetensors"))
    signed = {key: content[key] for key in ("options", "purpose", "weights_sha256", "kind") if key in content}
    path.write_text(json.dumps(content | {"digest": digest(signed)}))
    return sample({"name": "digits"}, asked, {"name": "time_uniform"})


@hostile('made for solver {"name":"payload.Thing"}')
def predictor_for_an_imported_solver() -> Command:
    return predictor(solver=THING)


@hostile("unknown model 'payload.Thing'")
def predictor_whose_sampler_has_an_imported_model() -> Command:
    predictor(sampler={"model": THING, "solver": {"name": "amed"}, "schedule": {"name": "time_uniform"}})
    return "export", "predictor.json", "exported", "--to", "diffusers"


@hostile("'class_path' is not accepted here")
def predictor_whose_sampler_imports_an_option() -> Command:
    model = {"name": "digits", "class_path": "payload.Thing"}
    predictor(sampler={"model": model, "solver": {"name": "amed"}, "schedule": {"name": "time_uniform"}})
    return "export", "predictor.json", "exported", "--to", "diffusers"


@hostile("unknown kind 'payload.Thing'")
def predictor_of_an_imported_kind() -> Command:
    return predictor(kind="payload.Thing")


@hostile("'class_path' is not accepted")
def predictor_whose_option_names_a_class() -> Command:
    return predictor(options={"feature_size": 64, "scale_dir": {"class_path": "payload.Thing", "init_args": {}}})


@hostile("its numbers are not those that its options say")
def predictor_without_end() -> Command:
    return predictor(options={"feature_size": 1 << 40})


@hostile("not safetensors")
def predictor_whose_weights_are_a_pickle() -> Command:
    return predictor(weights=pickle.dumps(Runs()))


@hostile("nested too deeply")
def predictor_of_brackets() -> Command:
    sampled = predictor()
    Path("predictor.json").write_text(DEEP)
    return sampled


# Checkpoints of a fit.


def checkpoint() -> Command:
    return (
        *("fit", "--config", str(CONFIGS / "classifier.yaml")),
        *("--trainer.default_root_dir", "run", "--trainer.logger", "false", "--ckpt_path", "sent.ckpt"),
    )


@hostile("not a checkpoint of a run")
def checkpoint_whose_options_name_a_class() -> Command:
    torch.save({"hyper_parameters": {"_class_path": "payload.Thing"}, "state_dict": {}}, "sent.ckpt")
    return checkpoint()


@hostile("it asks for posix.system")
def checkpoint_that_calls_the_shell() -> Command:
    torch.save({"state_dict": {"a": Runs()}}, "sent.ckpt")
    return checkpoint()


@hostile("it asks for posix.system")
def checkpoint_in_the_old_format_that_calls_the_shell() -> Command:
    torch.save({"state_dict": {"a": Runs()}}, "sent.ckpt", _use_new_zipfile_serialization=False)
    return checkpoint()


@hostile("an address is not read")
def checkpoint_that_is_an_address() -> Command:
    return *checkpoint()[:-1], "http://127.0.0.1:1/sent.ckpt"


def _packed(path: str) -> None:
    """Write what looks like torch's zip, and whose pickle is gigabytes of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        _zeros(archive, "archive/data.pkl", 4)
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), "little")


@hostile("is packed, which torch.save never does")
def checkpoint_that_becomes_gigabytes() -> Command:
    _packed("sent.ckpt")
    return checkpoint()


# Pickles of published networks and predictors.

CONVERT = ("convert", "sent.pkl", "out.json")
AMED = ("--model", json.dumps({"name": "anisotropic_gaussian"}))


def shared(depth: int) -> Any:
    """Return two of two of two ..., which is small until somebody writes it out."""
    nest: Any = ()
    for _ in range(depth):
        nest = (nest, nest)
    return nest


@hostile("a pickle that names 'posix.system'")
def network_that_calls_the_shell() -> Command:
    Path("sent.pkl").write_bytes(pickle.dumps({"ema": Runs()}))
    return CONVERT


@hostile("more than 20000 modules")
def network_of_modules_shared_by_modules() -> Command:
    def content() -> Any:
        module = edm_object(EDM_UNCONDITIONAL, {})
        for _ in range(30):
            outer = edm_object(EDM_UNCONDITIONAL, {})
            outer._modules = {"a": module, "b": module}
            module = outer
        return {"ema": module}

    write_pickle(Path("sent.pkl"), content)
    return CONVERT


@hostile("argument 'M' is not plain")
def network_whose_option_is_shared_by_itself() -> Command:
    write_pickle(Path("sent.pkl"), lambda: {"ema": edm_object(EDM_UNCONDITIONAL | {"M": shared(60)}, {})})
    return CONVERT


@hostile("beta_d is of type tuple")
def network_whose_levels_are_shared_by_themselves() -> Command:
    def content() -> Any:
        network = edm_object(EDM_UNCONDITIONAL, {"model.conv.weight": torch.zeros(1)}, kind="VPPrecond")
        network.beta_d = shared(60)
        return {"ema": network}

    write_pickle(Path("sent.pkl"), content)
    return CONVERT


@hostile("a pickle of more than 200000 instructions")
def network_of_many_instructions() -> Command:
    Path("sent.pkl").write_bytes(b"\x80\x04" + b"N\x85" * 5_000_000 + b".")
    return CONVERT


@hostile("a pickle of more than 200000 instructions")
def network_of_many_marks() -> Command:
    Path("sent.pkl").write_bytes(b"\x80\x04" + b"(" * 10_000_000 + b".")
    return CONVERT


@hostile("there is no 'ema'")
def network_of_nested_lists() -> Command:
    Path("sent.pkl").write_bytes(b"\x80\x04" + b"]" * 90_000 + b"a" * 89_999 + b".")
    return CONVERT


@hostile("not a pickle, or a damaged one")
def network_of_a_long_number() -> Command:
    Path("sent.pkl").write_bytes(b"\x80\x04" + b"I" + b"9" * 50_000_000 + b"\n.")
    return CONVERT


@hostile("unknown schedule 'payload.Thing'")
def predictor_pickle_of_an_imported_schedule() -> Command:
    settings = AMED_SETTINGS | {"schedule_type": "payload.Thing"}
    state = AMEDPredictor(1, AMED_SETTINGS["scale_dir"], AMED_SETTINGS["scale_time"]).state_dict()
    write_pickle(Path("sent.pkl"), lambda: {"model": predictor_object(settings, state)})
    return *CONVERT, *AMED


@hostile("unknown solver of type tuple")
def predictor_pickle_whose_solver_is_shared_by_itself() -> Command:
    settings = AMED_SETTINGS | {"sampler_stu": shared(60)}
    state = AMEDPredictor(1, AMED_SETTINGS["scale_dir"], AMED_SETTINGS["scale_time"]).state_dict()
    write_pickle(Path("sent.pkl"), lambda: {"model": predictor_object(settings, state)})
    return *CONVERT, *AMED


@hostile("num_steps is of type tuple")
def predictor_pickle_whose_steps_are_shared_by_themselves() -> Command:
    settings = AMED_SETTINGS | {"num_steps": shared(60)}
    state = AMEDPredictor(1, AMED_SETTINGS["scale_dir"], AMED_SETTINGS["scale_time"]).state_dict()
    write_pickle(Path("sent.pkl"), lambda: {"model": predictor_object(settings, state)})
    return *CONVERT, *AMED


# State dicts.

GUIDED = ("convert", "sent.pt", "out.json", "--img_resolution", "16", "--head_channels", "16")


@hostile("nothing was run")
def state_dict_that_calls_the_shell() -> Command:
    torch.save({"a": Runs()}, "sent.pt")
    return GUIDED


@hostile("is packed, which torch.save never does")
def state_dict_that_becomes_gigabytes() -> Command:
    _packed("sent.pt")
    return GUIDED


@hostile("or a damaged one")
def state_dict_whose_storage_ends_beyond_the_file() -> Command:
    content = BytesIO()
    torch.save({"time_embed.0.weight": torch.zeros(1024)}, content)
    content.seek(0)
    with zipfile.ZipFile(content) as old, zipfile.ZipFile("sent.pt", "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                data = data.replace(struct.pack("<H", 1024), struct.pack("<H", 0xFFFF))
            new.writestr(zipfile.ZipInfo(entry.filename), data)
    return GUIDED


@hostile("not the weights of torch-fidelity")
def detector_that_calls_the_shell() -> Command:
    torch.save({"a": Runs()}, "inception.pth")
    two_images()
    detector = {"name": "inception", "path": "inception.pth", "sha256": file_digest(Path("inception.pth"))}
    return "evaluate", "--images", "images", "--dataset", '{"name": "digits"}', "--detector", json.dumps(detector)


@hostile("it should be 6726825d")
def detector_in_the_cache_that_is_another() -> Command:
    path = Path(os.environ["AMED_CACHE"], "detectors", RELEASE.name)
    path.parent.mkdir(parents=True)
    torch.save({"a": Runs()}, path)
    two_images()
    return "evaluate", "--images", "images", "--dataset", '{"name": "digits"}', "--detector", '{"name": "inception"}'


# Statistics.


def statistics(**arrays: Any) -> Command:
    plain = {"mu": np.zeros(64), "sigma": np.eye(64)}
    np.savez("sent.npz", **(plain | arrays))
    two_images()
    return reference(name="statistics", path="sent.npz")


@hostile("not a readable .npz")
def statistics_of_objects() -> Command:
    return statistics(mu=np.array([Runs()], dtype=object))


@hostile("not a readable .npz")
def statistics_whose_word_for_themselves_is_brackets() -> Command:
    return statistics(metadata=np.array(DEEP))


@hostile("not what statistics say of themselves")
def statistics_that_say_something_else_of_themselves() -> Command:
    return statistics(metadata=np.array(json.dumps({"count": "many", "class_counts": 7})))


@hostile("which numbers never do")
def statistics_that_become_gigabytes() -> Command:
    asked = statistics()
    with zipfile.ZipFile("sent.npz", "w") as archive:
        _zeros(archive, "mu.npy", 4)
    return asked


@hostile("not a readable .npz")
def statistics_of_terabytes() -> Command:
    asked = statistics()
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile("sent.npz", "w") as archive:
        archive.writestr("mu.npy", header.getvalue())
    return asked


@hostile("not a readable .npz")
def statistics_that_are_a_pickle() -> Command:
    asked = statistics()
    Path("sent.npz").write_bytes(pickle.dumps(Runs()))
    return asked


# Schedules and captions.


def found(**changes: Any) -> Command:
    content: dict[str, Any] = {
        "sigmas": [80.0, 1.0, 0.1, 0.002],
        "indices": [0, 1, 2, 3],
        "metric": "dev",
        "gamma": 1.0,
    }
    content |= {"afs": True, "model": "0" * 64, "solver": {"name": "euler"}, "teacher": {"name": "heun"}}
    content |= {"schedule": {"name": "logsnr"}, "fine_intervals": 60, "trajectories": 8, "recipe": "0" * 64}
    Path("found.json").write_text(json.dumps(content | changes))
    return sample(schedule={"name": "gits", "path": "found.json"}, afs=True)


@hostile("found for model")
def schedule_for_imported_solvers() -> Command:
    return found(solver=THING, teacher=THING, schedule={"name": "os.system", "command": COMMAND})


@hostile("nested too deeply")
def schedule_of_brackets() -> Command:
    asked = found()
    Path("found.json").write_text(DEEP)
    return asked


@hostile("not a schedule")
def schedule_that_is_a_pipe() -> Command:
    asked = found()
    Path("found.json").unlink()
    os.mkfifo("found.json")
    return asked


def captions(name: str, content: str) -> Command:
    Path(name).write_text(content)
    prompts = {"training": ["a cat"], "evaluation": name}
    return sample({"name": "stable_diffusion", "path": "model", "prompts": prompts})


@hostile("nested too deeply")
def captions_of_brackets() -> Command:
    return captions("sent.json", DEEP)


@hostile("model: no such folder")
def captions_of_brackets_in_a_text() -> Command:
    return captions("sent.txt", DEEP)


# Images.


def picture(name: str, content: bytes) -> Command:
    (images() / name).write_bytes(content)
    return scored()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*each) for each in chunks) + chunk(b"IEND", b"")


def _black(width: int, height: int) -> bytes:
    packer, row = zlib.compressobj(9), bytes(3 * width + 1)
    return b"".join([packer.compress(row) for _ in range(height)] + [packer.flush()])


@hostile("13000 x 13000 pixels")
def image_of_many_pixels() -> Command:
    return picture("a.png", png(13_000, 13_000, (b"IDAT", _black(13_000, 200))))


@hostile("cannot read what made it")
def image_whose_maker_is_brackets() -> Command:
    maker = b"amed-lightning\0\0" + zlib.compress(DEEP.encode())
    return picture("a.png", png(8, 8, (b"zTXt", maker), (b"IDAT", _black(8, 8))))


@hostile("not a readable image")
def image_whose_text_becomes_gigabytes() -> Command:
    text = b"amed-lightning\0\0" + zlib.compress(bytes(1 << 26)) * 4
    return picture("a.png", png(8, 8, (b"zTXt", text), (b"IDAT", _black(8, 8))))


@hostile("an image of format EPS")
def image_that_is_postscript() -> Command:
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(%pipe%{COMMAND}) (w) file\n"
    return picture("a.png", program.encode())


@hostile("several images in one file")
def image_of_many_frames() -> Command:
    head = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 8, 8, 0) + b"\x02\x02\x84\x51\x00"
    return picture("a.gif", head + frame * 1_000_000 + b";")


@hostile("special file")
def image_that_is_a_pipe() -> Command:
    os.mkfifo(images() / "a.png")
    return scored()


@hostile("link to nothing")
def image_that_is_a_link_to_a_device() -> Command:
    (images() / "a.png").symlink_to("/dev/zero")
    return scored()


def zipped(write: Callable[[zipfile.ZipFile], None]) -> Command:
    with zipfile.ZipFile("images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", png(8, 8, (b"IDAT", _black(8, 8))))
        write(archive)
    return "evaluate", "--images", "images.zip", *scored()[3:]


@hostile("8589934592 bytes")
def zip_whose_image_becomes_gigabytes() -> Command:
    return zipped(lambda archive: _zeros(archive, "0.png", 8))


@hostile("8589934592 bytes")
def zip_whose_labels_become_gigabytes() -> Command:
    return zipped(lambda archive: _zeros(archive, "dataset.json", 8))


@hostile("more than the labels of 1 images take")
def zip_whose_labels_are_brackets() -> Command:
    return zipped(lambda archive: archive.writestr("dataset.json", DEEP))


@hostile("torchvision runs a pickle")
def dataset_with_a_pickle_beside_it() -> Command:
    folder = Path("lsun", "bedroom_val_lmdb")
    folder.mkdir(parents=True)
    lmdb.open(str(folder), map_size=1 << 20).close()
    letters = "".join(letter for letter in str(folder) if letter.isalpha())
    (folder / f"_cache_{letters}").write_bytes(pickle.dumps(Runs()))
    two_images()
    return reference(name="torchvision", dataset="LSUN", root="lsun", options={"classes": ["bedroom_val"]})


# Latent models.


def latent(change: Callable[[Path], None], name: str = "latent_diffusion") -> Command:
    from ..denoisers import pipelines

    getattr(pipelines, name)(Path("model"))
    change(Path("model"))
    return sample({"name": name, "path": "model"} | ({"prompts": {}} if name == "stable_diffusion" else {}))


def configured(part: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = next((folder / part).glob("*config.json"))
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@hostile("asks for a larger network")
def latent_model_of_wide_layers() -> Command:
    return latent(configured("unet", block_out_channels=[1 << 14, 1 << 14]))


@hostile("asks for a larger network")
def latent_model_of_many_layers() -> Command:
    return latent(configured("unet", layers_per_block=1 << 30))


@hostile("there are 1 to 100000")
def latent_model_of_many_steps() -> Command:
    return latent(configured("scheduler", num_train_timesteps=1 << 30))


@hostile("nested too deeply")
def latent_model_of_brackets() -> Command:
    return latent(lambda folder: (folder / "unet" / "config.json").write_text(DEEP))


@hostile("Unable to load weights from checkpoint file")
def latent_model_whose_weights_call_the_shell() -> Command:
    def change(folder: Path) -> None:
        (weights,) = (folder / "unet").glob("*.safetensors")
        torch.save({"conv_in.weight": Runs(), "more": torch.zeros(1 << 16)}, weights.with_suffix(".bin"))
        weights.unlink()

    return latent(change)


@hostile("is packed, which torch.save never does")
def latent_model_whose_weights_become_gigabytes() -> Command:
    def change(folder: Path) -> None:
        (weights,) = (folder / "unet").glob("*.safetensors")
        _packed(str(weights.with_suffix(".bin")))
        weights.unlink()

    return latent(change)


@hostile("names another model")
def latent_model_that_names_another() -> Command:
    def change(folder: Path) -> None:
        adapter = {"base_model_name_or_path": "somebody/else", "peft_type": "LORA"}
        (folder / "unet" / "adapter_config.json").write_text(json.dumps(adapter))

    return latent(change)


@hostile("it asks for posix.system")
def latent_checkpoint_that_calls_the_shell() -> Command:
    latent(lambda folder: None)
    torch.save({"state_dict": {"a": Runs()}}, "sent.ckpt")
    return sample({"name": "latent_diffusion", "path": "sent.ckpt", "config": "model"})


# What a run left, or somebody else instead.


@hostile("nested too deeply")
def golden_rows_of_brackets() -> Command:
    folder = Path("golden", hardware(torch.device("cpu")))
    folder.mkdir(parents=True)
    (folder / "small.json").write_text('{"rows": ' + DEEP)
    bench()
    Path("nightly.yaml").write_text("suite: suite.yaml\ngolden: golden\n")
    return "bench", "nightly", "--config", "nightly.yaml", "--accelerator", "cpu"


@hostile("by its aliases it stands for more")
def suite_of_aliases_of_aliases() -> Command:
    bench()
    lines = [f"m{n}: &m{n} [{', '.join([f'*m{n - 1}'] * 9)}]" for n in range(1, 12)]
    Path("suite.yaml").write_text("\n".join(["m0: &m0 [1]", *lines]))
    return "bench", "--config", "suite.yaml", "--dry-run"


def quietly(*command: str) -> None:
    """Run a command that is to leave something to be changed."""
    with suppress(SystemExit):
        main(command)


def fit(route: str = "network", verb: str = "fit") -> Command:
    content: dict[str, Any] = yaml.safe_load((CONFIGS.parent / "amed.yaml").read_text())
    student = {"model": GAUSSIAN, "solver": {"name": "amed"}, "schedule": {"name": "logsnr"}, "num_intervals": 2}
    options = {"student": student, "route": {"name": route}, "export": "predictor.json"}
    content["model"]["init_args"] = options
    few = {"trajectories": 8, "validation_trajectories": 8, "batch_size": 8, "root": "store"}
    content["data"]["init_args"] = few | {"teacher": {"solver": {"name": "euler"}, "batch_size": 8}}
    content["trainer"] |= {"max_epochs": 1, "logger": False, "default_root_dir": "run"}
    Path("fit.yaml").write_text(yaml.safe_dump(content))
    return verb, "--config", "fit.yaml"


def stored(name: str, route: str = "network") -> tuple[Command, Path]:
    """Precompute, and return the command that fits and a file that it will read."""
    quietly(*fit(route, "precompute"))
    return fit(route), next(Path("store").rglob(name))


@hostile("not a shard of trajectories")
def manifest_of_brackets() -> Command:
    command, path = stored("manifest.json")
    path.write_text(DEEP)
    return command


@hostile("precompute` again")
def trajectories_that_are_noise() -> Command:
    command, path = stored("data.mdb")
    size = path.stat().st_size
    path.write_bytes(np.random.default_rng(0).bytes(size))
    return command


@hostile("not a table")
def table_of_brackets() -> Command:
    quietly(*fit("table", "precompute"))
    for path in Path("store").rglob("*.json"):
        if path.with_suffix(".safetensors").is_file():
            path.write_text(DEEP)
    return fit("table")


@hostile("", code=0)
def rows_of_brackets() -> Command:
    quietly(*bench()[:-1], "--accelerator", "cpu")
    for path in Path("runs").rglob("rows/*.json"):
        path.write_text(DEEP)
    return bench()[:-1]


# What would be fetched, where that is forbidden.


@hostile("forbids the network")
def card_whose_model_is_on_the_hub_offline() -> Command:
    return "--offline", *sample(card(model={"name": "latent_diffusion", "path": "somebody/model"}))


@hostile("forbids the network", code=1)
def card_whose_file_is_elsewhere_offline() -> Command:
    card()
    return "--offline", "models", "fetch", "cifar10.yaml"


@hostile("no such file")
def configuration_that_is_an_address_offline() -> Command:
    return "--offline", "fit", "--config", "http://192.0.2.1/fit.yaml"


@hostile("forbids the network")
def dataset_that_would_be_fetched_offline() -> Command:
    two_images()
    return "--offline", *reference(
        name="torchvision", dataset="MNIST", root=".", options={"train": True, "download": True}
    )
