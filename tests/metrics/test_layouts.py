"""The benchmark of detectors' layouts, once through."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_all_ways_are_measured_and_see_the_same_up_to_rounding(tmp_path):
    command = [sys.executable, "benchmarks/detectors.py", "--output", str(tmp_path), "--rounds", "1", "--sizes", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "detectors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["way"] for row in rows] == ["as it is", "channels-last", "folded", "both"] * 2
    differ = [float(row["features_differ"]) for row in rows]
    assert differ[0] == differ[4] == 0, "of the network as it is"
    assert all(0 < each < 1e-5 for each in differ[1:4] + differ[5:])
    assert all(0 < float(row["ms"]) <= float(row["highest_ms"]) for row in rows)
