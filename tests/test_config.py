"""Parts are found by name, their options checked, their descriptions completed; files appear whole or not at all."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from amed_lightning.bench.nightly import Nightly
from amed_lightning.config import (
    InputError,
    build,
    canonical_json,
    complete,
    content_of,
    digest,
    file_digest,
    load_dataclass,
    load_yaml,
    registered,
    write_atomically,
)
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.noise.schedules import SCHEDULES, Polynomial
from amed_lightning.runtime.json_text import parse_json
from amed_lightning.solvers.registry import SOLVERS

REGISTRIES = {"solver": SOLVERS, "schedule": SCHEDULES, "model": DENOISERS}


@dataclass(frozen=True)
class OwnSchedule:
    """What a user might write."""

    ends: tuple[float, float]
    bend: float = 2.0

    def __post_init__(self) -> None:
        if self.bend <= 0:
            raise ValueError(f"bend lies above 0, got {self.bend}")


class TestDigest:
    def test_it_ignores_the_order_of_keys_at_every_depth(self):
        assert digest({"a": 1, "b": {"c": 2, "d": [3]}}) == digest({"b": {"d": [3], "c": 2}, "a": 1})

    def test_it_sees_the_order_of_a_list(self):
        assert digest([1, 2]) != digest([2, 1])

    def test_it_is_the_hash_of_sorted_json_without_white_space(self):
        text = json.dumps({"b": [1, "é"], "a": None}, sort_keys=True, separators=(",", ":"))
        assert digest({"b": [1, "é"], "a": None}) == hashlib.sha256(text.encode()).hexdigest()

    def test_a_dataclass_counts_as_the_mapping_of_its_fields_and_a_path_as_its_text(self):
        assert canonical_json(OwnSchedule((0.0, 1.0))) == canonical_json({"ends": [0.0, 1.0], "bend": 2.0})
        assert canonical_json(Path("a/b")) == '"a/b"'

    @pytest.mark.parametrize("value", [{1, 2}, object(), OwnSchedule], ids=["set", "object", "class"])
    def test_it_refuses_what_has_no_json_form(self, value):
        with pytest.raises(TypeError, match="no canonical JSON form"):
            digest(value)

    def test_it_refuses_numbers_that_are_not_finite(self):
        with pytest.raises(ValueError, match="not JSON compliant"):
            digest(float("nan"))

    def test_of_a_file_is_the_hash_of_its_bytes(self, tmp_path):
        (tmp_path / "file").write_bytes(b"bytes")
        assert file_digest(tmp_path / "file") == hashlib.sha256(b"bytes").hexdigest()


class TestBuild:
    @pytest.mark.parametrize("kind", REGISTRIES)
    def test_an_unknown_name_is_refused_with_the_known_ones(self, kind):
        with pytest.raises(InputError, match=f"unknown {kind} 'nobody'") as refusal:
            build(kind, REGISTRIES[kind], {"name": "nobody"})
        assert all(name in str(refusal.value) for name in REGISTRIES[kind])

    @pytest.mark.parametrize("function", [build, complete])
    def test_an_unknown_option_is_refused_with_the_known_ones(self, function):
        with pytest.raises(InputError, match=r"solver 'dpm_solver_pp': .*(colour|size).*: use one of") as refusal:
            function("solver", SOLVERS, {"name": "dpm_solver_pp", "size": 1, "colour": 2})
        assert all(name in str(refusal.value) for name in ("placer", "order", "prediction", "lower_order_final"))

    def test_what_the_caller_supplies_is_no_option_of_the_user(self):
        with pytest.raises(InputError, match="unknown key 'placer': use one of order"):
            build("solver", SOLVERS, {"name": "ipndm", "placer": None}, placer=None)

    def test_a_part_without_options_says_so(self):
        with pytest.raises(InputError, match="it takes no options"):
            build("schedule", SCHEDULES, {"name": "logsnr", "rho": 7})

    @pytest.mark.parametrize("spec", [{}, {"rho": 7.0}], ids=str)
    def test_a_missing_name_is_refused_with_the_known_ones(self, spec):
        with pytest.raises(InputError, match="schedule: expected a mapping with a 'name'") as refusal:
            build("schedule", SCHEDULES, spec)
        assert all(name in str(refusal.value) for name in SCHEDULES)

    @pytest.mark.parametrize(
        ("spec", "choices"),
        [
            ({"name": "ipndm", "order": 5}, "solver 'ipndm': order 5 does not exist; use 1, 2, 3, 4"),
            ({"name": "ipndm", "order": 0}, "use 1, 2, 3, 4"),
            ({"name": "dpm_solver_pp", "order": 4}, "solver 'dpm_solver_pp': order 4 does not exist; use 1, 2, 3"),
        ],
        ids=str,
    )
    def test_a_refusal_of_the_part_is_bad_input_and_names_the_choices(self, spec, choices):
        with pytest.raises(InputError, match=choices):
            build("solver", SOLVERS, spec)

    def test_a_missing_option_is_bad_input_and_is_named(self):
        with pytest.raises(InputError, match="model 'file': missing: path"):
            build("model", DENOISERS, {"name": "file"})

    def test_a_users_own_class_is_found_by_its_import_path(self):
        path = f"{Polynomial.__module__}.{Polynomial.__qualname__}"
        assert build("schedule", {}, {"name": path, "rho": 3.0}) == Polynomial(3.0)

    @pytest.mark.parametrize("name", ["amed_lightning.noise.schedules.Nothing", "no_such_package.Schedule"])
    def test_an_import_path_that_leads_nowhere_is_refused_with_the_known_names(self, name):
        with pytest.raises(InputError, match=f"unknown schedule '{name}'") as refusal:
            build("schedule", SCHEDULES, {"name": name})
        assert all(known in str(refusal.value) for known in SCHEDULES)

    @pytest.mark.parametrize("name", ["math.pi", "..Polynomial"])
    def test_an_import_path_to_what_cannot_be_called_is_refused(self, name):
        with pytest.raises(InputError, match="schedule"):
            build("schedule", SCHEDULES, {"name": name})

    def test_an_option_that_is_no_word_is_refused(self):
        with pytest.raises(InputError, match="unknown key 'True'"):
            build("schedule", SCHEDULES, {"name": "polynomial", True: 1})


REQUIRED = {
    "file": {"path": "a"},
    "gits": {"path": "a"},
    "explicit": {"levels": [2.0, 1.0]},
    "guided": {"of": {"name": "digits_conditional"}, "scale": 2.0},
    "autoguided": {"of": {"name": "digits"}, "weak": {"name": "digits"}, "scale": 2.0},
    "thresholded": {"of": {"name": "digits"}},
    "pooled": {"of": {"name": "digits"}},
    "pretrained": {"card": "cifar10"},
    **{
        name: {"path": "a"}
        for name in ("edm", "edm2", "consistency", "latent_diffusion", "stable_diffusion", "transformer")
    },
    "guided_diffusion": {"path": "a", "classifier": "b", "scale": 2.0},
}


class TestComplete:
    @pytest.mark.parametrize("function", [build, complete])
    @pytest.mark.parametrize(
        ("kind", "spec", "message"),
        [
            ("schedule", {"name": "polynomial", "rho": math.nan}, "schedule 'polynomial': rho is nan"),
            ("schedule", {"name": "explicit", "levels": [math.inf, 1.0]}, r"schedule 'explicit': levels\.0 is inf"),
            (
                "model",
                {"name": "pooled", "of": {"name": "guided", "of": {"name": "digits"}, "scale": math.inf}},
                r"model 'pooled': of\.scale is inf",
            ),
        ],
    )
    def test_a_number_that_is_not_finite_is_bad_input_and_named(self, function, kind, spec, message):
        with pytest.raises(InputError, match=f"{message}; give a finite number$"):
            function(kind, REGISTRIES[kind], spec)

    @pytest.mark.parametrize("kind", REGISTRIES)
    def test_it_is_complete_already_when_done_twice(self, kind):
        for name in REGISTRIES[kind]:
            spec = {"name": name} | REQUIRED.get(name, {})
            full = complete(kind, REGISTRIES[kind], spec, hidden=["placer"])
            assert complete(kind, REGISTRIES[kind], full, hidden=["placer"]) == full

    def test_it_fills_in_defaults(self):
        spec = {"prediction": "noise", "name": "dpm_solver_pp"}
        full = {
            "name": "dpm_solver_pp",
            "order": 3,
            "prediction": "noise",
            "lower_order_final": True,
            "form": "published",
        }
        assert complete("solver", SOLVERS, spec, hidden=["placer"]) == full

    def test_what_it_is_given_stays_as_it_was(self):
        """A parser that takes whole numbers for decimals would change the caller's list, and with it a digest."""
        given = {"name": "explicit", "levels": [2, 1]}
        assert complete("schedule", SCHEDULES, given)["levels"] == [2.0, 1.0]
        assert [type(level) for level in given["levels"]] == [int, int]

    @pytest.mark.parametrize("name", ["polynomial", "time_uniform", "discrete"])
    def test_a_whole_number_where_a_decimal_is_due_has_the_same_digest(self, name):
        whole, decimal = (complete("schedule", SCHEDULES, {"name": name, "rho": rho}) for rho in (1, 1.0))
        assert digest(whole) == digest(decimal)

    def test_another_value_has_another_digest(self):
        one, seven = (complete("schedule", SCHEDULES, {"name": "polynomial", "rho": rho}) for rho in (1, 7))
        assert digest(one) != digest(seven)
        assert digest(seven) == digest(complete("schedule", SCHEDULES, {"name": "polynomial"}))

    @pytest.mark.parametrize("order", [2.0, True])
    def test_a_value_of_another_type_is_bad_input_and_named(self, order):
        with pytest.raises(InputError, match=r"solver 'ipndm': .*order"):
            complete("solver", SOLVERS, {"name": "ipndm", "order": order})

    def test_a_word_where_a_number_is_due_is_bad_input(self):
        with pytest.raises(InputError, match="rho"):
            complete("schedule", SCHEDULES, {"name": "polynomial", "rho": "seven"})

    def test_what_the_caller_supplies_stays_out(self):
        assert complete("solver", SOLVERS, {"name": "ipndm"}, hidden=["placer"]) == {"name": "ipndm", "order": 4}


class TestFiles:
    def test_a_written_file_replaces_the_old_one_and_leaves_no_temporary(self, tmp_path):
        path = tmp_path / "new" / "folder" / "file.json"
        for content in (b"a longer first version", b"second"):
            write_atomically(path, content)
            assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]

    def test_a_write_that_fails_leaves_the_old_file_as_it_was(self, tmp_path, monkeypatch):
        path = tmp_path / "file"
        write_atomically(path, b"old")

        def full(descriptor):
            raise OSError("no space left")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="no space left"):
            write_atomically(path, b"new")
        assert path.read_bytes() == b"old"

    def test_the_bytes_reach_the_disk_before_the_name(self, tmp_path, monkeypatch):
        path, seen = tmp_path / "file", []
        monkeypatch.setattr("os.fsync", lambda descriptor: seen.append(path.exists()))
        write_atomically(path, b"content")
        assert seen == [False]

    @pytest.mark.parametrize(
        ("content", "message"),
        [(None, "no such file"), ("a: [", "not valid YAML"), ("- a", "expected a mapping"), ("", "expected a mapping")],
    )
    def test_a_configuration_that_cannot_be_read_is_bad_input_and_named(self, tmp_path, content, message):
        path = tmp_path / "run.yaml"
        if content is not None:
            path.write_text(content)
        with pytest.raises(InputError, match=f"run.yaml: {message}"):
            load_yaml(path)

    def test_one_that_is_no_utf_8_is_refused_by_name(self, tmp_path):
        (tmp_path / "a.yaml").write_bytes("name: Bär".encode("latin-1"))
        with pytest.raises(InputError, match=r"a.yaml: not UTF-8 text \(.* at byte \d+\); save it as UTF-8"):
            load_yaml(tmp_path / "a.yaml")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("rho: .nan", "rho is nan"),
            ("entries: [{solver: {name: ipndm}}, {schedule: {rho: -.inf}}]", r"entries\.1\.schedule\.rho is -inf"),
            ("bounds: {relative: {fid: 1.0e+999}}", r"bounds\.relative\.fid is inf"),
        ],
    )
    def test_a_number_that_is_not_finite_is_bad_input_and_named_by_its_place(self, tmp_path, content, message):
        (tmp_path / "run.yaml").write_text(content)
        with pytest.raises(InputError, match=rf"run\.yaml: {message}; give a finite number$"):
            load_yaml(tmp_path / "run.yaml")

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-2.5e400"])
    def test_json_has_finite_numbers_alone(self, number):
        with pytest.raises(ValueError, match=rf"{number} is not finite"):
            parse_json(f'{{"values": [1.5, {number}]}}')

    def test_any_other_json_is_what_it_says(self):
        content = {"a": [1, -2.5, 1e-300, None, True], "b": {"c": "NaN"}}
        assert parse_json(json.dumps(content)) == parse_json(json.dumps(content).encode()) == content

    def test_a_key_of_an_earlier_version_stands_for_what_it_is_called_now(self, tmp_path, capsys):
        path = tmp_path / "night.yaml"
        path.write_text("suite: s.yaml\nboard: here\n")
        assert load_dataclass(path, Nightly).tensorboard == Path("here")
        assert capsys.readouterr().err == f"note: {path}: 'board' is called 'tensorboard' now\n"
        path.write_text("suite: s.yaml\nboard: here\ntensorboard: there\n")
        with pytest.raises(InputError, match="unknown key 'board'"):
            load_dataclass(path, Nightly)

    def test_a_configuration_is_read_as_it_stands(self, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_text("solver: {name: amed}\nnum_intervals: 3\n")
        assert load_yaml(path) == {"solver": {"name": "amed"}, "num_intervals": 3}


class TestData:
    """What somebody else wrote."""

    def test_a_name_is_one_of_the_registry_and_no_import_path(self):
        assert registered("schedule", SCHEDULES, "polynomial") is Polynomial
        for name in (f"{Polynomial.__module__}.Polynomial", "polynomials", None, [], 7):
            with pytest.raises(InputError, match=r"unknown schedule .*: use one of polynomial"):
                registered("schedule", SCHEDULES, name)

    @pytest.mark.parametrize("place", ["of", "inner"])
    def test_a_class_path_imports_nothing_at_any_depth(self, place):
        thing = {"class_path": "no_such_module.Thing", "init_args": {}}
        spec = {"name": "thresholded", "of": thing if place == "of" else {"name": "digits", "more": [{"x": thing}]}}
        with pytest.raises(InputError, match="'class_path' is not accepted here"):
            build("model", DENOISERS, spec)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("a: &a [*a]", "by its aliases"),
            (
                "m0: &m0 [1]\n" + "\n".join(f"m{n}: &m{n} [*m{n - 1}, *m{n - 1}]" for n in range(1, 20)),
                "by its aliases",
            ),
            ("a: " + "[" * 100 + "]" * 100, "nested too deeply"),
            ("a: " + "[" * 5000, "nested too deeply"),
        ],
    )
    def test_a_yaml_that_stands_for_too_much_is_refused(self, tmp_path, text, reason):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(InputError, match=f"a.yaml: not valid YAML: .*{reason}"):
            load_yaml(tmp_path / "a.yaml")

    def test_aliases_that_stand_for_little_are_read(self, tmp_path):
        (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: *a}\n")
        assert load_yaml(tmp_path / "a.yaml") == {"a": {"x": 1}, "b": {"x": 1, "y": {"x": 1}}}

    def test_a_file_that_is_too_large_is_refused(self, tmp_path):
        (tmp_path / "a.json").write_bytes(b" " * 11)
        assert content_of(tmp_path / "a.json", 11) == b" " * 11
        with pytest.raises(InputError, match="more than 10 bytes"):
            content_of(tmp_path / "a.json", 10)
