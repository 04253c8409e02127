"""Kill real commands at random moments, and compare what they end with, bit for bit, with runs that were left alone.

``python -m tests.chaos.chaos --seed 0 --kills 25`` prints the table of ``docs/reliability.md``: so many kills of each
kind of command on one and on two ranks; with ``--ranks 1,2,3`` each start is on the next of these. Signals and moments
follow from the seed; where in its work a moment finds a command depends on the machine.
"""

import argparse
import importlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from .commands import SECONDS_TO_END, Command, adopt_orphans
from .recipes import KINDS, command, left_by, write

NEEDED = ("lightning.pytorch", "torchmetrics", "torch_fidelity", "matplotlib.pyplot")
VERBS = ("fit", "precompute", "bench")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 85}
MOST_IN_A_ROUND = 6
"""Kills of one run before it is left alone."""
SECONDS_AT_MOST = 600.0
SECONDS_OF_A_LAUNCHER = 5.0
TOGETHER = "All distributed processes registered"


@dataclass
class Series:
    """Kills of one kind of command.

    Attributes:
        kind: of command.
        ranks: processes of the starts, in turn.
        kills: that found a process at work.
        rounds: runs that were ended undisturbed and compared.
        equal: those of them that left the same.
        refused: lines of the starts that ended in exit code 2.
        slowest: seconds from a kill until the last process had ended.
        others: everything else, in words.
    """

    kind: str
    ranks: tuple[int, ...]
    kills: int = 0
    rounds: int = 0
    equal: int = 0
    refused: list[str] = field(default_factory=list)
    slowest: float = 0.0
    others: list[str] = field(default_factory=list)

    @property
    def turns(self) -> str:
        """The processes in words."""
        return ", ".join(map(str, self.ranks))

    def row(self) -> str:
        """Return its line of the table."""
        counts = self.kills, self.rounds, self.equal, len(self.refused), len(self.others)
        cells = (self.kind, self.turns, *counts)
        return f"| {' | '.join(map(str, cells))} | {self.slowest:.0f} s |"


HEADER = (
    "| command | ranks | kills | runs compared | equal | refused clearly | others | longest end |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def disturb(series: Series, kills: int, seconds: float, chance: random.Random, home: Path) -> None:
    """Kill commands of one kind so often."""
    began = time.monotonic()
    expected = _alone(series, _fresh(series, home / "alone"))
    duration = time.monotonic() - began
    if not expected:
        series.others.append("nothing to compare with")
        return
    folder = _fresh(series, home / "killed")
    in_a_round, turns = 0, cycle(series.ranks)
    until = time.monotonic() + seconds
    while series.kills < kills and (time.monotonic() < until or in_a_round):
        started = _started(series, folder, next(turns))
        number = chance.choice(SIGNALS)
        # A terminal and a scheduler signal all, the kernel's killer of memory kills one.
        hit = [chance.randrange(started.ranks)] if number == signal.SIGKILL else range(started.ranks)
        moment, began = chance.random() * duration, time.monotonic()
        if not started.wait(moment):
            began = time.monotonic()
            started.send(number, hit)
            _judge(series, started, number, began)
            in_a_round += 1
            if in_a_round < MOST_IN_A_ROUND and series.kills < kills and time.monotonic() < until:
                continue
            left = _alone(series, folder)
        else:
            _judge_end(series, started)
            left = left_by(folder)
            duration = min(duration, time.monotonic() - began)  # the first run is slow, and a last piece short
        series.rounds += 1
        if left == expected:
            series.equal += 1
        else:
            names = sorted(name for name in expected.keys() | left.keys() if expected.get(name) != left.get(name))
            series.others.append(f"other results: {names[:5]}")
        folder, in_a_round = _fresh(series, folder), 0


def _judge(series: Series, started: Command, number: int, began: float) -> None:
    """Say how the processes have ended that a signal found at work."""
    if (
        number == signal.SIGKILL and TOGETHER not in started.said
    ):  # before they know each other, whoever started them acts
        started.wait(SECONDS_OF_A_LAUNCHER)
        started.send(signal.SIGKILL, range(started.ranks))
    if not started.wait(SECONDS_TO_END):
        series.others.append(f"hung {SECONDS_TO_END:.0f} s after {signal.Signals(number).name}: {started.said[-500:]}")
        started.end()
    series.slowest = max(series.slowest, time.monotonic() - began)
    series.kills += 1
    code = started.codes[0]
    if code == 2:
        series.refused.append(_refusal(started))
    elif number in STOPPED and code not in (0, STOPPED[number], -number):
        series.others.append(f"{code} after {signal.Signals(number).name}: {started.said[-500:]}")
    elif "Traceback" in started.said:
        series.others.append(f"a traceback after {signal.Signals(number).name}: {started.said[-1500:]}")


def _refusal(started: Command) -> str:
    return next((line for line in started.said.splitlines() if line.startswith("error:")), "no line")


def _judge_end(series: Series, started: Command) -> None:
    if set(started.codes.values()) != {0}:
        series.others.append(f"ended with {started.codes}: {started.said[-500:]}")


def _alone(series: Series, folder: Path) -> dict[str, str]:
    """Let a command end, and return what it has left."""
    left_alone = _started(series, folder, series.ranks[0])
    if not left_alone.wait(SECONDS_AT_MOST):
        left_alone.end()
    _judge_end(series, left_alone)
    return left_by(folder)


def _started(series: Series, folder: Path, ranks: int) -> Command:
    return Command(folder, command(series.kind, ranks), ranks)


def _fresh(series: Series, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write(series.kind, folder)
    return folder


def run(seed: int, kills: int, minutes: float, kinds: list[str], ranks: list[tuple[int, ...]]) -> Iterator[Series]:
    """Disturb every kind of command on so many ranks."""
    adopt_orphans()
    for name in (*NEEDED, *(f"amed_lightning.cli.{verb}" for verb in VERBS)):
        importlib.import_module(name)
    for kind in kinds:
        for count in ranks:
            series = Series(kind, count)
            with tempfile.TemporaryDirectory() as home:
                disturb(series, kills, 60 * minutes, random.Random(f"{seed} {kind} {series.turns}"), Path(home))
            yield series


def _turns(words: str) -> tuple[int, ...]:
    return tuple(map(int, words.split(",")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=25, help="of each kind of command on each number of ranks")
    parser.add_argument("--minutes", type=float, default=1e9, help="of each of these, at most")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--ranks", nargs="*", type=_turns, default=[(1,), (2,)], help="processes, or several in turn")
    options = parser.parse_args()
    print(HEADER, flush=True)
    wrong = 0
    for series in run(options.seed, options.kills, options.minutes, options.kinds, options.ranks):
        print(series.row(), flush=True)
        for line in series.refused:
            print(f"{series.kind}, {series.turns} ranks, refused: {line}", file=sys.stderr, flush=True)
        for other in series.others:
            wrong += 1
            print(f"{series.kind}, {series.turns} ranks: {other}", file=sys.stderr, flush=True)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
