"""One reader of YAML for all: files, values of a command line, and values inside another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from amed_lightning.cli.parsing import Parser
from amed_lightning.config import InputError, complete, load_dataclass, load_yaml
from amed_lightning.runtime.yaml_text import read_yaml

VALUES = {
    "1e-3": 0.001,
    "1E5": 100_000.0,
    "-.5e1": -5.0,
    "1_000": 1000,
    "0o17": 15,
    "0x1f": 31,
    "0": 0,
    "12:30:00": "12:30:00",
    "1:30.5": "1:30.5",
    "2026-01-01": "2026-01-01",
    "on": True,
    "'017'": "017",
    "1e": "1e",
    "08": None,
    "-017": None,
    "00": 0,
}
"""What is written, and what it is; None is refused."""


@dataclass(frozen=True)
class Form:
    value: Any = None


def from_file(text: str, folder: Path) -> Any:
    (folder / "a.yaml").write_text(f"value: {text}")
    return load_yaml(folder / "a.yaml")["value"]


def through_a_dataclass(text: str, folder: Path) -> Any:
    (folder / "a.yaml").write_text(f"value: {{inner: {text}}}")
    return load_dataclass(folder / "a.yaml", Form).value["inner"]


def through_a_configuration(text: str, folder: Path) -> Any:
    (folder / "a.yaml").write_text(f"value: {{inner: {text}}}")
    parser = Parser(prog="a")
    parser.add_argument("--config", action="config")
    parser.add_argument("--value", type=dict[str, Any])
    return parser.parse_args(["--config", str(folder / "a.yaml")]).value["inner"]


def on_a_command_line(text: str, folder: Path) -> Any:
    parser = Parser(prog="a")
    parser.add_argument("--value", type=dict[str, Any])
    return parser.parse_args([f"--value={{inner: {text}}}"]).value["inner"]


WAYS = [from_file, through_a_dataclass, through_a_configuration, on_a_command_line]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", VALUES)
def test_a_value_has_one_reading(way, text, tmp_path):
    if VALUES[text] is None:
        with pytest.raises(InputError, match=f"{text} may be decimal or octal|value"):
            way(text, tmp_path)
    elif way is not from_file and text == "'017'":
        assert way(text, tmp_path) in ("017", 17)  # a text inside a mapping without types is read once more
    else:
        assert way(text, tmp_path) == VALUES[text]
        assert type(way(text, tmp_path)) is type(VALUES[text])


@pytest.mark.parametrize("text", ["12:30", "1:30.5", "2026-01-01"])
def test_a_text_is_no_number_where_one_is_due(text):
    with pytest.raises(InputError, match="rho"):
        complete("schedule", {"one": lambda rho=1.0: rho, "typed": _typed}, {"name": "typed", "rho": text})


def _typed(rho: float = 1.0) -> float:
    return rho


@pytest.mark.parametrize(
    "text", ["a: 1\nb: 2\na: 3", "{c: {a: 1, a: 1}}", "- {a: 1, 'a': 2}", "x: &m {a: 1}\ny: [{b: *m, b: 1}]"]
)
def test_a_key_that_stands_twice_is_refused_by_name_and_line(text):
    with pytest.raises(yaml.YAMLError, match=r"the key '[ab]' stands twice; delete one(.|\n)*line \d"):
        read_yaml(text)


@pytest.mark.parametrize("text", [*VALUES, "yes", "null", "a: b", "1_0.5", "-1e-3", "0b1"])
def test_a_text_that_a_parser_writes_is_read_as_that_text(text):
    parser = Parser(prog="a")
    parser.add_argument("--value", type=str)
    written = parser.dump(parser.parse_object({"value": text}))
    assert read_yaml(written) == yaml.safe_load(written) == {"value": text}


def test_a_merged_mapping_may_be_overridden():
    assert read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}")["b"] == {"x": 3, "y": 2}


@pytest.mark.parametrize("written", ["a: 1\na: 2", "a: 017"])
def test_a_file_is_named_with_the_line_at_fault(written, tmp_path):
    (tmp_path / "a.yaml").write_text(f"b: 1\n{written}")
    parser = Parser(prog="a")
    parser.add_argument("--config", action="config")
    for read in (lambda: load_yaml(tmp_path / "a.yaml"), lambda: parser.parse_args(["--config", f"{tmp_path}/a.yaml"])):
        with pytest.raises(InputError, match=r"a\.yaml: .*line [23], column \d+$"):
            read()


def test_a_document_that_refers_to_itself_again_and_again_is_refused_in_no_time():
    lines = ["a0: &a0 [1]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(yaml.YAMLError, match="by its aliases"):
        read_yaml("\n".join(lines))
