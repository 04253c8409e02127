"""What a row of the table is."""

from typing import NamedTuple


class Fault(NamedTuple):
    """A wrong formula.

    Attributes:
        name: what is wrong.
        file: below the package.
        old: the right text, which stands there exactly once.
        new: the wrong one.
        tests: below ``tests``, of which one must fail by an assertion.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def in_file(file: str, tests: str, *faults: tuple[str, str, str]) -> list[Fault]:
    """Return faults, each a name, the right text and the wrong one, that the same tests catch."""
    return [Fault(name, file, old, new, tuple(tests.split())) for name, old, new in faults]
