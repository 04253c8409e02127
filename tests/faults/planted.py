"""Faults: one formula each, the tests that must catch it, and what it breaks.

Every row is a text that stands exactly once in a file below the package, and what it is replaced by.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """A wrong formula.

    Attributes:
        name: what is wrong.
        file: below the package.
        old: the right text.
        new: the wrong one.
        tests: files below ``tests``, of which one must fail by an assertion.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


OBJECTIVE, CONSTANTS = ("training/test_objective.py",), ("training/test_constants.py",)
STAGES, BATCHES = ("training/test_stages.py", "training/test_tables.py"), ("training/test_table_batch.py",)
COEFFICIENTS, SCHEDULES = ("solvers/test_coefficients.py",), ("noise/test_schedules.py",)
PREDICTOR, SCORES = ("amed/test_predictor.py",), ("metrics/test_scores.py", "metrics/test_frechet.py")

FAULTS = (
    Fault("the running mean forgets", "training/objective.py", "DECAY = 0.9", "DECAY = 0.1", OBJECTIVE),
    Fault(
        "an arithmetic mean judges",
        "training/objective.py",
        "return math.exp(math.fsum(-math.inf if loss <= 0 else math.log(loss) for loss in losses) / len(losses))",
        "return math.fsum(losses) / len(losses)",
        OBJECTIVE,
    ),
    Fault(
        "a loss is divided by the root of its size",
        "training/objective.py",
        "return 1 / size.clamp",
        "return 1 / size.sqrt().clamp",
        OBJECTIVE,
    ),
    Fault(
        "least squares have the wrong sign",
        "training/constants.py",
        "-means.products(without, effect)",
        "means.products(without, effect)",
        CONSTANTS,
    ),
    Fault(
        "the worst ratio is taken",
        "training/constants.py",
        "found[losses.argmin()]",
        "found[losses.argmax()]",
        CONSTANTS,
    ),
    Fault(
        "a sigmoid reaches little of its bound", "training/constants.py", "REACHED = 0.9", "REACHED = 0.1", CONSTANTS
    ),
    Fault(
        "a warm start goes to the other side",
        "training/constants.py",
        "(own.ratio.logit() - torch.as_tensor(goal.ratio).logit())",
        "(own.ratio.logit() + torch.as_tensor(goal.ratio).logit())",
        CONSTANTS,
    ),
    Fault(
        "the middle ratios alone are tried",
        "training/constants.py",
        "low, high = table.nodes.ratio[0], table.nodes.ratio[-1]",
        "low, high = 0.3, 0.7",
        CONSTANTS,
    ),
    Fault(
        "a stage goes on from the state before",
        "training/stages.py",
        "state = replace(end, known=",
        "state = replace(state, known=",
        STAGES,
    ),
    Fault(
        "every epoch is a stage",
        "training/tables.py",
        "self.stages.reach(epoch // self.stage_epochs)",
        "self.stages.reach(epoch)",
        STAGES,
    ),
    Fault(
        "the rows of a table are those of other seeds",
        "training/table_batch.py",
        "self.seeds.start + rows)",
        "self.seeds.start + rows + 1)",
        BATCHES,
    ),
    Fault(
        "a published order 2 is of order 1", "solvers/adams_bashforth.py", "(3 / 2, -1 / 2)", "(1.0, 0.0)", COEFFICIENTS
    ),
    Fault(
        "phi_2 lacks its one",
        "solvers/dpm_solver_pp.py",
        "phi_2 = phi_1 / signed_step - 1\n",
        "phi_2 = phi_1 / signed_step\n",
        COEFFICIENTS,
    ),
    Fault(
        "phi_3 lacks its half",
        "solvers/dpm_solver_pp.py",
        "phi_3 = phi_2 / signed_step - 1 / 2",
        "phi_3 = phi_2 / signed_step",
        COEFFICIENTS,
    ),
    Fault(
        "the textbook keeps half of the curvature",
        "solvers/dpm_solver_pp.py",
        "factor = 2 if",
        "factor = 1 if",
        COEFFICIENTS,
    ),
    Fault("UniPC takes no factorials", "solvers/unipc.py", "math.factorial(k) * psi", "psi", COEFFICIENTS),
    Fault(
        "UniPC halves at another order",
        "solvers/unipc.py",
        "halved = order == (2 if arrived is None else 1)",
        "halved = order == 2",
        COEFFICIENTS,
    ),
    Fault("bh1 is bh2", "solvers/unipc.py", 'if self.variant == "bh1"', 'if self.variant != "bh1"', COEFFICIENTS),
    Fault("the first time is another", "noise/schedules.py", "FIRST_TIME = 1e-3", "FIRST_TIME = 1e-2", SCHEDULES),
    Fault(
        "the predictor's embedding has its halves exchanged",
        "amed/predictor.py",
        "[angles.sin(), angles.cos()]",
        "[angles.cos(), angles.sin()]",
        PREDICTOR,
    ),
    Fault("a scale leaves its bound", "amed/predictor.py", "1 + bound * (2 *", "1 + 2 * bound * (2 *", PREDICTOR),
    Fault("FID's trace is counted once", "metrics/frechet.py", "traces - 2 * values", "traces - values", SCORES),
    Fault("covariances are over N", "metrics/frechet.py", "/ (count - 1))", "/ count)", SCORES),
    Fault(
        "bytes are rounded about 127.5",
        "tensors.py",
        "images * 127.5 + 128",
        "images * 127.5 + 127.5",
        ("bench/test_block.py", "test_tensors.py"),
    ),
    Fault(
        "a stream overlaps the next",
        "seeds.py",
        "SEEDS_PER_STREAM = 2**29",
        "SEEDS_PER_STREAM = 2**28",
        ("test_seeds.py",),
    ),
)
