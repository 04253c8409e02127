"""Run the tests that are marked gpu on this machine's GPU, and write what came of each to docs/gpu.md.

Exit codes: 0 all passed, 1 not all, 2 there is no GPU: one line says so, and the page stays as it is.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gpu.md"
OUTCOMES = ("failure", "error", "skipped")


def page(device: str, report: ElementTree.Element) -> str:
    """Return the page.

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


def main() -> int:
    """Run the tests and write the page."""
    if not torch.cuda.is_available():
        print("error: PyTorch sees no GPU here; docs/gpu.md stays as it is", file=sys.stderr)
        return 2
    device = f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        ended = subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={report}"], cwd=ROOT)
        PAGE.write_text(page(device, ElementTree.parse(report).getroot()))
    return int(ended.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
