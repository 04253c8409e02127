"""Fashion-MNIST's recipes, on small files of its format."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from amed_lightning.data import fashion_mnist

from ..data.files import write_fashion_mnist
from .command import call, refusal
from .test_restart import assert_same_run, interrupt  # noqa: F401  # a fixture

CONFIGS = Path(__file__).parents[2] / "configs" / "fashion_mnist"
TRAININGS = ("denoiser", "classifier")
STEPS = 2


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
        assert stopped["seconds"] > alone["seconds"] / 10

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
