"""A wheel, installed in an environment of its own, runs in an empty folder what README shows."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).parents[1]
LARGEST = 15_000_000
"""Bytes of a wheel."""
SUITE = {
    "name": "small",
    "num_blocks": 2,
    "block_size": 16,
    "batch_size": 16,
    "metrics": ["fid"],
    "datasets": [{"name": "digits", "model": "digits", "detector": "digits", "dataset": "digits"}],
    "entries": [{"solver": "euler", "schedules": ["logsnr"], "nfe": [2]}],
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run(command, cwd=HOME, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory):
    """The installed command; what it depends on is taken from where these tests have it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    # Paths alone: the file of an editable install that lies there is not followed, or this checkout would be found.
    (site / "others.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path) + "\n")
    return [folder / "bin/python", "-m", "amed_lightning"]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return tmp_path_factory.mktemp("empty")


def run(program, folder, *words):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*program, *words], cwd=folder, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
class TestWheel:
    def test_it_is_small_and_holds_what_the_program_names(self, wheel):
        assert wheel.stat().st_size < LARGEST
        names = zipfile.ZipFile(wheel).namelist()
        for folder in ("configs", "benchmarks", "slurm"):
            here = {
                str(file.relative_to(HOME)) for file in (HOME / folder).rglob("*.*") if "__pycache__" not in file.parts
            }
            assert {f"amed_lightning/shipped/{file}" for file in here} <= {*names}

    def test_it_is_what_runs(self, program, empty):
        code = "import amed_lightning; print(amed_lightning.__file__)"
        found = subprocess.run([program[0], "-c", code], cwd=empty, capture_output=True, text=True, check=True, env={})
        assert Path(found.stdout).is_relative_to(program[0].parents[1])

    def test_it_samples(self, program, empty):
        options = ("--sampler.solver", "euler", "--seeds", "0-3", "--output", "grid.png", "--accelerator", "cpu")
        run(program, empty, "sample", "digits/sample", *options)
        assert (empty / "grid.png").is_file()

    def test_it_fits_by_name(self, program, empty):
        data = ("--data.trajectories", "64", "--data.validation_trajectories", "64", "--data.teacher.batch_size", "64")
        route = ("--model.route", "network")
        run(program, empty, "fit", "digits/amed", *data, *route, "--trainer.max_epochs", "1")
        assert (empty / "runs/digits/amed-5/predictor.json").is_file()

    def test_it_sweeps_beside_published_figures(self, program, empty):
        (empty / "suite.yaml").write_text(yaml.safe_dump(SUITE))
        assert "published" not in run(program, empty, "bench", "suite.yaml", "--accelerator", "cpu")
        assert (empty / "runs/bench/small/table.md").is_file()
