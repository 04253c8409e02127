"""The page about GPUs: what `make gpu` writes, and that it writes nothing where there is none."""

import importlib
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import gpu

from .pretended.device import PretendedDevice
from .pretended.places import DEVICE

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


@pytest.fixture
def scripts(monkeypatch):
    """The folder of benchmarks, as Python has it when it runs one of them."""
    monkeypatch.syspath_prepend(gpu.FOLDER)


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("command", gpu.BENCHMARKS)
def test_each_benchmark_takes_its_options_and_a_device(command, monkeypatch, capsys):
    script, *options = command.split()
    monkeypatch.setattr("sys.argv", [script, *options, "--device", "cuda", "--nonsense"])
    with pytest.raises(SystemExit):
        importlib.import_module(Path(script).stem).main()
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: --nonsense\n")


def test_each_benchmark_that_takes_a_device_is_run():
    takes = {path.name for path in gpu.FOLDER.glob("*.py") if 'add_argument("--device"' in path.read_text()}
    assert takes == {command.split()[0] for command in gpu.BENCHMARKS}


@pytest.mark.usefixtures("scripts")
class TestOnADevice:
    """The pretended one: nothing that they compute with lies elsewhere."""

    def test_the_solvers_overhead(self, monkeypatch):
        import solver_overhead

        monkeypatch.setattr(solver_overhead, "VARIANTS", (("ipndm", {}),))
        with PretendedDevice():
            rows = solver_overhead.measure(2, 2, 1, DEVICE)
        assert len(rows) == 3
        assert all(row["ratio"] > 1 and row["device"] == str(DEVICE) for row in rows)

    def test_a_sweeps_overhead(self, monkeypatch):
        import sweep

        (dataset,) = sweep.small().datasets
        few = sweep.small(datasets=[replace(dataset, reference=None)], num_blocks=2, block_size=4, batch_size=4)
        few = replace(few, entries=few.entries[:1])
        monkeypatch.setattr(sweep, "small", lambda: few)
        with PretendedDevice() as machine:
            found = sweep.overhead(DEVICE)
        assert 0 < found["network and detector"] < found["seconds"]
        assert machine.traffic.to_device > 0, "it was swept there"

    def test_detectors(self):
        import detectors

        with PretendedDevice():
            detector = detectors.efficientnet.efficientnet_lite0()[0].to(DEVICE)
            rows = list(detectors.measure(detector, detectors.smooth_pictures(1).to(DEVICE), 1, DEVICE))
        assert [row["way"] for row in rows] == list(detectors.WAYS)

    def test_streaming(self):
        import streaming

        with PretendedDevice():
            detector = streaming.digits_classifier()[0].to(DEVICE)
            rows = streaming.measure(streaming.Case("digits", streaming.digits(), detector, 65, 65), 1, DEVICE)
        assert [row["way"] for row in rows] == list(streaming.WAYS)


RUNS = """import sys
print(f"a table on {sys.argv[-1]}")
"""
FAILS = """print("half a table")
raise RuntimeError("out of memory")
"""


def test_what_benchmarks_print_stands_behind_the_tests_and_a_failure_is_told(tmp_path, monkeypatch):
    for name, text in {"runs.py": RUNS, "fails.py": FAILS}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "test_one.py").write_text("import pytest\n@pytest.mark.gpu\ndef test_one(): ...\n")
    (tmp_path / "docs").mkdir()
    for name, value in {"ROOT": tmp_path, "FOLDER": tmp_path, "PAGE": tmp_path / "docs" / "gpu.md"}.items():
        monkeypatch.setattr(gpu, name, value)
    ends = []
    for commands in (("runs.py",), ("fails.py", "runs.py --output x")):
        monkeypatch.setattr(gpu, "BENCHMARKS", commands)
        with PretendedDevice():
            ends.append(gpu.main())
    assert ends == [0, 1]
    tests, failed, ran = gpu.PAGE.read_text().split("\n## ")
    assert "on pretended, PyTorch" in tests
    assert "| `test_one.test_one` | passed |" in tests
    assert failed.startswith("`python benchmarks/fails.py --device cuda`\n\n```text\nhalf a table\n\nexit code 1\n")
    assert failed.endswith("RuntimeError: out of memory\n```\n")
    assert ran == "`python benchmarks/runs.py --output x --device cuda`\n\n```text\na table on cuda\n```\n"


def test_make_has_it():
    assert "benchmarks/gpu.py" in (Path(gpu.__file__).parents[1] / "Makefile").read_text()
