"""What a dense store knows between its levels, on the digits network.

One fine run is thinned to every k-th level, as if only these had been stored, and read at the levels that were left out
(:mod:`amed_lightning.teacher.view`). What was left out is known, so each error is that of the interpolation alone: of
states the root mean square over pixels and samples, of derivatives and features relative to the root mean square of
what the network said there. The levels in the last stored interval, at whose end the flow is not asked, stand apart.
Beside it stands the error that a teacher of the thinned levels has itself, its distance to the fine run: as long as
that is the larger, a student loses nothing by the interpolation.

    python benchmarks/dense_store.py --output runs/dense_store
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt
from meters import write_csv
from torch import Tensor

from amed_lightning.config import Spec
from amed_lightning.denoisers.registry import digits
from amed_lightning.flow.model import DiffusionModel
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.teacher.trajectories import TeacherConfig, TeacherRecipe, Trajectories, recipe_for, roll_out
from amed_lightning.teacher.view import View

FINE, THINNED = 240, (20, 30, 40, 60, 80, 120)
"""Intervals of the fine run, and of what is left of it."""
CPU = torch.device("cpu")


def run(model: DiffusionModel, solver: Spec, num_intervals: int, seeds: Seeds) -> tuple[TeacherRecipe, Trajectories]:
    """Return a teacher's recipe and trajectories at all its levels."""
    parts = SamplerParts(SamplerConfig({"name": "digits"}, solver, {"name": "polynomial"}, num_intervals), model)
    recipe = recipe_for(parts, TeacherConfig(solver, 0, len(seeds)))
    return recipe, roll_out(model, recipe, seeds, CPU)


def interpolated(recipe: TeacherRecipe, fine: Trajectories, num_intervals: int) -> Trajectories:
    """Thin the fine run and read what is left at all its levels."""
    stride = recipe.num_intervals // num_intervals
    view = View(
        replace(recipe, sigmas=recipe.sigmas[::stride], num_intervals=num_intervals), torch.tensor(recipe.sigmas)
    )
    needed = replace(
        fine,
        states=fine.states[:, ::stride][:, view.states],
        derivatives=fine.derivatives[:, ::stride][:, view.answers],
        features=fine.features[:, ::stride][:, view.answers],
    )
    return view.at_levels(needed)


def root_mean_square(values: Tensor) -> Tensor:
    """Return a level's root mean square over samples and numbers; levels are the second dimension."""
    return values.double().square().transpose(0, 1).flatten(1).mean(1).sqrt()


def measure(solver: Spec, seeds: Seeds) -> Iterator[dict[str, Any]]:
    """Yield a row per thinning and level that it leaves out."""
    model = digits()
    recipe, fine = run(model, solver, FINE, seeds)
    for num_intervals in THINNED:
        stride = FINE // num_intervals
        _, coarse = run(model, solver, num_intervals, seeds)
        own = root_mean_square(coarse.states - fine.states[:, ::stride])
        back = interpolated(recipe, fine, num_intervals)
        state = root_mean_square(back.states - fine.states)
        derivative, feature = (
            root_mean_square(getattr(back, name) - getattr(fine, name)) / root_mean_square(getattr(fine, name))
            for name in ("derivatives", "features")
        )
        for level in range(FINE):
            if level % stride:
                yield {
                    "stored_intervals": num_intervals,
                    "sigma": recipe.sigmas[level],
                    "in_last_interval": level > FINE - stride,
                    "state_error": float(state[level]),
                    "derivative_error": float(derivative[level]),
                    "feature_error": float(feature[level]),
                    "own_error": float(own[level // stride + 1]),
                    "model_digest": model.digest,
                    "solver": solver["name"],
                    "fine_intervals": FINE,
                    "stream": seeds.stream.name,
                    "num_seeds": len(seeds),
                    "torch": torch.__version__,
                }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the errors along the levels; dotted, the teacher's own."""
    titles = {
        "state_error": "state, RMS",
        "derivative_error": "derivative, relative",
        "feature_error": "features, relative",
    }
    figure, panels = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained", sharex=True)
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        for index, number in enumerate(THINNED):
            mine = [row for row in rows if row["stored_intervals"] == number]
            sigmas = [row["sigma"] for row in mine]
            panel.plot(sigmas, [row[name] for row in mine], color=f"C{index}", label=f"{number}")
            if name == "state_error":
                panel.plot(sigmas, [row["own_error"] for row in mine], color=f"C{index}", linestyle=":")
        panel.set(xscale="log", yscale="log", xlabel="noise level", title=title)
        panel.grid(alpha=0.3)
    panels[0].invert_xaxis()
    handles = [line for line in panels[0].get_lines() if line.get_linestyle() == "-"]
    figure.legend(handles=handles, loc="outside right center", title="stored intervals\n(dotted: the\nteacher's own)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure, write the rows and the picture, and print the largest errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/dense_store"), help="folder of the results")
    parser.add_argument("--samples", type=int, default=64, help="trajectories, of the tuning stream")
    parser.add_argument("--solver", default="heun", help="of the teacher")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = list(measure({"name": arguments.solver}, Seeds(Stream.tuning, 0, arguments.samples)))
    write_csv(rows, arguments.output / "dense_store.csv")
    plot(rows, arguments.output / "dense_store.png")
    names = ("state_error", "own_error", "derivative_error", "feature_error")
    print("largest error over the levels between the stored ones, before the last stored interval, and inside it")
    print(f"{'stored intervals':18}" + "".join(f"{name.replace('_', ' '):>30}" for name in names))
    for number in THINNED:
        mine = [row for row in rows if row["stored_intervals"] == number]
        before, inside = ([row for row in mine if row["in_last_interval"] is last] for last in (False, True))
        pairs = [f"{max(row[name] for row in before):.1e}, {max(row[name] for row in inside):.1e}" for name in names]
        print(f"{number:<18}" + "".join(f"{pair:>30}" for pair in pairs))


if __name__ == "__main__":
    main()
