"""Precomputing and sweeping stop at the end of a block when a signal asks for it, and lose nothing."""

import os
import signal

import pytest
import yaml

from amed_lightning.bench import runner
from amed_lightning.teacher import precompute as precompute_module

from ..bench.suites import CELLS, PLAIN, write_suite
from ..cli.command import call
from ..cli.test_fit import FIT

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
    started = counted(runner, "compute_block", signal.SIGUSR1)
    assert call(*arguments) == 85
    assert len(started) == 2
    assert call(*arguments) == 0
    assert len(started) == BLOCKS
