"""Two jobs at once that share a store, a table or a sweep's results: both end well, and leave what one alone leaves.

``python -m tests.chaos.pairs --pairs 20`` prints how many did, for each kind, on one and on two ranks.
"""

import argparse
import importlib
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from .chaos import NEEDED, SECONDS_AT_MOST, VERBS
from .commands import Command, adopt_orphans
from .recipes import command, left_by, write

KINDS = {"stores": "precompute", "tables": "table fit", "results": "bench"}
SECONDS_BETWEEN_STARTS = 2.0


def begin(kind: str, folder: Path, log: str, ranks: int) -> Command:
    """Start a job; a fit's is its data step, because two fits do not share a run's directory."""
    arguments = command(kind, ranks)
    return Command(folder, ["precompute" if arguments[0] == "fit" else arguments[0], *arguments[1:]], ranks, log)


def fresh(kind: str, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write(kind, folder)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=20, help="of each kind, on each number of ranks")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--ranks", nargs="*", type=int, default=[1, 2])
    options = parser.parse_args()
    adopt_orphans()
    for name in (*NEEDED, *(f"amed_lightning.cli.{verb}" for verb in VERBS)):
        importlib.import_module(name)
    print(
        "| what is shared | ranks of each job | pairs | both equal to one alone |\n| --- | --- | --- | --- |",
        flush=True,
    )
    wrong = 0
    for kind in options.kinds:
        for ranks in options.ranks:
            chance, equal = random.Random(f"{options.seed} {kind} {ranks}"), 0
            with tempfile.TemporaryDirectory() as home:
                folder = fresh(KINDS[kind], Path(home) / "alone")
                begin(KINDS[kind], folder, "log.txt", ranks).wait(SECONDS_AT_MOST)
                expected = left_by(folder)
                for _ in range(options.pairs):
                    folder = fresh(KINDS[kind], Path(home) / "shared")
                    one = begin(KINDS[kind], folder, "one.txt", ranks)
                    time.sleep(chance.random() * SECONDS_BETWEEN_STARTS)
                    other = begin(KINDS[kind], folder, "other.txt", ranks)
                    ended = [job.wait(SECONDS_AT_MOST) for job in (one, other)]
                    codes = {*one.codes.values(), *other.codes.values()}
                    if all(ended) and codes == {0} and expected and left_by(folder) == expected:
                        equal += 1
                    else:
                        print(f"{kind}: {codes}: {one.said[-800:]} {other.said[-800:]}", file=sys.stderr, flush=True)
                        one.end()
                        other.end()
            wrong += options.pairs - equal
            print(f"| {kind} | {ranks} | {options.pairs} | {equal} |", flush=True)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
