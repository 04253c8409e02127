"""A night: run a suite anew, write it to TensorBoard, and judge it against golden rows.

Results are kept per day, version of the code and hardware, so a night that was killed goes on where it stopped, and no
version or machine ever finds another one's rows.
"""

import difflib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amed_lightning.bench.board import Board
from amed_lightning.bench.cell import Cell
from amed_lightning.bench.golden import Bounds, Golden, golden_path, golden_text, load_golden
from amed_lightning.bench.regression import Judgement, judge
from amed_lightning.bench.render import markdown
from amed_lightning.bench.report import junit_xml, nightly_markdown
from amed_lightning.bench.results import Results, Row, read_json
from amed_lightning.bench.sheet import lines_of
from amed_lightning.bench.suite import Suite
from amed_lightning.bench.table import tables
from amed_lightning.config import InputError, write_atomically
from amed_lightning.runtime.provenance import commit_time, source_digest

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Nightly:
    """What a night does.

    Attributes:
        suite: its YAML file.
        golden: folder of golden rows, ``<hardware>/<suite>.json``, and of ``tolerances.yaml``.
        board: folder that TensorBoard is pointed at.
        results: folder of all nights' rows and reports.
        bounds: how far a figure may lie from its golden value.
    """

    suite: Path
    golden: Path = Path("benchmarks/golden")
    board: Path = Path("runs/nightly/board")
    results: Path = Path("runs/nightly/results")
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True)
class Night:
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
        """Find what the night is compared with."""
        return load_golden(self.config.golden, self.hardware, self.suite.name, self.config.bounds)

    def judge(self, cells: Sequence[Cell]) -> list[Judgement]:
        """Compare the night's rows, write the reports and the board, and return what was found.

        Args:
            cells: of the suite; each has a row or an error.
        """
        rows, failures, golden = self._rows(cells), self._failures(cells), self.golden()
        messages = {name: failure["error"] for name, failure in failures.items()}
        troubles = [name for name, failure in failures.items() if failure.get("trouble")]
        judgements = judge(rows, messages, golden, troubles)
        origin = f"nothing: there are no golden rows for {self.hardware}" if golden is None else golden.origin
        title = f"{self.suite.name}, {self.results.folder.name}, {self.hardware}"
        table = markdown(tables(lines_of(self.results))) if rows else ""
        report = nightly_markdown(title, judgements, origin, table)
        write_atomically(self.results.folder / "report.md", report.encode())
        write_atomically(self.results.folder / "junit.xml", junit_xml(self.suite.name, judgements))
        board = Board(self.config.board, self.day, commit_time())
        board.write_rows(rows)
        board.write_samples(rows, self.results)
        board.write_report(report)
        return judgements

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
        return [row for cell in cells if (row := self.results.finished(cell.key)) is not None]

    def _failures(self, cells: Sequence[Cell]) -> dict[str, Any]:
        errors = {str(cell.planned.id): self.results.errors(cell.key) for cell in cells}
        return {name: read_json(paths[0]) for name, paths in errors.items() if paths}
