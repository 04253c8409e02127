"""Fashion-MNIST's recipes, on small files of its format."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml

from amed_lightning.bench.plan import plan
from amed_lightning.bench.suite import load_suite
from amed_lightning.data import fashion_mnist
from amed_lightning.denoisers import registry
from amed_lightning.denoisers.files import save_model
from amed_lightning.denoisers.model_card import ModelCard
from amed_lightning.metrics.files import load_detector
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.images import generate
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.seeds import Seeds, Stream

from ..data.files import write_fashion_mnist
from .command import call, refusal
from .test_restart import assert_same_run, interrupt  # noqa: F401  # a fixture

pytestmark = pytest.mark.usefixtures("unchecked")

CONFIGS = Path(__file__).parents[2] / "configs" / "fashion_mnist"
TRAININGS = ("denoiser", "classifier")
STEPS = 2
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to run in, with the set in ``set``."""
    monkeypatch.setattr(fashion_mnist, "PARTS", write_fashion_mnist(tmp_path / "set", ending=".gz"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(name, directory, root="set"):
    places = [f"--data.init_args.{part}.root={root}" for part in ("dataset", "validation")]
    sizes = [f"--data.init_args.{name}={STEPS}" for name in ("batch_size", "steps_per_epoch")]
    short = ["--trainer.max_epochs=2", "--trainer.log_every_n_steps=1", f"--trainer.default_root_dir={directory}"]
    quiet = ["--trainer.logger=false", "--trainer.enable_model_summary=false"]
    return ["fit", "--config", CONFIGS / f"{name}.yaml", *places, *sizes, *short, *quiet]


@pytest.mark.usefixtures("unchecked")
class TestDistillation:
    """The recipes, on a tiny network in the place of the shipped one."""

    FITS = ("amed-5", "plugin-6", "union-5")

    @pytest.fixture
    def denoiser(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        network = {
            "img_resolution": 28,
            "img_channels": 1,
            "model_channels": 8,
            "channel_mult": [1, 2, 2],
            "bottleneck_resolution": 7,
        }
        card = ModelCard(network | {"num_blocks": 1, "attn_resolutions": [], "label_dim": 10}, sigma_data=0.5)
        save_model(tmp_path / "assets" / "fashion_mnist" / "denoiser.json", card.denoiser(), card)
        monkeypatch.setattr(registry, "ASSETS", tmp_path / "assets")

    def fit(self, name):
        once = [f"--trainer.{option}=1" for option in ("max_epochs", "limit_train_batches", "limit_val_batches")]
        sizes = [f"--data.{option}=4" for option in ("trajectories", "validation_trajectories", "batch_size")]
        few = {"union-5": ["--model.first_trajectories=4"], "amed-5": ["--model.fine_teacher.batch_size=4"]}.get(
            name, []
        )
        options = [*once, *sizes, *few, "--data.teacher.batch_size=4", "--trainer.logger=false"]
        return call("fit", f"fashion_mnist/{name}", *options)

    @pytest.mark.parametrize(
        "name", [each if each == "union-5" else pytest.param(each, marks=pytest.mark.slow) for each in FITS]
    )
    def test_a_fit_takes_a_step_and_exports_where_the_suite_looks(self, denoiser, name):
        assert self.fit(name) == 0
        suite = load_suite(CONFIGS.parents[1] / "benchmarks" / "fashion.yaml")
        made = {str(path) for stem in ("predictor", "table") for path in Path("runs").rglob(f"{stem}.json")}
        assert made
        assert made <= {str(cell.learned) for cell in plan(suite) if cell.learned}

    @pytest.mark.slow
    def test_a_sampler_draws_clothes_by_class(self, denoiser):
        options = ("--seeds=0", "--batch_size=1", "--accelerator=cpu", "--output=images")
        assert call("sample", "--config", CONFIGS / "classes.yaml", *options) == 0
        assert Path("images/000000.png").is_file()


@pytest.mark.slow
def test_the_shipped_denoiser_draws_what_it_is_asked_for():
    """As the shipped detector sees it; it tells 93 % of the test images rightly."""
    student = SamplerConfig({"name": "fashion_mnist_conditional"}, {"name": "heun"}, {"name": "polynomial"}, nfe=36)
    sampler, (detector, _) = build_sampler(student), load_detector({"name": "fashion_mnist"})
    seeds = Seeds(Stream.tuning, 0, 100)
    asked = torch.arange(100) % 10
    with torch.inference_mode():
        pixels = torch.cat([each.pixels for each in generate(sampler, seeds, 50, CPU, classes=range(10))])
        read = detector(pixels).logits.argmax(1)
    assert (read == asked).float().mean() >= 0.75  # 0.84 of 2,000 when it was shipped


@pytest.mark.parametrize("name", TRAININGS)
class TestRecipes:
    def test_a_fit_that_was_stopped_ends_like_one_left_alone(self, folder, name, interrupt):  # noqa: F811
        """The files have moved between two of its starts."""
        assert call(*arguments(name, "alone")) == 0
        interrupt(at_1=signal.SIGUSR1, at_3=signal.SIGTERM)
        assert call(*arguments(name, "stopped")) == 85
        shutil.move(folder / "set", folder / "elsewhere")
        assert [call(*arguments(name, "stopped", "elsewhere")) for _ in range(2)] == [143, 0]
        assert_same_run(folder / "alone", folder / "stopped")
        alone, stopped = (
            json.loads((folder / run / f"{name}.training.json").read_text()) for run in ("alone", "stopped")
        )
        assert stopped["curve"] == alone["curve"]
        assert [start["batches"] for start in stopped["starts"]] == [0, 1, 3]
        assert stopped["seconds"] > 0  # how many they are depends on what else the machine does

    def test_a_set_that_is_missing_is_one_line(self, folder, name, capsys):
        line = refusal(capsys, *arguments(name, "run", root="nowhere"))
        assert "nowhere: no train-images-idx3-ubyte there, packed or not; install Debian's package" in line
        damaged = next((folder / "set").glob("t10k-images*"))
        damaged.write_bytes(damaged.read_bytes()[:-20])
        line = refusal(capsys, *arguments(name, "other"))
        assert "t10k-images-idx3-ubyte.gz: cannot be read, it is damaged or cut off" in line

    def test_it_names_no_folder_of_one_machine(self, folder, name):
        content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        for part in ("dataset", "validation"):
            assert content["data"]["init_args"][part].keys() == {"name", "split"}
