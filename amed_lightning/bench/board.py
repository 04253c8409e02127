"""A night in TensorBoard: charts of every score against time, the night's table, and its sample grids.

Every dataset, protocol and sampler has one run directory, the same each night, and every score and NFE one tag; so
nights become a curve, and scores that cannot be compared are two. A step is a day since 1970-01-01, its wall time that
of the commit. A server shows all of it with ``tensorboard --reload_multifile true --reload_multifile_inactive_secs -1
--samples_per_plugin scalars=0,images=100,text=100``: by default it forgets files that were silent for a day.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from amed_lightning.bench.ranking import known_scores
from amed_lightning.bench.results import Results, Row

COLUMNS = 8


@dataclass(frozen=True)
class Board:
    """A folder of event files.

    Attributes:
        folder: that TensorBoard is pointed at.
        step: days since 1970-01-01.
        wall_time: of the commit, seconds since then.
    """

    folder: Path
    step: int
    wall_time: float

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write every row's scores and speed, and the layout that draws them against time."""
        for row in rows:
            with closing(self._writer(run_directory(row))) as writer:
                for score in known_scores([row]):
                    if score in row["values"]:
                        self._scalar(writer, tag(score, row["nfe"]), row["values"][score])
                self._scalar(writer, tag("images_per_second", row["nfe"]), row["images_per_second"])
        with closing(self._writer()) as writer:
            writer.add_custom_scalars(layout(rows))

    def write_report(self, markdown: str) -> None:
        """Write the night's report."""
        with closing(self._writer()) as writer:
            writer.add_text("report", markdown, self.step, self.wall_time)

    def write_samples(self, rows: Sequence[Row], results: Results) -> None:
        """Write a grid of each row's first images, which are of the same seeds everywhere."""
        for row in rows:
            if (samples := results.samples(row["key"])) is not None:
                with closing(self._writer(run_directory(row))) as writer:
                    grid = make_grid(samples, nrow=COLUMNS, padding=1)
                    writer.add_image(tag("samples", row["nfe"]), grid, self.step, self.wall_time)

    def _scalar(self, writer: SummaryWriter, name: str, value: float) -> None:
        writer.add_scalar(name, value, self.step, self.wall_time, new_style=True)

    def _writer(self, run: str = "") -> SummaryWriter:
        return SummaryWriter(str(self.folder / run))


def run_directory(row: Row) -> str:
    """Return the run of a row's dataset, protocol and sampler, below the board's folder."""
    steps = "-afs" if row["afs"] else ""
    return f"{row['dataset']}-{row['protocol'][:8]}/{row['label'].replace(' ', '')}-{row['schedule']}{steps}"


def tag(score: str, nfe: int) -> str:
    """Return the tag of a score at a number of network runs."""
    return f"{score}/nfe_{nfe:02d}"


def layout(rows: Sequence[Row]) -> dict[str, dict[str, list[object]]]:
    """Return the custom-scalars page: a category per score, a chart per NFE with a line per sampler."""
    nfes = sorted({row["nfe"] for row in rows})
    return {
        f"{score.title} against time": {f"{nfe} NFE": ["Multiline", [f"^{tag(name, nfe)}$"]] for nfe in nfes}
        for name, score in known_scores(rows).items()
        if any(name in row["values"] for row in rows)
    }
