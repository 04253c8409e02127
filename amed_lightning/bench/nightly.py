"""A night: run a suite anew, write it to TensorBoard, and check it against golden rows.

Results are kept per day, version of the code and hardware, so a night that was killed goes on where it stopped, and no
version or machine ever finds another one's rows.

In TensorBoard every dataset, protocol and sampler has one run directory, the same each night, and every score and NFE
one tag; so nights become a curve, and scores that cannot be compared are two. A step is a day since 1970-01-01, its
wall time that of the commit. A server shows all of it with ``tensorboard --reload_multifile true
--reload_multifile_inactive_secs -1 --samples_per_plugin scalars=0,images=100,text=100``: by default it forgets files
that were silent for a day.
"""

import difflib
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from amed_lightning.bench.cell import Cell
from amed_lightning.bench.golden import (
    Bounds,
    Check,
    Golden,
    check,
    golden_path,
    golden_text,
    junit_xml,
    load_golden,
    nightly_markdown,
)
from amed_lightning.bench.render import markdown
from amed_lightning.bench.results import Results, lines_of, read_json
from amed_lightning.bench.row import Row
from amed_lightning.bench.suite import Suite
from amed_lightning.bench.table import known_scores, tables
from amed_lightning.config import InputError, registered, write_atomically
from amed_lightning.metrics.scores import SCORES, metrics_of
from amed_lightning.runtime.provenance import commit_time, source_digest

COLUMNS = 8


@dataclass(frozen=True)
class _NightlyCharts:
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
                    if score in row.values:
                        self._scalar(writer, tag(score, row.id.nfe), row.values[score])
                self._scalar(writer, tag("images_per_second", row.id.nfe), row.images_per_second)
        with closing(self._writer()) as writer:
            writer.add_custom_scalars(layout(rows))

    def write_report(self, markdown: str) -> None:
        """Write the night's report."""
        with closing(self._writer()) as writer:
            writer.add_text("report", markdown, self.step, self.wall_time)

    def write_samples(self, rows: Sequence[Row], results: Results) -> None:
        """Write a grid of each row's first images, which are of the same seeds everywhere."""
        for row in rows:
            if (samples := results.samples(row.key)) is not None:
                with closing(self._writer(run_directory(row))) as writer:
                    grid = make_grid(samples, nrow=COLUMNS, padding=1)
                    writer.add_image(tag("samples", row.id.nfe), grid, self.step, self.wall_time)

    def _scalar(self, writer: SummaryWriter, name: str, value: float) -> None:
        writer.add_scalar(name, value, self.step, self.wall_time, new_style=True)

    def _writer(self, run: str = "") -> SummaryWriter:
        return SummaryWriter(str(self.folder / run))


def run_directory(row: Row) -> str:
    """Return the run of a row's dataset, protocol and sampler, below TensorBoard's folder."""
    steps = "-afs" if row.id.afs else ""
    return f"{row.id.dataset}-{row.protocol[:8]}/{row.id.label.replace(' ', '')}-{row.id.schedule}{steps}"


def tag(score: str, nfe: int) -> str:
    """Return the tag of a score at a number of network runs."""
    return f"{score}/nfe_{nfe:02d}"


def layout(rows: Sequence[Row]) -> dict[str, dict[str, list[object]]]:
    """Return the custom-scalars page: a category per score, a chart per NFE with a line per sampler."""
    nfes = sorted({row.id.nfe for row in rows})
    return {
        f"{score.title} against time": {f"{nfe} NFE": ["Multiline", [f"^{tag(name, nfe)}$"]] for nfe in nfes}
        for name, score in known_scores(rows).items()
        if any(name in row.values for row in rows)
    }


SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Nightly:
    """What a night does.

    Attributes:
        suite: its YAML file.
        golden: folder of golden rows, ``<hardware>/<suite>.json``, and of ``tolerances.yaml``.
        tensorboard: folder that TensorBoard is pointed at.
        results: folder of all nights' rows and reports.
        bounds: how far a figure may lie from its golden value.
    """

    RENAMED: ClassVar = {"board": "tensorboard"}

    suite: Path
    golden: Path = Path("benchmarks/golden")
    tensorboard: Path = Path("runs/nightly/board")
    results: Path = Path("runs/nightly/results")
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True)
class NightlyRun:
    """One run of a suite by one version of the code.

    Attributes:
        config: what a night does.
        suite: read.
        hardware: that computes.
        day: days since 1970-01-01.
    """

    config: Nightly
    suite: Suite
    hardware: str
    day: int = field(default_factory=lambda: int(time.time() // SECONDS_PER_DAY))

    @property
    def results(self) -> Results:
        """The night's folder."""
        date = time.strftime("%Y-%m-%d", time.gmtime(self.day * SECONDS_PER_DAY))
        return Results(self.config.results / self.suite.name / f"{date}-{source_digest()[:12]}-{self.hardware}")

    def golden(self) -> Golden | None:
        """Find what the night is compared with.

        Raises:
            InputError: a file is not what it should be, or there is a bound of a score that does not exist.
        """
        found = load_golden(self.config.golden, self.hardware, self.suite.name, self.config.bounds)
        metrics = metrics_of(self.suite.metrics).values()
        known = SCORES | {name: score for metric in metrics for name, score in metric.described().items()}
        for score in (self.config.bounds if found is None else found.bounds).relative:
            registered("score in the relative bounds", known, score)
        return found

    def check(self, cells: Sequence[Cell]) -> list[Check]:
        """Compare the night's rows, write the reports and the charts, and return what was found.

        Args:
            cells: of the suite; each has a row or an error.
        """
        rows, failures, golden = self._rows(cells), self._failures(cells), self.golden()
        messages = {name: failure["error"] for name, failure in failures.items()}
        troubles = [name for name, failure in failures.items() if failure.get("trouble")]
        checks = check(rows, messages, golden, troubles)
        origin = f"nothing: there are no golden rows for {self.hardware}" if golden is None else golden.origin
        title = f"{self.suite.name}, {self.results.folder.name}, {self.hardware}"
        table = markdown(tables(lines_of(self.results))) if rows else ""
        report = nightly_markdown(title, checks, origin, table)
        write_atomically(self.results.folder / "report.md", report.encode())
        write_atomically(self.results.folder / "junit.xml", junit_xml(self.suite.name, checks))
        charts = _NightlyCharts(self.config.tensorboard, self.day, commit_time())
        charts.write_rows(rows)
        charts.write_samples(rows, self.results)
        charts.write_report(report)
        return checks

    def update_golden(self, cells: Sequence[Cell], source: dict[str, Any]) -> str:
        """Make the night's rows the golden ones of this hardware.

        Args:
            cells: of the suite.
            source: provenance.

        Returns:
            The difference to the former golden rows, as a unified diff.

        Raises:
            InputError: a cell failed; half a suite is no measure.
        """
        if failures := self._failures(cells):
            raise InputError(f"golden rows need every cell, and these failed: {', '.join(failures)}")
        path = golden_path(self.config.golden, self.hardware, self.suite.name)
        before = path.read_text() if path.is_file() else ""
        after = golden_text(self._rows(cells), self.hardware, source)
        write_atomically(path, after.encode())
        lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), str(path), str(path), n=1)
        return "".join(lines)

    def _rows(self, cells: Sequence[Cell]) -> list[Row]:
        rows = (self.results.placed(cell.key, cell.planned.id, cell.planned.is_reference) for cell in cells)
        return [row for row in rows if row is not None]

    def _failures(self, cells: Sequence[Cell]) -> dict[str, Any]:
        errors = {str(cell.planned.id): self.results.errors(cell.key) for cell in cells}
        return {name: read_json(paths[0]) for name, paths in errors.items() if paths}
