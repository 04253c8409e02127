"""The dispatcher: quick answers, an exit code for every ending, one line for every mistake."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch.distributed as dist
import yaml

from amed_lightning import __version__
from amed_lightning.cli import main as main_module
from amed_lightning.cli.main import VERBS, main
from amed_lightning.cli.parsers import PARSERS

from .command import call, refusal

CONFIGURED = [verb for verb in VERBS if verb not in ("models", "list", "doctor", "new", "completion")]
SLOW = ("torch", "numpy", "scipy", "diffusers", "transformers", "torchmetrics", "torch_fidelity", "lightning")
EXACT = {"name": "anisotropic_gaussian", "height": 8, "width": 8}
SAMPLER = {"model": EXACT, "solver": {"name": "euler"}, "schedule": {"name": "logsnr"}, "num_intervals": 2}
FIT = {
    "seed_everything": 0,
    "model": {
        "class_path": "amed_lightning.training.distillation.AMEDDistillation",
        "init_args": {"student": SAMPLER | {"solver": {"name": "amed"}}},
    },
    "data": {
        "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
        "init_args": {"teacher": {"solver": {"name": "heun"}}, "trajectories": 64, "validation_trajectories": 64},
    },
    "trainer": {"accelerator": "cpu", "max_epochs": 1, "logger": False},
}


class TestQuickAnswers:
    @pytest.mark.parametrize(
        ("option", "answer"), [("--help", r"usage: amed-lightning"), ("--version", rf"amed-lightning {__version__}$")]
    )
    def test_they_come_without_torch(self, option, answer):
        command = [sys.executable, "-X", "importtime", "-m", "amed_lightning", option]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=os.environ)
        assert re.match(answer, done.stdout)
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "amed_lightning.cli.main" in imported
        assert not {*SLOW, "rich"} & imported

    def test_no_verb_s_help_and_no_refused_option_imports_what_is_slow(self, tmp_path):
        """All in one process, whose imports would add up: the page and the refusal of every verb and action."""
        (tmp_path / "all.py").write_text(
            "import contextlib, io, sys\n"
            "from amed_lightning.cli.main import main\n"
            "from amed_lightning.cli.parsers import PARSERS\n"
            "def ends(*arguments):\n"
            "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
            "        main(arguments)\n"
            "for command in PARSERS:\n"
            "    ends(*command.split(), '--help')\n"
            "    if command not in ('fit', 'validate', 'precompute'):\n"
            "        ends(*command.split(), '--colour', 'red')\n"
            "ends('fit', 'nowhere.yaml')\n"
            "print(*sorted({module.partition('.')[0] for module in sys.modules}))\n"
        )
        done = subprocess.run([sys.executable, tmp_path / "all.py"], capture_output=True, text=True, check=True)
        assert not {*SLOW, "rich"} & {*done.stdout.split()}
        assert [line[:7] for line in done.stderr.splitlines()] == ["error: "] * (len(PARSERS) - 2)

    @pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
    def test_help_names_every_verb(self, capsys, arguments):
        assert call(*arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        for verb, (_, purpose) in VERBS.items():
            assert any(line.split() == [verb, *purpose.split()] for line in lines)

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_explains_itself(self, capsys, verb):
        assert call(verb, "--help") == 0
        assert ("--config" in capsys.readouterr().out) == (verb in CONFIGURED)

    def test_a_verb_is_offline_where_the_user_says_so(self, capsys, monkeypatch):
        monkeypatch.delenv("AMED_OFFLINE", raising=False)
        call("doctor")
        assert "nothing is fetched" not in capsys.readouterr().out
        call("--offline", "doctor")
        assert "nothing is fetched" in capsys.readouterr().out


class TestEndings:
    def verb(self, monkeypatch, run):
        module = type(sys)("a_verb")
        module.run = run
        monkeypatch.setitem(sys.modules, "a_verb", module)
        monkeypatch.setitem(VERBS, "a-verb", ("a_verb", "does something"))
        monkeypatch.setattr(main_module, "parsed", lambda verb, rest: (verb, rest))

    @pytest.mark.parametrize("code", [0, 1])
    def test_the_code_of_a_verb_is_the_code_of_the_command(self, monkeypatch, code):
        self.verb(monkeypatch, lambda options: code)
        assert call("a-verb") == code

    @pytest.mark.parametrize(("command", "code"), [(["nightly"], 3), (["run"], 1), ([], 1)])
    def test_a_missing_library_is_told_in_a_line_and_no_regression(self, monkeypatch, capsys, command, code):
        monkeypatch.setitem(VERBS, "bench", ("a_verb_without_its_library", ""))
        monkeypatch.setattr(main_module, "parsed", lambda verb, rest: rest)
        assert call("bench", *command) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: bench: No module named 'a_verb_without_its_library'; `amed-lightning doctor`")

    def test_a_verb_gets_its_name_and_the_rest(self, monkeypatch):
        seen = []
        self.verb(monkeypatch, lambda options: seen.append(options) or 0)
        call("a-verb", "--one", "2")
        assert seen == [("a-verb", ["--one", "2"])]

    def test_an_error_that_is_not_the_user_s_keeps_its_traceback(self, monkeypatch):
        def run(options):
            raise ValueError("a defect")

        self.verb(monkeypatch, run)
        with pytest.raises(ValueError, match="a defect"):
            main(["a-verb"])

    def test_bad_input_is_found_behind_the_error_that_wraps_it(self, monkeypatch, capsys):
        def run(options):
            try:
                raise main_module.InputError("--such and such: use another")
            except ValueError as error:
                raise ValueError("while building") from error

        self.verb(monkeypatch, run)
        assert refusal(capsys, "a-verb") == "error: --such and such: use another"

    @pytest.mark.parametrize(("command", "code"), [(["nightly"], 3), (["run"], 1)])
    def test_processes_that_do_not_find_each_other_end_in_a_line(self, monkeypatch, capsys, command, code):
        """The first waits in vain for the second, which was killed before."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            for name, value in {"ADDR": "127.0.0.1", "PORT": str(free.getsockname()[1])}.items():
                monkeypatch.setenv(f"MASTER_{name}", value)

        def run(options):
            dist.init_process_group("gloo", rank=0, world_size=2, timeout=timedelta(seconds=1))

        self.verb(monkeypatch, run)
        monkeypatch.setitem(VERBS, "bench", VERBS["a-verb"])
        assert call("bench", *command) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: the processes of this job have not found each other (Timed out after")

    @pytest.mark.parametrize(("command", "code"), [(["nightly"], 3), (["run"], 1)])
    def test_a_process_that_is_gone_is_told_in_a_line_and_no_regression(self, monkeypatch, capsys, command, code):
        def run(options):
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
            raise RuntimeError("Connection closed by peer [127.0.0.1]:4711")

        self.verb(monkeypatch, run)
        monkeypatch.setitem(VERBS, "bench", VERBS["a-verb"])
        assert call("bench", *command) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: another process of this job is gone (Connection closed by peer")

    @pytest.mark.parametrize("ends", [None, SystemExit(85), main_module.InputError("no")])
    def test_a_group_of_processes_does_not_outlive_the_verb(self, monkeypatch, ends):
        """Gloo's threads abort the process where it does, one time in five."""

        def run(options):
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
            if ends:
                raise ends
            return 0

        self.verb(monkeypatch, run)
        call("a-verb")
        assert not dist.is_initialized()

    def test_ctrl_c_while_the_group_ends_changes_nothing(self, monkeypatch):
        ended = dist.destroy_process_group

        def slowly():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
            ended()

        monkeypatch.setattr(dist, "destroy_process_group", slowly)
        self.verb(
            monkeypatch, lambda *_: dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1) or 0
        )
        monkeypatch.setitem(VERBS, "fit", VERBS["a-verb"])
        assert call("fit") == 0
        assert not dist.is_initialized()

    def test_ctrl_c_while_python_ends_prints_nothing(self, tmp_path):
        (tmp_path / "late.py").write_text(
            "import atexit, os, signal, sys\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background has it ignored
            "from amed_lightning.cli.main import main\n"
            "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
            "sys.argv = ['amed-lightning', '--version']\n"
            "main()\n"
        )
        done = subprocess.run([sys.executable, tmp_path / "late.py"], capture_output=True, text=True, timeout=60)
        assert done.returncode == -signal.SIGINT
        assert done.stderr == ""


def changed(path, value):
    """Return the fit's YAML with one entry set."""
    content = yaml.safe_load(yaml.safe_dump(FIT))
    *parents, last = path
    place = content
    for key in parents:
        place = place[key]
    place[last] = value
    return content


STUDENT = ("model", "init_args", "student")
DATA = ("data", "init_args")


class TestBadInput:
    def test_an_unknown_verb(self, capsys):
        assert re.match(
            "error: unknown verb 'smaple': use one of fit, .*, completion; did you mean 'sample'\\?$",
            refusal(capsys, "smaple"),
        )

    @pytest.mark.parametrize("verb", VERBS)
    def test_an_unknown_option(self, capsys, verb):
        named = {"bench": ["digits"], "sample": ["digits/sample"]}.get(
            verb, ["digits/amed"] if verb in CONFIGURED else []
        )
        assert "--colour" in refusal(capsys, verb, *named, "--colour=red")

    @pytest.mark.parametrize("verb", CONFIGURED)
    def test_a_configuration_that_is_not_there(self, capsys, verb):
        assert "nowhere.yaml" in refusal(capsys, verb, "--config", "nowhere.yaml")

    @pytest.mark.parametrize("verb", ["sample", "evaluate"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"sampler": SAMPLER | {"solver": {"name": "eluer"}}}, "unknown solver 'eluer': use one of euler, "),
            ({"sampler": SAMPLER | {"solver": {"name": "ipndm", "oder": 2}}}, "solver 'ipndm': .*oder"),
            ({"sampler": SAMPLER | {"schedule": {"name": "linear"}}}, "unknown schedule 'linear'"),
            ({"sampler": SAMPLER | {"model": {"name": "file", "path": "m.json"}}}, "m.json: no such file"),
            ({"sampler": SAMPLER | {"num_intervals": "many"}}, "num_intervals"),
            ({"sampler": SAMPLER | {"steps": 3}}, "steps"),
            ({"sampler": SAMPLER, "sed": "0-3"}, "sed"),
            ({"sampler": SAMPLER, "seeds": "three"}, "--seeds three: write a first and a last seed, like 0-63"),
            ({"sampler": SAMPLER, "seeds": "9-3"}, "--seeds 9-3: write a first and a last seed"),
        ],
        ids=["solver", "option", "schedule", "file", "type", "sampler key", "key", "seeds", "order of seeds"],
    )
    def test_a_sampler_that_cannot_be_built(self, capsys, tmp_path, verb, content, message):
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(content))
        assert re.search(message, refusal(capsys, verb, "--config", path, "--accelerator", "cpu"))

    @pytest.mark.parametrize("verb", ["fit", "precompute"])
    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (("modle",), {"class_path": "x"}, "modle"),
            (("model", "class_path"), "amed_lightning.training.distillation.Nothing", "Nothing"),
            (("model", "init_args", "rate"), 0.1, "rate"),
            ((*STUDENT, "solver"), {"name": "amde"}, "unknown solver 'amde': use one of euler, "),
            ((*STUDENT, "schedule"), {"name": "discrete"}, "'discrete' needs a model with a table"),
            ((*STUDENT, "num_intervals"), 0, "at least one interval, got 0"),
            ((*STUDENT, "steps"), 3, "steps"),
            ((*DATA, "teacher"), {"solver": {"name": "hoin"}}, "unknown solver 'hoin': use one of euler, "),
            ((*DATA, "teacher"), {"solver": {"name": "heun"}, "batch_size": 48}, "must divide shard_size, 256"),
            ((*DATA, "trajectories"), 100, "data.trajectories is 100; it must be a multiple"),
            ((*DATA, "trajectories"), "all", "trajectories"),
            (("trainer", "max_epoch"), 3, "max_epoch"),
        ],
        ids=[
            *("key", "class", "option", "solver", "table", "intervals", "student key"),
            *("teacher", "teacher batch", "batches", "type", "trainer key"),
        ],
    )
    def test_a_fit_that_cannot_be_built(self, capsys, tmp_path, monkeypatch, verb, path, value, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(changed(path, value)))
        assert re.search(message, refusal(capsys, verb, "--config", "fit.yaml"))

    def test_a_suite_with_a_wrong_key(self, capsys, tmp_path):
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump({"name": "small", "modle": EXACT}))
        assert re.search(f"{path}: .*modle", refusal(capsys, "bench", "--config", path))

    def test_a_table_of_nothing(self, capsys, tmp_path):
        entry = {"solver": {"name": "euler"}, "schedules": [{"name": "logsnr"}], "nfe": [2]}
        scored = {"detector": {"name": "digits"}, "dataset": {"name": "digits"}}
        datasets = [{"name": "grey", "model": EXACT, "reference": entry} | scored]
        suite = {"name": "small", "datasets": datasets, "entries": []}
        (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
        for action in ("table", "plot", "report"):
            options = ("--config", tmp_path / "suite.yaml", "--output", tmp_path)
            assert "no sweep there" in refusal(capsys, "bench", action, *options)

    def test_a_fit_without_a_teacher_cannot_be_precomputed(self, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        content = FIT | {
            "model": {
                "class_path": "amed_lightning.training.classifier.ClassifierTraining",
                "init_args": {"classifier": {"name": "digits"}},
            },
            "data": {
                "class_path": "amed_lightning.training.images.Images",
                "init_args": {"dataset": {"name": "digits"}},
            },
        }
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(content))
        line = refusal(capsys, "precompute", "--config", "fit.yaml")
        assert "ClassifierTraining with Images has no teacher" in line
