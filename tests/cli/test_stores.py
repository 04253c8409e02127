"""``stores``: what lies below ``data.root``, who needs it, and what may go."""

import contextlib
import json
import shutil

import pytest
import yaml

from amed_lightning.runtime.work import Claim

from .command import call, refusal
from .test_fit import FIT


def config_of(folder, name, route="network", **student):
    """Write a fit's YAML of 2 trajectories and as many to validate on."""
    config = yaml.safe_load(yaml.safe_dump(FIT))
    own = config["model"]["init_args"]
    own |= {"route": {"name": route}, "student": own["student"] | student}
    config["data"]["init_args"] |= {"trajectories": 2, "validation_trajectories": 2, "batch_size": 2}
    (folder / name).write_text(yaml.safe_dump(config))
    return folder / name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store, and another one with its two tables."""
    folder = tmp_path_factory.mktemp("made")
    with contextlib.chdir(folder):
        for name, route, intervals in (("network.yaml", "network", 2), ("table.yaml", "table", 3)):
            assert call("precompute", "--config", config_of(folder, name, route, num_intervals=intervals)) == 0
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of both."""
    copy = shutil.copytree(made, tmp_path / "copy")
    (copy / "runs").mkdir()
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def digests(folder):
    """The recipes' digests, of the store alone and of that with tables."""
    records = [json.loads(path.read_text()) for path in folder.glob("store/*/run.json")]
    return [
        record["digests"]["recipe"] for record in sorted(records, key=lambda record: record["config"]["num_intervals"])
    ]


def left(folder):
    return sorted(path.name for path in (*folder.glob("store/*"), *folder.glob("store/tables/*.json")))


def listed(capsys, *options):
    capsys.readouterr()
    assert call("stores", "list", "--root", "store", *options) == 0
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()[1:]]


def test_two_trajectories_asked_for_are_two_computed_and_tabulated(folder, digests, capsys):
    lines = listed(capsys)
    assert len(lines) == 4
    for digest in digests:
        (line,) = [line for line in lines if line.startswith(digest[:16])]
        assert "heun" in line
        assert "training 2, validation 2" in line
    tables = [line for line in lines if " table, shared, 3 intervals" in line]
    assert sorted("training 2" in line or "validation 2" in line for line in tables) == [True, True]
    assert all(line.endswith("nobody") for line in lines)


def test_who_needs_it_is_whose_record_names_it_or_whose_yaml_asks_for_it(folder, digests, capsys):
    record = {"digests": {"recipe": digests[0]}, "config": {"data": {"init_args": FIT["data"]["init_args"]}}}
    (folder / "runs" / "run.json").write_text(json.dumps(record))
    by_store = {line.split()[0]: line for line in listed(capsys, "--config", "table.yaml")}
    assert by_store[digests[0][:16]].endswith("runs/run.json (768 + 64)")
    assert by_store[digests[1][:16]].endswith("table.yaml (2 + 2)")
    assert sum(line.endswith("table.yaml (2 + 2)") for line in by_store.values()) == 3


def test_what_nobody_needs_goes_when_that_is_wanted(folder, digests, capsys):
    (folder / "runs" / "run.json").write_text(digests[0])
    before = left(folder)
    assert call("stores", "prune", "--root", "store") == 0
    said = capsys.readouterr().out
    assert said.count("would be removed") == 3
    assert "--yes removes them" in said
    assert left(folder) == before
    assert call("stores", "prune", "--root", "store", "--yes") == 0
    assert left(folder) == sorted([digests[0][:16], "tables"])
    assert not list(folder.glob("store/tables/*"))


def test_what_somebody_is_making_stays(folder, digests, capsys):
    claim = Claim(folder / "store" / digests[0][:16], "training-000000002-000000004")
    assert claim.taken()
    assert call("stores", "prune", "--root", "store", "--yes") == 0
    assert f"{digests[0][:16]}: claimed, see {claim.path.relative_to(folder)}" in capsys.readouterr().out
    assert left(folder) == sorted([digests[0][:16], "tables"])
    claim.release()
    assert call("stores", "prune", "--root", "store", "--yes") == 0
    assert left(folder) == ["tables"]


def test_a_table_that_is_not_finished_belongs_to_its_trajectories_too(folder, digests, capsys):
    table = next(folder.glob("store/tables/*.json"))
    recipe = json.loads(table.read_text())["recipe"]
    blocks = table.with_name(f".{table.stem}.blocks")
    blocks.mkdir()
    (blocks / "recipe.json").write_text(json.dumps(recipe))
    assert sum("unfinished" in line for line in listed(capsys)) == 1
    (folder / "runs" / "run.json").write_text(digests[1])
    assert call("stores", "prune", "--root", "store", "--yes") == 0
    assert blocks.is_dir()


@pytest.mark.usefixtures("folder")
def test_a_folder_that_is_not_there_is_refused(capsys):
    assert "--root elsewhere: no such folder" in refusal(capsys, "stores", "prune", "--root", "elsewhere")
