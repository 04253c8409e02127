"""AMED's predictor on top of a learned table: what is left for it to see in the bottleneck."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from amed_lightning.amed.predictor import AMEDPredictor, LearnedPlacer
from amed_lightning.noise.schedules import Grid
from amed_lightning.solvers.learned import Learned, Rule, Steps
from amed_lightning.solvers.tabulated import PlacedTable, Tabulated


class PredictedTable(Learned):
    """A table, and a predictor that scales its steps for each sample.

    Args:
        table: is not changed.
        predictor: sees every answer of the network.
    """

    kind = "predicted table"

    def __init__(self, table: Tabulated, predictor: LearnedPlacer) -> None:
        super().__init__()
        self.table, self.predictor = table, predictor

    @property
    def options(self) -> dict[str, Any]:
        """What its numbers do not say."""
        return {
            "form": f"{self.table.form} predictor",
            "table": self.table.options,
            "predictor": self.predictor.options,
        }

    @classmethod
    def read(
        cls, options: Mapping[str, Any], numbers: Mapping[str, Tensor], purpose: Mapping[str, Any]
    ) -> "PredictedTable":
        """Build what a file describes.

        Raises:
            ValueError: numbers that are none of either.
        """

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}."): value for key, value in numbers.items() if key.startswith(f"{name}.")}

        table = Tabulated.read(options["table"], part("table"), purpose)
        return cls(table, AMEDPredictor.read(options["predictor"], part("predictor"), purpose))

    def steps(self, rule: Rule, sigmas: Grid, afs: bool) -> Steps:
        """Run the table with the predictor's scales."""
        solver = PlacedTable(self.table, self.predictor)
        return self.table.steps(rule, sigmas, afs)._replace(solver=solver, placer=self.predictor)
