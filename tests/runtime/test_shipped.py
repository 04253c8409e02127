"""What comes with the program is found by its name, here as in a wheel."""

import tomllib
from pathlib import Path

import pytest

from amed_lightning.config import InputError
from amed_lightning.runtime import shipped as module
from amed_lightning.runtime.shipped import found, shipped

HOME = Path(__file__).parents[2]


def test_a_wheel_has_each_folder_where_it_is_looked_for():
    build = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"] == {
        folder: f"amed_lightning/shipped/{folder}" for folder in ("configs", "benchmarks", "slurm")
    }


@pytest.mark.parametrize("name", ["digits/amed", "digits/amed.yaml", "configs/digits/amed.yaml"])
def test_a_name_stands_for_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert found(name, "configs") == HOME / "configs/digits/amed.yaml"


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
