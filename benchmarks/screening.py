"""How often screening would have been wrong: a screening's verdicts beside the suite's rows of the full run.

    python benchmarks/screening.py runs/bench/digits-screening runs/bench/digits

A cell that was left out is a mistake if it is among the best of its NFE in full (bold in tables). A pair of one NFE
that the screening decides is one if its order is the other in full. Cells are matched by their places, and the full
run has to have them all: run the suite without ``--screen`` too.
"""

from argparse import ArgumentParser
from itertools import permutations
from pathlib import Path

from amed_lightning.bench.results import rows_of
from amed_lightning.bench.screen import DOUBT, beaten, doubt
from amed_lightning.bench.table import estimate, winners
from amed_lightning.metrics.scores import MAIN

BOUNDS = (0.0, DOUBT, 0.01, 0.05)


def main() -> None:
    """Print a line of Markdown per bound."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("screening", type=Path, help="folder of the screening")
    parser.add_argument("full", type=Path, help="folder of the same suite, run in full")
    options = parser.parse_args()
    screened, rows = rows_of(options.screening), rows_of(options.full)
    full = {row.id: row for row in rows if not row.is_reference}
    best = {key for key, score in winners(rows) if score == MAIN}
    pairs = [pair for pair in permutations(screened, 2) if len({(row.id.dataset, row.id.nfe) for row in pair}) == 1]
    doubts = [(doubt(estimate(worse, MAIN) - estimate(better, MAIN)), worse, better) for worse, better in pairs]
    for bound in BOUNDS:
        losers = [loser.cell for loser in beaten(screened, bound)]
        wrong = sum(full[cell].key in best for cell in losers)
        decided = [(full[worse.id], full[better.id]) for of, worse, better in doubts if of <= bound]
        reversed_ = sum(worse.values[MAIN] < better.values[MAIN] for worse, better in decided)
        saved = sum(cell.nfe for cell in losers) / sum(cell.nfe for cell in full)
        shown = (
            f"{len(losers)} of {len(screened)} | {wrong} of {len(best)} | {len(decided)} | {reversed_} | {saved:.0%}"
        )
        print(f"| {bound:g} | {shown} |")


if __name__ == "__main__":
    main()
