"""Faults: one formula each, the tests that must catch it, and what it breaks.

Every fault is a text that stands exactly once in a file below the package, and what it is replaced by. They are listed
by file, from the bottom of the package to its top, with the smallest tests that hold what the file says.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """A wrong formula.

    Attributes:
        name: what is wrong.
        file: below the package.
        old: the right text.
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


NOISE = (
    *in_file(
        "seeds.py",
        "test_seeds.py",
        ("a stream overlaps the next", "SEEDS_PER_STREAM = 2**29", "SEEDS_PER_STREAM = 2**28"),
        ("validation has training's seeds", "validation = 2", "validation = 1"),
        ("a label is drawn before the noise", "            torch.randn(shape, generator=generator)\n", ""),
    ),
    *in_file(
        "tensors.py",
        "test_tensors.py",
        ("bytes are rounded about 127.5", "images * 127.5 + 128", "images * 127.5 + 127.5"),
        ("bytes are read back about 128", "/ 127.5 - 1", "/ 128 - 1"),
        ("what saturates hides an infinity", "value.where(argument.isfinite(), torch.nan)", "value"),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestEverySchedule::test_the_ends_are_exact_and_the_levels_decrease_in_double_precision",
        ("every schedule starts at the largest level", "model[0] if first else own[0]", "model[0]"),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestEnds",
        ("ends of another model are overwritten", "ROUNDING = 1e-6", "ROUNDING = 1e-1"),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestFormulas",
        ("the first time is another", "FIRST_TIME = 1e-3", "FIRST_TIME = 1e-2"),
        ("the exponent of EDM's grid is 5", "rho: float = 7.0", "rho: float = 5.0"),
        (
            "levels between the ends are a straight line's",
            "(first ** (1 / rho) + u * (last ** (1 / rho) - first ** (1 / rho))) ** rho",
            "first + u * (last - first)",
        ),
        (
            "log-SNR is warped",
            "noise_range.sigma_max * (noise_range.sigma_min / noise_range.sigma_max) ** u",
            "noise_range.sigma_max * (noise_range.sigma_min / noise_range.sigma_max) ** u.square()",
        ),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestFormulas::test_edms_range_gives_the_published_betas_back",
        ("beta's slope is halved", "2 * (low / FIRST_TIME - high)", "(low / FIRST_TIME - high)"),
        ("beta at time 0 is that at time 1", "high - self.beta_d / 2", "high"),
        ("the SDE's level lacks its half", "self.beta_d * t.square() / 2", "self.beta_d * t.square()"),
        ("times of the SDE are not warped", "_warp(1.0, FIRST_TIME, u, self.rho)", "_warp(1.0, FIRST_TIME, u, 2.0)"),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestDiscrete::test_the_published_grid_starts_below_the_largest_level",
        (
            "the forms of discrete are exchanged",
            'first if self.form == "published"',
            'first if self.form != "published"',
        ),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestDiscrete",
        (
            "Stable Diffusion's betas are linear",
            "torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()",
            "torch.linspace(first, last, steps, dtype=torch.float64)",
        ),
        (
            "Stable Diffusion's log alphas are not halved",
            "((1 - betas).log().cumsum(0) / 2)",
            "((1 - betas).log().cumsum(0))",
        ),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_lists.py",
        ("levels inside a list are uniform", "INNER_RHO = 7.0", "INNER_RHO = 1.0"),
    ),
    *in_file(
        "noise/discrete_time.py",
        "noise/test_discrete_time.py",
        ("the table's times begin at 0", "torch.arange(1, steps + 1", "torch.arange(0, steps"),
        ("a level's log alpha lacks its half", "-sigma.square().log1p() / 2", "-sigma.square().log1p()"),
        (
            "the table's line ends at its ends",
            "return y_left + (x - x_left)",
            "return y_left + (x - x_left).clamp(min=0)",
        ),
    ),
    *in_file(
        "noise/betas.py",
        "noise/test_betas.py",
        ("the last linear beta is 10 in M", "20 / steps", "10 / steps"),
        ("the cosine is not squared", "/ (1 + offset)) ** 2", "/ (1 + offset))"),
        ("the cosine has no offset", "COSINE_OFFSET = 0.008", "COSINE_OFFSET = 0.0"),
        ("the largest beta is smaller", "LARGEST_BETA = 0.999", "LARGEST_BETA = 0.99"),
        ("log alphas are not halved", "tuple(total / 2 for", "tuple(total for"),
    ),
    *in_file(
        "noise/found.py",
        "noise/test_lists.py",
        (
            "found levels serve any solver under an analytic first step",
            "if self.afs else {}",
            "if not self.afs else {}",
        ),
    ),
)

FLOW = (
    *in_file(
        "flow/probability_flow.py",
        "flow/test_probability_flow.py",
        (
            "the slope divides by the scaled level",
            "(x - denoised.image) / sigma,",
            "(x - denoised.image) / (sigma * self.time_scale),",
        ),
        (
            "the network is told the unscaled level",
            "self.denoiser(x, sigma * self.time_scale,",
            "self.denoiser(x, sigma,",
        ),
        ("the analytic first step takes the data for a point", "x / (1 + sigma.square()).sqrt()", "x / sigma"),
    ),
)

COEFFICIENTS, IDENTITIES = "solvers/test_coefficients.py", "solvers/test_identities.py"
SOLVERS = (
    *in_file(
        "solvers/adams_bashforth.py",
        COEFFICIENTS,
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
        COEFFICIENTS,
        ("two points are one", "sigma_next, count=2)", "sigma_next, count=1)"),
        ("the Jacobi matrix has another entry", "(4 * index.square() - 1)", "(4 * index.square() + 1)"),
        ("points lie in half of the interval", "start + half * (1 + nodes)", "start + half * nodes"),
    ),
    *in_file(
        "solvers/deis.py",
        COEFFICIENTS,
        (
            "the published sum is finer",
            "PUBLISHED_POINTS, EXACT_POINTS = 10_000",
            "PUBLISHED_POINTS, EXACT_POINTS = 20_000",
        ),
        ("the published sum is an integral", "* span / PUBLISHED_POINTS)", "* span / (PUBLISHED_POINTS - 1))"),
        ("the betas are those of other levels", "NoiseRange(0.002, 80.0)", "NoiseRange(0.02, 80.0)"),
        ("the integral over ln sigma lacks sigma", "measure * sigmas)", "measure)"),
        ("the variables are exchanged", 'self.variable == "rhoAB"', 'self.variable != "rhoAB"'),
    ),
    *in_file(
        "solvers/dpm_solver_pp.py",
        COEFFICIENTS,
        ("phi_2 lacks its one", "phi_2 = phi_1 / signed_step - 1\n", "phi_2 = phi_1 / signed_step\n"),
        ("phi_3 lacks its half", "phi_3 = phi_2 / signed_step - 1 / 2", "phi_3 = phi_2 / signed_step"),
        ("the textbook keeps half of the curvature", "factor = 2 if", "factor = 1 if"),
        ("order 2 takes all of the slope", "phi_1 * newer / 2", "phi_1 * newer"),
        ("the slope is not carried to the newest answer", "(newer + lags[0] * half_curvature)", "newer"),
        ("the curvature is over the newer lag alone", "/ (lags[0] + lags[1])", "/ (2 * lags[0])"),
        ("data prediction does not shrink the state", "return (sigma_next / sigma) * x, -self", "return x, -self"),
        ("noise prediction ends at the level before", "-sigma_next * self._expansion", "-sigma * self._expansion"),
    ),
    *in_file(
        "solvers/rule.py",
        COEFFICIENTS,
        ("the published fall-back reaches into the warm-up", "warm = available == max_order", "warm = True"),
        ("the fall-back comes an update late", "min(available, updates_left)", "min(available, updates_left + 1)"),
    ),
    *in_file(
        "solvers/unipc.py",
        COEFFICIENTS,
        ("UniPC takes no factorials", "math.factorial(k) * psi", "psi"),
        ("UniPC halves at another order", "halved = order == (2 if arrived is None else 1)", "halved = order == 2"),
        ("bh1 is bh2", 'if self.variant == "bh1"', 'if self.variant != "bh1"'),
        (
            "the next psi lacks a factor",
            "psi / signed_step - 1 / math.factorial(k + 1)",
            "psi / signed_step - 1 / math.factorial(k)",
        ),
        ("past answers lie ahead", "(sigma / past.sigma).log() / step", "(past.sigma / sigma).log() / step"),
        ("the powers begin at one", "place ** (k - 1)", "place**k"),
        (
            "the corrector's state is thrown away",
            "SolverState(corrected, sigma_next, arrived",
            "SolverState(predicted, sigma_next, arrived",
        ),
    ),
    *in_file(
        "solvers/multistep.py",
        IDENTITIES,
        (
            "what is carried is scaled too",
            "x = carried + direction_scale * increment",
            "x = direction_scale * (carried + increment)",
        ),
        ("the oldest answer counts as the newest", "self.rule(state.x, answers[::-1]", "self.rule(state.x, answers"),
        ("an answer is forgotten", "len(answers) - self.memory)", "len(answers) - self.memory + 1)"),
    ),
    *in_file(
        "solvers/placement.py",
        IDENTITIES,
        (
            "the placed level is an arithmetic mean",
            "sigma * (sigma_next / sigma) ** self.ratio",
            "sigma + (sigma_next - sigma) * self.ratio",
        ),
    ),
    *in_file(
        "solvers/two_stage.py",
        IDENTITIES,
        ("the slope is extrapolated to the end", "weight = 1 / (2 * ratio)", "weight = 1 / ratio"),
        ("AMED takes the mean of two slopes", "return placed\n", "return (start + placed) / 2\n"),
        ("the direction scale is left out", "place.direction_scale * h * slope", "h * slope"),
        ("the second question ignores the time scale", "flow.scaled(place.time_scale)(", "flow("),
        (
            "the second question is asked at the start",
            "x_placed = state.x + (sigma_placed - state.sigma) * here.derivative",
            "x_placed = state.x",
        ),
    ),
    *in_file(
        "solvers/two_stage.py",
        "solvers/test_placed.py",
        ("the start scale is left out of two stages", "place.start_scale * h * here", "0 * h * here"),
    ),
    *in_file(
        "solvers/refined.py",
        IDENTITIES,
        ("half-steps count as intervals", "updates_left=2 * state.updates_left", "updates_left=state.updates_left"),
        ("the second update is not scaled", "sigma_next, place.direction_scale)", "sigma_next)"),
        ("the plugin's second question ignores the time scale", "halfway.evaluated(scaled)", "halfway.evaluated(flow)"),
    ),
    *in_file(
        "solvers/refined.py",
        "solvers/test_placed.py",
        ("the plugin leaves the start scale out", "x=end.x + place.start_scale *", "x=end.x + 0 *"),
    ),
    *in_file(
        "solvers/registry.py",
        IDENTITIES,
        (
            "Heun is DPM-Solver-2",
            "MIDDLE, END = FixedPlacement(0.5), FixedPlacement(1.0)",
            "MIDDLE, END = FixedPlacement(0.5), FixedPlacement(0.5)",
        ),
    ),
    *in_file(
        "solvers/registry.py",
        "solvers/test_contract.py::TestNetworkRuns",
        ("the analytic first step costs a run", "* num_intervals - afs", "* num_intervals"),
    ),
)

DENOISERS = (
    *in_file(
        "denoisers/gaussian.py",
        "denoisers/test_gaussian.py",
        ("densities lack their normalisation", "(offset.square() / noisy + noisy.log())", "(offset.square() / noisy)"),
        ("a Gaussian shrinks towards zero", "means + variances / noisy * offset", "variances / noisy * x[:, None]"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_ddpmpp.py",
        (
            "c_skip is that of noise",
            "Coefficients(self.sigma_data**2 / variance",
            "Coefficients(sigma.square() / variance",
        ),
        ("c_out is divided twice", "sigma * self.sigma_data / scale", "sigma * self.sigma_data / variance"),
        ("c_noise is half of ln sigma", "sigma.log() * 0.25", "sigma.log() * 0.5"),
        ("an open class is class 0", "* (labels >= 0)[:, None]", "* (labels >= -1)[:, None]"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_baselines.py",
        ("VP's noise is added", "Coefficients(1.0, -sigma,", "Coefficients(1.0, sigma,"),
        ("VP's last step is M", "(self.M - 1) * (", "self.M * ("),
        ("VP's time lacks a factor", "self.beta_min**2 + 2 * self.beta_d", "self.beta_min**2 + self.beta_d"),
        ("iDDPM is told the level above", "(rising[1:] + rising[:-1]) / 2)", "rising[1:])"),
        ("VE is told ln sigma", "(sigma / 2).log()", "sigma.log()"),
        ("a variance is taken for the image", "output[:, : x.shape[1]]", "output[:, -x.shape[1] :]"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_openai.py",
        ("consistency models are told 1000 ln sigma", "sigma.log() * 250.0", "sigma.log() * 1000.0"),
        ("steps count from 1", "self.diffusion_steps * time - 1", "self.diffusion_steps * time"),
        (
            "steps are rescaled the other way",
            "step * RESCALED_STEPS / self.diffusion_steps if",
            "step * self.diffusion_steps / RESCALED_STEPS if",
        ),
    ),
    *in_file(
        "denoisers/edm.py",
        "denoisers/test_baselines.py",
        (
            "VE's smallest level is EDM's",
            '"sigma_min": 0.02, "sigma_max": 100.0',
            '"sigma_min": 0.002, "sigma_max": 100.0',
        ),
        ("VP's first time is the SDE's", '{"epsilon_t": 1e-5}', '{"epsilon_t": 1e-3}'),
        ("EDM's largest level is another", "EDM_LEVELS = (0.002, 80.0)", "EDM_LEVELS = (0.002, 100.0)"),
    ),
    *in_file(
        "denoisers/discrete.py",
        "denoisers/test_discrete.py",
        ("the velocity is not scaled", "alpha * (alpha * x - sigma * velocity)", "alpha * x - sigma * velocity"),
        ("the noise is added", "x - sigma * noise", "x + sigma * noise"),
        ("times count from 1", ".of(sigma.double()) - 1", ".of(sigma.double())"),
        ("the state is not scaled", "self.network(alpha * x,", "self.network(x,"),
    ),
    *in_file(
        "denoisers/guidance.py",
        "denoisers/test_wrappers.py",
        (
            "guidance begins at the class",
            "unguided + self.scale * (guided - unguided)",
            "guided + self.scale * (guided - unguided)",
        ),
        ("the features are the open half's", "answer.features.chunk(2)[0]", "answer.features.chunk(2)[1]"),
        ("a guided run counts once", "2 * denoiser.cost", "denoiser.cost"),
        (
            "the classifier's gradient is weighed by sigma",
            "sigma.to(x.dtype).square() * gradient",
            "sigma.to(x.dtype) * gradient",
        ),
    ),
    *in_file(
        "denoisers/thresholding.py",
        "denoisers/test_wrappers.py",
        ("what lies within one is stretched", ".clamp(min=1)", ".clamp(min=0)"),
        (
            "what was clipped is not divided",
            "answer.image.clamp(-bound, bound) / bound",
            "answer.image.clamp(-bound, bound)",
        ),
        (
            "the quantile is of all samples",
            ".abs().flatten(1).quantile(self.quantile, dim=1)",
            ".abs().flatten(1).quantile(self.quantile).expand(len(x))",
        ),
        (
            "the quantile is 0.95",
            "def thresholded(model: DiffusionModel, quantile: float = 0.995)",
            "def thresholded(model: DiffusionModel, quantile: float = 0.95)",
        ),
        ("the last answer is thresholded too", "model.last_denoiser or model.denoiser", "model.last_denoiser"),
    ),
    *in_file(
        "denoisers/layers.py",
        "denoisers/test_layers.py",
        ("pixels that double are four times as dark", "conv_transpose2d(x, 4 * taps", "conv_transpose2d(x, taps"),
        ("angles are not of whole turns", "2 * math.pi * self.freqs", "self.freqs"),
        (
            "frequencies stop short of the longest period",
            "frequencies(self.count, self.count - 1,",
            "frequencies(self.count, self.count,",
        ),
    ),
    *in_file(
        "denoisers/unet.py",
        "denoisers/test_layers.py",
        (
            "the embedding's scale is not about one",
            "self.norm1(y) * (1 + scale) + shift",
            "self.norm1(y) * scale + shift",
        ),
    ),
    *in_file(
        "denoisers/arithmetic.py",
        "denoisers/test_arithmetic.py",
        ("TensorFloat-32 is always on", "backend.allow_tf32 = allowed", "backend.allow_tf32 = True"),
    ),
)

PREDICTORS = (
    *in_file(
        "amed/predictor.py",
        "amed/test_predictor.py",
        ("the embedding has its halves exchanged", "[angles.sin(), angles.cos()]", "[angles.cos(), angles.sin()]"),
        ("a scale leaves its bound", "1 + bound * (2 *", "1 + 2 * bound * (2 *"),
        ("the longest period is another", "LONGEST_PERIOD = 10_000.0", "LONGEST_PERIOD = 1_000.0"),
        ("the first frequencies lie closer", "/ (EMBEDDING_SIZE // 2 - 1)", "/ (EMBEDDING_SIZE // 2)"),
        (
            "a ratio's range is that of all",
            "low + (high - low) * _sigmoid(self.fc_r, merged)",
            "_sigmoid(self.fc_r, merged)",
        ),
    ),
    *in_file(
        "amed/constant.py",
        "amed/test_predictor.py",
        ("constants serve any level", "SAME_LEVEL = 1e-6", "SAME_LEVEL = 1.0"),
    ),
    *in_file(
        "amed/published.py",
        "amed/test_published.py",
        ("levels are counted as intervals", "return num_steps - 1", "return num_steps"),
        ("the first time scales had another bound", "0.2 * time if", "0.1 * time if"),
        ("the first direction scales had one bound", "fixed = 0.05 if", "fixed = 0.01 if"),
    ),
)

SAMPLING = (
    *in_file(
        "sampling/sampler.py",
        "sampling/test_sampler.py",
        (
            "noise is that of the model's largest level",
            "noise * self.sigmas[0].to(noise)",
            "noise * self.model.noise_range.sigma_max",
        ),
        ("denoise-to-zero is free", "last.denoised, nfe=state.nfe + last.cost", "last.denoised, nfe=state.nfe"),
        (
            "the analytic first step is at another level",
            "self.sigmas[0].to(x.device), self.model",
            "self.sigmas[1].to(x.device), self.model",
        ),
    ),
)

TEACHER = (
    *in_file(
        "teacher/trajectories.py",
        "teacher/test_trajectories.py",
        ("the level before is stored", "if (index + 1) % recipe.stride == 0", "if index % recipe.stride == 0"),
        (
            "what is said of another state is stored",
            "elsewhere = index > 0 and state.known is not None",
            "elsewhere = False",
        ),
        (
            "the denoised image is on the other side",
            "self.states[:, index] - sigma * derivative",
            "self.states[:, index] + sigma * derivative",
        ),
    ),
    *in_file(
        "teacher/view.py",
        "teacher/test_view.py",
        (
            "the Hermite weights of both ends are exchanged",
            "{left: (1 + 2 * u) * (1 - u) ** 2, right: u**2 * (3 - 2 * u)}",
            "{right: (1 + 2 * u) * (1 - u) ** 2, left: u**2 * (3 - 2 * u)}",
        ),
        ("a slope in ln sigma lacks sigma", "u * (1 - u) ** 2 * step * stored[left]}", "u * (1 - u) ** 2 * step}"),
        ("the slope at the end has the other sign", "u**2 * (u - 1) * step", "u**2 * (1 - u) * step"),
        (
            "answers are interpolated in sigma",
            "math.log(sigma / stored[j]) / math.log(stored[i] / stored[j])",
            "(sigma - stored[j]) / (stored[i] - stored[j])",
        ),
        ("answers come from two stored ones", "SUPPORT = 4", "SUPPORT = 2"),
    ),
    *in_file(
        "teacher/nodes.py",
        "teacher/test_nodes.py",
        ("nodes are equidistant", "(1 - math.cos(index * math.pi / (size - 1))) / 2", "index / (size - 1)"),
        ("Lagrange's polynomials are not 1 at their node", ".prod(2) / steps", ".prod(2)"),
        ("what lies beyond an axis is extrapolated", "ROUNDING = 1e-6", "ROUNDING = 1.0"),
    ),
    *in_file(
        "teacher/step_table.py",
        "teacher/test_step_table.py",
        ("a tabulated slope divides by the unscaled level", "x - sigma / self.time_scale * next", "x - sigma * next"),
        ("the residual has the step's sign wrong", "(state.x - end).flatten(1)", "(end - state.x).flatten(1)"),
        (
            "a past answer's derivative is its image",
            "zip(levels, pairs[::2], pairs[1::2]",
            "zip(levels, pairs[1::2], pairs[::2]",
        ),
    ),
    *in_file(
        "teacher/tabulate.py",
        "teacher/test_step_table.py",
        ("a slope is asked for at the scaled level", "/ (q.sigma / place.time_scale)", "/ q.sigma"),
        ("the target is the state itself", "target.double() - start.x.double()", "target.double()"),
        (
            "tables agree where they differ by as much as they are",
            "/ fine.clamp(min=TINY)",
            "/ (fine + coarse).clamp(min=TINY)",
        ),
    ),
    *in_file(
        "teacher/gits.py",
        "teacher/test_gits.py",
        (
            "the deviation is not held against the teacher's",
            "_deviation(jumped, states) - _deviation(reached, states)",
            "_deviation(jumped, states)",
        ),
        (
            "the line is not of length 1",
            "torch.nn.functional.normalize(states[:, -1:] - first, dim=2)",
            "states[:, -1:] - first",
        ),
        ("gamma is left out", "table[i][j] + gamma * to_go[j]", "table[i][j] + to_go[j]"),
        ("gamma weighs the earlier costs", "table[i][j] + gamma * to_go[j]", "gamma * table[i][j] + to_go[j]"),
        ("l1 is a mean", "(jumped - reached).abs().sum(2)", "(jumped - reached).abs().mean(2)"),
        ("of equal paths the last is taken", "row.index(least)", "len(row) - 1 - row[::-1].index(least)"),
        ("the inserted level is the worst", "min(candidates, key=distance", "max(candidates, key=distance"),
    ),
    *in_file(
        "teacher/search.py",
        "teacher/test_gits.py",
        ("the published metric is l2", 'metric: Metric = "dev"', 'metric: Metric = "l2"'),
        ("the published gamma is 1.1", "gamma: float = 1.15", "gamma: float = 1.1"),
    ),
)

CONSTANTS = "training/test_constants.py"
STAGES = "training/test_stages.py training/test_tables.py"
TRAINING = (
    *in_file(
        "training/objective.py",
        "training/test_objective.py",
        ("the running mean forgets", "DECAY = 0.9", "DECAY = 0.1"),
        (
            "an arithmetic mean judges",
            "return math.exp(math.fsum(-math.inf if loss <= 0 else math.log(loss) for loss in losses) / len(losses))",
            "return math.fsum(losses) / len(losses)",
        ),
        ("a loss is divided by the root of its size", "return 1 / size.clamp", "return 1 / size.sqrt().clamp"),
    ),
    *in_file(
        "training/constants.py",
        CONSTANTS,
        ("least squares have the wrong sign", "-means.products(without, effect)", "means.products(without, effect)"),
        ("the worst ratio is taken", "found[losses.argmin()]", "found[losses.argmax()]"),
        ("a sigmoid reaches little of its bound", "REACHED = 0.9", "REACHED = 0.1"),
        (
            "a warm start goes to the other side",
            "(own.ratio.logit() - torch.as_tensor(goal.ratio).logit())",
            "(own.ratio.logit() + torch.as_tensor(goal.ratio).logit())",
        ),
        (
            "the middle ratios alone are tried",
            "low, high = table.nodes.ratio[0], table.nodes.ratio[-1]",
            "low, high = 0.3, 0.7",
        ),
        ("coefficients are taken at another ratio", "MIDDLE = 0.5", "MIDDLE = 0.4"),
    ),
    *in_file(
        "training/stages.py",
        STAGES,
        ("a stage goes on from the state before", "state = replace(end, known=", "state = replace(state, known="),
    ),
    *in_file(
        "training/tables.py",
        STAGES,
        ("every epoch is a stage", "self.stages.reach(epoch // self.stage_epochs)", "self.stages.reach(epoch)"),
    ),
    *in_file(
        "training/table_batch.py",
        "training/test_table_batch.py",
        ("the rows of a table are those of other seeds", "self.seeds.start + rows)", "self.seeds.start + rows + 1)"),
    ),
    *in_file(
        "training/tabulator.py",
        "training/test_tabulator.py training/test_distillation.py::TestSharing",
        ("one interval that is like AMED's shares its table", "return all(len(own)", "return any(len(own)"),
    ),
    *in_file(
        "training/tabulator.py",
        "training/test_distillation.py::TestRatios",
        ("rules with a history go to an interval's ends", "INNER = (0.1, 0.9)", "INNER = (0.0, 1.0)"),
    ),
    *in_file(
        "training/arrivals.py",
        "training/test_arrivals.py",
        ("differences keep their size at the ends", "4 * ratio * (1 - ratio) * self.size", "self.size"),
        ("differences are of one side's width", "(ahead - behind) / (2 * size)", "(ahead - behind) / size"),
        ("the gradient of a square lacks its two", "2 * (residual * slope)", "(residual * slope)"),
    ),
    *in_file(
        "training/student.py",
        "training/test_distillation.py::TestPath",
        (
            "a one-step student goes on from its own state",
            "end.detach() if self.is_multistep else",
            "end.detach() if True else",
        ),
        (
            "every interval has the analytic first step",
            "self.sampler.known_at_start(x) if index == 0 else None",
            "self.sampler.known_at_start(x)",
        ),
    ),
    *in_file(
        "training/noise.py",
        "training/test_noise.py",
        ("every process draws the same noise", "batch_idx, trainer.global_rank]", "batch_idx, 0]"),
        ("every epoch draws the same noise", "trainer.current_epoch, batch_idx", "0, batch_idx"),
    ),
    *in_file(
        "training/denoiser.py",
        "training/test_images.py::TestDenoiser",
        (
            "every level weighs alike",
            "(sigma * denoiser.sigma_data).square()",
            "(sigma.square() + denoiser.sigma_data**2)",
        ),
        (
            "ln sigma has a variance for a deviation",
            "(mean + deviation * torch.randn",
            "(mean + deviation**2 * torch.randn",
        ),
    ),
)

SCORES, FEATURES = "metrics/test_scores.py", "metrics/test_feature_metrics.py"
METRICS = (
    *in_file(
        "metrics/frechet.py",
        "metrics/test_frechet.py",
        ("FID's trace is counted once", "traces - 2 * values", "traces - values"),
        ("covariances are over N", "/ (count - 1))", "/ count)"),
        ("a square root is missing", "(vectors * values.clamp(min=0).sqrt())", "(vectors * values.clamp(min=0))"),
        (
            "the distance of the means is not squared",
            "(reference.mean - other.mean).square().sum()",
            "(reference.mean - other.mean).abs().sum()",
        ),
    ),
    *in_file(
        "metrics/inception_score.py",
        SCORES,
        ("a split begins an image late", "bounds, right=True", "bounds, right=False"),
        ("there are five splits", "NUM_SPLITS = 10", "NUM_SPLITS = 5"),
        ("the marginal's entropy is of sums", "probability[filled] / count[filled][:, None]", "probability[filled]"),
    ),
    *in_file(
        "metrics/scores.py",
        SCORES,
        ("the deviation over splits is the sample's", "splits.std(correction=0)", "splits.std(correction=1)"),
        ("decibels are below 1", "PIXEL_RANGE = 2.0", "PIXEL_RANGE = 1.0"),
        ("decibels are of a power", "20 * math.log10", "10 * math.log10"),
        ("RMSE is a mean over images", "self.compared_values += images.numel()", "self.compared_values += len(images)"),
    ),
    *in_file(
        "metrics/feature_metrics.py",
        FEATURES,
        ("KID's kernel is a square", "KID_DEGREE, KID_CONSTANT = 3, 1", "KID_DEGREE, KID_CONSTANT = 2, 1"),
        ("KID's kernel has no constant", "KID_DEGREE, KID_CONSTANT = 3, 1", "KID_DEGREE, KID_CONSTANT = 3, 0"),
        (
            "KID's product is not divided by its length",
            "kid_kernel_poly_gamma=1 / real.shape[1]",
            "kid_kernel_poly_gamma=1.0",
        ),
        (
            "KID's subsets are fewer",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 50, 1000, 2020",
        ),
        (
            "KID's subsets are smaller",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 500, 2020",
        ),
        (
            "KID's subsets are others",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2020",
            "KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 2021",
        ),
        ("precision looks at five neighbours", "NEIGHBOURS = 3", "NEIGHBOURS = 5"),
    ),
)

BENCH = (
    *in_file(
        "bench/jackknife.py",
        "bench/test_jackknife.py",
        ("the jackknife's factor is a variance's", "math.sqrt((count - 1) / count *", "math.sqrt(1 / (count - 1) *"),
        ("the test has one side", "1 - LEVEL / 2", "1 - LEVEL"),
        (
            "Student's t has a degree too many",
            "stdtrit(len(self.leave_one_out) - 1,",
            "stdtrit(len(self.leave_one_out),",
        ),
        ("one in ten is told apart by chance", "LEVEL = 0.05", "LEVEL = 0.1"),
    ),
    *in_file(
        "bench/ranking.py",
        "bench/test_table.py::TestWinners",
        ("the lowest IS wins", '"is": ("IS", max, 2)', '"is": ("IS", min, 2)'),
        (
            "the best alone is bold",
            "(estimate(row, score) - top).is_told_from_zero",
            "(estimate(row, score) - top).value",
        ),
    ),
    *in_file(
        "bench/regression.py",
        "bench/test_golden.py",
        ("a night's bound is absolute", "bound * abs(golden.values[score])", "bound"),
        (
            "a night's bound is the smaller of two",
            "standard_errors * difference.error > bound",
            "standard_errors * difference.error < bound",
        ),
    ),
    *in_file(
        "bench/golden.py",
        "bench/test_golden.py",
        ("a figure moves ten times as far", '{"fid": 1e-4,', '{"fid": 1e-3,'),
        ("a predictor's figure moves twice as far", "standard_errors: float = 3.0", "standard_errors: float = 6.0"),
    ),
)

FAULTS = (
    *NOISE,
    *FLOW,
    *SOLVERS,
    *DENOISERS,
    *PREDICTORS,
    *SAMPLING,
    *TEACHER,
    *TRAINING,
    *METRICS,
    *BENCH,
)
