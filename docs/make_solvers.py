# ruff: noqa: RUF001 - the page writes Greek letters and minus signs
"""Write docs/solvers.md: the table of solvers, from the registry, from measurements, and from a few declared words.

    python -m docs.make_solvers

Names, options, evaluations and history are read from :data:`SOLVERS`, orders are measured by the code of the tests;
only the papers and the deviations below are written by hand. Schedules have a section of their own. Tests make the page
again and compare.
"""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.noise.schedules import Logsnr, Polynomial, Schedule, levels
from amed_lightning.solvers.registry import SOLVERS
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
CAPPED = "`lower_order_final`, on by default, leaves no order above 2"
UNTHRESHOLDED = "without the thresholding of the published tools, which is the model's here: `thresholded`"
HALVED = "takes ½ for the solution at the predictor's order 2 and the corrector's order 1"

PAPERS = {
    "euler": "Song et al. 2021 (DDIM), [2010.02502](https://arxiv.org/abs/2010.02502)",
    "heun": "Karras et al. 2022 (EDM), [2206.00364](https://arxiv.org/abs/2206.00364)",
    "dpm_solver_2": "Lu et al. 2022, [2206.00927](https://arxiv.org/abs/2206.00927)",
    "ipndm": "Zhang and Chen 2023, [2204.13902](https://arxiv.org/abs/2204.13902)",
    "ipndm_v": "Zhang and Chen 2023, [2204.13902](https://arxiv.org/abs/2204.13902)",
    "deis": "Zhang and Chen 2023, [2204.13902](https://arxiv.org/abs/2204.13902)",
    "dpm_solver_pp": "Lu et al. 2022b, [2211.01095](https://arxiv.org/abs/2211.01095)",
    "unipc": "Zhao et al. 2023, [2302.04867](https://arxiv.org/abs/2302.04867)",
    "amed": "Zhou et al. 2024, [2312.00094](https://arxiv.org/abs/2312.00094)",
}

Options = dict[str, Any]
VARIANTS: dict[str, list[tuple[Options, str]]] = {
    "euler": [({}, "none")],
    "heun": [({}, "ends at the last level, with no step to σ = 0")],
    "dpm_solver_2": [({}, "none")],
    "ipndm": [({}, "an equidistant grid's weights on every grid")],
    "ipndm_v": [
        (
            {"form": "published"},
            "a bracket of order 3 is misplaced, which its order survives; order 4 has (57, −65, 43, −11)/24 on an"
            " equidistant grid, and weights that sum to 1 only for steps in geometric progression",
        ),
        ({"form": "textbook"}, "none"),
    ],
    "deis": [
        (
            {"variable": "tAB", "form": "published"},
            "sums 10,000 points, both ends counted; its time belongs to levels from 0.002 to 80 whatever the model",
        ),
        ({"variable": "tAB", "form": "textbook"}, "integrated to rounding; the same time"),
        ({"variable": "rhoAB"}, "none; it is `ipndm_v`, textbook"),
    ],
    "dpm_solver_pp": [
        (
            {"prediction": "data", "form": "published"},
            f"order 3 halves its second derivative; {CAPPED}; {UNTHRESHOLDED}",
        ),
        ({"prediction": "data", "form": "textbook"}, CAPPED),
        ({"prediction": "noise", "form": "published"}, f"order 3 halves its second derivative; {CAPPED}"),
        ({"prediction": "noise", "form": "textbook"}, CAPPED),
    ],
    "unipc": [
        (
            {"prediction": prediction, "variant": variant},
            f"{HALVED}; {CAPPED}" + (f"; {UNTHRESHOLDED}" if prediction == "data" else ""),
        )
        for prediction in ("data", "noise")
        for variant in ("bh1", "bh2")
    ],
    "amed": [({}, "none at the ratio ½, where it is `dpm_solver_2`; order 1 at any other fixed ratio")],
}
"""The options that change a solver's arithmetic, each with its deviation from the textbook."""

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
and a two-stage rule asks its second question there. The history is the number of past answers kept. Of the options, the
default is bold. Empty cells repeat the one above.
"""


def orders(name: str) -> tuple[int, ...]:
    """Return the orders that a solver offers."""
    if "order" not in inspect.signature(SOLVERS[name]).parameters:
        return ()
    found = []
    for order in range(1, 10):
        try:
            SOLVERS[name](order=order)
        except ValueError:
            break
        found.append(order)
    return tuple(found)


def solvers(name: str, options: Options) -> list[Solver]:
    """Build a variant at each of its orders, without a fall-back to lower orders at the end."""
    if "lower_order_final" in inspect.signature(SOLVERS[name]).parameters:
        options = options | {"lower_order_final": False}
    return [SOLVERS[name](**options, order=order) for order in orders(name)] or [SOLVERS[name](**options)]


def history(solver: Solver) -> int:
    """Return the number of past answers that a long run ends with."""
    run = trajectory(solver, ProbabilityFlow(anisotropic()), start(), levels(Logsnr(), 6, RANGE))
    return max(len(state.history) for state in run)


def signature(name: str) -> str:
    """Write out a solver's options: the choices of each, the default first."""
    factory = SOLVERS[name]
    hints = get_type_hints(factory)
    described = []
    for option, parameter in inspect.signature(factory).parameters.items():
        if option == "placer":
            continue
        choices: tuple[Any, ...] = orders(name) if option == "order" else (True, False)
        if get_origin(hints[option]) is Literal:
            choices = get_args(hints[option])
        others = [choice for choice in choices if choice != parameter.default]
        described.append(f"`{option}`: {', '.join([f'**{parameter.default}**', *map(str, others)])}")
    return "; ".join(described) or "none"


def joined(values: list[Any]) -> str:
    """Write the values of rising orders, once where they are equal."""
    texts = [f"{value:.1f}" if isinstance(value, float) else str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " ".join(texts)


def rows(measure: Callable[[ErrorAt, Solver, Schedule], float]) -> Iterator[Row]:
    """Yield the cells of each line of the table; what a solver's variants share stands in its first line."""
    for name in SOLVERS:
        for index, (options, deviation) in enumerate(VARIANTS[name]):
            variant = solvers(name, options)
            shared = (
                joined([solver.evaluations_per_interval for solver in variant]),
                joined([history(solver) for solver in variant]),
                signature(name),
                PAPERS[name],
            )
            yield (
                "" if index else f"`{name}`",
                ", ".join(str(value) for value in options.values()),
                *(
                    joined([measure(error, solver, grid) for solver in variant])
                    for error in (error_from_exact_history, error_with_warm_up)
                    for grid in GRIDS.values()
                ),
                *(("",) * len(shared) if index else shared),
                deviation,
            )


def solvers_part(measure: Callable[[ErrorAt, Solver, Schedule], float] = measured_order) -> str:
    """Return the page up to the schedules, its orders as ``measure`` finds them."""
    return INTRODUCTION + "\n" + table(HEADER, rows(measure))


if __name__ == "__main__":
    PAGE.write_text(solvers_part() + "\n" + section(), encoding="utf-8")
