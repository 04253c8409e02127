"""A stranger's solver, schedule, metric, dataset, learned sampler and model: one class each, and one line.

The classes are those that docs/extend.md prints. Each is written into a package of its own, named in a configuration by
its import path and then, with the one line, by a word of the registry's, and used through the command.
"""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from amed_lightning.amed.files import LEARNED, load_learned
from amed_lightning.config import InputError
from amed_lightning.data.registry import DATASETS
from amed_lightning.denoisers.registry import DENOISERS, load
from amed_lightning.metrics.scores import METRICS, metrics_of
from amed_lightning.noise.schedules import SCHEDULES, NoiseRange, levels
from amed_lightning.solvers import registry
from amed_lightning.solvers.placement import FixedPlacement
from docs import make_solvers

from ..bench.suites import entry, write_suite
from ..cli.command import call, refusal
from ..cli.conftest import _environment  # noqa: F401  # a fixture
from ..cli.test_fit import FIT
from ..solvers.problems import RANGE, error_from_exact_history, error_with_warm_up, measured_order

PAGE = (Path(__file__).parents[2] / "docs/extend.md").read_text()
PACKAGE = "my_package"
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}
MODEL = {"name": "anisotropic_gaussian", "height": 8, "width": 8}
SAMPLER = {"model": MODEL, "solver": {"name": "euler"}, "schedule": {"name": "logsnr"}, "num_intervals": 4}


def block(section, language):
    (text,) = re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.DOTALL)
    return text


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The package of one class that a section of the page prints, imported as the command will."""

    def written(section):
        (tmp_path / f"{PACKAGE}.py").write_text(block(section, "python"))
        importlib.invalidate_caches()
        (name,) = re.findall(r"^class (\w+)\(?.*:$", block(section, "python"), re.MULTILINE)
        return getattr(importlib.import_module(PACKAGE), name)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield written
    sys.modules.pop(PACKAGE, None)


def told(section):
    """The part that a section's YAML names, with its options."""
    ((key, part),) = yaml.safe_load(block(section, "yaml")).items()
    return key, part


def images(folder, **changes):
    """The pixels of the images of two seeds, drawn by the command."""
    (folder / "config.yaml").write_text(yaml.safe_dump({"sampler": SAMPLER | changes}))
    output = folder / f"images-{len(list(folder.iterdir()))}"
    options = ("--seeds", "0-1", "--accelerator", "cpu", "--output", output)
    assert call("sample", "--config", folder / "config.yaml", *options) == 0
    drawn = [Image.open(output / f"00000{seed}.png").tobytes() for seed in range(2)]
    assert drawn[0] != drawn[1]
    return drawn


def scores(folder, **changes):
    """The rows of a cell and its reference, which the command has run."""
    results = folder / f"results-{len(list(folder.iterdir()))}"
    suite = write_suite(folder, entries=[entry({"name": "euler"})], **changes)
    options = ("run", "--config", suite, "--output", results, "--published", folder, "--accelerator", "cpu")
    assert call("bench", *options) == 0
    return [json.loads(path.read_text()) for path in sorted(results.rglob("rows/*.json"))]


def added(name, part):
    """What the registry's module holds once the one line stands in its dictionary."""
    source = Path(registry.__file__).read_text()
    line = '    "amed": AMED,\n'
    assert source.count(line) == 1
    module = {"__name__": "amed_lightning.solvers.registry", part.__name__: part}
    exec(compile(source.replace(line, f'{line}    "{name}": {part.__name__},\n'), registry.__file__, "exec"), module)
    return module


class TestSolver:
    def test_it_samples_by_its_import_path_and_by_its_name(self, tmp_path, mine, monkeypatch):
        part, (_, solver) = mine("A solver"), told("A solver")
        by_path = images(tmp_path, solver=solver)
        monkeypatch.setitem(registry.SOLVERS, "mine", added("mine", part)["SOLVERS"]["mine"])
        assert (
            by_path == images(tmp_path, solver=solver | {"name": "mine"}) == images(tmp_path, solver={"name": "mine"})
        )
        assert by_path != images(tmp_path, solver=solver | {"order": 1})
        assert images(tmp_path, solver=solver | {"order": 1}) == images(tmp_path)
        assert by_path != images(tmp_path, solver=solver | {"placer": {"fixed": 0.5}})

    def test_the_one_line_gives_it_a_row_of_the_page_and_orders_that_hold(self, mine, monkeypatch):
        part = mine("A solver")
        module = added("mine", part)
        for name in ("METHODS", "SOLVERS"):
            monkeypatch.setattr(make_solvers, name, module[name])
        row = [line for line in make_solvers.solvers_part(lambda *_: 0.0).splitlines() if line.startswith("| `mine` |")]
        assert "| 1 | 0 1 | `order`: **2**, 1 | Hairer" in row[0]
        (variant,) = part.variants
        for solver, order in zip(make_solvers.solvers("mine", variant), variant.orders, strict=True):
            for grid in make_solvers.GRIDS.values():
                for error in (error_from_exact_history, error_with_warm_up):
                    assert measured_order(error, solver, grid) == pytest.approx(order, abs=0.25)
        assert module["network_runs"](module["SOLVERS"]["mine"](FixedPlacement(0.5)), 3, afs=True) == 5

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (
                {"oder": 2},
                "solver 'my_package.TwoAnswers': unknown key 'oder': use one of order; did you mean 'order'?",
            ),
            ({"order": 3}, "solver 'my_package.TwoAnswers': order 3 does not exist; use 1, 2"),
            ({"name": "my_package.TwoAnswer"}, "unknown solver 'my_package.TwoAnswer': use one of euler, heun"),
        ],
        ids=str,
    )
    def test_what_is_wrong_is_told_in_one_line(self, tmp_path, mine, capsys, wrong, message):
        mine("A solver")
        config = {"sampler": SAMPLER | {"solver": told("A solver")[1] | wrong}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        assert message in refusal(capsys, "sample", "--config", tmp_path / "config.yaml", "--output", tmp_path / "x")


class TestSchedule:
    def test_it_samples_by_its_import_path_and_by_its_name(self, tmp_path, mine, monkeypatch):
        part, (_, schedule) = mine("A schedule"), told("A schedule")
        monkeypatch.setitem(SCHEDULES, "mine", part)
        by_path = images(tmp_path, schedule=schedule)
        assert by_path == images(tmp_path, schedule={"name": "mine"}) != images(tmp_path)
        angles = levels(part(), 4, RANGE).atan()
        torch.testing.assert_close(angles.diff(), angles.diff().mean().expand(4))

    def test_it_may_have_intervals_of_its_own(self, mine):
        class InThrees(mine("A schedule")):
            intervals = 3

        assert len(levels(InThrees(), 6, RANGE)) == 7
        with pytest.raises(ValueError, match="has 3 intervals, which 4 do not refine"):
            levels(InThrees(), 4, RANGE)


class TestMetric:
    def test_a_suite_scores_by_it(self, tmp_path, mine, monkeypatch):
        part, (key, metrics) = mine("A metric"), told("A metric")
        rows = scores(tmp_path, **{key: metrics})
        assert all(row["own_scores"]["brightness"]["better"] == "higher" for row in rows)
        monkeypatch.setitem(METRICS, "mine", part)
        assert metrics_of([{"name": "mine", "above": 2.0}])["mine"].above == 2.0


class TestImages:
    def test_a_suite_scores_against_them_and_their_statistics_are_computed(self, tmp_path, mine, monkeypatch, capsys):
        part, (_, dataset) = mine("Images"), told("Images")
        assert all(row["values"]["fid"] > 0 for row in scores(tmp_path, dataset=dataset))
        monkeypatch.setitem(DATASETS, "mine", part)
        written = tmp_path / "stripes.npz"
        options = ("--detector.name", "digits", "--output", written, "--accelerator", "cpu")
        assert call("reference", "--dataset", json.dumps({"name": "mine"}), *options) == 0
        assert written.is_file()


class TestLearnedSampler:
    def test_it_is_fitted_written_and_sampled_with(self, tmp_path, mine, monkeypatch, capsys):
        part, (key, predictor) = mine("A learned sampler"), told("A learned sampler")
        config = json.loads(json.dumps(FIT))
        config["model"]["init_args"] |= {key: predictor}
        config["data"]["init_args"] |= {"trajectories": 64, "validation_trajectories": 32, "batch_size": 16}
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
        assert call("fit", "--config", tmp_path / "fit.yaml") == 0
        file = tmp_path / "out/predictor.json"
        content = json.loads(file.read_text())
        assert (content["kind"], content["options"]["gain"]) == ("linear", 2.0)
        sampling = ("sample", file, "--seeds", "0-1", "--output", tmp_path / "images", "--accelerator", "cpu")
        assert "unknown kind 'linear': use one of predictor, table" in refusal(capsys, *sampling)
        monkeypatch.setitem(LEARNED, part.kind, part.read)
        assert call(*sampling) == 0
        assert len(list((tmp_path / "images").glob("*.png"))) == 2
        learned = load_learned(file, content["purpose"])
        assert learned.gain == 2.0
        assert learned.layer.weight.abs().max() > 0

    def test_what_is_no_placer_is_refused(self, tmp_path, capsys):
        config = json.loads(json.dumps(FIT))
        config["model"]["init_args"] |= {"predictor": {"name": "types.SimpleNamespace"}}
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
        line = refusal(capsys, "fit", "--config", tmp_path / "fit.yaml")
        assert "predictor 'types.SimpleNamespace': it is no amed_lightning.amed.predictor.LearnedPlacer" in line


class TestModel:
    def test_it_samples_by_its_import_path_and_by_its_name(self, tmp_path, mine, monkeypatch):
        part, (_, model) = mine("A model"), told("A model")
        monkeypatch.setitem(DENOISERS, "mine", part.maker())
        by_path = images(tmp_path, model=model)
        assert by_path == images(tmp_path, model=model | {"name": "mine"}) != images(tmp_path, model={"name": "mine"})

    def test_its_options_and_weights_identify_it(self, mine):
        part = mine("A model")
        four, six = (load({"name": f"{PACKAGE}.Recall", "images": images}) for images in (4, 6))
        assert four.digest == load({"name": f"{PACKAGE}.Recall"}).digest != six.digest
        assert (four.feature_size, six.feature_size, six.noise_range) == (4, 6, NoiseRange(0.002, 80.0))
        other = part(4)
        other.known[0] = 1 - other.known[0]
        assert other.model().digest != four.digest
        with pytest.raises(InputError, match=r"model 'my_package.Recall': unknown key 'image': use one of images"):
            load({"name": f"{PACKAGE}.Recall", "image": 4})


class TestRecipe:
    def test_a_method_takes_a_data_set_of_one_s_own(self, tmp_path, mine):
        mine("A model")
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs/mine.yaml").write_text(block("A recipe", "yaml"))
        few = [f"--data.{name}=8" for name in ("trajectories", "validation_trajectories", "batch_size")]
        few += ["--model.first_trajectories=8", "--model.first_epochs=1", "--trainer.max_epochs=1"]
        assert call("fit", "mine/union-3", *few, "--data.teacher.batch_size=8", "--trainer.accelerator=cpu") == 0
        table = tmp_path / "runs/mine/union-3/table.json"
        assert json.loads(table.read_text())["training"]["nfe"] == 3


def test_every_section_of_the_page_has_its_test():
    assert list(SECTIONS) == [
        "A solver",
        "A schedule",
        "A metric",
        "Images",
        "A learned sampler",
        "A model",
        "A recipe",
    ]
