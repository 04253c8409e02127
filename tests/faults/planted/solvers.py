"""Faults of solvers."""

from .fault import in_file

FAULTS = (
    *in_file(
        "solvers/adams_bashforth.py",
        "solvers/test_coefficients.py::TestAdamsBashforth",
        ("order 2 is of order 1", "(3 / 2, -1 / 2)", "(1.0, 0.0)"),
        ("order 3 has other weights of sum 1", "(23 / 12, -16 / 12, 5 / 12)", "(21 / 12, -12 / 12, 3 / 12)"),
        (
            "order 4 is the published ipndm_v's",
            "(55 / 24, -59 / 24, 37 / 24, -9 / 24)",
            "(57 / 24, -65 / 24, 43 / 24, -11 / 24)",
        ),
        ("the ratio of steps is upside down", "ratio = h0 / h1", "ratio = h1 / h0"),
        ("a third is a half", "h0 / (3 * (h0 + h1))", "h0 / (2 * (h0 + h1))"),
        ("the published A is not halved", "(h1 * (h1 + h2))) / 2", "(h1 * (h1 + h2)))"),
        (
            "the published e looks back too short",
            "h1 * (h1 + h2) / (h2 * (h2 + h3))",
            "h1 * (h1 + h2) / (h2 * (h1 + h2))",
        ),
        ("the published order 4 has a sign wrong", "fourth = (1 - third) / 2", "fourth = (1 + third) / 2"),
        ("the textbook's weights are the published", 'if self.form == "textbook"', 'if self.form != "textbook"'),
    ),
    *in_file(
        "solvers/quadrature.py",
        "solvers/test_coefficients.py::TestAdamsBashforth",
        ("two points are one", "sigma_next, count=2)", "sigma_next, count=1)"),
        ("the Jacobi matrix has another entry", "(4 * index.square() - 1)", "(4 * index.square() + 1)"),
        ("points lie in half of the interval", "start + half * (1 + nodes)", "start + half * nodes"),
    ),
    *in_file(
        "solvers/deis.py",
        "solvers/test_coefficients.py::TestDEIS",
        (
            "the published sum is finer",
            "_PUBLISHED_POINTS, _EXACT_POINTS = 10_000",
            "_PUBLISHED_POINTS, _EXACT_POINTS = 20_000",
        ),
        ("the published sum is an integral", "* span / _PUBLISHED_POINTS)", "* span / (_PUBLISHED_POINTS - 1))"),
        ("the betas are those of other levels", "NoiseRange(0.002, 80.0)", "NoiseRange(0.02, 80.0)"),
        ("the integral over ln sigma lacks sigma", "measure * sigmas)", "measure)"),
        ("the variables are exchanged", 'self.variable == "rhoAB"', 'self.variable != "rhoAB"'),
    ),
    *in_file(
        "solvers/dpm_solver_pp.py",
        "solvers/test_coefficients.py::TestDPMSolverPlusPlus",
        ("phi_2 lacks its one", "phi_2 = phi_1 / signed_step - 1\n", "phi_2 = phi_1 / signed_step\n"),
        ("phi_3 lacks its half", "phi_3 = phi_2 / signed_step - 1 / 2", "phi_3 = phi_2 / signed_step"),
        ("the textbook keeps half of the curvature", "factor = 2 if", "factor = 1 if"),
        ("order 2 takes all of the slope", "phi_1 * newer / 2", "phi_1 * newer"),
        ("the slope is not carried to the newest evaluation", "(newer + lags[0] * half_curvature)", "newer"),
        ("the curvature is over the newer lag alone", "/ (lags[0] + lags[1])", "/ (2 * lags[0])"),
        ("data prediction does not shrink the state", "return (sigma_next / sigma) * x, -self", "return x, -self"),
        ("noise prediction ends at the level before", "-sigma_next * self._expansion", "-sigma * self._expansion"),
    ),
    *in_file(
        "solvers/multistep.py",
        "solvers/test_coefficients.py::TestLowerOrderFinal",
        ("the published fall-back reaches into the warm-up", "warm = available == order", "warm = True"),
        ("the fall-back comes an update late", "min(available, updates_left)", "min(available, updates_left + 1)"),
    ),
    *in_file(
        "solvers/unipc.py",
        "solvers/test_coefficients.py::TestUniPC",
        ("UniPC takes no factorials", "math.factorial(k) * psi", "psi"),
        ("UniPC halves at another order", "halved = order == (2 if arrived is None else 1)", "halved = order == 2"),
        ("bh1 is bh2", 'if self.variant == "bh1"', 'if self.variant != "bh1"'),
        (
            "the next psi lacks a factor",
            "psi / signed_step - 1 / math.factorial(k + 1)",
            "psi / signed_step - 1 / math.factorial(k)",
        ),
        ("past evaluations lie ahead", "(sigma / past.sigma).log() / step", "(past.sigma / sigma).log() / step"),
        ("the powers begin at one", "place ** (k - 1)", "place**k"),
        (
            "the corrector's state is thrown away",
            "SolverState(corrected, sigma_next, arrived",
            "SolverState(predicted, sigma_next, arrived",
        ),
    ),
    *in_file(
        "solvers/multistep.py",
        "solvers/test_identities.py::TestRefined::test_the_direction_scale_multiplies_the_networks_terms_alone",
        (
            "what is carried is scaled too",
            "x = carried + direction_scale * increment",
            "x = direction_scale * (carried + increment)",
        ),
    ),
    *in_file(
        "solvers/multistep.py",
        "solvers/test_identities.py::TestAdamsBashforth",
        ("the oldest counts as the newest", "self.rule(state.x, evaluations[::-1]", "self.rule(state.x, evaluations"),
        ("an evaluation is forgotten", "len(evaluations) - self.memory)", "len(evaluations) - self.memory + 1)"),
    ),
    *in_file(
        "solvers/placement.py",
        "solvers/test_identities.py::TestPlacement",
        (
            "the placed level is an arithmetic mean",
            "sigma * (sigma_next / sigma) ** self.ratio",
            "sigma + (sigma_next - sigma) * self.ratio",
        ),
    ),
    *in_file(
        "solvers/two_stage.py",
        "solvers/test_identities.py::TestTwoStage",
        ("the slope is extrapolated to the end", "weight = 1 / (2 * ratio)", "weight = 1 / ratio"),
        ("AMED takes the mean of two slopes", "return placed\n", "return (start + placed) / 2\n"),
        ("the direction scale is left out", "place.direction_scale * h * slope", "h * slope"),
        ("the second query ignores the time scale", "flow.scaled(place.time_scale)(", "flow("),
        (
            "the second query is asked at the start",
            "x_placed = state.x + (sigma_placed - state.sigma) * here.derivative",
            "x_placed = state.x",
        ),
    ),
    *in_file(
        "solvers/multistep.py",
        "solvers/test_identities.py::TestRefined",
        ("the second update is not scaled", "sigma_next, place.direction_scale)", "sigma_next)"),
        ("the plugin's second query ignores the time scale", "halfway.evaluated(scaled)", "halfway.evaluated(flow)"),
    ),
    *in_file(
        "solvers/multistep.py",
        "solvers/test_contract.py::TestSteps::test_the_states_stop_at_the_levels_of_the_grid_and_count_down",
        ("half-steps count as intervals", "updates_left=2 * state.updates_left", "updates_left=state.updates_left"),
    ),
    *in_file(
        "solvers/two_stage.py",
        "solvers/test_identities.py::TestTwoStage",
        ("Heun is DPM-Solver-2", "placer or FixedPlacement(1.0)", "placer or FixedPlacement(0.5)"),
    ),
    *in_file(
        "solvers/registry.py",
        "solvers/test_contract.py::TestNetworkRuns",
        ("the analytic first step costs a run", "* num_intervals - afs", "* num_intervals"),
    ),
)
