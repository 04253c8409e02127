"""What each verb takes on the command line.

Nothing here needs torch, so that a page of help, and the refusal of an option, come at once: a verb's own module is
imported when its arguments have been read.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from amed_lightning.cli.parsing import Parser, parser_for
from amed_lightning.denoisers.untold import Untold
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.teacher.wanted import ScheduleSearch

CONFIG = "--config"
SHORT = "-c"
ACTIONS = {
    "bench": ("run", "table", "plot", "report", "recipes", "compare", "nightly"),
    "models": ("list", "fetch", "verify"),
    "stores": ("list", "prune"),
    "list": ("solvers", "schedules", "models", "detectors", "datasets", "metrics"),
}
"""Verbs of several actions; the first is meant where none is named."""
TRAINING = ("fit", "validate", "precompute")
"""Verbs whose YAML names classes, which Lightning's own parser reads."""
ALL = "--help-all"


def _training(command: str) -> Parser:
    purposes = {
        "fit": "Distil a predictor, or train a denoiser or a detector, from a YAML file.",
        "validate": "Compute the validation loss of a checkpoint.",
        "precompute": "Compute the teacher's trajectories that a fit will read.",
    }
    parser = Parser(
        prog=f"amed-lightning {command}",
        usage=f"amed-lightning {command} FILE [--KEY VALUE ...]",
        description=purposes[command],
        epilog="Any value of the YAML is an option: --model.rate 0.01, --data.trajectories 1024, --trainer.max_epochs "
        f"8. `amed-lightning {command} {ALL}` lists Lightning's own.",
    )
    parser.add_argument(SHORT, CONFIG, metavar="FILE", help="YAML file: model, data, trainer; or a name: digits/amed-5")
    parser.add_argument("--model", metavar="CLASS", help="what is trained, as model.class_path of the YAML")
    parser.add_argument("--data", metavar="CLASS", help="what it is trained on, as data.class_path")
    parser.add_argument("--seed_everything", metavar="SEED", help="seed of weights and orders")
    parser.add_argument("--trainer.default_root_dir", metavar="FOLDER", help="where all that the run makes is kept")
    parser.add_argument("--trainer.max_epochs", metavar="COUNT", help="when to end")
    parser.add_argument("--trainer.accelerator", metavar="NAME", help="cpu, gpu, or auto")
    parser.add_argument("--trainer.devices", metavar="COUNT", help="processes, one device or CPU thread each")
    if command == "precompute":
        parser.add_argument("--dry-run", action="store_true", help="print what it would take, and write nothing")
    else:
        parser.add_argument("--ckpt_path", metavar="FILE", help="checkpoint; if none is named, the run's own last one")
    if command == "fit":
        parser.add_argument("--checkpoint.every_n_batches", metavar="COUNT", help="how often to save")
        parser.add_argument("--checkpoint.every_n_minutes", metavar="MINUTES", help="how often to save (default: 10)")
    parser.add_argument("--print_config", action="store_true", help="print the whole configuration, and end")
    parser.add_argument(ALL, action="store_true", help="print every option there is, and end")
    return parser


def _sample(command: str) -> Parser:
    parser = _configured(command, "Write images for a range of seeds.")
    parser.add_argument("--seeds", default="0-63", help="first and last seed")
    parser.add_argument("--classes", type=list[int], default=[], help="labels to take in turn, not each seed's own")
    parser.add_argument("--prompt", action="append", default=[], help="for the seeds to take in turn; may be repeated")
    parser.add_argument("--guidance", type=float | None, default=None, help="scale of a text model's guidance")
    parser.add_argument("--batch_size", type=PositiveInt, default=64, help="samples per network run")
    parser.add_argument("--output", type=Path, default=Path("runs/samples"), help="folder, or a .png for a grid")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier `sample` wrote there")
    parser.add_class_arguments(SamplerConfig, "sampler")
    return parser


def _evaluate(command: str) -> Parser:
    parser = _configured(command, "Score a sampler, or images in a folder or a zip, with FID, IS and more.")
    for name, purpose in (("sampler", "what to score; or name --images"), ("teacher", "whose images to compare with")):
        parser.add_argument(f"--{name}", type=SamplerConfig | None, default=None, enable_path=True, help=purpose)
    parser.add_argument("--images", type=Path | None, default=None, help="folder or zip of images to score instead")
    parser.add_argument("--detector", type=dict[str, Any], default={"name": "digits"}, help="name and options")
    parser.add_argument("--dataset", type=dict[str, Any], default={"name": "digits"}, help="the real images")
    parser.add_argument(
        "--metrics", type=list[str | dict[str, Any]], default=["fid", "is"], help="of those of `list metrics`"
    )
    parser.add_argument("--seeds", default="0-2047", help="first and last seed of the sampler")
    parser.add_argument("--batch_size", type=PositiveInt, default=256, help="images at a time")
    parser.add_argument("--output", type=Path | None, default=None, help="also write the scores to this JSON file")
    return parser


def _reference(command: str) -> Parser:
    parser = _configured(command, "Show real images to a detector and keep what FID, KID, precision and recall need.")
    parser.add_argument("--detector", type=dict[str, Any], default={"name": "digits"}, help="name and options")
    parser.add_argument("--dataset", type=dict[str, Any], default={"name": "digits"}, help="the real images")
    parser.add_argument("--features", type=bool, default=False, help="keep them, for KID, precision and recall")
    parser.add_argument("--batch_size", type=PositiveInt, default=256, help="images at a time")
    parser.add_argument("--output", type=Path, required=True, help="the .npz file to write")
    return parser


def _schedule(command: str) -> Parser:
    parser = _configured(command, "Choose a few-step schedule among a fine teacher's levels (GITS).")
    parser.add_argument("--devices", type=int, default=1, help="processes that share the teacher's work")
    parser.add_class_arguments(ScheduleSearch, "search")
    return parser


def _stores(command: str) -> Parser:
    parser = Parser(prog=f"amed-lightning {command}", description="Trajectories and tables: list, prune.")
    parser.add_argument("--root", type=Path, default=Path("runs/trajectories"), help="folder of the stores (data.root)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs that may need them")
    parser.add_argument(CONFIG, nargs="*", default=[], help="YAML files or names of fits that may need them, too")
    if command == "stores prune":
        parser.add_argument("--yes", action="store_true", help="remove; without it, only say what would be removed")
    return parser


def _models(command: str) -> Parser:
    parser = Parser(
        prog=f"amed-lightning {command}",
        description=f"Published models: {', '.join(ACTIONS['models'])} (default: list).",
    )
    parser.add_argument("cards", nargs="*", help="names, or paths of your own; all if none, but fetch wants them named")
    parser.add_argument("--for", type=Path | None, default=None, help="fetch: the YAML of a suite, all that it loads")
    if command == "models list":
        parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _list(command: str) -> Parser:
    _, what = command.split()
    parser = Parser(prog=f"amed-lightning {command}", description=f"The {what} that a YAML can name, with options.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _doctor(command: str) -> Parser:
    description = "Versions, devices, SLURM, caches, and who owns a script."
    parser = Parser(prog=f"amed-lightning {command}", description=description)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _convert(command: str) -> Parser:
    description = "Turn a published network or AMED predictor into safetensors and a JSON, without running it."
    parser = Parser(prog=f"amed-lightning {command}", description=description)
    parser.add_argument(CONFIG, action="config", help="YAML file with these options")
    parser.add_argument("source", type=Path, help="a .pkl of EDM's, a .pt of OpenAI's, or a .pkl of AMED's")
    parser.add_argument("destination", type=Path, help="the .json to write; the weights go beside it")
    parser.add_class_arguments(Untold)
    parser.add_argument(
        "--model", type=dict[str, Any] | None, default=None, help="name and options of the model of an AMED predictor"
    )
    return parser


def _export(command: str) -> Parser:
    parser = Parser(prog=f"amed-lightning {command}", description="Write a sampler for another program.")
    parser.add_argument(CONFIG, action="config", help="YAML file with these options")
    parser.add_argument("source", type=Path, help="the .json that a fit has written, or a YAML as `sample` takes it")
    parser.add_argument("folder", type=Path, help="the new folder")
    parser.add_argument("--to", required=True, choices=["diffusers", "comfyui", "torch", "onnx"], help="the program")
    return parser


def _new(command: str) -> Parser:
    description = "Copy configurations, a suite and cluster scripts of the digits to begin with."
    parser = Parser(prog=f"amed-lightning {command}", description=description)
    parser.add_argument("folder", type=Path, help="where to; nothing that is there is replaced")
    return parser


def _completion(command: str) -> Parser:
    parser = Parser(prog=f"amed-lightning {command}", description="Print a script that completes commands in a shell.")
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="source what is printed in its start file")
    return parser


def _bench_run(command: str) -> Parser:
    parser = _suite(command, f"Sweep a suite, then tabulate and plot. Actions: {', '.join(ACTIONS['bench'])}.")
    _add_processes(parser)
    parser.add_argument("--images", action="store_true", help="also write every image as a PNG file")
    parser.add_argument("--dry-run", action="store_true", help="print what would be computed, and how long it takes")
    parser.add_argument("--seconds_per_run", type=float | None, default=None, help="of a micro-batch, for --dry-run")
    parser.add_argument("--screen", action="store_true", help="first rank all on few images; leave out what is beaten")
    return parser


def _bench_table(command: str) -> Parser:
    return _suite(command, "Tabulate what a sweep has finished.")


def _bench_plot(command: str) -> Parser:
    parser = _suite(command, "Draw FID and IS against NFE, and sample grids.")
    _add_schedule(parser)
    parser.add_argument("--picture", type=Path | None, default=None, help="of the scores: .png, .pdf, .svg")
    return parser


def _bench_report(command: str) -> Parser:
    parser = _suite(command, "Write one page of HTML that needs no network: scores, samples, cost, provenance.")
    _add_schedule(parser)
    parser.add_argument("--page", type=Path | None, default=None, help="of HTML; report.html beside the tables")
    return parser


def _bench_recipes(command: str) -> Parser:
    parser = Parser(
        prog=f"amed-lightning {command}", description="Print what `fit` is to be told for all that a suite takes."
    )
    parser.add_argument(CONFIG, type=Path, required=True, help="the suite's YAML file")
    return parser


def _add_schedule(parser: Parser) -> None:
    parser.add_argument(
        "--on_schedule", type=str | None, default=None, help="on which all are drawn; else each on its best"
    )


def _bench_compare(command: str) -> Parser:
    parser = Parser(prog=f"amed-lightning {command}", description="Compare two sweeps, cell by cell.")
    parser.add_argument("before", type=Path, help="folder of the sweep A")
    parser.add_argument("after", type=Path, help="folder of the sweep B")
    parser.add_argument("--output", type=Path | None, default=None, help="also write the tables to this Markdown file")
    return parser


def _bench_nightly(command: str) -> Parser:
    parser = parser_for(command, "Run a suite and compare it with golden rows.")
    parser.add_argument(CONFIG, type=Path, required=True, help="YAML file of the nightly run")
    _add_processes(parser)
    parser.add_argument("--update-golden", action="store_true", help="make tonight's rows the golden ones")
    return parser


def _configured(command: str, description: str) -> Parser:
    """Return the parser of what a YAML file of its options may describe."""
    parser = parser_for(command, description)
    parser.add_argument(CONFIG, action="config", metavar="FILE", help="YAML file with these options")
    return parser


def _suite(command: str, description: str) -> Parser:
    """Return the parser of what has a suite."""
    parser = parser_for(command, description)
    parser.add_argument(CONFIG, type=Path, required=True, help="the suite's YAML file")
    parser.add_argument("--output", type=Path, default=Path("runs/bench"), help="folder of all suites' results")
    parser.add_argument("--published", type=Path | None, default=None, help="folder of published figures; else ours")
    return parser


def _add_processes(parser: Parser) -> None:
    parser.add_argument("--devices", type=int, default=1, help="processes per node, one device or CPU thread each")
    parser.add_argument("--num_nodes", type=int, default=1, help="nodes")


PARSERS: dict[str, Callable[[str], Parser]] = {
    **dict.fromkeys(TRAINING, _training),
    "sample": _sample,
    "evaluate": _evaluate,
    "reference": _reference,
    "schedule": _schedule,
    **{f"stores {action}": _stores for action in ACTIONS["stores"]},
    **{f"models {action}": _models for action in ACTIONS["models"]},
    **{f"list {action}": _list for action in ACTIONS["list"]},
    "doctor": _doctor,
    "convert": _convert,
    "export": _export,
    "new": _new,
    "completion": _completion,
    "bench run": _bench_run,
    "bench table": _bench_table,
    "bench plot": _bench_plot,
    "bench report": _bench_report,
    "bench recipes": _bench_recipes,
    "bench compare": _bench_compare,
    "bench nightly": _bench_nightly,
}
"""By the command: a verb, or a verb and its action."""
