# ruff: noqa: RUF001 - the page writes Greek letters and minus signs
"""Write docs/solvers.md: the table of solvers, from the registry and from measurements.

    python -m docs.make_solvers

Names, options, papers and deviations are read from :data:`METHODS`, evaluations and history from the solvers that they
make, orders are measured by the code of the tests. Schedules have a section of their own. Tests make the page again and
compare.
"""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Logsnr, Polynomial, Schedule, levels
from amed_lightning.solvers.method import Method, Variant, choices_of
from amed_lightning.solvers.registry import METHODS, SOLVERS
from amed_lightning.solvers.state import Solver, trajectory
from docs.schedules import Row, section, table
from tests.solvers.problems import (
    RANGE,
    SIZES,
    ErrorAt,
    anisotropic,
    error_from_exact_history,
    error_with_warm_up,
    measured_order,
    start,
)

PAGE = Path(__file__).with_name("solvers.md")
GRIDS: dict[str, Schedule] = {"σ": Polynomial(rho=1.0), "ρ = 7": Polynomial(rho=7.0), "log-SNR": Logsnr()}

HEADER = (
    "Solver",
    "Options of the row",
    *(f"{grid}, exact history" for grid in GRIDS),
    *(f"{grid}, own warm-up" for grid in GRIDS),
    "Evaluations per interval",
    "History",
    "All options",
    "Paper",
    "Deviation from the textbook",
)
INTRODUCTION = f"""\
# Solvers

Written by `python -m docs.make_solvers`; tests in `tests/solvers` fail if a line no longer holds.

An order is the slope of log error against log step between {SIZES[0]} and {SIZES[1]} intervals, on the exact flow of a
Gaussian with sixteen variances, from σ = {RANGE.sigma_max:g} down to {RANGE.sigma_min:g}, in float64. Where a cell has
several numbers, they belong to `order` = 1, 2, 3, …
*Exact history*: past answers lie on the solution, so the formula alone is seen. *Own warm-up*: from the first level
with no past, as sampling does; a rule that starts with an Euler step is then of order 2 at most, UniPC of order 3.
`lower_order_final` is off while orders are measured. Grids: uniform in σ, polynomial with ρ = 7, uniform in log-SNR.

Three entries are of another order on finer grids: with exact history `ipndm_v` as published is of order 3, 2 and 3 at
`order` = 4; with their own warm-up, on levels uniform in σ, `unipc` is of order 3 and `dpm_solver_pp` of order 2 at
`order` = 3.

Every solver also takes a `placer`: with one, a rule of one evaluation per interval becomes AMED-Plugin and takes two,
and a two-stage rule asks its second query there. The history is the number of past answers kept. Of the options, the
default is bold. Empty cells repeat the one above.
"""


def solvers(name: str, variant: Variant) -> list[Solver]:
    """Build a variant at each of its orders, without a fall-back to lower orders at the end."""
    takes = inspect.signature(METHODS[name]).parameters
    options = {**variant.options} | ({"lower_order_final": False} if "lower_order_final" in takes else {})
    if "order" not in takes:
        return [SOLVERS[name](**options)]
    return [SOLVERS[name](**options, order=index + 1) for index in range(len(variant.orders))]


def history(solver: Solver) -> int:
    """Return the number of past answers that a long run ends with."""
    run = trajectory(solver, ProbabilityFlow(anisotropic()), start(), levels(Logsnr(), 6, RANGE))
    return max(len(state.history) for state in run)


def signature(method: type[Method]) -> str:
    """Write out a method's options: the choices of each, the default first."""
    described = []
    for option, parameter in inspect.signature(method).parameters.items():
        choices = choices_of(method).get(option, (True, False))
        others = [choice for choice in choices if choice != parameter.default]
        described.append(f"`{option}`: {', '.join([f'**{parameter.default}**', *map(str, others)])}")
    return "; ".join(described) or "none"


def joined(values: list[Any]) -> str:
    """Write the values of rising orders, once where they are equal."""
    texts = [f"{value:.1f}" if isinstance(value, float) else str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " ".join(texts)


def rows(measure: Callable[[ErrorAt, Solver, Schedule], float]) -> Iterator[Row]:
    """Yield the cells of each line of the table; what a solver's variants share stands in its first line."""
    for name, method in METHODS.items():
        for index, variant in enumerate(method.variants):
            made = solvers(name, variant)
            shared = (
                joined([solver.evaluations_per_interval for solver in made]),
                joined([history(solver) for solver in made]),
                signature(method),
                method.paper,
            )
            yield (
                "" if index else f"`{name}`",
                ", ".join(str(value) for value in variant.options.values()),
                *(
                    joined([measure(error, solver, grid) for solver in made])
                    for error in (error_from_exact_history, error_with_warm_up)
                    for grid in GRIDS.values()
                ),
                *(("",) * len(shared) if index else shared),
                variant.deviation,
            )


def solvers_part(measure: Callable[[ErrorAt, Solver, Schedule], float] = measured_order) -> str:
    """Return the page up to the schedules, its orders as ``measure`` finds them."""
    return INTRODUCTION + "\n" + table(HEADER, rows(measure))


if __name__ == "__main__":
    PAGE.write_text(solvers_part() + "\n" + section(), encoding="utf-8")
