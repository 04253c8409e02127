"""What is free is what the kernel and the control groups leave."""

import gc
from contextlib import suppress

import pytest
import torch

from amed_lightning.runtime import memory


@pytest.fixture
def groups(tmp_path):
    """Write a membership file and limits; return the limits found."""

    def found(membership, limits):
        (tmp_path / "membership").write_text(membership)
        for name, limit in limits.items():
            (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mount" / name).write_text(f"{limit}\n")
        return list(memory._control_group_limits(tmp_path / "membership", tmp_path / "mount"))

    return found


def test_a_jobs_limit_counts_though_its_steps_have_none(groups):
    limits = {"slurm/job_7/step_0/memory.max": "max", "slurm/job_7/memory.max": 5_000, "memory.max": 9_000}
    assert groups("0::/slurm/job_7/step_0\n", limits) == [5_000, 9_000]


def test_groups_of_the_first_version_count_too(groups):
    membership = "9:cpu,cpuacct:/job\n4:memory:/job\n0::/\n"
    assert groups(membership, {"memory/job/memory.limit_in_bytes": 7_000, "cpu/job/memory.max": 1}) == [7_000]


def test_without_groups_there_is_no_limit(groups, tmp_path):
    assert groups("0::/job\n", {}) == []
    assert list(memory._control_group_limits(tmp_path / "nowhere")) == []


def test_the_smallest_bound_is_what_is_free(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:       99 kB\nMemAvailable:   12 kB\n")
    assert memory._available(tmp_path / "meminfo") == 12 * 1024
    monkeypatch.setattr(memory, "_available", lambda _: 12 * 1024)
    monkeypatch.setattr(memory, "_control_group_limits", lambda _: iter([20_000, 9_000]))
    assert memory.free_memory(torch.device("cpu")) == 9_000
    monkeypatch.setattr(memory, "_control_group_limits", lambda _: iter([]))
    assert memory.free_memory(torch.device("cpu")) == 12 * 1024


def test_this_machine_has_some():
    assert 2**26 < memory.free_memory(torch.device("cpu")) < 2**50


@pytest.mark.parametrize("enabled", [True, False])
def test_cycles_are_looked_for_again_after_a_block_only_if_they_were_before(enabled):
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with suppress(KeyError), memory.uncollected():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
