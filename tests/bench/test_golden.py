"""A night is judged by what its figures are, under the protocol they were taken, on the hardware they come from."""

import copy
import json
import re

import pytest

from amed_lightning.bench.golden import (
    Bounds,
    Verdict,
    check,
    golden_path,
    golden_row,
    golden_text,
    load_golden,
    outcome,
)
from amed_lightning.bench.plan import CellId
from amed_lightning.bench.row import Row
from amed_lightning.config import InputError

HERE, ELSEWHERE = "cpu-here", "cpu-elsewhere"
VERSIONS = {"versions": {"torch": "2"}}


def row(label="euler", placer=None, fid=10.0, off=(-5.0, 0.0, 0.0, 5.0), nfe=5, afs=False, **changes):
    values = {"fid": fid, "fid_error": 5.0, "is": 9.0, "is_error": 0.2, "rmse": 0.2, "rmse_error": 0.01}
    leave_one_out = {"fid": [fid + part for part in off], "is": [9.0] * 4, "rmse": [0.2] * 4}
    identity = {"solver": {"name": label, "placer": placer}, "protocol": {}}
    facts = {"n": 100, "seconds": 2.0, "images_per_second": 50.0, "batch_sizes": [50], "protocol": "aaaa"}
    scores = {"values": values, "leave_one_out": leave_one_out, "identity": identity}
    place = CellId("digits", label, "logsnr", afs, nfe)
    return Row(**{"key": "key", "id": place, "is_reference": False} | facts | scores | changes)


def write(folder, *rows, hardware=HERE):
    path = golden_path(folder, hardware, "suite")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(golden_text(rows, hardware, VERSIONS))


def night(folder, *rows, failures=None, hardware=HERE, bounds=None, troubles=()):
    golden = load_golden(folder, hardware, "suite", bounds or Bounds())
    return check(rows, failures or {}, golden, troubles)


def wrong(checks):
    return {(entry.row, entry.figure): entry.verdict for entry in checks if entry.verdict != Verdict.fine}


NAME = "digits euler logsnr 5 NFE"


class TestJudge:
    @pytest.mark.parametrize(("troubles", "verdict"), [((), "regression"), ((NAME,), "undecided")])
    def test_a_cell_that_fails_is_a_regression_unless_the_machine_is_to_blame(self, tmp_path, troubles, verdict):
        write(tmp_path, row())
        checks = night(tmp_path, failures={NAME: "no memory left"}, troubles=troubles)
        assert wrong(checks) == {(NAME, "row"): verdict}
        assert outcome(checks) == verdict

    def test_the_same_figures_are_fine(self, tmp_path):
        write(tmp_path, row())
        checks = night(tmp_path, row())
        assert {entry.figure for entry in checks} == {"fid", "is", "rmse", "time"}
        assert outcome(checks) == Verdict.fine

    @pytest.mark.parametrize(("moved", "verdict"), [(0.9e-3, None), (1.1e-3, "regression"), (-1.1e-3, "regression")])
    def test_a_deterministic_figure_moves_by_its_stated_bound_at_most(self, tmp_path, moved, verdict):
        write(tmp_path, row())
        found = wrong(night(tmp_path, row(fid=10.0 + moved)))
        assert found == ({} if verdict is None else {(NAME, "fid"): verdict})

    @pytest.mark.parametrize(("moved", "verdict"), [(0.36, None), (0.38, "regression"), (-0.38, "regression")])
    def test_a_predictors_figure_moves_within_standard_errors_of_the_difference(self, tmp_path, moved, verdict):
        """Without each of four blocks the difference is off by -0.1, 0, 0, 0.1: three errors of it are 0.367."""
        write(tmp_path, row(placer="digest of the first fit"))
        second = row(placer="digest of the second", fid=10.0 + moved, off=(-5.1, 0.0, 0.0, 5.1))
        found = wrong(night(tmp_path, second))
        assert found == ({} if verdict is None else {(NAME, "fid"): verdict})

    def test_a_predictors_figure_that_all_blocks_share_moves_by_its_stated_bound(self, tmp_path):
        write(tmp_path, row(placer="digest of the first fit"))
        assert wrong(night(tmp_path, row(placer="digest of the second", fid=10.0 + 0.9e-3))) == {}

    def test_a_predictors_golden_row_of_older_code_leaves_it_open_with_the_cure(self, tmp_path):
        write(tmp_path, row(placer="weights"))
        path = golden_path(tmp_path, HERE, "suite")
        content = json.loads(path.read_text())
        del content["rows"][NAME]["leave_one_out"]
        content["rows"][NAME]["values"]["fid_error"] = 0.2
        path.write_text(json.dumps(content))
        (judgement,) = night(tmp_path, row(placer="weights"))
        assert judgement.verdict == Verdict.undecided
        assert "--update-golden" in judgement.message

    def test_a_fixed_placer_is_not_stochastic(self, tmp_path):
        write(tmp_path, row(placer={"ratio": 0.5}))
        assert wrong(night(tmp_path, row(placer={"ratio": 0.5}, fid=10.5))) == {(NAME, "fid"): "regression"}

    def test_a_figure_that_is_no_number_is_a_regression(self, tmp_path):
        write(tmp_path, row())
        assert wrong(night(tmp_path, row(fid=float("nan")))) == {(NAME, "fid"): "regression"}

    def test_a_figure_that_is_missing_is_a_regression(self, tmp_path):
        write(tmp_path, row())
        tonight = row()
        del tonight.values["rmse"]
        assert wrong(night(tmp_path, tonight)) == {(NAME, "rmse"): "regression"}

    def test_a_row_of_which_no_score_has_a_bound_is_left_open(self, tmp_path):
        write(tmp_path, row())
        (found,) = (
            each for each in night(tmp_path, row(fid=99.0), bounds=Bounds({"kid": 1e-3})) if each.figure == "row"
        )
        assert (found.verdict, found.message) == ("undecided", "no bound for any of its scores, fid, is, rmse")

    def test_a_failed_cell_is_a_regression(self, tmp_path):
        write(tmp_path, row())
        checks = night(tmp_path, failures={NAME: "out of luck"})
        assert wrong(checks) == {(NAME, "row"): "regression"}
        assert "out of luck" in checks[0].message
        assert outcome(checks) == Verdict.regression

    def test_time_is_only_warned_about(self, tmp_path):
        write(tmp_path, row())
        checks = night(tmp_path, row(seconds=3.1))
        assert wrong(checks) == {(NAME, "time"): "warning"}
        assert outcome(checks) == Verdict.fine

    @pytest.mark.parametrize("tonight", [row(protocol="bbbb"), row(nfe=6), None], ids=["protocol", "new", "gone"])
    def test_what_cannot_be_compared_is_left_open(self, tmp_path, tonight):
        write(tmp_path, row(), row("heun"))
        checks = night(tmp_path, row("heun"), *([] if tonight is None else [tonight]))
        assert set(wrong(checks).values()) == {"undecided"}
        assert outcome(checks) == Verdict.undecided

    def test_a_regression_outweighs_what_is_open(self, tmp_path):
        write(tmp_path, row())
        assert outcome(night(tmp_path, row(fid=11.0), row("heun"))) == Verdict.regression


class TestGolden:
    def test_without_golden_rows_everything_is_open(self, tmp_path):
        assert load_golden(tmp_path, HERE, "suite", Bounds()) is None
        assert outcome(night(tmp_path, row())) == Verdict.undecided

    def test_unknown_hardware_is_held_to_the_tolerance_file_and_says_so(self, tmp_path):
        write(tmp_path, row(), hardware=HERE)
        (tmp_path / "tolerances.yaml").write_text(f"base: {HERE}\nrelative: {{fid: 0.01}}\n")
        golden = load_golden(tmp_path, ELSEWHERE, "suite", Bounds())
        assert f"there are no rows for {ELSEWHERE}" in golden.origin
        assert "tolerances.yaml" in golden.origin
        assert wrong(night(tmp_path, row(fid=10.09, seconds=100.0), hardware=ELSEWHERE)) == {}
        assert wrong(night(tmp_path, row(fid=10.11), hardware=ELSEWHERE)) == {(NAME, "fid"): "regression"}
        assert wrong(night(tmp_path, row(fid=10.09), hardware=HERE)) == {(NAME, "fid"): "regression"}

    def test_a_base_without_the_suite_leaves_everything_open(self, tmp_path):
        (tmp_path / "tolerances.yaml").write_text(f"base: {HERE}\nrelative: {{fid: 0.01}}\n")
        assert load_golden(tmp_path, ELSEWHERE, "suite", Bounds()) is None

    def test_the_file_has_one_figure_a_line_in_a_fixed_order(self):
        text = golden_text([row(), row("heun")], HERE, VERSIONS)
        assert text == golden_text([row("heun"), row()], HERE, VERSIONS)
        assert '"leave_one_out": {}' in text, "only a predictor's rows are compared by them"
        assert '        "fid": 10.0,\n' in text

    def test_a_row_survives_its_file(self, tmp_path):
        write(tmp_path, row())
        assert load_golden(tmp_path, HERE, "suite", Bounds()).rows == {str(row().id): golden_row(row())}

    @pytest.mark.parametrize("content", ["", "[]", '{"rows": [1]}', '{"rows": {"a": {"nonsense": 1}}}'])
    def test_a_damaged_file_is_named_with_the_cure(self, tmp_path, content):
        write(tmp_path, row())
        golden_path(tmp_path, HERE, "suite").write_text(content)
        with pytest.raises(InputError, match=r"suite\.json: not a file of golden rows .*--update-golden"):
            load_golden(tmp_path, HERE, "suite", Bounds())

    @pytest.mark.parametrize(("wrong", "said"), [("NaN", "NaN"), ("Infinity", "Infinity"), ("1e999", "1e999")])
    @pytest.mark.parametrize("place", ["fid", "seconds_per_image"])
    def test_a_number_that_is_not_finite_is_refused_with_the_cure(self, tmp_path, place, wrong, said):
        write(tmp_path, row())
        path = golden_path(tmp_path, HERE, "suite")
        path.write_text(re.sub(rf'"{place}": [\d.]+', f'"{place}": {wrong}', path.read_text(), count=1))
        with pytest.raises(InputError, match=rf"suite\.json: .*{said} is not finite.*--update-golden"):
            load_golden(tmp_path, HERE, "suite", Bounds())

    def test_a_tolerance_that_is_not_finite_is_refused(self, tmp_path):
        write(tmp_path, row(), hardware=HERE)
        (tmp_path / "tolerances.yaml").write_text(f"base: {HERE}\nrelative: {{fid: .inf}}\n")
        with pytest.raises(InputError, match=r"tolerances\.yaml: relative\.fid is inf; give a finite number"):
            load_golden(tmp_path, ELSEWHERE, "suite", Bounds())

    def test_a_tolerance_file_with_a_wrong_key_is_named(self, tmp_path):
        (tmp_path / "tolerances.yaml").write_text("bases: nowhere\n")
        with pytest.raises(InputError, match=r"tolerances\.yaml"):
            load_golden(tmp_path, HERE, "suite", Bounds())

    def test_a_name_tells_afs_apart_and_knows_no_weights(self):
        one, two = row(), copy.deepcopy(row(placer="weights", key="another"))
        assert str(one.id) == str(two.id) == NAME
        assert str(row(afs=True).id) == "digits euler logsnr afs 5 NFE"
        assert json.loads(golden_text([one], HERE, VERSIONS))["rows"].keys() == {NAME}
