"""The recipes of the published datasets: each as the paper says, each good for a step of training."""

import copy

import pytest
import yaml

from amed_lightning.config import build
from amed_lightning.denoisers.registry import outline
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS, evaluations_for, intervals_for, network_runs

from ..denoisers.zoo.cards import figured as card_names
from ..recipes import content_of
from . import shrunken
from .command import call

pytestmark = pytest.mark.usefixtures("unchecked")

HEUN, MIDPOINT = {"name": "heun"}, {"name": "dpm_solver_2"}
IPNDM = {"name": "ipndm", "order": 4}
DPMPP = {"name": "dpm_solver_pp", "order": 3}
DPMPP_3M, DPMPP_2M = ({"name": "dpm_solver_pp", "order": order, "prediction": "noise"} for order in (3, 2))
UNIFORM, POLYNOMIAL = {"name": "time_uniform", "rho": 1.0}, {"name": "polynomial", "rho": 7.0}
DISCRETE = {"name": "discrete", "rho": 1.0}
ODD, EVEN = (3, 5, 7, 9), (4, 6, 8, 10)

SOLVER = {"solver": {"name": "amed"}, "teacher": HEUN, "inner": 1, "schedule": UNIFORM}
PLUGIN = {"solver": IPNDM, "teacher": IPNDM, "inner": 2, "schedule": POLYNOMIAL}
BEDROOM = {"schedule": POLYNOMIAL, "inner": 1, "run": 16}
OF_SMALL_BATCHES = {"trajectories": 10112, "batch": 128, "run": 256}
RECIPES = {
    ("cifar10", "amed", ODD): SOLVER | OF_SMALL_BATCHES,
    ("cifar10", "plugin", ODD): PLUGIN | OF_SMALL_BATCHES | {"scale_time": 0.2},
    ("ffhq", "amed", ODD): SOLVER,
    ("ffhq", "plugin", ODD): PLUGIN,
    ("afhqv2", "amed", ODD): SOLVER,
    ("afhqv2", "plugin", ODD): PLUGIN,
    ("imagenet64", "amed", ODD): SOLVER,
    ("imagenet64", "plugin", ODD): PLUGIN,
    ("lsun_bedroom", "amed", ODD): SOLVER | BEDROOM,
    ("lsun_bedroom", "plugin", ODD): BEDROOM | {"solver": MIDPOINT, "teacher": MIDPOINT},
    ("imagenet256", "plugin", EVEN): PLUGIN | {"solver": DPMPP, "teacher": DPMPP, "schedule": UNIFORM, "run": 16},
    ("lsun_bedroom_ldm", "plugin", ODD): PLUGIN
    | {"solver": DPMPP_3M, "teacher": DPMPP_3M, "schedule": DISCRETE, "run": 32},
    ("ms_coco", "plugin", (8, 12, 16, 20)): PLUGIN
    | {"solver": DPMPP_2M, "teacher": DPMPP_2M, "schedule": DISCRETE, "run": 16}
    | {"scale_dir": 0.0, "scale_time": 0.2, "trajectories": 5024, "batch": 32},
}
"""Method and setting of each published row, where it is not the common one below."""
COMMON = {"scale_dir": 0.01, "scale_time": 0.0, "trajectories": 10048, "batch": 64, "run": 64}
EXCEPTIONS = {
    "cifar10/amed-3": {"teacher": MIDPOINT},
    "ffhq/plugin-9": {"scale_time": 0.2},
    "afhqv2/plugin-9": {"scale_time": 0.2},
}
RUNS_PER_EVALUATION = {"ms_coco": 2}
UNIONS = [f"{name}/union" for name in card_names()]
"""Learned tables, one recipe for all network runs."""
DISTINCT = sorted({*EXCEPTIONS, *(f"{dataset}/{kind}-{nfe}" for dataset, kind, (nfe, *_) in RECIPES)})
"""One of each pair of data set and method, and what is different at some number of network runs."""
ONE_OF_EACH_FAMILY = (
    *("cifar10/plugin-3", "imagenet64/amed-3", "lsun_bedroom/amed-3"),
    *("imagenet256/plugin-4", "lsun_bedroom_ldm/plugin-3", "ms_coco/plugin-8"),
)


def expected(dataset, kind, nfe, recipe):
    """Write a recipe out in full."""
    model = {"name": "pretrained", "card": dataset}
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "amed_lightning.training.distillation.AMEDDistillation",
            "init_args": {
                "student": {
                    "model": {"name": "thresholded", "of": model} if dataset == "imagenet256" else model,
                    "solver": recipe["solver"],
                    "schedule": recipe["schedule"],
                    "nfe": nfe,
                    "afs": nfe // RUNS_PER_EVALUATION.get(dataset, 1) % 2 == 1,
                },
                "route": {"name": "network"},
                "loss": "published",
                "scale_dir": recipe["scale_dir"],
                "scale_time": recipe["scale_time"],
                "learning_rate": 5e-3,
            },
        },
        "data": {
            "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
            "init_args": {
                "teacher": {"solver": recipe["teacher"], "inner_levels": recipe["inner"], "batch_size": recipe["run"]},
                "trajectories": recipe["trajectories"],
                "validation_trajectories": 256,
                "batch_size": recipe["batch"],
            },
        },
        "trainer": {
            "accelerator": "auto",
            "max_epochs": 1,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 10,
            "enable_model_summary": False,
            "default_root_dir": f"runs/{dataset}/{kind}-{{nfe}}",
        },
    }


EXPECTED = {
    f"{dataset}/{kind}-{nfe}": expected(
        dataset, kind, nfe, COMMON | recipe | EXCEPTIONS.get(f"{dataset}/{kind}-{nfe}", {})
    )
    for (dataset, kind, many), recipe in RECIPES.items()
    for nfe in many
}


class TestRecipes:
    @pytest.mark.parametrize("name", EXPECTED)
    def test_it_is_the_published_one(self, name):
        assert content_of(name) == EXPECTED[name]

    @pytest.mark.parametrize("name", [*DISTINCT, *UNIONS])
    def test_the_command_reads_it_so(self, name, capsys):
        assert call("fit", name, "--print_config") == 0
        assert _beyond(content_of(name), yaml.safe_load(capsys.readouterr().out)) == []

    @pytest.mark.parametrize("name", EXPECTED)
    def test_it_takes_the_network_runs_that_its_name_says(self, name):
        student = EXPECTED[name]["model"]["init_args"]["student"]
        solver = build("solver", SOLVERS, student["solver"], placer=FixedPlacement(0.5))
        cost = outline(student["model"]).denoiser.cost
        intervals = intervals_for(solver, evaluations_for(student["nfe"], cost), student["afs"])
        assert network_runs(solver, intervals, student["afs"]) * cost == int(name.rpartition("-")[2])


def _beyond(part, whole, at=""):
    """Return what one document says and another does not."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return [found for key in part for found in _beyond(part[key], whole.get(key), f"{at}.{key}")]
    return [] if part == whole else [(at, part, whole)]


class TestUnions:
    @pytest.mark.parametrize("name", UNIONS)
    def test_they_differ_in_the_model_its_levels_and_its_batches_alone(self, name):
        card, _, _ = name.partition("/")
        found, first = copy.deepcopy(content_of(name)), copy.deepcopy(content_of("cifar10/union"))
        for content in (found, first):
            assert content["model"]["init_args"]["student"].pop("schedule") in (UNIFORM, POLYNOMIAL, DISCRETE)
            assert 512 % content["data"]["init_args"]["teacher"].pop("batch_size") == 0
        student = first["model"]["init_args"]["student"]
        student["model"] = {"name": "pretrained", "card": card}
        if card in RUNS_PER_EVALUATION:
            student |= {"nfe": 8, "afs": False}
        first["trainer"]["default_root_dir"] = f"runs/{card}/union-{{nfe}}"
        assert found == first


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Cards of tiny networks, and the cache that has their files."""
    zoo, cache = tmp_path_factory.mktemp("zoo"), tmp_path_factory.mktemp("cache")
    shrunken.shrink(zoo, cache, card_names())
    return zoo, cache


class TestRuns:
    @pytest.mark.parametrize(
        "name",
        [pytest.param(name, marks=[] if name in ONE_OF_EACH_FAMILY else [pytest.mark.slow]) for name in DISTINCT],
    )
    def test_a_fit_takes_a_step_on_a_tiny_network_of_its_family_and_exports(self, name, places, tmp_path, monkeypatch):
        self.offline(places, tmp_path, monkeypatch)
        assert call("fit", name, *self.short(4)) == 0
        assert (tmp_path / "runs" / name / "predictor.json").is_file()

    @pytest.mark.slow
    @pytest.mark.parametrize("name", UNIONS)
    def test_a_table_takes_a_step_and_samples_with_the_network_runs_that_are_asked_for(
        self, name, places, tmp_path, monkeypatch
    ):
        card, _, _ = name.partition("/")
        cost = RUNS_PER_EVALUATION.get(card, 1)
        self.offline(places, tmp_path, monkeypatch)
        for runs in (3, 4, 5, 6, 8) if card in ("cifar10", "ms_coco") else (3,):
            few = ("--model.first_trajectories=4", "--model.first_epochs=1")
            assert call("fit", f"{name}-{runs * cost}", *self.short(4), *few) == 0
            path = tmp_path / "runs" / card / f"union-{runs * cost}" / "table.json"
            student = content_of(name)["model"]["init_args"]["student"] | {"nfe": runs * cost}
            student["solver"] = student["solver"] | {"learned": str(path)}
            assert build_sampler(SamplerConfig(**student)).nfe == runs * cost

    def short(self, size):
        once = ("max_epochs", "limit_train_batches", "limit_val_batches", "log_every_n_steps")
        options = [f"--trainer.{option}=1" for option in once] + ["--trainer.accelerator=cpu"]
        options += [f"--data.{option}={size}" for option in ("trajectories", "validation_trajectories", "batch_size")]
        return [*options, f"--data.teacher.batch_size={size}"]

    def offline(self, places, tmp_path, monkeypatch):
        shrunken.stand_in(monkeypatch, *places, tmp_path)
