"""``benchmarks/distillation.py``: what a table's fit leaves stands beside it, whatever the scheme is called."""

from pathlib import Path

import pytest
import torch

HOME = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the benchmark fits without held-out batches and without workers
def test_constants_and_coefficients_are_rows_of_every_scheme_with_a_table_and_of_no_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HOME / "benchmarks")
    from distillation import Case, Comparison, Scheme

    schemes = [
        Scheme("published", None, 32, 1, "published", jointly=False),
        Scheme("stored", {"name": "network"}, 16, 2),
        Scheme("somebody's own", {"name": "table"}, 16, 2),
        Scheme("the same again", {"name": "table"}, 16, 2, again=True),
    ]
    case = Case("few digits", {"name": "digits"}, batch_size=16, held_out=16, schemes=schemes, looks=2, ends=16)
    rows = Comparison(case, tmp_path, torch.device("cpu")).rows()
    assert [row["name"] for row in rows] == [
        *("published", "stored", "somebody's own", "somebody's own: constants", "somebody's own: coefficients"),
        *("the same again", "least squares, as near as published", "least squares, best"),
    ]
    assert rows[5]["forward"] == 0, "no network run on a table that is there"
    assert 0 < rows[6]["forward"] <= rows[7]["forward"]
    assert rows[7]["roll_out_rmse"] <= rows[6]["roll_out_rmse"]
    assert rows[7]["backward"] == 0
