"""Mistakes that people make, verb by verb, and what the one line about each has to say.

A mistake is the arguments of the command, in which ``{}`` stands for a YAML file that holds what is given.
"""

from typing import Any, NamedTuple

GAUSSIAN = {"name": "anisotropic_gaussian", "height": 8, "width": 8}
SAMPLER = {"model": GAUSSIAN, "solver": {"name": "euler"}, "schedule": {"name": "logsnr"}, "num_intervals": 2}
ENTRY = {"solver": {"name": "euler"}, "schedules": [{"name": "logsnr"}], "nfe": [2]}
SCORED = {"detector": {"name": "digits"}, "dataset": {"name": "digits"}}
DATASET = {"name": "grey", "model": GAUSSIAN, **SCORED}
SUITE = {"name": "small", "datasets": [DATASET], "entries": [ENTRY]}
SEARCH = {"model": GAUSSIAN, "solver": {"name": "amed"}, "num_intervals": 3, "output": "found.json"}
MODEL = {
    "class_path": "amed_lightning.training.distillation.AMEDDistillation",
    "init_args": {"student": SAMPLER | {"solver": {"name": "amed"}}},
}
DATA = {
    "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
    "init_args": {"teacher": {"solver": {"name": "heun"}}, "trajectories": 64, "validation_trajectories": 64},
}
FIT = {"seed_everything": 0, "model": MODEL, "data": DATA, "trainer": {"accelerator": "cpu", "max_epochs": 1}}


class Mistake(NamedTuple):
    """A command that is refused.

    Attributes:
        command: its words.
        says: what the line about it holds.
        content: of the YAML file; a text is written as it is.
    """

    command: str
    says: str
    content: Any = None


def sampler(**changes: Any) -> dict[str, Any]:
    return {"sampler": SAMPLER | changes}


def student(**changes: Any) -> dict[str, Any]:
    return FIT | {"model": MODEL | {"init_args": {"student": MODEL["init_args"]["student"] | changes}}}


def model(**changes: Any) -> dict[str, Any]:
    return FIT | {"model": MODEL | {"init_args": MODEL["init_args"] | changes}}


def data(**changes: Any) -> dict[str, Any]:
    return FIT | {"data": DATA | {"init_args": DATA["init_args"] | changes}}


def trainer(**changes: Any) -> dict[str, Any]:
    return FIT | {"trainer": FIT["trainer"] | changes}


def dataset(**changes: Any) -> dict[str, Any]:
    return SUITE | {"datasets": [DATASET | changes]}


def entry(**changes: Any) -> dict[str, Any]:
    return SUITE | {"entries": [ENTRY | changes]}


def search(**changes: Any) -> dict[str, Any]:
    return {"search": SEARCH | changes}


QUICK = (
    Mistake("smaple", "unknown verb 'smaple': use one of .*did you mean 'sample'"),
    Mistake("--hlep", "unknown verb '--hlep'"),
    Mistake("fit", "name a YAML file"),
    Mistake("fit nowhere.yaml", "nowhere.yaml: no such file"),
    Mistake("fit digits/amde", "did you mean 'digits/amed'"),
    Mistake("fit cifar01/amed-5", "did you mean 'cifar10/amed'"),
    Mistake("fit cifar10", "a recipe: cifar10/amed-5"),
    Mistake("fit amed", "model.init_args.student.model is missing: name it, or a recipe: digits/amed-5"),
    Mistake("fit --config", "--config: a value is missing"),
    Mistake("fit .", "--config .: a folder"),
    Mistake("fit {}", "unknown key 'modle': use one of .*did you mean 'model'", FIT | {"modle": MODEL}),
    Mistake("fit {}", "not valid YAML", "model: ["),
    Mistake("fit {}", "not valid YAML: .*the key 'data' stands twice", "data: 1\ndata: 2\n"),
    Mistake("fit {}", "expected a mapping of keys to values", "- 1\n"),
    Mistake("fit {}", "model.class_path is missing", FIT | {"model": {"init_args": {}}}),
    Mistake("fit {}", "model: expected a mapping", FIT | {"model": 3}),
    Mistake("validate nowhere.yaml", "nowhere.yaml: no such file"),
    Mistake("precompute nowhere.yaml", "nowhere.yaml: no such file"),
    Mistake("precompute --dry-run", "name a YAML file"),
    Mistake("sample", "missing: sampler.model, sampler.solver, sampler.schedule"),
    Mistake("sample nowhere.yaml", "nowhere.yaml: no such file"),
    Mistake("sample digits/smaple", "did you mean 'digits/sample'"),
    Mistake("sample digits/sample --sead 0-3", "unknown option --sead: use one of .*did you mean '--seeds'"),
    Mistake("sample digits/sample extra", "too much: extra"),
    Mistake("sample digits/sample --batch_size 0", "batch_size: expected a whole number above 0, got 0"),
    Mistake("sample digits/sample --batch_size many", "batch_size: expected a whole number above 0, got many"),
    Mistake("sample digits/sample --seeds", "--seeds: a value is missing"),
    Mistake("sample digits/sample --guidance high", "guidance: expected a number, got high"),
    Mistake("sample digits/sample --classes 3", r"classes: expected a list, like \[a, b\], got 3"),
    Mistake("sample digits/sample --sampler.nef 5", "--sampler.nef: use one of .*did you mean '--sampler.nfe'"),
    Mistake("sample digits/sample --sampler.nfe five", "sampler.nfe: expected a whole number, got five"),
    Mistake("sample digits/sample --sampler.afs maybe", "sampler.afs: expected true or false, got maybe"),
    Mistake("sample {}", "unknown key 'sed'.*: use one of .*did you mean 'seeds'", sampler() | {"sed": "0-3"}),
    Mistake("sample {}", "unknown key 'sampler.steps': use one of sampler.model, ", sampler(steps=3)),
    Mistake("sample {}", "sampler.num_intervals: expected a whole number, got many", sampler(num_intervals="many")),
    Mistake("sample {}", "sampler.model: expected a mapping", sampler(model=3)),
    Mistake(
        "sample {}",
        "expected one of float32, .*got half",
        sampler(arithmetic={"precision": "half"}),
    ),
    Mistake("sample {}", "did you mean 'sampler.arithmetic.precision'", sampler(arithmetic={"precison": "float32"})),
    Mistake("sample {}", "may be decimal or octal", "sampler: {num_intervals: 017}\n"),
    Mistake("evaluate nowhere.yaml", "nowhere.yaml: no such file"),
    Mistake("evaluate --metrics fid", "metrics: expected a list"),
    Mistake("evaluate --sampler nowhere.yaml", "sampler: .*nowhere.yaml"),
    Mistake("evaluate --batchsize 3", "did you mean '--batch_size'"),
    Mistake("evaluate {}", "unknown key 'stpes'", sampler(stpes=3)),
    Mistake("reference", "missing: output"),
    Mistake("reference --output x.npz --features perhaps", "features: expected true or false, got perhaps"),
    Mistake("reference --output x.npz --dataste digits", "did you mean '--dataset'"),
    Mistake("schedule", "missing: search.model, search.solver"),
    Mistake("schedule --search.gama 1", "did you mean '--search.gamma'"),
    Mistake("schedule {}", "search.metric: expected one of dev, l1, l2, got l3", search(metric="l3")),
    Mistake("schedule {}", "search.gamma: expected a number, got steep", search(gamma="steep")),
    Mistake("stores --rot x", "did you mean '--root'"),
    Mistake("stores --root nowhere", "--root nowhere: no such folder"),
    Mistake("stores prune --root nowhere --yes", "--root nowhere: no such folder"),
    Mistake("stores list --yes", "unknown option --yes"),
    Mistake("models cifar01", "no card 'cifar01': use one of .*did you mean 'cifar10'"),
    Mistake("models fetch", "models fetch: name the cards"),
    Mistake("models fetsh", "models fetsh: use one of models list, .*did you mean 'fetch'"),
    Mistake("models list --for suite.yaml", "it is an option of fetch"),
    Mistake("models verify nothing", "no card 'nothing'"),
    Mistake("list", "use one of list solvers, list schedules"),
    Mistake("list solver", "did you mean 'solvers'"),
    Mistake("list solvers euler", "too much: euler"),
    Mistake("doctor --jsn", "did you mean '--json'"),
    Mistake("doctor now", "too much: now"),
    Mistake("convert", "missing: source, destination"),
    Mistake("convert a.pkl", "missing: destination"),
    Mistake("convert a.pkl b.json c", "too much: c"),
    Mistake("convert a.pkl b.json --img_resolution wide", "img_resolution: expected a whole number, got wide"),
    Mistake("convert a.pkl b.json --attention_order old", "attention_order: expected one of legacy, new, got old"),
    Mistake("export", "missing: source, folder, to"),
    Mistake("export a.json b --to comfy", "'comfy' is none of 'diffusers', 'comfyui'"),
    Mistake("new", "missing: folder"),
    Mistake("completion fish", "'fish' is none of"),
    Mistake("bench", "name a YAML file"),
    Mistake("bench nowhere.yaml", "nowhere.yaml: no such file"),
    Mistake("bench digit", "did you mean 'digits'"),
    Mistake("bench tabel digits", "did you mean 'table'"),
    Mistake("bench digits --device 2", "did you mean '--devices'"),
    Mistake("bench digits --devices two", "devices: expected a whole number, got two"),
    Mistake("bench compare one", "missing: after"),
    Mistake("bench nightly", "name a YAML file"),
)
"""Refused before torch is there."""
LATE = (
    Mistake("fit {}", "unknown solver 'amde': use one of .*did you mean 'amed'", student(solver={"name": "amde"})),
    Mistake("fit {}", "unknown key '.*steps'", student(steps=3)),
    Mistake("fit {}", "unknown key 'scale_dri'.*did you mean 'scale_dir'", model(scale_dri=0.1)),
    Mistake("fit {}", "'discrete' needs a model with a table", student(schedule="discrete")),
    Mistake("fit {}", "at least one interval, got 0", student(num_intervals=0)),
    Mistake("fit {}", "no class 'AMEDDistilation'", FIT | {"model": MODEL | {"class_path": "AMEDDistilation"}}),
    Mistake("fit {}", "unknown solver 'hoin'", data(teacher={"solver": {"name": "hoin"}})),
    Mistake("fit {}", "trajectories: expected a whole number, got all", data(trajectories="all")),
    Mistake("fit {}", "data.trajectories is 100; it must be a multiple", data(trajectories=100)),
    Mistake("fit {}", "max_epoch'.*did you mean 'trainer.max_epochs'", trainer(max_epoch=3)),
    Mistake("fit {}", "trainer.max_epochs: expected a whole number, got many", trainer(max_epochs="many")),
    Mistake("fit {}", "accelerator", trainer(accelerator="cup")),
    Mistake("fit {} --trainer.max_epoch 3", "--trainer.max_epoch: .*did you mean '--trainer.max_epochs'", FIT),
    Mistake("validate {} --ckpt_path nowhere.ckpt", "nowhere.ckpt: no such file", FIT),
    Mistake("sample {}", "unknown solver 'eluer': use one of .*did you mean 'euler'", sampler(solver="eluer")),
    Mistake("sample {}", "unknown schedule 'linear'", sampler(schedule="linear")),
    Mistake("sample {}", "unknown model 'digts'.*did you mean 'digits'", sampler(model="digts")),
    Mistake("sample {}", "did you mean 'order'", sampler(solver={"name": "ipndm", "oder": 2})),
    Mistake("sample {}", "a whole number, got high", sampler(solver={"name": "ipndm", "order": "high"})),
    Mistake("sample {}", "order 7 does not exist", sampler(solver={"name": "ipndm", "order": 7})),
    Mistake("sample {}", "expected a mapping with a 'name'", sampler(solver={"order": 3})),
    Mistake("sample {}", "m.json: no such file", sampler(model={"name": "file", "path": "m.json"})),
    Mistake("sample {}", "learned.json: no such file", sampler(solver={"name": "amed", "learned": "learned.json"})),
    Mistake("sample {}", "either num_intervals or nfe", sampler(nfe=2)),
    Mistake("sample {} --seeds three", "--seeds three: write a first and a last seed", sampler()),
    Mistake("sample {} --classes [3]", "this model takes no labels", sampler()),
    Mistake("sample {} --prompt cat", "takes no prompts", sampler()),
    Mistake("sample {} --accelerator mps", "Apple's GPU has no float64", sampler()),
    Mistake("sample {} --accelerator tpuu", "accelerator", sampler()),
    Mistake("evaluate", "name either --sampler or --images"),
    Mistake("evaluate --images nowhere", "nowhere"),
    Mistake("evaluate {} --detector digts", "unknown detector 'digts'.*did you mean 'digits'", sampler()),
    Mistake("evaluate {} --metrics [fdi]", "fdi", sampler()),
    Mistake("reference --output x.npz --dataset digts", "unknown dataset 'digts'.*did you mean 'digits'"),
    Mistake("schedule {}", "unknown solver 'amde'", search(solver={"name": "amde"})),
    Mistake("schedule {}", "trajectories is 100", search(trajectories=100)),
    Mistake("convert nowhere.pkl x.json --img_resolution 32 --head_channels 64", "nowhere.pkl: no such file"),
    Mistake("convert {} x.txt", "the description is a .json", FIT),
    Mistake("bench {}", "datasets: unknown key 'modle': use one of .*did you mean 'model'", dataset(modle=1)),
    Mistake("bench {}", "missing: datasets, entries", {"name": "small"}),
    Mistake("bench {}", "entries: nfe: expected a whole number, got two", entry(nfe=["two"])),
    Mistake("bench {}", "unknown solver 'eluer'", entry(solver="eluer")),
    Mistake("bench {}", "num_blocks is 0", SUITE | {"num_blocks": 0}),
    Mistake("bench {}", "unknown key 'bloks'", SUITE | {"bloks": 3}),
    Mistake("bench {} --dry-run", "unknown model 'digts'", dataset(model="digts")),
    Mistake("bench compare nowhere elsewhere", "nowhere"),
    Mistake("bench table {} --output nowhere", "no sweep there", SUITE),
    Mistake("models fetch --for nowhere.yaml", "nowhere.yaml: no such file"),
)
"""Refused by the part that they are about."""
