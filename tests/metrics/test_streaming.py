"""The benchmark of streaming, once through."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_both_ways_are_measured_and_give_the_same_scores(tmp_path):
    command = [sys.executable, "benchmarks/streaming.py", "--output", str(tmp_path), "--rounds", "1"]
    command += ["--images", "128", "--large_images", "8"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "streaming.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["way"] for row in rows] == ["streaming", "PNG files"] * 2
    for streamed, filed in zip(rows[::2], rows[1::2], strict=True):
        assert float(streamed["PNG write_ms"]) == float(streamed["PNG read_ms"]) == 0
        assert all(float(filed[f"{stage}_ms"]) > 0 for stage in ("sampling", "detector", "PNG write", "PNG read"))
        assert float(filed["matrix_root_seconds"]) > 0
