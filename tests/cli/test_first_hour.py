"""What people see who fit for the first time: few lines, a command that goes on, charts that say what was fitted."""

import shlex

import lightning.pytorch as pl
import pytest
import yaml
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amed_lightning.cli.quiet import LEFT_OUT
from amed_lightning.cli.training import Bar

from .command import call, start
from .mistakes import DATA, FIT, MODEL

pytestmark = pytest.mark.usefixtures("unchecked")

FINE = {"solver": {"name": "heun"}, "schedule": {"name": "polynomial"}, "num_intervals": 1, "inner_levels": 7}
EPOCHS = 2


def fit(folder, judged):
    """A fit's YAML of a Gaussian, in a folder."""
    options = MODEL["init_args"] | ({"fine_teacher": FINE | {"batch_size": 64}} if judged else {})
    data = DATA["init_args"] | {"batch_size": 64, "root": "store"}
    trainer = {"accelerator": "cpu", "max_epochs": EPOCHS, "default_root_dir": "out", "num_sanity_val_steps": 0}
    trainer |= {"enable_model_summary": False, "log_every_n_steps": 1}
    content = FIT | {"model": MODEL | {"init_args": options}, "data": DATA | {"init_args": data}, "trainer": trainer}
    (folder / "fit.yaml").write_text(yaml.safe_dump(content))


def charts(folder):
    (found,) = (folder / "out/charts").iterdir()
    return EventAccumulator(str(found)).Reload()


def test_a_fit_says_what_it_does_and_ends_with_its_result_and_a_command_that_samples(tmp_path, monkeypatch):
    fit(tmp_path, judged=True)
    start(tmp_path, "fit", "fit.yaml")
    lines = (tmp_path / "output.txt").read_text().splitlines()
    assert [line for line in lines if line.split(":")[0] not in ("teacher", "fit", "next")] == []
    assert not any(words in line for line in lines for words in LEFT_OUT)
    *_, found, following = lines
    assert found.startswith("fit: val/rmse ")
    assert found.endswith("; out/predictor.json")
    _, _, command = following.partition("next: amed-lightning ")
    monkeypatch.chdir(tmp_path)
    assert call(*shlex.split(command), "--seeds", "0-3") == 0
    assert (tmp_path / "out/samples.png").is_file()

    events = charts(tmp_path)
    assert {"samples/student", "samples/teacher"} <= {*events.Tags()["images"]}
    assert events.Tags()["tensors"] == ["configuration/text_summary", "custom_scalars__config__"]
    (text,) = events.Tensors("configuration/text_summary")
    assert b"learning_rate: 0.005" in text.tensor_proto.string_val[0]


def test_the_bar_has_no_number_of_a_folder(tmp_path):
    trainer = pl.Trainer(logger=TensorBoardLogger(tmp_path), accelerator="cpu", barebones=False)
    assert "v_num" in RichProgressBar().get_metrics(trainer, pl.LightningModule())
    assert Bar().get_metrics(trainer, pl.LightningModule()) == {}


@pytest.mark.parametrize("source", ["digits/amed-5", "missing.json"])
def test_sample_takes_what_was_learned_by_file_or_by_the_name_of_a_shipped_one(tmp_path, monkeypatch, capsys, source):
    monkeypatch.chdir(tmp_path)
    if source.endswith(".json"):
        assert call("sample", source) == 2
        assert "error: missing.json" in capsys.readouterr().err
    else:
        assert call("sample", source, "--seeds=0-1", "--output=two.png") == 0
        assert "2 images at 5 network runs each: two.png" in capsys.readouterr().out
