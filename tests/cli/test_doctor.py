"""``doctor``: what is wrong is found by asking what is really there."""

import subprocess
import sys

import pytest

from amed_lightning.cli.doctor import CHAPTERS
from amed_lightning.runtime import diagnosis
from amed_lightning.runtime.diagnosis import folders, packages, script, slurm

from .command import call


def texts(findings, level):
    return [finding.text for finding in findings if finding.level == level]


@pytest.fixture(autouse=True)
def _no_job(monkeypatch, tmp_path):
    for name in [name for name in diagnosis.os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def package(folder, name, files, monkeypatch, version="1.0"):
    """Install a package that is nothing but its metadata."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, content in files.items():
        (info / file).write_text(content)
    monkeypatch.syspath_prepend(folder)


class TestCommand:
    def test_a_machine_without_problems_ends_well_and_every_chapter_speaks(self, capsys):
        assert call("doctor") == 0
        shown = capsys.readouterr().out
        assert [line for line in shown.splitlines() if line in CHAPTERS] == list(CHAPTERS)
        assert "0 problems" in shown

    def test_a_problem_is_named_and_is_the_exit_code(self, capsys, monkeypatch):
        monkeypatch.setenv("SLURM_NTASKS", "4")
        assert call("doctor") == 1
        assert "\nproblem: several tasks without --ntasks-per-node" in capsys.readouterr().out

    def test_explaining_itself_needs_no_torch(self):
        code = (
            "import sys; from amed_lightning.cli.main import main\n"
            "try: main(['{}', '--help'])\nexcept SystemExit: assert 'torch' not in sys.modules"
        )
        for verb in ("doctor", "models"):
            subprocess.run([sys.executable, "-c", code.format(verb)], check=True, stdout=subprocess.DEVNULL)


class TestPackages:
    def test_what_is_installed_is_what_is_needed(self):
        found = list(packages())
        assert texts(found, "problem") == []
        assert any(text.startswith("torch 2.") for text in texts(found, "fact"))
        assert "extra dev: installed" in texts(found, "fact")

    def test_a_version_that_is_not_wanted_is_a_problem(self, tmp_path, monkeypatch):
        package(tmp_path / "site", "lightning", {}, monkeypatch)
        (problem,) = texts(packages(), "problem")
        assert problem.startswith("lightning 1.0 is installed, and lightning")
        assert ">=2.6.6" in problem

    def test_a_candidate_of_a_later_version_will_do(self, tmp_path, monkeypatch):
        package(tmp_path / "site", "lightning", {}, monkeypatch, version="2.7.0rc1")
        assert "lightning 2.7.0rc1" in texts(packages(), "fact")

    def test_what_is_missing_is_a_problem_but_not_in_an_extra(self, tmp_path, monkeypatch):
        needs = 'Requires-Dist: nobody-has-this>=3\nProvides-Extra: more\nRequires-Dist: nor-this; extra == "more"\n'
        package(tmp_path / "site", "amed-lightning", {}, monkeypatch)
        with (tmp_path / "site" / "amed_lightning-1.0.dist-info" / "METADATA").open("a") as file:
            file.write(needs)
        found = list(packages())
        assert texts(found, "problem") == ["nobody-has-this>=3 is not installed"]
        assert "extra more: lacks nor-this: pip install 'amed-lightning[more]'" in texts(found, "fact")


class TestScript:
    def put(self, folder, content, monkeypatch):
        folder.mkdir(exist_ok=True)
        (folder / "lightning").write_text(content)
        (folder / "lightning").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    def test_ours_is_ours(self, tmp_path, monkeypatch):
        self.put(tmp_path / "bin", "from amed_lightning.cli.main import main", monkeypatch)
        assert texts(script(), "warning") == []

    def test_another_packages_file_is_named_with_its_owner(self, tmp_path, monkeypatch):
        self.put(tmp_path / "bin", "from lightning_sdk.cli import main", monkeypatch)
        points = {"entry_points.txt": "[console_scripts]\nlightning = lightning_sdk.cli:main\n"}
        package(tmp_path / "site", "lightning-sdk", points, monkeypatch)
        owner, file = texts(script(), "warning")
        assert owner.startswith("lightning-sdk also installs a script `lightning`")
        assert str(tmp_path / "bin" / "lightning") in file

    def test_none_is_a_warning(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert any("`python -m amed_lightning`" in text for text in texts(script(), "warning"))


class TestSlurm:
    def job(self, monkeypatch, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        return list(slurm())

    def test_outside_a_job_there_is_nothing_to_say(self):
        assert texts(slurm(), "fact") == ["no SLURM variables: this is no job"]

    def test_a_job_step_of_two_nodes_is_fine(self, monkeypatch):
        found = self.job(monkeypatch, NTASKS="4", NTASKS_PER_NODE="2", NNODES="2", STEP_ID="0", JOB_NAME="fit")
        assert "SLURM_NTASKS=4" in texts(found, "fact")
        assert texts(found, "warning") + texts(found, "problem") == []

    @pytest.mark.parametrize(
        ("variables", "warning"),
        [({"JOB_NAME": "fit"}, "not started by srun"), ({"JOB_NAME": "bash", "STEP_ID": "0"}, "a job called bash")],
    )
    def test_tasks_that_lightning_would_not_see_are_a_warning(self, monkeypatch, variables, warning):
        found = self.job(monkeypatch, NTASKS="2", NTASKS_PER_NODE="2", **variables)
        (text,) = texts(found, "warning")
        assert warning in text


class TestFolders:
    def test_sizes_are_those_of_the_files(self, tmp_path):
        (tmp_path / "cache" / "models").mkdir(parents=True)
        (tmp_path / "cache" / "models" / "weights").write_bytes(bytes(20_000_000))
        assert f"AMED_CACHE: {tmp_path / 'cache'}, 0.02 GB" in texts(folders(), "fact")

    def test_a_cache_that_cannot_be_is_a_problem(self, tmp_path, monkeypatch):
        (tmp_path / "taken").write_text("a file")
        monkeypatch.setenv("AMED_CACHE", str(tmp_path / "taken" / "cache"))
        (problem,) = texts(folders(), "problem")
        assert problem.startswith(f"{tmp_path / 'taken'}, for {tmp_path / 'taken' / 'cache'}, cannot be written")

    def test_little_room_is_a_warning(self, monkeypatch):
        monkeypatch.setattr(diagnosis, "ROOM_FOR_A_MODEL", 1e18)
        assert len(texts(folders(), "warning")) == 2
