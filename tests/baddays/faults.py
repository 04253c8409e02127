"""The table of faults: what is wrong, what is run, and how it must end.

A fault is made before the command starts, in its folder (``before``) or in its process (``within``). Three things may
follow: the command does not mind (0), it is refused before it works (2), or it ends under way (1), and a night that
cannot be decided with 3. What is refused or ends names what is wrong.
"""

import contextlib
import json
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amed_lightning.config import digest

from .scene import PREDICTOR, VERBS, change

NOBODY = 65534
KILOBYTE = 1024


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: of it, as a sentence.
        verb: a key of ``VERBS``, or a command.
        code: that the command ends with.
        says: what its line must name, a regular expression.
        before: makes the fault in the command's folder.
        within: makes it in the command's process.
        goes_on: whether the same command is fine once the fault is gone.
        same: folder of images that must be those of the finished ones, where the command does not mind.
        disk: bytes of a file system of its own that is mounted at ``small``, which needs root.
    """

    name: str
    verb: str
    code: int
    says: str = ""
    before: Callable[[Path], object] = lambda folder: None
    within: Callable[[], object] = lambda: None
    goes_on: bool = False
    same: str = ""
    disk: int = 0

    @property
    def command(self) -> str:
        return VERBS.get(self.verb, self.verb)


def files_of_at_most(size: int) -> Callable[[], None]:
    """Let no file grow beyond so many bytes, as a quota does."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def as_nobody() -> None:
    """Be a user who owns nothing."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def variables(**values: str | None) -> Callable[[], None]:
    def put() -> None:
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    return put


def folder_at(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).mkdir(parents=True)


def text_at(name: str, content: str | bytes = "something else") -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return put


def mode(name: str, bits: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).chmod(bits)


def closed_to_all(name: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0)

    return put


def filled(name: str) -> Callable[[Path], None]:
    """Fill a disk to its last byte."""

    def put(folder: Path) -> None:
        with contextlib.suppress(OSError), (folder / name / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(KILOBYTE))

    return put


def both(*parts: Callable[[Path], object]) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        for part in parts:
            part(folder)

    return put


def resigned(**changes: Any) -> Callable[[Path], None]:
    """Change a predictor's description and give it the digest that it then has."""

    def put(folder: Path) -> None:
        path = folder / PREDICTOR
        content = json.loads(path.read_text())
        for key, value in changes.items():
            if key in content["options"] or key == "surprise":
                content["options"][key] = value
            else:
                content[key] = value
        signed = {key: content[key] for key in ("options", "purpose", "weights_sha256", "kind") if key in content}
        path.write_text(json.dumps(content | {"digest": digest(signed)}))

    return put


def without_option(key: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        path = folder / PREDICTOR
        content = json.loads(path.read_text())
        del content["options"][key]
        signed = {key: content[key] for key in ("options", "purpose", "weights_sha256", "kind") if key in content}
        path.write_text(json.dumps(content | {"digest": digest(signed)}))

    return put


def cut(name: str, size: int) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (path,) = folder.glob(name)
        os.truncate(path, size)

    return put


def appended(name: str, text: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return put


def output_to(path: str) -> Callable[[], None]:
    def put() -> None:
        handle = os.open(path, os.O_WRONLY)
        os.dup2(handle, 1)

    return put


def output_without_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def gone() -> None:
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")


def few_open_files() -> None:
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, free + 1))


def little_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 16 * KILOBYTE**2,) * 2)


SMALL = "sample --config sample.yaml --output small/new --accelerator cpu"
FIT_IN_SMALL = (
    "fit --config fit.yaml --data.root {store} --trainer.default_root_dir {run} --model.export {run}/predictor.json "
    "--trainer.logger.init_args.save_dir {charts}"
)
FULL = "No space left on device; make room there; what is finished is kept, and the same command goes on"


def fit_in(**places: str) -> str:
    return FIT_IN_SMALL.format(**{"store": "store", "run": "run", "charts": "run"} | places)


DISKS = [
    Fault("the disk of samples is full", SMALL, 1, rf"small/new.*: {FULL}", disk=8, goes_on=True),
    Fault(
        "the disk of a grid is full",
        "sample --config sample.yaml --output small/g.png --accelerator cpu",
        1,
        rf"small/\S*: {FULL}",
        filled("small"),
        disk=4,
        goes_on=True,
    ),
    Fault(
        "the disk of scores is full",
        "evaluate --config images.yaml --output small/scores.json --accelerator cpu",
        1,
        rf"small/scores.json: {FULL}",
        before=filled("small"),
        disk=4,
        goes_on=True,
    ),
    Fault(
        "the disk of statistics is full",
        "reference --output small/reference.npz --accelerator cpu",
        1,
        rf"small/reference.npz: {FULL}",
        disk=8,
        goes_on=True,
    ),
    Fault(
        "the disk of a schedule is full",
        f"{VERBS['schedule']} --search.output small/found.json",
        1,
        rf"small/found.json: {FULL}",
        before=filled("small"),
        disk=4,
        goes_on=True,
    ),
    Fault(
        "the disk of a teacher's shard is full",
        "precompute --config fit.yaml --data.root small/store",
        1,
        rf"small/store/.*/(training|validation)-\d+-\d+: {FULL}",
        disk=64,
        goes_on=True,
    ),
    Fault(
        "the disk is full before the first shard",
        "precompute --config fit.yaml --data.root small/store",
        1,
        rf"small/store.*: {FULL}",
        disk=4,
        goes_on=True,
    ),
    Fault(
        "the disk of a table is full",
        "precompute --config fit.yaml --data.root small/store",
        1,
        rf"small/store.*: {FULL}",
        disk=300,
        goes_on=True,
    ),
    Fault("the disk of a run is full at once", fit_in(run="small/run"), 1, rf"small/run.*: {FULL}", disk=8),
    Fault("the disk of a run is full at its predictor", fit_in(run="small/run"), 1, rf"small/run.*: {FULL}", disk=28),
    Fault("the disk of a run is full at its checkpoint", fit_in(run="small/run"), 1, rf"small/run.*: {FULL}", disk=72),
    Fault("the disk of charts is full", fit_in(charts="small/charts"), 1, f"TensorBoard's files: {FULL}", disk=4),
    Fault(
        "the disk of a sweep is full at once",
        "bench --config suite.yaml --output small/bench --accelerator cpu",
        1,
        rf"small/bench/small.*: {FULL}",
        disk=4,
        goes_on=True,
    ),
    Fault(
        "the disk of a sweep is full at a block",
        "bench --config suite.yaml --output small/bench --accelerator cpu",
        1,
        rf"small/bench/small/.*: {FULL}",
        disk=96,
        goes_on=True,
    ),
    Fault(
        "the disk of a sweep is full later",
        "bench --config suite.yaml --output small/bench --accelerator cpu",
        1,
        rf"small/bench/small/.*: {FULL}",
        disk=160,
        goes_on=True,
    ),
    Fault(
        "the disk of a sweep's images is full",
        "bench --config suite.yaml --output small/bench --images --accelerator cpu",
        1,
        rf"small/bench/small/.*: {FULL}",
        disk=220,
        goes_on=True,
    ),
    Fault(
        "the disk of a night is full",
        "bench nightly --config nightly.yaml --accelerator cpu",
        3,
        r"nights/small/.*: No space left on device",
        before=lambda folder: (folder / "nights").symlink_to("small"),
        disk=96,
        goes_on=True,
    ),
    Fault(
        "the disk of a night's board is full",
        "bench nightly --config nightly.yaml --accelerator cpu",
        3,
        "No space left on device",
        before=both(
            lambda folder: __import__("shutil").rmtree(folder / "board"),
            lambda folder: (folder / "board").symlink_to("small"),
        ),
        disk=4,
        goes_on=True,
    ),
]

QUOTAS = [
    Fault(
        f"no file may be over {size} bytes: {verb}",
        verb,
        1,
        r": File too large; raise .*ulimit -f",
        within=files_of_at_most(size),
    )
    for verb, size in (
        ("sample", 500),
        ("reference", KILOBYTE),
        ("schedule", 512),
        ("precompute", 8 * KILOBYTE),
        ("precompute", 200 * KILOBYTE),
        ("fit", 2 * KILOBYTE),
        ("fit", 500 * KILOBYTE),
        ("bench", 512),
        ("bench", 8 * KILOBYTE),
        ("table", 512),
        ("plot", KILOBYTE),
    )
]

PLACES = [
    Fault("samples go to a file", "sample", 2, "new: is a file", text_at("new")),
    Fault("a grid goes to a folder", "grid", 2, "new.png: is a folder", folder_at("new.png")),
    Fault("samples go below a file", f"{SMALL}", 2, "small.* is a file", text_at("small")),
    Fault("scores go to a folder", "evaluate", 2, "scores.json: is a folder", folder_at("scores.json")),
    Fault("statistics go to a folder", "reference", 2, "reference.npz: is a folder", folder_at("reference.npz")),
    Fault("a schedule goes to a folder", "schedule", 2, "found.json: is a folder", folder_at("found.json")),
    Fault("a store is a file", "precompute", 2, "store.* is a file", text_at("store")),
    Fault("a run is a file", "fit", 2, "run.* is a file", text_at("run")),
    Fault("a predictor is a folder", "fit", 1, "predictor.json: Is a directory", folder_at("run/predictor.json")),
    Fault("a checkpoint is a folder", "fit", 1, "last.ckpt: Is a directory", folder_at("run/last.ckpt")),
    Fault("charts are a file", "fit", 1, "run/charts", text_at("run/charts")),
    Fault("a sweep's folder is a file", "bench", 2, "bench.* is a file", text_at("bench/small")),
    Fault("all sweeps' folder is a file", "bench", 2, "bench.* is a file", text_at("bench")),
    Fault("the rows' folder is a file", "bench", 1, "bench/small/rows", text_at("bench/small/rows")),
    Fault("nights are a file", "nightly", 3, "nights.* is a file", text_at("nights")),
    Fault("a link leads to itself", "sample", 2, "new", lambda folder: (folder / "new").symlink_to("new")),
    Fault("a name is too long", f"sample --config sample.yaml --output {'n' * 300} --accelerator cpu", 2, "nnn"),
]

RIGHTS = [
    Fault(f"a folder is another user's: {verb}", verb, 2, f"{place}.*may not be written", mode(".", 0o755), as_nobody)
    for verb, place in (
        ("sample", "new"),
        ("grid", "new.png"),
        ("evaluate", "scores.json"),
        ("reference", "reference.npz"),
        ("schedule", "found.json"),
        ("precompute", "store"),
        ("fit", "run"),
        ("bench", "bench"),
    )
] + [
    Fault(
        "a night's folder is another user's",
        "nightly",
        3,
        "nights.*may not be written",
        mode(".", 0o755),
        as_nobody,
    ),
    Fault("a YAML may not be read", "sample", 2, "sample.yaml", mode("sample.yaml", 0), as_nobody),
    Fault("a suite may not be read", "bench", 2, "suite.yaml", mode("suite.yaml", 0), as_nobody),
    Fault("images may not be read", "evaluate", 2, "done/images", mode("done/images", 0), as_nobody),
    Fault("a predictor may not be read", "learned", 2, "predictor.json", mode(PREDICTOR, 0), as_nobody),
    Fault(
        "weights may not be read",
        "learned",
        1,
        "predictor.safetensors: Permission denied",
        mode("done/run/predictor.safetensors", 0),
        as_nobody,
    ),
    Fault("a finished sweep may not be written", "table", 2, "done/bench", mode("done/bench/small", 0o555), as_nobody),
]

FILES = [
    Fault("a YAML is a folder", "sample --config done", 2, "done"),
    Fault(
        "a YAML is Latin-1", "sample", 2, "sample.yaml.*UTF-8", text_at("sample.yaml", "output: Bär".encode("latin-1"))
    ),
    Fault("a fit's YAML is Latin-1", "fit", 2, "fit.yaml.*UTF-8", text_at("fit.yaml", "a: Bär".encode("latin-1"))),
    Fault("a suite is Latin-1", "bench", 2, "suite.yaml.*UTF-8", text_at("suite.yaml", "name: Bär".encode("latin-1"))),
    Fault("a YAML has a zero byte", "sample", 2, "config|sample.yaml", text_at("sample.yaml", b"seeds: \x00")),
    Fault("a YAML is empty", "sample", 2, "sample.yaml|onfig", text_at("sample.yaml", "")),
    Fault("a key stands twice", "sample", 2, "'seeds' stands twice", appended("sample.yaml", "seeds: 0-1\n")),
    Fault("a suite's key stands twice", "bench", 2, "'name' stands twice", appended("suite.yaml", "name: a\n")),
    Fault(
        "a fit's key stands twice",
        "fit",
        2,
        "'seed_everything' stands twice",
        appended("fit.yaml", "seed_everything: 1\n"),
    ),
    Fault(
        "a number may be octal", "sample", 2, "017 may be decimal or octal", appended("sample.yaml", "guidance: 017\n")
    ),
    Fault("a predictor is empty", "learned", 2, "predictor.json", text_at(PREDICTOR, "")),
    Fault("a predictor is a list", "learned", 2, "predictor.json", text_at(PREDICTOR, "[1]")),
    Fault(
        "a predictor's weights are cut off",
        "learned",
        2,
        "predictor.safetensors",
        cut("done/run/predictor.safetensors", 100),
    ),
    Fault("golden rows are cut off", "nightly", 2, "golden/.*json", cut("golden/*/*.json", 30)),
    Fault("an image is cut off", "evaluate", 2, "000001.png", cut("done/images/000001.png", 40)),
    Fault("a plan is cut off", "table", 2, "plan.json", cut("done/bench/small/plan.json", 30)),
]

RESIGNED = [
    Fault(f"a predictor was signed anew with {changes}", "learned", 2, "predictor.json", resigned(**changes))
    for changes in (
        {"surprise": 1},
        {"feature_size": "wide"},
        {"feature_size": -3},
        {"feature_size": 10**6},
        {"options": 7},
        {"options": [1]},
        {"purpose": 7},
        {"weights_sha256": None},
        {"kind": ["predictor"]},
        {"kind": "nothing"},
    )
] + [Fault("a predictor lost its size", "learned", 2, "predictor.json", without_option("feature_size"))]

VALUES = [
    Fault("seeds are a number", "sample --config sample.yaml --output new --seeds 3", 0),
    Fault("seeds are a list", "sample", 2, "seeds", change("sample", "seeds", value=[0, 3])),
    Fault("an output is a number", "sample", 2, "output", change("sample", "output", value=7)),
    Fault("a name is a number", "sample", 2, "name", change("sample", "sampler", "solver", "name", value=7)),
    Fault("a name is off", "sample", 2, "name", change("sample", "sampler", "solver", "name", value=False)),
    Fault("a solver is a text", "sample", 0, before=change("sample", "sampler", "solver", value="euler")),
    Fault("a suite's name is a number", "bench", 2, "name", change("suite", "name", value=7)),
    Fault("a suite's name is a list", "bench", 2, "name", change("suite", "name", value=["a"])),
    Fault("entries are a text", "bench", 2, "entries", change("suite", "entries", value="euler")),
    Fault(
        "an NFE is a text",
        "bench",
        0,
        before=change(
            "suite", "entries", value=[{"solver": {"name": "euler"}, "schedules": [{"name": "logsnr"}], "nfe": ["4"]}]
        ),
    ),
    Fault(
        "a folder of runs is a list",
        "fit",
        2,
        "default_root_dir",
        change("fit", "trainer", "default_root_dir", value=[1]),
    ),
    Fault("a store's root is a number", "fit", 2, "root", change("fit", "data", "init_args", "root", value=7)),
    Fault(
        "a predictor's path is a list", "fit", 2, "export", change("fit", "model", "init_args", "export", value=["a"])
    ),
    Fault(
        "trajectories are a text",
        "fit",
        2,
        "trajectories",
        change("fit", "data", "init_args", "trajectories", value="many"),
    ),
    Fault("metrics are a text", "evaluate", 2, "metrics", change("images", "metrics", value="fid")),
    Fault("a detector is a number", "evaluate", 2, "detector", change("images", "detector", value=7)),
    Fault("golden is a list", "nightly", 2, "golden", change("nightly", "golden", value=[1])),
]

SURROUNDINGS = [
    *(
        Fault(f"OMP_NUM_THREADS is {value!r}", "sample", code, says, within=variables(OMP_NUM_THREADS=value), same=same)
        for value, code, says, same in (
            ("", 0, "", "new"),
            ("4,3,2", 0, "", "new"),
            ("0", 2, "OMP_NUM_THREADS is '0'", ""),
            ("many", 2, "OMP_NUM_THREADS is 'many'", ""),
            ("-1", 2, "OMP_NUM_THREADS is '-1'", ""),
        )
    ),
    Fault("there is no HOME", "sample", 0, within=variables(HOME=None), same="new"),
    Fault(
        "there is no HOME and no user",
        "models",
        1,
        "set HOME",
        within=lambda: (variables(HOME=None, XDG_CACHE_HOME=None, AMED_CACHE=None)(), os.setuid(4_000_000)),
    ),
    Fault("HOME is a file", "models", 0, before=text_at("home"), within=variables(HOME="home")),
    Fault(
        "the cache is a file",
        "models fetch cifar10",
        1,
        before=text_at("cache"),
        within=variables(AMED_CACHE="cache", AMED_OFFLINE="1"),
    ),
    Fault("nobody reads what is printed", "models", 1, within=output_without_reader),
    Fault("nobody reads a table", "table", 1, within=output_without_reader),
    Fault(
        "what is printed goes to a full disk",
        "models",
        1,
        "standard output.*No space",
        within=lambda: output_to("/dev/full")(),
    ),
    Fault(
        "a table is printed to a full disk",
        "table",
        1,
        "standard output.*No space",
        within=lambda: output_to("/dev/full")(),
    ),
    Fault(
        "help is printed to a full disk",
        "--help",
        1,
        "standard output.*No space",
        within=lambda: output_to("/dev/full")(),
    ),
    Fault("the working directory is gone", "models", 2, "the working directory is gone", within=gone),
    Fault("no more files can be opened", "sample", 1, "Too many open files; raise .*ulimit -n", within=few_open_files),
    Fault(
        "SLURM counts in words",
        "fit",
        2,
        "SLURM_RESTART_COUNT",
        within=variables(SLURM_RESTART_COUNT="x", SLURM_JOB_ID="1"),
    ),
    Fault(
        "SLURM's tasks are no number",
        "bench --config suite.yaml --output bench --devices 2 --accelerator cpu",
        2,
        "SLURM_NTASKS",
        within=variables(SLURM_NTASKS="x", SLURM_JOB_NAME="fit"),
    ),
    Fault("an umlaut in a name", "sample --config sample.yaml --output Bär --accelerator cpu", 0, same="Bär"),
    Fault(
        "files are of the future",
        "fit",
        0,
        before=lambda folder: [os.utime(path, (2e9, 2e9)) for path in folder.rglob("*")],
    ),
    Fault("a temporary folder is missing", "sample", 0, within=variables(TMPDIR="/nowhere"), same="new"),
]

LEFT = [
    Fault("a full disk left a lock empty", "fit", 0, before=text_at("run/run.lock", "")),
    Fault("a full disk cut a lock off", "fit", 0, before=text_at("run/run.lock", '{"job": nul')),
    Fault(
        "a lock is another program's",
        "fit",
        2,
        "run.lock: not a lock of this program",
        text_at("run/run.lock", "pid 7"),
    ),
    Fault("a lock is a folder", "fit", 2, "run.lock", folder_at("run/run.lock")),
    Fault(
        "a killed writer left half an image",
        "sample",
        0,
        before=text_at(f"new/.000001.png.{os.uname().nodename}.unfinished", "x" * 9999),
        same="new",
    ),
]

NIGHTS = [
    Fault(
        "a night's weights are gone",
        "nightly",
        3,
        "nowhere.json",
        change("suite", "datasets", 0, "model", value={"name": "file", "path": "nowhere.json"}),
    ),
    Fault("a night's device is gone", "bench nightly --config nightly.yaml --accelerator gpu", 3, "accelerator"),
    Fault(
        "a night's library is missing",
        "nightly",
        3,
        "nobodys.Model.*No module named 'nobodys'",
        change("suite", "datasets", 0, "model", value={"name": "nobodys.Model"}),
    ),
    Fault("a night's YAML is wrong", "nightly", 2, "nowhere.yaml", change("nightly", "suite", value="nowhere.yaml")),
]

FAULTS = [*DISKS, *QUOTAS, *PLACES, *RIGHTS, *FILES, *RESIGNED, *VALUES, *SURROUNDINGS, *LEFT, *NIGHTS]
