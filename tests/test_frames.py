"""How deep the network lies below the command: the package's frames above each of its calls.

A frame that only hands on is one more line for whoever reads a traceback or follows a number. docs/architecture.md
lists those that are there, and says what each adds.
"""

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml

import amed_lightning

from .bench.suites import entry, write_suite
from .cli.command import call
from .cli.conftest import _environment  # noqa: F401  # a fixture
from .cli.test_fit import FIT

pytestmark = pytest.mark.usefixtures("unchecked")

PACKAGE = Path(amed_lightning.__file__).parent
PAGE = (PACKAGE.parent / "docs/architecture.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}
NOTING = '''
"""A model that notes who asks it."""

import traceback
from dataclasses import replace

from amed_lightning.denoisers.gaussian import anisotropic_gaussian

STACKS = set()


class Noting:
    cost = 1

    def __init__(self, denoiser):
        self.denoiser = denoiser

    def __call__(self, x, sigma, condition):
        STACKS.add(tuple((frame.filename, frame.name) for frame in traceback.extract_stack()[:-1]))
        return self.denoiser(x, sigma, condition)


def noting():
    model = anisotropic_gaussian(8, 8)
    return replace(model, denoiser=Noting(model.denoiser))
'''
MODEL = {"name": "noting.noting"}
PLAIN = {"name": "ipndm"}
PLUGIN = PLAIN | {"placer": {"fixed": 0.5}}
TEACHER = ("teacher/precompute.py", "_compute")
LEAST_SQUARES = {
    "class_path": "amed_lightning.training.least_squares.LeastSquares",
    "init_args": {"student": FIT["model"]["init_args"]["student"] | {"model": MODEL, "solver": {"name": "ipndm"}}},
}


@pytest.fixture
def stacks(tmp_path, monkeypatch):
    """The package's frames above the calls so far of a model that configurations name."""
    (tmp_path / "noting.py").write_text(NOTING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    noted = importlib.import_module("noting").STACKS

    def found():
        inside = [[(Path(file), name) for file, name in stack if PACKAGE in Path(file).parents] for stack in noted]
        return {tuple((file.relative_to(PACKAGE).as_posix(), name) for file, name in frames) for frames in inside}

    yield found
    sys.modules.pop("noting")


def told(command):
    """The frames that the page lists."""
    rows = re.findall(r"^\| `(?:\w+\.)?(\w+)` \| `([\w/]+\.py)` \|", SECTIONS[f"One number through `{command}`"], re.M)
    return tuple((file, name) for name, file in rows)


@pytest.mark.parametrize(("solver", "frames"), [(PLAIN, 18), ({"name": "amed"}, 18), (PLUGIN, 19)], ids=str)
def test_of_a_sweep(tmp_path, stacks, solver, frames):
    suite = write_suite(tmp_path, model=MODEL, entries=[entry(solver)], num_blocks=1, reference=None)
    options = ("--config", suite, "--output", tmp_path / "out", "--published", tmp_path, "--accelerator", "cpu")
    assert call("bench", "run", *options) == 0
    assert max(map(len, stacks())) <= frames
    assert solver != PLAIN or stacks() == {told("bench")}


def fitted(folder, **changes):
    config = yaml.safe_load(yaml.safe_dump(FIT)) | changes
    config["model"]["init_args"]["student"]["model"] = MODEL
    config["data"]["init_args"] |= {"trajectories": 32, "validation_trajectories": 32, "batch_size": 16}
    config["trainer"]["max_epochs"] = 2
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))
    assert call("fit", "--config", folder / "fit.yaml") == 0


def test_of_a_predictors_fit(tmp_path, stacks):
    fitted(tmp_path)
    own = [stack for stack in stacks() if TEACHER not in stack]
    assert told("fit") in own
    assert max(map(len, own)) <= 11
    assert max(map(len, stacks())) <= 21  # the teacher's


def test_of_a_tables_fit(tmp_path, stacks):
    fitted(tmp_path, model=LEAST_SQUARES)
    own = [stack for stack in stacks() if TEACHER not in stack]
    assert {frame for stack in own for frame in stack} >= {("training/normal_equations.py", "normal_equations")}
    assert max(map(len, own)) <= 11  # one is a list's, before Python 3.12
    assert max(map(len, stacks())) <= 20


@pytest.mark.parametrize("command", ["bench", "fit"])
def test_every_name_of_the_page_is_there(command):
    section = SECTIONS[f"One number through `{command}`"]
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    quoted = re.findall(r"`([A-Za-z_]\w*(?:\.\w+)*)[`(]", section)
    names = {part for name in quoted for part in name.split(".") if part != "py"}
    assert names - {command} <= {*re.findall(r"\b(?:class|def) (\w+)", source)}
    assert len(names) > 30
