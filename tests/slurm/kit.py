"""From a dataset's recipes to its table, as `slurm/submit.sh` submits them."""

import yaml

from ..bench.suites import PLAIN, entry
from .fits import FIT
from .jobs import Job, script, variables

RECIPES = ("a", "b")


def write_recipe(folder, name, **changes):
    """Write a fit of some seconds, in a directory of its own."""
    config = yaml.safe_load(yaml.safe_dump(FIT))
    home = f"runs/grey/{name}"
    student = config["model"]["init_args"]["student"]
    student["model"] |= {"height": 8, "width": 8}
    student |= changes
    config["model"]["init_args"]["export"] = f"{home}/predictor.json"
    config["seed_everything"] = RECIPES.index(name)
    config["trainer"] |= {"max_epochs": 1, "callbacks": None, "default_root_dir": home}
    path = folder / "configs" / "grey" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))


def write_suite(folder):
    """Write a suite of what the fits make."""
    placed = [{"name": "amed", "learned": f"runs/{{dataset}}/{name}/predictor.json"} for name in RECIPES]
    path = folder / "benchmarks" / "grey.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(PLAIN | {"entries": [entry(solver, 6) for solver in placed]}))


def submitted(cluster, folder):
    """Submit everything; return the jobs by their names."""
    words = ("bash", script("submit.sh"), "grey", "--time=00:20:00")
    printed = cluster.run(*words, cwd=folder, variables=variables() | {"ARRAY": "2,5"})
    return {
        name: Job(cluster, folder, number) for name, number in map(str.split, printed.replace(":", "").splitlines())
    }


def a_table_of_which_a_fit_fails_at_first(cluster, root):
    """Return the folder, the first jobs' ends, and those of what was submitted when the recipe was mended."""
    folder = root / "table"
    folder.mkdir()
    write_recipe(folder, "a")
    write_recipe(folder, "b", solver={"name": "nobody"})
    write_suite(folder)
    first = {name: job.await_end() for name, job in submitted(cluster, folder).items()}
    made = (folder / "runs" / "grey" / "a" / "predictor.safetensors").stat().st_mtime_ns
    write_recipe(folder, "b")
    again = submitted(cluster, folder)
    assert again["grey-table"].await_end() == "COMPLETED", [job.output for job in again.values()]
    assert (folder / "runs" / "grey" / "a" / "predictor.safetensors").stat().st_mtime_ns == made
    return folder, first
