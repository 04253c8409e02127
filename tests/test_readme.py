"""What README and docs promise is there: the files they name, the verbs they call, the example that they print."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from amed_lightning.cli.main import VERBS
from amed_lightning.cli.options import parsed
from amed_lightning.runtime.shipped import samplers

HOME = Path(__file__).parents[1]
PAGES = [
    HOME / "README.md",
    *sorted((HOME / "docs").glob("*.md")),
    HOME / "slurm/README.md",
    HOME / "benchmarks/README.md",
]
TEXT = (HOME / "README.md").read_text()


def identity(path):
    return str(path.relative_to(HOME))


@pytest.mark.parametrize("page", PAGES, ids=identity)
class TestPages:
    def test_what_they_link_to_is_there(self, page):
        targets = [target for target in re.findall(r"\]\(([^)#]+)", page.read_text()) if "://" not in target]
        assert [target for target in targets if not (page.parent / target).exists()] == []

    def test_the_configurations_and_suites_that_they_name_are_there(self, page):
        named = re.findall(r"(?<![/\w])(?:configs|benchmarks|slurm)/[\w/.-]+\.(?:yaml|py|sbatch)", page.read_text())
        assert [name for name in named if not (HOME / name).is_file()] == []

    def test_the_verbs_that_they_call_are_verbs(self, page):
        called = re.findall(r"\b(?:amed-lightning|lightning) ([a-z]+)\b(?= )", "\n".join(commands(page)))
        assert set(called) <= VERBS.keys()

    def test_their_yaml_is_yaml(self, page):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            assert yaml.safe_load(block)


def commands(page):
    return re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.fixture
def after_demo(tmp_path, monkeypatch):
    """A checkout in which the demo's fits have left their files."""
    for folder in ("configs", "benchmarks", "slurm"):
        (tmp_path / folder).symlink_to(HOME / folder)
    for file in samplers().values():
        union = file.stem.startswith("union")
        run = tmp_path / "runs/digits" / file.stem
        run.mkdir(parents=True)
        for each in (file, file.with_suffix(".safetensors")):
            shutil.copy(each, run / f"{'table' if union else 'predictor'}{each.suffix}")
    monkeypatch.chdir(tmp_path)


def test_the_commands_of_readme_are_read(after_demo):
    lines = "\n".join(commands(HOME / "README.md")).replace(" && ", "\n").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    called = [verb for program, *verb in filter(None, words) if program in ("amed-lightning", "lightning")]
    assert len(called) >= 8
    for verb, *arguments in called:
        assert parsed(verb, arguments)


def test_the_example_of_the_library_prints_that_a_higher_order_is_nearer(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    errors = {line.split(":")[0]: float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()}
    assert list(errors) == ["euler", "ipndm", "heun"]
    assert errors["ipndm"] < errors["euler"] / 3
    assert errors["heun"] < errors["euler"] / 3


@pytest.mark.slow
def test_the_notebook_runs_and_a_learned_table_ends_nearest():
    cells = json.loads((HOME / "docs/first-hour.ipynb").read_text())["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    distances = names["distances"]
    assert distances["union"] < min(distances["euler"], distances["amed"])
    assert names["both"].shape == (16, 1, 8, 8)
