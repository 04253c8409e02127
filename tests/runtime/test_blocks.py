"""Long work stops before the next answer of the network when a signal asks for it, and goes on with the same block."""

import os
import signal
from copy import deepcopy

import pytest
import yaml

from amed_lightning.bench import sweep
from amed_lightning.cli import sample
from amed_lightning.data.folder import image_files
from amed_lightning.teacher import precompute as precompute_module
from amed_lightning.teacher import tabulate

from ..bench.suites import CELLS, PLAIN, write_suite
from ..cli.command import call
from ..cli.test_fit import FIT

pytestmark = pytest.mark.usefixtures("unchecked")

BLOCKS = PLAIN["num_blocks"] * CELLS


@pytest.fixture
def counted(monkeypatch):
    """Count the blocks that a function computes; a signal comes while the second one is under way."""

    def watch(module, name, number):
        blocks, real = [], getattr(module, name)

        def computed(*arguments):
            blocks.append(1)
            if len(blocks) == 2:
                os.kill(os.getpid(), number)
            return real(*arguments)

        monkeypatch.setattr(module, name, computed)
        return blocks

    return watch


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 85), (signal.SIGTERM, 143)])
def test_precomputing_stops_after_a_batch_and_begins_its_shard_again(tmp_path, monkeypatch, counted, number, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(FIT))
    started = counted(precompute_module, "roll_out", number)
    data = FIT["data"]["init_args"]
    batches = (data["trajectories"] + data["validation_trajectories"]) // data["teacher"]["batch_size"]
    assert call("precompute", "--config", "fit.yaml") == code
    assert len(started) == 2
    assert call("precompute", "--config", "fit.yaml") == 0
    assert len(started) == 2 + batches
    assert not list(tmp_path.glob("store/*/.*"))


def test_a_sweep_goes_on_with_the_next_block(tmp_path, counted):
    arguments = ("bench", "--config", write_suite(tmp_path), "--output", tmp_path / "out", "--accelerator", "cpu")
    started = counted(sweep, "compute_block", signal.SIGUSR1)
    assert call(*arguments) == 85
    assert len(started) == 2
    assert call(*arguments) == 0
    assert len(started) == BLOCKS + 1


def test_a_table_is_stopped_within_a_block(tmp_path, monkeypatch, counted, capsys):
    """Its only block asks the network at many nodes."""
    monkeypatch.chdir(tmp_path)
    config = deepcopy(FIT)
    config["model"]["init_args"]["route"] = {"name": "table"}
    config["data"]["init_args"] |= {"trajectories": 64}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    nodes = counted(tabulate, "Noted", signal.SIGTERM)
    assert call("precompute", "--config", "fit.yaml") == 143
    assert len(nodes) == 2
    said = capsys.readouterr().err
    assert "table: stopped, 1 blocks are left; the same command goes on" in said
    assert call("precompute", "--config", "fit.yaml") == 0
    assert not list(tmp_path.glob("store/tables/.*"))


@pytest.mark.parametrize("output", ["images", "grid.png"])
def test_sampling_goes_on_with_the_next_batch(tmp_path, counted, output):
    sampler = {"model": PLAIN["datasets"][0]["model"], "solver": {"name": "euler"}, "schedule": {"name": "logsnr"}}
    (tmp_path / "sample.yaml").write_text(yaml.safe_dump({"sampler": sampler | {"num_intervals": 3}}))
    arguments = ("--config", tmp_path / "sample.yaml", "--accelerator", "cpu", "--seeds", "0-9", "--batch_size", "4")
    started = counted(sample, "generate", signal.SIGTERM)
    assert call("sample", *arguments, "--output", tmp_path / output) == 143
    assert len(started) == 2
    assert call("sample", *arguments, "--output", tmp_path / output) == 0
    assert len(started) == 4
    assert call("sample", *arguments, "--output", tmp_path / "alone") == 0
    if output == "images":
        one, other = (image_files(tmp_path / name) for name in (output, "alone"))
        assert all(a.equal(b) for (a, _), (b, _) in zip(one.batches(4), other.batches(4), strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["alone", output, "sample.yaml"])
