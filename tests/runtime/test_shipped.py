"""What comes with the program is found by its name, here as in a wheel."""

import tomllib
from pathlib import Path

import pytest

from amed_lightning.config import InputError
from amed_lightning.runtime import shipped as module
from amed_lightning.runtime.shipped import found, recipe, shipped

HOME = Path(__file__).parents[2]


def test_a_wheel_has_each_folder_where_it_is_looked_for():
    build = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"] == {
        folder: f"amed_lightning/shipped/{folder}" for folder in ("configs", "benchmarks", "slurm")
    }


@pytest.mark.parametrize("name", ["digits/gits", "digits/gits.yaml", "configs/digits/gits.yaml"])
def test_a_name_stands_for_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert found(name, "configs") == HOME / "configs/digits/gits.yaml"


def test_one_s_own_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "amed").write_text("")
    assert found("digits/amed", "configs") == Path("digits/amed")


@pytest.mark.parametrize("name", ["../benchmarks/digits", "nothing"])
def test_what_is_nowhere_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        found(name, "configs")


def test_what_a_wheel_has_comes_before_what_lies_around_it(tmp_path, monkeypatch):
    (tmp_path / "amed_lightning/shipped/configs").mkdir(parents=True)
    monkeypatch.setattr(module, "HERE", tmp_path / "amed_lightning")
    assert shipped("configs") == tmp_path / "amed_lightning/shipped/configs"
    assert shipped("slurm") == tmp_path / "slurm"


class TestRecipe:
    """What stands for ``data set/method-runs``, from general to special."""

    @pytest.fixture(autouse=True)
    def _elsewhere(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    def write(self, name, text="trainer: {}\n"):
        path = Path(f"configs/{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return f"--config={path}"

    @pytest.mark.parametrize("name", ["cifar10/amed-3", "configs/cifar10/amed-3.yaml", "cifar10/amed-3.yaml"])
    def test_it_is_method_data_set_and_what_is_different_in_the_pair(self, name):
        ours = [
            f"--config={HOME}/configs/{layer}.yaml" for layer in ("amed", "cifar10", "cifar10/amed", "cifar10/amed-3")
        ]
        ends = ["--model.student.nfe=3", "--trainer.default_root_dir=runs/cifar10/amed-{nfe}"]
        assert recipe(name) == [*ours, *ends]

    def test_the_runs_need_not_be_told_and_nothing_special_need_be_there(self):
        ours = [f"--config={HOME}/configs/{layer}.yaml" for layer in ("amed", "ffhq")]
        assert recipe("ffhq/amed") == [*ours, "--trainer.default_root_dir=runs/ffhq/amed-{nfe}"]

    def test_one_s_own_come_before_the_program_s(self):
        method = self.write("amed", "model: {class_path: mine.Mine}\n")
        data = self.write("mine")
        assert recipe("mine/amed-5")[:2] == [method, data]
        assert recipe("mine/union-5")[:2] == [f"--config={HOME}/configs/union.yaml", data]
        special = self.write("mine/union-5")
        assert recipe("mine/union-5")[2] == special
        assert recipe("mine/union-4")[2] == "--model.student.nfe=4"

    def test_a_folder_of_configurations_may_be_named(self, tmp_path, monkeypatch):
        data = self.write("mine")
        monkeypatch.chdir(tmp_path.parent)
        assert recipe(f"{tmp_path}/configs/mine/union-5.yaml")[1] == data.replace("configs", f"{tmp_path}/configs")

    @pytest.mark.parametrize(
        "name", ["digits/denoiser", "digits/epd", "amed/digits", "digits", "nothing/amed-5", "a.yaml"]
    )
    def test_other_names_are_none(self, name):
        assert recipe(name) == []

    def test_a_file_that_names_its_classes_is_whole(self):
        self.write("digits/amed-5", "model: {class_path: mine.Mine}\n")
        assert recipe("configs/digits/amed-5.yaml") == []
        assert recipe("digits/amed-5") == ["--config=configs/digits/amed-5.yaml"]
        assert "--config=configs/digits/amed-5.yaml" not in recipe("digits/amed-3")
        self.write("digits/amed", "model: {class_path: mine.Mine}\n")
        assert recipe("digits/amed-3") == ["--config=configs/digits/amed.yaml", "--model.student.nfe=3"]

    def test_a_misspelt_one_is_near_to_one(self):
        with pytest.raises(InputError, match="did you mean 'cifar10/amed'"):
            found("cifar01/amed", "configs")
