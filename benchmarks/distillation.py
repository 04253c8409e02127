r"""What a predictor costs: the published scheme beside stored starts, differences, and tables of inner products.

The published scheme (Zhou et al. 2024, algorithm 1) runs the teacher anew for every batch, lets the student ask the
network at the start of every interval, and goes back through the network, with an optimiser step per interval. The
others begin at stored trajectories, whose answers they know, and use them again:

* *stored*: the same gradient
* *differences*: central differences of the student's step
* *table*: inner products at a grid of placements, and then no network run
* *table, again*: another seed of the predictor, on the same table
* *finer teacher*: a table; the teacher is paid once, so it may be better than its student
* *constants*, *coefficients*: what a predictor must beat; they come with a table

One rule stops them all. The published scheme stops where the sum of its held-out losses first comes within 1 % of its
best, the others where every interval's loss first is within 1 % of what it had then. What does not get there is shown
at its best. A network run is one image, forward or back; the way back through frozen weights takes about as long.
Everything that a fit computes is counted, tables of held-out rows too; the looks at the held-out losses, the same for
all, are not. Live bytes are the most that autograd keeps at any time of a batch, and the network's weights.

Two cases: the digits, and a DDPM++ network of CIFAR-10's shape with random weights at a small batch. The second is
about memory, and about costs per trajectory: no scheme sees enough of them to be done, the published one twice as many.

    python benchmarks/distillation.py --output runs/distillation
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt
from meters import Meter, SavedTensors
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from amed_lightning.amed.files import load_learned
from amed_lightning.config import Spec
from amed_lightning.denoisers.files import save_model
from amed_lightning.denoisers.model_card import ModelCard
from amed_lightning.runtime.processes import compute_alike
from amed_lightning.runtime.provenance import provenance
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.sampling.sampler import Sampler, sample_seeds
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.placement import Placer
from amed_lightning.solvers.state import SolverState
from amed_lightning.teacher.trajectories import TeacherConfig, Trajectories, recipe_for, roll_out
from amed_lightning.tensors import Images
from amed_lightning.training.distillation import AMEDDistillation
from amed_lightning.training.distilling import Distilling
from amed_lightning.training.gradients import through_network
from amed_lightning.training.least_squares import LeastSquares
from amed_lightning.training.objective import LossForm
from amed_lightning.training.student import Student
from amed_lightning.training.trajectories import TeacherTrajectories

INTERVALS, SCALE_DIR = 3, 0.01
WITHIN = 1.01
"""Of a loss, to count as having reached it."""
BASELINES = ("constants", "coefficients")
FINE = ({"name": "heun"}, {"name": "polynomial"}, 60)
"""Solver, schedule and intervals of what roll-outs are compared with."""


@dataclass(frozen=True)
class Scheme:
    """How a predictor is fitted.

    Attributes:
        name: of the row.
        route: of the gradient; None is the published scheme.
        trajectories: to learn from.
        epochs: over them.
        loss: how intervals weigh.
        jointly: one optimiser step per batch instead of one per interval.
        inner_levels: of the teacher.
        again: another seed, with the files of the scheme before it.
    """

    name: str
    route: Spec | None
    trajectories: int
    epochs: int
    loss: LossForm = "normalised"
    jointly: bool = True
    inner_levels: int = 1
    again: bool = False


@dataclass(frozen=True)
class Case:
    """AMED-Solver at five network runs on one model, and how it is fitted.

    Attributes:
        name: of the rows.
        model: of the student.
        batch_size: trajectories per optimiser step and per network run.
        held_out: trajectories that losses are measured on.
        schemes: the published one first.
        looks: at the held-out losses, per fit.
        ends: trajectories of a table that is fitted end to end, if one is.
    """

    name: str
    model: Spec
    batch_size: int
    held_out: int
    schemes: Sequence[Scheme]
    looks: int
    ends: int | None = None

    @property
    def student(self) -> SamplerConfig:
        """The sampler that is distilled."""
        return SamplerConfig(self.model, {"name": "amed"}, {"name": "time_uniform"}, INTERVALS, afs=True)

    @property
    def seeds(self) -> Seeds:
        """Of the held-out trajectories."""
        return Seeds(Stream.validation, 0, self.held_out)

    def teacher(self, inner_levels: int = 1) -> TeacherConfig:
        """Heun's method; the paper has one inner level."""
        return TeacherConfig({"name": "heun"}, inner_levels, self.batch_size)


@dataclass(frozen=True)
class Look:
    """What a fit has cost so far, and what it has reached.

    Attributes:
        forward: network runs.
        backward: likewise, on the way back.
        seconds: of the fit.
        losses: held-out, of each interval.
        weights: of the predictor.
    """

    forward: int
    backward: int
    seconds: float
    losses: list[float]
    weights: dict[str, Tensor]

    def reaches(self, goal: Sequence[float]) -> bool:
        """Whether every interval's loss is within a per cent of the goal's."""
        return all(own <= WITHIN * other for own, other in zip(self.losses, goal, strict=True))


def stop_of_the_published(looks: Sequence[Look]) -> Look:
    """Return the first look whose sum of losses is within a per cent of the least."""
    least = min(sum(look.losses) for look in looks)
    return next(look for look in looks if sum(look.losses) <= WITHIN * least)


def stop_at(goal: Sequence[float], looks: Sequence[Look]) -> Look:
    """Return the first look that reaches a goal, or the best one."""
    return next((look for look in looks if look.reaches(goal)), best_of(looks))


def best_of(looks: Sequence[Look]) -> Look:
    """Return the look with the least geometric mean of losses."""
    return min(looks, key=lambda look: math.prod(look.losses))


class Watch(pl.Callback):
    """Look at the held-out losses at equal distances.

    Args:
        meter: of the costs; it stands still meanwhile.
        held_out: trajectories.
        count: of looks.
    """

    def __init__(self, meter: Meter, held_out: Trajectories, count: int) -> None:
        self.meter, self.held_out, self.count = meter, held_out, count
        self.looks: list[Look] = []
        self.batches = 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Look, if it is time."""
        self.batches += 1
        whole = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
        if self.batches * self.count // whole == len(self.looks):
            return
        assert isinstance(pl_module, AMEDDistillation)
        with self.meter.paused():
            losses = held_out_losses(pl_module.parts, pl_module.predictor, self.held_out)
            weights = {name: value.clone() for name, value in pl_module.predictor.state_dict().items()}
        meter = self.meter
        self.looks.append(Look(meter.forward, meter.backward, meter.seconds, losses, weights))


def held_out_losses(parts: SamplerParts, placer: Placer, held_out: Trajectories) -> list[float]:
    """Return the mean loss of each interval, by the network."""
    with torch.no_grad():
        intervals = Student(parts, placer).intervals(held_out, through_network)
        return [float(interval.losses.mean()) for interval in intervals]


class AskingAgain(Student):
    """A student that asks the network what the teacher knows already."""

    def start(self, teacher: Trajectories, index: int = 0) -> SolverState:
        """Return the teacher's state, without its answer."""
        state = super().start(teacher, index)
        return replace(state, known=self.sampler.known_at_start(state.x) if index == 0 else None)


class Fresh(Dataset[Trajectories]):
    """Batches of trajectories that are computed when they are asked for.

    Args:
        case: whose teacher.
        parts: of the student.
        count: of trajectories.
        device: where to compute.
    """

    def __init__(self, case: Case, parts: SamplerParts, count: int, device: torch.device) -> None:
        self.blocks = list(Seeds(Stream.training, 0, count).blocks(case.batch_size))
        self.recipe, self.model, self.device = recipe_for(parts, case.teacher()), parts.model, device

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> Trajectories:
        return roll_out(self.model, self.recipe, self.blocks[index], self.device)


class Distances(pl.Callback):
    """Look at how far a table's samples are, after every epoch.

    Args:
        meter: of the costs; it stands still meanwhile.
        distance: of a sampler's samples.
    """

    def __init__(self, meter: Meter, distance: Callable[[Sampler], float]) -> None:
        self.meter, self.distance = meter, distance
        self.looks: list[tuple[float, Look]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at what the last epoch has decided."""
        assert isinstance(pl_module, LeastSquares)
        if self.meter.forward:
            weights = pl_module.last()["weights"]
            with self.meter.paused():
                distance = self.distance(pl_module.parts.with_learned(pl_module.learned(weights)))
            look = Look(self.meter.forward, self.meter.backward, self.meter.seconds, [], weights)
            self.looks.append((distance, look))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look once more."""
        self.on_train_epoch_start(trainer, pl_module)


@dataclass(frozen=True)
class Fit:
    """A fit by one scheme.

    Attributes:
        case: what is fitted.
        scheme: how.
        root: of its store and tables.
        device: where.
    """

    case: Case
    scheme: Scheme
    root: Path
    device: torch.device

    def module(self) -> AMEDDistillation:
        """Build what learns."""
        pl.seed_everything(int(self.scheme.again), verbose=False)
        module = AMEDDistillation(
            self.case.student,
            self.scheme.route,
            self.scheme.loss,
            self.scheme.jointly,
            SCALE_DIR,
        )
        if self.scheme.route is None:
            module.student = AskingAgain(module.parts, module.predictor, SCALE_DIR)
        return module

    def run(self, module: AMEDDistillation, *callbacks: pl.Callback, **limits: Any) -> None:
        """Let it learn."""
        case, scheme = self.case, self.scheme
        trainer = trainer_of(self.device, self.root, callbacks, **{"max_epochs": scheme.epochs} | limits)
        if scheme.route is None:
            batches = Fresh(case, module.parts, scheme.trajectories, self.device)
            trainer.fit(module, DataLoader(batches, batch_size=None))
            return
        teacher, size = case.teacher(scheme.inner_levels), case.batch_size
        trainer.fit(module, datamodule=TeacherTrajectories(teacher, self.root, scheme.trajectories, size, size))

    def looks(self, held_out: Trajectories, count: int) -> list[Look]:
        """Learn and be looked at."""
        module = self.module()
        with Meter(_network(module), self.device) as meter:
            watch = Watch(meter, held_out, count)
            self.run(module, watch)
        return watch.looks

    def live_bytes(self) -> int:
        """Return the peak of one batch more, with everything computed that is stored."""
        module = self.module()
        with SavedTensors(_network(module)) as saved:
            self.run(module, max_epochs=1, limit_train_batches=1)
        return saved.peak


def trainer_of(device: torch.device, root: Path, callbacks: Sequence[pl.Callback], **limits: Any) -> pl.Trainer:
    """Return a trainer that does nothing but train."""
    return pl.Trainer(
        accelerator=device.type,
        devices=1,
        default_root_dir=root,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **limits,
    )


def _network(module: Distilling) -> nn.Module:
    denoiser = module.parts.model.denoiser
    assert isinstance(denoiser, nn.Module)
    return denoiser


class Comparison:
    """The schemes of a case side by side.

    Args:
        case: to compare.
        folder: for stores and tables.
        device: where to compute.

    Attributes:
        looks: of each scheme that has been fitted.
    """

    def __init__(self, case: Case, folder: Path, device: torch.device) -> None:
        self.case, self.folder, self.device = case, folder, device
        self.parts = SamplerParts(case.student)
        model = self.parts.model.to(device)
        self.held_out = roll_out(model, recipe_for(self.parts, case.teacher()), case.seeds, device).to(device)
        self.fine = self._samples(SamplerParts(SamplerConfig(case.model, *FINE), self.parts.model).configured())
        self.looks: dict[str, list[Look]] = {}

    def rows(self) -> list[dict[str, Any]]:
        """Fit by every scheme, and return what each cost and reached."""
        rows: list[dict[str, Any]] = []
        root = self.folder
        for number, scheme in enumerate(self.case.schemes):
            root = root if scheme.again else self.folder / str(number)
            stored, fit = _bytes_below(root), Fit(self.case, scheme, root, self.device)
            looks = self.looks[scheme.name] = fit.looks(self.held_out, self.case.looks)
            at = stop_at(rows[0]["losses"], looks) if rows else stop_of_the_published(looks)
            memory = {"live_bytes": fit.live_bytes(), "stored_bytes": _bytes_below(root) - stored}
            predictor = fit.module().predictor.to(self.device)
            predictor.load_state_dict(at.weights)
            whole = {"best_losses": best_of(looks).losses, "whole_fit_seconds": looks[-1].seconds}
            losses = held_out_losses(self.parts, predictor, self.held_out)
            row = self._row(scheme.name, self.parts.sampler(predictor), losses, at)
            rows.append(row | memory | whole | {"scheme": asdict(scheme)})
            for kind in BASELINES:
                if (path := root / f"{kind}.json").is_file() and not scheme.again:
                    table = self.parts.with_learned(load_learned(path, self.parts.purpose)).to(self.device)
                    losses = json.loads(path.read_bytes())["training"]["val_losses"]  # a table has no intervals to ask
                    rows.append(self._row(f"{scheme.name}: {kind}", table, losses, looks[0]) | memory)
        if self.case.ends is not None:
            rows += self._end_to_end(self.case.ends, rows[0]["roll_out_rmse"])
        return [row | self._beside(row, rows[0]) for row in rows]

    def _end_to_end(self, trajectories: int, goal: float) -> list[dict[str, Any]]:
        """Fit a table by least squares, and say what it cost to come as near as the published scheme, and the best."""
        begin = {"name": "ipndm", "order": 3}, {"name": "time_uniform"}
        module = LeastSquares(SamplerConfig(self.case.model, *begin, afs=True, nfe=5), first_epochs=8)
        size, root = trajectories // 8, self.folder / "ends"
        teacher = TeacherConfig({"name": "heun"}, 38, size, schedule={"name": "time_uniform"}, num_intervals=1)
        data = TeacherTrajectories(teacher, root, trajectories, size, size)
        with Meter(_network(module), self.device) as meter:
            watch = Distances(meter, self._distance)
            trainer_of(self.device, root, [watch], max_epochs=13).fit(module, datamodule=data)
        best = min(watch.looks, key=lambda each: each[0])
        reached = next((each for each in watch.looks if each[0] <= goal), best)
        memory = {"live_bytes": 0, "stored_bytes": _bytes_below(root)}
        rows = []
        for name, (distance, look) in {"as near as published": reached, "best": best}.items():
            sampler = module.parts.with_learned(module.learned(look.weights))
            rows.append(self._row(f"least squares, {name}", sampler, [], look) | memory)
            assert rows[-1]["roll_out_rmse"] == distance
        return rows

    def _distance(self, sampler: Sampler) -> float:
        return float((self._samples(sampler) - self.fine).square().mean().sqrt())

    def _row(self, name: str, sampler: Sampler, losses: list[float], cost: Look) -> dict[str, Any]:
        """Return what a sampler has cost, and how it does; a table's losses are those of the validation seeds."""
        return {
            "case": self.case.name,
            "name": name,
            "forward": cost.forward,
            "backward": cost.backward,
            "seconds": cost.seconds,
            "losses": losses,
            "roll_out_rmse": self._distance(sampler),
        }

    def _beside(self, row: dict[str, Any], published: dict[str, Any]) -> dict[str, Any]:
        """Return a row's ratios to the published scheme: of costs how many times less, of losses how many times."""
        runs, those = (each["forward"] + each["backward"] for each in (row, published))
        losses, best = (
            [own / other for own, other in zip(row[key], published["losses"], strict=bool(row[key]))]
            for key in ("losses", "best_losses" if "best_losses" in row else "losses")
        )
        return {
            "fewer_runs": those / runs if runs else None,
            "fewer_seconds": published["seconds"] / row["seconds"],
            "fewer_live_bytes": published["live_bytes"] / row["live_bytes"] if row["live_bytes"] else math.nan,
            "relative_losses": losses,
            "relative_best_losses": best,
            "reached": max(losses, default=0.0) <= WITHIN,
        }

    def _samples(self, sampler: Sampler) -> Images:
        """Return what a sampler makes of the held-out noise."""
        return torch.cat(
            [state.x for state in sample_seeds(sampler, self.case.seeds, self.case.batch_size, self.device)]
        )


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def schemes(published: int, stored: int, epochs: int, table_epochs: int) -> list[Scheme]:
    """Return the published scheme and the others.

    Args:
        published: trajectories of the published scheme.
        stored: trajectories of the others.
        epochs: with the network.
        table_epochs: without.
    """
    return [
        Scheme("published", None, published, 1, "published", jointly=False),
        Scheme("stored", {"name": "network"}, stored, epochs),
        Scheme("differences", {"name": "differences"}, stored, epochs),
        Scheme("table", {"name": "table"}, stored, table_epochs),
        Scheme("table, again", {"name": "table"}, stored, table_epochs, again=True),
    ]


def digits(folder: Path) -> Case:
    """The shipped model."""
    finer = Scheme("finer teacher", {"name": "table"}, 128, 200, inner_levels=5)
    return Case("digits", {"name": "digits"}, 64, 256, [*schemes(9984, 128, 80, 200), finer], looks=39, ends=256)


def cifar10(folder: Path) -> Case:
    """DDPM++ of CIFAR-10's shape, whose last layer starts with weights like the others' and not at zero."""
    card = ModelCard({"img_resolution": 32, "img_channels": 3, "model_channels": 128, "channel_mult": [2, 2, 2]}, 0.5)
    torch.manual_seed(0)
    denoiser = card.denoiser()
    last = denoiser.model.dec["32x32_aux_conv"]
    nn.init.normal_(last.weight, std=last.weight[0].numel() ** -0.5)
    save_model(folder / "cifar10.json", denoiser, card)
    return Case(
        "cifar10", {"name": "file", "path": str(folder / "cifar10.json")}, 16, 8, schemes(32, 16, 2, 100), looks=2
    )


CASES: dict[str, Callable[[Path], Case]] = {"digits": digits, "cifar10": cifar10}


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows of a case."""
    titles = ("forward", "back", "x fewer", "seconds", "x fewer", "live MiB", "x fewer", "stored MiB", "roll-out")
    print(f"\n{rows[0]['case']:28}{''.join(f'{title:>11}' for title in titles)}  losses / published: at the stop, best")
    for row in rows:
        runs = f"{row['forward']:11}{row['backward']:11}{row['fewer_runs'] or math.inf:11.1f}"
        time = f"{row['seconds']:11.1f}{row['fewer_seconds']:11.1f}"
        memory = f"{row['live_bytes'] / 2**20:11.1f}{row['fewer_live_bytes']:11.1f}{row['stored_bytes'] / 2**20:11.2f}"
        losses, best = (
            " ".join(f"{loss:.3f}" for loss in row[key]) for key in ("relative_losses", "relative_best_losses")
        )
        missed = "" if row["reached"] else "  (not reached)"
        print(f"{row['name']:28}{runs}{time}{memory}{row['roll_out_rmse']:11.4f}  {losses}   {best}{missed}")


def plot(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw the geometric mean of the intervals' losses against network runs and seconds."""
    figure, axes = plt.subplots(
        len(comparisons), 2, figsize=(11, 4.2 * len(comparisons)), layout="constrained", squeeze=False
    )
    for comparison, (left, right) in zip(comparisons, axes, strict=True):
        for name, looks in comparison.looks.items():
            means = [math.prod(look.losses) ** (1 / INTERVALS) for look in looks]
            left.plot([look.forward + look.backward for look in looks], means, ".-", label=name)
            right.plot([look.seconds for look in looks], means, ".-", label=name)
        left.set(xscale="symlog", yscale="log", xlabel="network runs, forward and back", ylabel="held-out loss")
        right.set(xscale="log", yscale="log", xlabel="seconds", title=comparison.case.name)
        left.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Compare, print the tables, and write rows and picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/distillation"), help="folder of the results")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="what to compare on")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="where to compute")
    options = parser.parse_args()
    compute_alike()
    options.output.mkdir(parents=True, exist_ok=True)
    rows, comparisons = [], []
    for name in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            comparison = Comparison(CASES[name](Path(folder)), Path(folder), options.device)
            rows += (own := comparison.rows())
        comparisons.append(comparison)
        print_table(own)
    content = {"provenance": provenance(options.device, 1), "rows": rows}
    (options.output / "distillation.json").write_text(json.dumps(content, indent=2) + "\n")
    plot(comparisons, options.output / "distillation.png")


if __name__ == "__main__":
    main()
