"""The batch scripts without a cluster: what they start, and what they do when it ends."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from ..runtime.commands import commands, enter_job

SCRIPTS = Path(__file__).parents[2] / "slurm"
HOME = SCRIPTS.parent
ARGUMENTS = {
    "precompute.sbatch": "precompute --config some.yaml --trainer.devices 2 --trainer.num_nodes 3 --more",
    "fit.sbatch": "fit --config some.yaml --trainer.devices 2 --trainer.num_nodes 3 --more",
    "bench_array.sbatch": "bench run --config some.yaml --output runs/bench --devices 2 --num_nodes 3 --more",
    "table.sbatch": "bench table --config some.yaml --output runs/bench --more",
    "nightly.sbatch": "bench nightly --config some.yaml --devices 2 --num_nodes 3 --more",
}
EXPANSION = re.compile(r"""\$\{(\w+)\[@\]\}""")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A job of six tasks on three nodes, with stand-ins for SLURM's commands."""
    slurm = commands(tmp_path / "bin", monkeypatch)
    slurm.answer("scontrol")
    enter_job(monkeypatch, JOB_NAME="night", JOB_NUM_NODES="3", NTASKS="6", NTASKS_PER_NODE="2", SUBMIT_DIR=str(HOME))
    monkeypatch.delenv("AMED_HOME", raising=False)
    return slurm


def run(name, *words):
    return subprocess.run(["bash", SCRIPTS / name, *words], capture_output=True, text=True, timeout=60)


def test_every_script_is_known_here():
    assert sorted(path.name for path in SCRIPTS.glob("*.sbatch")) == sorted(ARGUMENTS)


@pytest.mark.parametrize("name", ["job.sh", "submit.sh", *ARGUMENTS])
def test_shellcheck_finds_nothing(name):
    program = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([program, "-x", "-P", HOME, SCRIPTS / name], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("path", [*SCRIPTS.glob("*.s*"), HOME / ".ci" / "run"], ids=lambda path: path.name)
def test_no_array_that_may_be_empty_is_an_unset_variable_to_an_old_bash(path):
    text = path.read_text()
    for found in EXPANSION.finditer(text):
        name = found[1]
        guarded = f'${{{name}[@]+"{found[0]}"}}'
        assert text[found.start() - len(f"${{{name}[@]+") - 1 :].startswith(guarded), text[found.start() :][:60]


@pytest.mark.parametrize("name", ARGUMENTS)
class TestOptions:
    @pytest.fixture
    def options(self, name):
        return [line.split(maxsplit=1)[1] for line in (SCRIPTS / name).read_text().splitlines() if "#SBATCH" in line]

    def test_a_requeue_has_what_it_needs(self, options):
        assert "--requeue" in options
        assert "--open-mode=append" in options
        assert any(option.startswith("--signal=USR1@") for option in options)

    def test_memory_is_the_users_to_ask_for(self, options):
        """Of ``--mem``, ``--mem-per-cpu`` and ``--mem-per-gpu`` one in a script makes another one fatal."""
        assert not [option for option in options if option.startswith("--mem")]


@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS.items())
def test_a_script_runs_its_verb_on_all_tasks(slurm, monkeypatch, name, arguments):
    array = {"JOB_ID": "9", "TASK_ID": "3", "TASK_MIN": "1", "TASK_COUNT": "4"} if "array" in name else {}
    for variable, value in array.items():
        monkeypatch.setenv(f"SLURM_ARRAY_{variable}", value)
    slurm.answer("srun")
    assert run(name, "some.yaml", "--more").returncode == 0
    assert slurm.calls("srun") == [f"{HOME}/.venv/bin/python -m amed_lightning {arguments}"]
    assert slurm.calls("scontrol") == []


def test_a_run_can_have_another_directory_than_its_yaml_says(slurm, monkeypatch):
    slurm.answer("srun")
    monkeypatch.setenv("RUN", "runs/a second one")
    run("fit.sbatch", "some.yaml")
    (called,) = slurm.calls("srun")
    assert called.endswith(" --trainer.default_root_dir runs/a second one")


class TestSetup:
    @pytest.fixture
    def setup(self, slurm, tmp_path, monkeypatch):
        """Return what writes the file that SETUP names."""
        slurm.answer("srun")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SETUP", "setup")

        def write(*lines):
            Path("setup").write_text("\n".join(lines))

        return write

    def test_it_is_sourced_before_a_step_and_may_set_the_variables(self, slurm, setup):
        setup("export PYTHON=/opt/conda/bin/python", "CONTAINER='nice -n 5'")
        assert run("fit.sbatch", "some.yaml").returncode == 0
        (called,) = slurm.calls("srun")
        assert called.startswith("nice -n 5 /opt/conda/bin/python -m amed_lightning fit --config some.yaml")

    def test_it_may_use_unset_variables_and_sees_no_arguments(self, slurm, setup):
        setup("set -e", 'echo "arguments: $#$UNSET"', "false || true")
        assert "arguments: 0\n" in run("fit.sbatch", "some.yaml", "--more").stdout
        assert slurm.calls("srun")[0].endswith(
            "fit --config some.yaml --trainer.devices 2 --trainer.num_nodes 3 --more"
        )

    def test_afterwards_a_step_that_fails_still_ends_as_it_should(self, slurm, setup):
        setup("set -e")
        slurm.answer("srun", code=85)
        assert run("fit.sbatch", "some.yaml").returncode == 85
        assert slurm.calls("scontrol") == ["requeue 12"]

    @pytest.mark.parametrize("lines", [None, ["module load nothing 2>/dev/null"]], ids=["missing", "failed"])
    def test_nothing_runs_where_it_is_missing_or_fails(self, slurm, setup, lines):
        if lines:
            setup(*lines)
        done = run("fit.sbatch", "some.yaml")
        assert done.returncode == 2
        assert "error: SETUP=setup has failed" in done.stderr
        assert slurm.calls("srun") == []


class TestSubmit:
    """A dataset called ``grey``, whose suite takes two fits; jobs are numbered from 11."""

    @pytest.fixture(autouse=True)
    def _checkout(self, tmp_path, slurm, monkeypatch):
        (tmp_path / "benchmarks" / "paper").mkdir(parents=True)
        (tmp_path / "benchmarks" / "grey.yaml").touch()
        slurm.answer("python")
        self.take(slurm, "grey/a", "configs/b.yaml --model.student.nfe=3")
        monkeypatch.setenv("PYTHON", str(slurm.folder / "python"))
        monkeypatch.chdir(tmp_path)

    def take(self, slurm, *recipes):
        """Let the suite take these."""
        program = slurm.folder / "python"
        lines = "\n".join(f"echo {recipe}" for recipe in recipes)
        program.write_text(f"#!/bin/sh\necho $* >>{program}.calls\n{lines}\n")

    @pytest.fixture
    def sbatch(self, slurm):
        slurm.answer("sbatch")
        path = slurm.folder / "sbatch"
        path.write_text(path.read_text() + f'\nexpr $(wc -l <"{path}.calls") + 10')
        path.write_text(path.read_text().replace("exit 0\n", ""))
        return lambda: [call.replace(f"{SCRIPTS}/", "") for call in slurm.calls("sbatch")]

    def test_fits_then_the_sweep_then_the_table(self, sbatch):
        done = run("submit.sh", "grey", "--qos=long")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == ["grey-a: 11", "grey-b-3: 12", "grey-sweep: 13", "grey-table: 14"]
        after = "--kill-on-invalid-dep=yes"
        suite = "benchmarks/grey.yaml"
        assert sbatch() == [
            "--parsable --job-name=grey-a --qos=long fit.sbatch grey/a",
            "--parsable --job-name=grey-b-3 --qos=long fit.sbatch configs/b.yaml --model.student.nfe=3",
            f"--parsable --job-name=grey-sweep --array=0-3 --dependency=afterok:11:12 {after} --qos=long "
            f"bench_array.sbatch {suite}",
            f"--parsable --job-name=grey-table --dependency=afterok:11:12,afterany:13 {after} table.sbatch {suite}",
        ]

    def test_a_dry_run_prints_the_commands_and_submits_nothing(self, sbatch, monkeypatch):
        monkeypatch.setenv("ARRAY", "0-7%2")
        first, _, sweep, table = run("submit.sh", "--dry-run", "grey").stdout.splitlines()
        assert first == f"sbatch --job-name=grey-a {SCRIPTS}/fit.sbatch grey/a"
        assert "--array=0-7%2 --dependency=afterok:<grey-a>:<grey-b-3> " in sweep
        assert "afterany:<grey-sweep> " in table
        assert sbatch() == []

    def test_the_suite_is_asked_for_its_fits(self, sbatch, slurm):
        run("submit.sh", "--dry-run", "grey")
        assert slurm.calls("python") == ["-m amed_lightning bench recipes benchmarks/grey.yaml"]

    def test_a_suite_without_fits_begins_with_the_sweep(self, sbatch, slurm):
        self.take(slurm)
        sweep, table = run("submit.sh", "--dry-run", "grey").stdout.splitlines()
        assert "dependency" not in sweep
        assert "--dependency=afterany:<grey-sweep> " in table

    def test_the_suite_of_the_paper_comes_first_and_ones_own_before(self, sbatch, monkeypatch):
        Path("benchmarks/paper/grey.yaml").touch()
        assert run("submit.sh", "--dry-run", "grey").stdout.endswith(" benchmarks/paper/grey.yaml\n")
        Path("mine.yaml").touch()
        monkeypatch.setenv("SUITE", "mine.yaml")
        assert run("submit.sh", "--dry-run", "grey").stdout.endswith(" mine.yaml\n")

    def test_what_there_is_not_is_refused(self, sbatch, monkeypatch):
        done = run("submit.sh", "gray")
        assert (done.returncode, done.stderr) == (2, "error: benchmarks/gray.yaml: no such suite; name one as SUITE\n")
        monkeypatch.setenv("SUITE", "mine.yaml")
        done = run("submit.sh", "grey")
        assert (done.returncode, done.stderr) == (2, "error: mine.yaml: no such suite; name one as SUITE\n")
        assert sbatch() == []

    def test_where_sbatch_refuses_it_says_what_is_submitted_already(self, slurm):
        (slurm.folder / "sbatch").write_text(
            '#!/bin/sh\ncase "$*" in *grey-b-3*) exit 1;; *) echo "11;cluster";; esac\n'
        )
        (slurm.folder / "sbatch").chmod(0o755)
        done = run("submit.sh", "grey")
        assert (done.returncode, done.stdout) == (1, "grey-a: 11\n")
        assert done.stderr == "error: grey-b-3 was refused; to cancel the others: scancel 11\n"


def test_a_container_and_an_interpreter_can_be_named(slurm, monkeypatch):
    slurm.answer("srun")
    monkeypatch.setenv("CONTAINER", "apptainer exec image.sif")
    monkeypatch.setenv("PYTHON", "python3")
    run("precompute.sbatch", "some.yaml")
    (called,) = slurm.calls("srun")
    assert called.startswith("apptainer exec image.sif python3 -m amed_lightning precompute")


class TestEnding:
    @pytest.mark.parametrize(("code", "requeued"), [(0, []), (1, []), (2, []), (137, []), (85, ["requeue 12"])])
    def test_85_alone_is_requeued_and_the_code_is_the_jobs(self, slurm, code, requeued):
        slurm.answer("srun", code=code)
        assert run("fit.sbatch", "some.yaml").returncode == code
        assert slurm.calls("scontrol") == requeued

    def test_a_task_of_an_array_is_requeued_alone(self, slurm, monkeypatch):
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
        slurm.answer("srun", code=85)
        run("precompute.sbatch", "some.yaml")
        assert slurm.calls("scontrol") == ["requeue 9_3"]

    def test_where_the_processes_have_asked_already_a_second_request_does_no_harm(self, slurm):
        slurm.answer("srun", code=85)
        slurm.answer("scontrol", complaint="Job is pending execution for job 12", code=1)
        done = run("fit.sbatch", "some.yaml")
        assert done.returncode == 85
        assert "12: not requeued from here" in done.stderr

    @pytest.mark.parametrize(("asked", "requeued"), [("false", []), ("true", ["requeue 12"])])
    def test_after_term_to_the_processes_it_stays_until_slurm_ends_it(self, slurm, monkeypatch, asked, requeued):
        monkeypatch.setenv("REQUEUE_ON_TERM", asked)
        slurm.answer("srun", code=143)
        script = subprocess.Popen(["bash", SCRIPTS / "fit.sbatch", "some.yaml"])
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                script.wait(3)
            script.send_signal(signal.SIGTERM)
            assert script.wait(10) == 143
        finally:
            script.kill()
        assert slurm.calls("scontrol") == requeued

    def test_it_does_not_stay_for_ever(self, slurm, monkeypatch):
        monkeypatch.setenv("GRACE_SECONDS", "1")
        slurm.answer("srun", code=143)
        assert run("fit.sbatch", "some.yaml").returncode == 143

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 85), (signal.SIGTERM, 143)])
    def test_signals_to_the_script_do_not_end_it_before_its_processes(self, slurm, number, code):
        """``scancel`` sends TERM to both; then nothing is waited for."""
        slurm.answer("srun", code=code)
        (slurm.folder / "srun").write_text(f"#!/bin/sh\ntouch {slurm.folder}/began\nsleep 2\nexit {code}\n")
        script = subprocess.Popen(["bash", SCRIPTS / "fit.sbatch", "some.yaml"])
        try:
            while not (slurm.folder / "began").exists():
                time.sleep(0.05)
            os.kill(script.pid, number)
            assert script.wait(10) == code
        finally:
            script.kill()


def test_two_steps_of_a_job_and_two_jobs_have_ports_of_their_own(slurm, monkeypatch):
    ports = []
    lines = f'. "{SCRIPTS}/job.sh"; step one; echo $MASTER_PORT; step two; echo $MASTER_PORT'
    slurm.answer("srun")
    for job in ("12", "13"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        ports += subprocess.run(["bash", "-c", lines], capture_output=True, text=True).stdout.split()
    assert len(set(ports)) == 4
    assert all(20000 <= int(port) < 32768 for port in ports)


def test_the_containers_recipe_copies_what_the_package_is_built_from():
    lines = (SCRIPTS / "apptainer.def").read_text().partition("%files\n")[2].partition("\n\n")[0].splitlines()
    sources = [line.split()[0] for line in lines]
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    assert {"pyproject.toml", "constraints.txt", "amed_lightning", project["readme"], *project["license-files"]} == {
        *sources
    }
    assert all((HOME / source).exists() for source in sources)
