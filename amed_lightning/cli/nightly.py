"""``bench nightly``: run a suite, write it to TensorBoard, compare it with golden rows; the exit code tells."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from amed_lightning.bench.cell import Bench, Loader, prepare
from amed_lightning.bench.golden import Check, Verdict, outcome
from amed_lightning.bench.nightly import Nightly, NightlyRun
from amed_lightning.bench.plan import plan
from amed_lightning.bench.results import write_plan
from amed_lightning.bench.suite import load_suite
from amed_lightning.bench.sweep import run as fill
from amed_lightning.config import InputError, load_dataclass
from amed_lightning.runtime.exit_codes import ExitCode
from amed_lightning.runtime.places import require_place
from amed_lightning.runtime.processes import ready
from amed_lightning.runtime.provenance import hardware, provenance

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_EXIT_CODES = {
    Verdict.fine: ExitCode.done,
    Verdict.regression: ExitCode.failed,
    Verdict.undecided: ExitCode.undecided,
}


def run(options: Namespace) -> int:
    """Run a night; return 0 where all is fine, 1 after a regression, 3 where something could not be decided.

    Nothing is decided where a device is missing, or a file that the suite needs. Where there is no room, no memory or
    no library, the command itself ends with 3.
    """
    config = load_dataclass(options.config, Nightly)
    suite = load_suite(config.suite)
    plan(suite)
    try:
        fabric = _ready(options, config)
    except InputError as error:
        return _undecided(error)
    night = NightlyRun(config, suite, hardware(fabric.device))
    night.golden()  # a file that cannot be read is better found before the night than after it
    try:
        benches = prepare(suite, Loader.sharing(night.results.folder, fabric, fabric.device), fabric.launch)
    except InputError as error:
        return _undecided(error)
    return _judged(options, night, benches, fabric)


def _ready(options: Namespace, config: Nightly) -> "Fabric":
    """Find the devices, and the folders that are written to.

    Raises:
        InputError: something is not there.
    """
    for folder in (config.results, config.tensorboard):
        require_place(folder, is_folder=True)
    return ready(options.accelerator, options.devices, options.num_nodes)


def _undecided(error: InputError) -> ExitCode:
    print(f"{Verdict.undecided}: {error}", file=sys.stderr)
    return ExitCode.undecided


def _judged(options: Namespace, night: NightlyRun, benches: Sequence[Bench], fabric: "Fabric") -> int:
    cells = [cell for bench in benches for cell in bench.cells]
    if fabric.is_global_zero:
        write_plan(night.suite, benches, night.results)
    fill(benches, night.results, fabric, fabric.device)
    code = ExitCode.done
    if fabric.is_global_zero:
        if options.update_golden:
            print(night.update_golden(cells, provenance(fabric.device, fabric.world_size)) or "golden rows: no change")
        code = _conclude(night, night.check(cells))
    return int(fabric.broadcast(code))


def _conclude(night: NightlyRun, checks: Sequence[Check]) -> ExitCode:
    for each in checks:
        if each.verdict != Verdict.fine:
            print(f"{each.verdict}: {each.row}, {each.figure}: {each.message}", file=sys.stderr)
    result = outcome(checks)
    print(f"{result}: {len(checks)} figures judged; {night.results.folder / 'report.md'}")
    print(
        "charts: tensorboard --reload_multifile true --reload_multifile_inactive_secs -1 "
        f"--logdir {night.config.tensorboard}"
    )
    return _EXIT_CODES[result]
