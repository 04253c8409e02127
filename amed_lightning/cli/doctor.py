"""``doctor``: what this machine has, and what is wrong with it."""

from collections.abc import Sequence

from amed_lightning.cli.parsing import Parser
from amed_lightning.runtime.diagnosis import devices, folders, packages, script, slurm

CHAPTERS = {"packages": packages, "script": script, "devices": devices, "SLURM": slurm, "folders": folders}
MARKS = {"fact": "", "warning": "warning: ", "problem": "problem: "}


def run(verb: str, arguments: Sequence[str]) -> int:
    """Examine and print; 1 if there is a problem."""
    parser = Parser(
        prog=f"amed-lightning {verb}", description="Versions, devices, SLURM, caches, and who owns a script."
    )
    parser.parse_args(list(arguments))
    findings = []
    for title, examine in CHAPTERS.items():
        print(title)
        for finding in examine():
            findings.append(finding)
            print(f"  {MARKS[finding.level]}{finding.text}")
    problems, warnings = ([one.text for one in findings if one.level == level] for level in ("problem", "warning"))
    print(f"{len(problems)} problems, {len(warnings)} warnings" + "".join(f"\nproblem: {text}" for text in problems))
    return int(bool(problems))
