"""A night's report: Markdown for a person, JUnit XML for a CI server."""

from collections import Counter
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from amed_lightning.bench.regression import Judgement, Verdict, outcome


def nightly_markdown(title: str, judgements: Sequence[Judgement], origin: str, table: str) -> str:
    """Write what was found: the outcome, everything that is not fine, and the night's table.

    Args:
        title: of the report.
        judgements: all of them.
        origin: what the rows were compared with.
        table: the night's scores in Markdown.
    """
    counts = Counter(judgement.verdict for judgement in judgements)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    found = [judgement for judgement in judgements if judgement.verdict != Verdict.fine]
    lines = [f"# {title}", "", f"Outcome: **{outcome(judgements)}** ({summary or 'nothing to judge'}).", ""]
    lines += [f"Compared with: {origin}", ""]
    if found:
        lines += ["| verdict | row | figure | what |", "| --- | --- | --- | --- |"]
        lines += [f"| {entry.verdict} | {entry.row} | {entry.figure} | {entry.message} |" for entry in found]
        lines.append("")
    return "\n".join([*lines, table])


def junit_xml(suite: str, judgements: Iterable[Judgement]) -> bytes:
    """Write a test case per figure: a regression fails it, an undecided one is skipped, a warning is its output."""
    cases = []
    for judgement in judgements:
        case = ElementTree.Element("testcase", classname=f"{suite}.{judgement.row}", name=judgement.figure)
        if judgement.verdict == Verdict.regression:
            ElementTree.SubElement(case, "failure", message=judgement.message)
        elif judgement.verdict == Verdict.undecided:
            ElementTree.SubElement(case, "skipped", message=judgement.message)
        elif judgement.verdict == Verdict.warning:
            ElementTree.SubElement(case, "system-out").text = judgement.message
        cases.append(case)
    root = ElementTree.Element("testsuite", name=suite, tests=str(len(cases)))
    for attribute, child in (("failures", "failure"), ("skipped", "skipped")):
        root.set(attribute, str(sum(case.find(child) is not None for case in cases)))
    root.extend(cases)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
