"""Run the tests that are marked gpu and the benchmarks that measure time on this machine's GPU, and write docs/gpu.md.

The page grows with each of them, so what is done is there if a later one hangs. It has each test's outcome
and what each benchmark prints, or the end of what it says where it fails; their files are in runs/gpu.

Exit codes: 0 all passed, 1 not all, 2 there is no GPU: one line says so, and the page stays as it is.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import torch

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
PAGE = ROOT / "docs" / "gpu.md"
OUTCOMES = ("failure", "error", "skipped")
BENCHMARKS = (
    "compiled.py --output runs/gpu/compiled",
    "detectors.py --output runs/gpu/detectors",
    "distillation.py --output runs/gpu/distillation",
    "solver_overhead.py --output runs/gpu/solver_overhead",
    "store_reads.py --output runs/gpu/store_reads",
    "streaming.py --output runs/gpu/streaming",
    "sweep.py overhead",
)
"""Those of this folder that measure time on a device; the others measure errors, or what only the host does."""
LAST_LINES = 5
"""Of a traceback, to say what went wrong."""


def page(device: str, report: ElementTree.Element) -> str:
    """Return the page's part about tests.

    Args:
        device: what the tests ran on, and with which libraries.
        report: of pytest, in JUnit's form.
    """
    lines = [f"# On a GPU\n\nWritten by `make gpu` on {device}.\n\n| test | outcome | s |\n| --- | --- | ---: |"]
    for case in report.iter("testcase"):
        outcome = next((name for name in OUTCOMES if case.find(name) is not None), "passed")
        name = f"{case.get('classname')}.{case.get('name')}".replace("|", "\\|")
        lines.append(f"| `{name}` | {outcome} | {float(case.get('time', 0)):.1f} |")
    return "\n".join(lines) + "\n"


def benchmark(command: str, device: str) -> tuple[str, bool]:
    """Run a benchmark on a device; return its part of the page, and whether it ended well."""
    script, *options = f"{command} --device {device}".split()
    done = subprocess.run([sys.executable, FOLDER / script, *options], cwd=ROOT, capture_output=True, text=True)
    failed = ["", f"exit code {done.returncode}", *done.stderr.splitlines()[-LAST_LINES:]] if done.returncode else []
    said = "\n".join([done.stdout.rstrip(), *failed]).strip()
    return f"\n## `python benchmarks/{command} --device {device}`\n\n```text\n{said}\n```\n", not failed


def main() -> int:
    """Run tests and benchmarks and write the page."""
    if not torch.cuda.is_available():
        print("error: PyTorch sees no GPU here; docs/gpu.md stays as it is", file=sys.stderr)
        return 2
    device = f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        ended = subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={report}"], cwd=ROOT)
        PAGE.write_text(page(device, ElementTree.parse(report).getroot()))
    well = ended.returncode == 0
    for command in BENCHMARKS:
        print(command, flush=True)
        part, passed = benchmark(command, "cuda")
        with PAGE.open("a") as file:
            file.write(part)
        well &= passed
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
