"""``doctor``: what this machine has, and what is wrong with it."""

import json
from dataclasses import asdict

from jsonargparse import Namespace

from amed_lightning.runtime.diagnosis import Finding, devices, folders, packages, script, slurm

CHAPTERS = {"packages": packages, "script": script, "devices": devices, "SLURM": slurm, "folders": folders}
MARKS = {"fact": "", "warning": "warning: ", "problem": "problem: "}


def run(options: Namespace) -> int:
    """Examine and print; 1 if there is a problem."""
    findings: list[Finding] = []
    if options.json:
        told = {title: [asdict(finding) for finding in examine()] for title, examine in CHAPTERS.items()}
        print(json.dumps(told, indent=2))
        return int(any(finding["level"] == "problem" for found in told.values() for finding in found))
    for title, examine in CHAPTERS.items():
        print(title)
        for finding in examine():
            findings.append(finding)
            print(f"  {MARKS[finding.level]}{finding.text}")
    problems, warnings = ([one.text for one in findings if one.level == level] for level in ("problem", "warning"))
    print(f"{len(problems)} problems, {len(warnings)} warnings" + "".join(f"\nproblem: {text}" for text in problems))
    return int(bool(problems))
