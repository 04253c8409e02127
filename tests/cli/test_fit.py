"""``fit``, ``precompute`` and the configurations that the project ships."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI

from amed_lightning.amed.files import save_learned
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.bench.plan import plan
from amed_lightning.bench.suite import load_suite
from amed_lightning.cli.training import TrainingCLI
from amed_lightning.config import InputError
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts, learned_path
from amed_lightning.solvers.tabulated import Tabulated, table_of
from amed_lightning.teacher import precompute as precompute_module
from amed_lightning.training import constants as constants_module
from amed_lightning.training import source as source_module
from amed_lightning.training.classifier import ClassifierTraining
from amed_lightning.training.denoiser import DenoiserTraining
from amed_lightning.training.distillation import AMEDDistillation
from amed_lightning.training.least_squares import LeastSquares

from ..recipes import content_of
from ..teacher.stores import records
from .command import call, refusal, start

CONFIGS = Path(__file__).parents[2] / "configs"
METHODS = ("amed-5", "plugin-6", "union", "ld3", "s4s", "dyweight", "two_stage")
WHOLE = ("classes", "classifier", "denoiser", "epd", "gits", "predicted", "sample")
"""Configurations of the digits that are no recipe of a method."""
CONTENTS = {f"digits/{name}": content_of(f"digits/{name}") for name in METHODS}
CONTENTS |= {f"digits/{name}": yaml.safe_load((CONFIGS / "digits" / f"{name}.yaml").read_text()) for name in WHOLE}
FITS = [name for name, content in CONTENTS.items() if "model" in content]
SAMPLERS = [name for name, content in CONTENTS.items() if "sampler" in content]
SEARCHES = [name for name, content in CONTENTS.items() if "search" in content]
QUICK = ("digits/union", "digits/amed-5", "digits/plugin-6", "digits/classifier", "digits/denoiser")
"""Fits that are no slow tests."""

TRAININGS = (AMEDDistillation, ClassifierTraining, DenoiserTraining, LeastSquares)
RESULTS = {each.__name__: each.result_name for each in TRAININGS}
SUITES = ("demo.yaml", "digits.yaml", "two-nightly.yaml")
MODEL = {"name": "anisotropic_gaussian"}
FIT = {
    "seed_everything": 0,
    "model": {
        "class_path": "amed_lightning.training.distillation.AMEDDistillation",
        "init_args": {
            "student": {"model": MODEL, "solver": {"name": "amed"}, "schedule": {"name": "logsnr"}, "num_intervals": 3},
        },
    },
    "data": {
        "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
        "init_args": {
            "teacher": {"solver": {"name": "heun"}, "batch_size": 64},
            "root": "store",
            "trajectories": 768,
            "validation_trajectories": 64,
        },
    },
    "trainer": {
        "accelerator": "cpu",
        "default_root_dir": "out",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    },
}

PLAIN = {"solver": {"name": "ipndm", "order": 3}}
"""What a table begins at, of the fits on top of one."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to run in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(FIT))
    return tmp_path


class TestConfigs:
    def test_every_configuration_is_of_a_known_kind(self):
        special = {path.stem for path in (CONFIGS / "digits").glob("*.yaml")}
        assert special - {*WHOLE} == {"amed", "plugin", "union"}  # what is different in them from other data sets
        assert sorted(FITS + SAMPLERS + SEARCHES) == sorted(CONTENTS)

    @pytest.mark.parametrize(
        "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in FITS]
    )
    def test_a_fit_runs_one_step_and_exports(self, folder, name, monkeypatch, request):
        if "LeastSquares" in CONTENTS[name]["model"]["class_path"]:
            request.getfixturevalue("unchecked")
        monkeypatch.setattr(constants_module, "APPROACH_STEPS", 2)  # of the warm start
        once = ("max_epochs", "check_val_every_n_epoch", "log_every_n_steps")
        options = [f"--trainer.{name}=1" for name in once]
        # Typing keeps one `int | float` for both orders: here a 1 may be read as 1.0, which is all batches.
        options += [f"--trainer.limit_{part}_batches=2" for part in ("train", "val")]
        content = CONTENTS[name]
        student = content["model"].get("init_args", {}).get("student", {})
        if (base := learned_path(student.get("solver", {}))) is not None:
            parts = SamplerParts(SamplerConfig(**student | PLAIN))
            save_learned(base, Tabulated(table_of(parts.solver(None), parts.sigmas, afs=True)), parts.purpose, {})
        if "teacher" in content["data"].get("init_args", {}):
            options += [f"--data.{name}=8" for name in ("trajectories", "validation_trajectories", "batch_size")]
            options += ["--data.teacher.batch_size=8"]
        assert call("fit", name, *options) == 0
        *_, kind = content["model"]["class_path"].split(".")
        home = content["trainer"]["default_root_dir"].replace("{nfe}", str(student.get("nfe")))
        assert (folder / home / RESULTS[kind]).is_file()
        (record,) = (json.loads(path.read_text()) for path in folder.rglob("run.json"))
        assert record["config"]["trainer"]["max_epochs"] == 1
        stores = {path.parent.name for path in folder.rglob("trajectories/*/recipe.json")}
        assert stores == {recipe[:16] for name, recipe in record["digests"].items() if name == "recipe"}

    @pytest.mark.parametrize("name", SAMPLERS)
    def test_a_sampler_draws_an_image(self, folder, name):
        config = SamplerConfig(**CONTENTS[name]["sampler"])
        if (predictor := learned_path(config.solver)) is not None:
            parts = SamplerParts(config)
            save_learned(predictor, AMEDPredictor(parts.model.feature_size), parts.purpose, {})
        options = ("--seeds", "0", "--batch_size", "1", "--accelerator", "cpu", "--output", folder / "images")
        assert call("sample", "--config", name, *options) == 0
        assert (folder / "images" / "000000.png").is_file()

    @pytest.mark.parametrize("name", SEARCHES)
    def test_a_search_writes_a_schedule(self, folder, name):
        options = ("--search.trajectories=8", "--search.batch_size=8", "--accelerator", "cpu")
        assert call("schedule", "--config", name, *options) == 0
        search = CONTENTS[name]["search"]
        written = json.loads((folder / search["output"]).read_text())
        assert len(written["sigmas"]) == search["num_intervals"] + 1


class TestOnATable:
    """A fit on top of a table is one of that table's content, not of its path."""

    def table(self, first):
        parts = SamplerParts(SamplerConfig(MODEL, PLAIN["solver"], {"name": "logsnr"}, 3))
        table = table_of(parts.solver(None), parts.sigmas)
        save_learned(Path("table.json"), Tabulated(replace(table, noise=first * table.noise)), parts.purpose, {})

    def test_it_goes_on_with_the_same_one_and_refuses_another(self, folder, capsys):
        init = FIT["model"]["init_args"]
        student = init["student"] | {"solver": PLAIN["solver"] | {"learned": "table.json"}}
        model = FIT["model"] | {"init_args": {"student": student, "route": {"name": "whole"}, "loss": "end_to_end"}}
        sizes = {"trajectories": 64, "validation_trajectories": 64}
        data = FIT["data"] | {"init_args": FIT["data"]["init_args"] | sizes}
        (folder / "fit.yaml").write_text(yaml.safe_dump(FIT | {"model": model, "data": data}))
        arguments = ("fit", "--config", "fit.yaml", "--trainer.enable_checkpointing=true")
        self.table(1.0)
        assert [call(*arguments), call(*arguments, "--trainer.max_epochs=2")] == [0, 0]
        self.table(1.1)
        capsys.readouterr()
        assert call(*arguments, "--trainer.max_epochs=3") == 2
        assert "digests.learned" in capsys.readouterr().err


class TestHomes:
    def test_each_recipe_has_a_directory_of_its_own_where_all_that_it_makes_lies(self):
        for name in FITS:
            content = CONTENTS[name]
            told = content["model"].get("init_args", {}).get("student", {}).get("nfe")
            home = content["trainer"]["default_root_dir"].replace("{nfe}", str(told))
            assert home in (f"runs/{name}", f"runs/{name}-{told}")
            assert "logger" not in content["trainer"]
            assert "export" not in content["model"].get("init_args", {})
        assert len({CONTENTS[name]["trainer"]["default_root_dir"] for name in FITS}) == len(FITS)

    def test_suites_and_samplers_look_where_a_fit_puts_it(self):
        """A cell of one whose fit is elsewhere would take what an older fit has left there."""
        homes = {CONTENTS[name]["trainer"]["default_root_dir"] for name in FITS}
        names = ("predictor.json", "table.json", "constants.json", "coefficients.json")
        made = {f"{home}/{name}".replace("{nfe}", str(nfe)) for home in homes for name in names for nfe in range(20)}
        solvers = [cell.solver for name in SUITES for cell in plan(load_suite(CONFIGS.parent / "benchmarks" / name))]
        solvers += [CONTENTS[name]["sampler"]["solver"] for name in SAMPLERS]
        # A suite over training seeds has a home for each: learned-256 begins at seed 256.
        named = {re.sub("/learned-[0-9]+/", "/", str(path)) for path in map(learned_path, solvers) if path}
        assert len(named) > 10
        assert named <= made


class TestPrecompute:
    def test_it_leaves_a_fit_no_teacher_to_run(self, folder, capsys, monkeypatch):
        assert call("precompute", "--config", "fit.yaml") == 0
        (store,) = (folder / "store").iterdir()
        assert f"complete: {store.relative_to(folder)}" in capsys.readouterr().out
        assert len(list(store.glob("*/data.mdb"))) == 4
        record = json.loads((store / "run.json").read_text())
        assert record["digests"]["recipe"].startswith(store.name)
        before = {path: path.read_bytes() for path in store.rglob("*.*")}
        monkeypatch.setattr(precompute_module, "roll_out", None)
        assert call("fit", "--config", "fit.yaml") == 0
        assert (folder / "out" / "predictor.json").is_file()
        assert {path: path.read_bytes() for path in store.rglob("*.*")} == before

    def test_options_of_the_command_line_outdo_the_file(self, folder):
        assert call("precompute", "--config", "fit.yaml", "--data.trajectories=256") == 0
        assert len(list(folder.glob("store/*/training-*/data.mdb"))) == 1

    def test_a_second_run_computes_nothing(self, folder, monkeypatch):
        assert call("precompute", "--config", "fit.yaml") == 0
        monkeypatch.setattr(precompute_module, "roll_out", None)
        assert call("precompute", "--config", "fit.yaml") == 0


class TestFit:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("route", "solver", "epochs", "same_tables"),
        [
            ({"name": "network"}, "amed", 1, 0),
            ({"name": "differences"}, "amed", 1, 0),
            ({"name": "table"}, "amed", 1, 2),
            ({"name": "table", "stage_epochs": 1}, "ipndm", 3, 1),
        ],
        ids=["network", "differences", "table", "stages"],
    )
    def test_two_processes_make_the_files_and_nearly_the_predictor_of_one(
        self, folder, route, solver, epochs, same_tables
    ):
        """A batch is split, so that its mean is added up in another order; later stages' tables follow that."""
        content = copy.deepcopy(FIT)
        options = content["model"]["init_args"]
        student = options["student"] = options["student"] | {"solver": {"name": solver}}
        options["route"], content["trainer"]["max_epochs"] = route, epochs
        (folder / "fit.yaml").write_text(yaml.safe_dump(content))
        (folder / "two").mkdir()
        start(folder / "two", "fit", "--config", folder / "fit.yaml", "--trainer.devices=2")
        assert call("fit", "--config", "fit.yaml") == 0
        shards, tables = (self.in_both(folder, pattern) for pattern in ("*/*/data.mdb", "tables/*.safetensors"))
        assert (len(shards), len(tables)) == (4, same_tables)
        for one, two in shards:
            assert records(one.parent) == records(two.parent)
        for one, two in tables:
            assert one.read_bytes() == two.read_bytes()
        one, two = (self.predictor(path, student).state_dict() for path in (folder, folder / "two"))
        for name, value in one.items():
            torch.testing.assert_close(value, two[name], rtol=1e-3, atol=1e-4)

    @pytest.mark.slow
    def test_a_learned_table_is_the_same_bit_for_bit_on_any_number_of_processes(self, folder):
        few = {"trajectories": 32, "validation_trajectories": 32, "batch_size": 8, "teacher.batch_size": 8}
        options = [f"--data.{name}={number}" for name, number in few.items()]
        options += ["--model.first_trajectories=32", "--model.first_epochs=2", "--trainer.max_epochs=4"]
        for processes in (1, 2, 4):
            (folder / str(processes)).mkdir()
            start(folder / str(processes), "fit", "digits/union-3", *options, f"--trainer.devices={processes}")
        one, *others = [(folder / name / "runs/digits/union-3/table.safetensors").read_bytes() for name in "124"]
        assert all(other == one for other in others)

    def in_both(self, folder, pattern):
        """Return the files that the stores of one and of two processes both have, in pairs."""
        one, two = folder / "store", folder / "two" / "store"
        paths = [path.relative_to(one) for path in one.glob(pattern)]
        assert len(paths) == len(list(two.glob(pattern)))
        return [(one / path, two / path) for path in paths if (two / path).exists()]

    def predictor(self, path, student):
        solver = student["solver"] | {"learned": str(path / "out" / "predictor.json")}
        return SamplerParts(SamplerConfig(**student | {"solver": solver})).configured().placer

    def test_a_finished_fit_is_validated_from_its_checkpoint(self, folder, capsys):
        assert call("fit", "--config", "fit.yaml", "--trainer.enable_checkpointing=true") == 0
        (checkpoint,) = folder.rglob("*.ckpt")
        exported = (folder / "out" / "predictor.json").read_bytes()
        capsys.readouterr()
        assert (
            call("validate", "--config", "fit.yaml", "--trainer.enable_checkpointing=true", "--ckpt_path", checkpoint)
            == 0
        )
        shown = capsys.readouterr().out
        loss = json.loads(exported)["training"]["val_loss"]
        assert "val/loss" in shown
        assert float(shown.split("val/loss ")[1].split()[1]) == pytest.approx(loss, rel=1e-3)
        assert (folder / "out" / "predictor.json").read_bytes() == exported

    def test_a_dry_run_says_what_precompute_would_take_and_writes_nothing(self, folder, capsys):
        before = sorted(folder.rglob("*"))
        assert call("precompute", "--config", "fit.yaml", "--dry-run") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "records: 832"
        assert lines[2] == "network runs: 9984 (12 per trajectory)"
        assert sorted(folder.rglob("*")) == before
        assert call("precompute", "--config", "fit.yaml") == 0
        written = sum(path.stat().st_size for path in folder.rglob("data.mdb"))
        assert lines[1] == f"disk: {written / 2**20:.1f} MiB"

    def test_a_damaged_store_is_refused_in_one_line(self, folder, capsys):
        assert call("precompute", "--config", "fit.yaml") == 0
        (shard,) = folder.glob("store/*/validation-*")
        (shard / "manifest.json").write_text("{")
        capsys.readouterr()
        assert call("fit", "--config", "fit.yaml") == 2
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {shard.relative_to(folder)}: not a shard of trajectories")

    def test_the_store_is_filled_by_fit_itself_where_nobody_did(self, folder, monkeypatch):
        opened, real = [], source_module.TrajectoryReader
        monkeypatch.setattr(source_module, "TrajectoryReader", lambda *rest: (opened.append(rest[1]), real(*rest))[1])
        assert call("fit", "--config", "fit.yaml", "--data.trajectories=256") == 0
        assert [len(seeds) for seeds in opened] == [256, 64]


def test_hyperparameters_that_a_module_saves_are_those_that_lightning_would_tell_it(tmp_path, monkeypatch, capsys):
    def compared(cli):
        told = []
        for form in (TrainingCLI, LightningCLI):
            vars(cli).pop("config_dump", None)
            form._dump_config(cli)
            told.append([cli.config_dump[part] for part in ("model", "data")])
        assert told[0] == told[1]
        raise InputError("compared")

    monkeypatch.setattr(TrainingCLI, "instantiate_classes", compared)
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(FIT))
    assert refusal(capsys, "fit", tmp_path / "fit.yaml") == "error: compared"
