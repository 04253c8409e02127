"""Numbers per interval as a table, and the files that held them before there were tables."""

import json

import pytest
import safetensors.torch
import torch

from amed_lightning.amed.constants import constants_table
from amed_lightning.amed.files import form_of, intervals_of, load_learned, save_learned
from amed_lightning.config import InputError, digest, file_digest
from amed_lightning.flow.probability_flow import ProbabilityFlow, analytic_first_step
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.state import solve
from amed_lightning.solvers.tabulated import Tabulated

from ..solvers.problems import mixture, start

SIGMAS = torch.tensor([14.6, 0.7, 0.2], dtype=torch.float64)
NUMBERS = torch.tensor([[0.3, 0.9, 0.2], [0.6, 1.1, -0.1]], dtype=torch.float64)
PURPOSE = {
    "model": "ab12",
    "solver": {"name": "amed"},
    "num_intervals": 2,
    "schedule": "explicit",
    "sigmas": SIGMAS.tolist(),
    "afs": False,
}


def by_hand(name, x, numbers, afs):
    """``x' = x + h (start d_0 + direction ...)`` of each solver, written down interval by interval."""
    flow = ProbabilityFlow(mixture())
    for (ratio, direction, first_weight), sigma, sigma_next in zip(numbers, SIGMAS, SIGMAS[1:], strict=False):
        first = (analytic_first_step(x, sigma, 3) if afs and sigma == SIGMAS[0] else flow(x, sigma)).derivative
        step, middle = sigma_next - sigma, sigma_next**ratio * sigma ** (1 - ratio)
        halfway = x + (middle - sigma) * first
        second = flow(halfway, middle).derivative
        x = {
            "amed": x + direction * step * second,
            "dpm_solver_2": x + direction * step * (second + (2 * ratio - 1) * first) / (2 * ratio),
            "euler": halfway + direction * (sigma_next - middle) * second,
        }[name] + first_weight * step * first
    return x


@pytest.mark.parametrize("name", ["amed", "dpm_solver_2", "euler"])
@pytest.mark.parametrize("afs", [False, True], ids=["no afs", "afs"])
def test_a_table_of_constants_runs_as_each_interval_s_numbers_say(name, afs):
    table = constants_table(SOLVERS[name](FixedPlacement(0.5)), SIGMAS, afs, NUMBERS)
    steps = Tabulated(table).steps(SOLVERS[name], SIGMAS, afs)
    assert len(steps.sigmas) - 1 == 4 - afs
    assert (steps.afs, steps.placer) == (False, None)
    x = start() * SIGMAS[0]
    replayed = solve(steps.solver, ProbabilityFlow(mixture()), x / SIGMAS[0] * steps.sigmas[0], steps.sigmas)
    torch.testing.assert_close(replayed.x, by_hand(name, x, NUMBERS, afs), rtol=1e-12, atol=1e-12)
    assert replayed.nfe == 4 - afs


class TestFiles:
    def old(self, folder, kind, **changes):
        """Write a file as they were when they held numbers per interval."""
        columns = dict(zip(("ratio", "direction_scale", "start_scale"), NUMBERS.T.contiguous(), strict=True))
        weights = {"sigmas": SIGMAS[:-1]} | {name: column.clone() for name, column in columns.items()} | changes
        path = folder / f"{kind}.json"
        path.with_suffix(".safetensors").write_bytes(safetensors.torch.save(weights))
        content = {"kind": kind, "options": {"kind": kind, "num_intervals": 2}, "purpose": PURPOSE}
        content["weights_sha256"] = file_digest(path.with_suffix(".safetensors"))
        path.write_text(json.dumps(content | {"digest": digest(content), "training": {}}))
        return path

    @pytest.mark.parametrize("kind", ["constants", "coefficients"])
    def test_those_of_the_old_form_are_the_same_sampler(self, tmp_path, kind):
        path = self.old(tmp_path, kind)
        read = load_learned(path, PURPOSE)
        expected = constants_table(SOLVERS["amed"](FixedPlacement(0.5)), SIGMAS, False, NUMBERS)
        assert (read.kind, read.form) == ("table", kind)
        for name, numbers in vars(expected).items():
            torch.testing.assert_close(getattr(read, name), numbers, rtol=0, atol=0)
        assert form_of(path) == kind
        with pytest.raises(InputError, match="made for afs false, not true"):
            load_learned(path, PURPOSE | {"afs": True})

    def test_those_of_another_number_of_intervals_are_refused(self, tmp_path):
        path = self.old(tmp_path, "constants", ratio=torch.ones(3, dtype=torch.float64))
        with pytest.raises(InputError, match=r"constants\.json: "):
            load_learned(path, PURPOSE)

    def test_a_table_comes_back_with_its_form_and_its_numbers(self, tmp_path):
        table = constants_table(SOLVERS["amed"](FixedPlacement(0.5)), SIGMAS, False, NUMBERS)
        path = tmp_path / "constants.json"
        save_learned(path, Tabulated(table, "constants"), PURPOSE, {})
        read = load_learned(path, PURPOSE)
        assert read.form == form_of(path) == "constants"
        assert intervals_of(path) == 2
        torch.testing.assert_close(read.state_dict(), Tabulated(table).state_dict(), rtol=0, atol=0)
        assert not any(numbers.requires_grad for numbers in read.state_dict().values())

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("told", [14.6, 3.0, 0.7], "a table of so many runs"),
            ("told", [14.6, 3.0, 0.7, -0.3], "a level is not above zero"),
            ("answers", torch.ones(5, 4).tolist(), "an answer is used too early"),
            ("noise", [0.0, 1.0, 1.0, 1.0, 1.0], "the first state has no noise"),
            ("noise", None, "noise"),
        ],
    )
    def test_numbers_that_are_no_table_are_refused(self, tmp_path, name, value, said):
        table = constants_table(SOLVERS["amed"](FixedPlacement(0.5)), SIGMAS, False, NUMBERS)
        numbers = dict(vars(table))
        numbers.pop(name)
        if value is not None:
            numbers[name] = torch.tensor(value, dtype=torch.float64)
        self.written(tmp_path / "t.json", {"form": "union"}, numbers)
        with pytest.raises(InputError, match=f"t\\.json: .*{said}"):
            load_learned(tmp_path / "t.json", PURPOSE)

    @pytest.mark.parametrize("form", [3, "", "a\nb", "x" * 61])
    def test_a_form_that_is_no_short_name_is_refused(self, tmp_path, form):
        table = constants_table(SOLVERS["amed"](FixedPlacement(0.5)), SIGMAS, False, NUMBERS)
        self.written(tmp_path / "t.json", {"form": form}, vars(table))
        with pytest.raises(InputError, match="its form is no short name"):
            load_learned(tmp_path / "t.json", PURPOSE)

    @pytest.mark.parametrize("told", [{}, {"num_intervals": "2"}, {"num_intervals": 0}, {"num_intervals": 10**9}])
    def test_a_number_of_intervals_that_is_none_is_refused(self, tmp_path, told):
        purpose = {key: value for key, value in PURPOSE.items() if key != "num_intervals"} | told
        table = constants_table(SOLVERS["amed"](FixedPlacement(0.5)), SIGMAS, False, NUMBERS)
        save_learned(tmp_path / "t.json", Tabulated(table, "union"), purpose, {})
        for read in (intervals_of, form_of):
            with pytest.raises(InputError, match=r"t\.json: .* its number of intervals is none"):
                read(tmp_path / "t.json")

    def written(self, path, options, numbers):
        weights = path.with_suffix(".safetensors")
        weights.write_bytes(safetensors.torch.save({name: value.contiguous() for name, value in numbers.items()}))
        content = {"kind": "table", "options": options, "purpose": PURPOSE, "weights_sha256": file_digest(weights)}
        path.write_text(json.dumps(content | {"digest": digest(content), "training": {}}))
