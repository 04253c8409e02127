"""The configurations of the published datasets: each as its recipe says, each good for a step of training."""

import copy
from pathlib import Path

import pytest
import yaml

from amed_lightning.config import build
from amed_lightning.denoisers.registry import outline
from amed_lightning.denoisers.zoo import card as card_module
from amed_lightning.denoisers.zoo import local as local_module
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.sampler import build_sampler
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS, network_runs

from ..denoisers.zoo.cards import figured as card_names
from . import shrunken
from .command import call

CONFIGS = Path(__file__).parents[2] / "configs"
FOUND = {
    str(path.relative_to(CONFIGS).with_suffix("")): yaml.safe_load(path.read_text())
    for name in card_names()
    for path in sorted((CONFIGS / name).glob("*.yaml"))
}
UNIONS = {name: FOUND.pop(name) for name in list(FOUND) if name.endswith("/union")}
"""Learned tables, one file for all network runs."""

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
ONE_OF_EACH_FAMILY = (
    *("cifar10/plugin-3", "imagenet64/amed-3", "lsun_bedroom/amed-3"),
    *("imagenet256/plugin-4", "lsun_bedroom_ldm/plugin-3", "ms_coco/plugin-8"),
)


def expected(dataset, kind, nfe, recipe):
    """Write a configuration out in full."""
    evaluations = nfe // RUNS_PER_EVALUATION.get(dataset, 1)
    model = {"name": "pretrained", "card": dataset}
    content = copy.deepcopy(FOUND["cifar10/amed-5"])
    content["model"]["init_args"] = {
        "student": {
            "model": {"name": "thresholded", "of": model} if dataset == "imagenet256" else model,
            "solver": recipe["solver"],
            "schedule": recipe["schedule"],
            "num_intervals": (evaluations + 1) // 2,
            "afs": evaluations % 2 == 1,
        },
        "route": {"name": "network"},
        "loss": "published",
        "scale_dir": recipe["scale_dir"],
        "scale_time": recipe["scale_time"],
        "learning_rate": 5e-3,
    }
    content["data"]["init_args"] = {
        "teacher": {"solver": recipe["teacher"], "inner_levels": recipe["inner"], "batch_size": recipe["run"]},
        "trajectories": recipe["trajectories"],
        "validation_trajectories": 256,
        "batch_size": recipe["batch"],
    }
    content["trainer"]["default_root_dir"] = f"runs/{dataset}/{kind}-{nfe}"
    return content


EXPECTED = {
    f"{dataset}/{kind}-{nfe}": expected(
        dataset, kind, nfe, COMMON | recipe | EXCEPTIONS.get(f"{dataset}/{kind}-{nfe}", {})
    )
    for (dataset, kind, many), recipe in RECIPES.items()
    for nfe in many
}


class TestRecipes:
    def test_there_is_a_file_for_every_published_row_and_no_other(self):
        assert sorted(FOUND) == sorted(EXPECTED)

    @pytest.mark.parametrize("name", EXPECTED)
    def test_a_file_differs_from_its_siblings_where_its_recipe_does_and_nowhere_else(self, name):
        assert FOUND[name] == EXPECTED[name]

    @pytest.mark.parametrize("name", EXPECTED)
    def test_it_takes_the_network_runs_that_its_name_says(self, name):
        student = FOUND[name]["model"]["init_args"]["student"]
        solver = build("solver", SOLVERS, student["solver"], placer=FixedPlacement(0.5))
        evaluations = network_runs(solver, student["num_intervals"], student["afs"])
        assert evaluations * outline(student["model"]).denoiser.cost == int(name.rpartition("-")[2])

    @pytest.mark.parametrize("name", EXPECTED)
    def test_the_first_line_says_what_it_is(self, name):
        kind, _, nfe = name.partition("/")[2].partition("-")
        first = (CONFIGS / f"{name}.yaml").read_text().splitlines()[0]
        assert f" at {nfe} NFE: " in first
        assert first.startswith({"amed": "# AMED-Solver on ", "plugin": "# AMED-Plugin on "}[kind])
        assert ("analytic first step" in first) == FOUND[name]["model"]["init_args"]["student"]["afs"]


class TestUnions:
    def test_every_model_has_one(self):
        assert sorted(UNIONS) == [f"{name}/union" for name in card_names()]

    @pytest.mark.parametrize("name", UNIONS)
    def test_they_differ_in_the_model_its_levels_and_its_batches_alone(self, name):
        card, _, _ = name.partition("/")
        found, first = copy.deepcopy(UNIONS[name]), copy.deepcopy(UNIONS["cifar10/union"])
        guided = RUNS_PER_EVALUATION.get(card, 1)
        for content in (found, first):
            student, data = content["model"]["init_args"]["student"], content["data"]["init_args"]
            schedule = student.pop("schedule")
            assert data["teacher"].pop("schedule") == schedule
            assert schedule in (UNIFORM, POLYNOMIAL, DISCRETE)
            assert 512 % data["teacher"].pop("batch_size") == 0
        first["model"]["init_args"]["student"] |= {
            "model": {"name": "pretrained", "card": card},
            "nfe": 5 * guided,
            "afs": guided == 1,
        }
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
        [pytest.param(name, marks=[] if name in ONE_OF_EACH_FAMILY else [pytest.mark.slow]) for name in EXPECTED],
    )
    def test_a_fit_takes_a_step_on_a_tiny_network_of_its_family_and_exports(self, name, places, tmp_path, monkeypatch):
        self.offline(places, tmp_path, monkeypatch)
        assert call("fit", "--config", CONFIGS / f"{name}.yaml", *self.short(4)) == 0
        assert (tmp_path / "runs" / name / "predictor.json").is_file()

    @pytest.mark.slow
    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize("name", UNIONS)
    def test_a_table_takes_a_step_and_samples_with_the_network_runs_that_are_asked_for(
        self, name, places, tmp_path, monkeypatch
    ):
        card, _, _ = name.partition("/")
        cost = RUNS_PER_EVALUATION.get(card, 1)
        self.offline(places, tmp_path, monkeypatch)
        for runs in (3, 4, 5, 6, 8) if card in ("cifar10", "ms_coco") else (3,):
            asked = f"--model.student.nfe={runs * cost}"
            few = ("--model.first_trajectories=4", "--model.first_epochs=1")
            assert call("fit", "--config", CONFIGS / f"{name}.yaml", *self.short(4), *few, asked) == 0
            path = tmp_path / "runs" / card / f"union-{runs * cost}" / "table.json"
            student = UNIONS[name]["model"]["init_args"]["student"] | {"nfe": runs * cost}
            student["solver"] = student["solver"] | {"learned": str(path)}
            assert build_sampler(SamplerConfig(**student)).nfe == runs * cost

    def short(self, size):
        once = ("max_epochs", "limit_train_batches", "limit_val_batches", "log_every_n_steps")
        options = [f"--trainer.{option}=1" for option in once] + ["--trainer.accelerator=cpu"]
        options += [f"--data.{option}={size}" for option in ("trajectories", "validation_trajectories", "batch_size")]
        return [*options, f"--data.teacher.batch_size={size}"]

    def offline(self, places, tmp_path, monkeypatch):
        zoo, cache = places
        for module in (card_module, local_module):
            monkeypatch.setattr(module, "ZOO", zoo)
        monkeypatch.setenv("AMED_CACHE", str(cache))
        monkeypatch.setenv("AMED_OFFLINE", "1")
        monkeypatch.chdir(tmp_path)
