"""Files by name, options from the environment, parts by their names alone; and what helps to find all that."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from amed_lightning.cli.options import SECTIONS, parsed
from amed_lightning.cli.parsers import PARSERS
from amed_lightning.config import InputError
from amed_lightning.export.folder import EXPORTS
from amed_lightning.metrics.scores import USUAL
from amed_lightning.solvers.registry import SOLVERS

from .command import call, refusal

HOME = Path(__file__).parents[2]
SAMPLE = HOME / "configs/digits/sample.yaml"


class TestFiles:
    @pytest.mark.parametrize(
        "words", [["digits/sample"], ["--config", "digits/sample"], ["--config=digits/sample"], [str(SAMPLE)]], ids=str
    )
    def test_a_file_may_stand_behind_the_verb_and_be_named(self, words):
        options = parsed("sample", [*words, "--seeds", "0-3"])
        assert (options.seeds, options.sampler.num_intervals) == ("0-3", 3)

    def test_an_option_is_stronger_than_files_wherever_it_stands(self, tmp_path):
        (tmp_path / "own.yaml").write_text("{seeds: 0-9, sampler: {num_intervals: 5}}")
        options = parsed("sample", ["--seeds", "0-3", "--config", "digits/sample", "-c", str(tmp_path / "own.yaml")])
        assert (options.seeds, options.sampler.num_intervals) == ("0-3", 5)
        arguments = parsed("fit", ["--model.student.nfe", "7", "--config", "digits/amed-5"]).arguments
        assert arguments[-2:] == ["--model.student.nfe", "7"]

    def test_a_training_s_arguments_are_left_to_lightning(self):
        options = parsed("fit", ["digits/epd", "--trainer.max_epochs", "1"])
        assert options.arguments == ["--config", str(HOME / "configs/digits/epd.yaml"), "--trainer.max_epochs", "1"]

    def test_an_action_may_be_left_out(self):
        assert parsed("bench", ["digits"]).action == "run"
        assert parsed("bench", ["table", "digits"]).action == "table"


class TestEnvironment:
    def test_it_is_stronger_than_a_file_and_weaker_than_the_command_line(self, monkeypatch):
        monkeypatch.setenv("AMED_SAMPLE__SEEDS", "0-7")
        monkeypatch.setenv("AMED_SAMPLE__SAMPLER__NUM_INTERVALS", "4")
        options = parsed("sample", ["digits/sample"])
        assert (options.seeds, options.sampler.num_intervals) == ("0-7", 4)
        assert parsed("sample", ["digits/sample", "--seeds", "9"]).seeds == "9"

    def test_it_is_stronger_than_what_a_name_stands_for(self, monkeypatch):
        monkeypatch.setenv("AMED_FIT__TRAINER__DEFAULT_ROOT_DIR", "elsewhere")
        arguments = parsed("fit", ["digits/amed-5", "--trainer.max_epochs", "1"]).arguments
        assert arguments[-3:] == ["--trainer.default_root_dir=elsewhere", "--trainer.max_epochs", "1"]
        monkeypatch.setenv("AMED_SAMPLE__SAMPLER__DENOISE_TO_ZERO", "true")
        assert parsed("sample", ["digits/amed-5"]).sampler.denoise_to_zero

    def test_it_reaches_a_training(self, monkeypatch):
        monkeypatch.setenv("AMED_FIT__TRAINER__MAX_EPOCHS", "2")
        assert parsed("fit", ["digits/epd"]).arguments[2:] == ["--trainer.max_epochs=2"]

    def test_a_variable_that_is_no_option_is_refused(self, monkeypatch):
        monkeypatch.setenv("AMED_SAMPLE__SEDS", "0-7")
        with pytest.raises(InputError, match=r"SEDS: no option of sample.*did you mean 'AMED_SAMPLE__SEEDS'"):
            parsed("sample", ["digits/sample"])


class TestShortForms:
    def test_a_part_may_be_its_name(self, tmp_path):
        sampler = {"model": "digits", "solver": {"name": "ipndm", "order": 2}, "schedule": "logsnr", "nfe": 5}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump({"sampler": sampler}))
        options = parsed("sample", [str(tmp_path / "run.yaml"), "--sampler.solver", "euler"])
        assert options.sampler.model == {"name": "digits"}
        assert options.sampler.solver == {"name": "euler"}
        assert options.sampler.schedule == {"name": "logsnr"}

    @pytest.mark.parametrize("order", [1, -1])
    def test_another_name_of_a_part_has_none_of_the_last_one_s_options(self, tmp_path, order):
        schedule = {"name": "time_uniform", "rho": 1.0}
        sampler = {"model": "digits", "solver": "euler", "schedule": schedule, "nfe": 5}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump({"sampler": sampler}))
        told = ["--sampler.schedule.name=polynomial", "--sampler.schedule.rho=5"][::order]
        assert parsed("sample", [str(tmp_path / "run.yaml"), *told]).sampler.schedule == {
            "name": "polynomial",
            "rho": 5,
        }
        alone = parsed("sample", [str(tmp_path / "run.yaml"), "--sampler.schedule.name", "polynomial"])
        assert alone.sampler.schedule == {"name": "polynomial"}


class TestFindingOut:
    def test_all_solvers_are_listed_with_their_options(self, capsys):
        assert call("list", "solvers", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told.keys() == SOLVERS.keys()
        assert told["ipndm"] == {"order": 4}

    @pytest.mark.parametrize("what", ["solvers", "schedules", "models", "detectors", "datasets", "metrics"])
    def test_every_list_is_one_line_per_part(self, capsys, what):
        assert call("list", what) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len({line.split()[0] for line in lines}) == len(lines) > 2

    def test_models_and_the_doctor_speak_json(self, capsys):
        assert call("models", "--json", "cifar10") == 0
        (card,) = json.loads(capsys.readouterr().out)
        assert (card["name"], card["facts"]["shape"]) == ("cifar10", [3, 32, 32])
        call("doctor", "--json")
        chapters = json.loads(capsys.readouterr().out)
        assert {finding["level"] for found in chapters.values() for finding in found} <= {"fact", "warning", "problem"}

    def test_a_shell_s_script_knows_verbs_actions_and_options(self, capsys, tmp_path):
        pytest.importorskip("shtab")
        assert call("completion", "bash") == 0
        (tmp_path / "script").write_text(script := capsys.readouterr().out)
        subprocess.run(["bash", "-n", tmp_path / "script"], check=True)
        assert {"precompute", "nightly", "--sampler.nfe"} <= {word.strip("'\"()") for word in script.split()}

    @pytest.mark.parametrize("command", PARSERS)
    def test_help_has_no_parser_s_words(self, capsys, command):
        call(*command.split(), "--help")
        page = capsys.readouterr().out
        assert not [word for word in ("<class", "Union[", "(type:", "null", "CLASS_PATH") if word in page]


def test_a_folder_to_begin_in(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("new", "mine") == 0
    assert (tmp_path / "mine/configs/digits/amed.yaml").read_bytes() == (HOME / "configs/digits/amed.yaml").read_bytes()
    assert (tmp_path / "mine/configs/amed.yaml").is_file()
    assert (tmp_path / "mine/benchmarks/digits.yaml").is_file()
    assert (tmp_path / "mine/slurm/fit.sbatch").is_file()
    assert "there is one already" in refusal(capsys, "new", "mine")


def test_what_options_say_without_torch_is_what_the_parts_say():
    (choices,) = [action.choices for action in PARSERS["export"]("export")._actions if action.dest == "to"]
    assert choices == list(EXPORTS)
    assert parsed("evaluate", []).metrics == list(USUAL)


def test_the_sections_of_a_training_are_lightning_s():
    from amed_lightning.cli.training import TrainingCLI

    parser = TrainingCLI(["--config", str(HOME / "configs/digits/epd.yaml")], run=False).parser
    given = {action.dest.split(".")[0] for action in parser._actions} - {
        "help",
        "config",
        "print_config",
        "print_shtab",
    }
    assert given <= {*SECTIONS}
