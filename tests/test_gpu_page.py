"""The page about GPUs: what `make gpu` writes, and that it writes nothing where there is none."""

import re
from pathlib import Path
from xml.etree import ElementTree

from benchmarks import gpu

REPORT = """<testsuites><testsuite><testcase classname="tests.a" name="one" time="1.26"/>
<testcase classname="tests.a" name="two[a|b]" time="0.1"><failure/></testcase>
<testcase classname="tests.b" name="three" time="0"><skipped/></testcase></testsuite></testsuites>"""


def test_without_a_gpu_one_line_says_so_and_the_page_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "PAGE", tmp_path / "gpu.md")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main() == 2
    assert re.fullmatch(r"error: PyTorch sees no GPU here;.*\n", capsys.readouterr().err)
    assert not (tmp_path / "gpu.md").exists()


def test_the_page_has_a_line_per_test_with_its_outcome():
    lines = gpu.page("a card", ElementTree.fromstring(REPORT)).splitlines()
    assert "on a card" in lines[2]
    expected = [("a.one", "passed", "1.3"), (r"a.two[a\|b]", "failure", "0.1"), ("b.three", "skipped", "0.0")]
    assert lines[6:] == [f"| `tests.{name}` | {outcome} | {seconds} |" for name, outcome, seconds in expected]


def test_make_has_it():
    assert "benchmarks/gpu.py" in (Path(gpu.__file__).parents[1] / "Makefile").read_text()
