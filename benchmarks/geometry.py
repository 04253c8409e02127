r"""AMED's premise: a sampling trajectory hardly leaves a plane (Zhou et al. 2024, section 3.2).

Each trajectory of a dense store is taken by itself: its states, centred on their mean, have principal components, and
with k of them a state x is projected onto the plane P through the mean. The relative projection error at a level is
``||x - P x|| / ||x||``, a trajectory's is the largest over its levels. The paper reports at most 8 % with two
components, for images of 3x32x32 pixels; here any model can be looked at:

    python benchmarks/geometry.py --output runs/geometry
    python benchmarks/geometry.py --config my-model.yaml --output runs/geometry

The YAML's keys are those of ``--help``. The store is filled where it is not complete.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonargparse
import matplotlib

matplotlib.use("Agg")
import torch
from jaxtyping import Float
from matplotlib import pyplot as plt
from meters import write_csv
from torch import Tensor

from amed_lightning.config import Spec
from amed_lightning.runtime.processes import launch
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.precompute import precompute
from amed_lightning.teacher.store import TrajectoryReader, TrajectoryStore
from amed_lightning.teacher.trajectories import TeacherConfig, recipe_for

States = Float[Tensor, "batch levels pixels"]
Errors = Float[Tensor, "batch components levels"]


SCHEDULE: Spec = {"name": "polynomial"}
INTERVALS = 60


def dense_teacher() -> TeacherConfig:
    """Return a teacher of sixty kept intervals."""
    return TeacherConfig({"name": "heun"}, 0, 256, schedule=SCHEDULE, num_intervals=INTERVALS)


@dataclass(frozen=True)
class Geometry:
    """What to look at.

    Attributes:
        model: name and options of the denoiser.
        teacher: how it runs, and its grid.
        trajectories: how many, of the tuning stream.
        components: the largest number of principal components.
        batch_size: trajectories that are read and decomposed at once.
        root: folder of the trajectory stores.
    """

    model: Spec = field(default_factory=lambda: {"name": "digits"})
    teacher: TeacherConfig = field(default_factory=dense_teacher)
    trajectories: int = 256
    components: int = 6
    batch_size: int = 32
    root: Path = Path("runs/trajectories")


def projection_errors(states: States, components: int) -> Errors:
    """Return each state's relative distance from the plane through 1, 2, ... of its trajectory's principal components.

    Args:
        states: trajectories, in float64.
        components: the largest number.
    """
    centred = states - states.mean(1, keepdim=True)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:, :components]
    along = centred @ directions.mT
    explained = along.square().cumsum(2)
    beside = (centred.square().sum(2, keepdim=True) - explained).clamp(min=0).sqrt()
    return (beside / states.norm(dim=2, keepdim=True)).mT


def measure(geometry: Geometry, accelerator: str) -> tuple[Errors, tuple[float, ...], dict[str, Any]]:
    """Return the errors, the levels, and the protocol."""
    teacher, fabric = geometry.teacher, launch(accelerator)
    grid = (teacher.schedule or SCHEDULE, teacher.num_intervals or INTERVALS)
    parts = SamplerParts(SamplerConfig(geometry.model, teacher.solver, *grid))
    store = TrajectoryStore(geometry.root, recipe_for(parts, teacher))
    seeds = Seeds(Stream.tuning, 0, geometry.trajectories)
    precompute(store, parts.model.to(fabric.device), [seeds], fabric, fabric.device)
    reader = TrajectoryReader(store, seeds)
    errors = [
        projection_errors(reader.read(batch.tolist()).states.flatten(2).double(), geometry.components)
        for batch in torch.arange(len(seeds)).split(geometry.batch_size)
    ]
    reader.close()
    protocol = {
        "model": geometry.model["name"],
        "model_digest": parts.model.digest,
        "recipe": store.recipe.digest,
        "solver": teacher.solver["name"],
        "stored_levels": len(store.recipe.stored_sigmas),
        "trajectories": geometry.trajectories,
        "stream": seeds.stream.name,
    }
    return torch.cat(errors), store.recipe.stored_sigmas, protocol


def rows(errors: Errors, sigmas: tuple[float, ...], protocol: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per number of components and level; ``all`` is the largest error of a trajectory."""
    table = []
    for number, of_components in enumerate(errors.unbind(1), start=1):
        columns = {"all": of_components.amax(1)}
        columns |= {f"{sigma:.6g}": column for sigma, column in zip(sigmas, of_components.unbind(1), strict=True)}
        for level, column in columns.items():
            summary = {"mean": column.mean(), "median": column.median(), "largest": column.max()}
            plain = {name: float(value) for name, value in summary.items()}
            table.append({"components": number, "level": level, **plain, **protocol})
    return table


def plot(errors: Errors, sigmas: tuple[float, ...], protocol: dict[str, Any], path: Path) -> None:
    """Draw the trajectories' errors against the number of components, and the mean error along the levels."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    numbers = range(1, errors.shape[1] + 1)
    left.boxplot(errors.amax(2).T.tolist(), positions=list(numbers), whis=(0, 100))
    left.axhline(0.08, color="black", linestyle=":", label="8 %, the paper's bound for two")
    left.set(yscale="log", xlabel="principal components", ylabel="largest relative projection error of a trajectory")
    left.legend()
    for number in numbers:
        right.plot(sigmas, errors[:, number - 1].mean(0), label=f"{number}")
    right.set(xscale="log", yscale="log", xlabel="noise level", ylabel="mean relative projection error")
    right.invert_xaxis()
    right.set_ylim(bottom=1e-4)
    right.legend(title="components")
    figure.suptitle(f"{protocol['model']}: {protocol['trajectories']} trajectories, {protocol['stored_levels']} levels")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure, write the rows and the picture, and print the trajectories' errors."""
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", action="config", help="YAML file with these options")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu, or auto")
    parser.add_argument("--output", type=Path, default=Path("runs/geometry"), help="folder of the results")
    parser.add_class_arguments(Geometry, "geometry")
    options = parser.instantiate(parser.parse_args())
    options.output.mkdir(parents=True, exist_ok=True)
    errors, sigmas, protocol = measure(options.geometry, options.accelerator)
    table = rows(errors, sigmas, protocol)
    write_csv(table, options.output / "geometry.csv")
    plot(errors, sigmas, protocol, options.output / "geometry.png")
    print(f"{'components':>10}{'mean':>9}{'median':>9}{'largest':>9}   of the trajectories' relative projection errors")
    for row in table:
        if row["level"] == "all":
            print(f"{row['components']:10}{row['mean']:9.2%}{row['median']:9.2%}{row['largest']:9.2%}")


if __name__ == "__main__":
    main()
